"""The same machines everywhere: recorded, replayed, explained, and in two processes."""

from __future__ import annotations

import inspect
import random
import sys
from pathlib import Path
from typing import Any

import first_attempt
import pytest
from first_attempt import Receiver, Sender
from loopback import (
    BAD,
    FAR,
    PARCEL,
    PATIENCE,
    RELIABLE,
    SHORT,
    another_process,
    eventually,
    line_of,
    of_kind,
    over,
    same_pixels,
    setup,
    twin,
    two_sockets,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.checker import check
from p2plab.checker.postmortem import autopsy
from p2plab.checker.verdict import ARROWS
from p2plab.content.transfer import Transfer, simulate_transfer
from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, NAK, Kind, Packet
from p2plab.core.trace import RECEIVER, RETRANSMIT, SEND, SENDER, Trace
from p2plab.errors import BrokenContract, TransferRefused
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.sim.contract import require_machine
from p2plab.sim.driver import Host
from p2plab.sim.replay import Raised, Recording, recording, replay
from p2plab.sim.simulator import simulate

LOSSY = Link(delay=0.002, loss=0.2, seed=3)


class MySender(Sender):
    rto = 0.2


# Mistakes.


class Forgetful(Receiver):
    """Takes a copy for a new packet."""

    def on_packet(self, packet: Packet, now: float) -> None:
        self.expected = packet.seq
        super().on_packet(packet, now)


class Mute(Receiver):
    """Does not acknowledge a copy."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected:
            super().on_packet(packet, now)


class Gambler(MySender):
    """Waits for a time that nobody can know."""

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet is not None:
            self.deadline = now + random.uniform(0.05, 0.2)
        return packet


class Nervous(MySender):
    """Raises because of what arrives."""

    def on_packet(self, packet: Packet, now: float) -> None:
        raise KeyError(packet.seq)


class Hearing(Receiver):
    """Answers what arrived damaged."""

    def on_corrupt(self, now: float) -> None:
        self.acks.append(Packet(ACK, self.expected - 1))


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a pair of classes a name."""

    def register(sender: type = MySender, receiver: type = Receiver) -> Setup:
        pair = (lambda setup, rtt: sender(), lambda setup: receiver())
        monkeypatch.setitem(PROTOCOLS, "mine", pair)
        return Setup("mine")

    return register


def send(setup: Setup, link: Link | ScriptedLink = LOSSY) -> tuple[Transfer, Any]:
    """Send the picture over real sockets, and return the transfer and its tape."""
    with recording(setup.protocol) as tape, two_sockets() as (here, there):
        transfer = over(here.send(there.address, PARCEL, setup, link=link))
        over(twin(there, transfer))
    return transfer, tape


def packets_of(trace: Trace, role: str) -> list[tuple[int, int]]:
    """Return kind and seq of what a machine sent; FIN and its ACK are Finish's."""
    return [
        (row.kind, row.seq)
        for row in trace
        if row.host == role
        and row.what in (SEND, RETRANSMIT)
        and row.kind in (DATA, ACK, NAK)
        and row.seq != PARCEL.content.count
    ]


# Recording and replay


@pytest.mark.parametrize(
    ("protocol", "link"),
    [*((name, LOSSY) for name in PROTOCOLS), ("selective_repeat", BAD)],
)
def test_a_real_run_replays_into_fresh_machines_packet_for_packet(
    protocol: str, link: Link
) -> None:
    transfer, tape = send(setup(protocol), link)
    assert sorted(each.role for each in tape) == [RECEIVER, SENDER]
    for each in tape:
        again = replay(each)
        assert again.ok, again.difference
        assert again.calls == len(each.calls)
        assert again.packets == len(each.packets)
        ours = [(int(packet.kind), packet.seq) for packet in each.packets]
        assert packets_of(transfer.trace, each.role) == ours
        assert ours or (protocol, each.role) == ("best_effort", RECEIVER)
    sent = next(each for each in tape if each.role == SENDER)
    assert sent.payloads == list(PARCEL.payloads)


def test_a_recorded_transfer_is_what_it_would_have_been() -> None:
    plain = simulate_transfer(PARCEL, Setup("go_back_n"), LOSSY)
    with recording("go_back_n") as tape:
        recorded = simulate_transfer(PARCEL, Setup("go_back_n"), LOSSY)
    assert recorded.trace.digest() == plain.trace.digest()
    assert [replay(each).ok for each in tape] == [True, True]


def test_nothing_is_recorded_outside_and_the_name_means_what_it_did() -> None:
    before = PROTOCOLS["go_back_n"]
    with recording("go_back_n") as tape, recording("stop_and_wait") as other:
        simulate_transfer(PARCEL, Setup("go_back_n"))
    assert PROTOCOLS["go_back_n"] is before
    calls = [len(each.calls) for each in tape]
    simulate_transfer(PARCEL, Setup("go_back_n"))
    assert [len(each.calls) for each in tape] == calls
    assert other == []


def test_an_unknown_name_cannot_be_recorded() -> None:
    with (
        pytest.raises(
            ValueError, match="no protocol 'mien'; choose one of best_effort"
        ),
        recording("mien"),
    ):
        pass


def test_a_machine_that_uses_chance_is_caught(mine: Any) -> None:
    transfer, tape = send(mine(Gambler))
    assert same_pixels(transfer)
    told = {each.role: replay(each) for each in tape}
    assert told[RECEIVER].ok
    difference = told[SENDER].difference
    assert difference.startswith("Gambler: call ")
    assert "deadline" in difference
    assert "look for chance" in difference
    assert difference in str(told[SENDER])
    assert "Same inputs, same outputs" in difference


def test_another_machine_answers_otherwise_and_the_first_difference_is_named(
    mine: Any,
) -> None:
    lost_ack = ScriptedLink(delay=0.002, lose_back={1})
    _, tape = send(mine(), lost_ack)
    receiver = next(each for each in tape if each.role == RECEIVER)
    again = replay(receiver, Mute())
    assert not again.ok
    assert again.packets == 1
    assert "next_packet" in again.difference


def test_an_exception_is_recorded_and_raised_again_in_the_replay(mine: Any) -> None:
    transfer, tape = send(mine(Nervous))
    assert isinstance(transfer.error, BrokenContract)
    assert str(transfer.error).startswith("Nervous: ")
    sender = next(each for each in tape if each.role == SENDER)
    assert any(each.answer == Raised("KeyError: 0") for each in sender.calls)
    assert replay(sender).ok


def test_damage_is_recorded_too(mine: Any) -> None:
    with recording(mine(MySender, Hearing).protocol) as tape:
        simulate_transfer(PARCEL, Setup("mine"), Link(corrupt=0.3, seed=1))
    receiver = next(each for each in tape if each.role == RECEIVER)
    assert any(each.name == "on_corrupt" for each in receiver.calls)
    assert replay(receiver).ok


def test_a_recorder_shows_the_machine_and_its_mistakes_as_they_are(mine: Any) -> None:
    with recording("stop_and_wait"):
        machine: Any = Setup("stop_and_wait").sender().sender
    require_machine(machine, SENDER)
    assert type(machine).__name__ == "StopAndWaitSender"
    assert not hasattr(machine, "on_corrupt")

    class Typo(MySender):
        on_timeout = None  # type: ignore[assignment]

        def on_time_out(self, now: float) -> None: ...

    def words() -> str:
        with pytest.raises(BrokenContract) as why:
            Host(Setup("mine").sender(), SENDER)
        return str(why.value)

    mine(Typo)
    told = words()
    with recording("mine"):
        assert words() == told


# What passed the check runs on real sockets, unchanged


def test_what_survives_the_check_survives_a_real_lossy_link(mine: Any) -> None:
    assert check(MySender, Receiver, budget=0.3).kind == "survived"
    assert simulate(MySender(), Receiver(), [b"A", b"B"], LOSSY).done
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, mine(), link=LOSSY)
        assert same_pixels(transfer.wait(PATIENCE))


PEER = f"""{inspect.getsource(first_attempt)}
import sys
from p2plab.protocols import PROTOCOLS
from p2plab.net.udp import UdpSocket

if sys.argv[1] == "knows":
    PROTOCOLS["mine"] = (lambda setup, rtt: Sender(), lambda setup: Receiver())
with UdpSocket() as socket:
    print(socket.address[1], flush=True)
    sys.stdin.readline()
    for each in socket.transfers():
        each.wait(20)
        print(each.assembly.verify(), flush=True)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import what this one does."""
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(sys.modules["p2plab"].__path__[0]).parent)
    )


def test_the_same_classes_work_between_two_processes(mine: Any) -> None:
    with another_process(PEER, "knows") as process, two_sockets() as (here, _):
        assert process.stdin
        address = ("127.0.0.1", int(line_of(process)))
        with recording(mine().protocol) as tape:
            here.send(address, PARCEL, Setup("mine"), link=LOSSY).wait(PATIENCE)
        process.stdin.write("\n")
        process.stdin.flush()
        assert line_of(process) == "True"
        assert process.wait(PATIENCE) == 0
    assert [each.role for each in tape] == [SENDER]
    assert replay(tape[0]).ok


def test_a_name_that_the_other_side_does_not_know_is_refused_in_words(
    mine: Any,
) -> None:
    with another_process(PEER, "knows not") as process, two_sockets() as (here, _):
        address = ("127.0.0.1", int(line_of(process)))
        transfer = here.send(address, PARCEL, mine())
        with pytest.raises(TransferRefused, match="there is no protocol 'mine'"):
            transfer.wait(PATIENCE)
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 0


# Why it failed


def arrows(trace: Trace) -> int:
    return sum(row.what in (SEND, RETRANSMIT) for row in trace)


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_good_transfer_has_nothing_to_explain(protocol: str) -> None:
    transfer, tape = send(setup(protocol))
    for verdict in (autopsy(transfer), autopsy(transfer, tape)):
        assert verdict.kind == "survived"
        assert "Everything was delivered" in verdict.sentence


def test_the_first_wrong_delivery_is_shown_with_what_led_to_it(mine: Any) -> None:
    lost_ack = ScriptedLink(delay=0.002, lose_back={5})
    transfer, tape = send(mine(MySender, Forgetful), lost_ack)
    verdict = autopsy(transfer, tape)
    assert (verdict.kind, verdict.promise) == ("broken", "prefix")
    assert "delivered payload 4 once more when payload 5 was next" in verdict.sentence
    assert "lost 1" in verdict.sentence
    assert verdict.trace.rows[-1][2] == "deliver"
    assert 0 < arrows(verdict.trace) <= ARROWS
    assert "<svg" in verdict._repr_html_()


def test_of_a_tape_with_several_transfers_each_has_its_own(mine: Any) -> None:
    protocol = mine(MySender, Forgetful)
    bad, tape = send(protocol, ScriptedLink(delay=0.002, lose_back={5}))
    good, other = send(protocol, ScriptedLink(delay=0.002))
    for tapes in (tape + other, other + tape):
        assert autopsy(bad, tapes).kind == "broken"
        assert autopsy(good, tapes).kind == "survived"
    assert "The tape is of another transfer." in autopsy(good, tape).note


def test_a_stalled_transfer_is_shown_from_its_end(mine: Any) -> None:
    mine(MySender, Mute)
    lost_ack = ScriptedLink(delay=0.01, lose_back={5})
    with recording("mine") as tape:
        transfer = simulate_transfer(PARCEL, Setup("mine"), lost_ack, patience=20.0)
    verdict = autopsy(transfer, tape)
    assert (verdict.kind, verdict.promise) == ("broken", "completion")
    assert "5 of" in verdict.sentence
    assert "after that the sender sent packet 4" in verdict.sentence
    assert arrows(verdict.trace) == ARROWS
    assert str(verdict).startswith("broken: ")


def test_a_breach_on_real_sockets_points_to_the_students_line(mine: Any) -> None:
    transfer, tape = send(mine(Nervous))
    verdict = autopsy(transfer, tape)
    assert (verdict.kind, verdict.promise) == ("breach", "no exception")
    assert "raise KeyError(packet.seq)" in verdict.sentence


def test_a_breach_of_the_other_end_is_found_too(mine: Any) -> None:
    class Rude(Receiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            raise ValueError("not now")

    transfer, _ = send(mine(MySender, Rude))
    verdict = autopsy(transfer)
    assert (verdict.kind, verdict.promise) == ("breach", "no exception")
    assert "Rude.on_packet raised ValueError: not now at" in verdict.sentence


@pytest.mark.parametrize("link", [Link(loss=0.999, seed=1), None])
def test_a_network_that_is_down_is_not_the_protocols_fault(link: Link | None) -> None:
    with two_sockets() as (here, there):
        if link is None:
            there.close()
        transfer = here.send(
            there.address, PARCEL, setup(), link=link, patience=5 * SHORT
        )
        verdict = autopsy(over(transfer))
    assert (verdict.kind, verdict.promise) == ("unjudged", None)
    told = "nobody has answered our offer" if link is None else "were all lost"
    assert told in verdict.sentence.replace("Nobody", "nobody")
    assert str(verdict).startswith("not the protocol's fault: ")
    assert "<svg" in verdict._repr_html_()


def test_who_is_stopped_breaks_no_promise() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(), link=FAR)
        eventually(lambda: of_kind(transfer.trace, Kind.DATA), "it has begun")
        transfer.stop()
        verdict = autopsy(over(transfer))
    assert verdict.kind == "unjudged"
    assert "stopped here" in verdict.sentence
    assert "not the protocol&#x27;s fault</b>" in verdict._repr_html_()


def test_chance_comes_before_everything_else(mine: Any) -> None:
    verdict = autopsy(*send(mine(Gambler)))
    assert (verdict.kind, verdict.promise) == ("breach", "same again")


def test_a_transfer_that_goes_on_is_not_opened_up() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, link=ScriptedLink(delay=9.0))
        with pytest.raises(ValueError, match="still goes on"):
            autopsy(transfer)


def test_recordings_tell_their_role_and_little_else() -> None:
    with recording("stop_and_wait") as tape:
        simulate_transfer(PARCEL, Setup("stop_and_wait"))
    assert repr(tape[0]) == "Recording(role='sender')"
    assert isinstance(tape[1], Recording)


def test_two_classes_can_be_named_as_they_are(mine: Any) -> None:
    protocol = mine(MySender, Receiver)
    PROTOCOLS["mine"] = (MySender, Receiver)
    with recording("mine") as tape:
        transfer = simulate_transfer(PARCEL, protocol, Link())
    assert transfer.state == "done"
    assert all(replay(each).ok for each in tape)
    with pytest.raises(ValueError, match="write PROTOCOLS\\['mine'\\] = "):
        Setup(MySender, Receiver)  # type: ignore[arg-type]
