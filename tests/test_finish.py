"""The end of a transfer: neither side waits for ever, whatever is lost."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from script import Script

from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, FIN, Packet
from p2plab.core.rtt import FixedRto
from p2plab.core.window import FixedWindow
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.sim.simulator import Run, simulate


def sending(tries: int = 10) -> Script:
    rtt = FixedRto(1.0)
    return Script(FinishSender(GoBackNSender(rtt, FixedWindow(4)), rtt, tries))


def receiving() -> Script:
    return Script(FinishReceiver(GoBackNReceiver()))


# The sender's side, step by step


def test_the_fin_comes_after_the_last_ack_and_takes_the_next_number() -> None:
    s = sending().app(b"a", b"b").says(0, 1).finish().fins()
    s.at(0.5).ack(0).fins()
    s.ack(1).fins(2)
    assert not s.machine.done
    s.at(0.75).ack(2).fins()
    assert s.machine.done
    assert s.machine.confirmed
    assert s.machine.deadline is None


def test_a_sender_that_was_not_told_the_end_says_no_fin() -> None:
    s = sending().app(b"a").says(0).ack(0).fins()
    assert s.machine.done
    assert s.machine.deadline is None
    s.at(5.0).app(b"b").says(1).ack(1).finish().fins(2)


def test_a_fin_is_said_again_until_it_is_answered() -> None:
    s = sending().finish().fins(0).at(0.999).fins().at(1.0).fins(0)
    s.at(3.5).fins(0, 0).ack(0).at(100.0).fins()
    assert s.machine.confirmed


def test_after_its_last_try_a_sender_ends_without_an_answer() -> None:
    s = sending(tries=3).finish().at(2.5).fins(0, 0, 0)
    assert not s.machine.done  # there is still a round trip to wait for
    s.at(3.0).fins()
    assert s.machine.done
    assert not s.machine.confirmed
    assert s.machine.deadline is None
    assert s.ack(0).machine.confirmed  # an answer still counts


def test_an_old_ack_does_not_confirm_a_fin() -> None:
    s = sending().app(b"a", b"b").says(0, 1).ack(2).finish().fins()
    s.ack(1).fins(2).ack(0, 1, 3).at(0.5).fins()
    assert not s.machine.confirmed


def test_the_fin_is_repeated_while_a_receiver_lingers() -> None:
    rtt = FixedRto(100.0)
    s = Script(FinishSender(GoBackNSender(rtt, FixedWindow(4)), rtt))
    s.finish().fins(0).at(1.9).fins().at(2.0).fins(0).at(3.9).fins().at(4.0).fins(0)
    assert FinishReceiver(GoBackNReceiver()).linger > 2.0


# The receiver's side, step by step


def test_a_receiver_answers_the_fin_and_knows_how_many_there_were() -> None:
    r = receiving().data(0, b"a").acks(0)
    assert not r.machine.finished
    r.fin(1).acks(1).delivers(b"a")
    assert r.machine.finished
    assert r.machine.total == 1


def test_a_receiver_lingers_and_answers_every_fin_that_comes_again() -> None:
    r = receiving().at(1.0).fin(0).acks(0)
    assert r.machine.deadline == 5.0
    r.at(2.5).fin(0).acks(0)
    assert r.machine.deadline == 6.5  # asked again: it stays a little longer
    r.at(6.5).acks()
    assert r.machine.deadline is None
    assert r.machine.finished
    r.at(10.0).fin(0).acks(0)  # as long as a driver keeps it


def test_the_answer_to_a_fin_echoes_its_stamp() -> None:
    machine = FinishReceiver(GoBackNReceiver())
    machine.on_packet(Packet(FIN, 4, ts_val=1.5), 2.0)
    assert machine.next_packet(2.0) == Packet(ACK, 4, ts_ecr=1.5)


# Both sides


def transfer(link: Any, protocol: str = "go_back_n") -> tuple[Run, Any, Any]:
    setup = Setup(protocol, window=4, timeout=1.0)
    sender, receiver = setup.sender(), setup.receiver()
    run = simulate(sender, receiver, [b"a", b"b", b"c"], link)
    return run, sender, receiver


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_sides_end_for_every_loss_of_two_packets_around_the_fin(
    protocol: str,
) -> None:
    places = [(way, number) for way in (0, 1) for number in range(1, 9)]
    for lost in combinations(places, 2):
        link = ScriptedLink(
            lose={n for way, n in lost if not way},
            lose_back={n for way, n in lost if way},
        )
        run, sender, receiver = transfer(link, protocol)
        assert sender.confirmed, link
        assert receiver.finished, link
        assert sender.deadline is receiver.deadline is None, link
        if protocol != "best_effort":
            assert run.delivered == [b"a", b"b", b"c"], link


FROM_THE_FOURTH_ON = frozenset(range(4, 100))  # after three payloads


@pytest.mark.parametrize(
    "link",
    [
        ScriptedLink(lose=FROM_THE_FOURTH_ON),
        ScriptedLink(lose_back=FROM_THE_FOURTH_ON),
    ],
    ids=["FINs", "ACKs"],
)
def test_a_sender_whose_fins_are_never_answered_gives_up_after_ten(
    link: ScriptedLink,
) -> None:
    run, sender, receiver = transfer(link)
    assert run.delivered == [b"a", b"b", b"c"]
    assert run.done
    assert not sender.confirmed
    fins = [r for r in run.trace if r.kind == FIN and r.what in ("send", "retransmit")]
    assert len(fins) == 10
    assert receiver.finished == bool(link.lose_back)
    assert sender.deadline is receiver.deadline is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_sides_end_on_a_very_bad_link(protocol: str, seed: int) -> None:
    link = Link(
        delay=0.1, jitter=0.1, loss=0.4, corrupt=0.1, duplicate=0.2, reorder=0.2,
        seed=seed,
    )  # fmt: skip
    run, sender, receiver = transfer(link, protocol)
    assert run.done
    assert sender.deadline is receiver.deadline is None
