"""How two peers met: three lifelines, time downwards, a row for each thing seen."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes

from p2plab.core.meeting import CHOOSE, CONFIRM, FAIL, HEAR, PROBE, Seen
from p2plab.plots import style
from p2plab.plots.lifelines import Arrow, Row, Story, start_of, story_of
from p2plab.plots.style import Html, Style, given_or_new, ink, say, write_nothing

RENDEZVOUS: Final = "rendezvous"
_FONT: Final = 8  # [points]
_LONGEST: Final = 26  # characters of a label


def meeting(seen: Sequence[Seen], ax: Axes | None = None) -> Axes:
    """Draw what two peers and the rendezvous saw of a meeting (see `Meeting.seen`).

    Time runs downwards, but not to scale, since a meeting has waits of seconds and
    probes of microseconds: each row has its own time, counted from the introduction.
    """
    story = story_of(seen)
    ax = given_or_new(ax, 10, 1.8 + 0.2 * story.height)
    used: dict[str, Style] = {}
    for arrow in story.arrows:
        used.setdefault(arrow.what, arrow.look)
        _draw(ax, story, arrow)
    for row in story.rows:
        _write(ax, story, row, used)
    _frame(ax, story, used)
    return say(ax, _sentence(story))


def meeting_table(seen: Sequence[Seen]) -> Html:
    """Return an HTML table of the same: when, who, what; times as in the figure."""
    start, story = start_of(seen), story_of(seen)
    body = []
    for each in seen:
        moment = f"{1e3 * (each.at - start):,.2f}"
        where, numbered, _ = each.note.partition(" #")
        note = f"{where}, probe {_number(story, each)}" if numbered else each.note
        cells = (moment, each.who or RENDEZVOUS, each.what, note)
        body.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    head = "".join(
        f'<th scope="col">{each}</th>' for each in ("time [ms]", "who", "what", "note")
    )
    rows = "".join(f"<tr>{cells}</tr>" for cells in body)
    return Html(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _draw(ax: Axes, story: Story, arrow: Arrow) -> None:
    start, end = arrow.start, arrow.end
    if start is None:  # only its arrival was seen
        assert end is not None
        tip = story.place(end.who), end.y
        x = tip[0] + 0.3 * (story.place(story.other(end.who)) - tip[0])
        tail = x, end.y - 0.3
    else:
        tail = story.place(start.who), start.y
        if end is None and arrow.towards is None:
            tip = story.place(None), start.y + 0.6
        elif end is None:
            x = tail[0] + 0.35 * (story.place(arrow.towards) - tail[0])
            tip = x, start.y + 0.35
        else:  # clocks are not so exact that it could not seem to go back in time
            tip = story.place(end.who), max(end.y, start.y)
    tips = "-" if arrow.towards else "-|>"
    style.arrow(ax, tail, tip, tips, arrow.what, arrow.look, 1.2)
    if arrow.what == "lost":
        ax.plot(*tip, zorder=3, **style.LOSS_MARK)


def _write(ax: Axes, story: Story, row: Row, used: dict[str, Style]) -> None:
    """Write beside a lifeline what a row says, and mark what was chosen."""
    x = story.place(row.who)
    if row.of(CHOOSE):
        used["path chosen"] = style.CHOSEN_MARK
        ax.plot(x, row.y, zorder=4, **style.CHOSEN_MARK)
    told = row.of(CHOOSE) or row.events
    words = "; ".join(_words(story, each) for each in told)
    where: Style = {"ha": "right" if x == 0 else "left", "va": "center"}
    where["x"], where["y"] = (x - 0.06 if x == 0 else x + 0.06), row.y
    colour = _colour(row)
    if row.who is None:
        where = {"x": x, "y": row.y - 0.3, "ha": "center", "va": "bottom"}
        where["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    bold = "bold" if row.of(CHOOSE) or row.of(FAIL) else "normal"
    ax.text(
        s=words,
        color=ink(colour),
        fontsize=_FONT,
        fontweight=bold,
        parse_math=False,
        zorder=5,
        in_layout=False,
        **where,
    )


def _colour(row: Row) -> str:
    if row.of(FAIL):
        return style.LOSS_COLOUR
    if row.of(CHOOSE) or row.of(CONFIRM):
        return style.ACK_COLOUR
    return style.DATA_COLOUR if row.of(PROBE) or row.of(HEAR) else style.PLAIN_COLOUR


def _words(story: Story, each: Seen) -> str:
    """What is written of one thing."""
    where = _short(each.note.partition(" #")[0])
    probe = _number(story, each)
    match each.what:
        case "probe":
            return f"probe {probe} to {where}"
        case "hear":
            return f"probe {probe} arrives"
        case "answer":
            return "is answered"
        case "confirm":
            return f"answer to {probe}"
        case "choose":
            return f"path: {where}"
        case "asked" if each.who is not None:
            return f"asked by {where}"
        case "fail":
            return "no path"
        case _:
            return _short(f"{each.what} {each.note}".strip())


def _number(story: Story, each: Seen) -> int | str:
    """The number of the probe that this is about, from 0; nobody may have seen it."""
    asker = each.who if each.what in (PROBE, CONFIRM) else story.other(each.who)
    return story.numbers.get((asker, each.probe), "?")


def _short(words: str) -> str:
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    if len(words) <= _LONGEST:
        return words
    return f"{words[: _LONGEST // 2]}…{words[1 - _LONGEST // 2 :]}"  # with its port


def _frame(ax: Axes, story: Story, used: dict[str, Style]) -> None:
    caller, _, callee = story.parties
    names = f"{caller} (caller)", RENDEZVOUS, f"{callee} (callee)"
    style.lifelines(ax, names, used, -0.02)
    ax.set_xlim(-1.3, 3.3)
    ax.set_ylim(story.height + 1, 0)  # time runs downwards
    start = start_of([each for row in story.rows for each in row.events])
    times = [f"{1e3 * (row.at - start):,.1f}" for row in story.rows]
    ax.set_yticks([row.y for row in story.rows], times, fontsize=_FONT)
    ax.set_ylabel("time since the introduction [ms], not to scale")
    if not story.rows:
        write_nothing(ax)
    if story.left_out:
        ax.set_xlabel(f"{story.left_out} probes are left out.", fontsize="small")


def _sentence(story: Story) -> str:
    if not story.rows:
        return "The ladder of a meeting: nothing was seen."
    caller, _, callee = story.parties
    events = [each for row in story.rows for each in row.events]
    probes = sum(each.what == PROBE for each in events)
    lost = sum(arrow.what == "lost" for arrow in story.arrows)
    took = 1e3 * (story.rows[-1].at - start_of(events))
    paths = [f"{e.who} chose {e.note}" for e in events if e.what == CHOOSE]
    paths += [f"{e.who} found no path" for e in events if e.what == FAIL]
    return (
        f"The ladder of a meeting of {caller} and {callee}, introduced by the "
        f"rendezvous: {took:.1f} ms, {probes} probes, {lost} lost. "
        f"{', '.join(paths) or 'No path yet'}."
    )
