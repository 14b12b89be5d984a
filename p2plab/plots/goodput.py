"""What a sweep has measured over the loss, with the curves of the theory beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from p2plab.core.validation import count_of
from p2plab.measure import theory
from p2plab.measure.experiments import (
    Experiment,
    Point,
    Result,
    curves,
    goodputs,
    packets_per_payload,
)
from p2plab.measure.metrics import shown
from p2plab.plots.style import (
    PROTOCOL_LOOKS,
    Html,
    Style,
    finish,
    given_or_new,
    html_table,
)
from p2plab.protocols.setup import WINDOWLESS, Setup

_FILLS = ("full", "none", "left", "right")  # several setups of one protocol
_OTHER = ("", "#888888", "h")
_ASSUMED = (
    "Dashed, the theory: independent losses, safe ACKs, endless data, and a timer of\n"
    "one round trip (stop-and-wait: the timeout that was set, and the ACKs' own loss)."
)
_BOUND: Style = {"color": "#000000", "linestyle": ":", "linewidth": 1.5}
_NO_TIMEOUT = ("best_effort", "fast", "fountain")  # none that one would set


def goodput_over_loss(results: Sequence[Result], ax: Axes | None = None) -> Axes:
    """Draw what `experiments.sweep` measured: mean, least and most over the seeds.

    Beneath is what `Experiment.expected_goodput` says, and the channel's bound if
    there is a protocol of which it says nothing.
    """
    ax = given_or_new(ax)
    points = goodputs(results)
    largest = max((p.high for each in points.values() for p in each), default=0.0)
    scale, unit = (1e-6, "Mbit/s") if largest >= 1e6 else (1e-3, "kbit/s")
    said = _draw(ax, points, scale, unit)
    losses = _losses(points)
    first = {r.experiment.setup: r.experiment for r in reversed(results)}
    for setup, one in first.items():
        look: Style = {"color": _look(setup)[1], "linestyle": "--", "linewidth": 1}
        if one.expected_goodput() is not None:
            curve = [_on(one, loss).expected_goodput() or 0.0 for loss in losses]
            ax.plot(100 * losses, scale * np.array(curve), **look)
    if any(one.expected_goodput() is None for one in first.values()):
        label = "the channel's bound: share 1 − p"
        one, *_ = first.values()
        bound = [scale * (_on(one, p).goodput_bound() or np.nan) for p in losses]
        ax.plot(100 * losses, bound, label=label, **_BOUND)
    ax.set_ylim(bottom=0)
    note = _ASSUMED if results else ""
    sentence = f"Goodput over loss, {count_of(len(results), 'run')}. {said}".strip()
    return finish(ax, "loss [%]", f"goodput [{unit}]", sentence, note=note, columns=2)


def packets_over_loss(results: Sequence[Result], ax: Axes | None = None) -> Axes:
    """Draw how many DATA packets a payload took, over the least that is possible.

    The upright axis doubles at each mark.
    """
    ax = given_or_new(ax)
    points = curves(results, packets_per_payload)
    said = _draw(ax, points, 1, "packets")
    if (losses := _losses(points)).size:
        least = [theory.transmissions_per_packet(loss) for loss in losses]
        ax.plot(100 * losses, least, label="the least: 1 / (1 − p)", **_BOUND)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
    runs = count_of(len(results), "run")
    sentence = f"Packets per payload over loss, {runs}. {said}".strip()
    return finish(ax, "loss [%]", "DATA packets per payload", sentence, columns=2)


def loss_table(results: Sequence[Result]) -> Html:
    """Return an HTML table of both figures' numbers: means over the seeds."""
    speeds, packets = goodputs(results), curves(results, packets_per_payload)
    rows = []
    for loss in sorted({p.loss for each in speeds.values() for p in each}):
        row = [f"{100 * loss:.3g}"]
        for setup in speeds:
            row += [_mean(speeds[setup], loss, 1e-3), _mean(packets[setup], loss, 1)]
        rows.append(row)
    names = [
        f"{_name(setup)}: {what}"
        for setup in speeds
        for what in ("goodput [kbit/s]", "DATA packets per payload")
    ]
    return html_table(["loss [%]", *names], rows)


def _mean(points: Sequence[Point], loss: float, scale: float) -> str:
    return next((shown(p.mean * scale) for p in points if p.loss == loss), "")


def _losses(points: Mapping[Setup, Sequence[Point]]) -> np.ndarray[Any, Any]:
    """Fifty losses for a curve, or none."""
    measured = [p.loss for each in points.values() for p in each]
    return np.linspace(min(measured), max(measured), 50) if measured else np.empty(0)


def _on(one: Experiment, loss: float) -> Experiment:
    """The same with another loss."""
    return replace(one, link=replace(one.link, loss=float(loss)))


def _look(setup: Setup) -> tuple[str, str, str]:
    return PROTOCOL_LOOKS.get(setup.protocol, _OTHER)


def _name(setup: Setup) -> str:
    """Such as: go-back-N, window 16, timeout 0.3 s."""
    parts = [_look(setup)[0] or setup.protocol]
    if setup.protocol not in WINDOWLESS:
        parts.append(f"window {setup.window}")
    if setup.protocol not in _NO_TIMEOUT:
        learned = setup.timeout is None
        parts.append("learned timeout" if learned else f"timeout {setup.timeout:g} s")
    return ", ".join(parts)


def _draw(
    ax: Axes, curves: Mapping[Setup, Sequence[Point]], scale: float, unit: str
) -> str:
    """Draw the points of every setup, and say them in words."""
    before: list[str] = []
    sentences = []
    for setup, points in curves.items():
        name, (_, colour, marker) = _name(setup), _look(setup)
        fill = _FILLS[before.count(setup.protocol) % len(_FILLS)]
        before.append(setup.protocol)
        plus = marker == "+"  # is seen behind another one
        means = scale * np.array([p.mean for p in points])
        spread = scale * np.array([[p.mean - p.low, p.high - p.mean] for p in points])
        ax.errorbar(
            [100 * p.loss for p in points],
            means,
            yerr=np.maximum(spread.reshape(-1, 2).T, 0),  # rounding may fall below
            linestyle="none",
            color=colour,
            marker=marker,
            fillstyle=fill,
            markersize=12 if plus else 6,
            markeredgewidth=2 if plus else 1,
            capsize=3,
            label=name,
        )
        pairs = zip(means, points, strict=True)
        numbers = ", ".join(f"{y:.3g} at {100 * p.loss:.3g} %" for y, p in pairs)
        sentences.append(f"{name}: {numbers or 'nothing measured'} loss [{unit}].")
    return " ".join(sentences)
