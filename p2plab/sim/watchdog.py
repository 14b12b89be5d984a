"""A watchdog: interrupts a call of a protocol that does not come back."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeVar

LOOKS: Final = 10  # at the thread, for each time that it is allowed
IDLE: Final = 0.1  # who computes for less than this share of a look only waits

_LIBRARY: Final = Path(os.__file__).parent
_PACKAGE: Final = Path(__file__).parent.parent


T = TypeVar("T")


class Line(NamedTuple):
    """A line of source that a thread was in."""

    function: str  # with its class
    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.function} (line {self.number} of {self.file})"


class Stuck(BaseException):
    """Thrown into a thread whose call does not end; no `except Exception` keeps it.

    stack: where the thread was, the innermost line first.
    seen: in how many looks during this call each line was on the stack.
    """

    stack: ClassVar[tuple[Line, ...]] = ()
    seen: ClassVar[Counter[Line]] = Counter()

    @property
    def line(self) -> Line | None:
        """The innermost line outside p2plab and Python's library, or simply that."""
        for each in self.stack:
            folders = Path(each.file).parents
            if _PACKAGE not in folders and _LIBRARY not in folders:
                return each
        return self.stack[0] if self.stack else None

    def __str__(self) -> str:
        return f"{self.line or 'a protocol'} does not come back: a loop without an end?"


class Watchdog:
    """Throws Stuck into the thread that has entered it, when a call does not end.

        with Watchdog(computing=5.0) as watchdog:
            watchdog.begin()
            machine.on_packet(packet, now)  # raises Stuck after computing for 5 s
            watchdog.end()

    computing: for how long one call may use the processor [s]. Who waits, in a debugger
        say, is left alone, where the system tells the time of single threads; macOS and
        Windows tell that of the whole process.
    waiting: for how long it may take in all [s]; None: for ever.
    If a call swallows Stuck, it gets another one after as long. One may still come just
    after `end`: be ready for it around the loop. Where no thread can start (in a
    browser) nothing is watched.
    """

    def __init__(self, computing: float, waiting: float | None = None) -> None:
        self.computing, self.waiting = computing, waiting
        self._calls = 0
        self._now: int | None = None  # the number of the call under way
        self._stop: Callable[[], None] | None = None

    def begin(self) -> None:
        """A call begins; the one before, if there was one, has ended."""
        self._calls += 1
        self._now = self._calls

    def end(self) -> None:
        """The call has ended: nothing is under way."""
        self._now = None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Make one call, watched from its begin to its end."""
        self.begin()
        try:
            return function(*arguments)
        finally:
            self.end()

    def __enter__(self) -> Self:
        try:
            from threading import Event, Thread, get_ident

            over = Event()
            arguments = (over, get_ident())
            thread = Thread(target=self._watch, args=arguments, daemon=True)
            thread.start()
        except (ImportError, RuntimeError):
            return self

        def stop() -> None:
            over.set()
            thread.join()

        self._stop = stop
        return self

    def __exit__(self, *why: object) -> None:
        if self._stop is None:
            return
        try:
            self._stop()
        except Stuck:  # the last one, on the way out
            self._stop()

    def _watch(self, over: Any, thread: int) -> None:
        import ctypes

        throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
        pause = min(self.computing, self.waiting or self.computing) / LOOKS
        call: int | None = None
        seen: Counter[Line] = Counter()
        looks, computed, used = 0, 0.0, _computed(thread)
        while not over.wait(pause):
            before, used = used, _computed(thread)
            if call is None or self._now != call:
                call, looks, computed = self._now, 0, 0.0
                seen.clear()
                continue
            looks += 1
            busy = used - before > IDLE * pause
            computed = computed + used - before if busy else 0.0
            stack = _stack(thread)
            seen.update(set(stack))
            slow = self.waiting is not None and looks * pause > self.waiting
            if slow or computed > self.computing:
                about = {"stack": stack, "seen": Counter(seen)}
                error = type("Stuck", (Stuck,), about)  # a class is what can be thrown
                throw(ctypes.c_ulong(thread), ctypes.py_object(error))
                looks, computed = 0, 0.0


def _computed(thread: int) -> float:
    """For how long a thread has used a processor; macOS and Windows tell of all [s]."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    return time.process_time() if clock is None else time.clock_gettime(clock(thread))


def _stack(thread: int) -> tuple[Line, ...]:
    frame, stack = sys._current_frames().get(thread), []
    while frame is not None:
        code = frame.f_code
        stack.append(Line(code.co_qualname, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(stack)
