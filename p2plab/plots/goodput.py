"""Loss against goodput: measured points over the curves of the theory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from p2plab.experiments import Experiment, Point, Result, goodputs
from p2plab.plots.style import finish, given_or_new
from p2plab.protocols import Setup

# Names, and colours that mean nothing else in other figures.
_LOOKS = {
    "best_effort": ("best effort", "#888888", "v"),
    "stop_and_wait": ("stop-and-wait", "#000000", "o"),
    "go_back_n": ("go-back-N", "#56B4E9", "s"),
    "selective_repeat": ("selective repeat", "#8C510A", "^"),
}
_FILLS = ("full", "none", "left", "right")  # several setups of one protocol
_ASSUMED = (
    "Dashed, the theory: independent losses, safe ACKs, endless data, and a timer of\n"
    "one round trip (stop-and-wait: the timeout that was set, and the ACKs' own loss)."
)


def goodput_over_loss(
    results: Sequence[Result], ax: Axes | None = None, *, theory: bool = True
) -> Axes:
    """Draw what `experiments.sweep` measured: mean, least and most over the seeds.

    theory: draw beneath what `Experiment.expected_goodput` says.
    """
    ax = given_or_new(ax)
    curves = goodputs(results)
    largest = max((p.high for points in curves.values() for p in points), default=0.0)
    scale, unit = (1e-6, "Mbit/s") if largest >= 1e6 else (1e-3, "kbit/s")
    first = {r.experiment.setup: r.experiment for r in reversed(results)}
    before: list[str] = []
    sentences = [f"Goodput over loss, {len(results)} runs."]
    for setup, points in curves.items():
        _, colour, marker = _LOOKS.get(setup.protocol, ("", "#888888", "D"))
        fill = _FILLS[before.count(setup.protocol) % len(_FILLS)]
        before.append(setup.protocol)
        look = {"color": colour, "marker": marker, "fillstyle": fill}
        _measured(ax, points, scale, label=_name(setup), **look)
        if theory:
            _expected(ax, first[setup], points, scale, colour)
        sentences.append(_sentence(_name(setup), points, scale, unit))
    ax.set_ylim(bottom=0)
    note = _ASSUMED if theory and results else ""
    sentence = " ".join(sentences)
    return finish(ax, "loss [%]", f"goodput [{unit}]", sentence, note=note, columns=2)


def _name(setup: Setup) -> str:
    """Such as: go-back-N, window 16, timeout 0.3 s."""
    name, *_ = _LOOKS.get(setup.protocol, (setup.protocol,))
    if setup.protocol in ("best_effort", "stop_and_wait"):
        window = ""
    else:
        window = f", window {setup.window}"
    timeout = (
        "learned timeout" if setup.timeout is None else f"timeout {setup.timeout:g} s"
    )
    return f"{name}{window}" + (
        f", {timeout}" if setup.protocol != "best_effort" else ""
    )


def _measured(ax: Axes, points: Sequence[Point], scale: float, **look: Any) -> None:
    means = np.array([p.mean for p in points]) * scale
    spread = np.array([[p.mean - p.low, p.high - p.mean] for p in points]) * scale
    ax.errorbar(
        [100 * p.loss for p in points],
        means,
        yerr=np.maximum(spread.reshape(-1, 2).T, 0),  # rounding may fall below
        linestyle="none",
        capsize=3,
        markersize=6,
        **look,
    )


def _expected(
    ax: Axes, one: Experiment, points: Sequence[Point], scale: float, colour: str
) -> None:
    if not points:
        return
    losses = np.linspace(points[0].loss, points[-1].loss, 50)
    links = [replace(one.link, loss=float(loss)) for loss in losses]
    curve = [replace(one, link=link).expected_goodput() for link in links]
    if None not in curve:
        goodput = scale * np.array(curve, dtype=float)
        ax.plot(100 * losses, goodput, color=colour, linestyle="--", linewidth=1)


def _sentence(name: str, points: Sequence[Point], scale: float, unit: str) -> str:
    if not points:
        return f"{name}: nothing measured."
    numbers = (f"{p.mean * scale:.3g} at {100 * p.loss:.3g} %" for p in points)
    return f"{name}: {', '.join(numbers)} loss [{unit}]."
