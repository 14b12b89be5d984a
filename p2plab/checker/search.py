"""The search for the smallest run that breaks a promise, within a budget.

The order of the trials is always the same, and only the budget ends it: without a
fault, few payloads and many; then each single fault; then two and three of them, and
random ones in between. What chance has found is made smaller.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import exp, inf, log
from random import Random
from time import perf_counter
from typing import Any, Final

from p2plab.checker.explain import failed, separated, unfit
from p2plab.checker.inspection import (
    HASHED,
    OutputGuard,
    SharedState,
    held,
    nondeterministic,
    place,
    watchdog,
)
from p2plab.checker.run import (
    APPLICATIONS,
    CHANNELS,
    COPIES,
    DELAY,
    EAGER,
    LATE,
    LATE_COPY,
    LOSE,
    OUTAGE,
    ROLES,
    RTT,
    SLOW,
    Application,
    Failure,
    Fault,
    FaultKind,
    Makers,
    NetworkClass,
    Outcome,
    OutOfTime,
    Prints,
    Promise,
    Sent,
    Style,
    Trial,
    VerdictKind,
    differs,
    innermost,
    plain,
    printed,
    run,
)
from p2plab.checker.verdict import Verdict
from p2plab.core.packet import ACK
from p2plab.core.validation import count_of
from p2plab.protocols.setup import Setup
from p2plab.sim.watchdog import Stuck, Watchdog

Progress = Callable[[float, str], object]

# Single trials

LATE_STYLES: Final = (SLOW, SLOW, Style((1.0,)), Style((0.0, 0.0, 0.2), (0.03,)))
OUTAGES: Final = (3.5 * RTT, 3.5)  # how long an outage lasts [s]
LONG_OUTAGE: Final = 30.0
LATEST: Final = 40.0  # how late a packet is at most [s]
LAST: Final = 3  # packets each way that a single fault meets beside the first ones
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


SINGLE: Final = Level(1, 12, 12, _up_to(LARGE), 1_500)
MANY: Final = Level(1, 6, 3, APPLICATIONS[-1:], 250)
PAIRS: Final = Level(2, 6, 4, _up_to(4), 800)
PAIRS_AT_ALL: Final = 2_500  # for each second, once a longer failing run is known
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
    if rng.random() < 0.6:
        application = plain(rng.randint(1, 9))
    elif rng.random() < 0.15:
        application = plain(rng.choice((18, 40)))
    else:
        application = rng.choice(APPLICATIONS[1:-1])
    style = EAGER if rng.random() < 0.6 else rng.choice(LATE_STYLES)
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
    sizes = [*range(LARGE + 1), len(run.delivered), len(run.delivered) + 1]
    if size <= LONG:  # more would take long
        sizes += [size - (size >> part) for part in range(1, size.bit_length())]
    for application in (*APPLICATIONS, *map(plain, sizes)):
        if application.size < size or application == plain(size) != trial.application:
            yield replace(trial, application=application)
    if trial.style != EAGER:
        yield replace(trial, style=EAGER)
    for number, fault in enumerate(met):
        for other in _simpler(fault, network):
            yield replace(trial, faults=(*met[:number], other, *met[number + 1 :]))


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


# The search

SEARCH_SHARE: Final = 0.85  # of the budget; the rest is for shrinking,
AT_LEISURE: Final = 6.0  # which may take so much more on a slow machine [s]
TWICE: Final = 300  # runs that are done twice from the start, to compare them
TWICE_EVERY: Final = 16  # and of the others, one in so many
REPORT_EVERY: Final = 100  # schedules
CHANCE_EVERY: Final = 2  # sets of several faults to one random schedule

FEW: Final = 40  # payloads that show whether something grows
MORE: Final = 260  # so many more, to see how much
WINDOWS: Final = 40  # times as many more, to see whether it goes on
LONG: Final = FEW + MORE  # payloads: numbers of one byte begin again, signed or not
FAR: Final = 2**16 + 500  # payloads: numbers of two bytes do
FAR_SHARE: Final = 0.5  # of the budget, that so long a run may take

# What is counted, beside sets of faults.
NO_FAULT: Final = "without a fault"
MANY_PAYLOADS: Final = f"of {FEW} payloads and more"
RANDOM: Final = "with random faults"

REFERENCE: Final = Setup("selective_repeat")
COUNT: Final = 60  # payloads, to compare two speeds
LEAST: Final = 200  # schedules that say something
SLOWER: Final = 10  # times what the reference page takes: too slow to be judged


# One run alone does not break these.
_COMPARED: Final = (Promise.MEMORY, Promise.SPEED, Promise.QUICK, Promise.SEPARATION)


class Found(Exception):
    """A run that breaks a promise; ends the search."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(slots=True)
class Search:
    """Runs trials of one protocol on one class of networks, and counts them.

    until: when to stop, by perf_counter [s].
    together: the same machines as one program makes them; None if `makers` does.
    baseline: the fault-free run of each application, as far as there was one.
    counts: runs of each sort. where: which sort it is now. looked: most payloads.
    shared: what the two machines could share, as it was at first.
    """

    makers: Makers
    network: NetworkClass
    seed: int
    until: float
    budget: float
    progress: Progress | None = None
    together: Makers | None = None
    watchdog: Watchdog = field(default_factory=watchdog)
    guard: OutputGuard = field(default_factory=OutputGuard)
    baseline: dict[Application, Outcome] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    where: str = NO_FAULT
    looked: int = 0
    shared: SharedState | None = None
    growth: dict[tuple[int, str], int] = field(default_factory=dict)  # without a fault
    begun: float = field(default_factory=perf_counter)

    @property
    def _end(self) -> float:
        """When even shrinking ends, by perf_counter [s]."""
        return self.begun + self.budget + AT_LEISURE

    def run(self, trial: Trial, share: int = LONG) -> Outcome:
        """Run a trial with fresh machines, and judge it.

        share: from how many payloads on the share of copies without a loss counts.
        """

        def beat() -> None:  # what takes long is no endless loop as long as it goes on
            self.watchdog.begin()
            if perf_counter() > max(self.until, self._end):
                raise OutOfTime

        with self.guard:
            outcome = self.watchdog.call(run, trial, self.makers, False, beat)
        application = trial.application
        if trial.style == EAGER and outcome.failure is None:
            if not trial.faults:
                self.baseline[application] = outcome
                if application.size >= share:
                    outcome.failure = copies_without_loss(outcome)
            else:
                if application not in self.baseline:
                    self.baseline[application] = self.run(Trial(application))
                baseline = self.baseline[application]
                outcome.failure = resent_too_often(outcome, baseline)
        return outcome

    def judge(self, trial: Trial, where: str, twice: bool = True) -> Outcome:
        """Run a trial; raise Found if it breaks a promise or is not repeatable."""
        outcome = self.run(trial)
        self.where = where
        self.counts[where] += 1
        self.looked = max(self.looked, trial.application.size)
        total = self.counts.total()
        twice = twice and (total <= TWICE or total % TWICE_EVERY == 0)
        if outcome.failure is None and twice:
            again = self.run(trial)
            if again.failure is None or not again.failure.out_of_resources:
                again.failure = differs(outcome, again)
            outcome = again
        if outcome.failure is not None:
            raise Found(outcome)
        now = perf_counter()
        if now > self.until:
            raise OutOfTime
        if self.progress is not None and total % REPORT_EVERY == 1:
            share = (now - self.begun) / (SEARCH_SHARE * self.budget)
            said = f"{count_of(total, 'schedule')}, now {where}"
            self.progress(min(share, 1.0), said)
        return outcome

    def tried(self) -> str:
        """Say what was tried so far."""
        said = [f"{number:,} {where}" for where, number in self.counts.items()]
        if RANDOM in self.counts:
            number = list(self.counts).index(RANDOM)
            said[number] += f" (seed {self.seed})"
        return ", ".join(said)

    def hunt(self, speed: float | None) -> Outcome | None:
        """Return the smallest failing run that is found in time, or None."""
        try:
            with suppress(OutOfTime):
                self._small(EAGER)
                if apart := self.watchdog.call(separated, self):
                    raise Found(apart)
                self.require_bounded_memory(None)
                self._level(SINGLE, EAGER)
                self._level(MANY, EAGER)
                for kind in self.network.kinds[:-1]:
                    self.require_bounded_memory(kind)
                if speed is not None:
                    self.require_speed(speed)
                self._small(SLOW)
                self._level(SINGLE, SLOW)
                self._level(PAIRS, EAGER)
                self._far()
                chance = count()
                for level, style in ((PAIRS, SLOW), (TRIPLES, EAGER), (TRIPLES, SLOW)):
                    self._level(level, style, chance)
                self.random(chance)
            self.require_quick()
        except Found as found:
            return self._fewest(self.smallest(found.outcome))
        except OutOfTime:
            pass
        return None

    def _fewest(self, found: Outcome) -> Outcome:
        """Look for a run with fewer faults, if not all with fewer were tried."""
        if len(found.link.hits) > PAIRS.faults:
            self.until = self._end
            with suppress(OutOfTime):
                try:
                    self._level(replace(PAIRS, cap=PAIRS_AT_ALL), EAGER)
                except Found as fewer:
                    return fewer.outcome
        return found

    # Small sets of faults, then chance

    def _small(self, style: Style) -> None:
        for application in APPLICATIONS:
            self.judge(Trial(application, style), NO_FAULT)

    def _far(self) -> None:
        """Let numbers of two bytes begin again, if the protocol is quick enough."""
        begun = perf_counter()
        self.run(Trial(plain(LONG)))
        seconds = (perf_counter() - begun) * FAR / LONG
        if seconds < min(FAR_SHARE * self.budget, self.until - perf_counter()):
            self.judge(Trial(plain(FAR)), MANY_PAYLOADS, twice=False)
            del self.baseline[plain(FAR)]  # it is large

    def _level(
        self, level: Level, style: Style, chance: Iterator[int] | None = None
    ) -> None:
        """Try the sets of a level, and of each few of them one by chance."""
        trials = (
            trial
            for application in level.applications
            for trial in self._trials(Trial(application, style), level, level.faults)
        )
        where = f"with {count_of(level.faults, 'fault')}"
        for done, trial in enumerate(islice(trials, int(level.cap * self.budget))):
            self.judge(trial, where)
            if chance is not None and done % CHANCE_EVERY == 0:
                self.random(islice(chance, 1))

    def _trials(self, trial: Trial, level: Level, faults: int) -> Iterator[Trial]:
        """Yield the trials that have so many faults more."""
        outcome = self.run(trial)
        if outcome.failure is not None:
            raise Found(outcome)
        for each in more(outcome, self.network, level, self.run):
            if faults == 1:
                yield each
            else:
                yield from self._trials(each, level, faults - 1)

    def random(self, numbers: Iterable[int]) -> None:
        """Try the random schedules of these numbers."""
        for number in numbers:
            self.judge(random_trial(self.network, self.seed, number), RANDOM)

    def smallest(self, outcome: Outcome) -> Outcome:
        """Shrink a failing run that is not the smallest by the order of the search.

        What is returned fails in the same manner: broken, or a breach.
        """
        failure = outcome.failure
        assert failure is not None
        compared = failure.promise in _COMPARED
        long = outcome.trial.application.size > LARGE
        if compared or (self.where not in (MANY_PAYLOADS, RANDOM) and not long):
            return outcome
        end = self._end - AT_LEISURE / 2  # the rest: see _fewest
        best, kind = outcome, failure.promise.kind
        with suppress(OutOfTime):  # it may come in the middle of a long run
            while True:
                for trial in smaller(best, self.network):
                    if perf_counter() > end:
                        return best
                    tried = self.run(trial, share=0)
                    if tried.failure and tried.failure.promise.kind == kind:
                        best = tried
                        break
                else:
                    return best
        return best

    # What no single small run shows

    def require_bounded_memory(self, kind: FaultKind | None) -> None:
        """Raise Found if a machine keeps more, the more payloads it has moved.

        kind: how every third packet is harmed; None for not at all. A sender may keep
        what it has sent, but nothing of its repetitions.
        """
        few = max(FEW, 2 * in_flight(self.baseline[APPLICATIONS[-1]]))
        outcomes = [self._long(few, kind), self._long(few + MORE, kind)]
        for way in (1, 0):
            less, much = (held(each.machines[way]) for each in outcomes)
            for name in sorted(much):
                growth = much[name] - less[name]
                usual = self.growth.setdefault((way, name), growth) if way == 0 else 0
                most = MORE // 4
                if way == 0:
                    most = 12 * MORE if kind is None else max(usual, 0) + MORE // 3
                window = getattr(innermost(outcomes[1].machines[way], way), "window", 0)
                if growth <= most or (isinstance(window, int) and window > few + MORE):
                    continue
                full = held(self._long(few + WINDOWS * MORE, kind).machines[way])
                if full[name] - less[name] < WINDOWS / 2 * growth:
                    continue  # its window was not yet full
                harmed = f" and every third packet: {kind}" if kind else ""
                words = (
                    f"When everything was delivered, `{name}` of the {ROLES[way]} "
                    f"still held {less[name]} items after {few} payloads{harmed}, "
                    f"and {much[name]} after {few + MORE}: it is never emptied"
                )
                found = self._example(way, name, kind) or outcomes[1]
                found.failure = Failure(Promise.MEMORY, way, words)
                raise Found(found)

    def _long(self, size: int, kind: FaultKind | None) -> Outcome:
        """Run a transfer of payloads that are long enough to be seen in memory."""
        (names,) = plain(size).phases
        application = Application((tuple(name.ljust(32, b".") for name in names),))
        faults = with_faults(kind, 2 * size) if kind else ()
        return self.judge(Trial(application, faults=faults), MANY_PAYLOADS, twice=False)

    def _example(self, way: int, name: str, kind: FaultKind | None) -> Outcome | None:
        """Return a small run that leaves something behind, if there is one."""
        baseline = self.run(Trial(plain(3)))
        if kind is None:
            return baseline
        usual = held(baseline.machines[way])[name]
        for fault in with_faults(kind, 6, every=1):
            outcome = self.run(baseline.trial.plus(fault))
            if outcome.link.hits and held(outcome.machines[way])[name] > usual:
                return outcome
        return None

    def require_quick(self) -> None:
        """Raise Found if a machine's slowness is why so little could be tried.

        The doubt is ours: the computer may be busy.
        """
        tried, spent = self.counts.total(), perf_counter() - self.begun
        if tried >= LEAST:
            return
        trial = Trial(plain(1))
        best = REFERENCE.sender, REFERENCE.receiver
        theirs = max(self._seconds(trial, best) for _ in range(2))
        ours = min(self._seconds(trial, self.makers) for _ in range(2))
        if ours < SLOWER * theirs:
            return
        words = (
            f"Too slow to judge: in {spent:.1f} s only {tried} schedules could be run. "
            f"One payload takes {ours:.2g} s here, and {theirs:.1g} s with "
            f"{REFERENCE.protocol}"
        )
        with Watchdog(ours) as short:  # to see where it is meanwhile
            failure = short.call(run, Trial(plain(8)), self.makers).failure
        if failure and isinstance(failure.error, Stuck) and failure.error.line:
            _, file, number = failure.error.line
            words += f". Most of the time goes by at {place(file, number)}"
        raise Found(Outcome(trial, failure=Failure(Promise.QUICK, words=words)))

    def _seconds(self, trial: Trial, makers: Makers) -> float:
        begun = perf_counter()
        self.watchdog.call(run, trial, makers)
        return perf_counter() - begun

    def require_speed(self, speed: float) -> None:
        """Raise Found if it takes longer than the reference page's time / speed.

        Both move the same payloads over the same network: one without faults, and one
        that loses every third packet.
        """
        for faults in ((), with_faults(LOSE, 2 * COUNT)):
            trial = Trial(plain(COUNT), faults=faults)
            outcome = self.judge(trial, MANY_PAYLOADS, twice=False)
            best = run(trial, (REFERENCE.sender, REFERENCE.receiver))
            ours, theirs = (max(each.sent[-1].time, 1e-9) for each in (outcome, best))
            if theirs < speed * ours:
                what = "loses every third packet" if faults else "loses nothing"
                words = (
                    f"{COUNT} payloads took {ours:.2f} s where the network {what}; "
                    f"{REFERENCE.protocol} takes {theirs:.2f} s, and {speed:g} of its "
                    f"speed was asked for"
                )
                outcome.failure = Failure(Promise.SPEED, words=words)
                raise Found(outcome)


def with_faults(kind: FaultKind, packets: int, every: int = 3) -> tuple[Fault, ...]:
    """Harm every so manieth of the first packets, each way, in the same manner."""
    extra = 1.5 * RTT if kind in (LATE, LATE_COPY) else 0.0
    numbers = range(every // 2, packets, every)
    return tuple(
        Fault(kind, way, number, extra) for number in numbers for way in (0, 1)
    )


def in_flight(outcome: Outcome) -> int:
    """Return how many packets the sender had on the wire within one round trip."""
    times = [each.time for each in outcome.sent if each.way == 0]
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - RTT:
            first += 1
        most = max(most, last - first + 1)
    return most


def copies_without_loss(outcome: Outcome) -> Failure | None:
    """Judge how often the sender repeats itself although nothing was lost.

    A few copies are for a sender that has yet to learn how long the round trip is.
    """
    payloads = outcome.trial.application.payloads
    size = len(payloads)
    packets = [each[:3] for each in outcome.packets(0) if each.kind != ACK]
    copies = len(packets) - len(set(packets))
    if len(set(payloads)) < size or copies <= COPIES * size:
        return None  # or it does not show which are copies
    words = (
        f"{count_of(size, 'payload')} took {len(packets)} packets of the sender, "
        f"{copies} of them copies: does its timer begin anew with each packet, and "
        f"(a round trip is {RTT:g} s here) is the timeout longer?"
    )
    return Failure(Promise.RETRANSMISSION, words=words)


def resent_too_often(outcome: Outcome, baseline: Outcome) -> Failure | None:
    """Judge the number of the sender's packets against the same run without faults.

    A harmed packet may cost a sender that goes back its window again, each time that
    its timer fires: four times, before it has learnt how long the round trip is. One
    such set more is for chance.
    """
    size = outcome.trial.application.size
    took, usual = (sum(s.way == 0 for s in each.sent) for each in (outcome, baseline))
    once = 4 * (in_flight(baseline) + 2)
    if took <= usual + once * (outcome.link.harmed + 1):
        return None
    words = (
        f"{count_of(size, 'payload')} took {took} packets of the sender, although the "
        f"network harmed only {outcome.link.harmed} of all; without a fault it takes "
        f"{usual}"
    )
    return Failure(Promise.RETRANSMISSION, words=words)


TRIALS: Final = 80  # that two processes compare


def fingerprint(
    makers: Makers, network: NetworkClass, seed: int, seconds: float
) -> list[Prints]:
    """Return what was sent in a fixed list of trials, or in the first ones of them.

    It ends after one that fails, and begins no other one when the time is over.
    """
    prints: list[Prints] = []
    until = perf_counter() + seconds
    trials = [Trial(plain(LARGE))]
    trials += [random_trial(network, seed, -n) for n in range(1, TRIALS)]
    with suppress(Stuck), watchdog() as watching:
        for trial in trials:
            outcome = watching.call(run, trial, makers)
            failure = outcome.failure
            if failure is None or not isinstance(failure.error, Stuck):
                prints.append(printed(outcome))
            if failure is not None or perf_counter() > until:
                break
    return prints


# The check

BUDGET: Final = 2.0  # [s]


def check(
    sender: Callable[[], Any],
    receiver: Callable[[], Any],
    channel: str = "fifo",
    budget: float = BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    speed: float | None = None,
    together: Makers | None = None,
) -> Verdict:
    """Look for the smallest run that breaks a promise of a protocol.

    sender, receiver: classes, or what else builds a fresh machine without arguments.
    channel: what the network may do, a name in CHANNELS.
    budget: after which it has survived [s]; seed: of the random schedules.
    progress: called with the share of the budget that is used, in 0..1, and words;
        None shows one line in a terminal or a notebook.
    speed: the share of the reference page's speed that is asked for, above 0.
    together: the same two as one program makes them, where `sender` and `receiver` come
        from two copies of the program that have nothing in common.
    Raises ValueError for an impossible channel, budget, seed or speed.
    """
    require_possible(channel, budget, seed, speed)
    begun = perf_counter()
    line, makers = _OneLine(), (sender, receiver)
    until = begun + SEARCH_SHARE * budget
    network, told = CHANNELS[channel], progress or line
    search = Search(makers, network, seed, until, budget, told, together)
    failing: Outcome | None
    try:
        with search.watchdog:
            with search.guard:
                failing = _failed(search.watchdog.call(unfit, makers))
                if failing is None:
                    both = together or makers
                    search.shared = search.watchdog.call(SharedState, both)
            if failing is None:
                failing = search.hunt(speed)
            if failing is None and search.guard.noticed:
                words = f"A machine only answers, but this one {search.guard.noticed}"
                failing = _failed(Failure(Promise.QUIET, words=words))
    except Stuck as why:  # it came a moment too late, between two runs
        failing = _failed(Failure(Promise.END, error=why))
    line.clear()
    verdict = _survived(search) if failing is None else failed(search, failing)
    counts, seconds = search.counts.total(), perf_counter() - begun
    return replace(verdict, schedules=counts, seconds=seconds, makers=makers)


def require_possible(
    channel: str, budget: float, seed: int = 0, speed: float | None = None
) -> None:
    """Raise ValueError for what `check` cannot be asked."""
    if channel not in list(CHANNELS):
        raise ValueError(f"channel is one of {', '.join(CHANNELS)}, got {channel!r}")
    if not isinstance(budget, int | float) or not 0 < budget < inf:
        raise ValueError(f"budget is a time above 0 s, got {budget!r}")
    if not isinstance(seed, int):
        raise ValueError(f"seed is a whole number, got {seed!r}")
    if speed is not None and not 0 < speed < inf:
        raise ValueError(f"speed is a share of the reference's, above 0, got {speed!r}")


class _OneLine:
    """Progress on one line of a terminal or a notebook; nothing elsewhere."""

    EVERY: Final = 0.2  # [s]

    def __init__(self) -> None:
        self.out = sys.stdout  # what machines print goes elsewhere
        shown = self.out.isatty() or "ipykernel" in sys.modules
        self.next = perf_counter() + self.EVERY if shown else inf
        self.width = 0

    def __call__(self, share: float, words: str) -> None:
        """Say how far it is, now and then."""
        if perf_counter() > self.next:
            self.next = perf_counter() + self.EVERY
            line = f"checking: {share:4.0%}, {words}"
            self.width = max(self.width, len(line))
            print(f"\r{line:{self.width}}", end="", file=self.out, flush=True)

    def clear(self) -> None:
        """Leave nothing behind."""
        if self.width:
            print(f"\r{'':{self.width}}\r", end="", file=self.out, flush=True)


def _failed(failure: Failure | None) -> Outcome | None:
    """Return a failure that no single run shows."""
    return failure and Outcome(Trial(APPLICATIONS[0]), failure=failure)


def _survived(search: Search) -> Verdict:
    tried = search.tried()
    count = search.counts.total()
    sentence = (
        f"No promise was broken in {count_of(count, 'schedule')} of up to "
        f"{count_of(search.looked, 'payload')}: {tried}."
    )
    if count < LEAST:
        sentence += " So few say little: this computer is busy, so give it more budget."
    with search.guard:
        for make in search.makers:
            if line := nondeterministic(make(), HASHED):
                sentence += f" {line}: `p2plab check FILE` tries a second process, too."
    return Verdict(VerdictKind.SURVIVED, search.network.name, sentence, tried=tried)
