"""Several flows over one bottleneck, in virtual time: what each of them gets of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from typing import Any

import pytest

from p2plab.core.link import LOSS, OVERFLOW, Channel, Link
from p2plab.core.packet import DATA, Packet
from p2plab.core.rtt import Rfc6298
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.protocols import SelectiveRepeatReceiver, SelectiveRepeatSender, Setup
from p2plab.sim.driver import Host, wire_size

RATE = 20e6
LINK = Link(delay=0.025, rate=RATE, queue=83, seed=3)  # a queue as long as the path
LONG = Link(delay=0.05, rate=RATE, queue=167, seed=3)
LOSSY = replace(LONG, loss=0.02)
QUICK = Link(delay=0.01, rate=5 * RATE, queue=167, seed=3)
PAYLOAD = bytes(1400)
FULL = RATE / 8 / wire_size(Packet(DATA, 0, PAYLOAD))  # [packets/s]


class Flow:
    """A sender and a receiver, and how many payloads had arrived at which time."""

    def __init__(self, sender: Any, receiver: Any, starts_at: float) -> None:
        self.sender = getattr(sender, "sender", sender)  # inside a Finish…
        self.hosts = Host(sender, SENDER), Host(receiver, RECEIVER)
        self.arrived: list[float] = []
        self.starts_at = self.now = starts_at
        self.wakes = [0, 0]  # the number of the latest alarm of each host
        self.hosts[1].on_payload = lambda _: self.arrived.append(self.now)

    def share(self, since: float, until: float) -> float:
        """Of a link with RATE, in that time."""
        arrived = sum(since <= when < until for when in self.arrived)
        return arrived / (until - since) / FULL


@dataclass
class Detour:
    """A channel or a link whose packets take another route from some time on."""

    of: Any
    at: float
    extra: float  # [s]

    @property
    def rate(self) -> float:
        return float(self.of.rate)

    def forward(self) -> Detour:
        return replace(self, of=self.of.forward())

    def backward(self) -> Detour:
        return replace(self, of=self.of.backward())

    def lossless(self) -> Detour:
        return replace(self, of=self.of.lossless())

    def transmit(self, size: int, now: float) -> list[tuple[float, str]]:
        extra = self.extra if now >= self.at else 0.0
        return [(when + extra, what) for when, what in self.of.transmit(size, now)]


def run(flows: list[Flow], until: float, link: Link | Detour = LINK) -> None:
    """Let them send over one link, as much as they can."""
    channels: tuple[Channel | Detour, Channel | Detour] = (
        link.forward(),
        link.lossless().backward(),
    )
    assert link.rate is not None
    order = count()
    events: list[tuple[float, int, Flow, int, Packet | None, int]] = []

    def put(when: float, flow: Flow, way: int, packet: Packet | None, n: int) -> None:
        heappush(events, (when, next(order), flow, way, packet, n))

    for flow in flows:
        payloads = [PAYLOAD] * int(until * FULL * link.rate / RATE)
        flow.hosts[0].send(*payloads)
        put(flow.starts_at, flow, 0, None, 0)
    while events and events[0][0] < until:
        now, _, flow, way, packet, n = heappop(events)
        host, flow.now = flow.hosts[way], now
        if packet is not None:
            host.feed(packet, now, "arrive", n)
        elif n == flow.wakes[way]:  # otherwise it was put off
            host.fire(now)
        else:
            continue
        for sent in host.pull(now):
            for when, what in channels[way].transmit(wire_size(sent), now):
                if what not in (LOSS, OVERFLOW):
                    put(when, flow, 1 - way, sent, host.number - 1)
        if (wake_at := host.wake_at()) is not None:
            flow.wakes[way] += 1
            put(max(now, wake_at), flow, way, None, flow.wakes[way])


def fast(starts_at: float, **knobs: Any) -> Flow:
    setup = Setup("fast", window=4096, **knobs)
    return Flow(setup.sender(), setup.receiver(), starts_at)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("starts_at", [0.1, 1.0])
@pytest.mark.parametrize(
    "link", [LINK, LOSSY, LONG, QUICK], ids=["short", "lossy", "long", "quick"]
)
def test_two_share_from_the_start_of_the_later_on(
    link: Link, starts_at: float, told: bool
) -> None:
    rate = link.rate if told else None
    flows = [fast(0.0, rate=rate), fast(starts_at, rate=rate)]
    run(flows, starts_at + 3.5, link)
    first, second = (flow.share(starts_at, starts_at + 3.5) for flow in flows)
    assert 0.4 < second / (first + second) < 0.6
    assert link.rate is not None
    assert (first + second) * RATE / link.rate > 0.85


@pytest.mark.parametrize("rate", [None, RATE])
def test_alone_it_has_all_of_the_path_and_hardly_a_queue(rate: float | None) -> None:
    flow = fast(0.0, rate=rate)
    run([flow], 3.0)
    assert flow.share(0.3, 3.0) > 0.96
    assert flow.sender.path.rtt < 1.5 * 2 * LINK.delay


@pytest.mark.parametrize("loss", [0.0, 0.01])
@pytest.mark.parametrize("rate", [None, RATE], ids=["found", "told"])
def test_a_path_that_becomes_longer_costs_seconds_and_not_the_rest_of_the_transfer(
    rate: float | None, loss: float
) -> None:
    flow, near = fast(0.0, rate=rate), replace(LINK, delay=0.01, loss=loss)
    run([flow], 12.0, Detour(near, at=2.0, extra=0.05))
    assert flow.share(1.0, 2.0) > 0.95
    assert flow.share(10.0, 12.0) > 0.9


@dataclass(slots=True)
class Reno:
    """A window as TCP's was for thirty years: halved by a loss (RFC 5681)."""

    window: float = 10.0
    threshold: float = 1e9

    @property
    def size(self) -> int:
        return int(self.window)

    def on_ack(self, seq: int, now: float) -> None:
        self.window += 1 if self.window < self.threshold else 1 / self.window

    def on_loss(self, in_flight: int, now: float) -> None: ...

    def on_timeout(self, in_flight: int, now: float) -> None:
        self.window = self.threshold = max(2.0, self.window / 2)


@pytest.mark.parametrize("rate", [None, RATE])
@pytest.mark.parametrize("ours_starts_at", [0.0, 1.0])
def test_polite_it_leaves_a_window_that_halves_its_share_and_rude_it_does_not(
    rate: float | None, ours_starts_at: float
) -> None:
    for polite in (True, False):
        sender = SelectiveRepeatSender(Rfc6298(timestamps=True), Reno())
        rival = Flow(sender, SelectiveRepeatReceiver(4096), 1.0 - ours_starts_at)
        run([fast(ours_starts_at, rate=rate, polite=polite), rival], 7.0)
        share = rival.share(3.0, 7.0)
        assert (share > 0.25) == polite
