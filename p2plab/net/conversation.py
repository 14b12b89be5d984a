"""Texts as a trace: the attempts, ACKs and timeouts of a chat, ready for a ladder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from p2plab.core.link import ARRIVE, LOSS
from p2plab.core.packet import ACK, DATA
from p2plab.core.trace import (
    DELIVER,
    RECEIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    Trace,
)
from p2plab.net.frames import MessageId
from p2plab.net.inbox import Event

_ATTEMPTS: Final = 1_000  # more than anybody tries; numbers stay apart below it

# event -> (host, what, kind) of the rows that it becomes
_ROWS: Final[dict[str, list[tuple[str, str, int]]]] = {
    "send": [(SENDER, SEND, DATA)],
    "resend": [(SENDER, RETRANSMIT, DATA)],
    "timeout": [(SENDER, TIMEOUT, 0)],
    "arrive": [(RECEIVER, ARRIVE, DATA), (RECEIVER, DELIVER, 0)],
    "duplicate": [(RECEIVER, ARRIVE, DATA)],
    "ack sent": [(RECEIVER, SEND, ACK)],
    "ack lost": [(RECEIVER, SEND, ACK), (RECEIVER, LOSS, ACK)],
    "ack": [(SENDER, ARRIVE, ACK)],
}


def conversation(events: Iterable[Event], key: int) -> Trace:
    """Return what became of the texts of one client, on one time axis.

    events: of the client and of the servers that it wrote to, in any order, all from
        this process; key: the client's part of its messages' ids.
    A text is a DATA packet, numbered from 0; every attempt is a transmission of it.
    """
    ours = sorted(event for event in events if event.id.key == key)
    start = ours[0].time if ours else 0.0
    answered: dict[MessageId, int] = {}  # the first copy whose ACK was not lost
    for event in ours:
        if event.event == "ack sent":
            answered.setdefault(event.id, event.attempt)
    return Trace(rows=[row for event in ours for row in _rows(event, answered, start)])


def _rows(event: Event, answered: dict[MessageId, int], start: float) -> Iterator[Row]:
    seq, copy = event.id.number - 1, event.attempt
    if event.event == "ack":
        copy = answered.get(event.id, copy)
    for host, what, kind in _ROWS.get(event.event, []):
        nameless = what in (TIMEOUT, DELIVER)
        number = -1 if nameless else seq * _ATTEMPTS + copy
        where = -1 if what == TIMEOUT else seq
        yield Row(event.time - start, host, what, int(kind), where, 0, number)
