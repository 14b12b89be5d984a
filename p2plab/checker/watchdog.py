"""A watchdog: interrupts a machine that does not come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from p2plab.checker.world import TooLong

LIMIT: Final = 1.2  # for one run, of which a usual one takes less than 0.01 [s]


class Pulse:
    """What the watchdog looks at: `count` moves as long as runs come to an end."""

    count = 0


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
        yield
    finally:
        with suppress(TooLong):  # a last bite, on the way out
            over.set()
        over.set()
        dog.join()


def _watch(pulse: Pulse, limit: float, over: object, thread: int) -> None:
    import ctypes

    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    step, still, seen = limit / 10, 0, -1
    while not over.wait(step):  # type: ignore[attr-defined]  # an Event
        still = still + 1 if pulse.count == seen else 0
        seen = pulse.count
        if still >= 10:  # and again, should the machine swallow it
            throw(ctypes.c_ulong(thread), ctypes.py_object(TooLong))
