"""What was seen of a meeting, as rows and arrows between three lifelines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log10
from typing import Final

from p2plab.core.meeting import (
    ANSWER,
    CHOOSE,
    CONFIRM,
    HEAR,
    PROBE,
    PROBING,
    Seen,
)
from p2plab.plots import style
from p2plab.plots.style import Style

MOST_ROWS: Final = 36
ASKING: Final = ("introduce", "asked")

_HTTP: Final[tuple[str, Style]] = ("HTTP", style.PLAIN_LINE)
_PROBE: Final[tuple[str, Style]] = ("probe", style.DATA_LINE)
_ANSWER: Final[tuple[str, Style]] = ("answer", style.ACK_LINE)
_LOST: Final[tuple[str, Style]] = ("lost", style.LOSS_LINE)
_UNKNOWN: Final[tuple[str, Style]] = (
    "fate unknown",
    {**style.PLAIN_LINE, "linestyle": ":"},
)


@dataclass(eq=False, slots=True)
class Row:
    """One line of the figure. y: where it is drawn, in lines of text."""

    at: float
    who: str | None
    events: list[Seen]
    y: float = 0.0

    def of(self, what: str) -> list[Seen]:
        return [each for each in self.events if each.what == what]


@dataclass(frozen=True, slots=True)
class Arrow:
    """What went from one row to another; None: nobody saw that end of it."""

    start: Row | None
    end: Row | None
    what: str
    look: Style
    towards: str | None = None  # where it was to go, if it did not arrive


@dataclass(slots=True)
class Story:
    """What is drawn. parties: the caller, None for the rendezvous, the callee.

    numbers: of the probes, by who sent it and its mark.
    """

    rows: list[Row]
    parties: tuple[str, None, str]
    numbers: dict[tuple[str | None, str], int]
    left_out: int = 0
    height: float = 0.0  # in lines of text
    arrows: list[Arrow] = field(default_factory=list)

    def other(self, who: str | None) -> str:
        caller, _, callee = self.parties
        return callee if who == caller else caller

    def place(self, who: str | None) -> float:
        return float(self.parties.index(who))


def start_of(seen: Sequence[Seen]) -> float:
    """The moment from which the figure counts."""
    asking = [each.at for each in seen if each.what in ASKING]
    return min(asking or [each.at for each in seen] or [0.0])


def story_of(seen: Sequence[Seen]) -> Story:
    """Make rows, arrows and the probes' numbers of what was seen."""
    caller, callee = parties_of(seen)
    known = [each for each in seen if each.who in (caller, None, callee)]
    numbers: dict[tuple[str | None, str], int] = {}
    for each in known:
        if each.what == PROBE:
            numbers.setdefault((each.who, each.probe), len(numbers))
    rows: list[Row] = []
    for each in known:  # an answer follows its probe in the same moment
        if rows and follows(each, rows[-1].events[-1]):
            rows[-1].events.append(each)
        else:
            rows.append(Row(each.at, each.who, [each]))
    story = Story(rows, (caller, None, callee), numbers)
    story.arrows = [*exchanges(story), *probes_of(story)]
    probing = [row for row in rows if row.events[0].what in PROBING]
    left_out = probing[max(0, MOST_ROWS - len(rows) + len(probing)) :]
    story.rows = [row for row in rows if row not in left_out]
    ends = ((arrow, {arrow.start, arrow.end}) for arrow in story.arrows)
    story.arrows = [arrow for arrow, both in ends if not both & {*left_out}]
    story.left_out = len(left_out)
    story.height = place(story.rows)
    return story


def parties_of(seen: Iterable[Seen]) -> tuple[str, str]:
    """The names of the caller and the callee, as far as they can be told."""
    caller, callee = "", ""
    for each in seen:
        if each.what == "introduce":
            caller, callee = each.who or "", each.note
            break
        if each.what == "asked" and each.who is not None:
            caller, callee = each.note, each.who
    return caller or "caller", callee or "callee"


def follows(each: Seen, before: Seen) -> bool:
    """Whether the two are of one moment, and so one row."""
    pair = (before.what, each.what) in ((HEAR, ANSWER), (CONFIRM, CHOOSE))
    return pair and (before.at, before.who) == (each.at, each.who)


def place(rows: Sequence[Row]) -> float:
    """Put each row below the one before, after a long wait farther; the lowest y."""
    y = 0.0
    for before, row in zip([None, *rows], rows, strict=False):
        gap = 0.0 if before is None else max(0.0, row.at - before.at)
        y += 1.0 + 0.4 * log10(1 + 1e3 * gap)
        row.y = y
    return y


def exchanges(story: Story) -> list[Arrow]:
    """What went to the rendezvous, and what came from there."""
    caller, _, callee = story.parties
    wanted = (
        (caller, "introduce", None, "asked"),
        (None, "asked", callee, "asked"),
        (callee, "accept", None, "met"),
        (callee, "refuse", None, "refused"),
        (None, "met", caller, "met"),
        (None, "met", callee, "met"),
        (None, "refused", caller, "refused"),
    )
    arrows = []
    for who, went, whom, came in wanted:
        sent = [row for row in story.rows if row.who == who and row.of(went)]
        got = [row for row in story.rows if row.who == whom and row.of(came)]
        if sent and got:
            arrows.append(Arrow(sent[0], got[0], *_HTTP))
    for row in story.rows:
        begun = any(arrow.start is row for arrow in arrows)
        if not begun and (row.of("register") or row.of("introduce")):
            arrows.append(Arrow(row, None, *_HTTP))
    return arrows


def probes_of(story: Story) -> list[Arrow]:
    """The probes and the answers, each paired with its arrival."""
    arrows = []
    reporters = {row.who for row in story.rows if row.of("met")}
    reporters -= {row.who for row in story.rows if row.of("more")}
    for went, came, look in ((PROBE, HEAR, _PROBE), (ANSWER, CONFIRM, _ANSWER)):
        arrived: dict[tuple[str, str], list[Row]] = {}
        for row in story.rows:
            for each in row.of(came):
                key = story.other(row.who), each.probe
                arrived.setdefault(key, []).append(row)
        for row in story.rows:
            for each in row.of(went):
                ends = arrived.get((row.who or "", each.probe))
                other = story.other(row.who)
                if ends:
                    arrows.append(Arrow(row, ends.pop(0), *look))
                    continue
                fate = _LOST if other in reporters else _UNKNOWN
                arrows.append(Arrow(row, None, *fate, towards=other))
        rest = [row for ends in arrived.values() for row in ends]
        arrows += [Arrow(None, row, *look) for row in rest]
    return arrows
