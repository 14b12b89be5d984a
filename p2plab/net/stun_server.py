"""Tells everybody who asks over UDP the address it sees: a STUN server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Self

from p2plab.errors import CorruptPacket, PortInUse
from p2plab.net.datagrams import bound
from p2plab.net.stun import (
    COOKIE,
    ERROR,
    ERROR_CODE,
    FINGERPRINT,
    INDICATION,
    LARGEST,
    MAPPED_ADDRESS,
    REQUEST,
    SUCCESS,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Address,
    Binding,
    Message,
    encode,
    parse,
    with_fingerprint,
    write_address,
)
from p2plab.net.threads import spawn

PER_SOURCE: Final = 50  # requests of one source that are read in a second
TWINS: Final = {"0.0.0.0": "::", "127.0.0.1": "::1", "localhost": "::1", "": "::"}

_BUCKETS: Final = 65_536  # counters for all sources together
_READS: Final = 64  # datagrams of one socket before the other gets its turn
_TRIES: Final = 8  # ports that the system may choose until IPv6 has it free too
_RECEIVE_BUFFER: Final = 1_000_000  # bytes asked for: a class that asks at once


def response(asked: Message, address: Address) -> bytes:
    """Return the answer to a request that came from `address`, which it tells.

    It is at most 24 bytes longer than the request.
    """
    if asked.cookie == COOKIE:
        value = write_address(address, COOKIE + asked.transaction)
        return _reply(asked, SUCCESS, {XOR_MAPPED_ADDRESS: value})
    # a client of RFC 3489 (RFC 5389, section 12.2)
    return _reply(asked, SUCCESS, {MAPPED_ADDRESS: write_address(address, bytes(16))})


def refusal(asked: Message, unknown: Sequence[int]) -> bytes:
    """Return error 420, which names the attributes that we do not know.

    Without a word in its reason, it is at most 12 bytes longer than the request.
    Source: RFC 8489, section 6.3.1.
    """
    numbers = struct.pack(f"!{len(unknown)}H", *unknown)
    error = {ERROR_CODE: bytes((0, 0, 4, 20)), UNKNOWN_ATTRIBUTES: numbers}
    return _reply(asked, ERROR, error)


def _reply(asked: Message, kind: Binding, attributes: dict[int, bytes]) -> bytes:
    reply = encode(Message(kind, asked.transaction, attributes, asked.cookie))
    return with_fingerprint(reply) if FINGERPRINT in asked.attributes else reply


class StunServer:
    """Answers Binding requests from a background thread (RFC 8489).

    host: 0.0.0.0 or 127.0.0.1 stand for their IPv6 twins too, where the machine has
        them and the port is free there. port: 0 lets the system choose.
    on_nonce: called with the nonce (a request's USERNAME), address and port of every
        request that carries one, just before its answer; it must not take long. What
        it raises is kept in `callback_error`.
    per_source: requests in a second that one IPv4 address, or one IPv6 /64, may send.
        Beyond that they are dropped unread.
    clock: tells when a new second begins [s].
    Counters: `answered`, `refused` (by per_source), `garbage` (no Binding request).
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        on_nonce: Callable[[str, str, int], object] | None = None,
        *,
        per_source: int = PER_SOURCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be in 0..65535, got {port}")
        self.host = host
        self.port = port
        self.answered = self.refused = self.garbage = 0
        self.callback_error: Exception | None = None
        self._on_nonce = on_nonce
        self._per_source = per_source
        self._clock = clock
        self._sockets: list[socket.socket] = []
        self._counts = [0] * _BUCKETS
        self._second = 0
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, while it does."""
        return [each.getsockname()[:2] for each in self._sockets]

    def start(self) -> Self:
        """Return when requests are answered; starting twice is starting once.

        Raises PortInUse, and ValueError for a host that is not this machine's.
        """
        if self._thread is not None:
            return self
        self._sockets = _bound_both(self.host, self.port)
        self.port = self._sockets[0].getsockname()[1]
        self._waker, wakee = socket.socketpair()
        name = f"p2plab stun {self.port}"
        self._thread = spawn(self._loop, self._sockets, wakee, name=name)
        return self

    def stop(self) -> None:
        """Give the port back; stopping twice is stopping once."""
        if self._thread is None or self._waker is None:
            return
        self._waker.close()  # the thread sees that
        self._thread.join()
        self._thread = self._waker = None
        for each in self._sockets:
            each.close()
        self._sockets = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()

    # ---- everything below runs in the server's thread

    def _loop(self, sockets: list[socket.socket], wakee: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, wakee:
            for each in (*sockets, wakee):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is wakee:
                        return
                    assert isinstance(key.fileobj, socket.socket)
                    self._serve(key.fileobj)

    def _serve(self, sock: socket.socket) -> None:
        for _ in range(_READS):
            try:
                datagram, sender = sock.recvfrom(LARGEST + 1)
            except BlockingIOError:
                return
            except ConnectionResetError:  # Windows: an earlier answer found nobody
                continue
            except OSError:  # Windows: longer than any STUN message
                self.garbage += 1
                continue
            if answer := self._answer(datagram, sender):
                self.answered += 1
                with contextlib.suppress(OSError):  # nobody there, no route: lost
                    sock.sendto(answer, sender)

    def _answer(self, datagram: bytes, sender: tuple[str, int]) -> bytes | None:
        host, port = sender[0].partition("%")[0], sender[1]
        if self._too_many(host):
            self.refused += 1
            return None
        try:
            asked = parse(datagram)
        except CorruptPacket:
            self.garbage += 1
            return None  # an error in return would make us a cannon
        if asked.kind != REQUEST:
            self.garbage += asked.kind != INDICATION
            return None
        if unknown := asked.unknown:
            return self._refuse(asked, unknown)
        nonce = asked.attributes.get(USERNAME)
        if nonce and asked.cookie == COOKIE:
            self._tell(nonce, host, port)
        return response(asked, (host, port))

    def _refuse(self, asked: Message, unknown: Sequence[int]) -> bytes | None:
        if asked.cookie == COOKIE:
            return refusal(asked, unknown)
        self.garbage += 1
        return None  # clients of RFC 3489's time take an error for success

    def _tell(self, nonce: bytes, host: str, port: int) -> None:
        try:
            if self._on_nonce is not None:
                self._on_nonce(nonce.decode(errors="replace"), host, port)
        except Exception as why:  # not the asker's fault
            self.callback_error = why

    def _too_many(self, host: str) -> bool:
        """Count a request; in a table that no flood of forged sources can fill.

        Two sources may share a counter, but which ones nobody can tell from outside:
        Python salts the hashes of strings anew in every process.
        """
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._counts = [0] * _BUCKETS
        bucket = hash(network(host)) % _BUCKETS
        self._counts[bucket] += 1
        return self._counts[bucket] > self._per_source


def network(host: str) -> str | bytes:
    """Return what one source owns: an IPv4 address, or the /64 of an IPv6 one."""
    return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else host


def _bound_both(host: str, port: int) -> list[socket.socket]:
    """Return a socket for the host, and one for its twin if it has the port free."""
    take = partial(bound, buffer=_RECEIVE_BUFFER, v6only=True)
    for left in reversed(range(_TRIES)):
        first = take(host, port)
        if host not in TWINS:
            return [first]
        try:
            return [first, take(TWINS[host], first.getsockname()[1])]
        except ValueError:  # no IPv6 on this machine
            return [first]
        except PortInUse:
            if port or not left:
                return [first]
        first.close()  # the system may choose another one
    raise AssertionError("the last try returns")


def start_near(
    host: str, port: int, on_nonce: Callable[[str, str, int], object]
) -> StunServer:
    """Start one at this port, or at a free one if another program has it."""
    try:
        return StunServer(host, port, on_nonce).start()
    except PortInUse:
        return StunServer(host, 0, on_nonce).start()
