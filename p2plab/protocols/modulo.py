"""Modulo: numbers that begin again at 0, because the header has few bits for them."""

from __future__ import annotations

from dataclasses import dataclass

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.packet import Packet


@dataclass(slots=True)
class ModuloSender:
    """A sender whose numbers go over the wire modulo 2**bits.

    It takes an ACK for the first packet from `send_base` on that is written so. With
    too few bits for the window that is the wrong one (Kurose & Ross, section 3.4.4).
    """

    sender: Sender
    bits: int

    @property
    def deadline(self) -> float | None:
        return self.sender.deadline

    @property
    def done(self) -> bool:
        return self.sender.done

    def send(self, payload: bytes) -> None:
        self.sender.send(payload)

    def next_packet(self, now: float) -> Packet | None:
        return written(self.sender.next_packet(now), self.bits)

    def on_packet(self, packet: Packet, now: float) -> None:
        base: int = getattr(self.sender, "send_base", 0)
        self.sender.on_packet(meant(packet, base, self.bits), now)

    def on_timeout(self, now: float) -> None:
        self.sender.on_timeout(now)


@dataclass(slots=True)
class ModuloReceiver:
    """A receiver whose numbers came over the wire modulo 2**bits.

    window: packets from `expected_seq_num` on that a number can mean; otherwise it is
        that of a packet from before, which has come again.
    """

    receiver: Receiver
    bits: int
    window: int = 1

    @property
    def deadline(self) -> float | None:
        return self.receiver.deadline

    def next_payload(self) -> bytes | None:
        return self.receiver.next_payload()

    def next_packet(self, now: float) -> Packet | None:
        return written(self.receiver.next_packet(now), self.bits)

    def on_packet(self, packet: Packet, now: float) -> None:
        base: int = getattr(self.receiver, "expected_seq_num", 0)
        packet = meant(packet, base, self.bits)
        if packet.seq >= base + self.window:
            packet = packet._replace(seq=packet.seq - 2**self.bits)
        self.receiver.on_packet(packet, now)

    def on_timeout(self, now: float) -> None:
        self.receiver.on_timeout(now)


def written(packet: Packet | None, bits: int) -> Packet | None:
    """Return a packet with its number as it fits into so many bits."""
    return packet and packet._replace(seq=packet.seq % 2**bits)


def meant(packet: Packet, base: int, bits: int) -> Packet:
    """Return a packet with the first number from `base` on that is written like its."""
    return packet._replace(seq=base + (packet.seq - base) % 2**bits)
