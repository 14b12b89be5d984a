"""The verdict: one sentence, the smallest failing run, and what was tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from p2plab.checker.network import CHANNELS, Fault
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE
from p2plab.core.packet import Kind
from p2plab.core.trace import DELIVER, OTHER, RETRANSMIT, SEND, TIMEOUT, Row, Trace

ARROWS: Final = 25  # that a ladder shows
NOT_PROMISED: Final = "Not promised: "
UNJUDGED: Final = "unjudged"  # an autopsy's kind, if it failed for something else
ROUNDS: Final = 3  # that it shows of what goes on for ever
LONGEST: Final = 60  # rows of one round


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check.

    kind: survived, broken, or breach (of the machine's own promises).
    channel: the class of networks, see network.CHANNELS.
    promise: the short name of what was broken, see promises; None if nothing was.
    sentence: what was lost, what the protocol did, which promise that broke.
    faults, trace: the smallest failing run; `trace` is cut after about 25 packets.
    tried: what exactly was tried, in words.
    promised: False if the protocol never promised to survive this channel.
    """

    kind: str
    channel: str
    sentence: str
    promise: str | None = None
    faults: tuple[Fault, ...] = ()
    trace: Trace = field(default_factory=Trace, repr=False)
    schedules: int = 0
    seconds: float = 0.0
    tried: str = ""
    promised: bool = True

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        if self.kind == UNJUDGED:
            return "not the protocol's fault"
        if self.kind == "broken" and not self.promised:
            return "not promised"
        return self.kind

    def ladder(self) -> list[dict[str, Any]]:
        """Return the smallest failing run as events that JSON can carry."""
        return [event(row) for row in self.trace.rows]

    def to_json(self) -> dict[str, Any]:
        """Return what `p2plab check --json` prints."""
        return {
            "verdict": self.kind,
            "channel": self.channel,
            "faults": None if self.kind == "survived" else len(self.faults),
            "promise": self.promise,
            "sentence": self.sentence,
            "ladder": self.ladder(),
            "schedules": self.schedules,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        network = f"The network ({self.channel}): {CHANNELS[self.channel].words}."
        lines = [headline(self.title, self.sentence), network]
        if self.kind != "survived" and self.schedules:
            lines.append(f"Tried: {self.tried}.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from p2plab.checker.drawing import page

        return page(self)


def headline(title: str, sentence: str) -> str:
    """Begin with the verdict, unless the sentence does: it is no bug then."""
    return sentence if sentence.startswith(NOT_PROMISED) else f"{title}: {sentence}"


def event(row: Row) -> dict[str, Any]:
    """Return a row of a trace as JSON can carry it."""
    time, host, what, kind, seq, size, number = row
    said = {"time": round(time, 6), "host": host, "what": what}
    if what == DELIVER:
        return {**said, "payload": seq, "size": size}
    if what == TIMEOUT:
        return said
    name = Kind(kind).name
    return {**said, "kind": name, "seq": seq, "size": size, "number": number}


def cut(trace: Trace, last: bool, arrows: int = ARROWS) -> Trace:
    """Return the first, or `last`, so many packets of a trace, and what became of them.

    Of what repeats itself at the end only three rounds are kept. A trace that was cut
    says so in `about`.
    """
    trace = trace if last else rounds(trace)
    sends = [row for row in trace.rows if row[2] in (SEND, RETRANSMIT)]
    if len(sends) <= arrows:
        return trace
    some = sends[-arrows:] if last else sends[:arrows]
    kept = {(row[1], row[6]) for row in some}
    begin, end = (some[0][0], inf) if last else (0.0, some[-1][0])
    rows = [row for row in trace.rows if _belongs(row, kept, begin, end)]
    states = [state for state in trace.states if begin <= state[0] <= end]
    part = "last" if last else "first"
    words = f"the {part} {arrows} of {len(sends)} packets are shown"
    about = {**trace.about, "cut": words}
    return Trace(about, trace.names, rows, states)


def rounds(trace: Trace) -> Trace:
    """Return a trace without what is only repeated at its end."""
    rows = trace.rows
    seen = [row[1:6] for row in rows]
    for size in range(1, min(LONGEST, len(rows) // 4) + 1):
        same = 0  # rows at the end that are as those one round before
        while same < len(seen) - size and seen[-1 - same] == seen[-1 - same - size]:
            same += 1
        more = same // size + 1 - ROUNDS
        if more >= ROUNDS:
            kept = rows[: len(rows) - more * size]
            states = [state for state in trace.states if state[0] <= kept[-1][0]]
            about = {**trace.about, "cut": f"… and so on, {more} times more"}
            return Trace(about, trace.names, kept, states)
    return trace


def _belongs(row: Row, kept: set[tuple[str, int]], begin: float, end: float) -> bool:
    time, host, what, _, _, _, number = row
    if what in (DELIVER, TIMEOUT):
        return begin <= time <= end
    if what in (ARRIVE, DUPLICATE, CORRUPT):  # at the other host
        host = OTHER[host]
    return (host, number) in kept
