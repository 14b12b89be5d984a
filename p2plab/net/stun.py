"""Which address do others see? STUN's messages, and a question that asks (RFC 8489)."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from p2plab.core.validation import count_of, on_one_line
from p2plab.errors import CorruptPacket, P2PLabError, RendezvousAway, RendezvousError

Address = tuple[str, int]  # host and port

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
OPTIONAL: Final = 0x8000
XOR_MAPPED_ADDRESS_OF_DRAFTS: Final = 0x8020  # before RFC 5389, and still in use
_KNOWN: Final = {1, 4, 5, 6, 8, 9, 0xA, 0x14, 0x15, 0x1C, 0x20}

COOKIE: Final = 0x2112A442.to_bytes(4)
HEADER_SIZE: Final = 20  # [bytes]
LARGEST: Final = 1_500  # bytes of a message; section 6.1 wants less
LONGEST_USERNAME: Final = 508  # bytes (section 14.3)

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
        """The address that an answer tells; CorruptPacket if it is none."""
        for number in (XOR_MAPPED_ADDRESS, XOR_MAPPED_ADDRESS_OF_DRAFTS):
            if (value := self.attributes.get(number)) is not None:
                return _read_address(value, self.transaction)
        value = self.attributes.get(MAPPED_ADDRESS)
        return None if value is None else _read_address(value, bytes(16))

    @property
    def error(self) -> tuple[int, str]:
        """Code and reason of an error; CorruptPacket if it has none."""
        value = self.attributes.get(ERROR_CODE, b"")
        if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
            raise CorruptPacket("the STUN error has no code from 300 to 699")
        reason = value[4:].decode(errors="replace").strip("\0 ")
        return 100 * (value[2] & 7) + value[3], on_one_line(reason)

    @property
    def unknown(self) -> list[int]:
        """The attributes that we would have to understand, and do not."""
        return [
            number
            for number in self.attributes
            if number < OPTIONAL and number not in _KNOWN
        ]


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


def _read_address(value: bytes, mask: bytes) -> Address:
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
    unread: int = field(default=0, init=False)  # answers that are no STUN messages
    deadline: float | None = field(default=None, init=False)  # [s]
    address: Address | None = field(default=None, init=False)  # the answer
    error: P2PLabError | None = field(default=None, init=False)  # or why there is none

    @property
    def done(self) -> bool:
        """Whether there is an address or an error."""
        return self.address is not None or self.error is not None

    def next_datagram(self, now: float) -> bytes | None:
        """Return the request if it is time to send it; after the last wait give up."""
        if self.done or (self.deadline is not None and now < self.deadline):
            return None
        if self.sent == self.rc:
            self.deadline = None
            why = (
                f"none of {self.sent} STUN requests was answered: the server is away, "
                f"or no UDP gets through to it"
            )
            if self.unread:
                why = (
                    f"{count_of(self.unread, 'answer')} to {self.sent} STUN requests "
                    f"came, and none can be read: is it a STUN server?"
                )
            self.error = RendezvousAway(why)
            return None
        last = self.sent + 1 == self.rc
        self.deadline = now + self.rto * (self.rm if last else 2**self.sent)
        self.sent += 1
        named = {USERNAME: self.username[:LONGEST_USERNAME]} if self.username else {}
        return encode(Message(REQUEST, self.transaction, named))

    def on_datagram(self, datagram: bytes) -> bool:
        """Say whether it belongs to this question; the right answer ends it."""
        if datagram[4:HEADER_SIZE] != self.transaction:
            return False
        if self.done:
            return True  # the answer to an earlier request of ours
        try:
            message = parse(datagram)
        except CorruptPacket:  # the right one may still come
            self.unread += 1
            return True
        if message.kind == ERROR:
            self.error = RendezvousError(f"the STUN server refused: {_said(message)}")
        elif message.kind == SUCCESS:
            with suppress(CorruptPacket):
                self.address = None if message.unknown else message.address
            if self.address is None:
                why = "the STUN server's answer has no address that can be read"
                if message.unknown:
                    names = ", ".join(f"0x{each:04x}" for each in message.unknown)
                    why += f": it asks us to understand {names}"
                self.error = RendezvousError(why)
        if self.done:
            self.deadline = None
        return True


def _said(message: Message) -> str:
    """What an error says, with the attributes that its sender does not understand."""
    try:
        code, reason = message.error
    except CorruptPacket:
        return "for a reason that cannot be read"
    value = message.attributes.get(UNKNOWN_ATTRIBUTES, b"")
    names = [f"0x{value[at : at + 2].hex()}" for at in range(0, len(value) - 1, 2)]
    more = f"; it does not understand {', '.join(names[:8])}" if names else ""
    return f"{code} {reason!r}{more}"
