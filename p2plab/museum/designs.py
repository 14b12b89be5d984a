"""Other designs: ACKs by one bit, by request, late, with data, by a map; and parity."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2plab.core.packet import ACK, DATA, NAK, Packet
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.selective_repeat import SelectiveRepeatReceiver
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

NUMBER: Final = struct.Struct("!i")  # of the ACK that rides along, before a payload


@dataclass(slots=True)
class AlternatingBitSender(StopAndWaitSender):
    """One packet in flight; a bit tells it from the one before.

    Source: Bartlett, Scantlebury & Wilkinson, Communications of the ACM 12 (1969).
    """

    def next_packet(self, now: float) -> Packet | None:
        packet = StopAndWaitSender.next_packet(self, now)
        return packet and packet._replace(seq=packet.seq % 2)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.send_base % 2:  # otherwise of the packet before
            packet = packet._replace(seq=self.send_base)
            StopAndWaitSender.on_packet(self, packet, now)


@dataclass(slots=True)
class AlternatingBitReceiver(StopAndWaitReceiver):
    """Hand over what has the other bit than the packet before; say which bit came."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num % 2:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class NegativeAckSender(StopAndWaitSender):
    """One packet in flight; what is asked for again goes out at once.

    The timer is for what was lost: nobody can report that.
    Source: Kurose & Ross, section 3.4.1: rdt2.1, with rdt3.0's timer.
    """

    def on_packet(self, packet: Packet, now: float) -> None:
        StopAndWaitSender.on_packet(self, packet, now)
        if packet.kind == NAK and packet.seq == self.send_base:
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


@dataclass(slots=True)
class DelayedAckReceiver(GoBackNReceiver):
    """Go-back-N's receiver with one ACK for two packets, and therefore with a timer.

    delay: how long a packet may wait for a second one; at most 0.5 s, and well below
        the sender's timeout (RFC 1122, section 4.2.3.2) [s].
    """

    delay: Final[float] = 0.1
    ts_ecr: float | None = None  # of the oldest packet not yet acknowledged [s]

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        expected = packet.seq == self.expected_seq_num
        if expected:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        first = self.deadline is None
        if first:
            self.ts_ecr = packet.ts_val
        if first and expected:
            self.deadline = now + self.delay
        else:  # the second one; or a gap or a copy, which cannot wait
            self.on_timeout(now)

    def on_timeout(self, now: float) -> None:
        self.acks.append(Packet(ACK, self.expected_seq_num - 1, ts_ecr=self.ts_ecr))
        self.deadline = None


@dataclass(slots=True)
class DuplexPeer:
    """Both sides of stop-and-wait in one machine: an ACK rides along with its data.

    It is the machine for either side of a conversation, with the members of a Sender
    and those of a Receiver.
    """

    sender: StopAndWaitSender
    receiver: StopAndWaitReceiver = field(default_factory=StopAndWaitReceiver)

    @property
    def deadline(self) -> float | None:
        return self.sender.deadline

    @property
    def done(self) -> bool:
        return self.sender.done

    def send(self, payload: bytes) -> None:
        self.sender.send(payload)

    def next_payload(self) -> bytes | None:
        return self.receiver.next_payload()

    def next_packet(self, now: float) -> Packet | None:
        packet = self.sender.next_packet(now)
        if packet is None:
            return self.receiver.next_packet(now)
        ack = self.receiver.next_packet(now) or Packet(ACK, -1)  # of nothing yet
        payload = NUMBER.pack(ack.seq) + packet.payload
        return packet._replace(payload=payload, ts_ecr=ack.ts_ecr)

    def on_packet(self, packet: Packet, now: float) -> None:
        size = NUMBER.size
        if packet.kind == DATA and len(packet.payload) >= size:
            (seq,) = NUMBER.unpack_from(packet.payload)
            self.sender.on_packet(Packet(ACK, seq, ts_ecr=packet.ts_ecr), now)
            packet = packet._replace(payload=packet.payload[size:])
            self.receiver.on_packet(packet, now)
        elif packet.kind == ACK:
            self.sender.on_packet(packet, now)

    def on_timeout(self, now: float) -> None:
        self.sender.on_timeout(now)


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
        before = self.send_base
        GoBackNSender.on_packet(self, packet, now)
        if self.send_base > before:
            self.duplicates = 0
        elif packet.kind == ACK and packet.seq == self.send_base - 1:
            self.duplicates += 1
            in_flight = self.next_seq_num - self.send_base
            third = self.duplicates == 3  # RFC 5681, section 3.2
            if in_flight and third and self.send_base > self.recover:
                self.window.on_loss(in_flight, now)
                self.next_seq_num = self.send_base  # go back N
                self.recover = self.sent
                self.deadline = None

    def on_timeout(self, now: float) -> None:
        GoBackNSender.on_timeout(self, now)
        self.recover = self.sent


@dataclass(slots=True)
class BitmapSender(GoBackNSender):
    """Go back N, but skip what the map in every ACK says has arrived.

    An ACK has one number for all before it, and a bit for each packet after it. So one
    lost ACK costs nothing here: the next one says everything again. TCP's selective
    acknowledgement has the same idea with ranges for bits (RFC 2018).
    """

    arrived: set[int] = field(default_factory=set)  # beyond send_base

    def next_packet(self, now: float) -> Packet | None:
        while self.next_seq_num in self.arrived:
            self.next_seq_num += 1
        return GoBackNSender.next_packet(self, now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq + 1 <= self.sent:
            return  # an old ACK, arriving late, or one for a packet never sent
        bits = int.from_bytes(packet.payload, "little")
        first = packet.seq + 2  # the one before it has no bit: it is missing
        news = [*range(self.send_base, packet.seq + 1)]
        news += [seq for seq in range(first, self.sent) if bits >> seq - first & 1]
        news = [seq for seq in news if seq not in self.arrived]
        for seq in news:
            self.rtt.on_ack(seq, now, packet.ts_ecr)
            self.window.on_ack(seq, now)
            self.arrived.add(seq)
        while self.send_base in self.arrived:
            self.arrived.remove(self.send_base)
            self.send_base += 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        if news:
            in_flight = self.next_seq_num - self.send_base
            self.deadline = now + self.rtt.rto if in_flight else None


@dataclass(slots=True)
class BitmapReceiver(SelectiveRepeatReceiver):
    """Keep what arrives early, hand over in order, and tell everything that is here."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if 0 <= packet.seq - self.expected_seq_num < self.window:
            self.early[packet.seq] = packet.payload
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1
        bits = sum(1 << seq - self.expected_seq_num - 1 for seq in self.early)
        here = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
        last = self.expected_seq_num - 1  # arrived in order
        self.acks.append(Packet(ACK, last, here, ts_ecr=packet.ts_val))


# Parity: a packet more for every few, from which a lost one can be worked out

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
