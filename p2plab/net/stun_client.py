"""Asks a STUN server which address it sees, again and again until it answers."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from p2plab.errors import CorruptPacket, P2PLabError, RendezvousAway, RendezvousError
from p2plab.net.stun import (
    COOKIE,
    ERROR,
    HEADER_SIZE,
    LARGEST,
    REQUEST,
    SUCCESS,
    USERNAME,
    Address,
    Message,
    encode,
    is_stun,
    parse,
)

LONGEST_USERNAME: Final = 508  # bytes (RFC 8489, section 14.3)


def request(transaction: bytes, username: bytes = b"") -> bytes:
    """Return a Binding request: "at which address do you see me?"

    username: ties the address to a name; the rendezvous' nonce travels here. USERNAME
        says whom a request is about in ICE too (RFC 8445, section 7.2.2), a server that
        wants no password reads over it, and no number of our own is made up.
    """
    if len(username) > LONGEST_USERNAME:
        raise ValueError(f"a username has at most {LONGEST_USERNAME} bytes")
    attributes: dict[int, bytes] = {}
    if username:
        attributes[USERNAME] = username
    return encode(Message(REQUEST, transaction, attributes))


def observed(datagram: bytes, transaction: bytes) -> Address:
    """Return the address that the server has seen, from its answer.

    Raises RendezvousError if it refused, and CorruptPacket for anything but the answer
    to this transaction.
    """
    message = parse(datagram)
    if (message.cookie, message.transaction) != (COOKIE, transaction):
        raise CorruptPacket("this is no answer to our STUN request")
    if message.kind == ERROR:
        code, reason = message.error
        raise RendezvousError(f"the STUN server refused: {code} {reason!r}")
    address = message.address
    if message.kind != SUCCESS or message.unknown or address is None:
        raise CorruptPacket("this STUN message tells no address that we can read")
    return address


@dataclass(slots=True)
class Query:
    """One question to one server, without a socket or a clock.

    After every call pull `next_datagram` and send what it gives; call `on_timeout` at
    the deadline. `sent`, `address` and `error` are for reading.
    Source of the knobs: RFC 8489, section 6.2.1, with its values; 39.5 s in all.
    """

    username: bytes = b""
    rto: float = 0.5  # wait after the first request; each wait is twice the last [s]
    rc: int = 7  # how many requests
    rm: float = 16  # how long to wait after the last one [times rto]
    transaction: bytes = field(default_factory=lambda: secrets.token_bytes(12))
    sent: int = field(default=0, init=False)  # requests so far
    deadline: float | None = field(default=None, init=False)  # [s]
    address: Address | None = field(default=None, init=False)  # the answer
    error: P2PLabError | None = field(default=None, init=False)  # or why there is none
    _due: bool = field(default=True, init=False)

    @property
    def done(self) -> bool:
        """Whether there is an address or an error."""
        return self.address is not None or self.error is not None

    def next_datagram(self, now: float) -> bytes | None:
        """Return the request if it is time to send it."""
        if self.done or not self._due:
            return None
        self._due = False
        last = self.sent + 1 >= self.rc
        self.deadline = now + self.rto * (self.rm if last else 2**self.sent)
        self.sent += 1
        return request(self.transaction, self.username)

    def on_datagram(self, datagram: bytes) -> bool:
        """Say whether it belongs to this question; the right answer ends it."""
        if not is_stun(datagram) or datagram[8:HEADER_SIZE] != self.transaction:
            return False
        if self.done:
            return True  # the answer to an earlier request of ours
        try:
            self.address = observed(datagram, self.transaction)
        except CorruptPacket:
            return True  # the right one may still come
        except RendezvousError as why:
            self.error = why
        self.deadline = None
        return True

    def on_timeout(self) -> None:
        """Ask again, or give up."""
        if self.done:
            return
        self.deadline = None
        self._due = self.sent < self.rc
        if not self._due:
            self.error = RendezvousAway(
                f"none of {self.sent} STUN requests was answered: the server is away, "
                f"or no UDP gets through to it"
            )


def ask(sock: socket.socket, server: Address, query: Query | None = None) -> Address:
    """Return the address at which the server sees this socket.

    Other datagrams that come meanwhile are lost. Raises RendezvousAway if nobody
    answers, RendezvousError if the server refuses.
    """
    query = query or Query(rc=3, rm=4)  # 3.5 s
    patience = sock.gettimeout()
    while not query.done:
        now = time.monotonic()
        if query.deadline is not None and query.deadline <= now:
            query.on_timeout()
        with contextlib.suppress(OSError):  # no route: as lost as on the way
            if datagram := query.next_datagram(now):
                sock.sendto(datagram, server)
        if query.deadline is None:
            continue  # it has just given up
        sock.settimeout(max(query.deadline - now, 0.001))
        with contextlib.suppress(OSError):  # silence, or Windows: nobody listens there
            query.on_datagram(sock.recv(LARGEST))
        sock.settimeout(patience)
    if query.address is None:
        assert query.error is not None
        raise query.error
    return query.address
