"""What has come to a peer: texts, and pictures also while they arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable

from p2plab.datagrams import Address
from p2plab.inbox import Message
from p2plab.offer import Offer
from p2plab.trace import RECEIVER
from p2plab.transfer import Transfer, no_room

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
