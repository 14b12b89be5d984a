"""The museum: every mistake shows itself, and no correct protocol is accused."""

from __future__ import annotations

import inspect
import pickle
import re
from math import inf
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from p2plab.checker import CHANNELS, Verdict, check
from p2plab.checker.search import Search
from p2plab.commands.grader import grade
from p2plab.core.link import ScriptedLink
from p2plab.core.packet import ACK, Kind, Packet
from p2plab.core.trace import RETRANSMIT, SEND
from p2plab.museum import EXHIBITS, HEALTHY, Exhibit
from p2plab.museum.exhibit import Page
from p2plab.protocols import go_back_n
from p2plab.sim.simulator import simulate
from p2plab.ui.lesson import show

DELAY: Final = 0.05  # one way [s]
FIVE: Final = tuple(b"payload" + b"!" * number for number in range(5))
WEAKER: Final = {"dup": "fifo", "late": "dup", "corrupt": "fifo"}


def verdict_on(exhibit: Exhibit, channel: str = "", budget: float = 2.0) -> Verdict:
    return check(exhibit.sender, exhibit.receiver, channel or exhibit.channel, budget)


# Mistakes

# how many faults it takes, an outage being one
FAULTS: Final = {
    0: "copies_known_by_content empty_payload_dropped home_when_done shared_list "
    "never_done_with_nothing timer_left_running next_number_acknowledged "
    "every_other_acknowledged buffer_never_freed arrived_packets_repeated "
    "acks_only_ride_along lingers_for_ever",
    1: "ack_not_repeated copies_delivered no_numbers sorcerers_apprentice "
    "only_the_last_remembered timer_not_restarted no_timer_for_the_last "
    "repetition_timed timer_stopped_at_any_ack deadline_in_the_past goes_back_one "
    "window_as_large_as_the_numbers dropped_packet_acknowledged zero_for_nothing "
    "selective_ack_taken_as_cumulative every_duplicate_answered leaves_on_finish "
    "window_over_half_the_numbers past_not_acknowledged delivered_as_it_comes "
    "window_stuck_after_a_gap cumulative_ack_taken_as_selective sent_once_and_hoped "
    "nak_and_no_timer damage_acknowledged parity_of_the_wrong_group "
    "parity_with_two_missing",
    2: "any_ack_believed backs_off_for_every_packet second_ack_raises "
    "damage_taken_for_an_ack",
}
PAR: Final = {name: count for count in FAULTS for name in FAULTS[count].split()}
# These are never the same twice, and otherwise right.
NONDETERMINISTIC: Final = ("random_timer", "order_of_a_set")


def test_every_exhibit_has_a_record() -> None:
    assert sorted((*PAR, *NONDETERMINISTIC)) == sorted(EXHIBITS)


@pytest.mark.parametrize("name", PAR)
def test_a_mistake_shows_itself_after_as_few_faults_as_recorded(name: str) -> None:
    verdict = verdict_on(EXHIBITS[name])
    assert verdict.kind != "survived", verdict
    assert len(verdict.faults) == PAR[name], verdict
    assert sum(row.what in (SEND, RETRANSMIT) for row in verdict.trace) <= 25


@pytest.mark.parametrize(
    "name", [name for name in EXHIBITS if EXHIBITS[name].channel in WEAKER]
)
def test_a_mistake_goes_unnoticed_in_a_weaker_class_than_its_own(name: str) -> None:
    exhibit = EXHIBITS[name]
    verdict = verdict_on(exhibit, WEAKER[exhibit.channel], budget=0.3)
    late = "the driver pulled packets late" in verdict.sentence
    assert verdict.kind == "survived" or late, verdict


def test_a_timeout_drawn_by_lot_is_never_the_same_and_otherwise_right() -> None:
    runs = [
        simulate(*EXHIBITS["random_timer"].make(), FIVE, ScriptedLink(lose={1}))
        for _ in range(3)
    ]
    assert len({run.time for run in runs}) > 1
    assert all(run.delivered == list(FIVE) for run in runs)


def test_two_processes_differ_in_the_order_of_a_set_and_only_there(
    tmp_path: Path,
) -> None:
    assert verdict_on(EXHIBITS["order_of_a_set"], budget=0.3).kind == "survived"
    file = tmp_path / "exhibit.py"
    file.write_text(
        "from p2plab.museum import EXHIBITS\n"
        "Sender = EXHIBITS['order_of_a_set'].sender\n"
        "Receiver = EXHIBITS['order_of_a_set'].receiver\n"
    )
    verdict = grade(file, budget=0.3)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", "same again")


# Correct ones


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives(name: str) -> None:
    it = HEALTHY[name]
    for channel in {it.channel, "corrupt"}:
        verdict = verdict_on(it, channel, budget=0.3)
        assert (verdict.kind, verdict.faults) == ("survived", ()), verdict
        assert verdict.to_json()["ladder"] == []
        search = Search((it.sender, it.receiver), CHANNELS[channel], 5, inf, inf)
        search.random(range(300))
        assert search.counts.total() == 300


@pytest.mark.parametrize(
    "name", [name for name in HEALTHY if HEALTHY[name].channel == "dup"]
)
def test_few_bits_for_the_numbers_do_not_survive_a_late_copy(name: str) -> None:
    assert verdict_on(HEALTHY[name], "late").kind == "broken"


def test_with_parity_a_single_loss_costs_no_time() -> None:
    for number in (1, 2, 3):
        lost = ScriptedLink(lose={number}, delay=DELAY)
        run = simulate(*HEALTHY["parity"].make(), FIVE[:3], lost)
        assert run.delivered == list(FIVE[:3])
        assert run.time == pytest.approx(2 * DELAY)


def test_a_fast_retransmit_does_not_wait_for_the_timer() -> None:
    lost = ScriptedLink(lose={1}, delay=DELAY)
    run = simulate(*HEALTHY["fast_retransmit"].make(), FIVE, lost)
    assert run.delivered == list(FIVE)
    assert run.time == pytest.approx(4 * DELAY)


def test_a_map_of_what_has_arrived_saves_the_repetition_of_the_others() -> None:
    lost = ScriptedLink(lose={1}, delay=DELAY)
    run = simulate(*HEALTHY["bitmap"].make(), FIVE, lost)
    assert run.delivered == list(FIVE)
    assert [row.seq for row in run.trace if row.what == RETRANSMIT] == [0]


def test_a_delayed_ack_saves_half_the_acks() -> None:
    run = simulate(*HEALTHY["delayed_ack"].make(), FIVE[:4])
    sent = [row for row in run.trace if row.what == SEND]
    assert [row.seq for row in sent if row.host == "receiver"] == [1, 3]


def test_both_sides_of_a_duplex_get_what_the_other_one_sends() -> None:
    ours, theirs = HEALTHY["duplex"].make()
    machine: Any = ours
    lost = ScriptedLink(lose={2}, lose_back={1}, delay=DELAY)
    assert simulate(ours, theirs, FIVE, lost).delivered == list(FIVE)
    assert list(iter(machine.next_payload, None)) == [b"yes", b"", b"no"]


@pytest.mark.parametrize("name", HEALTHY)
def test_no_packet_makes_a_correct_protocol_raise(name: str) -> None:
    rng = Random(name)
    for machine in HEALTHY[name].make():
        for now in range(500):
            packet = Packet(
                rng.choice(list(Kind)), rng.randrange(-9, 20), rng.randbytes(now % 12)
            )
            machine.on_packet(packet, now)
            machine.next_packet(now)


# The labels beside the exhibits, and their pages


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_a_mistake_is_a_sentence_and_a_small_difference(exhibit: Exhibit) -> None:
    assert exhibit.mistake.endswith((".", ").")), exhibit.mistake
    assert 40 < len(exhibit.mistake) < 250
    assert 0 < len(exhibit.title) < 60
    assert exhibit.channel in CHANNELS
    changed = [line for line in exhibit.diff().splitlines()[3:] if line[0] in "+-"]
    assert len(changed) < 10, exhibit.diff()


@pytest.mark.parametrize("exhibit", HEALTHY.values(), ids=HEALTHY)
def test_a_correct_protocol_has_pages_and_no_mistake(exhibit: Exhibit) -> None:
    assert exhibit.title
    assert not exhibit.mistake
    assert not exhibit.diff()
    assert exhibit.channel in ("dup", "late")
    shown = show(exhibit).data
    assert all(type(machine).__name__ in shown for machine in exhibit.make())


def test_a_difference_can_be_shown_as_a_slide() -> None:
    lines = EXHIBITS["deadline_in_the_past"].diff().splitlines()[3:]
    assert lines[2:4] == [
        "         self.next_seq_num = self.send_base  # go back N",
        "-        self.deadline = None",
    ]
    assert not EXHIBITS["no_numbers"].diff()


def test_the_source_of_an_exhibit_is_its_changed_page() -> None:
    exhibit = EXHIBITS["second_ack_raises"]
    shown = re.sub("<.*?>", "", show(exhibit).data)
    assert "del self.sent_at[seq]" in shown
    sender: Any = exhibit.sender()
    lines, first = inspect.getsourcelines(type(sender).on_packet)
    wrong = first + lines.index("        del self.sent_at[seq]\n")
    sender.next_seq_num = 1
    with pytest.raises(KeyError) as raised:
        sender.on_packet(Packet(ACK, 0), 0.0)
    assert raised.traceback[-1].lineno == wrong - 1


@pytest.mark.parametrize("old", ["nowhere", "packet.seq"])
def test_a_change_that_does_not_fit_its_page_is_refused(old: str) -> None:
    with pytest.raises(ValueError, match=r"go_back_n has these words \d times"):
        Page(go_back_n).change(old, "new")


def test_an_exhibit_can_be_sent_to_another_process() -> None:
    assert not {*EXHIBITS} & {*HEALTHY}
    for exhibit in (*EXHIBITS.values(), *HEALTHY.values()):
        make = pickle.loads(pickle.dumps(exhibit.sender))
        assert type(make()) is type(exhibit.sender())
