"""The loop that runs a trial in virtual time, and stops at the first broken promise."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final

from p2plab.checker.network import (
    BLACKOUT,
    DAMAGE,
    DELAY,
    DOUBLE,
    LATE,
    LATE_COPY,
    LOSE,
    Fault,
)
from p2plab.checker.trial import Failure, Makers, QuickHost, Run, Sent, Trial
from p2plab.errors import BrokenContract
from p2plab.link import ARRIVE, CORRUPT, DUPLICATE, LOSS
from p2plab.packet import MAX_PAYLOAD, Packet
from p2plab.trace import RECEIVER, SENDER, Trace

HEAL_TIME: Final = 600.0  # virtual time for recovery after the last fault [s]
HEAL_PACKETS: Final = 2_000  # packets for recovery after the last fault,
HEAL_EACH: Final = 100  # and so many more for each payload
REST: Final = 0.5  # between phases [s]
APART: Final = 0.02  # between the beginnings of two transfers [s]


def patience(healed_at: float) -> float:
    """Return until when recovery may take [s].

    A timer that was doubled at each loss fires after as long again as the losses took.
    """
    return HEAL_TIME + 3 * healed_at


class Broken(Exception):
    """A promise was broken: ends the run."""

    def __init__(self, promise: str, words: str, way: int) -> None:
        super().__init__(words)
        self.failure = Failure("broken", promise, words, way)


class TooLong(BaseException):
    """The machine did not come back; no `except Exception` of its own stops this."""


class _Pair:
    """A transfer: its payloads, and how far they are."""

    __slots__ = ("begin_at", "delivered", "number", "phases", "sent")

    def __init__(self, number: int, trial: Trial) -> None:
        self.number = number
        self.phases = list(trial.application.phases)
        self.sent: list[bytes] = []
        self.delivered: list[bytes] = []
        self.begin_at: float | None = number * APART

    def deliver(self, payload: Any) -> None:
        """Judge what a receiver delivers: it must be the next payload sent."""
        index, way = len(self.delivered), 2 * self.number + 1
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise BrokenContract(
                f"next_payload returned {payload!r:.60}, which is a "
                f"{type(payload).__name__}. Hand over the bytes that were sent."
            )
        self.delivered.append(bytes(payload))
        if index >= len(self.sent) or self.sent[index] != payload:
            raise Broken("prefix", "", way)


class World:
    """Hosts, a faulty network between them, and a clock that jumps.

    traces: one for each transfer, or none for speed.
    """

    def __init__(
        self, trial: Trial, makers: Makers, traces: Sequence[Trace] = ()
    ) -> None:
        self.now = 0.0
        self.run_ = Run(trial)
        self.faults = {(fault.way, fault.number): fault for fault in trial.faults}
        self.dark_until = -1.0
        self.patience = HEAL_PACKETS + HEAL_EACH * trial.application.size
        self.left = self.patience  # packets until it is too much
        self.order = 0
        # arrivals: (when, tie-break, at which host, what, packet, number)
        self.arrivals: list[tuple[float, int, int, str, Packet, int]] = []
        self.pairs = [_Pair(n, trial) for n in range(trial.application.pairs)]
        self.hosts: list[QuickHost] = []
        self.traces = traces
        self.makers = makers

    def run(self) -> Run:
        """Run to the end, or to the first broken promise."""
        run = self.run_
        try:
            self._build()
            while self._step():
                pass
        except Broken as why:
            run.failure = why.failure
        except BrokenContract as why:
            run.failure = Failure("breach", "contract", str(why), self.at, why)
        except KeyboardInterrupt:
            raise
        except BaseException as why:  # SystemExit and what the watchdog throws, too
            run.failure = Failure("breach", "contract", "", self.at, why)
        if run.failure is None or run.failure.error is None:
            run.timers = [host.machine.deadline for host in self.hosts]
        run.time = self.now
        run.delivered = [pair.delivered for pair in self.pairs]
        return run

    at = 0  # the host whose turn it is

    def _build(self) -> None:
        for pair in self.pairs:
            trace = self.traces[pair.number] if self.traces else None
            for side, role in enumerate((SENDER, RECEIVER)):
                self.at = len(self.hosts)
                machine = self.makers[side]()
                self.run_.machines.append(machine)
                take = pair.deliver if side else None
                host = QuickHost(machine, role, trace, take)
                style = self.run_.trial.style
                host.pausing(style.receiver if side else style.sender)
                self.hosts.append(host)
                self.run_.woken.append([])
        if not self.pairs[0].phases[0]:  # a driver may pull before anything was sent
            self._react(0)
        self._react(1)

    def _step(self) -> bool:
        """Jump to the next event and let it happen; False when there is none."""
        way, when = -1, self.arrivals[0][0] if self.arrivals else None
        for index, host in enumerate(self.hosts):
            self.at = index
            wake_at = host.wake_at()
            if wake_at is not None and (when is None or wake_at < when):
                way, when = index, wake_at
        for pair in self.pairs:
            if pair.begin_at is not None and (when is None or pair.begin_at <= when):
                when, way = pair.begin_at, -2 - pair.number
        if when is None:
            return self._end()
        if when > patience(self.run_.healed_at) or self.left < 0:
            return self._end()
        if when > self.now:
            self.now = when
        if way == -1:
            self._arrive()
        elif way < -1:
            self._begin(self.pairs[-2 - way])
        else:
            self.at = way
            self.run_.woken[way].append(self.now)
            self.hosts[way].fire(self.now)
            self._react(way)
        return True

    def _begin(self, pair: _Pair) -> None:
        self.at = way = 2 * pair.number
        pair.begin_at = None
        for payload in pair.phases.pop(0):
            self.hosts[way].send(payload)
            pair.sent.append(payload)
        machine = self.hosts[way].machine
        if not pair.phases and hasattr(machine, "finish"):
            machine.finish()
        self._heal()
        self._react(way)

    def _heal(self) -> None:
        self.run_.healed_at = max(self.run_.healed_at, self.now)
        self.left = self.patience

    def _arrive(self) -> None:
        _, _, way, what, packet, number = heapq.heappop(self.arrivals)
        self.at = way
        self.run_.woken[way].append(self.now)
        host = self.hosts[way]
        if what == CORRUPT:
            host.damage(packet, self.now, number)
        else:
            host.feed(packet, self.now, what, number)
        self._react(way)

    def _react(self, way: int) -> None:
        """Let a host deliver and send, and look whether its pair is done."""
        host, now = self.hosts[way], self.now
        self.at = way
        host.deliver(now)
        for packet in host.pull(now):
            self._transmit(way, packet, host.number - 1)
        host.note(now)
        pair = self.pairs[way >> 1]
        if pair.begin_at is not None:
            return
        sender = self.hosts[way & ~1]
        self.at = way & ~1
        if sender.machine.done:
            self._done(sender, pair, way)

    def _done(self, sender: QuickHost, pair: _Pair, way: int) -> None:
        if not way & 1 and not sender.resting:
            deadline = sender.machine.deadline
            if deadline is not None:
                raise Broken("silence", f"timer {deadline:.3f}", way)
        if pair.phases and len(pair.delivered) == len(pair.sent):
            pair.begin_at = self.now + REST

    def _transmit(self, way: int, packet: Packet, number: int) -> None:
        now, run = self.now, self.run_
        _, seq, payload, _, _ = packet
        if type(payload) is not bytes or len(payload) > MAX_PAYLOAD:
            raise BrokenContract(
                f"next_packet returned a packet whose payload is {payload!r:.60}. A "
                f"payload is at most {MAX_PAYLOAD} bytes."
            )
        if not isinstance(seq, int) or not -(2**31) <= seq < 2**31:
            raise BrokenContract(
                f"next_packet returned a packet whose seq is {seq!r:.60}. A seq is a "
                f"whole number of 32 bits."
            )
        run.sent.append(Sent(now, way, packet))
        self.left -= 1
        fault = self.faults.get((way, number))
        if fault is not None:
            self._harm(fault)
        kind = fault.kind if fault is not None else ARRIVE
        if kind in (LOSE, BLACKOUT) or (now < self.dark_until and way < 2):
            run.harmed += 1
            self._lose(way, packet, number)
            return
        when = now + DELAY
        if fault is None:
            self._fly(when, way, ARRIVE, packet, number)
            return
        run.harmed += 1
        late = when + fault.extra
        self._fly(
            late if kind == LATE else when,
            way,
            CORRUPT if kind == DAMAGE else ARRIVE,
            packet,
            number,
        )
        if kind in (DOUBLE, LATE_COPY):
            self._fly(
                late if kind == LATE_COPY else when, way, DUPLICATE, packet, number
            )

    def _harm(self, fault: Fault) -> None:
        run = self.run_
        run.hits.append(fault)
        if fault.kind == BLACKOUT:
            self.dark_until = max(self.dark_until, self.now + fault.extra)
        run.healed_at = max(run.healed_at, self.now + fault.extra)
        self.left = self.patience

    def _fly(
        self, when: float, way: int, what: str, packet: Packet, number: int
    ) -> None:
        self.order += 1
        arrival = (when, self.order, way ^ 1, what, packet, number)
        heapq.heappush(self.arrivals, arrival)

    def _lose(self, way: int, packet: Packet, number: int) -> None:
        trace = self.hosts[way].trace
        if trace is not None:
            kind, seq, payload, _, _ = packet
            row = (self.now, self.hosts[way].role, LOSS, +kind, seq, len(payload))
            trace.rows.append((*row, number))

    def _end(self) -> bool:
        """Judge a run in which nothing more happens, or that goes on for too long."""
        storm = "storm" if self.left < 0 else ""
        for pair in self.pairs:
            way = 2 * pair.number
            whole = not pair.phases and len(pair.delivered) == len(pair.sent)
            self.at = way
            if not whole or not self.hosts[way].machine.done:
                promise = "retransmission" if storm else "completion"
                raise Broken(promise, storm, way)
        for way, host in enumerate(self.hosts):
            self.at = way
            if host.machine.deadline is not None:
                raise Broken("silence", "", way)
        if self.left < 0:
            raise Broken("silence", "", self.at)
        return False
