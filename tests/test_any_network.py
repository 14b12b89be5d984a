"""Any network: what a reliable protocol promises holds whatever the link does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from few_bits import receiving, sending
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.core.endpoint import RttEstimator
from p2plab.core.link import (
    LOSS,
    AnyLink,
    Channel,
    Fate,
    GilbertElliott,
    Link,
    ScriptedLink,
)
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.errors import P2PLabError
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.setup import PROTOCOLS, Setup, built
from p2plab.sim.simulator import simulate

WINDOW = 3
PAGES = ["stop_and_wait", "go_back_n", "selective_repeat"]
ENOUGH_BITS = {"stop_and_wait": 1, "go_back_n": 2, "selective_repeat": 3}


def machines(page: str, rtt: RttEstimator, bits: int | None = None) -> tuple[Any, Any]:
    """Both sides of a protocol, with a small window, without a finish."""
    setup, (sender, receiver) = Setup(page, WINDOW), PROTOCOLS[page]
    window = WINDOW if page == "selective_repeat" else 1
    sending_side = sending(built(sender, setup, rtt), bits)
    return sending_side, receiving(built(receiver, setup), bits, window)


@dataclass(frozen=True)
class BlackOut:
    """A link that loses everything between two moments, both ways, and then heals."""

    link: Any  # or one of its channels
    begin: float  # [s]
    end: float

    def forward(self) -> Channel:
        return BlackOut(self.link.forward(), self.begin, self.end)

    def backward(self) -> Channel:
        return BlackOut(self.link.backward(), self.begin, self.end)

    def transmit(self, size: int, now: float) -> list[Fate]:
        fates: list[Fate] = self.link.transmit(size, now)
        return [(now, LOSS)] if self.begin <= now < self.end else fates


def keeps_its_promises(
    ends: tuple[Any, Any], payloads: list[bytes], link: AnyLink, **options: Any
) -> bool:
    """Run it, and look at it all the time: at the end everything is delivered and done.

    False for a delivery that is out of order, twice or invented, for a transfer that
    stalls or breaks its contract, and for an end that is not silent.
    """
    sender, receiver = ends
    delivered: list[bytes] = []

    def deliver(payload: bytes) -> None:
        delivered.append(payload)
        if delivered != payloads[: len(delivered)]:
            raise P2PLabError("not what was sent")

    about: dict[str, Any] = {
        "on_payload": deliver,
        "record": False,
        "patience": 20_000.0,
    }
    try:
        run = simulate(sender, receiver, payloads, link, **about, **options)
    except P2PLabError:
        return False
    silent = sender.deadline is None and receiver.deadline is None
    return run.done and delivered == payloads and silent


# Links

SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.4])
IN_ORDER = st.builds(
    Link,
    delay=st.sampled_from([0.0, 0.05, 0.2]),
    jitter=st.sampled_from([0.0, 0.01, 0.3]),
    loss=st.one_of(SHARES, st.just(GilbertElliott.from_mean(0.3, 3))),
    rate=st.sampled_from([None, 2e4, 1e6]),
    queue=st.sampled_from([None, 0, 1, 4]),
    duplicate=SHARES,
    corrupt=SHARES,
    seed=st.integers(0, 10_000),
)
ANY = st.builds(
    lambda link, reorder, reorder_delay: replace(
        link, reorder=reorder, reorder_delay=reorder_delay
    ),
    IN_ORDER,
    SHARES,
    st.sampled_from([0.02, 0.5, 2.0]),
)
# Few enough that "everything is sent, and something not acknowledged" is common.
PAYLOADS = st.lists(st.binary(max_size=3), max_size=8)
TIMERS: st.SearchStrategy[Callable[[], RttEstimator]] = st.sampled_from(
    [
        lambda: FixedRto(0.25),
        lambda: FixedRto(1.0),
        lambda: Rfc6298(timestamps=True),
        lambda: Rfc6298(max_rto=5.0),
    ]
)
BLACK_OUTS = st.tuples(
    st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]), st.sampled_from([0.3, 2.0])
)
several = settings(derandomize=True, deadline=None, database=None, max_examples=150)


@pytest.mark.parametrize("page", PAGES)
@several
@given(ANY, PAYLOADS, TIMERS, BLACK_OUTS)
def test_everything_arrives_in_order_also_when_a_link_goes_dark_and_heals(
    page: str,
    link: Link,
    payloads: list[bytes],
    timer: Callable[[], RttEstimator],
    dark: tuple[float, float],
) -> None:
    for each in (link, BlackOut(link, dark[0], sum(dark))):
        assert keeps_its_promises(machines(page, timer()), payloads, each)
    rtt = timer()
    sender, receiver = machines(page, rtt)
    ends = FinishSender(sender, rtt), FinishReceiver(receiver)
    assert keeps_its_promises(ends, payloads, link, wire=True)


@several
@given(ANY, PAYLOADS, BLACK_OUTS)
def test_fast_gets_everything_across_any_network_too(
    link: Link, payloads: list[bytes], dark: tuple[float, float]
) -> None:
    for each in (link, BlackOut(link, dark[0], sum(dark))):
        ends = machines("fast", Rfc6298(timestamps=True))
        assert keeps_its_promises(ends, payloads, each)


@pytest.mark.parametrize("page", PAGES)
@several
@given(IN_ORDER, PAYLOADS, TIMERS)
def test_few_bits_for_the_numbers_are_enough_while_the_order_is_kept(
    page: str, link: Link, payloads: list[bytes], timer: Callable[[], RttEstimator]
) -> None:
    ends = machines(page, timer(), ENOUGH_BITS[page])
    assert keeps_its_promises(ends, payloads, link)


def test_a_black_out_loses_what_is_sent_in_the_dark() -> None:
    link = BlackOut(ScriptedLink(delay=0.25), 1.0, 2.0)
    channel = link.forward()
    assert channel.transmit(1, 0.5) == [(0.75, "arrive")]
    assert channel.transmit(1, 1.0) == [(1.0, "loss")]
    assert channel.transmit(1, 2.0) == [(2.25, "arrive")]
