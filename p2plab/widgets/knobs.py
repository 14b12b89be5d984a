"""Parts of a panel with a name and a unit: a person's units, SI for the program."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, Final

import ipywidgets as widgets

LABEL: Final = "118px"  # every label, so that the boxes stand in a column
INDENT: Final = "126px"  # what has no label stands below the boxes
ROW: Final = "calc(100% - 4px)"  # of a column: what a widget's margins leave
BOX: Final = {"flex": "0 0 auto", "width": "200px"}  # a label with its number
SLIDER: Final = {"flex": "1 1 60px", "width": "auto", "min_width": "60px"}
COLUMN: Final = {"flex": "1 1 280px", "min_width": "280px", "max_width": "350px"}

PERCENT: Final = 0.01
MS: Final = 0.001


def named(widget: Any, name: str) -> Any:
    """The widget, with a label of our width and found as `p2p-<name>`."""
    widget.style.description_width = LABEL
    widget.add_class(f"p2p-{name}")
    return widget


def dropdown(name: str, label: str, options: list[tuple[str, Any]], value: Any) -> Any:
    """A choice from a list."""
    layout = widgets.Layout(width=ROW)
    each = widgets.Dropdown(
        options=options, value=value, description=label, layout=layout
    )
    return named(each, name)


class _LimitsFirst:
    """A widget whose browser hears of its limits before its value.

    A slider's would cut a value by its old limits, and answer with what is left.
    """

    def get_state(self, *which: Any, **more: Any) -> dict[str, Any]:
        """The same, sorted: `max` and `min` stand before `value`."""
        state: dict[str, Any] = super().get_state(*which, **more)  # type: ignore[misc]
        return dict(sorted(state.items()))


class _IntSlider(_LimitsFirst, widgets.IntSlider):  # type: ignore[misc]
    pass


class _FloatSlider(_LimitsFirst, widgets.FloatSlider):  # type: ignore[misc]
    pass


class Knob:
    """A number box, which has a name in every reader, and a slider beside it.

    name: the argument that it sets; label: what people read, with the unit.
    low, high, start, step: in that unit; scale: how much SI one of them is.
    """

    def __init__(
        self,
        name: str,
        label: str,
        low: float,
        high: float,
        start: float,
        step: float = 1,
        scale: float = 1,
    ) -> None:
        self.name, self.scale = name, scale
        self.whole = scale == 1 and all(type(x) is int for x in (low, high, step))
        box, bar = (
            (widgets.BoundedIntText, _IntSlider)
            if self.whole
            else (widgets.BoundedFloatText, _FloatSlider)
        )
        limits = {"min": low, "max": high, "value": start, "step": step}
        self.number = named(
            box(description=label, layout=widgets.Layout(**BOX), **limits), name
        )
        self.slider = bar(readout=False, layout=widgets.Layout(**SLIDER), **limits)
        self.slider.add_class(f"p2p-{name}-slider")
        self.number.observe(self._typed, "value")
        self.slider.observe(self._dragged, "value")
        self.box = widgets.HBox([self.number, self.slider], layout={"width": ROW})

    @property
    def value(self) -> Any:
        """In SI units; a whole number where only those make sense."""
        value = self.number.value
        return value if self.whole else round(value * self.scale, 12)

    @value.setter
    def value(self, value: float) -> None:
        low, high = self.number.min * self.scale, self.number.max * self.scale
        if self.whole and value != int(value):
            raise ValueError(f"{self.name} is a whole number, got {value}")
        if not low <= value <= high:
            raise ValueError(
                f"{self.name} is {low:g} to {high:g} on this panel, got {value:g}"
            )
        shown = value / self.scale
        self.number.value = int(shown) if self.whole else round(shown, 9)

    @property
    def highest(self) -> float:
        """The largest value [SI]."""
        return float(round(self.number.max * self.scale, 12))

    def enable(self, on: bool) -> None:
        """Let people turn it, or not."""
        self.number.disabled = self.slider.disabled = not on

    def stretch(self, high: float) -> None:
        """Make `high` [SI], or a bit more, the largest value, and take it."""
        high = max(ceil(high / self.scale), 1)
        # A slider in a browser answers a new `max` alone with its old value, and so
        # would undo the new one: it has to hear of both at once.
        with self.number.hold_sync(), self.slider.hold_sync():
            for each in (self.number, self.slider):  # a value above `max` is refused
                each.max = max(each.max, high)
            self.number.value = high
            self.number.max = self.slider.max = high

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it with every new value."""
        self.number.observe(callback, "value")

    def _typed(self, _: object) -> None:
        if self._apart(self.number.value, self.slider.value):
            self.slider.value = self.number.value

    def _dragged(self, _: object) -> None:
        step = self.number.step
        value = round(round(self.slider.value / step) * step, 9)
        if self._apart(value, self.number.value):
            self.number.value = value

    def _apart(self, one: float, other: float) -> bool:
        # A slider in a browser answers 9.999999999999998 when it is told 10; to correct
        # it would pull it back from wherever a quick hand has moved it meanwhile.
        return bool(abs(one - other) > 0.51 * self.number.step)


class Timeout:
    """The retransmission timeout: learnt from round trips, or fixed."""

    name = "timeout"

    def __init__(self) -> None:
        ways = [("adaptive (RFC 6298)", "adaptive"), ("fixed", "fixed")]
        self.way = dropdown("timeout-way", "Timeout", ways, "adaptive")
        self.fixed = Knob("timeout", "fixed at [ms]", 5, 5000, 250, 5, MS)
        self.fixed.enable(False)
        self.way.observe(self._chosen, "value")
        self.box = widgets.VBox([self.way, self.fixed.box])

    @property
    def value(self) -> float | None:
        """Seconds, or None if it is learnt."""
        return self.fixed.value if self.way.value == "fixed" else None

    @value.setter
    def value(self, seconds: float | None) -> None:
        if seconds is not None:
            self.fixed.value = seconds
        self.way.value = "adaptive" if seconds is None else "fixed"

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it with every new value."""
        self.way.observe(callback, "value")
        self.fixed.observe(callback)

    def _chosen(self, _: object) -> None:
        self.fixed.enable(self.way.value == "fixed")
