"""Two peers who were introduced, and write to each other over TCP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from unittest.mock import patch

from p2plab.net import chat_server
from p2plab.net.chat import ChatClient, Delivery
from p2plab.net.chat_server import ChatServer
from p2plab.net.frames import ACK, TEXT, Address, Connection, Frame, MessageId, encode
from p2plab.net.session import CALLEE, CALLER, Session

PATIENCE: Final = 10.0  # a test that waits longer has failed [s]
FOR_EVER: Final = 1_000.0


def introduced(peer: str = "alice", id: int = 1) -> tuple[Session, Session]:
    """The session of `peer`, who called, and the one of Bob."""
    key = Random(id).randbytes(32)
    name = id.to_bytes(8)
    return Session(name, key, CALLER, "bob"), Session(name, key, CALLEE, peer)


def known(*sessions: Session) -> Callable[[bytes], Session | None]:
    """What a server asks for the session of an id."""
    return {session.id: session for session in sessions}.get


@dataclass(frozen=True)
class Talk:
    """Alice's client and Bob's server."""

    client: ChatClient
    server: ChatServer
    session: Session  # Alice's

    def send(
        self,
        text: str,
        to: Address | None = None,
        *,
        timeout: float = PATIENCE,
        tries: int = 5,
    ) -> Delivery:
        """Let Alice send a text to Bob, or to who is at an address in his place."""
        to = to or self.server.address
        return self.client.send_text(
            to, text, self.session, timeout=timeout, tries=tries
        )

    @property
    def events(self) -> list[str]:
        """What happened at Alice's, in words."""
        return [row.event for row in self.client.events]

    @property
    def shown(self) -> list[str]:
        """The texts in Bob's inbox."""
        return [message.text for message in self.server.inbox]

    def connection(self) -> Connection:
        """Alice's connection to Bob by hand, past its handshake."""
        connected = socket.create_connection(self.server.address)
        connection = Connection(connected, self.server.address)
        connection.prove(self.session, PATIENCE)
        return connection


@contextmanager
def talk(peer: str = "alice", **knobs: Any) -> Iterator[Talk]:
    """Let the two begin; knobs are those of the server, and constants of its module."""
    alice, bob = introduced(peer)
    constants: dict[str, Any] = {"IDLE_TIMEOUT": PATIENCE}
    constants |= {name: knobs.pop(name) for name in list(knobs) if name.isupper()}
    knobs.setdefault("sessions", known(bob))
    with (
        patch.multiple(chat_server, **constants),
        ChatServer(**knobs) as server,
        ChatClient(peer) as client,
    ):
        yield Talk(client, server, alice)


def text_frame(text: str = "hello", number: int = 1) -> bytes:
    """A text as bytes, without its tag."""
    return encode(Frame(TEXT, MessageId(7, number), text))


def ack_of(frame: Frame) -> bytes:
    """The ACK of a text as bytes, without its tag."""
    return encode(Frame(ACK, frame.id))


def in_thread(run: Callable[[], object]) -> threading.Thread:
    """Run it in the background."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextmanager
def scripted_peer(*scripts: Callable[[Connection], object]) -> Iterator[Address]:
    """A Bob who plays one script on each connection that he gets, then hangs up."""
    _, bob = introduced()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def play() -> None:
            for script in scripts:
                accepted, address = listener.accept()
                with accepted:
                    connection = Connection(accepted, address)
                    connection.admit(known(bob), PATIENCE)
                    script(connection)

        thread = in_thread(play)
        yield listener.getsockname()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the client used fewer connections than scripted"
