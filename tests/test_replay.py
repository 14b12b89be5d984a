"""A run is told again from its trace, packet for packet, and judged by it."""

from __future__ import annotations

import inspect
import random
import sys
import time
from pathlib import Path
from typing import Any

import first_attempt
import pytest
from first_attempt import Receiver, Sender
from loopback import (
    BAD,
    CHUNKS,
    FAR,
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
from p2plab.checker.diagnosis import Diagnosis, autopsy
from p2plab.checker.verdict import ARROWS
from p2plab.content.chunks import cut
from p2plab.content.transfer import WHY, State, Transfer, simulate_transfer
from p2plab.core.link import AnyLink, Link, ScriptedLink
from p2plab.core.packet import DATA, MACHINE_KINDS, Kind, Packet
from p2plab.core.trace import RECEIVER, RETRANSMIT, SEND, SENDER, Trace
from p2plab.errors import BrokenContract, TransferRefused, TransferStalled
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.sim.replay import Replay, replay
from p2plab.sim.simulator import simulate

LOSSY = Link(delay=0.002, loss=0.2, seed=3)
LOST_ACK = ScriptedLink(delay=0.002, lose_back={5})


class MySender(Sender):
    rto = 0.2


# Mistakes


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

    rng = random.Random()

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet is not None:
            self.deadline = now + self.rng.uniform(0.05, 0.2)
        return packet


class Seeded(Gambler):
    """Draws what it would have drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(4)


class Nervous(MySender):
    """Raises because of what arrives."""

    def on_packet(self, packet: Packet, now: float) -> None:
        raise KeyError(packet.seq)


class Rude(Receiver):
    """Raises because of what arrives."""

    def on_packet(self, packet: Packet, now: float) -> None:
        raise ValueError("not now")


class Huge(MySender):
    """Sends what does not fit the header."""

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and Packet(DATA, 2**40, packet.payload)


class Liar(Receiver):
    """Delivers other bytes."""

    def next_payload(self) -> Any:
        payload = super().next_payload()
        return payload and payload[::-1]


class Late(Receiver):
    """Starts a timer when it is asked in vain: that leaves a mark."""

    def __init__(self) -> None:
        super().__init__()
        self.deadline = None

    def next_packet(self, now: float) -> Packet | None:
        packet = super().next_packet(now)
        if packet is None and not self.expected % 2:
            self.deadline = now + 0.013
        return packet

    def on_timeout(self, now: float) -> None:
        self.deadline = None


class Paced(MySender):
    """Is pulled with pauses, and sends again at once when an answer is damaged."""

    pacing_rate = 150.0

    def on_corrupt(self, now: float) -> None:
        self.on_timeout(now)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a pair of classes a name."""

    def register(sender: type = MySender, receiver: type = Receiver) -> Setup:
        pair = (lambda setup, rtt: sender(), lambda setup: receiver())
        monkeypatch.setitem(PROTOCOLS, "mine", pair)
        return Setup("mine")

    return register


def send(
    setup: Setup, link: AnyLink | None = None, chunks: Any = CHUNKS, **options: Any
) -> Transfer:
    """Send over real sockets, and return the transfer when both ends are over."""
    with two_sockets() as (here, there):
        transfer = here.send(there.address, chunks, setup, link=link, **options)
        over(twin(there, over(transfer)))
    return transfer


def again(transfer: Transfer) -> Replay:
    """Run it once more."""
    offer, real = transfer.offer, transfer.id > 0
    receiver = offer.receiver() if real else offer.setup.receiver()
    twin = transfer.other_end if real else transfer
    assert twin is not None
    traces = {SENDER: transfer.own_trace, RECEIVER: twin.own_trace}
    payloads = transfer.payloads
    return replay(offer.setup.sender(), receiver, payloads, traces, real=real)


def sent(transfer: Transfer) -> int:
    """Count what the machines put on the wire."""
    return sum(
        row.what in (SEND, RETRANSMIT) and row.kind in MACHINE_KINDS
        for row in transfer.trace
    )


def assert_told_again(transfer: Transfer) -> None:
    """Every packet came out again, and every payload that was received."""
    result = again(transfer)
    assert (result.difference, result.error) == ("", None)
    assert result.packets == sent(transfer)
    assert transfer.assembly is not None
    arrived = transfer.assembly.received + transfer.assembly.duplicates
    assert len(result.delivered) == arrived


# Packet for packet


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("link", [LOSSY, BAD, None])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_run_is_told_again_from_its_trace(
    protocol: str, link: Link | None, timestamps: bool
) -> None:
    timeout = 0.03 if link else None
    assert_told_again(send(Setup(protocol, 4, timeout, timestamps), link))


@pytest.mark.parametrize("link", [None, Link(delay=0.005, loss=0.02, seed=2)])
def test_many_packets_at_once_are_told_again_as_they_came(link: Link | None) -> None:
    setup = Setup("selective_repeat", window=200)
    assert_told_again(send(setup, link, cut(bytes(400_000))))


@pytest.mark.parametrize("protocol", ["fast", "go_back_n"])
def test_packets_that_did_not_wait_for_an_answer_are_told_again(protocol: str) -> None:
    assert_told_again(send(Setup(protocol, window=8), BAD, at_once=True))


@pytest.mark.parametrize("protocol", ["go_back_n", "selective_repeat"])
def test_a_clock_that_ticks_slowly_hides_nothing(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = time.monotonic
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: fine() // 0.0156 * 0.0156)
        transfer = send(Setup(protocol, window=4, timeout=0.03), BAD)
    moments = {row.time for row in transfer.own_trace if row.what == SEND}
    assert len(moments) < 11, "many packets at each tick"
    assert_told_again(transfer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_simulated_run_is_told_again_whatever_the_network_does(protocol: str) -> None:
    for seed in range(20):
        link = Link(0.01, 0.01, 0.2, duplicate=0.1, corrupt=0.1, reorder=0.1, seed=seed)
        assert_told_again(simulate_transfer(CHUNKS, Setup(protocol, window=4), link))


@pytest.mark.parametrize("link", [LOSSY, BAD])
@pytest.mark.parametrize("sender", [Paced, Seeded])
def test_machines_are_asked_in_vain_paced_and_seeded_alike(
    mine: Any, sender: type, link: Link
) -> None:
    assert_told_again(send(mine(sender, Late), link))


def test_a_run_that_was_stopped_half_way_is_told_again_until_then(mine: Any) -> None:
    with two_sockets() as (here, there):
        link = ScriptedLink(delay=0.002)
        transfer = here.send(there.address, CHUNKS, mine(), link=link)
        eventually(lambda: len(transfer.own_trace.rows) > 9, "it has begun")
        transfer.stop()
        over(twin(there, transfer))
    assert_told_again(transfer)


# Or the note says that it cannot


def replayed(verdict: Diagnosis) -> bool:
    return verdict.note.startswith("Replayed into fresh machines: the same ")


def test_chance_is_not_told_again_and_nobody_is_accused_of_it(mine: Any) -> None:
    verdict = autopsy(send(mine(Gambler), LOSSY))
    assert verdict.kind == "survived"
    assert "the sender had a timeout, but a fresh machine: " in verdict.note
    assert verdict.note in str(verdict)
    assert "a fresh machine" in verdict._repr_html_()


def test_a_class_that_was_changed_since_is_noticed(mine: Any) -> None:
    transfer = send(mine(MySender, Forgetful))
    mine(MySender, type("Silent", (Receiver,), {"on_packet": lambda *told: None}))
    assert not replayed(autopsy(transfer))


def test_other_bytes_of_the_same_length_are_noticed(mine: Any) -> None:
    transfer = send(mine(MySender, Liar))
    assert autopsy(transfer).promise == "in_order_delivery"
    mine()
    assert "other bytes were delivered" in autopsy(transfer).note


def test_a_name_that_means_nothing_any_more_is_said(
    mine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = send(mine())
    monkeypatch.delitem(PROTOCOLS, "mine")
    assert autopsy(transfer).note.startswith("Not replayed: ")


def test_a_transfer_that_kept_no_trace_is_judged_by_what_has_arrived() -> None:
    for each, kind in (("go_back_n", "survived"), ("best_effort", "broken")):
        with two_sockets(record=False) as (here, there):
            link = ScriptedLink(delay=0.001, lose={3})
            transfer = here.send(
                there.address, CHUNKS, Setup(each), link=link, record=False
            )
            over(twin(there, over(transfer)))
        verdict = autopsy(transfer)
        assert verdict.kind == kind
        assert verdict.note == "Not replayed: there is no trace of it."


# What a diagnosis says


@pytest.mark.parametrize("protocol", RELIABLE)
def test_a_good_transfer_has_nothing_to_explain(protocol: str) -> None:
    verdict = autopsy(send(setup(protocol), LOSSY))
    assert (verdict.kind, verdict.promise) == ("survived", None)
    assert replayed(verdict)


def test_the_first_wrong_delivery_is_shown_with_what_led_to_it(mine: Any) -> None:
    verdict = autopsy(send(mine(MySender, Forgetful), LOST_ACK))
    assert (verdict.kind, verdict.promise) == ("broken", "in_order_delivery")
    assert "delivered payload 4 twice when payload 5 was next" in verdict.sentence
    assert verdict.trace.rows[-1].what == "deliver"
    assert 0 < arrows(verdict.trace) <= ARROWS
    assert "<svg" in verdict._repr_html_()
    assert replayed(verdict)


def arrows(trace: Trace) -> int:
    return sum(row.what in (SEND, RETRANSMIT) for row in trace)


def test_a_stalled_transfer_is_shown_from_its_end(mine: Any) -> None:
    setup = mine(MySender, Mute)
    simulated = simulate_transfer(CHUNKS, setup, LOST_ACK)
    with two_sockets() as (here, there):
        real = here.send(there.address, CHUNKS, setup, link=LOST_ACK, patience=SHORT)
        with pytest.raises(TransferStalled) as stalled:
            real.wait(PATIENCE)
    assert stalled.value.__notes__ == [WHY]
    assert WHY in repr(real)
    for transfer in (simulated, real):
        verdict = autopsy(transfer)
        assert (verdict.kind, verdict.promise) == ("broken", "termination")
        assert "5 of 11 payloads were delivered" in verdict.sentence
        assert "after that the sender sent packet 4" in verdict.sentence
        assert 0 < arrows(verdict.trace) <= ARROWS
        assert replayed(verdict)


@pytest.mark.parametrize("pair", [(Nervous, Receiver), (MySender, Rude)])
def test_a_breach_of_either_end_points_to_the_students_line(
    mine: Any, pair: tuple[type, type]
) -> None:
    simulated = simulate_transfer(CHUNKS, mine(*pair))
    with pytest.raises(BrokenContract) as broken:
        simulated.wait()
    assert broken.value.__notes__ == [WHY]
    for transfer in (simulated, send(mine(*pair))):
        verdict = autopsy(transfer)
        assert (verdict.kind, verdict.promise) == ("breach", "no exception")
        assert "`raise " in verdict.sentence
        assert replayed(verdict)


def test_a_packet_that_does_not_fit_the_header_ends_it(mine: Any) -> None:
    transfer = send(mine(Huge))
    assert transfer.state is State.FAILED
    assert "a fresh machine ended it" in autopsy(transfer).note


def test_a_done_transfer_that_is_not_whole_says_where_to_look() -> None:
    lossy = ScriptedLink(lose={11})
    transfer = simulate_transfer(CHUNKS, Setup("best_effort"), lossy)
    assert transfer.state is State.DONE
    assert WHY in repr(transfer)
    verdict = autopsy(transfer)
    assert (verdict.kind, verdict.promise) == ("broken", "termination")


@pytest.mark.parametrize("link", [None, ScriptedLink(lose={*range(1, 999)})])
def test_a_network_that_is_down_is_not_the_protocols_fault(link: Any) -> None:
    with two_sockets() as (here, there):
        if link is None:
            there.close()
        transfer = here.send(
            there.address, CHUNKS, setup(), link=link, patience=5 * SHORT
        )
        verdict = autopsy(over(transfer))
    assert (verdict.kind, verdict.promise) == ("unjudged", None)
    assert str(verdict).startswith("not the protocol's fault: ")
    assert "<svg" in verdict._repr_html_()


def test_who_is_stopped_breaks_no_promise() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, CHUNKS, setup(), link=FAR)
        eventually(lambda: of_kind(transfer.trace, Kind.DATA), "it has begun")
        with pytest.raises(ValueError, match="still goes on"):
            autopsy(transfer)
        transfer.stop()
        verdict = autopsy(over(transfer))
    assert verdict.kind == "unjudged"
    assert WHY not in repr(transfer)
    assert not hasattr(transfer.error, "__notes__")


# What passed the check runs on real sockets, unchanged


def test_what_survives_the_check_survives_a_real_lossy_link(mine: Any) -> None:
    assert check(MySender, Receiver, budget=0.3).kind == "survived"
    assert simulate(MySender(), Receiver(), [b"A", b"B"], LOSSY).done
    assert same_pixels(send(mine(), LOSSY))


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


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import what this one does."""
    folder = Path(sys.modules["p2plab"].__path__[0]).parent
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_same_classes_work_between_two_processes(
    mine: Any, importable: None
) -> None:
    with another_process(PEER, "knows") as process, two_sockets() as (here, _):
        address = ("127.0.0.1", int(line_of(process)))
        transfer = here.send(address, CHUNKS, mine(), link=LOSSY).wait(PATIENCE)
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert line_of(process) == "True"
        assert process.wait(PATIENCE) == 0
    verdict = autopsy(transfer)
    assert verdict.kind == "survived"
    assert verdict.note == "Not replayed: the other end is in another process."
    assert verdict.trace.rows


def test_a_name_that_the_other_side_does_not_know_is_refused_in_words(
    mine: Any, importable: None
) -> None:
    with another_process(PEER, "knows not") as process, two_sockets() as (here, _):
        address = ("127.0.0.1", int(line_of(process)))
        transfer = here.send(address, CHUNKS, mine())
        with pytest.raises(TransferRefused, match="there is no protocol 'mine'"):
            transfer.wait(PATIENCE)


def test_two_classes_can_be_named_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "mine", (MySender, Receiver))
    assert simulate_transfer(CHUNKS, Setup("mine")).state is State.DONE
    with pytest.raises(ValueError, match="write PROTOCOLS\\['mine'\\] = "):
        Setup(MySender, Receiver)  # type: ignore[arg-type]
