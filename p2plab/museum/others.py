"""Other designs with a mistake: negative ACKs, parity, duplex, finish, and no ACK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2plab.core.packet import ACK, FIN, Packet
from p2plab.core.rtt import FixedRto
from p2plab.core.window import FixedWindow
from p2plab.museum.exhibit import Exhibit
from p2plab.museum.healthy import finish
from p2plab.museum.healthy.duplex import DuplexPeer
from p2plab.museum.healthy.negative_ack import NegativeAckReceiver, NegativeAckSender
from p2plab.museum.healthy.parity import GROUP, ParityReceiver, ParitySender, recover
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.finish import FinishReceiver


@dataclass(slots=True)
class TrustsTheNak(NegativeAckSender):
    """Has no timer: it will be told when something went wrong."""

    def next_packet(self, now: float) -> Packet | None:
        packet = NegativeAckSender.next_packet(self, now)
        self.deadline = None
        return packet


@dataclass(slots=True)
class TakesDamageForAnAck(NegativeAckSender):
    """Takes an answer that it cannot read for the usual one."""

    def on_corrupt(self, now: float) -> None:
        if self.next_seq_num > self.send_base:
            self.send_base += 1
            self.deadline = None


@dataclass(slots=True)
class AcksDamage(NegativeAckReceiver):
    """Acknowledges before it has looked at the checksum."""

    def on_corrupt(self, now: float) -> None:
        self.acks.append(Packet(ACK, self.expected_seq_num))


@dataclass(slots=True)
class RepairsTheWrongGroup(ParityReceiver):
    """Counts groups from one."""

    def repair(self, group: int) -> None:
        numbers = range(group * GROUP, (group + 1) * GROUP)
        missing = [seq for seq in numbers if seq not in self.kept]
        if len(missing) == 1 and group - 1 in self.parities:
            others = [self.kept[seq] for seq in numbers if seq in self.kept]
            self.kept[missing[0]] = recover(self.parities[group - 1], others)

    def forget(self) -> None:
        group = self.expected_seq_num // GROUP
        self.kept = {s: kept for s, kept in self.kept.items() if s >= group * GROUP}
        self.parities = {g: p for g, p in self.parities.items() if g >= group - 1}


@dataclass(slots=True)
class RepairsWithWhatItHas(ParityReceiver):
    """Does not count how many packets are missing."""

    def repair(self, group: int) -> None:
        numbers = range(group * GROUP, (group + 1) * GROUP)
        missing = [seq for seq in numbers if seq not in self.kept]
        if missing and group in self.parities:
            others = [self.kept[seq] for seq in numbers if seq in self.kept]
            self.kept[missing[0]] = recover(self.parities[group], others)


@dataclass(slots=True)
class AcksOnlyRideAlong(DuplexPeer):
    """Never sends an ACK alone."""

    def next_packet(self, now: float) -> Packet | None:
        waiting = self.send_base == self.next_seq_num < len(self.payloads)
        return DuplexPeer.next_packet(self, now) if waiting else None


@dataclass(slots=True)
class LeavesOnFinish(FinishReceiver):
    """Is gone once it has answered a FIN."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if self.finished:
            return  # gone
        if packet.kind != FIN:
            self.receiver.on_packet(packet, now)
            return
        self.total = packet.seq
        self.fin_acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))


@dataclass(slots=True)
class LingersForEver(FinishReceiver):
    """Stays, in case there is another FIN, and stays."""

    def on_timeout(self, now: float) -> None:
        if self.receiver.deadline is not None:
            self.receiver.on_timeout(now)
        else:
            self.fin_deadline = now + self.linger


ROOM: Final = (
    Exhibit(
        "sent_once_and_hoped",
        "Send and hope",
        "Nothing is acknowledged and nothing sent again: it is done when all is sent, "
        "whatever arrives.",
        "fifo",
        lambda: (BestEffortSender(), BestEffortReceiver()),
    ),
    Exhibit(
        "nak_and_no_timer",
        "No news is good news",
        "It repeats what it is asked for and has no timer: a packet that is lost, and "
        "not damaged, brings no NAK, and both sides wait for ever.",
        "fifo",
        lambda: (TrustsTheNak(FixedRto()), NegativeAckReceiver()),
    ),
    Exhibit(
        "damage_taken_for_an_ack",
        "Whatever comes back is an ACK",
        "It takes a damaged answer for an ACK; if it was a NAK, the payload that it "
        "asked for is never sent again.",
        "corrupt",
        lambda: (TakesDamageForAnAck(FixedRto()), NegativeAckReceiver()),
    ),
    Exhibit(
        "damage_acknowledged",
        "An ACK for a damaged packet",
        "It acknowledges the packet that it expects when something damaged comes: the "
        "sender believes that it has arrived, and goes on to the next one.",
        "corrupt",
        lambda: (NegativeAckSender(FixedRto()), AcksDamage()),
    ),
    Exhibit(
        "parity_of_the_wrong_group",
        "The parity of the group before",
        "It counts groups from one where the sender counts from zero, and works out "
        "a missing packet from the parity of other packets: it delivers noise.",
        "fifo",
        lambda: (
            ParitySender(FixedRto(), FixedWindow(6)),
            RepairsTheWrongGroup(window=6),
        ),
    ),
    Exhibit(
        "parity_with_two_missing",
        "One equation, two unknowns",
        "It works out a packet although two of the group are missing: what comes out "
        "is the mixture of both.",
        "fifo",
        lambda: (
            ParitySender(FixedRto(), FixedWindow(6)),
            RepairsWithWhatItHas(window=6),
        ),
    ),
    Exhibit(
        "acks_only_ride_along",
        "ACKs only ride along",
        "Its ACKs travel with its own data; when it has nothing to say itself, the "
        "other side waits for an ACK for ever.",
        "fifo",
        lambda: (AcksOnlyRideAlong(FixedRto()), AcksOnlyRideAlong(FixedRto())),
    ),
    Exhibit(
        "leaves_on_finish",
        "The receiver leaves on finish",
        "It answers the FIN and is gone: when that one answer is lost, nobody is there "
        "to answer the next FIN, and the sender asks for ever.",
        "fifo",
        lambda: finish(LeavesOnFinish, tries=1_000_000),
    ),
    Exhibit(
        "lingers_for_ever",
        "The receiver never leaves",
        "It stays after the FIN in case another one comes, starts its timer anew each "
        "time, and so never ends.",
        "fifo",
        lambda: finish(LingersForEver),
    ),
)
