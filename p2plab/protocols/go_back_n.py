"""Go-back-N: keep a window of packets in flight; after a timeout, send it all again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.endpoint import RttEstimator, Window
from p2plab.core.packet import ACK, DATA, Packet, unwrap, wrap


@dataclass(slots=True)
class GoBackNSender:
    """Up to a window of packets in flight, one timer, cumulative ACKs.

    seq_bits: bits that a number has on the wire, which is safe for a window of at
        most 2**seq_bits - 1; None gives every packet a number of its own.
    Source: Kurose & Ross, section 3.4.3.
    """

    rtt: RttEstimator
    window: Window
    seq_bits: int | None = None
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire
    sent: int = 0  # packets that have been on the wire at least once
    deadline: float | None = None  # when the retransmission timer fires [s]

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_packet(self, now: float) -> Packet | None:
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
        return Packet(DATA, wrap(seq, self.seq_bits), self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = unwrap(packet.seq, self.send_base, self.seq_bits)
        if packet.kind != ACK or not self.send_base <= seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        for each in range(self.send_base, seq + 1):  # ACKs are cumulative
            self.rtt.on_ack(each, now, packet.ts_ecr)
            self.window.on_ack(each, now)
        self.send_base = seq + 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        in_flight = self.next_seq_num - self.send_base
        self.deadline = now + self.rtt.rto if in_flight else None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back N
        self.deadline = None


@dataclass(slots=True)
class GoBackNReceiver:
    """Hand over the packet that is expected, drop others, and say how far we are."""

    seq_bits: int | None = None
    expected_seq_num: int = 0
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
        if packet.seq == wrap(self.expected_seq_num, self.seq_bits):
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        last = wrap(self.expected_seq_num - 1, self.seq_bits)  # arrived in order
        self.acks.append(Packet(ACK, last, ts_ecr=packet.ts_val))

    def on_timeout(self, now: float) -> None:
        return
