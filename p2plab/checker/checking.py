"""`check`: judge a protocol, and put it in words."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any, Final

from p2plab.checker import breaches, pace, parallel
from p2plab.checker.blame import HASHED, fickle
from p2plab.checker.fingerprint import differs
from p2plab.checker.network import CHANNELS, includes
from p2plab.checker.progress import OneLine
from p2plab.checker.search import (
    SEARCH_SHARE,
    Found,
    OutOfTime,
    Progress,
    Search,
)
from p2plab.checker.story import Story
from p2plab.checker.trial import APPLICATIONS, Failure, Run, Trial
from p2plab.checker.verdict import NOT_PROMISED, Verdict, cut
from p2plab.checker.watchdog import LIMIT, watching
from p2plab.checker.world import TooLong, World, at_a_limit
from p2plab.core.trace import Trace
from p2plab.core.validation import count_of

BUDGET: Final = 2.0  # [s]
OF_MANY_RUNS: Final = ("retransmission", "memory", "speed")  # not of this one
# What is wrong with the last event of a run that ends at once.
WRONG: Final = {
    "prefix": "this was not next",
    "no exception": "raises an exception here",
}
AGAIN: Final = 0.3  # for the run that is recorded, if it does not come back [s]


def check(
    sender: Callable[[], Any],
    receiver: Callable[[], Any],
    channel: str = "fifo",
    budget: float = BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    executor: Executor | None = None,
    speed: float | None = None,
) -> Verdict:
    """Look for the smallest run that breaks a promise of a protocol.

    sender, receiver: classes, or what else builds a fresh machine without arguments.
    channel: what the network may do, a name in CHANNELS.
    budget: after which it has survived [s]; seed: of the random schedules.
    progress: called with the share of the budget that is used, in 0..1, and words;
        None shows one line in a terminal or a notebook.
    executor: runs the random schedules in other processes, if the classes can be
        pickled.
    speed: the share of the reference page's speed that is asked for, above 0.
    Raises ValueError for an impossible channel, budget, seed or speed.
    """
    require_possible(channel, budget, seed, speed)
    begun = perf_counter()
    makers = (sender, receiver)
    line = OneLine()
    until = begun + SEARCH_SHARE * budget
    search = Search(makers, CHANNELS[channel], seed, until, budget, progress or line)
    run = _search(search, executor, speed)
    line.clear()
    with search.ear:
        verdict = _survived(search) if run is None else failed(search, run)
    counts, seconds = search.counts.total(), perf_counter() - begun
    return replace(verdict, schedules=counts, seconds=seconds)


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


def _search(
    search: Search, executor: Executor | None, speed: float | None
) -> Run | None:
    """Return the smallest failing run that is found, or None."""
    with search.ear:
        unfit = breaches.unfit(search.makers, search.pulse)
    if unfit is not None:
        return Run(Trial(APPLICATIONS[0]), failure=unfit)
    try:
        with watching(search.pulse):
            run = _hunt(search, executor, speed)
            if run is None and search.ear.heard:
                words = f"A machine only answers, but this one {search.ear.heard}"
                run = Run(
                    Trial(APPLICATIONS[0]), failure=Failure("breach", "quiet", words)
                )
            return run and search.smallest(run)
    except TooLong as why:  # it came a moment too late, between two runs
        return Run(Trial(APPLICATIONS[0]), failure=Failure("breach", "end", "", 0, why))


def _hunt(search: Search, executor: Executor | None, speed: float | None) -> Run | None:
    try:
        search.sets()
        pace.require_quick(search)
        search.growths()
        if speed is not None:
            pace.judge(search, speed)
        parallel.random(search, executor)
    except Found as found:
        search.unfinished.add(search.where)
        return found.run
    except OutOfTime:
        pass
    return None


def _survived(search: Search) -> Verdict:
    tried = search.tried()
    count = search.counts.total()
    sentence = f"No promise was broken in {count_of(count, 'schedule')}: {tried}."
    if count < pace.LEAST:
        sentence += " So few say little: this computer is busy, so give it more budget."
    for make in search.makers:
        if line := fickle(make(), HASHED):
            sentence += f" {line}: `p2plab check FILE` tries a second process, too."
    return Verdict("survived", search.channel.name, sentence, tried=tried)


def failed(search: Search, run: Run) -> Verdict:
    """Run what failed once more, recorded, and put it in words."""
    assert run.failure is not None
    pairs = run.trial.application.pairs
    traces = [Trace({"link": search.channel.words}) for _ in range(pairs)]
    if run.failure.promise not in ("interface", "quick", "quiet"):
        stuck = isinstance(run.failure.error, TooLong)
        again = run
        with suppress(TooLong), watching(search.pulse, AGAIN if stuck else LIMIT):
            again = World(run.trial, search.makers, traces).run()
        run.machines = run.machines or again.machines
        if run.failure.promise not in OF_MANY_RUNS:
            run.failure = _cause(search, run, again)
    failure = run.failure
    pair = max(failure.way, 0) // 2
    unpromised, besides = _unpromised(search), ""
    if search.ear.heard and failure.promise != "quiet":
        besides = f" Besides, a machine {search.ear.heard}."
    return Verdict(
        failure.kind,
        search.channel.name,
        unpromised + Story(run, traces[pair], pair).tell() + besides,
        failure.promise,
        tuple(run.hits),
        _shown(traces[pair], run, pair),
        tried=search.tried(),
        promised=not unpromised,
    )


def _shown(trace: Trace, run: Run, pair: int) -> Trace:
    """Cut the trace of what failed, and say in it what was wrong at its end."""
    assert run.failure is not None
    promise = run.failure.promise
    if run.delivered:
        trace.about["delivered"] = [f"{each!r:.24}" for each in run.delivered[pair]]
    if promise in WRONG and trace.rows:
        trace.about["wrong"] = WRONG[promise]
    return cut(trace, last=promise in WRONG)


def _cause(search: Search, run: Run, again: Run) -> Failure:
    """Find out what is behind a failure: chance, something shared, or a line."""
    failure, apart = run.failure, ""
    assert failure is not None
    if failure.promise != "same again" and not at_a_limit(failure):
        failure = differs(run, again) or failure
    chance = failure.promise == "same again"
    if chance or (failure.kind == "broken" and not run.hits):
        with suppress(TooLong), watching(search.pulse):
            apart = breaches.in_common(search.makers)
    if chance:
        return breaches.unlike(failure, run.machines, apart)
    if apart:
        return Failure("breach", "apart", apart, failure.way)
    if failure.kind == "broken":
        return failure
    if failure.error is not None and failure.way >= len(run.machines):
        side = failure.way % 2
        return breaches.unbuilt(search.makers[side], side, failure.error)
    return breaches.explained(failure, run.machines[failure.way])


def _unpromised(search: Search) -> str:
    """Say that the protocol is made for less than this channel, if it says so."""
    asked = search.channel.name
    for make in search.makers:
        promised = getattr(make, "channel", asked)
        if not includes(promised, asked):
            return (
                f"{NOT_PROMISED}this protocol is made for a network of the class "
                f"{promised}, and {asked} is more. "
            )
    return ""
