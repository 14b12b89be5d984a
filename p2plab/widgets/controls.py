"""Controls with a name and a unit: what a person sets, in SI for the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, Final

import ipywidgets as widgets

from p2plab.content import ORDERS
from p2plab.link import Link
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.sample import sample_picture

LABEL: Final = "122px"  # every label, so that the boxes stand in a column
INDENT: Final = "132px"  # what has no label stands below the boxes
WIDTH: Final = "214px"  # of a label with its number box
ROW: Final = "340px"  # of that with its slider
COLUMN: Final = "350px"

SIZES: Final = (64, 128, 256, 512)
PERCENT: Final = 0.01
MS: Final = 0.001
_OWN: Final = "own"  # the choice that stands for a picture which somebody brought


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


def protocols() -> list[tuple[str, str]]:
    """The protocols that can be chosen: title and name."""
    known = {"stop_and_wait": "stop-and-wait", "go_back_n": "go-back-N"}
    return [(known.get(n, n.replace("_", " ")), n) for n in PROTOCOLS]


def protocol_choice() -> Any:
    """A choice among them."""
    return dropdown("protocol", "Protocol", protocols(), "selective_repeat")


def assign(controls: object, values: Mapping[str, Any]) -> None:
    """Set controls by their names; raises ValueError for names that there are not."""
    known = vars(controls)
    if unknown := [name for name in values if not hasattr(known.get(name), "value")]:
        names = ", ".join(name for name in known if hasattr(known[name], "value"))
        raise ValueError(f"there is no {', '.join(unknown)} here, only {names}")
    for name, value in values.items():
        known[name].value = value


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
            (widgets.BoundedIntText, widgets.IntSlider)
            if self.whole
            else (widgets.BoundedFloatText, widgets.FloatSlider)
        )
        limits = {"min": low, "max": high, "value": start, "step": step}
        self.number = named(
            box(description=label, layout=widgets.Layout(width=WIDTH), **limits), name
        )
        self.slider = bar(readout=False, layout=widgets.Layout(width="120px"), **limits)
        self.slider.add_class(f"p2p-{name}-slider")
        self.number.observe(self._typed, "value")
        self.slider.observe(self._dragged, "value")
        self.box = widgets.HBox([self.number, self.slider])

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
        for each in (self.number, self.slider):  # a value above `max` would be refused
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


class PictureChoice:
    """A sample picture in several sizes, or one that somebody brings."""

    name = "picture"

    def __init__(self, size: int = 256) -> None:
        self._own: object = None
        self._samples: list[tuple[str, Any]] = [
            (f"landscape, {each} × {each}", each) for each in SIZES
        ]
        self.choice = dropdown("picture-choice", "Picture", self._samples, size)
        self.upload = widgets.FileUpload(
            accept="image/*",
            description="Upload a picture",
            layout=widgets.Layout(width="208px", margin=f"2px 2px 2px {INDENT}"),
        )
        self.upload.add_class("p2p-upload")
        self.upload.observe(self._uploaded, "value")
        self.box = widgets.VBox([self.choice, self.upload])

    @property
    def value(self) -> object:
        """Whatever `send_picture` takes."""
        chosen = self.choice.value
        return self._own if chosen == _OWN else sample_picture(chosen)

    @value.setter
    def value(self, picture: object) -> None:
        if isinstance(picture, int):
            if picture not in SIZES:
                raise ValueError(f"the sample has sizes {SIZES}, got {picture}")
            self.choice.value = picture
        else:
            self._bring(picture, "your picture")

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it with every new choice."""
        self.choice.observe(callback, "value")

    def _uploaded(self, _: object) -> None:
        if self.upload.value:
            self._bring(self.upload.value, str(self.upload.value[0]["name"]))

    def _bring(self, picture: object, label: str) -> None:
        if self.choice.value == _OWN:  # or nobody would hear of the second one
            self.choice.value = SIZES[0]
        self._own = picture
        self.choice.options = [*self._samples, (label[:40], _OWN)]
        self.choice.value = _OWN


class TransferControls:
    """All that can be set; `values` are in SI units, and named as in Setup and Link."""

    def __init__(self) -> None:
        self.protocol = protocol_choice()
        self.window = Knob("window", "Window [packets]", 1, 128, 16)
        self.timeout = Timeout()
        self.loss = Knob("loss", "Loss [%]", 0, 95, 10, 1, PERCENT)
        self.delay = Knob("delay", "Delay [ms]", 0, 500, 50, 5, MS)
        self.jitter = Knob("jitter", "Jitter [ms]", 0, 200, 0, 5, MS)
        self.duplicate = Knob("duplicate", "Duplication [%]", 0, 50, 0, 1, PERCENT)
        self.corrupt = Knob("corrupt", "Corruption [%]", 0, 50, 0, 1, PERCENT)
        self.reorder = Knob("reorder", "Reordering [%]", 0, 50, 0, 1, PERCENT)
        self.seed = Knob("seed", "Seed", 0, 999, 1)
        self.picture = PictureChoice()
        self.order = dropdown(
            "order", "Cutting order", [(each, each) for each in ORDERS], "rows"
        )
        ways = [("simulated", False), ("real sockets", True)]
        self.real = dropdown("real", "Run it", ways, False)
        self.knobs = [self.loss, self.delay, self.jitter, self.duplicate]
        self.knobs += [self.corrupt, self.reorder, self.seed]
        self.protocol.observe(self._chosen, "value")

    def set(self, values: Mapping[str, Any]) -> None:
        """Set some; raises ValueError for unknown names and impossible values."""
        if (name := values.get("protocol")) is not None:
            Setup(name)  # says it well if there is no such protocol
            self.protocol.options = protocols()
        if values.get("order", "rows") not in ORDERS:
            raise ValueError(f"order is one of {ORDERS}, got {values['order']!r}")
        assign(self, values)

    @property
    def setup(self) -> Setup:
        """The protocol that is chosen."""
        return Setup(self.protocol.value, self.window.value, self.timeout.value)

    @property
    def link(self) -> Link:
        """The link that is set."""
        return Link(**{each.name: each.value for each in self.knobs})

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it when something is changed."""
        choices = [self.protocol, self.order, self.real]
        for each in choices:
            each.observe(callback, "value")
        others: list[Knob | Timeout | PictureChoice] = [self.window, *self.knobs]
        for control in (*others, self.timeout, self.picture):
            control.observe(callback)

    def columns(self, below: Any) -> Any:
        """All of them, in two columns; `below` stands under the second one."""
        boxes = [self.window.box, self.timeout.box, self.picture.box]
        left = [self.real, self.protocol, *boxes, self.order]
        right = [*(each.box for each in self.knobs), below]
        layout = widgets.Layout(width=COLUMN, overflow="hidden")
        return widgets.HBox(
            [widgets.VBox(each, layout=layout) for each in (left, right)]
        )

    def _chosen(self, _: object) -> None:
        self.window.enable(self.protocol.value not in ("best_effort", "stop_and_wait"))
