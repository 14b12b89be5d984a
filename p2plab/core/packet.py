"""A packet, the bytes that carry it over the wire, and its checksum."""

from __future__ import annotations

import struct
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
_KINDS: Final = frozenset(Kind)

MAX_PAYLOAD: Final = 65_000  # a UDP datagram over IPv4 holds 65,507 bytes
# Bytes that get through everywhere: every link of IPv6 carries packets of 1,280 bytes
# (RFC 8200, section 5), and so do common tunnels. Of these go 40 for IPv6, 8 for UDP,
# 32 for a seal, 28 for our header, and 22 by which a coded packet may be longer.
PAYLOAD_SIZE: Final = 1150


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
#  |       "p"     |       "2"     |      kind     |   version: 4  |
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
#  | checksum: CRC-32 of everything above                          |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# The first bit of `transfer` is set in what its receiver sends.
# Big-endian, as everything on the Internet (RFC 791, app. B).
# `number` never repeats within a transfer, so that a trace can tell two copies of
# one packet apart (RFC 9000, section 12.3, has it for the same reason).

_HEADER: Final = struct.Struct("!2sBBIiIII")
_CHECKSUM: Final = struct.Struct("!I")
MAGIC: Final = b"p2"
_VERSION: Final = 4
HEADER_SIZE: Final = _HEADER.size + _CHECKSUM.size  # [bytes]
_NO_TIME: Final = 0xFFFFFFFF
TIMESTAMP_PERIOD: Final = _NO_TIME / 1e6  # after which timestamps begin anew [s]


def encode(packet: Packet, transfer: int = 0, number: int = 0) -> bytes:
    """Return the datagram that carries `packet`.

    transfer, number: 0 to 2**32 - 1, see the picture above.
    Timestamps are rounded to microseconds and begin anew after 71 minutes.
    Raises ValueError for a seq outside 32 bits or a payload over MAX_PAYLOAD.
    """
    if len(packet.payload) > MAX_PAYLOAD:
        size = len(packet.payload)
        raise ValueError(f"a payload holds {MAX_PAYLOAD} bytes, got {size}")
    try:
        header = _HEADER.pack(
            MAGIC,
            packet.kind,
            _VERSION,
            transfer,
            packet.seq,
            number,
            _to_word(packet.ts_val),
            _to_word(packet.ts_ecr),
        )
    except struct.error as why:
        raise ValueError(f"{packet!r} does not fit its header: {why}") from why
    checked = header + packet.payload
    return checked + _CHECKSUM.pack(crc32(checked))


def decode(datagram: bytes) -> tuple[Packet, int, int]:
    """Return the packet in `datagram`, its transfer and its transmission number.

    Raises CorruptPacket for anything that `encode` has not made.
    """
    if not HEADER_SIZE <= len(datagram) <= HEADER_SIZE + MAX_PAYLOAD:
        raise CorruptPacket(f"{len(datagram)} bytes are no packet of ours")
    checked, checksum = datagram[: -_CHECKSUM.size], datagram[-_CHECKSUM.size :]
    if _CHECKSUM.pack(crc32(checked)) != checksum:
        raise CorruptPacket("the checksum does not fit")
    header = _HEADER.unpack_from(checked)
    magic, kind, version, transfer, seq, number, ts_val, ts_ecr = header
    if magic != MAGIC or version != _VERSION or kind not in _KINDS:
        raise CorruptPacket("the header is not one of ours")
    payload = checked[_HEADER.size :]
    packet = Packet(Kind(kind), seq, payload, _to_time(ts_val), _to_time(ts_ecr))
    return packet, transfer, number


def _to_word(time: float | None) -> int:
    return _NO_TIME if time is None else round(time * 1e6) % _NO_TIME


def _to_time(word: int) -> float | None:
    return None if word == _NO_TIME else word / 1e6


def damaged(datagram: bytes, number: int) -> bytes:
    """Return the datagram with one bit flipped; `number` chooses which one."""
    at = number * 7 % len(datagram)
    flipped = bytes((datagram[at] ^ 1 << number % 8,))
    return datagram[:at] + flipped + datagram[at + 1 :]
