"""Where in the student's code it happened, and what the line may have to do with it."""

from __future__ import annotations

import dis
import inspect
import linecache
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

from p2plab.checker.memory import attributes

_MEMBERS: Final = (
    "next_payload",
    "next_packet",
    "on_timeout",
    "on_packet",
    "on_corrupt",
    "deadline",
    "done",
    "send",
)
_CHANCE: Final = {
    "random": "draws from chance",
    "randint": "draws from chance",
    "choice": "draws from chance",
    "shuffle": "draws from chance",
    "uniform": "draws from chance",
    "urandom": "draws from chance",
    "secrets": "draws from chance",
    "uuid4": "draws from chance",
    "time": "reads a clock",
    "monotonic": "reads a clock",
    "perf_counter": "reads a clock",
    "datetime": "reads a clock",
    "hash": "uses hash(), which differs from process to process",
    "id": "uses id(), which differs from run to run",
    "set": "uses a set, whose order differs from process to process",
}


HASHED: Final = ("hash", "set")  # the same in one process


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
    return last_line(error, {each.__code__.co_filename for _, each in methods(kind)})


def last_line(error: BaseException, files: set[str]) -> tuple[str, str]:
    """Return the first function of these files that an error met, and the last line."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    method = line = ""
    trace = root.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in files:
            method = method or code.co_name
            line = place(code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return method, line


def member_line(machine: Any, words: str) -> str:
    """Return the line where the member begins that `words` are about, if it has one."""
    members = dict(reversed([*methods(type(machine))]))  # the nearest one counts
    said = re.findall(r"\w+", words)
    for name in (each for each in said if each in _MEMBERS):
        if name in members:
            code = members[name].__code__
            first = code.co_firstlineno
            here = linecache.getline(code.co_filename, first)
            return place(code.co_filename, first + here.lstrip().startswith("@"))
    return ""


def fickle(machine: Any, words: Iterable[str] = _CHANCE) -> str:
    """Return the line that makes a machine differ from run to run, or nothing."""
    kinds = [type(machine)]
    for _, inner in attributes(machine):
        if not type(inner).__module__.startswith(("builtins", "collections", "p2plab")):
            kinds.append(type(inner))
    own = [method.__code__ for kind in kinds for _, method in methods(kind)]
    for word in words:
        for code in own:
            for line, name in _names(code):
                if name == word:
                    return f"{place(code.co_filename, line)} {_CHANCE[word]}"
    return ""


def busiest(seen: Counter[tuple[str, int]], machines: Iterable[object]) -> str:
    """Return the line of these machines' files that was seen most often, or nothing."""
    own = (method for each in machines for _, method in methods(type(each)))
    files = {method.__code__.co_filename for method in own}
    for (filename, line), _ in seen.most_common():
        if filename in files:
            return place(filename, line)
    return ""


def _names(code: CodeType) -> Iterator[tuple[int, str]]:
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        if step.starts_line and not isinstance(step.starts_line, bool):
            line = step.starts_line
        line = getattr(step, "line_number", None) or line
        if step.opname in ("LOAD_GLOBAL", "LOAD_METHOD", "LOAD_ATTR", "LOAD_NAME"):
            yield line, str(step.argval)
        elif step.opname == "BUILD_SET":
            yield line, "set"
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
