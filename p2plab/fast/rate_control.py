"""How many packets may be in flight, and how quickly they may follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

from p2plab.core.packet import HEADER_SIZE, Packet

IP_UDP: Final = 28  # bytes of the headers of IPv4 and UDP
FIRST: Final = 80  # packets at once while nothing is known, or
FIRST_OF_MANY: Final = 150  # if at least so many wait: a slow link's queue of two
MANY: Final = 1000  # seconds is little beside the twelve that these take it
TRAIN: Final = 12  # of these that tell a rate, if their arrival took
SPAN: Final = 0.001  # at least [s]
GRAIN: Final = 0.002  # computers answer in batches: an RTT is no less [s]
FEW: Final = 32  # packets that a path is taken to hold at least
FIT: Final = 1.3  # of what the path holds, to begin with
GROWTH: Final = 1.25  # of the rate in a round trip; with less, the start is over
ROUND: Final = 4.0  # least RTTs: the least RTT of one alone may be chance, and
HASTE: Final = 1.5  # in a crowd
QUEUE: Final = 3.0  # see PathRate
SLACK: Final = 1.1  # windows that may be in flight, as ACKs come late or are lost
PACE: Final = 1.1  # of a window in a least RTT: an empty queue is soon as it was
MOST: Final = 1.3  # of what arrives in a round trip that a window may be
DRAIN: Final = 0.9  # of what the path itself holds, while the queue runs empty, and
DRAINED: Final = 16  # packets at least: if all were lost, only the timer could help
CROWDED: Final = 3  # rounds from one such draining to the next, if we get less than
CROWD: Final = 0.8  # of the path's rate; otherwise
ALONE: Final = 12  # rounds
STILL: Final = 4  # drainings in a row that do not shorten the RTT: no queue is in it


@dataclass(slots=True)
class PathRate:
    """Learns how much a path carries, and how much of it is ours.

    It starts with a train of packets: how quickly these arrive, by the receiver's
    clock, is the rate of the narrowest link (Jain and Dovrolis, "End-to-End Available
    Bandwidth", 2003). From then on it keeps a few packets waiting in that link's
    queue, and no more: once in a round the window becomes
    window * least RTT / RTT + QUEUE * sqrt(what the path holds), after FAST TCP (Wei
    et al., 2006). All flows keep as many waiting, so all get the same.

    A round tells of the packets sent in it, and of no others: those from before were
    sent with another window. It ends when one that was sent late enough is here.

    Only, who comes later takes the others' queue for a part of the path. So everybody
    lets the queue run empty now and then, the deeper the less it gets, at once when it
    finds itself in a crowd, and all learn the least RTT (BBR's ProbeRTT is for this,
    too). It lasts until a packet that has met the emptier queue is here. If that again
    and again changes nothing, the path itself has become longer, by another route or a
    queue that somebody else keeps full. A growing queue slows it down; losses do only
    where they leave less than 1 / MOST of a window.

    rate: told by the user, who knows the link: a ceiling, and where to start [bit/s].
    polite: give way when a queue grows. Otherwise it goes on at the rate that it was
        told, or keeps the queue full at the rate that it has found at the beginning,
        whoever else is there: a TCP beside it gets next to nothing.
    """

    rate: float | None = None
    polite: bool = True
    largest: int = 0  # bytes of a payload
    size: int = FIRST  # packets that may be in flight, at least 1
    pacing_rate: float | None = None  # [packets/s]; None is as fast as it goes
    window: float = FIRST
    seen: float = 0.0  # the path's rate; 0 while that is not known [packets/s]
    ours: float = 0.0  # what arrives, smoothed over rounds [packets/s]
    kept: float = 1.0  # share of what is sent that arrives, smoothed
    least_rtt: float = inf  # [s]
    rtt: float = 0.0  # of the last round, its least [s]
    round_rtt: float = inf  # the least in this one [s]
    round_began: float = 0.0  # what was sent from then on tells of the round [s]
    round_ends: float = 0.0  # when something sent from then on has arrived [s]
    heard_at: float = 0.0  # when the first of the round was acknowledged; 0 before [s]
    first: int = 0  # which one of all that were sent that was
    came: int = 0  # packets that have arrived since
    passed: int = 0  # with those that were lost
    starting: bool = True  # until the path's rate is known
    # Of the train: what has arrived after its first ACK, when that came, and was sent.
    train: tuple[int, float, float] | tuple[()] = ()
    rounds: int = ALONE - CROWDED  # since the queue has run empty
    draining: float = 0.0  # packets that may be in flight while it does
    known_rtt: float = inf  # the least RTT before that [s]
    still: int = 0  # drainings in a row that have left the RTT as it was
    still_rtt: float = inf  # the least in them [s]

    def __post_init__(self) -> None:
        self._decide()

    def expect_payloads(self, count: int) -> None:
        """Hear how many payloads will have to be sent, before the first one is."""
        self.window = FIRST_OF_MANY if count >= MANY else FIRST
        self._decide()

    def measure(self, payload: bytes) -> None:
        """Hear of a payload that will have to be sent."""
        if len(payload) > self.largest:
            self.largest = len(payload)
            self._decide()

    @property
    def _told(self) -> float | None:
        """The rate that we were told [packets/s]."""
        bits = 8 * (self.largest + HEADER_SIZE + IP_UDP)
        return None if self.rate is None else self.rate / bits

    def _decide(self) -> None:
        """Say how much may be in flight, and how quickly it may follow each other."""
        told = self._told
        if told is not None and (not self.polite or self.least_rtt == inf):
            self.size, self.pacing_rate = 1 << 30, told
            return
        self.size = max(1, int(self.draining or SLACK * self.window))
        if not self.seen:
            self.pacing_rate = told
        else:
            pace = PACE * self.window / self.least_rtt
            self.pacing_rate = pace if told is None else min(pace, told)

    def on_ack(self, order: int, acked: int, ack: Packet, now: float) -> None:
        """Hear of an ACK.

        order: of the last packet that it is about, among all that were sent.
        acked: packets that it is the first to tell of.
        """
        if ack.ts_ecr is None or ack.ts_val is None:
            return
        rtt = max(now - ack.ts_ecr, GRAIN)
        self.least_rtt = min(self.least_rtt, rtt)
        if ack.ts_ecr >= self.round_began:
            self.round_rtt = min(self.round_rtt, rtt)
            if self.heard_at:
                self.came += acked
                self.passed = max(self.passed, order - self.first)
            else:
                self.heard_at, self.first = now, order
        if self.starting:
            self.seen = self._told or self._tell(order, acked, ack.ts_val, ack.ts_ecr)
            if self.seen:
                self._fit()
            else:
                self.window += acked  # doubles in a round trip
        if ack.ts_ecr >= self.round_ends:
            self._end_round(now)
        self._decide()

    def _tell(self, order: int, acked: int, arrived_at: float, sent_at: float) -> float:
        """Tell how quickly the first packets arrive, sent more quickly than that."""
        if not self.train:
            self.train = -acked, arrived_at, sent_at
        count, first_arrived_at, first_sent_at = self.train
        self.train = count + acked, first_arrived_at, first_sent_at
        span = arrived_at - first_arrived_at
        slowed = 0.75 * span > max(SPAN, sent_at - first_sent_at)
        if order <= FIRST and count + acked >= TRAIN and slowed:
            return (count + acked) / span
        return self.seen

    def _fit(self) -> None:
        """Begin with more than the path holds: some may be lost, or delayed."""
        self.window = max(FEW, FIT * self.seen * self.least_rtt)

    def _end_round(self, now: float) -> None:
        waits = 0.0
        if self.draining:
            self._follow_detour()
            self.draining = 0.0
            waits = self.least_rtt  # until the queue is as it was
            if self.least_rtt < 0.95 * self.known_rtt:  # it had somebody's queue in it
                self.rounds = ALONE - CROWDED
        elif self.round_ends and now > self.heard_at:
            self.rtt = self.round_rtt
            rate = self.came / (now - self.heard_at)
            if self.starting:
                self._end_start(rate)
            else:
                self._adjust(rate)
                self._drain()
        self.round_rtt, self.came, self.passed = inf, 0, 0
        if self.starting:  # a round trip, and all that arrives in it
            self.round_ends = self.heard_at = now
        else:
            self.round_began, self.heard_at = now + waits, 0.0
            self.round_ends = self.round_began + self._lasts()

    def _follow_detour(self) -> None:
        """Forget the least RTT, if the longer one is not a queue's."""
        fall = (self.window - self.draining) / self.seen  # if all of these had waited
        longer = self.round_rtt > 1.1 * self.least_rtt
        if not longer or abs(self.rtt - self.round_rtt) > fall / 2:
            self.still, self.still_rtt = 0, inf
            return
        self.still += 1
        self.still_rtt = min(self.still_rtt, self.round_rtt)
        if self.still == STILL:
            self.least_rtt, self.still, self.still_rtt = self.still_rtt, 0, inf

    def _lasts(self) -> float:
        """How long what is sent tells of the round, or of the draining [s]."""
        if self.draining:
            return max(0.0, self.window - self.draining) / self.ours
        return (HASTE if self._share < CROWD else ROUND) * self.least_rtt

    def _end_start(self, rate: float) -> None:
        """Take the best rate for the path's, if twice the window brought no more."""
        slower, self.ours = rate < GROWTH * self.ours, max(rate, self.ours)
        if not self.seen and (slower or self.least_rtt < 0.75 * self.rtt):
            self.seen = self.ours
            self._fit()
        if self.seen:
            self.starting, self.ours = False, 0.0

    @property
    def _share(self) -> float:
        """How much of the path is ours; a loss is no sign of anybody else."""
        return min(1.0, self.ours / self.kept / self.seen) if self.ours else 1.0

    def _adjust(self, rate: float) -> None:
        self.ours = (self.ours + rate) / 2 if self.ours else rate
        self.kept = (self.kept + self.came / max(self.came, self.passed, 1)) / 2
        self.seen = max(self.seen, self.ours)
        some = QUEUE * sqrt(self.seen * self.least_rtt)
        aim = self.window * self.least_rtt / self.rtt
        self.window = min(aim, MOST * rate * self.rtt) + some
        if not self.polite:
            self.window = max(self.window, 2 * self.seen * self.least_rtt)

    def _drain(self) -> None:
        self.rounds += 1
        share = self._share
        alone = share > 0.9 and self.rtt < 1.1 * self.least_rtt  # nothing to drain
        due = self.rounds >= (CROWDED if share < CROWD else ALONE)
        if self.polite and due and not alone:
            self.draining = max(DRAINED, DRAIN * share * self.ours * self.least_rtt)
            self.rounds = 0
            self.known_rtt = self.least_rtt
