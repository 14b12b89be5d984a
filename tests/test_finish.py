"""The end of a transfer: neither side waits for ever, whatever is lost."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from script import Script

from p2plab.core.endpoint import FixedWindow
from p2plab.core.link import ScriptedLink
from p2plab.core.packet import ACK, FIN, Packet
from p2plab.core.rtt import FixedRto
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.sim.simulator import Run, simulate


def sending(tries: int = 10, rto: float = 1.0) -> Script:
    rtt = FixedRto(rto)
    return Script(FinishSender(GoBackNSender(rtt, FixedWindow(4)), rtt, tries))


def receiving() -> Script:
    return Script(FinishReceiver(GoBackNReceiver()))


# The sender's side, step by step


def test_the_fin_comes_after_the_last_ack_and_takes_the_next_number() -> None:
    s = sending().app(b"a").says(0).ack(0).fins()  # it was not told of an end
    assert s.machine.done
    assert s.machine.deadline is None
    s.app(b"b").says(1).finish().fins()
    s.ack(1).fins(2)
    assert not s.machine.done
    s.at(0.5).ack(0, 1, 3).fins()  # none of them is the FIN's
    assert not s.machine.over
    s.at(0.75).ack(2).fins()
    assert s.machine.done
    assert s.machine.deadline is None


def test_a_fin_is_said_again_until_it_is_answered_while_a_receiver_lingers() -> None:
    s = sending().finish().fins(0).at(0.999).fins().at(1.0).fins(0)
    s.at(3.5).fins(0, 0).ack(0).at(100.0).fins()
    assert s.machine.over
    s = sending(rto=100.0).finish().fins(0)
    s.at(1.9).fins().at(2.0).fins(0).at(3.9).fins().at(4.0).fins(0)
    assert receiving().machine.linger > 2.0


def test_after_its_last_try_a_sender_ends_without_an_answer() -> None:
    s = sending(tries=3).finish().at(2.5).fins(0, 0, 0)
    assert not s.machine.done  # there is still a round trip to wait for
    s.at(3.0).fins()
    assert s.machine.done
    assert s.machine.deadline is None
    assert s.ack(0).machine.done


# The receiver's side, step by step


def test_a_receiver_answers_the_fin_and_knows_how_many_there_were() -> None:
    r = receiving().data(0, b"a").acks(0)
    assert not r.machine.finished
    r.machine.on_packet(Packet(FIN, 1, ts_val=1.5), 2.0)
    assert r.machine.next_packet(2.0) == Packet(ACK, 1, ts_ecr=1.5)
    r.delivers(b"a")
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
    for lost in combinations([*range(1, 9), *range(-8, 0)], 2):
        lose, lose_back = {n for n in lost if n > 0}, {-n for n in lost if n < 0}
        link = ScriptedLink(lose=lose, lose_back=lose_back)
        run, sender, receiver = transfer(link, protocol)
        assert sender.over, link
        assert sender.fins < 10, link
        assert receiver.finished, link
        assert sender.deadline is receiver.deadline is None, link
        if protocol != "best_effort":
            assert run.delivered == [b"a", b"b", b"c"], link


@pytest.mark.parametrize("lost", ["lose", "lose_back"])
def test_a_sender_whose_fins_are_never_answered_gives_up_after_ten(lost: str) -> None:
    after_three_payloads: Any = {lost: frozenset(range(4, 100))}
    run, sender, receiver = transfer(ScriptedLink(**after_three_payloads))
    assert run.delivered == [b"a", b"b", b"c"]
    assert run.done
    fins = [r for r in run.trace if r.kind == FIN and r.what in ("send", "retransmit")]
    assert len(fins) == 10
    assert receiver.finished == (lost == "lose_back")
    assert sender.deadline is receiver.deadline is None
