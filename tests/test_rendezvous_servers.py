"""Introductions over HTTP, at one server and at several over one Redis."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import pytest
import redis
import requests
from loopback import PATIENCE, eventually, later
from redis_server import RedisServer
from stores import cluster as cluster
from stores import real as real

from p2plab.core.meeting import Seen
from p2plab.errors import PeerNotFound, RendezvousAway, RendezvousError
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import (
    Candidate,
    Met,
    Notice,
    Quotas,
    Registration,
)
from p2plab.rendezvous.server import RendezvousServer

SESSION = "00c0ffee00c0ffee"
WAIT = 20.0  # s, which no test here waits to the end
MANY = Quotas(names_per_minute=10**6)
Result = TypeVar("Result")


SHARED = ["real", "cluster"]  # what several servers can be over


@pytest.fixture(params=["fakeredis", *SHARED])
def servers(request: pytest.FixtureRequest) -> Iterator[list[RendezvousServer]]:
    """Two servers of one rendezvous; inside a process, the same one twice."""
    if request.param == "fakeredis":
        with RendezvousServer(redis_url="", limits=MANY) as one:
            yield [one, one]
        return
    store = request.getfixturevalue(request.param)
    store.empty()
    with (
        RendezvousServer(redis_url=store.url, limits=MANY) as one,
        RendezvousServer(redis_url=store.url, limits=MANY) as other,
    ):
        yield [one, other]


@pytest.fixture
def clients(servers: list[RendezvousServer]) -> Iterator[list[RendezvousClient]]:
    """One that asks the first server, and one that asks the other."""
    one, other = (RendezvousClient(server.url) for server in servers)
    with one, other:
        yield [one, other]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RendezvousServer]:
    """One server in this process; its parameter are its limits."""
    with RendezvousServer(redis_url="", limits=getattr(request, "param", None)) as one:
        yield one


@pytest.fixture
def client(server: RendezvousServer) -> Iterator[RendezvousClient]:
    with RendezvousClient(server.url) as made:
        yield made


def get(url: str, token: str = "") -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        owner = {"Authorization": f"Bearer {token}"}
        return session.get(url, headers=owner, timeout=5)


def register(client: RendezvousClient, name: str, port: int = 5000) -> Registration:
    return client.register(name, ["192.168.1.7"], port + 1, port + 2)


def waiting(server: RendezvousServer, many: int = 1) -> None:
    eventually(lambda: server.waiting == many, f"{many} wait at the server")


def test_asked_at_one_server_answered_at_the_other_both_are_told(
    servers: list[RendezvousServer], clients: list[RendezvousClient]
) -> None:
    here, there = clients
    ann, bob = register(here, "ann", 5000), register(there, "bob", 6000)
    knock = later(lambda: there.inbox(bob, wait=WAIT))
    waiting(servers[1])
    assert here.introduce(ann, "bob", SESSION) == "asked"
    (asked,), place = knock.result(PATIENCE)
    assert asked == Notice("asked", SESSION, "ann")
    told = [
        later(lambda: here.inbox(ann, wait=WAIT)[0]),
        later(lambda: there.inbox(bob, place, WAIT)[0]),
    ]
    there.answer(bob, SESSION, True)
    (caller,), (callee,) = (each.result(PATIENCE) for each in told)
    assert isinstance(caller, Met)
    assert isinstance(callee, Met)
    assert (caller.role, caller.peer, caller.tcp_port) == ("caller", "bob", 6001)
    assert (callee.role, callee.peer, callee.udp_port) == ("callee", "ann", 5002)
    assert caller.key == callee.key
    assert caller.candidates == (Candidate("host", "192.168.1.7", 6002),)
    begun = time.time()
    here.report(ann, SESSION, [Seen(begun + 100, "probe", "to 192.168.1.7")])
    there.report(bob, SESSION, [Seen(begun + 200, "arrived")])
    rows = here.meeting(ann, SESSION)
    assert rows == there.meeting(bob, SESSION)
    assert [(row.who, row.what) for row in rows] == [
        *((None, "asked"), (None, "met"), ("ann", "probe"), ("bob", "arrived"))
    ]
    assert rows[2].at == pytest.approx(begun + 100, abs=1e-3)
    with pytest.raises(RendezvousError, match="no such introduction"):
        here.meeting(register(here, "carol"), SESSION)


@pytest.mark.parametrize("servers", SHARED, indirect=True)
def test_a_met_that_a_dying_server_did_not_tell_is_there_at_the_other(
    servers: list[RendezvousServer], clients: list[RendezvousClient]
) -> None:
    here, there = clients
    ann, bob = register(here, "ann"), register(there, "bob")
    here.introduce(ann, "bob", SESSION)
    servers[0].stop()  # ann's server, before bob accepts
    there.answer(bob, SESSION, True)
    with RendezvousClient([servers[0].url, servers[1].url]) as client:
        ((event,), _) = client.inbox(ann, wait=WAIT)
        assert isinstance(event, Met)
        assert client.url == servers[1].url, "it keeps the server that works"
        assert client.heartbeat(ann).lease == 60, "nobody loses a name"


# Privacy


def test_addresses_and_ports_are_in_no_list_and_no_look_up(
    client: RendezvousClient,
) -> None:
    ann = register(client, "ann", 5551)
    for path in ("peers", "peers/ann"):
        text = get(f"{client.url}/rooms/lobby/{path}").text
        assert "ann" in text
        for secret in ("192.168.1.7", "5552", "127.0.0.1", ann.token, ann.nonce):
            assert secret not in text


# Limits


def test_a_third_caller_of_one_name_makes_the_first_one_go(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    ann = register(client, "ann")
    calls = []
    for number in range(3):
        calls.append(later(lambda: client.inbox(ann, wait=WAIT)))
        if number < 2:
            waiting(server, number + 1)
    with pytest.raises(RendezvousError, match="Too many calls"):
        calls[0].result(PATIENCE)
    client.introduce(ann, "ann", SESSION)
    for call in calls[1:]:
        assert len(call.result(PATIENCE)[0]) == 1


@pytest.mark.parametrize("server", [Quotas(waiting_per_source=2)], indirect=True)
def test_so_many_callers_of_one_source_may_wait_and_it_is_told_for_how_long(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    ann, bob, carol = [register(client, name) for name in ("ann", "bob", "carol")]
    look = partial(client.inbox, wait=WAIT)
    calls = [later(partial(look, each)) for each in (ann, bob)]
    waiting(server, 2)
    answer = get(f"{server.url}/rooms/lobby/peers/carol/inbox?wait=1", carol.token)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    for to in (ann, bob):  # nobody else is harmed
        client.introduce(carol, to.name, secrets.token_hex(8))
    assert all(call.result(PATIENCE)[0] for call in calls)


def test_when_the_server_stops_whoever_waits_goes_home_at_once(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    ann = register(client, "ann")
    call = later(lambda: client.inbox(ann, wait=WAIT))
    waiting(server)
    server.stop()
    assert call.result(PATIENCE) == ([], "0-0")


@pytest.mark.parametrize("servers", ["real"], indirect=True)
def test_who_hangs_up_waits_no_more_nor_does_its_connection_to_redis(
    servers: list[RendezvousServer], clients: list[RendezvousClient], real: RedisServer
) -> None:
    ann = register(clients[0], "ann")
    head = f"Host: x\r\nAuthorization: Bearer {ann.token}\r\n\r\n"
    with redis.Redis(port=real.port) as redis_:

        def blocked(many: int) -> bool:
            return bool(redis_.info("clients")["blocked_clients"] == many)

        with socket.create_connection(("127.0.0.1", servers[0].port)) as line:
            path = f"/rooms/lobby/peers/ann/inbox?wait={WAIT}"
            line.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
            eventually(lambda: blocked(1), "the call waits in Redis")
        waiting(servers[0], 0)
        eventually(lambda: blocked(0), "and no more")


def test_who_leaves_ends_its_own_waiting(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    ann = register(client, "ann")
    call = later(lambda: client.inbox(ann, wait=WAIT))
    waiting(server)
    client.leave(ann)
    with pytest.raises(PeerNotFound):
        call.result(PATIENCE)


# Several servers


def test_the_client_goes_on_with_the_next_server(server: RendezvousServer) -> None:
    nobody = "http://127.0.0.1:1"
    with RendezvousClient([nobody, server.url]) as client:
        ann = register(client, "ann")
        assert client.url == server.url
        assert client.heartbeat(ann).lease == 60
    with (
        RendezvousServer(redis_url=nobody.replace("http", "redis")) as without_redis,
        RendezvousClient([without_redis.url, nobody]) as client,
        pytest.raises(RendezvousAway, match=f"none of 2 .* Redis.*; .*{nobody} does"),
    ):
        client.peers()


def test_of_many_who_wait_each_hears_what_is_meant_for_it(
    servers: list[RendezvousServer], clients: list[RendezvousClient]
) -> None:
    here, there = clients
    names = [f"p{number:02}" for number in range(20)]
    owners = [register(here, name) for name in names]
    calls = [later(partial(there.inbox, owner, wait=WAIT)) for owner in owners]
    waiting(servers[1], len(names))
    for number, owner in enumerate(owners):
        here.introduce(owner, names[number - 1], f"{number:016x}")
    heard = [call.result(PATIENCE)[0] for call in calls]
    assert [event.peer for (event,) in heard] == names[1:] + names[:1]
