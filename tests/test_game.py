"""Be the network: what a reader of the museum does to packets is judged and scored."""

from __future__ import annotations

import subprocess
import sys

import pytest

import p2plab
from p2plab.checker.game import par
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
    assert "Packet 1 (b'B') was lost" in attempt.verdict.sentence
    assert attempt.verdict.trace.rows


def test_a_fault_that_meets_no_packet_is_said() -> None:
    attempt = p2plab.break_it("copies_delivered", lose={500})
    assert "1 of your faults met no packet" in attempt.verdict.sentence


def test_two_faults_together_break_what_each_alone_does_not() -> None:
    name = "any_ack_believed"
    assert not p2plab.break_it(name, double={1}).broken
    assert not p2plab.break_it(name, lose={2}).broken
    attempt = p2plab.break_it(name, double={1}, lose={2})
    assert attempt.broken
    assert attempt.used == attempt.par == 2


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("only_the_last_remembered", {"late": {1: 1.17}}),
        ("damage_acknowledged", {"damage": {1}}),
        ("sorcerers_apprentice", {"double": {1}}),
        ("leaves_on_finish", {"lose_back": {1}}),
    ],
)
def test_every_kind_of_fault_can_be_asked_for(name: str, faults: object) -> None:
    attempt = p2plab.break_it(name, **faults)  # type: ignore[arg-type]
    assert attempt.broken, str(attempt)
    assert attempt.par == par(name) == 1


def test_a_notebook_gets_the_score_the_sentence_and_a_ladder() -> None:
    attempt = p2plab.break_it("ack_not_repeated", lose_back={1})
    page = attempt._repr_html_()
    assert "par is 1" in page
    assert "<svg" in page
    assert str(attempt).startswith("Broken with 1 fault")


@pytest.mark.parametrize(
    ("name", "faults", "words"),
    [
        ("nothing", {}, "there is no exhibit 'nothing'"),
        ("copies_delivered", {"lose": {0}}, "counted from 1, got 0"),
        ("copies_delivered", {"double": {1}}, "packets may be lost"),
        ("any_ack_believed", {"lose": {1}, "double": {1}}, "one fate only"),
        ("only_the_last_remembered", {"late": {1: -1.0}}, "0 s or more, got -1.0"),
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
