"""The verdict: one sentence, the smallest failing run, and what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import inf
from typing import Any, Final

from p2plab.checker.run import CHANNELS, Fault, Makers, Promise, VerdictKind, event
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS
from p2plab.core.packet import Kind
from p2plab.core.trace import (
    DELIVER,
    OTHER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    Trace,
)
from p2plab.core.validation import on_one_line

ARROWS: Final = 25  # that a ladder shows
ROUNDS: Final = 3  # that it shows of what goes on for ever
LONGEST: Final = 60  # rows of one round
SENDS: Final = (SEND, RETRANSMIT)
ARRIVALS: Final = (ARRIVE, DUPLICATE, CORRUPT)

_COLOURS: Final = {
    VerdictKind.SURVIVED: "#1a7f37",
    VerdictKind.BROKEN: "#b35900",
    VerdictKind.BREACH: "#b3261e",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check.

    kind: survived, broken, or breach (of the machine's own promises).
    channel: the class of networks, see faults.CHANNELS.
    promise: what was broken; None if nothing was.
    sentence: what was lost, what the protocol did, which promise that broke; on one
        line, without anything that steers a terminal.
    faults, trace: the smallest failing run; `trace` is cut after about 25 packets.
    tried: what exactly was tried, in words.
    promised: False if the protocol never promised to survive this channel.
    makers: what builds its two machines, where the run can be made anew.
    """

    kind: VerdictKind
    channel: str
    sentence: str
    promise: Promise | None = None
    faults: tuple[Fault, ...] = ()
    trace: Trace = field(default_factory=Trace, repr=False)
    schedules: int = 0
    seconds: float = 0.0
    tried: str = ""
    promised: bool = True
    makers: Makers | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", on_one_line(self.sentence))

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        if self.kind == VerdictKind.UNJUDGED:
            return "not the protocol's fault"
        if self.kind == VerdictKind.BROKEN and not self.promised:
            return "not promised"
        return self.kind

    def to_json(self) -> dict[str, Any]:
        """Return what `p2plab check --json` prints."""
        return {
            "verdict": self.kind,
            "channel": self.channel,
            "faults": None if self.kind == VerdictKind.SURVIVED else len(self.faults),
            "promise": self.promise,
            "sentence": self.sentence,
            "ladder": [event(row) for row in self.trace.rows],
            "schedules": self.schedules,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        network = f"The network ({self.channel}): {CHANNELS[self.channel].words}."
        lines = [f"{self.title}: {self.sentence}", network]
        if self.kind != VerdictKind.SURVIVED and self.schedules:
            lines.append(f"Tried: {self.tried}.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [
            headline(self, self.sentence),
            f"<p>The network ({self.channel}): {escape(CHANNELS[self.channel].words)}. "
            f"{self.schedules} schedules in {self.seconds:.2f} s.</p>",
        ]
        if self.trace.rows:
            parts.append(ladder(self.trace, self.sentence))
        return "\n".join(parts)


def headline(verdict: Verdict, words: str) -> str:
    """Return the verdict in its colour, and the words, as HTML."""
    colour = _COLOURS.get(verdict.kind, "inherit")
    return (
        f'<p><b style="color:{colour}">{escape(verdict.title)}</b> {escape(words)}</p>'
    )


# What of a trace is shown


def cut(trace: Trace, last: bool, arrows: int = ARROWS) -> Trace:
    """Return the first, or `last`, so many packets of a trace, and what became of them.

    Of what repeats itself at the end only three rounds are kept. A trace that was cut
    says so in `about`.
    """
    trace = trace if last else rounds(trace)
    sends = [row for row in trace.rows if row.what in SENDS]
    if len(sends) <= arrows:
        return trace
    some = sends[-arrows:] if last else sends[:arrows]
    kept = {(row.host, row.number) for row in some}
    begin, end = (some[0].time, inf) if last else (0.0, some[-1].time)
    rows = [
        row
        for row in trace.rows
        if (row.what in (DELIVER, TIMEOUT) and begin <= row.time <= end)
        or (_sender(row), row.number) in kept
    ]
    part = "last" if last else "first"
    words = f"the {part} {arrows} of {len(sends)} packets are shown"
    return Trace({**trace.about, "cut": words}, trace.names, rows)


def _sender(row: Row) -> str:
    """Return the host that sent a row's packet."""
    return OTHER[row.host] if row.what in ARRIVALS else row.host


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
            about = {**trace.about, "cut": f"… and so on, {more} times more"}
            return Trace(about, trace.names, kept)
    return trace


def overtaken(rows: Sequence[Row]) -> set[int]:
    """Return the places of the arrivals that come after a later packet's."""
    last: dict[str, int] = {}
    late = set()
    for index, row in enumerate(rows):
        if row.what in ARRIVALS:
            if row.number < last.get(row.host, -1):
                late.add(index)
            last[row.host] = max(last.get(row.host, -1), row.number)
    return late


# The ladder, as SVG: one event to a line, so that time is not to scale

_LEFT, _RIGHT, _WIDTH = 190, 430, 620  # of the two lifelines, and of all [px]
_STEP: Final = 16  # between two events [px]
_UNDER_WAY: Final = 0.15  # so much of an arrow that has no end yet is drawn


def ladder(trace: Trace, words: str = "") -> str:
    """Return a ladder as SVG.

    The trace's `about` may have `delivered`, words for each payload that was, and
    `wrong`, what was wrong with the last event.
    """
    rows = [row for row in trace.rows if row.what != LOSS]
    lost = {(row.host, row.number) for row in trace.rows if row.what == LOSS}
    arrived = {(_sender(row), row.number) for row in rows if row.what in ARRIVALS}
    late = overtaken(rows)
    begins: dict[tuple[str, int], int] = {}  # where arrows begin
    parts = []
    y = _STEP
    for index, row in enumerate(rows):
        y += _STEP
        here = _LEFT if row.host == SENDER else _RIGHT
        there = _LEFT + _RIGHT - here
        packet, note = (row.host, row.number), f"{row.time:.3g} s"
        name = Kind(row.kind).name if row.kind else ""
        if row.what in SENDS:
            begins[packet] = y
            again = " again" if row.what == RETRANSMIT else ""
            parts.append(_beside(here, y, f"{name} {row.seq}{again}, {note}"))
            if packet in lost:
                middle = (here + there) / 2
                parts += [_line(here, y, middle, y + 6), _text(middle, y + 10, "✗")]
            elif packet not in arrived:
                parts.append(_line(here, y, here + (there - here) * _UNDER_WAY, y))
        elif row.what in ARRIVALS:
            begin = begins.get((OTHER[row.host], row.number), y - _STEP)
            parts.append(_line(there, begin, here, y, "url(#head)"))
            if row.what == CORRUPT:
                parts.append(_beside(here, y, "✗ damaged"))
            elif index in late:
                parts.append(_beside(here, y, f"{name} {row.seq} late, {note}"))
        elif row.what == TIMEOUT:
            parts.append(_beside(here, y, f"timeout, {note}"))
        else:
            said = dict(enumerate(trace.about.get("delivered", ())))
            what = said.get(row.seq, f"payload {row.seq}")
            parts.append(_beside(here, y, f"delivers {what}"))
    if (wrong := trace.about.get("wrong")) and rows:
        y += _STEP
        parts.append(_beside(here, y, f"✗ {wrong}", _COLOURS[VerdictKind.BREACH]))
    for x, host in ((_LEFT, "sender"), (_RIGHT, "receiver")):
        parts += [_text(x, 12, host), _line(x, 18, x, y + _STEP)]
    if cut_away := trace.about.get("cut"):
        parts.append(_text(_WIDTH / 2, y + 2 * _STEP, f"({cut_away})"))
    height = y + 2 * _STEP + 4
    return (
        f'<svg role="img" aria-label="{escape(words)}" width="{_WIDTH}" '
        f'height="{height}" viewBox="0 0 {_WIDTH} {height}" fill="currentColor" '
        f'stroke="currentColor" font-size="11" font-family="sans-serif">'
        f'<marker id="head" markerWidth="8" markerHeight="6" refX="8" refY="3" '
        f'orient="auto"><path d="M0 0 L8 3 L0 6 Z"/></marker>{"".join(parts)}</svg>'
    )


def _line(x: float, y: float, to_x: float, to_y: float, marker: str = "none") -> str:
    return (
        f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" '
        f'marker-end="{marker}"/>'
    )


def _beside(x: float, y: float, words: str, colour: str = "currentColor") -> str:
    if x == _LEFT:
        return _text(x - 8, y + 4, words, "end", colour)
    return _text(x + 8, y + 4, words, "start", colour)


def _text(
    x: float,
    y: float,
    words: str,
    anchor: str = "middle",
    colour: str = "currentColor",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" stroke="none" '
        f'fill="{colour}">{escape(words)}</text>'
    )
