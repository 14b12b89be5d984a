"""What the pages have in common: payloads that wait to be sent, and to be taken."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.packet import Packet


@dataclass(slots=True)
class SenderBase:
    """Payloads and their numbers, in the words of Kurose & Ross, section 3.4."""

    payloads: list[bytes] = field(default_factory=list, init=False, repr=False)
    send_base: int = field(default=0, init=False)  # oldest one not yet acknowledged
    next_seq_num: int = field(default=0, init=False)  # next one to put on the wire

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)


@dataclass(slots=True)
class ReceiverBase:
    """Payloads for the application, ACKs for the sender, and no timer."""

    expected_seq_num: int = field(default=0, init=False)  # oldest one not yet here
    inbox: deque[bytes] = field(default_factory=deque, init=False, repr=False)
    acks: deque[Packet] = field(default_factory=deque, init=False, repr=False)
    deadline: float | None = field(default=None, init=False)

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return self.acks.popleft() if self.acks else None

    def on_timeout(self, now: float) -> None:
        return
