"""The wire of a trial: constant delay, and the faults on the schedule."""

from __future__ import annotations

import heapq
from typing import Final

from p2plab.checker.network import (
    BLACKOUT,
    DAMAGE,
    DELAY,
    DOUBLE,
    LATE,
    LATE_COPY,
    LOSE,
)
from p2plab.checker.trial import QuickHost, Run, Sent
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS
from p2plab.core.packet import MAX_PAYLOAD, Packet
from p2plab.core.trace import Row
from p2plab.errors import BrokenContract, Promise

HEAL_TIME: Final = 600.0  # virtual time for recovery after the last fault [s]
HEAL_PACKETS: Final = 2_000  # packets for recovery after the last fault,
HEAL_EACH: Final = 100  # and so many more for each payload

# when, tie-break, at which host, what, packet, number
Arrival = tuple[float, int, int, str, Packet, int]


class Wire:
    """Carries the packets of a run, and notes there what was sent and harmed.

    arrivals: a heap of what is on its way; left: packets until it is too much.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.faults = {(fault.way, fault.number): fault for fault in run.trial.faults}
        self.arrivals: list[Arrival] = []
        self.dark_until = -1.0
        self.patience = HEAL_PACKETS + HEAL_EACH * run.trial.application.size
        self.left = self.patience
        self.order = 0

    @property
    def give_up_at(self) -> float:
        """Until when recovery may take [s].

        A timer that was doubled at each loss fires after as long again as the losses
        took.
        """
        return HEAL_TIME + 3 * self.run.healed_at

    def heal(self, at: float) -> None:
        """Count from `at` on how long recovery takes, and how many packets."""
        self.run.healed_at = max(self.run.healed_at, at)
        self.left = self.patience

    def carry(self, host: QuickHost, way: int, packet: Packet, now: float) -> None:
        """Send what a host has put on the wire; `way` is the host's place."""
        require_sound(packet)
        number = host.number - 1
        self.run.sent.append(Sent(now, way, number, packet))
        self.left -= 1
        fault = self.faults.get((way, number))
        kind, extra = ARRIVE, 0.0
        if fault is not None:
            kind, extra = fault.kind, fault.extra
            self.run.hits.append(fault)
            self.heal(now + extra)
        if kind == BLACKOUT:
            self.dark_until = max(self.dark_until, now + extra)
        dark = now < self.dark_until and way < 2
        if dark:
            self.left = self.patience  # it has not healed yet
        if kind != ARRIVE or dark:
            self.run.harmed += 1
        if kind in (LOSE, BLACKOUT) or dark:
            _note_loss(host, packet, number, now)
            return
        when = now + DELAY
        what = CORRUPT if kind == DAMAGE else ARRIVE
        self._fly(when + extra if kind == LATE else when, way, what, packet, number)
        if kind in (DOUBLE, LATE_COPY):
            self._fly(when + extra, way, DUPLICATE, packet, number)

    def _fly(
        self, when: float, way: int, what: str, packet: Packet, number: int
    ) -> None:
        self.order += 1
        arrival = (when, self.order, way ^ 1, what, packet, number)
        heapq.heappush(self.arrivals, arrival)


def require_sound(packet: Packet) -> None:
    """Raise BrokenContract unless a packet fits the header of real datagrams."""
    _, seq, payload, ts_val, ts_ecr = packet
    said = "next_packet returned a packet whose"
    if type(payload) is not bytes or len(payload) > MAX_PAYLOAD:
        raise _unsound(
            f"{said} payload is {payload!r:.60}. A payload is `bytes`, at most "
            f"{MAX_PAYLOAD} of them"
        )
    if not isinstance(seq, int) or not -(2**31) <= seq < 2**31:
        raise _unsound(f"{said} seq is {seq!r:.60}. A seq is a whole number of 32 bits")
    for time in (ts_val, ts_ecr):
        if time is not None and not isinstance(time, int | float):
            raise _unsound(
                f"{said} ts_val or ts_ecr is {time!r:.60}: a time in seconds, or None"
            )


def _unsound(what: str) -> BrokenContract:
    return BrokenContract(Promise.PACKETS, "", "next_packet", what)


def _note_loss(host: QuickHost, packet: Packet, number: int, now: float) -> None:
    if host.trace is not None:
        kind, seq, payload, _, _ = packet
        row = Row(now, host.role, LOSS, +kind, seq, len(payload), number)
        host.trace.rows.append(row)
