"""The Redis of a rendezvous: one server, a cluster, or a store in this process."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import fakeredis
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from p2plab.errors import RendezvousError
from p2plab.rendezvous.lua import Script

PATIENCE: Final = 1.0  # s for Redis to connect or answer, below the client's own
BATCH: Final = 64  # calls that share one way to Redis and back
AT_ONCE: Final = 32  # calls on their way to a cluster
MAX_SHARDS: Final = 1024
CLUSTER: Final = ("redis+cluster", "rediss+cluster")

Words = tuple[str | int, ...]  # of a command
Waiting = tuple[Words, asyncio.Future[Any]]


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
    """Runs commands and scripts; those of one moment go to Redis together.

    redis: made with `decode_responses=True`, as `connect` does.
    shards: slots of a cluster that the rooms are spread over; 1 to 1024.
    """

    def __init__(self, redis: Redis | RedisCluster, shards: int = 1) -> None:
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"shards must be in 1..{MAX_SHARDS}, got {shards}")
        self.redis = redis
        self.shards = shards
        self._queue: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._first = asyncio.Lock()

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
        try:
            return await self.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.command("EVAL", script.text, len(keys), *keys, *args)

    async def command(self, *words: str | int) -> Any:
        """Run a command that names its key."""
        if isinstance(self.redis, RedisCluster):
            async with self._gate:
                return await self._of_cluster(self.redis, words)
        future = asyncio.get_running_loop().create_future()
        self._queue.append((words, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await future

    async def agree(self) -> str:
        """Fix the number of shards with the other servers; say what is wrong, or ''."""
        key = "{p2p}:shards"
        await self.redis.set(key, self.shards, nx=True)
        fixed = await self.redis.get(key)
        if int(fixed) == self.shards:
            return ""
        return (
            f"this Redis is used with {fixed} shards, and this server was started with "
            f"{self.shards}: start it with --shards {fixed}"
        )

    async def _of_cluster(self, redis: RedisCluster, words: Words) -> Any:
        async with self._first:  # many first calls at once trip over each other
            await redis.initialize()
        try:
            return await redis.execute_command(*words)
        except AttributeError:
            # redis-py 8.1 may hand out a connection that it closes at that moment,
            # because it has learnt of another node.
            return await redis.execute_command(*words)

    async def _send(self) -> None:
        """Empty the queue, batch by batch; one batch is on its way at a time."""
        try:
            while self._queue:
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                try:
                    await self._send_together(batch)
                except Exception as why:  # nobody may be left waiting
                    batch += self._queue  # they would wait as long, and in vain
                    self._queue = []
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(why)
        finally:
            self._sender = None

    async def _send_together(self, batch: list[Waiting]) -> None:
        assert isinstance(self.redis, Redis)
        async with self.redis.pipeline(transaction=False) as pipe:
            for words, _ in batch:
                pipe.execute_command(*words)
            answers = await pipe.execute(raise_on_error=False)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # the caller has gone
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def shard_key(shard: int) -> str:
    """Return what the keys begin with that all rooms of a shard share."""
    return f"{{p2p:{shard}}}::"


def fresh_nonce(shard: int) -> str:
    """Return a STUN user name that nobody guesses; it tells where its record is."""
    return f"{shard}-{secrets.token_urlsafe(12)}"


def connect(url: str, patience: float = PATIENCE) -> Redis | RedisCluster:
    """A client that gives up after `patience` seconds and comes back by itself.

    url: `redis://host:6379/0`, or `redis+cluster://host:6379,host:6380` with some nodes
    of a cluster. Raises ValueError for any other.
    """
    # One more try, for a connection that died while it lay in the pool.
    retry = Retry(NoBackoff(), 1, (RedisConnectionError,))
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": patience,
        "socket_connect_timeout": PATIENCE,
    }
    try:
        if url.startswith(CLUSTER):
            return RedisCluster(**cluster_options(url), **options)
        pool = BlockingConnectionPool.from_url(
            url, max_connections=50, timeout=PATIENCE, retry=retry, **options
        )
    except ValueError as error:
        wish = (
            "redis_url must look like redis://host:6379/0, or for a cluster "
            "redis+cluster://host:6379"
        )
        raise ValueError(f"{wish}: {error}") from None  # the URL may hold a password
    return Redis.from_pool(pool)


def cluster_options(url: str) -> dict[str, Any]:
    """Return what RedisCluster takes, out of a URL. Raises ValueError."""
    parts = urlsplit(url)
    nodes = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        node = urlsplit(f"//{place}")
        if not node.hostname:
            raise ValueError("a node of the cluster has no host")
        nodes.append(ClusterNode(node.hostname, node.port or 6379))
    return {
        "startup_nodes": nodes,
        "username": parts.username,
        "password": parts.password,
        "ssl": parts.scheme.startswith("rediss"),
    }


def memory(server: fakeredis.FakeServer | None = None) -> Redis:
    """A Redis inside this process."""
    redis = fakeredis.FakeAsyncRedis(
        server=server or fakeredis.FakeServer(), decode_responses=True
    )
    assert isinstance(redis, Redis)
    return redis
