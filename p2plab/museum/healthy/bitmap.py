"""A map in every ACK: one number for all before it, and a bit for each one after."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.go_back_n import GoBackNSender
from p2plab.protocols.selective_repeat import SelectiveRepeatReceiver


@dataclass(slots=True)
class BitmapSender(GoBackNSender):
    """Go back N, but skip what the map says has arrived.

    One lost ACK costs nothing here: the next one says everything again. TCP's selective
    acknowledgement has the same idea with ranges for bits (RFC 2018).
    """

    arrived: set[int] = field(default_factory=set)  # beyond send_base

    def next_packet(self, now: float) -> Packet | None:
        while self.next_seq_num in self.arrived:
            self.next_seq_num += 1
        return GoBackNSender.next_packet(self, now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq + 1 <= self.sent:
            return  # an old ACK, arriving late, or one for a packet never sent
        named = [*range(self.send_base, packet.seq + 1), *_mapped(packet)]
        news = [seq for seq in named if seq < self.sent and seq not in self.arrived]
        for seq in news:
            self.rtt.on_ack(seq, now, packet.ts_ecr)
            self.window.on_ack(seq, now)
            self.arrived.add(seq)
        while self.send_base in self.arrived:
            self.arrived.remove(self.send_base)
            self.send_base += 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        if news:
            in_flight = self.next_seq_num - self.send_base
            self.deadline = now + self.rtt.rto if in_flight else None


def _mapped(packet: Packet) -> list[int]:
    # The packet after the ACK's number has no bit: it is the first that is missing.
    bits = int.from_bytes(packet.payload, "little")
    first = packet.seq + 2
    return [first + place for place in range(bits.bit_length()) if bits >> place & 1]


@dataclass(slots=True)
class BitmapReceiver(SelectiveRepeatReceiver):
    """Keep what arrives early, hand over in order, and tell everything that is here."""

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
        self.acks.append(Packet(ACK, last, here, ts_ecr=packet.ts_val))
