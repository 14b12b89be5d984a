"""How many packets may be in flight, and how quickly they may follow each other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Final

from p2plab.packet import HEADER_SIZE, Packet

IP_UDP: Final = 28  # bytes of the headers of IPv4 and UDP
FIRST: Final = 64  # packets at once while nothing is known
TRAIN: Final = 12  # packets that tell a rate, if their arrival took
SPAN: Final = 0.001  # at least [s]
POINTS: Final = 12  # ACKs that are looked at for that
QUEUE: Final = 3.0  # see PathRate
SLACK: Final = 1.1  # windows that may be in flight, as ACKs come late or are lost
TOLD_SLACK: Final = 2.0  # the same where the pace alone would be enough
DRAIN_EVERY: Final = 12  # round trips with a queue (one without counts a quarter)
DRAIN: Final = 0.6  # of what the path itself holds, for one round trip
PACE: Final = 1.1  # of a window in a round trip, so that the window can be used


@dataclass(slots=True)
class FixedWindow:
    """The same window for ever: no congestion control.

    size: packets that may be in flight, >= 1.
    """

    size: int = 16

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a window holds at least 1 packet, got {self.size}")

    def on_ack(self, seq: int, now: float) -> None: ...

    def on_loss(self, in_flight: int, now: float) -> None: ...

    def on_timeout(self, in_flight: int, now: float) -> None: ...


@dataclass(slots=True)
class PathRate:
    """Learns how much a path carries, and how much of it is ours.

    It starts with a train of packets: how quickly these arrive, by the receiver's
    clock, is the rate of the narrowest link (Jain and Dovrolis, "End-to-End Available
    Bandwidth", 2003). From then on it keeps a few packets waiting in that link's
    queue, and no more: once in a round trip the window moves half-way to
    window * least RTT / RTT + QUEUE * sqrt(window), after FAST TCP (Wei et al., 2006).
    Now and then it lets the queue run empty, so that those who came later, too, learn
    the least RTT. Loss alone never slows it down; a growing queue does.

    rate: told by the user, who knows the link: a ceiling, and where to start [bit/s].
    polite: give way when a queue grows. Otherwise it goes on at the rate that it was
        told, or keeps the queue full at the rate that it has found at the beginning,
        whoever else is there.
    """

    rate: float | None = None
    polite: bool = True
    bits: int = 8 * (HEADER_SIZE + IP_UDP)  # of the largest packet
    size: int = FIRST  # packets that may be in flight, at least 1
    pacing_rate: float | None = None  # [packets/s]; None is as fast as it goes
    window: float = FIRST
    seen: float | None = None  # the path's rate [packets/s]
    least_rtt: float = inf  # [s]
    starting: bool = True  # until the path's rate is known
    rtt: float = 0.0  # of the last round trip, its least [s]
    round_rtt: float = inf  # the least in this one [s]
    round_ends: float = 0.0
    undrained: float = 0.0  # round trips with a queue since the last draining
    draining: bool = False
    used: int = 0  # most packets in flight in this round trip
    points: deque[tuple[float, float, int]] = field(
        default_factory=lambda: deque(maxlen=POINTS), repr=False
    )

    def __post_init__(self) -> None:
        self._decide()

    def measure(self, payload: bytes) -> None:
        """Hear of a payload that will have to be sent."""
        bits = 8 * (len(payload) + HEADER_SIZE + IP_UDP)
        if bits > self.bits:
            self.bits = bits
            self._decide()

    def _decide(self) -> None:
        """Say how much may be in flight, and how quickly it may follow each other."""
        told = None if self.rate is None else self.rate / self.bits
        if told is not None and (not self.polite or self.least_rtt == inf):
            self.size, self.pacing_rate = 1 << 30, told
            return
        slack = SLACK if told is None else TOLD_SLACK
        self.size = max(1, int(slack * self.window))
        if self.draining:
            self.size = max(1, int(DRAIN * self.window * self.least_rtt / self.rtt))
        if self.starting and not self.seen:
            self.pacing_rate = told
        else:
            pace = PACE * self.window / (self.rtt or self.least_rtt)
            self.pacing_rate = pace if told is None else min(pace, told)

    def on_ack(
        self, order: int, acked: int, in_flight: int, ack: Packet, now: float
    ) -> None:
        """Hear of an ACK.

        order: of the last packet that it is about, among all that were sent.
        acked: packets that it is the first to tell of; in_flight: what is left.
        """
        if ack.echo is None or ack.stamp is None:
            return
        rtt = max(now - ack.echo, 1e-6)
        self.least_rtt = min(self.least_rtt, rtt)
        self.round_rtt = min(self.round_rtt, rtt)
        self.used = max(self.used, in_flight + acked)
        if self.starting:
            used = 0 if self.rate is None else self.used
            if not self.seen:
                self.window = max(self.window, used) + acked  # doubles in a round trip
            self._see(order, ack.stamp, ack.echo)
        if now >= self.round_ends:
            self._end_round(now)
        self._decide()

    def _see(self, order: int, arrived_at: float, sent_at: float) -> None:
        """Look how quickly packets arrive that were sent more quickly than that."""
        self.points.append((arrived_at, sent_at, order))
        for began, first_sent_at, first in self.points:
            span, count = arrived_at - began, order - first
            if count >= TRAIN and 0.75 * span > max(SPAN, sent_at - first_sent_at):
                self.seen = count / span
                self.window = max(FIRST, 1.2 * self.seen * self.least_rtt)
                break  # the longest train tells most

    def _end_round(self, now: float) -> None:
        if self.round_ends:
            emptiness = self.least_rtt / self.round_rtt
            if self.seen or emptiness < 0.75:
                self.starting = False
            self.undrained += 0.25 if emptiness > 0.9 else 1.0
            self.draining = self.polite and self.undrained >= DRAIN_EVERY
            if self.draining:
                self.undrained = 0.0
            elif not self.starting:
                self.points.clear()
                aim = self.window * emptiness + QUEUE * sqrt(self.window)
                self.window = min((self.window + aim) / 2, 2.0 * self.used + FIRST)
                if not self.polite and self.seen:
                    self.window = max(self.window, 2 * self.seen * self.least_rtt)
            self.rtt = self.round_rtt
        self.round_ends = now + self.least_rtt
        self.round_rtt, self.used = inf, 0
