"""A map in every ACK: one number for all before it, and a bit for each one after."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.endpoint import RttEstimator, Window
from p2plab.packet import ACK, DATA, Packet


@dataclass(slots=True)
class BitmapSender:
    """Go back N, but skip what the map says has arrived.

    One lost ACK costs nothing here: the next one says everything again. TCP's selective
    acknowledgement has the same idea with ranges for bits (RFC 2018).
    """

    rtt: RttEstimator
    window: Window
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire
    sent: int = 0  # packets that have been on the wire at least once
    arrived: set[int] = field(default_factory=set)  # beyond send_base
    deadline: float | None = None  # when the retransmission timer fires [s]

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_packet(self, now: float) -> Packet | None:
        while self.next_seq_num in self.arrived:
            self.next_seq_num += 1
        if self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        if self.next_seq_num >= self.send_base + self.window.size:
            return None  # the window is full: wait for an ACK
        seq = self.next_seq_num
        self.next_seq_num += 1
        self.sent = max(self.sent, self.next_seq_num)
        self.rtt.on_send(seq, now)
        if self.deadline is None:  # the one timer runs for the oldest packet
            self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, self.payloads[seq], stamp=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq + 1 <= self.sent:
            return  # an old ACK, arriving late, or one for a packet never sent
        named = [*range(self.send_base, packet.seq + 1), *_mapped(packet)]
        news = [seq for seq in named if seq < self.sent and seq not in self.arrived]
        for seq in news:
            self.rtt.on_ack(seq, now, packet.echo)
            self.window.on_ack(seq, now)
            self.arrived.add(seq)
        while self.send_base in self.arrived:
            self.arrived.remove(self.send_base)
            self.send_base += 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        if news:
            in_flight = self.next_seq_num - self.send_base
            self.deadline = now + self.rtt.rto if in_flight else None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back, to fill the holes
        self.deadline = None


def _mapped(packet: Packet) -> list[int]:
    # The packet after the ACK's number has no bit: it is the first that is missing.
    bits = int.from_bytes(packet.payload, "little")
    first = packet.seq + 2
    return [first + place for place in range(bits.bit_length()) if bits >> place & 1]


@dataclass(slots=True)
class BitmapReceiver:
    """Keep what arrives early, hand over in order, and tell everything that is here.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    expected_seq_num: int = 0  # oldest packet that has not arrived
    early: dict[int, bytes] = field(default_factory=dict, repr=False)
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
        if 0 <= packet.seq - self.expected_seq_num < self.window:
            self.early[packet.seq] = packet.payload
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1
        bits = sum(1 << seq - self.expected_seq_num - 1 for seq in self.early)
        here = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
        last = self.expected_seq_num - 1  # arrived in order
        self.acks.append(Packet(ACK, last, here, echo=packet.stamp))

    def on_timeout(self, now: float) -> None:
        return
