"""Fast retransmit: three ACKs that say the same say that a packet is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.core.packet import ACK, Packet
from p2plab.protocols.go_back_n import GoBackNSender

DUPLICATES: Final = 3  # RFC 5681, section 3.2


@dataclass(slots=True)
class FastRetransmitSender(GoBackNSender):
    """Go-back-N that goes back at the third duplicate ACK, before its timer fires.

    The packets sent again can bring duplicate ACKs of their own. So it goes back only
    once until one of the packets after those has arrived (RFC 6582, section 3.2).
    Its receiver is the one of go-back-N. Every packet has a number of its own.
    """

    duplicates: int = 0  # ACKs that said the same as the one before
    recover: int = -1  # go back again when this packet has arrived

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind == ACK and packet.seq + 1 == self.send_base:
            self.on_duplicate(now)
            return
        before = self.send_base
        GoBackNSender.on_packet(self, packet, now)
        if self.send_base > before:
            self.duplicates = 0

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
        GoBackNSender.on_timeout(self, now)
        self.recover = self.sent

    def _go_back(self) -> None:
        self.next_seq_num = self.send_base
        self.recover = self.sent
        self.deadline = None
