"""What tests of the store share: it runs over three kinds of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator

import pytest
import redis.asyncio
from redis_server import RedisServer, ThreeNodes

from p2plab.rendezvous.database import Refused
from p2plab.rendezvous.model import LOBBY, PeerInfo
from p2plab.rendezvous.names import Page
from p2plab.rendezvous.nodes import Nodes, Single, connect, memory
from p2plab.rendezvous.store import Store

SHARDS = 16  # of the cluster
RAW: dict[Nodes, redis.asyncio.Redis] = {}  # a client of the node with the lobby


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    with ThreeNodes(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture(params=["fakeredis", "redis-server", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "fakeredis":
        made = Store(memory())
    else:
        name = {"redis-server": "real", "cluster": "cluster"}[request.param]
        server: RedisServer | ThreeNodes = request.getfixturevalue(name)
        server.empty()
        shards = SHARDS if request.param == "cluster" else 1
        made = Store(connect(server.url), shards=shards)
    nodes = made.database.nodes
    RAW[nodes] = (await nodes.line_of(made.database.room(LOBBY))).redis
    yield made
    del RAW[nodes]
    await made.database.nodes.aclose()


def peer(name: str, seen: str = "203.0.113.9") -> PeerInfo:
    return PeerInfo(name, ("192.168.1.7", "2001:db8::7"), 5001, 5002, seen)


def raw(store: Store) -> redis.asyncio.Redis:
    """Return a client of the Redis that has the lobby."""
    nodes = store.database.nodes
    return nodes.line.redis if isinstance(nodes, Single) else RAW[nodes]


def key(store: Store, rest: str, room: str = LOBBY) -> str:
    """Return the name of a key of a room."""
    return store.database.room(room) + rest


async def page(
    store: Store, cursor: str = "", limit: int = 100, room: str = LOBBY
) -> Page:
    return await store.names.page(room, cursor, limit)


async def names(
    store: Store, cursor: str = "", limit: int = 100, room: str = LOBBY
) -> list[str]:
    found = await page(store, cursor, limit, room)
    return [peer.name for peer in found.peers]


async def record(store: Store, name: str) -> PeerInfo:
    place = key(store, f"p:{name}")
    row = await store.database.command(place, "HGETALL", place)
    addresses = tuple(row["addresses"].split(" "))
    return PeerInfo(name, addresses, int(row["tcp"]), int(row["udp"]), row["seen"])


async def end_lease(store: Store, *names: str) -> None:
    """Let the leases have ended long ago, without waiting for it."""
    for name in names:
        await raw(store).pexpireat(key(store, f"p:{name}"), 1)
    await raw(store).zadd(key(store, "exp"), dict.fromkeys(names, 1))


async def token_for(store: Store, name: str, room: str = LOBBY) -> str:
    grant = await store.names.claim(room, peer(name), lease=60)
    assert grant.token is not None
    return grant.token


async def refusal(wish: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await wish
    return caught.value
