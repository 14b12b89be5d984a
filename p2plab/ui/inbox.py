"""The inbox of a peer panel: texts, and pictures that fill in while they arrive."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from typing import Any, Final

import ipywidgets as widgets

from p2plab.content.transfer import Transfer
from p2plab.net.chat import Message
from p2plab.ui.panel import line
from p2plab.ui.pictures import bar, figure
from p2plab.ui.runs import have

SIDE: Final = 224  # of a picture on the screen [CSS pixels]
SHOWN: Final = 30  # of the newest entries; a page with hundreds of pictures is slow


class InboxView:
    """One HTML widget for each entry, the newest on top; only what changes is sent."""

    def __init__(self) -> None:
        layout = widgets.Layout(
            width="100%", height="560px", overflow="hidden auto", display="block"
        )
        self.box = widgets.VBox([], layout=layout)
        self.box.add_class("p2p-inbox")
        self._kept: list[tuple[Message | Transfer, Any]] = []  # with their lines
        self._moving: set[Transfer] = set()
        self.draw([])

    def draw(self, inbox: Sequence[Message | Transfer]) -> bool:
        """Show what has come; say whether something is still arriving."""
        known = {id(each) for each, _ in self._kept}
        fresh = [each for each in inbox if id(each) not in known]
        for each in fresh:
            entry = line("message" if isinstance(each, Message) else "received")
            self._kept.append((each, entry))
            if isinstance(each, Message):
                entry.value = _text(each)
            else:
                self._moving.add(each)
        for each, entry in self._kept:
            if isinstance(each, Transfer) and each in self._moving:
                ended = each.ended  # asked first: the last state is drawn, too
                entry.value = _parcel(each, ended)
                if ended:
                    self._moving.discard(each)
        if fresh or not self.box.children:
            entries = [entry for _, entry in reversed(self._kept[-SHOWN:])]
            self.box.children = entries or [_nothing()]
        return bool(self._moving)


def _nothing() -> Any:
    entry = line("message")
    entry.value = "Nothing has come yet."
    return entry


def _from(sender: str, at: str) -> str:
    who = html.escape(sender) or "somebody"
    return f"<b>{who}</b> <small>{at}</small>"


def _text(message: Message) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(message.received_at))
    style = "white-space:pre-wrap;overflow-wrap:anywhere"
    return (
        f"{_from(message.sender, at)}"
        f'<div style="{style}">{html.escape(message.text)}</div>'
    )


def _parcel(transfer: Transfer, ended: bool) -> str:
    content, assembly = transfer.offer.content, transfer.assembly
    head = _from(transfer.offer.sender, html.escape(content.name))
    if assembly is None:
        return head
    words = have(assembly)
    if transfer.error is not None:
        words = f"{words}: {transfer.error}"
    below = f'<div style="width:{SIDE}px">{bar(assembly.progress, words)}</div>'
    if ended and assembly.complete:
        below = f"<div>{html.escape(words)}</div>"
    if content.kind != "picture":
        return head + below
    alt = f"Picture from {transfer.offer.sender}: {words}."
    return head + figure(assembly.picture(), alt, SIDE, final=ended) + below
