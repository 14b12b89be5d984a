"""What changed in a room since somebody looked: for lists that stay alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.rendezvous.database import Database
from p2plab.rendezvous.lua import CHANGES, REAP, START, WAKE, Script
from p2plab.rendezvous.model import MAX_PAGE, Change

# ARGV after limit. The stream is trimmed from its old end: who has seen an entry that
# is not there any more may have missed others.
LOOK: Final = Script(
    START,
    WAKE,
    REAP,
    f"""
reap()
local after, reset = ARGV[1], 0
if after == '0-0' then
  if redis.call('XLEN', changes) >= {CHANGES} then reset = 1 end
elseif #redis.call('XRANGE', changes, after, after) == 0 then
  reset = 1
end
local first = redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')[2]
local wait = first and math.max(first - now, 0) or -1
local rows = {{}}
if reset == 0 then
  rows = redis.call('XRANGE', changes, '(' .. after, '+', 'COUNT', ARGV[2])
end
return {{reset, wait, rows}}
""",
)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    at: where the next look begins. reset: changes were missed, so list the room anew.
    ends: seconds until the first lease of the room ends; None in an empty room.
    """

    changes: tuple[Change, ...]
    at: str
    reset: bool
    ends: float | None


class Changes:
    """Who came and who went, room by room."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def key(self, room: str) -> str:
        """What to wait for at the hub."""
        return f"{self.database.room(room)}changes"

    async def look(self, room: str, after: str) -> Look:
        """Return the changes after a place. Raises RedisError when Redis is away."""
        answer = await self.database.run(LOOK, room, after, MAX_PAGE)
        reset, wait, rows = answer
        found = [(at, dict(zip(row[::2], row[1::2], strict=True))) for at, row in rows]
        changes = tuple(Change(row["name"], row["what"]) for _, row in found)
        at = found[-1][0] if found else after
        return Look(changes, at, bool(reset), wait / 1000 if wait >= 0 else None)
