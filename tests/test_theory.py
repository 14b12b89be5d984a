"""The closed forms against numbers that were worked by hand or in textbooks."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

from p2plab.measure import theory

approx = pytest.approx

# Kurose & Ross, section 3.4.2: 1 Gb/s, 15 ms one way, packets of 1,000 bytes
GIGABIT = 1e9  # bit/s
COAST_TO_COAST = theory.delay_ratio(0.015, packet_size=1000, rate=GIGABIT)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (COAST_TO_COAST, 1875),
        (theory.transmission_delay(1000, GIGABIT), 8e-6),
        (theory.utilisation_stop_and_wait(COAST_TO_COAST), approx(0.00027, abs=5e-6)),
        # three packets in flight are three times as fast, and 3,751 fill the pipe
        (theory.utilisation_go_back_n(COAST_TO_COAST, 3), approx(0.00080, abs=5e-6)),
        (theory.window_to_fill_pipe(COAST_TO_COAST), 3751),
        (theory.utilisation_go_back_n(COAST_TO_COAST, 3751), approx(1)),
        (theory.utilisation_go_back_n(COAST_TO_COAST, 3750), 3750 / 3751),
        # measured in runs
        (theory.utilisation_stop_and_wait(5, 0.05, timeout=11), approx(0.0863, 0.01)),
        (theory.utilisation_stop_and_wait(5, 0.05, timeout=22), approx(0.0820, 0.01)),
        (theory.utilisation_stop_and_wait(5, 0.1, 0.2), 0.72 / 11),
        (theory.utilisation_go_back_n(5, 20, 0.01), approx(0.900, abs=0.0005)),
        (theory.utilisation_go_back_n(5, 20, 0.05), approx(0.633, abs=0.0005)),
        (theory.utilisation_go_back_n(5, 20, 0.10), approx(0.450, abs=0.0005)),
        (theory.utilisation_go_back_n(5, 5, 0.05), approx(0.360, abs=0.0005)),
        (theory.utilisation_selective_repeat(5, 20, 0.05), 0.95),
        (theory.utilisation_selective_repeat(5, 5, 0.05), 0.95 * 5 / 11),
        (theory.transmissions_per_packet(0), 1),
        (theory.transmissions_per_packet(0.1, 0.2), 1 / 0.72),
        (theory.utilisation_bound(0.2), 0.8),
        (theory.largest_window_go_back_n(2), 3),
        (theory.largest_window_selective_repeat(2), 2),
        (theory.largest_window_selective_repeat(1), 1),
        # a bad tenth, in bursts of four; two states that lose alike
        (theory.mean_loss_gilbert_elliott(1 / 36, 1 / 4), 0.1),
        (theory.mean_loss_gilbert_elliott(0.2, 0.3, 0.25, 0.25), 0.25),
    ],
)
def test_formulas_give_what_textbooks_and_hands_have_worked(
    value: float, wanted: Any
) -> None:
    assert value == (approx(wanted) if isinstance(wanted, int | float) else wanted)


def test_a_timeout_below_one_round_trip_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"timeout must be at least 1 \+ 2a = 11"):
        theory.utilisation_stop_and_wait(5, timeout=10.9)


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.3])
def test_the_two_branches_of_go_back_n_meet_where_the_window_fills_the_pipe(
    loss: float,
) -> None:
    above = theory.utilisation_go_back_n(5, 11, loss)
    assert theory.utilisation_go_back_n(5.0000001, 11, loss) == approx(above, rel=1e-6)


def test_all_of_200_packets_need_four_rounds_at_a_loss_of_a_fifth() -> None:
    chance, total = random.Random(1), 0
    for _ in range(2000):
        missing = 200
        while missing:
            missing = sum(chance.random() < 0.2 for _ in range(missing))
            total += 1
    assert theory.rounds_until_all(200, 0.2) == approx(total / 2000, rel=0.02)
    for loss in (0.0, 0.01, 0.5, 0.9):
        mean = theory.transmissions_per_packet(loss)
        assert theory.rounds_until_all(1, loss) == approx(mean)


FORMULAS = [
    each
    for name, each in vars(theory).items()
    if inspect.isfunction(each)
    and each.__module__ == theory.__name__
    and name[0] != "_"
]


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda each: each.__name__)
def test_impossible_arguments_are_refused_by_their_names(
    formula: Callable[..., object],
) -> None:
    names = inspect.signature(formula).parameters
    of_rooms = {"peers", "pieces", "copies", "degree", "hops", "keys"}
    wholes = {"window", "count", "bits"} | of_rooms
    right = {name: 1 if name in wholes else 0.5 for name in names if name != "timeout"}
    right |= dict.fromkeys(of_rooms.intersection(names), 4)
    formula(**right)
    for name in names.keys() & theory._INTERVALS.keys():
        wrong = [nan, -1, inf] if "loss" in name else [nan, -1]
        wrong += [1.5, 0] if name in wholes else []
        for value in wrong:
            with pytest.raises(ValueError, match=f"^{name} "):
                formula(**{**right, name: value})
