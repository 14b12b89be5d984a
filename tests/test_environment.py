"""conda, Binder and pip are asked for the same packages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from browser import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

ENVIRONMENT = ROOT / "environment.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

OTHER_NAMES = {"redis-py": "redis", "matplotlib-base": "matplotlib"}
ONLY_CONDA = {"python", "pip"}
# "-e ." brings them: fakeredis together with its Lua, uvloop except on Windows.
ONLY_PIP = {"fakeredis", "uvloop"}
STRICTER_WITH_CONDA = {"ipykernel"}  # Binder starts from 7.0.1, which will not do


def conda_dependencies() -> list[Any]:
    parsed = yaml.safe_load(ENVIRONMENT.read_text(encoding="utf-8"))
    dependencies: list[Any] = parsed["dependencies"]
    return dependencies


def lower_bound(requirement: Requirement) -> Version:
    """Return what stands after >=, or version 0."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    return Version(max(bounds, default="0"))


def bounds_for_pip() -> dict[str, Version]:
    wanted = map(Requirement, PROJECT["project"]["dependencies"])
    return {each.name: lower_bound(each) for each in wanted}


def bounds_for_conda() -> dict[str, Version]:
    named = [each for each in conda_dependencies() if isinstance(each, str)]
    wanted = [Requirement(re.sub(r"(?<![<>=!])=(?!=)", "==", each)) for each in named]
    return {
        OTHER_NAMES.get(each.name, each.name): lower_bound(each)
        for each in wanted
        if each.name not in ONLY_CONDA
    }


def test_conda_and_pip_are_asked_for_the_same_packages_and_lower_bounds() -> None:
    with_pip, with_conda = bounds_for_pip(), bounds_for_conda()
    assert with_conda.keys() == with_pip.keys() - ONLY_PIP
    for name, bound in with_conda.items():
        if name in STRICTER_WITH_CONDA:
            assert bound >= with_pip[name], name
        else:
            assert bound == with_pip[name], name


def test_conda_installs_p2plab_itself_from_the_folder() -> None:
    assert {"pip": ["-e ."]} in conda_dependencies()


@pytest.mark.skipif(sys.platform == "win32", reason="repo2docker needs Linux or macOS")
def test_binder_would_copy_the_project_and_install_it_with_the_python_we_name() -> None:
    """No Docker, conda or network: this is what Binder would build."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    copied = ran.stdout.index("COPY --chown=0:0 src/ ${REPO_DIR}")
    installed = re.search(r'env update .*--file "environment\.yml"', ran.stdout)
    assert installed, "Binder does not see environment.yml"
    assert copied < installed.start(), "-e . would find nothing to install"
    python = next(each for each in conda_dependencies() if "python=" in str(each))
    version = python.removeprefix("python=")
    supported = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert Version(version) in supported
    # repo2docker writes "-" as "-2d" and "." as "-2e" in the names of its files
    assert f"environment-2epy-2d{version.replace('.', '-2e')}" in ran.stdout
