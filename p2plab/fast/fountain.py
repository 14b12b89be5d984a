"""Fountain: any sufficiently many packets rebuild everything, whichever were lost."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import ACK, DATA, MAX_PAYLOAD, Packet
from p2plab.errors import P2PLabError
from p2plab.fast.fast import ACK_EVERY, DelayedAcks
from p2plab.fast.rate_control import RateController

NUMBER: Final = 4  # bytes of a symbol's number (RFC 6330, section 3.2)
SYMBOL: Final = 8  # bytes of which a symbol has a multiple (RFC 6330, section 4.3)
MAX_BLOCK: Final = 50_000_000  # bytes
MAX_SYMBOLS: Final = 56_403  # of a source block of the code (RFC 6330, section 5.1.2)
FOR_EACH: Final = 4  # symbols that a payload, however small, takes at most
NEEDS_RAPTORQ: Final = (
    "The fountain protocol needs the package raptorq, which is not installed: "
    ".venv/bin/python -m pip install raptorq (on Windows .venv\\Scripts\\python, with "
    "conda python), then start again (in a notebook %pip install raptorq, then restart "
    "the kernel)"
)
_HEAD: Final = struct.Struct("!IIH")  # which block, its bytes, and those of a symbol
_COUNT: Final = struct.Struct("!II")  # blocks that are complete, packets of the next
_SIZE: Final = struct.Struct("!H")  # of a payload, in front of it


def raptorq() -> Any:
    """Import the package that computes the code; raises P2PLabError without it."""
    try:
        import raptorq
    except ImportError:
        raise P2PLabError(NEEDS_RAPTORQ) from None
    return raptorq


@dataclass(slots=True)
class FountainSender:
    """Send a block and repair packets for it until the receiver says: enough.

    A block is what is queued when the one before is done, at most `window` payloads.
    Source: RaptorQ, RFC 6330. No packet is ever asked for, and none is sent again:
    lost ones are replaced by as many others, of which the code has more than enough.

    Packets have numbers of their own, from -1 downwards: none is a payload's.

    rtt: only learns from timestamps, because no number is acknowledged for itself.
    """

    rtt: RttEstimator
    path: RateController
    window: int
    payloads: deque[bytes] = field(default_factory=deque, repr=False)  # still to come
    packets: list[bytes] = field(default_factory=list, repr=False)  # of this block
    send_base: int = 0  # payloads known to have arrived
    held: int = 0  # payloads in this block
    block: int = 0
    needed: int = 0  # packets that rebuild this block, nearly always
    arrived: int = 0  # of this block, as far as we know
    next_seq_num: int = 0  # packets sent, in all blocks
    begun_at: int = 0  # the first one of this block
    newest: int = -1  # the last one known to have arrived
    deadline: float | None = None

    def __post_init__(self) -> None:
        raptorq()

    @property
    def done(self) -> bool:
        return not self.payloads and not self.packets

    @property
    def pacing_rate(self) -> float | None:
        return self.path.pacing_rate

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.path.measure(payload)

    def next_packet(self, now: float) -> Packet | None:
        if not self.packets and self.payloads:
            self._begin_block()
        in_flight = self.next_seq_num - 1 - self.newest
        if (
            not self.packets
            or in_flight >= self.path.size
            or not self._short(in_flight)
        ):
            return None
        seq, at = self.next_seq_num, self.next_seq_num - self.begun_at
        self.next_seq_num += 1
        if self.deadline is None:
            self.deadline = now + self.rtt.rto
        content = self.packets[at % len(self.packets)]
        return Packet(DATA, -1 - seq, content, ts_val=round(now, 6))

    def _short(self, in_flight: int) -> bool:
        """Whether what is on its way may not be enough."""
        known = self.next_seq_num - self.begun_at - in_flight
        share = (self.arrived + 1) / (max(known, self.arrived) + 1)
        share = max(share, 0.5)  # a network that is down needs no more than a few
        expected = self.arrived + in_flight * share
        spread = 2 * sqrt(in_flight * share * (1 - share)) + in_flight / 8
        return expected < self.needed + 2 + spread

    def _begin_block(self) -> None:
        count = min(len(self.payloads), self.window)
        taken = [self.payloads.popleft() for _ in range(count)]
        data = b"".join(_SIZE.pack(len(each)) + each for each in taken)
        # With its headers, a packet is no longer than the longest payload.
        room = max(map(len, taken)) - _HEAD.size - NUMBER
        size = max(room // SYMBOL, 1) * SYMBOL
        self.needed = -(-len(data) // size)
        encoder = raptorq().Encoder.with_defaults(data, size)
        head = _HEAD.pack(self.block, len(data), size)
        repair = encoder.get_encoded_packets(self.needed // 2 + 16)
        self.packets = [head + each for each in repair]
        self.held, self.arrived, self.begun_at = count, 0, self.next_seq_num

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or len(packet.payload) != _COUNT.size:
            return
        complete, arrived = _COUNT.unpack(packet.payload)
        news = min(-1 - packet.seq, self.next_seq_num - 1) - self.newest
        if news > 0:
            self.newest += news
            self.rtt.on_ack(self.newest, now, packet.ts_ecr)
            self.path.on_ack(self.newest, news, packet, now)
            self.deadline = now + self.rtt.rto
        if complete == self.block and self.packets:
            self.arrived = max(self.arrived, arrived)
        elif complete == self.block + 1 and self.packets:
            self.block, self.packets, self.deadline = complete, [], None
            self.send_base += self.held
            self.newest = self.next_seq_num - 1

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.newest = self.next_seq_num - 1  # whatever was on its way has got lost
        self.deadline = None


@dataclass(slots=True)
class FountainReceiver(DelayedAcks):
    """Collect packets of a block until it can be rebuilt.

    window: payloads of a block; more than that nobody has room for.
    """

    complete: int = 0  # blocks
    last: int = -1  # of all that were sent, the last packet that has arrived
    seen: set[bytes] = field(default_factory=set, repr=False)  # symbols' numbers
    length: int = 0  # of this block [bytes]
    size: int = 0  # of one of its symbols [bytes]
    decoder: list[Any] = field(default_factory=list, repr=False)  # this block's one

    def __post_init__(self) -> None:
        raptorq()

    def _acknowledge(self) -> tuple[int, bytes]:
        return -1 - self.last, _COUNT.pack(self.complete, len(self.seen))

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != DATA or len(packet.payload) < _HEAD.size + NUMBER + 1:
            return
        self._note(packet.ts_val, now)
        self.last = max(self.last, -1 - packet.seq)
        block, length, size = _HEAD.unpack_from(packet.payload)
        symbol = packet.payload[_HEAD.size :]
        if block == self.complete and symbol[:NUMBER] not in self.seen:
            self._collect(symbol, length, size)

    def _collect(self, symbol: bytes, length: int, size: int) -> None:
        if not self.decoder:
            most = self.window * min(MAX_PAYLOAD + _SIZE.size, FOR_EACH * size)
            if not size or size % SYMBOL or not 0 < length <= min(most, MAX_BLOCK):
                return
            self.length, self.size = length, size
            self.decoder = [raptorq().Decoder.with_defaults(length, size)]
        if (self.length, self.size) != (length, size) or len(symbol) != size + NUMBER:
            return
        if symbol[0] * MAX_SYMBOLS * size >= length:
            return  # of a source block that there is not, at which the decoder panics
        self.seen.add(symbol[:NUMBER])
        data = self.decoder[0].decode(symbol)
        if data is not None:
            self.complete += 1
            self.seen.clear()
            self.decoder.clear()
            self._hand_over(data)
            self.waiting = ACK_EVERY  # the sender may stop

    def _hand_over(self, data: bytes) -> None:
        at = 0
        while at + _SIZE.size <= len(data):  # or a liar has made it
            (size,) = _SIZE.unpack_from(data, at)
            self.inbox.append(data[at + _SIZE.size : at + _SIZE.size + size])
            at += _SIZE.size + size
