"""A packet, the bytes that carry it over the wire, and its checksum."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple
from zlib import crc32

from p2plab.errors import CorruptPacket


class Kind(IntEnum):
    """What a packet is for; machines use the first four, drivers the others."""

    DATA = 1
    ACK = 2
    NAK = 3
    FIN = 4
    OFFER = 5
    ACCEPT = 6
    REFUSE = 7
    STOP = 8
    PROBE = 9  # is there a way from here to you?
    PROBED = 10  # yes: your probe has arrived


DATA: Final = Kind.DATA
ACK: Final = Kind.ACK
NAK: Final = Kind.NAK
FIN: Final = Kind.FIN
MACHINE_KINDS: Final = frozenset((DATA, ACK, NAK, FIN))

MAX_PAYLOAD: Final = 65_000  # a UDP datagram over IPv4 holds 65,507 bytes


# A named tuple and not a dataclass: immutable at a third of the cost, and every
# packet of every simulation is one.
class Packet(NamedTuple):
    """One packet, as machines see it.

    seq: the number of the payload. An ACK names a packet that *has arrived*
        (cumulatively in go-back-N, where -1 says that nothing has arrived in
        order), as in Kurose & Ross; TCP writes the same fact as the number that it
        expects next, which is one more (RFC 9293, section 3.4).
    payload: at most MAX_PAYLOAD bytes; an empty one is a payload like any other.
    ts_val: when the packet was sent, by its sender's clock [s].
    ts_ecr: in an ACK, the ts_val of the packet that it answers [s]
        (RFC 7323, section 3: TSval and TSecr).
    """

    kind: Kind
    seq: int
    payload: bytes = b""
    ts_val: float | None = None
    ts_ecr: float | None = None


Numbered = tuple[Packet, int]  # a packet, and how many its side had sent before


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |       "p"     |       "2"     |      kind     |   version: 3  |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |            transfer: which conversation on this socket        |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |               seq: the payload's number, signed               |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |   number: how many packets this side had sent before this one |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |       ts_val, in microseconds; all bits set: there is none    |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |       ts_ecr, in microseconds; all bits set: there is none    |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |  payload, of any length ...
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  | checksum: CRC-32 of everything above, lowest byte first       |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# The first bit of `transfer` is set in what its receiver sends.
# Big-endian, as everything on the Internet (RFC 791, app. B), but for the checksum.
# That one comes last and in this order, as in an Ethernet frame (IEEE 802.3, section
# 3.2.9), so that the CRC-32 of a whole intact datagram is always the same number: one
# look tells.
# `number` never repeats within a transfer, so that a trace can tell two copies of
# one packet apart (RFC 9000, section 12.3, has it for the same reason).
_HEADER: Final = struct.Struct("!IIiIII")
_CHECKSUM: Final = struct.Struct("<I")
_LEAST: Final = struct.Struct(f"{_HEADER.format}{_CHECKSUM.size}x")  # without a payload
_INTACT: Final = crc32(_CHECKSUM.pack(crc32(b"")))  # of anything and its checksum
MAGIC: Final = b"p2"
_VERSION: Final = 3
# Every first word that there is, so that one look tells all.
_WORDS: Final = {kind: int.from_bytes((*MAGIC, kind, _VERSION)) for kind in Kind}
_KINDS: Final = {word: kind for kind, word in _WORDS.items()}
HEADER_SIZE: Final = _LEAST.size  # with the checksum behind the payload [bytes]
_NO_TIME: Final = 0xFFFFFFFF
TIMESTAMP_PERIOD: Final = _NO_TIME / 1e6  # after which stamps begin anew [s]
_LARGEST: Final = HEADER_SIZE + MAX_PAYLOAD

# Once for every packet of every transfer: each look into a class or module counts.
_pack, _pack_checksum, _unpack = _HEADER.pack, _CHECKSUM.pack, _LEAST.unpack_from
_PAYLOAD: Final = slice(_HEADER.size, -_CHECKSUM.size)
_new_packet = tuple.__new__


def encode(packet: Packet, transfer: int = 0, number: int = 0) -> bytes:
    """Return the datagram that carries `packet`.

    transfer, number: 0 to 2**32 - 1, see the picture above.
    Stamps are rounded to microseconds and wrap after 71 minutes.
    Raises ValueError for a seq outside 32 bits or a payload over MAX_PAYLOAD.
    """
    kind, seq, payload, ts_val, ts_ecr = packet
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload holds {MAX_PAYLOAD} bytes, got {len(payload)}")
    try:
        header = _pack(
            _WORDS[kind],
            transfer,
            seq,
            number,
            _NO_TIME if ts_val is None else round(ts_val * 1e6) % _NO_TIME,
            _NO_TIME if ts_ecr is None else round(ts_ecr * 1e6) % _NO_TIME,
        )
    except struct.error as why:
        raise ValueError(f"{packet!r} does not fit its header: {why}") from why
    checked = header + payload
    return checked + _pack_checksum(crc32(checked))


def decode(datagram: bytes) -> tuple[Packet, int, int]:
    """Return the packet in `datagram`, its transfer and its transmission number.

    Raises CorruptPacket for anything that `encode` has not made.
    """
    if len(datagram) > _LARGEST:
        raise CorruptPacket(f"{len(datagram)} bytes are no packet of ours")
    if crc32(datagram) != _INTACT:
        raise CorruptPacket("the checksum does not fit")
    try:
        word, transfer, seq, number, ts_val, ts_ecr = _unpack(datagram)
        kind = _KINDS[word]
    except (struct.error, KeyError):
        raise CorruptPacket("the header is not one of ours") from None
    # Past the named constructor, which takes three times as long.
    packet = (
        kind,
        seq,
        datagram[_PAYLOAD],
        None if ts_val == _NO_TIME else ts_val / 1e6,
        None if ts_ecr == _NO_TIME else ts_ecr / 1e6,
    )
    return _new_packet(Packet, packet), transfer, number


def damaged(datagram: bytes, number: int) -> bytes:
    """Return the datagram with one bit flipped; `number` chooses which one."""
    at = number * 7 % len(datagram)
    flipped = bytes((datagram[at] ^ 1 << number % 8,))
    return datagram[:at] + flipped + datagram[at + 1 :]


def all_plain(
    packets: Sequence[Numbered], largest: int, arrived: set[int] | None
) -> bool:
    """Whether all are for a machine, none is too large, and none a copy of another.

    Nearly always they are, and one look at all costs much less than one at each.
    largest: bytes of a payload. arrived: numbers of earlier packets, if copies matter;
        those of plain ones are added.
    """
    came, numbers = zip(*packets, strict=True)
    kinds, _, payloads, _, _ = zip(*came, strict=True)
    if max(map(len, payloads)) > largest or not MACHINE_KINDS.issuperset(kinds):
        return False
    if arrived is not None:
        if len({*numbers}) < len(numbers) or not arrived.isdisjoint(numbers):
            return False
        arrived.update(numbers)
    return True
