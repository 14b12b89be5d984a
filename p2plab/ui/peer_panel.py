"""The peer panel: register, choose a peer, send texts and pictures, read the inbox."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

from p2plab.content.transfer import Transfer
from p2plab.core.link import Link
from p2plab.errors import NotDelivered, P2PLabError, TransferStopped
from p2plab.protocols import Setup
from p2plab.ui.controls import assign
from p2plab.ui.inbox import InboxView
from p2plab.ui.jobs import Jobs
from p2plab.ui.panel import FRAME, Panel, open_lab, said
from p2plab.ui.peer_controls import PeerControls, help_with, standing
from p2plab.ui.requests import RequestsView

if TYPE_CHECKING:
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer
    from p2plab.rendezvous.model import Listed

LOOK: Final = 2.0  # between two looks at the list of peers [s]
LOOK_AGAIN: Final = 5.0  # when the last look failed [s]


class PeerPanel(Panel):
    """A peer of one's own: the report's console menu, as a panel.

    rendezvous: a Lab, or the URL of a rendezvous anywhere.
    name: what to put into the name's box.
    host: where the peer listens: the lab's host, or 127.0.0.1, which only this machine
        reaches; "0.0.0.0" to talk with other machines.
    key: see Panel; by default the name, so that two peers have two panels.

    `controls` are the widgets, `peer` is the Peer once it is registered, `transfer` the
    last picture that was sent. It can be driven without a browser, too:
    `panel.register().wait(); panel.choose("bob").send_text("hello").wait()`.
    """

    def __init__(
        self,
        rendezvous: Lab | str,
        name: str = "",
        *,
        host: str | None = None,
        key: str | None = None,
    ) -> None:
        rendezvous = open_lab(rendezvous)
        super().__init__("peer", key or name or None)
        self.rendezvous = rendezvous
        self.host = host or str(getattr(rendezvous, "host", "127.0.0.1"))
        self.peer: Peer | None = None
        self.transfer: Transfer | None = None
        self.found: list[Listed] = []  # the others, at the last look
        self._looked_at = 0.0
        self._trouble = ""  # why the last look failed
        self._texting_since: float | None = None  # by time.perf_counter() [s]
        self._shown: Transfer | None = None  # the last one whose end was drawn
        self._stopped: Transfer | None = None  # the last one that we stopped
        self._stale = False  # whether the results on the screen are of another peer
        self._awaited: Transfer | None = None  # a transfer that `wait` waits for
        self.controls = PeerControls(name)
        self._jobs = Jobs(self, self.controls.buttons, self.controls.places)
        self.inbox, self.requests = InboxView(), RequestsView(self)
        self._wire()
        self.box.children = self.controls.lay_out(
            self.status, self.alert, self.note, self.requests.box, self.inbox.box
        )
        self.tell("Not registered yet: choose a name, and press Register.")

    def set(self, **settings: Any) -> Self:
        """Set controls, in SI units: room, accept, text, timeout, tries, picture,
        protocol, loss, delay, ack_delay, ack_loss. Raises ValueError for other names
        and values.
        """
        assign(self.controls, settings)
        return self

    def register(self, name: str | None = None) -> Self:
        """Take a name at the rendezvous; `wait` says how that went."""
        if self.peer is not None:
            raise P2PLabError(f"this panel is {self.peer.name} already: leave first")
        if name is not None:
            self.controls.name.value = name
        self._jobs.afresh("register")
        self.rendezvous = open_lab(self.rendezvous)
        self._jobs.start("register", self._register, self.controls.name.value.strip())
        return self

    def leave(self) -> Self:
        """Give the name back, and close the peer; the inbox stays to be read."""
        self._jobs.afresh("leave")
        self._jobs.start("leave", self._leave)
        return self

    def refresh(self) -> Self:
        """Look who is there now."""
        self._jobs.afresh("refresh")
        self._registered()
        self._jobs.start("refresh", self._look_now)
        return self

    def choose(self, name: str) -> Self:
        """Choose the peer to talk to. Raises PeerNotFound, RendezvousAway."""
        found = self._registered().rendezvous.peer(name)
        self.found = sorted({*self.found, found}, key=lambda each: each.name)
        self.controls.list_peers(self.found)
        self.controls.peers.value = found.name
        return self

    def send_text(self, text: str | None = None) -> Self:
        """Send what is in the text's box to the chosen peer; `wait` for its ACK.

        text: what to put into the box before.
        """
        self._jobs.afresh("send-text")
        self.controls.attempts.value = ""
        peer, to = self._registered(), self._chosen()
        if text is not None:
            self.controls.text.value = text
        if not self.controls.text.value:
            raise ValueError("there is no text to send: write one")
        since = time.perf_counter()
        self._jobs.start("send-text", self._send_text, peer, to)
        self._texting_since = since
        return self

    def send_picture(self, picture: object = None) -> Self:
        """Send the chosen picture to the chosen peer; `wait` for the end.

        picture: a size of the sample, or whatever `Peer.send_picture` takes.
        """
        self._jobs.afresh("send-picture")
        if self.transfer is not None and not self.transfer.ended:
            raise P2PLabError("a picture is on its way: stop it, or let it end")
        it, self._shown = self.controls, self.transfer
        it.progress.value = ""
        peer, to = self._registered(), self._chosen()
        if picture is not None:
            it.picture.value = picture
        setup = Setup(it.protocol.value)
        loss, delay = it.loss.value, it.delay.value
        link = Link(delay, loss=loss) if loss or delay else None
        what = to, it.picture.value, setup, link
        self._jobs.start("send-picture", self._send_picture, peer, *what)
        return self

    def stop(self) -> Self:
        """Stop the picture that is being sent."""
        if self.transfer is not None:
            self._stopped = self.transfer
            self.work(self.transfer.stop)
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until what was begun has ended and is drawn, and raise what went wrong.

        Raises TransferError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        self._jobs.join(timeout)
        transfer, self._awaited = self._awaited, None
        try:
            if transfer is not None:
                transfer.wait(max(0.0, deadline - time.monotonic()))
        finally:
            self.view.flush(timeout)
        self.wait_drawn(timeout)
        return self

    def shut(self) -> None:
        if self.peer is not None:
            self.peer.close()

    # ---- what follows runs in the background, a thread for each thing that is begun

    def _register(self, name: str) -> None:
        from p2plab.peer.peer import Peer  # and with it an HTTP client

        url = getattr(self.rendezvous, "url", self.rendezvous)
        it = self.controls
        peer = Peer(
            name,
            str(url),
            host=self.host,
            room=it.room.value.strip(),
            accept=it.accept.value,
            ack_delay=it.ack_delay.value,
            ack_loss=it.ack_loss.value,
            on_news=lambda _: self.view.poke(),
            on_request=lambda _: self.view.poke(),
        )
        try:
            peer.register()
            if self.closed or self.peer is not None:
                raise P2PLabError("this panel has a peer already, or was closed")
        except BaseException:
            peer.close()
            raise
        self.peer, self._stale = peer, True
        self._look_now()

    def _leave(self) -> None:
        peer, self.peer = self.peer, None
        self.found, self.controls.peers.options = [], ()
        if peer is not None:
            peer.close()
        self._stale = True

    def _look_now(self) -> None:
        if (peer := self.peer) is None:
            return
        self._looked_at = time.monotonic()
        try:
            self.found = peer.peers()
            peer.meetings.admission.forget_gone()
            self._trouble = ""
        except P2PLabError as why:
            self._trouble = str(why)

    def _send_text(self, peer: Peer, to: str) -> None:
        it = self.controls
        try:
            peer.send_text(
                to, it.text.value, timeout=it.timeout.value, tries=it.tries.value
            )
            it.text.value = ""
        except NotDelivered:
            self.note.value = said("note", "The text is still in its box.")
            raise

    def _send_picture(
        self, peer: Peer, to: str, picture: object, setup: Setup, link: Link | None
    ) -> None:
        self.transfer = self._awaited = peer.send_picture(to, picture, setup, link)

    # ---- what follows is called by the view's thread alone

    def draw(self) -> float | None:
        peer, it = self.peer, self.controls
        if self._stale:
            self._stale, self._shown = False, self.transfer
            it.attempts.value = it.progress.value = ""
        it.show_waiting(peer, self._jobs.busy)
        moving = self._draw_transfer()
        it.enable(peer is not None, moving, self._jobs.busy)
        self.requests.draw([] if peer is None else peer.requests)
        if peer is None:
            self.tell("Not registered: choose a name, and press Register.")
            return FRAME if moving else None
        self._look_sometimes()
        self.controls.list_peers(self.found)
        self.tell(self._trouble or standing(peer))
        moving |= self._draw_attempts(peer) | self.inbox.draw(peer.inbox)
        return FRAME if moving else 1.0

    def _look_sometimes(self) -> None:
        pause = LOOK_AGAIN if self._trouble else LOOK
        if time.monotonic() - self._looked_at >= pause:
            self._looked_at = time.monotonic()
            self.work(self._look_now)

    def _draw_attempts(self, peer: Peer) -> bool:
        since, over = self._texting_since, "send-text" not in self._jobs.busy
        if since is not None:
            self.controls.show_attempts(peer, since)
            self._texting_since = None if over else since
        return since is not None

    def _draw_transfer(self) -> bool:
        """How the picture that we send gets on; whether it still moves."""
        transfer = self.transfer
        if transfer is None or transfer is self._shown:
            return False
        ended = transfer.ended  # asked first: the last state is drawn, too
        self.controls.show_transfer(transfer, ended, transfer is self._stopped)
        if transfer.error and not isinstance(transfer.error, TransferStopped):
            place, more = self.controls.picture_alert, help_with(transfer)
            self.complain(transfer.error, place, more)
        self._shown = transfer if ended else None
        return not ended

    def _wire(self) -> None:
        it = self.controls
        for name, each in it.buttons.items():
            act = getattr(self, name.replace("-", "_"))  # a button for each action
            self.wire(each, act, it.places.get(name))
        take = self.guarded(it.picture.take_upload, it.picture_alert)
        it.picture.upload.observe(take, "value")
        for knob in (it.ack_delay, it.ack_loss):
            knob.observe(self.guarded(self._obey))
        it.accept.observe(self.guarded(self._obey), "value")

    def _obey(self) -> None:
        if self.peer is not None:
            self.peer.meetings.admission.accept = self.controls.accept.value
            self.peer.texts.ack_delay = self.controls.ack_delay.value
            self.peer.texts.ack_loss = self.controls.ack_loss.value

    def _registered(self) -> Peer:
        if self.peer is None:
            raise P2PLabError("register a name first")
        return self.peer

    def _chosen(self) -> str:
        if not self.controls.peers.value:
            raise P2PLabError("choose a peer first; Refresh looks who is there")
        return str(self.controls.peers.value)
