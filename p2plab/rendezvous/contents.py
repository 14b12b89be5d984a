"""What a rendezvous keeps in Redis, to look at: keys, expiry, entries; no secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

PATTERN: Final = "{p2p}*"  # a Redis may have other guests
MOST_KEYS: Final = 200
MOST_ENTRIES: Final = 8  # of each key
MOST_TEXT: Final = 120  # characters of a value
HASHED: Final = ("token", "caller_token", "callee_token")
SECRET: Final = ("nonce", "before", "key")
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


async def contents(redis: Any) -> list[Kept]:
    """Look at all that is kept, the rooms first.

    Session keys and nonces are masked, and of a token's hash some digits are shown.
    redis: as `connect` makes it. Raises RedisError.
    """
    keys: list[str] = []
    async for key in redis.scan_iter(match=PATTERN, count=500):
        keys.append(key)
        if len(keys) == MOST_KEYS:
            break
    rooms_first = sorted(keys, key=lambda key: ("::" in key, key))
    found = [await kept(redis, key) for key in rooms_first]
    return [each for each in found if each.type != "none"]  # ended meanwhile


async def kept(redis: Any, key: str) -> Kept:
    """Return one key and what is in it."""
    type, left = await redis.type(key), await redis.pttl(key)
    size, entries = 1, [("", "")]
    if type == "hash":
        size, entries = (
            await redis.hlen(key),
            sorted((await redis.hgetall(key)).items()),
        )
    elif type == "zset":
        size = await redis.zcard(key)
        scored = await redis.zrange(key, 0, MOST_ENTRIES - 1, withscores=True)
        entries = [(member, f"{score:.0f}") for member, score in scored]
    elif type == "stream":
        size = await redis.xlen(key)
        rows = await redis.xrevrange(key, count=MOST_ENTRIES)
        entries = [
            (id, " ".join(text for _, text in masked(row.items())))
            for id, row in reversed(rows)
        ]
    elif type == "string":
        entries = [("", await redis.get(key) or "")]
    expires = None if left < 0 else left / 1000
    return Kept(key, type, expires, size, tuple(masked(entries)))


def masked(entries: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Entries without secrets, and not too long."""
    rows = []
    for name, value in entries:
        text = value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}…"
        if name in HASHED:
            text = f"{value[:6]}… (a hash)"
        elif name in SECRET:
            text = MASK if value else ""
        rows.append((name, text))
    return rows
