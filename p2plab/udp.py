"""Machines on a real UDP socket: many transfers at once."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Self

from p2plab.chunks import Parcel
from p2plab.datagrams import Address, DatagramSocket, resolved
from p2plab.errors import CorruptPacket, P2PLabError, TransferStopped
from p2plab.flow import Flow
from p2plab.link import AnyLink, Link
from p2plab.offer import ANSWER, Limits, Offer, to_words
from p2plab.packet import Kind, Packet, decode, encode
from p2plab.protocols import Setup
from p2plab.reactor import Reactor
from p2plab.trace import RECEIVER, SENDER
from p2plab.transfer import Transfer

Key = tuple[Address, int]  # who, and which transfer, by the number on the wire
Batch = list[tuple[Packet, int]]  # packets, each with its number

READS: Final = 64  # calls to the socket before timers get their turn
EARLY: Final = 64  # packets kept that belong to no transfer yet
REMEMBERED: Final = 16  # ended transfers that still answer late packets
CLOSED: Final = "this peer is closed: make a new one"


class UdpSocket:
    """A UDP socket of a peer, and the transfers on it, driven by the reactor.

    host, port: where to listen; port 0 lets the system choose.
    record: keep a trace of what arrives.
    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it. Called from the reactor's thread, so it must answer at once.
    on_transfer: told of every transfer that was accepted, and of every one that ends.
    What these two raise is kept in callback_error.
    Raises PortInUse. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        limits: Limits | None = None,
        record: bool = True,
        on_offer: Callable[[Offer, Address], str | None] | None = None,
        on_transfer: Callable[[Transfer], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.record = record
        self.strays = 0  # datagrams that belong to no transfer, or are no packets
        self.callback_error: Exception | None = None
        self._on_offer = on_offer
        self._on_transfer = on_transfer
        self._socket = DatagramSocket(host, port)
        self.address = self._socket.address  # where it listens
        self._flows: dict[Key, Flow] = {}
        # What came before its offer, which may be on its way or sent again.
        self._overtaking: deque[tuple[Key, tuple[Packet, int]]] = deque(maxlen=EARLY)
        self._due: dict[Flow, float] = {}  # when to `tick`, by time.monotonic [s]
        self._closing = False
        self._reactor = Reactor.join(self)

    def send(
        self,
        address: Address,
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
        """Offer a parcel to the peer at `address`, and send it when it accepts.

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
        to = resolved(address, self._socket.socket.family)
        offer = Offer(sender, parcel.content, setup or Setup())
        transfer = Transfer(
            secrets.randbelow(ANSWER - 1) + 1,
            SENDER,
            offer,
            link=link,
            started_at=time.monotonic(),
            stop=self._stop,
            record=record,
        )
        channels = None
        if link is not None or back is not None:
            there = link or Link(delay=0.0)
            channels = there.forward(), (back or there).backward()
        flow = Flow(
            transfer,
            offer.setup.sender(),
            partial(self._socket.send, to=to),
            payloads=parcel.payloads,
            link=channels,
            patience=patience,
            at_once=at_once,
        )
        key = to, transfer.id | ANSWER
        self._reactor.call(partial(self._open, key, flow, flow.open))
        return transfer

    def transfers(self) -> list[Transfer]:
        """Return the transfers that this socket knows: all live ones, and late ones."""
        return [flow.transfer for flow in list(self._flows.values())]

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
            for flow in self._flows.values():
                if flow.transfer is transfer:
                    self._guarded(flow, partial(flow.fail, error=error))

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
        return min(self._due.values(), default=None)

    def turn(self, ready: bool) -> None:
        """For the reactor."""
        try:
            if ready:
                self._receive()
            self._tick()
        except Exception as why:  # of no transfer's: the others must go on
            self.callback_error = why

    def _receive(self) -> None:
        """Take all that waits before anything is answered: answers go in batches."""
        batches: dict[Key, Batch] = {}
        for _ in range(READS):
            received = self._socket.receive()
            if received is None:
                break
            datagrams, address = received
            last = None
            for datagram in datagrams:
                try:
                    packet, id, number = decode(datagram)
                except CorruptPacket:
                    self.strays += 1
                    continue
                if id != last:
                    batch = batches.setdefault((address, id), [])
                    last = id
                batch.append((packet, number))
        for key, batch in batches.items():
            self._dispatch(key, batch)

    def _dispatch(self, key: Key, packets: Batch) -> None:
        flow = self._flows.get(key)
        if flow is not None:
            self._guarded(flow, partial(flow.arrive, packets))
            return
        offers = [each for each in packets if each[0].kind == Kind.OFFER]
        early = [each for each in packets if each[0].kind != Kind.OFFER]
        self._overtaking += [(key, each) for each in early]
        self.strays += len(early)
        if offers:
            mine = [packet for whose, packet in self._overtaking if whose == key]
            self._overtaking.clear()
            self._consider(key, offers + mine)

    def _tick(self) -> None:
        now = time.monotonic()
        for flow in [flow for flow, due in self._due.items() if due <= now]:
            self._guarded(flow, flow.tick)

    def _guarded(self, flow: Flow, call: Callable[[float], None]) -> None:
        """Call with the transfer's time; an error ends that transfer and no other."""
        transfer = flow.transfer
        ended = transfer.ended
        now = time.monotonic() - transfer.started_at
        try:
            call(now)
            flow.finish_turn(now)
        except P2PLabError as why:
            flow.fail(now, why)
        except Exception as why:
            flow.fail(now, P2PLabError(f"a bug in p2plab ended the transfer: {why!r}"))
        flow.flush()
        due = flow.wake_at()
        if due is None:
            self._due.pop(flow, None)
        else:
            self._due[flow] = due + transfer.started_at
        if transfer.ended and not ended:
            self._tell(transfer)

    def _tell(self, transfer: Transfer) -> None:
        try:
            if self._on_transfer is not None:
                self._on_transfer(transfer)
        except Exception as why:  # not the transfer's fault
            self.callback_error = why

    def _open(self, key: Key, flow: Flow, begin: Callable[[float], None]) -> None:
        ended = [each for each, other in self._flows.items() if other.closed]
        for each in ended[: max(0, len(ended) - REMEMBERED)]:
            self._due.pop(self._flows.pop(each), None)
        self._flows[key] = flow
        if self._closing:
            begin = partial(flow.fail, error=P2PLabError(CLOSED))
        self._guarded(flow, begin)

    def _consider(self, key: Key, packets: Batch) -> None:
        """Take the offer, or say why not: both cost one datagram."""
        try:
            offer = Offer.from_bytes(packets[0][0].payload)
            why = self._objection(offer, key[0])
            if why is None:
                self._accept(key, offer, packets)
                return
        except P2PLabError as error:
            why = str(error)
        except Exception as error:  # a protocol of one's own may do anything
            why = f"the receiver cannot take it: {error!r}"
        refusal = encode(Packet(Kind.REFUSE, 0, to_words(why)), key[1] | ANSWER)
        self._socket.send([refusal], key[0])

    def _objection(self, offer: Offer, address: Address) -> str | None:
        live = [each for each in self.transfers() if not each.ended]
        arriving = sum(each.role == RECEIVER for each in live)
        why = self.limits.objection(offer, arriving)
        if why is not None or self._on_offer is None:
            return why
        try:
            return self._on_offer(offer, address)
        except Exception as error:  # not the sender's fault
            self.callback_error = error
            return "the receiver was asked, and failed to answer"

    def _accept(self, key: Key, offer: Offer, packets: Batch) -> None:
        transfer = Transfer(
            key[1],
            RECEIVER,
            offer,
            started_at=time.monotonic(),
            stop=self._stop,
            record=self.record,
        )
        # No packet is further ahead than this, and a liar's window may not cost more.
        window = min(offer.setup.window, offer.content.count)
        machine = replace(offer.setup, window=window).receiver()
        emit = partial(self._socket.send, to=key[0])
        flow = Flow(transfer, machine, emit, patience=self.limits.patience)
        self._tell(transfer)  # before the sender hears of it
        self._open(key, flow, partial(flow.arrive, packets))

    def _shut(self) -> None:
        self._closing = True
        for flow in self._flows.values():
            error = TransferStopped("the peer was closed", flow.transfer)
            self._guarded(flow, partial(flow.fail, error=error))
        self._socket.close()
