"""Machines on a real UDP socket: many transfers at once, with peers or addresses."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self

from p2plab.content.content import Chunks
from p2plab.content.offer import ANSWER, Limits, Offer, to_words
from p2plab.content.transfer import Transfer
from p2plab.core.link import AnyLink
from p2plab.core.packet import Kind, Numbered, Packet, decode, encode
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.errors import (
    CorruptPacket,
    DatagramsTooLarge,
    Forged,
    P2PLabError,
    PeerUnreachable,
    TransferStopped,
)
from p2plab.net.datagrams import LARGEST, Address, bound, resolved
from p2plab.net.flow import SMALLER, Flow
from p2plab.net.paths import Contact
from p2plab.net.session import Session, session_id
from p2plab.net.stun import Query, is_stun
from p2plab.net.threads import SocketThread
from p2plab.protocols.setup import AT_ONCE, Setup
from p2plab.sim.watchdog import Stuck

READS: Final = 256  # datagrams until timers get their turn
OFFERS: Final = 32.0  # that somebody may make at once, and so many more
OFFERS_EACH_SECOND: Final = 8.0
REMEMBERED: Final = 16  # ended transfers that still answer late packets
MOST_CONTACTS: Final = 1_000  # sessions that a socket remembers
PATH_KINDS: Final = (Kind.PROBE, Kind.PROBED)
TOO_LONG: Final = (errno.EMSGSIZE, getattr(errno, "WSAEMSGSIZE", errno.EMSGSIZE))
CLOSED: Final = "this peer is closed: make a new one"

Other = Contact | Address  # who is there: a peer that we have met, or an address


class UdpSocket:
    """A UDP socket of a peer, and the transfers on it.

    host, port: where to listen; port 0 lets the system choose.
    sealed: believe nothing but what a peer of a session has sealed; otherwise
        transfers with anybody are possible, too.
    record: keep a trace of what arrives.
    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it. Called from the socket's thread, so it must answer at once.
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
        self.callback_error: BaseException | None = None
        self.observed: Address | None = None  # ours, as a STUN server has seen it
        self._record, self._on_offer = record, on_offer
        self._on_transfer = on_transfer or (lambda transfer: None)
        self._socket = bound(host, port)
        self.address: Address = self._socket.getsockname()[:2]  # where it listens
        self._flows: dict[tuple[Other, int], Flow] = {}
        self._contacts: dict[bytes, Contact] = {}  # by session
        self._offers: dict[Other, tuple[float, float]] = {}  # how many are free, when
        self._query: Query | None = None
        self._timers: dict[Flow | Contact | str, asyncio.TimerHandle] = {}
        self._closed = False
        # In a notebook the context says which cell a callback's output belongs to.
        self._context = contextvars.copy_context()
        self._thread = SocketThread.join(
            self._socket, partial(self._guarded, self._read)
        )

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
                usable.append((kind, resolved(address, self._socket.family)))
        contact = Contact(session, usable, time.monotonic() + start_in, self._emit)
        self._call(partial(self._add, contact))
        return contact

    def observe(self, server: Address, username: bytes = b"") -> None:
        """Ask a STUN server for our address; `observed` has it once it has answered."""
        with contextlib.suppress(PeerUnreachable):
            to = resolved(server, self._socket.family)
            self._call(partial(self._ask, Query(username), to))

    def send(
        self,
        to: Address | Contact,
        chunks: Chunks,
        setup: Setup | None = None,
        *,
        link: AnyLink | None = None,
        sender: str = "",
        patience: float = 30.0,
        record: bool = True,
        at_once: bool = False,
    ) -> Transfer:
        """Offer a chunks to a peer that we met, or at an address, and send it.

        link: impairments that we apply to both directions; None leaves the real network
            alone.
        sender: the name that we give ourselves.
        patience: how long to go on without hearing from the peer [s].
        record: keep a trace; without one, memory does not grow with the packets.
        at_once: let the first packets follow the offer directly, to a peer that will
            accept it: that saves a round trip. If it refuses, they are dropped there.
        Returns at once; the transfer tells the rest. Raises PeerUnreachable for an
        address that does not exist, P2PLabError after `close`.
        """
        if self._closed:
            raise P2PLabError(CLOSED)
        setup = setup or Setup()
        if isinstance(to, Contact):  # introduced, so it will hardly refuse
            at_once = at_once or setup.protocol in AT_ONCE
        else:
            to = resolved(to, self._socket.family)
        transfer = Transfer(
            secrets.randbelow(ANSWER - 1) + 1,
            SENDER,
            Offer(sender, chunks.content, setup),
            payloads=chunks.payloads,
            link=link,
            patience=patience,
            record=record,
        )
        flow = self._flow(transfer, setup.sender(), to, at_once)
        key = to, transfer.id | ANSWER
        self._call(partial(self._begin, key, flow, flow.open))
        return transfer

    def transfers(self) -> list[Transfer]:
        """Return the transfers that this socket knows: all live ones, and late ones."""
        return [flow.transfer for flow in list(self._flows.values())]

    def close(self) -> None:
        """Stop every transfer, tell the other sides, and give the port back."""
        if not self._closed:
            self._closed = True
            self._thread.leave(self._socket, partial(self._guarded, self._shut))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _stop(self, flow: Flow) -> None:
        error = TransferStopped("the transfer was stopped here", flow.transfer)
        self._call(partial(self._run, flow, partial(flow.fail, error=error)))
        if not self._thread.here:
            with contextlib.suppress(P2PLabError):
                flow.transfer.wait(2.0)

    def _flow(
        self, transfer: Transfer, machine: Any, other: Other, at_once: bool = False
    ) -> Flow:
        transfer.started_at = time.monotonic()
        flow = Flow(transfer, machine, self._to(other), at_once)
        transfer.on_stop = partial(self._stop, flow)
        return flow

    def _call(self, command: Callable[[], None]) -> None:
        self._thread.call(partial(self._guarded, command))

    # ---- everything below runs in the socket's thread

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            self._context.copy().run(call)
        except BaseException as why:  # no transfer's fault: they must go on
            self.callback_error = why

    def _plan(
        self, whose: Flow | Contact | str, due: float | None, tick: Callable[[], None]
    ) -> None:
        """Call `tick` at a time by time.monotonic [s], in place of an earlier plan."""
        if (timer := self._timers.pop(whose, None)) is not None:
            timer.cancel()
        if due is not None and not self._closed:
            call = partial(self._guarded, tick)
            self._timers[whose] = self._thread.call_at(due, call)

    def _read(self) -> None:
        """Take all that waits before anything is answered."""
        turn: dict[tuple[Other, int], list[Numbered]] = {}  # what came for each flow
        for _ in range(READS):
            try:
                datagram, address = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                break
            except OSError:  # Windows reports here that an earlier one found nobody
                continue
            self._take(datagram, address[:2], turn)
        for key, packets in turn.items():
            flow = self._flows.get(key)
            if flow is not None:
                self._run(flow, partial(flow.arrive, packets))
            else:
                self._consider(*key, packets)

    def _take(
        self,
        datagram: bytes,
        address: Address,
        turn: dict[tuple[Other, int], list[Numbered]],
    ) -> None:
        """Find out whose a datagram is, and for which transfer; answer probes."""
        if self._query is not None and is_stun(datagram):
            if self._query.on_datagram(datagram):
                self.observed = self._query.address or self.observed
            return
        contact = self._contacts.get(session_id(datagram) or b"")
        try:
            if contact is not None:
                datagram = contact.open(datagram, address)
            elif self.sealed:
                raise Forged("this is nobody's whom we have met")
            packet, id, number = decode(datagram)
        except CorruptPacket:
            self.strays += 1
            return
        if contact is not None and not id and packet.kind in PATH_KINDS:
            contact.hear(packet, address, time.monotonic())
            self._probe(contact)
        else:
            turn.setdefault((contact or address, id), []).append((packet, number))

    def _consider(self, other: Other, id: int, packets: list[Numbered]) -> None:
        """Take an offer, or say why not: both cost one datagram. All else is stray."""
        offers = [packet for packet, _ in packets if packet.kind == Kind.OFFER]
        self.strays += len(packets) - len(offers)
        if not offers:
            return
        self._thread.watchdog.begin()
        try:
            offer = Offer.from_bytes(offers[0].payload)
            if isinstance(other, Contact):
                offer = replace(offer, sender=other.session.peer)  # whatever it says
            why = self._objection(offer, other)
            if why is None:
                if self._offers_slowly(other):  # else it will offer again by itself
                    self._accept(other, id, offer, packets)
                return
        except BaseException as error:  # a protocol of one's own may call exit()
            why = str(self._explained(error))
        finally:
            self._thread.watchdog.end()
        self._to(other)(encode(Packet(Kind.REFUSE, 0, to_words(why)), id | ANSWER))

    def _offers_slowly(self, other: Other) -> bool:
        """Count an offer; False if somebody makes too many at a time."""
        now = time.monotonic()
        free, since = self._offers.pop(other, (OFFERS, now))
        free = min(OFFERS, free + OFFERS_EACH_SECOND * (now - since))
        self._offers[other] = max(free - 1, 0.0), now
        while len(self._offers) > MOST_CONTACTS:
            del self._offers[next(iter(self._offers))]
        return free >= 1

    def _objection(self, offer: Offer, other: Other) -> str | None:
        arriving = [
            whose
            for (whose, _), flow in self._flows.items()
            if flow.transfer.role == RECEIVER and not flow.transfer.ended
        ]
        why = self.limits.objection(offer, len(arriving), arriving.count(other))
        address = other.address if isinstance(other, Contact) else other
        if why is not None or self._on_offer is None or address is None:
            return why
        try:
            return self._on_offer(offer, address)
        except BaseException as error:  # not the sender's fault
            self.callback_error = error
            return "the receiver was asked, and failed to answer"

    def _accept(
        self, other: Other, id: int, offer: Offer, packets: list[Numbered]
    ) -> None:
        patience, record = self.limits.patience, self._record
        transfer = Transfer(id, RECEIVER, offer, patience=patience, record=record)
        flow = self._flow(transfer, offer.receiver(), other)
        self._guarded(partial(self._on_transfer, transfer))  # before the sender hears
        # The offer first: what has overtaken it waits until it is accepted.
        packets = sorted(packets, key=lambda each: each[0].kind != Kind.OFFER)
        self._begin((other, id), flow, partial(flow.arrive, packets))

    def _begin(
        self, key: tuple[Other, int], flow: Flow, call: Callable[[float], None]
    ) -> None:
        """Add a flow and `run` the call; forget the oldest ended ones."""
        ended = [each for each, other in self._flows.items() if other.closed]
        for each in ended[: max(0, len(ended) - REMEMBERED)]:
            del self._flows[each]
        self._flows[key] = flow
        if self._closed:
            call = partial(flow.fail, error=P2PLabError(CLOSED))
        self._run(flow, call)

    def _run(self, flow: Flow, call: Callable[[float], None]) -> None:
        """Call with the transfer's time; an error ends that transfer and no other."""
        transfer, watchdog = flow.transfer, self._thread.watchdog
        ended = transfer.ended
        now = time.monotonic() - transfer.started_at
        watchdog.begin()
        try:
            call(now)
            flow.finish_turn(now)
            due = flow.wake_at()
        except BaseException as why:  # a machine may call exit()
            flow.fail(now, self._explained(why))
            due = flow.wake_at()
        watchdog.end()
        due = None if due is None else due + transfer.started_at
        self._plan(flow, due, partial(self._run, flow, flow.tick))
        if transfer.ended and not ended:
            self._guarded(partial(self._on_transfer, transfer))

    def _explained(self, why: BaseException) -> P2PLabError:
        if isinstance(why, P2PLabError):
            return why
        if isinstance(why, Stuck):
            limit = self._thread.watchdog.computing
            return P2PLabError(f"after {limit:g} s of computing, {why}")
        what = "a mistake in the protocol, or in p2plab, ended the transfer"
        return P2PLabError(f"{what}: {why!r}")

    def _add(self, contact: Contact) -> None:
        """Believe it from now on; the oldest of MOST_CONTACTS is forgotten."""
        while len(self._contacts) >= MOST_CONTACTS:
            del self._contacts[next(iter(self._contacts))]
        self._contacts[contact.session.id] = contact
        self._probe(contact)

    def _probe(self, contact: Contact) -> None:
        contact.tick(time.monotonic())
        self._plan(contact, contact.wake_at, partial(self._probe, contact))

    def _ask(self, query: Query, to: Address) -> None:
        """Go on with a question to a STUN server."""
        self._query, now = query, time.monotonic()
        if (datagram := query.next_datagram(now)) is not None:
            self._emit(datagram, to)
        due = None if query.done else query.deadline
        self._plan("query", due, partial(self._ask, query, to))

    def _to(self, other: Other) -> Callable[[bytes], None]:
        """Return what sends a datagram there."""
        if isinstance(other, Contact):
            return other.send
        return partial(self._emit, to=other)

    def _emit(self, datagram: bytes, to: Address) -> None:
        try:
            self._socket.sendto(datagram, to)
        except OSError as why:  # a full buffer, no route, nobody: lost
            if why.errno in TOO_LONG:
                raise DatagramsTooLarge(
                    f"this system refuses a datagram of {len(datagram):,} bytes "
                    f"({why.strerror}). {SMALLER}",
                    len(datagram),
                ) from why

    def _shut(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for flow in list(self._flows.values()):
            error = TransferStopped("the peer was closed", flow.transfer)
            self._run(flow, partial(flow.fail, error=error))
        self._socket.close()
