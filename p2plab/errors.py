"""Every error that p2plab raises on purpose.

P2PLabError
 ├─ CorruptPacket           bytes that are not a well-formed packet of ours
 │   ├─ Forged              … that nobody who knows the session's key has made
 │   └─ Replayed            … that have been here before
 ├─ BrokenContract          a protocol machine did not keep one of its promises
 ├─ TransferError           a transfer ended before everything had arrived
 │   ├─ DatagramsTooLarge   small ones get through, and those of the transfer do not
 │   ├─ TransferRefused     the receiver did not want it, and says why
 │   ├─ TransferStalled     nothing moved for longer than our patience
 │   └─ TransferStopped     somebody pressed Stop
 ├─ NotDelivered            a text was sent as often as allowed, and never acknowledged
 │   └─ WrongPeer           who answers is not the one whom the text is for
 ├─ BadContent              a picture, file or text that cannot be sent
 ├─ PeerNotFound            no peer of that name is registered
 ├─ PeerUnreachable         the peer is registered, but nobody answers for it
 ├─ IntroductionRefused     the peer does not want to meet us, and may say why
 ├─ NameTaken               another peer holds the name
 ├─ RendezvousError         the rendezvous refused a request, and says why
 │   └─ RendezvousAway      nobody answers at the rendezvous, or its Redis is away
 └─ PortInUse               another program listens on the port
"""

from __future__ import annotations

from enum import StrEnum


class P2PLabError(Exception):
    """The base of them all: catch it to catch every error on purpose."""


class CorruptPacket(P2PLabError):
    """Bytes that are not a well-formed packet of ours."""


class Forged(CorruptPacket):
    """Bytes that nobody who knows the session's key has made, or not as they are."""


class Replayed(CorruptPacket):
    """A packet of the session that has been here before."""


class Promise(StrEnum):
    """What a machine promises its driver, in a word: see endpoint."""

    INTERFACE = "interface"  # it has the members that the driver uses
    PACKETS = "packets"  # next_packet returns a Packet or None, and None in the end
    PAYLOADS = "payloads"  # next_payload returns bytes or None
    TIMER = "timer"  # after on_timeout, the deadline is not the same
    NO_EXCEPTION = "no exception"  # no method raises


class BrokenContract(P2PLabError):
    """A protocol machine did not keep one of its promises (see endpoint).

    promise: which one. machine: the name of its class.
    member: the method or value that showed it; empty if none did.
    what: what it did. cure: what to do about it, one sentence; may be empty.
    time: when [s]; None if that was before a run.
    partial: the Run until then, if there was one.
    """

    partial: object = None

    def __init__(
        self,
        promise: Promise,
        machine: str,
        member: str,
        what: str,
        cure: str = "",
        time: float | None = None,
    ) -> None:
        super().__init__(promise, machine, member, what, cure, time)
        self.promise, self.machine, self.member = promise, machine, member
        self.what, self.cure, self.time = what, cure, time

    def __str__(self) -> str:
        when = "" if self.time is None else f"{self.machine}: at t={self.time:.3f} "
        return f"{when}{self.what}. {self.cure}".rstrip()


class TransferError(P2PLabError):
    """A transfer ended before everything had arrived.

    partial: the Run or Transfer so far, with its trace and what did arrive.
    """

    def __init__(self, message: str, partial: object = None) -> None:
        super().__init__(message)
        self.partial = partial


class DatagramsTooLarge(TransferError):
    """Small datagrams get through, and those of the transfer do not.

    size: of the UDP payload [bytes].
    """

    def __init__(self, message: str, size: int, partial: object = None) -> None:
        super().__init__(message, partial)
        self.size = size


class TransferRefused(TransferError):
    """The receiver did not accept the offer; the message carries its reason."""


class TransferStalled(TransferError):
    """Nothing moved for longer than our patience."""


class TransferStopped(TransferError):
    """Somebody stopped the transfer half-way."""


class NotDelivered(P2PLabError):
    """A text was sent as often as allowed, and never acknowledged.

    text: the message itself, so that nothing is lost.
    """

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text
        self.add_note("The text is kept, as the error's `text`.")  # for who has it


class WrongPeer(NotDelivered):
    """Who answers at the address has not proven to be the one whom the text is for."""


class BadContent(P2PLabError):
    """A picture, file or text that cannot be sent; the message names the limit."""


class PeerNotFound(P2PLabError):
    """No peer of that name is registered at the rendezvous."""


class PeerUnreachable(P2PLabError):
    """The peer is registered, but nobody answers at its address, or for it."""


class IntroductionRefused(P2PLabError):
    """The peer does not want to meet us; the message carries its reason."""


class NameTaken(P2PLabError):
    """Another peer holds the name.

    retry_after: seconds after which its lease ends unless it is renewed.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RendezvousError(P2PLabError):
    """The rendezvous refused a request; the message says what to do."""


class RendezvousAway(RendezvousError):
    """Nobody answers at the rendezvous, or its Redis is away."""


class PortInUse(P2PLabError):
    """Another program listens on the port that was asked for."""
