"""What a machine must not do beside its work: print, start threads, hoard, share."""

from __future__ import annotations

import io
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from enum import Enum
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final, Self, TextIO

from p2plab.checker.faults import ROLES
from p2plab.checker.source import attributes, place
from p2plab.sim.watchdog import Watchdog

LIMIT: Final = 1.2  # for one run, of which a usual one takes less than 0.01 [s]
COMPUTING: Final = 0.6  # or so much of the processor's time [s]


def watchdog() -> Watchdog:
    """Return what ends a run that does not come back."""
    return Watchdog(COMPUTING, LIMIT)


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


class Apart:
    """Gives each of two machines its own copy of the globals that it can reach.

    Enter it, and `enter` the machine that is to be called; in the end all is as before.
    places: dictionaries and classes, and a name in each. words: say what they are.
    """

    def __init__(self, makers: Sequence[Any]) -> None:
        self.places: list[tuple[Any, str]] = []
        self._seen: set[int] = set()
        for make in makers:
            self._reach(make if isinstance(make, type) else type(make()))
        self._before: list[Any] = []
        self._own: list[list[Any]] = []
        self._inside = -1

    @property
    def words(self) -> str:
        names = [
            f"{holder.__name__}.{name}" if isinstance(holder, type) else name
            for holder, name in self.places
        ]
        return f"they both reach {', '.join(dict.fromkeys(names))}"

    def _reach(self, thing: Any) -> None:
        """Look for what a class or a function of a student can change."""
        if id(thing) in self._seen or not isinstance(thing, type | FunctionType):
            return
        self._seen.add(id(thing))
        ours = str(thing.__module__).split(".")[0] in ("builtins", "p2plab", "enum")
        if ours or (isinstance(thing, type) and issubclass(thing, Enum)):
            return
        if isinstance(thing, FunctionType):
            for name in _names(thing.__code__):
                value = thing.__globals__.get(name)
                self._take(thing.__globals__, name, value)
                self._reach(value)
            return
        for kind in thing.__mro__:
            for name, value in list(vars(kind).items()):
                if not name.startswith("__"):
                    self._take(kind, name, value)
                self._reach(getattr(value, "__func__", getattr(value, "fget", value)))

    def _take(self, holder: Any, name: str, value: Any) -> None:
        own = isinstance(value, CONTAINERS) or hasattr(value, "__dict__")
        if own and not callable(value) and not isinstance(value, _CODE):
            self.places.append((holder, name))

    def __enter__(self) -> Self:
        self._before = [_get(*place) for place in self.places]
        self._own = []
        for _ in ROLES:
            copies = []
            for value in self._before:
                try:
                    copies.append(deepcopy(value))
                except Exception:  # a lock, a file: nothing that one could copy
                    copies.append(value)
            self._own.append(copies)
        self._inside = -1
        return self

    def enter(self, way: int) -> None:
        """Put the copies of a machine (0 sender, 1 receiver) in their places."""
        if way == self._inside:
            return
        if self._inside >= 0:
            self._own[self._inside] = [_get(*place) for place in self.places]
        self._put(self._own[way])
        self._inside = way

    def __exit__(self, *why: object) -> None:
        self._put(self._before)

    def _put(self, values: Sequence[Any]) -> None:
        for (holder, name), value in zip(self.places, values, strict=True):
            if isinstance(holder, type):
                setattr(holder, name, value)
            else:
                holder[name] = value


_CODE: Final = (type, ModuleType, Enum, property, staticmethod, classmethod)


def _get(holder: Any, name: str) -> Any:
    return vars(holder)[name] if isinstance(holder, type) else holder[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


CONTAINERS: Final = (list, set, deque, dict, bytearray)
_MANY: Final = (list, tuple, set, frozenset, deque)
_TEXT: Final = (bytes, bytearray, str)
ITEM: Final = 16  # so many bytes count as one


def held(machine: object) -> Counter[str]:
    """Return how many items each of a machine's own containers holds, by its name.

    Items of inner containers count, too, and long bytes as many small ones.
    """
    found: Counter[str] = Counter()
    for name, value in attributes(machine):
        _count(value, name, found, {id(machine)})
    return found


def _count(value: Any, name: str, found: Counter[str], seen: set[int]) -> None:
    if isinstance(value, _TEXT):
        found[name] += len(value) // ITEM
        return
    if value is None or isinstance(value, int | float | type) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (Mapping, *_MANY)):
        found[name] += len(value)
        for each in list(value.values() if isinstance(value, Mapping) else value):
            _count(each, name, found, seen)
    elif type(value).__module__ not in ("builtins", "types", "functools"):
        for inner, each in attributes(value):
            _count(each, f"{name}.{inner}", found, seen)
