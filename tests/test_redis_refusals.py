"""Whatever a Redis refuses, the start and every refusal name the cause and a cure."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_client
import requests
from redis_server import RedisServer, ThreeNodes, free_port

from p2plab.rendezvous.server import RendezvousServer
from p2plab.rendezvous.store import connect

PLAIN = {"addresses": ["192.0.2.1"], "tcp_port": 1, "udp_port": 1}


def trouble(url: str) -> str:
    """What a start says; a registration must say the same."""
    with RendezvousServer(redis_url=url) as server:
        told = server.redis_trouble()
        where = f"{server.url}/rooms/lobby/peers/ann"
        refused = requests.put(where, json=PLAIN, timeout=10)
        if refused.status_code == 503:
            assert told.split(":")[0] in refused.json()["message"]
        else:
            assert not told or "memory" in told, "a small script is still allowed"
    return told


@contextmanager
def configured(folder: Path, *commands: str) -> Iterator[RedisServer]:
    """A real Redis that was told something once it ran."""
    with RedisServer(folder) as server:
        with redis_client.Redis(port=server.port) as client:
            for command in commands:
                client.execute_command(*command.split())
        yield server


@pytest.mark.parametrize(
    ("commands", "login", "words"),
    [
        (["REPLICAOF 127.0.0.1 1"], "", "read-only replica"),
        (["CONFIG SET maxmemory 1"], "", "no memory left"),
        (["CONFIG SET min-replicas-to-write 1"], "", "too few replicas"),
        (["CONFIG SET requirepass secret"], "", "wants a password"),
        (["CONFIG SET requirepass secret"], ":wrong@", "is not right"),
        (["CONFIG SET requirepass secret"], ":secret@", ""),
        ([], ":secret@", "has no password"),
        (["ACL SETUSER ann on >a ~* +@read"], "ann:a@", "may not do what is needed"),
        (["ACL SETUSER ann on >a ~{p2p}* +@all"], "ann:a@", ""),
        (
            ["ACL SETUSER ann on >a ~other* +@all"],
            "ann:a@",
            "may not do what is needed",
        ),
    ],
)
def test_a_redis_that_refuses_is_told_with_its_cure(
    tmp_path: Path, commands: list[str], login: str, words: str
) -> None:
    with configured(tmp_path, *commands) as server:
        told = trouble(f"redis://{login}127.0.0.1:{server.port}/0")
    assert words in told
    assert bool(words) == bool(told)
    assert "secret" not in told
    assert "wrong" not in told


def test_a_redis_that_cannot_save_is_told(tmp_path: Path) -> None:
    with configured(tmp_path) as server:
        with redis_client.Redis(port=server.port) as client:
            client.config_set("save", "3600 1")
            (tmp_path / "dump.rdb").mkdir()  # nothing can be saved there
            client.set("a", "b")
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                pass
        assert "cannot save to its disk" in trouble(server.url)


@pytest.mark.parametrize(
    ("scheme", "place", "words"),
    [
        ("redis", "/77", "no database of the number"),
        ("rediss", "/0", "does not speak TLS"),
        ("redis+cluster", "", "is no cluster"),
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


def test_a_redis_that_wants_tls_is_told(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate)]
    options += ["--tls-key-file", str(key), "--tls-auth-clients", "no"]
    with RedisServer(tmp_path, *options):
        assert "TLS" in trouble(f"redis://127.0.0.1:{port}")
        assert "not trusted" in trouble(f"rediss://127.0.0.1:{port}")
        trusted = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        assert trouble(trusted) == ""


@pytest.mark.parametrize(
    ("says", "words"),
    [(None, "says nothing"), (b"HTTP/1.1 400 Bad\r\n\r\n", "no Redis")],
)
def test_what_is_no_redis_or_says_nothing_is_told(
    says: bytes | None, words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        import threading

        held = []

        def answer() -> None:
            while True:
                try:
                    line, _ = other.accept()
                except OSError:
                    return
                held.append(line)
                if says:
                    line.recv(100)
                    line.sendall(says)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        told = trouble(f"redis://127.0.0.1:{other.getsockname()[1]}")
        other.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in held:
            each.close()
    assert words in told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1", "nothing listens there"),
        ("redis://no-such-host.invalid", "no host of that name"),
        ("unix:///no/such/file", "no such socket file"),
        ("redis+cluster://127.0.0.1:1", "cluster is not complete or not reachable"),
    ],
)
def test_a_redis_that_is_not_there_is_told(url: str, words: str) -> None:
    assert words in trouble(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:abc#def@127.0.0.1", "write # as %23"),
        ("redis://user:abc/def@127.0.0.1", "write / as %2F"),
        ("redis://:abc?def@127.0.0.1", "write [?] as %3F"),
        ("redis://:abc@def@127.0.0.1:x", "write @ as %40"),
        ("redis://:abcdef@127.0.0.1:port", "numbers"),
        ("redis://:abcdef@127.0.0.1/lobby", "numbers"),
        ("redis://:abcdef@127.0.0.1/0?abc=def", "redis://HOST"),
        ("redis://:abcdef@127.0.0.1/0?socket_timeout=abc", "redis://HOST"),
        ("http://:abcdef@127.0.0.1", "redis://HOST"),
        ("redis+cluster://:abc#def@127.0.0.1", "write # as %23"),
    ],
)
def test_a_url_that_cannot_be_read_is_told_without_its_password(
    url: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as why:
        connect(url)
    assert "abc" not in str(why.value)
    assert "def" not in str(why.value)
    assert why.value.__cause__ is None
