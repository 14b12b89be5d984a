"""What the machines of a run have sent, so that two runs can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final
from zlib import crc32

from p2plab.checker.faults import CHANNELS, ROLES
from p2plab.checker.guard import watchdog
from p2plab.checker.promises import Promise
from p2plab.checker.run import Failure, Makers, Outcome, Trial, plain, run
from p2plab.checker.schedules import random_trial
from p2plab.checker.verdict import ARROWS, event
from p2plab.core.trace import SEND, Row
from p2plab.sim.watchdog import Stuck

TRIALS: Final = 80


def printed(outcome: Outcome) -> list[dict[str, Any]]:
    """Return what was sent in a run, as JSON can carry it."""
    prints = []
    for time, way, number, (kind, seq, payload, ts_val, _) in outcome.sent:
        row = Row(time, ROLES[way], SEND, kind, seq, len(payload), number)
        begin, checksum = f"{payload!r:.20}", crc32(payload)
        prints.append(
            event(row) | {"begin": begin, "checksum": checksum, "ts_val": ts_val}
        )
    return prints


def fingerprint(
    makers: Makers, channel: str, seed: int, seconds: float
) -> list[list[dict[str, Any]]]:
    """Return what was sent in a fixed list of trials, or in the first ones of them.

    It ends after one that fails, and begins no other one when the time is over.
    """
    prints = []
    until = perf_counter() + seconds
    trials = [Trial(plain(8))]
    trials += [random_trial(CHANNELS[channel], seed, -n) for n in range(1, TRIALS)]
    with suppress(Stuck), watchdog() as watching:
        for trial in trials:
            outcome = watching.call(run, trial, makers)
            failure = outcome.failure
            if failure is None or not isinstance(failure.error, Stuck):
                prints.append(printed(outcome))
            if failure is not None or perf_counter() > until:
                break
    return prints


def difference(
    ours: Sequence[Sequence[dict[str, Any]]], theirs: Sequence[Sequence[dict[str, Any]]]
) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the first difference in words, and what was sent up to it, or None."""
    for one, other in zip(ours, theirs, strict=False):
        for number, (this, that) in enumerate(zip(one, other, strict=False), 1):
            if this != that:
                words = f"packet number {number} was {_said(this)}, then {_said(that)}"
                return words, list(one[:number][-ARROWS:])
        if len(one) != len(other):
            words = f"it took {len(one)} packets, then {len(other)}"
            return words, list(one[:ARROWS])
    return None


def _said(sent: dict[str, Any]) -> str:
    ts_val = "" if sent["ts_val"] is None else f" (ts_val {sent['ts_val']:.6g})"
    return (
        f"{sent['kind']} {sent['seq']} {sent['begin']} of the {sent['host']} at "
        f"t={sent['time']:.6g} s{ts_val}"
    )


def differs(outcome: Outcome, again: Outcome) -> Failure | None:
    """Say how the second run of a trial differs from the first, if it does."""
    same = (
        outcome.sent == again.sent
        and outcome.woken == again.woken
        and outcome.delivered == again.delivered
        and outcome.timers == again.timers
        and (outcome.failure is None) == (again.failure is None)
    )
    if same:
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
