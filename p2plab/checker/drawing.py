"""A verdict as a page for a notebook: its sentence, and the ladder as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from p2plab.checker.network import CHANNELS
from p2plab.link import ARRIVE, CORRUPT, DUPLICATE, LOSS
from p2plab.packet import Kind
from p2plab.trace import (
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

_LEFT, _RIGHT, _WIDTH = 190, 430, 620  # of the two lifelines, and of all [px]
_STEP: Final = 16  # between two events [px]
_COLOURS: Final = {"survived": "#1a7f37", "broken": "#b35900", "breach": "#b3261e"}


def page(verdict: Verdict) -> str:
    """Return the HTML that a notebook shows."""
    colour = _COLOURS[verdict.kind]
    network = CHANNELS[verdict.channel].words
    parts = [
        f'<p><b style="color:{colour}">{escape(verdict.title)}</b> '
        f"{escape(verdict.sentence)}</p>",
        f"<p>The network ({verdict.channel}): {escape(network)}. "
        f"{verdict.schedules} schedules in {verdict.seconds:.2f} s.</p>",
    ]
    if verdict.trace.rows:
        parts.append(ladder(verdict.trace, verdict.sentence))
    return "\n".join(parts)


def ladder(trace: Trace, words: str = "") -> str:
    """Return a ladder as SVG: one event to a line, so that time is not to scale."""
    rows = [row for row in trace.rows if row[2] != LOSS]
    lost = {(row[1], row[6]) for row in trace.rows if row[2] == LOSS}
    height = _STEP * (len(rows) + 3)
    heights: dict[tuple[str, int], int] = {}
    lines = [_lifelines(height)]
    for index, row in enumerate(rows):
        y = _STEP * (index + 2)
        lines += _draw(row, y, heights, lost)
    if cut := trace.about.get("cut"):
        lines.append(_text(_WIDTH / 2, height - 4, f"({cut} are shown)", "middle"))
    return (
        f'<svg role="img" aria-label="{escape(words, quote=True)}" width="{_WIDTH}" '
        f'height="{height}" viewBox="0 0 {_WIDTH} {height}" fill="currentColor" '
        f'stroke="currentColor" font-size="11" font-family="sans-serif">'
        f"{''.join(lines)}</svg>"
    )


def _draw(
    row: Row, y: int, heights: dict[tuple[str, int], int], lost: set[tuple[str, int]]
) -> list[str]:
    time, host, what, kind, seq, _, number = row
    here = _LEFT if host == SENDER else _RIGHT
    there = _LEFT + _RIGHT - here
    note = f"{time:.3g} s"
    if what in (SEND, RETRANSMIT):
        heights[host, number] = y
        again = " again" if what == RETRANSMIT else ""
        lines = [_beside(here, y, f"{Kind(kind).name} {seq}{again}, {note}")]
        if (host, number) in lost:
            middle = (here + there) / 2
            lines += [_line(here, y, middle, y + 6), _cross(middle, y + 6)]
        return lines
    if what in (ARRIVE, DUPLICATE, CORRUPT):
        begin = heights.get((OTHER[host], number), y - _STEP)
        lines = [_line(there, begin, here, y), _head(here, y, there < here)]
        if what == CORRUPT:
            lines += [_cross(here, y), _beside(here, y, "damaged")]
        return lines
    if what == DELIVER:
        return [_beside(here, y, f"delivers payload {seq}")]
    return [_beside(here, y, f"timeout, {note}")] if what == TIMEOUT else []


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


def _beside(x: float, y: float, words: str) -> str:
    left = x == _LEFT
    return _text(x - 8 if left else x + 8, y + 4, words, "end" if left else "start")


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" stroke="none">'
        f"{escape(words)}</text>"
    )
