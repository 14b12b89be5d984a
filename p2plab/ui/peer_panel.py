"""The peer panel: register, choose a peer, send texts and pictures, read the inbox."""

from __future__ import annotations

import html
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import ipywidgets as widgets

from p2plab.content.transfer import Transfer, arrived
from p2plab.core.link import Link
from p2plab.errors import NotDelivered, P2PLabError, TransferStopped
from p2plab.net.chat import Message
from p2plab.protocols import Setup
from p2plab.rendezvous.admission import Request, settle
from p2plab.rendezvous.model import LOBBY
from p2plab.ui.controls import (
    COLUMN,
    INDENT,
    MS,
    PERCENT,
    ROW,
    Knob,
    PictureChoice,
    assign,
    dropdown,
    named,
    protocol_choice,
)
from p2plab.ui.panel import FRAME, STYLE, Panel, button, line, open_lab, said
from p2plab.ui.progress import bar, figure, have, silence, stopped_where

if TYPE_CHECKING:
    from p2plab.net.chat import Event
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer
    from p2plab.rendezvous.model import Listed

LOOK: Final = 2.0  # between two looks at the list of peers [s]
LOOK_AGAIN: Final = 5.0  # when the last look failed [s]
SIDE: Final = 224  # of a picture in the inbox on the screen [CSS pixels]
SHOWN: Final = 30  # of the newest entries; a page with hundreds of pictures is slow
WHO: Final = [("everyone in my room", "room"), ("ask me", "ask"), ("nobody", "nobody")]
ATTEMPT: Final = {
    "send": "sent",
    "resend": "sent again",
    "timeout": "timeout",
    "ack": "ACK",
    "dropped": "the connection broke",
    "unreachable": "nobody answers",
    "unproven": "who answers has not proven to be the peer",
}
FIRST: Final = ("send", "unreachable", "unproven")


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
        self._shown: Transfer | None = None  # whose progress is on the screen
        self._moving = False  # whether its end is still to be drawn
        self._awaited: Transfer | None = None  # a transfer that `wait` waits for
        self.controls = it = PeerControls(name)
        self.inbox, self.requests = InboxView(), RequestsView(self)
        picture = it.picture_alert  # where it is said that something went wrong
        self._places = {"send-text": it.text_alert}
        self._places |= dict.fromkeys(("send-picture", "stop"), picture)
        for each, pressed in it.buttons.items():
            act = getattr(self, each.replace("-", "_"))  # a button for each action
            self.listen(pressed, act, self._places.get(each))
        self.listen(it.picture.upload, it.picture.take_upload, picture)
        for knob in (it.ack_delay, it.ack_loss, it.accept):
            self.listen(knob, self._obey)
        self.box.children = it.lay_out(self)
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
        self._reset("register")
        self.rendezvous = open_lab(self.rendezvous)
        return self._do("register", self._register, self.controls.name.value.strip())

    def leave(self) -> Self:
        """Give the name back, and close the peer; the inbox stays to be read."""
        self._reset("leave")
        return self._do("leave", self._leave)

    def refresh(self) -> Self:
        """Look who is there now."""
        self._reset("refresh")
        self._registered()
        return self._do("refresh", self._look)

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
        self._reset("send-text")
        self._texting_since = None
        peer, to = self._registered(), self._chosen()
        if text is not None:
            self.controls.text.value = text
        if not self.controls.text.value:
            raise ValueError("there is no text to send: write one")
        self._texting_since = time.perf_counter()
        return self._do("send-text", self._send_text, peer, to)

    def send_picture(self, picture: object = None) -> Self:
        """Send the chosen picture to the chosen peer; `wait` for the end.

        picture: a size of the sample, or whatever `Peer.send_picture` takes.
        """
        self._reset("send-picture")
        if self.transfer is not None and not self.transfer.ended:
            raise P2PLabError("a picture is on its way: stop it, or let it end")
        it, self._shown = self.controls, None
        peer, to = self._registered(), self._chosen()
        if picture is not None:
            it.picture.value = picture
        setup = Setup(it.protocol.value)
        loss, delay = it.loss.value, it.delay.value
        link = Link(delay, loss=loss) if loss or delay else None
        what = peer, to, it.picture.value, setup, link
        return self._do("send-picture", self._send_picture, *what)

    def clear(self) -> Self:
        """Forget what has come, except for what is still arriving."""
        self._registered().clear_inbox()
        self.view.request_redraw()
        return self

    def stop(self) -> Self:
        """Stop the picture that is being sent."""
        if self.transfer is not None:
            self.start(self.transfer.stop)
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until what was begun has ended and is drawn, and raise what went wrong.

        Raises TransferError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        self.join(timeout)
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

    def _reset(self, name: str) -> None:
        """Before something is tried: take away what was said of earlier attempts.

        Raises P2PLabError if it is under way already.
        """
        if self.controls.buttons[name] in self.busy:
            raise P2PLabError(f"{name} is under way: wait for its end")
        self.clear_error()
        for place in self._places.values():
            place.value = ""

    def _do(self, name: str, act: Any, *arguments: object) -> Self:
        """Do in the background what a button stands for."""
        pressed, place = self.controls.buttons[name], self._places.get(name)
        self.start(partial(act, *arguments), pressed, place=place)
        return self

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
            on_news=lambda _: self.view.request_redraw(),
            on_request=lambda _: self.view.request_redraw(),
        )
        try:
            peer.register()
            if self.closed or self.peer is not None:
                raise P2PLabError("this panel has a peer already, or was closed")
        except BaseException:
            peer.close()
            raise
        self.peer = peer
        self._look()

    def _leave(self) -> None:
        peer, self.peer = self.peer, None
        self.found, self.controls.peers.options = [], ()
        self._shown = self._texting_since = None  # these were results of that peer
        if peer is not None:
            peer.close()

    def _look(self) -> None:
        """Look who is there."""
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
        self._moving, self._shown = True, self.transfer

    # ---- what follows is called by the view's thread alone

    def draw(self) -> float | None:
        peer, it = self.peer, self.controls
        moving = self._draw_progress()
        it.attempts.value = self._attempts()
        it.enable(peer is not None, moving, self.busy)
        self.requests.draw([] if peer is None else peer.requests)
        if peer is None:
            self.tell("Not registered: choose a name, and press Register.")
            return FRAME if moving else None
        pause = LOOK_AGAIN if self._trouble else LOOK
        if time.monotonic() - self._looked_at >= pause:
            self._looked_at = time.monotonic()
            self.start(self._look)
        it.list_peers(self.found)
        self.tell(self._trouble or registration_status(peer))
        moving |= self.inbox.draw(peer.inbox) | self._sending("text")
        return FRAME if moving else 1.0

    def _draw_progress(self) -> bool:
        """How the picture that we send gets on; whether it still moves."""
        transfer, it = self._shown, self.controls
        if transfer is None:
            it.progress.value = self._asked("picture")
            return False
        ended = transfer.ended  # asked first: the last state is drawn, too
        it.progress.value = progress(transfer, ended)
        error = None if isinstance(transfer.error, TransferStopped) else transfer.error
        if ended and error is not None and self._moving:
            autopsy = "In a cell, p2plab.autopsy(panel.transfer) draws what happened "
            autopsy += "(panel: the name that you gave this one)."
            more = autopsy if transfer.went_wrong else ""
            self.show_error(error, it.picture_alert, more)
        self._moving = not ended
        return not ended

    def _asked(self, what: str) -> str:
        """Whose word a text or a picture waits for, if one is on its way."""
        return asked(self.peer) if self.peer and self._sending(what) else ""

    def _sending(self, what: str) -> bool:
        return self.controls.buttons[f"send-{what}"] in self.busy

    def _attempts(self) -> str:
        """What became of the text that was sent last."""
        if self.peer is None or self._texting_since is None:
            return ""
        words = attempts(self.peer.text_events, self._texting_since)
        return words or self._asked("text")

    def _obey(self) -> None:
        """Let the peer hear of a knob that was turned."""
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


class PeerControls:
    """All that can be set or pressed; the knobs' values are in SI units."""

    def __init__(self, name: str) -> None:
        self.name, self.room = _box("My name", name), _box("Room", LOBBY)
        self.accept = dropdown("accept", "Who meets me", WHO, "room")
        row = widgets.Layout(width=ROW)
        peers = widgets.Select(options=[], rows=5, description="Peers", layout=row)
        self.peers = named(peers, "peers")
        text = widgets.Textarea(description="Text", placeholder="Write a text here")
        text.layout = widgets.Layout(width=ROW, height="84px")
        self.text = named(text, "text")
        self.timeout = Knob("timeout", "Timeout [s]", 0.1, 10.0, 2.0, 0.1)
        self.tries = Knob("tries", "Tries", 1, 10, 5)
        self.picture = PictureChoice(128)
        self.protocol = protocol_choice()
        self.loss = Knob("loss", "Loss [%]", 0, 95, 10, 1, PERCENT)
        self.delay = Knob("delay", "Delay [ms]", 0, 500, 20, 5, MS)
        self.ack_delay = Knob("ack-delay", "ACK delay [s]", 0.0, 10.0, 0.0, 0.1)
        self.ack_loss = Knob("ack-loss", "ACK loss [%]", 0, 95, 0, 5, PERCENT)
        self.attempts = line("attempts", width=ROW, min_height="24px")
        self.progress = line("progress", width=ROW, min_height="48px")
        blue, red = {"button_style": "primary"}, {"button_style": "danger"}
        self.buttons = {
            "register": button("register", "Register", **blue),
            "leave": button("leave", "Leave", disabled=True),
            "refresh": button("refresh", "Refresh", icon="refresh"),
            "send-text": button("send-text", "Send text", **blue),
            "send-picture": button("send-picture", "Send picture", **blue),
            "stop": button("stop", "Stop", disabled=True, **red),
            "clear": button("clear", "Clear", icon="trash"),
        }
        for each, it in self.buttons.items():
            it.layout.width = "112px" if each == "send-picture" else "92px"
        self.text_alert, self.picture_alert = line("alert"), line("alert")

    def enable(self, registered: bool, sending: bool, busy: Collection[Any]) -> None:
        """Let people do what makes sense now.

        sending: whether a picture is on its way; busy: buttons whose work goes on.
        """
        off = {"register": registered, "leave": not registered}
        off |= {"send-picture": sending, "stop": not sending}
        for name, each in self.buttons.items():
            each.disabled = each in busy or off.get(name, False)
        self.name.disabled = self.room.disabled = self.buttons["register"].disabled
        self.text.disabled = self.buttons["send-text"].disabled

    def list_peers(self, found: Sequence[Listed]) -> None:
        """Who is there; the chosen one also when it has gone."""
        chosen = self.peers.value
        options = [(each.name, each.name) for each in found]
        if chosen is not None and (chosen, chosen) not in options:
            options.append((f"{chosen} (gone)", chosen))
        if options != list(self.peers.options):
            self.peers.options = options
            self.peers.value = chosen

    def lay_out(self, panel: PeerPanel) -> list[Any]:
        """Three columns: me and my texts; pictures and ACKs; the inbox."""
        me = [_head("Me and the others"), self.name, self.room, self.accept]
        me += [self._row("register", "leave"), panel.alert, panel.requests.box]
        me += [self.peers, self._row("refresh")]
        texts = [_head("Send a text over TCP"), self.text, self.timeout.box]
        texts += [self.tries.box, self._row("send-text"), self.text_alert, panel.note]
        texts += [self.attempts]
        pictures = [_head("Send a picture over UDP"), self.picture.box, self.protocol]
        pictures += [self.loss.box, self.delay.box, self._row("send-picture", "stop")]
        pictures += [self.picture_alert, self.progress]
        acks = [_head("How I acknowledge texts"), self.ack_delay.box, self.ack_loss.box]
        inbox = [_head("Inbox"), panel.inbox.box, self.buttons["clear"]]
        columns = [me + texts, pictures + acks, inbox]
        layout = widgets.Layout(**COLUMN)
        boxes = [widgets.VBox(each, layout=layout) for each in columns]
        style = line("style")
        style.value = STYLE
        wrap = widgets.Layout(flex_flow="row wrap")
        return [style, panel.status, widgets.HBox(boxes, layout=wrap)]

    def _row(self, *names: str) -> Any:
        indent = INDENT if len(names) == 1 else f"min({INDENT}, 100% - 216px)"
        layout = widgets.Layout(margin=f"0 0 4px {indent}")
        return widgets.HBox([self.buttons[name] for name in names], layout=layout)


def _box(label: str, value: str) -> Any:
    """A box for a short text; tests and styles find it by its label's last word."""
    layout = widgets.Layout(width=ROW)
    box = widgets.Text(value=value, description=label, layout=layout)
    return named(box, label.split()[-1].lower())


def _head(text: str) -> Any:
    head = line("head")
    head.value = f"<h4>{html.escape(text)}</h4>"
    return head


def registration_status(peer: Peer) -> str:
    """How a peer stands with the rendezvous."""
    if peer.trouble is not None:
        return str(peer.trouble)
    tcp, udp = peer.texts.address[1], peer.pictures.address[1]
    return (
        f"Registered as {peer.name} in {peer.rendezvous.room}: texts come to "
        f"TCP port {tcp}, pictures to UDP port {udp} of {peer.host}."
    )


def progress(transfer: Transfer, ended: bool) -> str:
    """How a picture that is sent gets on."""
    words = f"{arrived(transfer)} arrived"
    if ended and isinstance(transfer.error, TransferStopped):
        words = stopped_where(transfer)
        words = f"{words[0].upper()}{words[1:]}."
    elif ended and transfer.error is not None:
        words += ", then it failed"
    elif waits := silence(transfer):
        words += f". {waits}"
    return bar(transfer.progress, words)


def asked(peer: Peer) -> str:
    """Whose word we wait for, and until when; nothing if nobody was asked."""
    asking = list(peer.meetings.admission.asking.values())
    if not asking:
        return ""
    names = ", ".join(dict.fromkeys(name for name, _ in asking))
    left = max(until for _, until in asking) - time.monotonic()
    end = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
    return f"Waiting for {html.escape(names)} to agree to meet you, until {end} …"


def attempts(events: Sequence[Event], since: float) -> str:
    """What became of the first text sent since then, attempt by attempt."""
    events = [each for each in events if each.time >= since]
    first = next((e for e in events if e.event in FIRST), None)
    if first is None:
        return ""
    mine = [each for each in events if each.id == first.id and each.event in ATTEMPT]
    words = ", ".join(ATTEMPT[each.event] for each in mine)
    took = mine[-1].time - first.time
    return f"{words} ({took:.1f} s)" if took >= 1 else f"{words} ({1e3 * took:.1f} ms)"


class RequestsView:
    """A line with two buttons for each who asks; nobody, and it takes no room.

    panel: does what a button stands for, and shows what went wrong.
    """

    def __init__(self, panel: Panel) -> None:
        self.box = widgets.VBox([])
        self.box.add_class("p2p-requests")
        self._panel = panel
        self._rows: dict[tuple[str, ...], Any] = {}  # by the sessions of one peer

    def draw(self, requests: Sequence[Request]) -> None:
        """Show who waits for our word, the oldest first; who asks twice, once."""
        theirs: dict[str, list[Request]] = {}
        for each in requests:
            theirs.setdefault(each.peer, []).append(each)
        waiting = {tuple(e.session for e in each): each for each in theirs.values()}
        if waiting.keys() != self._rows.keys():
            self._rows = {
                sessions: self._rows.get(sessions) or self._row(each)
                for sessions, each in waiting.items()
            }
            self.box.children = list(self._rows.values())

    def _row(self, requests: Sequence[Request]) -> Any:
        accept = button("accept-request", "Accept", button_style="success")
        refuse = button("refuse-request", "Refuse")
        both, start = (accept, refuse), self._panel.start
        for each, act in zip(both, (Request.accept, Request.refuse), strict=True):
            each.layout.width = "76px"
            job = partial(settle, requests, act)
            self._panel.listen(each, partial(start, job, *both))
        since = time.time() - time.monotonic() + requests[-1].asked_at
        at = time.strftime("%H:%M:%S", time.localtime(since))
        words = line("request", flex="1 1 auto")
        name = html.escape(requests[-1].peer)
        words.value = f'<b dir="auto">{name}</b> wants to meet you, asked at {at}.'
        return widgets.HBox([words, *both], layout=widgets.Layout(align_items="center"))


class InboxView:
    """One HTML widget for each entry, the newest on top; only what changes is sent."""

    def __init__(self) -> None:
        layout = widgets.Layout(
            width="100%", height="560px", overflow="hidden auto", display="block"
        )
        nothing = line("message")
        nothing.value = "Nothing has come yet."
        self.box = widgets.VBox([nothing], layout=layout)
        self.box.add_class("p2p-inbox")
        self._lines: list[tuple[Message | Transfer, Any]] = []
        self._moving: list[tuple[Message | Transfer, Any]] = []  # some of these

    def draw(self, inbox: Sequence[Message | Transfer]) -> bool:
        """Show what has come; say whether something is still arriving."""
        there = {id(each) for each in inbox}
        cleared = len(self._lines)
        self._lines = [(each, it) for each, it in self._lines if id(each) in there]
        cleared -= len(self._lines)
        known = {id(each) for each, _ in self._lines}
        fresh = [(each, line("message")) for each in inbox if id(each) not in known]
        self._lines += fresh
        moving, self._moving = [*self._moving, *fresh], []
        for each, entry in moving:
            if isinstance(each, Message):
                entry.value = _text(each)
                continue
            ended = each.ended  # asked first: the last state is drawn, too
            entry.value = _chunks(each, ended)
            if not ended:
                self._moving.append((each, entry))
        if fresh or cleared:
            self.box.children = [entry for _, entry in reversed(self._lines[-SHOWN:])]
        return bool(self._moving)


def _from(sender: str, at: str) -> str:
    who = html.escape(sender) or "somebody"
    at = html.escape(at)
    return f'<b dir="auto">{who}</b> <small dir="auto">{at}</small>'


def _text(message: Message) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(message.received_at))
    style = "white-space:pre-wrap;overflow-wrap:anywhere"
    text = f'<div dir="auto" style="{style}">{html.escape(message.text)}</div>'
    return _from(message.sender, at) + text


def _chunks(transfer: Transfer, ended: bool) -> str:
    content, assembly = transfer.offer.content, transfer.assembly
    head = _from(transfer.offer.sender, content.name)
    if assembly is None:
        return head
    words = have(assembly)
    if transfer.error is not None:
        words = f"{words}: {transfer.error}"
    below = f'<div style="width:{SIDE}px">{bar(assembly.progress, words)}</div>'
    if ended and assembly.complete:
        below = f"<div>{html.escape(words)}</div>"
    if content.kind != "picture":
        return head + below
    alt = f"Picture from {transfer.offer.sender}: {words}."
    return head + figure(assembly.picture(), alt, SIDE, final=ended) + below
