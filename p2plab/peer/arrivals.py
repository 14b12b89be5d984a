"""What has come to a peer: texts, and pictures also while they arrive; in words too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from p2plab.content.offer import Offer
from p2plab.content.transfer import State, Transfer, no_room
from p2plab.core.trace import RECEIVER
from p2plab.core.validation import count_of
from p2plab.errors import P2PLabError, TransferStalled
from p2plab.net.chat import Message
from p2plab.net.datagrams import Address

News = Message | Transfer


class Arrivals:
    """The inbox of a peer, filled by several threads.

    on_offer: asked before a picture or file is taken, if there is room for it; returns
        why not, or None.
    on_news: called with each new Message and Transfer.
    """

    def __init__(
        self,
        on_offer: Callable[[Offer, Address], str | None] | None,
        on_news: Callable[[News], None] | None,
    ) -> None:
        self.on_offer, self.on_news = on_offer, on_news
        self._news: list[News] = []
        self._lock = threading.Lock()

    def everything(self) -> list[News]:
        """Return what has come, oldest first."""
        with self._lock:
            return list(self._news)

    def clear(self) -> None:
        """Forget what has come, except for transfers that are still arriving."""
        with self._lock:
            self._news = [
                each
                for each in self._news
                if isinstance(each, Transfer) and not each.ended
            ]

    def add(self, news: News) -> None:
        """Keep and tell something new; our own sendings are none."""
        if isinstance(news, Transfer) and news.role != RECEIVER:
            return
        with self._lock:
            if news not in self._news:
                self._news.append(news)
        if self.on_news is not None:
            self.on_news(news)

    def consider(self, offer: Offer, address: Address) -> str | None:
        """Say why an offer is not taken; None: it is."""
        transfers = [each for each in self.everything() if isinstance(each, Transfer)]
        if why := no_room(transfers, offer):
            return why
        return self.on_offer(offer, address) if self.on_offer is not None else None


def ended_within(transfer: Transfer, seconds: float) -> bool:
    """Wait for the end of a transfer, good or bad, and say whether it has come."""
    with suppress(P2PLabError):
        transfer.wait(seconds)
    return transfer.ended


def arrived(transfer: Transfer) -> str:
    """Return how many payloads have arrived, as far as this end knows, of how many."""
    count = transfer.offer.content.count
    return f"{round(transfer.progress * count):,} of {count_of(count, 'payload')}"


def in_terminal(why: Exception | None) -> str:
    """Return an error's words, with what a person can do at a prompt."""
    cure = " To see who is there, type list."
    return f"{why}{cure}" if isinstance(why, TransferStalled) else str(why)


def in_words(each: Message | Transfer) -> str:
    """Return what lies in an inbox as a line for people."""
    if isinstance(each, Message):
        return f"{each.sender}: {each.text!r}"
    content = each.offer.content
    size = f"{content.size:,} bytes"
    if content.kind == "picture":
        size = f"{content.width}x{content.height}"
    how_far = f"{each.progress:.0%} here"
    if each.state is State.DONE:
        how_far = "complete" if each.progress == 1 else f"has holes, {how_far}"
    elif each.state is State.FAILED:
        how_far = f"{how_far}, broken off: {in_terminal(each.error)}"
    what = content.kind
    if content.name not in ("", what):  # bytes and arrays have no name of their own
        what = f"{what} {content.name}"
    return f"{what} from {each.offer.sender}, {size}, {how_far}"
