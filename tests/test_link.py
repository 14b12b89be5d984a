"""The network's tricks, one knob at a time: exact where they are, counted where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.core.link import (
    ARRIVE,
    CORRUPT,
    DUPLICATE,
    LOSS,
    OVERFLOW,
    AnyLink,
    Fate,
    GilbertElliott,
    Link,
    ScriptedLink,
)

MANY = 20_000
several = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def fates(
    link: AnyLink, count: int = MANY, gap: float = 0.001, size: int = 125
) -> list[list[Fate]]:
    """Send `count` packets, `gap` seconds apart; return what becomes of each."""
    channel = link.forward()
    return [channel.transmit(size, number * gap) for number in range(count)]


def lost(link: AnyLink, count: int = MANY) -> list[bool]:
    return [each[0][1] == LOSS for each in fates(link, count)]


# Chance that can be repeated

EVERYTHING = Link(
    jitter=0.1, loss=0.1, duplicate=0.1, corrupt=0.1, reorder=0.1, rate=1e6, queue=50
)


def test_a_seed_makes_one_network_and_each_of_its_directions_another() -> None:
    wanted = fates(EVERYTHING, 500)
    assert fates(replace(EVERYTHING, seed=1), 500) != wanted
    there, back = EVERYTHING.forward(), EVERYTHING.backward()
    pairs = [
        (back.transmit(125, n * 0.001), there.transmit(125, n * 0.001))
        for n in range(500)
    ]
    assert [there for _, there in pairs] == wanted  # whatever happens on the other way
    assert [back for back, _ in pairs] != wanted


@several
@given(st.floats(0, 0.9), st.floats(0, 0.09), st.integers(0, 1000))
def test_more_loss_loses_the_same_packets_and_some_more(
    loss: float, more: float, seed: int
) -> None:
    few, many = (lost(Link(loss=p, seed=seed), 200) for p in (loss, loss + more))
    assert all(b for a, b in zip(few, many, strict=True) if a)


@several
@given(
    st.sampled_from([0.2, GilbertElliott(0.1, 0.4)]),
    st.fixed_dictionaries(
        {
            "jitter": st.sampled_from([0.0, 0.1]),
            "duplicate": st.floats(0, 0.5),
            "corrupt": st.floats(0, 0.5),
            "reorder": st.floats(0, 0.5),
            "rate": st.sampled_from([None, 1e5, 5e5, 1e7]),
            "queue": st.sampled_from([None, 0, 3]),
        }
    ),
)
def test_another_knob_does_not_change_which_packets_are_lost(
    loss: float | GilbertElliott, knobs: dict[str, Any]
) -> None:
    wanted = lost(Link(loss=loss), 300)
    for each, gone in zip(fates(Link(loss=loss, **knobs), 300), wanted, strict=True):
        assert each[0][1] == OVERFLOW or (each[0][1] == LOSS) == gone


# One knob at a time


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5])
@pytest.mark.parametrize(
    ("knob", "what"), [("loss", LOSS), ("corrupt", CORRUPT), ("duplicate", DUPLICATE)]
)
def test_a_probability_is_the_share_of_packets(
    knob: str, what: str, probability: float
) -> None:
    link = Link(**{knob: probability})  # type: ignore[arg-type]  # all are numbers
    met = sum(each[-1][1] == what for each in fates(link))
    # three standard deviations of a share of 20,000: at most 0.011
    wanted = pytest.approx(probability, abs=3 * (probability / MANY) ** 0.5)
    assert met / MANY == wanted


def test_from_mean_gives_netem_s_parameters() -> None:
    chain = GilbertElliott.from_mean(0.2, 4)
    assert chain.p == pytest.approx(0.0625)
    assert chain.r == 0.25


@several
@given(st.floats(0, 0.5), st.integers(0, 100), st.floats(0, 0.01))
def test_jitter_keeps_the_order(jitter: float, seed: int, gap: float) -> None:
    arrivals = [each[0][0] for each in fates(Link(jitter=jitter, seed=seed), 200, gap)]
    assert arrivals == sorted(arrivals)
    delays = [each - n * gap for n, each in enumerate(arrivals)]
    assert 0.05 - 1e-9 <= min(delays) <= max(delays) <= 0.05 + jitter + 1e-9


def test_reordering_lets_later_packets_overtake() -> None:
    link = Link(reorder=0.2, reorder_delay=0.1)
    arrivals = [each[0][0] for each in fates(link, 5000)]
    overtaken = sum(b < a for a, b in pairwise(arrivals)) / 5000
    # by one that is not held back, or by one that is, but less
    assert overtaken == pytest.approx(0.2 * 0.8 + 0.2 * 0.2 / 2, abs=0.02)
    held = [when - n * 0.001 - 0.05 for n, when in enumerate(arrivals)]
    assert max(held) <= 0.1 + 1e-9
    assert sum(each > 1e-9 for each in held) / 5000 == pytest.approx(0.2, abs=0.02)


# Rate and queue


def test_packets_leave_one_after_another_at_the_link_s_rate() -> None:
    channel = Link(delay=0.5, rate=8000).forward()  # 125 bytes take an eighth of 1 s
    sent = [(125, 0.0), (125, 0.0), (1000, 0.0), (125, 9.0)]  # and then it was idle
    arrived = [channel.transmit(*each)[0][0] for each in sent]
    assert arrived == [0.625, 0.750, 1.750, 9.625]


@pytest.mark.parametrize("queue", [0, 1, 5])
def test_a_full_queue_drops_the_tail(queue: int) -> None:
    what = [each[0][1] for each in fates(Link(rate=8000, queue=queue), 10, gap=0.0)]
    # one is being sent, `queue` wait, the others find no room
    assert what == [ARRIVE] * (1 + queue) + [OVERFLOW] * (9 - queue)


def test_a_place_in_the_queue_is_free_when_a_packet_has_left() -> None:
    channel = Link(delay=0.0, rate=8000, queue=1).forward()
    times = (0.0, 0.0, 0.124, 0.125, 0.125)
    arrive = [(0.125, ARRIVE), (0.250, ARRIVE), (0.375, ARRIVE)]
    assert [channel.transmit(125, now)[0] for now in times] == [
        *arrive[:2],
        (0.124, OVERFLOW),
        arrive[2],
        (0.125, OVERFLOW),
    ]


def test_the_way_back_of_a_lossless_link_harms_nothing() -> None:
    link = replace(EVERYTHING, queue=0, seed=2).lossless()
    channel = link.backward()
    got = [channel.transmit(125, 0.0) for _ in range(100)]
    assert all(len(each) == 1 and each[0][1] == ARRIVE for each in got)
    assert link == Link(jitter=0.1, rate=1e6, seed=2)


# A link without chance


def test_a_scripted_link_does_what_it_is_told_counting_from_one() -> None:
    link = ScriptedLink({3}, (4,), frozenset({5}), {1: 2.0}, lose_back={2}, delay=0.25)
    back = link.backward()
    assert [back.transmit(1, 0.0)[0][1] for _ in range(3)] == [ARRIVE, LOSS, ARRIVE]
    assert fates(link, 6, gap=1.0) == [
        [(2.25, ARRIVE)],
        [(1.25, ARRIVE)],
        [(2.0, LOSS)],
        [(3.25, CORRUPT)],
        [(4.25, ARRIVE), (4.25, DUPLICATE)],
        [(5.25, ARRIVE)],
    ]


# What is refused


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        *((Link, n, (1.0, -0.1)) for n in ("loss", "duplicate", "corrupt", "reorder")),
        *((Link, n, (-0.001, 3600, nan)) for n in ("delay", "jitter", "reorder_delay")),
        (Link, "rate", (0, nan)),
        (Link, "queue", (-1,)),
        (partial(GilbertElliott, r=0.5), "p", (0.0, 1.1)),
        (partial(GilbertElliott, 0.5), "r", (0.0, 1.5)),
        (partial(GilbertElliott, 0.1, 0.5), "loss_bad", (-0.1, 1.1)),
        (partial(GilbertElliott, 0.1, 0.5), "loss_good", (1.0,)),
        (partial(GilbertElliott.from_mean, burst=4), "loss", (0.0, 1.0)),
        (partial(GilbertElliott.from_mean, 0.1), "burst", (0.5,)),
        (ScriptedLink, "delay", (-1.0,)),
    ],
)
def test_a_number_outside_its_interval_is_refused(
    make: Callable[..., object], name: str, values: tuple[float, ...]
) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} must be in .*, got {value}"):
            make(**{name: value})


def test_a_chain_that_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="hardly ever leaves the bad state"):
        GilbertElliott(0.5, 1e-5)
    with pytest.raises(ValueError, match="bursts longer than 2"):
        GilbertElliott.from_mean(0.9, 2)
