"""The loop that runs a trial in virtual time, and stops at the first broken promise."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final

from p2plab.checker.network import RTT
from p2plab.checker.trial import EAGER, Failure, Makers, QuickHost, Run, Trial
from p2plab.checker.wire import Wire
from p2plab.core.link import CORRUPT
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.core.validation import count_of
from p2plab.errors import BrokenContract, Promise
from p2plab.protocols.finish import FinishSender

REST: Final = 0.5  # between phases [s]
APART: Final = 0.02  # between the beginnings of two transfers [s]
BETWEEN: Final = 1.5 * RTT  # payloads that come one by one: all may be acknowledged [s]


class Broken(Exception):
    """A promise was broken: ends the run. words: empty if the trace tells them."""

    def __init__(self, promise: str, words: str, way: int) -> None:
        super().__init__(words)
        self.failure = Failure("broken", promise, words, way)


class TooLong(BaseException):
    """The machine did not come back; no `except Exception` of its own stops this."""


def at_a_limit(failure: Failure | None) -> bool:
    """Whether time or memory was over: the next time it may be elsewhere."""
    error = None if failure is None else failure.error
    return isinstance(getattr(error, "__cause__", None) or error, TooLong | MemoryError)


class _Pair:
    """A transfer: its payloads, and how far they are."""

    __slots__ = ("begin_at", "delivered", "expected", "number", "phases", "sent")

    def __init__(self, number: int, trial: Trial) -> None:
        self.number = number
        self.phases = list(trial.application.phases)
        self.sent: list[bytes] = []
        self.delivered: list[bytes] = []
        self.begin_at: float | None = number * APART  # of the next phase
        self.expected = 0  # payloads that come one by one, as the sender was told

    def split(self) -> None:
        """Let the payloads of the first phase come one by one, done or not."""
        first, *others = self.phases
        self.phases = [*((each,) for each in first), *others]
        self.expected = len(first)

    @property
    def whole(self) -> bool:
        """Whether everything was sent and delivered."""
        return not self.phases and len(self.delivered) == len(self.sent)

    def deliver(self, payload: Any) -> None:
        """Judge what a receiver delivers: it must be the next payload sent."""
        index, way = len(self.delivered), 2 * self.number + 1
        if not isinstance(payload, bytes | bytearray | memoryview):
            what = f"next_payload returned {payload!r:.60} ({type(payload).__name__})"
            cure = "Hand over the bytes that were sent."
            raise BrokenContract(Promise.PAYLOADS, "", "next_payload", what, cure)
        self.delivered.append(bytes(payload))
        if index >= len(self.sent) or self.sent[index] != payload:
            raise Broken("prefix", "", way)


class World:
    """Hosts, a faulty wire between them, and a clock that jumps.

    traces: one for each transfer, or none for speed.
    """

    def __init__(
        self, trial: Trial, makers: Makers, traces: Sequence[Trace] = ()
    ) -> None:
        self.now = 0.0
        self.at = 0  # the host whose turn it is
        self.makers = makers
        self.traces = traces
        self.result = Run(trial)
        self.wire = Wire(self.result)
        self.pairs = [_Pair(n, trial) for n in range(trial.application.pairs)]
        self.hosts: list[QuickHost] = []

    def run(self) -> Run:
        """Run to the end, or to the first broken promise."""
        run = self.result
        try:
            self._build()
            while self._step():
                pass
            self._judge()
        except Broken as why:
            run.failure = why.failure
        except KeyboardInterrupt:
            raise
        except BaseException as why:  # SystemExit and what the watchdog throws, too
            words = str(why) if isinstance(why, BrokenContract) else ""
            run.failure = Failure("breach", "contract", words, self.at, why)
        if run.failure is None or run.failure.error is None:
            run.timers = [host.machine.deadline for host in self.hosts]
        run.time = self.now
        run.delivered = [pair.delivered for pair in self.pairs]
        return run

    def _build(self) -> None:
        for pair in self.pairs:
            trace = self.traces[pair.number] if self.traces else None
            for side, role in enumerate((SENDER, RECEIVER)):
                self.at = len(self.hosts)
                machine = self.makers[side]()
                self.result.machines.append(machine)
                host = QuickHost(machine, role, trace, pair.deliver if side else None)
                style = self.result.trial.style
                host.pausing(style.receiver if side else style.sender)
                # As drivers do: real ones then hand payloads over bit by bit.
                hears = not side and host.expect_payloads(len(pair.phases[0]))
                if hears and style != EAGER and pair.phases[0]:
                    pair.split()
                self.hosts.append(host)
                self.result.woken.append([])
        if not self.pairs[0].phases[0]:  # a driver may pull before anything was sent
            self._react(0)
        self._react(1)

    def _step(self) -> bool:
        """Jump to the next event and let it happen; False when it is over."""
        wire = self.wire
        way, when = -1, wire.arrivals[0][0] if wire.arrivals else None
        for index, host in enumerate(self.hosts):
            self.at = index
            wake_at = host.wake_at()
            if wake_at is not None and (when is None or wake_at < when):
                way, when = index, wake_at
        for pair in self.pairs:
            if pair.begin_at is not None and (when is None or pair.begin_at <= when):
                way, when = -2 - pair.number, pair.begin_at
        self.result.stuck = when is None
        if when is None or when > wire.give_up_at or wire.left < 0:
            return False
        if when > self.now:
            self.now = when
        if way == -1:
            self._arrive()
        elif way < -1:
            self._begin(self.pairs[-2 - way])
        else:
            self.at = way
            self.result.woken[way].append(self.now)
            self.hosts[way].fire(self.now)
            self._react(way)
        return True

    def _begin(self, pair: _Pair) -> None:
        self.at = way = 2 * pair.number
        pair.begin_at = None
        for payload in pair.phases.pop(0):
            self.hosts[way].send(payload)
            pair.sent.append(payload)
        if len(pair.sent) < pair.expected:
            pair.begin_at = self.now + BETWEEN
        machine = self.hosts[way].machine
        if not pair.phases and isinstance(machine, FinishSender):
            machine.finish()
        self.wire.heal(self.now)
        self._react(way)

    def _arrive(self) -> None:
        _, _, way, what, packet, number = heapq.heappop(self.wire.arrivals)
        self.at = way
        self.result.woken[way].append(self.now)
        host = self.hosts[way]
        if what == CORRUPT:
            host.damage(packet, self.now, number)
        else:
            host.feed(packet, self.now, what, number)
        self._react(way)

    def _react(self, way: int) -> None:
        """Let a host send, and look whether its pair is done."""
        host, now = self.hosts[way], self.now
        self.at = way
        for packet in host.pull(now):
            self.wire.carry(host, way, packet, now)
        host.note(now)
        pair = self.pairs[way >> 1]
        self.at = way & ~1
        sender = self.hosts[way & ~1]
        if pair.begin_at is None and sender.machine.done:
            self._done(sender, pair, way)
        elif 0 < len(pair.sent) < pair.expected and sender.machine.done:
            words = (
                f"The sender was done after {count_of(len(pair.sent), 'payload')}, "
                f"although expect_payloads({pair.expected}) had told it of more"
            )
            raise Broken("completion", words, way & ~1)

    def _done(self, sender: QuickHost, pair: _Pair, way: int) -> None:
        deadline = sender.machine.deadline
        if deadline is not None and not way & 1 and not sender.resting:
            words = (
                f"The sender was done at t={self.now:.2f} s, but its timer went on: "
                f"`deadline` was still {deadline:.3f}. Set it to None as soon as "
                f"nothing is in flight"
            )
            raise Broken("silence", words, way)
        if pair.phases and len(pair.delivered) == len(pair.sent):
            pair.begin_at = self.now + REST

    def _judge(self) -> None:
        """Judge a run in which nothing more happens, or that goes on for too long."""
        storm = self.wire.left < 0
        for pair in self.pairs:
            self.at = way = 2 * pair.number
            if not pair.whole or not self.hosts[way].machine.done:
                raise Broken("retransmission" if storm else "completion", "", way)
        for way, host in enumerate(self.hosts):
            self.at = way
            if host.machine.deadline is not None or storm:
                raise Broken("silence", "", way)
