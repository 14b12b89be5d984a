"""Best effort: send everything once and hope, as UDP itself does (RFC 768)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2plab.core.packet import DATA, Packet


@dataclass(slots=True)
class BestEffortSender:
    """Send each packet once. No ACK, no timer, no second try."""

    payloads: list[bytes] = field(default_factory=list, repr=False)
    next_seq_num: int = 0  # next packet to put on the wire
    deadline: float | None = None  # never set: there is nothing to wait for

    @property
    def done(self) -> bool:
        return self.next_seq_num == len(self.payloads)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def next_packet(self, now: float) -> Packet | None:
        if self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        seq = self.next_seq_num
        self.next_seq_num += 1
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        return  # nobody answers, and nobody listens

    def on_timeout(self, now: float) -> None:
        return


@dataclass(slots=True)
class BestEffortReceiver:
    """Hand over whatever arrives, in the order in which it arrives."""

    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    deadline: float | None = None

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        return None  # nothing is acknowledged

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind == DATA:
            self.inbox.append(packet.payload)

    def on_timeout(self, now: float) -> None:
        return
