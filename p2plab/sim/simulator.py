"""Two machines and a link in virtual time: quick, and repeatable to the last bit."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.link import CORRUPT, LOSS, OVERFLOW, AnyLink, Link
from p2plab.core.packet import HEADER_SIZE, Packet, damaged, decode, encode
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.errors import BrokenContract, CorruptPacket, TransferStalled
from p2plab.sim.driver import Host

# when, tie-break, at whom, what, packet, number
_OnItsWay = tuple[float, int, int, str, Packet, int]

LOST: Final = frozenset((LOSS, OVERFLOW))
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

    __slots__ = ()

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
        self.now = 0.0
        host = WireHost if wire else Host
        self.sender = host(sender, SENDER, trace)
        self.receiver = host(receiver, RECEIVER, trace, on_payload)
        self._hosts = self.sender, self.receiver
        self._transmit = link.forward().transmit, back.backward().transmit
        # When each host wants to be woken. A machine's deadline moves only when it is
        # told something, so it is asked only then. At first, both may have to send.
        self._wakes = [0.0, 0.0]
        if not states:
            self.sender.trace = self.receiver.trace = None  # rows go there all the same
        # On their way to each host, the next one first. As nearly all keep their order,
        # a queue is quicker than a heap.
        self._ways: tuple[deque[_OnItsWay], deque[_OnItsWay]] = deque(), deque()
        self._order = 0  # of those that arrive at the same moment

    def wake(self, way: int) -> None:
        """Ask a host (0 sender, 1 receiver) what it has to send: it was told more."""
        self._wakes[way] = self.now

    def step(self) -> bool:
        """Jump to the next event and let it happen; False when there is none."""
        (back, forth), wakes = self._ways, self._wakes
        way = 0 if wakes[0] <= wakes[1] else 1
        coming = back if back and not (forth and forth[0] < back[0]) else forth
        arrives = bool(coming) and coming[0][0] <= wakes[way]
        if arrives:
            when, _, way, what, packet, number = coming.popleft()
        elif wakes[way] < math.inf:
            when = wakes[way]
        else:
            return False
        self.now = now = when if when > self.now else self.now
        host = self._hosts[way]
        if not arrives:
            host.fire(now)
        elif what != CORRUPT:
            host.feed(packet, now, what, number)
        else:
            host.damage(packet, now, number)
        self._pull(host, way, now)
        if host.trace is not None:
            host.note(now)
        wake_at = host.machine.deadline if host.paced is None else host.wake_at()
        wakes[way] = math.inf if wake_at is None else wake_at
        return True

    def _pull(self, host: Host, way: int, now: float) -> None:
        """Put on the link what a host sends now."""
        transmit, leaving = self._transmit[way], self._ways[1 - way]
        for sent in host.pull(now):
            number = host.number - 1
            for when, what in transmit(HEADER_SIZE + len(sent.payload), now):
                if what in LOST:
                    host.lose(sent, now, what, number)
                    continue
                self._order = order = self._order + 1
                arrival = (when, order, 1 - way, what, sent, number)
                if leaving and arrival < leaving[-1]:  # it overtakes another
                    insort(leaving, arrival)
                else:
                    leaving.append(arrival)


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
    on_payload: called with each payload as it is delivered.
    wire: send every packet as bytes, damage for real, and check the checksum.
    Raises TransferStalled when patience ends, and BrokenContract when a machine breaks
    a promise; both have the Run so far as their `partial`.
    """
    link = link or Link()
    trace = Trace({"link": repr(link)})
    delivered: list[bytes] = []
    deliver = delivered.append if on_payload is None else _both(delivered, on_payload)
    kept = trace if record else None
    simulation = Simulation(
        sender, receiver, link, back or link, kept, deliver, wire, states
    )
    payloads = list(payloads)
    simulation.sender.expect_payloads(len(payloads))
    simulation.sender.send(*payloads)
    if hasattr(sender, "finish"):
        sender.finish()
    try:
        give_up_at = patience
        while simulation.step():
            if simulation.now > give_up_at:
                give_up_at = simulation.receiver.moved_at + patience
                give_up_at += GOODBYE if sender.done else 0
                if simulation.now > give_up_at:
                    partial = Run(trace, delivered, simulation.now, False)
                    raise _stalled(partial, patience)
    except BrokenContract as why:
        why.partial = Run(trace, delivered, simulation.now, False)
        raise
    heard_at = max(simulation.sender.heard_at, simulation.receiver.heard_at)
    return Run(trace, delivered, heard_at, sender.done)


def _both(
    delivered: list[bytes], on_payload: Callable[[bytes], object]
) -> Callable[[bytes], None]:
    def deliver(payload: bytes) -> None:
        delivered.append(payload)
        on_payload(payload)

    return deliver


def _stalled(run: Run, patience: float) -> TransferStalled:
    why = TransferStalled(
        f"nothing was delivered for {patience:g} s of virtual time; "
        f"{len(run.delivered)} payloads had arrived. Does anything still get through, "
        f"and does the sender send it again?",
        run,
    )
    why.add_note("What happened until then is in the error's `partial.trace`.")
    return why
