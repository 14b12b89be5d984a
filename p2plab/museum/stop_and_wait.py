"""Stop-and-wait with a mistake: about numbers, ACKs and the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import FixedRto
from p2plab.museum.exhibit import Exhibit
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

PATIENT: Final = 10.0  # so that only the network makes copies, and no early timer [s]


@dataclass(slots=True)
class SilentAboutCopies(StopAndWaitReceiver):
    """Acknowledges only what is new."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            self.inbox.append(packet.payload)
            self.expected_seq_num += 1
            self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class DeliversCopies(StopAndWaitReceiver):
    """Does not look at the number."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class BelievesAnyAck(StopAndWaitSender):
    """Does not look at the ACK's number."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or self.send_base == self.sent:
            return  # one for a packet never sent
        self.rtt.on_ack(self.send_base, now, packet.ts_ecr)
        self.send_base += 1
        self.next_seq_num = self.send_base  # even if a timeout has just stepped back
        self.deadline = None


@dataclass(slots=True)
class Apprentice(StopAndWaitSender):
    """Answers every ACK with a packet."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or packet.seq > self.send_base:
            return
        if packet.seq == self.send_base and self.next_seq_num > self.send_base:
            self.rtt.on_ack(self.send_base, now, packet.ts_ecr)
            self.send_base += 1
        self.next_seq_num = self.send_base  # an old ACK: it has missed this packet
        self.deadline = None


@dataclass(slots=True)
class RemembersOnlyTheLast(StopAndWaitReceiver):
    """Knows a copy of the last packet, but none that is older."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq != self.expected_seq_num - 1:
            self.inbox.append(packet.payload)
            self.expected_seq_num = packet.seq + 1
        # A duplicate too: the ACK of its first copy may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class KnowsCopiesByTheirContent(StopAndWaitReceiver):
    """Takes equal payloads for copies."""

    last: bytes | None = field(default=None, repr=False)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.payload != self.last:
            self.inbox.append(packet.payload)
            self.last = packet.payload
        # A duplicate too: the ACK of its first copy may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class DropsTheEmptyPayload(StopAndWaitReceiver):
    """Takes an empty payload for none."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        if packet.seq == self.expected_seq_num:
            if packet.payload:
                self.inbox.append(packet.payload)
            self.expected_seq_num += 1
        # A duplicate too: the ACK of its first copy may have been lost.
        self.acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class GoesHomeWhenDone(StopAndWaitSender):
    """Takes the first time that it is done for the end."""

    over: bool = False

    def next_packet(self, now: float) -> Packet | None:
        return None if self.over else StopAndWaitSender.next_packet(self, now)

    def on_packet(self, packet: Packet, now: float) -> None:
        StopAndWaitSender.on_packet(self, packet, now)
        self.over = self.done


@dataclass(slots=True)
class WantsSomethingToDo(StopAndWaitSender):
    """Is done when its last packet is acknowledged, and there is none."""

    last_acked: int | None = None

    @property
    def done(self) -> bool:
        return self.last_acked == len(self.payloads) - 1

    def on_packet(self, packet: Packet, now: float) -> None:
        StopAndWaitSender.on_packet(self, packet, now)
        self.last_acked = self.send_base - 1


_SHARED: Final[list[bytes]] = []


@dataclass(slots=True)
class SharesItsList(StopAndWaitSender):
    """Makes its list once for the class, as `payloads = []` in a class does."""

    payloads: list[bytes] = field(
        default_factory=lambda: _SHARED, init=False, repr=False
    )


ROOM: Final = (
    Exhibit(
        "ack_not_repeated",
        "No ACK for a copy",
        "When an ACK is lost, the packet comes again; the receiver has it already and "
        "stays silent, so the sender repeats it for ever.",
        "fifo",
        lambda: (StopAndWaitSender(FixedRto()), SilentAboutCopies()),
    ),
    Exhibit(
        "copies_delivered",
        "Every copy is handed over",
        "When an ACK is lost, the packet comes again, and the receiver hands it over a "
        "second time because it never looks at the number.",
        "fifo",
        lambda: (StopAndWaitSender(FixedRto()), DeliversCopies()),
    ),
    Exhibit(
        "no_numbers",
        "No numbers at all",
        "With no bit for a number, a repeated packet and the next one look the same: "
        "a lost ACK is enough for a payload to be delivered twice.",
        "fifo",
        lambda: (
            ModuloSender(StopAndWaitSender(FixedRto()), 0),
            ModuloReceiver(StopAndWaitReceiver(), 0),
        ),
    ),
    Exhibit(
        "any_ack_believed",
        "An old ACK is as good as a new one",
        "The second copy of an ACK is taken for the ACK of the next packet, which then "
        "is never sent again although it was lost.",
        "dup",
        lambda: (
            ModuloSender(BelievesAnyAck(FixedRto(PATIENT)), 1),
            ModuloReceiver(StopAndWaitReceiver(), 1),
        ),
    ),
    Exhibit(
        "sorcerers_apprentice",
        "The sorcerer's apprentice",
        "An old ACK makes it send the packet in flight again, that copy brings another "
        "old ACK, and so every packet from then on is sent twice (a mistake in the "
        "first TFTP, RFC 1123, section 4.2.3.1).",
        "dup",
        lambda: (Apprentice(FixedRto(PATIENT)), StopAndWaitReceiver()),
    ),
    Exhibit(
        "only_the_last_remembered",
        "Only the last number is remembered",
        "A copy that was overtaken by the next packet does not have the last number, "
        "and so it is handed over once more.",
        "late",
        lambda: (StopAndWaitSender(FixedRto()), RemembersOnlyTheLast()),
    ),
    Exhibit(
        "copies_known_by_content",
        "Equal means copy",
        "It tells copies by their content, so two equal payloads in a row become one.",
        "fifo",
        lambda: (StopAndWaitSender(FixedRto()), KnowsCopiesByTheirContent()),
    ),
    Exhibit(
        "empty_payload_dropped",
        "Empty means nothing",
        "`if payload` is false for an empty payload, too: it is acknowledged, and "
        "never handed over.",
        "fifo",
        lambda: (StopAndWaitSender(FixedRto()), DropsTheEmptyPayload()),
    ),
    Exhibit(
        "home_when_done",
        "Once done, always done",
        "After the last ACK it stops for good; what the application sends later stays "
        "in its list for ever.",
        "fifo",
        lambda: (GoesHomeWhenDone(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "never_done_with_nothing",
        "Nothing to send, and never done",
        "It is done when the last packet is acknowledged: with no payload there is no "
        "last packet, and it waits for ever.",
        "fifo",
        lambda: (WantsSomethingToDo(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "shared_list",
        "One list for all transfers",
        "The list belongs to the class and not to the machine: the second transfer "
        "begins with the payloads of the first.",
        "fifo",
        lambda: (SharesItsList(FixedRto()), StopAndWaitReceiver()),
    ),
)
