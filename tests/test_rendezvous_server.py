"""The rendezvous as a program: what it answers, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import RedisServer

from p2plab.errors import PortInUse, RendezvousError
from p2plab.rendezvous import api
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer

CLAIM = {"addresses": ["192.168.1.7"], "tcp_port": 5001, "udp_port": 5002}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Quotas(names_per_minute=10**6)) as run:
        yield run


def ask(
    server: RendezvousServer, method: str, path: str, **options: Any
) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, server.url + path, timeout=10, **options)


def owner(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def register(server: RendezvousServer, name: str) -> str:
    answer = ask(server, "PUT", f"/rooms/lobby/peers/{quote(name)}", json=CLAIM)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def assert_refused(answer: requests.Response, status: int, error: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "message", "retry_after"}
    assert body["error"] == error
    if body["retry_after"] is not None:
        assert int(answer.headers["Retry-After"]) >= body["retry_after"]


def test_the_first_page_says_what_answers(server: RendezvousServer) -> None:
    told = ask(server, "GET", "/").json()
    assert told == {"service": "p2plab rendezvous", "docs": "/docs"}
    assert ask(server, "GET", told["docs"]).status_code == 200


def test_a_peer_registers_and_learns_how_it_was_seen(server: RendezvousServer) -> None:
    # no header changes the address that is seen
    headers = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    claim = CLAIM | {"lease": 30}
    answer = ask(server, "PUT", "/rooms/lobby/peers/ann", json=claim, headers=headers)
    assert answer.status_code == 201
    body = answer.json()
    token = body.pop("token")
    assert body.pop("nonce")
    assert body.pop("stun_port") > 0
    seen = {"name": "ann", "room": "lobby", "seen": "127.0.0.1", "lease": 30}
    assert body == seen
    assert set(ask(server, "GET", "/rooms/lobby/peers/ann").json()) == {"name", "since"}
    assert token not in ask(server, "GET", "/rooms/lobby/peers").text


@pytest.mark.parametrize("name", ["carol", "हिन्दी", "Zoe\u0308"])
def test_a_name_is_held_by_its_token_until_it_is_given_back(
    server: RendezvousServer, name: str
) -> None:
    token = owner(register(server, name))
    spelling = unicodedata.normalize("NFC", name)
    path = f"/rooms/lobby/peers/{quote(spelling)}"
    assert ask(server, "GET", path).json()["name"] == spelling
    taken = ask(server, "PUT", path, json=CLAIM)
    assert_refused(taken, 409, "name_taken")
    assert taken.json()["retry_after"] == pytest.approx(60, abs=5)
    assert ask(server, "PUT", path, json=CLAIM, headers=token).status_code == 200
    beat = ask(server, "POST", f"{path}/heartbeat", headers=token)
    assert (beat.status_code, beat.json()["lease"]) == (200, 60)
    left = ask(server, "DELETE", path, headers=token)
    assert (left.status_code, left.content) == (204, b"")
    assert_refused(ask(server, "GET", path), 404, "no_such_peer")


@pytest.mark.parametrize(
    ("limits", "status", "error"),
    [
        (Quotas(names_per_minute=1), 429, "too_many_names"),
        (Quotas(peers=1), 503, "room_full"),
    ],
)
def test_who_has_to_wait_is_told_how_long(
    limits: Quotas, status: int, error: str
) -> None:
    with RendezvousServer(redis_url="", limits=limits) as server:
        register(server, "a")
        answer = ask(server, "PUT", "/rooms/lobby/peers/b", json=CLAIM)
        assert_refused(answer, status, error)
        assert 0 < int(answer.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("wish", ["POST /heartbeat", "DELETE ", "GET /inbox"])
def test_what_is_an_owners_needs_its_token(server: RendezvousServer, wish: str) -> None:
    ask(server, "PUT", "/rooms/lobby/peers/erin", json=CLAIM)
    method, _, rest = wish.partition(" ")
    path = f"/rooms/lobby/peers/erin{rest}"
    for headers, status, error in (
        ({}, 401, "token_missing"),
        ({"Authorization": "Basic YTpi"}, 401, "token_missing"),
        (owner("guess"), 403, "not_owner"),
    ):
        assert_refused(ask(server, method, path, headers=headers), status, error)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "no_such_path"),
        ("GET", "/rooms/lobby/peers/", 404, "no_such_path"),
        ("GET", "/rooms/lobby/peers/a%2Fb", 404, "no_such_path"),
        ("GET", "/rooms/lobby/peers/nobody", 404, "no_such_peer"),
        ("POST", "/rooms/lobby/peers/ann", 405, "method_not_allowed"),
        ("PATCH", "/docs", 405, "method_not_allowed"),
        ("PATCH", "/", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_told_so(
    server: RendezvousServer, method: str, path: str, status: int, error: str
) -> None:
    answer = ask(server, method, path)
    assert_refused(answer, status, error)
    if method == "POST":
        assert answer.headers["Allow"] == "DELETE, GET, PUT"


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/rooms/{}/peers", ["a%20b"]),
        ("/rooms/lobby/peers/{}", ["%00", "%FF%FE", "%ED%A0%80", "x" * 65]),
        ("/rooms/lobby/peers?limit={}", ["101", "0", "1e9", "9" * 5000]),
        ("/rooms/lobby/peers?cursor={}", ["x" * 129]),
        ("/rooms/lobby/peers/ann/inbox?after={}", ["0", "٣-٠", f"{'9' * 16}-0"]),
        ("/rooms/lobby/peers/ann/inbox?wait={}", ["nan", "26"]),
    ],
)
def test_a_wrong_request_is_refused(
    server: RendezvousServer, path: str, wrong: list[str]
) -> None:
    for each in wrong:
        answer = ask(server, "GET", path.format(each), headers=owner("guess"))
        assert_refused(answer, 422, "invalid")


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("addresses", [[], ["10.0.0.1"] * 9, "10.0.0.1"]),
        ("addresses.0", [["localhost"], [3232235783]]),
        ("tcp_port", [0, 65536, 10**300, "5001"]),
        ("udp_port", [True, None, 1.5]),
        ("lease", [4.9, 301, float("nan"), float("inf")]),
        ("tcpport", [1]),
    ],
)
def test_a_wrong_claim_is_told_the_place(
    server: RendezvousServer, place: str, wrong: list[object]
) -> None:
    for value in wrong:
        body = json.dumps(CLAIM | {place.partition(".")[0]: value})
        answer = ask(server, "PUT", "/rooms/lobby/peers/wrong", data=body, headers=JSON)
        assert_refused(answer, 422, "invalid")
        assert answer.json()["message"].startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"", "application/json", "invalid"),
        (b"null", "application/json", "invalid"),
        (b"[1]", "application/json", "invalid"),
        (b"{", "application/json", "not_json"),
        (b"[" * 4000, "application/json", "not_json"),
        (b'{"a": "\xff"}', "application/json", "not_json"),
        (json.dumps(CLAIM).encode(), "text/plain", "invalid"),
        (json.dumps(CLAIM).encode(), "application/xml; charset=\xff", "invalid"),
    ],
)
def test_what_is_not_a_claim_is_told_so(
    server: RendezvousServer, body: bytes, kind: str, error: str
) -> None:
    headers = {"Content-Type": kind}
    answer = ask(server, "PUT", "/rooms/lobby/peers/wrong", data=body, headers=headers)
    assert_refused(answer, 422, error)


def test_a_body_has_at_most_4096_bytes(server: RendezvousServer) -> None:
    body = json.dumps(CLAIM).encode().ljust(4096)
    path = "/rooms/lobby/peers/fat"
    pieces = iter([b" " * 3000] * 100)  # without a Content-Length
    for data in (body + b" ", pieces):
        answer = ask(server, "PUT", path, data=data, headers=JSON)
        assert_refused(answer, 413, "body_too_large")
    assert ask(server, "PUT", path, data=body, headers=JSON).status_code == 201


def test_a_body_that_does_not_come_is_not_waited_for(
    server: RendezvousServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_PATIENCE", 0.05)
    line = b"PUT /rooms/lobby/peers/slow HTTP/1.1\r\nHost: x\r\n"
    head = line + b"Content-Length: 99\r\n\r\n{"
    assert b"408" in talk(server, head, until=b'"body_too_slow"')


# Starting and stopping


def test_where_it_cannot_listen_it_says_so(server: RendezvousServer) -> None:
    with pytest.raises(PortInUse):
        RendezvousServer(port=server.port).start()
    with pytest.raises(RendezvousError, match="host must be"):
        RendezvousServer(host="192.0.2.1").start()


@pytest.mark.parametrize("where", ["start_near", "uvicorn.Server.run"])
def test_a_start_that_fails_in_its_thread_keeps_its_cause(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    fail = Mock(side_effect=OSError(24, "no files"))
    monkeypatch.setattr(f"p2plab.rendezvous.server.{where}", fail)
    with pytest.raises(RendezvousError, match="no files"):
        RendezvousServer(redis_url="").start()
    assert capfd.readouterr() == ("", "")


def test_impossible_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"port must be in 0\.\.65535"):
        RendezvousServer(port=65536)
    with pytest.raises(ValueError, match="URL cannot be read"):
        RendezvousServer(redis_url="localhost:6379")
    with pytest.raises(ValueError, match="peers must be at least 1"):
        Quotas(peers=0)


def test_a_restart_keeps_the_port_and_the_names() -> None:
    server = RendezvousServer(redis_url="")
    with server.start() as same:
        assert same is server
        url = server.url
        register(server, "ann")
    server.stop()  # twice is once
    with pytest.raises(requests.ConnectionError):
        ask(server, "GET", "/")
    with server:
        assert server.url == url
        assert ask(server, "GET", "/rooms/lobby/peers/ann").status_code == 200


def test_stopping_is_quick_though_clients_stay_connected() -> None:
    server = RendezvousServer(redis_url="").start()
    address = ("127.0.0.1", server.port)
    head = b"PUT /rooms/lobby/peers/a HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection(address) as idle, requests.Session() as session:
        session.trust_env = False
        session.get(server.url, timeout=5)
        idle.sendall(head)  # and no more
        began = time.perf_counter()
        server.stop()
        assert time.perf_counter() - began < 0.5
        assert idle.recv(1) == b""


def test_it_listens_on_ipv6_too() -> None:
    try:
        server = RendezvousServer(host="::1", redis_url="").start()
    except RendezvousError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert server.url == f"http://[::1]:{server.port}"
        answer = ask(server, "PUT", "/rooms/lobby/peers/ann", json=CLAIM)
        assert answer.json()["seen"] == "::1"


def test_nothing_is_printed_whatever_comes_in() -> None:
    script = """
import socket
from p2plab.rendezvous.server import RendezvousServer
with RendezvousServer(redis_url="redis://127.0.0.1:1") as server:
    for junk in (b"junk", b"GET / HTTP/1.1", b"GET / HTTP/1.1\\r\\nHost: x"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(junk + b"\\r\\n\\r\\n")
            assert client.recv(8) == b"HTTP/1.1"
RendezvousServer(redis_url="").start()  # and the end of the program stops it
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for a child")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_in_the_foreground_it_prints_its_address_and_ends_on_a_signal(
    name: str,
) -> None:
    script = "from p2plab.rendezvous.server import serve_forever; serve_forever()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(url, timeout=5).status_code == 200
        process.send_signal(getattr(signal, name))
        assert process.stdout.read() == "rendezvous stopped\n"
        assert process.wait(10) == 0


# Bytes from strangers


def talk(
    server: RendezvousServer,
    request: bytes,
    until: bytes = b"\r\n",
    patience: float = 5,
) -> bytes:
    """Send bytes, and return what comes back until we know enough or lose patience."""
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=patience) as client:
        answer = b""
        try:
            client.sendall(request)
            while until not in answer and (piece := client.recv(1 << 16)):
                answer += piece
        except (ConnectionError, TimeoutError):
            pass
        return answer


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_random_bytes_do_no_harm(server: RendezvousServer, junk: bytes) -> None:
    answer = talk(server, junk + b"\r\n\r\n", patience=0.2)
    assert not answer.startswith(b"HTTP/1.1 5")
    assert ask(server, "GET", "/").status_code == 200


TARGETS = st.binary(min_size=1, max_size=40).map(lambda raw: quote(raw, safe="/?&=%"))
METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "X"])
HEADERS = st.sampled_from(
    [
        *(b"", b"Authorization: \xff\x80\r\n", b"Authorization: Bearer\r\n"),
        *(b"Content-Type: application/json\r\n", b"Content-Type: ;;=\xff\r\n"),
        *(b"Content-Length: -1\r\n", b"Expect: 100-continue\r\n"),
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ]
)


@given(METHODS, TARGETS, st.lists(HEADERS, max_size=3), st.binary(max_size=100))
@settings(max_examples=150, deadline=None)
def test_requests_that_almost_make_sense_are_answered(
    server: RendezvousServer,
    method: str,
    target: str,
    headers: list[bytes],
    body: bytes,
) -> None:
    line = f"{method} /rooms/lobby/peers/{target} HTTP/1.1\r\nHost: x\r\n".encode()
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    answer = talk(server, line + b"".join(headers) + length + body)
    assert answer[:10] in (b"HTTP/1.1 1", b"HTTP/1.1 2", b"HTTP/1.1 4"), answer


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=8,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("addresses", "tcp_port", "udp_port", "lease"), VALUES)
    | {"\ud800": VALUES},
)


@given(st.text(min_size=1, max_size=70), CLAIMS | VALUES)
@settings(max_examples=150, deadline=None)
def test_no_claim_is_too_strange(
    server: RendezvousServer, name: str, claim: object
) -> None:
    path = f"/rooms/lobby/peers/{quote(name, safe='', errors='replace')}"
    answer = ask(server, "PUT", path, data=json.dumps(claim), headers=JSON)
    assert answer.status_code in (201, 404, 405, 409, 413, 422), answer.text


# A real Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as run:
        yield run


def test_servers_over_one_redis_see_the_same_names(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PLAB_REDIS_URL", redis.url)
    with RendezvousServer(redis_url=redis.url) as one, RendezvousServer() as other:
        register(one, "ann")
        assert ask(other, "GET", "/rooms/lobby/peers/ann").status_code == 200
    with RendezvousServer(redis_url="") as alone:
        assert ask(alone, "GET", "/rooms/lobby/peers/ann").status_code == 404


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot freeze a process")
def test_a_redis_that_hangs_is_a_redis_that_is_away(redis: RedisServer) -> None:
    with RendezvousServer(redis_url=redis.url) as server:
        register(server, "ann")
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        for path in ("/", "/rooms/lobby/peers/ann"):
            began = time.perf_counter()
            answer = ask(server, "GET", path)
            assert time.perf_counter() - began < 2, "the client's own patience"
            assert_refused(answer, 503, "redis_away")
            assert answer.headers["Retry-After"] == "1"
        redis.process.send_signal(signal.SIGCONT)
        assert ask(server, "GET", path).status_code == 200
