"""What a person sets in a panel: numbers, choices, a picture; in SI for the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

import ipywidgets as widgets

from p2plab.content.chunks import cut
from p2plab.content.content import MAX_BYTES, ORDERS
from p2plab.content.sample import sample_picture
from p2plab.core.link import Link
from p2plab.errors import BadContent
from p2plab.protocols.setup import AT_ONCE, PROTOCOLS, WINDOWLESS, Setup
from p2plab.ui.panel import line, said
from p2plab.ui.upload import Upload

LABEL: Final = "118px"  # every label, so that the boxes stand in a column
INDENT: Final = "126px"  # what has no label stands below the boxes
ROW: Final = "calc(100% - 4px)"  # of a column: what a widget's margins leave
BOX: Final = {"flex": "0 0 auto", "width": "184px"}  # a label with its number
SLIDER: Final = {"flex": "1 1 60px", "width": "auto", "min_width": "60px"}
COLUMN: Final = {"flex": "1 1 280px", "min_width": "280px", "max_width": "350px"}

PERCENT: Final = 0.01
MS: Final = 0.001
SIZES: Final = (64, 128, 256, 512)  # of the sample picture
_sample = cache(sample_picture)
_OWN: Final = "own"  # the choice that stands for a picture which somebody brought


def named(widget: Any, name: str) -> Any:
    """The widget, with a label of our width and found as `p2p-<name>`."""
    widget.style.description_width = LABEL
    widget.add_class(f"p2p-{name}")
    return widget


def dropdown(name: str, label: str, options: list[tuple[str, Any]], value: Any) -> Any:
    """A choice from a list."""
    more = {"description": label, "layout": widgets.Layout(width=ROW)}
    return named(widgets.Dropdown(options=options, value=value, **more), name)


def protocol_choice() -> Any:
    """A choice of a protocol."""
    return dropdown("protocol", "Protocol", _protocols(), "selective_repeat")


def _protocols() -> list[tuple[str, str]]:
    known = {"stop_and_wait": "stop-and-wait", "go_back_n": "go-back-N"}
    return [(known.get(n, n.replace("_", " ")), n) for n in PROTOCOLS]


def assign(controls: object, values: Mapping[str, Any]) -> None:
    """Set controls by their names; raises ValueError for names that there are not."""
    known = {k: each for k, each in vars(controls).items() if hasattr(each, "value")}
    if unknown := [name for name in values if name not in known]:
        raise ValueError(
            f"there is no {', '.join(unknown)} here, only {', '.join(known)}"
        )
    for name, value in values.items():
        known[name].value = value


class Knob:
    """A number box, which has a name in every reader, and a slider beside it.

    name: the argument that it sets; label: what people read, with the unit.
    low, high, start, step: in that unit; scale: how much SI one of them is.
    What is typed outside these limits is limited, and a line below says so: a box with
    limits of its own would do it without a word.
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
        box = widgets.IntText if self.whole else widgets.FloatText
        layout, given = widgets.Layout(**BOX), {"value": start, "step": step}
        self.number = named(box(description=label, layout=layout, **given), name)
        layout = widgets.Layout(**SLIDER)
        given |= {"min": low, "max": high, "readout": False}
        self.slider = widgets.FloatSlider(layout=layout, **given)
        self.slider.add_class(f"p2p-{name}-slider")
        self.note = line(f"{name}-note", width=ROW, display="none")
        self._start: float | None = start  # until a browser has shown it
        self.number.observe(self._typed, "value")
        self.slider.observe(self._dragged, "value")
        self._row = widgets.HBox([self.number, self.slider], layout={"width": ROW})
        self.box = widgets.VBox([self._row, self.note])

    @property
    def value(self) -> Any:
        """In SI units; a whole number where only those make sense."""
        value = self._inside(self.number.value)
        return value if self.whole else round(value * self.scale, 12)

    @value.setter
    def value(self, value: float) -> None:
        low, high = self.slider.min * self.scale, round(self.slider.max * self.scale, 9)
        if self.whole and value != int(value):
            raise ValueError(f"{self.name} is a whole number, got {value}")
        if not low <= value <= high:
            raise ValueError(
                f"{self.name} is {low:g} to {high:g} on this panel, got {value:g}"
            )
        self.number.value = self._rounded(value / self.scale)

    def enable(self, on: bool, instead: str = "") -> None:
        """Let people turn it, or not; instead: what to show then, not its value."""
        self.number.disabled = self.slider.disabled = not on
        self._row.layout.display = "none" if instead else None
        self._say(f"{self.number.description}: {instead}" if instead else "")

    def observe(self, callback: Callable[[object], None], names: str = "value") -> None:
        """Call it with every new value."""
        self.number.observe(callback, names)

    def _inside(self, value: float) -> Any:
        return self._rounded(min(max(value, self.slider.min), self.slider.max))

    def _rounded(self, value: float) -> Any:
        return int(value) if self.whole else round(value, 9)

    def _typed(self, _: object) -> None:
        typed = self.number.value
        if typed != (value := self._inside(typed)):
            self.number.value = value
            most = "at least" if typed < value else "at most"
            words = f"{most} {value:,g} here, so {typed:,g} became {value:,g}"
            self._say(words)
            return
        self._say("")
        if self._apart(typed, self.slider.value):
            self.slider.value = typed

    def _say(self, words: str) -> None:
        self.note.value = said("note", words)
        self.note.layout.display = None if words else "none"

    def _dragged(self, _: object) -> None:
        # A browser that has just made a slider at 10 tells 9.999999999999998. That may
        # come after a program has set another value, and nobody has dragged anything.
        if self._start is not None and 0 < abs(self.slider.value - self._start) < 1e-9:
            self._start = None
            if self._apart(self.number.value, self.slider.value):
                self.slider.value = self.number.value
            return
        value = round(self.slider.value / self.number.step) * self.number.step
        if self._apart(value, self.number.value):
            self.number.value = self._rounded(value)

    def _apart(self, one: float, other: float) -> bool:
        # A slider in a browser answers 9.999999999999998 when it is told 10; to correct
        # it would pull it back from wherever a quick hand has moved it meanwhile.
        return bool(abs(one - other) > 0.51 * self.number.step)


class Timeout:
    """The retransmission timeout: learnt from round trips, or fixed."""

    def __init__(self) -> None:
        ways = [("adaptive (RFC 6298)", "adaptive"), ("fixed", "fixed")]
        self.way = dropdown("timeout-way", "Timeout", ways, "adaptive")
        self.fixed = Knob("timeout", "fixed at [ms]", 5, 5000, 250, 5, MS)
        self.fixed.enable(False)
        fixed = self.fixed.enable
        self.way.observe(lambda _: fixed(self.way.value == "fixed"), "value")
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

    def observe(self, callback: Callable[[object], None], names: str = "value") -> None:
        """Call it with every new value."""
        self.way.observe(callback, names)
        self.fixed.observe(callback, names)


class PictureChoice:
    """A sample picture in several sizes, or one that somebody brings."""

    def __init__(self, size: int = 256) -> None:
        self._own: object = None
        self._samples: list[tuple[str, Any]] = [
            (f"landscape, {each} × {each}", each) for each in SIZES
        ]
        self.choice = dropdown("picture-choice", "Picture", self._samples, size)
        self.upload = Upload(layout=widgets.Layout(margin=f"0 0 0 {INDENT}"))
        self.upload.add_class("p2p-upload")
        self.box = widgets.VBox([self.choice, self.upload])

    @property
    def value(self) -> object:
        """Whatever `send_picture` takes; BadContent meets what it refuses."""
        chosen = self.choice.value
        return self._own if chosen == _OWN else _sample(chosen)

    @value.setter
    def value(self, picture: object) -> None:
        if not isinstance(picture, int):
            cut(picture, kind="picture")
            self._take(picture, "your picture")
        elif picture in SIZES:
            self.choice.value = picture
        else:
            raise ValueError(f"the sample has sizes {SIZES}, got {picture}")

    def observe(self, callback: Callable[[object], None], names: str = "value") -> None:
        """Call it with every new choice."""
        self.choice.observe(callback, names)

    def take_upload(self) -> None:
        """Choose what was uploaded; raises BadContent, and then nothing changes."""
        files = self.upload.value
        if not files:
            return
        self.upload.value = ()  # or nobody would hear of the same file again
        name, size = str(files[0]["name"]), files[0]["size"]
        if files[0]["content"] is None:
            raise BadContent(
                f"{name} has {size:,} bytes, and the limit is {MAX_BYTES:,}: take a "
                "smaller picture"
            )
        try:
            cut(files, kind="picture")
        except BadContent as why:
            raise BadContent(f"nothing else was chosen: {why}") from why
        self._take(files, name)

    def _take(self, picture: object, label: str) -> None:
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
        orders = [(each, each) for each in ORDERS]
        self.order = dropdown("order", "Cutting order", orders, "rows")
        ways = [("simulated", False), ("real sockets", True)]
        self.real = dropdown("real", "Run it", ways, False)
        self.knobs = [self.loss, self.delay, self.jitter, self.duplicate]
        self.knobs += [self.corrupt, self.reorder, self.seed]
        self.all = [self.real, self.protocol, self.window, self.timeout, self.picture]
        self.all += [self.order, *self.knobs]
        self.protocol.observe(self._chosen, "value")

    def set(self, values: Mapping[str, Any]) -> None:
        """Set some; raises ValueError for unknown names and impossible values."""
        if (name := values.get("protocol")) is not None:
            Setup(name)  # says it well if there is no such protocol
            self.protocol.options = _protocols()
        if values.get("order", "rows") not in ORDERS:
            raise ValueError(f"order is one of {ORDERS}, got {values['order']!r}")
        assign(self, values)

    @property
    def setup(self) -> Setup:
        """The protocol that is chosen."""
        setup = Setup(self.protocol.value, timeout=self.timeout.value)
        if setup.protocol in AT_ONCE:  # they find their window
            return setup
        return replace(setup, window=self.window.value)

    @property
    def link(self) -> Link:
        """The link that is set."""
        return Link(**{each.name: each.value for each in self.knobs})

    def column(self, *below: Any) -> Any:
        """All of them, one below the other, and something below that."""
        boxes = [getattr(each, "box", each) for each in self.all]
        return widgets.VBox([*boxes, *below], layout=widgets.Layout(**COLUMN))

    def _chosen(self, _: object) -> None:
        name = self.protocol.value
        of_one = "always 1" if name == "stop_and_wait" else "has none"
        instead = "finds its own" if name in AT_ONCE else of_one
        turns = name not in (*WINDOWLESS, *AT_ONCE)
        self.window.enable(turns, "" if turns else instead)
