"""What a machine must not do beside its work: print, start threads, hoard, share."""

from __future__ import annotations

import io
import sys
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, TextIO

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
