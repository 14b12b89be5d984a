"""What the network does to a packet: loss, delay, queueing, copies, damage."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from random import Random
from typing import Final, Protocol

from p2plab.core.validation import number

# What can become of a packet, in the words of the trace.
ARRIVE: Final = "arrive"
LOSS: Final = "loss"
OVERFLOW: Final = "overflow"  # the queue was full
CORRUPT: Final = "corrupt"  # arrives damaged
DUPLICATE: Final = "duplicate"  # arrives once more

Fate = tuple[float, str]  # when [s], and what
LOST: Final = frozenset((LOSS, OVERFLOW))
Packets = Collection[int]  # by their numbers


class Channel(Protocol):
    """One direction of a link while it is in use."""

    def transmit(self, size: int, now: float) -> list[Fate]:
        """Say what becomes of a packet of `size` bytes sent at `now`: one fate or two.

        A loss or overflow has the time `now`; all else has the time of its arrival.
        """


class AnyLink(Protocol):
    """Both directions, before use: Link, ScriptedLink, or your own."""

    def forward(self) -> Channel:
        """A fresh channel from sender to receiver."""

    def backward(self) -> Channel:
        """A fresh channel from receiver to sender."""


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss in bursts: a chain that moves between a good state and a bad one.

    p: probability to go from good to bad at a packet, in (0, 1].
    r: probability to go back, in (0, 1]; a bad spell lasts 1/r packets on average.
    loss_bad, loss_good: probability that a packet is lost in that state.
    Source: Gilbert (1960) and Elliott (1963); the parameters are those of netem's
    `gemodel p r 1-h 1-k`, with 1-h as loss_bad and 1-k as loss_good.
    """

    p: float
    r: float
    loss_bad: float = 1.0
    loss_good: float = 0.0

    def __post_init__(self) -> None:
        number("p", self.p, 0.1, "(0, 1]")
        number("r", self.r, 0.1, "(0, 1]")
        number("loss_bad", self.loss_bad, 0.1, "[0, 1]")
        number("loss_good", self.loss_good, 0.1, "[0, 1)")
        if self.loss_bad == 1 and self.r < 1e-4:
            raise ValueError(f"r = {self.r} hardly ever leaves the bad state")

    @classmethod
    def from_mean(cls, loss: float, burst: float) -> GilbertElliott:
        """Return the chain with this mean loss in (0, 1) and mean burst >= 1 packets.

        In the long run p / (p + r) of the packets meet the bad state.
        """
        number("loss", loss, 0.1, "(0, 1)")
        number("burst", burst, 4, "[1, inf)", " packets")
        r = 1 / burst
        p = r * loss / (1 - loss)
        if p > 1:
            raise ValueError(f"a mean loss of {loss} needs bursts longer than {burst}")
        return cls(p, r)


@dataclass(frozen=True, slots=True)
class Link:
    """A link with chance in it; the same seed makes the same network.

    delay: propagation delay, one way, >= 0 [s].
    jitter: up to this much more delay, evenly; keeps the order of packets [s].
    loss: probability in [0, 1), or a GilbertElliott chain.
    rate: bit/s, or None for no limit; queue: packets that wait for the transmitter
        before the queue overflows (drop-tail), or None for no limit.
    duplicate, corrupt: probability that a packet arrives twice, or damaged.
    reorder: probability that a packet is held back by up to `reorder_delay` seconds, so
        that later ones overtake it.
    seed: any whole number; each direction has a generator of its own.
    Both directions are alike; for two that differ see `back` in `simulate`.
    Raises ValueError outside these ranges.
    """

    delay: float = 0.05
    jitter: float = 0.0
    loss: float | GilbertElliott = 0.0
    rate: float | None = None
    queue: int | None = None
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("delay", "jitter", "reorder_delay"):
            number(name, getattr(self, name), 0.05, "[0, 3600)", " s")
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            if not isinstance(value := getattr(self, name), GilbertElliott):
                number(name, value, 0.1, "[0, 1)")  # at 1 nothing would get through
        if self.rate is not None:
            number("rate", self.rate, 1_000_000, "(0, inf)", " bit/s")
        if self.queue is not None:
            number("queue", self.queue, 20, "[0, inf)", " packets", whole=True)

    def forward(self) -> Channel:
        return RandomChannel(self, Random(f"{self.seed} forward"))

    def backward(self) -> Channel:
        return RandomChannel(self, Random(f"{self.seed} backward"))

    def lossless(self) -> Link:
        """The same link, harming nothing: the way back when ACKs are safe."""
        return replace(
            self, loss=0.0, corrupt=0.0, duplicate=0.0, reorder=0.0, queue=None
        )


@dataclass(slots=True)
class RandomChannel:
    """One direction of a Link in use."""

    link: Link
    rng: Random
    bad: bool = False  # the state of the Gilbert-Elliott chain
    last_arrival: float = 0.0  # of a packet that kept its order [s]
    leaving: deque[float] = field(default_factory=deque)  # when what is queued leaves

    def transmit(self, size: int, now: float) -> list[Fate]:
        # Always the same draws, so that turning one knob does not reshuffle what the
        # others do: with more loss, the same packets are lost, and some more.
        random, link = self.rng.random, self.link
        u_state, u_loss, u_corrupt = random(), random(), random()
        u_duplicate, u_reorder, u_jitter = random(), random(), random()
        loss = link.loss
        if isinstance(loss, GilbertElliott):
            loss = self._loss_in_state(loss, u_state)
        arrival = now + link.delay
        if link.rate is not None:
            leaving = self.leaving  # the first of them is being sent
            while leaving and leaving[0] <= now:
                leaving.popleft()
            if link.queue is not None and len(leaving) > link.queue:
                return [(now, OVERFLOW)]
            leaving.append((leaving[-1] if leaving else now) + 8 * size / link.rate)
            arrival = leaving[-1] + link.delay
        if u_loss < loss:
            return [(now, LOSS)]
        arrival += link.jitter * u_jitter
        if u_reorder < link.reorder:
            arrival += link.reorder_delay * (u_reorder / link.reorder)
        else:
            arrival = self.last_arrival = max(arrival, self.last_arrival)
        fates = [(arrival, CORRUPT if u_corrupt < link.corrupt else ARRIVE)]
        if u_duplicate < link.duplicate:
            fates.append((arrival, DUPLICATE))
        return fates

    def _loss_in_state(self, chain: GilbertElliott, u_state: float) -> float:
        if u_state < (chain.r if self.bad else chain.p):
            self.bad = not self.bad
        return chain.loss_bad if self.bad else chain.loss_good


@dataclass(frozen=True, slots=True)
class ScriptedLink:
    """A link and what somebody does to single packets on it, counting from 1.

    lose, corrupt, duplicate: the packets from sender to receiver that are harmed.
    late: how much later than without it a packet arrives {packet: seconds}.
    lose_back, corrupt_back, duplicate_back, late_back: likewise, on the way back.
    delay: of all other packets, one way [s].
    link: what else happens to the packets; without one, only the delay.
    """

    lose: Packets = ()
    corrupt: Packets = ()
    duplicate: Packets = ()
    late: Mapping[int, float] = field(default_factory=dict)
    lose_back: Packets = ()
    corrupt_back: Packets = ()
    duplicate_back: Packets = ()
    late_back: Mapping[int, float] = field(default_factory=dict)
    delay: float = 0.05
    link: AnyLink | None = None

    def __post_init__(self) -> None:
        for name in ("lose", "corrupt", "duplicate", "late"):
            _packets(name, getattr(self, name))
            _packets(f"{name}_back", getattr(self, f"{name}_back"))
        for time in (self.delay, *self.late.values(), *self.late_back.values()):
            number("delay", time, 0.05, "[0, inf)", " s")

    def forward(self) -> Channel:
        other = (self.link or Link(delay=self.delay)).forward()
        return ScriptedChannel(
            other, self.lose, self.corrupt, self.duplicate, self.late
        )

    def backward(self) -> Channel:
        other = (self.link or Link(delay=self.delay)).backward()
        return ScriptedChannel(
            other,
            self.lose_back,
            self.corrupt_back,
            self.duplicate_back,
            self.late_back,
        )


def _packets(name: str, which: Collection[int]) -> None:
    timed = name.startswith("late")
    wanted, form = (Mapping, "{3: 0.5}") if timed else (Collection, "{3, 5}")
    if not (isinstance(which, wanted) and all(isinstance(n, Integral) for n in which)):
        raise ValueError(
            f"{name} names packets by whole numbers, got {which!r}: write {name}={form}"
        )
    if min(which, default=1) < 1:
        raise ValueError("packets are counted from 1: there is none before")


@dataclass(slots=True)
class ScriptedChannel:
    """One direction of a ScriptedLink in use."""

    other: Channel
    lose: Packets
    corrupt: Packets
    duplicate: Packets
    late: Mapping[int, float]
    count: int = 0  # packets so far

    def transmit(self, size: int, now: float) -> list[Fate]:
        self.count += 1
        fates = self.other.transmit(size, now)  # so that it makes its choices as ever
        if self.count in self.lose:
            return [(now, LOSS)]
        later = self.late.get(self.count, 0.0)
        fates = [(when if what in LOST else when + later, what) for when, what in fates]
        if self.count in self.corrupt:
            fates = [
                (when, CORRUPT if what == ARRIVE else what) for when, what in fates
            ]
        arrivals = [when for when, what in fates if what not in LOST]
        if self.count in self.duplicate and arrivals:
            fates.append((arrivals[0], DUPLICATE))
        return fates
