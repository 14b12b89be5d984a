"""What a run comes to in numbers, read from its trace alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import compress, product
from operator import itemgetter
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
from p2plab.measure.summary import Number, Summary

_Counts = Counter[tuple[str, int]]  # what, kind

_SENDS: Final = frozenset((SEND, RETRANSMIT))
_FATES: Final = frozenset((ARRIVE, LOSS, OVERFLOW, CORRUPT, DUPLICATE))
_UNSEEN: Final = (LOSS, OVERFLOW)  # by whoever it was sent to
_DATA_SENT: Final = frozenset(product(_SENDS, [DATA]))
_DATA_HEARD: Final = frozenset(product([ARRIVE, DUPLICATE], [DATA]))
_COMES: Final = frozenset(product([RECEIVER], [ARRIVE, DUPLICATE, DELIVER]))

_Useful = tuple[float, int, int]  # when, which payload, bytes


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
    rows = list(trace.rows)
    fates: dict[tuple[str, int], list[Fate]] = {}
    for row in rows:
        if row[2] in _FATES:
            fates.setdefault(_origin(row), []).append((row[0], row[2]))
    data = (row for row in rows if row[2:4] in _DATA_SENT)
    payloads = _payloads(map(itemgetter(2, 4, 6), data))
    found = []
    for time, host, what, kind, seq, size, number in rows:
        if what not in _SENDS:
            continue
        payload = payloads[number] if kind == DATA else -1
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
    return host if what in _UNSEEN else OTHER[host], number


class Columns(NamedTuple):
    """The fields of all rows of a trace, a sequence for each field."""

    times: Sequence[float]
    hosts: Sequence[str]
    whats: Sequence[str]
    kinds: Sequence[int]
    seqs: Sequence[int]
    sizes: Sequence[int]
    numbers: Sequence[int]


def columns(trace: Trace) -> Columns:
    """Return the rows of a trace, column by column."""
    return Columns(*(zip(*trace, strict=True) if trace.rows else [()] * 7))


def rtt_samples(trace: Trace) -> list[tuple[float, float, bool]]:
    """Return (when, round trip, again) for the first ACK that names each packet [s].

    A round trip begins with the last sending. If the packet was sent again, the ACK may
    answer another copy: Karn's rule, RFC 6298 (3), leaves these out.
    """
    samples = []
    sent: dict[int, tuple[float, bool]] = {}
    it = columns(trace)
    rows = zip(it.times, it.whats, it.kinds, it.seqs, strict=True)
    for time, what, kind, seq in compress(rows, map(SENDER.__eq__, it.hosts)):
        if what in _SENDS:
            sent[seq] = time, what == RETRANSMIT
        elif what == ARRIVE and kind == ACK and seq in sent:
            sent_at, again = sent.pop(seq)
            samples.append((time, time - sent_at, again))
    return samples


def deliveries(
    rows: Sequence[Row], moves: list[Transmission]
) -> list[tuple[float, int]]:
    """Return (when, which payload) for every payload's delivery in a trace's rows [s].

    moves: its `transmissions`. A copy that a receiver hands over, too, is left out.
    What is delivered is the oldest that has arrived and was not delivered yet: true of
    receivers that keep order, and of those that hand over what comes.
    """
    payloads = {move.number: move.payload for move in moves if move.payload >= 0}
    if not payloads:  # nobody saw them being sent: a packet stands for its payload
        payloads = {move.number: move.number for move in moves if move.kind == DATA}
    found = _deliveries(map(itemgetter(0, 1, 2, 6, 5), rows), payloads)
    return [(time, index) for time, index, _ in found]


def _deliveries(
    moments: Iterable[tuple[float, str, str, int, int]], payloads: dict[int, int]
) -> Iterator[_Useful]:
    waiting: list[int] = []
    arrived: set[int] = set()
    for time, host, what, number, size in moments:
        if what == DELIVER and waiting:
            yield time, heappop(waiting), size
        elif host == RECEIVER and what in (ARRIVE, DUPLICATE) and number in payloads:
            index = payloads[number]
            if index not in arrived:
                arrived.add(index)
                heappush(waiting, index)


def _payloads(data: Iterable[tuple[str, int, int]]) -> dict[int, int]:
    """Which payload each DATA packet carried, by the packet's number.

    data: what, seq and number of each.
    """
    payloads: dict[int, int] = {}
    latest: dict[int, int] = {}  # a number on the wire -> the payload it now stands for
    count = 0
    for what, seq, number in data:
        if what == SEND or seq not in latest:
            latest[seq] = count
            count += 1
        payloads[number] = latest[seq]
    return payloads


def summarise(trace: Trace, rate: float | None = None) -> Summary:
    """Return the numbers of a run, whichever of its hosts kept the trace.

    rate: of the link, for the utilisation [bit/s].
    """
    it = columns(trace)
    seen = Counter(zip(it.hosts, it.whats, it.kinds, strict=True))
    # A sender's link writes down what it lost on the way back, too.
    told = {host for host, what, _ in seen if what not in _UNSEEN}
    hosts = trace.names.keys() | told
    counts: _Counts = Counter()
    for (_, what, kind), times in seen.items():
        counts[what, kind] += times
    numbers: dict[str, Number] = {}
    if SENDER in hosts:
        numbers |= _at_sender(counts, it)
        numbers["timeouts"] = seen[SENDER, TIMEOUT, 0]
        if once := [rtt for _, rtt, again in rtt_samples(trace) if not again]:
            numbers["mean_rtt"] = fmean(once)
    if RECEIVER in hosts:
        numbers |= _at_receiver(counts)
        useful, first = _useful(it, SENDER in hosts)
        numbers["delivered"] = len(useful)
        numbers["delivered_bytes"] = sum(size for _, _, size in useful)
    if {SENDER, RECEIVER} <= hosts:
        numbers["vanished"] = _vanished(it, counts)
        if waits := sorted(time - first[index] for time, index, _ in useful):
            numbers["mean_delay"] = fmean(waits)
            numbers["p95_delay"] = waits[-(-95 * len(waits) // 100) - 1]
    if it.times:
        ends = [time for time, _, _ in useful] if RECEIVER in hosts else _acks(it)
        duration = max(ends, default=it.times[0]) - it.times[0]
        numbers |= _speeds(duration, numbers, rate)
    return Summary(**numbers)


# A sweep asks for nothing but these, so what follows makes neither Transmissions nor
# rows: they would take as long as the runs. `compress` picks some at the speed of C.


def _vanished(it: Columns, counts: _Counts) -> int:
    """Count the packets that were seen to be sent, and have no fate at all."""
    if not any(what in (CORRUPT, DUPLICATE) for what, _ in counts):  # no copies, then
        sends = sum(n for (what, _), n in counts.items() if what in _SENDS)
        fates = sum(n for (what, _), n in counts.items() if what in _FATES)
        return max(0, sends - fates)
    sent, fated = set(), set()  # by number; the receiver's are below 0
    for host, what, number in zip(it.hosts, it.whats, it.numbers, strict=True):
        if what in _SENDS:
            sent.add(number if host == SENDER else ~number)
        elif what in _FATES:
            by_sender = (host == SENDER) == (what in _UNSEEN)
            fated.add(number if by_sender else ~number)
    return len(sent - fated)


def _useful(it: Columns, sends: bool) -> tuple[list[_Useful], dict[int, float]]:
    """Return each payload's delivery, and when each was first sent [s].

    sends: whether those were seen. If not, a packet stands for its payload, and only
        the copies that the network makes are known.
    """
    wanted = _DATA_SENT if sends else _DATA_HEARD
    data = [*map(wanted.__contains__, zip(it.whats, it.kinds, strict=True))]
    numbers = list(compress(it.numbers, data))
    payloads = dict(zip(numbers, numbers, strict=True))
    if sends:
        sent = compress(zip(it.whats, it.seqs, it.numbers, strict=True), data)
        payloads = _payloads(sent)
    first: dict[int, float] = {}
    for number, time in zip(numbers, compress(it.times, data), strict=True):
        first.setdefault(payloads[number], time)
    comes = map(_COMES.__contains__, zip(it.hosts, it.whats, strict=True))
    moments = zip(it.times, it.hosts, it.whats, it.numbers, it.sizes, strict=True)
    return list(_deliveries(compress(moments, comes), payloads)), first


def _at_sender(counts: _Counts, it: Columns) -> dict[str, Number]:
    below = compress(zip(it.whats, it.kinds, strict=True), map((0).__gt__, it.seqs))
    new, again = counts[SEND, DATA], counts[RETRANSMIT, DATA]
    return {
        "sent": new + again,
        "retransmitted": again,
        "mixes": Counter(below)[SEND, DATA],
        "lost_data": counts[LOSS, DATA],
        "overflowed": counts[OVERFLOW, DATA],
        "transmissions_per_packet": (new + again) / new if new else None,
    }


def _at_receiver(counts: _Counts) -> dict[str, Number]:
    return {
        "acks": counts[SEND, ACK] + counts[RETRANSMIT, ACK],
        "lost_acks": counts[LOSS, ACK],
        "corrupted": counts[CORRUPT, DATA],
        "duplicated": counts[DUPLICATE, DATA],
    }


def _acks(it: Columns) -> Iterator[float]:
    """When payloads were acknowledged, as the sender saw it [s]."""
    for time, what, kind in zip(it.times, it.whats, it.kinds, strict=True):
        if kind == FIN:
            return  # the ACKs from here on are the FIN's
        if (what, kind) == (ARRIVE, ACK):
            yield time


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
