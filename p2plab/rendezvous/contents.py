"""What a rendezvous keeps in Redis, to look at: keys, expiry, entries; no secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import fakeredis
from redis import Redis, RedisCluster

from p2plab.rendezvous.nodes import CLUSTER, PATIENCE

PATTERN: Final = "{p2p*"  # a Redis may have other guests
MOST_KEYS: Final = 200
MOST_ENTRIES: Final = 8  # of each key
MOST_TEXT: Final = 120  # characters of a value
HASHED: Final = ("token", "caller_token", "callee_token")
SECRET: Final = ("nonce", "before")
MASK: Final = "••••"


@dataclass(frozen=True, slots=True)
class Kept:
    """A key. expires_in: seconds; None: never. entries: name and value of each.

    size: how many entries there are, of which a long list shows the newest.
    """

    key: str
    type: str
    expires_in: float | None
    size: int
    entries: tuple[tuple[str, str], ...]


def contents(redis_url: str, memory: fakeredis.FakeServer) -> list[Kept]:
    """Look at all that is kept, the rooms first.

    Session keys and nonces are masked, and of a token's hash some digits are shown.
    redis_url: as a server takes it; "" for what is in `memory`. Raises RedisError.
    """
    redis = client(redis_url, memory)
    try:
        keys = islice(redis.scan_iter(match=PATTERN, count=500), MOST_KEYS)
        rooms_first = sorted(keys, key=lambda key: ("::" in key, key))
        found = [kept(redis, key) for key in rooms_first]
    finally:
        redis.close()
    return [each for each in found if each.type != "none"]  # ended meanwhile


def client(redis_url: str, memory: fakeredis.FakeServer) -> Any:
    """Return a plain client; what the servers use lives in their event loops."""
    if not redis_url:
        return fakeredis.FakeRedis(server=memory, decode_responses=True)
    scheme, _, rest = redis_url.partition("://")
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
    }
    if scheme in CLUSTER:
        url = f"{scheme.removesuffix('+cluster')}://{rest}"
        return RedisCluster.from_url(url, **options)
    return Redis.from_url(redis_url, **options)


def kept(redis: Any, key: str) -> Kept:
    """Return one key and what is in it."""
    type, left = redis.type(key), redis.pttl(key)
    size, entries = 1, [("", "")]
    if type == "hash":
        size, entries = redis.hlen(key), sorted(redis.hgetall(key).items())
    elif type == "zset":
        size = redis.zcard(key)
        scored = redis.zrange(key, 0, MOST_ENTRIES - 1, withscores=True)
        entries = [(member, f"{score:.0f}") for member, score in scored]
    elif type == "stream":
        size = redis.xlen(key)
        rows = redis.xrevrange(key, count=MOST_ENTRIES)
        entries = [(id, " ".join(fields.values())) for id, fields in reversed(rows)]
    elif type == "string":
        entries = [("", redis.get(key) or "")]
    expires_in = None if left < 0 else left / 1000
    return Kept(shown_key(key), type, expires_in, size, tuple(masked(key, entries)))


def shown_key(key: str) -> str:
    """A key without the nonce that may be in it."""
    head, nonce, _ = key.partition("::nonce:")
    return f"{head}{nonce}{MASK}" if nonce else key


def masked(key: str, entries: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Entries without secrets, and not too long."""
    secret = ":k:" in key
    rows = []
    for name, value in entries:
        text = value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}…"
        if name in HASHED:
            text = f"{value[:6]}… (a hash)"
        elif secret or name in SECRET:
            text = MASK if value else ""
        rows.append((name, text))
    return rows
