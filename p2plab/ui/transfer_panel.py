"""The transfer panel: turn a knob, send a picture, see what happened."""

from __future__ import annotations

import html
import sys
import threading
from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self

import ipywidgets as widgets
import numpy as np

from p2plab.content.chunks import Assembly, cut
from p2plab.content.sample import sample_picture
from p2plab.core.link import Link
from p2plab.core.validation import count_of
from p2plab.errors import P2PLabError, TransferError, TransferStopped
from p2plab.measure.metrics import summarise
from p2plab.protocols import Setup
from p2plab.ui.controls import PERCENT, SIZES, Knob, TransferControls
from p2plab.ui.panel import FRAME, STYLE, Panel, button, line, open_lab, said
from p2plab.ui.playback import (
    Playback,
    bar,
    figure,
    have,
    silence,
    square,
    tally,
)
from p2plab.ui.stage import Stage

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer

SIDE: Final = 336  # of the picture on the screen [CSS pixels]
LOW: Final = (
    "600px"  # tabs are so high at least, so that no figure changes the page's height
)
WIDTH, HEIGHT = 9.8, 5.1  # of a figure [inch], of 100 pixels
HELP: Final = "Below, Autopsy tells what happened, and Ladder draws it."
WAITING: Final = (
    "A cell waits for this transfer, and until it ends no button is heard. To stop "
    "both, press ■ in the notebook's toolbar."
)
STOPPED_IN: Final = 5.0  # [s]
TABS: Final = {  # a class in the page, and the title
    "ladder": "Ladder",
    "stage": "Play",
    "over-time": "Over time",
    "window": "Window",
    "rtt": "Round trips",
    "numbers": "Numbers",
    "autopsy": "Autopsy",
    "code": "As code",
}


class TransferPanel(Panel):
    """Send a picture through a bad link, simulated or real, and see all of it.

    lab: whose peers send over real sockets; without one, the panel makes its own.
    sender, receiver: their names; they are made if the lab has no such peers.
    key: see Panel. replay: how long a simulated transfer is shown at most [s].
    settings: what `set` takes.

    `controls` are the widgets; `transfer` is the last transfer, and `error` what went
    wrong with it. A cell may end with the panel to show it, or drive it:
    `panel.set(loss=0.3, window=8).run().wait()`.
    """

    def __init__(
        self,
        lab: Lab | None = None,
        *,
        sender: str = "alice",
        receiver: str = "bob",
        key: str | None = None,
        replay: float = 3.0,
        **settings: Any,
    ) -> None:
        lab = open_lab(lab)
        super().__init__("transfer", key)
        self.controls = TransferControls()
        self.replay = replay
        self.names = sender, receiver
        self._lab, self._own_lab = lab, lab is None
        self._lock = threading.Lock()  # callbacks may come from two threads at once
        self._run: Playback | None = None
        self._shown_at: float | None = None  # the share of its time, in the picture
        self._tab_drawn: tuple[str, float] | None = None  # which one, and from where
        self._ended = threading.Event()
        self._lay_out()
        self._enable()
        self.set(**settings)
        self._listen()
        self._show_original()
        self.tell("Ready. Choose, then press Send.")

    @property
    def transfer(self) -> Transfer | None:
        """The transfer that runs, or the last one."""
        return None if self._run is None else self._run.transfer

    @property
    def running(self) -> bool:
        """Whether one is on its way."""
        return self._run is not None and not self._run.drawn

    def set(self, **settings: Any) -> Self:
        """Turn knobs, in SI units: what Setup and Link take, and picture, order, real.

        picture: a size of the sample, or whatever `send_picture` takes.
        real: over real sockets, not simulated.
        Raises ValueError for unknown names and impossible values.
        """
        self.controls.set(settings)
        return self

    def run(self) -> Self:
        """Send, and return at once. Raises P2PLabError while a transfer is on its way,
        ValueError and BadContent for what cannot be sent.
        """
        it = self.controls
        with self._lock:
            if self.running:
                raise P2PLabError("a transfer is on its way: stop it, or let it end")
            self.clear_error()
            peers = self._peers if it.real.value else None
            what = it.picture.value, it.setup, it.link, it.order.value
            run = Playback(*what, peers=peers, seconds=self.replay)
            before, self._run = self._run, run
            self._enable()
        # Results of before go at once: the view may be drawing figures for seconds.
        self._shown_at = None
        style = f"{square(SIDE)};background:var(--jp-layout-color2,#eee)"
        self.picture.value, self.bar.value = f'<div style="{style}"></div>', bar(0, "")
        self.tell(f"Getting ready to send {run.words} …")
        self.start(lambda: self._begin(run, before))
        return self

    def stop(self) -> Self:
        """End it now; what has arrived and the trace stay."""
        if self._run is not None and self.running:
            self.start(self._run.stop)
        return self

    def skip(self) -> Self:
        """Show the end of a simulated transfer now."""
        if self._run is not None:
            self._run.skip()
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until all is over and drawn.

        Interrupting the kernel stops the transfer; what has arrived stays.
        Raises what the transfer failed with, or TransferError after `timeout` seconds.
        """
        if not self._ended.is_set() and "ipykernel" in sys.modules:
            self.note.value = said("note", WAITING)
        try:
            ended = self._ended.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._ended.wait(STOPPED_IN)
            self.wait_drawn(STOPPED_IN)
            return self
        finally:
            self.note.value = ""
        if not ended:
            raise TransferError(f"not at its end after {timeout:g} s", self.transfer)
        self.wait_drawn(timeout)
        if self.transfer is not None and self.transfer.error is not None:
            raise self.transfer.error
        return self

    def shut(self) -> None:
        if self._run is not None:
            self._run.stop()
        self._ended.set()
        if self._own_lab and self._lab is not None:
            self._lab.close()

    def _begin(self, run: Playback, before: Playback | None) -> None:
        try:
            run.begin()
        except Exception as why:
            self.show_error(why)
            self._run = before  # with its picture and its trace
            earlier = " What is shown is the transfer before." if before else ""
            self.tell(f"Nothing was sent.{earlier}")
            if before is None:
                self._show_original()
            self._enable()

    def _enable(self) -> None:
        """Let people press what makes sense now, and see figures if there are some."""
        running, real = self.running, self._run is not None and self._run.real
        self.buttons["send"].disabled = running
        self.buttons["stop"].disabled = not running
        self.buttons["skip"].disabled = real or not running
        over = self._run is not None and self._run.drawn
        self.moment.enable(over)
        if over:
            self.tabs.layout.display = None
        self.tabs.layout.visibility = "visible" if over else "hidden"
        if running:
            self._ended.clear()
        else:
            self._ended.set()

    def _peers(self) -> tuple[Peer, Peer]:
        from p2plab.peer.lab import Lab  # and with it a web server

        if self._lab is None:
            self._lab = Lab(name=f"panel {self.key}")
        lab = self._lab = open_lab(self._lab)
        if self.closed:  # meanwhile
            self.shut()
        sender, receiver = (lab.peers.get(n) or lab.peer(n) for n in self.names)
        if self._own_lab:
            receiver.clear_inbox()  # the panel shows what came
        return sender, receiver

    def _lay_out(self) -> None:
        """The controls beside the picture, the figures below."""
        self.buttons = {
            "send": button("send", "Send", button_style="primary", icon="play"),
            "stop": button("stop", "Stop", button_style="danger", icon="stop"),
            "skip": button("skip", "To the end", icon="fast-forward"),
        }
        for name, each in self.buttons.items():
            each.layout.width = "128px" if name == "skip" else "96px"
        self.picture = line("picture", width="100%")
        self.bar = line("bar", width="100%", min_height="84px")
        self.moment = Knob("moment", "Moment [%]", 0.0, 100.0, 100.0, 0.1, PERCENT)
        self.figures = {name: line(name) for name in TABS if name != "stage"}
        self.stage = Stage(names=self.names)
        self.tabs = widgets.Tab(
            [self.figures.get(name, self.stage) for name in TABS],
            titles=list(TABS.values()),
            layout=widgets.Layout(min_height=LOW, display="none"),  # before a figure
        )
        self.tabs.add_class("p2p-tabs")
        controls = self.controls.columns(widgets.HBox(list(self.buttons.values())))
        left = widgets.VBox(
            [controls, self.moment.box, self.status, self.alert, self.note],
            layout=widgets.Layout(flex="1 1 568px", max_width="706px"),
        )
        width = {"flex": "1 1 232px", "max_width": f"{SIDE}px", "margin": "0 0 0 8px"}
        right = widgets.VBox([self.picture, self.bar], layout=widgets.Layout(**width))
        wrap = widgets.Layout(flex_flow="row wrap")
        style = line("style")
        style.value = STYLE
        above = widgets.HBox([left, right], layout=wrap)
        self.box.children = (style, above, self.tabs)

    def _listen(self) -> None:
        acts = {"send": self.run, "stop": self.stop, "skip": self.skip}
        for name, act in acts.items():
            self.listen(self.buttons[name], act)
        it = self.controls
        self.listen(it.picture.upload, it.picture.take_upload)
        for each in it.all:
            self.listen(each, self._turned)
        self.listen(it.picture, self._chosen)
        self.listen(self.moment, self.view.request_redraw)
        self.tabs.observe(lambda _: self.view.request_redraw(), "selected_index")

    def _turned(self) -> None:
        if self.running:
            text = "A knob was turned: that counts for the next transfer."
            self.note.value = said("note", text)

    def _chosen(self) -> None:
        if not self.running:
            self.clear_error()
            self._show_original()

    def _show_original(self) -> None:
        """Show what would be sent."""
        chunks = cut(self.controls.picture.value, kind="picture")
        whole, it = Assembly(chunks.content), chunks.content
        for payload in chunks.payloads:
            whole.add(payload)
        words = f"The picture to send: {it.width} × {it.height} pixels."
        self.picture.value = figure(whole.picture(), words, SIDE, final=True)
        packets = f"{count_of(it.count, 'payload')} of up to {it.chunk_size:,} bytes"
        self.bar.value = bar(0, f"{words} It will travel as {packets}.")

    def _show(
        self, assembly: Assembly, moment: float, counts: str = "", *, final: bool
    ) -> None:
        """Show what has arrived by a moment [s]."""
        words = f"The picture as received after {moment:.2f} s: {have(assembly)}."
        self.picture.value = figure(assembly.picture(), words, SIDE, final=final)
        words = f"{moment:.2f} s: {have(assembly)}. {counts}"
        self.bar.value = bar(assembly.progress, words)

    # ---- what follows is called by the view's thread alone

    def draw(self) -> float | None:
        run = self._run
        if run is None:
            return None
        if (transfer := run.transfer) is None:
            return FRAME
        if not run.drawn:
            if run.over:
                self._draw_end(run, transfer)
                return 0.0
            counts = tally(transfer.own_trace.rows, run.moment)
            self._show(run.assembly, run.moment, counts, final=False)
            waits = silence(transfer) if run.real else ""
            self.tell(f"Sending {run.words} … {waits}")
            return FRAME
        share = self.moment.value
        if share != self._shown_at:
            self._draw_moment(run, transfer, share)
        name = list(TABS)[self.tabs.selected_index or 0]
        if name == "stage":
            if self._tab_drawn != (name, 1.0):
                self._tab_drawn = name, 1.0
                self.stage.show(transfer)
        elif self._tab_drawn != (name, share):
            self._tab_drawn = name, share
            start = transfer.seconds * share if share < 1 else 0.0
            self.figures[name].value = self._figure(name, run, transfer, start)
        return None

    def _draw_end(self, run: Playback, transfer: Transfer) -> None:
        try:
            run.finish()
            self.moment.value = 1.0
            self._draw_moment(run, transfer, 1.0)
            self.tell(run.verdict())
            if transfer.error and not isinstance(transfer.error, TransferStopped):
                self.show_error(transfer.error, more=HELP)
            self._tab_drawn = None
            for each in self.figures.values():
                each.value = "<p>This is being drawn …</p>"
            failed = transfer.went_wrong and transfer.error is not None
            tab = list(TABS).index("autopsy")
            if failed or self.tabs.selected_index == tab:
                self.tabs.selected_index = tab if failed else 0
        finally:
            run.drawn = True
            self._enable()

    def _draw_moment(self, run: Playback, transfer: Transfer, share: float) -> None:
        """Show what had arrived after this share of the time that it took."""
        self._shown_at, moment = share, share * transfer.seconds
        assembly = transfer.assembly if share == 1 else run.at(moment)
        counts = tally(transfer.own_trace.rows, moment if share < 1 else inf)
        assembly = assembly or Assembly(transfer.offer.content)
        self._show(assembly, moment, counts, final=True)

    def _figure(
        self, name: str, run: Playback, transfer: Transfer, start: float
    ) -> str:
        """What is in a tab, as HTML; start: where the ladder begins [s]."""
        from p2plab import plots  # not before somebody looks: matplotlib takes its time
        from p2plab.checker.diagnosis import autopsy

        trace = transfer.trace
        if name == "numbers":
            return plots.table(summarise(trace))
        if name == "code":
            return code(run)
        if name == "autopsy":
            nothing = "<p>Nothing went wrong, so there is nothing to explain.</p>"
            return autopsy(transfer)._repr_html_() if transfer.went_wrong else nothing
        ax = plots.blank(WIDTH, HEIGHT)
        if name != "ladder":
            draw = {"window": plots.window_over_time, "rtt": plots.rtt}
            return plots.to_html(draw.get(name, plots.over_time)(trace, ax))
        plots.ladder(trace, ax, start=start, names=self.names)
        return f"<p>Drag the moment: the ladder begins there.</p>{plots.to_html(ax)}"


def code(run: Playback) -> str:
    """The same transfer as a cell of a notebook."""
    more = f', order="{run.order}"' if run.order != "rows" else ""
    lines = [
        "import p2plab",
        f"picture = {_picture(run.picture)}",
        f"setup = {_call(run.setup, Setup(run.setup.protocol))}",
        f"link = {_call(run.link, Link())}",
    ]
    if run.real:
        lines += [
            "lab = p2plab.Lab()",
            'alice, bob = lab.peer("alice"), lab.peer("bob")',
            f'transfer = alice.send_picture("bob", picture, setup, link{more})',
        ]
    else:
        lines += [f"transfer = p2plab.simulate_picture(picture, setup, link{more})"]
    lines += ["transfer.wait().picture()"]
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def _picture(picture: object) -> str:
    """How the sample is made; nobody knows how to make what somebody brought."""
    for size in SIZES:
        if np.array_equal(np.asarray(picture), sample_picture(size)):
            return f"p2plab.sample_picture({size})"
    return '"a file of yours"'


def _call(thing: Setup | Link, plain: Setup | Link) -> str:
    """How it is made: by which protocol, and with what differs from the defaults."""
    values = {each.name: getattr(thing, each.name) for each in fields(thing)}
    given = [
        f"{name}={value!r}"
        for name, value in values.items()
        if name == "protocol" or value != getattr(plain, name)
    ]
    return f"p2plab.{type(thing).__name__}({', '.join(given)})"
