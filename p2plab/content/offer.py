"""How a transfer opens: what the sender offers, and what the receiver allows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from p2plab.content.content import MAX_BYTES, Content
from p2plab.core.validation import may_have, on_one_line
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
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, given: bytes) -> Offer:
        """Return the offer that `to_bytes` wrote; raises BadContent for others."""
        if len(given) > MAX_OFFER:
            raise BadContent(f"an offer has at most {MAX_OFFER} bytes")
        try:
            offer = json.loads(given)
            sender, setup = offer["sender"], offer["setup"]
            if not sender.isprintable() or len(sender) > MAX_NAME:
                raise ValueError(f"a name has at most {MAX_NAME} visible characters")
            if (name := setup["protocol"]) not in PROTOCOLS:
                raise BadContent(
                    f"there is no protocol {name!r:.80} where you want to send it: "
                    f"both sides need it{MISSING.get(name, '')}"
                )
            return cls(sender, Content(**offer["content"]), Setup.from_dict(setup))
        except BadContent:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            raise BadContent(f"this is no offer of ours: {why!r:.200}") from why


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver takes on.

    max_bytes: of one transfer; max_transfers: that arrive at the same time.
    patience: how long to go on without hearing from a sender [s].
    """

    max_bytes: int = MAX_BYTES
    max_transfers: int = 16
    patience: float = 30.0

    def objection(self, offer: Offer, arriving: int, own: int = 0) -> str | None:
        """Say why the offer cannot be accepted, or None.

        arriving: transfers that are under way towards us; own: of them, the sender's.
        """
        if offer.content.size > self.max_bytes:
            return (
                f"{offer.content.size:,} bytes are too many: I take "
                f"{self.max_bytes:,} at most"
            )
        if not may_have(own, arriving, self.max_transfers):
            whose = f", {own} of them yours" if own else ""
            return (
                f"{arriving} transfers are arriving already{whose}, which is my limit: "
                f"try again when one of them has ended"
            )
        return None


def to_words(why: object) -> bytes:
    """Return a reason as a packet carries it, cut to MAX_WORDS bytes."""
    return str(why).encode(errors="replace")[:MAX_WORDS]


def words(given: bytes) -> str:
    """Return the reason that somebody else gives, fit to be shown."""
    return on_one_line(given[:MAX_WORDS].decode(errors="replace"))
