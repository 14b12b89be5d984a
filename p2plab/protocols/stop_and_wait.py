"""Stop-and-wait: send one packet, wait for its ACK, send the next."""

from __future__ import annotations

from dataclasses import dataclass

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.base import ReceiverBase, SenderBase


@dataclass(slots=True)
class StopAndWaitSender(SenderBase):
    """One packet in flight at a time.

    Source: Kurose & Ross, section 3.4.1 (rdt3.0).
    """

    rtt: RttEstimator
    sent: int = 0  # packets that have been on the wire at least once
    deadline: float | None = None  # when the retransmission timer fires [s]

    def next_packet(self, now: float) -> Packet | None:
        if self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        if self.next_seq_num > self.send_base:
            return None  # one packet is in flight: wait for its ACK
        seq = self.next_seq_num
        self.next_seq_num += 1
        self.sent = max(self.sent, self.next_seq_num)
        self.rtt.on_send(seq, now)
        self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        self.rtt.on_ack(packet.seq, now, packet.ts_ecr)
        self.send_base += 1
        self.next_seq_num = self.send_base  # even if a timeout has just stepped back
        self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.next_seq_num = self.send_base  # send the same packet again
        self.deadline = None


@dataclass(slots=True)
class StopAndWaitReceiver(ReceiverBase):
    """Hand over the packet that is expected; acknowledge whatever arrives."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        # A duplicate too: the ACK of its first copy may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
