"""The transfer panel: turn a knob, and see on the stage what happens."""

from __future__ import annotations

import html
import sys
import threading
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Self

import ipywidgets as widgets

from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Chunks, Content
from p2plab.content.sample import sample_picture
from p2plab.content.transfer import Transfer, simulate_transfer
from p2plab.core.link import Link, ScriptedLink
from p2plab.core.validation import count_of
from p2plab.errors import P2PLabError, TransferError, TransferStopped
from p2plab.measure.metrics import summarise
from p2plab.protocols import Setup
from p2plab.ui.controls import SIZES, TransferControls
from p2plab.ui.panel import FRAME, STYLE, Panel, button, line, open_lab, said
from p2plab.ui.progress import have, silence, stopped_where
from p2plab.ui.stage import Stage

if TYPE_CHECKING:
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer

HELP: Final = "Below, Autopsy tells what happened."
EARLIER: Final = (
    "What is shown is the transfer before. Press Send for one as it is set."
)
WAITING: Final = (
    "A cell waits for this transfer, and until it ends no button is heard. To stop "
    "both, press ■ in the notebook's toolbar."
)
STOPPED_IN: Final = 5.0  # [s]
DRAWN_IN: Final = 1.0  # the first run, to be in a notebook that is saved as HTML [s]
PATIENCE: Final = 0.3  # with a run in virtual time before its progress is told [s]
MORE: Final = {"numbers": "Numbers", "autopsy": "Autopsy", "code": "As code"}


class TransferPanel(Panel):
    """Send a picture through a bad link, simulated or real, and see all of it.

    In virtual time every turn of a knob makes a new run, which is shown at once; Send
    plays it. Over real sockets Send sends, and the stage shows it while it travels.

    lab: whose peers send over real sockets; without one, the panel makes its own.
    sender, receiver: their names; they are made if the lab has no such peers.
    key: see Panel. settings: what `set` takes.

    `controls` are the widgets, `stage` shows the run; `transfer` is the last transfer,
    and `error` what went wrong with it. A cell may end with the panel to show it, or
    drive it: `panel.set(loss=0.3, window=8).run().wait()`.
    """

    def __init__(
        self,
        lab: Lab | None = None,
        *,
        sender: str = "alice",
        receiver: str = "bob",
        key: str | None = None,
        **settings: Any,
    ) -> None:
        lab = open_lab(lab)
        super().__init__("transfer", key)
        self.controls = TransferControls()
        self.names = sender, receiver
        self._lab, self._own_lab = lab, lab is None
        self._lock = threading.Lock()  # callbacks may come from two threads at once
        self._turns, self._seen = 1, 0  # of knobs, and after which one was drawn
        self._playing = True  # the next run in virtual time
        self._sent: Transfer | None = None  # over real sockets
        self._ended = threading.Event()  # nothing is on its way over real sockets
        self._ended.set()
        self._stopping = False
        self._cut: tuple[int, str, Chunks] | None = None  # the last picture
        self._drawn: dict[str, object] = {}  # of which run each figure below is
        self._lay_out()
        self.set(**settings)
        self._listen()
        self._enable()
        self.tell("Ready. Choose, then press Send.")
        self.view.request_redraw()

    @property
    def transfer(self) -> Transfer | None:
        """The transfer that runs, or the one that is shown."""
        shown = self.stage.shown
        if self.running:
            return self._sent
        return shown if isinstance(shown, Transfer) else None

    @property
    def running(self) -> bool:
        """Whether one is on its way over real sockets."""
        return not self._ended.is_set()

    def set(self, **settings: Any) -> Self:
        """Turn knobs, in SI units: what Setup and Link take, and picture, order, real.

        picture: a size of the sample, or whatever `send_picture` takes.
        real: over real sockets, not simulated.
        Raises ValueError for unknown names and impossible values.
        """
        self.controls.set(settings)
        return self

    def run(self) -> Self:
        """Send, and return at once. Raises P2PLabError while a transfer is on its way;
        `wait` raises what cannot be sent.
        """
        with self._lock:
            if self.running:
                raise P2PLabError("a transfer is on its way: stop it, or let it end")
            self.clear_error()
            self._stopping, self._playing = False, True
            if not self.controls.real.value:
                self._turned()
                return self
            self._sent, self._seen = None, self._turns
            self._ended.clear()
        self._enable()
        self.tell("Getting ready to send over real sockets …")
        self.start(self._send)
        return self

    def stop(self) -> Self:
        """End it now; what has arrived and the trace stay."""
        self._stopping = True
        if self.running and self._sent is not None:
            self.start(self._sent.stop)
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until all is over and drawn.

        Interrupting the kernel stops the transfer; what has arrived stays.
        Raises what the transfer failed with, or TransferError after `timeout` seconds.
        """
        try:
            if self.running and "ipykernel" in sys.modules:
                self.note.value = said("note", WAITING)
            ended = self._ended.wait(timeout) and self.view.flush(timeout)
        except KeyboardInterrupt:
            until = time.monotonic() + STOPPED_IN
            self.stop()
            while not self._ended.wait(0.5) and time.monotonic() < until:
                self.stop()  # it may have begun only now
            self.view.flush(STOPPED_IN)
            return self
        finally:
            if self.note.value == said("note", WAITING):
                self.note.value = ""
        if not ended:
            raise TransferError(f"not at its end after {timeout:g} s", self.transfer)
        if self.transfer is not None and self.transfer.error is not None:
            raise self.transfer.error
        if self.error is not None:
            raise self.error
        return self

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self.view.flush(DRAWN_IN)
        saved = {"text/html": self.stage.in_page()} if self.stage.columns else {}
        return super()._repr_mimebundle_(**options) | saved

    def shut(self) -> None:
        self._stopping = True
        if self._sent is not None:
            self._sent.stop()
        self._ended.set()
        if self._own_lab and self._lab is not None:
            self._lab.close()

    def _send(self) -> None:
        """Send over real sockets; may take a second until it begins."""
        try:
            it = self.controls
            sender, receiver = self._peers()
            what = it.picture.value, it.setup, it.link
            sent = sender.send_picture(receiver.name, *what, order=it.order.value)
        except Exception as why:
            self.show_error(why)
            self.tell("Nothing was sent.")
            self._mark_as_earlier()
            self._ended.set()
            self._enable()
            return
        self._sent = sent
        if self._stopping:
            sent.stop()

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

    def _enable(self) -> None:
        """Let people press what makes sense now."""
        self.buttons["send"].disabled = self.running
        self.buttons["stop"].disabled = not self.running

    def _lay_out(self) -> None:
        """The controls beside the stage, and the figures below."""
        self.buttons = {
            "send": button("send", "Send", button_style="primary", icon="play"),
            "stop": button("stop", "Stop", button_style="danger", icon="stop"),
        }
        for each in self.buttons.values():
            each.layout.width = "96px"
        self.stage = Stage(names=self.names)
        self.stage.layout = widgets.Layout(flex="1 1 480px", min_width="0")
        self.figures = {name: line(name) for name in MORE}
        self.more = widgets.Tab(list(self.figures.values()), titles=list(MORE.values()))
        self.more.selected_index = None  # until somebody looks
        self.more.add_class("p2p-more")
        buttons = widgets.HBox(list(self.buttons.values()))
        left = self.controls.column(buttons, self.status, self.alert, self.note)
        wrap = widgets.Layout(flex_flow="row wrap", grid_gap="4px 12px")
        style = line("style")
        style.value = STYLE
        above = widgets.HBox([left, self.stage], layout=wrap)
        self.box.children = (style, above, self.more)

    def _listen(self) -> None:
        it = self.controls
        for name, act in {"send": self.run, "stop": self.stop}.items():
            self.listen(self.buttons[name], act)
        self.listen(it.picture.upload, it.picture.take_upload)
        for each in it.all:
            self.listen(each, self._turned)
        self.stage.observe(lambda _: self.view.request_redraw(), "header")
        self.more.observe(lambda _: self.view.request_redraw(), "selected_index")

    def _turned(self) -> None:
        self._turns += 1
        self.view.request_redraw()

    # ---- what follows is called by the view's thread alone

    def draw(self) -> float | None:
        if self.running:
            return self._follow()
        if self._seen != self._turns:
            self._seen = self._turns
            if self.controls.real.value:
                self._get_ready()
            else:
                self._simulate(self._turns)
        self._draw_figures()
        return None

    def _follow(self) -> float:
        """Show a transfer over real sockets while it goes on, and its end."""
        if (sent := self._sent) is None:
            return FRAME
        over = sent.ended  # before it is drawn: nothing of it is left out
        self.stage.show(sent)
        self.tell(verdict(sent) if over else f"Sending … {silence(sent)}")
        if over:
            self._complain(sent)
            self._ended.set()
            self._enable()
            return 0.0
        return FRAME

    def _get_ready(self) -> None:
        """Say what Send will send."""
        ready = f"{described(self._chunks().content)} Press Send."
        if self.stage.shown is None:
            self.tell(f"Ready. {ready}")
        else:
            self._mark_as_earlier(ready)

    def _mark_as_earlier(self, more: str = "") -> None:
        if self.stage.shown is not None:
            self.stage.stale = True
            self.note.value = said("note", f"{EARLIER} {more}")

    def _simulate(self, turn: int) -> None:
        """Run it in virtual time, and show it, unless a knob is turned meanwhile."""
        playing, self._playing, self._stopping = self._playing, False, False
        self.clear_error()
        tell_at = time.monotonic() + PATIENCE

        def watch(assembly: Assembly) -> None:
            nonlocal tell_at
            if self._stopping or self._turns != turn:
                raise TransferStopped("the transfer was stopped")
            if (
                time.monotonic() > tell_at
            ):  # seldom: a browser reads all that it is told
                tell_at += PATIENCE
                self.buttons["stop"].disabled = False
                self.tell(f"Running in virtual time … {have(assembly)}.")

        chunks, it = self._chunks(), self.controls
        transfer = simulate_transfer(chunks, it.setup, it.link, on_payload=watch)
        self._enable()
        if self._turns != turn:
            self._playing |= playing
            return
        self.stage.show(transfer, playing=playing)
        self._complain(transfer)

    def _chunks(self) -> Chunks:
        """The chosen picture in pieces; to cut it takes a while, so only once."""
        picture, order = self.controls.picture.value, self.controls.order.value
        if self._cut is None or self._cut[:2] != (id(picture), order):
            self._cut = id(picture), order, cut(picture, kind="picture", order=order)
        return self._cut[2]

    def _complain(self, transfer: Transfer) -> None:
        if transfer.error and not isinstance(transfer.error, TransferStopped):
            self.show_error(transfer.error, more=HELP)

    def _draw_figures(self) -> None:
        """Draw what is open below, of the run that is shown."""
        shown = self.transfer
        if shown is None:
            return
        if shown.id == 0:
            self.tell(f"{verdict(shown)} {described(shown.offer.content)}")
        if self.more.selected_index is None:
            return
        name = list(MORE)[self.more.selected_index]
        if self._drawn.get(name) is not shown:
            self._drawn[name] = shown
            self.figures[name].value = self._figure(name, shown)

    def _figure(self, name: str, transfer: Transfer) -> str:
        """What is in a part below, as HTML."""
        if name == "numbers":
            from p2plab import plots  # not before somebody looks: it takes its time

            return plots.table(summarise(transfer.trace))
        if name == "code":
            return self._code(transfer)
        from p2plab.checker.diagnosis import autopsy

        nothing = "<p>Nothing went wrong, so there is nothing to explain.</p>"
        return autopsy(transfer)._repr_html_() if transfer.went_wrong else nothing

    def _code(self, transfer: Transfer) -> str:
        """The same transfer as a cell of a notebook."""
        setup, link, more = transfer.offer.setup, transfer.link, ""
        if transfer.offer.content.order != "rows":
            more = f', order="{transfer.offer.content.order}"'
        if isinstance(link, ScriptedLink):
            link = link.link
        lines = [
            "import p2plab",
            f"picture = {_picture(transfer.offer.content)}",
            f"setup = {_call(setup, Setup(setup.protocol))}",
            f"link = {_call(link, Link())}",
        ]
        if self.stage.faults:
            lines += [f"link = {self.stage.header['code']}"]
        if transfer.id:
            lines += [
                "lab = p2plab.Lab()",
                'alice, bob = lab.peer("alice"), lab.peer("bob")',
                f'transfer = alice.send_picture("bob", picture, setup, link{more})',
            ]
        else:
            lines += [f"transfer = p2plab.simulate_picture(picture, setup, link{more})"]
        lines += ["transfer.wait().picture()"]
        return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def verdict(transfer: Transfer) -> str:
    """How it ended, in a sentence."""
    # The duration in the table ends before that, with the last delivery.
    end = "" if transfer.error else " (FIN included)"
    where = "over real sockets" if transfer.id else "in virtual time"
    after = f"after {transfer.seconds:.2f} s{end} {where}"
    assembly = transfer.assembly
    if isinstance(transfer.error, TransferStopped):
        return f"Stopped {after}: {stopped_where(transfer)}; these are kept."
    if transfer.error is not None:
        return f"Failed {after}; what arrived is kept."
    if assembly is None or assembly.verify():
        words = "the picture is complete, and its fingerprint is right"
        return f"Done {after}: {words}."
    holes = count_of(assembly.content.count - assembly.received, "payload")
    return f"Over {after}: {holes} never arrived."


def described(content: Content) -> str:
    """A picture as it travels, in a sentence."""
    size = f"{content.width} × {content.height} pixels"
    packets = f"{count_of(content.count, 'payload')} of up to {content.chunk_size:,}"
    return f"The picture: {size} in {packets} bytes."


def _picture(content: Content) -> str:
    """How the sample is made; nobody knows how to make what somebody brought."""
    if content.width in SIZES:
        sample = cut(sample_picture(content.width), kind="picture", order=content.order)
        if sample.content.sha256 == content.sha256:
            return f"p2plab.sample_picture({content.width})"
    return '"a file of yours"'


def _call(thing: Any, plain: Setup | Link) -> str:
    """How it is made: by which protocol, and with what differs from the defaults."""
    values = {each.name: getattr(thing, each.name) for each in fields(thing)}
    given = [
        f"{name}={value!r}"
        for name, value in values.items()
        if name == "protocol" or value != getattr(plain, name)
    ]
    return f"p2plab.{type(thing).__name__}({', '.join(given)})"
