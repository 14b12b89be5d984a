"""Names, leases and owners, kept in Redis; one round trip per operation."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from p2plab.errors import RendezvousError
from p2plab.rendezvous.model import MAX_PAGE, Limits, PeerInfo

PATIENCE = 1.0  # seconds for Redis to connect or answer, below the client's own timeout
MINUTE = 60_000  # milliseconds

# One hash tag, so that all keys live in one slot of a cluster and one script may touch
# them:
#   …:p:NAME   hash    the record; Redis ends it with the lease
#   …:names    zset    score 0, for paging in the order of names
#   …:exp      zset    score = end of the lease [ms], for reaping and counting
#   …:rl:WHO   string  new names of one source in this minute
PREFIX = "{p2p:0}:lobby:"

# The clock is Redis's own: the clocks of the servers do not matter. Ended leases are
# taken off the two indices a hundred at a time, so that no call takes long.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ms(number) return string.format('%.0f', number) end
local function reap(names, exp)
  local dead = redis.call(
    'ZRANGEBYSCORE', exp, '-inf', '(' .. ms(now), 'LIMIT', 0, 100)
  if #dead > 0 then
    redis.call('ZREM', names, unpack(dead))
    redis.call('ZREM', exp, unpack(dead))
  end
end
"""

# KEYS record names exp rate
# ARGV name fresh presented lease peers names_per_minute minute addresses tcp udp seen
CLAIM = (
    CLOCK
    + """
local record, names, exp, rate = unpack(KEYS)
local name, fresh, presented, lease = unpack(ARGV)
reap(names, exp)
local owner = redis.call('HGET', record, 'token')
if owner and owner ~= presented and owner ~= fresh then  -- fresh: our own second try
  return {'name_taken', redis.call('PTTL', record)}
end
if not owner then
  if redis.call('ZCOUNT', exp, ms(now), '+inf') >= tonumber(ARGV[5]) then
    local first = redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')
    return {'rendezvous_full', math.floor(first[2] - now)}
  end
  if tonumber(redis.call('GET', rate) or '0') >= tonumber(ARGV[6]) then
    return {'too_many_names', redis.call('PTTL', rate)}
  end
  if redis.call('INCR', rate) == 1 then redis.call('PEXPIRE', rate, ARGV[7]) end
  owner = fresh
end
redis.call('HSET', record, 'token', owner, 'lease', lease,
  'addresses', ARGV[8], 'tcp', ARGV[9], 'udp', ARGV[10], 'seen', ARGV[11])
redis.call('PEXPIREAT', record, ms(now + lease))
redis.call('ZADD', names, 0, name)
redis.call('ZADD', exp, ms(now + lease), name)
if owner == fresh then return {'created', 0} end
return {'refreshed', 0}
"""
)

OWNER = """
local record, names, exp = unpack(KEYS)
local name, presented = unpack(ARGV)
local owner = redis.call('HGET', record, 'token')
if not owner then return {'no_such_peer', 0} end
if owner ~= presented then return {'not_owner', redis.call('PTTL', record)} end
"""

BEAT = (
    CLOCK
    + OWNER
    + """
local lease = redis.call('HGET', record, 'lease')
redis.call('PEXPIREAT', record, ms(now + lease))
redis.call('ZADD', exp, ms(now + lease), name)
return {'ok', tonumber(lease)}
"""
)

LEAVE = (
    OWNER
    + """
redis.call('DEL', record)
redis.call('ZREM', names, name)
redis.call('ZREM', exp, name)
return {'ok', 0}
"""
)

# KEYS names exp; ARGV cursor limit prefix. A name whose record has ended is skipped.
PAGE = (
    CLOCK
    + """
reap(KEYS[1], KEYS[2])
local found = redis.call(
  'ZRANGE', KEYS[1], ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
local rows = {}
for _, name in ipairs(found) do
  local row = redis.call('HMGET', ARGV[3] .. name, 'addresses', 'tcp', 'udp', 'seen')
  if row[1] then
    table.insert(row, 1, name)
    table.insert(rows, row)
  end
end
local last = ''
if #found == tonumber(ARGV[2]) then last = found[#found] end
return {last, rows}
"""
)

COUNT = CLOCK + "return redis.call('ZCOUNT', KEYS[1], ms(now), '+inf')"


@dataclass(frozen=True, slots=True)
class Grant:
    """A name given.

    lease: seconds granted.
    token: the owner's secret, told once; None when the owner came back with it.
    """

    peer: PeerInfo
    lease: float
    token: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list.

    next: the cursor of the next page; None on the last one.
    """

    peers: tuple[PeerInfo, ...]
    next: str | None


class Refused(RendezvousError):
    """The store does not do it.

    reason: name_taken, not_owner, no_such_peer, rendezvous_full or too_many_names.
    retry_after: seconds after which another try makes sense; None if it never does.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Store:
    """The names of one rendezvous; any number of stores may share one Redis.

    redis: made with `decode_responses=True`, as `connect` does.
    Every method raises redis.RedisError when Redis is away.
    """

    def __init__(self, redis: Redis, limits: Limits | None = None) -> None:
        self.redis = redis
        self.limits = limits or Limits()
        self._claim = redis.register_script(CLAIM)
        self._beat = redis.register_script(BEAT)
        self._leave = redis.register_script(LEAVE)
        self._page = redis.register_script(PAGE)
        self._count = redis.register_script(COUNT)

    async def claim(self, peer: PeerInfo, lease: float, token: str = "") -> Grant:
        """Take a free name, or refresh it with the token that it was given with.

        lease: seconds. Raises Refused: name_taken, rendezvous_full, too_many_names.
        """
        fresh = secrets.token_urlsafe(32)  # a secret: the one random thing without seed
        args: list[str | int] = [peer.name, digest(fresh), digest(token)]
        args += [round(lease * 1000), self.limits.peers, self.limits.names_per_minute]
        args += [MINUTE, " ".join(peer.addresses)]
        args += [peer.tcp_port, peer.udp_port, peer.seen]
        keys = [*keys_of(peer.name), f"{PREFIX}rl:{source_of(peer.seen)}"]
        word, left = await self._claim(keys, args)
        if word not in ("created", "refreshed"):
            raise Refused(word, max(left, 0) / 1000)
        return Grant(peer, lease, fresh if word == "created" else None)

    async def beat(self, name: str, token: str) -> float:
        """Start the lease anew; returns its seconds.

        Raises Refused: no_such_peer (the lease has ended), not_owner.
        """
        word, value = await self._beat(keys_of(name), [name, digest(token)])
        _raise_unless_ok(word, value)
        return float(value) / 1000

    async def leave(self, name: str, token: str) -> None:
        """Give the name back. Raises Refused: no_such_peer, not_owner."""
        word, value = await self._leave(keys_of(name), [name, digest(token)])
        _raise_unless_ok(word, value)

    async def get(self, name: str) -> PeerInfo:
        """Look one peer up. Raises Refused: no_such_peer."""
        fields = ["addresses", "tcp", "udp", "seen"]
        row = await self.redis.hmget(keys_of(name)[0], fields)
        if row[0] is None:
            raise Refused("no_such_peer")
        return _peer(name, *map(str, row))

    async def page(self, cursor: str = "", limit: int = MAX_PAGE) -> Page:
        """The peers whose names come after the cursor, by their bytes in UTF-8.

        A page may hold fewer peers than the limit, even none, and yet not be the last.
        """
        start = f"({cursor}" if cursor else "-"
        keys = [f"{PREFIX}names", f"{PREFIX}exp"]
        last, rows = await self._page(keys, [start, limit, f"{PREFIX}p:"])
        return Page(tuple(_peer(*row) for row in rows), last or None)

    async def count(self) -> int:
        """How many names are held now."""
        return int(await self._count([f"{PREFIX}exp"]))


def connect(url: str) -> Redis:
    """A client of a Redis server that gives up quickly and comes back by itself.

    Raises ValueError for a URL that Redis does not understand.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            max_connections=50,
            timeout=PATIENCE,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            # One more try, for a connection that died while it lay in the pool.
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        )
    except ValueError as error:
        wish = "redis_url must look like redis://host:6379/0"
        raise ValueError(f"{wish}: {error}") from None  # the URL may hold a password
    return Redis.from_pool(pool)


def digest(token: str) -> str:
    """What is stored of a token, so that a copy of the data gives no name away."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def keys_of(name: str) -> list[str]:
    """The record of a name, and the two indices."""
    return [f"{PREFIX}p:{name}", f"{PREFIX}names", f"{PREFIX}exp"]


def source_of(seen: str) -> str:
    """Whom an address belongs to: in IPv6 a household has a whole /64."""
    if ":" not in seen:
        return seen
    return str(ipaddress.IPv6Network((seen, 64), strict=False))


def _raise_unless_ok(word: str, left: int) -> None:
    if word == "not_owner":
        raise Refused(word, max(left, 0) / 1000)
    if word != "ok":
        raise Refused(word)


def _peer(name: str, *row: str) -> PeerInfo:
    addresses, tcp_port, udp_port, seen = row
    return PeerInfo(
        name, tuple(addresses.split(" ")), int(tcp_port), int(udp_port), seen
    )
