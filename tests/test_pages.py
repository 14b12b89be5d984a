"""How the pages look: captions of modules, and clean notebooks with short cells."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from browser import ROOT

MODULES = sorted((ROOT / "p2plab").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINES_OF_A_CELL = 20

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


def pages(paths: list[Path]) -> pytest.MarkDecorator:
    """Give a test each of these files, named by its place in the project."""
    return pytest.mark.parametrize("path", paths, ids=name_of)


def texts() -> list[Path]:
    """Return the project's own text files."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for place in PLACES:
        found += [path for path in (ROOT / place).rglob("*") if path.is_file()]
    return sorted(
        path
        for path in found
        if path.suffix in TEXTS
        and not {".ipynb_checkpoints", ".hypothesis"} & {*path.parts}
    )


@pages(MODULES)
def test_a_module_has_a_caption_of_one_line(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    caption, *rest = docstring.splitlines() or [""]
    assert caption, f"{name_of(path)} has no docstring"
    assert caption.endswith((".", "?")), f"not a sentence: {caption}"
    assert rest[:1] in ([], [""]), f"the caption is longer than a line: {caption}"


def test_no_page_names_a_folder_of_one_persons_machine() -> None:
    found = []
    for path in texts():
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, start=1):
            if SOMEBODYS_FOLDER.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def read(path: Path) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


@pages(NOTEBOOKS)
def test_a_notebook_is_kept_without_results(path: Path) -> None:
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "code":
            assert not cell.outputs, f"cell {number} has outputs; clear them"
            assert cell.execution_count is None, f"cell {number} has a count"


@pages(NOTEBOOKS)
def test_a_notebook_remembers_nothing_of_the_machine_it_was_written_on(
    path: Path,
) -> None:
    notebook = read(path)
    assert notebook.metadata == METADATA
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"cell {cell.id}: {dict(cell.metadata)}"


@pages(NOTEBOOKS)
def test_every_cell_has_an_id_of_its_own(path: Path) -> None:
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pages(NOTEBOOKS)
def test_a_code_cell_is_short_and_has_words_before_it(path: Path) -> None:
    before = ""
    for number, cell in enumerate(read(path).cells, start=1):
        if cell.cell_type == "code":
            lines = len(cell.source.splitlines())
            assert lines <= LINES_OF_A_CELL, f"cell {number} has {lines} lines"
            assert before == "markdown", f"cell {number} has no words before it"
        before = cell.cell_type
