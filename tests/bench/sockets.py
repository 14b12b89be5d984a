"""A picture through real sockets: our pages beside TCP and the course report's way."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from figures import Figure, seconds

from p2plab import Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.net.paths import HOST
from p2plab.net.session import CALLEE, CALLER, ID_SIZE, KEY_SIZE, Session
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS

ROUNDS = 7
PICTURE = sample_picture(512)
RAW = PICTURE.tobytes()
TCP = "plain TCP sockets"
NAIVE = "the report's stop-and-wait"
APART = "the report's, 2 cores"


@contextmanager
def p2plab_udp(protocol: str, record: bool = True) -> Iterator[Callable[[], None]]:
    """A picture between two peers in this process, no impairment."""
    chunks = cut(PICTURE, kind="picture", payload_size=1200)
    setup = Setup(protocol, window=64)

    def send() -> None:
        transfer = here.send(there.address, chunks, setup, record=record).wait()
        assert transfer.assembly is not None
        assert transfer.assembly.complete  # and the receiver has verified it

    with UdpSocket() as here, UdpSocket(record=record) as there:
        yield send


@contextmanager
def introduced() -> Iterator[Callable[[], None]]:
    """The same between peers who have met: every packet is sealed."""
    chunks = cut(PICTURE, kind="picture", payload_size=1200)
    setup = Setup("selective_repeat", window=64)
    id, key = os.urandom(ID_SIZE), os.urandom(KEY_SIZE)

    def send() -> None:
        here.send(bob, chunks, setup, record=False).wait()

    with UdpSocket(sealed=True) as here, UdpSocket(sealed=True, record=False) as there:
        bob = here.meet(Session(id, key, CALLER, "bob"), [(HOST, there.address)])
        there.meet(Session(id, key, CALLEE, "alice"), [(HOST, here.address)])
        bob.wait()
        yield send


@contextmanager
def kernel_tcp() -> Iterator[Callable[[], None]]:
    """The same bytes through TCP, plain Python sockets, two threads."""

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            left = len(RAW)
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(b"!")

    def send() -> None:
        thread = threading.Thread(target=receive)
        thread.start()
        with socket.create_connection(listener.getsockname()) as sender:
            sender.sendall(RAW)
            sender.recv(1)
        thread.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield send


@contextmanager
def naive_stop_and_wait(apart: bool) -> Iterator[Callable[[], None]]:
    """The course report's way: 1,024 bytes with a number, wait for an answer, next.

    apart: each side on a core of its own, as two computers are. Otherwise the system
    chooses, which makes a difference of five times: if it lets both share one core,
    then nobody has to wake another core for every packet.
    """
    chunks = [RAW[at : at + 1024] for at in range(0, len(RAW), 1024)]

    def receive() -> None:
        settle(1)
        parts: dict[bytes, bytes] = {}
        while True:
            datagram, address = inbound.recvfrom(2048)
            if datagram == b"finish":
                inbound.sendto(b"finish", address)
                assert b"".join(parts.values()) == RAW
                return
            number, data = datagram.split(b":", 1)
            parts[number] = data
            inbound.sendto(number, address)

    def settle(core: int) -> None:
        if apart:
            os.sched_setaffinity(0, {cores[core]})

    def send() -> None:
        thread = threading.Thread(target=receive)
        thread.start()
        settle(0)
        for number, chunk in enumerate(chunks):
            outbound.sendto(b"%d:%s" % (number, chunk), inbound.getsockname())
            outbound.recvfrom(2048)
        outbound.sendto(b"finish", inbound.getsockname())
        outbound.recvfrom(2048)
        thread.join()
        if apart:
            os.sched_setaffinity(0, cores)

    cores = sorted(os.sched_getaffinity(0)) if apart else []
    with (
        socket.socket(type=socket.SOCK_DGRAM) as inbound,
        socket.socket(type=socket.SOCK_DGRAM) as outbound,
    ):
        inbound.bind(("127.0.0.1", 0))
        outbound.settimeout(2)
        yield send


def contestants(stack: ExitStack) -> dict[str, Callable[[], None]]:
    """Everybody who can take part here, each until the stack is closed."""
    found = {
        TCP: stack.enter_context(kernel_tcp()),
        NAIVE: stack.enter_context(naive_stop_and_wait(apart=False)),
    }
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        found[APART] = stack.enter_context(naive_stop_and_wait(apart=True))
    for name in PROTOCOLS:
        found[name] = stack.enter_context(p2plab_udp(name))
    bare = p2plab_udp("selective_repeat", record=False)
    found["selective_repeat, no trace"] = stack.enter_context(bare)
    found["the same, sealed"] = stack.enter_context(introduced())
    return found


def pictures() -> Iterator[Figure]:
    """How long the picture takes, medians; DATA packets a second."""
    count = cut(PICTURE, kind="picture", payload_size=1200).content.count
    with ExitStack() as stack:
        times = seconds(contestants(stack), ROUNDS)
    middle = {name: median(each) for name, each in times.items()}
    others = [name for name in (TCP, NAIVE, APART) if name in middle]
    for name, taken in middle.items():
        if name in others:
            continue
        value = f"{1000 * taken:.1f} ms, {count / taken:,.0f}/s"
        for other in others:
            beside = f"{other}: {1000 * middle[other]:.1f} ms"
            yield Figure(name, value, beside, middle[other] / taken)
