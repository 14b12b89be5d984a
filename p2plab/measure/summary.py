"""The numbers of one run, and how tables show them."""

from __future__ import annotations

from dataclasses import dataclass

Number = int | float | None  # None: the trace does not tell


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one run; None is what its trace does not tell.

    A trace of one side alone does not tell what happened at the other one.
    coded: DATA packets that carried several payloads mixed: their numbers are below 0.
    overflowed: DATA packets that found the link's queue full.
    vanished: packets of either side without a fate: lost by the real network, or still
        on their way when the trace ended.
    timeouts: of the sender's retransmission timer.
    delivered, delivered_bytes: each payload once, also where a receiver hands over its
        copies: they are of no use (RFC 2647, section 3.17).
    duration: from the first sending to the last delivery [s]. Seen by the sender alone:
        to the last ACK of a payload; by the receiver alone: from the first arrival.
    goodput: bits delivered / duration, without headers (RFC 2647, section 3.17).
    transmissions_per_packet: DATA packets sent / different ones among them.
    mean_delay, p95_delay: from a payload's first sending to its delivery, waiting for
        earlier ones included [s]; 95 % of them take at most p95_delay
        (RFC 2330, section 11.3).
    mean_rtt: of packets sent once [s].
    utilisation: share of the duration that the link needs to carry what was delivered,
        once and with its headers; 0..1, as in `theory`.
    """

    sent: Number = None
    retransmitted: Number = None
    coded: Number = None
    acks: Number = None
    lost_data: Number = None
    overflowed: Number = None
    corrupted: Number = None
    duplicated: Number = None
    lost_acks: Number = None
    vanished: Number = None
    timeouts: Number = None
    delivered: Number = None
    delivered_bytes: Number = None
    duration: Number = None
    goodput: Number = None
    transmissions_per_packet: Number = None
    mean_delay: Number = None
    p95_delay: Number = None
    mean_rtt: Number = None
    utilisation: Number = None

    def rows(self) -> list[tuple[str, Number, str]]:
        """Return (what, value, unit): the one source of every table of these."""
        return [
            ("DATA packets sent", self.sent, "packets"),
            ("DATA sent again", self.retransmitted, "packets"),
            ("DATA that were coded", self.coded, "packets"),
            ("DATA lost", self.lost_data, "packets"),
            ("DATA too many for a queue", self.overflowed, "packets"),
            ("DATA damaged", self.corrupted, "packets"),
            ("DATA doubled", self.duplicated, "packets"),
            ("ACK packets sent", self.acks, "packets"),
            ("ACKs lost", self.lost_acks, "packets"),
            ("packets, fate unknown", self.vanished, "packets"),
            ("timeouts", self.timeouts, ""),
            ("payloads delivered", self.delivered, ""),
            ("bytes delivered", self.delivered_bytes, "bytes"),
            ("duration to the last delivery", self.duration, "s"),
            ("goodput", self.goodput, "bit/s"),
            ("transmissions per packet", self.transmissions_per_packet, ""),
            ("mean delay to delivery", self.mean_delay, "s"),
            ("95 % of delays are at most", self.p95_delay, "s"),
            ("mean round trip", self.mean_rtt, "s"),
            ("utilisation of the link", self.utilisation, ""),
        ]

    def __str__(self) -> str:
        lines = (f"{a:<30}{shown(b):>12} {c}".rstrip() for a, b, c in self.rows())
        return "\n".join(lines)


def shown(value: Number) -> str:
    """Write a number as tables show it: four digits, or all before the point."""
    if value is None:
        return "unknown"
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.4g}"
