"""What a rendezvous keeps in Redis, to look at: keys, expiry, entries; no secrets."""

from __future__ import annotations

import re
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
    Times are told from now on: "in 12 s", "3 s ago".
    redis: as `connect` makes it. Raises RedisError.
    """
    keys: list[str] = []
    async for key in redis.scan_iter(match=PATTERN, count=500):
        keys.append(key)
        if len(keys) == MOST_KEYS:
            break
    rooms_first = sorted(keys, key=lambda key: ("::" in key, key))
    second, micro = await redis.time()
    now = 1000 * second + micro / 1000
    found = [await kept(redis, key, now) for key in rooms_first]
    return [each for each in found if each.type != "none"]  # ended meanwhile


async def kept(redis: Any, key: str, now: float) -> Kept:
    """Return one key and what is in it. now: on Redis's clock [ms]."""
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
    told = [
        (_told(name, now), _told(value, now, name == "lease"))
        for name, value in masked(entries)
    ]
    return Kept(key, type, expires, size, tuple(told))


def _told(text: str, now: float, lasts: bool = False) -> str:
    """Write a time or a duration in ms as a person reads it; leave all else."""
    if lasts:
        return f"{float(text) / 1000:g} s"
    if not re.fullmatch(r"1\d{12}(\.\d+)?(-\d+)?", text):
        return text
    seconds = (float(text.partition("-")[0]) - now) / 1000
    return f"in {seconds:.0f} s" if seconds > 0 else f"{-seconds:.0f} s ago"


# How a key is called: a pattern, and words for it.
_NAMES: Final = (
    (r"p:(.*)", "{}, in room {room}"),
    (r"in:(.*)", "what waits for {}, in room {room}"),
    (r"i:(.*)", "introduction {}, in room {room}"),
    (r"like:(.*)", "names that look like {}, in room {room}"),
    (r"names", "all names in room {room}"),
    (r"exp", "when names end in room {room}"),
    (r"rooms", "all rooms"),
    (r"rate:(.*)", "limit on {}: when it is as at first"),
)


def named(key: str) -> str:
    """Return what a key is about, in words; a key that is not ours stays as it is."""
    _, _, rest = key.partition("{p2p}:")
    room, _, rest = rest.partition(":")
    for pattern, words in _NAMES:
        if match := re.fullmatch(pattern, rest, re.DOTALL):
            return words.format(*match.groups(), room=room)
    return key


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
