"""The requests of a peer panel: who wants to meet us, with Accept and Refuse."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from p2plab.rendezvous.doorman import Request
from p2plab.widgets.panel import Panel, button, line


class RequestsView:
    """A line with two buttons for each request; none, and it takes no room.

    panel: does what a button stands for, and shows what went wrong.
    """

    def __init__(self, panel: Panel) -> None:
        self.box = widgets.VBox([])
        self.box.add_class("p2p-requests")
        self._panel = panel
        self._rows: dict[str, Any] = {}  # by session

    def draw(self, requests: Sequence[Request]) -> None:
        """Show who waits for our word, the oldest first."""
        waiting = {each.session: each for each in requests}
        if waiting.keys() == self._rows.keys():
            return
        self._rows = {
            session: self._rows.get(session) or self._row(request)
            for session, request in waiting.items()
        }
        self.box.children = list(self._rows.values())

    def _row(self, request: Request) -> Any:
        words = line("request", flex="1 1 auto")
        words.value = f"<b>{html.escape(request.peer)}</b> wants to meet you."
        accept = button("accept-request", "Accept", button_style="success")
        refuse = button("refuse-request", "Refuse")
        for each, act in ((accept, request.accept), (refuse, request.refuse)):
            each.layout.width = "76px"
            self._panel.wire(each, self._once(act, accept, refuse))
        layout = widgets.Layout(align_items="center")
        return widgets.HBox([words, accept, refuse], layout=layout)

    def _once(self, act: Callable[[], None], *buttons: Any) -> Callable[[], None]:
        """Do it in the background; the buttons are off until it has failed."""

        def off(disabled: bool) -> None:
            for each in buttons:
                each.disabled = disabled

        def job() -> None:
            try:
                act()
            except BaseException:
                off(False)
                raise

        def pressed() -> None:
            off(True)
            self._panel.work(job)

        return pressed
