"""Whatever a Redis refuses, the start and every refusal name the cause and a cure."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import redis as redis_client
import requests
from redis_server import RedisServer, ThreeNodes, free_port

from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer
from p2plab.rendezvous.store import connect

PLAIN = {"addresses": ["192.0.2.1"], "tcp_port": 1, "udp_port": 1}
PASSWORD = "hunter2"
MANY = Quotas(names_per_minute=10**6)
NUMBERS = count()


@pytest.fixture(params=["uvloop", "asyncio"])
def either_loop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their errors are not the same."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)


def trouble(url: str) -> str:
    """What a start says; a registration and a look at Redis must say the same."""
    with RendezvousServer(redis_url=url, limits=MANY) as server:
        told = server.redis_trouble()
        where = f"{server.url}/rooms/lobby/peers/p{next(NUMBERS)}"
        answer = requests.put(where, json=PLAIN, timeout=10)
        assert answer.status_code == (503 if told else 201)
        if told:
            cause = answer.json()["message"].partition(" The cause: ")[2]
            # What TLS says last may be lost: then both are guesses.
            assert cause == f"{told}." or "certificate of ours" in cause
    assert PASSWORD not in told
    return told


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests; each leaves it as it was, or cured."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def tell(server: RedisServer, *commands: str, password: str = "") -> None:
    with redis_client.Redis(port=server.port, password=password or None) as client:
        for command in commands:
            client.execute_command(*command.split())


ANN, SET_ANN = f"ann:{PASSWORD}@", "ACL SETUSER ann"
ALL_OF_OURS = f"{SET_ANN} resetkeys ~{{p2p}}* +@all"
LOCKED, MIN = f"ACL SETUSER default >{PASSWORD}", "CONFIG SET min-replicas-to-write"


@pytest.mark.parametrize(
    ("breaking", "login", "words", "cure", "then"),
    [
        ("REPLICAOF 127.0.0.1 1", "", "read-only replica", "REPLICAOF NO ONE", ""),
        (f"{MIN} 1", "", "too few replicas", f"{MIN} 0", ""),
        (LOCKED, "", "wants a password", "PING", f":{PASSWORD}@"),
        (LOCKED, f":{PASSWORD}x@", "is not right", "PING", f":{PASSWORD}@"),
        ("PING", f":{PASSWORD}@", "has no password", "PING", ""),
        (f"{SET_ANN} on >{PASSWORD} ~* +@read", ANN, "may not do", ALL_OF_OURS, ANN),
        (f"{SET_ANN} on >{PASSWORD} ~x* +@all", ANN, "may not do", ALL_OF_OURS, ANN),
    ],
)
def test_what_a_redis_refuses_is_told_with_a_cure_that_works(
    redis: RedisServer, breaking: str, login: str, words: str, cure: str, then: str
) -> None:
    tell(redis, breaking)
    assert words in trouble(f"redis://{login}127.0.0.1:{redis.port}")
    password = PASSWORD if then[:1] == ":" else ""
    tell(redis, cure, password=password)
    assert not trouble(f"redis://{then}127.0.0.1:{redis.port}")
    tell(redis, "ACL SETUSER default nopass", "ACL DELUSER ann", password=password)


def test_a_redis_without_memory_is_told_before_the_first_name(
    redis: RedisServer,
) -> None:
    tell(redis, "CONFIG SET maxmemory 1")
    with RendezvousServer(redis_url=redis.url) as rendezvous:
        assert "no memory left" in rendezvous.redis_trouble()
        tell(redis, "CONFIG SET maxmemory 200mb")
        assert not rendezvous.redis_trouble()


def test_a_redis_that_cannot_save_is_told(redis: RedisServer) -> None:
    (redis.folder / "dump.rdb").mkdir()  # nothing can be saved there
    tell(redis, "SET a b", "BGSAVE")
    with redis_client.Redis(port=redis.port) as client:
        client.config_set("save", "3600 1")
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            pass
    assert "cannot save to its disk" in trouble(redis.url)
    tell(redis, "CONFIG SET stop-writes-on-bgsave-error no")
    assert not trouble(redis.url)


@pytest.mark.usefixtures("either_loop")
def test_a_redis_with_as_many_clients_as_it_takes_is_told(redis: RedisServer) -> None:
    tell(redis, "CONFIG SET maxclients 33")
    held = [redis_client.Redis(port=redis.port) for _ in range(33)]
    with suppress(redis_client.ConnectionError):
        for each in held:
            each.ping()
    assert "CONFIG SET maxclients 10000" in trouble(redis.url)
    held[0].config_set("maxclients", 10000)
    assert not trouble(redis.url)
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
def test_a_url_of_another_redis_is_told(
    redis: RedisServer, scheme: str, place: str, words: str
) -> None:
    assert words in trouble(f"{scheme}://127.0.0.1:{redis.port}{place}")


def test_a_node_of_a_cluster_is_no_single_redis(tmp_path: Path) -> None:
    with ThreeNodes(tmp_path) as cluster:
        told = [trouble(node.url) for node in cluster.nodes]
    assert sum("node of a cluster" in each for each in told) == 2


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A key, and a certificate that it has signed itself."""
    key, certificate = folder / f"{host}.key", folder / f"{host}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{host}"]
    words += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return key, certificate


@pytest.mark.usefixtures("either_loop")
def test_a_redis_with_tls_is_told(tmp_path: Path) -> None:
    (key, ours), (_, other) = (certificate(tmp_path, f"127.0.0.{n}") for n in (1, 2))
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(ours)]
    options += ["--tls-key-file", str(key), "--tls-ca-cert-file", str(ours)]
    with RedisServer(tmp_path, *options) as server:
        plain, tls = f"redis://127.0.0.1:{port}", f"rediss://127.0.0.1:{port}"
        trusted = f"{tls}?ssl_ca_certs={ours}"
        assert "may want TLS" in trouble(plain)
        assert "no file of a certificate" in trouble(f"{tls}?ssl_ca_certs=/no/such")
        assert "not trusted" in trouble(tls)
        assert "certificate of ours" in trouble(trusted)
        assert not trouble(f"{trusted}&ssl_certfile={ours}&ssl_keyfile={key}")
        tell(server, "CONFIG SET tls-auth-clients no")
        assert not trouble(trusted)
        files = f"tls-cert-file {other} tls-key-file {other.with_suffix('.key')}"
        tell(server, f"CONFIG SET {files}")
        assert "for another host" in trouble(f"{tls}?ssl_ca_certs={other}")


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
    ("greeting", "words"),
    [
        ("", "says nothing"),
        ("SSH-2.0", "is no Redis"),
        ("-DENIED Redis is running in protected mode", "protected mode"),
        ("-ERR max number of clients reached", "as many clients"),
    ],
)
def test_who_greets_or_is_silent_is_told(greeting: str, words: str) -> None:
    with saying(f"{greeting}\r\n".encode() if greeting else b"", b"") as url:
        assert words in trouble(url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 400 Bad Request", "is no Redis"),
        ("+OK", "is no Redis"),
        ("-LOADING Redis is loading the dataset in memory", "still loads"),
        ("-MASTERDOWN Link with MASTER is down", "whose master is away"),
        ("-BUSY Redis is busy running a script", "busy with a script"),
        ("-CLUSTERDOWN Hash slot not served", "start all of its nodes"),
        ("-TRYAGAIN Multiple keys request", "wait a moment"),
        ("-ERR unknown command 'EVAL'", "Redis 6.2 or newer"),
        ("-ERR", "without words"),
        ("-NEW Nobody knows it yet.", "NEW Nobody knows it yet"),
    ],
)
def test_another_server_is_told(answer: str, words: str) -> None:
    with saying(b"", f"{answer}\r\n".encode()) as url:
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
def test_a_wrong_url_is_told_without_its_password(url: str, words: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as why:
        connect(url)
    assert words in str(why.value)
    assert "abc" not in str(why.value)
    assert "def" not in str(why.value)
    assert why.value.__cause__ is None
