"""Negative ACKs: say at once that a packet came damaged; the timer is for lost ones."""

from __future__ import annotations

from dataclasses import dataclass

from p2plab.core.packet import ACK, NAK, Packet
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender


@dataclass(slots=True)
class NegativeAckSender(StopAndWaitSender):
    """One packet in flight; what is asked for again goes out at once.

    Source: Kurose & Ross, section 3.4.1: rdt2.1, with rdt3.0's timer.
    """

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq != self.send_base or self.next_seq_num == self.send_base:
            return  # about a packet that is not in flight
        if packet.kind == ACK:
            self.rtt.on_ack(self.send_base, now, packet.ts_ecr)
            self.send_base += 1
            self.deadline = None
        elif packet.kind == NAK:
            self._repeat()

    def on_corrupt(self, now: float) -> None:
        self._repeat()  # the answer cannot be read: a number makes asking again safe

    def _repeat(self) -> None:
        self.next_seq_num = self.send_base
        self.deadline = None


@dataclass(slots=True)
class NegativeAckReceiver(StopAndWaitReceiver):
    """Acknowledge what arrives, and ask again for what arrives damaged."""

    def on_corrupt(self, now: float) -> None:
        # Which packet it was cannot be read, either: ask for the one that is missing.
        self.acks.append(Packet(NAK, self.expected_seq_num))
