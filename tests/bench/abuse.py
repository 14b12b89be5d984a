"""Floods from one address, and what they do to the peers of another: prints a table."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import secrets
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from contestants import CLAIM, Visitor
from processes import Server, redis
from stun import request, serving
from wire import Address, Figures, Http, Line

HONEST: Final = "127.0.0.2"
BAD: Final = "127.0.0.66"
ROOM: Final = "/rooms/lobby"
AT_ONCE: Final = 16  # connections of a flood
SECONDS: Final = 2.0
ROW: Final = "{:<18}{:>8}{:>9}{:>8}{:>13}{:>15}{:>15}  {}"
PAUSE: Final = 0.02  # s between two calls of the honest peer
REFUSALS: Final = 200  # of a flood, however long it takes
SETTLE: Final = 0.3  # s until a flood is at its height
SESSION: Final = "00c0ffee00c0ffee"  # of the introduction that nobody reads for long
NAMES: Final = 20  # that the introducing flood has
SILENT: Final = 1_100  # connections at once, more than
FILES: Final = 1_024  # that a process may have open, by default on most systems
LONGEST: Final = 20.0  # s for more connections than a server may have files
HUNG_UP: Final = 0  # a status: the server has ended the connection


@dataclass(slots=True)
class Damage:
    """What a flood got, and what it did.

    statuses: of its requests. pauses: the Retry-After of its refusals [s]. seconds: how
    long it went on.
    quiet, loud: times of the honest peer's calls, without and with the flood [s].
    harm: what the honest peers missed.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    pauses: list[int] = field(default_factory=list)
    seconds: float = 0.0
    quiet: list[float] = field(default_factory=list)
    loud: list[float] = field(default_factory=list)
    harm: list[str] = field(default_factory=list)


class Bystanders:
    """Honest peers: two that meet now and then, and one with an unread introduction."""

    def __init__(self, server: Address) -> None:
        self.peers = [
            Visitor(ROOM, name, Http(server, HONEST), Http(server, HONEST))
            for name in ("alice", "bob", "carol", "dave")
        ]
        self.watching: list[asyncio.Task[None]] = []

    async def arrive(self) -> None:
        """Register; alice and bob wait, carol has asked for dave, who is away."""
        for each in self.peers:
            await each.register()
        alice, bob, carol, _ = self.peers
        self.watching = [asyncio.create_task(each.watch()) for each in (alice, bob)]
        wish = {"from": "carol", "to": "dave", "session": SESSION}
        reply = await carol.asking.ask(
            "POST", f"{ROOM}/introductions", wish, carol.token
        )
        assert reply.status == 202, reply

    async def live(self, seconds: float, damage: Damage) -> list[float]:
        """Renew a name again and again, over a connection that is kept and over a new
        one, and meet twice; return how long each renewal took.
        """
        alice = self.peers[0]
        kept, times = Http(alice.asking.server, HONEST), []
        end = time.perf_counter() + seconds
        for number in itertools.count():
            start = time.perf_counter()
            if start > end:
                break
            line = kept if number % 2 else Http(kept.server, HONEST)
            await self.renew(alice, line, damage)
            times.append(time.perf_counter() - start)
            if line is not kept:
                line.close()
            if number in (5, 15):
                await self.meet(damage)
            await asyncio.sleep(PAUSE)
        kept.close()
        return times

    async def renew(self, peer: Visitor, line: Http, damage: Damage) -> None:
        """Let a peer keep its name."""
        path = f"{ROOM}/peers/{peer.name}/heartbeat"
        try:
            async with asyncio.timeout(5):
                reply = await line.ask("POST", path, token=peer.token)
        except (TimeoutError, OSError) as why:
            damage.harm.append(f"a heartbeat was not answered: {type(why).__name__}")
        else:
            if reply.status != 200:
                damage.harm.append(f"a heartbeat was answered {reply.status}")

    async def meet(self, damage: Damage) -> None:
        """Let alice and bob be introduced."""
        try:
            async with asyncio.timeout(5):
                await self.peers[0].meet("bob", secrets.token_hex(8))
        except (TimeoutError, AssertionError) as why:
            damage.harm.append(f"alice was not introduced to bob: {why!r:.200}")

    async def count_losses(self, damage: Damage) -> None:
        """See whether every name and the unread introduction are still there."""
        for each in self.peers:
            path = f"{ROOM}/peers/{each.name}/heartbeat"
            reply = await each.asking.ask("POST", path, token=each.token)
            if reply.status != 200:
                damage.harm.append(f"{each.name} lost its name: {reply.status}")
        dave, place, found = self.peers[3], "0-0", False
        while not found:
            path = f"{ROOM}/peers/dave/inbox?after={place}"
            news = (await dave.asking.ask("GET", path, token=dave.token)).json()
            found = any(each["session"] == SESSION for each in news["events"])
            if news["next"] == place:
                break
            place = news["next"]
        if not found:
            damage.harm.append("an unread introduction is lost")

    def go(self) -> None:
        """Hang up."""
        for task in self.watching:
            task.cancel()
        for each in self.peers:
            each.close()


class Flood:
    """Requests from one address, as many as there can be.

    files: that the server may have open; 0 leaves what the system allows.
    """

    files = 0
    source = BAD

    def __init__(self, server: Address, damage: Damage) -> None:
        self.server, self.damage = server, damage
        self.lines: list[Line] = []
        self.tokens: list[tuple[str, str]] = []
        self.numbers = itertools.count()

    async def prepare(self) -> None:
        """Nothing is needed before."""

    async def ask(self, line: Http) -> None:
        """One bad request."""
        raise NotImplementedError

    async def pour(self, seconds: float, at_once: int = AT_ONCE) -> None:
        """Ask until the time is over, and the limits are reached."""
        end = time.perf_counter() + seconds

        async def one() -> None:
            line = Http(self.server, self.source)
            self.lines.append(line)
            while time.perf_counter() < end or self.damage.statuses[429] < REFUSALS:
                await self.ask(line)

        await asyncio.gather(*(one() for _ in range(at_once)))

    async def send(
        self, line: Http, method: str, path: str, body: object = None, token: str = ""
    ) -> object:
        reply = await line.ask(method, path, body, token)
        self.damage.statuses[reply.status] += 1
        if reply.status == 429:
            self.damage.pauses.append(int(reply.headers["retry-after"]))
        return reply.json()


class Registrations(Flood):
    """New names."""

    async def ask(self, line: Http) -> None:
        await self.send(line, "PUT", f"{ROOM}/peers/bad{next(self.numbers)}", CLAIM)


class Introductions(Flood):
    """New introductions to those whom the honest ones want to meet, too."""

    async def prepare(self) -> None:
        line = Http(self.server, self.source)
        for number in range(NAMES):
            name = f"bad{number}"
            reply = await line.ask("PUT", f"{ROOM}/peers/{name}", CLAIM)
            assert reply.status == 201, reply
            self.tokens.append((name, reply.json()["token"]))
        line.close()

    async def ask(self, line: Http) -> None:
        number = next(self.numbers)
        name, token = self.tokens[number % NAMES]
        to = ("bob", "dave")[number // NAMES % 2]
        wish = {"from": name, "to": to, "session": secrets.token_hex(8)}
        await self.send(line, "POST", f"{ROOM}/introductions", wish, token)


class Looks(Flood):
    """Plain look-ups."""

    async def ask(self, line: Http) -> None:
        await self.send(line, "GET", f"{ROOM}/peers/alice")


class Silent(Flood):
    """Connections that never ask anything, and come back when they are ended."""

    files = FILES

    async def pour(self, seconds: float, at_once: int = SILENT) -> None:
        async def one() -> None:
            line = Line(self.server, self.source)
            self.lines.append(line)
            while True:
                with suppress(ConnectionError):  # our own connecting may be reset, too
                    await line.open()
                    await line.head()
                self.damage.statuses[HUNG_UP] += 1

        pouring = [asyncio.create_task(one()) for _ in range(at_once)]
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds or (
            self.damage.statuses[HUNG_UP] <= at_once - FILES and passed < LONGEST
        ):
            await asyncio.sleep(0.1)
        for each in pouring:
            each.cancel()


class SilentClassmate(Silent):
    """The same, from the address that the honest peers have, too."""

    source = HONEST


FLOODS: Final[dict[str, type[Flood]]] = {
    "registrations": Registrations,
    "introductions": Introductions,
    "look-ups": Looks,
    "silent": Silent,
    "silent, same NAT": SilentClassmate,
}


@contextmanager
def elsewhere() -> Iterator[Executor]:
    """A process for a flood: it costs the honest peers no time of their own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, give_way) as pool:
        pool.submit(int).result()  # it has started
        yield pool


def give_way() -> None:
    """Let others go first; a flood would come from another machine."""
    if sys.platform == "linux":  # which may have given us the right of way
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(5)


def flood_with(kind: type[Flood], server: Address, seconds: float) -> Damage:
    """Flood a server; return what the flood got."""
    damage = Damage()
    flood = kind(server, damage)

    async def run() -> None:
        await flood.prepare()
        await flood.pour(seconds)
        for line in flood.lines:
            line.close()

    start = time.perf_counter()
    asyncio.run(run())
    damage.seconds = time.perf_counter() - start
    return damage


async def suffer(
    kind: type[Flood], server: Address, seconds: float = SECONDS
) -> Damage:
    """Let honest peers live without a flood, and then with it."""
    damage, loop = Damage(), asyncio.get_running_loop()
    bystanders = Bystanders(server)
    await bystanders.arrive()
    damage.quiet = await bystanders.live(seconds / 2, damage)
    with elsewhere() as pool:
        flooding = loop.run_in_executor(pool, flood_with, kind, server, seconds)
        await asyncio.sleep(SETTLE)
        damage.loud = await bystanders.live(seconds - 2 * SETTLE, damage)
        got = await flooding
    damage.statuses, damage.pauses, damage.seconds = (
        got.statuses,
        got.pauses,
        got.seconds,
    )
    await bystanders.count_losses(damage)
    bystanders.go()
    return damage


def flood_stun(server: Address, seconds: float) -> int:
    """Flood a STUN server; return how many answers came."""
    answers, end = 0, time.perf_counter() + seconds
    with socket.socket(type=socket.SOCK_DGRAM) as bad:
        bad.bind((BAD, 0))
        bad.setblocking(False)
        while time.perf_counter() < end:
            with suppress(BlockingIOError):
                bad.sendto(request(secrets.token_bytes(12)), server)
            with suppress(BlockingIOError):
                bad.recv(100)
                answers += 1
    return answers


def suffer_stun(seconds: float = SECONDS) -> tuple[Damage, int]:
    """Flood a STUN server; return the damage, and how many requests it refused."""
    damage = Damage()
    with serving() as server, elsewhere() as pool:
        damage.quiet = ask_stun(server.address, seconds / 2, damage)
        got = pool.submit(flood_stun, server.address, seconds)
        damage.loud = ask_stun(server.address, seconds, damage)
        damage.statuses[200] = got.result()
        return damage, server.refused


def ask_stun(server: Address, seconds: float, damage: Damage) -> list[float]:
    """Ask politely, once at a time, and repeat what was not answered (RFC 8489)."""
    times = []
    end = time.perf_counter() + seconds
    with socket.socket(type=socket.SOCK_DGRAM) as honest:
        honest.bind((HONEST, 0))
        honest.settimeout(0.5)
        while time.perf_counter() < end:
            start = time.perf_counter()
            if not any(_answered(honest, server) for _ in range(7)):  # section 6.2.1
                damage.harm.append("a STUN request had no answer")
            times.append(time.perf_counter() - start)
            time.sleep(1.1 / 50)  # so many a second are allowed
    return times


def _answered(honest: socket.socket, server: Address) -> bool:
    honest.sendto(request(secrets.token_bytes(12)), server)
    try:
        return bool(honest.recv(100))
    except TimeoutError:
        return False


def floods(seconds: float) -> None:
    """Print what every flood does."""
    print(f"\nfloods from one address beside honest peers, {seconds:g} s each")
    titles = ("flood", "served", "refused", "others", "Retry-After")
    print(ROW.format(*titles, "quiet [ms]", "with it [ms]", "harm"))
    print(ROW.format(*[""] * 5, *["p50 / p99"] * 2, ""))
    for name, kind in FLOODS.items():
        if shutil.which("redis-server"):
            with (
                redis() as (port, _),
                Server(
                    f"redis://127.0.0.1:{port}", limits={}, files=kind.files
                ) as server,
            ):
                damage = asyncio.run(suffer(kind, server.address, seconds))
        else:
            with Server(limits={}, files=kind.files) as server:
                damage = asyncio.run(suffer(kind, server.address, seconds))
        refused = damage.statuses.pop(429, 0) + damage.statuses.pop(HUNG_UP, 0)
        print_row(name, damage, refused)
    print_row("STUN", *suffer_stun(seconds))


def print_row(name: str, damage: Damage, refused: int) -> None:
    served = sum(n for status, n in damage.statuses.items() if status < 300)
    others = damage.statuses.total() - served
    pauses = f"{min(damage.pauses)}-{max(damage.pauses)} s" if damage.pauses else ""
    figures = (f"{served:,}", f"{refused:,}", others, pauses)
    times = []
    for each in (Figures(damage.quiet, 1.0), Figures(damage.loud, 1.0)):
        p50, p99 = each.percentile(50) * 1e3, each.percentile(99) * 1e3
        times.append(f"{p50:.1f} / {p99:.1f}")
    harm = "; ".join(dict.fromkeys(damage.harm)) or "none"
    print(ROW.format(name, *figures, *times, harm), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="(%(default)s)")
    floods(parser.parse_args().seconds)
