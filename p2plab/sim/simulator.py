"""Two machines and a link in virtual time: quick, and repeatable to the last bit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import ClassVar, Final

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.link import CORRUPT, LOST, AnyLink, Link
from p2plab.core.packet import Packet, damaged, decode, encode
from p2plab.core.trace import RECEIVER, SENDER, TIMEOUT, Trace
from p2plab.errors import (
    BrokenContract,
    CorruptPacket,
    TransferStalled,
    TransferStopped,
)
from p2plab.sim.driver import Host, wire_size

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


class WireHost(Host):
    """A host that packets reach as the bytes of real datagrams."""

    def feed(self, packet: Packet, now: float, what: str, number: int) -> None:
        packet, _, number = decode(encode(packet, number=number))
        super().feed(packet, now, what, number)

    def damage(self, packet: Packet, now: float, number: int) -> None:
        try:
            found, _, number = decode(damaged(encode(packet, number=number), number))
        except CorruptPacket:
            super().damage(packet, now, number)
        else:
            super().feed(found, now, CORRUPT, number)  # nobody can know it


class Simulation:
    """Two hosts, a channel each way, and a clock that jumps to the next event.

    The arguments are those of `simulate`.
    """

    host: ClassVar[type[Host]] = Host

    def __init__(
        self,
        sender: Sender,
        receiver: Receiver,
        link: AnyLink,
        back: AnyLink,
        trace: Trace | None,
        on_payload: Callable[[bytes], object] | None = None,
        wire: bool = False,
        states: bool = True,
    ) -> None:
        make = WireHost if wire else self.host
        self.now = 0.0
        self.sender = make(sender, SENDER, trace, states=states)
        self.receiver = make(receiver, RECEIVER, trace, on_payload, states=states)
        self._hosts = self.sender, self.receiver
        self._channels = link.forward(), back.backward()
        # When each host wants to be woken. A machine's deadline moves only when it is
        # told something, so it is asked only then. At first, both may have to send.
        self._wake_at = [0.0, 0.0]
        # A heap of what is on its way: when it arrives, a number that keeps the order
        # of what arrives at the same moment, and at which host what arrives.
        self._arrivals: list[tuple[float, int, int, str, Packet, int]] = []
        self._order = 0

    def wake(self, way: int) -> None:
        """Ask a host (0 sender, 1 receiver) what it has to send: it was told more."""
        self._wake_at[way] = self.now

    def next_at(self) -> float:
        """Return when the next event is [s]; infinite when there is none."""
        return min(*self._wake_at, self._arrivals[0][0] if self._arrivals else inf)

    def step(self) -> bool:
        """Jump to the next event and let it happen; False when there is none."""
        wake_at = min(self._wake_at)
        if self._arrivals and self._arrivals[0][0] <= wake_at:  # before a timer
            when, _, way, what, packet, number = heappop(self._arrivals)
        elif wake_at < inf:
            when, way, what = wake_at, self._wake_at.index(wake_at), TIMEOUT
        else:
            return False
        if when > self.now:
            self.now = when
        now, host, channel = self.now, self._hosts[way], self._channels[way]
        if what == TIMEOUT:
            host.fire(now)
        elif what == CORRUPT:
            host.damage(packet, now, number)
        else:
            host.feed(packet, now, what, number)
        for sent in host.pull(now):
            number = host.number - 1
            for when, what in channel.transmit(wire_size(sent), now):
                if what in LOST:
                    host.record(sent, now, what, number)
                else:
                    self._order += 1
                    arrival = (when, self._order, 1 - way, what, sent, number)
                    heappush(self._arrivals, arrival)
        host.note(now)
        next_wake = host.wake_at()
        self._wake_at[way] = inf if next_wake is None else next_wake
        return True


def simulate(
    sender: Sender,
    receiver: Receiver,
    payloads: Iterable[bytes],
    link: AnyLink | None = None,
    *,
    back: AnyLink | None = None,
    patience: float = PATIENCE,
    record: bool = True,
    states: bool = True,
    on_payload: Callable[[bytes], object] | None = None,
    wire: bool = False,
) -> Run:
    """Move `payloads` from sender to receiver in virtual time; same inputs, same run.

    link: the network, `Link()` if not given; back: the way back, if it is another one.
    patience: virtual time without a delivery after which to give up [s].
    record: keep a trace; without one the trace stays empty. states: with the machines'
        own numbers in it, which no `summarise` asks for.
    on_payload: called with each payload as it is delivered; to end the run it may raise
        TransferStopped.
    wire: send every packet as bytes, damage for real, and check the checksum.
    Raises TransferStalled when patience ends, and BrokenContract when a machine breaks
    a promise; both have the Run so far as their `partial`.
    """
    link = link or Link()
    trace = Trace({"link": repr(link)})
    delivered: list[bytes] = []

    def deliver(payload: bytes) -> None:
        delivered.append(payload)
        if on_payload is not None:
            on_payload(payload)

    recorded = trace if record else None
    simulation = Simulation(
        sender, receiver, link, back or link, recorded, deliver, wire, states
    )
    simulation.sender.send(*payloads)
    if hasattr(sender, "finish"):
        sender.finish()
    try:
        with _no_search_for_cycles():
            give_up_at = patience
            while simulation.step():
                if simulation.now > give_up_at:
                    give_up_at = simulation.receiver.moved_at + patience
                    give_up_at += GOODBYE if sender.done else 0
                    if simulation.now > give_up_at:
                        partial = Run(trace, delivered, simulation.now, False)
                        raise _stalled(partial, patience)
    except (BrokenContract, TransferStopped) as why:
        why.partial = Run(trace, delivered, simulation.now, False)
        raise
    heard_at = max(simulation.sender.heard_at, simulation.receiver.heard_at)
    return Run(trace, delivered, heard_at, sender.done)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    # A run makes no cycles, but so many rows that Python's collector, which looks
    # through them again and again, would take a quarter of the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _stalled(run: Run, patience: float) -> TransferStalled:
    why = TransferStalled(
        f"nothing was delivered for {patience:g} s of virtual time; "
        f"{len(run.delivered)} payloads had arrived. Does anything still get through, "
        f"and does the sender send it again?",
        run,
    )
    why.add_note("What happened until then is in the error's `partial.trace`.")
    return why
