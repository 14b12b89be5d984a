"""Numbers over numbers: points that were measured, curves that were computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes

from p2plab.plots import style
from p2plab.plots.style import Style, few, finish, given_or_new

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
