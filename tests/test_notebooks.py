"""Every notebook runs from top to bottom, unattended, within a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from browser import ROOT, copy_of_the_notebooks
from nbclient import NotebookClient

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
LIMIT = 60.0  # seconds for a whole notebook

# A last cell for a notebook, by its name: it uses the controls and looks at the result.
CHECKS: dict[str, str] = {}


def within(seconds: float) -> Callable[[object], int]:
    """Return, for nbclient, how many seconds the next cell may take."""
    end = time.monotonic() + seconds
    return lambda cell: max(1, math.ceil(end - time.monotonic()))


def run(notebook: Path, check: str = "") -> nbformat.NotebookNode:
    """Run a notebook in a kernel of its own, and return it with its outputs."""
    page = nbformat.read(notebook, as_version=4)
    if check:
        page.cells.append(nbformat.v4.new_code_cell(check))
    client = NotebookClient(
        page,
        timeout_func=within(LIMIT),
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    return client.execute()


@pytest.fixture(autouse=True)
def private_jupyter(
    jupyter_home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in jupyter_home.items():
        monkeypatch.setenv(name, folder)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel draws inline


@pytest.mark.notebook
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    run(copy_of_the_notebooks(tmp_path / "notebooks") / name, CHECKS.get(name, ""))


def test_every_check_belongs_to_a_notebook() -> None:
    assert set(CHECKS) <= set(NOTEBOOKS)
