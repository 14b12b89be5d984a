"""How many packets may be in flight, and how quickly they may follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

from p2plab.core.packet import HEADER_SIZE, Packet

IP_UDP: Final = 28  # bytes of the headers of IPv4 and UDP
INITIAL_WINDOW: Final = 80  # packets at once, while nothing is known
MIN_WINDOW: Final = 16  # packets: if all of fewer were lost, only a timer would help
TRAIN: Final = 12  # packets at least whose arrivals tell a rate
MIN_SPAN: Final = 0.001  # that these take at least [s]
MIN_RTT: Final = 0.002  # computers answer in batches: no RTT is shorter [s]
STARTUP_GROWTH: Final = 1.25  # of the rate in a round; with less, the startup is over
WINDOW_GAIN: Final = 1.3  # of what arrives in a round trip; some may be lost or late
PACING_GAIN: Final = 1.1  # of a window in a min_rtt: what got lost leaves no gap
QUEUE_GAIN: Final = 3.0  # see RateController
DRAIN_GAIN: Final = 0.9  # of what the path itself holds, while the queue runs empty
# While we get less than this share of the bottleneck's rate, others are there:
CROWDED: Final = 0.8
# (min_rtts in a round, rounds from one probe of the RTT to the next), alone and then.
ALONE_PACE: Final = 4.0, 12
CROWDED_PACE: Final = 1.5, 3
MAX_PROBES: Final = 4  # in a row that find no shorter RTT: there is no queue in it


@dataclass(slots=True)
class RateController:
    """Learns how much a path carries, and how much of it is ours.

    Startup: the first packets leave as a train. How quickly these arrive, by the
    receiver's clock, is the bottleneck's rate (Jain and Dovrolis, "End-to-End Available
    Bandwidth", 2003). If that tells nothing, the window doubles in every round trip
    until the delivery rate grows no more (BBR, draft-cardwell-iccrg-bbr, 4.3.1).

    From then on a few packets wait in the bottleneck's queue, and no more: once in a
    round the window becomes window * min_rtt / rtt + QUEUE_GAIN * sqrt(what the path
    holds), after FAST TCP (Wei et al., 2006). All flows keep as many waiting, so all
    get the same. A round tells of the packets that were sent in it, and of no others:
    it ends when one that was sent late enough has arrived.

    Who comes later takes the others' queue for a part of the path. So everybody lets
    the queue run empty now and then, the deeper the less it gets, and all learn the
    min_rtt (BBR's ProbeRTT). Such a draining lasts until a packet that has met the
    emptier queue is here. If it changes nothing, MAX_PROBES times in a row, the path
    itself has become longer. Losses slow it down only where they leave less than
    1 / WINDOW_GAIN of a window.

    rate: configured by a user who knows the link: a ceiling, and where to start
        [bit/s].
    polite: give way when a queue grows. Otherwise it goes on at the configured rate, or
        keeps the queue full at the bottleneck's rate, whoever else is there: a TCP
        beside it gets next to nothing.
    """

    rate: float | None = None
    polite: bool = True
    largest: int = 0  # bytes of a payload
    size: int = INITIAL_WINDOW  # packets that may be in flight, at least 1
    pacing_rate: float | None = None  # [packets/s]; None is as fast as it goes
    window: float = INITIAL_WINDOW  # of which size has some more
    startup: bool = True
    train: tuple[int, float, float] | tuple[()] = ()  # arrived; first times
    bottleneck_rate: float = 0.0  # 0 while it is not known [packets/s]
    delivery_rate: float = 0.0  # what arrives, smoothed over rounds [packets/s]
    delivery_ratio: float = 1.0  # share of what is sent that arrives, smoothed
    min_rtt: float = inf  # [s]
    rtt: float = 0.0  # the least of the last round [s]
    round_rtt: float = inf  # the least of this round [s]
    round_began: float = 0.0  # what was sent from then on tells of the round [s]
    round_ends: float = 0.0  # when something sent from then on has arrived [s]
    heard_at: float = 0.0  # first ACK of the round; 0 before [s]
    first: int = 0  # which one of all that were sent that was about
    delivered: int = 0  # packets that have arrived since
    passed: int = 0  # with those that were lost
    rounds: int = ALONE_PACE[1] - CROWDED_PACE[1]  # since the last probe
    draining: float = 0.0  # packets that may be in flight while the queue runs empty
    probes: int = 0  # in a row that have found no shorter RTT
    probed_rtt: float = inf  # the least in these [s]

    def __post_init__(self) -> None:
        self._decide()

    def measure(self, payload: bytes) -> None:
        """Hear of a payload that will have to be sent."""
        if len(payload) > self.largest:
            self.largest = len(payload)
            self._decide()

    @property
    def configured_rate(self) -> float | None:
        """The rate that the user has given [packets/s]."""
        bits = 8 * (self.largest + HEADER_SIZE + IP_UDP)
        return None if self.rate is None else self.rate / bits

    def _decide(self) -> None:
        """Say how much may be in flight, and how quickly it may follow each other."""
        configured = self.configured_rate
        if configured is not None and (not self.polite or self.min_rtt == inf):
            self.size, self.pacing_rate = 1 << 30, configured
            return
        self.size = max(1, int(self.draining or PACING_GAIN * self.window))
        self.pacing_rate = configured
        if self.bottleneck_rate:
            pacing_rate = PACING_GAIN * self.window / self.min_rtt
            self.pacing_rate = min(pacing_rate, configured or inf)

    def on_ack(self, order: int, acked: int, ack: Packet, now: float) -> None:
        """Hear of an ACK.

        order: of the last packet that it is about, among all that were sent.
        acked: packets that it is the first to tell of.
        """
        if ack.ts_ecr is None or ack.ts_val is None:
            return
        rtt = max(now - ack.ts_ecr, MIN_RTT)
        self.min_rtt = min(self.min_rtt, rtt)
        if ack.ts_ecr >= self.round_began:
            self.round_rtt = min(self.round_rtt, rtt)
            if self.heard_at:
                self.delivered += acked
                self.passed = max(self.passed, order - self.first)
            else:
                self.heard_at, self.first = now, order
        if self.startup:
            self.window += acked  # doubles in a round trip
            self._follow_train(order, acked, ack.ts_val, ack.ts_ecr)
        if ack.ts_ecr >= self.round_ends:
            self._end_round(now)
        self._decide()

    def _follow_train(self, order: int, acked: int, came: float, sent: float) -> None:
        """See how quickly the first packets arrive that were sent more quickly."""
        count, first_came, first_sent = self.train or (-acked, came, sent)
        self.train = count + acked, first_came, first_sent
        took, rate = came - first_came, self.configured_rate or self.bottleneck_rate
        slowed_down = 0.75 * took > max(MIN_SPAN, sent - first_sent)
        whole = order <= INITIAL_WINDOW and count + acked >= TRAIN
        if whole and slowed_down and not self.configured_rate:
            rate = (count + acked) / took
        if rate:
            self._know_bottleneck(rate)

    def _know_bottleneck(self, rate: float) -> None:
        self.bottleneck_rate = rate
        self.window = max(MIN_WINDOW, WINDOW_GAIN * rate * self.min_rtt)

    def _end_round(self, now: float) -> None:
        rests = 0.0
        if self.draining:
            self._end_probe()
            rests = self.min_rtt  # until the queue is as it was
        elif self.round_ends and now > self.heard_at:
            self.rtt = self.round_rtt
            rate = self.delivered / (now - self.heard_at)
            if self.startup:
                self._end_startup(rate)
            else:
                self._adjust(rate)
        self.round_rtt, self.delivered, self.passed = inf, 0, 0
        if self.startup:  # a round trip, and all that arrives in it
            self.round_ends = self.heard_at = now
        else:
            self.round_began, self.heard_at = now + rests, 0.0
            self.round_ends = self.round_began + self._round_length()

    def _end_startup(self, rate: float) -> None:
        """Take the best rate for the path's, if twice the window brought no more."""
        grows = rate >= STARTUP_GROWTH * self.delivery_rate
        self.delivery_rate = max(rate, self.delivery_rate)
        if not self.bottleneck_rate and not grows:
            self._know_bottleneck(self.delivery_rate)
        if self.bottleneck_rate:
            self.startup, self.delivery_rate = False, 0.0

    def _adjust(self, rate: float) -> None:
        """Set the window after a round, and see whether the queue shall run empty."""
        self.delivery_rate = (
            (self.delivery_rate + rate) / 2 if self.delivery_rate else rate
        )
        ratio = self.delivered / max(self.delivered, self.passed, 1)
        self.delivery_ratio = (self.delivery_ratio + ratio) / 2
        self.bottleneck_rate = max(self.bottleneck_rate, self.delivery_rate)
        window = self.window * self.min_rtt / self.rtt
        queue = QUEUE_GAIN * sqrt(self.bottleneck_rate * self.min_rtt)
        self.window = min(window, WINDOW_GAIN * rate * self.rtt) + queue
        if not self.polite:
            self.window = max(self.window, 2 * self.bottleneck_rate * self.min_rtt)
        self.rounds += 1
        if self.polite and self.rounds >= self._pace[1]:
            drained = DRAIN_GAIN * self._share * self.delivery_rate * self.min_rtt
            self.draining, self.rounds = max(MIN_WINDOW, drained), 0

    @property
    def _share(self) -> float:
        """How much of the bottleneck is ours; a loss is no sign of anybody else."""
        if not self.delivery_rate:
            return 1.0
        sent = self.delivery_rate / self.delivery_ratio
        return min(1.0, sent / self.bottleneck_rate)

    @property
    def _pace(self) -> tuple[float, int]:
        return CROWDED_PACE if self._share < CROWDED else ALONE_PACE

    def _round_length(self) -> float:
        """How long what is sent tells of the round, or of the draining [s]."""
        if self.draining:
            return max(0.0, self.window - self.draining) / self.delivery_rate
        return self._pace[0] * self.min_rtt

    def _end_probe(self) -> None:
        """Forget the min_rtt, if what is above it is again and again no queue's."""
        fall = (self.window - self.draining) / self.bottleneck_rate  # if all had waited
        found = self.round_rtt <= 1.1 * self.min_rtt
        self.draining = 0.0
        if found or abs(self.rtt - self.round_rtt) > fall / 2:
            self.probes, self.probed_rtt = 0, inf
            return
        self.probes += 1
        self.probed_rtt = min(self.probed_rtt, self.round_rtt)
        if self.probes == MAX_PROBES:
            self.min_rtt, self.probes, self.probed_rtt = self.probed_rtt, 0, inf
