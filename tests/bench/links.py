"""A picture over eight links, in virtual time: how near it comes to what they allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Final

from figures import Figure

from p2plab import Link, Setup, simulate
from p2plab.core.link import GilbertElliott
from p2plab.core.packet import DATA
from p2plab.core.trace import DELIVER, RETRANSMIT, SEND
from p2plab.measure.experiments import mean_loss

SIZE: Final = 786_432  # bytes: 512 x 512 RGB
PAYLOAD: Final = 1_433  # bytes, so that a packet fills an Ethernet frame
SEEDS: Final = 5
FAST: Final = Link(delay=0.01, rate=100e6, queue=167)  # a queue as long as the path
LINKS: Final = {
    "clean": FAST,
    "1 % loss": replace(FAST, loss=0.01),
    "5 % loss": replace(FAST, loss=0.05),
    "10 % loss": replace(FAST, loss=0.1),
    "20 % loss": replace(FAST, loss=0.2),
    "slow, 2 % loss": Link(delay=0.05, rate=20e6, queue=167, loss=0.02),
    "5 % in bursts of 8": replace(FAST, loss=GilbertElliott.from_mean(0.05, 8)),
    "5 % held back": replace(FAST, jitter=0.005, reorder=0.05, reorder_delay=0.005),
}


def race(setup: Setup, link: Link) -> tuple[float, float]:
    """Return the share of the channel's bound, and payload for each byte sent."""
    count = -(-SIZE // PAYLOAD)
    shares, thrifts = [], []
    for seed in range(SEEDS):
        ends = setup.sender(), setup.receiver()
        sent_over = replace(link, seed=seed)
        table = simulate(*ends, [bytes(PAYLOAD)] * count, sent_over).trace.table()
        last = table["time"][table["what"] == DELIVER].max()
        sent = (table["what"] == SEND) | (table["what"] == RETRANSMIT)
        ours = table[sent & (table["kind"] == DATA)]
        assert link.rate is not None
        wire = 8 * count * (PAYLOAD + 28) / link.rate / (1 - mean_loss(link))
        shares.append((link.delay + wire) / last)
        thrifts.append(count * PAYLOAD / (ours["size"] + 28).sum())
    return median(shares), median(thrifts)


def links() -> Iterator[Figure]:
    """Fast, with the rate told and found, beside selective repeat with a fitted window.

    The bound is an erasure channel's capacity and the delay of one way. IP's and UDP's
    headers are left out on both sides.
    """
    for name, link in LINKS.items():
        textbook, _ = race(Setup("selective_repeat", window=167), link)
        for what, rate in (("told", link.rate), ("found", None)):
            share, thrift = race(Setup("fast", rate=rate), link)
            value = f"{share:.3f}, {thrift:.2f} per byte"
            beside = f"selective repeat: {textbook:.3f}"
            yield Figure(f"{name}, rate {what}", value, beside, share / textbook)
