"""Names and leases: the same promises over fakeredis, Redis, and a cluster."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import anyio_backend as anyio_backend
from stores import cluster as cluster
from stores import end_lease, key, names, page, peer, raw, record, refusal, token_for
from stores import real as real
from stores import store as store

from p2plab.rendezvous.database import Database, Refused
from p2plab.rendezvous.model import (
    LOBBY,
    Limits,
    Listed,
    PeerInfo,
    legal_address,
    legal_name,
)
from p2plab.rendezvous.names import source_of
from p2plab.rendezvous.nodes import connect, memory
from p2plab.rendezvous.store import Store

pytestmark = pytest.mark.anyio


async def test_a_free_name_is_given_with_a_token_and_can_be_looked_up(
    store: Store,
) -> None:
    grant = await store.names.claim(LOBBY, peer("ann"), lease=60)
    assert grant.peer == peer("ann")
    assert grant.lease == 60
    assert grant.token is not None
    assert len(grant.token) >= 40
    listed = Listed("ann", grant.now / 1000)
    assert await store.names.get(LOBBY, "ann") == listed
    assert (await page(store)).peers == (listed,)
    assert await record(store, "ann") == peer("ann")


async def test_the_token_itself_is_not_stored(store: Store) -> None:
    token = await token_for(store, "ann")
    assert token not in str(await raw(store).hgetall(key(store, "p:ann")))


async def test_a_taken_name_is_refused_with_how_long_to_wait(store: Store) -> None:
    await store.names.claim(LOBBY, peer("ann"), lease=60)
    for token in ("", "somebody else's"):
        refused = await refusal(
            store.names.claim(LOBBY, peer("ann"), lease=60, token=token)
        )
        assert refused.reason == "name_taken"
        assert refused.retry_after == pytest.approx(60, abs=5)


async def test_the_owner_comes_back_with_its_token_and_new_ports(store: Store) -> None:
    token = await token_for(store, "ann")
    moved = PeerInfo("ann", ("10.0.0.3",), 6001, 6002, "198.51.100.4")
    assert (await store.names.claim(LOBBY, moved, lease=30, token=token)).token is None
    assert await record(store, "ann") == moved
    assert (await store.names.beat(LOBBY, "ann", token))[0] == 30


async def test_a_claim_sent_twice_by_a_broken_connection_is_granted_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redis-py sends a command again when the connection breaks before the answer
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "fresh")
    for _ in range(2):
        assert (await store.names.claim(LOBBY, peer("ann"), lease=60)).token == "fresh"
    assert await raw(store).get(rate(store)) == "1"


async def test_a_heartbeat_starts_the_lease_anew(store: Store) -> None:
    token = await token_for(store, "ann")
    await raw(store).pexpire(key(store, "p:ann"), 1_000)
    assert (await store.names.beat(LOBBY, "ann", token))[0] == 60
    assert await raw(store).pttl(key(store, "p:ann")) > 50_000


async def test_only_the_owner_beats_and_leaves(store: Store) -> None:
    await store.names.claim(LOBBY, peer("ann"), lease=60)
    for wish in (
        store.names.beat(LOBBY, "ann", "guess"),
        store.names.leave(LOBBY, "ann", "guess"),
    ):
        assert (await refusal(wish)).reason == "not_owner"
    assert await record(store, "ann") == peer("ann")


async def test_who_has_left_is_gone_and_the_name_is_free(store: Store) -> None:
    token = await token_for(store, "ann")
    await store.names.leave(LOBBY, "ann", token)
    for wish in (
        store.names.beat(LOBBY, "ann", token),
        store.names.leave(LOBBY, "ann", token),
    ):
        assert (await refusal(wish)).reason == "not_registered"
    refused = await refusal(store.names.get(LOBBY, "ann"))
    assert refused.reason == "no_such_peer"
    assert await names(store) == []
    assert await token_for(store, "ann") != token


async def test_a_lease_ends_by_itself(store: Store) -> None:
    await store.names.claim(LOBBY, peer("ann"), lease=0.02)
    async with asyncio.timeout(5):
        while await names(store):
            await asyncio.sleep(0.002)
    assert (await refusal(store.names.get(LOBBY, "ann"))).reason == "no_such_peer"


async def test_after_its_lease_a_name_is_anybodys(store: Store) -> None:
    token = await token_for(store, "ann")
    await end_lease(store, "ann")
    wish = store.names.beat(LOBBY, "ann", token)
    assert (await refusal(wish)).reason == "not_registered"
    assert await token_for(store, "ann") != token
    assert (await refusal(store.names.beat(LOBBY, "ann", token))).reason == "not_owner"


async def test_ended_names_are_reaped_a_hundred_at_a_time(store: Store) -> None:
    redis, index = raw(store), key(store, "names")
    many = [f"p{number:03}" for number in range(250)]
    await redis.zadd(index, dict.fromkeys(many, 0))
    await end_lease(store, *many)
    await store.names.claim(LOBBY, peer("ann"), lease=60)
    assert await redis.zcard(index) == 151
    for _ in range(2):
        await page(store, limit=1)
    assert await redis.zrange(index, 0, -1) == ["ann"]
    assert await redis.zrange(key(store, "exp"), 0, -1) == ["ann"]


async def test_pages_hold_every_name_once_in_the_order_of_their_bytes(
    store: Store,
) -> None:
    many = [f"p{number}" for number in range(23)] + ["Zoë", "آوا", "हिन्दी", "李"]
    for name in many:
        await store.names.claim(LOBBY, peer(name), lease=60)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        part = await page(store, cursor, limit=5)
        assert len(part.peers) <= 5
        seen += [found.name for found in part.peers]
        cursor = part.next
    assert seen == sorted(many, key=str.encode)


async def test_a_page_goes_on_after_a_name_that_has_gone(store: Store) -> None:
    tokens = {name: await token_for(store, name) for name in "abcd"}
    first = await page(store, limit=2)
    await store.names.leave(LOBBY, "b", tokens["b"])
    assert first.next == "b"
    assert await names(store, first.next, 2) == ["c", "d"]


@pytest.mark.parametrize("cursor", ["\0", "zzz", "\uffff", "(", "+", "-", "[a"])
async def test_any_cursor_is_only_a_place_in_the_order(
    store: Store, cursor: str
) -> None:
    await store.names.claim(LOBBY, peer("ann"), lease=60)
    assert await names(store, cursor) == (["ann"] if cursor < "ann" else [])


async def test_a_source_gets_so_many_new_names_a_minute_but_refreshes_freely(
    store: Store,
) -> None:
    store.names.limits = Limits(names_per_minute=2)
    token = await token_for(store, "a")
    await token_for(store, "b")
    refused = await refusal(store.names.claim(LOBBY, peer("c"), lease=60))
    assert refused.reason == "too_many_names"
    assert refused.retry_after == pytest.approx(60, abs=5)
    await store.names.claim(LOBBY, peer("a"), 60, token)
    await store.names.claim(LOBBY, peer("c", seen="203.0.113.10"), lease=60)
    await raw(store).pexpireat(rate(store), 1)  # the minute is over
    await store.names.claim(LOBBY, peer("d"), lease=60)


async def test_a_full_room_says_when_the_first_lease_ends(store: Store) -> None:
    store.names.limits = Limits(peers=2)
    await store.names.claim(LOBBY, peer("a"), lease=40)
    token = await token_for(store, "b")
    refused = await refusal(store.names.claim(LOBBY, peer("c"), lease=60))
    assert refused.reason == "room_full"
    assert refused.retry_after == pytest.approx(40, abs=5)
    await store.names.claim(
        LOBBY, peer("b"), lease=60, token=token
    )  # who is in stays in
    await end_lease(store, "a")
    await store.names.claim(LOBBY, peer("c"), lease=60)


async def test_of_many_claims_at_once_one_wins(store: Store) -> None:
    claims = (store.names.claim(LOBBY, peer("ann"), lease=60) for _ in range(20))
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 19


async def test_a_claim_whose_answer_was_lost_is_repeated_with_ones_own_token(
    store: Store,
) -> None:
    token = "a token of one's own, long enough"
    for created in (True, False):
        grant = await store.names.claim(LOBBY, peer("ann"), 60, token)
        assert grant.created is created
        assert grant.token is None
    assert (await store.names.beat(LOBBY, "ann", token))[0] == 60


async def test_one_name_may_live_in_two_rooms(store: Store) -> None:
    token = await token_for(store, "ann", "red")
    assert await token_for(store, "ann", "blue") != token
    await store.names.leave("red", "ann", token)
    assert await names(store, room="red") == []
    assert await names(store, room="blue") == ["ann"]


async def test_there_are_so_many_rooms_and_an_empty_one_makes_place(
    store: Store,
) -> None:
    store.names.limits = Limits(rooms=1)
    other = next(  # one in the same shard: that is what the limit is for
        name
        for name in map(str, range(1_000))
        if store.database.keys(name)[1] == store.database.keys("red")[1]
    )
    await store.names.claim("red", peer("ann"), lease=40)
    refused = await refusal(store.names.claim(other, peer("bob"), lease=60))
    assert refused.reason == "too_many_rooms"
    assert refused.retry_after == pytest.approx(40, abs=5)
    await store.names.claim("red", peer("bob"), lease=60)
    rooms = f"{store.database.keys('red')[1]}rooms"
    await store.database.command(rooms, "ZADD", rooms, 1, store.database.room("red"))
    await store.names.claim(other, peer("bob"), lease=60)


async def test_who_shows_its_nonce_has_its_observed_address_in_its_record(
    store: Store,
) -> None:
    grant = await store.names.claim(LOBBY, peer("ann"), lease=60)
    token = str(grant.token)
    assert await store.names.observed(grant.nonce, "203.0.113.9", 40_001)
    assert await store.names.observed(grant.nonce, "2001:db8::9", 40_002)
    row = await raw(store).hgetall(key(store, "p:ann"))
    assert row["observed4"] == "203.0.113.9 40001"
    assert row["observed6"] == "2001:db8::9 40002"
    _, second = await store.names.beat(LOBBY, "ann", token)
    assert await store.names.observed(grant.nonce, "203.0.113.9", 40_003), "on its way"
    assert await store.names.observed(second, "203.0.113.9", 40_003)
    await store.names.beat(LOBBY, "ann", token)
    assert not await store.names.observed(grant.nonce, "198.51.100.1", 1), "too old"


@pytest.mark.parametrize(
    "nonce", ["", "0-", "0-guess", "99999-x", "x-y", "-1-x", "²-x", "0-" + "x" * 99]
)
async def test_a_nonce_that_nobody_holds_changes_nothing(
    store: Store, nonce: str
) -> None:
    await token_for(store, "ann")
    assert not await store.names.observed(nonce, "198.51.100.1", 1)


async def test_after_a_new_registration_the_old_nonce_and_address_are_forgotten(
    store: Store,
) -> None:
    grant = await store.names.claim(LOBBY, peer("ann"), lease=60)
    await store.names.observed(grant.nonce, "203.0.113.9", 40_001)
    await store.names.leave(LOBBY, "ann", str(grant.token))
    await token_for(store, "ann")
    assert not await store.names.observed(grant.nonce, "203.0.113.9", 40_001)
    row = await raw(store).hgetall(key(store, "p:ann"))
    assert "observed4" not in row


@pytest.mark.parametrize("shards", [0, -1, 1025])
async def test_an_impossible_number_of_shards_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match=r"shards must be in 1\.\.1024"):
        Database(memory(), shards)


async def test_servers_that_disagree_about_shards_are_told_so(store: Store) -> None:
    assert await store.database.agree() == ""
    assert await store.database.agree() == ""
    other = Database(store.database.nodes, store.database.shards + 1)
    assert f"start it with --shards {store.database.shards}" in await other.agree()


def rate(store: Store) -> str:
    return f"{store.database.keys(LOBBY)[1]}rate:names:203.0.113.9"


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
    asyncio.run(compare_with_dictionary(steps))


async def compare_with_dictionary(steps: list[tuple[str, str]]) -> None:
    held: dict[str, str] = {}
    store = Store(memory())
    for step, name in steps:
        await take(step, name, store, held)
        assert await names(store) == sorted(held)
    await store.database.nodes.aclose()


async def take(step: str, name: str, store: Store, held: dict[str, str]) -> None:
    token = held.get(name)
    match step, token:
        case "claim", None:
            held[name] = await token_for(store, name)
        case "claim", _:
            wish = store.names.claim(LOBBY, peer(name), lease=60)
            assert (await refusal(wish)).reason == "name_taken"
        case "end", str():
            await end_lease(store, name)
            del held[name]
        case "return", str():
            assert (await store.names.claim(LOBBY, peer(name), 60, token)).token is None
        case "beat", str():
            assert (await store.names.beat(LOBBY, name, token))[0] == 60
        case "leave", str():
            await store.names.leave(LOBBY, name, token)
            del held[name]
        case "beat" | "leave", None:
            act = getattr(store.names, step)
            wish = act(LOBBY, name, "x")
            assert (await refusal(wish)).reason == "not_registered"


def test_a_wrong_redis_url_is_refused_without_showing_its_password() -> None:
    for url in ("http://user:secret@host", "redis+cluster://user:secret@host:x"):
        with pytest.raises(ValueError, match="redis://host:6379/0") as caught:
            connect(url)
        assert "secret" not in str(caught.value)


def test_an_ipv6_household_is_one_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::2:3:4:5")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    "name", ["ann", "Zoë", "a.b-c_d", "7up", "آوا", "हिन्दी", "李", "x" * 64, "é" * 64]
)
def test_names_of_any_script_are_legal(name: str) -> None:
    assert legal_name(name) == name


def test_two_spellings_of_one_name_are_one_name() -> None:
    assert legal_name(unicodedata.normalize("NFD", "Zoë")) == "Zoë"


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


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::1", "::1"),
    ],
)
def test_addresses_have_one_spelling(text: str, canonical: str) -> None:
    assert legal_address(text) == canonical


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
