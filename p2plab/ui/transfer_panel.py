"""The transfer panel: turn a knob, send a picture, see what happened."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from p2plab.content.chunks import Assembly, cut
from p2plab.errors import BadContent, P2PLabError, TransferError, TransferStopped
from p2plab.ui.controls import TransferControls
from p2plab.ui.panel import FRAME, Panel, open_lab, said
from p2plab.ui.runs import (
    AnyRun,
    Order,
    RealRun,
    Replay,
    SimulatedRun,
    Tally,
    replayed,
    silence,
    verdict,
)
from p2plab.ui.stage import Stage

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer

HELP = "Below, Autopsy tells what happened, and Ladder draws it."


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
        self._lab, self._own_lab = lab, lab is None
        self._names = sender, receiver
        self._lock = threading.Lock()  # callbacks may come from two threads at once
        self._run: AnyRun | None = None
        self._past: Replay | None = None
        self._shown_at: float | None = None  # the moment of the picture on screen [s]
        self._undrawn: AnyRun | None = None  # it is over, without its figures yet
        self._over = threading.Event()
        self._preview = True  # whether to show what would be sent
        self._blank = False  # whether to show that nothing is there yet
        self.stage = Stage(self._names)
        self.box.children = self.stage.lay_out(
            self.controls, [self.status, self.alert, self.note]
        )
        self._wire()
        self.set(**settings)
        self.tell("Ready. Choose, then press Send.")
        self.view.poke()

    @property
    def transfer(self) -> Transfer | None:
        """The transfer that runs, or the last one."""
        return None if self._run is None else self._run.transfer

    @property
    def running(self) -> bool:
        """Whether one is on its way."""
        return self._run is not None and not self._over.is_set()

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
            self.forgive()
            order = Order(
                it.picture.value, it.setup, it.link, it.order.value, it.real.value
            )
            self._over.clear()
            self._past = self._shown_at = None
            self._preview, self._blank = False, True
            before = self._run
            self._run = run = (
                RealRun(order, self._peers)
                if order.real
                else SimulatedRun(order, self.replay)
            )
        self._enable(True)
        self.stage.clear()  # at once: the view may be drawing figures for seconds
        self.tell(f"Getting ready to send {run.words} …")
        self.work(self._begin, run, before)
        self.view.poke()
        return self

    def stop(self) -> Self:
        """End it now; what has arrived and the trace stay."""
        run = self._run
        if run is not None and self.running:
            self.work(run.stop)
        return self

    def skip(self) -> Self:
        """Show the end of a simulated transfer now."""
        if self._run is not None:
            self._run.skip()
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until all is over and drawn.

        Raises what the transfer failed with, or TransferError after `timeout` seconds.
        """
        if self._run is not None and not self._over.wait(timeout):
            raise TransferError(f"not at its end after {timeout:g} s", self.transfer)
        self.wait_drawn(timeout)
        if self.transfer is not None and self.transfer.error is not None:
            raise self.transfer.error
        return self

    def shut(self) -> None:
        if self._run is not None:
            self._run.stop()
        self._over.set()
        if self._own_lab and self._lab is not None:
            self._lab.close()

    def _begin(self, run: AnyRun, before: AnyRun | None) -> None:
        try:
            run.begin()
        except Exception as why:
            self.complain(why)
            self._run = before  # with its picture and its trace
            self._preview = before is None or before.transfer is None
            earlier = "" if self._preview else " What is shown is the transfer before."
            self.tell(f"Nothing was sent.{earlier}")
            self._blank = False
            self._over.set()
            self._enable(False)

    def _peers(self) -> tuple[Peer, Peer]:
        from p2plab.peer.lab import Lab  # and with it a web server

        if self._lab is None:
            self._lab = Lab(name=f"panel {self.key}")
        lab = self._lab = open_lab(self._lab)
        if self.closed:  # meanwhile
            self.shut()
        sender, receiver = (lab.peers.get(n) or lab.peer(n) for n in self._names)
        if self._own_lab:
            receiver.clear_inbox()  # the panel shows what came
        return sender, receiver

    def _wire(self) -> None:
        buttons = self.stage.buttons
        self.wire(buttons["send"], self.run)
        self.wire(buttons["stop"], self.stop)
        self.wire(buttons["skip"], self.skip)
        picture = self.controls.picture
        picture.upload.observe(self.guarded(picture.take_upload), "value")
        self.controls.observe(self.guarded(self._changed))
        self.controls.picture.observe(self.guarded(self._chosen))
        self.stage.moment.observe(lambda _: self.view.poke())

    def _changed(self) -> None:
        if self.running:
            text = "A knob was turned: that counts for the next transfer."
            self.note.value = said("note", text)

    def _chosen(self) -> None:
        if not self.running:
            self.forgive()
            self._preview = True
            self.view.poke()

    def _enable(self, running: bool) -> None:
        real = self._run is not None and self._run.order.real
        self.stage.enable(running=running, real=real, past=self.transfer is not None)

    # ---- what follows is called by the view's thread alone

    def draw(self) -> float | None:
        run = self._run
        if self._preview:
            self._preview = False
            self._draw_preview()
        if self._blank and run is not None:
            self._blank = False
            self._draw_blank(run)
        if run is None or run.transfer is None:
            return FRAME if self.running else None
        if self._over.is_set():
            if self._undrawn is run:
                self._draw_figures(run, run.transfer)
            elif self.stage.moment.value != self._shown_at:
                self._draw_moment(run, run.transfer)
            return None
        if run.over:
            self._undrawn = run
            self._draw_end(run, run.transfer)
            return 0.0
        self._draw_live(run, run.transfer)
        return FRAME

    def _draw_preview(self) -> None:
        try:
            parcel = cut(self.controls.picture.value, kind="picture")
        except BadContent:
            if self.running or self._preview:
                return  # something else is wanted by now
            raise
        whole = Assembly(parcel.content)
        for payload in parcel.payloads:
            whole.add(payload)
        self.stage.show_original(whole)

    def _draw_blank(self, run: AnyRun) -> None:
        """What the receiver has before the first payload; it may take long to come."""
        order = run.order
        try:
            parcel = cut(order.picture, kind="picture", order=order.order)
        except BadContent:
            return  # whoever sends it says so
        nothing = Assembly(parcel.content)
        self.stage.show(nothing, 0.0, final=False)
        self.stage.count(nothing, 0.0)

    def _draw_live(self, run: AnyRun, transfer: Transfer) -> None:
        moment = run.moment
        assembly = run.assembly or Assembly(transfer.offer.content)
        self.stage.show(assembly, moment, final=False)
        counts = run.tally.read(transfer.own_trace.rows, moment)
        self.stage.count(assembly, moment, counts)
        waits = silence(transfer) if run.order.real else ""
        self.tell(f"Sending {run.words} … {waits}")

    def _draw_end(self, run: AnyRun, transfer: Transfer) -> None:
        stage = self.stage
        try:
            run.finish()
            assembly = transfer.assembly or Assembly(transfer.offer.content)
            stage.show(assembly, transfer.seconds, final=True)
            counts = run.tally.read(transfer.own_trace.rows)
            stage.count(assembly, transfer.seconds, counts)
            stage.moment.stretch(transfer.seconds)
            self._shown_at = stage.moment.value
            self.tell(verdict(run, transfer))
            if transfer.error and not isinstance(transfer.error, TransferStopped):
                self.complain(transfer.error, more=HELP)
            stage.show_code(run.order)
        finally:
            self._over.set()
            self._enable(False)

    def _draw_figures(self, run: AnyRun, transfer: Transfer) -> None:
        """Draw what takes long, unless the next transfer has begun meanwhile."""
        self._undrawn = None
        self.stage.show_autopsy(transfer)
        if not self.stage.show_figures(transfer.trace, lambda: self._run is run):
            self._undrawn = run  # the next one may come to nothing

    def _draw_moment(self, run: AnyRun, transfer: Transfer) -> None:
        """Go back to a moment of a transfer that is over."""
        stage, moment = self.stage, self.stage.moment.value
        if self._past is None:
            self._past = replayed(run.order, transfer)
        end = moment >= stage.moment.highest
        assembly = (transfer.assembly if end else None) or self._past.at(moment)
        stage.show(assembly, moment, final=True)
        stage.count(assembly, moment, Tally().read(transfer.own_trace.rows, moment))
        self._shown_at = moment
        stage.show_ladder(transfer.trace, 0.0 if end else moment)
