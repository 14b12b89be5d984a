"""What a peer does and sees of its meetings; the rendezvous is told, for both sides."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from p2plab.core.meeting import MORE, PROBING, REGISTER, Seen, together
from p2plab.errors import P2PLabError
from p2plab.net.paths import SETTLE, Contact
from p2plab.net.threads import spawn
from p2plab.rendezvous.admission import Lease
from p2plab.rendezvous.model import MAX_EVENTS

SESSIONS: Final = 1_000  # that we remember
PAUSE: Final = 0.05  # s between two looks at a meeting that has just begun
AFTERWARDS: Final = SETTLE + 0.2  # s for the other side's probes
MOST_STEPS: Final = 32  # before the probes
MOST_BYTES: Final = 3_200  # of a report's events; the rendezvous takes 4,096 in all


class EventLog:
    """The log of one peer. lease: our name.

    What cannot be told to the rendezvous is lost, and disturbs nobody.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._lock = threading.Lock()  # for what follows
        # by session: when by time.monotonic [s], what, and about whom
        self._steps: OrderedDict[str, list[tuple[float, str, str]]] = OrderedDict()
        self._telling: set[threading.Thread] = set()
        self._closed = threading.Event()

    def note(self, session: str, what: str, note: str = "") -> None:
        """Keep what was done or seen just now."""
        with self._lock:
            steps = self._steps.setdefault(session, [])
            if len(steps) < MOST_STEPS:
                steps.append((time.monotonic(), what, note))
            while len(self._steps) > SESSIONS:
                self._steps.popitem(last=False)

    def own(self, session: str, contact: Contact) -> list[Seen]:
        """Return what we saw of a meeting, in the order of time."""
        with self._lock:
            steps = list(self._steps.get(session, []))
        if (registered_at := self._lease.registered_at) is not None:
            steps.append((registered_at, REGISTER, ""))
        for event in contact.events:
            number = f" #{event.probe}" if event.what in PROBING else ""
            where = "" if event.address is None else written(*event.address)
            steps.append((event.time, event.what, where + number))
        registration = self._lease.registration
        name = "" if registration is None else registration.name
        since = time.time() - time.monotonic()
        steps.sort(key=lambda step: step[0])  # an answer stays behind what it answers
        return [Seen(since + at, what, note, name) for at, what, note in steps]

    def seen(self, session: str, contact: Contact, wait: float) -> list[Seen]:
        """Return what both sides and the rendezvous saw, or we alone if it is away.

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

    def tell(self, session: str, contact: Contact) -> None:
        """Tell of a meeting when it has a path, or none, and when all is quiet."""
        with self._lock:
            if not self._closed.is_set():
                self._telling.add(spawn(self._tell, session, contact))

    def close(self) -> None:
        """Tell no more."""
        self._closed.set()
        with self._lock:
            telling = self._telling - {threading.current_thread()}
        for thread in telling:
            thread.join()

    def _tell(self, session: str, contact: Contact) -> None:
        while not contact.decided and not self._closed.wait(PAUSE):
            pass
        for pause in (0.0, AFTERWARDS):
            registration = self._lease.registration
            if registration is None or self._closed.wait(pause):
                break
            try:
                rows = shortened(self.own(session, contact))
                self._lease.client.report(registration, session, rows)
            except P2PLabError:
                continue
        with self._lock:
            self._telling.discard(threading.current_thread())

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


def written(host: str, port: int) -> str:
    """An address and its port as URLs write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shortened(rows: Sequence[Seen]) -> list[Seen]:
    """Return what fits into a report: all but the last probes, and how many are out."""
    others = [row for row in rows if row.what not in PROBING]
    many, space = MAX_EVENTS - 1 - len(others), MOST_BYTES - sum(map(size, others))
    kept = []
    for row in rows:
        if row.what in PROBING:
            many, space = many - 1, space - size(row)
            if min(many, space) < 0:
                continue
        kept.append(row)
    if left_out := len(rows) - len(kept):
        kept.append(kept[-1]._replace(what=MORE, note=f"{left_out} probes left out"))
    return kept


def size(row: Seen) -> int:
    """Its bytes in a report."""
    return len(json.dumps({"at": row.at * 1000, "what": row.what, "note": row.note}))
