"""The same transfer as a model in simpy, written as simpy's own examples are.

Selective repeat with RFC 6298 over a link with a rate, a delay and losses: a process
for each transmitter and each side, one for each packet on its way ("Event latency" in
simpy's manual), and one for each payload until its ACK or its timeout. What happens is
appended to `rows`, the same fields as in a row of p2plab's trace; None records nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Any, NamedTuple

import simpy

HEADER = 28  # as p2plab's [bytes]
MIN_RTO, MAX_RTO = 0.1, 60.0  # [s]

Process = Generator[simpy.Event, Any, None]
Rows = list[tuple[float, str, str, int, int, int, int]] | None
DATA, ACK = 1, 2


class Packet(NamedTuple):
    kind: int
    number: int
    seq: int
    payload: bytes
    ts_val: float


class Line:
    """One direction of a link: a queue, a transmitter, a delay and an inbox."""

    def __init__(
        self, env: simpy.Environment, host: str, peer: str, loss: float, rows: Rows
    ) -> None:
        self.env, self.host, self.peer = env, host, peer
        self.loss, self.rows = loss, rows
        self.rate, self.delay = 100e6, 0.01
        self.random = Random(host)
        self.sent = 0
        self.queue, self.inbox = simpy.Store(env), simpy.Store(env)
        env.process(self.transmitter())

    def send(self, packet: Packet, what: str = "send") -> None:
        self.sent += 1
        self.note(self.host, what, packet)
        self.queue.put(packet)

    def transmitter(self) -> Process:
        while True:
            packet = yield self.queue.get()
            yield self.env.timeout(8 * (HEADER + len(packet.payload)) / self.rate)
            if self.random.random() < self.loss:
                self.note(self.host, "loss", packet)
            else:
                self.env.process(self.latency(packet))

    def latency(self, packet: Packet) -> Process:
        yield self.env.timeout(self.delay)
        self.note(self.peer, "arrive", packet)
        self.inbox.put(packet)

    def note(self, host: str, what: str, packet: Packet) -> None:
        if self.rows is not None:
            kind, number, seq, payload, _ = packet
            row = (self.env.now, host, what, kind, seq, len(payload), number)
            self.rows.append(row)


class Rto:
    """The timeout of RFC 6298."""

    def __init__(self) -> None:
        self.srtt = self.rttvar = 0.0
        self.rto = 1.0

    def sample(self, rtt: float) -> None:
        if not self.srtt:
            self.srtt, self.rttvar = rtt, rtt / 2
        else:
            self.rttvar = 0.75 * self.rttvar + 0.25 * abs(self.srtt - rtt)
            self.srtt = 0.875 * self.srtt + 0.125 * rtt
        rto = self.srtt + max(0.001, 4 * self.rttvar)
        self.rto = min(max(rto, MIN_RTO), MAX_RTO)

    def back_off(self) -> None:
        self.rto = min(2 * self.rto, MAX_RTO)


class Sender:
    """A process for each payload in the window, and one that hears the ACKs."""

    def __init__(
        self, env: simpy.Environment, line: Line, acks: simpy.Store, window: int
    ) -> None:
        self.env, self.line, self.acks, self.window = env, line, acks, window
        self.acked: dict[int, simpy.Event] = {}  # in the window: when it is answered
        self.rtt = Rto()
        self.backed_off_at = 0.0

    def run(self, payloads: list[bytes]) -> Process:
        self.env.process(self.hear())
        fresh = 0  # the next one to send for the first time
        for base in range(len(payloads)):  # the oldest one without an ACK
            while fresh < min(base + self.window, len(payloads)):
                self.acked[fresh] = acked = self.env.event()
                self.env.process(self.deliver(fresh, payloads[fresh], acked))
                fresh += 1
            yield self.acked[base]
            del self.acked[base]

    def deliver(self, seq: int, payload: bytes, acked: simpy.Event) -> Process:
        what = "send"
        while not acked.triggered:
            sent_at = self.env.now
            self.line.send(Packet(DATA, self.line.sent, seq, payload, sent_at), what)
            yield acked | self.env.timeout(self.rtt.rto)
            what = "retransmit"
            if not acked.triggered and sent_at >= self.backed_off_at:
                self.backed_off_at = self.env.now
                self.rtt.back_off()

    def hear(self) -> Process:
        while True:
            ack = yield self.acks.get()
            event = self.acked.get(ack.seq)
            if event is not None and not event.triggered:
                self.rtt.sample(self.env.now - ack.ts_val)
                event.succeed()


class Receiver:
    """Keeps what arrives early, hands over in order, acknowledges every packet."""

    def __init__(self, env: simpy.Environment, line: Line, data: simpy.Store) -> None:
        self.env, self.line, self.data = env, line, data
        self.delivered: list[bytes] = []

    def run(self) -> Process:
        early: dict[int, bytes] = {}
        while True:
            packet = yield self.data.get()
            if packet.seq >= len(self.delivered):
                early[packet.seq] = packet.payload
            while len(self.delivered) in early:
                self.line.note("receiver", "deliver", packet)
                self.delivered.append(early.pop(len(self.delivered)))
            ack = Packet(ACK, self.line.sent, packet.seq, b"", packet.ts_val)
            self.line.send(ack)


def transfer(
    payloads: list[bytes], loss: float, record: bool = True, window: int = 64
) -> tuple[int, Rows]:
    """Run it; return how many packets were sent, data and ACK, and the rows."""
    rows: Rows = [] if record else None
    env = simpy.Environment()
    forth = Line(env, "sender", "receiver", loss, rows)
    back = Line(env, "receiver", "sender", loss, rows)
    sender = Sender(env, forth, back.inbox, window)
    receiver = Receiver(env, back, forth.inbox)
    env.process(receiver.run())
    env.run(until=env.process(sender.run(payloads)))
    assert receiver.delivered == payloads
    return forth.sent + back.sent, rows
