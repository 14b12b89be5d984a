"""Introductions in Redis: asked, answered, and told to both by their inboxes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from p2plab.rendezvous.database import Database, Refused
from p2plab.rendezvous.lua import (
    INBOX,
    INBOX_LIFE,
    INTRODUCTION_LIFE,
    KEY_LIFE,
    OWNER,
    SPEND,
    START,
    WAKE,
    Script,
)
from p2plab.rendezvous.model import Limits
from p2plab.rendezvous.names import digest, raise_unless, source_of

PUT_IN: Final = f"""
local key = room .. 'i:' .. ARGV[3]
local function put_in(inbox, what)
  local entry = redis.call('XADD', inbox, 'MAXLEN', '~', {INBOX}, '*',
    'what', what, 'session', ARGV[3])
  redis.call('PEXPIRE', inbox, {INBOX_LIFE})
  wake(inbox)
  return entry
end
"""

# ARGV name token session callee, source of_name to_name of_source to_name_of_source
ASK: Final = Script(
    START,
    WAKE,
    SPEND,
    OWNER,
    PUT_IN,
    f"""
local callee = ARGV[4]
local target = redis.call('HGET', record_of(callee), 'token')
local known = redis.call(
  'HMGET', key, 'caller', 'callee', 'caller_token', 'callee_token', 'state', 'entry')
if known[1] then
  if known[1] ~= name or known[2] ~= callee or known[3] ~= token then
    return {{'session_taken', 0}}
  end
  if known[5] ~= 'asked' then return {{known[5], now}} end
end
if not target then return {{'no_such_peer', 0}} end
inbox = inbox_of(callee)
if known[1] then  -- the same call once more: knock again
  if known[4] == target and redis.call('XRANGE', inbox, known[6], known[6])[1] then
    wake(inbox)
    return {{'asked', now}}
  end
else
  local pause = spend('from', room .. name, ARGV[6])
    or spend('source', ARGV[5], ARGV[8])
    or spend('source-to', ARGV[5] .. ' ' .. room .. callee, ARGV[9])
    or spend('to', room .. callee, ARGV[7])
  if pause then return {{'too_many_introductions', pause}} end
  redis.call('HSET', key, 'asked', ms(now))
end
redis.call('HSET', key, 'caller', name, 'callee', callee, 'caller_token', token,
  'callee_token', target, 'state', 'asked', 'entry', put_in(inbox, 'asked'))
redis.call('PEXPIRE', key, {INTRODUCTION_LIFE})
return {{'asked', now}}
""",
)

# ARGV name token session state why key. What both learn of each other is what their
# records say in this moment. A caller who refuses its own introduction withdraws it.
ANSWER: Final = Script(
    START,
    WAKE,
    OWNER,
    PUT_IN,
    f"""
local known = redis.call(
  'HMGET', key, 'caller', 'callee', 'caller_token', 'callee_token', 'state', 'entry')
local state = ARGV[4]
if known[2] ~= name or known[4] ~= token then
  if known[1] ~= name or known[3] ~= token or state ~= 'refused' then
    return {{'no_such_introduction', 0}}
  end
  state = 'withdrawn'
end
if known[5] ~= 'asked' then
  if known[5] == state then return {{state, now}} end
  return {{known[5] == 'withdrawn' and 'caller_gone' or 'answered_already', 0}}
end
local function card(record)
  local fields = redis.call('HMGET', record,
    'addresses', 'tcp', 'udp', 'seen', 'observed4', 'observed6', 'since')
  for place, value in ipairs(fields) do fields[place] = value or '' end
  return table.concat(fields, '|')
end
local caller = record_of(known[1])
if redis.call('HGET', caller, 'token') ~= known[3] then return {{'caller_gone', 0}} end
if state == 'met' then
  redis.call('HSET', key, 'caller_card', card(caller), 'callee_card', card(record))
  redis.call('SET', room .. 'k:' .. ARGV[3], ARGV[6], 'PX', {KEY_LIFE})
  put_in(inbox, 'met')
end
redis.call('HSET', key, 'state', state, 'why', ARGV[5], 'answered', ms(now))
redis.call('PEXPIRE', key, {INTRODUCTION_LIFE})
if state == 'withdrawn' then
  redis.call('XDEL', inbox_of(known[2]), known[6])
  put_in(inbox_of(known[2]), state)
elseif state == 'refused' or known[1] ~= name then
  put_in(inbox_of(known[1]), state)
end
return {{state, now}}
""",
)

# ARGV name token after limit. Entries of an introduction that is over are left out.
READ: Final = Script(
    START,
    OWNER,
    """
local rows, last = {}, ARGV[3]
for _, entry in ipairs(
    redis.call('XRANGE', inbox, '(' .. last, '+', 'COUNT', ARGV[4])) do
  last = entry[1]
  local what, session = entry[2][2], entry[2][4]
  local row = redis.call('HMGET', room .. 'i:' .. session, 'caller', 'callee',
    'caller_token', 'callee_token', 'why', 'caller_card', 'callee_card', 'answered')
  local mine = (row[1] == name and row[3] == token)
    or (row[2] == name and row[4] == token)
  local secret = ''
  if what == 'met' then secret = redis.call('GET', room .. 'k:' .. session) end
  if mine and secret then
    table.insert(rows, {last, what, session, row[1], row[2], row[5] or '',
      row[6] or '', row[7] or '', secret, row[8] or '0'})
  end
end
return {'ok', now, last, rows}
""",
)

# ARGV name token session events
REPORT: Final = Script(
    START,
    f"""
local key = room .. 'i:' .. ARGV[3]
local row = redis.call(
  'HMGET', key, 'caller', 'callee', 'caller_token', 'callee_token')
if not ((row[1] == ARGV[1] and row[3] == ARGV[2])
    or (row[2] == ARGV[1] and row[4] == ARGV[2])) then
  return {{'no_such_introduction', 0}}
end
redis.call('HSET', key, 'events:' .. ARGV[1], ARGV[4])
redis.call('PEXPIRE', key, {INTRODUCTION_LIFE})
return {{'ok', 0}}
""",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in an inbox.

    card: what the other's record said when it was answered, packed by ANSWER.
    key: hex; empty unless they have met. answered: by Redis's clock [ms], or 0.
    """

    id: str
    what: str
    session: str
    role: str
    peer: str
    why: str
    card: str
    key: str
    answered: int

    def __repr__(self) -> str:
        return f"<Entry {self.id}: {self.what} {self.peer}>"  # and nothing secret


class Introductions:
    """Who wants to talk to whom. Every method raises RedisError when Redis is away."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self.database = database
        self.limits = limits

    def inbox_key(self, room: str, name: str) -> str:
        """What to wait for at the hub."""
        return f"{self.database.room(room)}in:{name}"

    async def ask(
        self, room: str, name: str, token: str, session: str, callee: str, seen: str
    ) -> tuple[str, int]:
        """Ask, or knock once more; returns the state, and Redis's clock [ms].

        session: the caller's choice; asking twice in one session is asking once.
        Raises Refused: not_registered, not_owner, no_such_peer, session_taken,
        too_many_introductions.
        """
        many = self.limits
        args: list[str | int] = [name, digest(token), session, callee, source_of(seen)]
        args += [many.introductions_from, many.introductions_to]
        args += [many.introductions_per_source, many.introductions_to_per_source]
        word, value = await self.database.run(ASK, room, *args)
        raise_unless(word in ("asked", "met", "refused", "withdrawn"), word, value)
        return word, value

    async def answer(
        self, room: str, name: str, token: str, session: str, accept: bool, why: str
    ) -> tuple[str, int]:
        """Accept or refuse for good; returns the state, and Redis's clock [ms].

        Who has asked withdraws with a refusal, while there is no answer yet. Raises
        Refused: not_registered, not_owner, no_such_introduction, caller_gone,
        answered_already.
        """
        state = "met" if accept else "refused"
        args = [name, digest(token), session, state, why, secrets.token_hex(32)]
        word, value = await self.database.run(ANSWER, room, *args)
        raise_unless(word in (state, "withdrawn"), word, value)
        return word, value

    async def read(
        self, room: str, name: str, token: str, after: str
    ) -> tuple[list[Entry], str, int]:
        """What came into an inbox after a place; the next place; Redis's clock [ms].

        Raises Refused: not_registered, not_owner.
        """
        many = 4 * INBOX  # more than there can be
        args: list[str | int] = [name, digest(token), after, many]
        word, value, *rest = await self.database.run(READ, room, *args)
        raise_unless(word == "ok", word, value)
        last, rows = rest
        return [entry(name, row) for row in rows], last, value

    async def report(
        self, room: str, name: str, token: str, session: str, events: Sequence[Any]
    ) -> None:
        """Keep what one of the two has seen. Raises Refused: no_such_introduction."""
        kept = json.dumps(events)
        args = [name, digest(token), session, kept]
        word, value = await self.database.run(REPORT, room, *args)
        raise_unless(word == "ok", word, value)

    async def meeting(
        self, room: str, name: str, token: str, session: str
    ) -> list[dict[str, Any]]:
        """What both and the server saw, in the order of time; for those two alone.

        Raises Refused: no_such_introduction.
        """
        key = f"{self.database.room(room)}i:{session}"
        row: dict[str, str] = await self.database.command(key, "HGETALL", key)
        parties = {
            (row.get(role, ""), row.get(f"{role}_token", ""))
            for role in ("caller", "callee")
        }
        if not token or (name, digest(token)) not in parties:
            raise Refused("no_such_introduction")
        return sorted(events_of(row), key=lambda event: float(event["at"]))


def entry(name: str, row: Sequence[str]) -> Entry:
    """Return an entry as the owner of the inbox sees it."""
    id, what, session, caller, callee, why, caller_card, callee_card, *rest = row
    key, answered = rest[0], int(rest[1])
    if name == caller and not (caller == callee and what == "asked"):
        return Entry(
            id, what, session, "caller", callee, why, callee_card, key, answered
        )
    return Entry(id, what, session, "callee", caller, why, caller_card, key, answered)


def events_of(row: dict[str, str]) -> list[dict[str, Any]]:
    """Return all that is known of a meeting; `who` is None for the server itself."""
    events = [
        {"at": int(row[what]), "who": None, "what": word, "note": ""}
        for what, word in (("asked", "asked"), ("answered", row.get("state", "")))
        if what in row
    ]
    for name in {row["caller"], row["callee"]}:
        for event in json.loads(row.get(f"events:{name}", "[]")):
            events.append(event | {"who": name})
    return events
