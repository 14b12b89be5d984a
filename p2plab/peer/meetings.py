"""Whom a peer has met: their common key, the way to each other, what was seen."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from p2plab.core.meeting import MORE, PROBING, REGISTER, Seen, together
from p2plab.errors import P2PLabError, PeerNotFound, PeerUnreachable, RendezvousAway
from p2plab.net.datagrams import Address
from p2plab.net.paths import SETTLE
from p2plab.net.session import Session
from p2plab.net.threads import spawn
from p2plab.net.udp import UdpSocket
from p2plab.rendezvous.admission import (
    A_PERSON,
    Admission,
    Lease,
    Policy,
    Request,
)
from p2plab.rendezvous.model import MAX_EVENTS, Met, legal_name

MOST_MEETINGS: Final = 1_000  # whose texts we still believe
GRACE: Final = 1.0  # the other side may connect before we were told of it [s]
PAUSE: Final = 0.05  # s between two looks at a meeting that has just begun
AFTERWARDS: Final = SETTLE + 0.2  # s for the other side's probes
MOST_STEPS: Final = 32  # before the probes
MOST_BYTES: Final = 3_200  # of a report's events; the rendezvous takes 4,096 in all

Step = tuple[float, str, str]  # when by time.monotonic [s], what, and about whom


class Meeting:
    """What one peer holds of another one that it was introduced to.

    met: what the rendezvous told. steps: what we did before.
    session: proves who is there. contact: how the UDP socket reaches it.
    doubted: somebody did not answer there, so it may have moved.
    telling: tells the rendezvous what we see, for both sides. What cannot be told is
        lost, and disturbs nobody.
    """

    def __init__(
        self,
        met: Met,
        steps: list[Step],
        socket: UdpSocket,
        lease: Lease,
        closed: threading.Event,
    ) -> None:
        self.met = met
        self.doubted = False
        self._steps, self._lease, self._closed = steps, lease, closed
        self.session = Session(bytes.fromhex(met.session), met.key, met.role, met.peer)
        candidates = [(each.kind, (each.address, each.port)) for each in met.candidates]
        self.contact = socket.meet(self.session, candidates, met.start_in)
        self.telling = spawn(self._tell)

    def __repr__(self) -> str:
        where = self.contact.address
        found = "no path yet" if where is None else f"at {where[0]}, port {where[1]}"
        return f"<Meeting with {self.peer}, {found}>"

    @property
    def peer(self) -> str:
        """Its name, as the rendezvous knows it."""
        return self.met.peer

    @property
    def text_address(self) -> Address:
        """Where to connect for texts: at the address that has answered by UDP.

        Where none did, UDP may be blocked and TCP not: its own first address then.
        """
        try:
            host = self.contact.wait().address[0]
        except PeerUnreachable:
            host = self.met.addresses[0]
        return host, self.met.tcp_port

    def seen(self, wait: float = 1.0) -> list[Seen]:
        """What both peers and the rendezvous saw of it, in the order of time.

        wait: how long the other side may take to tell its part [s]. While the
        rendezvous is away it is our part alone.
        """
        end = time.monotonic() + wait
        others: list[Seen] = []
        while True:
            over = time.monotonic() >= end
            if self.contact.decided or over:
                others = self._others()
            both = self.contact.decided and any(each.who for each in others)
            if both or over or self._closed.wait(PAUSE):
                return together(self._own(), others)

    def _own(self) -> list[Seen]:
        """What we saw, in the order of time."""
        steps = self._steps.copy()
        if (registered_at := self._lease.registered_at) is not None:
            steps.append((registered_at, REGISTER, ""))
        for event in self.contact.events:
            number = f" #{event.probe}" if event.what in PROBING else ""
            where = "" if event.address is None else written(*event.address)
            steps.append((event.time, event.what, where + number))
        registration = self._lease.registration
        name = "" if registration is None else registration.name
        since = time.time() - time.monotonic()
        steps.sort(key=lambda step: step[0])  # an answer stays behind what it answers
        return [Seen(since + at, what, note, name) for at, what, note in steps]

    def _others(self) -> list[Seen]:
        """What the other side and the rendezvous saw, as far as we can learn it."""
        registration = self._lease.registration
        if registration is None:
            return []
        try:
            rows = self._lease.client.meeting(registration, self.met.session)
        except P2PLabError:
            return []
        return [each for each in rows if each.who != registration.name]

    def _tell(self) -> None:
        """Tell when there is a path, or none, and when all is quiet."""
        while not self.contact.decided and not self._closed.wait(PAUSE):
            pass
        for pause in (0.0, AFTERWARDS):
            registration = self._lease.registration
            if registration is None or self._closed.wait(pause):
                break
            with suppress(P2PLabError):
                rows = shortened(self._own())
                self._lease.client.report(registration, self.met.session, rows)


class Meetings:
    """The meetings of one peer; one serves until the other has moved.

    lease: our name. accept, on_request: see Admission.
    socket: finds the paths.
    """

    def __init__(
        self,
        lease: Lease,
        accept: Policy,
        socket: UdpSocket,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.admission = Admission(lease, accept, self._keep, on_request, self._note)
        self._lease, self._client, self._socket = lease, lease.client, socket
        self._closed = threading.Event()
        self._news = threading.Condition()  # for what follows
        self._steps: OrderedDict[str, list[Step]] = OrderedDict()  # by session
        self._last: dict[str, Meeting] = {}  # by the peer's name
        self._by_id: OrderedDict[bytes, Meeting] = OrderedDict()

    def __iter__(self) -> Iterator[Meeting]:
        with self._news:
            return iter(list(self._by_id.values()))

    def last(self, name: str) -> Meeting | None:
        """How we last met the peer of this name, if we have."""
        return self._last.get(legal_name(name))

    def introduce(self, name: str, timeout: float = A_PERSON) -> Meeting:
        """Meet a peer anew; raises what `Admission.introduce` does."""
        met = self.admission.introduce(legal_name(name), timeout)
        with self._news:
            return self._by_id[bytes.fromhex(met.session)]

    def find(self, name: str) -> Meeting:
        """Meet a peer, unless we have met it where it is now.

        While the rendezvous is away, it is where we met it. Raises PeerNotFound, and
        what `introduce` raises.
        """
        known = self.last(name)
        try:
            since = self._client.peer(name).since
        except RendezvousAway:
            if known is None:
                raise
            return known
        except PeerNotFound as why:
            room = self._client.room
            raise PeerNotFound(
                f"the peer {name} is not in the room {room}. {why}"
            ) from None
        if known is None or known.doubted or known.met.since != since:
            return self.introduce(name)
        return known

    def forget(self, name: str | None = None) -> None:
        """Meet a peer anew the next time, or all: somebody did not answer.

        While the rendezvous is away, what we know is still better than nothing.
        """
        for each in list(self._last.values()):
            if name is None or each.peer == legal_name(name):
                each.doubted = True

    def session(self, id: bytes) -> Session | None:
        """Return the session of this id, if it is one of ours, or becomes one now."""
        with self._news:
            self._news.wait_for(lambda: id in self._by_id, GRACE)
            meeting = self._by_id.get(id)
        return None if meeting is None else meeting.session

    def close(self) -> None:
        """Meet nobody any more."""
        self.admission.close()
        self._closed.set()
        for meeting in self:
            if meeting.telling is not threading.current_thread():
                meeting.telling.join()

    def _note(self, session: str, what: str, note: str) -> None:
        """Keep what was done or seen just now, before there is a meeting."""
        with self._news:
            steps = self._steps.setdefault(session, [])
            if len(steps) < MOST_STEPS:
                steps.append((time.monotonic(), what, note))
            while len(self._steps) > MOST_MEETINGS:
                self._steps.popitem(last=False)

    def _keep(self, met: Met) -> None:
        with self._news:
            steps = self._steps.pop(met.session, [])
        meeting = Meeting(met, steps, self._socket, self._lease, self._closed)
        with self._news:
            while len(self._by_id) >= MOST_MEETINGS:
                self._by_id.popitem(last=False)
            self._by_id[meeting.session.id] = self._last[met.peer] = meeting
            self._news.notify_all()


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
