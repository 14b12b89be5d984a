"""What the machines of a run have sent, so that two runs can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, NamedTuple
from zlib import crc32

from p2plab.checker.faults import CHANNELS, ROLES
from p2plab.checker.guard import watchdog
from p2plab.checker.promises import Promise
from p2plab.checker.run import Failure, Makers, Outcome, Trial, plain, run
from p2plab.checker.schedules import random_trial
from p2plab.checker.verdict import ARROWS, event
from p2plab.core.packet import Kind
from p2plab.core.trace import SEND, Row
from p2plab.sim.watchdog import Stuck

TRIALS: Final = 80


class Print(NamedTuple):
    """A packet that was sent, as JSON can carry it; begin: of its payload."""

    time: float
    way: int
    number: int
    kind: int
    seq: int
    size: int
    checksum: int
    begin: str
    ts_val: float | None

    def __str__(self) -> str:
        ts_val = "" if self.ts_val is None else f" (ts_val {self.ts_val:.6g})"
        return (
            f"{Kind(self.kind).name} {self.seq} {self.begin} of the "
            f"{ROLES[self.way % 2]} at t={self.time:.6g} s{ts_val}"
        )

    @property
    def event(self) -> dict[str, Any]:
        """As an event of a ladder."""
        host, (time, _, number, kind, seq, size, *_) = ROLES[self.way % 2], self
        return event(Row(time, host, SEND, kind, seq, size, number))


def printed(outcome: Outcome) -> list[Print]:
    """Return what was sent in a run."""
    return [
        Print(
            at, way, number, kind, seq, len(load), crc32(load), f"{load!r:.20}", ts_val
        )
        for at, way, number, (kind, seq, load, ts_val, _) in outcome.sent
    ]


def fingerprint(
    makers: Makers, channel: str, seed: int, seconds: float
) -> list[list[Print]]:
    """Return what was sent in a fixed list of trials, or in the first ones of them.

    It ends after one that fails, and begins no other one when the time is over.
    """
    prints = []
    until = perf_counter() + seconds
    trials = [Trial(plain(8))]
    trials += [random_trial(CHANNELS[channel], seed, -n) for n in range(1, TRIALS)]
    with suppress(Stuck), watchdog() as watching:
        for trial in trials:
            watching.begin()
            outcome = run(trial, makers)
            watching.end()
            failure = outcome.failure
            if failure is None or not isinstance(failure.error, Stuck):
                prints.append(printed(outcome))
            if failure is not None or perf_counter() > until:
                break
    return prints


def difference(
    ours: Iterable[Iterable[Sequence[Any]]], theirs: Iterable[Iterable[Sequence[Any]]]
) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the first difference in words, and what was sent up to it, or None."""
    for pair in zip(ours, theirs, strict=False):
        one, other = (list(map(Print._make, each)) for each in pair)
        for number, (this, that) in enumerate(zip(one, other, strict=False), 1):
            if this != that:
                words = f"packet number {number} was {this}, then {that}"
                return words, [each.event for each in one[:number][-ARROWS:]]
        if len(one) != len(other):
            words = f"it took {len(one)} packets, then {len(other)}"
            return words, [each.event for each in one[:ARROWS]]
    return None


def differs(outcome: Outcome, again: Outcome) -> Failure | None:
    """Say how the second run of a trial differs from the first, if it does."""
    if outcome.like(again):
        return None
    words = "The same trial was run twice, with fresh machines"
    found = difference([printed(outcome)], [printed(again)])
    if found is not None:
        words += f"; {found[0]}"
    elif outcome.timers != again.timers:
        words += f"; the timers were {outcome.timers}, then {again.timers}"
    else:
        words += "; the timers fired at other times, or other payloads came out"
    return Failure(Promise.SAME_AGAIN, words=words)
