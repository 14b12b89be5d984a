"""STUN answers per second, ours beside coturn's turnserver: prints one table."""

from __future__ import annotations

import asyncio
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from p2plab.net.datagrams import Address, bound
from p2plab.net.stun import (
    COOKIE,
    HEADER_SIZE,
    LARGEST,
    REQUEST,
    Message,
    Query,
    StunServer,
    encode,
    write_address,
)

ROUNDS = 5
SECONDS = 0.5  # of a round
SOCKETS = 16
IN_FLIGHT = 32  # requests of one socket
PATIENCE = 0.2  # after which what is in flight counts as lost [s]
OURS = """
import asyncio
from p2plab.net.stun import StunServer
async def serve():
    server = await StunServer(per_source=10**9).start()
    print(server.address[1], flush=True)
    await asyncio.to_thread(input)
    server.stop()
asyncio.run(serve())
"""


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0, **knobs: Any) -> Iterator[Any]:
    """Run a StunServer in a loop and a thread of its own, and yield it."""
    loop, server = asyncio.new_event_loop(), StunServer(**knobs)
    try:
        loop.run_until_complete(server.start(host, port))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(server.stop)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(asyncio.sleep(0))  # only then is the port free
    finally:
        loop.close()


def request(transaction: bytes) -> bytes:
    """Return a Binding request; the transaction has 12 bytes."""
    return encode(Message(REQUEST, COOKIE + transaction, {}))


def ask(sock: socket.socket, server: Address, query: Query | None = None) -> Address:
    """Ask as a peer does, until there is an answer; raises what the query ended with.

    Other datagrams that come meanwhile are lost.
    """
    query = query or Query(rc=3, rm=4)  # 3.5 s
    while not query.done:
        now = time.monotonic()
        if datagram := query.next_datagram(now):
            sock.sendto(datagram, server)
        if query.deadline is not None:
            sock.settimeout(max(query.deadline - now, 0.001))
            with suppress(OSError):  # silence, or Windows: nobody listens there
                query.on_datagram(sock.recv(LARGEST))
    if query.error is not None:
        raise query.error
    assert query.address is not None
    return query.address


class Round(NamedTuple):
    """What one round of load has counted. cpu: seconds of the server; None: unknown."""

    answers: int
    lost: int
    seconds: float
    cpu: float | None


class Asker:
    """One socket that keeps IN_FLIGHT requests on their way, and checks the answers."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.socket = bound("127.0.0.1", 0)
        seen = write_address(self.socket.getsockname()[:2], COOKIE + bytes(12))
        self.right = b"\x00\x20\x00\x08" + seen  # the same in every answer
        self.waiting: set[bytes] = set()
        self.answers = self.lost = 0
        self.sent_at = 0.0

    def send(self) -> None:
        """Ask again, all at once; what was not answered is lost."""
        self.lost += len(self.waiting)
        self.waiting = {secrets.token_bytes(12) for _ in range(IN_FLIGHT)}
        self.sent_at = time.perf_counter()
        for each in self.waiting:
            self.socket.sendto(request(each), self.server)

    def receive(self) -> None:
        """Take all that has come."""
        with suppress(BlockingIOError):
            while answer := self.socket.recv(2048):
                transaction = answer[8:HEADER_SIZE]
                if transaction in self.waiting:
                    assert answer[HEADER_SIZE:32] == self.right, "a wrong answer"
                    self.waiting.remove(transaction)
                    self.answers += 1


def load(server: tuple[str, int], pid: int) -> Round:
    """Ask through all the sockets for SECONDS."""
    askers = {each.socket: each for each in map(Asker, [server] * SOCKETS)}
    before, start = cpu_time(pid), time.perf_counter()
    for asker in askers.values():
        asker.send()
    while (now := time.perf_counter()) < start + SECONDS:
        for each in select.select(list(askers), [], [], PATIENCE / 4)[0]:
            askers[each].receive()
        for asker in askers.values():
            if not asker.waiting or asker.sent_at < now - PATIENCE:
                asker.send()
    seconds, after = time.perf_counter() - start, cpu_time(pid)
    for asker in askers.values():
        asker.socket.close()
    cpu = None if before is None or after is None else after - before
    answers = sum(asker.answers for asker in askers.values())
    return Round(answers, sum(asker.lost for asker in askers.values()), seconds, cpu)


def cpu_time(pid: int) -> float | None:
    """Return the processor time that a process has had, where Linux tells it [s]."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / 100  # proc(5)


@contextmanager
def ours() -> Iterator[tuple[int, int]]:
    """Yield port and process of our server, alone in a Python."""
    with subprocess.Popen(
        [sys.executable, "-c", OURS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.communicate("\n")


@contextmanager
def coturn(binary: str) -> Iterator[tuple[int, int]]:
    """Yield port and process of a turnserver that does nothing but STUN."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "-n", "--stun-only", "--no-auth", "--no-cli", "--no-tcp"]
        command += ["--no-tls", "--no-dtls", "--no-rfc5780", "--no-software-attribute"]
        command += ["--log-file", "stdout", "--pidfile", f"{folder}/pid"]
        command += ["--db", f"{folder}/db", "-L", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                ask(sock, ("127.0.0.1", port))
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def stun() -> None:
    """Print how many answers a second each server gives, and what one costs it."""
    binary = shutil.which("turnserver")
    with ExitStack() as stack:
        servers = {"p2plab": stack.enter_context(ours())}
        if binary:
            servers["coturn"] = stack.enter_context(coturn(binary))
        rounds: dict[str, list[Round]] = {name: [] for name in servers}
        for lap in range(ROUNDS + 1):
            for name, (port, pid) in servers.items():
                got = load(("127.0.0.1", port), pid)
                rounds[name] += [got] if lap else []  # the first one warms up
    print(f"\nSTUN Binding over loopback, {SOCKETS} sockets x {IN_FLIGHT} in flight")
    print("(cpu: the server's own processor time; x: how many times coturn's rate)\n")
    row = "{:<10}{:>12}{:>20}{:>7}{:>15}{:>8}"
    print(row.format("", "answers/s", "least..most", "lost", "cpu us/answer", "x"))
    rates = {
        name: [a.answers / a.seconds for a in laps] for name, laps in rounds.items()
    }
    for name, laps in rounds.items():
        spent = [each.cpu / each.answers * 1e6 for each in laps if each.cpu]
        least, most, middle = min(rates[name]), max(rates[name]), median(rates[name])
        print(
            row.format(
                name,
                f"{middle:,.0f}",
                f"{least:,.0f}..{most:,.0f}",
                sum(each.lost for each in laps),
                f"{median(spent):.1f}" if spent else "",
                f"{middle / median(rates['coturn']):.2f}" if binary else "",
            )
        )
    if binary is None:
        print("coturn's turnserver is not installed: nothing to compare with")


if __name__ == "__main__":
    stun()
