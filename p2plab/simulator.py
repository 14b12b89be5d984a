"""Two machines and a link in virtual time: quick, and repeatable to the last bit."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from p2plab.driver import Host, wire_size
from p2plab.endpoint import Receiver, Sender
from p2plab.errors import BrokenContract, CorruptPacket, TransferStalled
from p2plab.link import CORRUPT, LOSS, OVERFLOW, AnyLink, Channel, Link
from p2plab.packet import Packet, damaged, decode, encode
from p2plab.trace import RECEIVER, SENDER, Trace

GOODBYE: Final = 60.0  # [s] more, for a sender that is done
PATIENCE: Final = 600.0  # [s] of virtual time; ten times the largest RTO


@dataclass(slots=True)
class Run:
    """What came of a simulated transfer.

    delivered: the payloads that the receiver handed over, in its order.
    time: when the last packet arrived; a receiver that lingers is not counted [s].
    done: whether the sender is done.
    """

    trace: Trace
    delivered: list[bytes] = field(repr=False)
    time: float
    done: bool


class Simulation:
    """Two hosts, a channel each way, and a clock that jumps to the next event.

    The arguments are those of `simulate`.
    """

    def __init__(
        self,
        sender: Sender,
        receiver: Receiver,
        link: AnyLink,
        back: AnyLink,
        trace: Trace | None,
        on_payload: Callable[[bytes], object] | None = None,
        wire: bool = False,
    ) -> None:
        self.now = 0.0
        self.heard_at = 0.0  # when a packet last arrived
        self.trace = trace
        self.sender = Host(sender, SENDER, trace)
        self.receiver = Host(receiver, RECEIVER, trace, on_payload)
        self.wire = wire
        self._ways: tuple[tuple[Host, Channel, Host], ...] = (
            (self.sender, link.forward(), self.receiver),
            (self.receiver, back.backward(), self.sender),
        )
        # arrivals: (when, tie-break, at whom, what, packet, number)
        self._arrivals: list[tuple[float, int, int, str, Packet, int]] = []
        self._order = count()

    def step(self) -> bool:
        """Jump to the next event and let it happen; False when there is none."""
        way, when = -1, self._arrivals[0][0] if self._arrivals else None
        for index, (host, _, _) in enumerate(self._ways):
            wake_at = host.wake_at()
            if wake_at is not None and (when is None or wake_at < when):
                way, when = index, wake_at
        if when is None:
            return False
        self.now = max(self.now, when)
        if way < 0:
            _, _, way, what, packet, number = heapq.heappop(self._arrivals)
            self.heard_at = self.now
            self._arrive(self._ways[way][0], what, packet, number)
        else:
            self._ways[way][0].fire(self.now)
        self.react(way)
        return True

    def react(self, way: int) -> None:
        """Let a host deliver and send: once at the start, then after each event."""
        host, channel, _ = self._ways[way]
        now = self.now
        host.deliver(now)
        for packet in host.pull(now):
            number = host.number - 1
            for when, what in channel.transmit(wire_size(packet), now):
                if what in (LOSS, OVERFLOW):
                    self._lose(host, what, packet, number)
                else:
                    arrival = (when, next(self._order), 1 - way, what, packet, number)
                    heapq.heappush(self._arrivals, arrival)
        host.note(now)

    def _lose(self, host: Host, what: str, packet: Packet, number: int) -> None:
        if self.trace is not None:
            kind, seq, payload, _, _ = packet
            row = (self.now, host.role, what, +kind, seq, len(payload), number)
            self.trace.rows.append(row)

    def _arrive(self, host: Host, what: str, packet: Packet, number: int) -> None:
        if self.wire:
            datagram = encode(packet, number=number)
            try:
                packet, _, number = decode(
                    damaged(datagram, number) if what == CORRUPT else datagram
                )
            except CorruptPacket:
                what = CORRUPT
        if what == CORRUPT:
            host.damage(packet, self.now, number)
        else:
            host.feed(packet, self.now, what, number)


def simulate(
    sender: Sender,
    receiver: Receiver,
    payloads: Iterable[bytes],
    link: AnyLink | None = None,
    *,
    back: AnyLink | None = None,
    patience: float = PATIENCE,
    record: bool = True,
    on_payload: Callable[[bytes], object] | None = None,
    wire: bool = False,
) -> Run:
    """Move `payloads` from sender to receiver in virtual time; same inputs, same run.

    link: the network, `Link()` if not given; back: the way back, if it is another one.
    patience: virtual time without a delivery after which to give up [s].
    record: keep a trace; without one the trace stays empty.
    on_payload: called with each payload as it is delivered.
    wire: send every packet as bytes, damage for real, and check the checksum.
    Raises TransferStalled when patience ends, and BrokenContract when a machine breaks
    a promise; both have the Run so far as their `partial`.
    """
    link = link or Link()
    trace = Trace({"link": repr(link)})
    delivered: list[bytes] = []
    moved_at = 0.0

    def deliver(payload: bytes) -> None:
        nonlocal moved_at
        moved_at = simulation.now
        delivered.append(payload)
        if on_payload is not None:
            on_payload(payload)

    simulation = Simulation(
        sender, receiver, link, back or link, trace if record else None, deliver, wire
    )
    for payload in payloads:
        simulation.sender.send(payload)
    if hasattr(sender, "finish"):
        sender.finish()
    try:
        simulation.react(0)
        simulation.react(1)
        while simulation.step():
            waited = simulation.now - moved_at
            if waited > patience + (GOODBYE if sender.done else 0):
                raise _stalled(Run(trace, delivered, simulation.now, False), patience)
    except BrokenContract as why:
        why.partial = Run(trace, delivered, simulation.now, False)
        raise
    return Run(trace, delivered, simulation.heard_at, sender.done)


def _stalled(run: Run, patience: float) -> TransferStalled:
    return TransferStalled(
        f"nothing was delivered for {patience:g} s of virtual time; "
        f"{len(run.delivered)} payloads had arrived. Look at the trace in `partial`: "
        f"does anything still get through, and does the sender send it again?",
        run,
    )
