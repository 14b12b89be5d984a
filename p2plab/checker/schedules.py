"""Which faults to try: every small set of them in order, then random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import Final

from p2plab.checker.network import (
    BLACKOUT,
    DELAY,
    LATE,
    LATE_COPY,
    LOSE,
    RTT,
    Channel,
    Fault,
)
from p2plab.checker.trial import (
    APPLICATIONS,
    EAGER,
    SLOW,
    Application,
    Run,
    Style,
    Trial,
    plain,
)

OUTAGES: Final = (3.5 * RTT, 3.5)  # how long a black-out lasts [s]
LONG_OUTAGE: Final = 30.0
LATEST: Final = 40.0  # how late a packet is at most [s]


@dataclass(frozen=True, slots=True)
class Level:
    """How far the enumeration goes for a number of faults.

    first: packets each way that may be harmed.
    moments: arrivals that are tried for a late packet.
    size: payloads of the largest application.
    cap: runs at most, for each second of the budget.
    """

    faults: int
    first: int
    moments: int
    size: int
    cap: int

    @property
    def words(self) -> str:
        """Say how many faults."""
        return f"{self.faults} fault{'s' if self.faults > 1 else ''}"


LEVELS: Final = (
    Level(1, 12, 12, 99, 3_000),
    Level(2, 6, 4, 4, 2_500),
    Level(3, 5, 2, 2, 1_000),
)
MANY: Final = Level(1, 6, 3, 99, 0)  # instead of the first, for large applications
LARGE: Final = 8  # payloads


@dataclass(frozen=True, slots=True)
class Node:
    """A schedule that was survived, and the packets to which a fault can be added.

    last: the place in the run of the packet that the last fault harms.
    """

    faults: tuple[Fault, ...]
    last: int
    places: tuple[tuple[float, int, int], ...]  # when, way, number
    woken: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, run: Run, last: int = -1) -> Node:
        """Remember what matters of a run."""
        counts = [0] * len(run.woken)
        places = []
        for time, way, _ in run.sent:
            places.append((time, way, counts[way]))
            counts[way] += 1
        return cls(
            run.trial.faults, last, tuple(places), tuple(map(tuple, run.woken[:2]))
        )


def more(
    node: Node,
    channel: Channel,
    level: Level,
    without: Callable[[Fault], Run],
) -> Iterator[tuple[Fault, int]]:
    """Yield each fault that can be added after the last one, the simplest kinds first.

    With each comes its packet's place in the run.
    without: runs the trial in which that packet is lost: a late one comes between its
        events.
    """
    spots = list(_spots(node, level))
    for kind in channel.kinds:
        for place, time, way, number in spots:
            woken = node.woken[1 - way]
            if kind == LATE:
                woken = tuple(without(Fault(LOSE, way, number)).woken[1 - way])
            for extra in _extras(kind, node, woken, time, level):
                yield Fault(kind, way, number, extra), place


def _spots(node: Node, level: Level) -> Iterator[tuple[int, float, int, int]]:
    last = [0, 0]
    for _, way, number in node.places:
        if way < 2:
            last[way] = number
    for place, (time, way, number) in enumerate(node.places):
        near = number < level.first or (level.faults == 1 and number > last[way] - 3)
        if place > node.last and way < 2 and near:
            yield place, time, way, number


def _extras(
    kind: str, node: Node, woken: tuple[float, ...], time: float, level: Level
) -> tuple[float, ...]:
    if kind == BLACKOUT:
        long = level.faults == 1 and node.places[0][0] == time
        return (*OUTAGES, LONG_OUTAGE) if long else OUTAGES
    if kind in (LATE, LATE_COPY):
        return tuple(lateness(woken, time + DELAY, level.moments))
    return (0.0,)


def lateness(woken: tuple[float, ...], due: float, most: int) -> Iterator[float]:
    """Yield how late a packet can be so that it comes between two other events.

    woken: when its receiver is told anything else; due: when it would arrive [s].
    """
    later = sorted({time for time in woken if time > due + 1e-9})
    if len(later) > most:
        half = most // 2
        step = (len(later) - half) / (most - half)
        later = later[:half] + [later[half + int(i * step)] for i in range(most - half)]
    before = due
    for time in later:
        yield (before + time) / 2 - due
        before = time
    yield before + 0.7 * RTT - due
    yield before + LATEST - due


def random_trial(channel: Channel, seed: int, index: int) -> Trial:
    """Return schedule number `index` of a seed: always the same one."""
    rng = Random(f"{seed} {index}")
    application = _application(rng)
    style = EAGER if rng.random() < 0.6 else _style(rng)
    intensity = rng.choice((0.05, 0.1, 0.2, 0.35, 0.6))
    span = 3 * application.size + 8
    faults = [
        Fault(kind, way, number, _extra(rng, kind))
        for way in (0, 1)
        for number in range(span)
        if rng.random() < intensity
        for kind in (rng.choice(channel.kinds[:-1]),)
    ]
    if rng.random() < 0.3:
        outage = exp(rng.uniform(log(RTT), log(LONG_OUTAGE)))
        place = rng.randrange(1, span)
        faults.append(Fault(BLACKOUT, rng.randrange(2), place, outage))
    kept = {(fault.way, fault.number): fault for fault in faults}
    return Trial(application, style, tuple(kept.values()))


def _application(rng: Random) -> Application:
    if rng.random() < 0.6:
        return plain(rng.randint(1, 9))
    if rng.random() < 0.15:
        return plain(rng.choice((18, 40)))
    return rng.choice(APPLICATIONS[1:-1])


def _style(rng: Random) -> Style:
    """Draw pauses; a receiver's are shorter, for it must keep up with its sender."""
    sender, receiver = (
        tuple(
            rng.choice((0.0, 0.0, round(exp(rng.uniform(log(0.01), log(most))), 3)))
            for _ in range(rng.randint(1, 6))
        )
        for most in (3.0, 1.0)
    )
    mean = sum(sender) / len(sender)
    if sum(receiver) / len(receiver) > mean / 3:
        receiver = ()
    return rng.choice((SLOW, Style(SLOW.name, sender, receiver)))


def _extra(rng: Random, kind: str) -> float:
    if kind not in (LATE, LATE_COPY):
        return 0.0
    return round(exp(rng.uniform(log(0.1 * RTT), log(LATEST))), 4)


def simpler(fault: Fault, channel: Channel) -> Iterator[Fault]:
    """Yield faults that are easier to explain than this one, the easiest first."""
    if fault.kind != LOSE:
        yield Fault(LOSE, fault.way, fault.number)
    if fault.kind == BLACKOUT:
        for outage in OUTAGES:
            if outage < fault.extra:
                yield fault._replace(extra=outage)
    if fault.kind == LATE_COPY and LATE in channel.kinds:
        yield fault._replace(kind=LATE)
    for number in range(min(fault.number, 6)):
        yield fault._replace(number=number)
