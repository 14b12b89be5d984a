"""A path's rate, with nobody else on it: a long transfer leaves no link idle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2plab.core.link import GilbertElliott, Link
from p2plab.core.packet import ACK, Packet
from p2plab.core.trace import DELIVER
from p2plab.fast.rate_control import MAX_PROBES, RateController
from p2plab.measure.experiments import mean_loss
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

PAYLOAD = bytes(1437)
COUNT = 5568  # 8 MB
FAST = Link(delay=0.01, rate=100e6, queue=167, seed=2)  # a queue as long as the path


SLOW = Link(delay=0.05, rate=20e6, queue=167, loss=0.02, seed=2)
BURSTS = replace(FAST, loss=GilbertElliott.from_mean(0.05, 8))


def used(link: Link, rate: float | None) -> float:
    """Return which share of the channel's bound 8 MB reach, the rate told or not."""
    setup = Setup("fast", window=8192, rate=rate)
    ends = setup.sender(), setup.receiver()
    run = simulate(*ends, [PAYLOAD] * COUNT, link)
    table = run.trace.table()
    end = table["time"][table["what"] == DELIVER].max()
    assert link.rate is not None
    wire = 8 * COUNT * (len(PAYLOAD) + 28) / link.rate / (1 - mean_loss(link))
    return float((link.delay + wire) / end)


@pytest.mark.parametrize(
    ("link", "least"),
    [
        (FAST, 0.97),
        (replace(FAST, loss=0.01), 0.97),
        (replace(FAST, loss=0.05), 0.96),
        (SLOW, 0.97),
    ],
    ids=["clean", "1 % loss", "5 % loss", "slow"],
)
def test_a_long_transfer_that_has_to_find_the_rate_leaves_the_link_hardly_ever_idle(
    link: Link, least: float
) -> None:
    assert used(link, None) > least


@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_whoever_is_told_the_rate_does_not_take_losses_for_a_crowd(loss: float) -> None:
    assert used(replace(FAST, loss=loss), FAST.rate) > 0.94


@pytest.mark.parametrize("seed", [4, 6])  # the worst of seven
@pytest.mark.parametrize("rate", [None, FAST.rate], ids=["found", "told"])
def test_a_burst_that_takes_all_acks_costs_a_moment_and_not_half_a_minute(
    rate: float | None, seed: int
) -> None:
    assert used(replace(BURSTS, seed=seed), rate) > 0.7


def learned() -> tuple[RateController, float]:
    """Return a path of 1,000 packets/s and 0.1 s, and when it has been learned."""
    path = RateController(8e6)
    path.measure(bytes(944))  # 8,000 bits with its headers
    now, order = 0.1, 0
    while path.startup:
        answer(path, order, 0.1, now)
        order, now = order + 1, now + 0.001
    return path, now


def answer(path: RateController, order: int, rtt: float, now: float) -> None:
    path.on_ack(order, 1, Packet(ACK, 0, b"", now, now - rtt), now)


def test_a_draining_lasts_until_something_has_met_the_emptier_queue() -> None:
    path, now = learned()
    while not path.draining:
        answer(path, 0, 0.1 if path.rtt == 0 else 0.16, now)
        now += 0.001
    full, left, began = path.window, path.draining, now
    assert path.size == int(left) < full
    while path.draining:
        answer(path, 0, 0.16, now)
        now += 0.001
    emptied = (full - left) / path.delivery_rate  # [s]
    assert now - began == pytest.approx(emptied + 0.16, abs=0.005)


@pytest.mark.parametrize(("shorter", "least"), [(0.04, 0.1), (0.0, 0.16)])
def test_an_rtt_that_no_draining_shortens_is_the_paths_own(
    shorter: float, least: float
) -> None:
    path, now = learned()
    drainings = 0
    while drainings < MAX_PROBES:
        assert path.min_rtt == pytest.approx(0.1)
        drains = bool(path.draining)
        answer(path, 0, 0.16 - drains * shorter, now)
        drainings += drains and not path.draining
        now += 0.003
    assert path.min_rtt == pytest.approx(least)
