"""A protocol that never comes back ends its own transfer, and no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from itertools import count, repeat

import pytest
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab import Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.core.packet import Packet
from p2plab.errors import TransferStopped
from p2plab.net import stuck
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

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
    """Calls that the dog has looked at."""

    def __init__(self, calls: Iterable[int]) -> None:
        self.calls = iter(calls)
        self.seen = threading.Semaphore(0)

    def __call__(self) -> int:
        self.seen.release()
        return next(self.calls)


def test_who_waits_without_computing_is_left_alone() -> None:
    looks = Looks(repeat(1))
    with stuck.watching(looks):
        for _ in range(3 * stuck.LOOKS):
            assert looks.seen.acquire(timeout=20)


@pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"),
    reason="this system does not tell how long a single thread has computed",
)
def test_who_waits_while_others_compute_is_left_alone() -> None:
    looks, over = Looks(repeat(1)), threading.Event()

    def compute() -> None:
        while not over.is_set():
            pass

    other = threading.Thread(target=compute)
    other.start()
    with stuck.watching(looks):
        for _ in range(3 * stuck.LOOKS):
            assert looks.seen.acquire(timeout=20)
    over.set()
    other.join()


def test_who_computes_in_many_calls_is_left_alone() -> None:
    looks = Looks(count())
    with stuck.watching(looks):
        for _ in range(3 * stuck.LOOKS):
            while not looks.seen.acquire(blocking=False):
                pass


def test_who_computes_in_one_call_for_ever_is_interrupted() -> None:
    with stuck.watching(Looks(repeat(1))), pytest.raises(stuck.NeverBack):
        never_back()
