"""Tells everybody who asks over UDP the address it sees: a STUN server (RFC 8489)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Self

from p2plab.errors import CorruptPacket, PortInUse
from p2plab.net.datagrams import bound
from p2plab.net.stun import (
    ERROR,
    ERROR_CODE,
    REQUEST,
    SUCCESS,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Address,
    Message,
    encode,
    parse,
    write_address,
)

PER_SOURCE: Final = 50  # requests of one source that are read in a second

_BUCKETS: Final = 65_536  # counters for all sources together
_RECEIVE_BUFFER: Final = 1_000_000  # bytes asked for: a class that asks at once


def answer_to(asked: Message, address: Address) -> Message | None:
    """Return the answer to a message that came from `address`; None: there is none.

    It tells the address, or names the attributes that we would have to understand
    (error 420, section 6.3.1). It is at most 24 bytes longer than what was asked, so
    that nobody can make us a cannon.
    """
    if asked.kind != REQUEST:
        return None
    if unknown := asked.unknown:
        numbers = struct.pack(f"!{len(unknown)}H", *unknown)
        error = {ERROR_CODE: bytes((0, 0, 4, 20)), UNKNOWN_ATTRIBUTES: numbers}
        return Message(ERROR, asked.transaction, error)
    told = {XOR_MAPPED_ADDRESS: write_address(address, asked.transaction)}
    return Message(SUCCESS, asked.transaction, told)


class StunServer(asyncio.DatagramProtocol):
    """Answers Binding requests in the event loop in which it was started.

    on_nonce: called with the nonce (a request's USERNAME), address and port of every
        request that carries one, just before its answer; it must not take long, nor
        raise.
    per_source: requests in a second that one IPv4 address, or one IPv6 /64, may send.
        Beyond that they are dropped unread.
    Counted: `answered`, and `refused` by per_source.
    """

    def __init__(
        self,
        on_nonce: Callable[[str, str, int], object] = lambda nonce, host, port: None,
        per_source: int = PER_SOURCE,
    ) -> None:
        self.answered = self.refused = 0
        self._on_nonce, self._per_source = on_nonce, per_source
        self._counts = [0] * _BUCKETS
        self._second = 0
        self._transport: asyncio.DatagramTransport

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Answer in the running loop from now on. port: 0 lets the system choose.

        Raises PortInUse, and ValueError for a host or port that cannot be ours.
        """
        loop = asyncio.get_running_loop()
        sock = bound(host, port, buffer=_RECEIVE_BUFFER, v6only=True)
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, sock=sock
        )
        return self

    def stop(self) -> None:
        """Give the port back; to be called in the loop."""
        self._transport.close()

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """For the loop: answer a datagram, if it is a request."""
        host, port = addr[0].partition("%")[0], addr[1]
        if self._too_many(host):
            self.refused += 1
            return
        with suppress(CorruptPacket):
            asked = parse(data)
            answer = answer_to(asked, (host, port))
            if answer is not None:
                nonce = asked.attributes.get(USERNAME)
                if nonce and answer.kind == SUCCESS:
                    self._on_nonce(nonce.decode(errors="replace"), host, port)
                self.answered += 1
                self._transport.sendto(encode(answer), addr)

    def _too_many(self, host: str) -> bool:
        """Count a request; in a table that no flood of forged sources can fill.

        Two sources may share a counter, but which ones nobody can tell from outside:
        Python salts the hashes of strings anew in every process.
        """
        second = int(monotonic())
        if second != self._second:
            self._second, self._counts = second, [0] * _BUCKETS
        bucket = hash(network(host)) % _BUCKETS
        self._counts[bucket] += 1
        return self._counts[bucket] > self._per_source


def network(host: str) -> str | bytes:
    """Return what one source owns: an IPv4 address, or the /64 of an IPv6 one."""
    return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else host


async def start_near(
    host: str, port: int, on_nonce: Callable[[str, str, int], object]
) -> StunServer:
    """Start one at this port, or at a free one if another program has it."""
    try:
        return await StunServer(on_nonce).start(host, port)
    except PortInUse:
        return await StunServer(on_nonce).start(host)
