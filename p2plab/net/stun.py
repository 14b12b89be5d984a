"""Which address do others see? STUN: a question that asks, a server that answers.

The method Binding of RFC 8489, whose sections are named below.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from time import monotonic
from typing import Any, Final, NamedTuple, Self

from p2plab.errors import (
    CorruptPacket,
    P2PLabError,
    PortInUse,
    RendezvousAway,
    RendezvousError,
)
from p2plab.net.datagrams import Address, bound

# The four messages of the method Binding (RFC 8489, section 5).
REQUEST: Final = 0x0001
INDICATION: Final = 0x0011
SUCCESS: Final = 0x0101
ERROR: Final = 0x0111

# The attributes that we use; all of section 18.3 are known. Those from OPTIONAL on may
# be ignored by whoever wants to.
MAPPED_ADDRESS: Final = 0x0001
USERNAME: Final = 0x0006
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
OLD_XOR_MAPPED_ADDRESS: Final = 0x8020  # its number in drafts before 2008
ALTERNATE_SERVER: Final = 0x8023
OPTIONAL: Final = 0x8000
_KNOWN: Final = {1, 4, 5, 6, 8, 9, 0xA, 0x14, 0x15, 0x1C, 0x20}

COOKIE: Final = 0x2112A442.to_bytes(4)
HEADER_SIZE: Final = 20  # [bytes]
LARGEST: Final = 1_500  # bytes of a message; section 6.1 wants less
LONGEST_USERNAME: Final = 508  # bytes (section 14.3)
LONGEST_REASON: Final = 127  # characters (section 14.8)
PER_SOURCE: Final = 50  # requests of one source that are read in a second
_BUCKETS: Final = 65_536  # counters for all sources together
_RECEIVE_BUFFER: Final = 1_000_000  # bytes asked for: a class that asks at once

# What an error says if it has no words of its own (section 14.8), and what to do.
REASONS: Final = {
    300: "try an alternate server",
    400: "bad request",
    401: "unauthenticated: it wants a password; take a server that needs none",
    403: "forbidden",
    420: "unknown attribute",
    438: "stale nonce: it wants a password; take a server that needs none",
    500: "server error: try again later",
}

#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |0 0|      kind: see above        | length: of all the attributes |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |              cookie: 0x2112A442 in every message              |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |                                                               |
#  |     transaction: 96 random bits, the same in the answer       |
#  |                                                               |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |       attribute: number       |  its length, without padding  |  as often as
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  there are
#  |  its value, padded to whole rows with zeros                   |  attributes
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
#  (XOR-)MAPPED-ADDRESS, the value that all this is about:
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |0 0 0 0 0 0 0 0| 1 IPv4, 2 IPv6|   port XOR start of cookie    |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |  address, 4 or 16 bytes, XOR cookie and transaction ...
#
# XOR, because some NATs replace whatever looks like an inside address in a payload
# (section 14.2). The two zero bits in front and the cookie tell a STUN message from
# everything else on the same socket (section 6.3).
_HEADER: Final = struct.Struct("!HH16s")
_ATTRIBUTE: Final = struct.Struct("!HH")


class Message(NamedTuple):
    """One Binding message.

    transaction: cookie and transaction, 16 bytes that come back in the answer.
    attributes: number -> value; of several with one number, the first.
    """

    kind: int
    transaction: bytes
    attributes: Mapping[int, bytes]

    @property
    def address(self) -> Address | None:
        """The first address of the answer that can be read; None if none can."""
        masks = {
            XOR_MAPPED_ADDRESS: self.transaction,
            OLD_XOR_MAPPED_ADDRESS: self.transaction,
            MAPPED_ADDRESS: bytes(16),
        }
        for number, mask in masks.items():
            with suppress(CorruptPacket, KeyError):
                return read_address(self.attributes[number], mask)
        return None

    @property
    def error(self) -> tuple[int, str]:
        """Code and reason of an error; CorruptPacket if it has none.

        Nothing of the reason is kept that could not be printed.
        """
        value = self.attributes.get(ERROR_CODE, b"")
        if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
            raise CorruptPacket("the STUN error has no code from 300 to 699")
        words = filter(str.isprintable, value[4:].decode(errors="replace"))
        reason = "".join(words).strip()[:LONGEST_REASON]
        return 100 * (value[2] & 7) + value[3], reason

    @property
    def refusal(self) -> str:
        """What an error says, in words."""
        try:
            code, reason = self.error
        except CorruptPacket as why:
            return str(why)
        words = f"{code}, {reason or REASONS.get(code, 'without a reason')}"
        if named := self.attributes.get(UNKNOWN_ATTRIBUTES):
            numbers = [
                int.from_bytes(pair)
                for pair in zip(named[::2], named[1::2], strict=False)
            ]
            words += f": it does not know {_named(numbers)}"
        with suppress(CorruptPacket, KeyError):
            host, port = read_address(self.attributes[ALTERNATE_SERVER], bytes(16))
            words += f": ask {host}, port {port}"
        return words

    @property
    def unknown(self) -> list[int]:
        """The attributes that we would have to understand, and do not."""
        return [
            number
            for number in self.attributes
            if number < OPTIONAL and number not in _KNOWN
        ]


def _named(numbers: Iterable[int]) -> str:
    """Attributes in words; a hostile list of them has an end."""
    return "attribute " + ", ".join(f"0x{each:04X}" for each in [*numbers][:8])


def is_stun(datagram: bytes) -> bool:
    """Say whether this is meant to be STUN: the peer's socket has other guests too."""
    return len(datagram) >= HEADER_SIZE and (
        datagram[0] < 0x40 and datagram[4:8] == COOKIE
    )


def encode(message: Message) -> bytes:
    """Return the datagram that carries the message; the header is drawn above."""
    body = b"".join(
        _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in message.attributes.items()
    )
    return _HEADER.pack(message.kind, len(body), message.transaction) + body


def parse(datagram: bytes) -> Message:
    """Return the message in a datagram.

    Raises CorruptPacket for what is no well-formed Binding message.
    """
    if not is_stun(datagram) or len(datagram) > LARGEST:
        raise CorruptPacket(f"{len(datagram)} bytes are no STUN message")
    kind, length, transaction = _HEADER.unpack_from(datagram)
    known = kind in (REQUEST, INDICATION, SUCCESS, ERROR)
    if not known or length != len(datagram) - HEADER_SIZE or length % 4:
        raise CorruptPacket("the header is not one of a STUN Binding message")
    attributes: dict[int, bytes] = {}
    at = HEADER_SIZE
    while at < len(datagram):
        number, size = _ATTRIBUTE.unpack_from(datagram, at)
        value = datagram[at + 4 : at + 4 + size]
        if len(value) < size:
            raise CorruptPacket("an attribute ends outside of its STUN message")
        attributes.setdefault(number, value)
        at += 4 + size + -size % 4
    return Message(kind, transaction, attributes)


def write_address(address: Address, mask: bytes) -> bytes:
    """Return the value of XOR-MAPPED-ADDRESS; mask: cookie and transaction."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    plain = port.to_bytes(2) + socket.inet_pton(family, host)
    return (b"\0\2" if ":" in host else b"\0\1") + _xor(plain, mask)


def read_address(value: bytes, mask: bytes) -> Address:
    """Return the address in a value; CorruptPacket if it is none of IPv4 or IPv6."""
    if (value[1:2], len(value)) not in ((b"\1", 8), (b"\2", 20)):
        raise CorruptPacket("an address in STUN is IPv4 or IPv6")
    family = socket.AF_INET if value[1] == 1 else socket.AF_INET6
    plain = _xor(value[2:], mask)
    return socket.inet_ntop(family, plain[2:]), int.from_bytes(plain[:2])


def _xor(value: bytes, mask: bytes) -> bytes:
    """Mask a port and an address; both begin with the mask's first byte."""
    pairs = zip(value, mask[:2] + mask, strict=False)
    return bytes(one ^ other for one, other in pairs)


@dataclass(slots=True)
class Query:
    """One question to one server, "at which address do you see me?", without a socket.

    Pull `next_datagram` at first and at every deadline, and send what it gives.
    `address` and `error` are for reading.
    username: ties the address to a name; the rendezvous' nonce travels here. USERNAME
        says whom a request is about in ICE too (RFC 8445, section 7.2.2), a server that
        wants no password reads over it, and no number of our own is made up.
    Source of the knobs: RFC 8489, section 6.2.1, with its values; 39.5 s in all.
    """

    username: bytes = b""
    rto: float = 0.5  # wait after the first request; each wait is twice the last [s]
    rc: int = 7  # how many requests
    rm: float = 16  # how long to wait after the last one [times rto]
    transaction: bytes = field(default_factory=lambda: COOKIE + secrets.token_bytes(12))
    sent: int = field(default=0, init=False)  # requests so far
    deadline: float | None = field(default=None, init=False)  # [s]
    address: Address | None = field(default=None, init=False)  # the answer
    error: P2PLabError | None = field(default=None, init=False)  # or why there is none

    _unread: str = field(default="", init=False)  # what was wrong with an answer

    @property
    def done(self) -> bool:
        """Whether there is an address or an error."""
        return self.address is not None or self.error is not None

    def next_datagram(self, now: float) -> bytes | None:
        """Return the request if it is time to send it; after the last wait give up.

        After an answer that cannot be read it gives up instead of asking again.
        """
        if self.done or (self.deadline is not None and now < self.deadline):
            return None
        if self._unread:
            self._fail(f"a STUN answer came, but cannot be read: {self._unread}")
            return None
        if self.sent == self.rc:
            self.deadline = None
            self.error = RendezvousAway(
                f"none of {self.sent} STUN requests was answered: the server is away, "
                f"or no UDP gets through to it"
            )
            return None
        last = self.sent + 1 == self.rc
        self.deadline = now + self.rto * (self.rm if last else 2**self.sent)
        self.sent += 1
        named = {USERNAME: self.username[:LONGEST_USERNAME]} if self.username else {}
        return encode(Message(REQUEST, self.transaction, named))

    def on_datagram(self, datagram: bytes) -> bool:
        """Say whether it belongs to this question; a whole answer ends it."""
        if datagram[4:HEADER_SIZE] != self.transaction:
            return False
        if self.done:
            return True  # the answer to an earlier request of ours
        try:
            message = parse(datagram)
        except CorruptPacket as why:  # a better one may still come
            self._unread = str(why)
            return True
        if message.kind == ERROR:
            self._fail(f"the STUN server refused: {message.refusal}")
        elif message.kind != SUCCESS:
            self._unread = "what came is a request"
        elif message.unknown:  # section 6.3.3
            self._fail(f"a STUN answer has {_named(message.unknown)}, unknown here")
        elif (address := message.address) is not None:
            self.address, self.deadline = address, None
        else:
            self._fail("a STUN answer came without a readable address")
        return True

    def _fail(self, why: str) -> None:
        self.error, self.deadline = RendezvousError(why), None


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
        sock = bound(host, port, buffer=_RECEIVE_BUFFER)
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
        host, port = plain(addr[0]), addr[1]
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


def plain(host: str) -> str:
    """An address without a zone, and as IPv4 where an IPv6 socket has heard IPv4."""
    host = host.partition("%")[0]
    mapped = IPv6Address(host).ipv4_mapped if ":" in host else None
    return str(mapped or host)


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
