"""Floods from one address, and what they do to the peers of another: prints a table."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from contestants import CLAIM, Visitor
from processes import Server, redis
from wire import Address, Http

from p2plab.stun_client import request
from p2plab.stun_server import StunServer

HONEST: Final = "127.0.0.2"
BAD: Final = "127.0.0.66"
ROOM: Final = "/rooms/lobby"
AT_ONCE: Final = 16  # connections of a flood
SECONDS: Final = 2.0
PAUSE: Final = 0.02  # s between two calls of the honest peer
REFUSALS: Final = 200  # of a flood, however long it takes
SETTLE: Final = 0.3  # s until a flood is at its height
SESSION: Final = "00c0ffee00c0ffee"  # of the introduction that nobody reads for long
NAMES: Final = 20  # that the introducing flood has


@dataclass(slots=True)
class Damage:
    """What a flood got, and what it did.

    statuses: of its requests. pauses: the Retry-After of its refusals [s].
    quiet, loud: times of the honest peer's calls, without and with the flood [s].
    harm: what the honest peers missed.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    pauses: list[int] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    loud: list[float] = field(default_factory=list)
    harm: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How much longer an honest call takes at the median."""
        return median(self.loud) / median(self.quiet)


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
        """Renew a name again and again, and meet twice; return how long each took."""
        alice = self.peers[0]
        line, times = Http(alice.asking.server, HONEST), []
        end = time.perf_counter() + seconds
        for number in itertools.count():
            start = time.perf_counter()
            if start > end:
                break
            path = f"{ROOM}/peers/alice/heartbeat"
            reply = await line.ask("POST", path, token=alice.token)
            times.append(time.perf_counter() - start)
            if reply.status != 200:
                damage.harm.append(f"a heartbeat was answered {reply.status}")
            if number in (5, 15):
                await self.meet(damage)
            await asyncio.sleep(PAUSE)
        line.close()
        return times

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
    """Requests from BAD, as many as there can be."""

    limited = True

    def __init__(self, server: Address, damage: Damage) -> None:
        self.server, self.damage = server, damage
        self.lines: list[Http] = []
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
            line = Http(self.server, BAD)
            self.lines.append(line)
            while time.perf_counter() < end or (
                self.limited and self.damage.statuses[429] < REFUSALS
            ):
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
        line = Http(self.server, BAD)
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


class LongPolls(Flood):
    """Callers who wait for changes, on more and more connections."""

    place = ""

    async def prepare(self) -> None:
        line = Http(self.server, BAD)
        self.place = (await line.ask("GET", f"{ROOM}/peers")).json()["at"]
        line.close()

    async def pour(self, seconds: float, at_once: int = 1_200) -> None:
        pouring = asyncio.create_task(super().pour(seconds, at_once))
        await asyncio.sleep(seconds)
        while self.damage.statuses[429] < at_once - 1_000:
            await asyncio.sleep(0.1)
        pouring.cancel()
        self.damage.statuses[200] += at_once - self.damage.statuses[429]  # they wait

    async def ask(self, line: Http) -> None:
        await self.send(line, "GET", f"{ROOM}/changes?after={self.place}&wait=25")
        await asyncio.sleep(60)


class Look(Flood):
    """Plain look-ups, which nothing limits."""

    limited = False

    async def ask(self, line: Http) -> None:
        await self.send(line, "GET", f"{ROOM}/peers/alice")


FLOODS: Final[dict[str, type[Flood]]] = {
    "registrations": Registrations,
    "introductions": Introductions,
    "long-polls": LongPolls,
    "look-ups": Look,
}


async def suffer(
    kind: type[Flood], server: Address, seconds: float = SECONDS
) -> Damage:
    """Let honest peers live without a flood, and then with it."""
    damage = Damage()
    bystanders, flood = Bystanders(server), kind(server, damage)
    await bystanders.arrive()
    damage.quiet = await bystanders.live(seconds / 2, damage)
    await flood.prepare()
    pouring = asyncio.create_task(flood.pour(seconds))
    await asyncio.sleep(SETTLE)
    damage.loud = await bystanders.live(seconds - 2 * SETTLE, damage)
    await pouring
    await bystanders.count_losses(damage)
    bystanders.go()
    for line in flood.lines:
        line.close()
    return damage


def suffer_stun(seconds: float = SECONDS) -> tuple[Damage, int]:
    """Flood a STUN server; return the damage, and how many requests it refused."""
    damage, stop = Damage(), threading.Event()

    def pour() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as bad:
            bad.bind((BAD, 0))
            bad.setblocking(False)
            while not stop.is_set():
                with suppress(BlockingIOError):
                    bad.sendto(request(secrets.token_bytes(12)), server.addresses[0])
                with suppress(BlockingIOError):
                    bad.recv(100)
                    damage.statuses[200] += 1

    with StunServer("127.0.0.1") as server:
        damage.quiet = ask_stun(server.addresses[0], seconds / 2, damage)
        thread = threading.Thread(target=pour)
        thread.start()
        damage.loud = ask_stun(server.addresses[0], seconds, damage)
        stop.set()
        thread.join()
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
            honest.sendto(request(secrets.token_bytes(12)), server)
            try:
                honest.recv(100)
            except TimeoutError:
                damage.harm.append("a STUN request was lost")
            times.append(time.perf_counter() - start)
            time.sleep(1.1 / 50)  # so many a second are allowed
    return times


def floods() -> None:
    """Print what every flood does."""
    print(f"\nfloods from one address, {AT_ONCE} at once, beside honest peers")
    row = "{:<16}{:>9}{:>9}{:>9}{:>12}{:>11}{:>7}  {}"
    titles = ("flood", "served", "429", "others", "Retry-After", "quiet [ms]", "x")
    print(row.format(*titles, "harm"))
    for name, kind in FLOODS.items():
        if shutil.which("redis-server"):
            with (
                redis() as (port, _),
                Server(f"redis://127.0.0.1:{port}", limits={}) as server,
            ):
                damage = asyncio.run(suffer(kind, server.address))
        else:
            with Server(limits={}) as server:
                damage = asyncio.run(suffer(kind, server.address))
        print_row(row, name, damage, damage.statuses.pop(429, 0))
    print_row(row, "STUN", *suffer_stun())


def print_row(row: str, name: str, damage: Damage, refused: int) -> None:
    served = sum(n for status, n in damage.statuses.items() if status < 300)
    others = damage.statuses.total() - served
    pauses = f"{min(damage.pauses)}-{max(damage.pauses)} s" if damage.pauses else ""
    figures = (f"{served:,}", f"{refused:,}", others, pauses)
    quiet = f"{1e3 * median(damage.quiet):.2f}"
    harm = "; ".join(dict.fromkeys(damage.harm)) or "none"
    print(row.format(name, *figures, quiet, f"{damage.ratio:.1f}", harm))


if __name__ == "__main__":
    floods()
