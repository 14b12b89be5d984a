"""Names, leases and owners in Redis; one round trip per operation."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass, field
from typing import Final

from p2plab.rendezvous.database import Database, Refused, fresh_nonce, shard_key
from p2plab.rendezvous.lua import ISSUE, OWNER, REAP, SPEND, START, WAKE, Script
from p2plab.rendezvous.model import Limits, Listed, PeerInfo

MIN_TOKEN: Final = 32  # characters of a token that a peer has made itself

# ARGV name token nonce lease, peers rooms names_per_minute source,
#      addresses tcp udp seen
CLAIM: Final = Script(
    START,
    WAKE,
    REAP,
    SPEND,
    ISSUE,
    """
local name, token, nonce, lease = unpack(ARGV)
local record, rooms = record_of(name), shard .. 'rooms'
local function enter()  -- returns why not, and when it may be otherwise [ms]
  if redis.call('ZCOUNT', exp, ms(now), '+inf') >= tonumber(ARGV[5]) then
    return {'room_full', redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')[2] - now}
  end
  redis.call('ZREMRANGEBYSCORE', rooms, '-inf', ms(now))
  if not redis.call('ZSCORE', rooms, room)
      and redis.call('ZCARD', rooms) >= tonumber(ARGV[6]) then
    return {'too_many_rooms', redis.call('ZRANGE', rooms, 0, 0, 'WITHSCORES')[2] - now}
  end
  local pause = spend('names', ARGV[8], ARGV[7])
  if pause then return {'too_many_names', pause} end
  redis.call('DEL', inbox_of(name))  -- it was somebody else's
  redis.call('ZADD', names, 0, name)
  tell('join', name)
  wake(changes)
end
reap()
local owner = redis.call('HGET', record, 'token')
if owner and owner ~= token then
  return {'name_taken', redis.call('PTTL', record)}
end
local refusal = not owner and enter()
if refusal then return refusal end
redis.call('HSET', record, 'token', token, 'lease', lease, 'since', ms(now),
  'addresses', ARGV[9], 'tcp', ARGV[10], 'udp', ARGV[11], 'seen', ARGV[12])
redis.call('HDEL', record, 'observed4', 'observed6')
issue(record, nonce, lease)
redis.call('PEXPIREAT', record, ms(now + lease))
redis.call('ZADD', exp, ms(now + lease), name)
redis.call('ZADD', rooms, 'GT', ms(now + lease), room)
return {owner and 'refreshed' or 'created', now}
""",
)

# ARGV name token nonce
BEAT: Final = Script(
    START,
    ISSUE,
    OWNER,
    """
local lease = redis.call('HGET', record, 'lease')
issue(record, ARGV[3], lease)
redis.call('PEXPIREAT', record, ms(now + lease))
redis.call('ZADD', room .. 'exp', ms(now + lease), name)
redis.call('ZADD', shard .. 'rooms', 'GT', ms(now + lease), room)
return {'ok', tonumber(lease)}
""",
)

# ARGV name token. Whoever waits at the inbox is told that there is none.
LEAVE: Final = Script(
    START,
    WAKE,
    REAP,
    OWNER,
    """
redis.call('DEL', record, inbox)
redis.call('ZREM', names, name)
redis.call('ZREM', exp, name)
tell('leave', name)
wake(changes)
wake(inbox)
return {'ok', 0}
""",
)

# ARGV cursor limit. A name whose record has ended is skipped.
PAGE: Final = Script(
    START,
    WAKE,
    REAP,
    """
reap()
local found = redis.call('ZRANGE', names, ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
local rows = {}
for _, name in ipairs(found) do
  local since = redis.call('HGET', record_of(name), 'since')
  if since then
    table.insert(rows, name)
    table.insert(rows, since)
  end
end
local last = ''
if #found == tonumber(ARGV[2]) then last = found[#found] end
local at = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
return {last, rows, at and at[1] or '0-0'}
""",
)

# KEYS shard; ARGV nonce field value
OBSERVED: Final = Script(
    """
local nonce = ARGV[1]
local record = redis.call('GET', KEYS[1] .. 'nonce:' .. nonce)
if not record then return 0 end
local last, before = unpack(redis.call('HMGET', record, 'nonce', 'before'))
if nonce ~= last and nonce ~= before then return 0 end
redis.call('HSET', record, ARGV[2], ARGV[3])
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Grant:
    """A name given.

    lease: seconds granted. nonce: the user name for a STUN request.
    token: the owner's secret, told once; None when the owner came with its own.
    now: Redis's clock [ms since 1970]. created: whether the name was free.
    """

    peer: PeerInfo
    lease: float
    token: str | None = field(repr=False)
    nonce: str = field(repr=False)
    now: int
    created: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list.

    next: the cursor of the next page; None on the last one.
    at: where the changes after this page begin.
    """

    peers: tuple[Listed, ...]
    next: str | None
    at: str


class Names:
    """The names of all rooms. Every method raises RedisError when Redis is away."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self.database = database
        self.limits = limits

    async def claim(
        self, room: str, peer: PeerInfo, lease: float, token: str = ""
    ) -> Grant:
        """Take a free name, or come back to it with the token that it is held with.

        lease: seconds. token: on a free name, one of at least 32 characters becomes its
        owner's, so that a claim may be repeated when its answer was lost.
        Raises Refused: name_taken, room_full, too_many_rooms, too_many_names.
        """
        chosen = len(token) >= MIN_TOKEN
        proof = token if chosen else secrets.token_urlsafe(32)  # a secret has no seed
        nonce = fresh_nonce(self.database.shard_of(room))
        args: list[str | int] = [peer.name, digest(proof), nonce, round(lease * 1000)]
        args += [self.limits.peers, self.limits.rooms, self.limits.names_per_minute]
        args += [source_of(peer.seen), " ".join(peer.addresses)]
        args += [peer.tcp_port, peer.udp_port, peer.seen]
        word, value = await self.database.run(CLAIM, room, *args)
        if word not in ("created", "refreshed"):
            raise Refused(word, max(value, 0) / 1000)
        shown = None if chosen else proof
        return Grant(peer, lease, shown, nonce, value, word == "created")

    async def beat(self, room: str, name: str, token: str) -> tuple[float, str]:
        """Start the lease anew; returns its seconds, and a fresh nonce.

        Raises Refused: not_registered (the lease has ended), not_owner.
        """
        nonce = fresh_nonce(self.database.shard_of(room))
        args = [name, digest(token), nonce]
        word, value = await self.database.run(BEAT, room, *args)
        raise_unless(word == "ok", word, value)
        return float(value) / 1000, nonce

    async def leave(self, room: str, name: str, token: str) -> None:
        """Give the name back. Raises Refused: not_registered, not_owner."""
        word, value = await self.database.run(LEAVE, room, name, digest(token))
        raise_unless(word == "ok", word, value)

    async def get(self, room: str, name: str) -> Listed:
        """Look one peer up. Raises Refused: no_such_peer."""
        record = f"{self.database.room(room)}p:{name}"
        since = await self.database.command(record, "HGET", record, "since")
        if since is None:
            raise Refused("no_such_peer")
        return Listed(name, int(since) / 1000)

    async def page(self, room: str, cursor: str, limit: int) -> Page:
        """The peers whose names come after the cursor, by their bytes in UTF-8.

        A page may hold fewer peers than the limit, even none, and yet not be the last.
        """
        start = f"({cursor}" if cursor else "-"
        last, rows, at = await self.database.run(PAGE, room, start, limit)
        pairs = zip(rows[::2], rows[1::2], strict=True)
        peers = tuple(Listed(name, int(since) / 1000) for name, since in pairs)
        return Page(peers, last or None, at)

    async def observed(self, nonce: str, address: str, port: int) -> bool:
        """Write where a peer's datagrams come from into its record.

        nonce: what it was given with its name or its last heartbeat; false if nobody
        holds it. address: one for IPv4 and one for IPv6 is kept, the newest.
        """
        shard = nonce.partition("-")[0]
        if not (shard.isascii() and shard.isdecimal() and len(nonce) < 64):
            return False
        if int(shard) >= self.database.shards:
            return False
        version = ipaddress.ip_address(address).version
        args = [nonce, f"observed{version}", f"{address} {port}"]
        done = await self.database.call(OBSERVED, [shard_key(int(shard))], args)
        return bool(done)


def digest(token: str) -> str:
    """What is stored of a token, so that a copy of the data gives no name away."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def source_of(seen: str) -> str:
    """Whom an address belongs to: in IPv6 a household has a whole /64."""
    if ":" not in seen:
        return seen
    return str(ipaddress.IPv6Network((seen, 64), strict=False))


def raise_unless(fine: bool, word: str, left: int) -> None:
    """Raise what a script has refused; left: milliseconds until it may be otherwise."""
    if not fine:
        raise Refused(word, left / 1000 if left > 0 else None)
