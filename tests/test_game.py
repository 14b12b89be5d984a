"""Be the network: what a reader of the museum does to packets is judged and scored."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from test_museum import FICKLE
from test_museum import PAR as RECORDED

import p2plab
from p2plab.checker import CHANNELS, Fault, check
from p2plab.checker.faults import RTT
from p2plab.checker.game import MOST
from p2plab.museum import EXHIBITS


def test_the_right_fault_breaks_an_exhibit_at_par() -> None:
    attempt = p2plab.break_it("copies_delivered", lose_back={1})
    assert attempt.broken
    assert (attempt.used, attempt.par) == (1, 1)
    assert attempt.score == "Broken with 1 fault; par is 1: nobody found less."
    assert "delivered b'A' twice" in attempt.verdict.sentence


def test_more_faults_than_needed_are_over_par() -> None:
    attempt = p2plab.break_it("copies_delivered", lose={1}, lose_back={1})
    assert attempt.score == "Broken with 2 faults; par is 1."


def test_a_harmless_fault_is_shown_with_what_it_did() -> None:
    attempt = p2plab.break_it("copies_delivered", lose={2})
    assert not attempt.broken
    assert attempt.score == "Not broken; par is 1."
    lost = "Packet 1 (b'B') was lost (counted from 1: number 2)"
    assert lost in attempt.verdict.sentence
    assert attempt.verdict.trace.rows


def test_a_harmless_faults_ladder_counts_payloads_from_0_like_packets() -> None:
    drawn = p2plab.break_it("any_ack_believed", lose={1})._repr_html_()
    assert re.findall(r"delivers payload (\d)", drawn) == ["0", "1", "2"]


def test_a_fault_that_meets_no_packet_is_said() -> None:
    attempt = p2plab.break_it("copies_delivered", lose={500})
    assert "1 fault met no packet" in attempt.verdict.sentence


def test_two_faults_together_break_what_each_alone_does_not() -> None:
    name = "any_ack_believed"
    assert not p2plab.break_it(name, double={1}).broken
    assert not p2plab.break_it(name, lose={2}).broken
    attempt = p2plab.break_it(name, double={1}, lose={2})
    assert attempt.broken
    assert attempt.used == attempt.par == 2


# Every move of the checker is a move of the player, and par can be reached


def moves(faults: tuple[Fault, ...]) -> dict[str, Any]:
    """Return what a player writes to get these faults."""
    written: dict[str, Any] = {}
    for kind, way, number, extra in faults:
        name = kind.replace("outage", "blackout").replace(" ", "_") + "_back" * way
        if kind in MOST:
            written.setdefault(name, {})[number + 1] = extra
        else:
            written.setdefault(name, set()).add(number + 1)
    return written


@pytest.mark.parametrize("name", [name for name in EXHIBITS if name in RECORDED])
def test_par_can_be_reached_with_the_moves_that_the_game_has(name: str) -> None:
    exhibit = EXHIBITS[name]
    smallest = check(exhibit.sender, exhibit.receiver, exhibit.channel, budget=10)
    attempt = p2plab.break_it(name, **moves(smallest.faults))
    assert attempt.broken, str(attempt)
    assert attempt.used == attempt.par == len(smallest.faults)
    assert attempt.par <= RECORDED[name]
    assert "nobody found less" in attempt.score


def test_of_the_fickle_exhibits_only_the_one_that_shows_here_can_be_broken() -> None:
    here, elsewhere = FICKLE
    assert p2plab.break_it(here, lose={1}).verdict.promise == "same again"
    attempt = p2plab.break_it(elsewhere, lose={1})
    assert not attempt.broken
    assert attempt.score == "Not broken; the checker found no way, so there is no par."


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_fault_of_a_network_is_a_move_and_shown_as_one(channel: str) -> None:
    name = next(each for each in EXHIBITS if EXHIBITS[each].channel == channel)
    shown = ""
    for kind in CHANNELS[channel].kinds:
        for way in (0, 1):
            (move,) = moves((Fault(kind, way, 500, RTT),)).items()
            attempt = p2plab.break_it(name, **dict([move]))
            assert "1 fault met no packet" in str(attempt)
            shown = attempt.moves
        assert f"{move[0].removesuffix('_back')}=" in shown
    assert shown in attempt._repr_html_()


@pytest.mark.parametrize(
    ("moves", "words"),
    [
        ({"blackout": {1: 0.5}}, "network was down for 0.5 s from packet 0 (b'A') on"),
        ({"blackout_back": {2: 0.5}}, "network was down for 0.5 s from ACK 1 on"),
        ({"late_copy": {2: 0.3}}, "copy of packet 1 (b'B') arrived 0.3 s after the"),
        ({"late_copy_back": {1: 0.3}}, "A copy of ACK 0 arrived 0.3 s after the first"),
        ({"late_back": {1: 0.3}}, "ACK 0 was delayed by 0.3 s"),
    ],
)
def test_a_move_does_what_it_says(moves: dict[str, Any], words: str) -> None:
    attempt = p2plab.break_it("only_the_last_remembered", **moves)
    assert words in attempt.verdict.sentence


def test_a_black_out_ends() -> None:
    attempt = p2plab.break_it("copies_delivered", blackout={1: 0.2})
    assert not attempt.broken
    assert attempt.used == 1
    whats = [event.what for event in attempt.verdict.trace]
    assert (whats.count("loss"), whats.count("deliver")) == (1, 3)


def test_a_notebook_gets_the_score_the_sentence_and_a_ladder() -> None:
    attempt = p2plab.break_it("ack_not_repeated", lose_back={1})
    page = attempt._repr_html_()
    assert "par is 1" in page
    assert "<svg" in page
    assert str(attempt).startswith("Broken with 1 fault")


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
        ("copies_delivered", {"blackout": {1: 31.0}}, "down for 0 to 30 s, got 31"),
        ("copies_delivered", {"late_copy": {1: 1.0}}, "nothing of the kind 'late copy"),
        ("copies_delivered", {"lose": 1}, r"write it so: lose=\{1\}, and not 1"),
        ("copies_delivered", {"lose": {1: 2.0}}, r"write it so: lose=\{1\}"),
        ("copies_delivered", {"blackout": {1}}, r"write it so: blackout=\{1: 3.5\}"),
    ],
)
def test_what_the_network_cannot_do_is_refused_in_words(
    name: str, faults: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        p2plab.break_it(name, **faults)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["timer_left_running", "home_when_done"])
def test_an_exhibit_that_needs_no_fault_has_par_0(name: str) -> None:
    attempt = p2plab.break_it(name)
    assert attempt.broken
    assert attempt.used == attempt.par == 0


def test_every_exhibit_can_be_played() -> None:
    for name in EXHIBITS:
        assert str(p2plab.break_it(name, lose={1}))


def test_the_package_hands_out_the_checker_and_the_museum_when_asked() -> None:
    words = (
        "import sys, p2plab; assert 'p2plab.checker' not in sys.modules; "
        "p2plab.check, p2plab.Verdict, p2plab.museum.EXHIBITS"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
