"""What a rendezvous keeps in Redis, to look at: keys, expiry, entries; no secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

PATTERN: Final = "{p2p}*"  # a Redis may have other guests
MOST_KEYS: Final = 200
MOST_ENTRIES: Final = 8  # of each key
MOST_TEXT: Final = 120  # characters of a value
HASHED: Final = ("token", "caller_token", "callee_token")
SECRET: Final = ("nonce", "before", "key")
MASK: Final = "••••"
TIME: Final = re.compile(r"1\d{12}(\.\d+)?(-\d+)?")  # since 1970 [ms]; id of an entry
# What is after the room in a key, and what is kept there.
KINDS: Final = {
    "p:(.*)": "{}, in room {room}",
    "in:(.*)": "what waits for {}, in room {room}",
    "i:(.*)": "introduction {}, in room {room}",
    "like:(.*)": "who holds what looks like {}, in room {room}",
    "names": "all names in room {room}",
    "exp": "when the names of room {room} end",
    "rooms": "all rooms, and when they end",
    "rate:(.*)": "quota of {}, and when it is whole again",
}


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

    @property
    def what(self) -> str:
        """What is kept there, in words; a key that is not ours stays as it is."""
        _, room, rest = [*self.key.split(":", 2), "", ""][:3]
        for pattern, words in KINDS.items():
            if match := re.fullmatch(pattern, rest, re.DOTALL):
                return words.format(*match.groups(), room=room)
        return self.key


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
        entries = sorted((await redis.hgetall(key)).items())
        size = len(entries)
    elif type == "zset":
        size = await redis.zcard(key)
        scored = await redis.zrange(key, 0, MOST_ENTRIES - 1, withscores=True)
        entries = [(name, f"{score:.0f}" if score else "") for name, score in scored]
    elif type == "stream":
        size = await redis.xlen(key)
        rows = await redis.xrevrange(key, count=MOST_ENTRIES)
        entries = [
            (shown("", id, now), " ".join(shown(k, v, now) for k, v in row.items()))
            for id, row in reversed(rows)
        ]
    elif type == "string":
        entries = [("", await redis.get(key) or "")]
    told = tuple((name, shown(name, value, now)) for name, value in entries)
    return Kept(key, type, None if left < 0 else left / 1000, size, told)


def shown(name: str, value: str, now: float) -> str:
    """A value as a person reads it, short, without a secret. now: as in `kept`."""
    if name in SECRET:
        return MASK if value else ""
    if name in HASHED:
        return f"{value[:6]}… (a hash)"
    if name == "lease" and value.isdecimal():
        return f"{int(value) / 1000:g} s"
    if TIME.fullmatch(value):
        seconds = (float(value.partition("-")[0]) - now) / 1000
        return f"in {seconds:.0f} s" if seconds > 0 else f"{-seconds:.0f} s ago"
    return value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}…"
