"""Fast: a paced sender that is told ranges, and mends its tail with coded packets."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice, takewhile
from math import sqrt
from typing import Final

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, TIMESTAMP_PERIOD, Packet
from p2plab.fast.coding import MAX_RANGE, Decoder, encode, to_number
from p2plab.fast.rate_control import RateController

ACK_EVERY: Final = 8  # packets, or
ACK_DELAY: Final = 0.001  # until an ACK is sent [s]
REORDERING: Final = 0.25  # of a round trip that a packet may be overtaken by
REPEATED: Final = 16  # after a timeout: one alone may meet the same burst of losses
MAX_RUNS: Final = 300  # in an ACK, so that it fits into an Ethernet frame
_RUNS: Final = struct.Struct("!HH")


@dataclass(slots=True)
class FastSender:
    """Send new packets at the path's rate, repeat lost ones, and code what is left.

    Three ideas keep the link busy until the end:
    - An ACK tells in ranges what has arrived. Whatever was sent well before the newest
      of these, and is not among them, is lost (RFC 9002, section 6.1).
    - The driver spaces packets at `pacing_rate`, which `path` learns.
    - When everything was sent once, nobody knows yet what the last round trip has lost.
      Coded packets of all that is unacknowledged fill this time: each replaces any one
      packet. They have numbers of their own, from -1 downwards.
    The timer, the last resort, repeats the oldest packets, whose ACKs tell the rest.

    rtt: only learns from timestamps: an ACK for many packets is no ACK for one.
    window: packets in flight at most, also of the path's own opinion.
    """

    rtt: RttEstimator
    path: RateController
    window: int
    payloads: list[bytes] = field(default_factory=list, repr=False)
    send_base: int = 0  # oldest packet not yet acknowledged
    next_seq_num: int = 0  # next packet to put on the wire for the first time
    sent: int = 0  # packets put on the wire, repeated and coded ones too
    losses: int = 0  # packets found lost
    arrivals: int = 0  # packets acknowledged
    coded: int = 0  # coded packets put on the wire
    newest: float = -1.0  # when the newest packet that has arrived was sent [s]
    in_flight: dict[int, tuple[float, int]] = field(default_factory=dict, repr=False)
    lost: dict[int, None] = field(default_factory=dict)  # to be sent again, in order
    coded_at: deque[float] = field(default_factory=deque, repr=False)  # in flight
    numbers: dict[int, int] = field(default_factory=dict, repr=False)  # to be coded
    deadline: float | None = None  # when the timer, the last resort, fires [s]

    @property
    def done(self) -> bool:
        return self.send_base == len(self.payloads)

    @property
    def pacing_rate(self) -> float | None:
        return self.path.pacing_rate

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.path.measure(payload)

    def next_packet(self, now: float) -> Packet | None:
        seq = self.next_seq_num
        if self.lost:
            seq = next(iter(self.lost))
            del self.lost[seq]
        elif seq == len(self.payloads):
            return self._coded_packet(now)
        elif seq >= self.send_base + self.window:
            return None  # the receiver may have no room for it
        elif len(self.in_flight) >= self.path.size:
            return None  # the path has none
        else:
            self.next_seq_num = seq + 1
        self.in_flight[seq] = now, self.sent
        payload = self.payloads[seq]
        if len(self.payloads) - seq <= MAX_RANGE:  # it may be coded, and soon
            self.numbers[seq] = to_number(payload)
        return self._packet(seq, payload, now)

    def _packet(self, seq: int, payload: bytes, now: float) -> Packet:
        self.sent += 1
        if self.deadline is None:
            self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, payload, round(now, 6))

    def _coded_packet(self, now: float) -> Packet | None:
        """Code all that is unacknowledged, as long as that is likely to be of use."""
        in_flight = len(self.in_flight)
        loss = self.losses / (self.losses + self.arrivals + 1)
        expected = loss * in_flight  # and a few more, if luck is bad
        plenty = (expected + 2 * sqrt(expected) + 2) / (1 - loss) + in_flight / 4
        if not in_flight or len(self.coded_at) >= plenty:
            return None
        self.coded_at.append(now)
        self.coded += 1
        first = max(self.send_base, self.next_seq_num - MAX_RANGE)
        count = self.next_seq_num - first
        content = encode(-self.coded, first, count, self.numbers)
        return self._packet(-self.coded, content, now)

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
        while self.coded_at and self.coded_at[0] < overtaken:
            self.coded_at.popleft()
        flight = self.in_flight.items()
        late = takewhile(lambda each: each[1][0] < overtaken, flight)
        for seq, _ in list(late):
            del self.in_flight[seq]
            self.lost[seq] = None
            self.losses += 1
        if not self.in_flight:
            self.deadline = None
            self.coded_at.clear()

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        for oldest in list(islice(self.in_flight, REPEATED)):
            del self.in_flight[oldest]
            self.lost[oldest] = None
        self.deadline = None


@dataclass(slots=True)
class DelayedAcks:
    """A receiver that acknowledges many packets at once.

    window: packets that may wait for an earlier one; the sender's window.
    """

    window: int
    waiting: int = 0  # packets that have come since the last ACK
    newest: float | None = None  # when the newest of all packets here was sent [s]
    inbox: deque[bytes] = field(default_factory=deque, repr=False)
    deadline: float | None = None  # when an ACK can wait no longer [s]

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft() if self.inbox else None

    def next_packet(self, now: float) -> Packet | None:
        if self.waiting < ACK_EVERY:
            return None
        self.waiting, self.deadline = 0, None
        seq, payload = self._acknowledge()
        # ts_val tells by our clock how quickly packets arrive here.
        return Packet(ACK, seq, payload, ts_val=round(now, 6), ts_ecr=self.newest)

    def _acknowledge(self) -> tuple[int, bytes]:
        """Return the number and the payload of an ACK for everything here."""
        raise NotImplementedError

    def _note(self, ts_val: float | None, now: float) -> None:
        """Note that a packet has come."""
        if ts_val is not None and is_later(ts_val, self.newest):
            self.newest = ts_val
        self.waiting += 1
        if self.deadline is None:
            self.deadline = now + ACK_DELAY

    def on_timeout(self, now: float) -> None:
        self.waiting = ACK_EVERY  # it has waited long enough
        self.deadline = None


@dataclass(slots=True)
class FastReceiver(DelayedAcks):
    """Keep what arrives early, and mend what is missing."""

    expected_seq_num: int = 0  # oldest packet that has not arrived
    early: dict[int, bytes] = field(default_factory=dict, repr=False)
    decoder: Decoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.window)

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA:
            return
        self._note(packet.ts_val, now)
        known: list[tuple[int, bytes]] = []
        if packet.seq < 0:
            known = self.decoder.add_coded(packet.seq, packet.payload)
        elif self._keep(packet.seq, packet.payload):
            known = self.decoder.add_packet(packet.seq, packet.payload)
        else:
            self.waiting = ACK_EVERY  # that it is here, the sender does not know
        for mended in known:
            self._keep(*mended)

    def _keep(self, seq: int, payload: bytes) -> bool:
        """Take a packet that is new and in the window; hand over what is in order."""
        expected = self.expected_seq_num
        if not expected <= seq < expected + self.window or seq in self.early:
            return False
        self.early[seq] = payload
        while self.expected_seq_num in self.early:
            self.inbox.append(self.early.pop(self.expected_seq_num))
            self.expected_seq_num += 1
        return True

    def _acknowledge(self) -> tuple[int, bytes]:
        return self.expected_seq_num - 1, self._runs()

    def _runs(self) -> bytes:
        """Tell what is here after the expected one: so many missing, so many here."""
        runs: list[bytes] = []
        end = self.expected_seq_num  # of the run before
        early = enumerate(sorted(self.early))
        for _, run in groupby(early, lambda each: each[1] - each[0]):
            here = [seq for _, seq in run]
            missing = here[0] - end
            if max(missing, len(here)) >= 1 << 16 or len(runs) == MAX_RUNS:
                break
            runs.append(_RUNS.pack(missing, len(here)))
            end = here[-1] + 1
        return b"".join(runs)


def is_later(ts_val: float, other: float | None) -> bool:
    """Whether a stamp is the later of two; they begin anew after TIMESTAMP_PERIOD."""
    if other is None:
        return True
    return 0 < (ts_val - other) % TIMESTAMP_PERIOD < TIMESTAMP_PERIOD / 2
