"""The controls of a transfer panel: what a person sets before a picture is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from p2plab.content.content import ORDERS
from p2plab.core.link import Link
from p2plab.protocols.setup import AT_ONCE, PROTOCOLS, WINDOWLESS, Setup
from p2plab.ui.choice import PictureChoice
from p2plab.ui.knobs import COLUMN, MS, PERCENT, Knob, Timeout, dropdown


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
        setup = Setup(self.protocol.value, timeout=self.timeout.value)
        if setup.protocol in AT_ONCE:  # they find their window
            return setup
        return replace(setup, window=self.window.value)

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
        layout = widgets.Layout(**COLUMN)
        boxes = [widgets.VBox(each, layout=layout) for each in (left, right)]
        return widgets.HBox(boxes, layout=widgets.Layout(flex_flow="row wrap"))

    def _chosen(self, _: object) -> None:
        name = self.protocol.value
        of_one = "always 1" if name == "stop_and_wait" else "has none"
        instead = "finds its own" if name in AT_ONCE else of_one
        self.window.enable(name not in (*WINDOWLESS, *AT_ONCE), instead)
