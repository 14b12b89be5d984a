"""Datagrams that fit everywhere, and words where larger ones do not get through."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from loopback import PATIENCE, over, setup

from p2plab import Lab, Link, Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.errors import DatagramsTooLarge
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS

IPV6_MINIMUM = 1280  # bytes of an IP packet that every link carries (RFC 8200, 5)
HEADERS = 40 + 8  # of IPv6 and UDP


@contextmanager
def relay(to: tuple[str, int], most: int) -> Iterator[tuple[str, int]]:
    """A path to an address that drops what is larger than `most` bytes."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back,
    ):
        front.bind(("127.0.0.1", 0))
        back.connect(to)
        caller: list[tuple[str, int]] = []

        def carry(forth: bool) -> None:
            while True:
                datagram, address = (front if forth else back).recvfrom(65_535)
                if not datagram:
                    return
                if forth:
                    caller[:] = [address]
                if len(datagram) <= most:
                    back.send(datagram) if forth else front.sendto(datagram, caller[0])

        threads = [
            threading.Thread(target=carry, args=(forth,), daemon=True)
            for forth in (True, False)
        ]
        for thread in threads:
            thread.start()
        yield front.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", front.getsockname())
        threads[0].join()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sealed_datagrams_of_the_default_size_fit_into_the_smallest_ipv6_packet(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    emit = UdpSocket._emit

    def measured(it: UdpSocket, datagram: bytes, to: tuple[str, int]) -> None:
        sizes.append(len(datagram))
        emit(it, datagram, to)

    monkeypatch.setattr(UdpSocket, "_emit", measured)
    with Lab() as lab:
        alice, _ = lab.peer("alice"), lab.peer("bob")
        link = Link(delay=0.002, loss=0.1, seed=1)
        over(alice.send_picture("bob", sample_picture(128), Setup(protocol), link))
    assert 1150 < max(sizes) <= IPV6_MINIMUM - HEADERS


@pytest.mark.parametrize("protocol", ["stop_and_wait", "selective_repeat", "fast"])
def test_a_path_that_drops_large_datagrams_is_named_and_smaller_ones_arrive(
    protocol: str,
) -> None:
    with (
        UdpSocket() as here,
        UdpSocket() as there,
        relay(there.address, IPV6_MINIMUM - HEADERS) as path,
    ):
        large = cut(sample_picture(64), payload_size=1400)
        with pytest.raises(DatagramsTooLarge, match="payload_size") as why:
            here.send(path, large, setup(protocol)).wait(PATIENCE)
        assert why.value.size == 1427  # whole pixels, and our header
        small = here.send(path, cut(sample_picture(64)), setup(protocol))
        small.wait(PATIENCE)


def test_a_link_that_loses_everything_is_not_taken_for_a_small_path() -> None:
    with UdpSocket() as here, UdpSocket() as there:
        chunks, lost = cut(b"x" * 3000), Link(loss=0.999, seed=1)
        transfer = here.send(there.address, chunks, setup(), link=lost, patience=4.0)
        assert not isinstance(over(transfer).error, DatagramsTooLarge)


def test_a_system_that_refuses_large_datagrams_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Small(socket.socket):
        def sendto(self, data: bytes, address: tuple[str, int]) -> int:  # type: ignore[override]
            if len(data) > 9216:  # as macOS does it, unless it is told otherwise
                raise OSError(errno.EMSGSIZE, "Message too long")
            return super().sendto(data, address)

    monkeypatch.setattr(socket, "socket", Small)
    with UdpSocket() as here, UdpSocket() as there:
        transfer = here.send(there.address, cut(b"x" * 60_000, payload_size=30_000))
        with pytest.raises(DatagramsTooLarge, match="30,028 bytes"):
            transfer.wait(PATIENCE)
        assert transfer.seconds < 1
