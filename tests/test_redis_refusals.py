"""Whatever a Redis refuses, the start and every refusal name the cause and a cure."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis as redis_client
import requests
from redis_server import RedisServer, ThreeNodes, free_port

from p2plab.rendezvous.server import RendezvousServer
from p2plab.rendezvous.store import connect

PLAIN = {"addresses": ["192.0.2.1"], "tcp_port": 1, "udp_port": 1}
PASSWORD = "hunter2"


@pytest.fixture(params=["uvloop", "asyncio"])
def either_loop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their errors are not the same."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)


def trouble(url: str) -> str:
    """What a start says; a registration and a look at Redis must say the same."""
    with RendezvousServer(redis_url=url) as server:
        told = server.redis_trouble()
        where = f"{server.url}/rooms/lobby/peers/ann"
        answer = requests.put(where, json=PLAIN, timeout=10)
        assert answer.status_code == (503 if told else 201)
        if told:
            cause = answer.json()["message"].partition(" The cause: ")[2]
            # What TLS says last may be lost: then both are guesses.
            assert cause == f"{told}." or "certificate of ours" in cause
    assert PASSWORD not in told
    return told


def tell(server: RedisServer, *commands: str, password: str = "") -> None:
    with redis_client.Redis(port=server.port, password=password or None) as client:
        for command in commands:
            client.execute_command(*command.split())


ANN = f"ann:{PASSWORD}@"


@pytest.mark.parametrize(
    ("breaking", "login", "words", "cure", "login_then"),
    [
        ("REPLICAOF 127.0.0.1 1", "", "read-only replica", "REPLICAOF NO ONE", ""),
        (
            "CONFIG SET min-replicas-to-write 1",
            *("", "too few replicas", "CONFIG SET min-replicas-to-write 0", ""),
        ),
        (
            f"CONFIG SET requirepass {PASSWORD}",
            *("", "wants a password", "PING", f":{PASSWORD}@"),
        ),
        (
            f"CONFIG SET requirepass {PASSWORD}",
            *(f":{PASSWORD}x@", "is not right", "PING", f":{PASSWORD}@"),
        ),
        ("PING", f":{PASSWORD}@", "has no password", "PING", ""),
        (
            f"ACL SETUSER ann on >{PASSWORD} ~* +@read",
            *(ANN, "may not do", "ACL SETUSER ann resetkeys ~{p2p}* +@all", ANN),
        ),
        (
            f"ACL SETUSER ann on >{PASSWORD} ~other* +@all",
            *(ANN, "may not do", "ACL SETUSER ann resetkeys ~{p2p}* +@all", ANN),
        ),
    ],
)
def test_what_a_redis_refuses_is_told_with_a_cure_that_works(
    tmp_path: Path, breaking: str, login: str, words: str, cure: str, login_then: str
) -> None:
    with RedisServer(tmp_path) as server:
        tell(server, breaking)
        assert words in trouble(f"redis://{login}127.0.0.1:{server.port}")
        tell(server, cure, password=PASSWORD if login_then[:1] == ":" else "")
        assert not trouble(f"redis://{login_then}127.0.0.1:{server.port}")


def test_a_redis_without_memory_is_told_before_the_first_name(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        tell(server, "CONFIG SET maxmemory 1")
        with RendezvousServer(redis_url=server.url) as rendezvous:
            assert "no memory left" in rendezvous.redis_trouble()
            tell(server, "CONFIG SET maxmemory 200mb")
            assert not rendezvous.redis_trouble()


def test_a_redis_that_cannot_save_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        (tmp_path / "dump.rdb").mkdir()  # nothing can be saved there
        tell(server, "SET a b", "BGSAVE")
        with redis_client.Redis(port=server.port) as client:
            client.config_set("save", "3600 1")
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                pass
        assert "cannot save to its disk" in trouble(server.url)
        tell(server, "CONFIG SET stop-writes-on-bgsave-error no")
        assert not trouble(server.url)


@pytest.mark.usefixtures("either_loop")
def test_a_redis_with_as_many_clients_as_it_takes_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--maxclients", "33") as server:
        held = [redis_client.Redis(port=server.port) for _ in range(33)]
        with suppress(redis_client.ConnectionError):
            for each in held:
                each.ping()
        assert "CONFIG SET maxclients 10000" in trouble(server.url)
        held[0].config_set("maxclients", 10000)
        assert not trouble(server.url)
        for each in held:
            each.close()


@pytest.mark.parametrize(
    ("scheme", "place", "words"),
    [
        ("redis", "/77", "no database of the number"),
        ("rediss", "/0", "does not speak TLS"),
        ("redis+cluster", "", "is no cluster"),
        ("rediss+cluster", "", "does not speak TLS"),
    ],
)
def test_a_url_that_does_not_fit_its_redis_is_told(
    tmp_path: Path, scheme: str, place: str, words: str
) -> None:
    with RedisServer(tmp_path) as server:
        assert words in trouble(f"{scheme}://127.0.0.1:{server.port}{place}")


def test_a_node_of_a_cluster_is_no_single_redis(tmp_path: Path) -> None:
    with ThreeNodes(tmp_path) as cluster:
        told = [trouble(node.url) for node in cluster.nodes]
    assert sum("node of a cluster" in each for each in told) == 2


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize(
    ("host", "clients"),
    [("127.0.0.1", "no"), ("127.0.0.1", "yes"), ("127.0.0.2", "no")],
)
def test_a_redis_that_wants_tls_is_told(
    tmp_path: Path, host: str, clients: str
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{host}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate)]
    options += ["--tls-key-file", str(key), "--tls-auth-clients", clients]
    with RedisServer(tmp_path, *options, "--tls-ca-cert-file", str(certificate)):
        plain, tls = f"redis://127.0.0.1:{port}", f"rediss://127.0.0.1:{port}"
        trusted = f"{tls}?ssl_ca_certs={certificate}"
        ours = f"{trusted}&ssl_certfile={certificate}&ssl_keyfile={key}"
        assert "may want TLS" in trouble(plain)
        assert "no file of a certificate" in trouble(f"{tls}?ssl_ca_certs=/no/such")
        if host != "127.0.0.1":
            assert "for another host" in trouble(ours)
            return
        assert "not trusted" in trouble(tls)
        if clients == "yes":
            assert "certificate of ours" in trouble(trusted)
        assert not trouble(ours if clients == "yes" else trusted)


@contextmanager
def saying(greeting: bytes, answer: bytes) -> Iterator[str]:
    """The URL of a server that greets, or answers all things alike, or is silent."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                line, _ = listener.accept()
                held.append(line)
                threading.Thread(target=one, args=(line,), daemon=True).start()

    def one(line: socket.socket) -> None:
        with suppress(OSError):
            if greeting:
                line.sendall(greeting)
                line.close()
            while asked := line.recv(65_536):
                commands = sum(each[:1] == b"*" for each in asked.split(b"\r\n"))
                line.sendall(answer * commands)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for line in held:
        line.close()


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize(
    ("greeting", "answer", "words"),
    [
        ("", "", "says nothing"),
        ("", "HTTP/1.1 400 Bad Request", "is no Redis"),
        ("", "+OK", "is no Redis"),
        ("SSH-2.0", "", "is no Redis"),
        ("-DENIED Redis is running in protected mode", "", "protected mode"),
        ("-ERR max number of clients reached", "", "as many clients"),
        ("", "-LOADING Redis is loading the dataset in memory", "still loads"),
        ("", "-MASTERDOWN Link with MASTER is down", "whose master is away"),
        ("", "-BUSY Redis is busy running a script", "busy with a script"),
        ("", "-CLUSTERDOWN Hash slot not served", "start all of its nodes"),
        ("", "-TRYAGAIN Multiple keys request", "wait a moment"),
        ("", "-ERR unknown command 'EVAL'", "Redis 6.2 or newer"),
        ("", "-ERR", "without words"),
        ("", "-NEW Nobody knows it yet.", "NEW Nobody knows it yet"),
    ],
)
def test_what_is_said_in_place_of_an_answer_is_told(
    greeting: str, answer: str, words: str
) -> None:
    ends = [f"{each}\r\n".encode() if each else b"" for each in (greeting, answer)]
    with saying(*ends) as url:
        assert words in trouble(url)


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1", "nothing listens there"),
        ("redis://localhost:1", "nothing listens there"),
        ("redis://no-such-host.invalid", "no host of that name"),
        ("unix:///no/such/file", "no such socket file"),
        ("redis+cluster://127.0.0.1:1", "nothing listens there"),
    ],
)
def test_a_redis_that_is_not_there_is_told(url: str, words: str) -> None:
    assert words in trouble(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *((f"redis://:abc{c}def@h", f"write {c} as %{ord(c):X}") for c in "#/?[]"),
        ("redis://abc#def@127.0.0.1", "write # as %23"),
        ("redis://abc?def@127.0.0.1", "write ? as %3F"),
        ("redis://:abc@def@127.0.0.1:x", "write @ as %40"),
        ("redis+cluster://:abc#def@127.0.0.1", "write # as %23"),
        ("redis://:abcdef@127.0.0.1:port", "are numbers"),
        ("redis://:abcdef@127.0.0.1:99999", "are numbers"),
        ("redis://:abcdef@127.0.0.1/lobby", "are numbers"),
        ("redis://:abcdef@127.0.0.1/0?abc=def", "redis://HOST"),
        ("redis://:abcdef@127.0.0.1/0?socket_timeout=abc", "redis://HOST"),
        ("rediss://:abcdef@127.0.0.1/0?ssl_cert_reqs=abc", "redis://HOST"),
        ("http://:abcdef@127.0.0.1", "redis://HOST"),
        ("127.0.0.1:6379", "redis://HOST"),
    ],
)
def test_a_url_that_cannot_be_read_is_told_without_its_password(
    url: str, words: str
) -> None:
    with pytest.raises(ValueError, match="cannot be read") as why:
        connect(url)
    assert words in str(why.value)
    assert "abc" not in str(why.value)
    assert "def" not in str(why.value)
    assert why.value.__cause__ is None
