"""Does the rendezvous stay as quick when there are more peers? Prints two tables."""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import Final, NamedTuple

from contestants import CLAIM, Visitor
from processes import Missing, Server, redis, redis_cluster
from redis import Redis
from wire import Address, Http, paced

SIZES: Final = (100, 1_000, 10_000, 100_000)
PAGES: Final = 100  # that are asked for at each size
WAITING: Final = 1_000
INTRODUCTIONS: Final = 1_500
RATE: Final = 150  # introductions asked for in a second
ROOMS: Final = 16
LOST_AFTER: Final = 10.0  # s
SETTLE: Final = 4.0  # s until all wait

# KEYS room; ARGV how many peers there are, how many there are to be. The first one was
# registered like any other, and the others have its record.
FILL: Final = """
local room, row = KEYS[1], redis.call('HGETALL', KEYS[1] .. 'p:peer0')
local ends = redis.call('ZSCORE', room .. 'exp', 'peer0')
for number = ARGV[1], ARGV[2] - 1 do
  local name = 'peer' .. string.format('%d', number)
  redis.call('HSET', room .. 'p:' .. name, unpack(row))
  redis.call('ZADD', room .. 'names', 0, name)
  redis.call('ZADD', room .. 'exp', ends, name)
end
"""


def lists() -> None:
    """Print what a page of the list costs in rooms of several sizes."""
    with redis() as (port, _), Server(f"redis://127.0.0.1:{port}") as server:
        rows = asyncio.run(_pages(server.address, port))
    print(f"\nlist: a page of 100 over HTTP, median of {PAGES}")
    print(f"{'peers in the room':<20}{'first [ms]':>12}{'middle [ms]':>13}{'x':>7}")
    for size, first, middle in rows:
        ratio = middle / rows[0][2]
        print(f"{size:<20,}{1e3 * first:>12.2f}{1e3 * middle:>13.2f}{ratio:>7.2f}")


async def _pages(server: Address, port: int) -> list[tuple[int, float, float]]:
    line, rows, there = Http(server), [], 1
    with Redis(port=port) as store:
        reply = await line.ask("PUT", "/rooms/lobby/peers/peer0", CLAIM)
        assert reply.status == 201, reply
        for size in SIZES:
            while there < size:  # no script may keep Redis busy for long
                more = min(there + 10_000, size)
                store.eval(FILL, 1, "{p2p}:lobby:", there, more)
                there = more
            first = await _page(line, "")
            middle = await _page(line, f"peer{size // 2}")
            rows.append((size, first, middle))
    line.close()
    return rows


async def _page(line: Http, cursor: str) -> float:
    times = []
    for _ in range(PAGES):
        start = time.perf_counter()
        reply = await line.ask("GET", f"/rooms/lobby/peers?cursor={cursor}")
        times.append(time.perf_counter() - start)
        assert len(reply.json()["peers"]) >= 49, reply
    return median(times)


class Arrivals(NamedTuple):
    """What came of the introductions: times since they were asked for [s].

    told: until the callee knew of it; met: until the caller had its answer.
    lost: those that nobody was told of, or answered.
    """

    told: list[float]
    met: list[float]
    lost: int


async def introduce(servers: Sequence[Address], rooms: int) -> Arrivals:
    """Let peers wait everywhere, and introduce some to each other at a steady rate.

    Callers and callees are at different servers, where there are several.
    """
    peers = [_visitor(servers, rooms, number) for number in range(WAITING)]
    for peer in peers:
        await peer.register()
        await peer.beat()
    gc.freeze()  # or our own pauses would count as the server's
    tasks = [asyncio.create_task(peer.watch()) for peer in peers]
    await asyncio.sleep(SETTLE)
    told, met, starts = [], [], []

    async def one(number: int) -> None:
        start, room = time.perf_counter(), number % rooms
        # both in the same room; servers take turns with the rooms
        pairs = WAITING // rooms // 2
        at = room + 2 * rooms * (number // rooms % pairs)
        caller, callee = peers[at], peers[at + rooms]
        session = secrets.token_hex(8)
        async with asyncio.timeout(LOST_AFTER):
            await caller.meet(callee.name, session)
        met.append(time.perf_counter() - start)
        told.append(callee.asked.pop(session) - start)

    async for number in paced(RATE, INTRODUCTIONS):
        starts.append(asyncio.create_task(one(number)))
    ends = await asyncio.gather(*starts, return_exceptions=True)
    lost = sum(isinstance(each, TimeoutError) for each in ends)
    wrong = [each for each in ends if each and not isinstance(each, TimeoutError)]
    for task in tasks:
        task.cancel()
    for peer in peers:
        peer.close()
    if wrong:
        raise wrong[0]
    return Arrivals(told, met, lost)


def _visitor(servers: Sequence[Address], rooms: int, number: int) -> Visitor:
    server = servers[number // rooms % len(servers)]
    room = f"/rooms/room{number % rooms}"
    return Visitor(room, f"peer{number}", Http(server), Http(server))


@contextmanager
def over(kind: str) -> Iterator[list[Address]]:
    """Run the servers that a kind of installation has."""
    with ExitStack() as stack:
        if kind == "3-node cluster":
            nodes = stack.enter_context(redis_cluster())
            url = f"redis+cluster://127.0.0.1:{nodes[0][0]}"
        elif kind == "embedded store":
            url = ""
        else:
            url = f"redis://127.0.0.1:{stack.enter_context(redis())[0]}"
        count = 2 if "two" in kind else 1
        servers = [Server(url) for _ in range(count)]
        yield [stack.enter_context(each).address for each in servers]


KINDS: Final = {
    "redis-server": 1,
    "two servers, one Redis": 1,
    "3-node cluster": ROOMS,
    "embedded store": 1,
}


def waiting(kinds: Iterable[str] = KINDS) -> None:
    """Print how soon an introduction arrives while many wait."""
    print(f"\n{WAITING:,} peers wait, {INTRODUCTIONS:,} introductions, {RATE}/s, [ms]")
    row = "{:<24}{:>10}{:>8}{:>8}{:>8}{:>8}{:>8}{:>7}"
    titles = ("told p50", "p99", "max", "met p50", "p99", "max", "lost")
    print(row.format("", *titles))
    for kind in kinds:
        try:
            with over(kind) as servers:
                told, met, lost = asyncio.run(introduce(servers, KINDS[kind]))
        except Missing as why:
            print(f"{kind}: not measured, {why}")
            continue
        print(row.format(kind, *summary(told), *summary(met), lost))


def summary(times: Sequence[float]) -> list[str]:
    """Return p50, p99 and the most, in milliseconds."""
    cuts = quantiles(times, n=100, method="inclusive")
    return [f"{1e3 * each:.1f}" for each in (cuts[49], cuts[98], max(times))]


if __name__ == "__main__":
    lists()
    waiting()
