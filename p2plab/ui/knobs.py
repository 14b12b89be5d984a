"""Parts of a panel with a name and a unit: a person's units, SI for the program."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, Final

import ipywidgets as widgets

from p2plab.ui.panel import line, said

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
    What is typed outside these limits is limited, and a line below says so.
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
        box, bar = (  # a box with limits of its own would keep them without a word
            (widgets.IntText, _IntSlider)
            if self.whole
            else (widgets.FloatText, _FloatSlider)
        )
        given: dict[str, Any] = {"value": start, "step": step}
        layout = widgets.Layout(**BOX)
        self.number = named(box(description=label, layout=layout, **given), name)
        layout = widgets.Layout(**SLIDER)
        self.slider = bar(readout=False, min=low, max=high, layout=layout, **given)
        self.slider.add_class(f"p2p-{name}-slider")
        self.instead = named(
            widgets.Text(disabled=True, layout={"width": ROW}),
            f"{name}-instead",
        )
        self.limited = line(f"{name}-limited", width=ROW)
        self.number.observe(self._typed, "value")
        self.slider.observe(self._dragged, "value")
        self._row = widgets.HBox([self.number, self.slider], layout={"width": ROW})
        self.box = widgets.VBox([self._row, self.instead, self.limited])
        self._say("")
        self.enable(True)

    @property
    def value(self) -> Any:
        """In SI units; a whole number where only those make sense."""
        value = self._inside(self.number.value)
        return value if self.whole else round(value * self.scale, 12)

    @value.setter
    def value(self, value: float) -> None:
        low, high = self.slider.min * self.scale, self.highest
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
        return float(round(self.slider.max * self.scale, 12))

    def enable(self, on: bool, instead: str = "") -> None:
        """Let people turn it, or not; instead: what to show then, not its value."""
        self.number.disabled = self.slider.disabled = not on
        self.instead.value = "" if on else instead
        # Nobody finds two boxes of one name while only the number is there.
        self.instead.description = self.number.description if self.instead.value else ""
        shown, hidden = self._row.layout, self.instead.layout
        if self.instead.value:
            shown, hidden = hidden, shown
        shown.display, hidden.display = None, "none"

    def stretch(self, high: float) -> None:
        """Make `high` [SI], or a bit more, the largest value, and take it."""
        high = max(ceil(high / self.scale), 1)
        # A slider in a browser answers a new `max` alone with its old value, and so
        # would undo the new one: it has to hear of both at once.
        with self.slider.hold_sync():
            self.slider.max = max(self.slider.max, high)  # it refuses a value above
            self.number.value = high
            self.slider.max = high

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it with every new value."""
        self.number.observe(callback, "value")

    def _inside(self, value: Any) -> Any:
        return min(max(value, self.slider.min), self.slider.max)

    def _say(self, words: str) -> None:
        self.limited.value = said("note", words)
        self.limited.layout.display = None if words else "none"

    def _typed(self, _: object) -> None:
        typed = self.number.value
        if typed != (value := self._inside(typed)):
            self.number.value = value
            most = "at least" if typed < value else "at most"
            self._say(f"{most} {value:,g} here, so {typed:,g} became {value:,g}")
            return
        self._say("")
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
