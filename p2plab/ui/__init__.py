"""Panels for notebooks: to send pictures, to be a peer, to look into Redis."""

from p2plab.ui.peer_panel import PeerPanel
from p2plab.ui.redis_panel import RedisPanel
from p2plab.ui.transfer_panel import TransferPanel

__all__ = ["PeerPanel", "RedisPanel", "TransferPanel"]
