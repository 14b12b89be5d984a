"""What a benchmark says: a figure, what it is compared with, and the ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table.

    ratio: how many times better the figure is than the comparison; None without one.
    """

    what: str
    value: str
    beside: str = ""
    ratio: float | None = None


def show(title: str, figures: Iterable[Figure]) -> None:
    """Print one theme's part of the table."""
    row = "{:<44}{:>26}  {:<40}{:>8}"
    print(row.format(f"\n{title}", "", "beside", "ratio"))
    for what, value, beside, ratio in figures:
        print(row.format(what, value, beside, "" if ratio is None else f"{ratio:.2f}"))


def seconds(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the times of some rounds, after one to warm up.

    They take turns, because a machine's mood changes within seconds.
    clock: process_time counts only what this process computes.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for lap in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            kept = run()  # its memory is given back after the clock was read
            if lap:
                times[name].append(clock() - start)
            del kept
    return times
