"""Alternating bit: one bit is number enough while packets keep their order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, Packet


@dataclass(slots=True)
class AlternatingBitSender:
    """One packet in flight; a bit tells it from the one before.

    Source: Bartlett, Scantlebury & Wilkinson, Communications of the ACM 12 (1969).
    """

    rtt: RttEstimator
    waiting: deque[bytes] = field(default_factory=deque, repr=False)  # in flight first
    bit: int = 0  # of the first one waiting
    deadline: float | None = None  # while that one is in flight [s]

    @property
    def done(self) -> bool:
        return not self.waiting

    def send(self, payload: bytes) -> None:
        self.waiting.append(payload)

    def next_packet(self, now: float) -> Packet | None:
        if not self.waiting or self.deadline is not None:
            return None  # nothing to send, or one packet is in flight
        self.rtt.on_send(self.bit, now)
        self.deadline = now + self.rtt.rto
        return Packet(DATA, self.bit, self.waiting[0], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or packet.seq != self.bit or self.deadline is None:
            return  # the ACK of the packet before, arriving again
        self.rtt.on_ack(self.bit, now, packet.ts_ecr)
        self.waiting.popleft()
        self.bit = 1 - self.bit
        self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.deadline = None  # not in flight any more: it goes out again


@dataclass(slots=True)
class AlternatingBitReceiver:
    """Hand over what has the other bit than the packet before; say which bit came."""

    bit: int = 0  # of the packet that is expected
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    acks: deque[Packet] = field(default_factory=deque, repr=False)
    deadline: float | None = None  # a receiver has no timer

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.bit:
            self.inbox.append(packet.payload)
            self.bit = 1 - self.bit
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))

    def on_timeout(self, now: float) -> None:
        return
