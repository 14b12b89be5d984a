"""The families of the package, and which doors between them may be used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ROOT

# A family imports from those before it.
FAMILIES = "core fast protocols sim measure content museum checker room net rendezvous "
FAMILIES += "peer plots ui commands"
ORDER = {family: place for place, family in enumerate(FAMILIES.split())}
CLOSED = {  # doors that stay shut although the order would allow them
    "checker": {"measure"},
    "net": {"measure", "museum", "checker"},
    "room": {"fast", "protocols", "measure", "content"},
    "plots": {"net", "rendezvous", "peer"},
}

# They run with the standard library alone, in a browser's Python as well: there,
# nothing has a socket, and no thread starts.
LECTURE = {"core", "fast", "protocols", "sim"}
STANDARD = LECTURE | {"museum", "checker", "room"}
NOISY = {"socket", "socketserver", "selectors", "ssl", "http", "threading", "asyncio"}
# Machines are given the time and their luck; they never fetch them.
MACHINES = {"core/endpoint.py", "core/rtt.py", "fast", "protocols"}
MACHINES |= {f"room/{page}.py" for page in ("gossip", "swarm", "search", "ring")}
CLOCKS_AND_CHANCE = {"time", "datetime", "random", "secrets", "logging"}

SLOW = ["redis", "fakeredis", "fastapi", "uvicorn", "requests", "numpy", "PIL"]
SLOW += ["matplotlib", "ipywidgets", "IPython"]

PACKAGE = ROOT / "p2plab"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Find every import, and whether it waits for a call or is there for types."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), False)]
    while todo:
        node, late = todo.pop()
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are whole names"
            yield from ((f"{node.module}.{each.name}", late) for each in node.names)
        elif isinstance(node, ast.Import):
            yield from ((each.name, late) for each in node.names)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        late = late or (
            isinstance(node, ast.If) and "TYPE_CHECK" in ast.dump(node.test)
        )
        todo += [(child, late) for child in ast.iter_child_nodes(node)]


def wrong(family: str, page: str, target: str, late: bool) -> bool:
    """Whether a page of a family may not import `target`."""
    first, other, *_ = [*target.split("."), ""]
    if first == "p2plab":
        if other in ORDER:
            return ORDER[other] > ORDER[family] or other in CLOSED.get(family, ())
        return other != "errors"
    if (family in MACHINES or page in MACHINES) and first in CLOCKS_AND_CHANCE:
        return True
    if family in STANDARD and not late:
        return first in NOISY or first not in sys.stdlib_module_names
    return False


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_from_families_before_its_own(path: Path) -> None:
    page = path.relative_to(PACKAGE)
    family = page.parts[0]
    assert family in ORDER, f"{family} is no family: say in FAMILIES where it stands"
    found = [target for target, late in imports(path)
             if wrong(family, page.as_posix(), target, late)]  # fmt: skip
    assert not found, f"{page} may not import {found}"


def run_python(*arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_importing_p2plab_loads_none_of_the_slow_packages() -> None:
    code = f"import p2plab, sys; print(*sorted(sys.modules.keys() & {set(SLOW)}))"
    loaded = run_python("-c", code).split()
    assert not loaded, f"import p2plab must stay quick, but it loads {loaded}"


def test_the_lecture_and_the_checker_import_where_no_package_is_installed() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] in STANDARD
    ]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(ROOT)!r})
for name in {names}:
    importlib.import_module(name)
"""
    # -S: no site-packages, so the standard library is all there is
    run_python("-I", "-S", "-c", code)
