"""An inbox that shows each message once, and the log that both ends of a chat keep."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from p2plab.net.frames import MessageId

Address = tuple[str, int]  # host and port

KEPT_EVENTS = 10_000
KEPT_IDS = 65_536  # a copy comes seconds after the first, not days


class Event(NamedTuple):
    """A row of a log; a ladder diagram needs the rows of both sides.

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
        with self._lock:  # the rows stand in the order of their times
            row = Event(time.perf_counter(), self.who, event, id, attempt)
            self._events.append(row)

    def events(self) -> list[Event]:
        with self._lock:
            return list(self._events)


@dataclass(frozen=True, slots=True)
class Message:
    """A text as it lies in the inbox."""

    sender: str  # what it calls itself; in a session, who it has proven to be
    text: str
    received_at: float  # of time.time() [s]
    address: Address = field(repr=False)
    id: MessageId = field(repr=False)


class Inbox:
    """Keeps the first copy of every message, `limit` messages at most; any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.duplicates = 0
        self._messages: list[Message] = []
        # The oldest first. Ids are chosen by senders: with the name, nobody can use up
        # the id of another one's next text.
        self._copies: dict[tuple[str, MessageId], int] = {}
        self._lock = threading.Lock()

    def put(self, message: Message) -> int:
        """Say which copy of the message this is, or 0 if there is no room for it."""
        name = message.sender, message.id
        with self._lock:
            copy = self._copies.get(name, 0) + 1
            if copy > 1:
                self.duplicates += 1
            elif len(self._messages) < self.limit:
                self._messages.append(message)
            else:
                return 0
            self._copies[name] = copy
            if len(self._copies) > KEPT_IDS:
                del self._copies[next(iter(self._copies))]
            return copy

    def messages(self) -> list[Message]:
        """The messages, the oldest first."""
        with self._lock:
            return self._messages.copy()

    def clear(self) -> None:
        """Make room; copies of what was here are still known as duplicates."""
        with self._lock:
            self._messages.clear()
