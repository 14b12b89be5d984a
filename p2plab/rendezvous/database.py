"""Runs the scripts of a rendezvous on whichever Redis has the keys."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from p2plab.errors import RendezvousError
from p2plab.rendezvous.lua import Script
from p2plab.rendezvous.nodes import CHANGED, Nodes

MAX_SHARDS: Final = 1024
PAUSE: Final = 0.05  # s before another try, and more before each later one


class Refused(RendezvousError):
    """The store does not do it.

    reason: a word of refusals.PROBLEMS.
    retry_after: seconds after which another try makes sense; None if it never does.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Database:
    """Scripts and commands, and in which slots their keys live.

    shards: slots of a cluster that the rooms are spread over; 1 to 1024.
    """

    def __init__(self, nodes: Nodes, shards: int = 1) -> None:
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"shards must be in 1..{MAX_SHARDS}, got {shards}")
        self.nodes = nodes
        self.shards = shards

    def shard_of(self, room: str) -> int:
        """Return the number of the shard that a room lives in."""
        return zlib.crc32(room.encode()) % self.shards

    def room(self, room: str) -> str:
        """Return what all keys of a room begin with."""
        return f"{{p2p:{self.shard_of(room)}}}:{room}:"

    def keys(self, room: str) -> tuple[str, str]:
        """Return the KEYS of every script: the room, and its shard."""
        return self.room(room), shard_key(self.shard_of(room))

    async def run(self, script: Script, room: str, *args: str | int) -> Any:
        """Run a script on a room. Raises RedisError when Redis is away."""
        return await self.call(script, self.keys(room), args)

    async def call(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        """Run a script on any keys of one slot."""
        rest = (len(keys), *keys, *args)
        try:
            return await self.command(keys[0], "EVALSHA", script.sha, *rest)
        except NoScriptError:
            return await self.command(keys[0], "EVAL", script.text, *rest)

    async def command(self, key: str, *words: str | int) -> Any:
        """Run a command where a key is; while a cluster changes, several times."""
        for attempt in range(1, self.nodes.tries + 1):
            try:
                line = await self.nodes.line_of(key)
                return await line.command(*words)
            except CHANGED:
                if attempt == self.nodes.tries:
                    raise
                await asyncio.sleep(PAUSE * (attempt - 1))
                await self.nodes.look_again()
        raise AssertionError("there is at least one try")

    async def ping(self) -> None:
        """Find out whether Redis answers. Raises RedisError."""
        await (await self.nodes.line_of("{p2p}")).command("PING")

    async def agree(self) -> str:
        """Fix the number of shards with the other servers; say what is wrong, or ''."""
        key = "{p2p}:shards"
        await self.command(key, "SET", key, self.shards, "NX")
        fixed = int(await self.command(key, "GET", key))
        if fixed == self.shards:
            return ""
        return (
            f"this Redis is used with {fixed} shards, and this server was started with "
            f"{self.shards}: start it with --shards {fixed}"
        )


def shard_key(shard: int) -> str:
    """Return what the keys begin with that all rooms of a shard share."""
    return f"{{p2p:{shard}}}::"


def fresh_nonce(shard: int) -> str:
    """Return a STUN user name that nobody guesses; it tells where its record is."""
    return f"{shard}-{secrets.token_urlsafe(12)}"
