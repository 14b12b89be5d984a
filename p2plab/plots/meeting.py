"""How two peers met: three lifelines, time downwards, a row for each thing seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10
from typing import Final

from matplotlib.axes import Axes

from p2plab.core.meeting import (
    ACCEPT,
    ANSWER,
    ASKED,
    CHOOSE,
    CONFIRM,
    FAIL,
    HEAR,
    INTRODUCE,
    MET,
    MORE,
    PROBE,
    PROBING,
    REFUSE,
    REFUSED,
    REGISTER,
    Seen,
)
from p2plab.plots import style
from p2plab.plots.ladder import FONT, Arrow, Label, Mark, lay_out
from p2plab.plots.style import Html, Style, given_or_new, html_table, say

RENDEZVOUS: Final = "rendezvous"
MOST_ROWS: Final = 36
_LONGEST: Final = 26  # characters of a label
_TOGETHER: Final = ((HEAR, ANSWER), (CONFIRM, CHOOSE))  # in one moment, and one row
_CAUSES: Final = {ASKED: INTRODUCE, MET: ACCEPT, REFUSED: REFUSE}
_LOOKS: Final[dict[str, Style]] = {
    "HTTP": style.PLAIN_LINE,
    "probe": style.DATA_LINE,
    "answer": style.ACK_LINE,
    "lost": style.LOSS_LINE,
    "fate unknown": {**style.PLAIN_LINE, "linestyle": ":"},
}


@dataclass(eq=False, slots=True)
class _Row:
    """One line of the figure. y: where it is drawn, in lines of text."""

    events: list[Seen]
    y: float = 0.0

    @property
    def at(self) -> float:
        return self.events[0].at

    @property
    def who(self) -> str | None:
        return self.events[0].who

    def of(self, *whats: str) -> list[Seen]:
        return [each for each in self.events if each.what in whats]


class _Story:
    """What is drawn of a meeting, and who took part: caller, rendezvous, callee."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self.caller, self.callee = _parties(seen)
        self.parties = (self.caller, None, self.callee)
        known = [each for each in seen if each.who in self.parties]
        probes = [(each.who, each.probe) for each in known if each.what == PROBE]
        self.numbers = {each: at for at, each in enumerate(dict.fromkeys(probes))}
        asking = [each.at for each in seen if each.what in (INTRODUCE, ASKED)]
        self.start = min(asking or [each.at for each in seen] or [0.0])
        self.rows: list[_Row] = []
        for each in known:
            last = self.rows[-1].events[-1] if self.rows else None
            pair = last is not None and (last.what, each.what) in _TOGETHER
            if last is not None and pair and (last.at, last.who) == (each.at, each.who):
                self.rows[-1].events.append(each)
            else:
                self.rows.append(_Row([each]))
        arrows = [*self._exchanges(), *self._probes()]
        probing = [row for row in self.rows if row.events[0].what in PROBING]
        left_out = probing[max(0, MOST_ROWS - len(self.rows) + len(probing)) :]
        self.rows = [row for row in self.rows if row not in left_out]
        self.left_out = len(left_out)
        self.arrows = [each for each in arrows if not {*each[:2]} & {*left_out}]
        self.height = 1.0 if self.rows else 0.0
        for row in self.rows[:1]:
            row.y = self.height
        for before, row in pairwise(self.rows):  # farther below after a long wait
            self.height += 1.0 + 0.4 * log10(1 + 1e3 * max(0.0, row.at - before.at))
            row.y = self.height

    def place(self, who: str | None) -> int:
        return self.parties.index(who)

    def other(self, who: str | None) -> str:
        return self.callee if who == self.caller else self.caller

    def number(self, each: Seen) -> int | str:
        """Which probe it is about, counted from 0; nobody may have seen it sent."""
        asker = each.who if each.what in (PROBE, CONFIRM) else self.other(each.who)
        return self.numbers.get((asker, each.probe), "?")

    def _exchanges(self) -> Iterable[tuple[_Row | None, _Row | None, str]]:
        """What went to the rendezvous, and what came from there: row, row, and what."""
        begun = []
        for row in self.rows:
            cause = _CAUSES.get(row.events[0].what)
            if row.who is not None or cause is None:
                continue
            for other in self.rows:
                if other.of(cause) and other not in begun:
                    begun.append(other)
                    yield other, row, "HTTP"
                elif other.who is not None and other.of(row.events[0].what):
                    yield row, other, "HTTP"
        for row in self.rows:
            if row not in begun and row.of(REGISTER, INTRODUCE):
                yield row, None, "HTTP"

    def _probes(self) -> Iterable[tuple[_Row | None, _Row | None, str]]:
        """The probes and the answers, each paired with its arrival."""
        told = {row.who for row in self.rows if row.of(MET)}
        told -= {row.who for row in self.rows if row.of(MORE)}  # not of all
        for went, came, what in ((PROBE, HEAR, "probe"), (ANSWER, CONFIRM, "answer")):
            arrived: dict[tuple[str | None, str], list[_Row]] = {}
            for row in self.rows:
                for each in row.of(came):
                    key = self.other(row.who), each.probe
                    arrived.setdefault(key, []).append(row)
            for row in self.rows:
                for each in row.of(went):
                    if ends := arrived.get((row.who, each.probe)):
                        yield row, ends.pop(0), what
                    else:
                        lost = self.other(row.who) in told
                        yield row, None, "lost" if lost else "fate unknown"
            for row in (row for ends in arrived.values() for row in ends):
                yield None, row, what


def _parties(seen: Iterable[Seen]) -> tuple[str, str]:
    """The names of the caller and the callee, as far as they can be told."""
    caller, callee = "", ""
    for each in seen:
        if each.what == INTRODUCE:
            caller, callee = each.who or "", each.note
            break
        if each.what == ASKED and each.who is not None:
            caller, callee = each.note, each.who
    return caller or "caller", callee or "callee"


def meeting(seen: Sequence[Seen], ax: Axes | None = None) -> Axes:
    """Draw what two peers and the rendezvous saw of a meeting (see `Meeting.seen`).

    Time runs downwards, but not to scale, since a meeting has waits of seconds and
    probes of microseconds: each row has its own time, counted from the introduction.
    """
    story = _Story(seen)
    ax = given_or_new(ax, 10, 1.8 + 0.2 * story.height)
    rows: list[Arrow | Mark | Label] = []
    for start, end, what in story.arrows:
        arrow = _arrow(story, start, end, what)
        if what == "lost":
            rows.append(Mark(arrow.end, what, style.LOSS_MARK))
        rows.append(arrow)
    for row in story.rows:
        chosen = row.of(CHOOSE)
        if chosen:
            point = story.place(row.who), row.y
            rows.append(Mark(point, "path chosen", style.CHOSEN_MARK))
        words = "; ".join(_words(story, each) for each in chosen or row.events)
        bold, place = bool(row.of(CHOOSE, FAIL)), story.place(row.who)
        rows.append(Label(place, row.y, row.y, words, _colour(row), bold=bold))
    names = f"{story.caller} (caller)", RENDEZVOUS, f"{story.callee} (callee)"
    note = f"{story.left_out} probes are left out." if story.left_out else ""
    lay_out(ax, names, rows, 0.0, max(1.0, story.height), note, line=1.0)
    times = [f"{1e3 * (row.at - story.start):,.1f}" for row in story.rows]
    ax.set_yticks([row.y for row in story.rows], times, fontsize=FONT)
    ax.set_ylabel("time since the introduction [ms], not to scale")
    return say(ax, _sentence(story))


def meeting_table(seen: Sequence[Seen]) -> Html:
    """Return an HTML table of the same: when, who, what; times as in the figure."""
    story, body = _Story(seen), []
    for each in seen:
        note = f"{each.where}, probe {story.number(each)}" if each.probe else each.note
        moment = f"{1e3 * (each.at - story.start):,.2f}"
        body.append((moment, each.who or RENDEZVOUS, each.what, note))
    return html_table(("time [ms]", "who", "what", "note"), body)


def _arrow(story: _Story, start: _Row | None, end: _Row | None, what: str) -> Arrow:
    """What went from one row to another; None: nobody saw that end of it."""
    look = _LOOKS[what]
    if start is None:
        assert end is not None
        tip, other = story.place(end.who), story.place(story.other(end.who))
        tail = tip + 0.3 * (other - tip), end.y - 0.3
        return Arrow(tail, (tip, end.y), what, look)
    x, y = story.place(start.who), start.y
    if end is not None:  # clocks are not so exact that it could not seem to go back
        return Arrow((x, y), (story.place(end.who), max(end.y, y)), what, look)
    if what == "HTTP":
        return Arrow((x, y), (story.place(None), y + 0.6), what, look)
    far = x + 0.35 * (story.place(story.other(start.who)) - x)
    return Arrow((x, y), (far, y + 0.35), what, look, arrives=False)


def _colour(row: _Row) -> str:
    if row.of(FAIL):
        return style.LOSS_COLOUR
    if row.of(CHOOSE, CONFIRM):
        return style.ACK_COLOUR
    return style.DATA_COLOUR if row.of(PROBE, HEAR) else style.PLAIN_COLOUR


def _words(story: _Story, each: Seen) -> str:
    """What is written of one thing."""
    where, probe = _short(each.where), story.number(each)
    told = {
        PROBE: f"probe {probe} to {where}",
        HEAR: f"probe {probe} arrives",
        ANSWER: "is answered",
        CONFIRM: f"answer to {probe}",
        CHOOSE: f"path: {where}",
        FAIL: "no path",
    }
    if each.who is not None:
        told[ASKED] = f"asked by {where}"
    return told.get(each.what) or _short(f"{each.what} {each.note}".strip())


def _short(words: str) -> str:
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    if len(words) <= _LONGEST:
        return words
    return f"{words[: _LONGEST // 2]}…{words[1 - _LONGEST // 2 :]}"  # with its port


def _sentence(story: _Story) -> str:
    if not story.rows:
        return "The ladder of a meeting: nothing was seen."
    events = [each for row in story.rows for each in row.events]
    probes = sum(each.what == PROBE for each in events)
    lost = sum(what == "lost" for _, _, what in story.arrows)
    took = 1e3 * (story.rows[-1].at - story.start)
    paths = [f"{e.who} chose {e.note}" for e in events if e.what == CHOOSE]
    paths += [f"{e.who} found no path" for e in events if e.what == FAIL]
    return (
        f"The ladder of a meeting of {story.caller} and {story.callee}, introduced by "
        f"the rendezvous: {took:.1f} ms, {probes} probes, {lost} lost. "
        f"{', '.join(paths) or 'No path yet'}."
    )
