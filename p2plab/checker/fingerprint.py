"""What a machine sends in some trials, so that two processes can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

from p2plab.checker.network import CHANNELS
from p2plab.checker.schedules import random_trial
from p2plab.checker.trial import Makers, Trial, plain
from p2plab.checker.watchdog import Pulse, watching
from p2plab.checker.world import World
from p2plab.packet import Kind

TRIALS: Final = 80

# of each packet: when, which way, kind, seq, size, checksum
Print = list[tuple[float, int, int, int, int, int]]


def fingerprint(makers: Makers, channel: str, seed: int) -> list[Print]:
    """Return what was sent in a fixed list of trials; it ends after one that fails."""
    prints: list[Print] = []
    pulse = Pulse()
    trials = [Trial(plain(8))]
    trials += [random_trial(CHANNELS[channel], seed, -n) for n in range(1, TRIALS)]
    with watching(pulse):
        for trial in trials:
            pulse.count += 1
            run = World(trial, makers).run()
            prints.append(
                [
                    (at, way, int(p.kind), p.seq, len(p.payload), crc32(p.payload))
                    for at, way, p in run.sent
                ]
            )
            if run.failure is not None:
                break
    return prints


def difference(
    ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]
) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the first difference in words, and what was sent up to it, or None."""
    for one, other in zip(ours, theirs, strict=False):
        for number, (this, that) in enumerate(zip(one, other, strict=False)):
            if list(this) != list(that):
                words = (
                    f"packet number {number + 1} was {_told(this)}, then {_told(that)}"
                )
                return words, [_event(each) for each in one[: number + 1][-25:]]
        if len(one) != len(other):
            words = f"it took {len(one)} packets, then {len(other)}"
            return words, [_event(each) for each in one[:25]]
    return None


def _told(packet: Sequence[Any]) -> str:
    time, way, kind, seq, size, _ = packet
    who = "receiver" if way % 2 else "sender"
    return f"{Kind(kind).name} {seq} ({size} bytes) of the {who} at t={time:.6g} s"


def _event(packet: Sequence[Any]) -> dict[str, Any]:
    time, way, kind, seq, size, _ = packet
    return {
        "time": round(time, 6),
        "host": "receiver" if way % 2 else "sender",
        "what": "send",
        "kind": Kind(kind).name,
        "seq": seq,
        "size": size,
    }
