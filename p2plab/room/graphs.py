"""Who knows whom: the graphs of acquaintances in a room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from random import Random

from p2plab.core.validation import number

Acquaintances = Mapping[str, Iterable[str]]  # name -> whom it is told of


def names_of(peers: int) -> list[str]:
    """Return p0, p1, ... for so many peers."""
    return [f"p{place}" for place in range(peers)]


def complete(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Everybody knows everybody."""
    return {me: tuple(who for who in names if who != me) for me in names}


def mutual(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> Acquaintances:
    """The two of each pair know each other."""
    knows: dict[str, dict[str, None]] = {name: {} for name in names}
    for one, other in pairs:
        knows[one][other] = knows[other][one] = None
    return {me: tuple(others) for me, others in knows.items()}


def some(names: Sequence[str], count: int, seed: int = 0) -> Acquaintances:
    """Everybody knows `count` others, drawn by chance, and is known by them."""
    chance = Random(f"{seed} some")
    pairs = [
        (me, who)
        for me in names
        for who in chance.sample([each for each in names if each != me], count)
    ]
    return mutual(names, pairs)


def regular(names: Sequence[str], degree: int, seed: int = 0) -> Acquaintances:
    """Everybody knows exactly `degree` others: a random regular graph.

    Pairs ends by chance, and again from the start until no pair is there twice
    (Steger and Wormald 1999, Generating random regular graphs quickly).
    """
    number("degree", degree, 4, f"[1, {len(names) - 1}]", whole=True)
    if degree * len(names) % 2:
        raise ValueError(f"{len(names)} names of degree {degree}: one end is left over")
    chance = Random(f"{seed} regular")
    while True:
        ends = [name for name in names for _ in range(degree)]
        pairs: set[tuple[str, str]] = set()
        tries = 0
        while ends and tries < 100:
            one, other = chance.sample(range(len(ends)), 2)
            pair = min(ends[one], ends[other]), max(ends[one], ends[other])
            tries += 1
            if pair[0] != pair[1] and pair not in pairs:
                pairs.add(pair)
                tries = 0
                for place in sorted((one, other), reverse=True):
                    ends[place] = ends[-1]
                    ends.pop()
        if not ends:
            return mutual(names, sorted(pairs))


def thrown(names: Sequence[str], p: float, seed: int = 0) -> Acquaintances:
    """Each pair knows each other with probability p: Erdős and Rényi's G(n, p)."""
    chance = Random(f"{seed} thrown")
    return mutual(
        names, [pair for pair in combinations(names, 2) if chance.random() < p]
    )
