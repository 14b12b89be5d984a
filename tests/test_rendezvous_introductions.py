"""Introductions, inboxes and changes: the same promises over three kinds of Redis."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from stores import anyio_backend as anyio_backend
from stores import cluster as cluster
from stores import end_lease, key, raw, refusal, token_for
from stores import real as real
from stores import store as store

from p2plab.rendezvous.changes import Look
from p2plab.rendezvous.introductions import Entry
from p2plab.rendezvous.lua import CHANGES, INTRODUCTION_LIFE, KEY_LIFE
from p2plab.rendezvous.model import LOBBY, Change, Limits
from p2plab.rendezvous.store import Store

pytestmark = pytest.mark.anyio

SESSION = "00c0ffee00c0ffee"
SEEN = "203.0.113.9"


class Two(NamedTuple):
    """The tokens of ann, who asks, and of bob."""

    ann: str
    bob: str


async def two(store: Store) -> Two:
    return Two(await token_for(store, "ann"), await token_for(store, "bob"))


async def ask(store: Store, token: str, session: str = SESSION, to: str = "bob") -> str:
    state, _ = await store.introductions.ask(LOBBY, "ann", token, session, to, SEEN)
    return state


async def answer(store: Store, token: str, accept: bool = True, why: str = "") -> str:
    introductions = store.introductions
    state, _ = await introductions.answer(LOBBY, "bob", token, SESSION, accept, why)
    return state


async def inbox(store: Store, name: str, token: str, after: str = "0-0") -> list[Entry]:
    return (await store.introductions.read(LOBBY, name, token, after))[0]


async def test_who_is_asked_and_accepts_is_told_together_with_the_caller(
    store: Store,
) -> None:
    tokens = await two(store)
    assert await ask(store, tokens.ann) == "asked"
    (asked,) = await inbox(store, "bob", tokens.bob)
    assert (asked.what, asked.session, asked.peer) == ("asked", SESSION, "ann")
    assert asked.key == asked.card == "", "nothing is told before the answer"
    assert await inbox(store, "ann", tokens.ann) == []
    assert await answer(store, tokens.bob) == "met"
    (ann,) = await inbox(store, "ann", tokens.ann)
    (bob,) = await inbox(store, "bob", tokens.bob, asked.id)
    assert (ann.what, ann.role, ann.peer) == ("met", "caller", "bob")
    assert (bob.what, bob.role, bob.peer) == ("met", "callee", "ann")
    assert ann.key == bob.key
    assert len(bytes.fromhex(ann.key)) == 32
    assert ann.card.startswith("192.168.1.7 2001:db8::7|5001|5002|")


async def test_the_observed_addresses_are_told_to_the_other(store: Store) -> None:
    tokens = await two(store)
    _, nonce = await store.names.beat(LOBBY, "ann", tokens.ann)
    assert await store.names.observed(nonce, "198.51.100.7", 40_000)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    (_, bob) = await inbox(store, "bob", tokens.bob)
    assert "|198.51.100.7 40000|" in bob.card


async def test_who_refuses_says_why_to_the_caller_and_reveals_nothing(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    assert await answer(store, tokens.bob, False, "busy") == "refused"
    (ann,) = await inbox(store, "ann", tokens.ann)
    assert (ann.what, ann.why, ann.key, ann.card) == ("refused", "busy", "", "")
    assert [e.what for e in await inbox(store, "bob", tokens.bob)] == ["asked"]


async def test_asking_and_answering_again_changes_nothing(store: Store) -> None:
    tokens = await two(store)
    for _ in range(3):
        assert await ask(store, tokens.ann) == "asked"
    assert len(await inbox(store, "bob", tokens.bob)) == 1
    for _ in range(3):
        assert await answer(store, tokens.bob) == "met"
    assert await ask(store, tokens.ann) == "met"
    assert len(await inbox(store, "ann", tokens.ann)) == 1
    refused = await refusal(answer(store, tokens.bob, False, "no"))
    assert refused.reason == "answered_already"


async def test_who_has_asked_may_withdraw_as_long_as_there_is_no_answer(
    store: Store,
) -> None:
    tokens = await two(store)
    introductions = store.introductions

    async def withdraw(session: str = SESSION) -> str:
        wish = introductions.answer(LOBBY, "ann", tokens.ann, session, False, "")
        return (await wish)[0]

    assert (await refusal(withdraw())).reason == "no_such_introduction"
    await ask(store, tokens.ann)
    (asked,) = await inbox(store, "bob", tokens.bob)
    for _ in range(2):  # twice is once
        assert await withdraw() == "withdrawn"
    (told,) = await inbox(store, "bob", tokens.bob, asked.id)
    assert (told.what, told.session, told.peer) == ("withdrawn", SESSION, "ann")
    for accept in (True, False):
        assert (
            await refusal(answer(store, tokens.bob, accept))
        ).reason == "caller_gone"
    assert await ask(store, tokens.ann) == "withdrawn"
    assert [e.what for e in await inbox(store, "bob", tokens.bob)] == ["withdrawn"]
    assert await inbox(store, "ann", tokens.ann) == []
    for number, accept in enumerate((True, False)):
        session = f"{number:016x}"
        await ask(store, tokens.ann, session)
        await introductions.answer(LOBBY, "bob", tokens.bob, session, accept, "")
        assert (await refusal(withdraw(session))).reason == "answered_already"


async def test_a_call_that_fell_out_of_the_inbox_is_put_in_again(store: Store) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await raw(store).delete(key(store, "in:bob"))
    await ask(store, tokens.ann)
    assert len(await inbox(store, "bob", tokens.bob)) == 1


async def test_a_session_belongs_to_one_introduction(store: Store) -> None:
    tokens = await two(store)
    await token_for(store, "carol")
    await ask(store, tokens.ann)
    refused = await refusal(ask(store, tokens.ann, to="carol"))
    assert refused.reason == "session_taken"
    wish = store.introductions.ask(LOBBY, "bob", tokens.bob, SESSION, "ann", SEEN)
    assert (await refusal(wish)).reason == "session_taken"


async def test_only_the_owner_asks_reads_and_answers(store: Store) -> None:
    tokens = await two(store)
    assert (await refusal(ask(store, "guess"))).reason == "not_owner"
    assert (await refusal(ask(store, tokens.bob))).reason == "not_owner"
    await ask(store, tokens.ann)
    assert (await refusal(answer(store, "guess"))).reason == "not_owner"
    assert (await refusal(answer(store, tokens.ann))).reason == "not_owner"
    wish = store.introductions.answer(LOBBY, "ann", tokens.ann, SESSION, True, "")
    refused = await refusal(wish)
    assert refused.reason == "no_such_introduction", "the caller cannot accept"
    for name, token in (("bob", tokens.ann), ("bob", ""), ("ann", "guess")):
        assert (await refusal(inbox(store, name, token))).reason == "not_owner"


async def test_who_is_not_there_is_not_asked_and_does_not_answer(store: Store) -> None:
    tokens = await two(store)
    assert (await refusal(ask(store, tokens.ann, to="carol"))).reason == "no_such_peer"
    await ask(store, tokens.ann)
    await end_lease(store, "ann")
    assert (await refusal(answer(store, tokens.bob))).reason == "caller_gone"
    assert (await refusal(ask(store, tokens.ann))).reason == "not_registered"
    await end_lease(store, "bob")
    assert (await refusal(answer(store, tokens.bob))).reason == "not_registered"
    wish = inbox(store, "bob", tokens.bob)
    assert (await refusal(wish)).reason == "not_registered"


async def test_whoever_takes_a_name_over_gets_nothing_that_was_meant_for_another(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    for name, token in (("ann", tokens.ann), ("bob", tokens.bob)):
        await store.names.leave(LOBBY, name, token)
    later = await two(store)
    assert await inbox(store, "ann", later.ann) == []
    assert await inbox(store, "bob", later.bob) == []
    assert (await refusal(answer(store, later.bob))).reason == "no_such_introduction"
    wish = store.introductions.meeting(LOBBY, "ann", later.ann, SESSION)
    assert (await refusal(wish)).reason == "no_such_introduction"


async def test_a_call_reaches_whoever_has_the_name_when_it_is_repeated(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await store.names.leave(LOBBY, "bob", tokens.bob)
    bob = await token_for(store, "bob")
    assert (await refusal(answer(store, bob))).reason == "no_such_introduction"
    await ask(store, tokens.ann)
    assert len(await inbox(store, "bob", bob)) == 1
    assert await answer(store, bob) == "met"


async def test_key_and_introduction_end_by_themselves(store: Store) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    redis = raw(store)
    for name, life in ((f"k:{SESSION}", KEY_LIFE), (f"i:{SESSION}", INTRODUCTION_LIFE)):
        assert 0 < await redis.pttl(key(store, name)) <= life
    assert await redis.pttl(key(store, "in:ann")) > 0
    await redis.delete(key(store, f"k:{SESSION}"))
    assert await inbox(store, "ann", tokens.ann) == [], "no meeting without its key"


async def test_no_token_is_in_redis_and_no_key_outlives_its_meeting(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    (ann,) = await inbox(store, "ann", tokens.ann)
    row = str(await raw(store).hgetall(key(store, f"i:{SESSION}")))
    assert not any(secret in row for secret in (*tokens, ann.key))
    assert ann.key not in repr(ann)


async def test_a_peer_may_be_introduced_to_itself(store: Store) -> None:
    token = await token_for(store, "bob")
    await store.introductions.ask(LOBBY, "bob", token, SESSION, "bob", SEEN)
    await answer(store, token)
    what = [(e.what, e.peer) for e in await inbox(store, "bob", token)]
    assert what == [("asked", "bob"), ("met", "bob")]


@pytest.mark.parametrize(
    "limit",
    ["introductions_from", "introductions_to", "introductions_per_source"],
)
async def test_so_many_introductions_a_minute_and_no_more(
    store: Store, limit: str
) -> None:
    store.introductions.limits = Limits(**{limit: 2})
    tokens = await two(store)
    for number in range(2):
        await ask(store, tokens.ann, f"{number:016x}")
    refused = await refusal(ask(store, tokens.ann, f"{2:016x}"))
    assert refused.reason == "too_many_introductions"
    assert refused.retry_after == pytest.approx(60, abs=5)
    assert await ask(store, tokens.ann, f"{0:016x}") == "asked", "a repetition is free"


async def test_both_report_what_they_saw_and_read_it_all_in_order(
    store: Store,
) -> None:
    tokens = await two(store)
    await ask(store, tokens.ann)
    await answer(store, tokens.bob)
    seen = {"at": 1.0, "what": "probe", "note": ""}
    for _ in range(2):  # the second replaces the first
        await store.introductions.report(LOBBY, "ann", tokens.ann, SESSION, [seen])
    rows = await store.introductions.meeting(LOBBY, "bob", tokens.bob, SESSION)
    assert [(row["who"], row["what"]) for row in rows] == [
        *(("ann", "probe"), (None, "asked"), (None, "met"))
    ]
    carol = await token_for(store, "carol")
    for name, token in (("carol", carol), ("ann", tokens.bob), ("ann", "")):
        wish = store.introductions.meeting(LOBBY, name, token, SESSION)
        assert (await refusal(wish)).reason == "no_such_introduction"
        report = store.introductions.report(LOBBY, name, token, SESSION, [])
        assert (await refusal(report)).reason == "no_such_introduction"


# Changes


async def look(store: Store, after: str = "0-0") -> Look:
    return await store.changes.look(LOBBY, after)


async def test_who_comes_and_who_goes_is_told_from_a_place_on(store: Store) -> None:
    token = await token_for(store, "ann")
    at = (await store.names.page(LOBBY, "", 1)).at
    assert (await look(store)).changes == (Change("ann", "join"),)
    assert (await look(store, at)).changes == ()
    await token_for(store, "bob")
    await store.names.leave(LOBBY, "ann", token)
    news = await look(store, at)
    assert news.changes == (Change("bob", "join"), Change("ann", "leave"))
    assert (await look(store, news.at)).changes == ()
    assert not news.reset


async def test_a_lease_that_ends_is_a_leave_and_the_next_end_is_told(
    store: Store,
) -> None:
    assert (await look(store)).ends is None
    await token_for(store, "ann")
    assert (await look(store)).ends == pytest.approx(60, abs=5)
    await end_lease(store, "ann")
    assert (await look(store)).changes[-1] == Change("ann", "leave")


async def test_coming_back_is_no_change(store: Store) -> None:
    token = await token_for(store, "ann")
    at = (await look(store)).at
    await store.names.beat(LOBBY, "ann", token)
    assert (await look(store, at)).changes == ()


async def test_who_missed_some_changes_is_told_to_list_anew(store: Store) -> None:
    await token_for(store, "ann")
    stream = key(store, "changes")
    assert (await look(store, "1-1")).reset, "a place that nobody remembers"
    for _ in range(CHANGES):
        row: dict[str, str] = {"what": "join", "name": "x"}
        await raw(store).xadd(stream, row)  # type: ignore[arg-type]  # str will do
    news = await look(store)
    assert (news.reset, news.changes) == (True, ()), "from the beginning"
