"""Random schedules until the budget ends, here or in other processes."""

from __future__ import annotations

import pickle
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from time import perf_counter
from typing import Final

from p2plab.checker.network import CHANNELS
from p2plab.checker.schedules import random_trial
from p2plab.checker.search import RANDOM, Found, OutOfTime, Search
from p2plab.checker.trial import Makers
from p2plab.checker.watchdog import watching
from p2plab.checker.world import TooLong

CHUNK: Final = 500  # schedules that a worker is given at once
WORKERS: Final = 4  # chunks under way

Answer = tuple[int, int | None]  # schedules done, and the number of the one that failed


def random(search: Search, executor: Executor | None) -> None:
    """Try random schedules until OutOfTime or Found, in other processes if possible."""
    if executor is not None:
        try:
            pickle.dumps(search.makers)
            _elsewhere(search, executor, {})
        except (pickle.PicklingError, AttributeError, TypeError, BrokenExecutor) as why:
            alone = "in this process alone, because the classes did not travel"
            search.note = f"{alone} ({why})"
    search.random()


def _elsewhere(
    search: Search, executor: Executor, todo: dict[Future[Answer], int]
) -> None:
    first = 0
    while True:
        search.report("random, in other processes")
        if perf_counter() > search.until:
            for future in todo:
                future.cancel()  # those under way end by themselves
            raise OutOfTime
        while len(todo) < WORKERS:
            left = search.until - perf_counter()
            job = (search.makers, search.channel.name, search.seed, first, left)
            todo[executor.submit(_chunk, *job)] = first
            first += CHUNK
        ready, _ = wait(todo, timeout=0.05, return_when=FIRST_COMPLETED)
        search.pulse.count += 1
        for future in sorted(ready, key=todo.__getitem__):
            done, failed = future.result()
            search.counts[RANDOM] += done
            if failed is not None:
                trial = random_trial(search.channel, search.seed, failed)
                search.judge(trial, RANDOM)
            del todo[future]


def _chunk(
    makers: Makers, channel: str, seed: int, first: int, seconds: float
) -> Answer:
    """Try schedules in a worker process."""
    until = perf_counter() + seconds
    search = Search(makers, CHANNELS[channel], seed, until, seconds)
    try:
        with watching(search.pulse):
            search.random(first, CHUNK)
    except OutOfTime:
        pass
    except (Found, TooLong):
        return search.counts.total(), first + search.counts.total() - 1
    return search.counts.total(), None
