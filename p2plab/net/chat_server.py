"""Takes texts over TCP: an inbox, an ACK for every copy, and nobody unproven."""

from __future__ import annotations

import errno
import heapq
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final, Self

from p2plab.core.validation import may_have, number
from p2plab.errors import CorruptPacket, PortInUse
from p2plab.net.chat import Event, Log, Message
from p2plab.net.frames import ACK, TEXT, Address, Connection, Frame, MessageId, encode
from p2plab.net.session import Session
from p2plab.net.threads import spawn

PROOF_TIMEOUT: Final = 5.0  # for whoever connects to prove a session [s]
IDLE_TIMEOUT: Final = 60.0  # then a connection without a whole text is closed [s]
WRITE_TIMEOUT: Final = 5.0  # for a peer that never reads its ACKs [s]
TICK: Final = 0.2  # between two looks whether the server was stopped [s]
MAX_PENDING: Final = 1_000  # ACKs that wait for their moment on one connection
STRANGERS: Final = 128  # connections that have not proven anything yet
STRANGERS_OF_SOURCE: Final = 32  # of them from one address; a class may share one
CONNECTIONS: Final = 256  # that have
CONNECTIONS_OF_PEER: Final = 4  # a client needs one; one that broke may linger
KEPT_IDS: Final = 65_536  # a copy comes seconds after the first, not days
THREAD: Final = "p2plab-chat"  # the name of each thread of a server


class ChatServer:
    """Takes texts, a thread per connection; shows each once, acknowledges every copy.

    sessions: finds the session of an id; called in a connection's thread, so it may
        wait for one that is just being made. Nobody is believed before they have proven
        one, and a text's sender is that session's peer.
    name: for the log. ack_delay [s] and ack_loss, in [0, 1), may change while it runs.
    on_message: called with each new Message, in a thread, before its ACK. What it
        raises is kept in callback_error; the text is acknowledged anyway.
    inbox_limit: a text that finds the inbox full, or its sender's share of it (see
        may_have), gets no ACK, so its sender keeps it.
    Nobody waits for others to leave: where too many connections are alike, the oldest
        of them ends.
    Counted: duplicates; and connections: strangers, which have proven nothing; broken,
        closed for a frame that the peer has not sent so, or that is no text.
    """

    def __init__(
        self,
        sessions: Callable[[bytes], Session | None],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "",
        ack_delay: float = 0.0,
        ack_loss: float = 0.0,
        seed: int = 0,
        on_message: Callable[[Message], object] | None = None,
        inbox_limit: int = 1_000,
    ) -> None:
        number("port", port, 0, "[0, 65535]", whole=True)
        self.address: Address = (host, port)
        self.ack_delay, self.ack_loss = ack_delay, ack_loss
        self.on_message, self.inbox_limit = on_message, inbox_limit
        self.inbox: list[Message] = []  # the oldest first
        self._log = Log(name)
        self.callback_error: Exception | None = None
        self._sessions = sessions
        self._rng = Random(seed)
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()  # for the inbox, and all that follows
        self.duplicates = self.strangers = self.broken = 0
        self._connections: dict[Connection, threading.Thread] = {}  # the oldest first
        # The oldest first. Ids are chosen by senders: with the name, nobody can use up
        # the id of another one's next text.
        self._copies: dict[tuple[str, MessageId], int] = {}

    @property
    def ack_delay(self) -> float:
        """How long each ACK is held back [s]."""
        return self._ack_delay

    @ack_delay.setter
    def ack_delay(self, seconds: float) -> None:
        number("ack_delay", seconds, 0.5, "[0, inf)", " seconds")
        self._ack_delay = seconds

    @property
    def ack_loss(self) -> float:
        """The probability that an ACK is not sent at all."""
        return self._ack_loss

    @ack_loss.setter
    def ack_loss(self, loss: float) -> None:
        number("ack_loss", loss, 0.1, "[0, 1)")
        self._ack_loss = loss

    @property
    def events(self) -> list[Event]:
        """What happened here, oldest first."""
        return self._log.events()

    def start(self) -> Self:
        """Listen; starting twice is starting once, and a restart keeps the port.

        Raises PortInUse, and ValueError for a host that is not this machine's.
        """
        if self._acceptor is None:
            self._listener = _listen(*self.address)
            self.address = self._listener.getsockname()[:2]
            self._stopping.clear()
            self._acceptor = spawn(self._accept, self._listener, name=THREAD)
        return self

    def forget(self, sender: str | None = None) -> None:
        """Empty the inbox, or take one sender's texts out of it."""
        with self._lock:
            self.inbox[:] = [
                each for each in self.inbox if sender not in (None, each.sender)
            ]

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
        with self._lock:
            connections = self._connections.copy()
        for connection in connections:
            connection.hang_up()
        for thread in connections.values():
            if thread is not threading.current_thread():
                thread.join(WRITE_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        """Give each new connection a thread, in the thread that accepts them."""
        listener.settimeout(TICK)
        with listener:
            while not self._stopping.is_set():
                try:
                    accepted, address = listener.accept()
                    new = Connection(accepted, address[:2])
                    with self._lock:  # it cannot end before it is known
                        self._connections[new] = spawn(self._serve, new, name=THREAD)
                except TimeoutError:
                    pass
                except (OSError, RuntimeError):  # no file handle or thread is left
                    self._stopping.wait(TICK)

    def _end_the_oldest(self, most: int, alike: Callable[[Connection], object]) -> None:
        """End the oldest of too many connections."""
        with self._lock:
            staying = [it for it in self._connections if alike(it) and not it.ended]
            if len(staying) > most:
                staying[0].hang_up()

    def _serve(self, connection: Connection) -> None:
        """Everything about one connection, in its own thread."""
        host = connection.address[0]
        self._end_the_oldest(STRANGERS, lambda it: not it.peer)
        self._end_the_oldest(
            STRANGERS_OF_SOURCE, lambda it: not it.peer and it.address[0] == host
        )
        try:
            connection.admit(self._sessions, PROOF_TIMEOUT)
            peer = connection.peer
            self._end_the_oldest(CONNECTIONS, lambda it: it.peer)
            self._end_the_oldest(CONNECTIONS_OF_PEER, lambda it: it.peer == peer)
            self._converse(connection)
        except (OSError, CorruptPacket) as why:
            with self._lock:  # counted before anybody sees the end
                if not connection.peer:
                    self.strangers += 1
                elif isinstance(why, CorruptPacket):
                    self.broken += 1
                # An OSError: the peer went away, and its texts come again.
        finally:
            connection.socket.close()
            with self._lock:
                del self._connections[connection]

    def _converse(self, connection: Connection) -> None:
        due: list[tuple[float, MessageId, int]] = []  # when to send which ACK: a heap
        idle_at = time.perf_counter() + IDLE_TIMEOUT
        while due or time.perf_counter() < idle_at:
            until = due[0][0] if due else idle_at
            for frame in connection.read(until - time.perf_counter()):
                if frame.kind != TEXT or len(due) >= MAX_PENDING:
                    raise CorruptPacket("not a text, or too many at once")
                arrived = time.perf_counter()
                idle_at = arrived + IDLE_TIMEOUT
                if copy := self._take(connection, frame):
                    heapq.heappush(due, (arrived + self.ack_delay, frame.id, copy))
            while due and due[0][0] <= time.perf_counter():
                _, id, copy = heapq.heappop(due)
                if self._rng.random() < self.ack_loss:
                    self._log.add("ack lost", id, copy)
                else:
                    self._log.add("ack sent", id, copy)
                    connection.write(encode(Frame(ACK, id)), WRITE_TIMEOUT)

    def _take(self, connection: Connection, frame: Frame) -> int:
        """Keep a text and show it if it is new; return which copy, 0 if refused."""
        message = Message(
            connection.peer, frame.text, time.time(), connection.address, frame.id
        )
        name = message.sender, message.id
        with self._lock:
            copy = self._copies.get(name, 0) + 1
            if copy > 1:
                self.duplicates += 1
            elif may_have(
                sum(each.sender == message.sender for each in self.inbox),
                len(self.inbox),
                self.inbox_limit,
            ):
                self.inbox.append(message)
            else:
                self._log.add("refused", message.id, 1)
                return 0
            self._copies[name] = copy
            if len(self._copies) > KEPT_IDS:
                del self._copies[next(iter(self._copies))]
        self._log.add("arrive" if copy == 1 else "duplicate", message.id, copy)
        if copy == 1 and self.on_message is not None:
            try:
                self.on_message(message)
            except Exception as error:  # not the sender's fault
                self.callback_error = error
        return copy


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # SO_REUSEADDR only where it means what we want, so not on Windows.
        return socket.create_server(
            (host, port), family=family, backlog=128, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"port {port} of {host} is taken or needs administrator's rights: "
                "stop the other program, or choose port 0, and the system finds one"
            ) from error
        raise ValueError(
            f"host must be an address of this computer, got {host!r} ({error})"
        ) from error
