"""What a run comes to in numbers, read from its trace alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import ceil
from statistics import fmean
from typing import Final, NamedTuple

from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW, Fate
from p2plab.core.packet import ACK, DATA, FIN, HEADER_SIZE
from p2plab.core.trace import (
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

_SENDS: Final = (SEND, RETRANSMIT)
_FATES: Final = (ARRIVE, LOSS, OVERFLOW, CORRUPT, DUPLICATE)
_UNSEEN: Final = (LOSS, OVERFLOW)  # by whoever it was sent to


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
        arrivals = (when for when, what in self.fates if what not in _UNSEEN)
        return next(arrivals, None)


def transmissions(trace: Trace) -> list[Transmission]:
    """Return every packet that was on its way, matched with its fate, oldest first.

    One host's trace will do, too.
    """
    rows = list(trace)
    fates: dict[tuple[str, int], list[Fate]] = {}
    for row in rows:
        if row.what in _FATES:
            fates.setdefault(_origin(row), []).append((row.time, row.what))
    latest: dict[int, int] = {}  # a number on the wire -> the payload it now stands for
    count = 0
    found = []
    for row in rows:
        if row.what in _SENDS:
            payload = -1
            if row.kind == DATA:
                if row.what == SEND or row.seq not in latest:
                    latest[row.seq] = count
                    count += 1
                payload = latest[row.seq]
            again, fate = row.what == RETRANSMIT, fates.pop((row.host, row.number), ())
            found.append(
                Transmission(row.host, *row[3:], payload, again, row.time, tuple(fate))
            )
    if fates:  # arrivals that nobody saw being sent
        for row in rows:
            if row.what in _FATES and (left := fates.pop(_origin(row), None)):
                host = _origin(row)[0]
                found.append(Transmission(host, *row[3:], -1, False, None, tuple(left)))
        found.sort(key=lambda each: each.moment)
    return found


def _origin(row: Row) -> tuple[str, int]:
    """Who sent the packet that this fate is of, and its number there."""
    return row.host if row.what in _UNSEEN else OTHER[row.host], row.number


def rtt_samples(trace: Trace) -> list[tuple[float, float, bool]]:
    """Return (when, round trip, again) for the first ACK that names each packet [s].

    A round trip begins with the last sending. If the packet was sent again, the ACK may
    answer another copy: Karn's rule, RFC 6298 (3), leaves these out.
    """
    samples = []
    sent: dict[int, tuple[float, bool]] = {}
    for row in trace:
        if row.host != SENDER:
            continue
        if row.what in _SENDS:
            sent[row.seq] = row.time, row.what == RETRANSMIT
        elif row.what == ARRIVE and row.kind == ACK and row.seq in sent:
            sent_at, again = sent.pop(row.seq)
            samples.append((row.time, row.time - sent_at, again))
    return samples


def deliveries(
    rows: Sequence[Row], moves: list[Transmission]
) -> list[tuple[float, int]]:
    """Return (when, which payload) for every payload's delivery in a trace's rows [s].

    moves: its `transmissions`. A copy that a receiver hands over, too, is left out.
    What is delivered is the oldest that has arrived and was not delivered yet: true of
    receivers that keep order, and of those that hand over what comes. Where packets are
    coded, an arrival does not tell which payload it makes known: there receivers keep
    the order.
    """
    return [(row.time, payload) for row, payload in _deliveries(rows, moves)]


def _deliveries(
    rows: Sequence[Row], moves: list[Transmission]
) -> list[tuple[Row, int]]:
    if any(move.kind == DATA and move.seq < 0 for move in moves):
        plain = sorted({move.payload for move in moves if move.seq >= 0} - {-1})
        delivered = (row for row in rows if row.what == DELIVER)
        return list(zip(delivered, plain or count(), strict=False))
    payloads = {move.number: move.payload for move in moves if move.payload >= 0}
    if not payloads:  # nobody saw them being sent: a packet stands for its payload
        payloads = {move.number: move.number for move in moves if move.kind == DATA}
    found = []
    waiting: list[int] = []
    arrived: set[int] = set()
    for row in rows:
        if row.what == DELIVER and waiting:
            found.append((row, heappop(waiting)))
        elif row.host == RECEIVER and row.what in (ARRIVE, DUPLICATE):
            payload = payloads.get(row.number)
            if payload is not None and payload not in arrived:
                arrived.add(payload)
                heappush(waiting, payload)
    return found


def summarise(trace: Trace, rate: float | None = None) -> Summary:
    """Return the numbers of a run, whichever of its hosts kept the trace.

    rate: of the link, for the utilisation [bit/s].
    """
    rows, moves = list(trace), transmissions(trace)
    # A sender's link writes down what it lost on the way back, too.
    hosts = {row.host for row in rows if row.what not in _UNSEEN} | trace.names.keys()
    counts = Counter((row.what, row.kind) for row in rows)
    delivered = _deliveries(rows, moves)
    numbers: dict[str, Number] = {}
    if SENDER in hosts:
        numbers |= _at_sender(counts, rows)
        if once := [rtt for _, rtt, again in rtt_samples(trace) if not again]:
            numbers["mean_rtt"] = fmean(once)
    if RECEIVER in hosts:
        numbers |= {
            "acks": counts[SEND, ACK] + counts[RETRANSMIT, ACK],
            "lost_acks": counts[LOSS, ACK],
            "corrupted": counts[CORRUPT, DATA],
            "duplicated": counts[DUPLICATE, DATA],
            "delivered": len(delivered),
            "delivered_bytes": sum(row.size for row, _ in delivered),
        }
    if {SENDER, RECEIVER} <= hosts:
        numbers["vanished"] = sum(not move.fates for move in moves)
        numbers |= _delays(moves, delivered)
    if rows:
        ends = [row.time for row, _ in delivered] if RECEIVER in hosts else _acks(rows)
        duration = max(ends, default=rows[0].time) - rows[0].time
        numbers |= _speeds(duration, numbers, rate)
    return Summary(**numbers)


def _at_sender(counts: Counter[tuple[str, int]], rows: list[Row]) -> dict[str, Number]:
    new, again = counts[SEND, DATA], counts[RETRANSMIT, DATA]
    coded = [r for r in rows if r.what == SEND and r.kind == DATA and r.seq < 0]
    return {
        "sent": new + again,
        "retransmitted": again,
        "coded": len(coded),
        "lost_data": counts[LOSS, DATA],
        "overflowed": counts[OVERFLOW, DATA],
        "timeouts": sum(r.what == TIMEOUT and r.host == SENDER for r in rows),
        "transmissions_per_packet": (new + again) / new if new else None,
    }


def _delays(
    moves: list[Transmission], delivered: list[tuple[Row, int]]
) -> dict[str, Number]:
    first: dict[int, float] = {}
    for move in moves:
        first.setdefault(move.payload, move.moment)
    waits = sorted(row.time - first[payload] for row, payload in delivered)
    if not waits:
        return {}
    p95 = waits[ceil(95 * len(waits) / 100) - 1]
    return {"mean_delay": fmean(waits), "p95_delay": p95}


def _acks(rows: list[Row]) -> list[float]:
    """When payloads were acknowledged, as the sender saw it [s]."""
    found = []
    for row in rows:
        if row.kind == FIN:
            break  # the ACKs from here on are the FIN's
        if row.what == ARRIVE and row.kind == ACK:
            found.append(row.time)
    return found


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
