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
from functools import partial
from typing import Final, Self

from p2plab.chunks import Parcel
from p2plab.errors import (
    BadContent,
    CorruptPacket,
    P2PLabError,
    PeerUnreachable,
    PortInUse,
    TransferStopped,
)
from p2plab.flow import Flow
from p2plab.link import AnyLink
from p2plab.offer import Limits, Offer
from p2plab.packet import Kind, Packet, decode, encode
from p2plab.protocols import Setup
from p2plab.trace import RECEIVER, SENDER
from p2plab.transfer import Transfer

Address = tuple[str, int]
Key = tuple[Address, int]  # who, and which transfer

RECEIVE_BUFFER: Final = 4_000_000  # bytes asked for; the system may give less
AT_ONCE: Final = 64  # datagrams taken from the socket before timers get their turn
REMEMBERED: Final = 64  # ended transfers that still answer late packets
LARGEST: Final = 65_535  # bytes of a datagram


class UdpSocket:
    """A UDP socket of a peer, and the thread that drives its transfers.

    host, port: where to listen; port 0 lets the system choose.
    on_offer: asked for every offer that the limits allow; returns why to refuse it, or
        None to take it. Called from the socket's thread, so it must answer at once.
    on_transfer: told of every transfer that was accepted, and again when it has ended.
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
        self._on_offer = on_offer
        self._on_transfer = on_transfer
        self._socket = _bound(host, port)
        self._waker, self._wakee = socket.socketpair()
        self._wakee.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._commands: deque[Callable[[], None]] = deque()
        self._flows: dict[tuple[Address, int], Flow] = {}
        self._closing = False
        context = contextvars.copy_context()
        name = f"p2plab udp {self.address[1]}"
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name=name, daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> Address:
        """Where it listens: host and port."""
        host, port = self._socket.getsockname()[:2]
        return host, port

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
        address that does not exist.
        """
        to = _resolved(address, self._socket.family)
        offer = Offer(sender, parcel.content, setup or Setup())
        transfer = Transfer(
            secrets.randbits(31) + 1,
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
            partial(self._emit, to),
            payloads=parcel.payloads,
            forward=None if link is None else link.forward(),
            backward=None if other is None else other.backward(),
            patience=patience,
        )
        self._do(partial(self._open, (to, transfer.id), flow))
        return transfer

    def transfers(self) -> list[Transfer]:
        """Return the transfers that this socket knows: all live ones, and late ones."""
        return [flow.transfer for flow in list(self._flows.values())]

    def close(self) -> None:
        """Stop every transfer, tell the other sides, and give the port back."""
        if not self._closing:
            self._do(self._shut)
            self._thread.join(5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _stop(self, transfer: Transfer) -> None:
        error = TransferStopped("the transfer was stopped here", transfer)

        def stop() -> None:
            for flow in self._flows.values():
                if flow.transfer is transfer:
                    flow.fail(time.monotonic() - transfer.started_at, error)

        self._do(stop)
        with contextlib.suppress(P2PLabError):
            transfer.wait(2.0)

    def _do(self, command: Callable[[], None]) -> None:
        """Let the socket's thread run `command`: it alone touches the flows."""
        self._commands.append(command)
        with contextlib.suppress(OSError):  # closed meanwhile, or woken often enough
            self._waker.send(b"!")

    # ---- everything below runs in the socket's thread

    def _loop(self) -> None:
        while not self._closing:
            self._selector.select(self._pause())
            with contextlib.suppress(BlockingIOError):
                self._wakee.recv(4096)
            while self._commands:
                self._commands.popleft()()
            self._receive()
            self._tick()
        self._selector.close()
        for each in (self._socket, self._waker, self._wakee):
            each.close()

    def _pause(self) -> float | None:
        times = [
            wake_at + flow.transfer.started_at
            for flow in self._flows.values()
            if (wake_at := flow.wake_at()) is not None
        ]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram, address = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # Windows reports here that an earlier datagram found nobody
            try:
                packet, id, number = decode(datagram)
            except CorruptPacket:
                self.strays += 1
                continue
            key = (address[:2], id)
            flow = self._flows.get(key)
            if flow is not None:
                self._guarded(flow, partial(flow.arrive, packet, number))
            elif packet.kind == Kind.OFFER:
                self._consider(key, packet)
            else:
                self.strays += 1

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
        except P2PLabError as why:
            flow.fail(now, why)
        except Exception as why:
            flow.fail(now, P2PLabError(f"a bug in p2plab ended the transfer: {why!r}"))
        if transfer.ended and not ended and self._on_transfer is not None:
            self._on_transfer(transfer)

    def _open(self, key: Key, flow: Flow) -> None:
        ended = [each for each, other in self._flows.items() if other.closed]
        for each in ended[: max(0, len(ended) - REMEMBERED)]:
            del self._flows[each]
        self._flows[key] = flow
        self._guarded(flow, flow.open)

    def _consider(self, key: Key, packet: Packet) -> None:
        """Take the offer, or say why not: both cost one datagram."""
        why: str | None
        try:
            offer = Offer.from_bytes(packet.payload)
            arriving = [
                flow
                for flow in self._flows.values()
                if flow.transfer.role == RECEIVER and not flow.transfer.ended
            ]
            why = self.limits.objection(offer, len(arriving))
            if why is None and self._on_offer is not None:
                why = self._on_offer(offer, key[0])
        except BadContent as error:
            why = str(error)
        if why is not None:
            self._emit(key[0], encode(Packet(Kind.REFUSE, 0, why.encode()), key[1]))
            return
        started_at = time.monotonic()
        transfer = Transfer(
            key[1], RECEIVER, offer, started_at=started_at, stop=self._stop
        )
        emit = partial(self._emit, key[0])
        flow = Flow(transfer, offer.setup.receiver(), emit)
        self._open(key, flow)
        if self._on_transfer is not None:
            self._on_transfer(transfer)

    def _emit(self, address: Address, datagram: bytes) -> None:
        # A full buffer or an unreachable network loses the datagram, as networks do.
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, address)

    def _shut(self) -> None:
        error = TransferStopped("the peer was closed")
        for flow in self._flows.values():
            flow.fail(time.monotonic() - flow.transfer.started_at, error)
        self._closing = True


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    each = socket.socket(family, socket.SOCK_DGRAM)
    try:
        each.bind((host, port))
    except OSError as why:
        each.close()
        raise PortInUse(
            f"UDP port {port} of {host} cannot be had ({why.strerror}). With port 0 "
            f"the system chooses a free one."
        ) from why
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    each.setblocking(False)
    return each


def _resolved(address: Address, family: int) -> Address:
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError, OverflowError) as why:
        raise PeerUnreachable(f"there is no address {host}:{port}: {why}") from why
    return str(found[0][4][0]), port
