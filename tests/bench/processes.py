"""Servers in processes of their own: ours, and others of the kind, ended by handle."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

OURS = """
import json, sys, time
wish = json.loads(sys.argv[1])
if fast := wish.pop("clock"):
    right = time.time
    time.time = lambda: right() + fast
    time.time_ns = lambda: round(1e9 * time.time())
if files := wish.pop("files"):
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer
limits = Quotas(**wish.pop("limits"))
with RendezvousServer(**wish, limits=limits) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""
# One address is the whole load here; the limits are measured elsewhere.
LIFTED = {
    "peers": 10**6,
    "rooms": 10**6,
    "names_per_minute": 10**9,
    "introductions_from": 10**9,
    "introductions_to": 10**9,
    "introductions_per_source": 10**9,
    "introductions_to_per_source": 10**9,
    "waiting_per_source": 10**6,
    "connections_per_source": 10**6,
    "look_ups_per_second": 10**9,
}
START_PATIENCE = 20.0  # s
SCRATCH = Path(tempfile.gettempdir()) / "p2plab-bench"  # what npm and pip have fetched


class Missing(Exception):
    """A program that the benchmark would compare with cannot be had here."""


class Server:
    """Our rendezvous in a process of its own, which ends with ours at the latest.

    clock: how many seconds its clock is fast. files: that it may have open; 0 leaves
    what the system allows.
    """

    def __init__(
        self,
        redis_url: str = "",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Mapping[str, int] = LIFTED,
        clock: float = 0.0,
        files: int = 0,
    ) -> None:
        wish = {"host": host, "port": port, "redis_url": redis_url, "clock": clock}
        wish |= {"limits": dict(limits), "files": files}
        self._wish = wish
        self.host, self.port = host, port
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers on this machine."""
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        """The same for clients."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Return when it answers; a restart keeps the port."""
        self._wish["port"] = self.port
        self.process = subprocess.Popen(
            [sys.executable, "-c", OURS, json.dumps(self._wish)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, "the rendezvous did not start"
        self.port = int(said)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.kill()


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def program(
    words: Sequence[str | Path], port: int, folder: Path | None = None
) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it listens."""
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            end = time.monotonic() + START_PATIENCE
            while not answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise Missing(f"{words[0]} did not start")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.kill()


@contextmanager
def redis(*options: str) -> Iterator[tuple[int, int]]:
    """Run a redis-server that writes nothing down; yield its port and process."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise Missing("redis-server is not installed")
    port = free_port()
    words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        tempfile.TemporaryDirectory() as folder,
        program([*words, "--appendonly", "no", *options], port, Path(folder)) as pid,
    ):
        yield port, pid


@contextmanager
def redis_cluster(nodes: int = 3) -> Iterator[list[tuple[int, int]]]:
    """Run a Redis Cluster without replicas; yield port and process of each node."""
    cli = shutil.which("redis-cli")
    if cli is None:
        raise Missing("redis-cli is not installed")
    with ExitStack() as stack:
        running = []
        for _ in range(nodes):
            bus = str(free_port())  # by default port + 10,000, which may not exist
            options = ("--cluster-enabled", "yes", "--cluster-port", bus)
            running.append(stack.enter_context(redis(*options)))
        places = [f"127.0.0.1:{port}" for port, _ in running]
        words = [cli, "--cluster", "create", *places, "--cluster-yes"]
        made = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if made.returncode:
            raise Missing(f"the cluster did not come together: {made.stdout[-200:]}")
        yield running


@contextmanager
def peerjs() -> Iterator[tuple[int, int]]:
    """Run the PeerJS server of npm; yield its port and process."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node and npm are not installed")
    folder = SCRATCH / "peerjs"
    script = folder / "node_modules" / "peer" / "dist" / "bin" / "peerjs.js"
    if not script.exists():
        fetch([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, "peer@1"])
    port = free_port()
    options: list[str] = [
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--allow_discovery",
    ]
    options += ["--concurrent_limit", "1000000"]
    with program([node, script, *options], port) as pid:
        yield port, pid


@contextmanager
def mailbox(database: str) -> Iterator[tuple[int, int]]:
    """Run magic-wormhole's mailbox server of PyPI; yield its port and process.

    database: a file's name, or ":memory:".
    """
    folder = SCRATCH / "mailbox"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    name = "magic-wormhole-mailbox-server"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        fetch([python, "-m", "pip", "install", "--quiet", f"{name}>=0.8"])
        (folder / "complete").touch()
    port = free_port()
    words: list[str | Path] = [
        python,
        "-m",
        "twisted",
        "wormhole-mailbox",
        f"--channel-db={database}",
    ]
    words.append(f"--port=tcp:{port}:interface=127.0.0.1")
    with tempfile.TemporaryDirectory() as data, program(words, port, Path(data)) as pid:
        yield port, pid


def fetch(words: Sequence[str | Path]) -> None:
    """Let a package manager fetch something, once."""
    SCRATCH.mkdir(exist_ok=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as why:
        raise Missing(f"{Path(words[0]).name} failed: {why}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"{Path(words[0]).name} failed: {''.join(last)[:60]}")


def resident(pids: Sequence[int]) -> int | None:
    """Return the bytes of memory that processes hold, where Linux tells it."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return None
        total += 1024 * int(text.partition("VmRSS:")[2].split()[0])
    return total


def processor(pids: Sequence[int]) -> float:
    """Return the time that processes have had a processor, where Linux tells it [s]."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        total += (int(fields[11]) + int(fields[12])) / 100  # proc(5)
    return total
