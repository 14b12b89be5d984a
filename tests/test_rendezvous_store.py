"""Names, leases and introductions: one set of promises over three kinds of Redis."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import SEEN, end_lease, names, refusal, take
from stores import anyio_backend as anyio_backend
from stores import cluster as cluster
from stores import real as real
from stores import store as store

from p2plab.rendezvous.model import (
    BEGINNING,
    INTRODUCTION_LIFE,
    LOBBY,
    Candidate,
    Met,
    News,
    Notice,
    Quotas,
    legal_address,
    legal_name,
)
from p2plab.rendezvous.store import INBOX_LIFE, Refused, Store, connect, key, source_of

pytestmark = pytest.mark.anyio

OWN = "a token of one's own, long enough"
SESSION = "00c0ffee00c0ffee"


async def test_a_free_name_is_given_with_a_token_and_kept_by_heartbeats(
    store: Store,
) -> None:
    ann = await take(store, "ann")
    assert (ann.name, ann.room, ann.lease, ann.seen) == ("ann", LOBBY, 60, SEEN)
    assert len(ann.token) >= 40
    assert ann.token not in str(await store.redis.hgetall(key(LOBBY, "p:ann")))
    known = await store.get(LOBBY, "ann")
    assert known.since == pytest.approx(time.time(), abs=60)
    assert (await store.page(LOBBY, "", 100)).peers == [known]
    assert (await take(store, "ann", ann.token, lease=30.0)).token == ann.token
    await store.redis.pexpire(key(LOBBY, "p:ann"), 1_000)
    assert (await store.beat(LOBBY, "ann", ann.token)).lease == 30
    assert await store.redis.pttl(key(LOBBY, "p:ann")) > 20_000


async def test_of_many_claims_at_once_one_wins_and_the_others_hear_how_long_to_wait(
    store: Store,
) -> None:
    claims = (take(store, "ann", token) for token in 10 * ["", "somebody else's"])
    results = await asyncio.gather(*claims, return_exceptions=True)
    refusals = [each for each in results if isinstance(each, Refused)]
    assert len(refusals) == 19
    for refused in (*refusals, await refusal(take(store, "ann", OWN))):
        assert refused.reason == "name_taken"
        assert refused.retry_after == pytest.approx(60, abs=5)


async def test_only_the_owner_beats_leaves_asks_and_reads(store: Store) -> None:
    await two(store)
    for token in ("guess", "", OWN):
        for wish in (
            store.beat(LOBBY, "ann", token),
            store.leave(LOBBY, "ann", token),
            store.inbox(LOBBY, "ann", token),
            ask(store, token),
        ):
            assert (await refusal(wish)).reason == "not_owner"
    assert await names(store) == ["ann", "bob"]


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_leaves_or_lets_its_lease_end_is_gone_and_the_name_is_anybodys(
    store: Store, leaves: bool
) -> None:
    ann = await take(store, "ann", lease=5.0)
    if leaves:
        await store.leave(LOBBY, "ann", ann.token)
    else:
        end = round(1_000 * time.time()) + 50
        await store.redis.pexpireat(key(LOBBY, "p:ann"), end)
        await store.redis.zadd(key(LOBBY, "exp"), {"ann": end})
    async with asyncio.timeout(5):
        while await names(store):
            await asyncio.sleep(0.002)
    owner = (LOBBY, "ann", ann.token)
    for wish in (store.beat(*owner), store.leave(*owner), store.inbox(*owner)):
        assert (await refusal(wish)).reason == "not_registered"
    assert (await refusal(store.get(LOBBY, "ann"))).reason == "no_such_peer"
    assert (await take(store, "ann")).token != ann.token
    assert (await refusal(store.beat(*owner))).reason == "not_owner"


async def test_ended_names_are_not_listed_and_reaped_a_hundred_at_a_time(
    store: Store,
) -> None:
    index = key(LOBBY, "names")
    many = [f"p{number:03}" for number in range(250)]
    await store.redis.zadd(index, dict.fromkeys(many, 0))
    await end_lease(store, *many)
    for name, left in (("a", 151), ("b", 52), ("c", 3)):
        await take(store, name)
        assert await store.redis.zcard(index) == left
    assert await names(store) == ["a", "b", "c"]
    assert await store.redis.zrange(key(LOBBY, "exp"), 0, -1) == ["a", "b", "c"]


async def test_pages_hold_every_name_once_in_the_order_of_their_bytes(
    store: Store,
) -> None:
    many = [f"p{number}" for number in range(23)] + ["Zoë", "آوا", "हिन्दी", "李"]
    tokens = {name: (await take(store, name)).token for name in many}
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        part = await store.page(LOBBY, cursor, 5)
        assert len(part.peers) <= 5
        seen += [found.name for found in part.peers]
        cursor = part.next
        if cursor is not None:  # the list goes on after a name that has gone
            await store.leave(LOBBY, cursor, tokens[cursor])
    assert seen == sorted(many, key=str.encode)


async def test_any_cursor_is_only_a_place_in_the_order(store: Store) -> None:
    await take(store, "ann")
    for cursor in ("\0", "zzz", "\uffff", "(", "+", "-", "[a"):
        assert await names(store, cursor) == (["ann"] if cursor < "ann" else [])


async def test_a_source_gets_so_many_new_names_a_minute_but_refreshes_freely(
    store: Store,
) -> None:
    store.limits = Quotas(names_per_minute=2)
    for _ in range(2):  # as when the first answer was lost
        assert (await take(store, "a", OWN)).token == OWN
    await take(store, "b")
    refused = await refusal(take(store, "c"))
    assert refused.reason == "too_many_names"
    assert refused.retry_after == pytest.approx(30, abs=5)
    await take(store, "a", OWN)
    await take(store, "c", seen="203.0.113.10")
    await store.redis.pexpireat(
        key("", f"rate:names from {SEEN}"), 1
    )  # the minute is over
    await take(store, "d")


async def test_a_full_room_says_when_the_first_lease_ends(store: Store) -> None:
    store.limits = Quotas(peers=2)
    await take(store, "a", lease=40.0)
    second = await take(store, "b")
    refused = await refusal(take(store, "c"))
    assert refused.reason == "room_full"
    assert refused.retry_after == pytest.approx(40, abs=5)
    await take(store, "b", second.token)  # who is in stays in
    await end_lease(store, "a")
    await take(store, "c")


async def test_there_are_so_many_rooms_and_an_empty_one_makes_place(
    store: Store,
) -> None:
    store.limits = Quotas(rooms=1)
    await take(store, "ann", room="red", lease=40.0)
    refused = await refusal(take(store, "bob", room="blue"))
    assert refused.reason == "too_many_rooms"
    assert refused.retry_after == pytest.approx(40, abs=5)
    await take(store, "bob", room="red")
    await store.redis.zadd(key("", "rooms"), {"red": 1})
    await take(store, "bob", room="blue")


async def test_one_name_may_live_in_two_rooms(store: Store) -> None:
    red, blue = [await take(store, "ann", room=room) for room in ("red", "blue")]
    assert red.token != blue.token
    await store.leave("red", "ann", red.token)
    assert await names(store, room="red") == []
    assert await names(store, room="blue") == ["ann"]


async def test_who_shows_its_last_nonces_has_its_observed_address_in_its_record(
    store: Store,
) -> None:
    ann = await take(store, "ann")
    await store.observed(ann.nonce, "203.0.113.9", 40_001)
    await store.observed(ann.nonce, "2001:db8::9", 40_002)
    row = await store.redis.hgetall(key(LOBBY, "p:ann"))
    assert row["observed4"] == "203.0.113.9 40001"
    assert row["observed6"] == "2001:db8::9 40002"
    second = (await store.beat(LOBBY, "ann", ann.token)).nonce
    assert await store.observed(ann.nonce, "203.0.113.9", 40_003), "on its way"
    assert await store.observed(second, "203.0.113.9", 40_003)
    await store.beat(LOBBY, "ann", ann.token)
    lost = ["", "/", "//", "lobby/ann/guess", "lobby/bob/x", "a/b/c/d", "/" * 99]
    for nonce in (ann.nonce, *lost):
        assert not await store.observed(nonce, "198.51.100.1", 1)
    assert await store.redis.exists(key(LOBBY, "p:bob")) == 0
    await take(store, "ann", ann.token)
    assert "observed4" not in await store.redis.hgetall(key(LOBBY, "p:ann"))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "return", "beat", "leave", "end"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_the_store_behaves_like_a_dictionary_of_tokens(
    steps: list[tuple[str, str]],
) -> None:
    async def compare() -> None:
        held: dict[str, str] = {}
        store = Store()
        for step, name in steps:
            await do(step, name, store, held)
            assert await names(store) == sorted(held)
        await store.aclose()

    asyncio.run(compare())


async def do(step: str, name: str, store: Store, held: dict[str, str]) -> None:
    token = held.get(name)
    match step, token:
        case "claim", None:
            held[name] = (await take(store, name)).token
        case "claim", _:
            assert (await refusal(take(store, name))).reason == "name_taken"
        case "return", str():
            assert (await take(store, name, token)).token == token
        case "beat", str():
            assert (await store.beat(LOBBY, name, token)).lease == 60
        case "leave", str():
            await store.leave(LOBBY, name, held.pop(name))
        case "end", str():
            await end_lease(store, name)
            del held[name]
        case "beat" | "leave", None:
            wish = getattr(store, step)(LOBBY, name, "x")
            assert (await refusal(wish)).reason == "not_registered"


# Introductions


class Two(NamedTuple):
    """The tokens of ann, who asks, and of bob."""

    ann: str
    bob: str


async def two(store: Store) -> Two:
    return Two((await take(store, "ann")).token, (await take(store, "bob")).token)


async def ask(store: Store, token: str, session: str = SESSION, to: str = "bob") -> str:
    return (await store.ask(LOBBY, "ann", token, session, to, SEEN)).state


async def answer(
    store: Store, token: str, accept: bool = True, why: str = "", name: str = "bob"
) -> str:
    return (await store.answer(LOBBY, name, token, SESSION, accept, why)).state


async def inbox(
    store: Store, name: str, token: str, after: str = BEGINNING
) -> list[News]:
    return (await store.inbox(LOBBY, name, token, after)).events


async def test_who_is_asked_and_accepts_is_told_together_with_the_caller(
    store: Store,
) -> None:
    ann = await take(store, "ann")
    bob = await take(store, "bob", udp_port=6002)
    assert await store.observed(ann.nonce, "198.51.100.7", 40_000)
    assert await ask(store, ann.token) == "asked"
    told = await store.inbox(LOBBY, "bob", bob.token)
    assert told.events == [Notice("asked", SESSION, "ann")], (
        "and nothing more before the answer"
    )
    assert await inbox(store, "ann", ann.token) == []
    assert await answer(store, bob.token) == "met"
    (here,) = await inbox(store, "ann", ann.token)
    (there,) = await inbox(store, "bob", bob.token, told.next)
    assert isinstance(here, Met)
    assert isinstance(there, Met)
    assert (here.role, here.peer) == ("caller", "bob")
    assert (there.role, there.peer) == ("callee", "ann")
    assert here.since == (await store.get(LOBBY, "bob")).since
    assert here.key == there.key
    assert len(here.key) == 32
    assert here.addresses == ("192.168.1.7", "2001:db8::7")
    assert (here.tcp_port, here.udp_port) == (5001, 6002)
    assert 0 <= here.start_in < 1
    assert there.candidates == (
        Candidate("host", "192.168.1.7", 5002),
        Candidate("host", "2001:db8::7", 5002),
        Candidate("observed", "198.51.100.7", 40_000),
    )


async def test_who_refuses_says_why_to_the_caller_and_reveals_nothing(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    assert await answer(store, tokens.bob, False, "busy") == "refused"
    assert await inbox(store, "ann", tokens.ann) == [
        Notice("refused", SESSION, "bob", "busy")
    ]
    assert await inbox(store, "bob", tokens.bob) == [Notice("asked", SESSION, "ann")]


@pytest.mark.parametrize("accept", [True, False])
async def test_asking_and_answering_again_changes_nothing(
    store: Store, accept: bool
) -> None:
    tokens = await two(store)
    state = "met" if accept else "refused"
    for _ in range(3):
        assert await ask(store, tokens.ann) == "asked"
    assert len(await inbox(store, "bob", tokens.bob)) == 1
    for _ in range(3):
        assert await answer(store, tokens.bob, accept) == state
    assert await ask(store, tokens.ann) == state
    assert len(await inbox(store, "ann", tokens.ann)) == 1
    for wish in (
        answer(store, tokens.bob, not accept),
        answer(store, tokens.ann, False, "", "ann"),  # withdraw
    ):
        assert (await refusal(wish)).reason == "answered_already"


async def test_who_has_asked_may_withdraw_as_long_as_there_is_no_answer(
    store: Store,
) -> None:
    tokens = await two(store)
    withdraw = (tokens.ann, False, "", "ann")
    refused = await refusal(answer(store, *withdraw))
    assert refused.reason == "no_such_introduction"
    await ask(store, tokens.ann)
    place = (await store.inbox(LOBBY, "bob", tokens.bob)).next
    for _ in range(2):  # twice is once
        assert await answer(store, *withdraw) == "withdrawn"
    told = await inbox(store, "bob", tokens.bob, place)
    assert told == [Notice("withdrawn", SESSION, "ann")]
    for accept in (True, False):
        refused = await refusal(answer(store, tokens.bob, accept))
        assert refused.reason == "caller_gone"
    assert await ask(store, tokens.ann) == "withdrawn"
    assert await inbox(store, "bob", tokens.bob) == told, "who comes later sees no call"
    assert await inbox(store, "ann", tokens.ann) == []


async def test_an_introduction_belongs_to_the_two_it_is_about(store: Store) -> None:
    tokens = await two(store)
    carol = (await take(store, "carol")).token
    await ask(store, tokens.ann)
    for wish, reason in (
        (ask(store, tokens.ann, to="carol"), "session_taken"),
        (store.ask(LOBBY, "bob", tokens.bob, SESSION, "ann", SEEN), "session_taken"),
        (answer(store, "guess"), "not_owner"),
        (answer(store, tokens.ann), "not_owner"),
        (answer(store, tokens.ann, name="ann"), "no_such_introduction"),
        (answer(store, carol, name="carol"), "no_such_introduction"),
    ):
        assert (await refusal(wish)).reason == reason


async def test_who_is_not_there_is_not_asked_and_does_not_answer(store: Store) -> None:
    tokens = await two(store)
    assert (await refusal(ask(store, tokens.ann, to="carol"))).reason == "no_such_peer"
    await ask(store, tokens.ann)
    await end_lease(store, "ann")
    assert (await refusal(answer(store, tokens.bob))).reason == "caller_gone"
    assert (await refusal(ask(store, tokens.ann))).reason == "not_registered"
    await end_lease(store, "bob")
    assert (await refusal(answer(store, tokens.bob))).reason == "not_registered"


async def test_whoever_takes_a_name_over_gets_nothing_that_was_meant_for_another(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    for name, token in (("ann", tokens.ann), ("bob", tokens.bob)):
        await store.leave(LOBBY, name, token)
    later = await two(store)
    assert await inbox(store, "ann", later.ann) == []
    assert await inbox(store, "bob", later.bob) == []
    for wish in (
        answer(store, later.bob),
        store.meeting(LOBBY, "ann", later.ann, SESSION),
    ):
        assert (await refusal(wish)).reason == "no_such_introduction"


async def test_a_call_reaches_whoever_has_the_name_when_it_is_repeated(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await store.leave(LOBBY, "bob", tokens.bob)
    bob = (await take(store, "bob")).token
    assert (await refusal(answer(store, bob))).reason == "no_such_introduction"
    for _ in range(2):
        await ask(store, tokens.ann)
        assert len(await inbox(store, "bob", bob)) == 1
        await store.redis.delete(key(LOBBY, "in:bob"))  # and so it fell out of it
    assert await answer(store, bob) == "met"


async def test_introductions_and_keys_end_by_themselves_and_hold_no_token(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    (met,) = await inbox(store, "ann", tokens.ann)
    assert isinstance(met, Met)
    row, redis = str(await store.redis.hgetall(key(LOBBY, f"i:{SESSION}"))), store.redis
    assert not any(secret in row for secret in (*tokens, met.key.hex()))
    for name, life in (
        (f"i:{SESSION}", 1e3 * INTRODUCTION_LIFE),
        ("in:ann", INBOX_LIFE),
    ):
        assert 0 < await redis.pttl(key(LOBBY, name)) <= life
    await redis.delete(key(LOBBY, "in:ann"))
    old = {"what": "asked", "session": SESSION, "peer": "bob"}
    await redis.xadd(key(LOBBY, "in:ann"), old, id="1-0")
    assert await inbox(store, "ann", tokens.ann) == [], "its time is over"


async def test_a_peer_may_be_introduced_to_itself(store: Store) -> None:
    bob = (await take(store, "bob")).token
    await store.ask(LOBBY, "bob", bob, SESSION, "bob", SEEN)
    await answer(store, bob)
    told = await inbox(store, "bob", bob)
    assert [(each.what, each.peer) for each in told] == [
        ("asked", "bob"),
        ("met", "bob"),
    ]


@pytest.mark.parametrize("of", ["from", "to", "per_source", "to_per_source"])
async def test_so_many_introductions_a_minute_and_no_more(
    store: Store, of: str
) -> None:
    store.limits = Quotas(**{f"introductions_{of}": 2})
    tokens = await two(store)
    for number in range(2):
        await ask(store, tokens.ann, f"{number:016x}")
    refused = await refusal(ask(store, tokens.ann, f"{2:016x}"))
    assert refused.reason == "too_many_introductions"
    assert refused.retry_after == pytest.approx(30, abs=5)
    assert await ask(store, tokens.ann, f"{0:016x}") == "asked", "a repetition is free"


async def test_both_report_what_they_saw_and_read_it_all_in_order(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    seen = {"at": 1.0, "what": "probe", "note": ""}
    for _ in range(2):  # the second replaces the first
        await store.report(LOBBY, "ann", tokens.ann, SESSION, [seen])
    rows = await store.meeting(LOBBY, "bob", tokens.bob, SESSION)
    assert [(row.who, row.what) for row in rows] == [
        *(("ann", "probe"), (None, "asked"), (None, "met"))
    ]
    carol = await take(store, "carol")
    for name, token in (("carol", carol.token), ("ann", tokens.bob), ("ann", "")):
        for wish in (
            store.meeting(LOBBY, name, token, SESSION),
            store.report(LOBBY, name, token, SESSION, []),
        ):
            assert (await refusal(wish)).reason == "no_such_introduction"


# What may be a URL, a source, a name, an address


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host",
        "redis+cluster://user:secret@host:x",
        "redis+cluster://user:secret@host,host:x",
    ],
)
def test_a_wrong_redis_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="URL cannot be read") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_an_ipv6_household_is_one_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::2:3:4:5")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    "name", ["ann", "Zoë", "a.b-c_d", "7up", "آوا", "हिन्दी", "李", "x" * 64, "é" * 64]
)
def test_names_of_any_script_are_legal_in_either_spelling(name: str) -> None:
    assert legal_name(name) == name
    assert legal_name(unicodedata.normalize("NFD", name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "-a", "_a", "a b", "a/b", "a?", "a%", "a\0", "a\n", "\ud800"),
        *("😀", "a\u202eb", "\u0301a"),  # no letter, a turn of direction, a mark alone
        *("x" * 65, "李" * 43, "e\u0301" * 65, "x" * 10_000),
    ],
)
def test_other_names_are_illegal(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        legal_name(name)


@given(st.text())
def test_a_legal_name_is_its_own_normal_form(text: str) -> None:
    try:
        name = legal_name(text)
    except ValueError:
        return
    assert legal_name(name) == name
    assert 1 <= len(name) <= 64
    assert len(name.encode()) <= 128


def test_addresses_have_one_spelling() -> None:
    texts = ["192.168.1.7", "::ffff:10.0.0.1", "2001:DB8:0::7", "::1"]
    canonical = ["192.168.1.7", "10.0.0.1", "2001:db8::7", "::1"]
    assert [legal_address(text) for text in texts] == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "192.168.1", "192.168.1.256", "1.2.3.4 ", "١.1.1.1"),
        *("fe80::1%eth0", "fe80::1%a b", "0.0.0.0", "::"),
        *("224.0.0.1", "ff02::1", "255.255.255.255"),
    ],
)
def test_what_nobody_could_connect_to_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="an address must be an IP address"):
        legal_address(text)
