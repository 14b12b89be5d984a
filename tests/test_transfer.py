"""A transfer from its offer to its end, on real sockets in one process and in two."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import numpy as np
import pytest
from loopback import (
    BAD,
    FAR,
    PARCEL,
    PATIENCE,
    PICTURE,
    RELIABLE,
    SHORT,
    TEXTBOOK,
    Ways,
    another_process,
    eventually,
    line_of,
    of_kind,
    over,
    same_pixels,
    setup,
    twin,
    two_sockets,
    without_a_fate,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.chunks import cut
from p2plab.content.offer import Limits, Offer
from p2plab.content.transfer import State, Transfer, simulate_picture, simulate_transfer
from p2plab.core.link import AnyLink, GilbertElliott, Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, MACHINE_KINDS, Kind, Packet, decode
from p2plab.core.trace import DELIVER, RETRANSMIT, SEND, TIMEOUT
from p2plab.core.trace import RECEIVER as RECEIVING
from p2plab.core.trace import SENDER as SENDING
from p2plab.errors import BadContent, TransferError, TransferStalled, TransferStopped
from p2plab.net.flow import EARLY, Flow
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS, Setup

BY_ITSELF = (SEND, RETRANSMIT, TIMEOUT)  # what a machine does of its own accord
LOSSY = ScriptedLink(
    lose={3, 5}, duplicate={4}, corrupt={6}, lose_back={4}, delay=0.002
)

# Another process: it takes one transfer, says what it got, and lives until it is told.
RECEIVER = """
import json, sys, threading
from p2plab.content.offer import Limits
from p2plab.net.udp import UdpSocket
ended = threading.Event()
def news(transfer):
    if transfer.ended:
        ended.set()
with UdpSocket(limits=Limits(patience=0.5), on_transfer=news) as here:
    print(here.address[1], flush=True)
    if ended.wait(20):
        transfer = here.transfers()[0]
        print(json.dumps({
            "state": transfer.state,
            "error": str(transfer.error),
            "whole": transfer.assembly.verify(),
            "sha256": transfer.offer.content.sha256,
            "rows": len(transfer.trace),
        }), flush=True)
    sys.stdin.read()
"""
SENDER = """
import sys
from p2plab import Link, Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.net.udp import UdpSocket
with UdpSocket() as here:
    transfer = here.send(
        ("127.0.0.1", int(sys.argv[1])),
        cut(sample_picture(64)),
        Setup("selective_repeat", window=4, timeout=0.03),
        link=Link(delay=0.001, loss=0.2, duplicate=0.1, corrupt=0.1, seed=3),
    )
    print(transfer.wait(20).state, flush=True)
    sys.stdin.read()
"""


# Everything arrives


@pytest.mark.parametrize("protocol", [*TEXTBOOK, "best_effort"])
@pytest.mark.parametrize("link", [None, ScriptedLink(delay=0), Link(delay=0.002)])
def test_a_picture_arrives_as_it_was_where_nothing_is_lost(
    protocol: str, link: AnyLink | None
) -> None:
    with two_sockets() as (here, there):
        patient = setup(protocol, timeout=5.0)
        transfer = here.send(there.address, PARCEL, patient, link=link)
        assert transfer.wait(PATIENCE).state is State.DONE
        assert same_pixels(transfer)
        assert transfer.progress == 1
        assert transfer.seconds > 0
        received = twin(there, transfer)
        assert received.state is State.DONE, "the sender may count on the receiver"
        assert same_pixels(received)
        sent = [row for row in transfer.trace if row.what in (SEND, RETRANSMIT)]
        assert sum(row.kind == DATA for row in sent) == PARCEL.content.count


@pytest.mark.parametrize("protocol", RELIABLE)
@pytest.mark.parametrize(
    "link",
    [
        BAD,
        replace(BAD, seed=3),
        Link(delay=0.001, loss=GilbertElliott.from_mean(0.2, 3), seed=1),
        Link(delay=0.001, rate=2e7, queue=2),
        LOSSY,
    ],
    ids=["bad", "bad, too", "bursts", "narrow", "scripted"],
)
def test_a_picture_arrives_as_it_was_whatever_the_link_does(
    protocol: str, link: AnyLink
) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(protocol), link=link)
        assert same_pixels(transfer.wait(PATIENCE))
        assert twin(there, transfer).state is State.DONE


def test_best_effort_ends_with_its_holes_named() -> None:
    with two_sockets() as (here, there):
        link = ScriptedLink(lose={3, 6}, delay=0.001)
        transfer = here.send(there.address, PARCEL, setup("best_effort"), link=link)
        transfer.wait(PATIENCE)
        received = twin(there, transfer)
        assert received.assembly is not None
        assert received.assembly.missing == [2, 5]
        assert 0 < received.progress < 1
        assert not same_pixels(received), "the holes are visible"
        assert np.array_equal(np.asarray(received.picture())[:4], PICTURE[:4])


def test_best_effort_over_a_bad_link_ends_all_the_same() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup("best_effort"), link=BAD)
        transfer.wait(PATIENCE)
        assert transfer.assembly is not None
        assert len(transfer.assembly.missing) < PARCEL.content.count


@pytest.mark.parametrize("thing", [b"", b"x", bytes(range(256)) * 50])
def test_bytes_arrive_as_they_were_however_few(thing: bytes) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, cut(thing), setup(), link=BAD)
        transfer.wait(PATIENCE)
        received = twin(there, transfer).wait(PATIENCE)
        assert received.assembly is not None
        assert received.assembly.data() == thing
        with pytest.raises(BadContent, match="no picture"):
            received.picture()


@pytest.mark.parametrize("payload_size", [8, 1453, 9000, 65_000])
def test_payloads_may_be_as_small_or_large_as_udp_carries(payload_size: int) -> None:
    parcel = cut(bytes(payload_size * 3), payload_size=payload_size)
    with two_sockets() as (here, there):
        transfer = here.send(there.address, parcel, setup(timeout=5.0))
        transfer.wait(PATIENCE)
        assert transfer.assembly is not None
        assert transfer.assembly.verify()


def test_few_bits_for_the_numbers_are_enough_if_the_window_fits() -> None:
    with two_sockets() as (here, there):
        for protocol, bits in [
            ("stop_and_wait", 1),
            ("go_back_n", 3),
            ("selective_repeat", 3),
        ]:
            in_order = replace(BAD, reorder=0.0)
            few = replace(setup(protocol), seq_bits=bits)
            transfer = here.send(there.address, PARCEL, few, link=in_order)
            assert same_pixels(transfer.wait(PATIENCE))


# What happened


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("link", [None, LOSSY, BAD], ids=["none", "scripted", "bad"])
def test_the_trace_has_both_ends_and_the_fate_of_every_packet_in_order_of_time(
    protocol: str, link: AnyLink | None
) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(protocol), link=link)
        over(transfer)
        received = twin(there, transfer)
        eventually(
            lambda: not without_a_fate(transfer.trace),
            f"everything that was sent is somewhere: {without_a_fate(transfer.trace)}",
        )
        times = [row.time for row in transfer.trace]
        assert times == sorted(times)
        delivered = [row for row in transfer.trace if row.what == DELIVER]
        if protocol != "best_effort":
            assert len(delivered) == PARCEL.content.count
        assert {row.host for row in transfer.trace} == {"sender", "receiver"}
        assert [row[1:] for row in transfer.trace.rows if row[1] == "receiver"] == [
            row[1:] for row in received.trace.rows if row[1] == "receiver"
        ], "both ends tell the same story"
        assert transfer.trace.about["protocol"] == protocol
        assert transfer.trace.names.keys() == {"sender", "receiver"}


def test_a_packet_never_arrives_before_it_was_sent() -> None:
    with two_sockets() as (here, there):
        link = Link(delay=0.004, jitter=0.002, seed=1)
        transfer = here.send(there.address, PARCEL, setup(timeout=5.0), link=link)
        transfer.wait(PATIENCE)
        data = of_kind(transfer.trace, DATA)
        sent = {row.number: row.time for row in data if is_sending(row.what)}
        for row in data:
            if not is_sending(row.what):
                assert row.time >= sent[row.number] + 0.004


def is_sending(what: str) -> bool:
    return what in (SEND, RETRANSMIT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_virtual_time_and_real_sockets_send_the_same_data(protocol: str) -> None:
    link, patient = Link(delay=0.003), setup(protocol, timeout=5.0)
    with two_sockets() as (here, there):
        real = here.send(there.address, PARCEL, patient, link=link).wait(PATIENCE)
    virtual = simulate_picture(PICTURE, patient, link)
    sent = [
        [(row.what, row.seq, row.size) for row in of_kind(each.trace, DATA)]
        for each in (real, virtual)
    ]
    assert sorted(sent[0]) == sorted(sent[1])


def test_a_scripted_loss_looks_the_same_in_virtual_time_and_on_real_sockets() -> None:
    patient = setup("stop_and_wait", timeout=0.3)
    link = ScriptedLink(lose={3}, lose_back={6}, delay=0.001)
    with two_sockets() as (here, there):
        real = here.send(there.address, PARCEL, patient, link=link).wait(PATIENCE)
    virtual = simulate_transfer(PARCEL, patient, link)
    stories = [
        [
            (row.host, row.what, row.kind, row.seq)
            for row in each.trace
            if row.kind in MACHINE_KINDS or row.what == DELIVER
        ]
        for each in (real, virtual)
    ]
    assert stories[0] == stories[1]


def test_a_trace_of_a_real_transfer_can_be_kept(tmp_path: object) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(), link=LOSSY).wait(PATIENCE)
        trace = transfer.trace
    path = str(tmp_path) + "/trace.json"
    trace.save(path)
    assert type(trace).load(path).rows == trace.rows


# Lost ends


@pytest.mark.parametrize("protocol", TEXTBOOK)
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_neither_side_hangs_when_one_of_the_last_answers_is_lost(
    protocol: str, lost: int
) -> None:
    answers = PARCEL.content.count + 1  # an ACK for each packet, and the FIN's
    with two_sockets(limits=Limits(patience=PATIENCE)) as (here, there):
        link = ScriptedLink(lose_back={answers - lost}, delay=0)
        # Without a retransmission before the end, so that the answers can be counted.
        calm = setup(protocol, timeout=0.3)
        transfer = here.send(there.address, PARCEL, calm, link=link)
        assert same_pixels(transfer.wait(PATIENCE))
        assert twin(there, transfer).state is State.DONE
        assert any(row.what == "loss" for row in transfer.trace)


def test_neither_side_hangs_when_every_fin_is_lost_and_nothing_is_forgotten() -> None:
    fins = set(range(PARCEL.content.count + 1, 99))
    with two_sockets(limits=Limits(patience=SHORT)) as (here, there):
        link = ScriptedLink(lose=fins, delay=0)
        calm = setup("stop_and_wait", timeout=0.2)
        transfer = here.send(there.address, PARCEL, calm, link=link, patience=2 * SHORT)
        received = twin(there, transfer)
        assert over(received).ended
        assert over(transfer).ended
        assert same_pixels(received)
        assert transfer.progress == 1


def test_a_fin_that_overtakes_data_does_not_end_the_picture_early() -> None:
    count = PARCEL.content.count
    with two_sockets() as (here, there):
        link = ScriptedLink(late={count: 0.05}, delay=0)
        transfer = here.send(there.address, PARCEL, setup("best_effort"), link=link)
        transfer.wait(PATIENCE)
        received = twin(there, transfer)
        eventually(lambda: same_pixels(received), "the late one has found its place")


# Stop, close, silence


def stuck() -> Ways:
    """Return a link on which five packets arrive, and the others much later."""
    late = dict.fromkeys(range(6, 99), FAR.delay)
    return Ways(ScriptedLink(late=late, delay=0), ScriptedLink(delay=0))


@pytest.mark.parametrize("side", ["sender", "receiver"])
@pytest.mark.parametrize("how", ["stop", "close"])
def test_stop_or_close_half_way_ends_both_sides_and_keeps_what_there_is(
    side: str, how: str
) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(timeout=9.0), link=stuck())
        received = twin(there, transfer)
        eventually(lambda: received.progress > 0.4, "five packets have come")
        if how == "stop":
            (transfer if side == "sender" else received).stop()
        else:
            (here if side == "sender" else there).close()
        for each in (transfer, received):
            with pytest.raises(TransferStopped) as stopped:
                each.wait(PATIENCE)
            assert stopped.value.partial is each
            assert each.state is State.FAILED
            assert each.assembly is not None
            assert each.assembly.received == 5
            assert each.picture().size == (64, 64)
            assert len(of_kind(each.trace, DATA)) >= 8
        near, far = (transfer, received) if side == "sender" else (received, transfer)
        assert ("stopped here" if how == "stop" else "peer was closed") in str(
            near.error
        )
        assert "the other side has stopped" in str(far.error)
        near.stop()  # once more is fine
        assert near.ended


def test_a_stopped_sender_is_silent_although_its_link_still_brings_packets() -> None:
    with two_sockets() as (here, there):
        # A timeout for everything that arrives: this would go on for ever.
        link = ScriptedLink(delay=0.05)
        transfer = here.send(there.address, PARCEL, setup(timeout=0.01), link=link)
        eventually(lambda: of_kind(transfer.trace, DATA), "it has begun")
        transfer.stop()
        before = [row for row in transfer.own_trace if row.what in BY_ITSELF]
        here.send(there.address, PARCEL, setup("best_effort"), link=link).wait(PATIENCE)
        after = [row for row in transfer.own_trace if row.what in BY_ITSELF]
        assert {row.kind for row in after[len(before) :]} <= {Kind.STOP}


def test_stop_works_through_a_link_that_lets_nothing_else_through() -> None:
    with two_sockets() as (here, there):
        link = ScriptedLink(lose=range(2, 999), lose_back=range(1, 999), delay=0)  # type: ignore[arg-type]  # a range is as good as a set
        for side in ("sender", "receiver"):
            transfer = here.send(there.address, PARCEL, setup(timeout=9.0), link=link)
            received = twin(there, transfer)
            (transfer if side == "sender" else received).stop()
            assert isinstance(over(transfer).error, TransferStopped)
            assert isinstance(over(received).error, TransferStopped)


def test_an_offer_can_be_stopped_before_it_is_answered() -> None:
    with UdpSocket() as here, socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        transfer = here.send(silent.getsockname(), PARCEL)
        assert transfer.state is State.OFFERED
        transfer.stop()
        assert isinstance(transfer.error, TransferStopped)


def test_waiting_has_an_end_of_its_own_and_the_transfer_goes_on() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup(), link=Link(delay=0.05))
        with pytest.raises(TransferError, match="not at its end") as waiting:
            transfer.wait(0.01)
        assert waiting.value.partial is transfer
        assert same_pixels(transfer.wait(PATIENCE))


def test_a_link_that_goes_dead_half_way_stalls_with_picture_and_trace() -> None:
    with two_sockets() as (here, there):
        link = ScriptedLink(lose=frozenset(range(5, 9999)), delay=0)
        transfer = here.send(there.address, PARCEL, setup(), link=link, patience=SHORT)
        received = twin(there, transfer)
        with pytest.raises(TransferStalled, match="Is the peer still there") as stalled:
            transfer.wait(PATIENCE)
        with pytest.raises(TransferStopped, match="has said nothing"):
            received.wait(PATIENCE)
        assert stalled.value.partial is transfer
        assert received.assembly is not None
        assert received.assembly.received == 4
        assert transfer.trace.rows


# One end alone, without a socket and a clock


def end_turn(flow: Flow, now: float) -> None:
    flow.finish_turn(now)
    flow.flush()


def test_a_word_of_stop_among_others_is_the_last_one_that_is_answered() -> None:
    emitted: list[bytes] = []
    transfer = Transfer(1, SENDING, Offer("ann", PARCEL.content, setup()))
    flow = Flow(transfer, setup().sender(), emitted.extend, payloads=PARCEL.payloads)
    flow.arrive([(Packet(Kind.ACCEPT, 0), 0)], 0.0)
    end_turn(flow, 0.0)
    assert len(emitted) == 4, "the window"
    flow.arrive([(Packet(ACK, 0), 1), (Packet(Kind.STOP, 0), 2)], 0.1)
    end_turn(flow, 0.1)
    assert transfer.state is State.FAILED
    assert len(emitted) == 4
    flow.arrive([(Packet(ACK, 1), 3)], 0.2)
    end_turn(flow, 0.2)
    assert [decode(each)[0].kind for each in emitted[4:]] == [Kind.STOP]


def test_whoever_has_sent_enough_before_an_answer_sleeps_until_it_comes() -> None:
    parcel = cut(bytes(5_000), payload_size=5)
    fast = Setup("fast", window=10_000, rate=1e6)
    transfer = Transfer(1, SENDING, Offer("ann", parcel.content, fast))
    machine, payloads = fast.sender(), parcel.payloads
    emitted: list[bytes] = []
    flow = Flow(transfer, machine, emitted.extend, payloads=payloads, at_once=True)
    flow.open(0.0)
    flow.finish_turn(0.0)
    turns, now = 0, 0.0
    while (due := flow.wake_at()) is not None and turns < 5_000:
        turns, now = turns + 1, due
        flow.tick(now)
        flow.finish_turn(now)
    assert flow.host.number >= EARLY
    assert transfer.state is State.FAILED
    assert now == pytest.approx(10.0), "nobody has answered until then"
    assert turns < 1_000


def test_a_receiver_that_lingers_sleeps_until_it_may_go_however_impatient() -> None:
    transfer = Transfer(1, RECEIVING, Offer("ann", PARCEL.content, setup()))
    flow = Flow(transfer, setup().receiver(), lambda datagrams: None, patience=SHORT)
    flow.arrive([(Packet(Kind.OFFER, 0), 0), (Packet(FIN, 0), 1)], 0.0)
    flow.finish_turn(0.0)
    assert transfer.ended
    assert not flow.closed, "the FIN may come again"
    linger = setup().receiver().linger
    assert flow.wake_at() == linger > SHORT
    flow.tick(linger)
    flow.finish_turn(linger)
    assert flow.closed
    assert flow.wake_at() is None


# Two processes


def test_a_picture_goes_from_this_process_to_another_one() -> None:
    with another_process(RECEIVER) as process, UdpSocket() as here:
        address = "127.0.0.1", int(line_of(process))
        transfer = here.send(address, PARCEL, setup(), link=replace(BAD, seed=5))
        assert transfer.wait(PATIENCE).state is State.DONE
        told = json.loads(line_of(process))
        assert told["state"] == "done"
        assert told["whole"]
        assert told["sha256"] == PARCEL.content.sha256
        assert told["rows"] > PARCEL.content.count
        assert transfer.progress == 1
        with pytest.raises(BadContent, match="only the receiver"):
            transfer.picture()
        assert {row.what for row in transfer.trace} >= {SEND, "arrive"}
        assert process.communicate(timeout=PATIENCE)[1] == ""
        assert process.returncode == 0


def test_a_picture_comes_from_another_process_to_this_one() -> None:
    with (
        UdpSocket() as there,
        another_process(SENDER, str(there.address[1])) as process,
    ):
        assert line_of(process) == "done"
        (received,) = there.transfers()
        assert same_pixels(received.wait(PATIENCE))
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_process_that_is_killed_half_way_leaves_the_other_with_what_there_is(
    side: str,
) -> None:
    if side == "sender":
        slow = SENDER.replace("delay=0.001, loss=0.2", "delay=0.05, loss=0.2")
        with UdpSocket(limits=Limits(patience=SHORT)) as there:
            with another_process(slow, str(there.address[1])) as process:
                eventually(lambda: there.transfers(), "it has begun")
                (transfer,) = there.transfers()
                eventually(lambda: transfer.progress > 0, "something has arrived")
                process.kill()
            with pytest.raises(TransferStalled, match="has said nothing"):
                transfer.wait(PATIENCE)
            assert transfer.picture().size == (64, 64)
    else:
        with another_process(RECEIVER) as process, UdpSocket() as here:
            address = "127.0.0.1", int(line_of(process))
            link = Ways(ScriptedLink(delay=0.05), ScriptedLink(delay=0))
            transfer = here.send(
                address, PARCEL, setup("stop_and_wait"), link=link, patience=SHORT
            )
            eventually(lambda: transfer.progress > 0, "something was acknowledged")
            process.kill()
            with pytest.raises(TransferStalled, match="has said nothing"):
                transfer.wait(PATIENCE)
            assert 0 < transfer.progress < 1
    assert transfer.state is State.FAILED
    assert of_kind(transfer.trace, DATA)


def test_a_transfer_shows_itself_in_a_line() -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, setup()).wait(PATIENCE)
        assert repr(transfer) == "<sender of picture: done, 100 %>"
        kinds = {row.kind for row in transfer.trace}
        assert kinds >= {DATA, ACK, FIN, Kind.OFFER, Kind.ACCEPT}
    assert Setup() == transfer.offer.setup or transfer.offer.setup == setup()
