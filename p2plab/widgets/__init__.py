"""Panels for notebooks: to send pictures, to be a peer, to look into Redis."""

from p2plab.widgets.peer_panel import PeerPanel
from p2plab.widgets.redis_panel import RedisPanel
from p2plab.widgets.transfer_panel import TransferPanel

__all__ = ["PeerPanel", "RedisPanel", "TransferPanel"]
