"""Whether a machine prints, or starts a thread: it has promised not to."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, TextIO

from p2plab.checker.blame import place

_OURS: Final = str(Path(__file__).parent)  # a watchdog is a thread, too


class Ear(io.TextIOBase):
    """Keeps what is printed while it is entered, and notes who was the first.

    heard: what it was, and the line; empty if there was nothing.
    """

    def __init__(self) -> None:
        from threading import Thread, get_ident

        here, begin = get_ident(), Thread.start
        self.heard = ""
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
        if not self.heard and not name.startswith(_OURS):
            self.heard = f"{what} at {place(name, frame.f_lineno)}"
