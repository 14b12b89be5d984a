"""A peer's side of the rendezvous, against a real one and against impostors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.errors import NameTaken, PeerNotFound, RendezvousAway, RendezvousError
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Limits, Registration
from p2plab.rendezvous.server import RendezvousServer

ANN = Registration("ann", "token", 60, "127.0.0.1")
PEER = {"name": "ann", "since": 1}
MET = {
    "what": "met",
    "session": "00c0ffee00c0ffee",
    "peer": "bob",
    "role": "caller",
    "candidates": [{"kind": "host", "address": "192.168.1.7", "port": 2}],
    "addresses": ["192.168.1.7"],
    "tcp_port": 1,
    "udp_port": 2,
    "since": 1,
    "key": "00" * 32,
    "start_in": 0.05,
}


@pytest.fixture
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Limits(names_per_minute=10**6)) as run:
        yield run


@pytest.fixture
def client(server: RendezvousServer) -> Iterator[RendezvousClient]:
    with RendezvousClient(server.url) as run:
        yield run


class Impostor(BaseHTTPRequestHandler):
    """Answers everything with the one answer that its server was given."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        status, body = self.server.given  # type: ignore[attr-defined]  # see impostor()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def impostor(status: int, body: bytes) -> Iterator[RendezvousClient]:
    with HTTPServer(("127.0.0.1", 0), Impostor) as http:
        http.given = status, body  # type: ignore[attr-defined]  # read by Impostor
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{http.server_address[1]}"
        with RendezvousClient(url) as client:
            try:
                yield client
            finally:
                client.close()  # or the server would wait for the next request
                http.shutdown()
                thread.join()


def test_a_peer_registers_is_found_and_leaves(client: RendezvousClient) -> None:
    ann = client.register("ann", ["192.168.1.7", "2001:DB8::7"], 5001, 5002, lease=30)
    assert (ann.name, ann.lease, ann.seen) == ("ann", 30, "127.0.0.1")
    assert ann.room == "lobby"
    assert ann.stun_port is not None
    known = client.peer("ann")
    assert known.name == "ann"
    assert client.peers() == [known]
    renewed = client.heartbeat(ann)
    assert renewed.lease == 30
    assert renewed.nonce != ann.nonce
    client.leave(ann)
    assert client.peers() == []
    client.leave(ann)  # twice is once


def test_the_list_has_all_pages(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    names = [f"Zoë{number:03}" for number in range(230)]
    for name in names:
        client.register(name, ["10.0.0.1"], 1, 2)
    assert [peer.name for peer in client.peers()] == names


def test_a_taken_name_tells_how_long_to_wait(client: RendezvousClient) -> None:
    client.register("ann", ["10.0.0.1"], 1, 2)
    with pytest.raises(NameTaken, match="Choose another name, or wait") as caught:
        client.register("ann", ["10.0.0.1"], 1, 2)
    assert caught.value.retry_after == pytest.approx(60, abs=5)


def test_a_peer_that_is_not_there_is_not_found(client: RendezvousClient) -> None:
    with pytest.raises(PeerNotFound, match="Look at the list of peers"):
        client.peer("nobody")
    with pytest.raises(PeerNotFound, match="register it again"):
        client.heartbeat(ANN)


def test_who_has_lost_its_name_is_told_so(client: RendezvousClient) -> None:
    client.register("ann", ["10.0.0.1"], 1, 2)
    with pytest.raises(NameTaken, match="Another peer holds this name"):
        client.heartbeat(ANN)
    client.leave(ANN)  # no error, and nothing happens to the other
    assert client.peer("ann").name == "ann"


def test_what_cannot_be_is_refused_before_it_is_sent(client: RendezvousClient) -> None:
    with pytest.raises(ValueError, match="a name has letters"):
        client.register("..", ["10.0.0.1"], 1, 2)
    with pytest.raises(ValueError, match="a name has letters"):
        client.peer("a/b")
    with pytest.raises(ValueError, match="must be an IP address"):
        client.register("ann", ["localhost"], 1, 2)
    with pytest.raises(ValueError, match="Out of range float"):
        client.register("ann", ["10.0.0.1"], 1, 2, lease=float("nan"))
    with pytest.raises(ValueError, match="url must look like"):
        RendezvousClient("localhost:8080")
    with pytest.raises(ValueError, match="timeout must be above 0"):
        RendezvousClient("http://localhost", timeout=0)


def test_what_the_rendezvous_refuses_is_said_in_its_words(
    client: RendezvousClient,
) -> None:
    with pytest.raises(RendezvousError, match=r"tcp_port: .* 65535"):
        client.register("ann", ["10.0.0.1"], 70_000, 2)
    with pytest.raises(RendezvousError, match=r"lease: .* 300"):
        client.register("ann", ["10.0.0.1"], 1, 2, lease=1000)


def test_a_rendezvous_that_says_nothing_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with (
            RendezvousClient(url, timeout=0.05) as client,
            pytest.raises(RendezvousAway, match=r"gave no answer within 0\.05 s"),
        ):
            client.peers()


def test_a_rendezvous_without_its_redis_is_away() -> None:
    with (
        RendezvousServer(redis_url="redis://127.0.0.1:1") as server,
        RendezvousClient(server.url) as client,
        pytest.raises(RendezvousAway, match="cannot reach its Redis"),
    ):
        client.register("ann", ["10.0.0.1"], 1, 2)


def test_when_the_rendezvous_is_back_the_same_client_goes_on(
    server: RendezvousServer, client: RendezvousClient
) -> None:
    ann = client.register("ann", ["10.0.0.1"], 1, 2)
    server.stop()
    with pytest.raises(RendezvousAway):
        client.heartbeat(ann)
    server.start()
    assert client.heartbeat(ann).lease == 60


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *(
            (200, b"<html>"),
            (200, b""),
            (200, b"[]"),
            (200, b'"peers"'),
            (200, b"\xff"),
        ),
        *((200, b"{}"), (200, b'{"peers": [{}], "next": null}'), (200, b"[" * 9000)),
        *((404, b"<html>"), (404, b"{}"), (500, b"oops"), (302, b"")),
    ],
)
def test_another_web_server_is_no_rendezvous(status: int, body: bytes) -> None:
    with (
        impostor(status, body) as client,
        pytest.raises(RendezvousError, match="is not a p2plab rendezvous"),
    ):
        client.peers()


def test_a_gateway_that_finds_nobody_means_away() -> None:
    with (
        impostor(502, b"<html>Bad Gateway") as client,
        pytest.raises(RendezvousAway, match=r"HTTP 502.*try again"),
    ):
        client.peer("ann")


@pytest.mark.parametrize(
    "change",
    [
        *({"tcp_port": 0}, {"udp_port": 65536}, {"addresses": ["example.org"]}),
        *({"addresses": ["224.0.0.1"]}, {"peer": "../x"}, {"addresses": []}),
        *({"key": "00"}, {"key": "zz" * 32}, {"key": None}, {"role": "boss"}),
        *({"start_in": 1e9}, {"start_in": "nan"}, {"session": "x"}, {"what": "?"}),
        {"candidates": [{"kind": "host", "address": "192.168.1.7", "port": 0}]},
        *({"candidates": [{"kind": "relay", "address": "::1", "port": 1}]},),
        {"candidates": [[]]},
        {"candidates": MET["candidates"] * 11},  # type: ignore[operator]  # a list
    ],
)
def test_a_meeting_that_cannot_be_is_not_believed(change: dict[str, object]) -> None:
    for event, fine in ((MET, True), (MET | change, False)):
        body = json.dumps({"events": [event], "next": "1-0"}).encode()
        with impostor(200, body) as client:
            if fine:
                assert client.inbox(ANN)[1] == "1-0"
                continue
            with pytest.raises(RendezvousError, match="not a p2plab rendezvous"):
                client.inbox(ANN)


@pytest.mark.parametrize("lease", ["0", "-1", "NaN", "Infinity", '"soon"', "1e9"])
def test_a_lease_that_cannot_be_is_not_believed(lease: str) -> None:
    body = f'{{"lease": {lease}, "nonce": "x", "now": 1}}'.encode()
    with impostor(200, body) as client, pytest.raises(RendezvousError):
        client.heartbeat(ANN)


def test_an_answer_has_a_largest_size() -> None:
    with (
        impostor(200, b" " * (1 << 21)) as client,
        pytest.raises(RendezvousError, match="more than 1048576 bytes"),
    ):
        client.peers()


def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2plab.rendezvous.client.MAX_PAGES", 5)
    with (
        impostor(200, b'{"peers": [], "next": "again"}') as client,
        pytest.raises(RendezvousError, match="does not end"),
    ):
        client.peers()


@given(st.binary(max_size=200))
@settings(max_examples=20, deadline=None)
def test_no_answer_is_too_strange(body: bytes) -> None:
    with impostor(200, body) as client, pytest.raises(RendezvousError):
        client.peer("ann")


def test_a_proxy_of_this_machine_is_not_asked(
    client: RendezvousClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert client.peers() == []


class Forgetful(BaseHTTPRequestHandler):
    """Leaves every first request without an answer, as a network that loses it."""

    asked = 0

    def do_GET(self) -> None:
        Forgetful.asked += 1
        if Forgetful.asked % 2:
            self.rfile.read(1)  # until the client gives up
            return
        body = json.dumps(PEER).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def test_what_was_lost_is_asked_once_more() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{http.server_address[1]}"
        with RendezvousClient(url, timeout=0.3) as client:
            assert client.peer("ann").name == "ann"
        http.shutdown()
    assert Forgetful.asked == 2


def test_threads_share_a_client(client: RendezvousClient) -> None:
    def claim(number: int) -> str:
        client.register(f"p{number:02}", ["10.0.0.1"], 1, 2)
        return client.peer(f"p{number:02}").name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(claim, range(40)))
    assert [peer.name for peer in client.peers()] == names


def test_the_client_needs_neither_the_server_nor_redis() -> None:
    script = "import sys, p2plab.rendezvous.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"fastapi", "uvicorn", "redis", "fakeredis"} & set(done.stdout.split())
