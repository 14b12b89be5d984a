"""Clean notebooks with short cells, and no page that names a folder of one machine."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from browser import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINES_OF_A_CELL = 20
HIDDEN = {"jupyter": {"source_hidden": True}}  # a check, which knows the answers

# What JupyterLab writes when it saves, but for the version of its Python.
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}

TEXTS = {".py", ".ipynb", ".md", ".toml", ".yml", ".yaml", ".json", ""}
PLACES = ["p2plab", "tests", "notebooks", ".ci", ".github"]
# Ada is nobody: examples are about her folders.
SOMEBODYS_FOLDER = re.compile(
    r"(?<![\w~.}/])/(?:home|Users|root|work)/(?!ada\b)\w"
    r"|\b[A-Z]:\\+Users\\+(?!ada\b)\w",
    re.IGNORECASE,
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[Path]:
    """Return the project's own text files."""
    found = [path for path in ROOT.iterdir() if path.name != ".git"]  # of a worktree
    found += [path for place in PLACES for path in (ROOT / place).rglob("*")]
    made = {".ipynb_checkpoints", ".hypothesis"}
    return sorted(
        path
        for path in found
        if path.is_file() and path.suffix in TEXTS and not made & {*path.parts}
    )


def test_no_page_names_a_folder_of_one_persons_machine() -> None:
    found = []
    for path in texts():
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, start=1):
            if SOMEBODYS_FOLDER.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    read: nbformat.NotebookNode = nbformat.read(request.param, nbformat.NO_CONVERT)
    nbformat.validate(read)
    return read


def test_a_notebook_is_kept_without_results_and_remembers_no_machine(
    notebook: nbformat.NotebookNode,
) -> None:
    assert notebook.metadata == METADATA
    for number, cell in enumerate(notebook.cells, start=1):
        assert cell.metadata in ({}, HIDDEN), f"cell {cell.id}: {dict(cell.metadata)}"
        if cell.cell_type == "code":
            assert not cell.outputs, f"cell {number} has outputs; clear them"
            assert cell.execution_count is None, f"cell {number} has a count"


def test_every_cell_has_an_id_of_its_own(notebook: nbformat.NotebookNode) -> None:
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_a_code_cell_is_short_and_has_words_before_it(
    notebook: nbformat.NotebookNode,
) -> None:
    before = ""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code":
            lines = len(cell.source.splitlines())
            assert lines <= LINES_OF_A_CELL, f"cell {number} has {lines} lines"
            assert before == "markdown", f"cell {number} has no words before it"
        before = cell.cell_type
