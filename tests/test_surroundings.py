"""Terminals of any encoding, front ends without cell ids, figures in any backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from loopback import eventually
from nbclient import NotebookClient

from p2plab import Lab

TEXT, FILE = "سلام Bob، خوبی؟", "گربه.txt"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_shows_what_comes_and_can_save_it(
    encoding: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    with (
        Lab() as lab,
        subprocess.Popen(
            [sys.executable, "-m", "p2plab", "peer", "bob", "--rendezvous", lab.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as bob,
    ):
        ann = lab.peer("ann")
        eventually(
            lambda: [each.name for each in ann.peers()] == ["bob"], "bob is here"
        )
        assert ann.send_text("bob", TEXT).attempts == 1
        (tmp_path / "from").mkdir()
        sent = tmp_path / "from" / FILE
        sent.write_text("meow")
        ann.send_file("bob", sent).wait(20)
        said, _ = bob.communicate(b"inbox\nsave 1\nclear\ninbox\nquit\n", 30)
    told = said.decode(encoding)
    shown = TEXT if encoding == "utf-8" else TEXT.encode(encoding, "backslashreplace")
    assert (shown if isinstance(shown, str) else shown.decode(encoding)) in told
    assert "nothing has come yet" in told
    assert "Traceback" not in told
    assert bob.returncode == 0
    assert (tmp_path / FILE).read_text() == "meow"


def outputs(*cells: str) -> list[list[Any]]:
    """Run cells as nbclient does, without ids of cells."""
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=made)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_two_panels_in_two_cells_live_side_by_side_without_ids_of_cells() -> None:
    *_, last = outputs(
        "import p2plab",
        "a = p2plab.TransferPanel()\na",
        "b = p2plab.TransferPanel()\nb",
        "print(a.closed, b.closed, a.run().wait().transfer.progress)",
    )
    assert last[0]["text"].split() == ["False", "False", "1.0"]


@pytest.mark.parametrize("backend", ["inline", "notebook"])
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_a_figure_is_shown_once_in_any_backend_and_style(
    backend: str, style: str
) -> None:
    _, made, shown = outputs(
        f"%matplotlib {backend}\nfrom matplotlib import pyplot\nimport p2plab\n"
        f"pyplot.style.use({style!r})\n"
        "trace = p2plab.simulate_picture(p2plab.sample_picture(32)).trace",
        "axes = p2plab.plots.ladder(trace)\npyplot.close if False else None",
        "p2plab.plots.show(axes)",
    )
    kinds = [kind for each in (*made, *shown) for kind in each.get("data", {})]
    assert kinds.count("text/html") == 1
