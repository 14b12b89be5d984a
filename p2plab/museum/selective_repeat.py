"""Selective repeat with a mistake: about the buffer, the window and its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.core.endpoint import Sender
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import FixedRto
from p2plab.core.window import FixedWindow
from p2plab.museum.exhibit import Exhibit
from p2plab.protocols.go_back_n import GoBackNReceiver
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)

PATIENT: Final = 10.0  # so that only the network makes copies, and no early timer [s]
WINDOW: Final = 4


@dataclass(slots=True)
class SilentAboutThePast(SelectiveRepeatReceiver):
    """Acknowledges only what is in its window."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA or packet.seq >= self.expected_seq_num + self.window:
            return  # no room for it
        if packet.seq < self.expected_seq_num:
            return  # it is here already
        self.early[packet.seq] = packet.payload
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1


@dataclass(slots=True)
class DeliversAsItComes(SelectiveRepeatReceiver):
    """Hands over at once what is new, and only then looks at the order."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA or packet.seq >= self.expected_seq_num + self.window:
            return  # no room for it
        if packet.seq >= self.expected_seq_num:
            if packet.seq not in self.early:
                self.inbox.append(packet.payload)
            self.early[packet.seq] = packet.payload
        # A packet of before the window, too: its ACK may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
        while self.expected_seq_num in self.early:
            self.early.pop(self.expected_seq_num)
            self.expected_seq_num += 1


@dataclass(slots=True)
class KeepsEverything(SelectiveRepeatReceiver):
    """Hands over from its buffer, and leaves it there."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA or packet.seq >= self.expected_seq_num + self.window:
            return  # no room for it
        if packet.seq >= self.expected_seq_num:
            self.early[packet.seq] = packet.payload
        # A packet of before the window, too: its ACK may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early[self.expected_seq_num])
            self.expected_seq_num += 1


@dataclass(slots=True)
class RepeatsWhatHasArrived(SelectiveRepeatSender):
    """Does not stop the timer of a packet that was acknowledged."""

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = packet.seq
        if packet.kind != ACK or not self.send_base <= seq < self.next_seq_num:
            return  # an old ACK, arriving again, or one for a packet not in flight
        self.acked.add(seq)
        self.rtt.on_ack(seq, now, packet.ts_ecr)
        self.window.on_ack(seq, now)
        while self.send_base in self.acked:
            self.acked.remove(self.send_base)
            self.send_base += 1


@dataclass(slots=True)
class SlidesByOne(SelectiveRepeatSender):
    """Moves its window by one packet for an ACK."""

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = packet.seq
        if packet.kind != ACK or not self.send_base <= seq < self.next_seq_num:
            return  # an old ACK, arriving again, or one for a packet not in flight
        if seq in self.lost:
            self.lost.remove(seq)  # it was only late
        elif self.sent_at.pop(seq, None) is None:
            return  # it is acknowledged already
        self.rtt.on_ack(seq, now, packet.ts_ecr)
        self.window.on_ack(seq, now)
        self.acked.add(seq)
        if self.send_base in self.acked:
            self.acked.remove(self.send_base)
            self.send_base += 1


@dataclass(slots=True)
class StumblesOverASecondAck(SelectiveRepeatSender):
    """Expects one ACK for a packet, and no more."""

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = packet.seq
        if packet.kind != ACK or not self.send_base <= seq < self.next_seq_num:
            return  # an old ACK, arriving again, or one for a packet not in flight
        del self.sent_at[seq]
        self.acked.add(seq)
        self.rtt.on_ack(seq, now, packet.ts_ecr)
        self.window.on_ack(seq, now)
        while self.send_base in self.acked:
            self.acked.remove(self.send_base)
            self.send_base += 1


@dataclass(slots=True)
class OrderOfASet(SelectiveRepeatSender):
    """Repeats what is due in the order of a set."""

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        due = {
            (self.payloads[seq], seq)
            for seq, sent_at in self.sent_at.items()
            if sent_at + self.rtt.rto <= now
        }
        for _, seq in due:
            del self.sent_at[seq]
            self.lost.append(seq)


def correct(window: int = WINDOW) -> Sender:
    """The sender of selective repeat as it should be."""
    return SelectiveRepeatSender(FixedRto(), FixedWindow(window))


ROOM: Final = (
    Exhibit(
        "window_over_half_the_numbers",
        "A window one too large: selective repeat",
        "With two bits and a window of three, the next window shares numbers with the "
        "last one: a repeated old packet is put into the place of a new one.",
        "fifo",
        lambda: (
            ModuloSender(correct(3), 2),
            ModuloReceiver(SelectiveRepeatReceiver(3), 2, window=3),
        ),
    ),
    Exhibit(
        "past_not_acknowledged",
        "No ACK for the past",
        "A packet from before its window is dropped without a word: when its ACK was "
        "lost, the sender repeats it for ever.",
        "fifo",
        lambda: (correct(), SilentAboutThePast(WINDOW)),
    ),
    Exhibit(
        "delivered_as_it_comes",
        "Early packets handed over early",
        "It tells copies from new packets, but hands over what comes before a gap is "
        "filled: the order is lost.",
        "fifo",
        lambda: (correct(), DeliversAsItComes(WINDOW)),
    ),
    Exhibit(
        "buffer_never_freed",
        "A buffer that only grows",
        "What was handed over stays in the buffer; everything arrives, and in the end "
        "the receiver holds a second copy of it all.",
        "fifo",
        lambda: (correct(), KeepsEverything(WINDOW)),
    ),
    Exhibit(
        "arrived_packets_repeated",
        "Everything again, for ever",
        "An ACK does not stop its packet's timer, so all that has arrived is sent "
        "again and again, even when it is done.",
        "fifo",
        lambda: (
            RepeatsWhatHasArrived(FixedRto(), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    Exhibit(
        "window_stuck_after_a_gap",
        "The window stays behind",
        "When a gap is filled, the window moves by one packet, and not past those that "
        "were acknowledged before: it is stuck, and nothing is in flight.",
        "fifo",
        lambda: (
            SlidesByOne(FixedRto(), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    Exhibit(
        "second_ack_raises",
        "A second ACK is an exception",
        "It looks up the packet that an ACK names without asking whether it is still "
        "in flight: an ACK that comes twice raises KeyError.",
        "dup",
        lambda: (
            StumblesOverASecondAck(FixedRto(PATIENT), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    Exhibit(
        "order_of_a_set",
        "In the order of a set",
        "It repeats packets in the order of a set, which is another one in every "
        "process: what failed there cannot be shown here.",
        "fifo",
        lambda: (
            OrderOfASet(FixedRto(), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    Exhibit(
        "cumulative_ack_taken_as_selective",
        "Two right halves, II",
        "The receiver of go-back-N says how far it is, the sender of selective repeat "
        "hears of that one packet only: for one whose ACK was lost it waits for ever.",
        "fifo",
        lambda: (correct(), GoBackNReceiver()),
    ),
)
