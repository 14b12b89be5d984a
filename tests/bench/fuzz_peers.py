"""What a peer may send that has the key: valid proofs and seals around bad content."""

from __future__ import annotations

import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final, Self
from unittest.mock import patch

from p2plab.content.chunks import cut
from p2plab.content.sample import sample_picture
from p2plab.core import packet
from p2plab.core.packet import Kind
from p2plab.errors import CorruptPacket
from p2plab.net import frames
from p2plab.net.chat_server import ChatServer
from p2plab.net.datagrams import Address
from p2plab.net.frames import Connection, Tags
from p2plab.net.session import CALLEE, CALLER, TAG_SIZE, Session, inside
from p2plab.net.udp import UdpSocket
from p2plab.protocols import Setup
from p2plab.sim.watchdog import Watchdog

ID, KEY = bytes(range(8)), bytes(range(32))
NONCE: Final = bytes(16)  # ours, in a handshake, so that proofs can be made in advance
HELLO: Final = b"p2t1" + ID + bytes(16)
LIFE: Final = 100  # inputs until a machine, or a socket, is made anew
TURN: Final = 0.0005  # s between two packets of a machine
MOST_ANSWERS: Final = 2_000  # to one datagram
THERE: Final = ("127.0.0.1", 9)
MISTAKE: Final = b"a mistake in the protocol"


def ours() -> Session:
    """The session of the side that is attacked."""
    return Session(ID, KEY, CALLEE, "ann")


def theirs() -> Session:
    """The session of the side that attacks."""
    return Session(ID, KEY, CALLER, "bob")


# ---- texts over TCP: a handshake, and what follows it


def framed(data: bytes, tags: Tags) -> bytes:
    """Make a frame of any bytes, with the tag that is due."""
    frame = frames.LENGTH.pack(len(data)) + data
    return frame + tags(frame)


def with_proof(stream: bytes) -> bytes:
    """Let a stream of one who connects prove its session, and carry one frame."""
    if len(stream) < len(HELLO) + TAG_SIZE:
        return stream
    hello, rest = stream[: len(HELLO)], stream[len(HELLO) + TAG_SIZE :]
    tags = Tags(theirs(), CALLER, hello[-len(NONCE) :] + NONCE)
    return hello + tags(b"") + framed(rest[frames.LENGTH.size :], tags)


def with_answer(stream: bytes) -> bytes:
    """The same for one who listens, and attacks who connects."""
    if len(stream) < len(NONCE) + TAG_SIZE:
        return stream
    nonce, rest = stream[: len(NONCE)], stream[len(NONCE) + TAG_SIZE :]
    tags = Tags(theirs(), CALLER, NONCE + nonce)
    return nonce + tags(b"") + framed(rest[frames.LENGTH.size :], tags)


def read_as(side: Callable[[Connection], None], stream: bytes) -> None:
    """Let one side of a handshake hear this, and then the frames in it."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(stream[:50_000])
        far.shutdown(socket.SHUT_WR)
        connection = Connection(near, THERE)
        with patch.object(secrets, "token_bytes", bytes):
            side(connection)
        with suppress(ConnectionResetError):  # the end of the stream
            while True:
                list(connection.read(1.0))


def listening(connection: Connection) -> None:
    connection.admit({ID: ours()}.get, 1.0)


def connecting(connection: Connection) -> None:
    connection.prove(ours(), 1.0)


def chat(data: bytes) -> None:
    """Let a proven peer send this as a frame to a text server, and hang up."""
    died: list[threading.ExceptHookArgs] = []
    with (
        patch.object(threading, "excepthook", died.append),
        ChatServer({ID: ours()}.get) as server,
        socket.create_connection(server.address) as connected,
    ):
        connection = Connection(connected, server.address)
        connection.prove(theirs(), 10.0)
        connection.write(frames.LENGTH.pack(len(data)) + data, 10.0)
        connected.shutdown(socket.SHUT_WR)
        while connected.recv(4096):
            pass
    if died or server.callback_error:
        raise AssertionError(f"the server failed: {died}, {server.callback_error}")
    if server.broken:
        raise CorruptPacket("the server has hung up")


# ---- machines: every protocol's two sides, without a seal or a socket


class Machine:
    """One side of a protocol, and what the other side may say to it."""

    def __init__(self, name: str, role: str) -> None:
        self.setup, self.role = Setup(name, window=8), role
        self.left = 0

    def begin(self) -> None:
        """Make it anew."""
        self.left, self.now = LIFE, 0.0
        sends = self.role == "sender"
        self.machine: Any = sending(self.setup) if sends else self.setup.receiver()

    def read(self, datagram: bytes) -> None:
        """Feed a packet, then pull all there is, as a driver does."""
        found, _, _ = packet.decode(datagram)
        if not self.left:
            self.begin()
        self.left -= 1
        self.now += TURN
        self.machine.on_packet(found, self.now)
        for _ in range(MOST_ANSWERS):
            if (answer := self.machine.next_packet(self.now)) is None:
                break
            packet.encode(answer)
        else:
            raise AssertionError("it has more and more to say")
        if self.role == "receiver":
            while self.machine.next_payload() is not None:
                pass
        deadline = self.machine.deadline
        if deadline is not None and deadline <= self.now:
            self.machine.on_timeout(self.now)


def sending(setup: Setup) -> Any:
    """A sender with something to do."""
    sender = setup.sender()
    for number in range(24):
        sender.send(bytes([number]) * 60)
    sender.finish()
    return sender


def conversation(name: str) -> tuple[list[bytes], list[bytes]]:
    """Return what a sender says when some of it gets lost, and what it is answered."""
    setup, rng, now = Setup(name, window=8), Random(1), 0.0
    sender, receiver = sending(setup), setup.receiver()
    said: tuple[list[bytes], list[bytes]] = ([], [])
    for _ in range(2_000):
        now += TURN
        for here, there, words in (
            (sender, receiver, said[0]),
            (receiver, sender, said[1]),
        ):
            for _ in range(8):
                if (each := here.next_packet(now)) is None:
                    break
                words.append(packet.encode(each, 0, len(words)))
                if rng.random() > 0.1:
                    there.on_packet(each, now)
            while receiver.next_payload() is not None:
                pass
            if here.deadline is not None and here.deadline <= now:
                here.on_timeout(now)
        if sender.done:
            break
    return said[0][:200], said[1][:200]


# ---- a whole UDP socket, without a network or a thread


class Wire:
    """Stands for a UDP socket: what is sent stays here."""

    family = socket.AF_INET

    def __init__(self, host: str, port: int) -> None:
        self.inbox: deque[bytes] = deque()
        self.sent: list[bytes] = []

    def getsockname(self) -> Address:
        return "127.0.0.1", 5000

    def sendto(self, datagram: bytes, to: Address) -> None:
        self.sent.append(datagram)

    def recvfrom(self, largest: int) -> tuple[bytes, Address]:
        if not self.inbox:
            raise BlockingIOError
        return self.inbox.popleft(), THERE


class Here:
    """Stands for the thread of sockets: everything is done at once, by the caller."""

    here = True
    ready: Callable[[], None]

    def __init__(self) -> None:
        self.watchdog = Watchdog(1.0)

    @classmethod
    def join(cls, sock: object, on_ready: Callable[[], None]) -> Self:
        one = cls()
        one.ready = on_ready
        return one

    def call(self, command: Callable[[], None]) -> None:
        command()

    def call_at(self, when: float, command: Callable[[], None]) -> None:
        """The clock is ours: see Side.turn."""


class Side:
    """A sealed UDP socket that has met a peer, and may send it a picture."""

    def __init__(self, session: Session, setup: Setup | None = None) -> None:
        with (
            patch("p2plab.net.udp.bound", Wire),
            patch("p2plab.net.udp.SocketThread", Here),
            patch.object(secrets, "randbelow", lambda limit: 6),  # a transfer's number
        ):
            self.socket = UdpSocket(sealed=True)
            contact = self.socket.meet(session, [("host", THERE)])
            if setup is not None:
                chunks = cut(sample_picture(16), payload_size=100)
                self.socket.send(contact, chunks, setup)
        self.wire: Any = self.socket._socket
        self.thread: Any = self.socket._thread

    def turn(self, *sealed: bytes) -> list[bytes]:
        """Let this arrive; return what is sent."""
        self.wire.inbox.extend(sealed)
        self.thread.ready()
        sent, self.wire.sent = self.wire.sent, []
        return list(sent)


class Talk:
    """A socket in the middle of a transfer, and what the other side may say to it.

    role: of the socket that is attacked.
    """

    def __init__(self, name: str, role: str) -> None:
        self.setup, self.role = Setup(name, window=8), role
        self.peer = theirs()
        self.left = 0
        self.told: list[bytes] = []  # when it begins

    def samples(self) -> list[bytes]:
        """Return what is said in a transfer that goes well."""
        sender, receiver = Side(theirs(), self.setup), Side(ours())
        heard: list[list[bytes]] = [[], []]
        there: list[bytes] = []
        for _ in range(100_000):
            back = receiver.turn(*there)
            there = sender.turn(*back)
            heard[0] += map(inside, there)
            heard[1] += map(inside, back)
            if all(each.ended for each in sender.socket.transfers()):
                break
        words = heard[0] if self.role == "receiver" else heard[1]
        first = {Kind.OFFER, Kind.ACCEPT}
        self.told = [each for each in words if packet.decode(each)[0].kind in first][:1]
        return words[:200]

    def read(self, datagram: bytes) -> None:
        """Let the peer send this, under its seal."""
        if not self.left:
            self.left = LIFE
            sends = self.setup if self.role == "sender" else None
            self.side = Side(ours(), sends)
            self.strays = 0
            for each in self.told:
                self.side.turn(self.peer.seal(each))
        self.left -= 1
        sent = self.side.turn(self.peer.seal(datagram))
        assert len(sent) <= MOST_ANSWERS, "it has more and more to say"
        error = self.side.socket.callback_error
        if error is not None:
            raise error
        for each in sent:
            found, _, _ = packet.decode(inside(each))
            assert not found.payload.startswith(MISTAKE), found.payload
        if self.side.socket.strays > self.strays:
            self.strays = self.side.socket.strays
            raise CorruptPacket("it belongs to nothing")
