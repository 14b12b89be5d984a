"""Offers: what a stranger may say to open a transfer, and how one says no."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2plab.content.chunks import cut
from p2plab.content.content import MAX_BYTES, Content
from p2plab.content.offer import MAX_OFFER, MAX_WORDS, Limits, Offer, to_words, words
from p2plab.errors import BadContent
from p2plab.protocols import PROTOCOLS, Setup

CONTENT = cut(b"hello").content
OFFER = Offer("ann", CONTENT, Setup())

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def changed(*path: str, to: object) -> bytes:
    """Return the offer's JSON with another value in one place."""
    offer: Any = json.loads(OFFER.to_bytes())
    place = offer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(offer).encode()


def of_size(size: int) -> Offer:
    return Offer("ann", Content("file", "f", size, 1000, "0" * 64), Setup())


@given(
    st.sampled_from(sorted(PROTOCOLS)),
    st.integers(1, 100_000),
    st.none() | st.floats(0.001, 3599),
    st.none() | st.integers(1, 31),
    st.sampled_from(["", "ann", "Ölçü-4", "حسن", "a b"]),
)
def test_an_offer_comes_out_as_it_went_in(
    protocol: str, window: int, timeout: float | None, bits: int | None, name: str
) -> None:
    setup = Setup(protocol, window, timeout, seq_bits=bits)
    offer = Offer(name, CONTENT, setup)
    assert Offer.from_bytes(offer.to_bytes()) == offer


def test_a_window_may_be_one_of_numpys_numbers() -> None:
    window: Any = np.arange(5)[4]
    offer = Offer("ann", CONTENT, Setup(window=window))
    assert Offer.from_bytes(offer.to_bytes()).setup.window == 4


@given(st.binary(max_size=200) | st.binary(min_size=MAX_OFFER, max_size=MAX_OFFER + 9))
def test_random_bytes_are_no_offer(given: bytes) -> None:
    with pytest.raises(BadContent):
        Offer.from_bytes(given)


@given(json_values)
def test_random_json_is_no_offer(value: object) -> None:
    with pytest.raises(BadContent):
        Offer.from_bytes(json.dumps(value).encode())


@given(
    st.sampled_from(
        [(name,) for name in ("sender", "content", "setup")]
        + [("content", name) for name in CONTENT.to_dict()]
        + [("setup", name) for name in Setup().to_dict()]
    ),
    json_values,
)
def test_an_offer_with_any_value_anywhere_is_possible_or_refused(
    path: tuple[str, ...], value: object
) -> None:
    try:
        offer = Offer.from_bytes(changed(*path, to=value))
    except BadContent:
        return  # and nothing else
    assert Offer.from_bytes(offer.to_bytes()) == offer
    offer.setup.receiver()


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("content", "size"), 10**30, "size"),
        (("content", "size"), -1, "size"),
        (("content", "size"), "5", "size"),
        (("content", "size"), True, "size"),
        (("content", "chunk_size"), 0, "chunk_size"),
        (("content", "chunk_size"), 10**6, "chunk_size"),
        (("content", "sha256"), "no", "sha256"),
        (("content", "name"), "../../passwd", "name"),
        (("content", "kind"), "virus", "kind"),
        (("content", "order"), "tiles", "order"),
        (("content", "width"), 7, "width"),
        (("content",), [], "fields"),
        (("setup", "protocol"), "carrier pigeon", "carrier pigeon"),
        (("setup", "protocol"), ["stop_and_wait"], "protocol"),
        (("setup", "window"), 0, "window"),
        (("setup", "window"), 10**9, "window"),
        (("setup", "window"), 1.5, "window"),
        (("setup", "timeout"), -1, "timeout"),
        (("setup", "timeout"), float("nan"), "timeout"),
        (("setup", "timeout"), float("inf"), "timeout"),
        (("setup", "seq_bits"), 32, "seq_bits"),
        (("setup", "colour"), "red", "colour"),
        (("sender",), None, "name"),
        (("sender",), "a" * 65, "64"),
        (("sender",), "\ud800", "invisible"),
        (("sender",), "a\x1b[2J", "invisible"),
        (("sender",), "a\u202eb", "invisible"),
    ],
)
def test_a_malformed_offer_is_refused_by_the_name_of_its_fault(
    path: tuple[str, ...], value: object, told: str
) -> None:
    with pytest.raises(BadContent, match=told):
        Offer.from_bytes(changed(*path, to=value))


@pytest.mark.parametrize(
    "given", [b"[" * 4000, b'{"sender":' * 300, b"\xff\xfe", b"1" * 4096, b"{}", b""]
)
def test_what_is_hard_to_parse_is_refused_all_the_same(given: bytes) -> None:
    with pytest.raises(BadContent, match="no offer"):
        Offer.from_bytes(given)


def test_an_offer_as_long_as_a_book_is_not_even_read() -> None:
    with pytest.raises(BadContent, match=f"at most {MAX_OFFER} bytes"):
        Offer.from_bytes(b" " * (MAX_OFFER + 1))


def test_a_window_of_a_hundred_with_one_bit_is_allowed_for_it_is_a_lesson() -> None:
    offer = Offer("ann", CONTENT, Setup(window=100, seq_bits=1))
    assert Offer.from_bytes(offer.to_bytes()) == offer


def test_limits_take_what_is_within_them_and_name_what_is_not() -> None:
    limits = Limits(max_bytes=1000, max_transfers=2)
    assert limits.objection(of_size(1000), arriving=1) is None
    assert "1,001 bytes" in str(limits.objection(of_size(1001), arriving=0))
    assert "2 transfers" in str(limits.objection(of_size(1000), arriving=2))


@given(st.binary(max_size=3000))
def test_words_of_a_stranger_can_be_shown_on_one_line(given: bytes) -> None:
    text = words(given)
    assert text == "" or text.isprintable()
    assert len(text) <= MAX_WORDS


@pytest.mark.parametrize(
    "why", ["no", "نه", "x" * 5000, "\ud800", True, ValueError("no")]
)
def test_any_reason_can_be_sent(why: object) -> None:
    assert len(to_words(why)) <= MAX_WORDS
    assert words(to_words(why))


def test_who_offers_a_protocol_of_ones_own_hears_that_both_sides_need_it() -> None:
    with pytest.raises(
        BadContent, match=r"^there is no protocol 'mine' where you want"
    ):
        Offer.from_bytes(changed("setup", "protocol", to="mine"))


def test_whatever_can_be_cut_is_accepted_by_default() -> None:
    assert Limits().objection(of_size(MAX_BYTES), 0) is None
