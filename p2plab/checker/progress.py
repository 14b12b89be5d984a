"""Progress on one line, where somebody looks."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Final

EVERY: Final = 0.2  # [s]
_WIDTH: Final = 70


class OneLine:
    """Writes and rewrites a line in a terminal or a notebook; nothing elsewhere."""

    def __init__(self) -> None:
        self.shown = sys.stdout.isatty() or "ipykernel" in sys.modules
        self.next = perf_counter() + EVERY
        self.wrote = False

    def __call__(self, share: float, words: str) -> None:
        """Say how far it is, now and then."""
        if self.shown and perf_counter() > self.next:
            self.next = perf_counter() + EVERY
            self.wrote = True
            line = f"checking: {share:4.0%}, {words}"
            print(f"\r{line:{_WIDTH}.{_WIDTH}}", end="", flush=True)

    def clear(self) -> None:
        """Leave nothing behind."""
        if self.wrote:
            print(f"\r{'':{_WIDTH}}\r", end="", flush=True)
