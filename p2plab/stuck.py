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
LOOKS: Final = 5  # at the same turn; a usual one takes a hundredth of a second
BUSY: Final = 0.5  # of that time by a processor: who waits, and computes nothing, may
OURS: Final = Path(__file__).parent


class NeverBack(BaseException):
    """Thrown into a thread whose turn does not end; no `except Exception` keeps it."""

    where = "something"

    def __repr__(self) -> str:
        return (
            f"{self.where} did not come back for {LOOKS * LOOK:g} s. Is that a loop "
            f"without an end?"
        )


@contextmanager
def watching(turn: Callable[[], int | None]) -> Iterator[None]:
    """Throw NeverBack into this thread whenever the same turn goes on for too long.

    turn: a number of its own for each turn, or None between two.
    """
    over, thread = threading.Event(), threading.get_ident()
    dog = threading.Thread(target=_watch, args=(turn, over, thread), daemon=True)
    dog.start()
    try:
        yield
    finally:
        over.set()
        dog.join()


def _watch(turn: Callable[[], int | None], over: threading.Event, thread: int) -> None:
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    seen: int | None = None
    looks, busy = 0, 0.0
    while not over.wait(LOOK):
        now = turn()
        if now is None or now != seen:
            seen, looks, busy = now, 0, time.process_time()
            continue
        looks += 1
        if looks >= LOOKS and time.process_time() - busy > BUSY * LOOKS * LOOK:
            where = _where(sys._current_frames().get(thread))
            error = type("NeverBack", (NeverBack,), {"where": where})
            throw(ctypes.c_ulong(thread), ctypes.py_object(error))
            seen = None


def _where(frame: FrameType | None) -> str:
    """Name the function that our driver has called, and its line."""
    while frame is not None and OURS in Path(frame.f_code.co_filename).parents:
        frame = frame.f_back
    if frame is None:
        return NeverBack.where
    code = frame.f_code
    return f"{code.co_qualname} (line {frame.f_lineno} of {code.co_filename})"
