"""What a transfer panel shows: the picture, its progress, the figures afterwards."""

from __future__ import annotations

from typing import Any, Final

import ipywidgets as widgets

from p2plab.chunks import Assembly
from p2plab.trace import Trace
from p2plab.widgets.controls import MS, Knob, TransferControls
from p2plab.widgets.figures import FIGURES, code, ladder
from p2plab.widgets.panel import STYLE, button, line
from p2plab.widgets.pictures import bar, empty, figure
from p2plab.widgets.runs import Order, have

SIDE: Final = 336  # of the picture on the screen [CSS pixels]
TABS: Final = "580px"  # high, so that nothing jumps when a figure comes


class Stage:
    """The widgets below and beside the controls; the view's thread alone draws here.

    moment: where in a transfer that is over the picture and the ladder are [s].
    """

    def __init__(self) -> None:
        self.buttons = {
            "send": button("send", "Send", button_style="primary", icon="play"),
            "stop": button("stop", "Stop", button_style="danger", icon="stop"),
            "skip": button("skip", "To the end", icon="fast-forward"),
        }
        for name, each in self.buttons.items():
            each.layout.width = "128px" if name == "skip" else "96px"
        self.picture = line("picture", width=f"{SIDE}px", height=f"{SIDE}px")
        self.picture.value = empty(SIDE)
        self.bar = line("bar", width=f"{SIDE}px", height="64px")
        self.bar.value = bar(0, "")
        self.moment = Knob("moment", "Moment [ms]", 0.0, 1.0, 1.0, 1.0, MS)
        self.moment.slider.layout.width = "480px"
        self.figures = {name: line(name) for name in (*FIGURES, "code")}
        titles = [title for title, _ in FIGURES.values()] + ["As code"]
        for each in self.figures.values():
            each.value = "Here when the transfer is over."
        self.tabs = widgets.Tab(
            list(self.figures.values()),
            titles=titles,
            layout=widgets.Layout(height=TABS, width="1056px"),
        )
        self.tabs.add_class("p2p-tabs")
        self.enable(running=False, real=False, past=False)

    def enable(self, *, running: bool, real: bool, past: bool) -> None:
        """Let people press what makes sense now."""
        self.buttons["send"].disabled = running
        self.buttons["stop"].disabled = not running
        self.buttons["skip"].disabled = real or not running
        self.moment.enable(past and not running)

    def lay_out(self, controls: TransferControls, words: list[Any]) -> list[Any]:
        """The controls beside the picture, the figures below."""
        style = line("style")
        style.value = STYLE
        buttons = widgets.HBox(list(self.buttons.values()))
        left = widgets.VBox(
            [controls.columns(buttons), self.moment.box, *words],
            layout=widgets.Layout(width="706px"),
        )
        right = widgets.VBox([self.picture, self.bar])
        wrap = widgets.Layout(flex_flow="row wrap")
        return [style, widgets.HBox([left, right], layout=wrap), self.tabs]

    def show(self, assembly: Assembly, moment: float, *, final: bool) -> None:
        """Show the picture as it was then [s]."""
        words = f"The picture as received after {moment:.2f} s: {have(assembly)}."
        self.picture.value = figure(assembly.picture(), words, SIDE, final=final)

    def show_original(self, assembly: Assembly) -> None:
        """Show what would be sent."""
        it = assembly.content
        words = f"The picture to send: {it.width} × {it.height} pixels."
        self.picture.value = figure(assembly.picture(), words, SIDE, final=True)
        packets = f"{it.count:,} payloads of up to {it.chunk_size:,} bytes"
        self.bar.value = bar(0, f"{words} It will travel as {packets}.")

    def count(self, assembly: Assembly, moment: float, counts: str = "") -> None:
        """Show how much has arrived."""
        words = f"{moment:.2f} s: {have(assembly)}. {counts}"
        self.bar.value = bar(assembly.progress, words)

    def show_figures(self, trace: Trace, order: Order) -> None:
        """Draw everything that a trace tells, the open tab first."""
        self.figures["code"].value = code(order)
        names = list(FIGURES)
        first = self.tabs.selected_index or 0
        for name in names[first:] + names[:first]:
            self.figures[name].value = FIGURES[name][1](trace)

    def show_ladder(self, trace: Trace, start: float) -> None:
        """Draw the ladder from a moment on [s]."""
        self.figures["ladder"].value = ladder(trace, start)
