"""Our rendezvous beside PeerJS and magic-wormhole's mailbox: prints one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final, NamedTuple

from contestants import Contestant, Mailbox, Operations, Ours, PeerJs
from processes import Missing, Server, mailbox, peerjs, redis, resident
from wire import Address, Figures, load

ROUNDS: Final = 3
SECONDS: Final = 0.6  # of a round
AT_ONCE: Final = 32
PEERS: Final = 200  # that are there while others look or are introduced
WAITING: Final = 1_000
OURS: Final = "p2plab, redis-server"


class Service(NamedTuple):
    """A running service. pids: its processes."""

    make: Callable[[Address], Contestant]
    server: Address
    pids: tuple[int, ...]


@contextmanager
def ours_and_redis() -> Iterator[Service]:
    with redis() as (port, pid), Server(f"redis://127.0.0.1:{port}") as server:
        assert server.process is not None
        yield Service(Ours, server.address, (server.process.pid, pid))


@contextmanager
def ours_alone() -> Iterator[Service]:
    with Server() as server:
        assert server.process is not None
        yield Service(Ours, server.address, (server.process.pid,))


@contextmanager
def peerjs_server() -> Iterator[Service]:
    with peerjs() as (port, pid):
        yield Service(PeerJs, ("127.0.0.1", port), (pid,))


@contextmanager
def mailbox_server() -> Iterator[Service]:
    # By default it writes to a file, which takes from two to twenty times as long.
    with mailbox(":memory:") as (port, pid):
        yield Service(Mailbox, ("127.0.0.1", port), (pid,))


SERVICES: Final = {
    OURS: ours_and_redis,
    "p2plab alone": ours_alone,
    "PeerJS": peerjs_server,
    "mailbox, in memory": mailbox_server,
}


WORK: Final = {
    "look-ups": AT_ONCE,
    "registrations": AT_ONCE,
    "introductions": AT_ONCE,
    "introductions, one at a time": 1,
}
Times = dict[str, dict[str, list[Figures]]]  # work, service


async def measure(running: Mapping[str, Service]) -> Times:
    """Load the services in turns, because a machine's mood changes within seconds."""
    times: Times = {work: {name: [] for name in running} for work in WORK}
    for _ in range(ROUNDS):
        for name, service in running.items():
            contestant = service.make(service.server)
            await contestant.prepare(PEERS, AT_ONCE)
            for work, at_once in WORK.items():
                operations = operations_of(contestant, work)
                times[work][name].append(await load(operations, at_once, SECONDS))
            contestant.close()
    return times


def operations_of(contestant: Contestant, work: str) -> Operations:
    """Return what a word of WORK means."""
    if work == "look-ups":
        return contestant.look_up()
    if work == "registrations":
        return contestant.register()
    return contestant.introduce()


async def memory_of(service: Service) -> float | None:
    """Return what each of WAITING peers costs, after some to warm up."""
    contestant = service.make(service.server)
    await contestant.wait(200)
    before = resident(service.pids)
    await contestant.wait(WAITING)
    await asyncio.sleep(0.5)
    after = resident(service.pids)
    contestant.close()
    return None if before is None or after is None else (after - before) / WAITING


def compare() -> None:
    """Print the table of all services that can be had here."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        running = {}
        for name, start in SERVICES.items():
            try:
                running[name] = stack.enter_context(start())
            except Missing as why:
                missing[name] = str(why)
        times = asyncio.run(measure(running))
    kept: dict[str, float | None] = {}
    for name in running:
        with SERVICES[name]() as service:  # a heap that was full already tells nothing
            kept[name] = asyncio.run(memory_of(service))
    print_tables(times, kept, missing)


def print_tables(
    times: Times, kept: Mapping[str, float | None], missing: Mapping[str, str]
) -> None:
    """Print what was measured; x: how often the first row's figure is this one's."""
    row = "{:<24}{:>9}{:>9}{:>10}{:>10}{:>9}"
    print(f"rendezvous servers: {AT_ONCE} at once, {PEERS} peers are there, loopback")
    for work, services in times.items():
        print("\n" + row.format(work[:24], "/s", "x ours", "p50 [ms]", "p99 [ms]", ""))
        ours = next(iter(services.values()), [])
        for name, rounds in services.items():
            rate = median(each.rate for each in rounds)
            ratio = rate / median(each.rate for each in ours)
            p50, p99 = (
                1e3 * median(each.percentile(percent) for each in rounds)
                for percent in (50, 99)
            )
            figures = f"{rate:,.0f}", f"{ratio:.2f}", f"{p50:.2f}", f"{p99:.1f}"
            print(row.format(name, *figures, ""))
    print("\nmemory of a waiting peer")
    first = next(iter(kept.values()), None)
    for name, each in kept.items():
        if each is None or first is None:
            print(f"{name:<24}{'unknown':>9}")
        else:
            print(
                row.format(
                    name, f"{each / 1e3:.1f} kB", f"{each / first:.2f}", *3 * [""]
                )
            )
    for name, why in missing.items():
        print(f"{name}: not compared, {why}")


if __name__ == "__main__":
    compare()
