"""What the network may do: single faults, and the classes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from p2plab.core.packet import Kind, Packet
from p2plab.core.trace import RECEIVER, SENDER

DELAY: Final = 0.05  # one way [s]
RTT: Final = 2 * DELAY  # [s]

LOSE: Final = "lose"
DAMAGE: Final = "damage"
DOUBLE: Final = "double"  # the copy follows directly behind
LATE: Final = "late"
LATE_COPY: Final = "late copy"  # doubled, and the copy is late
BLACKOUT: Final = "black-out"  # from this packet on, both ways

_WORDS: Final = {
    LOSE: "{} was lost",
    DAMAGE: "{} was damaged on its way",
    DOUBLE: "{} was doubled by the network",
    LATE: "{} was delayed by {:.3g} s",
    LATE_COPY: "a copy of {} arrived {:.3g} s after the first",
    BLACKOUT: "the network was down for {1:.3g} s from {0} on",
}

SIDES: Final = (SENDER, RECEIVER)


class Fault(NamedTuple):
    """One thing that the network does to a packet.

    way: 0 for what the sender sends, 1 for what the receiver sends.
    number: how many packets were sent that way before this one.
    extra: how much later it arrives, or how long a black-out lasts [s].
    """

    kind: str
    way: int
    number: int
    extra: float = 0.0

    def words(self, packet: Packet | None = None, again: bool = False) -> str:
        """Say it in words; `again` if the same packet had been sent before."""
        name = f"packet number {self.number + 1} of the {SIDES[self.way]}"
        if packet is not None:
            name = called(packet)
            if again:
                name = f"{name} (sent again)"
        return _WORDS[self.kind].format(name, self.extra)


def called(packet: Packet) -> str:
    """Name a packet as a person would."""
    kind, seq, payload, _, _ = packet
    if kind == Kind.DATA:
        return f"packet {seq} ({payload!r:.24})"
    return f"{Kind(kind).name} {seq}"


@dataclass(frozen=True, slots=True)
class Channel:
    """A class of networks: what they may do, and what they never do."""

    name: str
    kinds: tuple[str, ...]
    words: str


_ORDER: Final = "; the delay is constant and the order is kept"
CHANNELS: Final = {
    each.name: each
    for each in (
        Channel("fifo", (LOSE, BLACKOUT), "packets may be lost" + _ORDER),
        Channel(
            "dup",
            (LOSE, DOUBLE, BLACKOUT),
            "packets may be lost or doubled, the copy directly behind" + _ORDER,
        ),
        Channel(
            "late",
            (LOSE, DOUBLE, LATE, LATE_COPY, BLACKOUT),
            "packets may be lost, doubled, and late by a fraction of the round trip up "
            "to many seconds, so that others overtake them",
        ),
        Channel(
            "corrupt",
            (LOSE, DAMAGE, BLACKOUT),
            "packets may be lost or damaged (a damaged one never reaches on_packet)"
            + _ORDER,
        ),
    )
}


def includes(promised: str, asked: str) -> bool:
    """Return whether a protocol for the class `promised` must survive `asked`."""
    ours = CHANNELS.get(promised)
    return ours is None or set(CHANNELS[asked].kinds) <= set(ours.kinds)
