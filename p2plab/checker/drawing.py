"""A verdict as a page for a notebook: its sentence, and the ladder as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from p2plab.checker.network import CHANNELS
from p2plab.checker.verdict import NOT_PROMISED
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS
from p2plab.core.packet import Kind
from p2plab.core.trace import (
    DELIVER,
    OTHER,
    RECEIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    Trace,
)

if TYPE_CHECKING:
    from p2plab.checker.verdict import Verdict

_SENDS: Final = (SEND, RETRANSMIT)
_ARRIVALS: Final = (ARRIVE, DUPLICATE, CORRUPT)
_LEFT, _RIGHT, _WIDTH = 190, 430, 620  # of the two lifelines, and of all [px]
_STEP: Final = 16  # between two events [px]
_WRONG: Final = "#b3261e"
_COLOURS: Final = {"survived": "#1a7f37", "broken": "#b35900", "breach": _WRONG}


def page(verdict: Verdict) -> str:
    """Return the HTML that a notebook shows."""
    network = CHANNELS[verdict.channel].words
    parts = [
        headline(verdict, verdict.sentence),
        f"<p>The network ({verdict.channel}): {escape(network)}. "
        f"{verdict.schedules} schedules in {verdict.seconds:.2f} s.</p>",
    ]
    if verdict.trace.rows:
        parts.append(ladder(verdict.trace, verdict.sentence))
    return "\n".join(parts)


def headline(verdict: Verdict, words: str) -> str:
    """Return the verdict in its colour, and the words."""
    colour = _COLOURS.get(verdict.kind, "inherit")
    title = f'<b style="color:{colour}">{escape(verdict.title)}</b>'
    words = words.removeprefix(NOT_PROMISED)
    return f"<p>{title} {escape(words)}</p>"


def ladder(trace: Trace, words: str = "") -> str:
    """Return a ladder as SVG: one event to a line, so that time is not to scale.

    The trace's `about` may have `delivered`, words for each payload that was, and
    `wrong`, what was wrong with the last event.
    """
    rows = [row for row in trace.rows if row[2] != LOSS]
    lost = {(row[1], row[6]) for row in trace.rows if row[2] == LOSS}
    arrived = {(OTHER[row[1]], row[6]) for row in rows if row[2] in _ARRIVALS}
    wrong = trace.about.get("wrong", "")
    height = _STEP * (len(rows) + 3 + bool(wrong))
    heights: dict[tuple[str, int], int] = {}
    lines = [_lifelines(height)]
    late = overtaken(rows)
    for index, row in enumerate(rows):
        y = _STEP * (index + 2)
        lines += _draw(row, y, heights, lost, index in late)
        if row[2] in _SENDS and not {(row[1], row[6])} & (lost | arrived):
            lines += _under_way(row[1], y)
        if row[2] == DELIVER:
            lines.append(_delivery(row, y, trace.about.get("delivered", ())))
    if wrong and rows:
        here = _LEFT if rows[-1][1] == SENDER else _RIGHT
        lines.append(_beside(here, _STEP * (len(rows) + 2), f"✗ {wrong}", _WRONG))
    if cut := trace.about.get("cut"):
        lines.append(_text(_WIDTH / 2, height - 4, f"({cut})", "middle"))
    return (
        f'<svg role="img" aria-label="{escape(words, quote=True)}" width="{_WIDTH}" '
        f'height="{height}" viewBox="0 0 {_WIDTH} {height}" fill="currentColor" '
        f'stroke="currentColor" font-size="11" font-family="sans-serif">'
        f"{''.join(lines)}</svg>"
    )


def overtaken(rows: Sequence[Row]) -> set[int]:
    """Return the places of the arrivals that come after a later packet's."""
    last = {SENDER: -1, RECEIVER: -1}
    late = set()
    for index, (_, host, what, _, _, _, number) in enumerate(rows):
        if what in _ARRIVALS:
            if number < last[host]:
                late.add(index)
            last[host] = max(last[host], number)
    return late


def _draw(
    row: Row,
    y: int,
    heights: dict[tuple[str, int], int],
    lost: set[tuple[str, int]],
    late: bool,
) -> list[str]:
    time, host, what, kind, seq, _, number = row
    here = _LEFT if host == SENDER else _RIGHT
    there = _LEFT + _RIGHT - here
    note = f"{time:.3g} s"
    if what in _SENDS:
        heights[host, number] = y
        again = " again" if what == RETRANSMIT else ""
        lines = [_beside(here, y, f"{Kind(kind).name} {seq}{again}, {note}")]
        if (host, number) in lost:
            middle = (here + there) / 2
            lines += [_line(here, y, middle, y + 6), _cross(middle, y + 6)]
        return lines
    if what in _ARRIVALS:
        begin = heights.get((OTHER[host], number), y - _STEP)
        lines = [_line(there, begin, here, y), _head(here, y, there < here)]
        if what == CORRUPT:
            lines += [_cross(here, y), _beside(here, y, "damaged")]
        elif late:
            lines.append(_beside(here, y, f"{Kind(kind).name} {seq} late, {note}"))
        return lines
    return [_beside(here, y, f"timeout, {note}")] if what == TIMEOUT else []


def _delivery(row: Row, y: int, words: Sequence[str]) -> str:
    number = row[4]
    what = words[number] if number < len(words) else f"payload {number}"
    return _beside(_RIGHT, y, f"delivers {what}")


def _under_way(host: str, y: int) -> list[str]:
    """Return the beginning of an arrow that has no end yet."""
    here, step = (_LEFT, 1) if host == SENDER else (_RIGHT, -1)
    return [_line(here + step * x, y, here + step * (x + 12), y) for x in (0, 18, 36)]


def _lifelines(height: int) -> str:
    return "".join(
        _text(x, 12, host, "middle") + _line(x, 18, x, height - 16, 1)
        for x, host in ((_LEFT, SENDER), (_RIGHT, RECEIVER))
    )


def _line(x: float, y: float, to_x: float, to_y: float, width: float = 1.3) -> str:
    return (
        f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" '
        f'stroke-width="{width}"/>'
    )


def _head(x: float, y: float, rightwards: bool) -> str:
    back = x - 8 if rightwards else x + 8
    return f'<path d="M{x:g} {y:g} L{back:g} {y - 4:g} L{back:g} {y + 2:g} Z"/>'


def _cross(x: float, y: float) -> str:
    return _line(x - 4, y - 4, x + 4, y + 4, 2) + _line(x - 4, y + 4, x + 4, y - 4, 2)


def _beside(x: float, y: float, words: str, colour: str = "") -> str:
    left = x == _LEFT
    anchor = "end" if left else "start"
    return _text(x - 8 if left else x + 8, y + 4, words, anchor, colour)


def _text(x: float, y: float, words: str, anchor: str, colour: str = "") -> str:
    fill = f' fill="{colour}"' if colour else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" stroke="none"{fill}>'
        f"{escape(words)}</text>"
    )
