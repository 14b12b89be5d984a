"""Parity: a packet more for every few, from which a lost one can be worked out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender

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
    size = total % 2**16
    payload = total >> 16 & (1 << 8 * size) - 1
    return payload.to_bytes(size, "little")


@dataclass(slots=True)
class ParitySender(GoBackNSender):
    """Go-back-N that sends a parity packet after every group, once.

    A parity packet has a number below zero: -1 for the first group, then -2. It is not
    acknowledged, has no timer, and may be lost: the packets themselves still come.
    Source: RFC 5109 has this exclusive or for media, without the way back.
    """

    groups: int = 0  # whose parity has been on the wire, or is not needed any more

    def next_packet(self, now: float) -> Packet | None:
        if self.groups == self.sent // GROUP:
            return GoBackNSender.next_packet(self, now)
        first = self.groups * GROUP
        self.groups += 1
        parity = combine(self.payloads[first : first + GROUP])
        return Packet(DATA, -self.groups, parity, ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        GoBackNSender.on_packet(self, packet, now)
        self.groups = max(self.groups, self.send_base // GROUP)


@dataclass(slots=True)
class ParityReceiver(GoBackNReceiver):
    """Keep a group until it is complete, and work out the one that is missing.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    kept: dict[int, bytes] = field(default_factory=dict, repr=False)  # and delivered
    parities: dict[int, bytes] = field(default_factory=dict, repr=False)  # by group

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
        self.forget(self.expected_seq_num // GROUP)
        self.acks.append(Packet(ACK, self.expected_seq_num - 1, ts_ecr=packet.ts_val))

    def repair(self, group: int) -> None:
        """Work out the packet of a group that is missing, if it is only one."""
        numbers = range(group * GROUP, (group + 1) * GROUP)
        missing = [seq for seq in numbers if seq not in self.kept]
        parity = self.parities.get(group)
        if parity is not None and len(missing) == 1:
            others = [self.kept[seq] for seq in numbers if seq in self.kept]
            self.kept[missing[0]] = recover(parity, others)

    def forget(self, group: int) -> None:
        """Let go of the groups before this one: they are complete."""
        self.kept = {s: kept for s, kept in self.kept.items() if s >= group * GROUP}
        self.parities = {g: kept for g, kept in self.parities.items() if g >= group}
