"""Selective repeat: keep a window in flight; after a timeout, repeat that packet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.endpoint import RttEstimator, Window
from p2plab.core.packet import ACK, DATA, Packet, unwrap, wrap


@dataclass(slots=True)
class SelectiveRepeatSender:
    """Up to a window of packets in flight, a timer for each, an ACK for each.

    seq_bits: bits that a number has on the wire, which is safe for a window of at
        most 2**(seq_bits - 1); None gives every packet a number of its own.
    Source: Kurose & Ross, section 3.4.4.
    """

    rtt: RttEstimator
    window: Window
    seq_bits: int | None = None
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire for the first time
    sent_at: dict[int, float] = field(default_factory=dict)  # in flight, oldest first
    lost: deque[int] = field(default_factory=deque)  # timed out, to be sent again
    acked: set[int] = field(default_factory=set)  # acknowledged beyond send_base
    backed_off_at: float = 0.0  # when a timeout last counted as a new one [s]

    @property
    def deadline(self) -> float | None:
        for oldest in self.sent_at.values():
            return oldest + self.rtt.rto
        return None

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

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
        return Packet(DATA, wrap(seq, self.seq_bits), self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = unwrap(packet.seq, self.send_base, self.seq_bits)
        if packet.kind != ACK or not self.send_base <= seq < self.next_seq_num:
            return  # an old ACK, arriving again, or one for a packet never sent
        if seq in self.acked:
            return
        if self.sent_at.pop(seq, None) is None:
            self.lost.remove(seq)  # it had only been late
        self.acked.add(seq)
        self.rtt.on_ack(seq, now, packet.ts_ecr)
        self.window.on_ack(seq, now)
        while self.send_base in self.acked:
            self.acked.remove(self.send_base)
            self.send_base += 1

    def on_timeout(self, now: float) -> None:
        oldest = next(iter(self.sent_at))
        if self.sent_at[oldest] >= self.backed_off_at:  # once for a flight of losses
            self.backed_off_at = now
            self.rtt.on_timeout()
            self.window.on_timeout(len(self.sent_at), now)
        del self.sent_at[oldest]
        self.lost.append(oldest)  # repeat this one only


@dataclass(slots=True)
class SelectiveRepeatReceiver:
    """Keep what arrives early, hand over in order, and acknowledge every packet.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    seq_bits: int | None = None
    expected_seq_num: int = 0  # oldest packet that has not arrived
    early: dict[int, bytes] = field(default_factory=dict, repr=False)
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    acks: deque[Packet] = field(default_factory=deque, repr=False)
    deadline: float | None = None  # a receiver has no timer

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_packet(self, packet: Packet, now: float) -> None:
        seq = unwrap(packet.seq, self.expected_seq_num, self.seq_bits)
        if packet.kind != DATA:
            return
        if self.expected_seq_num <= seq < self.expected_seq_num + self.window:
            self.early[seq] = packet.payload
        elif self.seq_bits is None and seq > self.expected_seq_num:
            return  # beyond the window: no room for it
        # A packet of before the window, too: its ACK may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1

    def on_timeout(self, now: float) -> None:
        return
