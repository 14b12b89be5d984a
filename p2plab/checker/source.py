"""Where in the student's code it happened, and what the line may have to do with it."""

from __future__ import annotations

import dis
import inspect
import linecache
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from traceback import walk_tb
from types import CodeType, FunctionType
from typing import Any, Final

HASHED: Final = ("hash", "set")  # the same in one process
_CHANCE: Final = "draws from chance"
_CLOCK: Final = "reads a clock"
_NAMES: Final = {
    **dict.fromkeys(("random", "randint", "choice", "shuffle", "uniform"), _CHANCE),
    **dict.fromkeys(("urandom", "secrets", "uuid4"), _CHANCE),
    **dict.fromkeys(("time", "monotonic", "perf_counter", "datetime"), _CLOCK),
    "hash": "uses hash(), which differs from process to process",
    "id": "uses id(), which differs from run to run",
    "set": "uses a set, whose order differs from process to process",
}


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that an object has of its own."""
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield name, getattr(thing, name)


def methods(kind: type) -> Iterator[tuple[str, FunctionType]]:
    """Yield the names and functions of a class's methods and properties."""
    for each in kind.__mro__:
        for name, member in vars(each).items():
            inner = member.fget if isinstance(member, property) else member
            inner = getattr(inner, "__func__", inner)
            if inspect.isfunction(inner):
                yield name, inner


def place(filename: str, line: int) -> str:
    """Name a line as its writer would, with what it says."""
    text = linecache.getline(filename, line).strip()
    known = Path(filename)
    where = f"line {line}"
    if known.is_file():
        where = f"{known.name}, {where}"
    elif "ipykernel" in filename or "ipython" in filename:
        where = f"{where} of {_cell(filename)}"
    return f"{where}: `{text}`" if text else where


def _cell(filename: str) -> str:
    """Name a notebook's cell as Jupyter does, by its number in the margin."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        kind, name = shell.compile.format_code_name(filename)
        return f"{kind.lower()} {name}"
    except Exception:  # another kernel, or none
        return "the cell"


def raised_at(error: BaseException, kind: type) -> tuple[str, str]:
    """Return the method and the line of a class's file that an error came from."""
    files = {each.__code__.co_filename for _, each in methods(kind)}
    while error.__cause__ is not None:
        error = error.__cause__
    met = [
        (frame.f_code, line)
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    if not met:
        return "", ""
    code, line = met[-1]
    return met[0][0].co_name, place(code.co_filename, line)


def member_line(machine: Any, member: str) -> str:
    """Return the line where a member of a machine begins, if it has one."""
    for name, method in methods(type(machine)):
        if name == member:
            code = method.__code__
            first = code.co_firstlineno
            here = linecache.getline(code.co_filename, first)
            return place(code.co_filename, first + here.lstrip().startswith("@"))
    return ""


def class_line(kind: type) -> str:
    """Return the line in which a class begins, if it has a method."""
    for _, method in methods(kind):
        code = method.__code__
        lines = linecache.getlines(code.co_filename)[: code.co_firstlineno]
        for number in range(len(lines), 0, -1):
            if lines[number - 1].lstrip().startswith(f"class {kind.__name__}"):
                return place(code.co_filename, number)
    return ""


def nondeterministic(machine: Any, names: Iterable[str] = _NAMES) -> str:
    """Return the line that makes a machine differ from run to run, or nothing."""
    kinds = [type(machine)]
    for _, inner in attributes(machine):
        if not type(inner).__module__.startswith(("builtins", "collections", "p2plab")):
            kinds.append(type(inner))
    own = [method.__code__ for kind in kinds for _, method in methods(kind)]
    for wanted in names:
        for code in own:
            for line, name in _used(code):
                if name == wanted:
                    return f"{place(code.co_filename, line)} {_NAMES[wanted]}"
    return ""


def _used(code: CodeType) -> Iterator[tuple[int, str]]:
    """Yield the names that a function uses, and the lines."""
    for step in dis.get_instructions(code):
        line = (step.positions and step.positions.lineno) or code.co_firstlineno
        if step.opname in ("LOAD_GLOBAL", "LOAD_METHOD", "LOAD_ATTR", "LOAD_NAME"):
            yield line, str(step.argval)
        elif step.opname == "BUILD_SET":
            yield line, "set"
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _used(inner)
