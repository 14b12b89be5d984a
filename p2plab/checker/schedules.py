"""Which trials to run: small sets of faults in order, random ones, smaller ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from random import Random
from typing import Final

from p2plab.checker.faults import (
    DELAY,
    LATE,
    LATE_COPY,
    LOSE,
    OUTAGE,
    RTT,
    Fault,
    NetworkClass,
)
from p2plab.checker.run import (
    APPLICATIONS,
    EAGER,
    SLOW,
    Application,
    Outcome,
    Sent,
    Style,
    Trial,
    plain,
)

OUTAGES: Final = (3.5 * RTT, 3.5)  # how long an outage lasts [s]
LONG_OUTAGE: Final = 30.0
LATEST: Final = 40.0  # how late a packet is at most [s]
LAST: Final = 3  # packets each way that a single fault meets beside the first ones
FEW: Final = 40  # payloads up to which every smaller size is tried
LARGE: Final = 8  # payloads; for more, fewer schedules are tried


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


def _up_to(size: int) -> tuple[Application, ...]:
    return tuple(each for each in APPLICATIONS if each.size <= size)


SINGLE: Final = Level(1, 12, 12, _up_to(LARGE), 3_000)
MANY: Final = Level(1, 6, 3, APPLICATIONS[-1:], 1_000)
PAIRS: Final = Level(2, 6, 4, _up_to(4), 2_500)
TRIPLES: Final = Level(3, 5, 2, _up_to(2), 1_000)


def more(
    run: Outcome,
    network: NetworkClass,
    level: Level,
    run_one: Callable[[Trial], Outcome],
) -> Iterator[Trial]:
    """Yield a survived trial with one fault more, the simplest kinds first.

    The fault meets a packet that was sent after those that are harmed already.
    """
    spots = list(_spots(run, level))
    for kind in network.kinds:
        for sent in spots:
            woken = run.woken[1 - sent.way]
            if kind == LATE:  # it comes between the events of a run without it
                lost = run.trial.plus(Fault(LOSE, sent.way, sent.number))
                woken = run_one(lost).woken[1 - sent.way]
            extras: Iterable[float] = (0.0,)
            if kind == OUTAGE:
                extras = (*OUTAGES, LONG_OUTAGE) if sent is run.sent[0] else OUTAGES
            elif kind in (LATE, LATE_COPY):
                extras = lateness(woken, sent.time + DELAY, level.moments)
            for extra in extras:
                yield run.trial.plus(Fault(kind, sent.way, sent.number, extra))


def _spots(run: Outcome, level: Level) -> Iterator[Sent]:
    """Yield the packets that may be harmed next."""
    todo = {(fault.way, fault.number) for fault in run.trial.faults}
    count = Counter(each.way for each in run.sent)
    for sent in run.sent:
        near = sent.number < level.first or (
            level.faults == 1 and sent.number >= count[sent.way] - LAST
        )
        if not todo and near:
            yield sent
        todo.discard((sent.way, sent.number))


def lateness(woken: Sequence[float], due: float, most: int) -> Iterator[float]:
    """Yield how late a packet can be so that it comes between two other events.

    woken: when its receiver is told anything else; due: when it would arrive [s].
    """
    later = sorted({time for time in woken if time > due + 1e-9})
    if len(later) > most:  # the first ones, and some of the others
        half = most // 2
        step = (len(later) - half) / (most - half)
        later = later[:half] + [later[half + int(i * step)] for i in range(most - half)]
    before = due
    for time in later:
        yield (before + time) / 2 - due
        before = time
    yield before + 0.7 * RTT - due
    yield before + LATEST - due


def random_trial(network: NetworkClass, seed: int, index: int) -> Trial:
    """Return schedule number `index` of a seed: always the same one."""
    rng = Random(f"{seed} {index}")
    application = _application(rng)
    style = EAGER if rng.random() < 0.6 else _style(rng)
    intensity = rng.choice((0.05, 0.1, 0.2, 0.35, 0.6))
    span = 3 * application.size + 8
    faults = {}
    for way in (0, 1):
        for number in range(span):
            if rng.random() < intensity:
                kind = rng.choice(network.kinds[:-1])
                late = kind in (LATE, LATE_COPY)
                extra = _log_uniform(rng, 0.1 * RTT, LATEST) if late else 0.0
                faults[way, number] = Fault(kind, way, number, extra)
    if rng.random() < 0.3:
        extra = _log_uniform(rng, RTT, LONG_OUTAGE)
        way, number = rng.randrange(2), rng.randrange(1, span)
        faults[way, number] = Fault(OUTAGE, way, number, extra)
    return Trial(application, style, tuple(faults.values()))


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
            rng.choice((0.0, 0.0, _log_uniform(rng, 0.01, most)))
            for _ in range(rng.randint(1, 6))
        )
        for most in (3.0, 1.0)
    )
    if sum(receiver) / len(receiver) > sum(sender) / len(sender) / 3:
        receiver = ()
    return rng.choice((SLOW, Style(sender, receiver)))


def _log_uniform(rng: Random, least: float, most: float) -> float:
    return round(exp(rng.uniform(log(least), log(most))), 4)


def smaller(run: Outcome, network: NetworkClass) -> Iterator[Trial]:
    """Yield trials that are smaller than a failing one, those that save most first."""
    trial = run.trial
    met = tuple(fault for fault in trial.faults if fault in run.link.hits)
    if len(met) < len(trial.faults):
        yield replace(trial, faults=met)
    share = len(met) // 2
    while share:
        for begin in range(0, len(met), share):
            yield replace(trial, faults=met[:begin] + met[begin + share :])
        share //= 2
    size = trial.application.size
    sizes = range(size + 1) if size <= FEW else _shorter(size)
    for application in (*APPLICATIONS, *map(plain, sizes)):
        if application.size < size or application == plain(size) != trial.application:
            yield replace(trial, application=application)
    if trial.style != EAGER:
        yield replace(trial, style=EAGER)
    for place, fault in enumerate(met):
        for other in _simpler(fault, network):
            yield replace(trial, faults=(*met[:place], other, *met[place + 1 :]))


def _shorter(size: int) -> Iterator[int]:
    """Yield smaller sizes, nearer and nearer: what is bisected is found so."""
    less = size // 2
    while less:
        yield size - less
        less //= 2


def _simpler(fault: Fault, network: NetworkClass) -> Iterator[Fault]:
    """Yield faults that are easier to explain than this one, the easiest first."""
    if fault.kind != LOSE:
        yield Fault(LOSE, fault.way, fault.number)
    if fault.kind == OUTAGE:
        for outage in OUTAGES:
            if outage < fault.extra:
                yield fault._replace(extra=outage)
    if fault.kind == LATE_COPY and LATE in network.kinds:
        yield fault._replace(kind=LATE)
    for number in range(min(fault.number, 6)):
        yield fault._replace(number=number)
