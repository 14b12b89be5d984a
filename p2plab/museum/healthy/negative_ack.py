"""Negative ACKs: say at once that a packet came damaged; the timer is for lost ones."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.endpoint import RttEstimator
from p2plab.packet import ACK, DATA, NAK, Packet


@dataclass(slots=True)
class NegativeAckSender:
    """One packet in flight; what is asked for again goes out at once.

    Source: Kurose & Ross, section 3.4.1: rdt2.1, with rdt3.0's timer.
    """

    rtt: RttEstimator
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire
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
        self.rtt.on_send(seq, now)
        self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, self.payloads[seq], stamp=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq != self.send_base or self.next_seq_num == self.send_base:
            return  # about a packet that is not in flight
        if packet.kind == ACK:
            self.rtt.on_ack(self.send_base, now, packet.echo)
            self.send_base += 1
            self.deadline = None
        elif packet.kind == NAK:
            self._repeat()

    def on_corrupt(self, now: float) -> None:
        self._repeat()  # the answer cannot be read: a number makes asking again safe

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self._repeat()

    def _repeat(self) -> None:
        self.next_seq_num = self.send_base
        self.deadline = None


@dataclass(slots=True)
class NegativeAckReceiver:
    """Acknowledge what arrives, and ask again for what arrives damaged."""

    expected_seq_num: int = 0
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    answers: deque[Packet] = field(default_factory=deque, repr=False)
    deadline: float | None = None  # a receiver has no timer

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.answers.popleft() if self.answers else None

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        self.answers.append(Packet(ACK, packet.seq, echo=packet.stamp))

    def on_corrupt(self, now: float) -> None:
        # Which packet it was cannot be read, either: ask for the one that is missing.
        self.answers.append(Packet(NAK, self.expected_seq_num))

    def on_timeout(self, now: float) -> None:
        return
