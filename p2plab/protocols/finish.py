"""Finish: say that there is no more, and be sure that it was heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2plab.core.endpoint import Receiver, RttEstimator, Sender
from p2plab.core.packet import ACK, FIN, Packet

FIN_RTO: Final = 2.0  # the longest time until a FIN is repeated [s]
LINGER: Final = 2 * FIN_RTO  # so that the receiver still hears the next one [s]


@dataclass(slots=True)
class FinishSender:
    """A sender that ends its conversation: after the last payload, a FIN.

    The FIN takes the number after the last payload's, as in TCP (RFC 9293, section
    3.4), so that its ACK is an ordinary one. It is sent again until it is answered, at
    most `tries` times: the receiver may have heard it and gone, its last ACK lost. No
    number of ACKs would make both sides certain (the two-generals problem), so what
    counts is that neither waits for ever. By then a reliable `sender` is done.
    """

    sender: Sender
    rtt: RttEstimator
    tries: Final[int] = 10
    total: int = 0  # payloads handed to us, and the FIN's number
    closing: bool = False  # the application has said that there is no more
    fins: int = 0  # FINs sent
    over: bool = False  # the FIN was answered, or said often enough
    fin_deadline: float | None = field(default=None, repr=False)

    @property
    def deadline(self) -> float | None:
        inner = self.sender.deadline
        return self.fin_deadline if inner is None else inner

    @property
    def done(self) -> bool:
        return self.sender.done and (self.over or not self.closing)

    def send(self, payload: bytes) -> None:
        self.sender.send(payload)
        self.total += 1

    def finish(self) -> None:
        """Say that there is no more to send."""
        self.closing = True

    def next_packet(self, now: float) -> Packet | None:
        packet = self.sender.next_packet(now)
        if packet is not None or not self.closing or not self.sender.done:
            return packet
        if self.over or self.fin_deadline is not None:
            return None  # nothing more to say, or the answer is on its way
        self.fins += 1
        self.rtt.on_send(self.total, now)
        self.fin_deadline = now + min(self.rtt.rto, FIN_RTO)
        return Packet(FIN, self.total, ts_val=now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if self.fins and packet.kind == ACK and packet.seq == self.total:
            self.rtt.on_ack(self.total, now, packet.ts_ecr)
            self.over = True
            self.fin_deadline = None
        else:
            self.sender.on_packet(packet, now)

    def on_timeout(self, now: float) -> None:
        if self.sender.deadline is not None:
            self.sender.on_timeout(now)
        else:
            self.fin_deadline = None
            self.over = self.fins == self.tries


@dataclass(slots=True)
class FinishReceiver:
    """A receiver that knows when the conversation is over, and answers every FIN.

    linger: how long it stays after the last FIN, in case its ACK was lost and the FIN
        comes again (TCP's TIME-WAIT, RFC 9293, section 3.6.1) [s]. Later FINs are
        answered, too, as long as a driver keeps the machine.
    """

    receiver: Receiver
    linger: Final[float] = LINGER
    total: int | None = None  # payloads that there were, once a FIN has told
    fin_acks: list[Packet] = field(default_factory=list, repr=False)
    fin_deadline: float | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether the sender has said that there is no more."""
        return self.total is not None

    @property
    def deadline(self) -> float | None:
        inner = self.receiver.deadline
        return self.fin_deadline if inner is None else inner

    def next_payload(self) -> bytes | None:
        return self.receiver.next_payload()

    def next_packet(self, now: float) -> Packet | None:
        return self.fin_acks.pop() if self.fin_acks else self.receiver.next_packet(now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != FIN:
            self.receiver.on_packet(packet, now)
            return
        self.total = packet.seq
        self.fin_deadline = now + self.linger
        self.fin_acks.append(Packet(ACK, packet.seq, ts_ecr=packet.ts_val))

    def on_timeout(self, now: float) -> None:
        if self.receiver.deadline is not None:
            self.receiver.on_timeout(now)
        else:
            self.fin_deadline = None  # nobody asked again: we may go
