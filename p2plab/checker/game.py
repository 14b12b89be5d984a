"""Be the network: break an exhibit of the museum with as few faults as you can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from html import escape
from math import inf
from typing import Any, Final

from p2plab.checker.explain import capital, failed, told
from p2plab.checker.run import (
    APPLICATIONS,
    CHANNELS,
    DAMAGE,
    DOUBLE,
    EAGER,
    LATE,
    LATE_COPY,
    LOSE,
    OUTAGE,
    STYLES,
    Fault,
    FaultKind,
    Makers,
    Trial,
    VerdictKind,
    plain,
    run,
)
from p2plab.checker.search import BUDGET, LARGE, Found, Search, check
from p2plab.checker.verdict import Verdict, cut, ladder
from p2plab.core.validation import count_of
from p2plab.museum import EXHIBITS

Packets = Iterable[int]  # counted from 1, each way by itself
Seconds = Mapping[int, float]  # for each of these packets
PAR_BUDGET: Final = 4.0  # for the own run of the checker; one is enough if quick [s]
MOST: Final = {LATE: 120.0, LATE_COPY: 120.0, OUTAGE: 30.0}  # [s]
MOVES: Final = {  # how a player writes them
    LOSE: "lose={1}",
    DAMAGE: "damage={1}",
    DOUBLE: "double={1}",
    LATE: "late={1: 0.5}",
    LATE_COPY: "late_copy={1: 0.5}",
    OUTAGE: "outage={1: 3.5}",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of being the network.

    used: faults that met a packet; par: the fewest that the checker found, None if it
        found no way within a second. exhibit: its name.
    """

    verdict: Verdict
    used: int
    par: int | None
    exhibit: str

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return self.verdict.kind != VerdictKind.SURVIVED

    @property
    def score(self) -> str:
        """Say how good that was."""
        if self.par is None:
            par = "the checker found no way, so there is no par"
        else:
            par = f"par is {self.par}"
        if not self.broken:
            return f"Not broken; {par}."
        best = self.par is None or self.used <= self.par
        end = ": nobody found less." if best else "."
        return f"Broken with {count_of(self.used, 'fault')}; {par}{end}"

    @property
    def moves(self) -> str:
        """Say what this network can do to a packet, as `break_it` is told."""
        kinds = CHANNELS[self.verdict.channel].kinds
        examples = ", ".join(MOVES[kind] for kind in kinds)
        return f"Your moves: {examples}; with _back behind the name, on the way back."

    def __str__(self) -> str:
        said = f"{self.score} {self.verdict.sentence}"
        return said if self.broken else f"{said} {self.moves}"

    def _repr_html_(self) -> str:
        verdict = self.verdict
        moves = "" if self.broken else f"<p>{escape(self.moves)}</p>\n"
        drawn = ladder(verdict.trace, verdict.sentence) if verdict.trace.rows else ""
        words = f"<p><b>{escape(self.score)}</b> {escape(verdict.sentence)}</p>"
        return f"{words}\n{moves}{drawn}"


def break_it(
    name: str,
    *,
    lose: Packets = (),
    lose_back: Packets = (),
    damage: Packets = (),
    damage_back: Packets = (),
    double: Packets = (),
    double_back: Packets = (),
    late: Seconds | None = None,
    late_back: Seconds | None = None,
    late_copy: Seconds | None = None,
    late_copy_back: Seconds | None = None,
    outage: Seconds | None = None,
    outage_back: Seconds | None = None,
) -> Attempt:
    """Do this to the packets of an exhibit, and see whether a promise is broken.

    name: in the museum's EXHIBITS. The others are packets, counted from 1, from the
    sender to the receiver and `back`: which are lost, damaged, doubled; and, as
    {packet: seconds}, which are late and by how much, which are doubled with a copy
    that is so much later, and at which everything is lost, both ways, for so long.
    Each of them is one fault. What the application sends, and whether the driver pulls
    late, is chosen so that it fails, if it can. A machine that differs from process to
    process is for `p2plab check` alone to find.
    Raises ValueError for an unknown name, a packet that has two fates or a number
    below 1, and for what the network of the exhibit's class never does.
    """
    if name not in EXHIBITS:
        close = get_close_matches(str(name), EXHIBITS, n=1)
        hint = f"do you mean {close[0]!r}?" if close else "see museum.EXHIBITS"
        raise ValueError(f"there is no exhibit {name!r}; {hint}")
    exhibit = EXHIBITS[name]
    given = {
        "lose": lose,
        "lose_back": lose_back,
        "damage": damage,
        "damage_back": damage_back,
        "double": double,
        "double_back": double_back,
        "late": late,
        "late_back": late_back,
        "late_copy": late_copy,
        "late_copy_back": late_copy_back,
        "outage": outage,
        "outage_back": outage_back,
    }
    faults = faults_of(exhibit.channel, given)
    makers = exhibit.sender, exhibit.receiver
    verdict = play(makers, exhibit.channel, faults)
    return Attempt(verdict, len(verdict.faults), par(name), name)


def faults_of(channel: str, given: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Return the faults that a player asked for, by the names of `break_it`.

    Raises ValueError for what this network never does.
    """
    faults: list[Fault] = []
    for name, packets in given.items():
        kind = FaultKind(name.removesuffix("_back").replace("_", " "))
        faults += _faults(channel, kind, int(name.endswith("_back")), packets)
    if len({(fault.way, fault.number) for fault in faults}) < len(faults):
        raise ValueError("give every packet one fate only")
    return tuple(sorted(faults, key=lambda fault: (fault.number, fault.way)))


def _faults(channel: str, kind: FaultKind, way: int, packets: Any) -> Iterator[Fault]:
    """Yield the faults of one kind, one way."""
    timed = isinstance(packets, Mapping)
    if isinstance(packets, int) or (packets and timed != (kind in MOST)):
        raise ValueError(f"write it so: {MOVES[kind]}, and not {packets!r:.40}")
    for packet in packets or ():
        extra = packets[packet] if timed else 0.0
        if not isinstance(packet, int):
            raise ValueError(f"packets are whole numbers, got {packet!r}")
        if packet < 1:
            raise ValueError(f"packets are counted from 1, got {packet}")
        if kind not in CHANNELS[channel].kinds:
            raise ValueError(
                f"this network ({channel}) does nothing of the kind '{kind}': "
                f"{CHANNELS[channel].words}"
            )
        known = isinstance(extra, int | float)
        if not known or not 0 <= extra <= MOST.get(kind, 0.0):
            what = "is down for" if kind == OUTAGE else "is late by"
            raise ValueError(f"this network {what} 0 to {MOST[kind]:g} s, got {extra}")
        yield Fault(kind, way, packet - 1, extra)


def play(makers: Makers, channel: str, faults: tuple[Fault, ...]) -> Verdict:
    """Do these faults to a protocol, and see whether a promise is broken.

    What the application sends, and whether the driver pulls late, is chosen so that it
    fails, if it can; what fails without the faults as well, because the driver pulls
    late, does not count. The verdict's faults are those that met a packet, or all of
    them if nothing was broken.
    """
    search = Search(makers, CHANNELS[channel], 0, inf, BUDGET)
    try:
        with search.watchdog:
            for style in STYLES:
                for application in APPLICATIONS:
                    baseline = Trial(application, style)
                    if style == EAGER or (
                        application.size <= LARGE and not search.run(baseline).failure
                    ):
                        search.judge(replace(baseline, faults=faults), "play")
            search.require_bounded_memory(None)
    except Found as found:
        return replace(failed(search, found.outcome), tried="", makers=makers)
    with search.guard:
        outcome = run(Trial(plain(3), faults=faults), makers, recorded=True)
    done = [
        f"{fault.words(outcome.packets(fault.way)[fault.number])} (counted from 1: "
        f"number {fault.number + 1})"
        for fault in outcome.link.hits
    ]
    if missed := len(faults) - len(outcome.link.hits):
        done.append(f"{count_of(missed, 'fault')} met no packet")
    words = capital("; ".join(done)) or "Nothing was done to any packet"
    words += ". Everything was delivered all the same."
    shown = cut(told(search, outcome), last=False)
    return Verdict(
        VerdictKind.SURVIVED, channel, words, faults=faults, trace=shown, makers=makers
    )


@cache
def par(name: str) -> int | None:
    """Return with how few faults the checker breaks an exhibit, None if it does not."""
    exhibit = EXHIBITS[name]
    makers = exhibit.sender, exhibit.receiver
    found = check(*makers, exhibit.channel, PAR_BUDGET, progress=lambda *_: None)
    return None if found.kind == VerdictKind.SURVIVED else len(found.faults)
