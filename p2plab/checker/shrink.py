"""From a failing run to a smaller one: fewer faults, payloads, simpler faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter

from p2plab.checker.network import Channel
from p2plab.checker.schedules import simpler
from p2plab.checker.trial import APPLICATIONS, EAGER, Run, Trial, plain


def shrink(
    run: Run, run_one: Callable[[Trial], Run], channel: Channel, until: float
) -> Run:
    """Return the smallest failing run that is found until then (perf_counter) [s].

    It fails in the same manner: broken, or a breach.
    """
    assert run.failure is not None
    kind = run.failure.kind
    best = run
    better = True
    while better:
        better = False
        for trial in _smaller(best, channel):
            if perf_counter() > until:
                return best
            tried = run_one(trial)
            if tried.failure is not None and tried.failure.kind == kind:
                best, better = tried, True
                break
    return best


def _smaller(run: Run, channel: Channel) -> Iterator[Trial]:
    """Yield smaller trials, those that save most first."""
    trial = run.trial
    met = tuple(fault for fault in trial.faults if fault in run.hits)
    if len(met) < len(trial.faults):
        yield replace(trial, faults=met)
    share = len(met) // 2
    while share:
        for begin in range(0, len(met), share):
            yield replace(trial, faults=met[:begin] + met[begin + share :])
        share //= 2
    size = trial.application.size
    for application in (*APPLICATIONS, *map(plain, range(size))):
        if application.size < size:
            yield replace(trial, application=application)
    if trial.application != plain(size):
        yield replace(trial, application=plain(size))
    if trial.style != EAGER:
        yield replace(trial, style=EAGER)
    for place, fault in enumerate(met):
        for other in simpler(fault, channel):
            yield replace(trial, faults=(*met[:place], other, *met[place + 1 :]))
