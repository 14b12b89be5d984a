"""Panels for notebooks: one that sends pictures, one for a peer."""

from p2plab.widgets.peer_panel import PeerPanel
from p2plab.widgets.transfer_panel import TransferPanel

__all__ = ["PeerPanel", "TransferPanel"]
