"""The search for the smallest run that breaks a promise, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Final

from p2plab.checker.fingerprint import differs
from p2plab.checker.memory import held
from p2plab.checker.network import SIDES, Channel
from p2plab.checker.promises import (
    FEW,
    MORE,
    Growth,
    big,
    growths,
    harm,
    in_flight,
    resent_too_often,
    unbounded,
)
from p2plab.checker.quiet import Ear
from p2plab.checker.schedules import (
    LARGE,
    LEVELS,
    MANY,
    PAIRS,
    SINGLE,
    TRIPLES,
    Level,
    more,
    random_trial,
)
from p2plab.checker.shrink import shrink
from p2plab.checker.trial import (
    APPLICATIONS,
    EAGER,
    STYLES,
    Application,
    Failure,
    Makers,
    Run,
    Style,
    Trial,
    plain,
)
from p2plab.checker.watchdog import Pulse
from p2plab.checker.world import World, at_a_limit
from p2plab.core.validation import count_of

Progress = Callable[[float, str], object]

SEARCH_SHARE: Final = 0.85  # of the budget; the rest is for shrinking
SETS_SHARE: Final = 0.6  # of the search, for sets of faults; the rest is for chance
TWICE: Final = 300  # runs that are done twice from the start, to compare them
TWICE_EVERY: Final = 16  # and of the others, one in so many
REPORT_EVERY: Final = 100  # schedules

# What is counted, beside the levels of the enumeration.
NO_FAULT: Final = "no fault"
LONG: Final = "long runs"
RANDOM: Final = "random"


class Found(Exception):
    """A run that breaks a promise; ends the search."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class OutOfTime(Exception):
    """The budget is used up."""


@dataclass(slots=True)
class Search:
    """Runs trials of one protocol on one class of networks, and counts them.

    until: when to stop, by perf_counter [s].
    calm: the fault-free run of each application, as far as there was one.
    counts: runs of each sort; unfinished: the sorts of which more could be tried.
    """

    makers: Makers
    channel: Channel
    seed: int
    until: float
    budget: float
    progress: Progress | None = None
    pulse: Pulse = field(default_factory=Pulse)
    calm: dict[Application, Run] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unfinished: set[str] = field(default_factory=set)
    note: str = ""
    where: str = NO_FAULT
    longest: int = 0  # payloads
    usual: list[Growth] = field(default_factory=list)  # of memory, without a fault
    ear: Ear = field(default_factory=Ear)
    begun: float = field(default_factory=perf_counter)

    def run(self, trial: Trial) -> Run:
        """Run a trial with fresh machines, and judge it."""
        self.pulse.count += 1
        with self.ear:
            run = World(trial, self.makers).run()
        self.pulse.count += 1
        if run.failure is None and trial.style == EAGER:
            run.failure = resent_too_often(run, self._calm(run))
        return run

    def _calm(self, run: Run) -> Run:
        """Return the fault-free run of the same application."""
        application = run.trial.application
        if not run.trial.faults:
            self.calm[application] = run
        elif application not in self.calm:
            self.run(Trial(application))
        return self.calm.get(application, run)

    def judge(self, trial: Trial, where: str) -> Run:
        """Run a trial; raise Found if it breaks a promise or is not repeatable."""
        run = self.run(trial)
        self.where = where
        self.counts[where] += 1
        total = self.counts.total()
        if run.failure is None and (total <= TWICE or total % TWICE_EVERY == 0):
            compare(run, self.run(trial))
        if run.failure is not None:
            raise Found(run)
        if perf_counter() > self.until:
            self.unfinished.add(where)
            raise OutOfTime
        if total % REPORT_EVERY == 0:
            self.report(where)
        return run

    def report(self, where: str) -> None:
        """Say how far the search is."""
        if self.progress is not None:
            share = (perf_counter() - self.begun) / (SEARCH_SHARE * self.budget)
            words = f"{count_of(self.counts.total(), 'schedule')}, now {where}"
            self.progress(min(share, 1.0), words)

    def sets(self) -> None:
        """Try every small set of faults, few before many, an eager driver first.

        A run with a late driver is harder to read than one with a lost packet more.
        """
        end, now = self.until, perf_counter()
        self.until = now + SETS_SHARE * (end - now)
        with suppress(OutOfTime):  # chance may find what the sets did not come to
            self._sets()
        self.until = end

    def growths(self) -> None:
        """See whether memory grows with the payloads where the network does harm."""
        for kind in self.channel.kinds[:-1] if self.usual else ():
            self.growth(kind, self.usual)

    def _sets(self) -> None:
        for style in STYLES:
            for application in APPLICATIONS:
                self.judge(Trial(application, style), NO_FAULT)
            self.usual = self.usual or self.growth(None, [])
            self._level(SINGLE, style)
            if style == EAGER:
                self._level(MANY, style)
        for level in (PAIRS, TRIPLES):
            for style in STYLES:
                self._level(level, style)

    def _level(self, level: Level, style: Style) -> None:
        trials = (
            trial
            for application in level.applications
            for trial in self._trials(Trial(application, style), level, level.faults)
        )
        for trial in islice(trials, int(level.cap * self.budget)):
            self.judge(trial, level.words)
        if next(trials, None) is not None:
            self.unfinished.add(level.words)

    def _trials(self, trial: Trial, level: Level, faults: int) -> Iterator[Trial]:
        """Yield the trials that have so many faults more."""
        run = self.run(trial)
        if run.failure is not None:
            raise Found(run)
        for each in more(run, self.channel, level, self.run):
            if faults == 1:
                yield each
            else:
                yield from self._trials(each, level, faults - 1)

    def tried(self) -> str:
        """Say what was tried so far."""
        said = [f"{count_of(self.counts[NO_FAULT], 'run')} without a fault"]
        if self.counts[NO_FAULT] == len(STYLES) * len(APPLICATIONS):
            said[0] += f" ({len(APPLICATIONS)} applications, pulled eagerly and late)"
        for level in LEVELS:
            if count := self.counts[level.words]:
                part = "the first " if level.words in self.unfinished else ""
                said.append(f"{part}{count_of(count, 'schedule')} of {level.words}")
        if count := self.counts[LONG]:
            said.append(f"{count_of(count, 'run')} of up to {self.longest} payloads")
        if count := self.counts[RANDOM]:
            said.append(f"{count_of(count, 'random schedule')} (seed {self.seed})")
        return ", ".join(said) + (f"; {self.note}" if self.note else "")

    def random(self, first: int = 0, count: int | None = None) -> None:
        """Try random schedules, from number `first` on."""
        index = first
        while count is None or index < first + count:
            self.judge(random_trial(self.channel, self.seed, index), RANDOM)
            index += 1

    def smallest(self, run: Run) -> Run:
        """Shrink a failing run that is not the smallest by the order of the search."""
        assert run.failure is not None
        compared = run.failure.promise in ("memory", "speed")
        long = run.trial.application.size > LARGE
        if compared or (self.where not in (LONG, RANDOM) and not long):
            return run
        end = self.until + (1 - SEARCH_SHARE) * self.budget
        return shrink(run, self.run, self.channel, end)

    def long(self, trial: Trial) -> Run:
        """Run a trial that is too long for a ladder; raise Found if it fails."""
        run = self.run(trial)
        self.where = LONG
        self.counts[LONG] += 1
        self.longest = max(self.longest, trial.application.size)
        if run.failure is not None:
            raise Found(run)
        return run

    def growth(self, kind: str | None, calm: list[Growth]) -> list[Growth]:
        """Return how memory grows with the payloads; raise Found if it is too much.

        kind: how every third packet is harmed, None for not at all; calm: what grows
            then.
        """
        few = max(FEW, 2 * in_flight(self.calm[APPLICATIONS[-1]]))
        runs = []
        for size in (few, few + MORE):
            faults = harm(kind, range(1, 2 * size, 3)) if kind else ()
            runs.append(self.long(Trial(big(size), faults=faults)))
        found = growths(*runs)
        worst = unbounded(found, calm if kind else found)
        if worst is not None:
            raise Found(self._grown(worst, kind, runs))
        return found

    def _grown(self, worst: Growth, kind: str | None, runs: list[Run]) -> Run:
        """Return a small run that shows what is left behind, or the longest."""
        way, name, (less, much) = worst
        few, many = (run.trial.application.size for run in runs)
        harmed = f" and every third packet: {kind}" if kind else ""
        words = (
            f"When everything was delivered, `{name}` of the {SIDES[way]} still held "
            f"{less} items after {few} payloads{harmed}, and {much} after {many}: it "
            f"is never emptied"
        )
        run = self._example(worst, kind) or runs[1]
        run.failure = Failure("broken", "memory", words, way)
        return run

    def _example(self, worst: Growth, kind: str | None) -> Run | None:
        calm = self.run(Trial(plain(3)))
        if kind is None:
            return calm
        usual = held(calm.machines[worst.way])[worst.name]
        for fault in harm(kind, range(6)):
            run = self.run(calm.trial.plus(fault))
            if run.hits and held(run.machines[worst.way])[worst.name] > usual:
                return run
        return None


def compare(run: Run, again: Run) -> None:
    """Raise Found if the second run of a trial was not the same."""
    failure = again.failure if at_a_limit(again.failure) else differs(run, again)
    if failure is not None:
        again.failure = failure
        raise Found(again)
