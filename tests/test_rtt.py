"""Retransmission timeouts, against numbers worked by hand (RFC 6298)."""

from __future__ import annotations

import pytest

from p2plab.core.rtt import FixedRto, Rfc6298

SAMPLES = (0.100, 0.120, 0.090, 0.300, 0.100)  # [s]


def feed(rtt: Rfc6298, *samples: float) -> list[float]:
    """Send and acknowledge a packet for each round trip; return the RTOs [ms]."""
    rtos = []
    for seq, sample in enumerate(samples):
        rtt.on_send(seq, now=10.0 * seq)
        rtt.on_ack(seq, now=10.0 * seq + sample)
        rtos.append(1e3 * rtt.rto)
    return rtos


def test_the_rto_follows_the_sequence_that_was_worked_by_hand() -> None:
    rtt = Rfc6298(min_rto=0.0, granularity=0.0)
    # RTTVAR is updated before SRTT (RFC 6298, 2.3)
    wanted = [300, 272.5, 240.9375, 429.88, 376.46]
    assert feed(rtt, *SAMPLES) == pytest.approx(wanted, abs=0.01)
    assert rtt.srtt == pytest.approx(0.12259, abs=1e-5)
    assert rtt.rttvar == pytest.approx(0.06347, abs=1e-5)
    assert feed(Rfc6298(min_rto=1.0), *SAMPLES) == [1000.0] * 5  # RFC 6298 (2.4)
    assert feed(Rfc6298(max_rto=60.0), 59.0) == [60_000.0]  # RFC 6298 (2.5)


def test_each_timeout_doubles_the_rto_until_the_first_sample_ends_it() -> None:
    rtt, rtos = Rfc6298(min_rto=0.0), []
    for _ in range(8):
        rtos.append(rtt.rto)
        rtt.on_timeout()
    assert rtos == [1, 2, 4, 8, 16, 32, 60, 60]  # RFC 6298 (2.1, 5.5)
    feed(rtt, 0.25)
    assert (rtt.srtt, rtt.rttvar, rtt.rto) == (0.25, 0.125, 0.75)  # RFC 6298 (2.2)
    assert rtt.sent_at == {}  # it remembers only what is in flight


def test_steady_round_trips_leave_the_clock_s_granularity_above_srtt() -> None:
    rtt = Rfc6298(min_rto=0.0, granularity=0.25)
    feed(rtt, *[0.5] * 60)
    assert rtt.rto == pytest.approx(0.75)


def test_a_packet_sent_twice_is_not_timed() -> None:
    rtt = Rfc6298()
    rtt.on_send(0, 0.0)
    rtt.on_timeout()
    rtt.on_send(0, 1.0)
    rtt.on_ack(0, 1.1)  # of the first copy, or of the second?
    rtt.on_ack(5, 3.0)  # of one that was never sent
    assert rtt == Rfc6298(rto=2.0)  # and the back-off stays: Karn, RFC 6298 (3)


@pytest.mark.parametrize(("timestamps", "srtt"), [(True, 0.25), (False, None)])
def test_a_timestamp_tells_which_copy_was_answered_if_it_is_believed(
    timestamps: bool, srtt: float | None
) -> None:
    rtt = Rfc6298(min_rto=0.0, timestamps=timestamps)
    rtt.on_send(0, 0.0)
    rtt.on_send(0, 1.0)
    rtt.on_ack(0, 1.25, ts_ecr=1.0)  # RFC 7323, section 4
    assert rtt.srtt == srtt
    rtt.on_send(1, 2.0)
    rtt.on_ack(1, 2.25)  # an ACK without an echo: Karn's rule
    assert rtt.srtt == 0.25


def test_a_fixed_timeout_stays() -> None:
    rtt = FixedRto(0.5)
    rtt.on_send(0, 0.0)
    rtt.on_timeout()
    rtt.on_ack(0, 7.0, ts_ecr=1.0)
    assert rtt.rto == 0.5


@pytest.mark.parametrize(
    "wrong", [{"rto": 0.0}, {"rto": float("nan")}, {"min_rto": 2.0, "max_rto": 1.0}]
)
def test_an_impossible_timeout_is_refused_by_its_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be in"):
        Rfc6298(**wrong)  # type: ignore[arg-type]  # all are numbers
    if "rto" in wrong:
        with pytest.raises(ValueError, match=r"^rto must be in"):
            FixedRto(**wrong)
