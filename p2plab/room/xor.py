"""Kademlia: the distance of two names is the XOR of their numbers.

Maymounkov and Mazières 2002. A key belongs to the node nearest to it. Each node knows
up to `k` nodes in each bucket: of those that share so many first bits with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from p2plab.room.ring import BITS, place
from p2plab.room.search import Search


def distance(one: str, other: str) -> int:
    """Return how far two names or keys are from each other."""
    return place(one) ^ place(other)


class Xor(Search):
    """One node; the nodes that it knows are those it was told of."""

    task = "xor"

    def nearest(self, item: str) -> str:
        """Who is nearest to a key, of all that we know and ourselves."""
        return min((self.me, *self.peers), key=lambda who: distance(who, item))

    def holder(self, item: str) -> str | None:
        return self.me if self.nearest(item) == self.me else None

    def onward(self, item: str, came_from: str) -> Iterable[str]:
        return [self.nearest(item)]


def owner(key: str, names: Iterable[str]) -> str:
    """Return who of all nodes a key belongs to: the nearest one."""
    return min(names, key=lambda who: distance(who, key))


def buckets(
    names: Sequence[str], k: int = 8, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Return whom everybody knows: k by chance of each bucket, all of a smaller one."""
    knows = {}
    for me in names:
        chance = Random(f"{seed} buckets of {me}")
        found: list[list[str]] = [[] for _ in range(BITS + 1)]
        for who in names:
            found[distance(me, who).bit_length()].append(who)
        knows[me] = tuple(
            who
            for bucket in found[1:]
            for who in chance.sample(bucket, min(k, len(bucket)))
        )
    return knows
