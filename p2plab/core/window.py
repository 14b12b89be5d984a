"""How many packets may be in flight: a window that stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

from p2plab.core.validation import number


@dataclass(slots=True)
class FixedWindow:
    """The same window for ever: no congestion control.

    size: packets that may be in flight, >= 1.
    """

    size: int = 16

    def __post_init__(self) -> None:
        number("size", self.size, 16, "[1, inf)", " packets", whole=True)

    def on_ack(self, seq: int, now: float) -> None: ...

    def on_loss(self, in_flight: int, now: float) -> None: ...

    def on_timeout(self, in_flight: int, now: float) -> None: ...
