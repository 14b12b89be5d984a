"""A run once more, from its trace: fresh machines are told the same as the first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
class Rerun:
    """What came of it.

    packets: how many were sent as the trace has them, before the first difference.
    delivered: payloads, until then. difference: in words, empty if there is none.
    """

    packets: int
    delivered: list[bytes] = field(repr=False)
    difference: str = ""


class _Different(Exception):
    """A fresh machine did not do what the trace says."""


def rerun(
    sender: Any,
    receiver: Any,
    payloads: Iterable[bytes],
    traces: Mapping[str, Trace],
    *,
    real: bool,
    errors: Collection[str] = (),
) -> Rerun:
    """Tell two fresh machines what two others were told, and compare all that they do.

    A trace has no contents: they are taken from what the fresh machines send, so both
    ends must be known. Every row must come out again, at its time and in its place.

    payloads: what the sender was given. traces: by role, what each end has seen; of a
        simulated run one for both.
    real: over sockets, where stamps are rounded, many packets come at once, and an
        offer goes before. errors: what ended it.
    """
    sides = [
        _Side(role, machine, list(traces[role].rows), real)
        for role, machine in ((SENDER, sender), (RECEIVER, receiver))
    ]
    one, other = sides
    one.payloads = list(payloads)
    difference = ""
    try:
        while one.go_on(other.sent) or other.go_on(one.sent):
            pass
        for each in sides:
            each.require_end()
    except _Different as why:
        difference = str(why)
    except Exception as why:  # of a machine, or of what reads its answers
        difference = "" if str(why) in errors else f"a fresh machine ended it: {why}"
    packets = sum(row[2] in _SENT for each in sides for row in each.same)
    deliveries = sum(row[2] == DELIVER for row in other.same)
    return Rerun(packets, other.delivered[:deliveries], difference)


class _Side:
    """One of the two, and how far in its rows it is.

    same: the rows that have come out again; sent: packets by their number.
    told_at: when the machine was last told something and not yet pulled [s].
    """

    def __init__(
        self, role: str, machine: Any, rows: Sequence[Row], real: bool
    ) -> None:
        self.role, self.real = role, real
        self.payloads: list[bytes] = []
        self.delivered: list[bytes] = []
        self.sent: dict[int, Packet] = {}
        self.rows = [row for row in rows if row[1] == role and row[2] in _KNOWN]
        self.next = 0
        self.same: list[Row] = []
        self.trace = Trace()
        take, late = self.delivered.append, CATCH_UP if real else 0.0
        self.host = Host(machine, role, self.trace, take, late)
        self.told_at: float | None = None
        self.begun = False

    def go_on(self, sent: Mapping[int, Packet]) -> bool:
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

    def _follow(self, row: Row, sent: Mapping[int, Packet]) -> bool:
        time, _, what, kind, _, _, number = row
        foreign = kind and kind not in MACHINE_KINDS
        if not self.begun and self.role == SENDER and what in _SENT and not foreign:
            self._begin(time)  # it did not wait for an answer to its offer
        told = foreign or what in _TOLD
        told_at, batch = self.told_at, told and time == self.told_at
        if told_at is not None and self._ready() and not batch:
            self._pull(told_at)
        if foreign:
            self._hear_driver(row)
            return True
        if self._ready():
            if what == TIMEOUT:
                self.host.fire(time)
                self.told_at = time
            elif what in _TOLD:
                if number not in sent:
                    return False
                self._tell(sent[number], row)
            elif what in _SENT:
                self._pull(time)  # a burst, or a pause, is over
        self._compare(row)
        return True

    def _ready(self) -> bool:
        """Whether all that the machine has done is compared."""
        return len(self.same) == len(self.trace.rows)

    def _compare(self, row: Row) -> None:
        did = "did nothing" if self._ready() else _said(self.trace.rows[len(self.same)])
        if self._ready() or self.trace.rows[len(self.same)] != row:
            raise _Different(f"{_said(row)}, but a fresh machine: {did}")
        self.same.append(row)

    def _tell(self, packet: Packet, row: Row) -> None:
        time, _, what, _, _, _, number = row
        if what == CORRUPT:
            self.host.damage(packet, time, number)
        else:
            self.host.feed(packet, time, what, number)
        self.told_at = time

    def _pull(self, now: float) -> None:
        self.told_at = None
        for packet in islice(self.host.pull(now), BURST if self.real else None):
            wired = decode(encode(packet))[0] if self.real else packet
            self.sent[self.host.number - 1] = wired

    def _hear_driver(self, row: Row) -> None:
        """Follow what drivers say to each other: they count their packets, too."""
        time, _, what, kind, _, _, number = row
        if what == SEND:
            self.host.number = number + 1
        elif kind == Kind.ACCEPT and not self.begun:
            self._begin(time)

    def _begin(self, now: float) -> None:
        self.begun = True
        self.told_at = now
        if self.role == SENDER:
            self.host.expect_payloads(len(self.payloads))
            self.host.send(*self.payloads)
            self.host.machine.finish()


def _said(row: Row) -> str:
    """Say what a row says."""
    time, host, what, kind, seq, _, _ = row
    said = "had a timeout"
    if what == DELIVER:
        said = f"delivered payload {seq}"
    elif what != TIMEOUT:
        verb = "sent" if what in _SENT else "was given"
        said = f"{verb} {Kind(kind).name} {seq}"
    return f"at t={time:.3f} s the {host} {said}"
