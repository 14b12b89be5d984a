"""Text over TCP between two peers: an application ACK, a timeout, and sending again."""

from __future__ import annotations

import itertools
import math
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from p2plab.errors import (
    CorruptPacket,
    Forged,
    NotDelivered,
    PeerUnreachable,
    WrongPeer,
)
from p2plab.net.chat_server import ChatServer as ChatServer  # the other end
from p2plab.net.frames import (
    MAX_NAME,
    Decoder,
    Frame,
    FrameKind,
    Line,
    MessageId,
    encode,
    utf8,
    visible,
)
from p2plab.net.handshake import prove
from p2plab.net.inbox import Address, Event, Log
from p2plab.net.session import Session

CONNECT_TIMEOUT = 5.0  # TCP repeats its own SYN; Windows takes 2 s to say "refused"

KEPT = "The text is kept, as the error's `text`."  # for those who have the error


@dataclass(frozen=True, slots=True)
class Delivery:
    """A text was acknowledged: at which attempt, and how long after the first."""

    id: MessageId = field(repr=False)
    attempts: int
    seconds: float


@dataclass(slots=True)
class _Route:
    """The way to one peer: a connection that is kept for the next text."""

    address: Address
    session: Session | None = None
    line: Line | None = None
    unproven: bool = False  # somebody answered there, and proved nothing
    lock: threading.Lock = field(default_factory=threading.Lock)  # one text at a time

    def use(self, session: Session | None) -> None:
        """Speak in this session; a connection of another one is of no use then."""
        if session is not self.session:
            self.close()
            self.session = session

    def connect(self) -> Line:
        """The kept connection if it is alive, otherwise a new one."""
        if self.line is not None and not self.line.alive():
            self.close()
        if self.line is None:
            try:
                connection = socket.create_connection(self.address, CONNECT_TIMEOUT)
            except (OSError, ValueError, OverflowError) as error:  # no address at all
                host, port = self.address
                raise PeerUnreachable(
                    f"nobody answers at {host}:{port} ({_in_words(error)}): the peer "
                    "has ended, or a firewall or a NAT keeps us out. A text goes "
                    "straight to its TCP address, while pictures find ways through "
                    "NATs by UDP; it may still be able to write to you"
                ) from None
            self.line = Line(connection)
        return self.line

    def prove(self, line: Line, timeout: float) -> bool:
        """In a session, prove it to each other; say whether nothing is in doubt.

        Raises Forged if the other side cannot know the session's key.
        """
        self.unproven = self.session is not None and line.tag is None
        if self.session is not None and line.tag is None:
            try:
                line.tag, theirs = prove(line.socket, self.session, timeout)
            except OSError:  # strangers are hung up on; or the connection broke
                return False
            line.decoder = Decoder(theirs)
            self.unproven = False
        return True

    def close(self) -> None:
        if self.line is not None:
            self.line.socket.close()
            self.line = None


class ChatClient:
    """Sends texts, and sends them again until they are acknowledged.

    Any thread may send; texts to one peer go one after another over one connection,
    which is kept and replaced when it breaks.
    Counted: forged, ACKs that the peer of the session has not sent so.
    """

    def __init__(self, name: str = "") -> None:
        utf8(visible(name), MAX_NAME, "name")
        self.name = name
        self.forged = 0
        self._log = Log(name)
        self.key = secrets.randbits(64)  # unseeded: two runs must not share their ids
        self._numbers = itertools.count(1)
        self._routes: dict[Address, _Route] = {}
        self._lock = threading.Lock()  # for the numbers, the routes and the count
        self._closed = threading.Event()

    @property
    def events(self) -> list[Event]:
        return self._log.events()

    def send_text(
        self,
        address: Address,
        text: str,
        *,
        timeout: float = 2.0,
        tries: int = 5,
        session: Session | None = None,
    ) -> Delivery:
        """Return when the text has been acknowledged.

        timeout: how long one attempt waits for its ACK [s]; every attempt takes so
        long, also if its connection breaks, which gives the peer time to come back.
        session: who must answer. The text goes only to who proves to be its peer, and
        only that peer's ACK counts. WrongPeer, a NotDelivered, if nobody proves it: at
        once if it is certainly somebody else, otherwise after the last try.
        Raises BadContent, or NotDelivered with the text: at once if nobody listens at
        the address (its cause is a PeerUnreachable then), otherwise after the last try.
        """
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout}")
        if tries < 1:
            raise ValueError(f"tries must be at least 1, got {tries}")
        with self._lock:
            id = MessageId(self.key, next(self._numbers))
            if address not in self._routes:
                self._close_dead_lines()
                self._routes[address] = _Route(address)
            route = self._routes[address]
        frame = Frame(FrameKind.TEXT, id, self.name, text)
        with route.lock:
            route.use(session)
            return self._deliver(route, frame, timeout, tries)

    def close(self) -> None:
        """Hang up; a text on its way raises NotDelivered in its own thread."""
        self._closed.set()
        with self._lock:
            routes = list(self._routes.values())
        for route in routes:
            if (line := route.line) is not None:
                line.hang_up()
        for route in routes:
            if route.lock.acquire(timeout=CONNECT_TIMEOUT):
                route.close()
                route.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _deliver(
        self, route: _Route, frame: Frame, timeout: float, tries: int
    ) -> Delivery:
        started = next_at = time.perf_counter()
        for attempt in range(1, tries + 1):
            if self._closed.wait(max(0.0, next_at - time.perf_counter())):
                break
            next_at = time.perf_counter() + timeout
            if self._attempt(route, frame, timeout, attempt):
                return Delivery(frame.id, attempt, time.perf_counter() - started)
        route.close()  # whatever ails this connection, the next text gets a new one
        if self._closed.is_set():
            raise _not_delivered("this peer is closed: make a new one", frame)
        if route.unproven:
            raise _wrong_peer(route, frame)
        host, port = route.address
        seconds = time.perf_counter() - started
        raise _not_delivered(
            f"{host}:{port} acknowledged none of {tries} tries within {seconds:.1f} s "
            f"(timeout {timeout:g} s): it is gone, or its inbox is full, or its ACKs "
            "are lost or late. Allow more time or tries, or ask its owner",
            frame,
        )

    def _attempt(
        self, route: _Route, frame: Frame, timeout: float, attempt: int
    ) -> bool:
        """Send once and wait once; say whether the text has been acknowledged."""
        data = encode(frame)
        try:
            line = route.connect()
            if self._closed.is_set():  # close() may have come too early to hang up
                return False
            if not self._proven(route, line, frame, timeout, attempt):
                return False
            self._log.add("send" if attempt == 1 else "resend", frame.id, attempt)
            line.write(data, timeout)
            acknowledged = _wait_for_ack(line, frame.id, timeout)
            self._log.add("ack" if acknowledged else "timeout", frame.id, attempt)
            return acknowledged
        except PeerUnreachable as error:
            self._log.add("unreachable", frame.id, attempt)
            if attempt == 1:  # later it may be on its way back
                raise _not_delivered(str(error), frame) from error
        except (OSError, CorruptPacket) as error:
            with self._lock:
                self.forged += isinstance(error, Forged)
            self._log.add("dropped", frame.id, attempt)
            route.close()
        except BaseException:  # a cell was interrupted: half a text may be on its way
            route.close()
            raise
        return False

    def _proven(
        self, route: _Route, line: Line, frame: Frame, timeout: float, attempt: int
    ) -> bool:
        try:
            if route.prove(line, timeout):
                return True
            certain = None
        except Forged as error:
            certain = error
        self._log.add("unproven", frame.id, attempt)
        route.close()
        if certain is not None:
            raise _wrong_peer(route, frame) from certain
        return False

    def _close_dead_lines(self) -> None:
        """Give back what peers hung up on since."""
        for route in self._routes.values():
            if route.lock.acquire(blocking=False):
                if route.line is not None and not route.line.alive():
                    route.close()
                route.lock.release()


def _wait_for_ack(line: Line, id: MessageId, timeout: float) -> bool:
    """Any ACK of this text will do, also a late one of an earlier attempt."""
    deadline = time.perf_counter() + timeout
    acknowledged = False
    while not acknowledged and (rest := deadline - time.perf_counter()) > 0:
        for frame in line.read(rest):
            acknowledged |= frame.kind == FrameKind.ACK and frame.id == id
    return acknowledged


def _in_words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _not_delivered(why: str, frame: Frame) -> NotDelivered:
    error = NotDelivered(f"{why}.", frame.text)
    error.add_note(KEPT)
    return error


def _wrong_peer(route: _Route, frame: Frame) -> WrongPeer:
    (host, port), session = route.address, route.session
    assert session is not None
    error = WrongPeer(
        f"who answers at {host}:{port} has not proven to be {session.peer}: another "
        f"program or machine may be there now, or {session.peer} has forgotten the "
        "session. Ask for a new introduction.",
        frame.text,
    )
    error.add_note(KEPT)
    return error
