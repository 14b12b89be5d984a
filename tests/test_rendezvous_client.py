"""A peer's side of the rendezvous, against a real one and against impostors."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.errors import NameTaken, PeerNotFound, RendezvousAway, RendezvousError
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Quotas, Registration
from p2plab.rendezvous.server import RendezvousServer

ANN = Registration("ann", "token", 60, "127.0.0.1")
HERE = {"kind": "host", "address": "192.168.1.7", "port": 2}
MET = {
    "what": "met",
    "session": "00c0ffee00c0ffee",
    "peer": "bob",
    "role": "caller",
    "candidates": [HERE],
    "addresses": ["192.168.1.7"],
    "tcp_port": 1,
    "udp_port": 2,
    "since": 1,
    "key": "00" * 32,
    "start_in": 0.05,
}


@pytest.fixture
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Quotas(names_per_minute=10**6)) as run:
        yield run


@pytest.fixture
def client(server: RendezvousServer) -> Iterator[RendezvousClient]:
    with RendezvousClient(server.url) as run:
        yield run


class Impostor(BaseHTTPRequestHandler):
    """Answers everything with the one answer that its server was given.

    With `lose`, so many requests get no answer before, as in a network that loses them.
    """

    protocol_version = "HTTP/1.1"
    server: Any  # see impostor()

    def answer(self) -> None:
        if self.server.lose:
            self.server.lose -= 1
            self.rfile.read(1)  # until the client gives up
            return
        status, body, to = self.server.given
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", to)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def impostor(
    status: int, body: bytes, lose: int = 0, to: str = "/"
) -> Iterator[RendezvousClient]:
    http: Any = ThreadingHTTPServer(("127.0.0.1", 0), Impostor)
    with http:
        http.given, http.lose = (status, body, to), lose
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{http.server_address[1]}"
        with RendezvousClient(url, timeout=0.3 if lose else 2.0) as client:
            try:
                yield client
            finally:
                client.close()  # or the server would wait for the next request
                http.shutdown()
                thread.join()


def test_a_peer_registers_is_found_and_leaves(
    client: RendezvousClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):  # which is not asked
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
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


def test_a_peer_that_is_not_there_is_not_found(client: RendezvousClient) -> None:
    for wish in (lambda: client.peer("nobody"), lambda: client.heartbeat(ANN)):
        with pytest.raises(PeerNotFound):
            wish()


def test_who_has_lost_its_name_is_told_so(client: RendezvousClient) -> None:
    client.register("ann", ["10.0.0.1"], 1, 2)
    with pytest.raises(NameTaken) as caught:
        client.register("ann", ["10.0.0.1"], 1, 2)
    assert caught.value.retry_after == pytest.approx(60, abs=5)
    with pytest.raises(NameTaken):
        client.heartbeat(ANN)
    client.leave(ANN)  # no error, and nothing happens to the other
    assert client.peer("ann").name == "ann"


def test_what_cannot_be_is_refused_before_it_is_sent(client: RendezvousClient) -> None:
    wishes: list[tuple[str, Callable[[], object]]] = [
        ("a name has", lambda: client.register("..", ["10.0.0.1"], 1, 2)),
        ("a name has", lambda: client.peer("a/b")),
        ("IP address", lambda: client.register("ann", ["localhost"], 1, 2)),
        ("Out of range", lambda: client.register("ann", ["::1"], 1, 2, float("nan"))),
        ("timeout must", lambda: RendezvousClient("http://localhost", timeout=0)),
        ("urls must", lambda: RendezvousClient([])),
    ]
    for words, wish in wishes:
        with pytest.raises(ValueError, match=words):
            wish()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "ftp://here",
        "http://",
        "http://[::1",
        "http://here:99999",
        "http://here:port",
        "http://he re",
        "http://he\x00re",
        "http://here/?room=x",
        "http://ann:sesame@here",
        "http://ann:se/same@here",
        "http://ann:sesame#@here",
        "ann:sesame@here",
        "",
    ],
)
def test_a_url_that_cannot_be_one_is_refused_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(ValueError, match="url must") as caught:
        RendezvousClient(url)
    assert "same" not in str(caught.value)
    assert "ann" not in str(caught.value)


def test_what_the_rendezvous_refuses_is_said_in_its_words(
    client: RendezvousClient,
) -> None:
    with pytest.raises(RendezvousError, match=r"tcp_port: .* 65535"):
        client.register("ann", ["10.0.0.1"], 70_000, 2)


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
    ("status", "bodies"),
    [
        (200, [b"<html>", b"", b"[]", b'"peers"', b"\xff", b"{}", b"[" * 9000]),
        (200, [b'{"peers": [{}], "next": null}']),
        (404, [b"<html>", b"{}"]),
        (500, [b"oops"]),
        (401, [b"sign in"]),
    ],
)
def test_another_web_server_is_no_rendezvous(status: int, bodies: list[bytes]) -> None:
    for body in bodies:
        with (
            impostor(status, body) as client,
            pytest.raises(RendezvousError, match="is not a p2plab rendezvous"),
        ):
            client.peers()


def test_a_gateway_that_finds_nobody_means_away() -> None:
    page = b"<html>Bad Gateway"
    with impostor(502, page) as client, pytest.raises(RendezvousAway, match="502"):
        client.peer("ann")


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("https://room.example/rooms/lobby/peers/ann", "'https://room.example'"),
        ("http://ann:sesame@portal.example/login", "'http://…@portal.example/login'"),
        ("/login", "'/login'"),
    ],
)
def test_a_redirection_is_named_with_where_it_leads(to: str, told: str) -> None:
    with impostor(301, b"", to=to) as client, pytest.raises(RendezvousError) as caught:
        client.peer("ann")
    assert f"redirects to {told} (HTTP 301)" in str(caught.value)


# ---- nobody answers: the true cause is told


def cause(url: str, timeout: float = 2.0) -> str:
    with RendezvousClient(url, timeout) as client:
        with pytest.raises(RendezvousAway) as caught:
            client.peers()
        words = str(caught.value)
        assert words.isprintable()
        return words


@contextmanager
def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield a port where everybody gets this answer, whatever they ask."""

    def secured(line: socket.socket) -> socket.socket:
        return tls.wrap_socket(line, server_side=True) if tls else line

    def serve() -> None:
        with suppress(OSError):
            while line := listener.accept()[0]:
                with line, suppress(OSError), secured(line) as inside:
                    inside.recv(10_000)
                    inside.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-server\r\n", "does not speak HTTP"),
        (b"\x15\x03\x01\0\2\2\x46", "does not speak HTTP"),
        (b"", "ended without a whole answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, "more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "the answer was cut"),
    ],
)
def test_what_is_no_answer_is_said_and_not_called_silence(
    answer: bytes, words: str
) -> None:
    with answering(answer) as port:
        assert words in cause(f"http://127.0.0.1:{port}")
    with answering(answer) as port:
        assert "TLS fails" in cause(f"https://127.0.0.1:{port}")


def test_a_proxy_that_does_not_let_us_through_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert "NO_PROXY" in cause("http://rooms.example:8000")
    with impostor(407, b"") as client, pytest.raises(RendezvousError, match="proxy"):
        client.peer("ann")
    plain = b"The plain HTTP request was sent to HTTPS port"
    with impostor(400, plain) as client, pytest.raises(RendezvousError, match="TLS"):
        client.peer("ann")


def test_who_is_not_there_or_silent_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert "no answer within 0.05 s" in cause(url, timeout=0.05)
    assert "nobody listens there" in cause(url)
    assert "nowhere.invalid cannot be looked up" in cause("http://nowhere.invalid")


@pytest.mark.skipif(sys.platform == "win32", reason="such limits are POSIX")
def test_a_limit_on_open_files_is_named_as_the_cause() -> None:
    import resource

    with RendezvousClient("http://127.0.0.1:1") as client:
        old = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, old[1]))
        try:
            with pytest.raises(RendezvousAway, match="no more files"):
                client.peers()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, old)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that nobody has signed, with its key."""
    openssl, path = shutil.which("openssl"), tmp_path_factory.mktemp("tls") / "own.pem"
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "req", "-x509", "-nodes", "-days", "9", "-newkey", "rsa:2048"]
    command += ["-keyout", str(path), "-out", f"{path}.crt", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as both:
        both.write(Path(f"{path}.crt").read_text())
    return path


def test_tls_and_its_certificates_are_named_and_the_cures_work(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with answering(b"", context) as port:
        told = cause(f"https://localhost:{port}")
        assert "certificate is not trusted" in told
        assert "self" in told
        assert f"write https://localhost:{port}" in cause(f"http://localhost:{port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert "ended without a whole" in cause(f"https://localhost:{port}")
        assert "not trusted" in cause(f"https://127.0.0.1:{port}")
    for wrong in (os.devnull, str(certificate) + "?"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", wrong)
        with pytest.raises(ValueError, match="no certificate can be read"):
            RendezvousClient("https://localhost")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("tcp_port", [0]),
        ("udp_port", [65536]),
        ("addresses", [["example.org"], ["224.0.0.1"], []]),
        ("peer", ["../x"]),
        ("key", ["00", "zz" * 32, None]),
        ("role", ["boss"]),
        ("start_in", [1e9, "nan"]),
        ("session", ["x"]),
        ("what", ["?"]),
        ("candidates", [[HERE | {"port": 0}], [HERE | {"kind": "relay"}]]),
        ("candidates", [[[]], [HERE] * 11]),
    ],
)
def test_a_meeting_that_cannot_be_is_not_believed(
    field: str, wrong: list[object]
) -> None:
    for value in wrong:
        body = json.dumps({"events": [MET | {field: value}], "next": "1-0"}).encode()
        with impostor(200, body) as client, pytest.raises(RendezvousError):
            client.inbox(ANN)
    body = json.dumps({"events": [MET], "next": "1-0"}).encode()
    with impostor(200, body) as client:
        assert client.inbox(ANN)[1] == "1-0"


@pytest.mark.parametrize("lease", ["0", "-1", "NaN", "Infinity", '"soon"', "1e9"])
def test_a_lease_that_cannot_be_is_not_believed(lease: str) -> None:
    body = f'{{"lease": {lease}, "nonce": "x", "now": 1}}'.encode()
    with impostor(200, body) as client, pytest.raises(RendezvousError):
        client.heartbeat(ANN)


def test_an_answer_and_a_list_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2plab.rendezvous.client.MAX_PAGES", 5)
    endless = b'{"peers": [], "next": "again"}'
    for body, words in ((b" " * (1 << 21), "1048576 bytes"), (endless, "does not end")):
        with impostor(200, body) as client, pytest.raises(RendezvousError, match=words):
            client.peers()


@given(st.binary(max_size=200))
@settings(max_examples=20, deadline=None)
def test_no_answer_is_too_strange(body: bytes) -> None:
    with impostor(200, body) as client, pytest.raises(RendezvousError):
        client.peer("ann")


def test_what_was_lost_is_asked_once_more() -> None:
    with impostor(200, b'{"name": "ann", "since": 1}', lose=1) as client:
        assert client.peer("ann").name == "ann"


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
