"""What a peer sees of its meetings, on the clock of the rendezvous, and told to it."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from p2plab.core.meeting import (
    ANSWER,
    CONFIRM,
    HEAR,
    MORE,
    PROBE,
    PROBING,
    REGISTER,
    Seen,
)
from p2plab.errors import P2PLabError
from p2plab.net.datagrams import Address
from p2plab.net.paths import SETTLE, Contact
from p2plab.net.threads import spawn
from p2plab.rendezvous.admission import Lease
from p2plab.rendezvous.model import MAX_EVENTS

SESSIONS: Final = 1_000  # that we remember
PAUSE: Final = 0.05  # s between two looks at meetings that have just begun
AFTERWARDS: Final = SETTLE + 0.2  # s for the other side's probes
MOST_STEPS: Final = 32  # before the probes
MOST_BYTES: Final = 3_200  # of a report's events; the rendezvous takes 4,096 in all

Row = tuple[float, str, str]  # when by time.monotonic [s], what, a note


@dataclass(slots=True)
class _Fresh:
    """A meeting that is to be told. told: how many rows; since: the first time."""

    contact: Contact
    told: int = 0
    since: float = 0.0


class Witness:
    """Keeps what one peer sees; a thread tells the rendezvous, once there is a path.

    lease: our name. What cannot be told is lost, and disturbs nobody.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._rows: OrderedDict[str, list[Row]] = OrderedDict()  # by session
        self._fresh: dict[str, _Fresh] = {}
        self._news = threading.Condition()  # for both
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, session: str, what: str, note: str = "") -> None:
        """Keep what was done or seen just now."""
        with self._news:
            rows = self._rows.setdefault(session, [])
            if len(rows) < MOST_STEPS:
                rows.append((time.monotonic(), what, note))
            while len(self._rows) > SESSIONS:
                self._rows.popitem(last=False)

    def follow(self, session: str, contact: Contact) -> None:
        """Tell of this meeting when it has a path, or none, and when all is quiet."""
        with self._news:
            self._fresh[session] = _Fresh(contact)
            if self._thread is None and not self._closed.is_set():
                self._thread = spawn(self._watch)
            self._news.notify_all()

    def own(self, session: str, contact: Contact) -> list[Seen]:
        """What we saw of a meeting, in the order of time."""
        with self._news:
            rows = list(self._rows.get(session, []))
        if (registered_at := self._lease.registered_at) is not None:
            rows.append((registered_at, REGISTER, ""))
        for event in contact.events:
            where = "" if event.address is None else place(event.address)
            number = f" #{event.probe}" if event.what in PROBING else ""
            rows.append((event.time, event.what, where + number))
        registration, at = self._lease.registration, self._lease.client.clock.at
        name = "" if registration is None else registration.name
        rows.sort(key=lambda row: row[0])
        return [Seen(at(when), what, note, name) for when, what, note in rows]

    def seen(self, session: str, contact: Contact, wait: float) -> list[Seen]:
        """What both sides and the rendezvous saw, or we alone if it is away.

        wait: how long the other side may take to tell [s].
        """
        end = time.monotonic() + wait
        others: list[Seen] = []
        while True:
            over = time.monotonic() >= end
            if contact.decided or over:
                others = self._others(session)
            both = contact.decided and any(each.who for each in others)
            if both or over or self._closed.wait(PAUSE):
                return together(self.own(session, contact), others)

    def close(self) -> None:
        """Tell no more."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()

    def _others(self, session: str) -> list[Seen]:
        """What the other side and the rendezvous saw, as far as we can learn it."""
        registration = self._lease.registration
        if registration is None:
            return []
        try:
            rows = self._lease.client.meeting(registration, session)
        except P2PLabError:
            return []
        return [each for each in rows if each.who != registration.name]

    def _watch(self) -> None:
        while not self._closed.wait(PAUSE):
            with self._news:
                self._news.wait_for(lambda: self._fresh or self._closed.is_set())
                fresh = list(self._fresh.items())
            for session, each in fresh:
                if not self._closed.is_set() and self._told(session, each):
                    with self._news:
                        self._fresh.pop(session, None)

    def _told(self, session: str, fresh: _Fresh) -> bool:
        """Tell if it is time to; whether all is told."""
        if not fresh.contact.decided:
            return False
        now, first = time.monotonic(), not fresh.since
        fresh.since = fresh.since or now
        last = now - fresh.since > AFTERWARDS
        if not (first or last):
            return False
        rows = self.own(session, fresh.contact)
        registration = self._lease.registration
        if registration is not None and len(rows) > fresh.told:
            try:
                self._lease.client.report(registration, session, shortened(rows))
                fresh.told = len(rows)
            except P2PLabError:
                return last
        return last


def place(address: Address) -> str:
    """An address and its port as URLs write them."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shortened(rows: Sequence[Seen]) -> list[Seen]:
    """What fits into a report: all but the last probes, and how many are left out."""
    others = [row for row in rows if row.what not in PROBING]
    many, room = MAX_EVENTS - 1 - len(others), MOST_BYTES - sum(map(size, others))
    kept = []
    for row in rows:
        if row.what in PROBING:
            many, room = many - 1, room - size(row)
            if min(many, room) < 0:
                continue
        kept.append(row)
    if left_out := len(rows) - len(kept):
        kept.append(kept[-1]._replace(what=MORE, note=f"{left_out} probes left out"))
    return kept


def size(row: Seen) -> int:
    """Its bytes in a report."""
    return len(json.dumps({"at": row.at * 1000, "what": row.what, "note": row.note}))


def together(own: Sequence[Seen], others: Iterable[Seen]) -> list[Seen]:
    """Put what all saw in the order of time.

    The clocks of the peers are as right as their distance from the rendezvous lets
    them be; the probes between them tell more: none came before it was sent.
    """
    theirs = list(others)
    shift = offset(own, [each for each in theirs if each.who is not None])
    moved = [
        each if each.who is None else each._replace(at=each.at + shift)
        for each in theirs
    ]
    return sorted([*own, *moved], key=lambda each: each.at)


def offset(own: Sequence[Seen], theirs: Sequence[Seen]) -> float:
    """By how much their clock is behind ours [s], as NTP finds it: what went there and
    what came back took equally long.
    """
    low = high = inf
    for went, came in ((PROBE, HEAR), (ANSWER, CONFIRM)):
        low = min(low, quickest(own, went, theirs, came))
        high = min(high, quickest(theirs, went, own, came))
    return 0.0 if inf in (low, high) else (high - low) / 2


def quickest(
    there: Sequence[Seen], went: str, here: Sequence[Seen], came: str
) -> float:
    """The shortest time that a probe or an answer seems to have taken [s]."""
    sent = {number(each): each.at for each in there if each.what == went}
    took = [
        each.at - sent[number(each)]
        for each in here
        if each.what == came and number(each) in sent
    ]
    return min(took, default=inf)


def number(row: Seen) -> str:
    """Which probe a row is about, as both sides know it."""
    return row.probe
