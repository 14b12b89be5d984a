"""What a benchmark says: a figure, what it is compared with, and the ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple


class Figure(NamedTuple):
    """One line of the table.

    ratio: how many times better the figure is than the comparison; None without one.
    """

    what: str
    value: str
    beside: str = ""
    ratio: float | None = None


ROW: Final = "{:<44}{:>28}  {:<46}{:>7}"


def head() -> None:
    """Print the first line of the table."""
    print(ROW.format("figure", "ours", "beside", "ratio"))
    print("Ratio: how many times better ours is than what stands beside it.")


def show(title: str, meaning: str, figures: Iterable[Figure]) -> None:
    """Print one theme's part of the table, each row as soon as it is known.

    meaning: what was measured, for the rows of this theme.
    """
    print(f"\n{title.upper()}: {meaning}")
    for what, value, beside, ratio in figures:
        ratio_shown = "" if ratio is None else f"{ratio:.2f}"
        print(ROW.format(what, value, beside, ratio_shown), flush=True)


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
