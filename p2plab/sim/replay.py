"""A run once more, from its trace: fresh machines are given the same as the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE
from p2plab.core.packet import MACHINE_KINDS, Kind, Packet, decode, encode
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
from p2plab.sim.driver import BURST, CATCH_UP, Host

_ARRIVALS: Final = (ARRIVE, DUPLICATE, CORRUPT)
_SENT: Final = (SEND, RETRANSMIT)
# Other rows are about packets that nobody got.
_FOLLOWED: Final = (*_ARRIVALS, TIMEOUT, *_SENT, DELIVER)


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it.

    packets: how many were sent as the trace has them, before the first difference.
    delivered: payloads, until then. difference: in words, empty if there is none.
    error: what a fresh machine, or its driver, ended it with.
    """

    packets: int
    delivered: list[bytes] = field(repr=False)
    difference: str = ""
    error: Exception | None = None


class _Different(Exception):
    """A fresh machine did not do what the trace says."""


def replay(
    sender: Any,
    receiver: Any,
    payloads: Iterable[bytes],
    traces: Mapping[str, Trace],
    *,
    real: bool,
) -> Replay:
    """Give two fresh machines what two others got, and compare all that they do.

    A trace has no contents: they are taken from what the fresh machines send, so both
    ends must be known. Every row must come out again, at its time and in its place.

    payloads: what the sender was given. traces: by role, what each end has seen; of a
        simulated run one for both.
    real: over sockets, where timestamps are rounded, many packets come at once, and an
        offer goes before.
    """
    one = _End(SENDER, sender, traces[SENDER].rows, real, list(payloads))
    other = _End(RECEIVER, receiver, traces[RECEIVER].rows, real)
    ends = one.follow(other.sent), other.follow(one.sent)
    difference, error = "", None
    try:
        before = -1
        while before < len(one.sent) + len(other.sent):  # which the other waited for
            before = len(one.sent) + len(other.sent)
            waiting = [next(end, None) for end in ends]
        for row in filter(None, waiting):
            raise _Different(f"{_in_words(row)}, which the other side has not sent")
    except _Different as why:
        difference = str(why)
    except Exception as why:  # of a machine, or of what reads its answers
        error = why
    rows = [*one.same, *other.same]
    packets = sum(row.what in _SENT for row in rows)
    deliveries = sum(row.what == DELIVER for row in rows)
    return Replay(packets, other.delivered[:deliveries], difference, error)


class _End:
    """One of the two, and how far in its rows it is.

    same: the rows that have come out again; sent: packets by their number.
    given_at: when the machine was last given something and not yet pulled [s].
    """

    def __init__(
        self,
        role: str,
        machine: Any,
        rows: Iterable[Row],
        real: bool,
        payloads: Sequence[bytes] = (),
    ) -> None:
        self.role, self.real, self.payloads = role, real, payloads
        self.delivered: list[bytes] = []
        self.sent: dict[int, Packet] = {}
        self.rows = [row for row in rows if row.host == role and row.what in _FOLLOWED]
        self.same: list[Row] = []
        self.trace = Trace()
        late = CATCH_UP if real else 0.0
        self.host = Host(machine, role, self.trace, self.delivered.append, late)
        self.given_at: float | None = None
        self.begun = False

    def follow(self, sent: Mapping[int, Packet]) -> Iterator[Row]:
        """Follow the rows; yield one as long as its packet is not yet `sent`."""
        if not self.real:
            self._begin(0.0)
        for row in self.rows:
            by_driver = row.kind and row.kind not in MACHINE_KINDS
            sends, arrives = row.what in _SENT, row.what in _ARRIVALS
            if not self.begun and self.role == SENDER and sends and not by_driver:
                self._begin(row.time)  # it did not wait for an answer to its offer
            given = by_driver or arrives or row.what == TIMEOUT
            at_once = given and row.time == self.given_at
            if self.given_at is not None and self._compared and not at_once:
                self._pull(self.given_at)
            if by_driver:  # drivers count their packets, too
                if row.what == SEND:
                    self.host.number = row.number + 1
                elif row.kind == Kind.ACCEPT and not self.begun:
                    self._begin(row.time)
                continue
            if self._compared:
                while arrives and row.number not in sent:
                    yield row
                if given:
                    self._give(row, sent)
                elif sends:
                    self._pull(row.time)  # a burst, or a pause, is over
            self._compare(row)

    @property
    def _compared(self) -> bool:
        """Whether all that the machine has done is compared."""
        return len(self.same) == len(self.trace.rows)

    def _begin(self, now: float) -> None:
        self.begun = True
        self.given_at = now
        if self.role == SENDER:
            self.host.send(*self.payloads)
            self.host.machine.finish()

    def _give(self, row: Row, sent: Mapping[int, Packet]) -> None:
        self.given_at = row.time
        if row.what == TIMEOUT:
            self.host.fire(row.time)
        elif row.what == CORRUPT:
            self.host.damage(sent[row.number], row.time, row.number)
        else:
            self.host.feed(sent[row.number], row.time, row.what, row.number)

    def _pull(self, now: float) -> None:
        self.given_at = None
        for packet in islice(self.host.pull(now), BURST if self.real else None):
            wired = decode(encode(packet))[0] if self.real else packet
            self.sent[self.host.number - 1] = wired

    def _compare(self, row: Row) -> None:
        did = None if self._compared else self.trace.rows[len(self.same)]
        if did != row:
            instead = "did nothing" if did is None else _in_words(did)
            raise _Different(f"{_in_words(row)}, but a fresh machine: {instead}")
        self.same.append(row)


def _in_words(row: Row) -> str:
    event = "had a timeout"
    if row.what == DELIVER:
        event = f"delivered payload {row.seq}"
    elif row.what != TIMEOUT:
        verb = "sent" if row.what in _SENT else "was given"
        event = f"{verb} {Kind(row.kind).name} {row.seq}"
    return f"at t={row.time:.3f} s the {row.host} {event}"
