"""Which faults to try: every small set of them in order, then random ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    Sent,
    Style,
    Trial,
    plain,
)

OUTAGES: Final = (3.5 * RTT, 3.5)  # how long a black-out lasts [s]
LONG_OUTAGE: Final = 30.0
LATEST: Final = 40.0  # how late a packet is at most [s]


def _up_to(size: int) -> tuple[Application, ...]:
    return tuple(each for each in APPLICATIONS if each.size <= size)


@dataclass(frozen=True, slots=True)
class Level:
    """How far the enumeration goes for a number of faults.

    first: packets each way that may be harmed; a single fault meets the last ones, too.
    moments: arrivals that are tried for a late packet.
    cap: runs at most, for each second of the budget.
    """

    faults: int
    first: int
    moments: int
    applications: tuple[Application, ...]
    cap: int

    @property
    def words(self) -> str:
        """Say it in words."""
        ends = f" and the last {LAST}" if self.faults == 1 else ""
        size = self.applications[-1].size
        few = "up to " if len(self.applications) > 1 else ""
        return (
            f"{self.faults} fault{'s' if self.faults > 1 else ''} on the first "
            f"{self.first}{ends} packets each way of {few}{size} payloads"
        )


LAST: Final = 3  # packets each way that a single fault meets, too
LARGE: Final = 8  # payloads; for more, fewer schedules are tried
SINGLE: Final = Level(1, 12, 12, _up_to(LARGE), 3_000)
MANY: Final = Level(1, 6, 3, APPLICATIONS[-1:], 1_000)
PAIRS: Final = Level(2, 6, 4, _up_to(4), 2_500)
TRIPLES: Final = Level(3, 5, 2, _up_to(2), 1_000)
LEVELS: Final = (SINGLE, MANY, PAIRS, TRIPLES)


def more(
    run: Run, channel: Channel, level: Level, run_one: Callable[[Trial], Run]
) -> Iterator[Trial]:
    """Yield a survived trial with one fault more, the simplest kinds first.

    The fault meets a packet that was sent after those that are harmed already.
    """
    spots = list(_spots(run, level))
    for kind in channel.kinds:
        for time, way, number, _ in spots:
            woken = run.woken[1 - way]
            if kind == LATE:  # it comes between the events of a run without it
                woken = run_one(run.trial.plus(Fault(LOSE, way, number))).woken[1 - way]
            for extra in _extras(kind, run, woken, time, level):
                yield run.trial.plus(Fault(kind, way, number, extra))


def _spots(run: Run, level: Level) -> Iterator[Sent]:
    """Yield the packets of the first transfer that may be harmed next."""
    todo = {(fault.way, fault.number) for fault in run.trial.faults}
    count = Counter(each.way for each in run.sent)
    for sent in run.sent:
        _, way, number, _ = sent
        near = number < level.first or (
            level.faults == 1 and number >= count[way] - LAST
        )
        if not todo and way < 2 and near:
            yield sent
        todo.discard((way, number))


def _extras(
    kind: str, run: Run, woken: Sequence[float], time: float, level: Level
) -> Sequence[float]:
    if kind == BLACKOUT:
        return (*OUTAGES, LONG_OUTAGE) if time == run.sent[0].time else OUTAGES
    if kind in (LATE, LATE_COPY):
        return tuple(lateness(woken, time + DELAY, level.moments))
    return (0.0,)


def lateness(woken: Sequence[float], due: float, most: int) -> Iterator[float]:
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
        outage = round(exp(rng.uniform(log(RTT), log(LONG_OUTAGE))), 3)
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
