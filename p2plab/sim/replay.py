"""A run once more, from its trace: fresh machines are told the same as the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

_TOLD: Final = (ARRIVE, DUPLICATE, CORRUPT, TIMEOUT)
_SENT: Final = (SEND, RETRANSMIT)
_KNOWN: Final = (*_TOLD, *_SENT, DELIVER)  # others are about packets that nobody got


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
    """Tell two fresh machines what two others were told, and compare all that they do.

    A trace has no contents: they are taken from what the fresh machines send, so both
    ends must be known. Every row must come out again, at its time and in its place.

    payloads: what the sender was given. traces: by role, what each end has seen; of a
        simulated run one for both.
    real: over sockets, where stamps are rounded, many packets come at once, and an
        offer goes before.
    """
    one = _Side(SENDER, sender, traces[SENDER].rows, real, list(payloads))
    other = _Side(RECEIVER, receiver, traces[RECEIVER].rows, real)
    difference, error = "", None
    try:
        while one.follow(other.sent) or other.follow(one.sent):
            pass
        for each in (one, other):
            each.require_end()
    except _Different as why:
        difference = str(why)
    except Exception as why:  # of a machine, or of what reads its answers
        error = why
    rows = [*one.same, *other.same]
    packets = sum(row.what in _SENT for row in rows)
    deliveries = sum(row.what == DELIVER for row in rows)
    return Replay(packets, other.delivered[:deliveries], difference, error)


class _Side:
    """One of the two, and how far in its rows it is.

    same: the rows that have come out again; sent: packets by their number.
    told_at: when the machine was last told something and not yet pulled [s].
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
        self.rows = [row for row in rows if row.host == role and row.what in _KNOWN]
        self.same: list[Row] = []
        self.next = 0
        self.trace = Trace()
        late = CATCH_UP if real else 0.0
        self.host = Host(machine, role, self.trace, self.delivered.append, late)
        self.told_at: float | None = None
        self.begun = False

    def follow(self, sent: Mapping[int, Packet]) -> bool:
        """Follow the rows until one needs a packet that is not yet `sent`.

        Returns whether there was something to do.
        """
        if not self.real and not self.begun:
            self._begin(0.0)
        first = self.next
        while self.next < len(self.rows) and self._follow(self.rows[self.next], sent):
            self.next += 1
        return self.next > first

    def require_end(self) -> None:
        """Raise _Different unless every row was followed."""
        if self.next < len(self.rows):
            row = self.rows[self.next]
            raise _Different(f"{_said(row)}, which the other side has not sent")

    @property
    def _ready(self) -> bool:
        """Whether all that the machine has done is compared."""
        return len(self.same) == len(self.trace.rows)

    def _follow(self, row: Row, sent: Mapping[int, Packet]) -> bool:
        of_driver = row.kind and row.kind not in MACHINE_KINDS
        sends = row.what in _SENT
        if not self.begun and self.role == SENDER and sends and not of_driver:
            self._begin(row.time)  # it did not wait for an answer to its offer
        told = of_driver or row.what in _TOLD
        at_once = told and row.time == self.told_at
        if self.told_at is not None and self._ready and not at_once:
            self._pull(self.told_at)
        if of_driver:  # drivers count their packets, too
            if row.what == SEND:
                self.host.number = row.number + 1
            elif row.kind == Kind.ACCEPT and not self.begun:
                self._begin(row.time)
            return True
        if self._ready:
            if row.what in (ARRIVE, DUPLICATE, CORRUPT) and row.number not in sent:
                return False
            if told:
                self._tell(row, sent)
            elif sends:
                self._pull(row.time)  # a burst, or a pause, is over
        self._compare(row)
        return True

    def _tell(self, row: Row, sent: Mapping[int, Packet]) -> None:
        self.told_at = row.time
        if row.what == TIMEOUT:
            self.host.fire(row.time)
        elif row.what == CORRUPT:
            self.host.damage(sent[row.number], row.time, row.number)
        else:
            self.host.feed(sent[row.number], row.time, row.what, row.number)

    def _compare(self, row: Row) -> None:
        did = None if self._ready else self.trace.rows[len(self.same)]
        if did != row:
            instead = "did nothing" if did is None else _said(did)
            raise _Different(f"{_said(row)}, but a fresh machine: {instead}")
        self.same.append(row)

    def _pull(self, now: float) -> None:
        self.told_at = None
        for packet in islice(self.host.pull(now), BURST if self.real else None):
            wired = decode(encode(packet))[0] if self.real else packet
            self.sent[self.host.number - 1] = wired

    def _begin(self, now: float) -> None:
        self.begun = True
        self.told_at = now
        if self.role == SENDER:
            self.host.send(*self.payloads)
            self.host.machine.finish()


def _said(row: Row) -> str:
    """Say what a row says."""
    said = "had a timeout"
    if row.what == DELIVER:
        said = f"delivered payload {row.seq}"
    elif row.what != TIMEOUT:
        verb = "sent" if row.what in _SENT else "was given"
        said = f"{verb} {Kind(row.kind).name} {row.seq}"
    return f"at t={row.time:.3f} s the {row.host} {said}"
