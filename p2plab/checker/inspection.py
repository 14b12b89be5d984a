"""What can be seen of machines from outside: lines, output, memory, shared state."""

from __future__ import annotations

import dis
import inspect
import io
import linecache
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import delitem, setitem
from pathlib import Path
from traceback import walk_tb
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final, Self, TextIO

from p2plab.checker.run import (
    APPLICATIONS,
    LOSE,
    Fault,
    Makers,
    Outcome,
    Trial,
    plain,
    run,
    same,
)
from p2plab.sim.watchdog import Watchdog

# Where in the source it happened, and what the line may have to do with it

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


def methods(kind: type, inherited: bool = True) -> Iterator[tuple[str, FunctionType]]:
    """Yield the names and functions of a class's methods and properties."""
    for each in kind.__mro__ if inherited else (kind,):
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


LIMIT: Final = 1.2  # for one run, of which a usual one takes less than 0.01 [s]
COMPUTING: Final = 0.6  # or so much of the processor's time [s]


def watchdog() -> Watchdog:
    """Return what ends a run that does not come back."""
    return Watchdog(COMPUTING, LIMIT)


# Printing and threads

_CHECKER: Final = str(Path(__file__).parent)
_WATCHDOG: Final = str(Path(__file__).parent.parent / "sim" / "watchdog.py")


class OutputGuard(io.TextIOBase):
    """Keeps what is printed while it is entered, and notes who was the first.

    noticed: what was done, and the line; empty if there was nothing.
    """

    def __init__(self) -> None:
        from threading import Thread, get_ident

        here, begin = get_ident(), Thread.start
        self.noticed = ""
        self._threads: Any = Thread
        self._before: list[tuple[TextIO, Any]] = []

        def start(thread: Thread) -> None:
            if get_ident() == here:
                self._note("starts a thread", sys._getframe(1))
            begin(thread)

        self._start = start

    def __enter__(self) -> Self:
        threads = self._threads
        self._before.append((sys.stdout, threads.start))
        sys.stdout, threads.start = self, self._start
        return self

    def __exit__(self, *why: object) -> None:
        sys.stdout, self._threads.start = self._before.pop()

    def write(self, text: str, /) -> int:
        self._note("prints", sys._getframe(1))
        return len(text)

    def _note(self, what: str, frame: FrameType) -> None:
        name = frame.f_code.co_filename
        ours = name.startswith(_CHECKER) or name == _WATCHDOG  # it is a thread, too
        if not self.noticed and not ours:
            self.noticed = f"{what} at {place(name, frame.f_lineno)}"


# Memory

CONTAINERS: Final = (list, set, deque, dict, bytearray)
_MANY: Final = (list, tuple, set, frozenset, deque)
_TEXT: Final = (bytes, bytearray, str)
ITEM: Final = 16  # so many bytes count as one


def held(machine: object) -> Counter[str]:
    """Return how many items each of a machine's own containers holds, by its name.

    Items of inner containers count, too, and long bytes as many small ones.
    """
    found: Counter[str] = Counter()
    seen = {id(machine)}

    def count(value: Any, name: str) -> None:
        if isinstance(value, _TEXT):
            found[name] += len(value) // ITEM
        elif value is None or isinstance(value, int | float | type):
            return
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, (Mapping, *_MANY)):
                found[name] += len(value)
                for each in list(
                    value.values() if isinstance(value, Mapping) else value
                ):
                    count(each, name)
            elif type(value).__module__ not in ("builtins", "types", "functools"):
                for inner, each in attributes(value):
                    count(each, f"{name}.{inner}")

    for name, value in attributes(machine):
        count(value, name)
    return found


# What machines share beside packets

_LIBRARY: Final = {*sys.stdlib_module_names, "p2plab"} - {"__main__"}
MOST: Final = 100_000  # items of a container that is looked into
Load = Callable[[], Any]
Store = Callable[[Any], object]


def _is_library(module: str) -> bool:
    """Whether a module is Python's, or one that was installed."""
    first = module.partition(".")[0]
    file = getattr(sys.modules.get(first), "__file__", None) or ""
    return first in _LIBRARY or "site-packages" in file or "dist-packages" in file


class SharedState:
    """What the code of some machines can reach by name, and change.

    That is globals, attributes of classes and functions, default arguments, variables
    of enclosing functions, and what these hold: lists and other containers, and objects
    of classes that are not Python's; also what is added to a module of its library.
    What lies outside of Python's objects (a file) or inside of those of its library
    (a stream), and what is very large, is not seen.
    """

    def __init__(self, makers: Makers) -> None:
        self.places: list[tuple[str, Load, Store]] = []
        self._seen: set[int] = set()
        for make in makers:
            kind = make if isinstance(make, type) else type(make())
            for thing in (make, kind):
                self._walk(getattr(thing, "__name__", ""), thing, True)
        self._first = self.load()
        self._kept = [self._first, self._first]
        self._way = 0

    def load(self) -> list[Any]:
        """Return what is in each place now."""
        return [load() for _, load, _ in self.places]

    def store(self, contents: list[Any]) -> None:
        """Put it back."""
        for (_, _, store), content in zip(self.places, contents, strict=True):
            store(content)

    def enter(self, way: int) -> None:
        """Show one side what that side has left there, and nothing of the other's."""
        if way != self._way:
            self._kept[self._way] = self.load()
            self.store(self._kept[way])
            self._way = way

    def begin(self) -> None:
        """Begin anew, for both sides, with what there was at first."""
        self.store(self._first)
        self._kept, self._way = [self._first, self._first], 0

    def changed(self) -> str:
        """Name what is not as it was at first, or as the other side has left it."""
        self._kept[self._way] = self.load()
        names: dict[str, None] = {}
        for (name, *_), first, *kept in zip(
            self.places, self._first, *self._kept, strict=True
        ):
            for each in kept:
                if isinstance(first, dict):
                    both = first.keys() | each.keys()
                    for key in sorted(map(str, both)):
                        if first.get(key) is not each.get(key):
                            names[f"{name}.{key}" if name else key] = None
                elif _identities(each) != _identities(first):
                    names[name] = None
        return ", ".join(names)

    def _walk(self, name: str, thing: Any, own: bool = False) -> None:
        """Note the places that a thing has; `own` if it is looked into in any case."""
        thing = getattr(thing, "__func__", thing)
        if id(thing) in self._seen or thing is None or isinstance(thing, _FIXED):
            return
        self._seen.add(id(thing))
        home = getattr(thing, "__module__", None) or getattr(thing, "__name__", "")
        library = not own and _is_library(str(home))
        if isinstance(thing, CONTAINERS):
            if len(thing) > MOST:
                return
            self._container(name, thing)
        elif isinstance(thing, tuple | frozenset):
            for each in thing:
                self._walk(name, each)
        elif isinstance(thing, ModuleType):
            old = frozenset(vars(thing)) if library else ()
            self._names(thing, name, lambda n, _: n[:2] != "__" and n not in old)
            for inner, each in [] if library else list(vars(thing).items()):
                self._walk(f"{name}.{inner}", each)
        elif library:
            return
        elif isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(fields := getattr(thing, "__dict__", None), dict):
            self._walk(type(thing).__name__, type(thing))
            self._container(name, fields)

    def _container(self, name: str, thing: Any) -> None:
        def store(content: Any) -> None:
            thing.clear()
            (thing.update if isinstance(thing, dict | set) else thing.extend)(content)

        self.places.append((name, thing.copy, store))
        for each in list(thing.values() if isinstance(thing, dict) else thing):
            self._walk(name, each)

    def _names(self, owner: Any, name: str, wanted: Callable[[str, Any], bool]) -> None:
        """Note some values of a module's names, or a class's attributes."""
        plain = isinstance(owner, dict)
        names = owner if plain else vars(owner)

        def load() -> dict[str, Any]:
            return {name: each for name, each in names.items() if wanted(name, each)}

        def store(content: dict[str, Any]) -> None:
            now = load()
            for name in now.keys() - content.keys():
                (delitem if plain else delattr)(owner, name)
            for name, each in content.items():
                if name not in now or now[name] is not each:
                    (setitem if plain else setattr)(owner, name, each)

        self.places.append((name, load, store))

    def _function(self, thing: FunctionType) -> None:
        names, here = thing.__globals__, thing.__qualname__
        mentioned, stored = _mentioned(thing.__code__)
        for name in mentioned:
            self._walk(name, each := names.get(name, sys.modules.get(name)))
            if isinstance(each, ModuleType):  # a list that was put there, say
                for inner in mentioned & vars(each).keys() - {"modules"}:
                    if isinstance(value := vars(each)[inner], CONTAINERS):
                        self._walk(f"{name}.{inner}", value)
        if stored:
            self._names(names, "", lambda name, _: name in stored)
        if own := vars(thing):
            self._container(here, own)
        for cell in thing.__closure__ or ():
            self._cell(here, cell)
        for each in (thing.__defaults__, *(thing.__kwdefaults__ or {}).values()):
            self._walk(f"a default argument of {here}", each)

    def _cell(self, name: str, cell: Any) -> None:
        def load() -> tuple[Any, ...]:
            return () if cell == type(cell)() else (cell.cell_contents,)

        def store(content: tuple[Any, ...]) -> None:
            if content:
                cell.cell_contents = content[0]

        for each in load():
            self._walk(name, each)
            if not callable(each):
                self.places.append((name, load, store))

    def _class(self, kind: type) -> None:
        for each in kind.__mro__[:-1]:
            self._seen.add(id(each))
            for name, value in list(vars(each).items()):
                if not name.startswith("__"):
                    self._walk(f"{each.__name__}.{name}", value)
            for _, method in methods(each, inherited=False):
                self._walk(method.__name__, method, True)
            if not _is_library(each.__module__):
                self._names(each, each.__name__, _is_data)


def _identities(items: Iterable[Any]) -> list[int]:
    found = map(id, items)
    return sorted(found) if isinstance(items, set) else list(found)


_FIXED: Final = (int, float, bytes, str)


def _is_data(name: str, value: Any) -> bool:
    """Whether an attribute of a class is neither a method nor Python's own."""
    return not (name.startswith("__") or hasattr(value, "__get__"))


def _mentioned(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that a function uses, and the globals that it sets."""
    names = set(code.co_names)
    steps = dis.get_instructions(code)
    stored = {step.argval for step in steps if step.opname == "STORE_GLOBAL"}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, also = _mentioned(inner)
            names, stored = names | more, stored | also
    return names, stored


def passes_together_only(
    makers: Makers, together: Makers, state: SharedState
) -> tuple[Outcome, str] | None:
    """Return a run that fails where only packets are shared, and what was shared.

    makers: whose two sides share nothing, as far as is known already.
    together: the same as one program makes them; with these the run goes well.
    state: what these could share, as it was at first.
    None if there is no such run.
    """
    if not state.places and makers == together:
        return None
    trials = [Trial(each) for each in APPLICATIONS if each.pairs == 1]
    trials += [Trial(plain(3), faults=(Fault(LOSE, way, 0),)) for way in (0, 1)]
    try:
        for trial in trials:
            state.begin()
            well = run(trial, together, as_made=True)
            if well.failure is not None:
                return None  # it fails anyway, and that is told
            state.begin()
            apart = run(trial, makers, recorded=True, enter=state.enter)
            names = state.changed()
            if apart.failure is not None:
                state.begin()
                again = run(trial, together, as_made=True)
                return (apart, names) if same(well, again) else None
    finally:
        state.begin()
    return None
