"""Selective repeat: keep a window in flight; after a timeout, repeat that packet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.endpoint import RttEstimator, Window
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.base import ReceiverBase, SenderBase


@dataclass(slots=True)
class SelectiveRepeatSender(SenderBase):
    """Up to a window of packets in flight, a timer for each, an ACK for each.

    Source: Kurose & Ross, section 3.4.4.
    """

    rtt: RttEstimator
    window: Window
    sent_at: dict[int, float] = field(default_factory=dict)  # in flight, oldest first
    lost: deque[int] = field(default_factory=deque)  # timed out, to be sent again
    acked: set[int] = field(default_factory=set)  # acknowledged beyond send_base
    backed_off_at: float = 0.0  # when the timeout last became longer [s]

    @property
    def deadline(self) -> float | None:
        for oldest in self.sent_at.values():
            return oldest + self.rtt.rto
        return None

    def next_packet(self, now: float) -> Packet | None:
        if self.lost:
            seq = self.lost.popleft()
        elif self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        elif self.next_seq_num >= self.send_base + self.window.size:
            return None  # the window is full: wait for an ACK
        else:
            seq = self.next_seq_num
            self.next_seq_num += 1
        self.rtt.on_send(seq, now)
        self.sent_at[seq] = now
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)

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
        while self.send_base in self.acked:
            self.acked.remove(self.send_base)
            self.send_base += 1

    def on_timeout(self, now: float) -> None:
        oldest = next(iter(self.sent_at))
        # A whole flight may be lost at once: that makes the timeout longer once only.
        if self.sent_at[oldest] >= self.backed_off_at:
            self.backed_off_at = now
            self.rtt.on_timeout()
            self.window.on_timeout(len(self.sent_at), now)
        del self.sent_at[oldest]
        self.lost.append(oldest)  # repeat this one only


@dataclass(slots=True)
class SelectiveRepeatReceiver(ReceiverBase):
    """Keep what arrives early, hand over in order, and acknowledge every packet.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    early: dict[int, bytes] = field(default_factory=dict, repr=False)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA or packet.seq >= self.expected_seq_num + self.window:
            return  # beyond the window
        if packet.seq >= self.expected_seq_num:
            self.early[packet.seq] = packet.payload
        # A packet of before the window, too: its ACK may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1
