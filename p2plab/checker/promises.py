"""What a protocol promises, and how much it may do until it has kept its word."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

HEAL_TIME: Final = 600.0  # virtual time for recovery after the last fault [s],
HEAL_TIME_EACH: Final = 1.0  # and so much more for each payload [s]
HEAL_PACKETS: Final = 2_000  # packets for recovery after the last fault,
HEAL_EACH: Final = 100  # and so many more for each payload


class VerdictKind(StrEnum):
    """What came of a check, or of a transfer."""

    SURVIVED = "survived"
    BROKEN = "broken"  # a promise of both machines together
    BREACH = "breach"  # a promise that one machine makes to its driver
    UNJUDGED = "unjudged"  # a transfer that failed for something else


class Promise(StrEnum):
    """A promise in a word: of a protocol, or (see errors.Promise) of one machine.

    text: what is promised.
    """

    text: str

    def __new__(cls, word: str, text: str = "") -> Self:
        promise = str.__new__(cls, word)
        promise._value_, promise.text = word, text
        return promise

    # Of both machines together
    IN_ORDER_DELIVERY = (
        "in_order_delivery",
        "what is delivered is always a prefix of what was sent",
    )
    TERMINATION = (
        "termination",
        "once the network heals, everything is delivered and both sides finish (within "
        f"{HEAL_TIME:g} s, {HEAL_TIME_EACH:g} s more for each payload, and twice the "
        f"time of the faults; and within {HEAL_PACKETS} packets and {HEAL_EACH} more "
        "for each payload)",
    )
    QUIESCENCE = (
        "quiescence",
        "when all is done, nobody holds a timer or goes on sending",
    )
    RETRANSMISSION = (
        "retransmission",
        "no more is sent again than the losses call for (without any, two packets and "
        "one for every ten payloads; else four windows for each packet that was "
        "harmed, and ten packets for a payload)",
    )
    APART = "apart", "sender and receiver share nothing but the packets that travel"
    MEMORY = "memory", "a machine's memory does not grow with what it has moved"
    SPEED = "speed", "it is about as quick as the reference page"

    # Of one machine
    INTERFACE = "interface", "a machine has the members of `endpoint`"
    PACKETS = "packets", "next_packet returns one Packet or None, and None in the end"
    PAYLOADS = "payloads", "next_payload returns the bytes of one payload or None"
    TIMER = (
        "timer",
        "after on_timeout a packet comes out, or the deadline moves or stops",
    )
    NO_EXCEPTION = (
        "no exception",
        "a machine never raises because of what it is told",
    )
    END = "end", "every method comes back"
    QUICK = "quick", "a machine is quick enough to be tried"
    QUIET = "quiet", "a machine neither prints nor starts a thread"
    SAME_AGAIN = (
        "same again",
        "same inputs, same outputs: no clock, no chance, no order of a set",
    )
    ISOLATION = "isolation", "two machines have nothing in common"

    @property
    def kind(self) -> VerdictKind:
        """What it is to break it: broken, or a breach."""
        return VerdictKind.BROKEN if self in _OF_BOTH else VerdictKind.BREACH

    @property
    def broken(self) -> str:
        """The sentence that says that it is broken."""
        whose = "" if self in _OF_BOTH else " of the machine"
        return f"Promise{whose} broken: {self.text}."


_OF_BOTH: Final = tuple(Promise)[:7]
