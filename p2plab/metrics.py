"""What a run comes to in numbers, read from its trace alone."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import fmean
from typing import Final, NamedTuple

from p2plab.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW, Fate
from p2plab.packet import ACK, DATA, FIN, HEADER_SIZE
from p2plab.trace import (
    DELIVER,
    OTHER,
    RECEIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    Trace,
)

Number = int | float | None  # None: the trace does not tell

_FATES: Final = frozenset((ARRIVE, LOSS, OVERFLOW, CORRUPT, DUPLICATE))


class Transmission(NamedTuple):
    """One packet on its way once, from being sent to its fate.

    host: who sent it.
    payload: which one it carries, counted from 0 as they were first sent, however few
        bits `seq` has on the wire; -1 for everything but DATA.
    again: whether it had been sent before.
    sent_at: None if whoever sent it kept no trace [s].
    fates: none if nobody knows, more than one if the network made copies.
    """

    host: str
    kind: int
    seq: int
    size: int
    number: int
    payload: int
    again: bool
    sent_at: float | None
    fates: tuple[Fate, ...]

    @property
    def moment(self) -> float:
        """When it was sent, or else when somebody first heard of it [s]."""
        return self.fates[0][0] if self.sent_at is None else self.sent_at

    @property
    def fate(self) -> str | None:
        """What became of it, or of its first copy."""
        return self.fates[0][1] if self.fates else None

    @property
    def arrived_at(self) -> float | None:
        """When it, or its first copy, reached the other side, damaged or not [s]."""
        arrivals = (when for when, what in self.fates if what not in (LOSS, OVERFLOW))
        return next(arrivals, None)


def transmissions(trace: Trace) -> list[Transmission]:
    """Return every packet that was on its way, matched with its fate, oldest first.

    One host's trace will do, too.
    """
    rows = list(trace.rows)
    fates: dict[tuple[str, int], list[Fate]] = {}
    for row in rows:
        if row[2] in _FATES:
            fates.setdefault(_origin(row), []).append((row[0], row[2]))
    found = []
    latest: dict[int, int] = {}  # a number on the wire -> the payload it now stands for
    count = 0
    for time, host, what, kind, seq, size, number in rows:
        if what not in (SEND, RETRANSMIT):
            continue
        if kind == DATA and (what == SEND or seq not in latest):
            latest[seq] = count
            count += 1
        payload = latest[seq] if kind == DATA else -1
        fate, again = tuple(fates.pop((host, number), ())), what == RETRANSMIT
        found.append(
            Transmission(host, kind, seq, size, number, payload, again, time, fate)
        )
    if fates:  # arrivals that nobody saw being sent
        for row in rows:
            if row[2] in _FATES and (left := fates.pop(_origin(row), None)):
                packet = (_origin(row)[0], *row[3:], -1, False, None, tuple(left))
                found.append(Transmission(*packet))
        found.sort(key=lambda each: each.moment)
    return found


def _origin(row: Row) -> tuple[str, int]:
    """Who sent the packet that this fate is of, and its number there."""
    _, host, what, _, _, _, number = row
    return host if what in (LOSS, OVERFLOW) else OTHER[host], number


def rtt_samples(trace: Trace) -> list[tuple[float, float, bool]]:
    """Return (when, round trip, again) for the first ACK that names each packet [s].

    A round trip begins with the last sending. If the packet was sent again, the ACK may
    answer another copy: Karn's rule, RFC 6298 (3), leaves these out.
    """
    samples = []
    sent: dict[int, tuple[float, bool]] = {}
    for time, host, what, kind, seq, _, _ in list(trace.rows):
        if host != SENDER:
            continue
        if what in (SEND, RETRANSMIT):
            sent[seq] = time, what == RETRANSMIT
        elif what == ARRIVE and kind == ACK and seq in sent:
            sent_at, again = sent.pop(seq)
            samples.append((time, time - sent_at, again))
    return samples


def deliveries(rows: list[Row], moves: list[Transmission]) -> list[tuple[float, int]]:
    """Return (when, which payload) for every delivery in a trace's rows [s].

    moves: its `transmissions`.
    What is delivered is the oldest that has arrived and was not delivered yet: true of
    receivers that keep order, and of those that hand over what comes.
    """
    payload = {move.number: move.payload for move in moves if move.payload >= 0}
    found = []
    waiting: list[int] = []
    arrived: set[int] = set()
    for time, host, what, _, _, _, number in rows:
        if what == DELIVER and waiting:
            found.append((time, heappop(waiting)))
        elif host == RECEIVER and what in (ARRIVE, DUPLICATE) and number in payload:
            index = payload[number]
            if index not in arrived:
                arrived.add(index)
                heappush(waiting, index)
    return found


def _delays(rows: list[Row], moves: list[Transmission]) -> list[float]:
    """How long each payload took from its first sending to its delivery [s]."""
    sent_at = {m.payload: m.sent_at for m in reversed(moves) if m.sent_at is not None}
    return [time - sent_at[index] for time, index in deliveries(rows, moves)]


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one run; None is what its trace does not tell.

    A trace of one side alone does not tell what happened at the other one.
    overflowed: DATA packets that found the link's queue full.
    vanished: packets of either side without a fate: lost by the real network, or still
        on their way when the trace ended.
    timeouts: of the sender's retransmission timer.
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
            ("DATA lost", self.lost_data, "packets"),
            ("DATA too many for a queue", self.overflowed, "packets"),
            ("DATA damaged", self.corrupted, "packets"),
            ("DATA doubled", self.duplicated, "packets"),
            ("ACK packets sent", self.acks, "packets"),
            ("ACKs lost", self.lost_acks, "packets"),
            ("packets without a fate", self.vanished, "packets"),
            ("timeouts", self.timeouts, ""),
            ("payloads delivered", self.delivered, ""),
            ("bytes delivered", self.delivered_bytes, "bytes"),
            ("duration", self.duration, "s"),
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


def summarise(trace: Trace, rate: float | None = None) -> Summary:
    """Return the numbers of a run, whichever of its hosts kept the trace.

    rate: of the link, for the utilisation [bit/s].
    """
    rows = list(trace.rows)
    hosts = trace.names.keys() | {row[1] for row in rows}
    moves = transmissions(trace)
    numbers: dict[str, Number] = {}
    if SENDER in hosts:
        numbers |= _at_sender(rows, moves)
        if once := [rtt for _, rtt, again in rtt_samples(trace) if not again]:
            numbers["mean_rtt"] = fmean(once)
    if RECEIVER in hosts:
        numbers |= _at_receiver(rows, moves)
    if {SENDER, RECEIVER} <= hosts:
        numbers["vanished"] = sum(not move.fates for move in moves)
        if waits := sorted(_delays(rows, moves)):
            numbers["mean_delay"] = fmean(waits)
            numbers["p95_delay"] = waits[-(-95 * len(waits) // 100) - 1]
    if rows:
        numbers |= _speeds(_end(rows, RECEIVER in hosts) - rows[0][0], numbers, rate)
    return Summary(**numbers)


def _at_sender(rows: list[Row], moves: list[Transmission]) -> dict[str, Number]:
    data = [m for m in moves if m.kind == DATA and m.sent_at is not None]
    new = sum(not move.again for move in data)
    return {
        "sent": len(data),
        "retransmitted": len(data) - new,
        "lost_data": sum(move.fate == LOSS for move in data),
        "overflowed": sum(move.fate == OVERFLOW for move in data),
        "timeouts": sum(row[2] == TIMEOUT and row[1] == SENDER for row in rows),
        "transmissions_per_packet": len(data) / new if new else None,
    }


def _at_receiver(rows: list[Row], moves: list[Transmission]) -> dict[str, Number]:
    acks = [m for m in moves if m.kind == ACK and m.sent_at is not None]
    fates = [what for m in moves if m.kind == DATA for _, what in m.fates]
    sizes = [row[5] for row in rows if row[2] == DELIVER]
    return {
        "acks": len(acks),
        "lost_acks": sum(move.fate == LOSS for move in acks),
        "corrupted": fates.count(CORRUPT),
        "duplicated": fates.count(DUPLICATE),
        "delivered": len(sizes),
        "delivered_bytes": sum(sizes),
    }


def _end(rows: list[Row], receiver: bool) -> float:
    """When the last payload was delivered, or acknowledged if only the sender saw."""
    end = rows[0][0]
    for time, _, what, kind, _, _, _ in rows:
        if not receiver and kind == FIN:
            break  # the ACKs from here on are the FIN's
        if what == DELIVER if receiver else (what, kind) == (ARRIVE, ACK):
            end = time
    return end


def _speeds(
    duration: float, numbers: dict[str, Number], rate: float | None
) -> dict[str, Number]:
    if not duration:  # nothing was delivered, or all at once
        return {"goodput": 0.0} if numbers.get("delivered") == 0 else {}
    speeds: dict[str, Number] = {"duration": duration}
    count, size = numbers.get("delivered"), numbers.get("delivered_bytes")
    if count is not None and size is not None:
        speeds["goodput"] = 8 * size / duration
        if rate:
            speeds["utilisation"] = 8 * (size + count * HEADER_SIZE) / rate / duration
    return speeds
