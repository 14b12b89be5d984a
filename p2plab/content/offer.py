"""How a transfer opens: what the sender offers, and what the receiver allows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from p2plab.content.content import MAX_BYTES, Content
from p2plab.errors import BadContent
from p2plab.protocols import FinishReceiver
from p2plab.protocols.setup import MISSING, PROTOCOLS, Setup

MAX_OFFER: Final = 4096  # bytes; a real one has about 500
# Set in a transfer's number by its receiver: both ends may be on the same socket.
ANSWER: Final = 1 << 31
MAX_NAME: Final = 64  # characters of a peer's name
MAX_WORDS: Final = 1000  # bytes of a reason


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be sent, by whom, and with which protocol.

    sender: the name that the sending peer gives itself; nobody has checked it.
    content: what and how large, with a fingerprint (see chunks).
    """

    sender: str
    content: Content
    setup: Setup

    def receiver(self) -> FinishReceiver:
        """Build the receiving side, with no more memory than the content can need."""
        # No packet is further ahead than this, and a liar's window may not cost more.
        window = min(self.setup.window, self.content.count)
        return replace(self.setup, window=window).receiver()

    def to_bytes(self) -> bytes:
        """Return the offer as JSON in UTF-8."""
        offer = {
            "sender": self.sender,
            "content": self.content.to_dict(),
            "setup": self.setup.to_dict(),
        }
        return json.dumps(offer, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, given: bytes) -> Offer:
        """Return the offer that `to_bytes` wrote; raises BadContent for others."""
        if len(given) > MAX_OFFER:
            raise BadContent(f"an offer has at most {MAX_OFFER} bytes")
        try:
            offer = json.loads(given)
            sender = offer["sender"]
            if not isinstance(sender, str) or len(sender) > MAX_NAME:
                raise ValueError(f"a name has at most {MAX_NAME} characters")
            if not sender.isprintable():
                raise ValueError("a name has no invisible characters")
            content = Content.from_dict(offer["content"])
            return cls(sender, content, _setup(offer["setup"]))
        except BadContent:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            raise BadContent(f"this is no offer of ours: {why!r:.200}") from why


def _setup(given: Any) -> Setup:
    name = given["protocol"]
    if isinstance(name, str) and name not in PROTOCOLS:
        raise BadContent(
            f"there is no protocol {name[:MAX_NAME]!r} where you want to send it: both "
            f"sides need it{MISSING.get(name, '')}"
        )
    return Setup.from_dict(given)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver takes on.

    max_bytes: of one transfer; max_transfers: that arrive at the same time.
    patience: how long to go on without hearing from a sender [s].
    """

    max_bytes: int = MAX_BYTES
    max_transfers: int = 8
    patience: float = 30.0

    def objection(self, offer: Offer, arriving: int) -> str | None:
        """Say why the offer cannot be accepted, or None.

        arriving: transfers that are under way towards us.
        """
        if offer.content.size > self.max_bytes:
            return (
                f"{offer.content.size:,} bytes are too many: I take "
                f"{self.max_bytes:,} at most"
            )
        if arriving >= self.max_transfers:
            return (
                f"{arriving} transfers are arriving already, which is my limit: try "
                f"again when one of them has ended"
            )
        return None


def to_words(why: object) -> bytes:
    """Return a reason as a packet carries it, cut to MAX_WORDS bytes."""
    return str(why).encode(errors="replace")[:MAX_WORDS]


def words(given: bytes) -> str:
    """Return the reason that somebody else gives, fit to be shown."""
    return printable(given[:MAX_WORDS].decode(errors="replace"))


def printable(text: str) -> str:
    """Return a text from anywhere without what could steer a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)
