"""The protocol pages, one behaviour at a time: scripts that can be read aloud."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import pytest
from script import Script

from p2plab.core.endpoint import FixedWindow
from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, NAK, Packet
from p2plab.core.rtt import Rfc6298
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.selective_repeat import SelectiveRepeatSender
from p2plab.sim.simulator import simulate

RELIABLE = ["stop_and_wait", "go_back_n", "selective_repeat"]
PAYLOADS = [b"payload %d" % number for number in range(8)]


def sender(protocol: str, window: int = 4, bits: int | None = None) -> Script:
    """Return the bare machine of a page: no FIN around it."""
    setup = Setup(protocol, window=window, timeout=1.0, seq_bits=bits)
    return Script(setup.sender().sender)


def receiver(protocol: str, window: int = 4, bits: int | None = None) -> Script:
    setup = Setup(protocol, window=window, seq_bits=bits)
    return Script(setup.receiver().receiver)


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
def test_a_sender_believes_only_acks_and_a_receiver_takes_only_data(
    protocol: str,
) -> None:
    for kind in {DATA, ACK, NAK, FIN}:
        s, r = sender(protocol).app(b"a").says(0), receiver(protocol)
        s.machine.on_packet(Packet(kind, 0), 0.5)
        assert (s.machine.done, s.machine.deadline) == (
            (True, None) if kind == ACK else (False, 1.0)
        )
        r.machine.on_packet(Packet(kind, 0, b"a"), 0.0)
        assert (r.machine.next_packet(0.0) is None) == (kind != DATA)
        assert r.machine.next_payload() == (b"a" if kind == DATA else None)


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_receiver_acknowledges_a_duplicate_again_and_delivers_it_once(
    protocol: str,
) -> None:
    r = receiver(protocol).data(0, b"a").acks(0).delivers(b"a")
    r.data(0, b"a").acks(0).delivers()  # the first ACK may have been lost
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"a").delivers()


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_packet_has_the_time_it_was_sent_at_and_its_ack_echoes_it(
    protocol: str,
) -> None:
    ours, theirs = sender(protocol).machine, receiver(protocol).machine
    ours.send(b"a")
    packet = ours.next_packet(7.5)
    assert packet == Packet(DATA, 0, b"a", ts_val=7.5)
    theirs.on_packet(packet, 8.0)
    assert theirs.next_packet(8.0) == Packet(ACK, 0, ts_ecr=7.5)


@pytest.mark.parametrize(
    ("protocol", "since"),
    [("stop_and_wait", 0.25), ("go_back_n", 0.25), ("selective_repeat", 0.0)],
)
def test_a_timer_uses_the_timeout_that_was_learnt(protocol: str, since: float) -> None:
    machine = Setup(protocol, window=4, timestamps=False).sender().sender
    Script(machine).app(b"a", b"b", b"c", b"d", b"e").at(0.25).ack(0)
    assert machine.deadline == since + 0.75  # SRTT 0.25, RTTVAR 0.125


# Stop-and-wait


def test_stop_and_wait_sends_again_when_the_timer_fires_and_not_before() -> None:
    s = sender("stop_and_wait").app(b"a", b"b").says(0)
    s.at(0.999).says()
    s.at(1.000).says(0)
    s.at(1.200).ack(0).says(1)
    s.at(1.300).ack(0).says()  # the ACK of the first copy, arriving late


def test_the_alternating_bit_says_0_and_1_in_turns() -> None:
    s = sender("stop_and_wait", bits=1).app(b"a", b"b", b"c").says(0)
    s.ack(1).says()  # of the packet before
    s.ack(0).says(1)
    s.ack(0).says()  # a duplicate
    s.ack(1).says(0)
    assert s.ack(0).machine.done
    r = receiver("stop_and_wait", bits=1)
    r.data(1, b"x").acks(1).delivers()
    r.data(0, b"a").acks(0).delivers(b"a")
    r.data(0, b"a").acks(0).delivers()
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"c").acks(0).delivers(b"c")


# Go-back-N


def test_go_back_n_restarts_its_timer_for_a_new_ack_and_not_for_an_old_one() -> None:
    s = sender("go_back_n", 3).app(b"a", b"b", b"c").says(0, 1, 2)
    s.at(0.6).ack(0).says()
    s.at(0.9).ack(0, 0, 0).says()
    s.at(1.5).says()  # 1.0 would be too soon: the timer restarted at 0.6
    s.at(1.6).says(1, 2)


def test_go_back_n_believes_an_ack_for_all_packets_up_to_it() -> None:
    s = sender("go_back_n", 3).app(b"a", b"b", b"c", b"d", b"e", b"f").says(0, 1, 2)
    s.ack(2).says(3, 4, 5)  # the ACKs of 0 and 1 were lost
    assert s.ack(5).machine.done


def test_go_back_n_believes_an_ack_of_first_copies_after_going_back() -> None:
    machine = sender("go_back_n").app(b"a", b"b", b"c", b"d").machine
    machine.on_timeout(1.0)
    assert machine.next_packet(1.0) == Packet(DATA, 0, b"a", ts_val=1.0)
    machine.on_packet(Packet(ACK, 2), 1.1)  # 0, 1 and 2 had only been slow
    assert machine.next_packet(1.1) == Packet(DATA, 3, b"d", ts_val=1.1)
    assert machine.next_packet(1.1) is None


def test_go_back_n_s_receiver_drops_what_is_early_and_says_how_far_it_is() -> None:
    r = receiver("go_back_n")
    r.data(1, b"b").acks(-1).delivers()  # nothing has arrived in order
    r.data(0, b"a").acks(0).delivers(b"a")
    r.data(2, b"c").acks(0).delivers()
    r.data(1, b"b").acks(1).delivers(b"b")
    r.data(0, b"a").acks(1).delivers()


def test_go_back_n_writes_its_numbers_with_the_bits_it_has() -> None:
    s = sender("go_back_n", 3, bits=2).app(*[b"x"] * 7).says(0, 1, 2)
    s.ack(2).says(3, 0, 1)
    s.ack(2).says()  # old: it cannot mean packet 6
    assert s.ack(1).says(2).ack(2).machine.done
    r = receiver("go_back_n", bits=2)
    r.data(1, b"b").acks(3).delivers()  # -1, with two bits
    for number in range(6):
        r.data(number % 4, b"%d" % number).acks(number % 4)
    r.delivers(*(b"%d" % number for number in range(6)))


# Selective repeat


def test_selective_repeat_sends_again_only_the_packet_that_is_missing() -> None:
    s = sender("selective_repeat").app(b"a", b"b", b"c", b"d", b"e").says(0, 1, 2, 3)
    s.at(0.5).ack(0, 2, 3).says(4)  # the window starts at 1 now
    s.at(1.0).says(1)
    s.at(1.25).ack(1).says()
    assert s.at(1.5).says(4).ack(4).machine.done


def test_selective_repeat_has_a_timer_for_each_packet() -> None:
    s = sender("selective_repeat").app(b"a").says(0).at(0.25).app(b"b").says(1)
    s.at(0.5).app(b"c").says(2)
    s.at(1.0).says(0)
    s.at(1.25).says(1)
    s.at(1.5).says(2)
    s.at(2.0).says(0)


def test_selective_repeat_s_window_waits_for_its_oldest_packet() -> None:
    s = sender("selective_repeat", 3).app(*[b"x"] * 9).says(0, 1, 2)
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


def test_selective_repeat_s_receiver_keeps_what_is_early_within_its_window() -> None:
    r = receiver("selective_repeat")
    r.data(1, b"b").acks(1).delivers()
    r.data(3, b"d").acks(3).delivers()
    for number in range(4, 1000):
        r.data(number, b"x").acks()  # no room, and it must not say that it had arrived
    assert sorted(r.machine.early) == [1, 3]
    r.data(0, b"a").acks(0).delivers(b"a", b"b")
    r.data(2, b"c").acks(2).delivers(b"c", b"d")


def test_selective_repeat_writes_its_numbers_with_the_bits_it_has() -> None:
    s = sender("selective_repeat", 2, bits=2).app(*[b"x"] * 6).says(0, 1)
    s.ack(1, 0).says(2, 3).ack(2, 3).says(0, 1)
    r = receiver("selective_repeat", 2, bits=2)
    r.data(0, b"a").data(1, b"b").data(3, b"d").data(2, b"c").acks(0, 1, 3, 2)
    r.delivers(b"a", b"b", b"c", b"d")
    r.data(3, b"d").acks(3).delivers()  # of before the window
    r.data(0, b"e").acks(0).delivers(b"e")


# Best effort


def test_best_effort_says_everything_once_and_delivers_what_comes() -> None:
    s = sender("best_effort").app(b"a", b"b", b"c").says(0, 1, 2)
    assert s.machine.done
    assert s.at(100).ack(0).says().machine.deadline is None
    r = receiver("best_effort")
    r.data(2, b"c").data(0, b"a").data(0, b"a").acks().delivers(b"c", b"a", b"a")


# Every pattern of a few losses


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
    places = [*range(1, 9), *range(-8, 0)]  # DATA, and ACKs
    for lost in chain.from_iterable(combinations(places, n) for n in range(4)):
        lose, lose_back = {n for n in lost if n > 0}, {-n for n in lost if n < 0}
        link = ScriptedLink(lose=lose, lose_back=lose_back)
        ends = setup.sender().sender, setup.receiver().receiver
        run = simulate(*ends, PAYLOADS, link, record=False)
        assert (run.done, run.delivered) == (True, PAYLOADS), f"losing {lost}"


@pytest.mark.parametrize(
    ("protocol", "window", "link", "wrong"),
    [
        # Packet 0 is lost. The receiver says three times "nothing yet": -1, which is 3
        # with two bits, and the sender hears that all four have arrived.
        ("go_back_n", 4, ScriptedLink(lose={1}), {0: 4}),
        ("go_back_n", 4, ScriptedLink(lose_back={1, 2, 3, 4}), {4: 0, 5: 1, 6: 2}),
        # Packets 0, 1, 2 arrive, and the ACK of 0 is lost. 0 comes again, and 0 is also
        # how the receiver's new window 3, 4, 5 writes its 4.
        ("selective_repeat", 3, ScriptedLink(lose_back={1}), {4: 0}),
    ],
    ids=["a loss", "a window of lost ACKs", "a lost ACK"],
)
def test_with_too_few_numbers_for_the_window_an_old_packet_is_taken_for_a_new_one(
    protocol: str, window: int, link: ScriptedLink, wrong: dict[int, int]
) -> None:
    setup = Setup(protocol, window, timeout=1.0, seq_bits=2)
    run = simulate(setup.sender(), setup.receiver(), PAYLOADS, link)
    for place, payload in wrong.items():
        assert run.delivered[place] == PAYLOADS[payload]


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


def test_a_setup_survives_being_written_down_and_has_no_other_names() -> None:
    setup = Setup("go_back_n", window=7, timeout=0.5, timestamps=False, seq_bits=3)
    assert Setup.from_dict(setup.to_dict()) == setup
    with pytest.raises(ValueError, match="windows"):
        Setup.from_dict({"windows": 4})


def test_fast_and_the_fountain_find_their_window_unless_they_are_given_one() -> None:
    link = Link(delay=0.02, rate=50e6)
    payloads = [bytes(1200)] * 2000
    for name in sorted({"fast", "fountain"} & PROTOCOLS.keys()):
        setup = Setup(name, rate=50e6)
        run = simulate(setup.sender(), setup.receiver(), payloads, link)
        assert run.time < 2 * 2000 * 1228 * 8 / 50e6, "16 packets a trip took 12 times"
    assert Setup("go_back_n").window == 16
    assert Setup("fast", window=16).window == 16
