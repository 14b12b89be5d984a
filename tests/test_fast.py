"""The fast page and its coded packets: what each of its ideas does, one by one."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import CHUNKS, PATIENCE, two_sockets
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.checker import check
from p2plab.core.link import GilbertElliott, Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import Rfc6298
from p2plab.core.trace import SENDER
from p2plab.errors import TransferRefused
from p2plab.fast.coding import Decoder, encode, to_number
from p2plab.fast.fast import REPEATED
from p2plab.fast.rate_control import RateController
from p2plab.measure.experiments import LINK as SLOW
from p2plab.measure.experiments import Experiment
from p2plab.protocols import FastReceiver, FastSender, Setup
from p2plab.sim.driver import CATCH_UP, Host
from p2plab.sim.simulator import simulate

PICTURE = [b"%4d" % number * 350 for number in range(560)]  # about 786,432 bytes
RATE, DELAY = 100e6, 0.01


def sender(window: int = 8, *payloads: bytes) -> FastSender:
    machine = FastSender(Rfc6298(timestamps=True), RateController(), window)
    for payload in payloads:
        machine.send(payload)
    return machine


def pulled(machine: Any, now: float = 0.0) -> list[int]:
    return [packet.seq for packet in iter(lambda: machine.next_packet(now), None)]


def ack(
    last: int, *runs: int, ts_ecr: float | None = None, ts_val: float = 0.0
) -> Packet:
    payload = b"".join(run.to_bytes(2, "big") for run in runs)
    return Packet(ACK, last, payload, ts_val, ts_ecr)


# Ranges


def test_a_receiver_answers_many_packets_with_the_ranges_that_have_arrived() -> None:
    receiver = FastReceiver(32)
    for seq in (0, 1, 4, 5, 9, 2, 10, 12):
        receiver.on_packet(Packet(DATA, seq, b"x", ts_val=0.25), 0.5)
    answer = receiver.next_packet(0.5)
    assert answer == ack(2, 1, 2, 3, 2, 1, 1, ts_ecr=0.25, ts_val=0.5)
    assert receiver.next_packet(0.5) is None


def test_a_packet_alone_is_acknowledged_after_1_ms_and_a_copy_at_once() -> None:
    receiver = FastReceiver(32)
    receiver.on_packet(Packet(DATA, 0, b"x", ts_val=0.0), 0.5)
    assert receiver.next_packet(0.5) is None
    assert receiver.deadline == 0.501
    receiver.on_timeout(0.501)
    assert receiver.next_packet(0.501) == ack(0, ts_ecr=0.0, ts_val=0.501)
    assert receiver.deadline is None
    receiver.on_packet(Packet(DATA, 0, b"x", ts_val=0.6), 0.7)  # our ACK may be lost
    assert receiver.next_packet(0.7) == ack(0, ts_ecr=0.6, ts_val=0.7)


@pytest.mark.parametrize("count", [1, REPEATED + 5])
def test_a_timeout_repeats_several_packets_and_no_more_than_are_in_flight(
    count: int,
) -> None:
    machine = sender(64, *[b"x"] * count)
    pulled(machine, 0.0)
    machine.on_timeout(1.0)
    assert list(machine.lost) == list(range(min(count, REPEATED)))


def test_what_was_sent_well_before_a_packet_that_has_arrived_is_lost() -> None:
    machine = sender(8, b"a")
    assert pulled(machine, 0.0)[0] == 0
    machine.send(b"b")
    machine.send(b"c")
    assert pulled(machine, 0.5)[:2] == [1, 2]
    machine.on_packet(ack(-1, 1, 1, ts_ecr=0.5), 1.0)  # of 1, not of 0
    assert pulled(machine, 1.0)[0] == 0
    assert list(machine.in_flight) == [2, 0]


def test_ranges_of_what_was_never_sent_are_ignored() -> None:
    machine = sender(8, b"a")
    pulled(machine)
    for nonsense in (ack(70), ack(-5, 65535, 65535), ack(-1, 3), ack(2**31 - 1)):
        machine.on_packet(nonsense, 0.1)
    assert machine.next_seq_num == 1
    machine.on_packet(ack(0, ts_ecr=0.0), 0.2)
    assert machine.done
    assert machine.deadline is None


# Coded packets


@given(
    st.dictionaries(st.integers(0, 49), st.binary(max_size=30), min_size=1), st.data()
)
def test_coded_packets_replace_any_packets_that_are_missing(
    packets: dict[int, bytes], data: st.DataObject
) -> None:
    packets = {seq: packets.get(seq, b"") for seq in range(50)}
    lost = data.draw(st.sets(st.sampled_from(range(50)), min_size=1, max_size=5))
    numbers = {seq: to_number(payload) for seq, payload in packets.items()}
    decoder, found = Decoder(64), dict[int, bytes]()
    for seq in packets.keys() - lost:
        assert decoder.add_packet(seq, packets[seq]) == []
    for coded in range(-1, -30, -1):
        found |= decoder.add_coded(coded, encode(coded, 0, 50, numbers))
    assert found == {seq: packets[seq] for seq in lost}
    assert decoder.equations == {}


@given(st.lists(st.binary(max_size=60) | st.just(bytes(4) + b"\4\0")))
def test_a_coded_packet_that_is_none_does_no_harm(contents: list[bytes]) -> None:
    decoder = Decoder(16)
    for number, content in enumerate(contents):
        decoder.add_coded(-1 - number, content)
    assert len(decoder.equations) <= 16


def test_old_packets_are_forgotten_but_never_those_that_a_code_may_have() -> None:
    decoder = Decoder(64)
    packets = {seq: b"%d" % seq for seq in range(1000)}
    for seq, payload in packets.items():
        decoder.add_packet(seq, payload)
        assert len(decoder.payloads) <= 80
    numbers = {seq: to_number(packets[seq]) for seq in range(940, 1000)}
    numbers[1000] = to_number(b"lost")
    coded = ((-each, encode(-each, 940, 61, numbers)) for each in range(1, 9))
    assert [(1000, b"lost")] in [decoder.add_coded(*each) for each in coded]


def test_a_liar_who_sends_nothing_but_coded_packets_fills_no_memory() -> None:
    receiver = FastReceiver(16)
    for seq in range(100, 2_000):  # coded packet 4 of a range of one has it
        content = encode(-4, seq, 1, {seq: to_number(b"lie")})
        receiver.on_packet(Packet(DATA, -4, content), 0.0)
    assert 16 <= len(receiver.decoder.payloads) <= 20


def test_the_tail_does_not_wait_for_a_timer() -> None:
    """The last packets are lost, and nothing comes after them but coded packets."""
    link = ScriptedLink(lose={18, 19, 20}, delay=DELAY)
    machine = sender(64)
    run = simulate(machine, FastReceiver(64), PICTURE[:20], link)
    assert run.delivered == PICTURE[:20]
    assert not any(row.what == "timeout" and row.host == SENDER for row in run.trace)
    assert run.trace.rows[-1][0] < 5 * DELAY


# The path


def share_of_the_bound(loss: float | GilbertElliott, rate: float | None) -> float:
    setup = Setup("fast", window=4096, rate=rate)
    link = Link(delay=DELAY, rate=RATE, queue=167, loss=loss, seed=5)
    run = simulate(setup.sender(), setup.receiver(), PICTURE, link)
    assert run.delivered == PICTURE
    end = max(row.time for row in run.trace if row.what == "deliver")
    mean = loss if isinstance(loss, float) else 0.05
    return (DELAY + 8 * sum(map(len, PICTURE)) / (RATE * (1 - mean))) / end


@pytest.mark.parametrize(
    "loss", [0.0, 0.01, 0.05, 0.2, GilbertElliott.from_mean(0.05, 8)]
)
def test_a_picture_takes_little_longer_than_the_channel_allows(loss: Any) -> None:
    assert share_of_the_bound(loss, RATE) > 0.9
    assert share_of_the_bound(loss, None) > 0.75


def test_paced_packets_leave_in_small_bursts_of_a_millisecond() -> None:
    machine = FastSender(Rfc6298(), RateController(8e6 * 4, polite=False), 100)
    host = Host(machine, SENDER, catch_up=CATCH_UP)
    for _ in range(40):
        host.send(bytes(944))  # 4,000 packets/s
    assert len(list(host.pull(0.0))) == 4
    assert host.wake_at() == pytest.approx(0.001)
    assert list(host.pull(0.0005)) == []
    assert len(list(host.pull(0.003))) == 12  # woken late, and made up for it


# On real sockets


def test_data_after_an_offer_that_is_refused_reaches_nobody() -> None:
    with two_sockets(on_offer=lambda offer, address: "not today") as (here, there):
        transfer = here.send(there.address, CHUNKS, Setup("fast"), at_once=True)
        with pytest.raises(TransferRefused, match="not today"):
            transfer.wait(PATIENCE)
        assert there.transfers() == []


# Any network


def test_no_small_run_breaks_it() -> None:
    verdict = check(
        lambda: sender(8), lambda: FastReceiver(8), "late", budget=1.5, seed=1
    )
    assert verdict.kind == "survived", str(verdict)


def test_a_slow_and_lossy_link_is_used_nearly_as_far_as_it_can_be() -> None:
    shares = []
    for seed, loss in enumerate((0.1, 0.2, 0.3)):
        link = replace(SLOW, loss=loss, seed=seed)
        race = Experiment(Setup("fast", window=256), link)
        shares.append(race.run().summary.goodput / race.goodput_bound())  # type: ignore[operator]  # both are known
    assert fmean(shares) > 0.85, "even so short a transfer, begun without a rate"
