"""Be the network: what a reader of the museum does to packets is judged and scored."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from test_museum import NONDETERMINISTIC
from test_museum import PAR as RECORDED

import p2plab
from p2plab.checker import CHANNELS, Fault, check
from p2plab.checker.game import MOST, MOVES
from p2plab.museum import EXHIBITS


def moves(faults: tuple[Fault, ...]) -> dict[str, Any]:
    """Return what a player writes to get these faults."""
    written: dict[str, Any] = {}
    for kind, way, number, extra in faults:
        name = MOVES[kind].split("=")[0] + "_back" * way
        if kind in MOST:
            written.setdefault(name, {})[number + 1] = extra
        else:
            written.setdefault(name, set()).add(number + 1)
    return written


def test_an_attempt_is_scored_and_shown_with_a_ladder() -> None:
    attempt = p2plab.break_it("copies_delivered", lose_back={1})
    assert attempt.broken
    assert (attempt.used, attempt.par) == (1, 1)
    assert attempt.score == "Broken with 1 fault; par is 1: nobody found less."
    assert str(attempt).startswith(attempt.score)
    page = attempt._repr_html_()
    assert attempt.score in page
    assert "<svg" in page
    attempt = p2plab.break_it("copies_delivered", lose={1}, lose_back={1})
    assert attempt.score == "Broken with 2 faults; par is 1."


def test_a_harmless_fault_is_shown_with_what_it_did() -> None:
    attempt = p2plab.break_it("copies_delivered", lose={2})
    assert not attempt.broken
    assert attempt.score == "Not broken; par is 1."
    lost = "Packet 1 (b'B') was lost (counted from 1: number 2)"
    assert lost in attempt.verdict.sentence
    drawn = attempt._repr_html_()
    assert re.findall(r"delivers b&#x27;(\w)", drawn) == ["A", "B", "C"]


@pytest.mark.parametrize("name", RECORDED)
def test_par_can_be_reached_with_the_moves_that_the_game_has(name: str) -> None:
    exhibit = EXHIBITS[name]
    smallest = check(exhibit.sender, exhibit.receiver, exhibit.channel, budget=10)
    attempt = p2plab.break_it(name, **moves(smallest.faults))
    assert attempt.broken, str(attempt)
    assert attempt.used == attempt.par == len(smallest.faults)
    assert attempt.par <= RECORDED[name]


def test_of_two_that_differ_only_the_one_that_does_so_here_can_be_broken() -> None:
    here, elsewhere = NONDETERMINISTIC
    assert p2plab.break_it(here, lose={1}).verdict.promise == "same again"
    attempt = p2plab.break_it(elsewhere, lose={1})
    assert not attempt.broken
    assert attempt.par is None


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_fault_of_a_network_is_a_move_and_shown_as_one(channel: str) -> None:
    name = next(each for each in EXHIBITS if EXHIBITS[each].channel == channel)
    for kind in CHANNELS[channel].kinds:
        for way in (0, 1):
            for number in (0, 500):
                fault = Fault(kind, way, number, 0.3 if kind in MOST else 0.0)
                attempt = p2plab.break_it(name, **moves((fault,)))
                assert attempt.verdict.faults == (fault,)
        assert "1 fault met no packet" in attempt.verdict.sentence
        assert MOVES[kind] in attempt.moves
        assert attempt.moves in attempt._repr_html_()


def test_an_outage_ends() -> None:
    attempt = p2plab.break_it("copies_delivered", outage={1: 0.2})
    assert not attempt.broken
    whats = [event.what for event in attempt.verdict.trace]
    assert (whats.count("loss"), whats.count("deliver")) == (1, 3)


@pytest.mark.parametrize(
    ("name", "faults", "words"),
    [
        ("xyz", {}, "there is no exhibit 'xyz'; see museum.EXHIBITS"),
        ("any_ack_belived", {}, "do you mean 'any_ack_believed'?"),
        ("copies_delivered", {"lose": {0}}, "counted from 1, got 0"),
        ("copies_delivered", {"double": {1}}, "packets may be lost"),
        ("any_ack_believed", {"lose": {1}, "double": {1}}, "one fate only"),
        ("only_the_last_remembered", {"late": {1: -1.0}}, "0 to 120 s, got -1.0"),
        ("only_the_last_remembered", {"late": {1: float("nan")}}, "s, got nan"),
        ("copies_delivered", {"outage": {1: 31.0}}, "down for 0 to 30 s, got 31"),
        ("copies_delivered", {"late_copy": {1: 1.0}}, "nothing of the kind 'late copy"),
        ("copies_delivered", {"lose": 1}, r"write it so: lose=\{1\}, and not 1"),
        ("copies_delivered", {"lose": {1: 2.0}}, r"write it so: lose=\{1\}"),
        ("copies_delivered", {"outage": {1}}, r"write it so: outage=\{1: 3.5\}"),
        ("copies_delivered", {"lose": "1"}, "packets are whole numbers, got '1'"),
        ("copies_delivered", {"outage": {1: "x"}}, "0 to 30 s, got x"),
    ],
)
def test_what_the_network_cannot_do_is_refused_in_words(
    name: str, faults: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        p2plab.break_it(name, **faults)


def test_the_package_hands_out_the_checker_and_the_museum_when_asked() -> None:
    words = (
        "import sys, p2plab; assert 'p2plab.checker' not in sys.modules; "
        "p2plab.check, p2plab.Verdict, p2plab.museum.EXHIBITS"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
