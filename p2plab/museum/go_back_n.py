"""Go-back-N with a mistake: about windows, numbers and what an ACK says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import FixedRto
from p2plab.core.window import FixedWindow
from p2plab.museum.exhibit import Exhibit
from p2plab.museum.healthy.fast_retransmit import FastRetransmitSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender
from p2plab.protocols.selective_repeat import SelectiveRepeatReceiver

WINDOW: Final = 4


@dataclass(slots=True)
class AcksWhatItDropped(GoBackNReceiver):
    """Acknowledges the number that came, as stop-and-wait does."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class AcksTheNext(GoBackNReceiver):
    """Writes ACKs as TCP does, to a sender that reads them as the book does."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        following = self.expected_seq_num  # the one we wait for
        self.acks.append(Packet(ACK, following, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class AcksZeroForNothing(GoBackNReceiver):
    """Begins its ACKs with zero."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        last = max(self.expected_seq_num - 1, 0)
        self.acks.append(Packet(ACK, last, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class AcksEveryOther(GoBackNReceiver):
    """Saves half the ACKs."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        if self.expected_seq_num % 2:
            return  # the next ACK will speak for this packet, too
        last = self.expected_seq_num - 1  # that has arrived in order
        self.acks.append(Packet(ACK, last, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class GoesBackOne(GoBackNSender):
    """Repeats the newest packet instead of the oldest."""

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num -= 1
        self.deadline = None


@dataclass(slots=True)
class AnswersEveryDuplicate(FastRetransmitSender):
    """Goes back at every duplicate ACK."""

    def on_duplicate(self, now: float) -> None:
        in_flight = self.next_seq_num - self.send_base
        if in_flight:
            self.window.on_loss(in_flight, now)
            self._go_back()


ROOM: Final = (
    Exhibit(
        "window_as_large_as_the_numbers",
        "A window one too large: go-back-N",
        "With two bits and a window of four, the ACK for all four and the ACK for none "
        "are the same number: one lost packet, and the sender believes in all four.",
        "fifo",
        lambda: (
            ModuloSender(GoBackNSender(FixedRto(), FixedWindow(4)), 2),
            ModuloReceiver(GoBackNReceiver(), 2),
        ),
    ),
    Exhibit(
        "dropped_packet_acknowledged",
        "An ACK for a packet that was dropped",
        "It acknowledges the packet that came, even when it drops it because of a gap; "
        "the ACK is cumulative, and the sender forgets the packet that was lost.",
        "fifo",
        lambda: (GoBackNSender(FixedRto(), FixedWindow(WINDOW)), AcksWhatItDropped()),
    ),
    Exhibit(
        "next_number_acknowledged",
        "The ACK names the next packet",
        "One side writes the number that it expects next, the other one reads the last "
        "that has arrived: each ACK speaks for one packet too many.",
        "fifo",
        lambda: (GoBackNSender(FixedRto(), FixedWindow(WINDOW)), AcksTheNext()),
    ),
    Exhibit(
        "zero_for_nothing",
        "Zero means nothing",
        "Before anything has arrived in order, its ACKs say 0: the sender believes "
        "that packet 0 has arrived, and never sends it again.",
        "fifo",
        lambda: (GoBackNSender(FixedRto(), FixedWindow(WINDOW)), AcksZeroForNothing()),
    ),
    Exhibit(
        "every_other_acknowledged",
        "Every other ACK",
        "It acknowledges every second packet only and has no timer for the one that "
        "stays alone: an odd last packet is repeated for ever.",
        "fifo",
        lambda: (GoBackNSender(FixedRto(), FixedWindow(WINDOW)), AcksEveryOther()),
    ),
    Exhibit(
        "goes_back_one",
        "Go back one",
        "After a timeout it repeats the newest packet in flight; the receiver waits "
        "for the oldest, and drops it each time.",
        "fifo",
        lambda: (GoesBackOne(FixedRto(), FixedWindow(WINDOW)), GoBackNReceiver()),
    ),
    Exhibit(
        "selective_ack_taken_as_cumulative",
        "Two right halves, I",
        "The receiver of selective repeat says which packet has come, the sender of "
        "go-back-N hears that all before it have come, too.",
        "fifo",
        lambda: (
            GoBackNSender(FixedRto(), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    Exhibit(
        "every_duplicate_answered",
        "A storm of repetitions",
        "Each duplicate ACK makes it send the window again, each copy brings another "
        "duplicate ACK, and the traffic grows with every round trip.",
        "fifo",
        lambda: (AnswersEveryDuplicate(FixedRto(), FixedWindow(8)), GoBackNReceiver()),
    ),
)
