"""Which address do others see? The bytes of STUN's question and answer (RFC 8489)."""

from __future__ import annotations

import hmac
import socket
import struct
import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from p2plab.errors import CorruptPacket

Address = tuple[str, int]


class Binding(IntEnum):
    """The four messages of the method Binding (RFC 8489, section 5)."""

    REQUEST = 0x0001
    INDICATION = 0x0011
    SUCCESS = 0x0101
    ERROR = 0x0111


REQUEST: Final = Binding.REQUEST
INDICATION: Final = Binding.INDICATION
SUCCESS: Final = Binding.SUCCESS
ERROR: Final = Binding.ERROR

# The attributes that we know (RFC 8489, section 18.3).
MAPPED_ADDRESS: Final = 0x0001
CHANGE_REQUEST: Final = 0x0003  # answer me from another address (RFC 5780)
SOURCE_ADDRESS: Final = 0x0004  # only very old servers send this and the next
CHANGED_ADDRESS: Final = 0x0005
USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
REALM: Final = 0x0014
NONCE: Final = 0x0015
MESSAGE_INTEGRITY_SHA256: Final = 0x001C
XOR_MAPPED_ADDRESS: Final = 0x0020
SOFTWARE: Final = 0x8022
FINGERPRINT: Final = 0x8028
OPTIONAL: Final = 0x8000  # attributes from here on may be ignored by whoever wants to
COOKIE: Final = 0x2112A442.to_bytes(4)
HEADER_SIZE: Final = 20  # [bytes]
LARGEST: Final = 1_500  # bytes of a message; RFC 8489, section 6.1, wants less

_KINDS: Final = {int(kind): kind for kind in Binding}
_KNOWN: Final = frozenset(
    (
        *(MAPPED_ADDRESS, CHANGE_REQUEST, SOURCE_ADDRESS, CHANGED_ADDRESS, USERNAME),
        *(MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES, REALM, NONCE),
        *(MESSAGE_INTEGRITY_SHA256, XOR_MAPPED_ADDRESS),
    )
)
_INTEGRITY: Final[Mapping[int, tuple[str, range]]] = {  # hash, and its lengths
    MESSAGE_INTEGRITY: ("sha1", range(20, 21)),
    MESSAGE_INTEGRITY_SHA256: ("sha256", range(16, 33, 4)),  # 14.6: cut short
}
_AFTER: Final[Mapping[int, tuple[int, ...]]] = {  # what counts behind these two
    MESSAGE_INTEGRITY: (MESSAGE_INTEGRITY_SHA256, FINGERPRINT),
    MESSAGE_INTEGRITY_SHA256: (FINGERPRINT,),
}


class Message(NamedTuple):
    """One Binding message.

    transaction: 12 bytes, chosen by who asks.
    attributes: number -> value; of several with one number, the first.
    cookie: COOKIE; other bytes are those of a client from before 2008 (RFC 3489).
    """

    kind: Binding
    transaction: bytes
    attributes: Mapping[int, bytes]
    cookie: bytes = COOKIE

    @property
    def address(self) -> Address | None:
        """The address that the answer tells; CorruptPacket if it is none."""
        value = self.attributes.get(XOR_MAPPED_ADDRESS)
        if value is not None:
            return _read_address(value, self.cookie + self.transaction)
        value = self.attributes.get(MAPPED_ADDRESS)
        return None if value is None else _read_address(value, bytes(16))

    @property
    def error(self) -> tuple[int, str]:
        """Code and reason of an error, (0, "") without one; may raise CorruptPacket."""
        value = self.attributes.get(ERROR_CODE)
        if value is None:
            return 0, ""
        if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
            raise CorruptPacket("the STUN error has no code from 300 to 699")
        return 100 * (value[2] & 7) + value[3], value[4:].decode(errors="replace")

    @property
    def unknown(self) -> list[int]:
        """The attributes that we would have to understand, and do not."""
        return [
            number
            for number, value in self.attributes.items()
            if (number < OPTIONAL and number not in _KNOWN)
            or (number == CHANGE_REQUEST and any(value))  # zeros ask for nothing
        ]


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |0 0|      kind: see Binding      | length: of all the attributes |
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
# (RFC 8489, section 14.2). The two zero bits in front and the cookie tell a STUN
# message from everything else on the same socket (section 6.3).
_HEADER: Final = struct.Struct("!HH4s12s")
_ATTRIBUTE: Final = struct.Struct("!HH")


def is_stun(datagram: bytes) -> bool:
    """Say whether this is meant to be STUN: the peer's socket has other guests too."""
    return len(datagram) >= HEADER_SIZE and (
        datagram[0] < 0x40 and datagram[4:8] == COOKIE
    )


def encode(message: Message) -> bytes:
    """Return the datagram that carries the message; the header is drawn above.

    Raises ValueError for a transaction that has not 12 bytes, or over LARGEST bytes.
    """
    if len(message.transaction) != 12:
        raise ValueError(f"a transaction has 12 bytes, got {message.transaction!r}")
    parts = [  # a list, because every answer of a server comes by here
        _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in message.attributes.items()
    ]
    body = b"".join(parts)
    if HEADER_SIZE + len(body) > LARGEST:
        raise ValueError(f"a message has at most {LARGEST} bytes, got {len(body) + 20}")
    kind, transaction, _, cookie = message
    return _HEADER.pack(kind, len(body), cookie, transaction) + body


def parse(datagram: bytes) -> Message:
    """Return the message in a datagram.

    Raises CorruptPacket for what is no well-formed Binding message, or has another
    FINGERPRINT than its bytes. Whether the cookie is right is left to the caller.
    """
    if not HEADER_SIZE <= len(datagram) <= LARGEST:
        raise CorruptPacket(f"{len(datagram)} bytes are no STUN message")
    number, length, cookie, transaction = _HEADER.unpack_from(datagram)
    kind = _KINDS.get(number)
    if kind is None or length != len(datagram) - HEADER_SIZE or length % 4:
        raise CorruptPacket("the header is not one of a STUN Binding message")
    attributes: dict[int, bytes] = {}
    for number, value, at in _walk(datagram):
        attributes[number] = value
        if number == FINGERPRINT and datagram[at:] != _fingerprint(datagram[:at]):
            raise CorruptPacket("the FINGERPRINT does not fit, or is not at the end")
    return Message(kind, transaction, attributes, cookie)


def with_fingerprint(datagram: bytes) -> bytes:
    """Append FINGERPRINT, a CRC-32; nothing may follow it (RFC 8489, section 14.7)."""
    covered = _longer(datagram, 8)
    return covered + _fingerprint(covered)


def with_integrity(datagram: bytes, key: bytes, algorithm: str = "sha256") -> bytes:
    """Append a keyed hash: MESSAGE-INTEGRITY for sha1, or MESSAGE-INTEGRITY-SHA256.

    key: the password, or the long-term key (RFC 8489, sections 9.1.1 and 9.2.2).
    """
    for number, (name, sizes) in _INTEGRITY.items():
        if name == algorithm:
            covered = _longer(datagram, 4 + sizes[-1])
            head = _ATTRIBUTE.pack(number, sizes[-1])
            return covered + head + hmac.digest(key, covered, name)
    raise ValueError(f"algorithm must be sha1 or sha256, got {algorithm!r}")


def authentic(datagram: bytes, key: bytes) -> bool:
    """Say whether the message has a keyed hash, and every one was made with `key`.

    Raises CorruptPacket as `parse` does.
    """
    parse(datagram)
    verdicts = []
    for number, value, at in _walk(datagram):
        if number in _INTEGRITY:
            name, sizes = _INTEGRITY[number]
            covered = _longer(datagram[:at], 4 + len(value))
            digest = hmac.digest(key, covered, name)[: len(value)]
            right = hmac.compare_digest(digest, value)
            verdicts.append(right and len(value) in sizes)
    return bool(verdicts) and all(verdicts)


def _walk(datagram: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield number, value and place of every attribute that counts."""
    at = HEADER_SIZE
    seen: set[int] = set()
    counts: tuple[int, ...] | None = None  # all
    while at < len(datagram):
        number, size = _ATTRIBUTE.unpack_from(datagram, at)
        start, end = at + 4, at + 4 + size
        if end > len(datagram):
            raise CorruptPacket("an attribute ends outside of its STUN message")
        if number not in seen and (counts is None or number in counts):
            yield number, datagram[start:end], at
            seen.add(number)
            counts = _AFTER.get(number, counts)
        at = end + -size % 4


def _longer(datagram: bytes, more: int) -> bytes:
    """Write into the header that the attributes have grown, as hashes expect it."""
    length = len(datagram) - HEADER_SIZE + more
    return datagram[:2] + length.to_bytes(2) + datagram[4:]


def _fingerprint(covered: bytes) -> bytes:
    value = zlib.crc32(covered) ^ 0x5354554E  # "STUN", not to be any other CRC-32
    return _ATTRIBUTE.pack(FINGERPRINT, 4) + value.to_bytes(4)


def write_address(address: Address, mask: bytes) -> bytes:
    """Return the value of MAPPED-ADDRESS, or with a mask, of XOR-MAPPED-ADDRESS.

    mask: cookie and transaction, or zeros.
    """
    host, port = address
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return b"\0\2" + _xor(port.to_bytes(2) + packed, mask)
    return b"\0\1" + _xor(port.to_bytes(2) + socket.inet_aton(host), mask)


def _read_address(value: bytes, mask: bytes) -> Address:
    shape = value[1:2], len(value)
    if shape not in ((b"\1", 8), (b"\2", 20)):
        raise CorruptPacket("an address in STUN is IPv4 or IPv6")
    family = socket.AF_INET if value[1] == 1 else socket.AF_INET6
    plain = _xor(value[2:], mask)
    return socket.inet_ntop(family, plain[2:]), int.from_bytes(plain[:2])


def _xor(value: bytes, mask: bytes) -> bytes:
    """Mask a port and an address; both begin with the mask's first byte."""
    size = len(value)
    both = int.from_bytes(value) ^ int.from_bytes(mask[:2] + mask[: size - 2])
    return both.to_bytes(size)
