"""Text over TCP between two peers: an application ACK, a timeout, and sending again."""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple, Self

from p2plab.core import packet
from p2plab.core.link import ARRIVE, LOSS
from p2plab.core.trace import (
    DELIVER,
    RECEIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    Trace,
)
from p2plab.errors import (
    CorruptPacket,
    Forged,
    NotDelivered,
    PeerUnreachable,
    PortInUse,
    WrongPeer,
)
from p2plab.net.frames import ACK, TEXT, Address, Connection, Frame, MessageId, encode
from p2plab.net.session import Session
from p2plab.net.threads import spawn

CONNECT_TIMEOUT: Final = 5.0  # TCP repeats its own SYN; Windows needs 2 s to refuse [s]
WRITE_TIMEOUT: Final = 5.0  # for a peer that never reads its ACKs [s]
TICK: Final = 0.2  # between two looks whether the server was stopped [s]
MAX_PENDING: Final = 1_000  # ACKs that wait for their moment on one connection
STRANGERS: Final = 128  # connections that have not proven anything yet
STRANGERS_OF_SOURCE: Final = 32  # of them from one address; a class may share one
CONNECTIONS_OF_PEER: Final = 4  # a client needs one; one that broke may linger
KEPT_EVENTS: Final = 10_000
KEPT_IDS: Final = 65_536  # a copy comes seconds after the first, not days
THREAD: Final = "p2plab-chat"  # the name of each thread of a server


class Event(NamedTuple):
    """A row of a log; a ladder needs the rows of both sides.

    A client writes send, resend, timeout, ack, dropped (its connection), unreachable,
    unproven (somebody answers, perhaps not the one meant); a server arrive, duplicate,
    refused (its inbox is full), ack sent, ack lost.
    """

    time: float  # of time.perf_counter(), so that all logs here have one axis [s]
    who: str
    event: str
    id: MessageId
    attempt: int  # a server counts the copies that arrive


class Log:
    """The newest events at one peer; any thread may add."""

    def __init__(self, who: str) -> None:
        self.who = who
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._lock = threading.Lock()

    def add(self, event: str, id: MessageId, attempt: int) -> None:
        """Write down what happens now."""
        with self._lock:  # the rows stand in the order of their times
            row = Event(time.perf_counter(), self.who, event, id, attempt)
            self._events.append(row)

    def events(self) -> list[Event]:
        """Return what happened, oldest first."""
        with self._lock:
            return list(self._events)


@dataclass(frozen=True, slots=True)
class Message:
    """A text as it lies in the inbox. sender: who has proven to be there."""

    sender: str
    text: str
    received_at: float  # of time.time() [s]
    address: Address = field(repr=False)
    id: MessageId = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A text was acknowledged: at which attempt, and how long after the first."""

    id: MessageId = field(repr=False)
    attempts: int
    seconds: float


class ChatServer:
    """Takes texts, a thread per connection; shows each once, acknowledges every copy.

    sessions: finds the session of an id; called in a connection's thread, so it may
        wait for one that is just being made. Nobody is believed before they have proven
        one, within proof_timeout [s], and a text's sender is that session's peer.
    name: for the log. ack_delay [s] and ack_loss, in [0, 1), may change while it runs.
    on_message: called with each new Message, in a thread, before its ACK. What it or
        `sessions` raises is kept in callback_error; the text is acknowledged anyway.
    inbox_limit: a text that finds the inbox full gets no ACK, so its sender keeps it.
    idle_timeout: a connection that brings no whole text for so long is closed [s].
    Nobody waits for others to leave: where too many connections are alike, the oldest
        of them ends. Those that have proven nothing (STRANGERS, STRANGERS_OF_SOURCE),
        those of one peer (CONNECTIONS_OF_PEER), and all (max_connections).
    Counted: duplicates; and connections: strangers, which have proven nothing; forged
        and broken, closed for a frame that the peer has not sent so, or is no text.
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
        max_connections: int = 256,
        idle_timeout: float = 60.0,
        proof_timeout: float = 5.0,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be in [0, 65535], got {port}")
        self.address: Address = (host, port)
        self.ack_delay, self.ack_loss = ack_delay, ack_loss
        self.on_message = on_message
        self.inbox_limit, self.max_connections = inbox_limit, max_connections
        self.idle_timeout, self.proof_timeout = idle_timeout, proof_timeout
        self.callback_error: Exception | None = None
        self._sessions = sessions
        self._log = Log(name)
        self._rng = Random(seed)
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()  # for all that follows
        self.duplicates = self.strangers = self.forged = self.broken = 0
        self._connections: dict[Connection, threading.Thread] = {}  # the oldest first
        self._messages: list[Message] = []
        # The oldest first. Ids are chosen by senders: with the name, nobody can use up
        # the id of another one's next text.
        self._copies: dict[tuple[str, MessageId], int] = {}

    @property
    def ack_delay(self) -> float:
        """How long each ACK is held back [s]."""
        return self._ack_delay

    @ack_delay.setter
    def ack_delay(self, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"ack_delay must be 0 seconds or more, got {seconds}")
        self._ack_delay = seconds

    @property
    def ack_loss(self) -> float:
        """The probability that an ACK is not sent at all."""
        return self._ack_loss

    @ack_loss.setter
    def ack_loss(self, loss: float) -> None:
        if not 0 <= loss < 1:
            raise ValueError(f"ack_loss must be in [0, 1), got {loss}")
        self._ack_loss = loss

    @property
    def inbox(self) -> list[Message]:
        """The messages, oldest first."""
        with self._lock:
            return self._messages.copy()

    @property
    def events(self) -> list[Event]:
        """What happened here, oldest first."""
        return self._log.events()

    def clear(self) -> None:
        """Make room; copies of what was here are still known as duplicates."""
        with self._lock:
            self._messages.clear()

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

    # ---- the thread that accepts connections

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(TICK)
        with listener:
            while not self._stopping.is_set():
                try:
                    accepted, address = listener.accept()
                    self._begin(Connection(accepted, address[:2]))
                except TimeoutError:
                    pass
                except (OSError, RuntimeError):  # no file handle or thread is left
                    self._stopping.wait(TICK)

    def _begin(self, connection: Connection) -> None:
        """Give a new connection its thread."""
        source = connection.address[0]
        with self._lock:  # it cannot end before it is known: that needs the lock
            self._connections[connection] = spawn(self._serve, connection, name=THREAD)
            strangers = [each for each in self._connections if not each.peer]
            _make_room(strangers, STRANGERS)
            same = [each for each in strangers if each.address[0] == source]
            _make_room(same, STRANGERS_OF_SOURCE)

    # ---- a connection's own thread

    def _serve(self, connection: Connection) -> None:
        try:
            connection.admit(self._find, self.proof_timeout)
            with self._lock:
                proven = [each for each in self._connections if each.peer]
                _make_room(proven, self.max_connections)
                same = [each for each in proven if each.peer == connection.peer]
                _make_room(same, CONNECTIONS_OF_PEER)
            self._converse(connection)
        except (OSError, CorruptPacket) as why:
            with self._lock:  # counted before anybody sees the end
                if not connection.peer:
                    self.strangers += 1
                elif isinstance(why, Forged):
                    self.forged += 1
                elif isinstance(why, CorruptPacket):
                    self.broken += 1
                # An OSError: the peer went away, and its texts come again.
        finally:
            connection.socket.close()
            with self._lock:
                del self._connections[connection]

    def _find(self, id: bytes) -> Session | None:
        try:
            return self._sessions(id)
        except Exception as error:  # not the connection's fault
            self.callback_error = error
            return None

    def _converse(self, connection: Connection) -> None:
        due: list[tuple[float, MessageId, int]] = []  # when to send which ACK: a heap
        idle_at = time.perf_counter() + self.idle_timeout
        while due or time.perf_counter() < idle_at:
            until = due[0][0] if due else idle_at
            for frame in connection.read(until - time.perf_counter()):
                if frame.kind != TEXT or len(due) >= MAX_PENDING:
                    raise CorruptPacket("not a text, or too many at once")
                arrived = time.perf_counter()
                idle_at = arrived + self.idle_timeout
                if copy := self._take(connection, frame):
                    heapq.heappush(due, (arrived + self.ack_delay, frame.id, copy))
                self._acknowledge(connection, due)
            self._acknowledge(connection, due)

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
            elif len(self._messages) < self.inbox_limit:
                self._messages.append(message)
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

    def _acknowledge(
        self, connection: Connection, due: list[tuple[float, MessageId, int]]
    ) -> None:
        """Send the ACKs whose moment has come, or lose them."""
        while due and due[0][0] <= time.perf_counter():
            _, id, copy = heapq.heappop(due)
            if self._rng.random() < self.ack_loss:
                self._log.add("ack lost", id, copy)
            else:
                self._log.add("ack sent", id, copy)
                connection.write(encode(Frame(ACK, id)), WRITE_TIMEOUT)


def _make_room(alike: Sequence[Connection], most: int) -> None:
    """End the oldest of too many connections."""
    staying = [each for each in alike if not each.ended]
    if len(staying) > most:
        staying[0].hang_up()


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


@dataclass(slots=True)
class _Route:
    """The way to one peer: a connection that is kept for the next text."""

    address: Address
    connection: Connection | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # one text at a time

    def connect(self, session: Session) -> Connection:
        """The kept connection if it is alive and of this session, otherwise a new one.

        Raises PeerUnreachable.
        """
        kept = self.connection
        if kept is not None and kept.session is session and kept.alive():
            return kept
        self.drop()
        try:
            connected = socket.create_connection(self.address, CONNECT_TIMEOUT)
        except (OSError, ValueError, OverflowError) as error:  # or no address at all
            host, port = self.address
            why = getattr(error, "strerror", None) or str(error)
            raise PeerUnreachable(
                f"nobody answers at {host}:{port} ({why}): the peer has ended, or a "
                "firewall or a NAT keeps us out. A text goes straight to its TCP "
                "address, while pictures find ways through NATs by UDP; it may still "
                "be able to write to you"
            ) from None
        self.connection = Connection(connected, self.address)
        return self.connection

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.socket.close()
            self.connection = None


class ChatClient:
    """Sends texts, and sends them again until they are acknowledged.

    name: for the log. Any thread may send; texts to one peer go one after another over
    one connection, which is kept and replaced when it breaks.
    Counted: forged, ACKs that the peer of the session has not sent so.
    """

    def __init__(self, name: str = "") -> None:
        self.forged = 0
        self.key = secrets.randbits(64)  # unseeded: two runs must not share their ids
        self._log = Log(name)
        self._numbers = itertools.count(1)
        self._routes: dict[Address, _Route] = {}
        self._lock = threading.Lock()  # for the numbers, the routes and the count
        self._closed = threading.Event()

    @property
    def events(self) -> list[Event]:
        """What happened here, oldest first."""
        return self._log.events()

    def send_text(
        self,
        address: Address,
        text: str,
        session: Session,
        *,
        timeout: float = 2.0,
        tries: int = 5,
    ) -> Delivery:
        """Return when the text has been acknowledged.

        session: who must answer. The text goes only to who proves to be its peer, and
            only that peer's ACK counts.
        timeout: how long one attempt waits for its ACK [s]; every attempt takes so
            long, also if its connection breaks, which gives the peer time to come back.
        Raises BadContent; PeerUnreachable if nobody listens at the address at first;
        NotDelivered after the last try; and WrongPeer, a NotDelivered, if nobody proves
        to be the peer: at once if it is certainly somebody else.
        """
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout}")
        if tries < 1:
            raise ValueError(f"tries must be at least 1, got {tries}")
        encode(Frame(TEXT, MessageId(0, 0), text))  # or it is BadContent, with no id
        with self._lock:
            frame = Frame(TEXT, MessageId(self.key, next(self._numbers)), text)
            if address not in self._routes:
                self._drop_dead_connections()
                self._routes[address] = _Route(address)
            route = self._routes[address]
        with route.lock:
            return self._deliver(route, session, frame, timeout, tries)

    def close(self) -> None:
        """Hang up; a text on its way raises NotDelivered in its own thread."""
        self._closed.set()
        with self._lock:
            routes = list(self._routes.values())
        for route in routes:
            if (connection := route.connection) is not None:
                connection.hang_up()
        for route in routes:
            if route.lock.acquire(timeout=CONNECT_TIMEOUT):
                route.drop()
                route.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _deliver(
        self, route: _Route, session: Session, frame: Frame, timeout: float, tries: int
    ) -> Delivery:
        started = next_at = time.perf_counter()
        event = ""
        for attempt in range(1, tries + 1):
            if self._closed.wait(max(0.0, next_at - time.perf_counter())):
                break
            next_at = time.perf_counter() + timeout
            try:
                event = self._attempt(route, session, frame, attempt, timeout)
            except PeerUnreachable:
                self._log.add("unreachable", frame.id, attempt)
                if attempt == 1:  # later it may be on its way back
                    raise
                continue
            except BaseException:  # a cell was interrupted: half a text may be out
                route.drop()
                raise
            self._log.add(event, frame.id, attempt)
            if event == "ack":
                return Delivery(frame.id, attempt, time.perf_counter() - started)
            if event != "timeout":
                route.drop()
        route.drop()  # whatever ails this connection, the next text gets a new one
        if self._closed.is_set():
            raise not_delivered("this peer is closed: make a new one.", frame.text)
        if event == "unproven":
            raise _wrong_peer(route, session, frame)
        host, port = route.address
        raise not_delivered(
            f"{host}:{port} acknowledged none of {tries} tries within "
            f"{time.perf_counter() - started:.1f} s (timeout {timeout:g} s): it is "
            "gone, or its inbox is full, or its ACKs are lost or late. Allow more time "
            "or tries, or ask its owner.",
            frame.text,
        )

    def _attempt(
        self,
        route: _Route,
        session: Session,
        frame: Frame,
        attempt: int,
        timeout: float,
    ) -> str:
        """Send once and wait once; return the event in which it has ended."""
        connection = route.connect(session)
        if self._closed.is_set():  # close() may have come too early to hang up
            return "dropped"
        try:
            if connection.session is None:
                connection.prove(session, timeout)
        except Forged as error:
            self._log.add("unproven", frame.id, attempt)
            raise _wrong_peer(route, session, frame) from error
        except OSError:  # strangers are hung up on; or the connection broke
            return "unproven"
        self._log.add("send" if attempt == 1 else "resend", frame.id, attempt)
        try:
            connection.write(encode(frame), timeout)
            acknowledged = _wait_for_ack(connection, frame.id, timeout)
            return "ack" if acknowledged else "timeout"
        except (OSError, CorruptPacket) as error:
            with self._lock:
                self.forged += isinstance(error, Forged)
            return "dropped"

    def _drop_dead_connections(self) -> None:
        """Give back what peers hung up on since."""
        for route in self._routes.values():
            if route.lock.acquire(blocking=False):
                if route.connection is not None and not route.connection.alive():
                    route.drop()
                route.lock.release()


def _wait_for_ack(connection: Connection, id: MessageId, timeout: float) -> bool:
    """Any ACK of this text will do, also a late one of an earlier attempt."""
    deadline = time.perf_counter() + timeout
    acknowledged = False
    while not acknowledged and (rest := deadline - time.perf_counter()) > 0:
        for frame in connection.read(rest):
            acknowledged |= frame.kind == ACK and frame.id == id
    return acknowledged


def not_delivered(
    why: str, text: str, kind: type[NotDelivered] = NotDelivered
) -> NotDelivered:
    """Return the error for a text that did not arrive."""
    error = kind(why, text)
    error.add_note("The text is kept, as the error's `text`.")  # for who has the error
    return error


def _wrong_peer(route: _Route, session: Session, frame: Frame) -> NotDelivered:
    (host, port), name = route.address, session.peer
    return not_delivered(
        f"who answers at {host}:{port} has not proven to be {name}: another program or "
        f"machine may be there now, or {name} has forgotten the session. Ask for a new "
        "introduction.",
        frame.text,
        WrongPeer,
    )


# ---- texts as a trace, ready for a ladder

_ATTEMPTS: Final = 1_000  # more than anybody tries; numbers stay apart below it

# event -> (host, what, kind) of the rows that it becomes
_ROWS: Final[dict[str, list[tuple[str, str, int]]]] = {
    "send": [(SENDER, SEND, packet.DATA)],
    "resend": [(SENDER, RETRANSMIT, packet.DATA)],
    "timeout": [(SENDER, TIMEOUT, 0)],
    "arrive": [(RECEIVER, ARRIVE, packet.DATA), (RECEIVER, DELIVER, 0)],
    "duplicate": [(RECEIVER, ARRIVE, packet.DATA)],
    "ack sent": [(RECEIVER, SEND, packet.ACK)],
    "ack lost": [(RECEIVER, SEND, packet.ACK), (RECEIVER, LOSS, packet.ACK)],
    "ack": [(SENDER, ARRIVE, packet.ACK)],
}


def conversation(events: Iterable[Event], key: int) -> Trace:
    """Return what became of the texts of one client, on one time axis.

    events: of the client and of the servers that it wrote to, in any order, all from
        this process; key: the client's part of its messages' ids.
    A text is a DATA packet, numbered from 0; every attempt is a transmission of it.
    """
    ours = sorted(event for event in events if event.id.key == key)
    start = ours[0].time if ours else 0.0
    answered: dict[MessageId, int] = {}  # the first copy whose ACK was not lost
    for event in ours:
        if event.event == "ack sent":
            answered.setdefault(event.id, event.attempt)
    return Trace(rows=[row for event in ours for row in _rows(event, answered, start)])


def _rows(event: Event, answered: dict[MessageId, int], start: float) -> Iterator[Row]:
    seq, copy = event.id.number - 1, event.attempt
    if event.event == "ack":
        copy = answered.get(event.id, copy)
    for host, what, kind in _ROWS.get(event.event, []):
        nameless = what in (TIMEOUT, DELIVER)
        number = -1 if nameless else seq * _ATTEMPTS + copy
        where = -1 if what == TIMEOUT else seq
        yield Row(event.time - start, host, what, int(kind), where, 0, number)
