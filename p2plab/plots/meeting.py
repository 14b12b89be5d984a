"""How two peers met: three lifelines, time downwards, a row for each thing seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
MOST_ROWS: Final = 48
_LONGEST: Final = 26  # characters of a label
_CAUSES: Final = {ASKED: INTRODUCE, MET: ACCEPT, REFUSED: REFUSE}
_LOOKS: Final[dict[str, Style]] = {
    "HTTP": style.PLAIN_LINE,
    "probe": style.DATA_LINE,
    "answer": style.ACK_LINE,
    "lost": style.LOSS_LINE,
    "fate unknown": {**style.PLAIN_LINE, "linestyle": ":"},
}
_COLOURS: Final = {
    **dict.fromkeys((PROBE, HEAR), style.DATA_COLOUR),
    **dict.fromkeys((ANSWER, CONFIRM, CHOOSE), style.ACK_COLOUR),
    FAIL: style.LOSS_COLOUR,
}
_Way = tuple[int | None, int | None, str]  # from a row to a row, and what


class _Meeting:
    """What is drawn of a meeting, and who took part: caller, rendezvous, callee.

    rows: the events that are shown, by their number; arrows: what went between them.
    """

    def __init__(self, seen: Sequence[Seen]) -> None:
        self.caller, self.callee = _parties(seen)
        self.parties = (self.caller, None, self.callee)
        known = [each for each in seen if each.who in self.parties]
        probes = [(each.who, each.probe) for each in known if each.what == PROBE]
        self.numbers = {each: at for at, each in enumerate(dict.fromkeys(probes))}
        asking = [each.at for each in seen if each.what in (INTRODUCE, ASKED)]
        self.start = min(asking or [each.at for each in seen] or [0.0])
        probing = [row for row, each in enumerate(known) if each.what in PROBING]
        left_out = {*probing[max(0, MOST_ROWS - len(known) + len(probing)) :]}
        self.left_out = len(left_out)
        self.rows = {at: e for at, e in enumerate(known) if at not in left_out}
        self.y = {row: y for y, row in enumerate(self.rows, 1)}
        arrows = [*self._exchanges(known), *self._probes(known)]
        self.arrows = [each for each in arrows if not left_out & {*each[:2]}]

    def place(self, who: str | None) -> int:
        return self.parties.index(who)

    def other(self, who: str | None) -> str:
        return self.callee if who == self.caller else self.caller

    def number(self, each: Seen) -> int | str:
        """Which probe it is about, counted from 0; nobody may have seen it sent."""
        asker = each.who if each.what in (PROBE, CONFIRM) else self.other(each.who)
        return self.numbers.get((asker, each.probe), "?")

    def _exchanges(self, known: Sequence[Seen]) -> Iterable[_Way]:
        """What went to the rendezvous, and what came from there."""
        peers = [(row, e) for row, e in enumerate(known) if e.who is not None]
        begun = set()
        for middle, each in enumerate(known):
            if each.who is not None or each.what not in _CAUSES:
                continue
            for row, other in peers:
                if other.what == _CAUSES[each.what] and row not in begun:
                    begun.add(row)
                    yield row, middle, "HTTP"
                elif other.what == each.what:
                    yield middle, row, "HTTP"
        for row, other in peers:
            if row not in begun and other.what in (REGISTER, INTRODUCE):
                yield row, None, "HTTP"

    def _probes(self, known: Sequence[Seen]) -> Iterable[_Way]:
        """The probes and the answers, each paired with its arrival."""
        told = {each.who for each in known if each.what == MET}
        told -= {each.who for each in known if each.what == MORE}  # not of all
        for went, came, what in ((PROBE, HEAR, "probe"), (ANSWER, CONFIRM, "answer")):
            arrived: dict[tuple[str | None, str], list[int]] = {}
            for row, each in enumerate(known):
                if each.what == came:
                    key = self.other(each.who), each.probe
                    arrived.setdefault(key, []).append(row)
            for row, each in enumerate(known):
                if each.what != went:
                    continue
                if ends := arrived.get((each.who, each.probe)):
                    yield row, ends.pop(0), what
                else:
                    lost = self.other(each.who) in told
                    yield row, None, "lost" if lost else "fate unknown"
            for ends in arrived.values():
                yield from ((None, row, what) for row in ends)


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
    story = _Meeting(seen)
    height = len(story.rows)
    ax = given_or_new(ax, 10, 1.8 + 0.2 * height)
    rows: list[Arrow | Mark | Label] = []
    for start, end, what in story.arrows:
        arrow = _arrow(story, start, end, what)
        if what == "lost":
            rows.append(Mark(arrow.end, what, style.LOSS_MARK))
        rows.append(arrow)
    for row, each in story.rows.items():
        place, y = story.place(each.who), story.y[row]
        if each.what == CHOOSE:
            rows.append(Mark((place, y), "path chosen", style.CHOSEN_MARK))
        colour = _COLOURS.get(each.what, style.PLAIN_COLOUR)
        bold = each.what in (CHOOSE, FAIL)
        rows.append(Label(place, y, y, _words(story, each), colour, bold=bold))
    names = f"{story.caller} (caller)", RENDEZVOUS, f"{story.callee} (callee)"
    note = f"{story.left_out} probes are left out." if story.left_out else ""
    lay_out(ax, names, rows, 0.0, max(1.0, height), note, line=1.0)
    times = [f"{1e3 * (each.at - story.start):,.1f}" for each in story.rows.values()]
    ax.set_yticks([*story.y.values()], times, fontsize=FONT)
    ax.set_ylabel("time since the introduction [ms], not to scale")
    return say(ax, _sentence(story))


def meeting_table(seen: Sequence[Seen]) -> Html:
    """Return an HTML table of the same: when, who, what; times as in the figure."""
    story, body = _Meeting(seen), []
    for each in seen:
        note = f"{each.where}, probe {story.number(each)}" if each.probe else each.note
        moment = f"{1e3 * (each.at - story.start):,.2f}"
        body.append((moment, each.who or RENDEZVOUS, each.what, note))
    return html_table(("time [ms]", "who", "what", "note"), body)


def _arrow(story: _Meeting, start: int | None, end: int | None, what: str) -> Arrow:
    """What went from one row to another; None: nobody saw that end of it."""
    (x, y), tip = (
        (0, 0) if row is None else (story.place(story.rows[row].who), story.y[row])
        for row in (start, end)
    )
    look = _LOOKS[what]
    if end is not None and start is not None:
        # Clocks are not so exact that it could not seem to go back.
        return Arrow((x, y), (tip[0], max(tip[1], y)), what, look)
    if end is not None:
        return Arrow((0.6 + 0.4 * tip[0], tip[1] - 0.3), tip, what, look)
    if what == "HTTP":
        return Arrow((x, y), (story.place(None), y + 0.6), what, look)
    return Arrow((x, y), (0.7 + 0.3 * x, y + 0.35), what, look, arrives=False)


def _words(story: _Meeting, each: Seen) -> str:
    """What is written of one thing."""
    where, probe = _short(each.where), story.number(each)
    told = {
        PROBE: f"probe {probe} to {where}",
        HEAR: f"probe {probe} arrives",
        ANSWER: f"answers {probe}",
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


def _sentence(story: _Meeting) -> str:
    if not story.rows:
        return "The ladder of a meeting: nothing was seen."
    events = [*story.rows.values()]
    probes = sum(each.what == PROBE for each in events)
    lost = sum(what == "lost" for _, _, what in story.arrows)
    took = 1e3 * (events[-1].at - story.start)
    paths = [f"{e.who} chose {e.note}" for e in events if e.what == CHOOSE]
    paths += [f"{e.who} found no path" for e in events if e.what == FAIL]
    return (
        f"The ladder of a meeting of {story.caller} and {story.callee}, introduced by "
        f"the rendezvous: {took:.1f} ms, {probes} probes, {lost} lost. "
        f"{', '.join(paths) or 'No path yet'}."
    )
