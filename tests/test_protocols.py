"""The protocol pages, one behaviour at a time: scripts that can be read aloud."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from few_bits import receiving, sending
from script import Script

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, NAK, Packet
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.window import FixedWindow
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender
from p2plab.sim.simulator import simulate

RELIABLE = ["stop_and_wait", "go_back_n", "selective_repeat"]


def stop_and_wait(bits: int | None = None) -> Script:
    return Script(sending(StopAndWaitSender(FixedRto(1.0)), bits))


def go_back_n(window: int, bits: int | None = None) -> Script:
    return Script(sending(GoBackNSender(FixedRto(1.0), FixedWindow(window)), bits))


def selective_repeat(window: int, bits: int | None = None) -> Script:
    machine = SelectiveRepeatSender(FixedRto(1.0), FixedWindow(window))
    return Script(sending(machine, bits))


def sender(protocol: str) -> Script:
    """Return the bare machine of a page: no FIN around it."""
    return Script(Setup(protocol, window=4, timeout=1.0).sender().sender)


def receiver(protocol: str) -> Script:
    return Script(Setup(protocol, window=4).receiver().receiver)


# All three


@pytest.mark.parametrize("protocol", RELIABLE)
def test_an_empty_payload_is_a_payload_like_any_other(protocol: str) -> None:
    s = sender(protocol).app(b"").says(0)
    assert not s.machine.done
    assert s.ack(0).machine.done
    receiver(protocol).data(0, b"").acks(0).delivers(b"")


@pytest.mark.parametrize("protocol", RELIABLE)
def test_after_done_the_application_may_send_more(protocol: str) -> None:
    s = sender(protocol).at(0.0).says()
    assert s.machine.done
    assert s.machine.deadline is None
    s.app(b"a").says(0).at(0.5).ack(0).says()
    assert s.machine.done
    assert s.machine.deadline is None
    s.at(9.0).app(b"b").says(1)
    assert s.machine.deadline == 10.0
    assert s.at(9.5).ack(1).machine.done


@pytest.mark.parametrize("protocol", RELIABLE)
@pytest.mark.parametrize("number", [1, 7, -1, -5, 2**31 - 1, -(2**31)])
def test_an_ack_for_a_packet_that_was_never_sent_is_ignored(
    protocol: str, number: int
) -> None:
    s = sender(protocol).ack(number).says().app(b"a").says(0).ack(number).says()
    assert not s.machine.done
    assert s.machine.deadline == 1.0
    s.at(1.0).says(0)


@pytest.mark.parametrize("protocol", RELIABLE)
def test_an_ack_counts_that_comes_between_the_timeout_and_the_next_pull(
    protocol: str,
) -> None:
    machine = sender(protocol).machine
    machine.send(b"a")
    machine.next_packet(0.0)
    machine.on_timeout(1.0)  # and the driver does not pull yet
    machine.on_packet(Packet(ACK, 0), 1.1)
    assert machine.done
    assert machine.deadline is None
    assert machine.next_packet(1.2) is None


@pytest.mark.parametrize("protocol", RELIABLE)
@pytest.mark.parametrize("kind", [DATA, NAK, FIN])
def test_only_an_ack_acknowledges(protocol: str, kind: Any) -> None:
    s = sender(protocol).app(b"a").says(0)
    s.machine.on_packet(Packet(kind, 0), 0.5)
    assert not s.machine.done
    assert s.machine.deadline == 1.0


@pytest.mark.parametrize("protocol", RELIABLE)
@pytest.mark.parametrize("kind", [ACK, NAK, FIN])
def test_a_receiver_answers_nothing_but_data(protocol: str, kind: Any) -> None:
    s = receiver(protocol)
    s.machine.on_packet(Packet(kind, 0, b"a"), 0.0)
    assert s.machine.next_packet(0.0) is None
    assert s.machine.next_payload() is None


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_receiver_acknowledges_a_duplicate_again_and_delivers_it_once(
    protocol: str,
) -> None:
    r = receiver(protocol).data(0, b"a").acks(0).delivers(b"a")
    r.data(0, b"a").acks(0).delivers()  # the first ACK may have been lost
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"a").delivers()


@pytest.mark.parametrize("protocol", RELIABLE)
def test_an_ack_echoes_the_stamp_of_the_packet_that_it_answers(protocol: str) -> None:
    machine = receiver(protocol).machine
    machine.on_packet(Packet(DATA, 0, b"a", ts_val=2.5), 3.0)
    assert machine.next_packet(3.0) == Packet(ACK, 0, ts_ecr=2.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_packet_is_stamped_with_the_moment_it_goes_out(protocol: str) -> None:
    machine = sender(protocol).machine
    machine.send(b"a")
    packet = machine.next_packet(7.5)
    assert packet.ts_val == 7.5
    if protocol != "fountain":  # whose packets hold a bit of everything
        assert packet == Packet(DATA, 0, b"a", ts_val=7.5)


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_timer_uses_the_timeout_that_was_learnt(protocol: str) -> None:
    machine = Setup(protocol, window=4, timestamps=False).sender().sender
    s = Script(machine).app(b"a", b"b", b"c", b"d", b"e").at(0.25)
    s.ack(0)  # SRTT 0.25, RTTVAR 0.125: RTO 0.75
    s.said.clear()
    if protocol == "stop_and_wait":
        assert machine.deadline == 0.25 + 0.75
    if protocol == "go_back_n":
        assert machine.deadline == 0.25 + 0.75  # restarted by the ACK
    if protocol == "selective_repeat":
        assert machine.deadline == 0.0 + 0.75  # of packet 1, sent at 0


# Stop-and-wait


def test_stop_and_wait_sends_again_when_the_timer_fires_and_not_before() -> None:
    s = stop_and_wait()
    s.app(b"a", b"b").says(0)
    s.at(0.999).says()
    s.at(1.000).says(0)
    s.at(1.200).ack(0).says(1)
    s.at(1.300).ack(0).says()  # the ACK of the first copy, arriving late


def test_the_alternating_bit_says_0_and_1_in_turns() -> None:
    s = stop_and_wait(bits=1).app(b"a", b"b", b"c").says(0)
    s.ack(1).says()  # of the packet before
    s.ack(0).says(1)
    s.ack(0).says()  # a duplicate
    s.ack(1).says(0)
    assert s.ack(0).machine.done


def test_the_alternating_bit_receiver_takes_what_it_expects() -> None:
    r = Script(receiving(StopAndWaitReceiver(), 1))
    r.data(1, b"x").acks(1).delivers()
    r.data(0, b"a").acks(0).delivers(b"a")
    r.data(0, b"a").acks(0).delivers()
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"c").acks(0).delivers(b"c")


# Go-back-N


def test_go_back_n_restarts_its_timer_for_the_packet_that_is_now_the_oldest() -> None:
    s = go_back_n(3)
    s.app(b"a", b"b", b"c").says(0, 1, 2)
    s.at(0.6).ack(0).says()
    s.at(1.5).says()  # 1.0 would be too soon: the timer restarted at 0.6
    s.at(1.6).says(1, 2)


def test_go_back_n_believes_an_ack_for_all_packets_up_to_it() -> None:
    s = go_back_n(3).app(b"a", b"b", b"c", b"d", b"e", b"f").says(0, 1, 2)
    s.ack(2).says(3, 4, 5)  # the ACKs of 0 and 1 were lost
    assert s.ack(5).machine.done


def test_go_back_n_does_not_restart_its_timer_for_an_old_ack() -> None:
    s = go_back_n(3).app(b"a", b"b", b"c", b"d").says(0, 1, 2).ack(0).says(3)
    s.at(0.5).ack(0, 0, 0).says()
    s.at(1.0).says(1, 2, 3)


def test_go_back_n_believes_the_ack_of_a_first_copy_that_comes_after_going_back() -> (
    None
):
    machine = GoBackNSender(FixedRto(1.0), FixedWindow(4))
    for payload in (b"a", b"b", b"c", b"d"):
        machine.send(payload)
    for _ in range(4):
        machine.next_packet(0.0)
    machine.on_timeout(1.0)
    assert machine.next_packet(1.0) == Packet(DATA, 0, b"a", ts_val=1.0)
    machine.on_packet(Packet(ACK, 2), 1.1)  # 0, 1 and 2 had only been slow
    assert machine.next_packet(1.1) == Packet(DATA, 3, b"d", ts_val=1.1)
    assert machine.next_packet(1.1) is None


def test_go_back_n_s_receiver_drops_what_is_early_and_says_how_far_it_is() -> None:
    r = Script(GoBackNReceiver())
    r.data(1, b"b").acks(-1).delivers()  # nothing has arrived in order
    r.data(0, b"a").acks(0).delivers(b"a")
    r.data(2, b"c").acks(0).delivers()
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"a").acks(1).delivers()


def test_go_back_n_writes_its_numbers_with_the_bits_it_has() -> None:
    s = go_back_n(3, bits=2).app(*[b"x"] * 7).says(0, 1, 2)
    s.ack(2).says(3, 0, 1)
    s.ack(2).says()  # old: it cannot mean packet 6
    assert s.ack(1).says(2).ack(2).machine.done
    r = Script(receiving(GoBackNReceiver(), 2))
    r.data(1, b"b").acks(3).delivers()  # -1, with two bits
    for number in range(6):
        r.data(number % 4, b"%d" % number).acks(number % 4)
    r.delivers(*(b"%d" % number for number in range(6)))


# Selective repeat


def test_selective_repeat_sends_again_only_the_packet_that_is_missing() -> None:
    s = selective_repeat(4).app(b"a", b"b", b"c", b"d", b"e").says(0, 1, 2, 3)
    s.at(0.5).ack(0, 2, 3).says(4)  # the window starts at 1 now
    s.at(1.0).says(1)
    s.at(1.25).ack(1).says()
    assert s.at(1.5).says(4).ack(4).machine.done


def test_selective_repeat_has_a_timer_for_each_packet() -> None:
    s = selective_repeat(4).app(b"a").says(0).at(0.25).app(b"b").says(1)
    s.at(0.5).app(b"c").says(2)
    s.at(1.0).says(0)
    s.at(1.25).says(1)
    s.at(1.5).says(2)
    s.at(2.0).says(0)


def test_selective_repeat_s_window_waits_for_its_oldest_packet() -> None:
    s = selective_repeat(3).app(*[b"x"] * 9).says(0, 1, 2)
    s.ack(1, 2).says()  # 0 is still missing
    s.ack(0).says(3, 4, 5)


def test_selective_repeat_backs_off_once_for_a_flight_of_losses() -> None:
    rtt = Rfc6298()
    s = Script(SelectiveRepeatSender(rtt, FixedWindow(4))).app(*[b"x"] * 4)
    s.at(1.0)
    s.at(2.0)
    assert rtt.rto == 2.0  # four packets were lost, and it was one mishap
    s.at(3.0)
    assert rtt.rto == 4.0


def test_selective_repeat_s_receiver_keeps_what_is_early() -> None:
    r = Script(SelectiveRepeatReceiver(window=4))
    r.data(1, b"b").acks(1).delivers()
    r.data(3, b"d").acks(3).delivers()
    r.data(0, b"a").acks(0).delivers(b"a", b"b")
    r.data(2, b"c").acks(2).delivers(b"c", b"d")


def test_selective_repeat_s_receiver_has_no_room_beyond_its_window() -> None:
    r = Script(SelectiveRepeatReceiver(window=2))
    r.data(2, b"c").acks().delivers()  # and must not say that it had arrived
    r.data(1, b"b").acks(1).data(0, b"a").acks(0).delivers(b"a", b"b")
    r.data(2, b"c").acks(2).delivers(b"c")


def test_selective_repeat_s_receiver_remembers_no_more_than_its_window() -> None:
    r = Script(SelectiveRepeatReceiver(window=4))
    for number in range(1, 1000):
        r.data(number, b"x")
    assert sorted(r.machine.early) == [1, 2, 3]


def test_selective_repeat_writes_its_numbers_with_the_bits_it_has() -> None:
    s = selective_repeat(2, bits=2).app(*[b"x"] * 6).says(0, 1)
    s.ack(1, 0).says(2, 3).ack(2, 3).says(0, 1)
    r = Script(receiving(SelectiveRepeatReceiver(2), 2, window=2))
    r.data(0, b"a").data(1, b"b").data(3, b"d").data(2, b"c").acks(0, 1, 3, 2)
    r.delivers(b"a", b"b", b"c", b"d")
    r.data(3, b"d").acks(3).delivers()  # of before the window
    r.data(0, b"e").acks(0).delivers(b"e")


# Best effort


def test_best_effort_says_everything_once_and_is_done() -> None:
    s = Script(BestEffortSender()).app(b"a", b"b", b"c").says(0, 1, 2)
    assert s.machine.done
    assert s.at(100).ack(0).says().machine.deadline is None


def test_best_effort_delivers_what_comes_as_it_comes() -> None:
    r = Script(BestEffortReceiver())
    r.data(2, b"c").data(0, b"a").data(0, b"a").acks().delivers(b"c", b"a", b"a")


# Every pattern of a few losses


def losses(most: int, first: int = 8) -> Iterator[tuple[set[int], set[int]]]:
    """Yield every way to lose at most `most` of the first packets, both ways."""
    places = [(way, number) for way in (0, 1) for number in range(1, first + 1)]
    for count in range(most + 1):
        for lost in combinations(places, count):
            yield {n for way, n in lost if not way}, {n for way, n in lost if way}


def survives(sender: Sender, receiver: Receiver, link: ScriptedLink) -> bool:
    payloads = [b"payload %d" % number for number in range(8)]
    run = simulate(sender, receiver, payloads, link, record=False)
    return run.done and run.delivered == payloads


@pytest.mark.parametrize(
    "setup",
    [
        Setup("stop_and_wait", timeout=1.0),
        Setup("stop_and_wait", timeout=1.0, seq_bits=1),
        Setup("go_back_n", window=4, timeout=1.0),
        Setup("go_back_n", window=3, timeout=1.0, seq_bits=2),
        Setup("selective_repeat", window=4, timeout=1.0),
        Setup("selective_repeat", window=2, timeout=1.0, seq_bits=2),
    ],
    ids=lambda setup: f"{setup.protocol} W={setup.window} k={setup.seq_bits}",
)
def test_it_survives_every_loss_of_up_to_three_packets(setup: Setup) -> None:
    for lose, lose_back in losses(3):
        link = ScriptedLink(lose=lose, lose_back=lose_back)
        sender, receiver = setup.sender().sender, setup.receiver().receiver
        assert survives(sender, receiver, link), f"losing {lose} and ACKs {lose_back}"


@pytest.mark.parametrize(
    ("setup", "link", "wrong"),
    [
        # Packet 0 is lost. The receiver says three times "nothing yet": -1, which is 3
        # with two bits, and the sender hears that all four have arrived.
        (Setup("go_back_n", 4, 1.0, seq_bits=2), ScriptedLink(lose={1}), {0: 4}),
        (
            Setup("go_back_n", 4, 1.0, seq_bits=2),
            ScriptedLink(lose_back={1, 2, 3, 4}),
            {4: 0, 5: 1, 6: 2, 7: 3},
        ),
        # Packets 0, 1, 2 arrive, and the ACK of 0 is lost. 0 comes again, and 0 is also
        # how the receiver's new window 3, 4, 5 writes its 4.
        (
            Setup("selective_repeat", 3, 1.0, seq_bits=2),
            ScriptedLink(lose_back={1}),
            {4: 0},
        ),
    ],
    ids=["a loss", "a window of lost ACKs", "a lost ACK"],
)
def test_with_too_few_numbers_for_the_window_an_old_packet_is_taken_for_a_new_one(
    setup: Setup, link: ScriptedLink, wrong: dict[int, int]
) -> None:
    payloads = [b"payload %d" % number for number in range(8)]
    run = simulate(setup.sender(), setup.receiver(), payloads, link)
    for place, payload in wrong.items():
        assert run.delivered[place] == payloads[payload]


@pytest.mark.parametrize("seed", range(20))
def test_the_alternating_bit_is_enough_on_a_link_that_keeps_the_order(
    seed: int,
) -> None:
    setup = Setup("stop_and_wait", timeout=0.3, seq_bits=1)
    payloads = [b"payload %d" % number for number in range(20)]
    link = Link(delay=0.1, jitter=0.1, loss=0.3, corrupt=0.1, duplicate=0.1, seed=seed)
    assert simulate(setup.sender(), setup.receiver(), payloads, link).delivered == (
        payloads
    )


# A page is a slide


def code(thing: object) -> list[str]:
    """Return the lines of code, without docstrings, comments and empty lines."""
    tree = ast.parse(inspect.getsource(thing))  # type: ignore[arg-type]  # a class
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return [line for line in ast.unparse(tree).split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("before", "after", "most"),
    [
        (StopAndWaitSender, GoBackNSender, 18),
        (StopAndWaitReceiver, GoBackNReceiver, 3),
        (GoBackNSender, SelectiveRepeatSender, 38),
        (GoBackNReceiver, SelectiveRepeatReceiver, 12),
    ],
)
def test_from_a_page_to_the_next_is_a_slide(
    before: type, after: type, most: int
) -> None:
    changes = difflib.ndiff(code(before), code(after))
    assert sum(change.startswith("+ ") for change in changes) <= most


def test_the_pages_have_the_same_members_in_the_same_order() -> None:
    pages = [StopAndWaitSender, GoBackNSender, SelectiveRepeatSender]
    members = [
        [name for name, value in vars(page).items() if inspect.isfunction(value)]
        for page in pages
    ]
    written = [[name for name in each if not name.startswith("_")] for each in members]
    wanted = ["next_packet", "on_packet", "on_timeout"]
    assert written == [wanted] * 3


# The setup


@pytest.mark.parametrize(
    "wrong",
    [
        *({"protocol": name} for name in ("carrier_pigeon", None)),
        *({"window": size} for size in (0, 100_001, 2.5, True, "16")),
        *({"timeout": time} for time in (0.0, 3600.0, float("nan"), "1")),
        *({"seq_bits": bits} for bits in (0, 32, 2.0)),
        *({"rate": rate} for rate in (0, 1e13)),
        {"timestamps": 1},
        {"polite": 0},
    ],
    ids=repr,
)
def test_an_impossible_setup_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Setup(**wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Setup.from_dict(wrong)


def test_a_setup_from_elsewhere_has_no_other_names() -> None:
    with pytest.raises(ValueError, match="windows"):
        Setup.from_dict({"windows": 4})


def test_a_setup_survives_being_written_down() -> None:
    setup = Setup("go_back_n", window=7, timeout=0.5, timestamps=False, seq_bits=3)
    assert Setup.from_dict(setup.to_dict()) == setup


def test_fast_and_the_fountain_find_their_window_unless_they_are_given_one() -> None:
    link = Link(delay=0.02, rate=50e6)
    payloads = [bytes(1200)] * 2000
    for name in sorted({"fast", "fountain"} & PROTOCOLS.keys()):
        setup = Setup(name, rate=50e6)
        run = simulate(setup.sender(), setup.receiver(), payloads, link)
        assert run.time < 2 * 2000 * 1228 * 8 / 50e6, "16 packets a trip took 12 times"
    assert Setup("go_back_n").window == 16
    assert Setup("fast", window=16).window == 16
