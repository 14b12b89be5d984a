"""Fast retransmit: three ACKs that say the same say that a packet is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2plab.endpoint import RttEstimator, Window
from p2plab.packet import ACK, DATA, Packet

DUPLICATES: Final = 3  # RFC 5681, section 3.2


@dataclass(slots=True)
class FastRetransmitSender:
    """Go-back-N that goes back at the third duplicate ACK, before its timer fires.

    The packets sent again can bring duplicate ACKs of their own. So it goes back only
    once until one of the packets after those has arrived (RFC 6582, section 3.2).
    Its receiver is the one of go-back-N.
    """

    rtt: RttEstimator
    window: Window
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire
    sent: int = 0  # packets that have been on the wire at least once
    duplicates: int = 0  # ACKs that said the same as the one before
    recover: int = -1  # go back again when this packet has arrived
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
        return Packet(DATA, seq, self.payloads[seq], stamp=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq + 1 <= self.sent:
            return  # an old ACK, arriving late, or one for a packet never sent
        if packet.seq + 1 == self.send_base:
            self.on_duplicate(now)
            return
        for each in range(self.send_base, packet.seq + 1):  # ACKs are cumulative
            self.rtt.on_ack(each, now, packet.echo)
            self.window.on_ack(each, now)
        self.send_base = packet.seq + 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        self.duplicates = 0
        in_flight = self.next_seq_num - self.send_base
        self.deadline = now + self.rtt.rto if in_flight else None

    def on_duplicate(self, now: float) -> None:
        """An ACK says once more what is known: something else has arrived."""
        in_flight = self.next_seq_num - self.send_base
        self.duplicates += 1
        if (
            in_flight
            and self.duplicates == DUPLICATES
            and self.send_base > self.recover
        ):
            self.window.on_loss(in_flight, now)
            self._go_back()

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self._go_back()

    def _go_back(self) -> None:
        self.next_seq_num = self.send_base
        self.recover = self.sent
        self.deadline = None
