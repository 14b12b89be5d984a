"""The closed forms against numbers that were worked by hand or in textbooks."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from math import inf, nan

import pytest

from p2plab.measure import theory

# Kurose & Ross, section 3.4.2: 1 Gb/s, 15 ms one way, packets of 1,000 bytes
GIGABIT = 1e9  # bit/s
COAST_TO_COAST = theory.delay_ratio(0.015, packet_size=1000, rate=GIGABIT)


def test_stop_and_wait_from_coast_to_coast_uses_0_00027_of_the_link() -> None:
    utilisation = theory.utilisation_stop_and_wait(COAST_TO_COAST)
    assert round(utilisation, 5) == 0.00027
    assert utilisation * 1e9 == pytest.approx(267e3, rel=0.002)  # bits per second


def test_three_packets_in_flight_are_three_times_as_fast() -> None:
    utilisation = theory.utilisation_go_back_n(COAST_TO_COAST, window=3)
    assert utilisation == pytest.approx(0.00080, abs=5e-6)
    assert theory.utilisation_selective_repeat(COAST_TO_COAST, 3) == utilisation


def test_3751_packets_fill_the_pipe_from_coast_to_coast() -> None:
    assert theory.window_to_fill_pipe(COAST_TO_COAST) == 3751
    assert theory.utilisation_go_back_n(COAST_TO_COAST, 3751) == pytest.approx(1)
    assert theory.utilisation_go_back_n(COAST_TO_COAST, 3750) < 1


def test_overheads_leave_stop_and_wait_89_34_per_cent() -> None:
    utilisation = theory.utilisation_stop_and_wait_in_seconds(
        packet_time=theory.transmission_delay(2000, 1e6),
        delay=0.75e-3,
        ack_time=theory.transmission_delay(20, 1e6),
        processing=0.25e-3,
    )
    assert round(utilisation, 4) == 0.8934 or round(utilisation, 4) == 0.8933
    assert utilisation == pytest.approx(16 / 17.91)


@pytest.mark.parametrize(("timeout", "measured"), [(11, 0.0863), (22, 0.0820)])
def test_stop_and_wait_with_loss_is_what_was_measured(
    timeout: float, measured: float
) -> None:
    utilisation = theory.utilisation_stop_and_wait(5, loss=0.05, timeout=timeout)
    assert utilisation == pytest.approx(measured, rel=0.01)


def test_a_timeout_of_one_round_trip_divides_by_the_mean_number_of_attempts() -> None:
    utilisation = theory.utilisation_stop_and_wait(5, loss=0.1, ack_loss=0.2)
    attempts = theory.transmissions_per_packet(0.1, 0.2)
    assert attempts == pytest.approx(1 / 0.72)
    assert utilisation == pytest.approx(1 / 11 / attempts)


def test_a_timeout_below_one_round_trip_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"timeout must be at least 1 \+ 2a = 11"):
        theory.utilisation_stop_and_wait(5, timeout=10.9)


def test_go_back_n_over_a_bad_long_line_reaches_15_74_per_cent() -> None:
    loss = theory.packet_loss(1e-4, packet_size=250)
    assert round(loss, 4) == 0.1813
    a = theory.delay_ratio(theory.propagation_delay(3e6), 250, 1.544e6)
    utilisation = theory.utilisation_go_back_n(a, window=30, loss=loss)
    assert utilisation == pytest.approx(0.1574, abs=0.0002)


@pytest.mark.parametrize(
    ("loss", "window", "expected"),
    [(0.01, 20, 0.900), (0.05, 20, 0.633), (0.10, 20, 0.450), (0.05, 5, 0.360)],
)
def test_go_back_n_with_loss_follows_the_table(
    loss: float, window: int, expected: float
) -> None:
    utilisation = theory.utilisation_go_back_n(5, window, loss)
    assert utilisation == pytest.approx(expected, abs=0.0005)


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.3])
def test_the_two_branches_of_go_back_n_meet_where_the_window_fills_the_pipe(
    loss: float,
) -> None:
    above = theory.utilisation_go_back_n(5, 11, loss)
    below = theory.utilisation_go_back_n(5.0000001, 11, loss)
    assert above == pytest.approx(below, rel=1e-6)


def test_selective_repeat_sends_only_what_was_lost() -> None:
    assert theory.utilisation_selective_repeat(5, 20, 0.05) == pytest.approx(0.95)
    assert theory.utilisation_selective_repeat(5, 5, 0.05) == pytest.approx(
        0.95 * 5 / 11
    )


def test_transmissions_per_packet_are_one_over_the_chance_to_arrive() -> None:
    assert theory.transmissions_per_packet(0) == 1
    assert round(theory.transmissions_per_packet(0.05), 4) == 1.0526
    assert round(theory.transmissions_per_packet(0.10), 4) == 1.1111


def test_two_bits_allow_three_packets_in_go_back_n_and_two_in_selective_repeat() -> (
    None
):
    assert theory.largest_window_go_back_n(2) == 3
    assert theory.largest_window_selective_repeat(2) == 2
    assert theory.largest_window_selective_repeat(1) == 1


def test_the_bandwidth_delay_product_counts_the_bytes_on_their_way() -> None:
    assert theory.bandwidth_delay_product(GIGABIT, 0.030) == pytest.approx(3.75e6)


def test_a_bursty_channel_with_a_bad_tenth_loses_a_tenth_in_bursts_of_four() -> None:
    p, r = 1 / 36, 1 / 4
    assert theory.mean_loss_gilbert_elliott(p, r) == pytest.approx(0.1)
    assert theory.mean_burst_gilbert_elliott(p, r) == pytest.approx(4)


def test_two_states_that_lose_alike_are_a_channel_without_memory() -> None:
    loss = theory.mean_loss_gilbert_elliott(0.2, 0.3, loss_bad=0.25, loss_good=0.25)
    burst = theory.mean_burst_gilbert_elliott(0.2, 0.3, loss_bad=0.25, loss_good=0.25)
    assert loss == pytest.approx(0.25)
    assert burst == pytest.approx(1 / 0.75)


def test_the_erasure_channel_allows_the_share_that_arrives() -> None:
    assert theory.utilisation_bound(0.2) == 0.8
    assert theory.utilisation_selective_repeat(50, 10**6, 0.2) == pytest.approx(0.8)
    assert theory.transmissions_per_packet(0.2) == 1 / theory.utilisation_bound(0.2)


def test_all_of_200_packets_need_four_rounds_at_a_loss_of_a_fifth() -> None:
    chance = random.Random(1)
    rounds = []
    for _ in range(2000):
        missing = 200
        for number in range(1, 100):
            missing = sum(chance.random() < 0.2 for _ in range(missing))
            if not missing:
                rounds.append(number)
                break
    mean = sum(rounds) / len(rounds)
    assert theory.rounds_until_all(200, 0.2) == pytest.approx(mean, rel=0.02)


def test_one_packet_needs_as_many_rounds_as_transmissions() -> None:
    for loss in (0.0, 0.01, 0.5, 0.9):
        mean = theory.transmissions_per_packet(loss)
        assert theory.rounds_until_all(1, loss) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("loss_bad", "loss_good"), [(1.0, 1.0), (0.0, 0.0)], ids=["everything", "nothing"]
)
def test_a_chain_without_bursts_says_so(loss_bad: float, loss_good: float) -> None:
    with pytest.raises(ValueError, match="has no bursts"):
        theory.mean_burst_gilbert_elliott(0.1, 0.1, loss_bad, loss_good)


def test_delays_add_up_as_in_section_1_4() -> None:
    assert theory.propagation_delay(3e6) == pytest.approx(0.015)
    assert theory.propagation_delay(3e6, speed=3e8) == pytest.approx(0.010)
    assert theory.transmission_delay(1000, GIGABIT) == pytest.approx(8e-6)
    assert pytest.approx(1875) == COAST_TO_COAST


FORMULAS = [
    each
    for each in vars(theory).values()
    if inspect.isfunction(each) and each.__module__ == theory.__name__
]


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda each: each.__name__)
def test_impossible_arguments_are_refused_by_their_names(
    formula: Callable[..., object],
) -> None:
    names = inspect.signature(formula).parameters
    wholes = {"window", "count", "bits"}
    right = {name: 1 if name in wholes else 0.5 for name in names if name != "timeout"}
    formula(**right)
    for name in names:
        wrong = [nan, -1, inf] if "loss" in name else [nan, -1]
        wrong += [1.5, 0] if name in wholes else []
        for value in wrong:
            with pytest.raises(ValueError, match=f"^{name} "):
                formula(**{**right, name: value})
