"""The museum: protocols with one mistake each, and correct ones beside them."""

from __future__ import annotations

from typing import Final

from p2plab.museum import go_back_n, others, selective_repeat, stop_and_wait, timers
from p2plab.museum.exhibit import Exhibit
from p2plab.museum.healthy import HEALTHY

_ROOMS: Final = (stop_and_wait, timers, go_back_n, selective_repeat, others)
EXHIBITS: Final = {exhibit.name: exhibit for room in _ROOMS for exhibit in room.ROOM}

__all__ = ["EXHIBITS", "HEALTHY", "Exhibit"]
