"""The packet's bytes: every field survives, and nothing damaged gets through."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.core.packet import (
    ACK,
    DATA,
    HEADER_SIZE,
    MAX_PAYLOAD,
    TIMESTAMP_PERIOD,
    Kind,
    Packet,
    damaged,
    decode,
    encode,
)
from p2plab.errors import CorruptPacket

STAMPS = st.none() | st.floats(0, 4294)  # [s]; they wrap after 2**32 microseconds
WORDS = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    Packet,
    st.sampled_from(Kind),
    st.integers(-(2**31), 2**31 - 1),
    st.binary(max_size=64),
    STAMPS,
    STAMPS,
)
several = settings(derandomize=True, deadline=None, database=None, max_examples=200)


@several
@given(PACKETS, WORDS, WORDS)
def test_every_field_survives_the_wire(
    packet: Packet, transfer: int, number: int
) -> None:
    got, *numbers = decode(encode(packet, transfer, number))
    assert decode(encode(got))[0] == got  # a timestamp is not rounded again
    assert numbers == [transfer, number]
    assert got[:3] == packet[:3]
    assert type(got.kind) is Kind
    assert got[3:] == pytest.approx(packet[3:], abs=1e-6)


def test_a_stamp_of_all_bits_is_the_first_of_the_next_turn_and_not_none() -> None:
    for turns in (1, 2):
        ts_val = turns * TIMESTAMP_PERIOD
        got, _, _ = decode(encode(Packet(ACK, 0, ts_val=ts_val, ts_ecr=ts_val - 1e-6)))
        assert got.ts_val == 0.0
        assert got.ts_ecr == pytest.approx(TIMESTAMP_PERIOD - 1e-6)


@several
@given(st.binary(max_size=200))
def test_random_bytes_are_no_packet(datagram: bytes) -> None:
    with pytest.raises(CorruptPacket):
        decode(datagram)


@settings(several, max_examples=50)
@given(PACKETS)
def test_a_flipped_bit_a_lost_end_and_a_tail_are_noticed(packet: Packet) -> None:
    datagram = encode(packet, 7, 9)
    wrong = [damaged(datagram, number) for number in range(8 * len(datagram))]
    wrong += [datagram[:length] for length in range(len(datagram))]
    for each in (*wrong, datagram + b"\0"):
        with pytest.raises(CorruptPacket):
            decode(each)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, ord("q")), (2, 0), (2, max(Kind) + 1), (3, 0), (3, 1 | 8)],
    ids=["the magic", "no kind", "an unknown kind", "no version", "another version"],
)
def test_a_header_that_is_not_ours_is_refused_even_with_a_good_checksum(
    place: int, value: int
) -> None:
    header = bytearray(encode(Packet(DATA, 1))[: HEADER_SIZE - 4])
    header[place] = value
    with pytest.raises(CorruptPacket, match="not one of ours"):
        decode(bytes(header) + struct.pack("!I", zlib.crc32(header)))


def test_the_largest_payload_travels_and_one_byte_more_does_not() -> None:
    packet = Packet(DATA, 0, bytes(MAX_PAYLOAD))
    datagram = encode(packet)
    assert len(datagram) == HEADER_SIZE + MAX_PAYLOAD <= 65_507
    assert decode(datagram)[0] == packet
    with pytest.raises(ValueError, match="65000 bytes, got 65001"):
        encode(Packet(DATA, 0, bytes(MAX_PAYLOAD + 1)))
    with pytest.raises(CorruptPacket, match="no packet of ours"):
        decode(datagram + b"\0")


@pytest.mark.parametrize(
    ("seq", "transfer", "number"),
    [(2**31, 0, 0), (-(2**31) - 1, 0, 0), (0, -1, 0), (0, 2**32, 0), (0, 0, 2**32)],
)
def test_a_number_that_needs_more_than_32_bits_is_refused(
    seq: int, transfer: int, number: int
) -> None:
    with pytest.raises(ValueError, match="does not fit its header"):
        encode(Packet(DATA, seq), transfer, number)
