"""What a student writes in one cell, and correct: stop-and-wait, in plain classes."""

from __future__ import annotations

from collections import deque
from typing import Any

from p2plab import ACK, DATA, Packet


class Sender:
    rto = 1.0

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.base = self.sent = 0
        self.deadline: float | None = None

    @property
    def done(self) -> bool:
        return self.base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_packet(self, now: float) -> Any:
        if self.sent > self.base or self.done:
            return None
        self.sent += 1
        self.deadline = now + self.rto
        return Packet(DATA, self.base, self.payloads[self.base])

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.base < self.sent:
            self.base += 1
            self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.sent = self.base
        self.deadline = None


class Receiver:
    deadline: float | None = None

    def __init__(self) -> None:
        self.expected = 0
        self.inbox: deque[Any] = deque()
        self.acks: deque[Packet] = deque()

    def next_payload(self) -> Any:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected:
            self.inbox.append(packet.payload)
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))

    def on_timeout(self, now: float) -> None:
        return
