"""The fountain page: any sufficiently many packets rebuild the block."""

from __future__ import annotations

import struct
import sys

import pytest

from p2plab.core.link import Link
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import Rfc6298
from p2plab.errors import P2PLabError
from p2plab.fast.rate_control import RateController
from p2plab.protocols import FountainReceiver, FountainSender
from p2plab.sim.simulator import simulate

HEAD = struct.Struct("!IIH")  # block, length, size of a symbol
PAYLOADS = [b"%4d" % number * 300 for number in range(120)]


def machines(window: int = 64) -> tuple[FountainSender, FountainReceiver]:
    pytest.importorskip("raptorq", reason="the package raptorq is not installed")
    rtt = Rfc6298(timestamps=True)
    return FountainSender(rtt, RateController(), window), FountainReceiver(window)


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2, 0.5])
def test_blocks_are_rebuilt_whatever_was_lost(loss: float) -> None:
    sender, receiver = machines()
    run = simulate(sender, receiver, PAYLOADS, Link(loss=loss, rate=1e7, seed=1))
    assert run.delivered == PAYLOADS
    assert run.done
    assert sender.deadline is receiver.deadline is None
    assert sender.next_seq_num < 2 * len(PAYLOADS) / (1 - loss)


def test_empty_and_unequal_payloads_come_out_as_they_went_in() -> None:
    payloads = [b"", b"a", bytes(70), b"", b"xyz" * 40]
    run = simulate(*machines(), payloads, Link(loss=0.3, seed=2))
    assert run.delivered == payloads


def test_no_packet_is_longer_than_the_longest_payload() -> None:
    sender, _ = machines()
    for payload in PAYLOADS:
        sender.send(payload)
    packets = list(iter(lambda: sender.next_packet(0.0), None))
    assert len(packets) > 50
    assert {len(packet.payload) for packet in packets if packet} <= {*range(1190, 1201)}


def test_packets_of_anybody_do_no_harm() -> None:
    sender, receiver = machines()
    for content in (b"", bytes(4), bytes(15), b"\xff" * 60, bytes(10) + b"\1" * 30):
        receiver.on_packet(Packet(DATA, -5, content), 0.0)
        sender.on_packet(Packet(ACK, -9, content), 0.0)
    assert receiver.complete == 0
    assert receiver.next_payload() is None


def test_a_block_of_a_liar_is_rebuilt_or_ignored_and_nothing_panics() -> None:
    _, receiver = machines(8)
    encoder = pytest.importorskip("raptorq").Encoder.with_defaults(b"\xff" * 17, 8)
    packets = encoder.get_encoded_packets(4)
    for size, symbol in (
        (8, b"\x80" + packets[0][1:]),  # of a source block that there is not
        (8, b"\xff" * 12),
        (16, b"\x01" + bytes(19)),
    ):
        receiver.on_packet(Packet(DATA, -1, HEAD.pack(0, 17, size) + symbol), 0.0)
    assert receiver.complete == len(receiver.seen) == 0
    for number, symbol in enumerate(packets):  # 65,535 bytes, says it, and has 17
        receiver.on_packet(Packet(DATA, -2 - number, HEAD.pack(0, 17, 8) + symbol), 0.0)
    assert receiver.complete == 1
    assert receiver.next_payload() == b"\xff" * 15
    assert receiver.next_payload() is None


def test_nobody_gets_memory_for_more_symbols_than_payloads_can_take() -> None:
    _, receiver = machines(8)
    head = HEAD.pack(0, 50_000_000, 8)
    receiver.on_packet(Packet(DATA, -1, head + bytes(12)), 0.0)
    assert receiver.decoder == []


def test_no_small_run_breaks_it() -> None:
    from p2plab.checker import check

    machines()  # or skip
    verdict = check(
        lambda: machines(8)[0], lambda: machines(8)[1], "late", budget=1.5, seed=1
    )
    assert verdict.kind == "survived", str(verdict)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "raptorq", None)
    with pytest.raises(P2PLabError, match="pip install raptorq"):
        FountainReceiver(8)
    with pytest.raises(P2PLabError, match="pip install raptorq"):
        FountainSender(Rfc6298(), RateController(), 8)
