"""Parity: a packet more for every few, from which a lost one can be worked out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2plab.endpoint import RttEstimator, Window
from p2plab.packet import ACK, DATA, Packet

GROUP: Final = 3  # packets that share a parity packet


def combine(payloads: Iterable[bytes]) -> bytes:
    """Return the exclusive or of the payloads, each with its length before it."""
    total = 0
    for payload in payloads:
        total ^= int.from_bytes(len(payload).to_bytes(2, "little") + payload, "little")
    return total.to_bytes((total.bit_length() + 7) // 8, "little")


def recover(parity: bytes, others: Iterable[bytes]) -> bytes:
    """Return the one payload that is missing beside `others`."""
    total = int.from_bytes(parity, "little")
    total ^= int.from_bytes(combine(others), "little")
    block = total.to_bytes((total.bit_length() + 7) // 8, "little")
    size = int.from_bytes(block[:2], "little")
    return block[2 : 2 + size].ljust(size, b"\0")  # zeros at the end have no bits


@dataclass(slots=True)
class ParitySender:
    """Go-back-N that sends a parity packet after every group, once.

    A parity packet has a number below zero: -1 for the first group, then -2. It is not
    acknowledged, has no timer, and may be lost: the packets themselves still come.
    Source: RFC 5109 has this exclusive or for media, without the way back.
    """

    rtt: RttEstimator
    window: Window
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire
    sent: int = 0  # packets that have been on the wire at least once
    groups: int = 0  # whose parity has been on the wire, or is not needed any more
    deadline: float | None = None  # when the retransmission timer fires [s]

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_packet(self, now: float) -> Packet | None:
        if self.groups < self.sent // GROUP:
            return self.next_parity(now)
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

    def next_parity(self, now: float) -> Packet:
        """The parity packet of the group that has just gone out."""
        first = self.groups * GROUP
        self.groups += 1
        parity = combine(self.payloads[first : first + GROUP])
        return Packet(DATA, -self.groups, parity, stamp=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        for each in range(self.send_base, packet.seq + 1):  # ACKs are cumulative
            self.rtt.on_ack(each, now, packet.echo)
            self.window.on_ack(each, now)
        self.send_base = packet.seq + 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        self.groups = max(self.groups, self.send_base // GROUP)
        in_flight = self.next_seq_num - self.send_base
        self.deadline = now + self.rtt.rto if in_flight else None

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back N
        self.deadline = None


@dataclass(slots=True)
class ParityReceiver:
    """Keep a group until it is complete, and work out the one that is missing.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    expected_seq_num: int = 0
    kept: dict[int, bytes] = field(default_factory=dict, repr=False)  # and delivered
    parities: dict[int, bytes] = field(default_factory=dict, repr=False)  # by group
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    acks: deque[Packet] = field(default_factory=deque, repr=False)
    deadline: float | None = None  # a receiver has no timer

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        group = packet.seq // GROUP if packet.seq >= 0 else -1 - packet.seq
        first, beyond = self.expected_seq_num, self.expected_seq_num + self.window
        if first <= packet.seq < beyond:
            self.kept[packet.seq] = packet.payload
        elif packet.seq < 0 and first // GROUP <= group <= beyond // GROUP:
            self.parities[group] = packet.payload
        self.repair(group)
        while self.expected_seq_num in self.kept:
            self.inbox.append(self.kept[self.expected_seq_num])
            self.expected_seq_num += 1
        self.forget()
        self.acks.append(Packet(ACK, self.expected_seq_num - 1, echo=packet.stamp))

    def repair(self, group: int) -> None:
        """Work out the packet of a group that is missing, if it is only one."""
        numbers = range(group * GROUP, (group + 1) * GROUP)
        missing = [seq for seq in numbers if seq not in self.kept]
        if len(missing) == 1 and group in self.parities:
            others = [self.kept[seq] for seq in numbers if seq in self.kept]
            self.kept[missing[0]] = recover(self.parities[group], others)

    def forget(self) -> None:
        """Let go of the groups that are complete."""
        group = self.expected_seq_num // GROUP
        self.kept = {s: kept for s, kept in self.kept.items() if s >= group * GROUP}
        self.parities = {g: kept for g, kept in self.parities.items() if g >= group}

    def on_timeout(self, now: float) -> None:
        return
