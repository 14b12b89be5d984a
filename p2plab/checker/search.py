"""The search for the smallest run that breaks a promise, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from p2plab.checker import schedules
from p2plab.checker.memory import held
from p2plab.checker.network import Channel, Fault
from p2plab.checker.promises import (
    Growth,
    growths,
    in_flight,
    resent_too_often,
    unbounded,
)
from p2plab.checker.schedules import LARGE, LEVELS, MANY, Level, Node, random_trial
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
from p2plab.checker.world import World

Progress = Callable[[float, str], object]

SEARCH_SHARE: Final = 0.85  # of the budget; the rest is for shrinking
SETS_SHARE: Final = 0.6  # of the search, for sets of faults; the rest is for chance
TWICE: Final = 300  # runs that are done twice from the start, to compare them
TWICE_EVERY: Final = 16  # and of the others, one in so many
CHUNK: Final = 100  # schedules between two reports


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
    calm: the fault-free run of each application.
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
    where: str = ""
    begun: float = field(default_factory=perf_counter)

    def run(self, trial: Trial) -> Run:
        """Run a trial with fresh machines, and judge it."""
        self.pulse.count += 1
        run = World(trial, self.makers).run()
        self.pulse.count += 1
        calm = self.calm.get(trial.application)
        if run.failure is None and calm is not None and trial.style == EAGER:
            run.failure = resent_too_often(run, calm)
        return run

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
        if total % CHUNK == 0:
            self.report(where)
        return run

    def report(self, where: str) -> None:
        """Say how far the search is."""
        if self.progress is not None:
            share = (perf_counter() - self.begun) / (SEARCH_SHARE * self.budget)
            words = f"{self.counts.total()} schedules, now {where}"
            self.progress(min(share, 1.0), words)

    def enumerate(self) -> None:
        """Try every small set of faults, few before many, an eager driver first.

        A run with a late driver is harder to read than one with a lost packet more.
        """
        end, now = self.until, perf_counter()
        self.until = now + SETS_SHARE * (end - now)
        with suppress(OutOfTime):  # chance may find what the sets did not come to
            self._sets()
        self.until = end

    def _sets(self) -> None:
        nodes: dict[tuple[Application, Style], list[Node]] = {}
        calm: list[Growth] = []
        single, *several = LEVELS
        for style in STYLES:
            for application in APPLICATIONS:
                run = self.judge(Trial(application, style), "no fault")
                nodes[application, style] = [Node.of(run)]
                if style == EAGER:
                    self._calm(run)
            calm = calm or self._growth(None, [])
            self._level(single, style, nodes)
        for kind in self.channel.kinds[:-1]:
            self._growth(kind, calm)
        for level in several:
            for style in STYLES:
                self._level(level, style, nodes)

    def _calm(self, run: Run) -> None:
        self.calm[run.trial.application] = run
        if failure := resent_too_often(run, run):
            run.failure = failure
            raise Found(run)

    def _level(
        self,
        level: Level,
        style: Style,
        nodes: dict[tuple[Application, Style], list[Node]],
    ) -> None:
        left = int(level.cap * self.budget)
        for application in APPLICATIONS:
            deeper: list[Node] = []
            parents = nodes.pop((application, style))
            if application.size <= level.size:
                for trial, place in self._children(application, style, parents, level):
                    if left == 0:
                        self.unfinished.add(level.words)
                        break
                    left -= 1
                    run = self.judge(trial, level.words)
                    if application.size <= LEVELS[1].size:
                        deeper.append(Node.of(run, place))
            nodes[application, style] = deeper

    def _children(
        self, application: Application, style: Style, parents: list[Node], level: Level
    ) -> Iterator[tuple[Trial, int]]:
        if level.faults == 1 and application.size > LARGE:
            level = MANY
            parents = parents if style == EAGER else []
        for parent in parents:

            def without(fault: Fault, faults: tuple[Fault, ...] = parent.faults) -> Run:
                return self.run(Trial(application, style, (*faults, fault)))

            for fault, place in schedules.more(parent, self.channel, level, without):
                yield Trial(application, style, (*parent.faults, fault)), place

    def tried(self) -> str:
        """Say what was tried so far."""
        said = [f"{self.counts['no fault']} runs without a fault"]
        for level in LEVELS:
            if count := self.counts[level.words]:
                part = "the first" if level.words in self.unfinished else "all"
                reach = f"the first {level.first} packets each way"
                said.append(f"{part} {count} schedules of {level.words} on {reach}")
        if count := self.counts["random"]:
            said.append(f"{count} random schedules (seed {self.seed})")
        largest = APPLICATIONS[-1].size
        said.append(
            f"{len(APPLICATIONS)} applications of up to {largest} payloads, pulled "
            f"eagerly and late"
        )
        return ", ".join(said) + (f"; {self.note}" if self.note else "")

    def random(self, first: int = 0, count: int | None = None) -> None:
        """Try random schedules, from number `first` on."""
        index = first
        while count is None or index < first + count:
            self.judge(random_trial(self.channel, self.seed, index), "random")
            index += 1

    def smallest(self, run: Run) -> Run:
        """Shrink a failing run."""
        if not self.counts["random"]:
            return run  # the smallest by the order of the search
        end = self.until + (1 - SEARCH_SHARE) * self.budget
        return shrink(run, self.run, self.channel, end)

    def _growth(self, kind: str | None, calm: list[Growth]) -> list[Growth]:
        window = in_flight(self.calm[APPLICATIONS[-1]])
        found = growths(self.run, kind, self.channel, window)
        self.counts["for memory"] += 2
        worst = unbounded(found, calm if kind else found)
        if worst is not None:
            raise Found(self._grown(worst, kind))
        return found

    def _grown(self, worst: Growth, kind: str | None) -> Run:
        """Return a small run that shows what is left behind."""
        who = ("sender", "receiver")[worst.way]
        few, many = worst.sizes
        harm = f" and every third packet: {kind}" if kind else ""
        words = (
            f"When everything was delivered, `{worst.name}` of the {who} still held "
            f"{worst.items[0]} items after {few} payloads{harm}, and {worst.items[1]} "
            f"after {many}: it is never emptied"
        )
        run = self._example(worst, kind)
        run.failure = Failure("broken", "memory", words, worst.way)
        return run

    def _example(self, worst: Growth, kind: str | None) -> Run:
        calm = self.run(Trial(plain(3)))
        if kind is None:
            return calm
        usual = held(calm.machines[worst.way])[worst.name]
        extra = next(iter({f.extra for f in worst.run.trial.faults}), 0.0)
        for number in range(6):
            for way in (0, 1):
                run = self.run(
                    Trial(plain(3), EAGER, (Fault(kind, way, number, extra),))
                )
                if held(run.machines[worst.way])[worst.name] > usual and run.hits:
                    return run
        return worst.run


def compare(run: Run, again: Run) -> None:
    """Raise Found if the second run of a trial was not the same."""
    if run.like(again):
        return
    words = "The same trial was run twice, with fresh machines"
    for number, (one, two) in enumerate(zip(run.sent, again.sent, strict=False)):
        if one != two:
            words += f"; packet number {number + 1} was {_told(one)}, then {_told(two)}"
            break
    else:
        first, second = len(run.sent), len(again.sent)
        if first != second:
            words += f"; it took {first} packets, then {second}"
        elif run.timers != again.timers:
            words += f"; the timers were {run.timers}, then {again.timers}"
        else:
            words += "; the timers fired at other times, or other payloads came out"
    again.failure = Failure("breach", "same again", words)
    raise Found(again)


def _told(sent: Any) -> str:
    kind, seq, payload, stamp, _ = sent.packet
    stamped = "" if stamp is None else f" (stamp {stamp:.6g})"
    return f"{kind.name} {seq} {payload!r:.20} at t={sent.time:.6g}{stamped}"
