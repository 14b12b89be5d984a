"""What the buttons of a panel have begun: each thing once at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from p2plab.errors import P2PLabError, TransferError
from p2plab.ui.panel import Panel


class Jobs:
    """A thread for each thing that was begun, known by the button that stands for it.

    places: the lines beside some buttons that say what went wrong there.
    """

    def __init__(
        self, panel: Panel, buttons: Mapping[str, Any], places: Mapping[str, Any]
    ) -> None:
        self.busy: set[str] = set()  # the buttons whose work goes on
        self._panel, self._buttons, self._places = panel, buttons, places
        self._threads: list[threading.Thread] = []

    def afresh(self, button: str) -> None:
        """Before something is tried: take away what was said of earlier attempts.

        Raises P2PLabError if it is under way already.
        """
        if button in self.busy:
            raise P2PLabError(f"{button} is under way: wait for its end")
        self._panel.forgive()
        for place in self._places.values():
            place.value = ""

    def start(
        self, button: str, act: Callable[..., object], *arguments: object
    ) -> None:
        """Do in the background what a button stands for; it is off meanwhile."""

        def job() -> None:
            try:
                act(*arguments)
            finally:
                self.busy.discard(button)

        self.busy.add(button)
        self._buttons[button].disabled = True
        place = self._places.get(button)
        self._threads.append(self._panel.work(job, place=place))
        self._panel.view.poke()

    def join(self, timeout: float) -> None:
        """Wait for the end of all; raises TransferError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._threads:
            thread = self._threads.pop()
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TransferError(f"not at its end after {timeout:g} s")
