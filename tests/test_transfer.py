"""A transfer from its offer to its end, on real sockets in one process and in two."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loopback import (
    BAD,
    CHUNKS,
    FAR,
    PATIENCE,
    PICTURE,
    RELIABLE,
    SHORT,
    TEXTBOOK,
    another_process,
    assembled,
    both_ends,
    eventually,
    line_of,
    of_kind,
    over,
    same_pixels,
    setup,
    twin,
    two_sockets,
    ways,
    without_a_fate,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.chunks import cut
from p2plab.content.content import Chunks
from p2plab.content.offer import Limits, Offer
from p2plab.content.transfer import State, Transfer, simulate_picture, simulate_transfer
from p2plab.core.link import AnyLink, GilbertElliott, Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, MACHINE_KINDS, Kind, Packet, decode
from p2plab.core.trace import DELIVER, RECEIVER, RETRANSMIT, SEND, SENDER, TIMEOUT
from p2plab.errors import BadContent, TransferError, TransferStalled, TransferStopped
from p2plab.net.flow import EARLY, Flow
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS, Setup

SENDING = (SEND, RETRANSMIT)
SETUP = setup()
LOSSY = ScriptedLink(
    lose={3, 5}, duplicate={4}, corrupt={6}, lose_back={4}, delay=0.002
)

# Another process: it takes one transfer, says what it got, and lives until it is told.
TAKES = """
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
            "whole": transfer.assembly.verify(),
            "rows": len(transfer.trace),
        }), flush=True)
    sys.stdin.read()
"""
GIVES = """
import sys
from p2plab import Link, Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.content.content import Chunks
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
@pytest.mark.parametrize("link", [None, Link(delay=0.002)])
def test_where_nothing_is_lost_everything_arrives_and_is_sent_once(
    protocol: str, link: AnyLink | None
) -> None:
    with both_ends(setup(protocol, timeout=5.0), link) as (transfer, received):
        assert transfer.wait(PATIENCE).state is State.DONE
        assert same_pixels(transfer)
        assert repr(transfer) == "<sender of picture: done, 100 %>"
        assert transfer.seconds > 0
        assert received.state is State.DONE, "the sender may count on the receiver"
        sent = [row for row in transfer.trace if row.what in SENDING]
        assert sum(row.kind == DATA for row in sent) == CHUNKS.content.count


@pytest.mark.parametrize("protocol", RELIABLE)
@pytest.mark.parametrize(
    "link",
    [
        BAD,
        Link(delay=0.001, loss=GilbertElliott.from_mean(0.2, 3), seed=1),
        Link(delay=0.001, rate=2e7, queue=2),
        LOSSY,
    ],
    ids=["bad", "bursts", "narrow", "scripted"],
)
def test_a_picture_arrives_as_it_was_whatever_the_link_does(
    protocol: str, link: AnyLink
) -> None:
    with both_ends(setup(protocol), link) as (transfer, received):
        assert same_pixels(transfer.wait(PATIENCE))
        assert received.state is State.DONE


def test_best_effort_ends_with_its_holes_named() -> None:
    link = ScriptedLink(lose={3, 6}, delay=0.001)
    with both_ends(setup("best_effort"), link) as (transfer, received):
        transfer.wait(PATIENCE)
        assert assembled(received).missing == [2, 5]
        assert 0 < received.progress < 1
        assert not same_pixels(received), "the holes are visible"
        assert np.array_equal(np.asarray(received.picture())[:4], PICTURE[:4])


@pytest.mark.parametrize(
    ("size", "payload_size"),
    [(0, 1200), (1, 1200), (40, 8), (4_000, 1453), (200_000, 65_000)],
)
def test_bytes_arrive_as_they_were_in_few_and_in_many_payloads(
    size: int, payload_size: int
) -> None:
    thing = (bytes(range(256)) * 800)[:size]
    chunks = cut(thing, payload_size=payload_size)
    with both_ends(setup(), replace(BAD, loss=0.05), chunks=chunks) as ends:
        for each in ends:
            assert assembled(each.wait(PATIENCE)).data() == thing
        with pytest.raises(BadContent):
            ends[0].picture()


# What happened


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("link", [None, BAD], ids=["none", "bad"])
def test_the_trace_has_both_ends_and_the_fate_of_every_packet_in_order_of_time(
    protocol: str, link: AnyLink | None
) -> None:
    with both_ends(setup(protocol), link) as (transfer, received):
        over(transfer)
        eventually(
            lambda: not without_a_fate(transfer.trace),
            f"everything that was sent is somewhere: {without_a_fate(transfer.trace)}",
        )
        times = [row.time for row in transfer.trace]
        assert times == sorted(times)
        delivered = [row for row in transfer.trace if row.what == DELIVER]
        if protocol != "best_effort":
            assert len(delivered) == CHUNKS.content.count
        assert {row.host for row in transfer.trace} == {SENDER, RECEIVER}
        told = [
            [row[1:] for row in each.trace.rows if row[1] == RECEIVER]
            for each in (transfer, received)
        ]
        assert told[0] == told[1], "both ends tell the same story"
        assert transfer.trace.about["protocol"] == protocol
        assert transfer.trace.names.keys() == {SENDER, RECEIVER}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_virtual_time_and_real_sockets_send_the_same_data(protocol: str) -> None:
    link, patient = Link(delay=0.003), setup(protocol, timeout=5.0)
    with both_ends(patient, link) as (real, _):
        data = of_kind(real.wait(PATIENCE).trace, DATA)
    left = {row.number: row.time for row in data if row.what in SENDING}
    assert all(
        row.time >= left[row.number] + 0.003 for row in data if row.what not in SENDING
    )
    sent = [
        sorted((row.what, row.seq, row.size) for row in of_kind(each.trace, DATA))
        for each in (real, simulate_picture(PICTURE, patient, link))
    ]
    assert sent[0] == sent[1]


def test_a_scripted_loss_looks_the_same_in_virtual_time_and_on_real_sockets() -> None:
    patient = setup("stop_and_wait", timeout=0.3)
    link = ScriptedLink(lose={3}, lose_back={6}, delay=0.001)
    with both_ends(patient, link) as (real, _):
        real.wait(PATIENCE)
    stories = [
        [
            (row.host, row.what, row.kind, row.seq)
            for row in each.trace
            if row.kind in MACHINE_KINDS or row.what == DELIVER
        ]
        for each in (real, simulate_transfer(CHUNKS, patient, link))
    ]
    assert stories[0] == stories[1]


# Lost ends


@pytest.mark.parametrize("protocol", TEXTBOOK)
@pytest.mark.parametrize("lost", [0, 1])
def test_neither_side_hangs_when_one_of_the_last_answers_is_lost(
    protocol: str, lost: int
) -> None:
    answers = CHUNKS.content.count + 1  # an ACK for each packet, and the FIN's
    link = ScriptedLink(lose_back={answers - lost}, delay=0)
    # Without a retransmission before the end, so that the answers can be counted.
    calm, limits = setup(protocol, timeout=0.3), Limits(patience=PATIENCE)
    with both_ends(calm, link, limits=limits) as (transfer, received):
        assert same_pixels(transfer.wait(PATIENCE))
        assert received.state is State.DONE
        assert any(row.what == "loss" for row in transfer.trace)


def test_neither_side_hangs_when_every_fin_is_lost_and_nothing_is_forgotten() -> None:
    fins = set(range(CHUNKS.content.count + 1, 99))
    calm, limits = setup("stop_and_wait", timeout=0.2), Limits(patience=SHORT)
    link = ScriptedLink(lose=fins, delay=0)
    with both_ends(calm, link, limits=limits, patience=2 * SHORT) as ends:
        transfer, received = map(over, ends)
        assert same_pixels(received)
        assert transfer.progress == 1


def test_a_fin_that_overtakes_data_does_not_end_the_picture_early() -> None:
    link = ScriptedLink(late={CHUNKS.content.count: 0.05}, delay=0)
    with both_ends(setup("best_effort"), link) as (transfer, received):
        transfer.wait(PATIENCE)
        eventually(lambda: same_pixels(received), "the late one has found its place")


# Stop, close, silence


def stuck() -> AnyLink:
    """Return a link on which five packets arrive, and the others much later."""
    late = dict.fromkeys(range(6, 99), FAR.delay)
    return ways(ScriptedLink(late=late, delay=0), ScriptedLink(delay=0))


@pytest.mark.parametrize("side", [SENDER, RECEIVER])
@pytest.mark.parametrize("how", ["stop", "close"])
def test_stop_or_close_half_way_ends_both_sides_and_keeps_what_there_is(
    side: str, how: str
) -> None:
    with two_sockets() as (here, there):
        transfer = here.send(there.address, CHUNKS, setup(timeout=9.0), link=stuck())
        received = twin(there, transfer)
        eventually(lambda: received.progress > 0.4, "five packets have come")
        near = transfer if side == SENDER else received
        if how == "stop":
            near.stop()
        else:
            (here if side == SENDER else there).close()
        for each in (transfer, received):
            with pytest.raises(TransferStopped) as stopped:
                each.wait(PATIENCE)
            assert stopped.value.partial is each
            assert each.state is State.FAILED
            assert assembled(each).received == 5
            assert each.picture().size == (64, 64)
            assert len(of_kind(each.trace, DATA)) >= 8
        near.stop()  # once more is fine
        assert near.ended


def test_a_stopped_sender_is_silent_although_its_link_still_brings_packets() -> None:
    def by_itself() -> list[int]:
        own = (*SENDING, TIMEOUT)
        return [row.kind for row in transfer.own_trace if row.what in own]

    with two_sockets() as (here, there):
        # A timeout for everything that arrives: this would go on for ever.
        link = ScriptedLink(delay=0.05)
        transfer = here.send(there.address, CHUNKS, setup(timeout=0.01), link=link)
        eventually(lambda: of_kind(transfer.trace, DATA), "it has begun")
        transfer.stop()
        before = len(by_itself())
        here.send(there.address, CHUNKS, setup("best_effort"), link=link).wait(PATIENCE)
        assert set(by_itself()[before:]) <= {Kind.STOP}


@pytest.mark.parametrize("side", [SENDER, RECEIVER])
def test_stop_works_through_a_link_that_lets_nothing_else_through(side: str) -> None:
    dead = frozenset(range(1, 999))
    link = ScriptedLink(lose=dead - {1}, lose_back=dead, delay=0)
    with both_ends(setup(timeout=9.0), link) as ends:
        next(each for each in ends if each.role == side).stop()
        assert all(isinstance(over(each).error, TransferStopped) for each in ends)


def test_waiting_has_an_end_of_its_own_and_the_transfer_goes_on() -> None:
    with both_ends(setup(), Link(delay=0.05)) as (transfer, _):
        with pytest.raises(TransferError) as waiting:
            transfer.wait(0.01)
        assert waiting.value.partial is transfer
        assert same_pixels(transfer.wait(PATIENCE))


def test_a_link_that_goes_dead_half_way_stalls_with_picture_and_trace() -> None:
    link = ScriptedLink(lose=frozenset(range(5, 9999)), delay=0)
    with both_ends(setup(), link, patience=SHORT) as (transfer, received):
        with pytest.raises(TransferStalled, match="Is the peer still there") as stalled:
            transfer.wait(PATIENCE)
        with pytest.raises(TransferStopped, match="has said nothing"):
            received.wait(PATIENCE)
        assert stalled.value.partial is transfer
        assert assembled(received).received == 4
        assert transfer.trace.rows


# One end alone, without a socket and a clock


class Alone(Flow):
    """One end of a transfer, whose datagrams nobody gets."""

    def __init__(
        self, role: str, setup: Setup = SETUP, chunks: Chunks = CHUNKS, **options: Any
    ) -> None:
        offer, self.emitted = Offer("ann", chunks.content, setup), list[bytes]()
        transfer = Transfer(1, role, offer, payloads=chunks.payloads, **options)
        machine = setup.sender() if role == SENDER else setup.receiver()
        super().__init__(transfer, machine, self.emitted.append, setup.rate is not None)

    def hear(self, now: float, *packets: Packet) -> None:
        self.arrive([(packet, number) for number, packet in enumerate(packets)], now)
        self.finish_turn(now)


def test_a_word_of_stop_among_others_is_the_last_one_that_is_answered() -> None:
    flow = Alone(SENDER)
    flow.hear(0.0, Packet(Kind.ACCEPT, 0))
    assert len(flow.emitted) == 4, "the window"
    flow.hear(0.1, Packet(ACK, 0), Packet(Kind.STOP, 0))
    assert flow.transfer.state is State.FAILED
    assert len(flow.emitted) == 4
    flow.hear(0.2, Packet(ACK, 1))
    assert [decode(each)[0].kind for each in flow.emitted[4:]] == [Kind.STOP]


def test_whoever_has_sent_enough_before_an_answer_sleeps_until_it_comes() -> None:
    chunks = cut(bytes(5_000), payload_size=5)
    flow = Alone(SENDER, Setup("fast", 10_000, rate=1e6), chunks)
    flow.open(0.0)
    flow.finish_turn(0.0)
    turns, now = 0, 0.0
    while (due := flow.wake_at()) is not None and turns < 5_000:
        turns, now = turns + 1, due
        flow.tick(now)
        flow.finish_turn(now)
    assert flow.host.number >= EARLY
    assert flow.transfer.state is State.FAILED
    assert now == pytest.approx(10.0), "nobody has answered until then"
    assert turns < 1_000


def test_a_receiver_that_lingers_sleeps_until_it_may_go_however_impatient() -> None:
    flow = Alone(RECEIVER, patience=SHORT)
    flow.hear(0.0, Packet(Kind.OFFER, 0), Packet(FIN, 0))
    assert flow.transfer.ended
    assert not flow.closed, "the FIN may come again"
    linger = SETUP.receiver().linger
    assert flow.wake_at() == linger > SHORT
    flow.tick(linger)
    flow.finish_turn(linger)
    assert flow.closed
    assert flow.wake_at() is None


# Two processes


def test_a_picture_goes_from_this_process_to_another_one() -> None:
    with another_process(TAKES) as process, UdpSocket() as here:
        address = "127.0.0.1", int(line_of(process))
        transfer = here.send(address, CHUNKS, setup(), link=replace(BAD, seed=5))
        assert transfer.wait(PATIENCE).state is State.DONE
        told = json.loads(line_of(process))
        assert (told["state"], told["whole"]) == ("done", True)
        assert told["rows"] > CHUNKS.content.count
        assert transfer.progress == 1
        with pytest.raises(BadContent, match="only the receiver"):
            transfer.picture()
        assert {row.what for row in transfer.trace} >= {SEND, "arrive"}
        assert process.communicate(timeout=PATIENCE)[1] == ""
        assert process.returncode == 0


def test_a_picture_comes_from_another_process_to_this_one() -> None:
    with (
        UdpSocket() as there,
        another_process(GIVES, str(there.address[1])) as process,
    ):
        assert line_of(process) == "done"
        (received,) = there.transfers()
        assert same_pixels(received.wait(PATIENCE))
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0


def test_a_sender_that_is_killed_half_way_leaves_the_receiver_what_has_come() -> None:
    slow = GIVES.replace("delay=0.001, loss=0.2", "delay=0.05, loss=0.2")
    with UdpSocket(limits=Limits(patience=SHORT)) as there:
        with another_process(slow, str(there.address[1])) as process:
            eventually(lambda: there.transfers(), "it has begun")
            (transfer,) = there.transfers()
            eventually(lambda: transfer.progress > 0, "something has arrived")
            process.kill()
        with pytest.raises(TransferStalled, match="has said nothing"):
            transfer.wait(PATIENCE)
    assert transfer.picture().size == (64, 64)
    assert of_kind(transfer.trace, DATA)


def test_a_receiver_that_is_killed_half_way_leaves_the_sender_its_progress() -> None:
    with another_process(TAKES) as process, UdpSocket() as here:
        address = "127.0.0.1", int(line_of(process))
        link = ways(ScriptedLink(delay=0.05), ScriptedLink(delay=0))
        slow = setup("stop_and_wait")
        transfer = here.send(address, CHUNKS, slow, link=link, patience=SHORT)
        eventually(lambda: transfer.progress > 0, "something was acknowledged")
        process.kill()
        with pytest.raises(TransferStalled, match="has said nothing"):
            transfer.wait(PATIENCE)
    assert 0 < transfer.progress < 1
    assert of_kind(transfer.trace, DATA)
