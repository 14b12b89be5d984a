"""Names and introductions in Redis: scripts, each of which is done whole or not at all.

All keys share one hash tag, so that a cluster keeps them in one slot, where a script
may touch several:

    {p2p}:ROOM:p:NAME     hash    the record of a name; Redis ends it with the lease
    {p2p}:ROOM:like:FORM  string  who holds all names that look like this one
    {p2p}:ROOM:names      zset    score 0, for paging in the order of names
    {p2p}:ROOM:exp        zset    score = end of the lease [ms], to reap and count
    {p2p}:ROOM:in:NAME    stream  what waits for a peer
    {p2p}:ROOM:i:SESSION  hash    an introduction, and what its parties report of it
    {p2p}::rooms          zset    score = end of the room's last lease [ms]
    {p2p}::rate:WHAT:WHO  string  when so much may be done again as at first [ms]
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import fakeredis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from p2plab.errors import RendezvousError
from p2plab.rendezvous.model import (
    BEGINNING,
    INTRODUCTION_LIFE,
    MAX_WAIT,
    Candidate,
    Claim,
    Inbox,
    Listed,
    Met,
    News,
    Notice,
    Page,
    Quotas,
    Registration,
    Renewed,
    Sighting,
    State,
    look,
)
from p2plab.rendezvous.troubles import HUNG_UP, in_words

PATIENCE: Final = 1.0  # s for Redis to connect or answer, below the client's own
AT_ONCE: Final = 64  # commands, each of which has a connection to itself
MANY: Final = 100_000  # connections for those who wait: their number has other limits
LISTEN: Final = 0.5  # s for a Redis to say something unasked
MAX_SAID: Final = 1_000  # bytes of what a Redis says unasked
MIN_TOKEN: Final = 32  # characters of a token that a peer has made itself
START: Final = 0.05  # s after the answer at which both begin to probe
INBOX_LIFE: Final = 120_000  # ms that something waits to be read
LIVES: Final = {"inbox_life": INBOX_LIFE, "life": round(1000 * INTRODUCTION_LIFE)}
CLUSTER: Final = ("redis+cluster", "rediss+cluster")

# What begins every script. It has its arguments as one JSON object, `ask`, and answers
# with one. The clock is Redis's own: the clocks of the servers do not matter. Lua by
# itself would write a time as 1.8e+12; `ms` does not.
COMMON: Final = """
local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ms(number) return string.format('%.0f', number) end
local answer = cjson.encode
local function refuse(word, wait) return answer({refused = word, wait = wait}) end

-- Return why the asker does not own a name.
local function not_mine(record)
  local owner = redis.call('HGET', record, 'token')
  if not owner then return refuse('not_registered') end
  if owner ~= ask.token then return refuse('not_owner', redis.call('PTTL', record)) end
end

-- Let `limit` things pass in a minute, and when they are used up one now and then;
-- return how long to wait [ms] for the next. Kept is when the bucket is full again.
local function spend(rate, limit)
  local full = math.max(tonumber(redis.call('GET', rate) or 0), now) + 60000 / limit
  if full > now + 60000 then return math.ceil(full - now - 60000) end
  redis.call('SET', rate, ms(full), 'PX', math.max(math.ceil(full - now), 1))
end

-- Hold a name against those that look alike; `alike` is their common form.
local function hold(alike, lease)
  redis.call('SET', alike, ask.name, 'PX', ms(lease))
end

-- A name has two nonces that count: the last one, and the one before, which may be on
-- its way in a STUN request.
local function renew(record, exp, rooms, lease)
  redis.call('HSET', record, 'before', redis.call('HGET', record, 'nonce') or '',
    'nonce', ask.nonce)
  redis.call('PEXPIREAT', record, ms(now + lease))
  redis.call('ZADD', exp, ms(now + lease), ask.name)
  redis.call('ZADD', rooms, 'GT', ms(now + lease), ask.room)
end

-- An inbox holds a thousand entries: more than one source can fill before they are
-- read or over.
local function put_in(inbox, what, peer, ...)
  local entry = redis.call('XADD', inbox, 'MAXLEN', '~', 1000, '*', 'what', what,
    'session', ask.session, 'peer', peer, ...)
  redis.call('PEXPIRE', inbox, ask.inbox_life)
  return entry
end

local function hash(key)
  local row, fields = redis.call('HGETALL', key), {}
  for place = 1, #row, 2 do fields[row[place]] = row[place + 1] end
  return fields
end
"""

CLAIM: Final = """
local record, inbox, names, exp, alike, rooms, rate = unpack(KEYS)
-- Take ended leases off the indices, a hundred at a time: no call takes long.
local dead = redis.call('ZRANGEBYSCORE', exp, '-inf', '(' .. ms(now), 'LIMIT', 0, 100)
if #dead > 0 then
  redis.call('ZREM', names, unpack(dead))
  redis.call('ZREM', exp, unpack(dead))
end
local owner = redis.call('HGET', record, 'token')
if owner and owner ~= ask.token then
  return refuse('name_taken', redis.call('PTTL', record))
end
local holder = redis.call('GET', alike)
if not owner and holder and holder ~= ask.name then
  return refuse('name_alike', redis.call('PTTL', alike))
end
if not owner then
  if redis.call('ZCOUNT', exp, ms(now), '+inf') >= ask.most_peers then
    return refuse('room_full', redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')[2] - now)
  end
  redis.call('ZREMRANGEBYSCORE', rooms, '-inf', ms(now))
  if not redis.call('ZSCORE', rooms, ask.room)
      and redis.call('ZCARD', rooms) >= ask.most_rooms then
    local first = redis.call('ZRANGE', rooms, 0, 0, 'WITHSCORES')
    return refuse('too_many_rooms', first[2] - now)
  end
  local wait = spend(rate, ask.most_names)
  if wait then return refuse('too_many_names', wait) end
  redis.call('DEL', inbox)  -- it was somebody else's
end
redis.call('ZADD', names, 0, ask.name)
redis.call('HSET', record, 'token', ask.token, 'lease', ms(ask.lease),
  'card', ask.card, 'seen', ask.seen, 'since', ms(now))
redis.call('HDEL', record, 'observed4', 'observed6')
renew(record, exp, rooms, ask.lease)
hold(alike, ask.lease)
return answer({created = not owner})
"""

BEAT: Final = """
local record, exp, alike, rooms = unpack(KEYS)
local refusal = not_mine(record)
if refusal then return refusal end
local lease = tonumber(redis.call('HGET', record, 'lease'))
renew(record, exp, rooms, lease)
hold(alike, lease)
return answer({lease = lease})
"""

# The farewell wakes whoever still waits at the inbox; deleting it would not.
LEAVE: Final = """
local record, inbox, names, exp, alike = unpack(KEYS)
local refusal = not_mine(record)
if refusal then return refusal end
redis.call('DEL', record, inbox, alike)
redis.call('ZREM', names, ask.name)
redis.call('ZREM', exp, ask.name)
put_in(inbox, 'left', ask.name)
return answer({})
"""

OBSERVED: Final = """
local last, before = unpack(redis.call('HMGET', KEYS[1], 'nonce', 'before'))
if ask.nonce ~= last and ask.nonce ~= before then return answer({known = false}) end
redis.call('HSET', KEYS[1], ask.field, ask.value)
return answer({known = true})
"""

ASK: Final = """
local record, target, inbox, introduction = unpack(KEYS)
local refusal = not_mine(record)
if refusal then return refusal end
local theirs, known = redis.call('HGET', target, 'token'), hash(introduction)
if known.caller then
  if known.caller ~= ask.name or known.callee ~= ask.to
      or known.caller_token ~= ask.token then
    return refuse('session_taken')
  end
  if known.state ~= 'asked' or (known.callee_token == theirs
      and redis.call('XRANGE', inbox, known.entry, known.entry)[1]) then
    return answer({state = known.state})
  end
end
if not theirs then return refuse('no_such_peer') end
if not known.caller then
  for place, limit in ipairs(ask.limits) do
    local wait = spend(KEYS[4 + place], limit)
    if wait then return refuse('too_many_introductions', wait) end
  end
  redis.call('HSET', introduction, 'asked', ms(now))
end
redis.call('HSET', introduction, 'caller', ask.name, 'callee', ask.to,
  'caller_token', ask.token, 'callee_token', theirs, 'state', 'asked',
  'entry', put_in(inbox, 'asked', ask.name))
redis.call('PEXPIRE', introduction, ask.life)
return answer({state = 'asked'})
"""

# What both learn of each other is what their records say in this moment. A caller who
# refuses its own introduction withdraws it.
ANSWER: Final = """
local introduction, caller, callee, caller_inbox, callee_inbox = unpack(KEYS)
local known, state = hash(introduction), ask.state
local refusal = not_mine(ask.name == known.callee and callee or caller)
if refusal then return refusal end
if known.callee ~= ask.name or known.callee_token ~= ask.token then
  if known.caller ~= ask.name or known.caller_token ~= ask.token
      or state ~= 'refused' then
    return refuse('no_such_introduction')
  end
  state = 'withdrawn'
end
if known.state == state then return answer({state = state}) end
if known.state == 'withdrawn' then return refuse('caller_gone') end
if known.state ~= 'asked' then return refuse('answered_already') end
if redis.call('HGET', caller, 'token') ~= known.caller_token then
  return refuse('caller_gone')
end
local function introduce(inbox, role, peer, record)
  local card, since, four, six = unpack(
    redis.call('HMGET', record, 'card', 'since', 'observed4', 'observed6'))
  put_in(inbox, 'met', peer, 'role', role, 'key', ask.key, 'card', card,
    'since', since, 'observed4', four or '', 'observed6', six or '')
end
if state == 'met' then
  introduce(caller_inbox, 'caller', known.callee, callee)
  if caller ~= callee then introduce(callee_inbox, 'callee', known.caller, caller) end
elseif state == 'refused' then
  put_in(caller_inbox, state, known.callee, 'why', ask.why)
else
  redis.call('XDEL', callee_inbox, known.entry)
  put_in(callee_inbox, state, known.caller)
end
redis.call('HSET', introduction, 'state', state, 'answered', ms(now))
redis.call('PEXPIRE', introduction, ask.life)
return answer({state = state})
"""

READ: Final = """
local record, inbox = unpack(KEYS)
local refusal = not_mine(record)
if refusal then return refusal end
local entries = redis.call('XRANGE', inbox, '(' .. ask.after, '+')
return answer({entries = entries, now = now})
"""

REPORT: Final = """
local known = hash(KEYS[1])
if not (known.caller == ask.name and known.caller_token == ask.token
    or known.callee == ask.name and known.callee_token == ask.token) then
  return refuse('no_such_introduction')
end
redis.call('HSET', KEYS[1], 'events:' .. ask.name, ask.events)
redis.call('PEXPIRE', KEYS[1], ask.life)
return answer({})
"""


TRY_OUT: Final = """
local try = KEYS[1]
redis.call('HSET', try, 'a', 'b')
redis.call('PEXPIREAT', try, ms(now + 1000))
redis.call('HGETALL', try)
redis.call('DEL', try)
redis.call('ZADD', try, 'GT', 0, 'a')
redis.call('ZRANGE', try, 0, 0)
redis.call('DEL', try)
redis.call('XADD', try, '*', 'a', 'b')
redis.call('XRANGE', try, '-', '+')
redis.call('DEL', try)
redis.call('SET', try, 'a', 'PX', 1000)
redis.call('DEL', try)
return answer({})
"""


class Refused(RendezvousError):
    """The store does not do it.

    reason: a word of api.PROBLEMS.
    retry_after: seconds after which another try makes sense; None if it never does.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Store:
    """The state of a rendezvous; any number of stores may share one Redis.

    url: `redis://host:6379/0`, or `redis+cluster://host:6379` for a cluster; empty for
        `memory`, which is in this process and belongs to one store at a time.
    Every method raises redis.RedisError when Redis is away, and Refused as it says.
    """

    def __init__(
        self,
        url: str = "",
        memory: fakeredis.FakeServer | None = None,
        limits: Quotas | None = None,
    ) -> None:
        self.limits = limits or Quotas()
        self.redis = connect(url, memory)
        # Who waits has a connection to itself, and does not take the others'.
        self._waiting = connect(url, memory, MAX_WAIT)
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # In fakeredis each change of anything wakes all who block. There nobody else
        # writes, so that we know ourselves which inbox has something new.
        self._embedded, self._tls = not url, url.startswith("rediss")
        self._bells: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.redis.aclose()
        await self._waiting.aclose()

    async def try_out(self) -> None:
        """Find out whether Redis lets us do what will be needed; leaves nothing."""
        await self._run(TRY_OUT, [key("", "try")])
        async with self._in_turn():
            await self.redis.xread({key("", "try"): BEGINNING}, count=1)

    async def trouble(self, error: BaseException) -> str:
        """Say what is wrong with the Redis, and what to do; nothing of its URL."""
        words = in_words(error, self._tls)
        if words != HUNG_UP[False]:
            return words
        # A server that refuses a connection says why and hangs up, which is lost when
        # something was on its way to it: listen, and say nothing.
        said = b""
        with suppress(AttributeError, KeyError, OSError):  # a cluster, a file, silence
            place = self.redis.connection_pool.connection_kwargs
            line = await asyncio.open_connection(place["host"], place["port"])
            try:
                said = await asyncio.wait_for(line[0].read(MAX_SAID), LISTEN)
            finally:
                line[1].close()
        return in_words(error, self._tls, said.decode("latin-1"))

    async def ping(self) -> None:
        """Find out whether Redis answers."""
        await self.redis.execute_command("EXISTS", key("", "rooms"))

    # ---- names

    async def claim(
        self, room: str, name: str, claim: Claim, seen: str, token: str = ""
    ) -> tuple[Registration, bool]:
        """Take a free name, or come back to it with the token that it is held with.

        token: on a free name, one of at least 32 characters becomes its owner's, so
        that a claim may be repeated when its answer was lost.
        Returns what was granted, and whether the name was free. Raises Refused:
        name_taken, name_alike, room_full, too_many_rooms, too_many_names.
        """
        if len(token) < MIN_TOKEN:
            token = secrets.token_urlsafe(32)  # a secret has no seed
        nonce = fresh_nonce(room, name)
        answer = await self._run(
            CLAIM,
            keys_of(room, f"p:{name}", f"in:{name}", "names", "exp", alike(name))
            + keys_of("", "rooms", f"rate:names from {source_of(seen)}"),
            room=room,
            name=name,
            token=digest(token),
            nonce=nonce,
            lease=round(1000 * claim.lease),
            card=claim.model_dump_json(exclude={"lease"}),
            seen=seen,
            most_peers=self.limits.peers,
            most_rooms=self.limits.rooms,
            most_names=self.limits.names_per_minute,
        )
        registration = Registration(name, token, claim.lease, seen, room, nonce)
        return registration, answer["created"]

    async def beat(self, room: str, name: str, token: str) -> Renewed:
        """Start the lease anew.

        Raises Refused: not_registered (the lease has ended), not_owner.
        """
        keys = [*keys_of(room, f"p:{name}", "exp", alike(name)), key("", "rooms")]
        nonce = fresh_nonce(room, name)
        answer = await self._run(
            BEAT, keys, room=room, name=name, token=digest(token), nonce=nonce
        )
        return Renewed(answer["lease"] / 1000, nonce)

    async def leave(self, room: str, name: str, token: str) -> None:
        """Give the name back. Raises Refused: not_registered, not_owner."""
        keys = keys_of(room, f"p:{name}", f"in:{name}", "names", "exp", alike(name))
        await self._run(LEAVE, keys, name=name, token=digest(token), session="")
        self._ring(keys[1])

    async def get(self, room: str, name: str) -> Listed:
        """Look one peer up. Raises Refused: no_such_peer."""
        async with self._in_turn():
            since = await self.redis.hget(key(room, f"p:{name}"), "since")
        if since is None:
            raise Refused("no_such_peer")
        return Listed(name, int(since) / 1000)

    async def page(self, room: str, cursor: str, limit: int) -> Page:
        """The peers whose names come after the cursor, by their bytes in UTF-8.

        A page may hold fewer peers than the limit, even none, and yet not be the last.
        """
        start = f"({cursor}" if cursor else "-"
        async with self._in_turn():
            names = await self.redis.zrange(
                key(room, "names"), start, "+", bylex=True, offset=0, num=limit
            )
            records = self.redis.pipeline(transaction=False)
            for name in names:
                records.hget(key(room, f"p:{name}"), "since")
            times = await records.execute()
        peers = [
            Listed(name, int(since) / 1000)
            for name, since in zip(names, times, strict=True)
            if since  # or its lease has ended
        ]
        return Page(peers, names[-1] if len(names) == limit else None)

    async def observed(self, nonce: str, address: str, port: int) -> bool:
        """Write where a peer's datagrams come from into its record.

        nonce: what it was given with its name or its last heartbeat; false if nobody
        holds it. address: one for IPv4 and one for IPv6 is kept, the newest.
        """
        room, _, rest = nonce.partition("/")
        name, _, random = rest.partition("/")
        if not random:
            return False
        version = ipaddress.ip_address(address).version
        answer = await self._run(
            OBSERVED,
            [key(room, f"p:{name}")],
            nonce=nonce,
            field=f"observed{version}",
            value=f"{address} {port}",
        )
        return bool(answer["known"])

    # ---- introductions

    async def ask(
        self, room: str, name: str, token: str, session: str, to: str, seen: str
    ) -> State:
        """Ask, or knock once more.

        session: the caller's choice; asking twice in one session is asking once.
        Raises Refused: not_registered, not_owner, no_such_peer, session_taken,
        too_many_introductions.
        """
        many, source = self.limits, source_of(seen)
        rates = {
            f"introductions from {name} in {room}": many.introductions_from,
            f"introductions from {source}": many.introductions_per_source,
            f"introductions from {source} to {to} in {room}": (
                many.introductions_to_per_source
            ),
            f"introductions to {to} in {room}": many.introductions_to,
        }
        keys = keys_of(room, f"p:{name}", f"p:{to}", f"in:{to}", f"i:{session}")
        answer = await self._run(
            ASK,
            keys + keys_of("", *(f"rate:{each}" for each in rates)),
            name=name,
            token=digest(token),
            session=session,
            to=to,
            limits=list(rates.values()),
        )
        self._ring(keys[2])
        return State(answer["state"])

    async def answer(
        self, room: str, name: str, token: str, session: str, accept: bool, why: str
    ) -> State:
        """Accept or refuse for good.

        Who has asked withdraws with a refusal, while there is no answer yet. Raises
        Refused: not_registered, not_owner, no_such_introduction, caller_gone,
        answered_already.
        """
        introduction = key(room, f"i:{session}")
        async with self._in_turn():
            parties = await self.redis.hmget(introduction, ["caller", "callee"])
        if name not in parties:
            raise Refused("no_such_introduction")
        keys = keys_of(
            room, *(f"p:{n}" for n in parties), *(f"in:{n}" for n in parties)
        )
        answer = await self._run(
            ANSWER,
            [introduction, *keys],
            name=name,
            token=digest(token),
            session=session,
            state="met" if accept else "refused",
            why=why,
            key=secrets.token_hex(32),
        )
        for inbox in keys[2:]:
            self._ring(inbox)
        return State(answer["state"])

    async def inbox(
        self, room: str, name: str, token: str, after: str = BEGINNING, wait: float = 0
    ) -> Inbox:
        """What came into an inbox after a place; or wait for it, up to `wait` seconds.

        Raises Refused: not_registered, not_owner.
        """
        loop = asyncio.get_running_loop()
        inbox, end = key(room, f"in:{name}"), loop.time() + wait
        while True:
            # Before looking: so none is missed.
            bell = self._bells.setdefault(inbox, asyncio.Event())
            found = await self._read(room, name, token, after)
            if found.events or (left := end - loop.time()) <= 0:
                return found
            if self._embedded:
                with suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), left)
            else:
                block = max(round(1000 * left), 1)  # ms; 0 would be for ever
                await self._waiting.xread({inbox: found.next}, block=block)

    async def report(
        self, room: str, name: str, token: str, session: str, events: Sequence[Any]
    ) -> None:
        """Keep what one of the two has seen. Raises Refused: no_such_introduction."""
        await self._run(
            REPORT,
            [key(room, f"i:{session}")],
            name=name,
            token=digest(token),
            events=json.dumps(events),
        )

    async def meeting(
        self, room: str, name: str, token: str, session: str
    ) -> list[Sighting]:
        """What both and the server saw, in the order of time; for those two alone.

        Raises Refused: no_such_introduction.
        """
        async with self._in_turn():
            row = await self.redis.hgetall(key(room, f"i:{session}"))
        both = [(row.get(who), row.get(f"{who}_token")) for who in ("caller", "callee")]
        if (name, digest(token)) not in both:
            raise Refused("no_such_introduction")
        seen = [Sighting(int(row["asked"]) / 1000, "asked")]
        if "answered" in row:
            seen.append(Sighting(int(row["answered"]) / 1000, row["state"]))
        for who in {row["caller"], row["callee"]}:
            for event in json.loads(row.get(f"events:{who}", "[]")):
                seen.append(Sighting(**event, who=who))
        return sorted(seen, key=lambda each: each.at)

    # ---- how it is done

    async def _run(self, script: str, keys: Sequence[str], **ask: Any) -> Any:
        """Run a script, which Redis remembers by itself. Raises Refused."""
        async with self._in_turn():
            words = (*keys, json.dumps(ask | LIVES))
            told = await self.redis.eval(COMMON + script, len(keys), *words)
        try:
            answer = json.loads(told)
        except (TypeError, ValueError):  # which none of our scripts returns
            raise InvalidResponse("a script has returned something else") from None
        if "refused" in answer:
            wait = answer.get("wait")
            raise Refused(answer["refused"], None if wait is None else wait / 1000)
        return answer

    async def _read(self, room: str, name: str, token: str, after: str) -> Inbox:
        keys = keys_of(room, f"p:{name}", f"in:{name}")
        found = await self._run(READ, keys, token=digest(token), after=after)
        events, now = [], found["now"]
        for after, row in found["entries"] or ():
            if int(after.partition("-")[0]) >= now - INBOX_LIFE:
                fields = dict(zip(row[::2], row[1::2], strict=True))
                events.append(event_of(fields, after, now))
        return Inbox(events, after)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        async with self._at_once:
            try:
                yield
            except RuntimeError as why:  # uvloop's, where Redis hung up at once
                raise RedisConnectionError("Connection closed by server") from why

    def _ring(self, inbox: str) -> None:
        if bell := self._bells.pop(inbox, None):
            bell.set()


def key(room: str, rest: str) -> str:
    """Return the name of a key in Redis; room: empty for what all rooms share."""
    return f"{{p2p}}:{room}:{rest}"


def keys_of(room: str, *rests: str) -> list[str]:
    """Return the names of several keys of a room."""
    return [key(room, each) for each in rests]


def connect(
    url: str,
    memory: fakeredis.FakeServer | None = None,
    longest: float = 0.0,
) -> Any:
    """Return a client of Redis, of a cluster, or of `memory` if the URL is empty.

    longest: seconds that a command may block. Raises ValueError for a wrong URL.
    """
    options: dict[str, Any] = {"decode_responses": True, "max_connections": MANY}
    options["encoding_errors"] = "replace"  # of other programs' keys, to look at
    options["protocol"] = 2  # whose answers have one shape, and no greeting before
    if not url:
        return fakeredis.FakeAsyncRedis(
            server=memory or fakeredis.FakeServer(), **options
        )
    options["socket_timeout"] = longest + PATIENCE
    options["socket_connect_timeout"] = PATIENCE
    try:
        parts = urlsplit(url)
        if parts.path.strip("/") and not (
            parts.scheme == "unix" or parts.path.strip("/").isdigit()
        ):
            raise ValueError("the database is a number, such as /0")
        if parts.fragment or "@" in parts.query:
            raise ValueError("a sign of the password has ended the host")
        if parts.scheme not in CLUSTER:
            retry = Retry(ConstantBackoff(0.02), 1, (RedisConnectionError,))
            client: Any = redis.asyncio.Redis.from_url(url, retry=retry, **options)
            client.connection_pool.make_connection()  # which reads all options
            return client
        login, at, hosts = parts.netloc.rpartition("@")
        first, *others = hosts.split(",")
        places = [urlsplit(f"//{each}") for each in others]
        return redis.asyncio.RedisCluster.from_url(
            f"{parts.scheme.removesuffix('+cluster')}://{login}{at}{first}",
            startup_nodes=[
                ClusterNode(str(each.hostname), each.port or 6379) for each in places
            ],
            reinitialize_steps=0,
            **options,
        )
    except (
        ValueError,
        TypeError,
        RedisError,
    ):  # whose words may hold a piece of a password
        raise ValueError(f"the Redis URL cannot be read: {_unreadable(url)}") from None


def _unreadable(url: str) -> str:
    """What is wrong with a URL, without a word of it."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    for sign in "#/?@[]" if at else "":
        if sign in login:
            code = f"%{ord(sign):X}"
            return f"in a user name or a password write {sign} as {code}"
    return (
        "write redis://HOST:6379/0 (rediss:// with TLS, unix:///PATH for a socket "
        "file), or for a cluster redis+cluster://HOST:6379; a port and a database are "
        "numbers"
    )


def event_of(row: dict[str, str], id: str, now: int) -> News:
    """Return an entry of an inbox as its owner is told it. now: Redis's clock [ms]."""
    session, peer = row["session"], row["peer"]
    if row["what"] != "met":
        return Notice(row["what"], session, peer, row.get("why", ""))  # type: ignore[arg-type]  # as ASK and ANSWER write it
    card, answered = json.loads(row["card"]), int(id.partition("-")[0])
    port = card["udp_port"]
    places = {(each, port): "host" for each in card["addresses"]}
    for each in filter(None, (row["observed4"], row["observed6"])):
        address, _, seen_port = each.partition(" ")
        places.setdefault((address, int(seen_port)), "observed")
    return Met(
        session=session,
        peer=peer,
        role=row["role"],  # type: ignore[arg-type]  # one of the two
        candidates=tuple(
            Candidate(kind, *place)  # type: ignore[arg-type]  # one of the two
            for place, kind in places.items()
        ),
        addresses=tuple(card["addresses"]),
        tcp_port=card["tcp_port"],
        udp_port=port,
        key=bytes.fromhex(row["key"]),
        start_in=max(START - (now - answered) / 1000, 0.0),
        since=int(row["since"]) / 1000,
    )


def alike(name: str) -> str:
    """Return the key of all names that look like this one, in their room."""
    return f"like:{look(name)}"


def fresh_nonce(room: str, name: str) -> str:
    """Return a STUN user name that nobody guesses; it tells whose it is."""
    return f"{room}/{name}/{secrets.token_urlsafe(12)}"


def digest(token: str) -> str:
    """What is stored of a token, so that a copy of the data gives no name away."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def source_of(seen: str) -> str:
    """Whom an address belongs to: in IPv6 a household has a whole /64."""
    if ":" not in seen:
        return seen
    return str(ipaddress.IPv6Network((seen, 64), strict=False))
