"""What a network may do to packets: single faults, classes of networks, and a link."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, Channel, Fate
from p2plab.core.packet import Kind, Packet
from p2plab.core.trace import RECEIVER, SENDER

DELAY: Final = 0.05  # one way [s]
RTT: Final = 2 * DELAY  # [s]
ROLES: Final = (SENDER, RECEIVER)


class FaultKind(StrEnum):
    """What a network does to a packet."""

    LOSE = "lose"
    DAMAGE = "damage"
    DOUBLE = "double"  # the copy follows directly behind
    LATE = "late"
    LATE_COPY = "late copy"  # doubled, and the copy is late
    OUTAGE = "outage"  # from this packet on everything is lost, both ways


LOSE, DAMAGE, DOUBLE = FaultKind.LOSE, FaultKind.DAMAGE, FaultKind.DOUBLE
LATE, LATE_COPY, OUTAGE = FaultKind.LATE, FaultKind.LATE_COPY, FaultKind.OUTAGE

_WORDS: Final = {
    LOSE: "{} was lost",
    DAMAGE: "{} was damaged on its way",
    DOUBLE: "{} was doubled by the network",
    LATE: "{} was delayed by {:.3g} s",
    LATE_COPY: "a copy of {} arrived {:.3g} s after the first",
    OUTAGE: "the network was down for {1:.3g} s from {0} on",
}


class Fault(NamedTuple):
    """One thing that the network does to a packet.

    way: 0 for what the sender sends, 1 for what the receiver sends.
    number: how many packets were sent that way before this one.
    extra: how much later it arrives, or how long an outage lasts [s].
    """

    kind: FaultKind
    way: int
    number: int
    extra: float = 0.0

    def words(self, packet: Packet | None = None, again: bool = False) -> str:
        """Say it in words; `again` if the same packet had been sent before."""
        name = f"packet number {self.number + 1} of the {ROLES[self.way]}"
        if packet is not None:
            name = called(packet) + (" (sent again)" if again else "")
        return _WORDS[self.kind].format(name, self.extra)


def called(packet: Packet) -> str:
    """Name a packet as a person would."""
    if packet.kind == Kind.DATA:
        return f"packet {packet.seq} ({packet.payload!r:.24})"
    return f"{Kind(packet.kind).name} {packet.seq}"


@dataclass(frozen=True, slots=True)
class NetworkClass:
    """A class of networks: what they may do, and what they never do."""

    name: str
    kinds: tuple[FaultKind, ...]
    words: str


_ORDER: Final = "; the delay is constant and the order is kept"
CHANNELS: Final = {
    each.name: each
    for each in (
        NetworkClass("fifo", (LOSE, OUTAGE), "packets may be lost" + _ORDER),
        NetworkClass(
            "dup",
            (LOSE, DOUBLE, OUTAGE),
            "packets may be lost or doubled, the copy directly behind" + _ORDER,
        ),
        NetworkClass(
            "late",
            (LOSE, DOUBLE, LATE, LATE_COPY, OUTAGE),
            "packets may be lost, doubled, and late by a fraction of the round trip up "
            "to many seconds, so that others overtake them",
        ),
        NetworkClass(
            "corrupt",
            (LOSE, DAMAGE, OUTAGE),
            "packets may be lost or damaged (a damaged one never reaches on_packet)"
            + _ORDER,
        ),
    )
}


@dataclass(slots=True)
class FaultyLink:
    """A link of constant delay that does exactly what its schedule says.

    hits: the faults that have met a packet; harmed: packets that were touched.
    healed_at: since when nothing has been harmed, and nothing was begun [s].
    since: packets that were sent since then.
    """

    faults: Iterable[Fault]
    hits: list[Fault] = field(default_factory=list)
    harmed: int = 0
    healed_at: float = 0.0
    since: int = 0
    schedule: dict[tuple[int, int], Fault] = field(init=False)
    down_until: float = -1.0

    def __post_init__(self) -> None:
        self.schedule = {(each.way, each.number): each for each in self.faults}

    def forward(self) -> Channel:
        """A fresh channel from sender to receiver."""
        return _Direction(self, 0)

    def backward(self) -> Channel:
        """A fresh channel from receiver to sender."""
        return _Direction(self, 1)

    @property
    def to_come(self) -> bool:
        """Whether a fault has not met its packet yet."""
        return len(self.hits) < len(self.schedule)

    def heal(self, at: float) -> None:
        """Count from `at` on how long recovery takes, and how many packets."""
        self.healed_at = max(self.healed_at, at)
        self.since = 0


@dataclass(slots=True)
class _Direction:
    link: FaultyLink
    way: int
    count: int = 0  # packets so far

    def transmit(self, size: int, now: float) -> list[Fate]:
        link = self.link
        fault = link.schedule.get((self.way, self.count))
        self.count += 1
        link.since += 1
        if fault is not None:
            link.hits.append(fault)
            link.heal(now + fault.extra)
            if fault.kind == OUTAGE:
                link.down_until = max(link.down_until, now + fault.extra)
        down = now < link.down_until
        if down:
            link.since = 0  # it has not healed yet
        if fault is None and not down:
            return [(now + DELAY, ARRIVE)]
        link.harmed += 1
        if fault is None or down or fault.kind in (LOSE, OUTAGE):
            return [(now, LOSS)]
        arrival, later = now + DELAY, now + DELAY + fault.extra
        if fault.kind == DAMAGE:
            return [(arrival, CORRUPT)]
        if fault.kind == LATE:
            return [(later, ARRIVE)]
        return [(arrival, ARRIVE), (later, DUPLICATE)]
