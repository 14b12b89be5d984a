"""The oldest dependencies that pyproject.toml allows do what is asked of them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from test_environment import PROJECT

ROOT = Path(__file__).resolve().parent.parent
BY_HAND = """
import sys
from pathlib import Path
import p2plab
from p2plab import plots
from p2plab.commands.cli import main

folder = Path(sys.argv[1])
assert main(["demo", "--folder", str(folder)]) == 0
panel = p2plab.TransferPanel(protocol="go_back_n", picture=64, loss=0.1)
panel.run().wait()
assert panel.transfer.assembly.verify()
axes = plots.ladder(panel.transfer.trace)
plots.show(axes)
p2plab.Stage(panel.transfer).save(folder / "run.html")
print("all is well")
"""


def oldest() -> list[str]:
    """The lower bound of each requirement that counts here, as an exact version."""
    found = []
    for text in PROJECT["project"]["dependencies"]:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate():
            bounds = [
                each.version for each in needed.specifier if each.operator == ">="
            ]
            extras = f"[{','.join(needed.extras)}]" if needed.extras else ""
            found.append(f"{needed.name}{extras}=={max(bounds, key=Version)}")
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with exactly those, and p2plab."""
    folder = tmp_path_factory.mktemp("oldest")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", *oldest()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    network = "connection" in done.stderr or "Could not find a version" in done.stderr
    if done.returncode and network:
        pytest.skip(f"no package registry here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.timeout(900)
def test_the_oldest_dependencies_run_the_demo_a_panel_and_a_ladder(
    python: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [str(python), "-c", BY_HAND, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert (tmp_path / "run.html").exists()
    assert sys.version_info >= (3, 11)
