"""p2plab: peer-to-peer networking to teach with and to experiment with."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from p2plab.core.link import GilbertElliott, Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, NAK, Packet
from p2plab.core.trace import Trace
from p2plab.errors import P2PLabError
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

if TYPE_CHECKING:
    from p2plab.checker import Verdict, break_it, check
    from p2plab.checker.diagnosis import autopsy
    from p2plab.content.sample import sample_picture
    from p2plab.content.transfer import simulate_picture
    from p2plab.peer.lab import Lab
    from p2plab.peer.peer import Peer
    from p2plab.room.check import check_room
    from p2plab.room.virtual import simulate_room
    from p2plab.ui import PeerPanel, RedisPanel, TransferPanel
    from p2plab.ui.lesson import predict, show
    from p2plab.ui.stage import Stage

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
    "Stage",
    "Trace",
    "TransferPanel",
    "Verdict",
    "autopsy",
    "break_it",
    "check",
    "check_room",
    "predict",
    "sample_picture",
    "show",
    "simulate",
    "simulate_picture",
    "simulate_room",
]

# What needs sockets, HTTP, pictures or widgets is loaded when it is first used.
_LATE = {
    "Lab": "p2plab.peer.lab",
    "Peer": "p2plab.peer.peer",
    "PeerPanel": "p2plab.ui",
    "RedisPanel": "p2plab.ui",
    "Stage": "p2plab.ui.stage",
    "TransferPanel": "p2plab.ui",
    "Verdict": "p2plab.checker",
    "autopsy": "p2plab.checker.diagnosis",
    "break_it": "p2plab.checker",
    "check": "p2plab.checker",
    "check_room": "p2plab.room.check",
    "predict": "p2plab.ui.lesson",
    "sample_picture": "p2plab.content.sample",
    "show": "p2plab.ui.lesson",
    "simulate_picture": "p2plab.content.transfer",
    "simulate_room": "p2plab.room.virtual",
}


# Modules by the short name that a lesson uses, wherever they stand.
_LATE_MODULES = {
    "coding": "p2plab.fast.coding",
    "endpoint": "p2plab.core.endpoint",
    "experiments": "p2plab.measure.experiments",
    "metrics": "p2plab.measure.metrics",
    "museum": "p2plab.museum",
    "packet": "p2plab.core.packet",
    "plots": "p2plab.plots",
    "rtt": "p2plab.core.rtt",
    "theory": "p2plab.measure.theory",
    "ui": "p2plab.ui",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, *_LATE_MODULES})  # so that Tab completes them


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    if name in _LATE_MODULES:
        return import_module(_LATE_MODULES[name])
    raise AttributeError(f"p2plab has no {name}; it has {', '.join(__all__)}")
