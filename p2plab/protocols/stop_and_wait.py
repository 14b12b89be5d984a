"""Stop-and-wait: send one packet, wait for its ACK, send the next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, Packet, unwrap, wrap


@dataclass(slots=True)
class StopAndWaitSender:
    """One packet in flight at a time.

    seq_bits: bits that a number has on the wire; 1 is the alternating-bit protocol,
        None gives every packet a number of its own.
    Source: Kurose & Ross, section 3.4.1 (rdt3.0).
    """

    rtt: RttEstimator
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
        if self.next_seq_num > self.send_base:
            return None  # one packet is in flight: wait for its ACK
        seq = self.next_seq_num
        self.next_seq_num += 1
        self.sent = max(self.sent, self.next_seq_num)
        self.rtt.on_send(seq, now)
        self.deadline = now + self.rtt.rto
        return Packet(DATA, wrap(seq, self.seq_bits), self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = unwrap(packet.seq, self.send_base, self.seq_bits)
        if packet.kind != ACK or seq != self.send_base or seq == self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        self.rtt.on_ack(seq, now, packet.ts_ecr)
        self.send_base += 1
        self.next_seq_num = self.send_base  # even if a timeout has just stepped back
        self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.next_seq_num = self.send_base  # send the same packet again
        self.deadline = None


@dataclass(slots=True)
class StopAndWaitReceiver:
    """Hand over the packet that is expected; acknowledge whatever arrives."""

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
        # A duplicate too: the ACK of its first copy may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))

    def on_timeout(self, now: float) -> None:
        return
