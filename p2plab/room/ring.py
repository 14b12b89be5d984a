"""Chord: names and keys on one ring; a key belongs to the first node at or after it.

Stoica et al. 2003, Chord: A Scalable Peer-to-Peer Lookup Protocol. Each node knows the
next ones on the ring, and at each doubling of the distance one more (its fingers), so
that every hop halves the way that is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256

from p2plab.room.search import Search

BITS = 32  # of a place on the ring
SUCCESSORS = 3  # that are known, so that two may die at once


@cache
def place(name: str) -> int:
    """Return where a name or a key is on the ring, in 0..2^BITS - 1."""
    return int.from_bytes(sha256(name.encode()).digest()[: BITS // 8])


def distance(begin: int, end: int) -> int:
    """Return how far it is from one place to another, clockwise."""
    return (end - begin) % (1 << BITS)


class Ring(Search):
    """One node of the ring; the nodes that it knows are those it was told of."""

    task = "ring"

    def successor(self) -> str:
        """The next node on the ring; alone, it is its own."""
        mine = place(self.me)
        return min(
            self.peers, key=lambda who: distance(mine, place(who)), default=self.me
        )

    def holder(self, item: str) -> str | None:
        """The successor, for the keys between here and there."""
        mine, successor = place(self.me), self.successor()
        if self.me == successor:
            return self.me
        between = 0 < distance(mine, place(item)) <= distance(mine, place(successor))
        return successor if between else None

    def onward(self, item: str, came_from: str) -> Iterable[str]:
        """The last node that is known before the key."""
        mine, key = place(self.me), place(item)
        way = distance(mine, key) or 1 << BITS  # to our own place it is once around
        before = [who for who in self.peers if distance(mine, place(who)) < way]
        return [max(before, key=lambda who: distance(mine, place(who)))]


def owner(key: str, names: Iterable[str]) -> str:
    """Return who of all nodes a key belongs to: the first one at or after it."""
    return min(names, key=lambda who: distance(place(key), place(who)))


def fingers(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return whom everybody knows on a ring that has come to rest."""
    ring = sorted(names, key=place)
    places = [place(name) for name in ring]
    knows = {}
    for here, me in enumerate(ring):
        others = {ring[(here + ahead) % len(ring)]: None
                  for ahead in range(1, SUCCESSORS + 1)}  # fmt: skip
        for bit in range(BITS):
            start = (places[here] + (1 << bit)) % (1 << BITS)
            others[ring[bisect_left(places, start) % len(ring)]] = None
        others.pop(me, None)
        knows[me] = tuple(others)
    return knows
