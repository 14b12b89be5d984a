"""The search for the smallest run that breaks a promise, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from time import perf_counter
from typing import Final

from p2plab.checker.faults import (
    LATE,
    LATE_COPY,
    LOSE,
    ROLES,
    RTT,
    Fault,
    FaultKind,
    NetworkClass,
)
from p2plab.checker.fingerprint import differs
from p2plab.checker.guard import Apart, OutputGuard, held, watchdog
from p2plab.checker.promises import Promise
from p2plab.checker.run import (
    APPLICATIONS,
    EAGER,
    STYLES,
    Application,
    Failure,
    Makers,
    Outcome,
    Style,
    Trial,
    plain,
    run,
)
from p2plab.checker.schedules import (
    LARGE,
    MANY,
    PAIRS,
    SINGLE,
    TRIPLES,
    Level,
    more,
    random_trial,
    smaller,
)
from p2plab.checker.source import place
from p2plab.core.packet import DATA
from p2plab.core.validation import count_of
from p2plab.protocols.setup import Setup
from p2plab.sim.watchdog import Stuck, Watchdog

Progress = Callable[[float, str], object]

SEARCH_SHARE: Final = 0.85  # of the budget; the rest is for shrinking
SETS_SHARE: Final = 0.7  # of the search, for sets of faults; the rest is for chance
TWICE: Final = 300  # runs that are done twice from the start, to compare them
TWICE_EVERY: Final = 16  # and of the others, one in so many
REPORT_EVERY: Final = 100  # schedules

# Payloads after which numbers of one byte have begun anew, whatever sign they have, and
# of two bytes: these are sent if there is time.
WRAPS: Final = (300, 70_000)
FEW: Final = 40  # payloads that show whether something grows
MORE: Final = 60  # so many more, to see how much

# What is counted, beside sets of faults.
NO_FAULT: Final = "without a fault"
LONG: Final = f"of {FEW} payloads and more"
RANDOM: Final = "with random faults"

REFERENCE: Final = Setup("selective_repeat")
COUNT: Final = 60  # payloads, to compare two speeds
AT_FIRST, SHARE = 2, 10  # packets more without a fault: these, and one in so many
UNHEARD: Final = Application(((b"one", b"two", b"three"),))  # in no earlier run
LEAST: Final = 200  # schedules that say something
SLOWER: Final = 10  # times what the reference page takes: too slow to be judged


class Found(Exception):
    """A run that breaks a promise; ends the search."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class OutOfTime(Exception):
    """The budget is used up."""


@dataclass(slots=True)
class Search:
    """Runs trials of one protocol on one class of networks, and counts them.

    until: when to stop, by perf_counter [s].
    baseline: the fault-free run of each application, as far as there was one.
    counts: runs of each sort. where: which sort it is now.
    """

    makers: Makers
    network: NetworkClass
    seed: int
    until: float
    budget: float
    progress: Progress | None = None
    watchdog: Watchdog = field(default_factory=watchdog)
    guard: OutputGuard = field(default_factory=OutputGuard)
    baseline: dict[Application, Outcome] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    where: str = NO_FAULT
    growth: dict[tuple[int, str], int] = field(default_factory=dict)  # without a fault
    begun: float = field(default_factory=perf_counter)
    tried_out: set[tuple[Level, Style]] = field(default_factory=set)
    farthest: int = 0  # payloads of the longest run

    def run(self, trial: Trial) -> Outcome:
        """Run a trial with fresh machines, and judge it."""
        with self.guard:
            outcome = self.watchdog.call(run, trial, self.makers)
        application = trial.application
        if not trial.faults and trial.style == EAGER:
            self.baseline[application] = outcome
        if outcome.failure is None and trial.style == EAGER:
            if application not in self.baseline:
                self.run(Trial(application))
            outcome.failure = resent_too_often(outcome, self.baseline[application])
        return outcome

    def judge(self, trial: Trial, where: str) -> Outcome:
        """Run a trial; raise Found if it breaks a promise or is not repeatable."""
        outcome = self.run(trial)
        self.where = where
        self.counts[where] += 1
        total = self.counts.total()
        if outcome.failure is None and (total <= TWICE or total % TWICE_EVERY == 0):
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
        if self.counts[RANDOM]:
            said[-1] += f" (seed {self.seed})"
        return ", ".join(said)

    def hunt(self, speed: float | None) -> Outcome | None:
        """Return the smallest failing run that is found in time, or None."""
        try:
            self.sets()
            self.require_quick()
            self.wrap()
            for kind in self.network.kinds[:-1] if self.growth else ():
                self.require_bounded_memory(kind)
            if speed is not None:
                self.require_speed(speed)
            self.random(count())
        except Found as found:
            return self.smallest(found.outcome)
        except OutOfTime:
            pass
        return None

    # Small sets of faults, then chance

    def sets(self) -> None:
        """Try every small set of faults, few before many, an eager driver first.

        A run with a late driver is harder to read than one with a lost packet more.
        """
        end, now = self.until, perf_counter()
        self.until = now + SETS_SHARE * (end - now)
        with suppress(OutOfTime):  # chance may find what the sets did not come to
            for style in STYLES:
                for application in APPLICATIONS:
                    if application.pairs > 1 and style == EAGER:
                        self.require_apart()
                    self.judge(Trial(application, style), NO_FAULT)
                if style == EAGER:
                    self.require_bounded_memory(None)
                self._level(SINGLE, style)
                if style == EAGER:
                    self._level(MANY, style)
            for level in (PAIRS, TRIPLES):
                for style in STYLES:
                    self._level(level, style)
        self.until = end

    def _level(self, level: Level, style: Style) -> None:
        trials = (
            trial
            for application in level.applications
            for trial in self._trials(Trial(application, style), level, level.faults)
        )
        for trial in islice(trials, int(level.cap * self.budget)):
            self.judge(trial, f"with {count_of(level.faults, 'fault')}")
        self.tried_out.add((level, style))

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
        compared = failure.promise in (Promise.MEMORY, Promise.SPEED)
        long = outcome.trial.application.size > LARGE
        if compared or (self.where not in (LONG, RANDOM) and not long):
            return outcome
        end = perf_counter() + self.budget  # however slow this computer is
        best, better = outcome, True
        while better:
            better = False
            for trial in smaller(best, self.network):
                if perf_counter() > end:
                    return best
                tried = self.run(trial)
                if tried.failure and tried.failure.promise.kind == failure.promise.kind:
                    best, better = tried, True
                    break
        return self._with_fewer(best, end)

    def _with_fewer(self, outcome: Outcome, end: float) -> Outcome:
        """Look for a failing run with fewer faults where the sets had no time to."""
        self.until = end
        try:
            for level in (SINGLE, MANY, PAIRS, TRIPLES):
                for style in STYLES if level.faults < len(outcome.link.hits) else ():
                    if (level, style) not in self.tried_out:
                        self._level(level, style)
        except Found as found:
            return found.outcome
        except OutOfTime:
            pass
        return outcome

    # What no single small run shows

    def long(self, trial: Trial) -> Outcome:
        """Run a trial that is too long for a ladder; raise Found if it fails."""
        outcome = self.run(trial)
        self.where = LONG
        self.counts[LONG] += 1
        if outcome.failure is not None:
            raise Found(outcome)
        return outcome

    def require_apart(self) -> None:
        """Raise Found if the machines go on together only because of what they share.

        They run once more, each with its own copy of all that both can reach.
        """
        apart = Apart(self.makers)
        for faults in ((), (Fault(LOSE, 0, 0),)) if apart.places else ():
            trial = Trial(UNHEARD, faults=faults)
            with apart, self.guard:
                alone = self.watchdog.call(run, trial, self.makers, False, apart)
            if alone.failure and self.run(trial).failure is None:
                words = (
                    f"Sender and receiver share more than packets: {apart.words}. On "
                    f"two computers each of them has its own, and then "
                    f"{UNHEARD.words} do not arrive"
                )
                alone.failure = Failure(Promise.APART, words=words)
                raise Found(alone)

    def wrap(self) -> None:
        """Send so many payloads that numbers begin anew; raise Found if that fails."""
        few, many = WRAPS
        began = perf_counter()
        self.long(Trial(plain(few)))
        took = (perf_counter() - began) * many / few
        self.farthest = few
        self.long(Trial(plain(few), faults=with_faults(LOSE, 2 * few, every=9)))
        if perf_counter() + 1.5 * took > self.until:
            return
        usual, self.watchdog = self.watchdog, Watchdog(3 * took, 3 * took)
        with suppress(Stuck), self.watchdog:  # then there was no time for it
            outcome = self.run(Trial(plain(many)))
            if not outcome.failure or not isinstance(outcome.failure.error, Stuck):
                self.counts[LONG] += 1
                self.farthest = many
                if outcome.failure:
                    raise Found(outcome)
        self.watchdog = usual

    def require_bounded_memory(self, kind: FaultKind | None) -> None:
        """Raise Found if a machine keeps more, the more payloads it has moved.

        kind: how every third packet is harmed; None for not at all. A sender may keep
        what it has sent, but nothing of its repetitions.
        """
        few = max(FEW, 2 * in_flight(self.baseline[APPLICATIONS[-1]]))
        outcomes = []
        for size in (few, few + MORE):
            faults = with_faults(kind, 2 * size) if kind else ()
            outcomes.append(self.long(Trial(_long_names(size), faults=faults)))
        for way in (1, 0):
            less, much = (held(each.machines[way]) for each in outcomes)
            for name in sorted(much):
                growth = much[name] - less[name]
                usual = self.growth.setdefault((way, name), growth) if way == 0 else 0
                most = MORE // 4
                if way == 0:
                    most = 12 * MORE if kind is None else max(usual, 0) + MORE // 3
                if growth > most:
                    harmed = f" and every third packet: {kind}" if kind else ""
                    words = (
                        f"When everything was delivered, `{name}` of the {ROLES[way]} "
                        f"still held {less[name]} items after {few} payloads{harmed}, "
                        f"and {much[name]} after {few + MORE}: it is never emptied"
                    )
                    found = self._example(way, name, kind) or outcomes[1]
                    found.failure = Failure(Promise.MEMORY, way, words)
                    raise Found(found)

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
            outcome = self.long(trial)
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


def _long_names(size: int) -> Application:
    """Return an application whose payloads are long enough to be seen in memory."""
    (names,) = plain(size).phases
    return Application((tuple(name.ljust(32, b".") for name in names),))


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


def resent_too_often(outcome: Outcome, baseline: Outcome) -> Failure | None:
    """Judge the number of the sender's packets against the same run without faults.

    Without a fault nothing need be sent twice; a small share is for a sender that still
    learns how long a round trip is. A harmed packet may cost a sender that goes back
    its window again, each time that its timer fires: four times, before it has learnt
    that. One such set more is for chance, and ten packets for a payload are enough for
    a timer that is shorter than the round trip.
    """
    size = outcome.trial.application.size
    if not outcome.link.harmed:
        return _sent_twice(outcome, size)
    took, usual = (sum(s.way == 0 for s in each.sent) for each in (outcome, baseline))
    once = 4 * (in_flight(baseline) + 2)
    if took <= min(usual, 10 * size) + once * (outcome.link.harmed + 1):
        return None
    words = (
        f"{count_of(size, 'payload')} took {took} packets of the sender, although the "
        f"network harmed only {outcome.link.harmed} of all; without a fault it takes "
        f"{usual}"
    )
    return Failure(Promise.RETRANSMISSION, words=words)


def _sent_twice(outcome: Outcome, size: int) -> Failure | None:
    """Judge how much is sent again where nothing was harmed."""
    data = [each for each in outcome.packets(0) if each.kind == DATA]
    different = {(each.seq, each.payload) for each in data}
    again = len(data) - max(size, len(different))
    if again <= AT_FIRST + size // SHARE:
        return None
    words = (
        f"Nothing was lost, and of {count_of(size, 'payload')} the sender sent "
        f"{again} more than once: a round trip is {RTT:g} s here. Does the timer fire "
        f"earlier, or is it not started anew for a new packet?"
    )
    return Failure(Promise.RETRANSMISSION, words=words)
