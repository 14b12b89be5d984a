"""What stands between a peer and its rendezvous is named, with a cure that works."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from p2plab.errors import RendezvousAway, RendezvousError
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.server import RendezvousServer

Serve = Callable[[socket.socket], object]


@contextmanager
def listening(serve: Serve) -> Iterator[int]:
    """A server that does something with each connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                with line, suppress(OSError):
                    line.settimeout(5)
                    serve(line)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def saying(answer: bytes) -> Serve:
    def serve(line: socket.socket) -> None:
        line.recv(10_000)
        line.sendall(answer)

    return serve


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, own = folder / "key.pem", folder / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(own)),
        ],
        check=True,
        capture_output=True,
    )
    own.write_text(own.read_text() + key.read_text())
    return own


@contextmanager
def tls_in_front(certificate: Path, port: int) -> Iterator[int]:
    """A port where the server at another port speaks TLS, one request at a time."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def serve(line: socket.socket) -> None:
        with (
            context.wrap_socket(line, server_side=True) as safe,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            asked = safe.recv(10_000)
            server.sendall(asked.replace(b"keep-alive", b"close"))
            while answer := server.recv(10_000):
                safe.sendall(answer)

    with listening(serve) as front:
        yield front


def why(url: str) -> str:
    with (
        RendezvousClient(url, timeout=2) as client,
        pytest.raises(RendezvousError) as why,
    ):
        list(client.peers())
    return str(why.value)


def test_a_certificate_that_nobody_trusts_is_named_and_can_be_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RendezvousServer() as server, tls_in_front(certificate, server.port) as port:
        url = f"https://127.0.0.1:{port}"
        assert "certificate that this computer does not trust" in why(url)
        assert "REQUESTS_CA_BUNDLE" in why(url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with RendezvousClient(url) as client:
            assert list(client.peers()) == []


def test_the_wrong_scheme_is_named_both_ways(certificate: Path) -> None:
    with RendezvousServer() as server, tls_in_front(certificate, server.port) as port:
        assert "write http:// in the address" in why(f"https://127.0.0.1:{server.port}")
        assert "https://" in why(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://rooms.example/\r\n"
            b"Content-Length: 0\r\n\r\n",
            "sends everybody to https://rooms.example/ (HTTP 301)",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://u:p@x.example/\x1b[2J\r\n"
            b"Content-Length: 0\r\n\r\n",
            "sends everybody to http://x.example/",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 58\r\n\r\n"
            b"The plain HTTP request was sent to HTTPS port, of nginx ...",
            "wants TLS",
        ),
        (
            b"HTTP/1.1 407 Proxy\r\nContent-Length: 0\r\n\r\n",
            "a proxy on the way",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
            "is not a p2plab rendezvous (HTTP 200)",
        ),
        (
            b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}",
            "is not a p2plab rendezvous",
        ),
        (b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "something in front of"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "hung up without a whole answer"),
        (b"", "hung up without a whole answer"),
    ],
)
def test_an_answer_that_is_none_of_a_rendezvous_is_told(
    answer: bytes, words: str
) -> None:
    with listening(saying(answer)) as port:
        told = why(f"http://127.0.0.1:{port}")
    assert words in told
    assert told.isprintable()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "nothing listens there"),
        ("http://no-such-host.invalid:8000", "a host that nobody knows"),
    ],
)
def test_a_rendezvous_that_is_not_there_is_told(url: str, words: str) -> None:
    assert words in why(url)


def test_silence_is_told_with_how_long_it_lasted() -> None:
    done = threading.Event()
    with listening(lambda line: done.wait(10)) as port:
        assert "gave no answer within 2 s" in why(f"http://127.0.0.1:{port}")
        done.set()


def test_a_proxy_that_does_not_let_us_through_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert "NO_PROXY" in why("http://rooms.example:8000")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_system_without_files_left_is_told() -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with RendezvousServer() as server, RendezvousClient(server.url) as client:
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, most[1]))
        try:
            with suppress(OSError):
                while True:
                    held.append(socket.socket())
            with pytest.raises(RendezvousAway, match="as many files open"):
                list(client.peers())
        finally:
            for each in held:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
        assert list(client.peers()) == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:8000",
        "127.0.0.1:8000",
        "http://",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://ann:secret@127.0.0.1:8000",
        "http://ann:secret#x@127.0.0.1:8000",
    ],
)
def test_a_url_that_is_none_is_refused_at_once_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="url must look like") as why:
        RendezvousClient(url)
    assert "secret" not in str(why.value)
