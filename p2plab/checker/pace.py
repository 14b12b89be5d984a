"""Too slow to be judged at all, or slower than the share that was asked for."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from p2plab.checker.blame import busiest
from p2plab.checker.network import LOSE
from p2plab.checker.promises import harm
from p2plab.checker.search import Found, Search
from p2plab.checker.trial import Failure, Makers, Run, Trial, plain
from p2plab.checker.world import World
from p2plab.protocols import Setup

REFERENCE: Final = Setup("selective_repeat")
COUNT: Final = 60  # payloads
LEAST: Final = 200  # schedules that say something
SLOWER: Final = 10  # times what the reference page takes
ENOUGH: Final = 0.5  # to be sure at once [s]


def require_quick(search: Search) -> None:
    """Raise Found if a machine's slowness is why so little could be tried.

    Both are timed in turn and the doubt is ours: the computer may be busy.
    """
    count, spent = search.counts.total(), perf_counter() - search.begun
    if count >= LEAST:
        return
    trial = Trial(plain(1))
    best = REFERENCE.sender, REFERENCE.receiver
    _timed(search, trial, best)  # the first time takes longer
    ours, theirs = _timed(search, trial, search.makers), _timed(search, trial, best)
    if ours < ENOUGH:
        ours = min(ours, _timed(search, trial, search.makers))
        theirs = max(theirs, _timed(search, trial, best))
    if ours < SLOWER * theirs:
        return
    words = (
        f"Too slow to judge: in {spent:.1f} s only {count} schedules could be run. "
        f"One payload takes {ours:.2g} s here, and {theirs:.1g} s with "
        f"{REFERENCE.protocol}"
    )
    if line := busiest(search.pulse.seen, [make() for make in search.makers]):
        words += f". Most of the time went by at {line}"
    raise Found(Run(trial, failure=Failure("breach", "quick", words)))


def _timed(search: Search, trial: Trial, makers: Makers) -> float:
    begun = perf_counter()
    search.pulse.count += 1
    World(trial, makers).run()
    return perf_counter() - begun


def judge(search: Search, speed: float) -> None:
    """Raise Found if a protocol takes longer than the reference page's time / speed.

    Both move the same payloads over the same network: one without faults, and one
    that loses every third packet.
    """
    for faults in ((), harm(LOSE, range(1, 2 * COUNT, 3))):
        trial = Trial(plain(COUNT), faults=faults)
        run = search.long(trial)
        best = World(trial, (REFERENCE.sender, REFERENCE.receiver)).run()
        ours, theirs = _seconds(run), _seconds(best)
        if theirs < speed * ours:
            what = "loses every third packet" if faults else "loses nothing"
            words = (
                f"{COUNT} payloads took {ours:.2f} s where the network {what}; "
                f"{REFERENCE.protocol} takes {theirs:.2f} s, and {speed:g} of its "
                f"speed was asked for"
            )
            run.failure = Failure("broken", "speed", words, 0)
            raise Found(run)


def _seconds(run: Run) -> float:
    return max(run.sent[-1].time, 1e-9)
