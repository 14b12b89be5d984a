"""The store's promises, kept by the Redis inside the process and by a real one."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Iterator

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis_server import RedisServer

from p2plab.rendezvous.model import Limits, PeerInfo, legal_address, legal_name
from p2plab.rendezvous.store import PREFIX, Refused, Store, connect, source_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["fakeredis", "redis-server"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "fakeredis":
        redis = memory()
    else:
        server: RedisServer = request.getfixturevalue("real")
        server.empty()
        redis = connect(server.url)
    async with redis:
        yield Store(redis)


def memory() -> Redis:
    redis = fakeredis.FakeAsyncRedis(
        server=fakeredis.FakeServer(), decode_responses=True
    )
    assert isinstance(redis, Redis)
    return redis


def peer(name: str, seen: str = "203.0.113.9") -> PeerInfo:
    return PeerInfo(name, ("192.168.1.7", "2001:db8::7"), 5001, 5002, seen)


async def end_lease(store: Store, *names: str) -> None:
    """Let the leases have ended long ago, without waiting for it."""
    for name in names:
        await store.redis.pexpireat(f"{PREFIX}p:{name}", 1)
    await store.redis.zadd(f"{PREFIX}exp", dict.fromkeys(names, 1))


async def token_for(store: Store, name: str) -> str:
    grant = await store.claim(peer(name), lease=60)
    assert grant.token is not None
    return grant.token


async def refusal(wish: object) -> Refused:
    with pytest.raises(Refused) as caught:
        await wish  # type: ignore[misc]  # any coroutine of the store
    return caught.value


async def test_a_free_name_is_given_with_a_token_and_can_be_looked_up(
    store: Store,
) -> None:
    grant = await store.claim(peer("ann"), lease=60)
    assert grant.peer == peer("ann")
    assert grant.lease == 60
    assert grant.token is not None
    assert len(grant.token) >= 40
    assert await store.get("ann") == peer("ann")
    assert await store.count() == 1


async def test_the_token_itself_is_not_stored(store: Store) -> None:
    token = await token_for(store, "ann")
    assert token not in str(await store.redis.hgetall(f"{PREFIX}p:ann"))


async def test_a_taken_name_is_refused_with_how_long_to_wait(store: Store) -> None:
    await store.claim(peer("ann"), lease=60)
    for token in ("", "somebody else's"):
        refused = await refusal(store.claim(peer("ann"), lease=60, token=token))
        assert refused.reason == "name_taken"
        assert refused.retry_after == pytest.approx(60, abs=5)


async def test_the_owner_comes_back_with_its_token_and_new_ports(store: Store) -> None:
    token = await token_for(store, "ann")
    moved = PeerInfo("ann", ("10.0.0.3",), 6001, 6002, "198.51.100.4")
    assert (await store.claim(moved, lease=30, token=token)).token is None
    assert await store.get("ann") == moved
    assert await store.beat("ann", token) == 30


async def test_a_claim_sent_twice_by_a_broken_connection_is_granted_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redis-py sends a command again when the connection breaks before the answer
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "fresh")
    for _ in range(2):
        assert (await store.claim(peer("ann"), lease=60)).token == "fresh"
    assert await store.redis.get(f"{PREFIX}rl:203.0.113.9") == "1"


async def test_a_heartbeat_starts_the_lease_anew(store: Store) -> None:
    token = await token_for(store, "ann")
    await store.redis.pexpire(f"{PREFIX}p:ann", 1_000)
    assert await store.beat("ann", token) == 60
    assert await store.redis.pttl(f"{PREFIX}p:ann") > 50_000


async def test_only_the_owner_beats_and_leaves(store: Store) -> None:
    await store.claim(peer("ann"), lease=60)
    for wish in (store.beat("ann", "guess"), store.leave("ann", "guess")):
        assert (await refusal(wish)).reason == "not_owner"
    assert await store.get("ann") == peer("ann")


async def test_who_has_left_is_gone_and_the_name_is_free(store: Store) -> None:
    token = await token_for(store, "ann")
    await store.leave("ann", token)
    for wish in (store.get("ann"), store.beat("ann", token), store.leave("ann", token)):
        assert (await refusal(wish)).reason == "no_such_peer"
    assert (await store.page()).peers == ()
    assert await token_for(store, "ann") != token


async def test_a_lease_ends_by_itself(store: Store) -> None:
    await store.claim(peer("ann"), lease=0.02)
    async with asyncio.timeout(5):
        while await store.count():
            await asyncio.sleep(0.002)
    assert (await refusal(store.get("ann"))).reason == "no_such_peer"
    assert (await store.page()).peers == ()


async def test_after_its_lease_a_name_is_anybodys(store: Store) -> None:
    token = await token_for(store, "ann")
    await end_lease(store, "ann")
    assert (await refusal(store.beat("ann", token))).reason == "no_such_peer"
    assert await token_for(store, "ann") != token
    assert (await refusal(store.beat("ann", token))).reason == "not_owner"


async def test_ended_names_are_reaped_a_hundred_at_a_time(store: Store) -> None:
    names = [f"p{number:03}" for number in range(250)]
    await store.redis.zadd(f"{PREFIX}names", dict.fromkeys(names, 0))
    await end_lease(store, *names)
    await store.claim(peer("ann"), lease=60)
    assert await store.redis.zcard(f"{PREFIX}names") == 151
    for _ in range(2):
        await store.page(limit=1)
    assert await store.redis.zrange(f"{PREFIX}names", 0, -1) == ["ann"]
    assert await store.redis.zrange(f"{PREFIX}exp", 0, -1) == ["ann"]


async def test_pages_hold_every_name_once_in_the_order_of_their_bytes(
    store: Store,
) -> None:
    names = [f"p{number}" for number in range(23)] + ["Zoë", "آوا", "हिन्दी", "李"]
    for name in names:
        await store.claim(peer(name), lease=60)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await store.page(cursor, limit=5)
        assert len(page.peers) <= 5
        seen += [found.name for found in page.peers]
        cursor = page.next
    assert seen == sorted(names, key=str.encode)


async def test_a_page_goes_on_after_a_name_that_has_gone(store: Store) -> None:
    tokens = {name: await token_for(store, name) for name in "abcd"}
    first = await store.page(limit=2)
    await store.leave("b", tokens["b"])
    assert first.next == "b"
    assert [p.name for p in (await store.page(first.next, 2)).peers] == ["c", "d"]


@pytest.mark.parametrize("cursor", ["\0", "zzz", "\uffff", "(", "+", "-", "[a"])
async def test_any_cursor_is_only_a_place_in_the_order(
    store: Store, cursor: str
) -> None:
    await store.claim(peer("ann"), lease=60)
    page = await store.page(cursor)
    assert [p.name for p in page.peers] == (["ann"] if cursor < "ann" else [])


async def test_a_source_gets_so_many_new_names_a_minute_but_refreshes_freely(
    store: Store,
) -> None:
    store.limits = Limits(names_per_minute=2)
    token = await token_for(store, "a")
    await token_for(store, "b")
    refused = await refusal(store.claim(peer("c"), lease=60))
    assert refused.reason == "too_many_names"
    assert refused.retry_after == pytest.approx(60, abs=5)
    await store.claim(peer("a"), lease=60, token=token)
    await store.claim(peer("c", seen="203.0.113.10"), lease=60)
    await store.redis.pexpireat(f"{PREFIX}rl:203.0.113.9", 1)  # the minute is over
    await store.claim(peer("d"), lease=60)


async def test_a_full_rendezvous_says_when_the_first_lease_ends(store: Store) -> None:
    store.limits = Limits(peers=2)
    await store.claim(peer("a"), lease=40)
    token = await token_for(store, "b")
    refused = await refusal(store.claim(peer("c"), lease=60))
    assert refused.reason == "rendezvous_full"
    assert refused.retry_after == pytest.approx(40, abs=5)
    await store.claim(peer("b"), lease=60, token=token)  # who is in stays in
    await end_lease(store, "a")
    await store.claim(peer("c"), lease=60)


async def test_of_many_claims_at_once_one_wins(store: Store) -> None:
    claims = (store.claim(peer("ann"), lease=60) for _ in range(20))
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 19


async def test_stores_over_one_redis_see_the_same_names(real: RedisServer) -> None:
    real.empty()
    async with connect(real.url) as one, connect(real.url) as other:
        token = await token_for(Store(one), "ann")
        assert await Store(other).get("ann") == peer("ann")
        assert await Store(other).beat("ann", token) == 60


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
    async with memory() as redis:
        store = Store(redis)
        for step, name in steps:
            await take(step, name, store, held)
            assert [p.name for p in (await store.page()).peers] == sorted(held)
            assert await store.count() == len(held)


async def take(step: str, name: str, store: Store, held: dict[str, str]) -> None:
    token = held.get(name)
    match step, token:
        case "claim", None:
            held[name] = await token_for(store, name)
        case "claim", _:
            wish = store.claim(peer(name), lease=60)
            assert (await refusal(wish)).reason == "name_taken"
        case "end", str():
            await end_lease(store, name)
            del held[name]
        case "return", str():
            assert (await store.claim(peer(name), 60, token)).token is None
        case "beat", str():
            assert await store.beat(name, token) == 60
        case "leave", str():
            await store.leave(name, token)
            del held[name]
        case "beat", None:
            assert (await refusal(store.beat(name, "x"))).reason == "no_such_peer"
        case "leave", None:
            assert (await refusal(store.leave(name, "x"))).reason == "no_such_peer"


def test_a_wrong_redis_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ValueError, match="redis://host:6379/0") as caught:
        connect("http://user:secret@host")
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
