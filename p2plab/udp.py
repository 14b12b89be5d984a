"""Machines on a real UDP socket: many transfers at once, one thread for them all."""

from __future__ import annotations

import contextlib
import contextvars
import secrets
import selectors
import socket
import threading
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
from p2plab.link import AnyLink
from p2plab.offer import ANSWER, Limits, Offer, to_words
from p2plab.packet import Kind, Packet, decode, encode
from p2plab.protocols import Setup
from p2plab.trace import RECEIVER, SENDER
from p2plab.transfer import Transfer

Key = tuple[Address, int]  # who, and which transfer, by the number on the wire
Batch = list[tuple[Packet, int]]  # packets, each with its number

READS: Final = 64  # calls to the socket before timers get their turn
LONGEST_PAUSE: Final = 60.0  # select takes no eternity [s]
REMEMBERED: Final = 16  # ended transfers that still answer late packets
CLOSED: Final = "this peer is closed: make a new one"


class UdpSocket:
    """A UDP socket of a peer, and the thread that drives its transfers.

    host, port: where to listen; port 0 lets the system choose.
    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it. Called from the socket's thread, so it must answer at once.
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
        on_offer: Callable[[Offer, Address], str | None] | None = None,
        on_transfer: Callable[[Transfer], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.strays = 0  # datagrams that belong to no transfer, or are no packets
        self.callback_error: Exception | None = None
        self._on_offer = on_offer
        self._on_transfer = on_transfer
        self._socket = DatagramSocket(host, port)
        self.address = self._socket.address  # where it listens
        self._waker, self._wakee = socket.socketpair()
        self._wakee.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket.socket, selectors.EVENT_READ)
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._commands: deque[Callable[[], None]] = deque()
        self._flows: dict[Key, Flow] = {}
        self._closing = False
        context = contextvars.copy_context()
        name = f"p2plab udp {self.address[1]}"
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name=name, daemon=True
        )
        self._thread.start()

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
    ) -> Transfer:
        """Offer a parcel to the peer at `address`, and send it when it accepts.

        link: impairments that we apply to both directions; back: others for the way
            back. None leaves the real network alone.
        sender: the name that we give ourselves.
        patience: how long to go on without hearing from the peer [s].
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
        )
        other = back or link
        flow = Flow(
            transfer,
            offer.setup.sender(),
            partial(self._socket.send, to=to),
            payloads=parcel.payloads,
            forward=None if link is None else link.forward(),
            backward=None if other is None else other.backward(),
            patience=patience,
        )
        key = to, transfer.id | ANSWER
        self._do(partial(self._open, key, flow, flow.open))
        return transfer

    def transfers(self) -> list[Transfer]:
        """Return the transfers that this socket knows: all live ones, and late ones."""
        return [flow.transfer for flow in list(self._flows.values())]

    def close(self) -> None:
        """Stop every transfer, tell the other sides, and give the port back."""
        self._do(self._shut)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)
            self._work()  # what came too late for it

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

        self._do(stop)
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(P2PLabError):
                transfer.wait(2.0)

    def _do(self, command: Callable[[], None]) -> None:
        """Let the socket's thread run `command`: it alone touches the flows."""
        self._commands.append(command)
        with contextlib.suppress(OSError):  # closed meanwhile, or woken often enough
            self._waker.send(b"!")
        if not self._thread.is_alive():  # then nobody else will
            self._work()

    def _work(self) -> None:
        while self._commands:
            self._commands.popleft()()

    # ---- everything below runs in the socket's thread

    def _loop(self) -> None:
        while not self._closing:
            self._selector.select(self._pause())
            with contextlib.suppress(BlockingIOError):
                self._wakee.recv(4096)
            try:
                self._work()
                self._receive()
                self._tick()
            except Exception as why:  # of no transfer's: the others must go on
                self.callback_error = why
        self._selector.close()
        for each in (self._socket, self._waker, self._wakee):
            each.close()

    def _pause(self) -> float:
        now = time.monotonic()
        times = [
            wake_at + flow.transfer.started_at
            for flow in self._flows.values()
            if (wake_at := flow.wake_at()) is not None
        ]
        return max(0.0, min([*times, now + LONGEST_PAUSE]) - now)

    def _receive(self) -> None:
        for _ in range(READS):
            received = self._socket.receive()
            if received is None:
                return
            datagrams, address = received
            packets: dict[Key, Batch] = {}
            for datagram in datagrams:
                try:
                    packet, id, number = decode(datagram)
                except CorruptPacket:
                    self.strays += 1
                    continue
                packets.setdefault((address, id), []).append((packet, number))
            for key, batch in packets.items():
                self._dispatch(key, batch)

    def _dispatch(self, key: Key, packets: Batch) -> None:
        flow = self._flows.get(key)
        if flow is not None:
            self._guarded(flow, partial(flow.arrive, packets))
        elif packets[0][0].kind == Kind.OFFER:
            self._consider(key, packets)
        else:
            self.strays += len(packets)

    def _tick(self) -> None:
        now = time.monotonic()
        for flow in list(self._flows.values()):
            wake_at = flow.wake_at()
            if wake_at is not None and wake_at + flow.transfer.started_at <= now:
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
            del self._flows[each]
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
            key[1], RECEIVER, offer, started_at=time.monotonic(), stop=self._stop
        )
        # No packet is further ahead than this, and a liar's window may not cost more.
        window = min(offer.setup.window, offer.content.count)
        machine = replace(offer.setup, window=window).receiver()
        emit = partial(self._socket.send, to=key[0])
        flow = Flow(transfer, machine, emit, patience=self.limits.patience)
        self._open(key, flow, partial(flow.arrive, packets))
        self._tell(transfer)

    def _shut(self) -> None:
        self._closing = True
        for flow in self._flows.values():
            error = TransferStopped("the peer was closed", flow.transfer)
            self._guarded(flow, partial(flow.fail, error=error))
