"""Text over TCP to a peer: an ACK of our own, a timeout, and sending again."""

from __future__ import annotations

import itertools
import secrets
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
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
from p2plab.core.validation import number
from p2plab.errors import (
    CorruptPacket,
    Forged,
    NotDelivered,
    PeerUnreachable,
    WrongPeer,
)
from p2plab.net.frames import ACK, TEXT, Address, Connection, Frame, MessageId, encode
from p2plab.net.session import Session

CONNECT_TIMEOUT: Final = 5.0  # TCP repeats its own SYN; Windows needs 2 s to refuse [s]
KEPT_EVENTS: Final = 10_000


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

    def add(self, event: str, id: MessageId, attempt: int) -> None:
        """Write down what happens now."""
        now = time.perf_counter()
        self._events.append(Event(now, self.who, event, id, attempt))

    def events(self) -> list[Event]:
        """Return what happened, oldest first."""
        return sorted(self._events.copy())


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


class ChatClient:
    """Sends texts, and sends them again until they are acknowledged.

    name: for the log. Any thread may send; texts to one address go one after another
    over one connection, which is kept and replaced when it breaks.
    """

    def __init__(self, name: str = "") -> None:
        self.key = secrets.randbits(64)  # unseeded: two runs must not share their ids
        self._log = Log(name)
        self._numbers = itertools.count(1)
        self._kept: dict[Address, Connection] = {}
        self._turns: dict[Address, threading.Lock] = defaultdict(threading.Lock)
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
        number("timeout", timeout, 2.0, "(0, inf)", " seconds")
        number("tries", tries, 5, "[1, inf)", whole=True)
        encode(Frame(TEXT, MessageId(0, 0), text))  # or it is BadContent, with no id
        with self._turns[address]:
            frame = Frame(TEXT, MessageId(self.key, next(self._numbers)), text)
            try:
                return self._deliver(address, session, frame, timeout, tries)
            except BaseException:  # half a text may be out: the next one begins anew
                self._drop(address)
                raise

    def close(self) -> None:
        """Hang up; a text on its way raises NotDelivered in its own thread."""
        self._closed.set()
        for connection in list(self._kept.values()):
            connection.hang_up()
        for address, turn in list(self._turns.items()):
            if turn.acquire(timeout=CONNECT_TIMEOUT):
                self._drop(address)
                turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _deliver(
        self,
        address: Address,
        session: Session,
        frame: Frame,
        timeout: float,
        tries: int,
    ) -> Delivery:
        started = next_at = time.perf_counter()
        event = ""
        for attempt in range(1, tries + 1):
            if self._closed.wait(max(0.0, next_at - time.perf_counter())):
                break
            next_at = time.perf_counter() + timeout
            try:
                event = self._attempt(address, session, frame, attempt, timeout)
            except (PeerUnreachable, Forged) as why:
                forged = isinstance(why, Forged)
                event = "unproven" if forged else "unreachable"
                self._log.add(event, frame.id, attempt)
                if forged:
                    raise _wrong_peer(address, session, frame) from why
                if attempt == 1:  # later it may be on its way back
                    raise
                continue
            self._log.add(event, frame.id, attempt)
            if event == "ack":
                return Delivery(frame.id, attempt, time.perf_counter() - started)
            if event != "timeout":
                self._drop(address)
        if self._closed.is_set():
            raise NotDelivered("this peer is closed: make a new one.", frame.text)
        if event == "unproven":
            raise _wrong_peer(address, session, frame)
        host, port = address
        raise NotDelivered(
            f"{host}:{port} acknowledged none of {tries} tries within "
            f"{time.perf_counter() - started:.1f} s (timeout {timeout:g} s): it is "
            "gone, or its inbox is full, or its ACKs are lost or late. Allow more time "
            "or tries, or ask its owner.",
            frame.text,
        )

    def _attempt(
        self,
        address: Address,
        session: Session,
        frame: Frame,
        attempt: int,
        timeout: float,
    ) -> str:
        """Send once and wait once; return the event in which it has ended.

        Raises PeerUnreachable, and Forged for who is certainly somebody else.
        """
        connection = self._kept.get(address)
        ours = connection is not None and connection.session is session
        if connection is None or not ours or not connection.alive():
            self._drop(address)
            connection = self._kept[address] = _connect(address)
            if self._closed.is_set():  # close() may have come too early to hang up
                return "dropped"
            try:
                connection.prove(session, timeout)
            except OSError:  # strangers are hung up on; or the connection broke
                return "unproven"
        self._log.add("send" if attempt == 1 else "resend", frame.id, attempt)
        try:
            connection.write(encode(frame), timeout)
            deadline = time.perf_counter() + timeout
            while (rest := deadline - time.perf_counter()) > 0:
                # Any ACK of this text will do, also a late one of an earlier attempt.
                if Frame(ACK, frame.id) in list(connection.read(rest)):
                    return "ack"
        except (OSError, CorruptPacket):
            return "dropped"
        return "timeout"

    def _drop(self, address: Address) -> None:
        if (kept := self._kept.pop(address, None)) is not None:
            kept.socket.close()


def _connect(address: Address) -> Connection:
    try:
        return Connection(socket.create_connection(address, CONNECT_TIMEOUT), address)
    except (OSError, ValueError, OverflowError) as error:  # or no address at all
        host, port = address
        why = getattr(error, "strerror", None) or str(error)
        raise PeerUnreachable(
            f"nobody answers at {host}:{port} ({why}): the peer has ended, or a "
            "firewall or a NAT keeps us out. A text goes straight to its TCP "
            "address, while pictures find ways through NATs by UDP; it may still "
            "be able to write to you"
        ) from None


def _wrong_peer(address: Address, session: Session, frame: Frame) -> WrongPeer:
    (host, port), name = address, session.peer
    return WrongPeer(
        f"who answers at {host}:{port} has not proven to be {name}: another program or "
        f"machine may be there now, or {name} has forgotten the session. Ask for a new "
        "introduction.",
        frame.text,
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
    answered: dict[MessageId, int] = {}  # the first copy whose ACK was not lost
    rows = []
    for time_, _, event, id, copy in ours:
        if event == "ack sent":
            answered.setdefault(id, copy)
        elif event == "ack":
            copy = answered.get(id, copy)
        for host, what, kind in _ROWS.get(event, []):
            seq = -1 if what == TIMEOUT else id.number - 1
            nameless = what in (TIMEOUT, DELIVER)
            sent = -1 if nameless else (id.number - 1) * _ATTEMPTS + copy
            rows.append(Row(time_ - ours[0].time, host, what, int(kind), seq, 0, sent))
    return Trace(rows=rows)
