"""How quick the checker is: schedules per second, and the time to a counterexample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from statistics import median
from time import perf_counter

from figures import Figure, show

from p2plab.checker import CHANNELS, Fault, check
from p2plab.checker.run import DELAY, LOSE, Makers, Trial, plain
from p2plab.checker.search import Search
from p2plab.core.endpoint import FixedWindow
from p2plab.core.link import ScriptedLink
from p2plab.core.rtt import FixedRto
from p2plab.core.trace import RETRANSMIT, SEND
from p2plab.museum import EXHIBITS
from p2plab.protocols import (
    GoBackNReceiver,
    GoBackNSender,
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
    StopAndWaitReceiver,
    StopAndWaitSender,
)
from p2plab.sim.simulator import simulate

ROUNDS = 5
SCHEDULES = 300
SIZE = 6  # payloads
HEAVEN = 1e9  # no budget ends these runs [s]
PAGES: dict[str, Makers] = {
    "stop_and_wait": (lambda: StopAndWaitSender(FixedRto()), StopAndWaitReceiver),
    "go_back_n": (lambda: GoBackNSender(FixedRto(), FixedWindow(4)), GoBackNReceiver),
    "selective_repeat": (
        lambda: SelectiveRepeatSender(FixedRto(), FixedWindow(4)),
        lambda: SelectiveRepeatReceiver(4),
    ),
}


def schedules() -> list[tuple[Fault, ...]]:
    """Return sets of lost packets: what a simulator's link can do as well."""
    rng = Random(1)
    places = [(way, number) for way in (0, 1) for number in range(SIZE)]
    return [
        tuple(Fault(LOSE, *place) for place in sorted(rng.sample(places, 2)))
        for _ in range(SCHEDULES)
    ]


def link(faults: tuple[Fault, ...]) -> ScriptedLink:
    """Return a link that loses the same packets."""
    there, back = (
        frozenset(fault.number + 1 for fault in faults if fault.way == way)
        for way in (0, 1)
    )
    return ScriptedLink(lose=there, lose_back=back, delay=DELAY)


def rates(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return how many schedules a second each of them does; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = perf_counter()
            run()
            times[name].append(perf_counter() - start)
    return {name: SCHEDULES / median(each) for name, each in times.items()}


def judged(search: Search, trials: list[Trial]) -> None:
    """Do what the checker does with them."""
    for trial in trials:
        search.judge(trial, "bench")


def once(search: Search, trials: list[Trial]) -> int:
    """Run each once, and return how many packets were sent."""
    return sum(len(search.run(trial).sent) for trial in trials)


def simulated(makers: Makers, trials: list[Trial], record: bool) -> int:
    """Let the simulator run the same; returns how many packets the trace has."""
    packets = 0
    for trial in trials:
        machines = makers[0](), makers[1]()
        payloads = trial.application.phases[0]
        run = simulate(*machines, payloads, link(trial.faults), record=record)
        packets += sum(row[2] in (SEND, RETRANSMIT) for row in run.trace.rows)
    return packets


def schedules_per_second() -> Iterator[Figure]:
    """The checker's rate beside the simulator's, on the same schedules."""
    trials = [Trial(plain(SIZE), faults=faults) for faults in schedules()]
    for name, makers in PAGES.items():
        search = Search(makers, CHANNELS["fifo"], 0, perf_counter() + HEAVEN, HEAVEN)
        judged(search, trials)  # the first schedules of a search are run twice
        assert once(search, trials) == simulated(makers, trials, record=True)
        done = rates(
            {
                "checker": partial(judged, search, trials),
                "one run": partial(once, search, trials),
                "simulator, no trace": partial(simulated, makers, trials, record=False),
                "simulator, traced": partial(simulated, makers, trials, record=True),
            }
        )
        ours = done.pop("checker")
        for other, rate in done.items():
            beside = f"{other}: {rate:,.0f}"
            yield Figure(name, f"{ours:,.0f} runs/s", beside, ours / rate)


def counterexamples() -> Iterator[Figure]:
    """How long it takes to the smallest run that breaks each exhibit."""
    middles: dict[str, float] = {}
    for name, it in EXHIBITS.items():
        times = []
        for _ in range(ROUNDS):
            found = check(it.sender, it.receiver, it.channel, progress=_quiet)
            times.append(1000 * found.seconds)
            if found.kind == "survived":
                break  # it differs from process to process, and only there
        if found.kind == "survived":
            yield Figure(name, "not broken here", f"{found.schedules:,} schedules")
            continue
        middles[name] = median(times)
        beside = f"{len(found.faults)} faults, slowest of {ROUNDS}: {max(times):.1f} ms"
        yield Figure(name, f"{middles[name]:.1f} ms", beside)
    slowest = max(middles, key=lambda name: middles[name])
    yield Figure(
        f"half of {len(middles)} exhibits within",
        f"{median(middles.values()):.1f} ms",
        f"slowest: {slowest}, {middles[slowest]:.0f} ms",
    )


def _quiet(share: float, words: str) -> None:
    return


def checker() -> Iterator[Figure]:
    """Return all of it."""
    yield from schedules_per_second()
    yield from counterexamples()


if __name__ == "__main__":
    show("checker", "runs of a second, and the time to a failing run", checker())
