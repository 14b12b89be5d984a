"""Go-back-N: keep a window of packets in flight; after a timeout, send it all again."""

from __future__ import annotations

from dataclasses import dataclass

from p2plab.core.endpoint import RttEstimator, Window
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.base import ReceiverBase, SenderBase


@dataclass(slots=True)
class GoBackNSender(SenderBase):
    """Up to a window of packets in flight, one timer, cumulative ACKs.

    Source: Kurose & Ross, section 3.4.3.
    """

    rtt: RttEstimator
    window: Window
    sent: int = 0  # packets that have been on the wire at least once
    deadline: float | None = None  # when the retransmission timer fires [s]

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
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        for seq in range(self.send_base, packet.seq + 1):  # ACKs are cumulative
            self.rtt.on_ack(seq, now, packet.ts_ecr)
            self.window.on_ack(seq, now)
        self.send_base = packet.seq + 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        in_flight = self.next_seq_num - self.send_base
        self.deadline = now + self.rtt.rto if in_flight else None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back N
        self.deadline = None


@dataclass(slots=True)
class GoBackNReceiver(ReceiverBase):
    """Hand over the packet that is expected, drop others, and say how far we are."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        last = self.expected_seq_num - 1  # that has arrived in order
        self.acks.append(Packet(ACK, last, ts_ecr=packet.ts_val))
