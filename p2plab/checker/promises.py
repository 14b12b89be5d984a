"""What a protocol promises, and how much it may do until it has kept its word."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

HEAL_TIME: Final = 600.0  # virtual time for recovery after the last fault [s]
HEAL_PACKETS: Final = 2_000  # packets for recovery after the last fault,
HEAL_EACH: Final = 100  # and so many more for each payload


class VerdictKind(StrEnum):
    """What came of a check, or of a transfer."""

    SURVIVED = "survived"
    BROKEN = "broken"  # a promise of both machines together
    BREACH = "breach"  # a promise that one machine makes to its driver
    UNJUDGED = "unjudged"  # a transfer that failed for something else


class Promise(StrEnum):
    """A promise in a word: of a protocol, or (see errors.Promise) of one machine."""

    IN_ORDER_DELIVERY = "in_order_delivery"
    TERMINATION = "termination"
    QUIESCENCE = "quiescence"
    RETRANSMISSION = "retransmission"
    MEMORY = "memory"
    SPEED = "speed"
    INTERFACE = "interface"
    PACKETS = "packets"
    PAYLOADS = "payloads"
    TIMER = "timer"
    NO_EXCEPTION = "no exception"
    END = "end"
    QUICK = "quick"
    QUIET = "quiet"
    SAME_AGAIN = "same again"
    ISOLATION = "isolation"

    @property
    def kind(self) -> VerdictKind:
        """What it is to break it: broken, or a breach."""
        return VerdictKind.BROKEN if self in _OF_BOTH else VerdictKind.BREACH

    @property
    def broken(self) -> str:
        """The sentence that says that it is broken."""
        whose = "" if self in _OF_BOTH else " of the machine"
        return f"Promise{whose} broken: {PROMISES[self]}."


_OF_BOTH: Final = (
    Promise.IN_ORDER_DELIVERY,
    Promise.TERMINATION,
    Promise.QUIESCENCE,
    Promise.RETRANSMISSION,
    Promise.MEMORY,
    Promise.SPEED,
)
PROMISES: Final = {
    Promise.IN_ORDER_DELIVERY: "what is delivered is always a prefix of what was sent",
    Promise.TERMINATION: "once the network heals, everything is delivered and both "
    f"sides finish (within {HEAL_TIME:g} s and twice the time of the faults, and "
    f"within {HEAL_PACKETS} packets and {HEAL_EACH} more for each payload)",
    Promise.QUIESCENCE: "when all is done, nobody holds a timer or goes on sending",
    Promise.RETRANSMISSION: "no more is sent again than the losses call for (four "
    "windows for each packet that was harmed, and ten packets for a payload)",
    Promise.MEMORY: "a machine's memory does not grow with what it has moved",
    Promise.SPEED: "it is about as quick as the reference page",
    Promise.INTERFACE: "a machine has the members of `endpoint`",
    Promise.PACKETS: "next_packet returns one Packet or None, and None in the end",
    Promise.PAYLOADS: "next_payload returns the bytes of one payload or None",
    Promise.TIMER: "after on_timeout a packet comes out, or the deadline moves or "
    "stops",
    Promise.NO_EXCEPTION: "a machine never raises because of what it is told",
    Promise.END: "every method comes back",
    Promise.QUICK: "a machine is quick enough to be tried",
    Promise.QUIET: "a machine neither prints nor starts a thread",
    Promise.SAME_AGAIN: "same inputs, same outputs: no clock, no chance, no order of "
    "a set",
    Promise.ISOLATION: "two machines have nothing in common",
}
