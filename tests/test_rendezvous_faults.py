"""What a rendezvous survives: real processes that die, clocks that jump, cut lines."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from loopback import PATIENCE, eventually, later
from processes import Server
from proxy import Proxy
from redis import Redis
from redis.crc import key_slot
from redis_server import RedisServer, ThreeNodes, free_port

from p2plab.errors import PeerNotFound, RendezvousAway
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import BEGINNING, Met, News, Registration
from p2plab.rendezvous.store import key

SESSION = "00c0ffee00c0ffee"
WAIT = 20.0  # s, which no test here waits to the end
QUICK = ("--cluster-node-timeout", "500")  # ms until a node counts as dead
Result = TypeVar("Result")

# Keeps a name until it is killed.
KEEPER = """
import sys
from p2plab.rendezvous.client import RendezvousClient
with RendezvousClient(sys.argv[1]) as client:
    client.register("ghost", ["192.168.1.7"], 5001, 5002, lease=5)
    print("here", flush=True)
    sys.stdin.read()
"""


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


def test_a_redis_that_writes_nothing_loses_all_and_every_owner_takes_its_name_again(
    tmp_path: Path,
) -> None:
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
            again = client.register(
                each.name, ["192.168.1.7"], 5001, 5002, token=each.token
            )
            assert again.token == each.token
        client.introduce(ann, "bob", SESSION)
        meet(client, client, ann, bob)


def test_a_server_killed_after_it_stored_an_answer_and_before_it_told_anybody(
    redis: RedisServer,
) -> None:
    with (
        Server(redis.url) as first,
        Proxy(first.port) as between,
        Server(redis.url, port=free_port()) as second,
        RendezvousClient([between.url, second.url], timeout=PATIENCE) as here,
        RendezvousClient([between.url, second.url], timeout=PATIENCE) as there,
        Redis(port=redis.port, decode_responses=True) as store,
    ):
        second.kill()  # until it is needed
        ann, bob = register(here, "ann"), register(there, "bob")
        here.introduce(ann, "bob", SESSION)
        between.hold()  # nobody hears anything from the first server any more
        waits = later(lambda: next_events(here, ann)[0])
        answers = later(lambda: until_back(lambda: there.answer(bob, SESSION, True)))
        row = key("lobby", f"i:{SESSION}")
        eventually(lambda: store.hget(row, "state") == "met", "the answer is stored")
        assert not answers.done()
        assert not waits.done()
        second.start()
        first.kill()
        between.cut()
        (met,) = waits.result(PATIENCE)
        assert isinstance(met, Met)
        answers.result(PATIENCE)  # given once more, through the second server
        mine = [each for each in next_events(there, bob)[0] if isinstance(each, Met)]
        assert [each.key for each in mine] == [met.key]
        assert here.url == second.url
        here.heartbeat(ann)
        assert [peer.name for peer in here.peers()] == ["ann", "bob"]


def test_a_peer_that_dies_without_leaving_is_gone_when_its_lease_ends(
    server: Server, client: RendezvousClient
) -> None:
    words = [sys.executable, "-c", KEEPER, server.url]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as ghost:
        assert ghost.stdout is not None
        assert ghost.stdout.readline() == "here\n"
        ghost.kill()
    assert [peer.name for peer in client.peers()] == ["ghost"]
    eventually(lambda: client.peers() == [], "the lease has ended")
    with pytest.raises(PeerNotFound):
        client.peer("ghost")


def test_when_a_node_of_the_cluster_dies_its_replica_goes_on_with_all_it_had(
    tmp_path: Path,
) -> None:
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
def test_a_servers_clock_that_jumps_changes_nothing(
    redis: RedisServer, jump: float
) -> None:
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


def test_an_answer_that_a_proxy_cuts_at_any_byte_loses_nothing(server: Server) -> None:
    with (
        Proxy(server.port) as proxy,
        RendezvousClient(proxy.url) as here,
        RendezvousClient(server.url) as there,
    ):
        ann, bob = register(here, "ann"), register(there, "bob")
        place, length = BEGINNING, 300  # of an answer with one event in it
        for cut in range(0, length, 3):
            session = f"{cut:016x}"
            waits = later(lambda: next_events(here, ann, place))  # noqa: B023
            proxy.left = cut
            there.introduce(bob, "ann", session)
            eventually(lambda: proxy.left == 0 or waits.done(), "the line is cut")  # noqa: B023
            proxy.left = None
            events, place = waits.result(PATIENCE)
            assert [event.session for event in events] == [session]
