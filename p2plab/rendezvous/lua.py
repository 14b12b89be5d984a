"""The words that all scripts share: the clock, telling, reaping, owners, limits.

A script is given KEYS room and shard: no keys themselves, but what its keys begin with.
They hold one hash tag, so whatever a script touches lives in one slot of a cluster:

    {p2p:N}:ROOM:p:NAME      hash    the record of a name; Redis ends it with the lease
    {p2p:N}:ROOM:names       zset    score 0, for paging in the order of names
    {p2p:N}:ROOM:exp         zset    score = end of the lease [ms], to reap and count
    {p2p:N}:ROOM:changes     stream  who came and who went
    {p2p:N}:ROOM:in:NAME     stream  what waits for a peer: a word and a session
    {p2p:N}:ROOM:i:SESSION   hash    an introduction, and what its parties report of it
    {p2p:N}:ROOM:k:SESSION   string  the key of an accepted one
    {p2p:N}::events          stream  which of these streams has something new
    {p2p:N}::rooms           zset    score = end of the room's last lease [ms]
    {p2p:N}::nonce:NONCE     string  the record that a STUN request belongs to
    {p2p:N}::rate:WHAT:WHO   string  what was done in this minute
"""

from __future__ import annotations

import hashlib
from typing import Final

MINUTE: Final = 60_000  # ms, as all times in Redis
CHANGES: Final = 1_000  # that a room remembers
CHANGES_LIFE: Final = 600_000
EVENTS: Final = 10_000  # that a shard remembers, for servers that fell behind
INBOX: Final = 1_000  # more than one source can fill before it is read or over
INBOX_LIFE: Final = 120_000
KEY_LIFE: Final = 120_000
INTRODUCTION_LIFE: Final = 600_000


class Script:
    """A Lua script, known to Redis by its hash."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join(parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


# The clock is Redis's own: the clocks of the servers do not matter.
START: Final = """
local room, shard = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ms(number) return string.format('%.0f', number) end
local function record_of(name) return room .. 'p:' .. name end
local function inbox_of(name) return room .. 'in:' .. name end
"""

# Every server follows `events`, and wakes those of its callers who wait for the key.
WAKE: Final = f"""
local function wake(key)
  redis.call('XADD', shard .. 'events', 'MAXLEN', '~', {EVENTS}, '*', 'key', key)
end
"""

# Ended leases are taken off the indices a hundred at a time: no call takes long.
REAP: Final = f"""
local names, exp, changes = room .. 'names', room .. 'exp', room .. 'changes'
local function tell(what, name)
  redis.call('XADD', changes, 'MAXLEN', '~', {CHANGES}, '*', 'what', what, 'name', name)
  redis.call('PEXPIRE', changes, {CHANGES_LIFE})
end
local function reap()
  local dead = redis.call(
    'ZRANGEBYSCORE', exp, '-inf', '(' .. ms(now), 'LIMIT', 0, 100)
  if #dead == 0 then return end
  redis.call('ZREM', names, unpack(dead))
  redis.call('ZREM', exp, unpack(dead))
  for _, name in ipairs(dead) do tell('leave', name) end
  wake(changes)
end
"""

# Returns how long to wait [ms] when `limit` was reached within this minute.
SPEND: Final = f"""
local function spend(what, who, limit)
  local rate = shard .. 'rate:' .. what .. ':' .. who
  local spent = redis.call('INCR', rate)
  if spent == 1 then redis.call('PEXPIRE', rate, {MINUTE}) end
  if spent > tonumber(limit) then return math.max(redis.call('PTTL', rate), 1) end
end
"""

# ARGV begins with name and token.
OWNER: Final = """
local name, token = ARGV[1], ARGV[2]
local record, inbox = record_of(name), inbox_of(name)
local owner = redis.call('HGET', record, 'token')
if not owner then return {'not_registered', 0} end
if owner ~= token then return {'not_owner', redis.call('PTTL', record)} end
"""

# A name has two nonces that count: the last one, and the one before, which may be on
# its way in a STUN request.
ISSUE: Final = """
local function issue(record, nonce, lease)
  local last, before = unpack(redis.call('HMGET', record, 'nonce', 'before'))
  if before then redis.call('DEL', shard .. 'nonce:' .. before) end
  redis.call('HSET', record, 'nonce', nonce, 'before', last or '')
  redis.call('SET', shard .. 'nonce:' .. nonce, record, 'PX', lease)
end
"""
