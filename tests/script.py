"""Scripts: tell a machine what happens, and say what it must do about it."""

from __future__ import annotations

from typing import Any, Self

import pytest

from p2plab.core.packet import ACK, DATA, FIN, Kind, Packet


class Script:
    """One machine and its story so far; a wrong answer fails with the whole story.

    >>> s = Script(StopAndWaitSender(FixedRto(1.0)))
    >>> s.app(b"a", b"b").says(0)  # packet 0, and nothing else
    >>> s.at(0.999).says()  # nothing
    >>> s.at(1.0).says(0)  # `at` fires the timers that are due
    >>> s.at(1.2).ack(0).says(1)

    The machine is pulled after everything that it is told, as a driver does it; each of
    `says`, `acks` and `fins` is about all that it has said since the last of them.
    """

    def __init__(self, machine: object) -> None:
        self.machine: Any = machine
        self.now = 0.0
        self.said: list[Packet] = []
        self.story = [f"The story of this {type(machine).__name__}:"]

    # What it is told

    def app(self, *payloads: bytes) -> Self:
        for payload in payloads:
            self.machine.send(payload)
        return self._told("its application sends " + _listed(map(repr, payloads)))

    def finish(self) -> Self:
        self.machine.finish()
        return self._told("its application has nothing more to send")

    def at(self, time: float) -> Self:
        while (deadline := self.machine.deadline) is not None and deadline <= time:
            self.now, said = max(self.now, deadline), len(self.said)
            self.machine.on_timeout(self.now)
            self._told("its timer fires")
            if len(self.said) == said and self.machine.deadline == deadline:
                self._fail("it must restart the timer, stop it, or say something")
        self.now = time
        return self

    def ack(self, *numbers: int) -> Self:
        return self._arrive(*(Packet(ACK, number) for number in numbers))

    def data(self, number: int, payload: bytes) -> Self:
        return self._arrive(Packet(DATA, number, payload))

    def fin(self, number: int) -> Self:
        return self._arrive(Packet(FIN, number))

    # What it must do

    def says(self, *numbers: int) -> Self:
        return self._expect(DATA, numbers)

    def acks(self, *numbers: int) -> Self:
        return self._expect(ACK, numbers)

    def fins(self, *numbers: int) -> Self:
        return self._expect(FIN, numbers)

    def delivers(self, *payloads: bytes) -> Self:
        got = list(iter(self.machine.next_payload, None))
        return self._check(
            "deliver " + _listed(map(repr, payloads)),
            "delivers " + _listed(map(repr, got)),
            got == list(payloads),
        )

    def _arrive(self, *packets: Packet) -> Self:
        for packet in packets:
            self.machine.on_packet(packet, self.now)
            self._told(f"{_name(packet)} arrives")
        return self

    def _told(self, what: str) -> Self:
        self._note(what)
        for _ in range(1000):
            packet = self.machine.next_packet(self.now)
            if packet is None:
                return self
            self.said.append(packet)
        return self._fail("next_packet must say None in the end")

    def _expect(self, kind: Kind, numbers: tuple[int, ...]) -> Self:
        wanted = [Packet(kind, number) for number in numbers]
        got, self.said = self.said, []
        return self._check(
            "say " + _listed(map(_name, wanted)),
            "says " + _listed(map(_name, got)),
            [packet[:2] for packet in got] == [packet[:2] for packet in wanted],
        )

    def _check(self, wanted: str, got: str, fits: bool) -> Self:
        if not fits:
            return self._fail(f"it must {wanted}, but {got}")
        self._note(f"it {got}")
        return self

    def _note(self, what: str) -> None:
        self.story.append(f"  t={self.now:.3f}  {what}")

    def _fail(self, what: str) -> Self:
        self._note(f"WRONG: {what}")
        pytest.fail("\n".join(self.story), pytrace=False)


def _name(packet: Packet) -> str:
    return f"{Kind(packet.kind).name} {packet.seq}"


def _listed(words: Any) -> str:
    return ", ".join(words) or "nothing"
