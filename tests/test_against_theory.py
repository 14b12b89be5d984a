"""Simulated runs against closed forms, only where the formula holds.

A packet of 125 bytes takes 1 s on this link, and 5 s to get across: a = 5, and a round
trip is K = 11 packets. The way back has no rate, so that an ACK takes no time to send.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise

import pytest

from p2plab.core.endpoint import FixedWindow, Receiver, Sender
from p2plab.core.link import GilbertElliott, Link
from p2plab.core.packet import HEADER_SIZE
from p2plab.core.rtt import FixedRto
from p2plab.core.trace import SENDER
from p2plab.measure import theory
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender
from p2plab.sim.simulator import Run, simulate

PACKET = 125  # [bytes]
RATE = 1000.0  # [bit/s]: a packet takes 1 s
DELAY = 5.0  # [s]
A = theory.delay_ratio(DELAY, PACKET, RATE)
K = 1 + 2 * A


def run(
    sender: Sender,
    receiver: Receiver,
    count: int,
    loss: float | GilbertElliott = 0.0,
    ack_loss: float = 0.0,
    seed: int = 1,
) -> Run:
    link = Link(delay=DELAY, rate=RATE, loss=loss, seed=seed)
    back = Link(delay=DELAY, loss=ack_loss, seed=seed)
    payloads = [bytes(PACKET - HEADER_SIZE)] * count
    result = simulate(sender, receiver, payloads, link, back=back, patience=1e5)
    assert len(result.delivered) == count
    return result


def sent(result: Run) -> int:
    return sum(
        row.host == SENDER and row.what in ("send", "retransmit")
        for row in result.trace
    )


# Stop-and-wait


@pytest.mark.parametrize(
    "ack_time", [0.0, theory.transmission_delay(HEADER_SIZE, RATE)]
)
@pytest.mark.parametrize("delay", [0.0, 0.25, 1.0, 5.0, 50.0])
def test_stop_and_wait_without_loss_is_exact(delay: float, ack_time: float) -> None:
    link, payloads = Link(delay=delay, rate=RATE), [bytes(PACKET - HEADER_SIZE)] * 64
    back = link if ack_time else Link(delay=delay)
    sender = StopAndWaitSender(FixedRto(1000.0))
    result = simulate(sender, StopAndWaitReceiver(), payloads, link, back=back)
    a = theory.delay_ratio(delay + ack_time / 2, PACKET, RATE)
    assert 64 / result.time == pytest.approx(theory.utilisation_stop_and_wait(a))


@pytest.mark.parametrize("timeout", [K, 2 * K])
@pytest.mark.parametrize(("loss", "ack_loss"), [(0.01, 0.0), (0.05, 0.0), (0.05, 0.05)])
def test_stop_and_wait_with_loss_is_within_one_per_cent(
    timeout: float, loss: float, ack_loss: float
) -> None:
    sender = StopAndWaitSender(FixedRto(timeout))
    result = run(sender, StopAndWaitReceiver(), 6000, loss, ack_loss)
    wanted = theory.utilisation_stop_and_wait(A, loss, ack_loss, timeout)
    assert 6000 / result.time == pytest.approx(wanted, rel=0.01)
    wanted = theory.transmissions_per_packet(loss, ack_loss)
    assert sent(result) / 6000 == pytest.approx(wanted, rel=0.01)


# Go-back-N


@dataclass(slots=True)
class OneRoundTrip:
    """A timeout as the formula has it: one round trip after the oldest was sent.

    The book's timer starts anew with each ACK, which notices a loss up to one round
    trip later; so this one is told what is in flight, and takes that time off.
    """

    round_trip: float
    sent_at: dict[int, float] = field(default_factory=dict)
    oldest: int = 0
    now: float = 0.0

    @property
    def rto(self) -> float:
        return self.sent_at.get(self.oldest, self.now) + self.round_trip - self.now

    def on_send(self, seq: int, now: float) -> None:
        self.sent_at[seq] = self.now = now

    def on_ack(self, seq: int, now: float, ts_ecr: float | None = None) -> None:
        self.oldest, self.now = seq + 1, now

    def on_timeout(self) -> None: ...


PACE = RATE / 8 / PACKET  # [packets/s]; then nothing waits in the link's queue


@dataclass(slots=True)
class PacedGoBackN(GoBackNSender):
    pacing_rate: float | None = PACE


@pytest.mark.parametrize(
    ("loss", "window"), [(0.01, 20), (0.05, 20), (0.1, 20), (0.05, 5)]
)
def test_go_back_n_that_notices_a_loss_after_one_round_trip_is_within_six_per_cent(
    loss: float, window: int
) -> None:
    sender = PacedGoBackN(OneRoundTrip(K), FixedWindow(window))
    result = run(sender, GoBackNReceiver(), 8000, loss)
    wanted = theory.utilisation_go_back_n(A, window, loss)
    assert 8000 / result.time == pytest.approx(wanted, rel=0.06)


# Selective repeat


@pytest.mark.parametrize(("loss", "ack_loss"), [(0.01, 0.0), (0.05, 0.0), (0.1, 0.05)])
def test_selective_repeat_s_transmissions_per_packet(
    loss: float, ack_loss: float
) -> None:
    sender = SelectiveRepeatSender(FixedRto(3 * K), FixedWindow(20))
    result = run(sender, SelectiveRepeatReceiver(20), 8000, loss, ack_loss)
    wanted = theory.transmissions_per_packet(loss, ack_loss)
    assert sent(result) / 8000 == pytest.approx(wanted, rel=0.01)


@dataclass(slots=True)
class PacedSelectiveRepeat(SelectiveRepeatSender):
    pacing_rate: float | None = PACE


def test_selective_repeat_with_a_wide_window_loses_only_what_is_lost() -> None:
    window = 20 * int(K)
    sender = PacedSelectiveRepeat(FixedRto(1.5 * K), FixedWindow(window))
    result = run(sender, SelectiveRepeatReceiver(window), 8000, 0.05)
    wanted = theory.utilisation_selective_repeat(A, window, 0.05)
    assert 8000 / result.time == pytest.approx(wanted, rel=0.02)


# Without loss


@pytest.mark.parametrize("window", [1, 5, 10, 11, 12, 20])
def test_pipelining_without_loss_is_exact(window: int) -> None:
    ends: list[tuple[Sender, Receiver]] = [
        (GoBackNSender(FixedRto(1e3), FixedWindow(window)), GoBackNReceiver()),
        (
            SelectiveRepeatSender(FixedRto(1e3), FixedWindow(window)),
            SelectiveRepeatReceiver(window),
        ),
    ]
    for sender, receiver in ends:
        result = run(sender, receiver, 20 * window + 1)
        arrived = [row.time for row in result.trace if row.what == "deliver"]
        rate = 20 * window / (arrived[-1] - arrived[0])
        assert rate == pytest.approx(theory.utilisation_go_back_n(A, window))


# The link alone


@pytest.mark.parametrize(
    "chain",
    [
        GilbertElliott.from_mean(0.1, 4),
        GilbertElliott(0.05, 0.3, loss_bad=0.8, loss_good=0.01),
    ],
    ids=repr,
)
def test_gilbert_and_elliott_lose_what_their_formulas_say(
    chain: GilbertElliott,
) -> None:
    gone = []
    for seed in range(8):
        channel = Link(loss=chain, seed=seed).forward()
        gone += [channel.transmit(1, 0.0)[0][1] == "loss" for _ in range(10_000)]
    mean = theory.mean_loss_gilbert_elliott(**asdict(chain))
    assert sum(gone) / len(gone) == pytest.approx(mean, rel=0.03)
    bursts = sum(lost and not before for before, lost in pairwise([False, *gone]))
    if chain.loss_bad == 1:
        assert sum(gone) / bursts == pytest.approx(1 / chain.r, rel=0.05)
