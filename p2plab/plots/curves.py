"""Curves: what was sent and lost, the window, round trips, and any other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from p2plab.core.link import CORRUPT, LOSS, OVERFLOW
from p2plab.core.packet import DATA
from p2plab.core.trace import RECEIVER, SENDER, TIMEOUT, Trace
from p2plab.measure.metrics import deliveries, rtt_samples, transmissions
from p2plab.plots import style
from p2plab.plots.style import Style, few, finish, given_or_new, time_unit

MANY: Final = 40  # timeouts; more than that would cover each other


def over_time(trace: Trace, ax: Axes | None = None) -> Axes:
    """Draw how many DATA packets had been sent, sent again, lost and delivered."""
    ax = given_or_new(ax)
    moves = transmissions(trace)
    data = [move for move in moves if move.kind == DATA]
    curves: dict[str, tuple[list[float], Style]] = {}  # as far as the trace tells
    if SENDER in trace.names:
        curves["sent"] = [move.moment for move in data], style.DATA_LINE
    if RECEIVER in trace.names:
        delivered = [at for at, _ in deliveries(trace.rows, moves)]
        curves["delivered"] = delivered, style.PLAIN_LINE
    if SENDER in trace.names:
        lost = [m.moment for m in data if m.fate in (LOSS, OVERFLOW)]
        damaged = [m.moment for m in data if m.fate == CORRUPT]
        again = [move.moment for move in data if move.again]
        curves |= {"sent again": (again, style.AGAIN_LINE)}
        curves |= {"lost": (lost, style.LOSS_LINE)}
        if damaged:
            curves |= {"damaged": (damaged, style.DAMAGED_LINE)}
    timeouts = _timeouts(trace)
    end = max([0.0, *timeouts, *(times[-1] for times, _ in curves.values() if times)])
    scale, unit = time_unit(end)
    sentence = f"DATA packets in {end * scale:.4g} {unit}. "
    for what, (times, look) in curves.items() if len(trace) else ():
        steps = scale * np.array([0.0, *times, end])
        counts = [*range(len(times) + 1), len(times)]
        label = f"{what}: {len(times):,}"
        ax.step(steps, counts, where="post", label=label, **look)
        sentence += f"{label}, "
    _mark_timeouts(ax, timeouts, scale)
    sentence += f"timeouts: {len(timeouts)}."
    ax.locator_params(axis="y", integer=True, min_n_ticks=1)
    return finish(ax, f"time [{unit}]", "DATA packets so far", sentence)


def window_over_time(trace: Trace, ax: Axes | None = None) -> Axes:
    """Draw the sender's window: what is acknowledged, in flight, and sent again."""
    ax = given_or_new(ax)
    base, following = _state(trace, "send_base"), _state(trace, "next_seq_num")
    moves = [m for m in transmissions(trace) if m.again and m.kind == DATA]
    again = np.array([(move.moment, move.payload) for move in moves]).reshape(-1, 2)
    timeouts = _timeouts(trace)
    last = max([0.0, *base[-1:, 0], *following[-1:, 0], *again[-1:, 0]])
    scale, unit = time_unit(last)
    for curve, what, look in (
        (following, "next to send", style.DATA_LINE),
        (base, "oldest not acknowledged", style.ACK_LINE),
    ):
        if len(curve):
            ax.step(*(curve * (scale, 1)).T, where="post", label=what, **look)
    most = 0
    if len(base) == len(following) > 0:
        (times, low), high = (base * (scale, 1)).T, following[:, 1]
        most = int(max(high - low))
        look = {"color": style.DATA_COLOUR, "alpha": 0.15, "step": "post"}
        ax.fill_between(
            times, low, high, label=f"window in use: at most {most}", **look
        )
    if len(again):
        look = few(style.AGAIN_MARK, len(again))
        ax.plot(*(again * (scale, 1)).T, label="sent again", **look)
    _mark_timeouts(ax, timeouts, scale)
    sentence = (
        f"The sender's window until {last * scale:.4g} {unit}. In use: at most {most} "
        f"packets, sent again: {len(again)}, timeouts: {len(timeouts)}."
    )
    ax.locator_params(axis="y", integer=True, min_n_ticks=1)  # there is no packet 2.5
    return finish(ax, f"time [{unit}]", "number of the packet", sentence)


def rtt(trace: Trace, ax: Axes | None = None) -> Axes:
    """Draw the round trips that the sender saw, and the timeout it made of them."""
    ax = given_or_new(ax)
    samples = np.array(rtt_samples(trace), dtype=float).reshape(-1, 3)
    once, again = (samples[samples[:, 2] == twice, :2] for twice in (0, 1))
    rto, srtt = _state(trace, "rtt.rto"), _state(trace, "rtt.srtt")
    timeouts = _timeouts(trace)
    end = max([0.0, *timeouts, *samples[-1:, 0]])
    across, unit = time_unit(end)
    up, up_unit = time_unit(max([0.0, *rto[:, 1], *samples[:, 1]]))
    for what, curve, look in (
        ("RTO, the timeout", rto, style.TIMEOUT_CURVE),
        ("SRTT, smoothed", srtt, style.PLAIN_LINE),
    ):
        if len(curve := curve[curve[:, 0] <= end]):
            steps = np.vstack([curve, [end, curve[-1, 1]]]) * (across, up)
            ax.step(*steps.T, where="post", label=what, **look)
    for what, dots, look in (
        ("round trip", once, style.SAMPLE_MARK),
        ("sent again: which copy was it?", again, style.DOUBTFUL_MARK),
    ):
        if len(dots):
            ax.plot(*(dots * (across, up)).T, label=what, **few(look, len(dots)))
    _mark_timeouts(ax, timeouts, across)
    ax.set_ylim(bottom=0)
    sentence = f"Round trips of packets sent once: {len(once)}"
    if len(once):
        trips = once[:, 1] * up
        sentence += f", {min(trips):.4g} to {max(trips):.4g} {up_unit}"
    if len(rto):
        sentence += f"; the timeout ends at {rto[-1, 1] * up:.4g} {up_unit}"
    sentence += f". Timeouts: {len(timeouts)}."
    return finish(ax, f"time [{unit}]", f"round trip [{up_unit}]", sentence)


def _timeouts(trace: Trace) -> list[float]:
    """When the sender's timer fired."""
    return [at for at, host, what, *_ in trace if (host, what) == (SENDER, TIMEOUT)]


def _state(trace: Trace, name: str) -> NDArray[np.float64]:
    """One of the sender's numbers where it has one, shape (n, 2); else no rows."""
    if name not in trace.names.get(SENDER, ()):
        return np.empty((0, 2))
    pairs = trace.state(SENDER, name)
    return np.asarray(pairs[np.isfinite(pairs[:, 1])])


def _mark_timeouts(ax: Axes, times: Sequence[float], scale: float) -> None:
    """Mark each timeout on the lower edge, with a clock where there is room for it."""
    if times:
        look = style.TIMEOUT_MARK if len(times) <= MANY else style.TIMEOUT_TICK
        ax.plot(
            [at * scale for at in times],
            [0.0] * len(times),
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label=f"timeouts: {len(times):,}",
            **look,
        )


Pairs = tuple[Sequence[float], Sequence[float]]  # all x, all y

_CURVES: Final[list[Style]] = [
    {"color": style.PLAIN_COLOUR, "linestyle": "--"},
    {"color": "grey", "linestyle": ":"},
]
_POINTS: Final[list[Style]] = [
    {"color": "#0072B2", "marker": "o", "linestyle": "none"},
    {"color": "#8C510A", "marker": "^", "linestyle": "none"},
    {"color": "#000000", "marker": "s", "linestyle": "none"},
]
_LOOK: Final = ("label", "color", "marker")


def chart(
    across: str,
    up: str,
    points: Mapping[str, Pairs],
    curves: Mapping[str, Pairs] | None = None,
    ax: Axes | None = None,
    *,
    log: bool = False,
) -> Axes:
    """Draw named series of numbers, and say in words where each begins and ends.

    across, up: what the axes stand for, with the unit in brackets.
    points, curves: names, and for each all x and all y; curves are drawn beneath.
        Points that are named as a protocol look as in the figures over the loss.
    log: both axes logarithmic.
    """
    ax = given_or_new(ax, 8, 4.2)
    sentences = [f"{up} over {across}."]
    for series, looks in ((curves or {}, _CURVES), (points, _POINTS)):
        for number, (name, (x, y)) in enumerate(series.items()):
            look = {"label": name, **looks[number % len(looks)]}
            if series is points:  # one at 0 is not half hidden by the axis
                look["clip_on"] = False
            if "marker" in look and name in style.PROTOCOL_LOOKS:
                look |= zip(_LOOK, style.PROTOCOL_LOOKS[name], strict=True)
            ax.plot(x, y, **(few(look, len(x)) if "marker" in look else look))
            sentences.append(f"{name}: {_ends(x, y)}.")
    if log:
        ax.set(xscale="log", yscale="log")
    else:
        ax.set_ylim(bottom=0)
    return finish(ax, across, up, " ".join(sentences))


def _ends(x: Sequence[float], y: Sequence[float]) -> str:
    if not len(x):
        return "nothing"
    return f"{y[0]:.3g} at {x[0]:.3g} to {y[-1]:.3g} at {x[-1]:.3g}"
