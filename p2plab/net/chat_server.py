"""The receiving end of a chat: a TCP port, a thread per connection, and an inbox."""

from __future__ import annotations

import errno
import heapq
import math
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Self

from p2plab.errors import CorruptPacket, PortInUse
from p2plab.net.frames import Frame, FrameKind, encode
from p2plab.net.inbox import Address, Event, Inbox, Log, Message
from p2plab.net.session import Session
from p2plab.net.talks import THREAD, TICK, Talk, Talks
from p2plab.net.threads import spawn

MAX_PENDING = 1_000  # ACKs that wait for their moment on one connection
WRITE_TIMEOUT = 5.0  # for a peer that never reads its ACKs


class ChatServer:
    """Takes texts, a thread per connection; shows each once, acknowledges every copy.

    name: for the log. ack_delay [s] and ack_loss, in [0, 1), may change while it runs.
    on_message: called with each new Message, in a thread, before its ACK; what it
    raises is kept in callback_error, and the message is acknowledged all the same.
    inbox_limit: a text that finds the inbox full gets no ACK, so its sender keeps it.
    idle_timeout: a connection that brings no whole text for so long is closed [s].
    sessions: finds the session of an id; called in a connection's thread, so it may
    wait for one that is just being made. If given, nobody is believed before they have
    proven one within proof_timeout [s], and a text's sender is that session's peer.
    Counted: duplicates; broken, connections closed for bytes that are no text;
    turned_away, connections above max_connections; and in sessions strangers,
    connections that have proven nothing, and forged, those closed for a frame that the
    peer has not sent so. start() can raise PortInUse.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "",
        ack_delay: float = 0.0,
        ack_loss: float = 0.0,
        seed: int = 0,
        on_message: Callable[[Message], object] | None = None,
        inbox_limit: int = 1_000,
        max_connections: int = 256,
        idle_timeout: float = 60.0,
        sessions: Callable[[bytes], Session | None] | None = None,
        proof_timeout: float = 5.0,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be in [0, 65535], got {port}")
        self.address: Address = (host, port)
        self.ack_delay = ack_delay
        self.ack_loss = ack_loss
        self.on_message = on_message
        self.idle_timeout = idle_timeout
        self.callback_error: Exception | None = None
        self._inbox = Inbox(inbox_limit)
        self._log = Log(name)
        self._rng = Random(seed)
        self._sessions = sessions
        find = None if sessions is None else self._find
        self._talks = Talks(self._converse, max_connections, find, proof_timeout)
        self._stopping = threading.Event()
        self._listener: socket.socket
        self._acceptor: threading.Thread | None = None

    @property
    def ack_delay(self) -> float:
        return self._ack_delay

    @ack_delay.setter
    def ack_delay(self, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"ack_delay must be 0 seconds or more, got {seconds}")
        self._ack_delay = seconds

    @property
    def ack_loss(self) -> float:
        return self._ack_loss

    @ack_loss.setter
    def ack_loss(self, loss: float) -> None:
        if not 0 <= loss < 1:
            raise ValueError(f"ack_loss must be in [0, 1), got {loss}")
        self._ack_loss = loss

    @property
    def inbox(self) -> list[Message]:
        return self._inbox.messages()

    @property
    def duplicates(self) -> int:
        return self._inbox.duplicates

    @property
    def broken(self) -> int:
        return self._talks.counts["broken"]

    @property
    def forged(self) -> int:
        return self._talks.counts["forged"]

    @property
    def strangers(self) -> int:
        return self._talks.counts["strangers"]

    @property
    def turned_away(self) -> int:
        return self._talks.counts["turned_away"]

    @property
    def events(self) -> list[Event]:
        return self._log.events()

    def clear(self) -> None:
        """Empty the inbox."""
        self._inbox.clear()

    def start(self) -> Self:
        """Listen; from here on `address` has the port that the system chose."""
        if self._acceptor is None:
            self._listener = _listen(*self.address)
            self.address = self._listener.getsockname()[:2]
            self._stopping.clear()
            self._acceptor = spawn(self._accept, self._listener, name=THREAD)
        return self

    def stop(self) -> None:
        """Close the port and every connection; all threads are gone afterwards.

        Except a thread in which on_message takes longer than 5 s.
        """
        self._stopping.set()
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            with suppress(OSError):  # wakes it on Linux; elsewhere it takes a TICK
                self._listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
        self._talks.end(WRITE_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(TICK)
        with listener:
            while not self._stopping.is_set():
                try:
                    connection, address = listener.accept()
                    self._talks.begin(connection, address[:2])
                except TimeoutError:
                    pass
                except (OSError, RuntimeError):  # no file handle or thread is left
                    self._stopping.wait(TICK)

    def _find(self, id: bytes) -> Session | None:
        assert self._sessions is not None
        try:
            return self._sessions(id)
        except Exception as error:  # not the connection's fault
            self.callback_error = error
            return None

    def _converse(self, talk: Talk) -> None:
        while not self._stopping.is_set() and not talk.idle(self.idle_timeout):
            for frame in talk.line.read(talk.patience()):
                self._take(talk, frame)
            self._acknowledge(talk)

    def _take(self, talk: Talk, frame: Frame) -> None:
        talk.heard_at = time.perf_counter()
        if frame.kind != FrameKind.TEXT or len(talk.due) >= MAX_PENDING:
            raise CorruptPacket("only texts are taken here, and not so many at once")
        talk.proven = True
        sender = frame.name if talk.session is None else talk.session.peer
        message = Message(sender, frame.text, time.time(), talk.address, frame.id)
        copy = self._inbox.put(message)
        if not copy:
            self._log.add("refused", frame.id, 1)
            return
        self._log.add("arrive" if copy == 1 else "duplicate", frame.id, copy)
        if copy == 1 and self.on_message is not None:
            try:
                self.on_message(message)
            except Exception as error:  # not the sender's fault
                self.callback_error = error
        heapq.heappush(talk.due, (talk.heard_at + self.ack_delay, frame.id, copy))
        self._acknowledge(talk)

    def _acknowledge(self, talk: Talk) -> None:
        """Send the ACKs whose moment has come, or lose them."""
        while talk.due and talk.due[0][0] <= time.perf_counter():
            _, id, copy = heapq.heappop(talk.due)
            if self._rng.random() < self.ack_loss:
                self._log.add("ack lost", id, copy)
            else:
                self._log.add("ack sent", id, copy)
                talk.line.write(encode(Frame(FrameKind.ACK, id)), WRITE_TIMEOUT)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # SO_REUSEADDR only where it means what we want, so not on Windows.
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"port {port} of {host} is taken or needs administrator's rights: "
                "stop the other program, or choose port 0, and the system finds one"
            ) from error
        raise ValueError(
            f"host must be an address of this computer, got {host!r} ({error})"
        ) from error
