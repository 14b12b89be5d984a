"""The requests of a peer panel: who wants to meet us, with Accept and Refuse."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets

from p2plab.rendezvous.admission import A_PERSON, Request, settle
from p2plab.ui.panel import Panel, button, line


class RequestsView:
    """A line with two buttons for each who asks; nobody, and it takes no room.

    panel: does what a button stands for, and shows what went wrong.
    """

    def __init__(self, panel: Panel) -> None:
        self.box = widgets.VBox([])
        self.box.add_class("p2p-requests")
        self._panel = panel
        self._rows: dict[tuple[str, ...], Any] = {}  # by the sessions of one peer

    def draw(self, requests: Sequence[Request]) -> None:
        """Show who waits for our word, the oldest first; who asks twice, once."""
        theirs: dict[str, list[Request]] = {}
        for each in requests:
            theirs.setdefault(each.peer, []).append(each)
        waiting = {tuple(e.session for e in each): each for each in theirs.values()}
        if waiting.keys() != self._rows.keys():
            self._rows = {
                sessions: self._rows.get(sessions) or self._row(each)
                for sessions, each in waiting.items()
            }
            self.box.children = list(self._rows.values())
        for sessions, asked in waiting.items():
            words = in_words(asked[-1], time.monotonic())
            self._rows[sessions].children[0].value = words

    def _row(self, requests: Sequence[Request]) -> Any:
        words = line("request", flex="1 1 auto")
        accept = button("accept-request", "Accept", button_style="success")
        refuse = button("refuse-request", "Refuse")
        for each, act in ((accept, Request.accept), (refuse, Request.refuse)):
            each.layout.width = "76px"
            job = partial(settle, requests, act)
            self._panel.wire(each, self._once(job, accept, refuse))
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


def in_words(request: Request, now: float) -> str:
    """Who asks; a program waits for a person so long, and a late yes is a yes still."""
    name = f"<b>{html.escape(request.peer)}</b>"
    waited = now - request.asked_at
    if waited <= A_PERSON:
        return f"{name} wants to meet you."
    minutes = max(1, round(waited / 60))
    return (
        f"{name} asked to meet you {minutes} min ago, and may have stopped waiting; "
        "you can still accept."
    )
