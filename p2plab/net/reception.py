"""What a socket does with offers: takes them within its limits, or says why not."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from p2plab.content.offer import ANSWER, Limits, Offer, to_words
from p2plab.content.transfer import Transfer
from p2plab.core.packet import Kind, Numbered, Packet, encode
from p2plab.core.trace import RECEIVER
from p2plab.errors import P2PLabError
from p2plab.net.contact import Way
from p2plab.net.datagrams import Address
from p2plab.net.flow import Flow
from p2plab.net.flows import Flows

EARLY: Final = 64  # packets kept that belong to no transfer yet
Batch = list[Numbered]


class Reception:
    """Considers offers, for a socket and its flows.

    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it.
    record: keep a trace of what arrives. stop: how a transfer is asked to end.
    """

    def __init__(
        self,
        flows: Flows,
        limits: Limits,
        on_offer: Callable[[Offer, Address], str | None] | None,
        record: bool,
        stop: Callable[[Transfer], None],
    ) -> None:
        self._flows = flows
        self.limits = limits
        self._on_offer = on_offer
        self._record = record
        self._stop = stop
        # What came before its offer, which may be on its way or sent again.
        self._overtaking: deque[tuple[Way, int, tuple[Packet, int]]]
        self._overtaking = deque(maxlen=EARLY)

    def take(self, way: Way, id: int, packets: Batch) -> None:
        """Take what belongs to no transfer yet."""
        offers = [each for each in packets if each[0].kind == Kind.OFFER]
        early = [each for each in packets if each[0].kind != Kind.OFFER]
        self._overtaking += [(way, id, each) for each in early]
        if offers:
            early_ones = [p for w, i, p in self._overtaking if (w, i) == (way, id)]
            self._overtaking.clear()
            self._consider(way, id, offers + early_ones)

    def _consider(self, way: Way, id: int, packets: Batch) -> None:
        """Take the offer that comes first, or say why not: both cost one datagram."""
        try:
            offer = Offer.from_bytes(packets[0][0].payload)
            if way.name:  # proven, whatever the offer says
                offer = replace(offer, sender=way.name)
            why = self._objection(offer, way)
            if why is None:
                self._accept(way, id, offer, packets)
                return
        except P2PLabError as error:
            why = str(error)
        except BaseException as error:  # a protocol of one's own may call exit()
            why = f"the receiver cannot take it: {error!r}"
        way.send([encode(Packet(Kind.REFUSE, 0, to_words(why)), id | ANSWER)])

    def _objection(self, offer: Offer, way: Way) -> str | None:
        live = [flow.transfer for flow in self._flows if not flow.transfer.ended]
        arriving = sum(each.role == RECEIVER for each in live)
        why = self.limits.objection(offer, arriving)
        if why is not None or self._on_offer is None or way.address is None:
            return why
        try:
            return self._on_offer(offer, way.address)
        except Exception as error:  # not the sender's fault
            self._flows.callback_error = error
            return "the receiver was asked, and failed to answer"

    def _accept(self, way: Way, id: int, offer: Offer, packets: Batch) -> None:
        transfer = Transfer(
            id,
            RECEIVER,
            offer,
            started_at=time.monotonic(),
            stop=self._stop,
            record=self._record,
        )
        machine, patience = offer.receiver(), self.limits.patience
        flow = Flow(transfer, machine, way.send, patience=patience)
        self._flows.tell(transfer)  # before the sender hears of it
        self._flows.open((way, id), flow, partial(flow.arrive, packets))
