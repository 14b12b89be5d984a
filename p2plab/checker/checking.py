"""`check`: judge a protocol, and put it in words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any, Final

from p2plab.checker.explain import breach, capital, shared_state, tell, unbuilt, unfit
from p2plab.checker.faults import CHANNELS, Fault
from p2plab.checker.fingerprint import differs
from p2plab.checker.promises import Promise, VerdictKind
from p2plab.checker.run import (
    APPLICATIONS,
    EAGER,
    STYLES,
    Failure,
    Makers,
    Outcome,
    Trial,
    plain,
    run,
)
from p2plab.checker.schedules import LARGE
from p2plab.checker.search import LEAST, SEARCH_SHARE, Found, Progress, Search
from p2plab.checker.source import HASHED, nondeterministic
from p2plab.checker.verdict import Verdict, cut
from p2plab.core.trace import Trace
from p2plab.core.validation import count_of
from p2plab.sim.watchdog import Stuck, Watchdog

BUDGET: Final = 2.0  # [s]
AGAIN: Final = 0.3  # for the run that is recorded, if it does not come back [s]
# A run of these is recorded, and what it shows is not all that broke the promise.
_OF_MANY_RUNS: Final = (
    Promise.RETRANSMISSION,
    Promise.MEMORY,
    Promise.SPEED,
    Promise.APART,
)
_NOT_RUN: Final = (Promise.INTERFACE, Promise.QUICK, Promise.QUIET)
# What is wrong with the last event of a run that ends at once.
WRONG: Final = {
    Promise.IN_ORDER_DELIVERY: "this was not next",
    Promise.NO_EXCEPTION: "raises an exception here",
}


def check(
    sender: Callable[[], Any],
    receiver: Callable[[], Any],
    channel: str = "fifo",
    budget: float = BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    speed: float | None = None,
) -> Verdict:
    """Look for the smallest run that breaks a promise of a protocol.

    sender, receiver: classes, or what else builds a fresh machine without arguments.
    channel: what the network may do, a name in CHANNELS.
    budget: after which it has survived [s]; seed: of the random schedules.
    progress: called with the share of the budget that is used, in 0..1, and words;
        None shows one line in a terminal or a notebook.
    speed: the share of the reference page's speed that is asked for, above 0.
    Raises ValueError for an impossible channel, budget, seed or speed.
    """
    require_possible(channel, budget, seed, speed)
    begun = perf_counter()
    line, makers = _OneLine(), (sender, receiver)
    until = begun + SEARCH_SHARE * budget
    search = Search(makers, CHANNELS[channel], seed, until, budget, progress or line)
    failing: Outcome | None
    try:
        with search.watchdog:
            with search.guard:
                failing = _failed(search.watchdog.call(unfit, makers))
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
    return replace(verdict, schedules=counts, seconds=seconds)


def play(makers: Makers, channel: str, faults: tuple[Fault, ...]) -> Verdict:
    """Do these faults to a protocol, and see whether a promise is broken.

    What the application sends, and whether the driver pulls late, is chosen so that it
    fails, if it can; what fails without the faults as well, because the driver pulls
    late, does not count. The verdict's faults are those that met a packet, or all of
    them if nothing was broken.
    """
    search = Search(makers, CHANNELS[channel], 0, inf, BUDGET)
    try:
        with search.watchdog:
            for style in STYLES:
                for application in APPLICATIONS:
                    baseline = Trial(application, style)
                    if style == EAGER or (
                        application.size <= LARGE and not search.run(baseline).failure
                    ):
                        search.judge(replace(baseline, faults=faults), "play")
            search.require_bounded_memory(None)
    except Found as found:
        return replace(failed(search, found.outcome), tried="")
    with search.guard:
        outcome = run(Trial(plain(3), faults=faults), makers, recorded=True)
    told = [
        f"{fault.words(outcome.packets(fault.way)[fault.number])} (counted from 1: "
        f"number {fault.number + 1})"
        for fault in outcome.link.hits
    ]
    if missed := len(faults) - len(outcome.link.hits):
        told.append(f"{count_of(missed, 'fault')} met no packet")
    words = capital("; ".join(told)) or "Nothing was done to any packet"
    words += ". Everything was delivered all the same."
    shown = cut(_told(search, outcome), last=False)
    return Verdict(VerdictKind.SURVIVED, channel, words, faults=faults, trace=shown)


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
        f"{count_of(search.farthest, 'payload')}: {tried}."
    )
    if count < LEAST:
        sentence += " So few say little: this computer is busy, so give it more budget."
    with search.guard:
        for make in search.makers:
            if line := nondeterministic(make(), HASHED):
                sentence += f" {line}: `p2plab check FILE` tries a second process, too."
    return Verdict(VerdictKind.SURVIVED, search.network.name, sentence, tried=tried)


def failed(search: Search, outcome: Outcome) -> Verdict:
    """Run what failed once more, recorded, and put it in words."""
    failure = outcome.failure
    assert failure is not None
    again = outcome
    if failure.promise not in _NOT_RUN:
        stuck = isinstance(failure.error, Stuck)
        limit = Watchdog(AGAIN, AGAIN) if stuck else search.watchdog
        with suppress(Stuck), limit, search.guard:
            again = limit.call(run, outcome.trial, search.makers, True)
        outcome.machines = outcome.machines or again.machines
        if failure.promise not in _OF_MANY_RUNS:
            with search.guard:
                failure = _cause(search, outcome, again)
            outcome.failure = failure
    trace = _told(search, again)
    if failure.promise in WRONG and trace.rows:
        trace.about["wrong"] = WRONG[failure.promise]
    unpromised, besides = _unpromised(search), ""
    if search.guard.noticed and failure.promise != Promise.QUIET:
        besides = f" Besides, a machine {search.guard.noticed}."
    return Verdict(
        failure.promise.kind,
        search.network.name,
        unpromised + tell(outcome, trace) + besides,
        failure.promise,
        tuple(outcome.link.hits),
        cut(trace, last=failure.promise in WRONG),
        tried=search.tried(),
        promised=not unpromised,
    )


def _told(search: Search, outcome: Outcome) -> Trace:
    """Return a run's trace with what a ladder says of it."""
    trace = outcome.trace or Trace()
    trace.about["link"] = search.network.words
    trace.about["delivered"] = [f"{each!r:.24}" for each in outcome.delivered]
    return trace


def _cause(search: Search, outcome: Outcome, again: Outcome) -> Failure:
    """Find out what is behind a failure: chance, something shared, or a line."""
    failure = outcome.failure
    assert failure is not None
    if failure.promise != Promise.SAME_AGAIN and not failure.out_of_resources:
        failure = differs(outcome, again) or failure
    chance = failure.promise == Promise.SAME_AGAIN
    broken = failure.promise.kind == VerdictKind.BROKEN
    common = ""
    if chance or (broken and not outcome.link.hits):
        with suppress(Stuck), search.watchdog:
            common = search.watchdog.call(shared_state, search.makers)
    if chance and not common:
        hints = filter(None, map(nondeterministic, outcome.machines))
        hint = next(hints, "Look for chance, a clock, or the order of a set")
        return failure._replace(words=f"{failure.words}. {hint}")
    if common:
        words = f"{failure.words}. {common}" if chance else common
        return Failure(Promise.ISOLATION, failure.way, words)
    if failure.error is not None and failure.way >= len(outcome.machines):
        return unbuilt(search.makers[failure.way], failure.way, failure.error)
    return breach(failure, outcome.machines[failure.way])


def _unpromised(search: Search) -> str:
    """Say that the protocol is made for less than this channel, if it says so."""
    asked = search.network.name
    for make in search.makers:
        promised = getattr(make, "channel", asked)
        survives = CHANNELS.get(promised, search.network).kinds
        if not set(survives).issuperset(search.network.kinds):
            return (
                f"This protocol is made for a network of the class "
                f"{promised}, and {asked} is more. "
            )
    return ""
