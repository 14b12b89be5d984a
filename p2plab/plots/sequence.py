"""The ladder diagram: two lifelines, time downwards, an arrow for each packet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import fmean, median
from typing import Final

from matplotlib.axes import Axes

from p2plab.core.link import CORRUPT, LOSS, OVERFLOW
from p2plab.core.packet import ACK, DATA, FIN, NAK, Kind
from p2plab.core.trace import DELIVER, RECEIVER, SENDER, TIMEOUT, Row, Trace
from p2plab.measure.metrics import Transmission, transmissions
from p2plab.plots import style
from p2plab.plots.labels import Label, numbers, together, what_is_absent
from p2plab.plots.style import (
    Point,
    Style,
    given_or_new,
    ink,
    say,
    side_by_side,
    time_unit,
    write_nothing,
)

_FONT: Final = 8  # [points]
_CROWDED: Final = 2.5  # lines of text by which a label may be away from its place
_PLACE: Final = {SENDER: 0.0, RECEIVER: 1.0}
_FLIGHT: Final = {LOSS: 0.5, OVERFLOW: 0.15}  # how far it goes, if it does not arrive
_LINES: Final[dict[int, Style]] = {
    DATA: style.DATA_LINE,
    **dict.fromkeys((ACK, NAK), style.ACK_LINE),
    FIN: style.FIN_LINE,
    Kind.ACCEPT: style.ACCEPT_LINE,
}
_LOST: Final = {LOSS: "lost", OVERFLOW: "queue full"}


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Where to draw: down in seconds, across from 0 (sender) to 1 (receiver).

    travel: how long a packet usually takes [s].
    used: what the legend has to explain.
    drawn_at: the height at which an arrow of that moment ends [s].
    """

    ax: Axes
    top: float
    bottom: float
    travel: float
    used: dict[str, Style] = field(default_factory=dict)
    drawn_at: dict[float, float] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)  # of arrows, as they are drawn

    @property
    def line(self) -> float:
        """The height of a line of text [s]."""
        figure = self.ax.get_figure(root=True)
        inches = 6.0 if figure is None else figure.get_figheight()
        points = 72 * inches * self.ax.get_position().height
        return (self.bottom - self.top) * 1.25 * _FONT / points

    def mark(self, what: str, x: float, moments: Sequence[float], look: Style) -> None:
        if moments:
            self.used[what] = look
            self.ax.plot([x] * len(moments), moments, zorder=3, **look)

    def arrow(self, start: Point, end: Point, tip: str, what: str, look: Style) -> None:
        self.used.setdefault(what, look)
        self.ends.append(end[1])
        style.arrow(self.ax, start, end, tip, what, look, 1.3)


def ladder(
    trace: Trace,
    ax: Axes | None = None,
    *,
    start: float = 0.0,
    end: float = inf,
    max_arrows: int = 40,
    names: tuple[str, str] = (SENDER, RECEIVER),
    note: str = "",
) -> Axes:
    """Draw who sent what, and when it arrived.

    start, end: the moments to draw [s]; of these, the first `max_arrows` packets.
    names: what to write above the lifelines.
    note: what to write below it instead of how to choose other packets.
    Packets of one moment are drawn one below the other.
    """
    ax = given_or_new(ax, 8, 6)
    inside = [move for move in transmissions(trace) if start <= move.moment <= end]
    moves = inside[:max_arrows]
    sheet = _sheet(ax, moves)
    space = (sheet.bottom - sheet.top) * min(0.011, 0.3 / max(1, len(moves)))
    labels: dict[str, list[Label]] = {SENDER: [], RECEIVER: []}
    events = _meanwhile(trace, moves)
    timeouts = [event.time for event in events if event.what == TIMEOUT]
    delivered = [event.time for event in events if event.what == DELIVER]
    for moment in timeouts:
        ax.plot([-0.05, 0.06], [moment, moment], zorder=2, **style.TIMEOUT_LINE)
        labels[SENDER].append(Label(moment, moment, "timeout", 0, style.PLAIN_COLOUR))
    flat = sheet.travel < space  # then an answer would hide what it answers
    for hosts in [(SENDER, RECEIVER)] if flat else [(SENDER,), (RECEIVER,)]:
        for host, label in _arrows(sheet, moves, hosts, space):
            labels[host].append(label)
    sheet.mark("timeout", 0.0, timeouts, style.TIMEOUT_MARK)
    drawn = _apart([sheet.drawn_at.get(at, at) for at in delivered], space)
    sheet.mark("delivered", 1.015, drawn, style.DELIVERED_MARK)
    left_out = _write(sheet, SENDER, labels) + _write(sheet, RECEIVER, labels)
    absent = what_is_absent(len(moves), len(moves if note else inside), left_out)
    note = f"{note} {absent}".strip()
    _frame(sheet, note, names)
    return say(ax, f"{_sentence(sheet, moves, len(timeouts))} {note}".strip())


def ladders(traces: Mapping[str, Trace]) -> list[Axes]:
    """Draw titled ladders side by side on a new figure; return their axes."""
    axes = side_by_side(len(traces), 6, 6)
    for (name, trace), ax in zip(traces.items(), axes, strict=True):
        ladder(trace, ax).set_title(name)
        say(ax, f"{name}: {ax.get_label()}")
    return axes


def _sheet(ax: Axes, moves: Sequence[Transmission]) -> _Sheet:
    top = moves[0].moment if moves else 0.0
    bottom = max([top + 1e-6, *map(_last_moment, moves)])
    times = [time for time in map(_travel, moves) if time is not None]
    return _Sheet(ax, top, bottom, median(times or [(bottom - top) / 9]))


def _travel(move: Transmission) -> float | None:
    if move.sent_at is None or move.arrived_at is None:
        return None
    return move.arrived_at - move.sent_at


def _last_moment(move: Transmission) -> float:
    return move.moment if move.arrived_at is None else move.arrived_at


def _meanwhile(trace: Trace, moves: Sequence[Transmission]) -> list[Row]:
    """The sender's timeouts and the deliveries while these were on their way."""
    if not moves:
        return []
    first, last = moves[0].moment, max(map(_last_moment, moves))
    wanted = {(SENDER, TIMEOUT), (RECEIVER, DELIVER)}
    return [e for e in trace if (e.host, e.what) in wanted and first <= e.time <= last]


def _apart(moments: Sequence[float], space: float) -> list[float]:
    """Move moments down so far that each is `space` or more below the one before."""
    placed = list(moments)
    free = -inf
    for index in sorted(range(len(placed)), key=placed.__getitem__):
        placed[index] = max(placed[index], free)
        free = placed[index] + space
    return placed


def _arrows(
    sheet: _Sheet, moves: Sequence[Transmission], hosts: Sequence[str], space: float
) -> list[tuple[str, Label]]:
    """Draw what hosts have sent, and return what to write beside whose lifeline."""
    quick = [move for move in moves if _quick(sheet, move, space)]
    heard = [move.arrived_at or 0.0 for move in quick if move.host not in hosts]
    theirs = [move for move in moves if move.host in hosts]
    slow = [m.arrived_at for m in theirs if m not in quick and m.arrived_at is not None]
    starts = _apart([*heard, *(m.moment for m in theirs)], space)[len(heard) :]
    ends = iter(_apart(slow, space))
    labels = []
    for move, y in zip(theirs, starts, strict=True):
        what, look = _look(move)
        if move.arrived_at is None:
            _draw_unarrived(sheet, move, y, what, look)
        else:
            y_end = y + (_travel(move) or 0.0) if move in quick else next(ends)
            _draw(sheet, move, y, y_end, what, look)
            sheet.drawn_at.setdefault(move.arrived_at, y_end)
        labels.append((move.host, _label(move, y, look)))
    return labels


def _quick(sheet: _Sheet, move: Transmission, space: float) -> bool:
    """Whether its arrow is level, so that an answer could hide it."""
    travel = _travel(move)
    return sheet.travel < space or (travel is not None and travel < space)


def _label(move: Transmission, y: float, look: Style) -> Label:
    again = " again" if move.again else ""
    copies = f" ×{len(move.fates)}" if len(move.fates) > 1 else ""
    words = f"{Kind(move.kind).name} {{}}{again}{copies}"
    return Label(move.moment, y, words, move.seq, look["color"])


def _draw(
    sheet: _Sheet, move: Transmission, y: float, y_end: float, what: str, look: Style
) -> None:
    x = _PLACE[move.host]
    tip = 1 - x
    if move.sent_at is None:  # only its arrival was seen
        x, y = tip + 0.3 * (x - tip), y_end - 0.3 * sheet.travel
    sheet.arrow((x, y), (tip, y_end), "-|>", what, look)
    if move.fate == CORRUPT:
        sheet.mark("damaged", tip, [y_end], style.CORRUPT_MARK)


def _draw_unarrived(
    sheet: _Sheet, move: Transmission, y: float, what: str, look: Style
) -> None:
    far = _FLIGHT.get(move.fate or "", 0.3)
    x = _PLACE[move.host]
    tip, y_end = x + far * (1 - 2 * x), y + far * sheet.travel
    sheet.arrow((x, y), (tip, y_end), "-", what, look)
    if move.fate in _LOST:
        sheet.mark(what, tip, [y_end], style.LOSS_MARK)


def _look(move: Transmission) -> tuple[str, Style]:
    """What the legend calls it, and its line."""
    if move.again and move.kind not in (ACK, NAK):
        what, look = "sent again", style.AGAIN_LINE
    else:
        what, look = Kind(move.kind).name, _LINES.get(move.kind, style.PLAIN_LINE)
    if move.fate in _LOST:
        what, look = _LOST[move.fate], {**look, "color": style.LOSS_COLOUR}
    elif move.fate is None:
        what, look = "fate unknown", {**look, "linestyle": ":"}
    return what, look


def _write(sheet: _Sheet, host: str, labels: dict[str, list[Label]]) -> int:
    """Write a lifeline's labels, neighbours together; return how many had no room."""
    x, align = (-0.07, "right") if host == SENDER else (1.07, "left")
    free = -inf  # where there is room for the next line
    left_out = 0
    for group in together(labels[host], sheet.line):
        y = max(fmean(label.y for label in group), free)
        lowest = min(group[-1].y + _CROWDED * sheet.line, sheet.bottom + sheet.line)
        if y > lowest:
            left_out += len(group)
            continue
        words = group[0].words.format(numbers([label.seq for label in group]))
        colour = ink(group[0].colour)
        sheet.ax.text(x, y, words, color=colour, ha=align, va="center", fontsize=_FONT)
        free = y + sheet.line
    return left_out


def _frame(sheet: _Sheet, note: str, names: tuple[str, str]) -> None:
    ax = sheet.ax
    scale, unit = time_unit(sheet.bottom)
    style.lifelines(ax, names, sheet.used, -0.05 if note else 0.0)
    ax.set_xlim(-0.5, 1.45)
    margin = 0.03 * (sheet.bottom - sheet.top)
    lowest = max([sheet.bottom, *sheet.ends])  # they may be drawn later than they were
    ax.set_ylim(lowest + 2 * margin, sheet.top - margin)  # time runs downwards
    ax.yaxis.set_major_formatter(lambda y, _: f"{y * scale:g}")
    ax.set_ylabel(f"time [{unit}]")
    if not sheet.used:
        write_nothing(ax)
    ax.set_xlabel(note, fontsize="small")


def _sentence(sheet: _Sheet, moves: Sequence[Transmission], timeouts: int) -> str:
    if not moves:
        return "Ladder diagram: nothing was sent."
    scale, unit = time_unit(sheet.bottom)
    data = sum(move.kind == DATA for move in moves)
    acks = sum(move.kind == ACK for move in moves)
    again = sum(move.again for move in moves)
    lost = sum(move.fate in _LOST for move in moves)
    return (
        f"Ladder diagram from {sheet.top * scale:.4g} to {sheet.bottom * scale:.4g} "
        f"{unit}. DATA: {data}, ACK: {acks}, sent again: {again}, lost: {lost}, "
        f"timeouts: {timeouts}."
    )
