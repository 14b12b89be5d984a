"""Machines on a real UDP socket: many transfers at once, with peers or addresses."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Self

from p2plab.content.content import Parcel
from p2plab.content.offer import ANSWER, Limits, Offer
from p2plab.content.transfer import Transfer
from p2plab.core.link import FORGED, REPLAYED, AnyLink
from p2plab.core.packet import Kind, decode
from p2plab.core.trace import SENDER
from p2plab.errors import (
    CorruptPacket,
    Forged,
    P2PLabError,
    PeerUnreachable,
    TransferStopped,
)
from p2plab.net.contact import PATH_KINDS, Bare, Contact, Contacts, Way
from p2plab.net.datagrams import Address, DatagramSocket, resolved
from p2plab.net.emulator import channels
from p2plab.net.flow import Flow
from p2plab.net.flows import Flows
from p2plab.net.reactor import Reactor
from p2plab.net.reception import Batch, Reception
from p2plab.net.session import Session, inside
from p2plab.net.stun import Query, is_stun
from p2plab.protocols import AT_ONCE, Setup

READS: Final = 64  # calls to the socket before timers get their turn
CLOSED: Final = "this peer is closed: make a new one"


class UdpSocket:
    """A UDP socket of a peer, and the transfers on it, driven by the reactor.

    host, port: where to listen; port 0 lets the system choose.
    sealed: believe nothing but what a peer of a session has sealed; otherwise
        transfers with anybody are possible, too.
    record: keep a trace of what arrives.
    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it. Called from the reactor's thread, so it must answer at once.
    on_transfer: told of every transfer that was accepted, and of every one that ends.
    What these two raise is kept in callback_error.
    Counted: strays, datagrams that belong to no transfer, are no packets, or are not
    believed. Raises PortInUse. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        limits: Limits | None = None,
        sealed: bool = False,
        record: bool = True,
        on_offer: Callable[[Offer, Address], str | None] | None = None,
        on_transfer: Callable[[Transfer], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.sealed = sealed
        self.strays = 0
        self.observed: Address | None = None  # ours, as a STUN server has seen it
        self._socket = DatagramSocket(host, port)
        self.address = self._socket.address  # where it listens
        self._flows = flows = Flows(on_transfer)
        self._reception = Reception(flows, self.limits, on_offer, record, self._stop)
        self._contacts = Contacts()
        self._query: tuple[Query, Address] | None = None
        self._closing = False
        self._reactor = Reactor.join(self)

    @property
    def callback_error(self) -> BaseException | None:
        """What on_offer or on_transfer has raised the last time."""
        return self._flows.callback_error

    def meet(
        self,
        session: Session,
        candidates: Iterable[tuple[str, Address]],
        start_in: float = 0.0,
    ) -> Contact:
        """Believe the peer of this session from now on, and look for a path to it.

        candidates: kind (see paths) and address of each; those that this socket cannot
            reach are left out. start_in: when to begin [s].
        Each session once: a second call would count from 1 again.
        """
        usable = []
        for kind, address in candidates:
            with contextlib.suppress(PeerUnreachable):
                usable.append((kind, resolved(address, self._socket.socket.family)))
        starts_at = time.monotonic() + start_in
        contact = Contact(session, usable, starts_at, self._socket.send)
        self._reactor.call(partial(self._contacts.add, contact))
        return contact

    def observe(self, server: Address, username: bytes = b"") -> None:
        """Ask a STUN server for our address; `observed` has it once it has answered."""
        with contextlib.suppress(PeerUnreachable):
            to = resolved(server, self._socket.socket.family)
            self._reactor.call(partial(self._ask, Query(username), to))

    def send(
        self,
        to: Address | Contact,
        parcel: Parcel,
        setup: Setup | None = None,
        *,
        link: AnyLink | None = None,
        back: AnyLink | None = None,
        sender: str = "",
        patience: float = 30.0,
        record: bool = True,
        at_once: bool = False,
    ) -> Transfer:
        """Offer a parcel to a peer that we met, or at an address, and send it.

        link: impairments that we apply to both directions; back: others for the way
            back. None leaves the real network alone.
        sender: the name that we give ourselves.
        patience: how long to go on without hearing from the peer [s].
        record: keep a trace; without one, memory does not grow with the packets.
        at_once: let the first packets follow the offer directly, to a peer that will
            accept it: that saves a round trip. If it refuses, they are dropped there.
        Returns at once; the transfer tells the rest. Raises PeerUnreachable for an
        address that does not exist, P2PLabError after `close`.
        """
        if self._closing:
            raise P2PLabError(CLOSED)
        setup = setup or Setup()
        way: Way
        if isinstance(to, Contact):  # introduced, so it will hardly refuse
            way, at_once = to, at_once or setup.protocol in AT_ONCE
        else:
            way = Bare(resolved(to, self._socket.socket.family), self._socket.send)
        offer = Offer(sender, parcel.content, setup)
        transfer = Transfer(
            secrets.randbelow(ANSWER - 1) + 1,
            SENDER,
            offer,
            link=link,
            started_at=time.monotonic(),
            stop=self._stop,
            record=record,
        )
        flow = Flow(
            transfer,
            offer.setup.sender(),
            way.send,
            payloads=parcel.payloads,
            link=channels(link, back),
            patience=patience,
            at_once=at_once,
        )
        key = way, transfer.id | ANSWER
        self._reactor.call(partial(self._open, key, flow))
        return transfer

    def transfers(self) -> list[Transfer]:
        """Return the transfers that this socket knows: all live ones, and late ones."""
        return [flow.transfer for flow in self._flows]

    def close(self) -> None:
        """Stop every transfer, tell the other sides, and give the port back."""
        self._reactor.leave(self, self._shut)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _stop(self, transfer: Transfer) -> None:
        error = TransferStopped("the transfer was stopped here", transfer)

        def stop() -> None:
            for flow in self._flows:
                if flow.transfer is transfer:
                    self._flows.run(flow, partial(flow.fail, error=error))

        self._reactor.call(stop)
        if not self._reactor.here:
            with contextlib.suppress(P2PLabError):
                transfer.wait(2.0)

    # ---- everything below runs in the reactor's thread

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.socket.fileno()

    def wake_at(self) -> float | None:
        """For the reactor."""
        times = [self._flows.wake_at(), self._contacts.wake_at()]
        times += [] if self._query is None else [self._query[0].deadline]
        return min((each for each in times if each is not None), default=None)

    def turn(self, ready: bool) -> None:
        """For the reactor."""
        try:
            if ready:
                self._receive()
            self._tick()
        except BaseException as why:  # of no transfer's: the others must go on
            self._flows.callback_error = why

    def _receive(self) -> None:
        """Take all that waits before anything is answered: answers go in batches."""
        batches: dict[tuple[Way, int], Batch] = {}  # by whom, and which transfer
        for _ in range(READS):
            come = self._socket.receive()
            if come is None:
                break
            datagrams, address = come
            if self._query is not None:
                datagrams = [each for each in datagrams if not self._observe(each)]
            bare = Bare(address, self._socket.send)
            for contact, run in self._contacts.opened(datagrams, address, self._refuse):
                if contact is None and self.sealed:
                    self.strays += len(list(run))
                else:
                    self._sort(contact or bare, run, address, batches)
        for (way, id), packets in batches.items():
            self._dispatch(way, id, packets)

    def _observe(self, datagram: bytes) -> bool:
        """Take an answer of the STUN server; return whether it is one."""
        if self._query is None or not is_stun(datagram):
            return False
        query, _ = self._query
        if query.on_datagram(datagram):
            self.observed = query.address or self.observed
        return True

    def _refuse(self, contact: Contact, sealed: bytes, why: CorruptPacket) -> None:
        """Let the trace of the transfer show a packet that was not believed."""
        self.strays += 1
        with contextlib.suppress(CorruptPacket):
            packet, id, number = decode(inside(sealed))
            flow = self._flows.get((contact, id))
            if flow is not None:
                word = FORGED if isinstance(why, Forged) else REPLAYED
                self._flows.run(flow, partial(flow.reject, packet, number, word))

    def _sort(
        self,
        way: Way,
        datagrams: Iterable[bytes],
        address: Address,
        batches: dict[tuple[Way, int], Batch],
    ) -> None:
        """Add packets to the batches of their transfers; answer probes at once."""
        last = -1  # no transfer's id
        for datagram in datagrams:
            try:
                packet, id, number = decode(datagram)
            except CorruptPacket:
                self.strays += 1
                continue
            if id != last:
                if not id and packet.kind in PATH_KINDS and isinstance(way, Contact):
                    self._contacts.on_packet(way, packet, address)
                    continue
                add = batches.setdefault((way, id), []).append
                last = id or -1  # what carries no id may be a probe: look at each
            add((packet, number))

    def _dispatch(self, way: Way, id: int, packets: Batch) -> None:
        flow = self._flows.get((way, id))
        if flow is not None:
            self._flows.run(flow, partial(flow.arrive, packets))
            return
        self.strays += sum(packet.kind != Kind.OFFER for packet, _ in packets)
        self._reception.take(way, id, packets)

    def _tick(self) -> None:
        now = time.monotonic()
        self._flows.tick()
        self._contacts.tick()
        if self._query is not None:
            query, to = self._query
            if (datagram := query.next_datagram(now)) is not None:
                self._socket.send([datagram], to)
            if query.done:
                self._query = None

    def _ask(self, query: Query, to: Address) -> None:
        self._query = query, to
        self._tick()

    def _open(self, key: tuple[Way, int], flow: Flow) -> None:
        closed = partial(flow.fail, error=P2PLabError(CLOSED))
        self._flows.open(key, flow, closed if self._closing else flow.open)

    def _shut(self) -> None:
        self._closing = True
        self._flows.fail(partial(TransferStopped, "the peer was closed"))
        self._socket.close()
