"""Between two processes over loopback: how fast, at which cost, in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from figures import Figure
from processes import free_port

ROADS: Final = Path(__file__).with_name("roads.py")
PATIENCE: Final = 90.0  # [s]
SIZE: Final = 8_000_000  # bytes
LARGE: Final = 100_000_000
ROUNDS: Final = 5
NAMES: Final = {
    "ours": "fast",
    "tcp": "kernel TCP, plain sockets",
    "naive": "the report's stop-and-wait",
    "aioquic": "aioquic",
}


class Moved(NamedTuple):
    """What one transfer took.

    seconds: of the clock. cpu: seconds of a processor, both ends together.
    memory: bytes that the receiver had at most, beyond what it had when idle.
    """

    seconds: float
    cpu: float
    memory: float


def move(road: str, size: int) -> Moved:
    """Move so many bytes from one new process to another."""
    words = [road, str(free_port()), str(size)]
    with subprocess.Popen(
        [sys.executable, ROADS, "take", *words], stdout=subprocess.PIPE, text=True
    ) as receiver:
        try:
            assert receiver.stdout is not None
            before = json.loads(receiver.stdout.readline())
            sender = subprocess.run(
                [sys.executable, ROADS, "give", *words],
                stdout=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            given, taken = (
                json.loads(sender.stdout),
                json.loads(receiver.communicate(timeout=PATIENCE)[0]),
            )
        finally:
            receiver.kill()
    grown = taken["peak"] - before["resident"]
    return Moved(taken["at"] - given["at"], given["cpu"] + taken["cpu"], grown)


def speeds() -> Iterator[Figure]:
    """How fast 8 MB move, and what a gigabyte costs, medians; they take turns."""
    there = [road for road in NAMES if road != "aioquic" or find_spec("aioquic")]
    runs: dict[str, list[Moved]] = {road: [] for road in there}
    for _ in range(ROUNDS):
        for road in there:
            runs[road].append(move(road, SIZE))
    fast = {road: 8e-6 * SIZE / median(m.seconds for m in runs[road]) for road in there}
    cost = {road: 1e9 / SIZE * median(m.cpu for m in runs[road]) for road in there}
    for road in NAMES:
        if road not in runs:
            missing = f"{road} is not installed: pip install -e '.[bench]'"
            yield Figure("8 MB", f"{fast['ours']:,.0f} Mbit/s", missing)
        elif road != "ours":
            beside, ratio = (
                f"{NAMES[road]}: {fast[road]:,.0f}",
                fast["ours"] / fast[road],
            )
            yield Figure("8 MB", f"{fast['ours']:,.0f} Mbit/s", beside, ratio)
    for road in there[1:]:
        beside, ratio = f"{NAMES[road]}: {cost[road]:.3g}", cost[road] / cost["ours"]
        yield Figure("both processors", f"{cost['ours']:.3g} CPU s/GB", beside, ratio)


def memory() -> Iterator[Figure]:
    """How much memory a receiver of 100 MB needs beyond what it had when idle."""
    grown, allowed = move("ours", LARGE).memory, 1.3 * LARGE + 32e6
    if isnan(grown):
        yield Figure("memory to receive 100 MB", "this system does not tell")
        return
    value = f"{grown:,.0f} bytes, x {grown / LARGE:.2f}"
    beside = f"1.3 times and 32 MB: {allowed:,.0f}"
    yield Figure("memory to receive 100 MB", value, beside, allowed / grown)


def moving() -> Iterator[Figure]:
    """Return all of it."""
    yield from speeds()
    yield from memory()


if __name__ == "__main__":
    from figures import show

    show("two processes", "loopback, no trace; medians", moving())
