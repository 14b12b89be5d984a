"""p2plab: peer-to-peer networking to teach with and to experiment with."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from p2plab.errors import P2PLabError
from p2plab.link import GilbertElliott, Link, ScriptedLink
from p2plab.packet import ACK, DATA, FIN, NAK, Packet
from p2plab.protocols import Setup
from p2plab.simulator import simulate
from p2plab.trace import Trace

if TYPE_CHECKING:
    from p2plab.checker import Verdict, break_it, check
    from p2plab.checker.postmortem import autopsy
    from p2plab.lab import Lab
    from p2plab.listing import as_value, as_values, as_word, as_words, show
    from p2plab.peer import Peer
    from p2plab.replay import recording
    from p2plab.sample import sample_picture
    from p2plab.transfer import simulate_picture
    from p2plab.widgets import PeerPanel, RedisPanel, TransferPanel

__all__ = [
    "ACK",
    "DATA",
    "FIN",
    "NAK",
    "GilbertElliott",
    "Lab",
    "Link",
    "P2PLabError",
    "Packet",
    "Peer",
    "PeerPanel",
    "RedisPanel",
    "ScriptedLink",
    "Setup",
    "Trace",
    "TransferPanel",
    "Verdict",
    "as_value",
    "as_values",
    "as_word",
    "as_words",
    "autopsy",
    "break_it",
    "check",
    "recording",
    "sample_picture",
    "show",
    "simulate",
    "simulate_picture",
]

# What needs sockets, HTTP, pictures or widgets is loaded when it is first used.
_LATE = {
    "Lab": "p2plab.lab",
    "Peer": "p2plab.peer",
    "PeerPanel": "p2plab.widgets",
    "RedisPanel": "p2plab.widgets",
    "TransferPanel": "p2plab.widgets",
    "Verdict": "p2plab.checker",
    "as_value": "p2plab.listing",
    "as_values": "p2plab.listing",
    "as_word": "p2plab.listing",
    "as_words": "p2plab.listing",
    "autopsy": "p2plab.checker.postmortem",
    "break_it": "p2plab.checker",
    "check": "p2plab.checker",
    "recording": "p2plab.replay",
    "sample_picture": "p2plab.sample",
    "show": "p2plab.listing",
    "simulate_picture": "p2plab.transfer",
}


_LATE_ROOMS = ("metrics", "plots", "experiments", "theory", "museum", "widgets")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, *_LATE_ROOMS})  # so that Tab completes them


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    if name in _LATE_ROOMS:
        return import_module(f"p2plab.{name}")
    raise AttributeError(f"p2plab has no {name}; it has {', '.join(__all__)}")
