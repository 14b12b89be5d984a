"""Real redis-servers for tests: free ports, folders of their own, ended by handle."""

from __future__ import annotations

import itertools
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

import pytest
import redis

BINARY = shutil.which("redis-server")
TRIES = 5  # with other ports, when somebody took one before redis-server did
BUS = 10_000  # a cluster's nodes talk to each other on a second port, this much higher

# No system gives these, or those higher by BUS, to whoever asks for any port:
# by default Linux begins at 32768, the others at 49152. And none is handed out twice.
PORTS = random.SystemRandom().sample(range(10_000, 32_768 - BUS), 12_768)
UNUSED = itertools.cycle(PORTS)


def free_port() -> int:
    """A port of loopback that was free a moment ago, as was the one higher by BUS."""
    return next(port for port in UNUSED if is_free(port) and is_free(port + BUS))


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class RedisServer:
    """One redis-server that keeps its data in `folder`, so that a restart finds it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = 0  # none yet
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        assert self.port, "it has no port before it has started"
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start it; one that ran before comes back on its port."""
        if BINARY is None:
            pytest.skip("redis-server is not installed")
        ports = [self.port] if self.port else [free_port() for _ in range(TRIES)]
        for self.port in ports:
            said = self._launch(BINARY)
            if self.process is not None:
                break
        else:
            pytest.fail(f"redis-server did not start:\n{said}")
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            assert client.ping()
        return self

    def _launch(self, binary: str) -> str:
        options = ["--port", str(self.port), "--bind", "127.0.0.1"]
        options += ["--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", *self.options]
        self.process = subprocess.Popen(
            [binary, *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:  # it says so when it is ready
            said += line
            if "Ready to accept connections" in line:
                return said
        self.kill()
        return said

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def empty(self) -> None:
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.flushall()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.kill()


class ThreeNodes:
    """A Redis Cluster of three nodes, with so many replicas of each."""

    def __init__(self, folder: Path, *options: str, replicas: int = 0) -> None:
        self.nodes: list[RedisServer] = []  # the replicas last
        self.replicas = replicas
        for number in range(3 * (1 + replicas)):
            here = folder / str(number)
            here.mkdir()
            self.nodes.append(RedisServer(here, "--cluster-enabled", "yes", *options))

    @property
    def url(self) -> str:
        """All three: any of them may be the one that is away."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://{places}"

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        places = [f"127.0.0.1:{node.port}" for node in self.nodes]
        words = ["redis-cli", "--cluster", "create", *places, "--cluster-yes"]
        words += ["--cluster-replicas", str(self.replicas)]
        subprocess.run(words, capture_output=True, check=True, timeout=60)
        for node in self.nodes:
            with redis.Redis(port=node.port, socket_timeout=5) as client:
                wait_until_whole(client)
        return self

    def empty(self) -> None:
        for node in self.nodes:
            node.empty()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        for node in self.nodes:
            node.kill()


def wait_until_whole(client: Any) -> None:
    """Wait until a node knows all slots."""
    pause = threading.Event()
    for _ in range(1_000):
        info = client.execute_command("CLUSTER INFO")
        if info["cluster_state"] == "ok":
            return
        pause.wait(0.02)
    pytest.fail(f"the cluster did not come together: {info!r}")
