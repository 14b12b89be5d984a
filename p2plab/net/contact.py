"""The other end of a session, as one UDP socket reaches it: seals, and a path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final, Protocol

from p2plab.core.packet import Kind, Packet, encode
from p2plab.errors import Forged, PeerUnreachable, Replayed
from p2plab.net.datagrams import Address
from p2plab.net.paths import PATIENCE, Event, Path, Prober
from p2plab.net.session import CLAIM, Refuse, Session, session_id

MOST_CONTACTS: Final = 1_000  # sessions that a socket remembers
PATH_KINDS: Final = (Kind.PROBE, Kind.PROBED)
Emit = Callable[[Sequence[bytes], Address], None]  # puts datagrams on the socket


class Way(Protocol):
    """Where a transfer's datagrams go: to an address, or to a peer that we know."""

    @property
    def name(self) -> str:
        """Who is there, as far as it is proven."""

    @property
    def address(self) -> Address | None:
        """Where that is now."""

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Send them in this order."""


class Bare:
    """An address, and nothing known of who is there."""

    name = ""

    def __init__(self, address: Address, emit: Emit) -> None:
        self.address = address
        self._emit = emit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bare) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Send them in this order."""
        self._emit(datagrams, self.address)


class Contact:
    """A peer that we were introduced to; everything to it is sealed.

    candidates: kind and address of each, as a Prober takes them.
    starts_at: when both sides begin to probe, by time.monotonic [s].
    """

    def __init__(
        self,
        session: Session,
        candidates: Iterable[tuple[str, Address]],
        starts_at: float,
        emit: Emit,
    ) -> None:
        self.session = session
        self._prober = Prober(candidates, starts_at)
        self._emit = emit
        self._heard: Address | None = None  # where its last packet came from
        self._decided = threading.Event()  # a path, or none

    def __repr__(self) -> str:
        return f"<Contact {self.name} at {self.address}>"

    @property
    def name(self) -> str:
        """The peer's name: whoever has the key was introduced by it."""
        return self.session.peer

    @property
    def path(self) -> Path | None:
        """The address that has answered, how it was known, and how far it is."""
        return self._prober.path

    @property
    def address(self) -> Address | None:
        """Where to send: the path, or as long as there is none where it was heard."""
        return self._heard if self.path is None else self.path.address

    @property
    def decided(self) -> bool:
        """Whether there is a path, or the prober has given up."""
        return self._decided.is_set()

    @property
    def events(self) -> list[Event]:
        """What became of the probes; times by time.monotonic."""
        return list(self._prober.events)

    def wait(self, timeout: float = 2 * PATIENCE) -> Path:
        """Return the path, once it is found, or raise PeerUnreachable.

        timeout: the prober gives up by itself, earlier than this [s].
        """
        self._decided.wait(timeout)
        if self.path is None:
            why = self._prober.failure or f"no path to it was found in {timeout:g} s"
            raise PeerUnreachable(
                f"the peer {self.name} cannot be reached by UDP: {why}"
            )
        return self.path

    # ---- for the socket's thread

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Seal them, and send them in this order; without an address they are lost."""
        if self.address is not None:
            self._emit(self.session.seal_all(datagrams), self.address)

    def open_all(
        self, sealed: Iterable[bytes], address: Address, refuse: Refuse
    ) -> list[bytes]:
        """Return what is inside those that the peer has made, as Session.open_all."""
        opened = self.session.open_all(sealed, refuse)
        if opened:
            self._heard = address
        return opened

    def on_packet(self, packet: Packet, address: Address) -> None:
        """Take a probe, or the answer to one of ours."""
        answer = self._prober.on_packet(packet, address, time.monotonic())
        if answer is not None:
            self._say(answer, address)
        self.tick()

    def wake_at(self) -> float | None:
        """When to `tick`, by time.monotonic [s]."""
        return self._prober.wake_at

    def tick(self) -> None:
        """Send the probes that are due."""
        while (probe := self._prober.next_probe(time.monotonic())) is not None:
            self._say(*probe)
        if self._prober.path is not None or self._prober.failure:
            self._decided.set()

    def _say(self, packet: Packet, address: Address) -> None:
        self._emit([self.session.seal(encode(packet))], address)


class Contacts:
    """All contacts of one socket; its thread alone calls them."""

    def __init__(self) -> None:
        self._contacts: dict[bytes, Contact] = {}
        self._probing: set[Contact] = set()  # those with a clock

    def add(self, contact: Contact) -> None:
        """Believe it from now on; the oldest of MOST_CONTACTS is forgotten."""
        while len(self._contacts) >= MOST_CONTACTS:
            del self._contacts[next(iter(self._contacts))]
        self._contacts[contact.session.id] = contact
        self._schedule(contact)

    def opened(
        self,
        datagrams: Sequence[bytes],
        address: Address,
        refuse: Callable[[Contact, bytes, Forged | Replayed], None],
    ) -> Iterator[tuple[Contact | None, Iterable[bytes]]]:
        """Yield runs of what is inside, each with whose it is; None for nobody's.

        What claims to be a contact's and is not, `refuse` gets. As with groupby, a run
        is to be read before the next one.
        """
        runs: Iterable[tuple[bytes | None, Iterable[bytes]]] = [(None, datagrams)]
        if self._contacts:
            # A train that says one thing is one run, if even the shortest is sealed.
            alike = len(set(map(CLAIM, datagrams))) == 1
            whose = session_id(min(datagrams, key=len)) if alike else None
            runs = [(whose, datagrams)] if whose else groupby(datagrams, session_id)
        for id, run in runs:
            contact = None if id is None else self._contacts.get(id)
            if contact is not None:
                run = contact.open_all(run, address, partial(refuse, contact))
            yield contact, run

    def on_packet(self, contact: Contact, packet: Packet, address: Address) -> None:
        """Take a contact's probe, or answer to a probe."""
        contact.on_packet(packet, address)
        self._schedule(contact)

    def wake_at(self) -> float | None:
        """When to `tick`, by time.monotonic [s]."""
        if not self._probing:
            return None
        times = [each.wake_at() for each in self._probing]
        return min((each for each in times if each is not None), default=None)

    def tick(self) -> None:
        """Send the probes that are due."""
        for contact in list(self._probing):
            contact.tick()
            self._schedule(contact)

    def _schedule(self, contact: Contact) -> None:
        if contact.wake_at() is None:
            self._probing.discard(contact)
        else:
            self._probing.add(contact)
