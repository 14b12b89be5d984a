"""Be the network: break an exhibit of the museum with as few faults as you can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any, Final

from p2plab.checker import breaches
from p2plab.checker.checking import check
from p2plab.checker.network import (
    CHANNELS,
    DAMAGE,
    DOUBLE,
    LATE,
    LOSE,
    Fault,
)
from p2plab.checker.search import Search
from p2plab.checker.story import Story, capital, count_of
from p2plab.checker.trial import APPLICATIONS, Run, Trial, plain
from p2plab.checker.verdict import Verdict, cut
from p2plab.checker.watchdog import watching
from p2plab.checker.world import World
from p2plab.museum import EXHIBITS, Exhibit
from p2plab.trace import Trace

Packets = Iterable[int]  # counted from 1, each way by itself
PAR_BUDGET: Final = 1.0  # within which the checker looks for its own run [s]
_SHOWN: Final = Trial(plain(3))  # what is sent in a run that is harmless


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of being the network.

    used: faults that met a packet; par: the fewest that the checker found, None if it
        found no way within a second.
    """

    verdict: Verdict
    used: int
    par: int | None

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return self.verdict.kind != "survived"

    @property
    def score(self) -> str:
        """Say how good that was."""
        if self.par is None:
            par = "the checker found no way, so there is no par"
        else:
            par = f"par is {self.par}"
        if not self.broken:
            return f"Not broken; {par}."
        used = f"Broken with {count_of(self.used, 'fault')}; {par}"
        best = self.par is None or self.used <= self.par
        return f"{used}: nobody found less." if best else f"{used}."

    def __str__(self) -> str:
        return f"{self.score} {self.verdict.sentence}"

    def _repr_html_(self) -> str:
        from p2plab.checker.drawing import ladder

        words, verdict = escape(self.verdict.sentence), self.verdict
        drawn = ladder(verdict.trace, verdict.sentence) if verdict.trace.rows else ""
        return f"<p><b>{escape(self.score)}</b> {words}</p>\n{drawn}"


def break_it(
    name: str,
    *,
    lose: Packets = (),
    lose_back: Packets = (),
    double: Packets = (),
    double_back: Packets = (),
    late: Mapping[int, float] | None = None,
    late_back: Mapping[int, float] | None = None,
    damage: Packets = (),
    damage_back: Packets = (),
) -> Attempt:
    """Do this to the packets of an exhibit, and see whether a promise is broken.

    name: in the museum's EXHIBITS. The others are packets, counted from 1, from the
    sender to the receiver and `back`: which are lost, doubled, damaged, or late, and
    by how much {packet: seconds}. The smallest application that fails is shown. Leaks
    of memory and chance inside a machine are for `check` alone to find.
    Raises ValueError for an unknown name, a packet that has two fates or a number
    below 1, and for what the network of the exhibit's class never does.
    """
    if name not in EXHIBITS:
        raise ValueError(f"there is no exhibit {name!r}; see museum.EXHIBITS")
    faults = [Fault(LOSE, 0, each - 1) for each in lose]
    faults += [Fault(LOSE, 1, each - 1) for each in lose_back]
    faults += [Fault(DOUBLE, 0, each - 1) for each in double]
    faults += [Fault(DOUBLE, 1, each - 1) for each in double_back]
    faults += [Fault(LATE, 0, each - 1, extra) for each, extra in (late or {}).items()]
    faults += [
        Fault(LATE, 1, each - 1, extra) for each, extra in (late_back or {}).items()
    ]
    faults += [Fault(DAMAGE, 0, each - 1) for each in damage]
    faults += [Fault(DAMAGE, 1, each - 1) for each in damage_back]
    exhibit = EXHIBITS[name]
    _require_allowed(exhibit, faults)
    return Attempt(*_play(exhibit, tuple(sorted(faults, key=_place))), par(name))


@cache
def par(name: str) -> int | None:
    """Return with how few faults the checker breaks an exhibit, None if it does not."""
    exhibit = EXHIBITS[name]
    found = check(
        exhibit.sender, exhibit.receiver, exhibit.channel, PAR_BUDGET, progress=_quiet
    )
    return None if found.kind == "survived" else len(found.faults)


def _quiet(share: float, words: str) -> None:
    return


def _place(fault: Fault) -> tuple[int, int]:
    return fault.number, fault.way


def _require_allowed(exhibit: Exhibit, faults: list[Fault]) -> None:
    channel = CHANNELS[exhibit.channel]
    for fault in faults:
        if fault.number < 0:
            raise ValueError(f"packets are counted from 1, got {fault.number + 1}")
        if not fault.extra >= 0:
            raise ValueError(f"a packet is late by 0 s or more, got {fault.extra}")
        if fault.kind not in channel.kinds:
            raise ValueError(
                f"this network ({channel.name}) does nothing of the kind "
                f"{fault.kind!r}: {channel.words}"
            )
    if len({_place(fault) for fault in faults}) < len(faults):
        raise ValueError("give every packet one fate only")


def _play(exhibit: Exhibit, faults: tuple[Fault, ...]) -> tuple[Verdict, int]:
    channel = CHANNELS[exhibit.channel]
    makers = (exhibit.sender, exhibit.receiver)
    search = Search(makers, channel, 0, 0.0, PAR_BUDGET)
    with watching(search.pulse):
        for application in APPLICATIONS:
            calm = search.run(Trial(application))
            search.calm[application] = calm
            run = search.run(Trial(application, faults=faults))
            if run.failure is not None:
                return _broken(search, run), len(run.hits)
        return _harmless(search, faults), len(faults)


def _broken(search: Search, run: Run) -> Verdict:
    assert run.failure is not None
    if run.failure.kind == "breach":
        machine = run.machines[min(run.failure.way, len(run.machines) - 1)]
        run.failure = breaches.explained(run.failure, machine)
    traces, pair = _recorded(search, run.trial), max(run.failure.way, 0) // 2
    sentence = Story(run, traces[pair], pair).tell()
    trace = cut(traces[pair], last=run.failure.promise == "prefix")
    kind, promise = run.failure.kind, run.failure.promise
    name = search.channel.name
    return Verdict(kind, name, sentence, promise, tuple(run.hits), trace)


def _harmless(search: Search, faults: tuple[Fault, ...]) -> Verdict:
    trial = Trial(_SHOWN.application, faults=faults)
    run = search.run(trial)
    packets = {fault: run.packets(fault.way)[fault.number] for fault in run.hits}
    said = "; ".join(fault.words(packet) for fault, packet in packets.items())
    missed = len(faults) - len(run.hits)
    if missed:
        said += f" ({missed} of your faults met no packet)"
    said = capital(said.strip()) or "Nothing was done to any packet"
    sentence = f"{said}. Everything was delivered all the same."
    trace = cut(_recorded(search, trial)[0], last=False)
    return Verdict("survived", search.channel.name, sentence, trace=trace)


def _recorded(search: Search, trial: Trial) -> list[Trace]:
    about: dict[str, Any] = {"link": search.channel.words}
    traces = [Trace({**about}) for _ in range(trial.application.pairs)]
    World(trial, search.makers, traces).run()
    return traces
