"""Whom a peer has met: the key that they share, and the way to each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from p2plab.core.meeting import Seen
from p2plab.errors import PeerNotFound, PeerUnreachable, RendezvousAway
from p2plab.net.datagrams import Address
from p2plab.net.paths import Contact
from p2plab.net.session import Session
from p2plab.net.udp import UdpSocket
from p2plab.peer.event_log import EventLog
from p2plab.rendezvous.admission import (
    A_PERSON,
    Admission,
    Lease,
    Policy,
    Request,
)
from p2plab.rendezvous.model import Met, legal_name

MOST_MEETINGS: Final = 1_000  # whose texts we still believe
GRACE: Final = 1.0  # the other side may connect before we were told of it [s]


class Meeting:
    """What one peer holds of another one that it was introduced to.

    met: what the rendezvous told.
    session: proves who is there. contact: how the UDP socket reaches it.
    doubted: somebody did not answer there, so it may have moved.
    """

    def __init__(self, met: Met, socket: UdpSocket, log: EventLog) -> None:
        self.met = met
        self.doubted = False
        self._log = log
        self.session = Session(bytes.fromhex(met.session), met.key, met.role, met.peer)
        candidates = [(each.kind, (each.address, each.port)) for each in met.candidates]
        self.contact: Contact = socket.meet(self.session, candidates, met.start_in)

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
        return self._log.seen(self.met.session, self.contact, wait)


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
        self._log = log = EventLog(lease)
        self.admission = Admission(lease, accept, self._keep, on_request, log.note)
        self._client = lease.client
        self._socket = socket
        self._news = threading.Condition()  # for what follows
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
        last = list(self._last.values()) if name is None else [self.last(name)]
        for each in last:
            if each is not None:
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
        self._log.close()

    def _keep(self, met: Met) -> None:
        meeting = Meeting(met, self._socket, self._log)
        self._log.tell(met.session, meeting.contact)
        with self._news:
            while len(self._by_id) >= MOST_MEETINGS:
                self._by_id.popitem(last=False)
            self._by_id[meeting.session.id] = self._last[met.peer] = meeting
            self._news.notify_all()
