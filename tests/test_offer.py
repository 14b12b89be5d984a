"""Offers: what a stranger may say to open a transfer, and how one says no."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

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
    st.none() | st.integers(1, 31),  # few for a large window are a lesson
    st.sampled_from(["", "ann", "Ölçü-4", "حسن", "a b"]),
)
def test_an_offer_comes_out_as_it_went_in(
    protocol: str, window: int, timeout: float | None, bits: int | None, name: str
) -> None:
    setup = Setup(protocol, window, timeout, seq_bits=bits)
    offer = Offer(name, CONTENT, setup)
    assert Offer.from_bytes(offer.to_bytes()) == offer


@given(
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [b"[" * 4000, b'{"sender":' * 300, b"\xff\xfe", b" " * (MAX_OFFER + 1)]
    )
)
def test_random_bytes_and_json_are_no_offer(given: bytes) -> None:
    with pytest.raises(BadContent):
        Offer.from_bytes(given)


@given(
    st.sampled_from(
        [(name,) for name in ("sender", "content", "setup")]
        + [("content", name) for name in asdict(CONTENT)]
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
    ("path", "value"),
    [
        (("content", "name"), "../../passwd"),
        (("setup", "protocol"), "carrier pigeon"),
        (("setup", "window"), 1.5),
        (("setup", "timeout"), float("nan")),
        (("setup", "colour"), "red"),
        (("sender",), "a" * 65),
        (("sender",), "a\u202eb"),
    ],
)
def test_a_malformed_offer_is_refused_by_the_name_of_its_fault(
    path: tuple[str, ...], value: object
) -> None:
    named = "name" if path == ("sender",) else path[-1]
    with pytest.raises(BadContent, match=named):
        Offer.from_bytes(changed(*path, to=value))


def test_limits_take_what_is_within_them_and_name_what_is_not() -> None:
    assert Limits().objection(of_size(MAX_BYTES), arriving=0) is None
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
