"""What tests of the store share: it runs over three kinds of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest
from redis_server import RedisServer, ThreeNodes

from p2plab.rendezvous.model import LOBBY, Claim, Registration
from p2plab.rendezvous.store import Refused, Store, key

SEEN = "203.0.113.9"
CLAIM: dict[str, Any] = {
    "addresses": ["192.168.1.7", "2001:db8::7"],
    "tcp_port": 5001,
    "udp_port": 5002,
}


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


@pytest.fixture(params=["fakeredis", "real", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    url = ""
    if request.param != "fakeredis":
        server: RedisServer | ThreeNodes = request.getfixturevalue(request.param)
        server.empty()
        url = server.url
    made = Store(url)
    yield made
    await made.aclose()


async def take(
    store: Store,
    name: str,
    token: str = "",
    room: str = LOBBY,
    seen: str = SEEN,
    **changed: Any,
) -> Registration:
    """Take a name, as every peer would."""
    claim = Claim(**CLAIM | {"lease": 60.0} | changed)
    return (await store.claim(room, name, claim, seen, token))[0]


async def names(
    store: Store, cursor: str = "", limit: int = 100, room: str = LOBBY
) -> list[str]:
    return [peer.name for peer in (await store.page(room, cursor, limit)).peers]


async def end_lease(store: Store, *names: str) -> None:
    """Let the leases have ended long ago, without waiting for it."""
    for name in names:
        await store.redis.pexpireat(key(LOBBY, f"p:{name}"), 1)
    await store.redis.zadd(key(LOBBY, "exp"), dict.fromkeys(names, 1))


async def refusal(wish: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await wish
    return caught.value
