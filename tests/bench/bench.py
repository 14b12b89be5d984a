"""How fast is it, beside something else: prints one table. `make bench` runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median

from p2plab import Link, Setup, sample_picture, simulate
from p2plab.chunks import cut
from p2plab.protocols import PROTOCOLS
from p2plab.simulator import Run
from p2plab.udp import UdpSocket

ROUNDS = 7
PICTURE = sample_picture(512)
RAW = PICTURE.tobytes()
APART = "naive, 2 cores"
BARE = "  without a trace"


@contextmanager
def p2plab_udp(protocol: str, record: bool = True) -> Iterator[Callable[[], None]]:
    """A picture between two peers in this process, no impairment."""
    parcel = cut(PICTURE, kind="picture", payload_size=1200)
    setup = Setup(protocol, window=64)

    def send() -> None:
        transfer = here.send(there.address, parcel, setup, record=record).wait()
        assert transfer.assembly is not None
        assert transfer.assembly.complete  # and the receiver has verified it

    with UdpSocket() as here, UdpSocket(record=record) as there:
        yield send


@contextmanager
def kernel_tcp() -> Iterator[Callable[[], None]]:
    """The same bytes through TCP, plain Python sockets, two threads."""

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            left = len(RAW)
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(b"!")

    def send() -> None:
        thread = threading.Thread(target=receive)
        thread.start()
        with socket.create_connection(listener.getsockname()) as sender:
            sender.sendall(RAW)
            sender.recv(1)
        thread.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield send


@contextmanager
def naive_stop_and_wait(apart: bool) -> Iterator[Callable[[], None]]:
    """The course report's way: 1,024 bytes with a number, wait for an answer, next.

    apart: each side on a core of its own, as two computers are. Otherwise the system
    chooses, which makes a difference of five times: if it lets both share one core,
    then nobody has to wake another core for every packet.
    """
    chunks = [RAW[at : at + 1024] for at in range(0, len(RAW), 1024)]

    def receive() -> None:
        settle(1)
        parts: dict[bytes, bytes] = {}
        while True:
            datagram, address = inbound.recvfrom(2048)
            if datagram == b"finish":
                inbound.sendto(b"finish", address)
                assert b"".join(parts.values()) == RAW
                return
            number, data = datagram.split(b":", 1)
            parts[number] = data
            inbound.sendto(number, address)

    def settle(core: int) -> None:
        if apart:
            os.sched_setaffinity(0, {cores[core]})

    def send() -> None:
        thread = threading.Thread(target=receive)
        thread.start()
        settle(0)
        for number, chunk in enumerate(chunks):
            outbound.sendto(b"%d:%s" % (number, chunk), inbound.getsockname())
            outbound.recvfrom(2048)
        outbound.sendto(b"finish", inbound.getsockname())
        outbound.recvfrom(2048)
        thread.join()
        if apart:
            os.sched_setaffinity(0, cores)

    cores = sorted(os.sched_getaffinity(0)) if apart else []
    with (
        socket.socket(type=socket.SOCK_DGRAM) as inbound,
        socket.socket(type=socket.SOCK_DGRAM) as outbound,
    ):
        inbound.bind(("127.0.0.1", 0))
        outbound.settimeout(2)
        yield send


def seconds(contestants: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the times of some rounds, after one to warm up.

    They take turns, because a machine's mood changes within seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for lap in range(ROUNDS + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if lap:
                times[name].append(time.perf_counter() - start)
    return times


def pictures() -> None:
    """Print how long the picture takes."""
    count = cut(PICTURE, kind="picture", payload_size=1200).content.count
    chunks = -(-len(RAW) // 1024)
    packets = dict.fromkeys(["naive", APART], chunks)
    packets |= dict.fromkeys([*PROTOCOLS, BARE], count)
    with ExitStack() as stack:
        contestants = {
            "tcp": stack.enter_context(kernel_tcp()),
            "naive": stack.enter_context(naive_stop_and_wait(apart=False)),
        }
        if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
            apart = stack.enter_context(naive_stop_and_wait(apart=True))
            contestants[APART] = apart
        for name in PROTOCOLS:
            contestants[name] = stack.enter_context(p2plab_udp(name))
        bare = p2plab_udp("selective_repeat", record=False)
        contestants[BARE] = stack.enter_context(bare)
        times = seconds(contestants)
    print(f"512x512 RGB picture, {len(RAW):,} bytes, two threads, loopback")
    print("(tcp: plain sockets; naive: the report's stop-and-wait, 1,024 bytes)\n")
    row = "{:<18}{:>8}{:>16}{:>12}{:>10}{:>9}{:>9}"
    print(row.format("", "ms", "least..most", "DATA/s", "x naive", "2 cores", "x tcp"))
    middle = {name: median(each) for name, each in times.items()}
    for name, each in times.items():
        rate = f"{packets[name] / middle[name]:,.0f}" if name in packets else ""
        print(
            row.format(
                name,
                f"{1000 * middle[name]:.1f}",
                f"{1000 * min(each):.1f}..{1000 * max(each):.1f}",
                rate,
                f"{middle['naive'] / middle[name]:.2f}",
                f"{middle[APART] / middle[name]:.2f}" if APART in middle else "",
                f"{middle['tcp'] / middle[name]:.3f}",
            )
        )


def virtual_time() -> None:
    """Print how many packets, data and ACK, a second of computing simulates."""
    setup = Setup("selective_repeat", window=64)
    payloads = [bytes(1200)] * 10_000
    print("\nvirtual time, selective repeat, window 64, 10,000 payloads of 1,200 bytes")
    for loss in (0.0, 0.05):
        link = Link(delay=0.01, rate=100e6, loss=loss, seed=1)

        def run(record: bool, link: Link = link) -> Run:
            machines = setup.sender(), setup.receiver()
            return simulate(*machines, payloads, link, record=record)

        packets = sent(run(True))
        times = seconds({"traced": lambda: run(True), "bare": lambda: run(False)})
        traced, bare = (packets / median(times[name]) for name in ("traced", "bare"))
        print(
            f"loss {loss:.0%}: {traced:,.0f} packets/s fully traced, {bare:,.0f} "
            f"without a trace (x {traced / bare:.2f})"
        )


def sent(run: Run) -> int:
    """Count the packets that a run put on its link, both ways."""
    return sum(row[2] in ("send", "retransmit") for row in run.trace.rows)


def memory() -> None:
    """Print what a traced run keeps for each of its packets."""
    setup = Setup("selective_repeat", window=64)
    payloads = [bytes(1200)] * 10_000
    tracemalloc.start()
    run = simulate(setup.sender(), setup.receiver(), payloads, Link(delay=0.01))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"a trace keeps {kept / sent(run):.0f} bytes for each packet")


def imports() -> None:
    """Print how long a new interpreter takes to import us, beside numpy."""

    def start(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    modules = {"p2plab": start("import p2plab"), "numpy": start("import numpy")}
    times = seconds({"nothing": start("pass"), **modules})
    nothing = median(times["nothing"])
    for name in modules:
        print(f"import {name}: {median(times[name]) - nothing:.3f} s")


if __name__ == "__main__":
    pictures()
    virtual_time()
    memory()
    imports()
