"""Delayed ACKs: one for two packets, or for one that stays alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.go_back_n import GoBackNReceiver


@dataclass(slots=True)
class DelayedAckReceiver(GoBackNReceiver):
    """Go-back-N's receiver with half the ACKs, and therefore with a timer.

    delay: how long a packet may wait for a second one; at most 0.5 s, and well below
        the sender's timeout (RFC 1122, section 4.2.3.2) [s].
    """

    delay: Final[float] = 0.1
    ts_ecr: float | None = None  # of the oldest packet not yet acknowledged [s]
    deadline: float | None = None  # while a packet waits for its ACK [s]

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        first = self.deadline is None
        if first:
            self.ts_ecr = packet.ts_val
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
            if first:
                self.deadline = now + self.delay
                return
        self._acknowledge()  # the second one; or a gap or a copy, which cannot wait

    def on_timeout(self, now: float) -> None:
        self._acknowledge()

    def _acknowledge(self) -> None:
        self.acks.append(Packet(ACK, self.expected_seq_num - 1, ts_ecr=self.ts_ecr))
        self.deadline = None
