"""A protocol that never comes back ends its own transfer, and no other."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import count, repeat

import pytest
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab import Setup, sample_picture, stuck
from p2plab.chunks import cut
from p2plab.errors import TransferStopped
from p2plab.packet import Packet
from p2plab.protocols import PROTOCOLS
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender
from p2plab.udp import UdpSocket

PARCEL = cut(sample_picture(64), kind="picture", payload_size=1200)


class Loop(StopAndWaitReceiver):
    """Never comes back from its third packet."""

    def on_packet(self, packet: Packet, now: float) -> None:
        while packet.seq == 2:
            pass
        super().on_packet(packet, now)


@pytest.fixture(autouse=True)
def a_quick_dog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "LOOK", 0.02)
    build = (lambda setup, rtt: StopAndWaitSender(rtt)), Loop
    monkeypatch.setitem(PROTOCOLS, "loop", build)


def test_it_is_named_with_its_line_and_the_next_transfer_goes_on() -> None:
    with UdpSocket() as here, UdpSocket() as there:
        looping = here.send(there.address, PARCEL, Setup("loop"))
        with pytest.raises(
            TransferStopped, match=r"Loop\.on_packet \(line \d+ of .*stuck\.py"
        ):
            looping.wait(20)
        assert "did not come back for 0.1 s" in str(looping.error)
        assert here.send(there.address, PARCEL).wait(20).progress == 1


def never_back() -> None:
    while True:
        pass


class Looks:
    """Turns that the dog has looked at."""

    def __init__(self, turns: Iterable[int]) -> None:
        self.turns = iter(turns)
        self.seen = threading.Semaphore(0)

    def __call__(self) -> int:
        self.seen.release()
        return next(self.turns)


def test_who_waits_without_computing_is_left_alone() -> None:
    looks = Looks(repeat(1))
    with stuck.watching(looks):
        for _ in range(3 * stuck.LOOKS):
            assert looks.seen.acquire(timeout=20)


def test_who_computes_in_many_turns_is_left_alone() -> None:
    looks = Looks(count())
    with stuck.watching(looks):
        for _ in range(3 * stuck.LOOKS):
            while not looks.seen.acquire(blocking=False):
                pass


def test_who_computes_in_one_turn_for_ever_is_interrupted() -> None:
    with stuck.watching(Looks(repeat(1))), pytest.raises(stuck.NeverBack):
        never_back()
