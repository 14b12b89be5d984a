"""What a transfer panel shows: the picture, its progress, the figures afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import ipywidgets as widgets

from p2plab.content.chunks import Assembly
from p2plab.content.transfer import Transfer
from p2plab.core.trace import Trace
from p2plab.core.validation import count_of
from p2plab.ui.controls import TransferControls
from p2plab.ui.figures import FIGURES, autopsy, code, ladder
from p2plab.ui.knobs import MS, Knob
from p2plab.ui.panel import STYLE, button, line
from p2plab.ui.pictures import bar, empty, figure
from p2plab.ui.runs import Order, have

SIDE: Final = 336  # of the picture on the screen [CSS pixels]
GAP: Final = "0 0 0 8px"
TABS: Final = "600px"  # high at least, so that no figure changes the page's height


class Stage:
    """The widgets below and beside the controls; the view's thread alone draws here.

    names: of the sender and the receiver.
    moment: where in a transfer that is over the picture and the ladder are [s].
    """

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names
        self.buttons = {
            "send": button("send", "Send", button_style="primary", icon="play"),
            "stop": button("stop", "Stop", button_style="danger", icon="stop"),
            "skip": button("skip", "To the end", icon="fast-forward"),
        }
        for name, each in self.buttons.items():
            each.layout.width = "128px" if name == "skip" else "96px"
        self.picture = line("picture", width="100%")
        self.bar = line("bar", width="100%", min_height="84px")
        self.clear()
        self.moment = Knob("moment", "Moment [ms]", 0.0, 1.0, 1.0, 1.0, MS)
        self.figures = {name: line(name) for name in (*FIGURES, "autopsy", "code")}
        titles = [title for title, _ in FIGURES.values()] + ["Autopsy", "As code"]
        self.tabs = widgets.Tab(
            list(self.figures.values()),
            titles=titles,
            layout=widgets.Layout(min_height=TABS, display="none"),  # before a figure
        )
        self.tabs.add_class("p2p-tabs")
        self.enable(running=False, real=False, past=False)

    def enable(self, *, running: bool, real: bool, past: bool) -> None:
        """Let people press what makes sense now, and see figures if there are some."""
        over = past and not running
        self.buttons["send"].disabled = running
        self.buttons["stop"].disabled = not running
        self.buttons["skip"].disabled = real or not running
        self.moment.enable(over)
        if over:
            self.tabs.layout.display = None
        self.tabs.layout.visibility = "visible" if over else "hidden"

    def lay_out(self, controls: TransferControls, words: list[Any]) -> list[Any]:
        """The controls beside the picture, the figures below."""
        style = line("style")
        style.value = STYLE
        buttons = widgets.HBox(list(self.buttons.values()))
        left = widgets.VBox(
            [controls.columns(buttons), self.moment.box, *words],
            layout=widgets.Layout(flex="1 1 568px", max_width="706px"),
        )
        right = widgets.VBox(
            [self.picture, self.bar],
            layout=widgets.Layout(flex="1 1 232px", max_width=f"{SIDE}px", margin=GAP),
        )
        wrap = widgets.Layout(flex_flow="row wrap")
        return [style, widgets.HBox([left, right], layout=wrap), self.tabs]

    def clear(self) -> None:
        """Take the picture and its numbers away, before there are others."""
        self.picture.value, self.bar.value = empty(SIDE), bar(0, "")

    def show(self, assembly: Assembly, moment: float, *, final: bool) -> None:
        """Show the picture as it was then [s]."""
        words = f"The picture as received after {moment:.2f} s: {have(assembly)}."
        self.picture.value = figure(assembly.picture(), words, SIDE, final=final)

    def show_original(self, assembly: Assembly) -> None:
        """Show what would be sent."""
        it = assembly.content
        words = f"The picture to send: {it.width} × {it.height} pixels."
        self.picture.value = figure(assembly.picture(), words, SIDE, final=True)
        packets = f"{count_of(it.count, 'payload')} of up to {it.chunk_size:,} bytes"
        self.bar.value = bar(0, f"{words} It will travel as {packets}.")

    def count(self, assembly: Assembly, moment: float, counts: str = "") -> None:
        """Show how much has arrived."""
        words = f"{moment:.2f} s: {have(assembly)}. {counts}"
        self.bar.value = bar(assembly.progress, words)

    def show_code(self, order: Order) -> None:
        """Show the transfer as a cell, and that all else is still to be drawn."""
        for each in self.figures.values():
            each.value = "<p>This is being drawn …</p>"
        self.figures["code"].value = code(order)

    def show_figures(self, trace: Trace, wanted: Callable[[], bool]) -> bool:
        """Draw everything that a trace tells, the open tab first; say if all is drawn.

        wanted: asked before each figure, since all take seconds on a slow computer.
        """
        names = list(FIGURES)
        first = self.tabs.selected_index or 0
        for name in names[first:] + names[:first]:
            if not wanted():
                return False
            if name == "ladder":
                self.show_ladder(trace, 0.0)
            else:
                self.figures[name].value = FIGURES[name][1](trace)
        return True

    def show_autopsy(self, transfer: Transfer) -> None:
        """Say what went wrong, and open that tab if a transfer has failed."""
        tab = list(self.figures).index("autopsy")
        self.figures["autopsy"].value = autopsy(transfer)
        if transfer.went_wrong and transfer.error is not None:
            self.tabs.selected_index = tab
        elif self.tabs.selected_index == tab:
            self.tabs.selected_index = 0

    def show_ladder(self, trace: Trace, start: float) -> None:
        """Draw the ladder from a moment on [s]."""
        self.figures["ladder"].value = ladder(trace, start, self.names)
