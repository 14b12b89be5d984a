"""Duplex: both sides send, and an ACK rides along with the data going its way."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, Packet

_LAST: Final = struct.Struct("!i")  # before every payload: the last one that arrived


@dataclass(slots=True)
class DuplexPeer:
    """A sender and a receiver at once: stop-and-wait, both ways.

    It is the machine for either side of a conversation, with the members of a Sender
    and those of a Receiver.
    """

    rtt: RttEstimator
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # our oldest packet not yet acknowledged
    next_seq_num: int = 0  # our next packet to put on the wire
    expected_seq_num: int = 0  # the other side's next packet
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    answer: bool = False  # whether something has arrived and was not yet acknowledged
    ts_ecr: float | None = None  # its ts_val [s]
    deadline: float | None = None  # when our retransmission timer fires [s]

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        last = self.expected_seq_num - 1
        if self.send_base == self.next_seq_num < len(self.payloads):
            seq = self.next_seq_num
            self.next_seq_num += 1
            self.rtt.on_send(seq, now)
            self.deadline = now + self.rtt.rto
            payload = _LAST.pack(last) + self.payloads[seq]
            packet = Packet(DATA, seq, payload, ts_val=now, ts_ecr=self.ts_ecr)
        elif self.answer:
            packet = Packet(ACK, last, ts_ecr=self.ts_ecr)
        else:
            return None
        self.answer, self.ts_ecr = False, None
        return packet

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind == ACK:
            self.on_ack(packet.seq, packet.ts_ecr, now)
        elif packet.kind == DATA and len(packet.payload) >= _LAST.size:
            (last,) = _LAST.unpack_from(packet.payload)
            self.on_ack(last, packet.ts_ecr, now)
            if packet.seq == self.expected_seq_num:
                self.inbox.append(packet.payload[_LAST.size :])
                self.expected_seq_num += 1
            self.answer, self.ts_ecr = True, packet.ts_val

    def on_ack(self, last: int, ts_ecr: float | None, now: float) -> None:
        """The other side says which of our packets was the last that it has."""
        if last != self.send_base or self.next_seq_num == self.send_base:
            return  # nothing new, or a packet that is not in flight
        self.rtt.on_ack(last, now, ts_ecr)
        self.send_base += 1
        self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.next_seq_num = self.send_base  # send the same packet again
        self.deadline = None
