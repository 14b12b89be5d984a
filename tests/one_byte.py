"""Stop-and-wait whose numbers have one byte: correct, as long as packets keep order."""

from __future__ import annotations

from collections import deque

from p2plab import ACK, DATA, Packet


class Sender:
    """Stop-and-wait whose numbers have one byte."""

    period = 0.4

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.base, self.deadline = 0, None  # type: int, float | None

    @property
    def done(self) -> bool:
        return self.base == len(self.items)

    def send(self, payload: bytes) -> None:
        self.items.append(payload)

    def next_packet(self, now: float) -> Packet | None:
        if self.done or self.deadline is not None:
            return None
        self.deadline = now + self.period
        return Packet(DATA, self.base % 256, self.items[self.base])

    def number(self, packet: Packet) -> int:
        return packet.seq

    def on_packet(self, packet: Packet, now: float) -> None:
        if self.deadline is not None and self.number(packet) == self.base % 256:
            self.base += 1
            self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.deadline = None


class Receiver:
    """Its other side; in the last line of `on_packet` it answers."""

    deadline = None

    def __init__(self) -> None:
        self.expected = 0
        self.out: deque[bytes] = deque()
        self.acks: deque[Packet] = deque()

    def next_payload(self) -> bytes | None:
        return self.out.popleft() if self.out else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_timeout(self, now: float) -> None:
        return

    def take(self, packet: Packet) -> bytes:
        return packet.payload

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected % 256:
            self.out.append(self.take(packet))
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))
