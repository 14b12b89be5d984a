"""Our rendezvous beside PeerJS and magic-wormhole's mailbox: prints one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final, NamedTuple

from contestants import Contestant, Mailbox, Operations, Ours, PeerJs
from processes import Missing, Server, mailbox, peerjs, processor, redis, resident
from scaling import lists, waiting
from wire import Address, Figures, load

ROUNDS: Final = 3
SECONDS: Final = 0.5  # of a round
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


class Work(NamedTuple):
    """What is measured."""

    title: str
    at_once: int
    operations: Callable[[Contestant], Operations]


WORK: Final = (
    Work("look-ups", AT_ONCE, lambda each: each.look_up()),
    Work("registrations", AT_ONCE, lambda each: each.register()),
    Work("the same, connected", AT_ONCE, lambda each: each.register_again()),
    Work("introductions", AT_ONCE, lambda each: each.introduce()),
    Work("one introduction", 1, lambda each: each.introduce()),
)
Round = tuple[Figures, float]  # and the servers' processor time [s]
Times = dict[int, dict[str, list[Round]]]  # by place in WORK, by service


async def measure(running: Mapping[str, Service]) -> Times:
    """Load the services in turns, because a machine's mood changes within seconds."""
    times: Times = {at: {name: [] for name in running} for at in range(len(WORK))}
    for _ in range(ROUNDS):
        for name, service in running.items():
            contestant = service.make(service.server)
            await contestant.prepare(PEERS, AT_ONCE)
            for at, work in enumerate(WORK):
                before = processor(service.pids)
                figures = await load(work.operations(contestant), work.at_once, SECONDS)
                times[at][name].append((figures, processor(service.pids) - before))
            contestant.close()
    return times


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
    """Print what was measured; x: this row's figure beside the first row's."""
    print(f"rendezvous servers: {AT_ONCE} at once, {PEERS} peers are there, loopback")
    print("(PeerJS and the mailbox cannot look up one name: they tell the whole list)")
    row = "{:<24}{:>9}{:>7}{:>10}{:>10}{:>14}{:>7}"
    for work, services in times.items():
        titles = ("/s", "x", "p50 [ms]", "p99 [ms]", "processor [ms]", "x")
        print("\n" + row.format(WORK[work].title, *titles))
        first = next(iter(services.values()))
        for name, rounds in services.items():
            rate, cpu = middle(rounds)
            p50, p99 = (
                1e3 * median(each.percentile(percent) for each, _ in rounds)
                for percent in (50, 99)
            )
            ratios = f"{rate / middle(first)[0]:.2f}", f"{cpu / middle(first)[1]:.2f}"
            figures = f"{rate:,.0f}", ratios[0], f"{p50:.2f}", f"{p99:.1f}"
            print(row.format(name, *figures, f"{1e3 * cpu:.2f}", ratios[1]))
    print("\nmemory of a waiting peer")
    known = {name: each for name, each in kept.items() if each}
    for name, each in known.items():
        ratio = each / next(iter(known.values()))
        print(f"{name:<24}{each / 1e3:>6.1f} kB{ratio:>7.2f}")
    for name, why in missing.items():
        print(f"{name}: not compared, {why}")


def middle(rounds: list[Round]) -> tuple[float, float]:
    """Return the median of the rates [1/s], and of the servers' time for each [s]."""
    rates = median(each.rate for each, _ in rounds)
    return rates, median(cpu / len(each.times) for each, cpu in rounds)


def rendezvous() -> None:
    """Print what `make bench` tells of the rendezvous; scaling.py and abuse.py more."""
    compare()
    lists()
    waiting(["redis-server"])


if __name__ == "__main__":
    rendezvous()
