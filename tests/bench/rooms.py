"""Rooms of many peers: messages per second beside the two-party simulator's packets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from statistics import median
from typing import Any

from figures import Figure, seconds
from virtual import page, sent

from p2plab.room.check import TASKS, Search, by_chance
from p2plab.room.gossip import AntiEntropy, InfectAndDie, Rounds
from p2plab.room.graphs import names_of, some
from p2plab.room.ring import Ring, fingers
from p2plab.room.search import Flood, Walk
from p2plab.room.swarm import Swarm, torrent
from p2plab.room.virtual import RoomRun, simulate_room
from p2plab.room.xor import Xor

ROUNDS = 5
RUNS = 10_000  # of each correct node, none of which may be accused
NAMES = names_of(1_000)
FINGERS = fingers(NAMES)
CORRECT = (Rounds, InfectAndDie, AntiEntropy, Swarm, Flood, Walk, Ring, Xor)


def gossipers() -> RoomRun:
    """Let 300 compare what they know."""

    def make(me: str, chance: Random) -> AntiEntropy:
        return AntiEntropy(me, chance, ["r"] if me == "p0" else [])

    return simulate_room(make, 300, some(names_of(300), 8))


def swarm() -> RoomRun:
    """Let 31 share 64 pieces, everybody with everybody."""
    pieces = [bytes([number]) * 1_000 for number in range(64)]
    hashes, every = torrent(pieces), dict(enumerate(pieces))

    def make(me: str, chance: Random) -> Swarm:
        return Swarm(me, chance, hashes, every if me == "p0" else {})

    return simulate_room(make, 31)


def search() -> RoomRun:
    """Let each of 1,000 on a ring look up a key."""
    make: Any = lambda me, chance: Ring(me, chance, [f"key of {me}"])  # noqa: E731
    return simulate_room(make, NAMES, FINGERS)


def rooms() -> Iterator[Figure]:
    """Yield the rows of the table."""
    contestants = {
        "300 gossipers": gossipers,
        "a swarm, 31 x 64 pieces": swarm,
        "1,000 lookups on a ring of 1,000": search,
    }
    two = partial(page, 0.0)
    took = seconds({**contestants, "two": two}, ROUNDS)
    packets = sent(two()) / median(took["two"])
    for name, run in contestants.items():
        time = median(took[name])
        rate = len(run().messages) / time
        value = f"{time:.2f} s, {rate:,.0f} messages/s"
        beside = f"two parties: {packets:,.0f} packets/s"
        yield Figure(name, value, beside, rate / packets)
    for node in CORRECT:
        check = Search(node, TASKS[node.task], 1e9)
        trials = (by_chance(check.task, 2, number) for number in range(RUNS))
        accused = sum(check.look(trial)[1] is not None for trial in trials)
        yield Figure(f"{node.__name__}, of {RUNS:,} rooms", f"{accused} accused")


if __name__ == "__main__":
    for figure in rooms():
        print(*figure)
