"""An artificial link in front of a real socket: what it does to a flow's packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from itertools import count

from p2plab.core.link import ARRIVE, CORRUPT, LOSS, OVERFLOW, AnyLink, Channel, Link
from p2plab.core.packet import MACHINE_KINDS, Numbered, Packet, damaged
from p2plab.core.trace import OTHER
from p2plab.sim.driver import wire_size

Note = Callable[
    [float, str, str, Packet, int], None
]  # when, host, what, packet, number


def channels(
    link: AnyLink | None, back: AnyLink | None
) -> tuple[Channel, Channel] | None:
    """Return both directions of a link, the second one of `back` if there is one."""
    if link is None and back is None:
        return None
    there = link or Link(delay=0.0)
    return there.forward(), (back or there).backward()


class Emulator:
    """Holds back, loses, doubles and damages packets, both ways, in real time.

    It sits at the sender, so that one person turns the knobs of both directions.

    forward, backward: what becomes of what we send, and of what comes back.
    role: whose packets go forward.
    note: writes a row of the trace.
    leave: puts a datagram on the socket. hear: gets packets with their numbers, their
        fate and the time.
    """

    def __init__(
        self,
        forward: Channel,
        backward: Channel,
        role: str,
        note: Note,
        leave: Callable[[bytes], None],
        hear: Callable[[list[Numbered], str, float], None],
    ) -> None:
        self._forward, self._backward = forward, backward
        self._role, self._note, self._leave, self._hear = role, note, leave, hear
        self._held: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()

    def send(self, packet: Packet, number: int, datagram: bytes, now: float) -> None:
        """Let a packet of ours meet the link."""
        for when, what in self._forward.transmit(wire_size(packet), now):
            if what in (LOSS, OVERFLOW):
                self._note(now, self._role, what, packet, number)
            else:
                self._hold(when, partial(self._go, packet, number, datagram, what))

    def receive(self, packets: Iterable[Numbered], now: float) -> None:
        """Let the machine's packets that have come meet the link on their way back."""
        for packet, number in packets:
            if packet.kind not in MACHINE_KINDS:
                self._hear([(packet, number)], ARRIVE, now)
                continue
            for when, what in self._backward.transmit(wire_size(packet), now):
                if what in (LOSS, OVERFLOW):
                    self._note(now, OTHER[self._role], what, packet, number)
                else:
                    self._hold(when, partial(self._hear, [(packet, number)], what))

    def wake_at(self) -> float | None:
        """When the next packet comes out of the link [s]."""
        return self._held[0][0] if self._held else None

    def tick(self, now: float) -> None:
        """Let out what has been held long enough."""
        while self._held and self._held[0][0] <= now:
            heappop(self._held)[2](now)

    def _hold(self, when: float, let_go: Callable[[float], None]) -> None:
        heappush(self._held, (when, next(self._order), let_go))

    def _go(
        self, packet: Packet, number: int, datagram: bytes, what: str, now: float
    ) -> None:
        if what == CORRUPT:
            # The receiver will only see rubbish, so its row is written here.
            self._note(now, OTHER[self._role], CORRUPT, packet, number)
            datagram = damaged(datagram, number)
        self._leave(datagram)
