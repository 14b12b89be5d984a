"""The controls of a peer panel, and where they stand."""

from __future__ import annotations

import html
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from p2plab.content.transfer import arrived
from p2plab.errors import TransferStopped
from p2plab.rendezvous.model import LOBBY
from p2plab.ui.choice import PictureChoice
from p2plab.ui.controls import protocol_choice
from p2plab.ui.knobs import (
    COLUMN,
    INDENT,
    MS,
    PERCENT,
    ROW,
    Knob,
    dropdown,
    named,
)
from p2plab.ui.panel import STYLE, button, line
from p2plab.ui.pictures import bar
from p2plab.ui.runs import silence, whose_stop

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer
    from p2plab.net.chat import Event
    from p2plab.peer.peer import Peer
    from p2plab.rendezvous.model import Listed

ATTEMPT: Final = {
    "send": "sent",
    "resend": "sent again",
    "timeout": "timeout",
    "ack": "ACK",
    "dropped": "the connection broke",
    "unreachable": "nobody answers",
    "unproven": "who answers has not proven to be the peer",
}
WHO: Final = (
    ("everyone in my room", "room"),
    ("ask me", "ask"),
    ("nobody", "nobody"),
)
FIRST: Final = ("send", "unreachable", "unproven")


class PeerControls:
    """All that can be set or pressed; the knobs' values are in SI units."""

    def __init__(self, name: str) -> None:
        row = widgets.Layout(width=ROW)
        self.name, self.room = _box("My name", name), _box("Room", LOBBY)
        self.accept = dropdown("accept", "Who meets me", list(WHO), "room")
        self.peers = named(
            widgets.Select(options=[], rows=5, description="Peers", layout=row), "peers"
        )
        self.text = named(
            widgets.Textarea(
                description="Text",
                placeholder="Write a text here",
                layout=widgets.Layout(width=ROW, height="84px"),
            ),
            "text",
        )
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
        self._waiting = ""  # what is said of a picture that waits for a consent
        self.buttons = _buttons()
        self.text_alert, self.picture_alert = line("alert"), line("alert")

    @property
    def places(self) -> dict[str, Any]:
        """Where it is said that something went wrong, for buttons with such a place."""
        picture = self.picture_alert
        return {"send-text": self.text_alert, "send-picture": picture, "stop": picture}

    def enable(self, registered: bool, sending: bool, busy: Collection[str]) -> None:
        """Let people do what makes sense now.

        sending: whether a picture is on its way; busy: buttons whose work goes on.
        """
        off = {"register": registered, "leave": not registered}
        off |= {"send-picture": sending, "stop": not sending}
        for name, each in self.buttons.items():
            each.disabled = name in busy or off.get(name, False)
        self.name.disabled = self.buttons["register"].disabled
        self.room.disabled = self.name.disabled
        self.text.disabled = self.buttons["send-text"].disabled

    def list_peers(self, found: Sequence[Listed]) -> None:
        """Who is there; the chosen one also when it has gone."""
        peers = self.peers
        chosen = peers.value
        options = [(each.name, each.name) for each in found]
        if chosen is not None and (chosen, chosen) not in options:
            options.append((f"{chosen} (gone)", chosen))
        if options != list(peers.options):
            peers.options = options
            peers.value = chosen

    def show_attempts(self, peer: Peer, since: float) -> None:
        """What became of the text that is sent since then."""
        self.attempts.value = attempts(peer.text_events, since) or asked(peer)

    def show_waiting(self, peer: Peer | None, busy: Collection[str]) -> None:
        """Whose word a picture waits for, before it can be sent."""
        words = asked(peer) if peer is not None and "send-picture" in busy else ""
        if words != self._waiting:
            self._waiting = self.progress.value = words

    def show_transfer(self, transfer: Transfer, ended: bool, stopped: bool) -> None:
        """How the picture that we send gets on; stopped: whether by this panel."""
        words = f"{arrived(transfer)} arrived"
        if ended and isinstance(transfer.error, TransferStopped):
            words = whose_stop(transfer, stopped)
            words = f"{words[0].upper()}{words[1:]}."
        elif ended and transfer.error is not None:
            words += ", then it failed"
        elif waits := silence(transfer):
            words += f". {waits}"
        self.progress.value = bar(transfer.progress, words)

    def lay_out(
        self, status: Any, alert: Any, note: Any, requests: Any, inbox: Any
    ) -> list[Any]:
        """Three columns: me and my texts; pictures and ACKs; the inbox."""
        style = line("style")
        style.value = STYLE
        me = [_head("Me and the others"), self.name, self.room, self.accept]
        me += [self._row("register", "leave")]
        others = [alert, requests, self.peers, self._row("refresh")]
        texts = [_head("Send a text over TCP"), self.text, self.timeout.box]
        texts += [self.tries.box, self._row("send-text")]
        texts += [self.text_alert, note, self.attempts]
        pictures = [_head("Send a picture over UDP"), self.picture.box, self.protocol]
        pictures += [self.loss.box, self.delay.box]
        pictures += [self._row("send-picture", "stop"), self.picture_alert]
        pictures += [self.progress]
        acks = [_head("How I acknowledge texts"), self.ack_delay.box, self.ack_loss.box]
        columns = [me + others + texts, pictures + acks, [_head("Inbox"), inbox]]
        layout = widgets.Layout(**COLUMN)
        boxes = [widgets.VBox(each, layout=layout) for each in columns]
        wrap = widgets.Layout(flex_flow="row wrap")
        return [style, status, widgets.HBox(boxes, layout=wrap)]

    def _row(self, *names: str) -> Any:
        indent = INDENT if len(names) == 1 else f"min({INDENT}, 100% - 216px)"
        layout = widgets.Layout(margin=f"0 0 4px {indent}")
        return widgets.HBox([self.buttons[name] for name in names], layout=layout)


def _buttons() -> dict[str, Any]:
    """One for each action of the panel, by its name."""
    blue: dict[str, Any] = {"button_style": "primary"}
    buttons = {
        "register": button("register", "Register", **blue),
        "leave": button("leave", "Leave", disabled=True),
        "refresh": button("refresh", "Refresh", icon="refresh"),
        "send-text": button("send-text", "Send text", **blue),
        "send-picture": button("send-picture", "Send picture", **blue),
        "stop": button("stop", "Stop", button_style="danger", disabled=True),
    }
    for name, each in buttons.items():
        each.layout.width = "112px" if name == "send-picture" else "92px"
    return buttons


def _box(label: str, value: str) -> Any:
    """A box for a short text; tests and styles find it by its label's last word."""
    layout = widgets.Layout(width=ROW)
    box = widgets.Text(value=value, description=label, layout=layout)
    return named(box, label.split()[-1].lower())


def _head(text: str) -> Any:
    head = line("head")
    head.value = f"<h4>{html.escape(text)}</h4>"
    return head


def help_with(transfer: Transfer) -> str:
    """What a person at the panel can do about a transfer that failed."""
    if not transfer.went_wrong:
        return ""
    cell = "In a cell, p2plab.autopsy(panel.transfer) draws what happened"
    return f"{cell} (panel: the name that you gave this one)."


def standing(peer: Peer) -> str:
    """How a peer stands with the rendezvous."""
    if peer.trouble is not None:
        return str(peer.trouble)
    tcp, udp = peer.texts.address[1], peer.pictures.address[1]
    return (
        f"Registered as {peer.name} in {peer.rendezvous.room}: texts come to "
        f"TCP port {tcp}, pictures to UDP port {udp} of {peer.host}."
    )


def asked(peer: Peer) -> str:
    """Whose word we wait for, and until when; nothing if nobody was asked."""
    asking = list(peer.meetings.doorman.asking.values())
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
