"""What a protocol machine is, what it promises, and what its driver promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from p2plab.core.packet import Packet
from p2plab.core.validation import number


class Endpoint(Protocol):
    """One side of a conversation: no sockets, no clock, no randomness.

    The machine promises its driver:
    1. Same inputs, same outputs: no clock, chance, thread or printing inside.
    2. `next_packet` says None in the end.
    3. After `on_timeout` and pulling until None, a packet has come out or `deadline`
       has moved or is None.
    4. A timer runs exactly while something is in flight: `done` means no deadline.
    5. It never raises because of what arrives.

    The driver promises the machine:
    1. `now` never decreases [s].
    2. After every input it pulls; it may stop early, or pull later (pacing, a full
       socket, packets that came in one batch), timers firing meanwhile. It may pull
       before anything was sent.
    3. `on_timeout` is never called before `deadline`.
    4. Bytes whose checksum does not fit never reach `on_packet`.
    5. At equal times a packet arrives before a timer fires.

    Two members are optional: `on_corrupt(now)` hears of damaged packets, and
    `pacing_rate` (packets/s or None) asks the driver to space its pulls.
    """

    @property
    def deadline(self) -> float | None:
        """When on_timeout must be called [s]; None while no timer runs."""

    def next_packet(self, now: float) -> Packet | None:
        """The next packet to put on the wire at `now`, or None when there is none."""

    def on_packet(self, packet: Packet, now: float) -> None:
        """A packet has arrived intact. Duplicates and reordering are normal."""

    def on_timeout(self, now: float) -> None:
        """The deadline has passed. Never called before it."""


class Sender(Endpoint, Protocol):
    """The side that has payloads to move."""

    def send(self, payload: bytes) -> None:
        """Queue a payload from the application, an empty one too."""

    @property
    def done(self) -> bool:
        """Whether nothing is queued or in flight."""


class Receiver(Endpoint, Protocol):
    """The side that hands payloads to its application."""

    def next_payload(self) -> bytes | None:
        """The next payload for the application, or None while there is none."""


class RttEstimator(Protocol):
    """How long to wait for an ACK: see rtt."""

    @property
    def rto(self) -> float:
        """The retransmission timeout [s]."""

    def on_send(self, seq: int, now: float) -> None:
        """Packet `seq` goes out, for the first time or again."""

    def on_ack(self, seq: int, now: float, ts_ecr: float | None = None) -> None:
        """Packet `seq` is acknowledged; `ts_ecr` is the ACK's echoed timestamp [s]."""

    def on_timeout(self) -> None:
        """The timer has fired."""


class Window(Protocol):
    """How many packets may be in flight."""

    @property
    def size(self) -> int:
        """Packets that may be in flight, at least 1."""

    def on_ack(self, seq: int, now: float) -> None:
        """Packet `seq` is newly acknowledged."""

    def on_loss(self, in_flight: int, now: float) -> None:
        """A loss was inferred from what arrived, not from a timer."""

    def on_timeout(self, in_flight: int, now: float) -> None:
        """The retransmission timer has fired."""


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
