"""What to do about a protocol that never comes back: all others wait for its thread."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

LOOK: Final = 1.0  # between two looks [s]
LOOKS: Final = (
    5  # in a row at the same call; a usual one takes a thousandth of a second
)
BUSY: Final = (
    0.5  # of each, computing: who only waits, in a debugger say, is left alone
)
OURS: Final = Path(__file__).parent


class NeverBack(BaseException):
    """Thrown into a thread whose call does not end; no `except Exception` keeps it."""

    where = "a protocol"

    def __repr__(self) -> str:
        return (
            f"{self.where} did not come back for {LOOKS * LOOK:g} s. Is that a loop "
            f"without an end?"
        )


class Calls:
    """Which call of a protocol the thread of all UDP sockets is in.

    now: a number of its own for each, or None between two.
    """

    def __init__(self) -> None:
        self._count = 0
        self.now: int | None = None

    def begin(self) -> None:
        """A call begins."""
        self._count += 1
        self.now = self._count

    def end(self) -> None:
        """It is over."""
        self.now = None


CALLS: Final = Calls()


@contextmanager
def watching(call: Callable[[], int | None]) -> Iterator[None]:
    """Throw NeverBack into this thread whenever it computes for too long in one call.

    call: tells which one it is in, see Calls.
    """
    over, thread = threading.Event(), threading.get_ident()
    dog = threading.Thread(target=_watch, args=(call, over, thread), daemon=True)
    dog.start()
    try:
        yield
    finally:
        over.set()
        dog.join()


def _watch(call: Callable[[], int | None], over: threading.Event, thread: int) -> None:
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    seen: int | None = None
    looks, used = 0, 0.0
    while not over.wait(LOOK):
        before, used = used, _computed(thread)
        last, seen = seen, call()
        same = seen is not None and seen == last and used - before > BUSY * LOOK
        looks = looks + 1 if same else 0
        if looks == LOOKS:
            where = _where(sys._current_frames().get(thread))
            error = type("NeverBack", (NeverBack,), {"where": where})
            throw(ctypes.c_ulong(thread), ctypes.py_object(error))
            looks = 0


def _computed(thread: int) -> float:
    """For how long a thread has used a processor; macOS and Windows tell of all [s]."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    return time.process_time() if clock is None else time.clock_gettime(clock(thread))


def _where(frame: FrameType | None) -> str:
    """Name the function that our driver has called, and the line where that is."""
    found = None
    while frame is not None:
        foreign = OURS not in Path(frame.f_code.co_filename).parents
        if found and not foreign:
            break
        found = frame if foreign else None
        frame = frame.f_back
    if found is None:
        return NeverBack.where
    code = found.f_code
    return f"{code.co_qualname} (line {found.f_lineno} of {code.co_filename})"
