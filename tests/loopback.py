"""What tests on real sockets share: two sockets, a stranger, another process."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, Final, Self, TypeVar

import numpy as np
import pytest

from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Chunks
from p2plab.content.offer import Limits
from p2plab.content.sample import sample_picture
from p2plab.content.transfer import Transfer
from p2plab.core.link import LOSS, OVERFLOW, AnyLink, Link, ScriptedLink
from p2plab.core.packet import Kind, Packet, decode, encode
from p2plab.core.trace import OTHER, RETRANSMIT, SEND, Row, Trace
from p2plab.net.udp import UdpSocket
from p2plab.protocols import PROTOCOLS, Setup

Result = TypeVar("Result")
PATIENCE: Final = 20.0  # a test that waits longer has failed [s]
SHORT: Final = 0.3  # patience with a peer that will not answer [s]
FAR: Final = ScriptedLink(delay=30.0)  # nothing arrives while a test looks
RELIABLE: Final = [name for name in PROTOCOLS if name != "best_effort"]
# Those whose every packet can be foretold; the others send more than they must.
TEXTBOOK: Final = [name for name in RELIABLE if name not in ("fast", "fountain")]
PICTURE: Final = sample_picture(64)
CHUNKS: Final = cut(PICTURE)
BAD: Final = Link(
    delay=0.001,
    jitter=0.001,
    loss=0.2,
    duplicate=0.2,
    corrupt=0.1,
    reorder=0.2,
    reorder_delay=0.01,
    seed=1,
)


def setup(protocol: str = "selective_repeat", timeout: float = 0.03) -> Setup:
    """Return a setup whose losses do not take long."""
    return Setup(protocol, window=4, timeout=timeout)


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for what another thread brings about and tells nobody."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


def later(do: Callable[[], Result]) -> Future[Result]:
    """Begin something that waits, in a thread."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(do)
    pool.shutdown(wait=False)
    return future


def hears_the_end(connection: socket.socket) -> bool:
    """The other side closes (or resets) the connection before our patience ends."""
    connection.settimeout(PATIENCE)
    with suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def needs_ipv6() -> None:
    """Skip a test on a machine without it."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as why:
        pytest.skip(f"this machine has no IPv6 on its loopback ({why})")


@contextmanager
def two_sockets(**options: Any) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    """Yield one to send and one to receive; options are the receiver's."""
    with UdpSocket() as here, UdpSocket(**options) as there:
        yield here, there


@contextmanager
def both_ends(
    setup: Setup | None = None,
    link: AnyLink | None = None,
    *,
    limits: Limits | None = None,
    chunks: Chunks = CHUNKS,
    **options: Any,
) -> Iterator[tuple[Transfer, Transfer]]:
    """Yield a transfer between two new sockets, and what its receiver sees of it.

    limits: of the receiver. options: of `send`.
    """
    with UdpSocket() as here, UdpSocket(limits=limits) as there:
        transfer = here.send(there.address, chunks, setup, link=link, **options)
        yield transfer, twin(there, transfer)


def assembled(transfer: Transfer) -> Assembly:
    """Return what has arrived."""
    assert transfer.assembly is not None
    return transfer.assembly


def twin(there: UdpSocket, transfer: Transfer) -> Transfer:
    """Return the other end of a transfer, once it is there."""

    def found() -> list[Transfer]:
        return [each for each in there.transfers() if each.id == transfer.id]

    eventually(found, f"{transfer!r} has reached the other side")
    return found()[0]


def over(transfer: Transfer) -> Transfer:
    """Wait for the end of a transfer, whichever it is."""
    eventually(lambda: transfer.ended, f"{transfer!r} has ended")
    return transfer


def same_pixels(transfer: Transfer) -> bool:
    """Say whether the picture has arrived as it was."""
    return np.array_equal(np.asarray(transfer.picture()), PICTURE)


def without_a_fate(trace: Trace) -> set[tuple[str, int]]:
    """Return the packets that were sent, and neither lost nor seen again."""
    sent, lost, came = set(), set(), set()
    for row in trace:
        if row.what in (SEND, RETRANSMIT):
            sent.add((row.host, row.number))
        elif row.what in (LOSS, OVERFLOW):
            lost.add((row.host, row.number))
        else:
            came.add((OTHER[row.host], row.number))
    return sent - lost - came


def of_kind(trace: Trace, kind: Kind) -> list[Row]:
    """Return the rows about packets of one kind."""
    return [row for row in trace if row.kind == kind]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Let a test fail that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    stayed = [each.name for each in threading.enumerate() if each not in before]
    assert not stayed


class Stranger:
    """A bare socket that says what it likes to a peer, and hears the answers."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.to = to

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def throw(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.to)

    def say(
        self,
        kind: Kind,
        id: int = 7,
        *,
        seq: int = 0,
        number: int = 0,
        words: bytes = b"",
    ) -> Self:
        self.throw(encode(Packet(kind, seq, words), id, number))
        return self

    def hear(self) -> Packet:
        """Return the next packet that comes; fails if none does."""
        return decode(self.socket.recv(65_535))[0]

    def hears_nothing_more(self) -> bool:
        """Say whether no answer waits; ask when all must have come."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(65_535)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.socket.close()


def ways(link: AnyLink, back: AnyLink) -> AnyLink:
    """Return a link that is another one on the way back."""
    return SimpleNamespace(forward=link.forward, backward=back.backward)


@contextmanager
def another_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a Python of its own; it is gone afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"it ended without a word: {process.communicate()[1]}")
    return line.strip()
