"""Fast: a paced sender that asks for ranges, and mends its tail with mixed packets."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from math import sqrt
from typing import Final

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, TIMESTAMP_PERIOD, Packet
from p2plab.fast.coding import MOST, Unmixer, mixed, to_number
from p2plab.fast.rate_control import PathRate

ACK_EVERY: Final = 8  # packets, or
ACK_DELAY: Final = 0.001  # until an ACK is sent [s]
REORDERING: Final = 0.25  # of a round trip that a packet may be overtaken by
REPEATED: Final = 16  # after a timeout: one alone may meet the same burst of losses
MAX_RUNS: Final = 300  # in an ACK, so that it fits into an Ethernet frame
_RUNS: Final = struct.Struct("!HH")


@dataclass(slots=True)
class FastSender:
    """Send new packets at the path's rate, repeat lost ones, and mix what is left.

    Three ideas keep the link busy until the end:
    - An ACK tells in ranges what has arrived. Whatever was sent well before the newest
      of these, and is not among them, is lost (RFC 9002, section 6.1).
    - The driver spaces packets at `pacing_rate`, which `path` learns.
    - When everything was sent once, nobody knows yet what the last round trip has lost.
      Mixes of all that is unacknowledged fill this time: each replaces any one packet.
      They have numbers of their own, from -1 downwards.
    The timer, the last resort, repeats the oldest packets, whose ACKs tell the rest.

    rtt: only learns from timestamps: an ACK for many packets is no ACK for one.
    window: packets in flight at most, also of the path's own opinion.
    """

    rtt: RttEstimator
    path: PathRate
    window: int
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire for the first time
    sent: int = 0  # packets put on the wire, repetitions and mixes too
    losses: int = 0  # packets found lost
    arrivals: int = 0  # packets acknowledged
    mixes: int = 0
    newest: float = -1.0  # when the newest packet that has arrived was sent [s]
    in_flight: dict[int, tuple[float, int]] = field(default_factory=dict, repr=False)
    lost: dict[int, None] = field(default_factory=dict)  # to be sent again, in order
    mixed_at: deque[float] = field(default_factory=deque, repr=False)  # in flight
    numbers: dict[int, int] = field(default_factory=dict, repr=False)  # to be mixed
    deadline: float | None = None  # when the timer, the last resort, fires [s]
    clock: tuple[float, float] = -1.0, -1.0  # now, and how it is stamped [s]
    expected: int = 0  # payloads that will come, as far as we know

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads) >= self.expected

    @property
    def pacing_rate(self) -> float | None:
        return self.path.pacing_rate

    def expect_payloads(self, count: int) -> None:
        self.expected = count
        self.path.expect_payloads(count)

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.path.measure(payload)

    def next_packet(self, now: float) -> Packet | None:
        seq = self.next_seq_num
        if self.lost:
            seq = next(iter(self.lost))
            del self.lost[seq]
        elif seq == len(self.payloads):
            return self._mix(now) if seq >= self.expected else None
        elif seq >= self.send_base + self.window:
            return None  # the receiver may have no room for it
        elif len(self.in_flight) >= self.path.size:
            return None  # the path has none
        else:
            self.next_seq_num = seq + 1
        self.in_flight[seq] = now, self.sent
        payload = self.payloads[seq]
        if max(self.expected, len(self.payloads)) - seq <= MOST:
            self.numbers[seq] = to_number(payload)  # for mixes; now there is no hurry
        return self._packet(seq, payload, now)

    def _packet(self, seq: int, payload: bytes, now: float) -> Packet:
        self.sent += 1
        if self.deadline is None:
            self.deadline = now + self.rtt.rto
        if now != self.clock[0]:  # to round takes long, and many leave at once
            self.clock = now, round(now, 6)
        return Packet(DATA, seq, payload, self.clock[1])

    def _mix(self, now: float) -> Packet | None:
        """Mix all that is unacknowledged, as long as that is likely to be of use."""
        in_flight = len(self.in_flight)
        share = self.losses / (self.losses + self.arrivals + 1)
        expected = share * in_flight
        plenty = (expected + 2 * sqrt(expected) + 2) / (1 - share) + in_flight / 4
        if not in_flight or len(self.mixed_at) >= plenty:
            return None
        self.mixed_at.append(now)
        self.mixes += 1
        them = range(max(self.send_base, self.next_seq_num - MOST), self.next_seq_num)
        content = mixed(-self.mixes, them.start, len(them), self.numbers)
        return self._packet(-self.mixes, content, now)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK:
            return
        order, new = -1, 0
        for run in self._acknowledged(packet):
            for seq in run:
                sent = self.in_flight.pop(seq, None)
                if sent is not None:
                    order = max(order, sent[1])
                elif seq in self.lost:
                    del self.lost[seq]  # it had only been late
                else:
                    continue  # we knew that
                new += 1
        self.arrivals += new
        self.send_base = max(self.send_base, min(packet.seq + 1, self.next_seq_num))
        if order >= 0:
            self.rtt.on_ack(order, now, packet.ts_ecr)
            self.deadline = now + self.rtt.rto if self.in_flight else None
            self.path.on_ack(order, new, packet, now)
        if packet.ts_ecr is not None:
            self._find_lost(packet.ts_ecr, now)
        if self.send_base == self.next_seq_num:
            self.numbers.clear()

    def _acknowledged(self, packet: Packet) -> Iterator[range]:
        """Yield what an ACK names: all up to its number, then runs of them."""
        yield range(self.send_base, min(packet.seq + 1, self.next_seq_num))
        seq = packet.seq + 1
        whole = len(packet.payload) // _RUNS.size * _RUNS.size
        for missing, here in _RUNS.iter_unpack(packet.payload[:whole]):
            seq += missing
            yield range(max(seq, 0), min(seq + here, self.next_seq_num))
            seq += here

    def _find_lost(self, ts_ecr: float, now: float) -> None:
        """Give up what was sent well before a packet that has arrived."""
        self.newest = max(self.newest, ts_ecr)
        overtaken = self.newest - REORDERING * (now - ts_ecr)
        while self.mixed_at and self.mixed_at[0] < overtaken:
            self.mixed_at.popleft()
        flight = self.in_flight.items()
        late = takewhile(lambda each: each[1][0] < overtaken, flight)
        for seq, _ in list(late):
            del self.in_flight[seq]
            self.lost[seq] = None
            self.losses += 1
        if not self.in_flight:
            self.deadline = None
            self.mixed_at.clear()

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        for oldest in list(islice(self.in_flight, REPEATED)):
            del self.in_flight[oldest]
            self.lost[oldest] = None
        self.deadline = None


@dataclass(slots=True)
class FastReceiver:
    """Keep what arrives early, mend what is missing, and acknowledge many at once.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    expected_seq_num: int = 0  # oldest packet that has not arrived
    waiting: int = 0  # packets that have come since the last ACK
    newest: float | None = None  # when the newest of all packets here was sent [s]
    early: dict[int, bytes] = field(default_factory=dict, repr=False)
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    unmixer: Unmixer = field(init=False, repr=False)
    deadline: float | None = None  # when an ACK can wait no longer [s]

    def __post_init__(self) -> None:
        self.unmixer = Unmixer(self.window)

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        if self.waiting < ACK_EVERY:
            return None
        self.waiting = 0
        self.deadline = None
        # The stamp tells by our clock how quickly packets arrive here.
        last, runs = self.expected_seq_num - 1, self._runs()
        return Packet(ACK, last, runs, ts_val=round(now, 6), ts_ecr=self.newest)

    def on_packet(self, packet: Packet, now: float) -> None:
        kind, seq, payload, ts_val, _ = packet
        if kind != DATA:
            return
        # Many have left at once, with one stamp: most are not worth a closer look.
        if (
            ts_val != self.newest
            and ts_val is not None
            and is_later(ts_val, self.newest)
        ):
            self.newest = ts_val
        self.waiting += 1
        if self.deadline is None:
            self.deadline = now + ACK_DELAY
        known: list[tuple[int, bytes]] = []
        if seq < 0:
            known = self.unmixer.add_mix(seq, payload)
        elif self._keep(seq, payload):
            known = self.unmixer.add_packet(seq, payload)
        else:
            self.waiting = ACK_EVERY  # that it is here, the sender does not know
        for mended in known:
            self._keep(*mended)

    def _keep(self, seq: int, payload: bytes) -> bool:
        """Take a packet that is new and in the window; hand over what is in order."""
        expected = self.expected_seq_num
        if seq != expected:
            new = expected < seq < expected + self.window and seq not in self.early
            if new:
                self.early[seq] = payload
            return new
        self.inbox.append(payload)
        expected += 1
        while expected in self.early:
            self.inbox.append(self.early.pop(expected))
            expected += 1
        self.expected_seq_num = expected
        return True

    def _runs(self) -> bytes:
        """Tell what is here after the expected one: so many missing, so many here."""
        runs: list[tuple[int, int]] = []
        begin = end = told = self.expected_seq_num
        for seq in [*sorted(self.early), -1]:
            if seq == end:
                end += 1
                continue
            if end > begin:
                runs.append((begin - told, end - begin))
                told = end
            begin, end = seq, seq + 1
        fit = takewhile(lambda run: max(run) < 1 << 16, runs[:MAX_RUNS])
        return b"".join(_RUNS.pack(*run) for run in fit)

    def on_timeout(self, now: float) -> None:
        self.waiting = ACK_EVERY  # it has waited long enough
        self.deadline = None


def is_later(ts_val: float, other: float | None) -> bool:
    """Whether a stamp is the later of two; they begin anew after TIMESTAMP_PERIOD."""
    if other is None:
        return True
    return 0 < (ts_val - other) % TIMESTAMP_PERIOD < TIMESTAMP_PERIOD / 2
