"""Ladder diagrams: a lifeline for each who takes part, an arrow for each message.

One layout for transfers, texts and meetings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import inf
from statistics import fmean, median
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from p2plab.core.link import CORRUPT, LOSS, OVERFLOW
from p2plab.core.packet import ACK, DATA, FIN, NAK, Kind
from p2plab.core.trace import DELIVER, OTHER, RECEIVER, SENDER, TIMEOUT, Trace
from p2plab.core.validation import count_of
from p2plab.measure.metrics import Transmission, transmissions
from p2plab.plots import style
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

FONT: Final = 8  # [points]
_MOST, _MOST_OF_A_BURST = 40, 16  # arrows
_CROWDED: Final = 2.5  # lines of text by which a label may be away from its place
_PLACE: Final = {SENDER: 0, RECEIVER: 1}
_FLIGHT: Final = {LOSS: 0.5, OVERFLOW: 0.15}  # how far it goes, if it does not arrive
_LINES: Final[dict[int, Style]] = {
    DATA: style.DATA_LINE,
    **dict.fromkeys((ACK, NAK), style.ACK_LINE),
    FIN: style.FIN_LINE,
    Kind.ACCEPT: style.ACCEPT_LINE,
}
_LOST: Final = {LOSS: "lost", OVERFLOW: "queue full"}


class Arrow(NamedTuple):
    """A message: from (lifeline, height) to (lifeline, height).

    Lifelines are counted from 0, heights downwards in any unit.
    what: its name in the legend.
    """

    start: Point
    end: Point
    what: str
    look: Style
    arrives: bool = True


class Mark(NamedTuple):
    """A point at (lifeline, height). what: its name in the legend."""

    point: Point
    what: str
    look: Style


class Label(NamedTuple):
    """What is written beside a lifeline.

    at: the moment that it is about; labels that say the same of nearly the same moment
        become one. {} in `words` stands for their numbers.
    """

    lifeline: int
    at: float
    y: float
    words: str
    colour: str
    number: int = 0
    bold: bool = False


def lay_out(
    ax: Axes,
    lifelines: Sequence[str],
    rows: Iterable[Arrow | Mark | Label],
    top: float,
    bottom: float,
    note: str = "",
    line: float | None = None,
) -> str:
    """Draw a ladder; return the note below it, in which missing labels are told.

    lifelines: the names above them. top, bottom: the heights to show.
    line: the height of a line of text, if heights are counted in those.
    """
    used: dict[str, Style] = {}  # what the legend has to explain
    marks: dict[str, list[Mark]] = {}
    labels: list[list[Label]] = [[] for _ in lifelines]
    margin, lowest = 0.03 * (bottom - top), bottom
    for row in rows:
        if isinstance(row, Label):
            labels[row.lifeline].append(row)
            continue
        used.setdefault(row.what, row.look)
        if isinstance(row, Mark):
            marks.setdefault(row.what, []).append(row)
            continue
        tip = "-|>" if row.arrives else "-"
        patch = FancyArrowPatch(
            row.start, row.end, arrowstyle=tip, gid=row.what, **row.look
        )
        patch.set(mutation_scale=9, linewidth=1.3)
        patch.shrinkA = patch.shrinkB = 0
        ax.add_patch(patch)
        lowest = max(lowest, row.end[1])  # it may be drawn later than it was
    for alike in marks.values():
        where = zip(*(each.point for each in alike), strict=True)
        ax.plot(*where, zorder=3, clip_on=False, **alike[0].look)
    if line is None:
        figure = style.whole_figure(ax)
        inches = ax.get_position().height * (figure.get_figheight() if figure else 6.0)
        line = (bottom - top) * 1.25 * FONT / (72 * inches)
    left_out = sum(_write(ax, each, line, bottom, len(lifelines)) for each in labels)
    if left_out:
        note = f"{note} {count_of(left_out, 'label')} had no room.".strip()
    if not used:
        write_nothing(ax)
    beside = 0.55 * (len(lifelines) - 1)  # for the labels
    ax.set_xlim(-beside, len(lifelines) - 1 + beside)
    ax.set_ylim(lowest + 2 * margin, top - margin)  # time runs downwards
    for place in range(len(lifelines)):
        ax.axvline(place, color="grey", linewidth=1.2, zorder=1)
    ax.set_xticks(range(len(lifelines)), lifelines)
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", top=False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.set_xlabel(note, fontsize="small")
    if handles := [Line2D([], [], label=what, **look) for what, look in used.items()]:
        below: Style = {"loc": "upper center", "ncols": 2 + len(lifelines)}
        below["bbox_to_anchor"] = (0.5, -0.05 if note else 0.0)
        ax.legend(handles=handles, frameon=False, fontsize="small", **below)
    return note


def _write(
    ax: Axes, labels: Iterable[Label], line: float, bottom: float, lifelines: int
) -> int:
    """Write the labels of a lifeline, none over another; return how many found no room.

    line: the height of a line of text.
    """
    free, left_out = -inf, 0
    for group in _together(labels, line):
        first, y = group[0], max(fmean(each.y for each in group), free)
        if y > min(group[-1].y + _CROWDED * line, bottom + line):
            left_out += len(group)
            continue
        free = y + line
        where: Style = {"x": first.lifeline + 0.06, "ha": "left", "va": "center"}
        if first.lifeline == 0:
            where |= {"x": -0.06, "ha": "right"}
        elif first.lifeline < lifelines - 1:  # arrows pass on both sides
            where |= {"x": first.lifeline, "ha": "center", "va": "bottom"}
            where["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            y -= 0.3 * line
        ax.text(
            y=y,
            s=first.words.replace("{}", numbers([each.number for each in group])),
            color=ink(first.colour),
            fontsize=FONT,
            fontweight="bold" if first.bold else "normal",
            parse_math=False,
            zorder=5,
            in_layout=False,
            **where,
        )
    return left_out


def _together(labels: Iterable[Label], line: float) -> list[list[Label]]:
    """Put labels together that say the same of (nearly) the same moment."""
    groups: list[list[Label]] = []
    for label in sorted(labels, key=lambda label: label.at):
        for group in reversed(groups[-2:]):
            alike = (group[0].words, group[0].colour) == (label.words, label.colour)
            if alike and label.at - group[0].at < line:
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def numbers(seqs: Sequence[int]) -> str:
    """Write sequence numbers shortly: 0–3, 7 or 2 ×4."""
    if len(seqs) > 1 and len(set(seqs)) == 1:
        return f"{seqs[0]} ×{len(seqs)}"
    parts = []
    for _, run in groupby(enumerate(seqs), lambda pair: pair[1] - pair[0]):
        first, *rest = [seq for _, seq in run]
        parts.append(f"{first}–{rest[-1]}" if rest else f"{first}")
    text = ", ".join(parts)
    if len(text) <= 16:
        return text
    return f"{text[:16].rpartition(', ')[0] or parts[0]}, …"


def ladder(
    trace: Trace,
    ax: Axes | None = None,
    *,
    start: float = 0.0,
    end: float = inf,
    max_arrows: int | None = None,
    names: tuple[str, str] = (SENDER, RECEIVER),
) -> Axes:
    """Draw who sent what, and when it arrived.

    start, end: the moments to draw [s]; of these, the first `max_arrows` packets: by
        default 40, or 16 of a burst, since more side by side are a block of colour.
    names: what to write above the lifelines.
    Packets of one moment are drawn one below the other.
    """
    part = _part(trace, start, end, max_arrows)
    return _draw(given_or_new(ax, 8, 6), part, part.top, part.bottom, names)


class _Part(NamedTuple):
    """What of a trace is drawn.

    note: what is left out; top, bottom: the first and the last moment [s].
    """

    trace: Trace
    moves: list[Transmission]
    note: str
    top: float
    bottom: float


def _part(
    trace: Trace, start: float = 0.0, end: float = inf, max_arrows: int | None = None
) -> _Part:
    inside = [move for move in transmissions(trace) if start <= move.moment <= end]
    moves = inside[: _MOST if max_arrows is None else max_arrows]
    travels = _travels(moves)
    burst = travels and moves[-1].moment - moves[0].moment < median(travels)
    if burst and max_arrows is None:
        moves = moves[:_MOST_OF_A_BURST]
    note = ""
    if len(moves) < len(inside):
        note = f"The first {len(moves)} of {len(inside):,} packets; "
        note += "ladder(trace, start=SECONDS) draws later ones."
    top = moves[0].moment if moves else 0.0
    last = max([top, *(m.arrived_at or m.moment for m in moves)])
    return _Part(trace, moves, note, top, max(top + 1e-6, last))


def _draw(
    ax: Axes, part: _Part, top: float, bottom: float, names: tuple[str, str]
) -> Axes:
    """Draw a part of a trace on a scale from `top` to `bottom` [s]."""
    moves, note, travels = part.moves, part.note, _travels(part.moves)
    meanwhile = [
        each for each in part.trace if moves and part.top <= each.time <= part.bottom
    ]
    timeouts = [e.time for e in meanwhile if (e.host, e.what) == (SENDER, TIMEOUT)]
    delivered = [e.time for e in meanwhile if (e.host, e.what) == (RECEIVER, DELIVER)]

    travel = median(travels or [(bottom - top) / 9])
    space = (bottom - top) * min(0.011, 0.3 / max(1, len(moves)))
    heights = _spread(moves, space, level=travel < space)
    rows: list[Arrow | Mark | Label] = []
    for moment in timeouts:
        rows.append(Label(0, moment, moment, "timeout", style.PLAIN_COLOUR))
        rows.append(Mark((0.0, moment), "timeout", style.TIMEOUT_MARK))
    for move, ends in zip(moves, heights, strict=True):
        rows += _drawn(move, *ends, travel)
    rows += _deliveries(delivered, moves, heights, space)
    note = lay_out(ax, names, rows, top, bottom, note)

    scale, unit = time_unit(bottom)
    ax.yaxis.set_major_formatter(lambda y, _: f"{y * scale:g}")
    ax.set_ylabel(f"time [{unit}]")
    if not moves:
        return say(ax, f"Ladder diagram: nothing was sent. {note}".strip())
    kinds = [move.kind for move in moves]
    again = sum(move.again for move in moves)
    lost = sum(move.fate in _LOST and move.kind == DATA for move in moves)
    damaged = sum(move.fate == CORRUPT and move.kind == DATA for move in moves)
    return say(
        ax,
        f"Ladder diagram from {part.top * scale:.4g} to {part.bottom * scale:.4g} "
        f"{unit}. "
        f"DATA: {kinds.count(DATA)}, ACK: {kinds.count(ACK)}, sent again: {again}, "
        f"DATA lost: {lost}, damaged: {damaged}, timeouts: {len(timeouts)}. "
        f"{note}".strip(),
    )


def ladders(traces: Mapping[str, Trace]) -> list[Axes]:
    """Draw titled ladders side by side on a new figure; return their axes.

    They have one time scale, so that what is drawn longer has taken longer.
    """
    # A page shrinks a wide figure, and with it the words on it.
    axes = side_by_side(len(traces), 6 if len(traces) < 3 else 4.7, 6)
    parts = [_part(trace) for trace in traces.values()]
    top = min(part.top for part in parts)
    bottom = max(part.bottom for part in parts)
    for name, part, ax in zip(traces, parts, axes, strict=True):
        _draw(ax, part, top, bottom, (SENDER, RECEIVER)).set_title(name)
        say(ax, f"{name}: {ax.get_label()}")
    lowest = max(ax.get_ylim()[0] for ax in axes)
    for ax in axes:
        ax.set_ylim(bottom=lowest)
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)
    return axes


def _travel(move: Transmission) -> float | None:
    if move.sent_at is None or move.arrived_at is None:
        return None
    return move.arrived_at - move.sent_at


def _travels(moves: Iterable[Transmission]) -> list[float]:
    return [each for each in map(_travel, moves) if each is not None]


def _spread(
    moves: Sequence[Transmission], space: float, level: bool
) -> list[tuple[float, float | None]]:
    """Where each arrow starts and ends: later than it was, if it would hide another.

    level: whether arrows are level, as on a link without delay: then an answer would
    hide what it answers.
    """
    free = {(host, sends): -inf for host in _PLACE for sends in (True, False)}
    starts, ends = [0.0] * len(moves), [move.arrived_at for move in moves]
    events = [(move.moment, index, 0) for index, move in enumerate(moves)]
    events += [(end, index, 1) for index, end in enumerate(ends) if end is not None]
    for moment, index, arrival in sorted(events):
        move, travel = moves[index], _travel(moves[index])
        flat = level or (travel is not None and travel < space)
        if arrival and (flat or move.sent_at is None):
            ends[index] = starts[index] + (travel or 0.0)
            continue
        one = (OTHER[move.host], False) if arrival else (move.host, True)
        lanes = list(free) if flat else [one]
        y = max([moment, *(free[lane] for lane in lanes)])
        free.update(dict.fromkeys(lanes, y + space))
        if arrival:
            ends[index] = y
        else:
            starts[index] = y
    return list(zip(starts, ends, strict=True))


def _drawn(
    move: Transmission, y: float, y_end: float | None, travel: float
) -> Iterable[Arrow | Mark | Label]:
    """The arrow of a packet, what became of it, and the words beside it.

    travel: how long a packet usually takes [s].
    """
    x = _PLACE[move.host]
    tip: Point = (1.0 - x, y if y_end is None else y_end)
    what, look = Kind(move.kind).name, _LINES.get(move.kind, style.PLAIN_LINE)
    if move.again and move.kind not in (ACK, NAK):
        what, look = "sent again", style.AGAIN_LINE
    again = " again" if move.again else ""
    copies = f" ×{len(move.fates)}" if len(move.fates) > 1 else ""
    words = f"{Kind(move.kind).name} {{}}{again}{copies}"
    start: Point = (x, y)
    if y_end is None:
        far = _FLIGHT.get(move.fate or "", 0.3)
        tip = x + far * (1 - 2 * x), y + far * travel
    elif move.sent_at is None:  # only its arrival was seen
        start = tip[0] + 0.3 * (x - tip[0]), y_end - 0.3 * travel
    if move.fate in _LOST:
        what, look = _LOST[move.fate], {**look, "color": style.LOSS_COLOUR}
        yield Mark(tip, what, style.LOSS_MARK)
    elif move.fate is None:
        what, look = "fate unknown", {**look, "linestyle": ":"}
    yield Arrow(start, tip, what, look, arrives=y_end is not None)
    if move.fate == CORRUPT:
        yield Mark(tip, "damaged", style.CORRUPT_MARK)
    yield Label(x, move.moment, start[1], words, look["color"], move.seq)


def _deliveries(
    moments: Sequence[float],
    moves: Sequence[Transmission],
    heights: Sequence[tuple[float, float | None]],
    space: float,
) -> list[Mark]:
    """A mark where a packet arrives that is delivered, or for which others waited."""
    arrivals: dict[float, list[float]] = {}
    for move, (_, y_end) in zip(moves, heights, strict=True):
        if move.kind == DATA and move.arrived_at is not None and y_end is not None:
            arrivals.setdefault(move.arrived_at, []).append(y_end)
    marks: list[Mark] = []
    y = -inf
    for moment in moments:
        ends = arrivals.get(moment)
        y = ends.pop(0) if ends else max(moment, y + space)
        marks.append(Mark((1.015, y), "delivered", style.DELIVERED_MARK))
    return marks
