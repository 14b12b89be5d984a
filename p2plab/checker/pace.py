"""The speed bound: as quick as the reference page, or some share of it."""

from __future__ import annotations

from typing import Final

from p2plab.checker.network import LOSE
from p2plab.checker.promises import harm
from p2plab.checker.search import Found, Search
from p2plab.checker.trial import Failure, Run, Trial, plain
from p2plab.checker.world import World
from p2plab.protocols import Setup

REFERENCE: Final = Setup("selective_repeat")
COUNT: Final = 60  # payloads


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
