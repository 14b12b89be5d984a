"""A run that failed is offered as a ladder, told again from its trace, or not."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from first_attempt import Receiver
from loopback import (
    BAD,
    PARCEL,
    PATIENCE,
    SHORT,
    another_process,
    eventually,
    line_of,
    over,
    setup,
    twin,
    two_sockets,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here
from test_replay import LOSSY, PEER, Forgetful, Gambler, Mute, MySender, Nervous
from test_replay import importable as importable
from test_replay import mine as mine

from p2plab.checker.postmortem import autopsy
from p2plab.content.chunks import cut
from p2plab.content.transfer import WHY, State, Transfer, simulate_transfer
from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import DATA, MACHINE_KINDS, Packet
from p2plab.core.trace import RECEIVER, RETRANSMIT, SEND, SENDER
from p2plab.errors import BrokenContract, TransferStalled
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.sim.rerun import Rerun, rerun

SAME = "Replayed into fresh machines: the same "


def send(setup: Setup, link: Any = None, parcel: Any = PARCEL) -> Transfer:
    """Send over real sockets, and return the transfer when both ends are over."""
    with two_sockets() as (here, there):
        transfer = over(here.send(there.address, parcel, setup, link=link))
        over(twin(there, transfer))
    return transfer


def again(transfer: Transfer) -> Rerun:
    """Run it once more."""
    offer, real = transfer.offer, transfer.id > 0
    receiver = offer.receiver() if real else offer.setup.receiver()
    twin = transfer.other_end if real else transfer
    assert twin is not None
    traces = {SENDER: transfer.own_trace, RECEIVER: twin.own_trace}
    payloads = transfer.payloads
    return rerun(offer.setup.sender(), receiver, payloads, traces, real=real)


def sent(transfer: Transfer) -> int:
    """Count what the machines put on the wire."""
    return sum(
        row.what in (SEND, RETRANSMIT) and row.kind in MACHINE_KINDS
        for row in transfer.trace
    )


# Packet for packet


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("link", [LOSSY, BAD, None])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_run_is_told_again_from_its_trace_packet_for_packet(
    protocol: str, link: Link | None, timestamps: bool
) -> None:
    timeout = 0.03 if link else None
    transfer = send(Setup(protocol, 4, timeout, timestamps), link)
    result = again(transfer)
    assert result.difference == ""
    assert result.packets == sent(transfer)
    assembly = transfer.assembly
    assert assembly is not None
    assert len(result.delivered) == assembly.received + assembly.duplicates


def test_many_packets_at_once_are_told_again_as_they_came() -> None:
    parcel = cut(bytes(400_000))
    for link in (None, Link(delay=0.005, loss=0.02, seed=2)):
        transfer = send(Setup("selective_repeat", window=200), link, parcel)
        assert autopsy(transfer).note == f"{SAME}{sent(transfer)} packets."


@pytest.mark.parametrize("protocol", ["fast", "go_back_n"])
def test_packets_that_did_not_wait_for_an_answer_to_the_offer_are_told_again(
    protocol: str,
) -> None:
    with two_sockets() as (here, there):
        setup = Setup(protocol, window=8)
        sending = here.send(there.address, PARCEL, setup, link=BAD, at_once=True)
        transfer = over(sending)
        over(twin(there, transfer))
    result = again(transfer)
    assert (result.difference, result.packets) == ("", sent(transfer))


def test_a_clock_that_ticks_slowly_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Coarse:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() // 0.0156 * 0.0156  # as on some Windows

    monkeypatch.setattr("p2plab.net.udp.time", Coarse)
    for protocol in ("go_back_n", "selective_repeat"):
        transfer = send(Setup(protocol, window=4, timeout=0.03), BAD)
        moments = {row.time for row in transfer.own_trace if row.what == SEND}
        assert len(moments) < 11, "many packets at each tick"
        result = again(transfer)
        assert (result.difference, result.packets) == ("", sent(transfer))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_simulated_run_is_told_again_whatever_the_network_does(protocol: str) -> None:
    for seed in range(20):
        link = Link(0.01, 0.01, 0.2, duplicate=0.1, corrupt=0.1, reorder=0.1, seed=seed)
        transfer = simulate_transfer(PARCEL, Setup(protocol, window=4), link)
        result = again(transfer)
        assert (result.difference, result.packets) == ("", sent(transfer))


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


@pytest.mark.parametrize("link", [LOSSY, BAD])
def test_a_machine_is_asked_in_vain_as_often_as_before_and_paced_alike(
    mine: Any, link: Link
) -> None:
    transfer = send(mine(Paced, Late), link)
    result = again(transfer)
    assert (result.difference, result.packets) == ("", sent(transfer))


def test_a_run_that_was_stopped_half_way_is_told_again_until_then(mine: Any) -> None:
    with two_sockets() as (here, there):
        link = ScriptedLink(delay=0.002)
        transfer = here.send(there.address, PARCEL, mine(), link=link)
        eventually(lambda: len(transfer.own_trace.rows) > 9, "it has begun")
        transfer.stop()
        over(twin(there, transfer))
    result = again(transfer)
    assert (result.difference, result.packets) == ("", sent(transfer))


# Or it says that it cannot


def test_chance_is_not_told_again_and_nobody_is_accused_of_it(mine: Any) -> None:
    transfer = send(mine(Gambler), LOSSY)
    verdict = autopsy(transfer)
    assert verdict.kind == "survived"
    assert "is the same for " in verdict.note
    assert "the sender had a timeout, but a fresh machine: " in verdict.note
    assert "do they use chance or a clock" in verdict.note
    assert verdict.note in str(verdict)
    assert "a fresh machine" in verdict._repr_html_()


def test_a_class_that_was_changed_since_is_noticed(mine: Any) -> None:
    transfer = send(mine(MySender, Forgetful))
    mine(MySender, type("Silent", (Receiver,), {"on_packet": lambda *told: None}))
    assert "Have the classes changed since" in autopsy(transfer).note


def test_other_bytes_of_the_same_length_are_noticed(mine: Any) -> None:
    class Liar(Receiver):
        def next_payload(self) -> Any:
            payload = super().next_payload()
            return payload and payload[::-1]

    transfer = send(mine(MySender, Liar))
    assert autopsy(transfer).promise == "prefix"
    mine()
    assert "other bytes were delivered" in autopsy(transfer).note


def test_a_name_that_means_nothing_any_more_is_said(
    mine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = send(mine())
    monkeypatch.delitem(PROTOCOLS, "mine")
    assert autopsy(transfer).note.startswith("Not replayed: ")


def test_with_one_end_here_the_ladder_is_what_it_saw(mine: Any) -> None:
    with another_process(PEER, "knows") as process, two_sockets() as (here, _):
        assert process.stdin
        address = ("127.0.0.1", int(line_of(process)))
        transfer = here.send(address, PARCEL, mine(), link=LOSSY).wait(PATIENCE)
        process.stdin.write("\n")
        process.stdin.flush()
        assert line_of(process) == "True"
    verdict = autopsy(transfer)
    assert verdict.kind == "survived"
    assert verdict.note == "Not replayed: the other end is in another process."
    assert verdict.trace.rows


def test_a_transfer_that_kept_no_trace_is_judged_by_what_has_arrived() -> None:
    for each in (Setup("go_back_n"), Setup("best_effort")):
        with two_sockets(record=False) as (here, there):
            link = ScriptedLink(delay=0.001, lose={3})
            transfer = here.send(there.address, PARCEL, each, link=link, record=False)
            over(over(transfer) and twin(there, transfer))
        verdict = autopsy(transfer)
        assert verdict.note == "Not replayed: there is no trace of it."
        whole = each.protocol == "go_back_n"
        assert verdict.kind == ("survived" if whole else "broken")
        assert ("10 of 11 payloads were delivered" in verdict.sentence) is not whole


# What it tells, and who offers it


def test_a_wrong_delivery_needs_no_recording(mine: Any) -> None:
    transfer = send(mine(MySender, Forgetful), ScriptedLink(delay=0.002, lose_back={5}))
    verdict = autopsy(transfer)
    assert (verdict.kind, verdict.promise) == ("broken", "prefix")
    assert "delivered payload 4 once more when payload 5 was next" in verdict.sentence
    assert verdict.note == f"{SAME}{sent(transfer)} packets."
    assert verdict.trace.rows[-1][2] == "deliver"


def test_a_breach_happens_again(mine: Any) -> None:
    class Rude(Receiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            raise ValueError("not now")

    for pair in ((Nervous, Receiver), (MySender, Rude)):
        verdict = autopsy(send(mine(*pair)))
        assert (verdict.kind, verdict.promise) == ("breach", "no exception")
        assert verdict.note.startswith(SAME)


def test_who_waits_for_a_transfer_that_fails_is_told_where_to_look(mine: Any) -> None:
    with two_sockets() as (here, there):
        setup, link = mine(MySender, Mute), ScriptedLink(delay=0.002, lose_back={3})
        transfer = here.send(there.address, PARCEL, setup, link=link, patience=SHORT)
        with pytest.raises(TransferStalled) as stalled:
            transfer.wait(PATIENCE)
    assert stalled.value.__notes__ == [WHY]
    assert f" %. {WHY}>" in repr(transfer)
    verdict = autopsy(transfer)
    assert verdict.promise == "completion"
    assert "after that the sender sent packet 2" in verdict.sentence
    assert verdict.note == f"{SAME}{sent(transfer)} packets."


def test_a_done_transfer_that_is_not_whole_says_where_to_look_too() -> None:
    lossy = ScriptedLink(lose={11})
    transfer = simulate_transfer(PARCEL, Setup("best_effort"), lossy)
    assert transfer.state is State.DONE
    assert WHY in repr(transfer)
    verdict = autopsy(transfer)
    assert (verdict.kind, verdict.promise) == ("broken", "completion")
    assert "took itself for done" in verdict.sentence


def test_who_has_all_or_wanted_no_more_is_told_nothing(mine: Any) -> None:
    well = send(setup())
    with two_sockets() as (here, there):
        stopped = here.send(there.address, PARCEL, setup(), link=ScriptedLink(delay=9))
        eventually(lambda: stopped.state is State.RUNNING, "it has begun")
        stopped.stop()
        assert over(stopped).error is not None
    for transfer in (well, stopped):
        assert WHY not in repr(transfer)
        assert not hasattr(transfer.error, "__notes__")


def test_a_simulated_failure_is_offered_as_well(mine: Any) -> None:
    transfer = simulate_transfer(PARCEL, mine(Nervous))
    with pytest.raises(BrokenContract) as broken:
        transfer.wait()
    assert broken.value.__notes__ == [WHY]
    assert autopsy(transfer).note.startswith(SAME)


def test_a_healthy_transfer_keeps_nothing_for_it(mine: Any) -> None:
    transfer = send(setup())
    assert transfer.payloads is PARCEL.payloads


def test_a_machine_that_sends_what_does_not_fit_the_header_ends_it(mine: Any) -> None:
    class Huge(MySender):
        def next_packet(self, now: float) -> Any:
            packet = super().next_packet(now)
            return packet and Packet(DATA, 2**40, packet.payload)

    transfer = send(mine(Huge))
    assert transfer.state is State.FAILED
    assert "a fresh machine ended it" in autopsy(transfer).note


def test_chance_of_a_seed_is_no_chance(mine: Any) -> None:
    class Seeded(MySender):
        def __init__(self) -> None:
            super().__init__()
            self.rng = random.Random(4)

        def next_packet(self, now: float) -> Any:
            packet = super().next_packet(now)
            if packet is not None:
                self.deadline = now + self.rng.uniform(0.05, 0.1)
            return packet

    assert again(send(mine(Seeded), LOSSY)).difference == ""
