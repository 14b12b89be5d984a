"""Ways to Redis: one server, the nodes of a cluster, or a store in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import fakeredis
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

PATIENCE: Final = 1.0  # s for Redis to connect or answer, below the client's own
BATCH: Final = 64  # commands that share one way to Redis and back
CLUSTER: Final = ("redis+cluster", "rediss+cluster")

AWAY: Final = (RedisError, OSError)
# The cluster is not as we knew it: it makes sense to look again, and to try again.
CHANGED: Final = (
    MovedError,
    AskError,
    TryAgainError,
    ClusterDownError,
    ReadOnlyError,
    RedisConnectionError,
)

Words = tuple[str | int, ...]  # of a command
Waiting = tuple[Words, asyncio.Future[Any]]
Place = tuple[str, int]  # host and port of a node


class Line:
    """A Redis to which the commands of one moment go together, over one connection.

    patience: seconds for it to answer.
    """

    def __init__(self, redis: Redis, patience: float = PATIENCE) -> None:
        self.redis = redis
        self.patience = patience
        pool: Any = redis.connection_pool
        self._connection = pool.make_connection()
        self._queue: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    def another(self) -> Line:
        """A line to the same Redis, for a command that keeps others waiting."""
        return Line(self.redis, self.patience)

    async def command(self, *words: str | int) -> Any:
        """Run a command. Raises RedisError, TimeoutError."""
        future = asyncio.get_running_loop().create_future()
        self._queue.append((words, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await future

    async def aclose(self) -> None:
        """Hang up."""
        if self._sender is not None:
            self._sender.cancel()
        await self._connection.disconnect()

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
        pack: Any = pack_command
        packed = b"".join([pack(words) for words, _ in batch])
        try:
            answers = await self._exchange(packed, len(batch))
        except RedisConnectionError:  # it may have died while nobody needed it
            answers = await self._exchange(packed, len(batch))
        for (words, future), answer in zip(batch, answers, strict=True):
            if future.done():  # the caller has gone
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            elif shape := self.redis.response_callbacks.get(str(words[0])):
                future.set_result(shape(answer))
            else:
                future.set_result(answer)

    async def _exchange(self, packed: bytes, many: int) -> list[Any]:
        answers: list[Any] = []
        try:
            async with asyncio.timeout(self.patience):
                await self._connection.send_packed_command(packed)
                while len(answers) < many:
                    try:
                        answers.append(await self._connection.read_response())
                    except ResponseError as why:  # of this command alone
                        answers.append(why)
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        return answers


class Nodes(Protocol):
    """Where the keys are. together: whether all keys are at one node.

    tries: how often a command makes sense while CHANGED errors come.
    """

    together: bool
    tries: int

    async def line_of(self, key: str) -> Line: ...
    async def look_again(self) -> None: ...
    async def aclose(self) -> None: ...


class Single:
    """One Redis server that has all keys."""

    together = True
    tries = 1

    def __init__(self, redis: Redis, patience: float = PATIENCE) -> None:
        self.line = Line(redis, patience)

    async def line_of(self, key: str) -> Line:
        return self.line

    async def look_again(self) -> None:
        """There is nobody else to ask."""

    async def aclose(self) -> None:
        await self.line.aclose()
        await self.line.redis.aclose()


class Cluster:
    """The nodes of a Redis Cluster, each with a client of its own.

    redis-py's RedisCluster closes connections that other tasks use whenever it learns
    of a change (8.1), so the map of the slots is ours; all it takes is CLUSTER SLOTS.
    """

    together = False
    tries = 12  # over three seconds, in which a replica takes over

    def __init__(self, seeds: list[Place], open: Callable[[Place], Line]) -> None:
        self._open = open
        self._seeds = seeds
        self._lines: dict[Place, Line] = {}
        self._slots: list[tuple[int, int, Place]] = []  # first, last, who has them
        self._lock = asyncio.Lock()
        self._version = 0

    async def line_of(self, key: str) -> Line:
        if not self._slots:
            await self.look_again()
        slot = key_slot(key.encode())
        for first, last, place in self._slots:
            if first <= slot <= last:
                return self._line(place)
        raise ClusterDownError("no node of the cluster has this slot")

    async def look_again(self) -> None:
        """Ask who has which slots. Raises RedisConnectionError if nobody answers."""
        version = self._version
        async with self._lock:
            if version != self._version:
                return  # somebody else has just looked
            for place in dict.fromkeys([*self._seeds, *self._lines]):
                try:
                    rows = await self._line(place).command("CLUSTER", "SLOTS")
                except AWAY:
                    continue
                self._slots = slots_of(rows, place)
                self._version += 1
                return
        raise RedisConnectionError("no node of the cluster answers")

    async def aclose(self) -> None:
        for line in self._lines.values():
            await line.aclose()
            await line.redis.aclose()

    def _line(self, place: Place) -> Line:
        if place not in self._lines:
            self._lines[place] = self._open(place)
        return self._lines[place]


def slots_of(rows: Any, asked: Place) -> list[tuple[int, int, Place]]:
    """Return first and last slot and owner, out of what CLUSTER SLOTS answers.

    asked: who answered; a node that does not know its own address leaves it empty.
    """
    if isinstance(rows, dict):  # as redis-py puts it
        rows = [(*slots, row["primary"]) for slots, row in rows.items()]
    return [
        (int(first), int(last), (str(owner[0] or asked[0]), int(owner[1])))
        for first, last, owner, *_ in rows
    ]


def connect(url: str, patience: float = PATIENCE) -> Nodes:
    """A way to Redis that gives up after `patience` seconds and comes back by itself.

    url: `redis://host:6379/0`, or `redis+cluster://host:6379,host:6380` with some nodes
    of a cluster. Raises ValueError for any other.
    """
    try:
        if not url.startswith(CLUSTER):
            return Single(client_of(url), patience)
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        places = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not all(place.hostname for place in places):
            raise ValueError("a node of the cluster has no host")
        start = f"{parts.scheme.partition('+')[0]}://{login}{at}"

        def open(place: Place) -> Line:
            host = f"[{place[0]}]" if ":" in place[0] else place[0]
            return Line(client_of(f"{start}{host}:{place[1]}"), patience)

        seeds = [(str(place.hostname), place.port or 6379) for place in places]
        open(seeds[0])
        return Cluster(seeds, open)
    except ValueError as error:
        wish = (
            "redis_url must look like redis://host:6379/0, or for a cluster "
            "redis+cluster://host:6379"
        )
        raise ValueError(f"{wish}: {error}") from None  # the URL may hold a password


def client_of(url: str) -> Redis:
    """Return a client of one Redis server, whose connections lines use."""
    return Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,  # whose answers have one shape in all versions of redis-py
        socket_timeout=None,  # a line has patience for all of its commands together
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )


def memory(
    server: fakeredis.FakeServer | None = None, patience: float = PATIENCE
) -> Single:
    """A Redis inside this process."""
    redis = fakeredis.FakeAsyncRedis(
        server=server or fakeredis.FakeServer(), decode_responses=True
    )
    assert isinstance(redis, Redis)
    return Single(redis, patience)
