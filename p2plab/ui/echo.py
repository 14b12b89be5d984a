"""A question to the browser, whose answer comes after all that was set before."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Final

import ipywidgets as widgets

from p2plab.net.threads import spawn

THREAD: Final = "p2plab panel"  # what those of a panel are called
PATIENCE: Final = 1.0  # with a browser that does not answer [s]


class Echo:
    """Two numbers that a browser keeps alike: when it has told us the second one, all
    that was set in it before it heard of the first one has come, too.

    A browser tells of one change, and keeps the later ones of the same widget back
    until the kernel is done with the first; the press of a button it tells at once.
    """

    def __init__(self) -> None:
        self._asked, self._answered = widgets.IntText(), widgets.IntText()
        one, other = (self._asked, "value"), (self._answered, "value")
        self.link = widgets.jsdlink(one, other)
        self._waiting: dict[int, tuple[Callable[[], object], Event]] = {}
        self._acts = Lock()  # one after the other, whoever found that it was time
        self._answered.observe(lambda change: self._go(change.new), "value")

    def then(self, act: Callable[[], object]) -> None:
        """Do it when the browser has answered, or after PATIENCE."""
        number, over = self._asked.value + 1, Event()
        self._waiting[number] = act, over
        spawn(self._watch, number, over, name=THREAD)
        self._asked.value = number

    def close(self) -> None:
        """Ask no more, and do nothing that still waits."""
        while self._waiting:
            self._waiting.popitem()[1][1].set()
        for each in (self.link, self._asked, self._answered):
            each.close()

    def _watch(self, number: int, over: Event) -> None:
        if not over.wait(PATIENCE):
            self._go(number)

    def _go(self, until: int) -> None:
        for number in [each for each in list(self._waiting) if each <= until]:
            taken = self._waiting.pop(number, None)
            if taken is not None:  # another thread may have been quicker
                act, over = taken
                over.set()
                with self._acts:
                    act()
