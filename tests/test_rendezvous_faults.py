"""What a rendezvous survives: real processes that die, clocks that jump, cut lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from loopback import PATIENCE, later
from processes import Server
from redis import Redis
from redis.crc import key_slot
from redis_server import RedisServer, ThreeNodes

from p2plab.errors import PeerNotFound, RendezvousAway
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import BEGINNING, Met, News, Registration
from p2plab.rendezvous.store import key

SESSION = "00c0ffee00c0ffee"
WAIT = 20.0  # s, which no test here waits to the end
QUICK = ("--cluster-node-timeout", "500")  # ms until a node counts as dead
Result = TypeVar("Result")


def register(client: RendezvousClient, name: str, port: int = 5000) -> Registration:
    return client.register(name, ["192.168.1.7"], port + 1, port + 2, 300)


def until_back(do: Callable[[], Result]) -> Result:
    """Ask until somebody answers, as a peer does."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except RendezvousAway:
            assert time.monotonic() < end, "the rendezvous did not come back"


def next_events(
    client: RendezvousClient, registration: Registration, place: str = BEGINNING
) -> tuple[list[News], str]:
    """Wait at an inbox as a peer does, over whatever breaks."""
    while True:
        look = partial(client.inbox, registration, place, WAIT)
        events, place = until_back(look)
        if events:
            return events, place


def meet(
    here: RendezvousClient,
    there: RendezvousClient,
    ann: Registration,
    bob: Registration,
) -> None:
    """Answer what has been asked, and let both read the same key."""
    until_back(lambda: there.answer(bob, SESSION, True))
    told = [next_events(here, ann)[0], next_events(there, bob)[0]]
    caller, callee = (met[-1] for met in told)
    assert isinstance(caller, Met)
    assert isinstance(callee, Met)
    assert caller.key == callee.key


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def server(redis: RedisServer) -> Iterator[Server]:
    with Server(redis.url) as process:
        yield process


@pytest.fixture
def client(server: Server) -> Iterator[RendezvousClient]:
    with RendezvousClient(server.url) as made:
        yield made


def test_a_redis_that_writes_its_log_brings_back_names_and_unread_introductions(
    redis: RedisServer, client: RendezvousClient
) -> None:
    ann, bob = register(client, "ann"), register(client, "bob")
    client.introduce(ann, "bob", SESSION)  # which bob has not read
    redis.kill()
    with pytest.raises(RendezvousAway, match="Redis"):
        client.peers()
    redis.start()
    found = until_back(client.peers)
    assert [peer.name for peer in found] == ["ann", "bob"]
    client.heartbeat(ann)
    assert next_events(client, bob)[0][0].what == "asked"
    meet(client, client, ann, bob)


def test_a_redis_that_lost_all_gets_its_names_again(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, "--appendonly", "no") as redis,
        Server(redis.url) as server,
        RendezvousClient(server.url) as client,
    ):
        ann, bob = register(client, "ann"), register(client, "bob")
        redis.kill()
        redis.start()
        with pytest.raises(PeerNotFound):
            until_back(lambda: client.heartbeat(ann))
        for each in (ann, bob):
            again = (each.name, ["192.168.1.7"], 5001, 5002)
            assert client.register(*again, token=each.token).token == each.token
        client.introduce(ann, "bob", SESSION)
        meet(client, client, ann, bob)


def test_a_server_that_is_killed_loses_no_introduction(redis: RedisServer) -> None:
    with (
        Server(redis.url) as first,
        Server(redis.url) as second,
        RendezvousClient([first.url, second.url], timeout=PATIENCE) as here,
        RendezvousClient(second.url) as there,
    ):
        ann, bob = register(here, "ann"), register(there, "bob")
        here.introduce(ann, "bob", SESSION)
        waits = later(lambda: next_events(here, ann)[0])
        first.kill()
        meet(here, there, ann, bob)
        (met,) = waits.result(PATIENCE)
        assert isinstance(met, Met)
        assert here.url == second.url
        assert here.heartbeat(ann).lease == 300


def test_when_a_node_dies_its_replica_goes_on_with_all(tmp_path: Path) -> None:
    with (
        ThreeNodes(tmp_path, *QUICK, replicas=1) as cluster,
        Server(cluster.url) as server,
        RendezvousClient(server.url) as here,
        RendezvousClient(server.url) as there,
    ):
        ann, bob = register(here, "ann"), register(there, "bob")
        here.introduce(ann, "bob", SESSION)  # which bob has not read
        lost = cluster.nodes[min(key_slot(key("", "").encode()) // 5461, 2)]
        with Redis(port=lost.port) as store:
            assert store.wait(1, int(1e3 * PATIENCE)) == 1  # the replica has it, too
        waits = later(lambda: next_events(here, ann)[0])
        lost.kill()
        found = until_back(here.peers)
        assert [peer.name for peer in found] == ["ann", "bob"]
        until_back(lambda: here.heartbeat(ann))
        assert next_events(there, bob)[0][0].what == "asked"
        until_back(lambda: there.answer(bob, SESSION, True))
        (met,) = waits.result(PATIENCE)  # the tail has found the new node, too
        assert isinstance(met, Met)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_nothing(redis: RedisServer, jump: float) -> None:
    with (
        Server(redis.url, clock=jump) as wrong,
        Server(redis.url) as right,
        RendezvousClient(wrong.url) as here,
        RendezvousClient(right.url) as there,
    ):
        ann, bob = register(here, "ann"), register(there, "bob")
        assert abs(here.peer("ann").since - there.peer("bob").since) < 60
        here.introduce(ann, "bob", SESSION)
        meet(here, there, ann, bob)
        assert [peer.name for peer in there.peers()] == ["ann", "bob"]
        assert here.heartbeat(ann).lease == 300
