"""Seals: what the other peer made comes through once, and nothing else does."""

from __future__ import annotations

import itertools
import threading
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2plab.core.packet import DATA, MAX_PAYLOAD, Packet, encode
from p2plab.errors import Forged, Replayed
from p2plab.net.session import (
    CALLEE,
    CALLER,
    KEY_SIZE,
    SEAL_SIZE,
    WINDOW,
    Session,
    session_id,
)

ID = bytes(range(8))
KEY = Random(1).randbytes(KEY_SIZE)
several = settings(derandomize=True, deadline=None, database=None, max_examples=200)


def both(id: bytes = ID, key: bytes = KEY) -> tuple[Session, Session]:
    """Alice, who asked for the introduction, and Bob."""
    return Session(id, key, CALLER, "bob"), Session(id, key, CALLEE, "alice")


def test_what_one_side_seals_the_other_opens_in_both_directions() -> None:
    alice, bob = both()
    largest = encode(Packet(DATA, 0, bytes(MAX_PAYLOAD)))
    for here, there in ((alice, bob), (bob, alice)):
        for datagram in (b"", b"x", largest):
            sealed = here.seal(datagram)
            assert len(sealed) == len(datagram) + SEAL_SIZE <= 65_507
            assert session_id(sealed) == ID
            assert there.open(sealed) == datagram
        assert (there.forged, there.replayed) == (0, 0)


def test_every_flipped_bit_every_cut_and_every_tail_is_forged() -> None:
    alice, bob = both()
    sealed = alice.seal(b"five!")
    harmed = [sealed[:length] for length in range(len(sealed))] + [sealed + b"\0"]
    harmed.append(sealed[:2] + bytes([255] * 6) + sealed[8:])  # a counter far ahead
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        harmed.append(bytes(changed))
    for datagram in harmed:
        with pytest.raises(Forged, match="not made by alice"):
            bob.open(datagram)
    assert (bob.forged, bob.replayed) == (len(harmed), 0)
    assert bob.open(sealed) == b"five!", "forgeries must not spoil the real one"


@several
@given(st.binary(max_size=200))
@example(b"s1" + bytes(6) + ID + bytes(16))
def test_any_bytes_are_forged_and_nothing_worse(datagram: bytes) -> None:
    alice, bob = both()
    for session in (alice, bob):
        with pytest.raises(Forged):
            session.open(datagram)
    named = session_id(datagram)
    assert named is None or named == datagram[8:16]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(both(key=bytes(KEY_SIZE))[0], id="another key"),
        pytest.param(both(id=bytes(8))[0], id="another session with the same key"),
        pytest.param(Session(ID, KEY, CALLEE, "bob"), id="the same role, or a mirror"),
    ],
)
def test_who_is_not_the_other_side_of_this_session_opens_nothing(
    other: Session,
) -> None:
    _, bob = both()
    sealed = other.seal(b"I am alice")
    with pytest.raises(Forged):
        bob.open(sealed)
    with pytest.raises(Forged):
        bob.open(sealed[:8] + ID + sealed[16:])


@several
@given(st.lists(st.integers(0, 3 * WINDOW - 1), max_size=60), st.integers(1, 9))
def test_any_order_with_copies_each_packet_once_and_all_within_the_window(
    order: list[int], seed: int
) -> None:
    alice, bob = both()
    packets = [alice.seal(bytes(2))]
    packets += [alice.seal(bytes(2)) for _ in range(max(order, default=0))]
    near = Random(seed).choices(order or [0], k=60)  # copies, near and far
    seen: set[int] = set()
    newest, refused = -1, 0
    for number in order + near:
        try:
            bob.open(packets[number])
        except Replayed:
            refused += 1
            assert number in seen or number <= newest - WINDOW, "refused for nothing"
        else:
            assert number not in seen, "read twice"
        seen.add(number)
        newest = max(newest, number)
    assert (bob.forged, bob.replayed) == (0, refused)


def test_threads_that_seal_at_once_never_use_one_counter_twice() -> None:
    alice, bob = both()
    sealed: list[list[bytes]] = [[], [], []]

    def seal(mine: list[bytes]) -> None:
        mine += [alice.seal(b"x") for _ in range(1_000)]

    threads = [threading.Thread(target=seal, args=(mine,)) for mine in sealed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in itertools.chain(*sealed):
        bob.open(each)


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(encode(Packet(DATA, 1, bytes(99))), id="a packet without a seal"),
        pytest.param(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(40), id="STUN"),
        pytest.param(both()[0].seal(b"")[:-1], id="one byte too short"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_sealed_belongs_to_no_session(datagram: bytes) -> None:
    assert session_id(datagram) is None


def test_neither_repr_nor_errors_show_the_key() -> None:
    alice, _ = both()
    assert repr(alice) == "<Session 0001020304050607 with bob, as the caller>"
    told = [repr(alice), str(alice)]
    for wrong in ((b"short", KEY, CALLER), (ID, KEY[:16], CALLER), (ID, KEY, "you")):
        with pytest.raises(ValueError, match="an id of 8 bytes, a key of 32") as caught:
            Session(*wrong, "bob")
        told.append(str(caught.value))
    for words in told:
        assert KEY[:4].hex() not in words
        assert repr(KEY[:4])[2:-1] not in words
