"""A watchdog: interrupts a machine that does not come back, and sees where it is."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import process_time
from typing import Final

from p2plab.checker.world import TooLong

LIMIT: Final = 1.2  # for one run, of which a usual one takes less than 0.01 [s]
BUSY: Final = 0.5  # of the limit: so much of the processor's time is enough
BITES: Final = 3  # after so many, nothing in this process will help

# The grader is told now and then that Python is still able to end it by itself.
alive: Callable[[], object] | None = None


class Pulse:
    """What the watchdog looks at: `count` moves as long as runs come to an end.

    seen: how often it saw each line, by file and number, while one was under way.
    """

    def __init__(self) -> None:
        self.count = 0
        self.seen: Counter[tuple[str, int]] = Counter()


@contextmanager
def watching(pulse: Pulse, limit: float = LIMIT) -> Iterator[None]:
    """Throw TooLong into this thread whenever `pulse` stands still for so long [s].

    Where there are no threads (in a browser) nothing is watched.
    """
    try:
        from threading import Event, Thread, get_ident

        over = Event()
        dog = Thread(target=_watch, args=(pulse, limit, over, get_ident()), daemon=True)
        dog.start()
    except (ImportError, RuntimeError):
        yield
        return
    try:
        if alive is not None:
            alive()
        yield
    finally:
        with suppress(TooLong):  # a last bite, on the way out
            over.set()
        over.set()
        dog.join()


def _watch(pulse: Pulse, limit: float, over: object, thread: int) -> None:
    import ctypes

    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    step, still, last, bites, busy = limit / 10, 0, -1, 0, 0.0
    while not over.wait(step):  # type: ignore[attr-defined]  # an Event
        if pulse.count != last:
            last, still, busy = pulse.count, 0, process_time()
        if alive is not None and bites < BITES:
            alive()
        _look(pulse, thread)
        still += 1
        if still > 10 or process_time() - busy > BUSY * limit:
            throw(ctypes.c_ulong(thread), ctypes.py_object(TooLong))
            bites += 1  # and again, should the machine swallow it


def _look(pulse: Pulse, thread: int) -> None:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        pulse.seen[frame.f_code.co_filename, frame.f_lineno] += 1
        frame = frame.f_back
