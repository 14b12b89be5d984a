"""One trial: an application and a schedule of faults, run in virtual time and judged.

A run ends at the first broken promise, or when nothing more happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import inf
from typing import Any, Final, NamedTuple

from p2plab.checker.faults import ROLES, Fault, FaultyLink
from p2plab.checker.guard import Apart
from p2plab.checker.promises import (
    HEAL_EACH,
    HEAL_PACKETS,
    HEAL_TIME,
    HEAL_TIME_EACH,
    Promise,
)
from p2plab.core.packet import MAX_PAYLOAD, Kind, Packet
from p2plab.core.trace import Trace
from p2plab.errors import BrokenContract
from p2plab.errors import Promise as MachinePromise
from p2plab.protocols.finish import FinishSender
from p2plab.sim.simulator import Simulation
from p2plab.sim.watchdog import Stuck

REST: Final = 0.5  # between phases [s]
LATE: Final = 30  # pulls at first that may be late, and as long as faults are to come,
MOST_LATE: Final = 100  # so many
LATER: Final = 0.02  # between the beginnings of two transfers [s]

_PAYLOAD: Final = (bytes, bytearray, memoryview, type(None))
_TIME: Final = (float, int, type(None))
PLAIN: Final = ("builtins", "numpy", Kind.__module__)  # where types of numbers are

Makers = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Application:
    """What the application sends.

    phases: each is sent when everything before has arrived and the sender is done.
    pairs: transfers that run in the same process at the same time.
    """

    phases: tuple[tuple[bytes, ...], ...]
    pairs: int = 1

    @property
    def payloads(self) -> list[bytes]:
        """All that one transfer sends, in order."""
        return [payload for phase in self.phases for payload in phase]

    @property
    def size(self) -> int:
        """How many payloads there are."""
        return self.pairs * sum(map(len, self.phases))

    @property
    def words(self) -> str:
        """Say it in words."""
        if not self.size:
            return "no payload at all"
        parts = [
            ", ".join(map(repr, phase))
            if len(phase) <= 8
            else f"{len(phase)} payloads, {phase[0]!r}, {phase[1]!r}, …"
            for phase in self.phases
        ]
        said = "; when all was done, ".join(part or "nothing" for part in parts)
        twice = "in two transfers at the same time, " if self.pairs > 1 else ""
        return twice + said


def plain(size: int) -> Application:
    """Return the application that sends `size` different payloads at once."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = (letters[i % 26] + (str(i // 26) if i > 25 else "") for i in range(size))
    return Application((tuple(name.encode() for name in names),))


# In order of size, because the smallest that fails is shown.
APPLICATIONS: Final = (
    plain(0),
    plain(1),
    Application(((b"",),)),
    Application(((), (b"A",))),
    plain(2),
    Application(((b"A", b"A"),)),
    Application(((b"A",), (b"B",))),
    plain(3),
    plain(4),
    Application(((b"A", b"B"), (b"C", b"D"))),
    Application(((b"A", b"B"),), pairs=2),
    Application(((b"A", b"A", b"B", b"", b"A"),)),
    plain(6),
    plain(8),
    Application(((b"A", b"B", b"C"), (), (b"D", b"E", b"F", b"G", b"H"))),
    plain(40),
)


class Style(NamedTuple):
    """How the driver pulls: after each packet it makes a pause, in turn [s]."""

    sender: tuple[float, ...] = ()
    receiver: tuple[float, ...] = ()


EAGER: Final = Style()
SLOW: Final = Style((0.02, 0.0, 0.4, 0.0, 2.5), (0.0, 0.03, 0.0, 1.2))
STYLES: Final = (EAGER, SLOW)


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that a run depends on."""

    application: Application
    style: Style = EAGER
    faults: tuple[Fault, ...] = ()

    def plus(self, fault: Fault) -> Trial:
        """Return this trial with one fault more."""
        return replace(self, faults=(*self.faults, fault))


class Failure(NamedTuple):
    """What went wrong in a run.

    way: at whom (0 sender, 1 receiver).
    words: what happened; empty if the trace tells it. error: what ended the run.
    """

    promise: Promise
    way: int = 0
    words: str = ""
    error: BaseException | None = None

    @property
    def out_of_resources(self) -> bool:
        """Whether time or memory was over: the next time it may be elsewhere."""
        error = getattr(self.error, "__cause__", None) or self.error
        return isinstance(error, Stuck | MemoryError)


class BrokenPromise(Exception):
    """Ends a run. Its arguments are those of Failure."""


class Sent(NamedTuple):
    """One packet of a run. way: as in Fault."""

    time: float
    way: int
    number: int
    packet: Packet


@dataclass(slots=True)
class Outcome:
    """One transfer of a trial: while it runs, and what came of it.

    begin_at: when the next phase is sent [s].
    link: which faults have met a packet, how many were harmed, and when it had healed.
    given, delivered: the payloads that were sent so far, and what came out.
    sent: packets. woken: when each machine was told something [s].
    stuck: whether it ended because nothing was left to happen.
    machines: as they were in the end, sender and receiver; timers: theirs.
    at: which machine was asked last.
    apart: gives each machine its own copy of what both can reach.
    """

    trial: Trial
    begin_at: float | None = 0.0
    trace: Trace | None = None
    failure: Failure | None = None
    apart: Apart | None = None
    link: FaultyLink = field(init=False)
    given: list[bytes] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    woken: list[list[float]] = field(default_factory=list)
    stuck: bool = False
    machines: list[Any] = field(default_factory=list)
    timers: list[Any] = field(default_factory=list)
    at: int = 0
    phases: list[tuple[bytes, ...]] = field(init=False)
    sender: _Observed = field(init=False)
    receiver: _Observed = field(init=False)
    simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        self.link = FaultyLink(self.trial.faults)
        self.phases = list(self.trial.application.phases)

    def packets(self, way: int) -> list[Packet]:
        """Return what was sent one way, in order."""
        return [each.packet for each in self.sent if each.way == way]

    def build(self, makers: Makers) -> None:
        """Make the machines, and what they run in."""
        for way, make in enumerate(makers):
            self.enter(way)
            self.machines.append(make())
        self.sender, self.receiver = (_Observed(self, way) for way in (0, 1))
        self.simulation = Simulation(
            self.sender,
            self.receiver,
            self.link,
            self.link,
            self.trace,
            self._deliver,
            states=False,
        )
        hosts = self.simulation.sender, self.simulation.receiver
        for host, pauses in zip(hosts, self.trial.style, strict=True):
            if pauses:
                host.paced = _Pauses(cycle(pauses), self.link)

    def enter(self, way: int) -> None:
        """Note whose turn it is, and give it what is its own."""
        self.at = way
        if self.apart is not None:
            self.apart.enter(way)

    def next_at(self) -> float:
        """Return when something happens [s]; infinite when nothing will."""
        begin_at = inf if self.begin_at is None else self.begin_at
        return min(self.simulation.next_at(), begin_at)

    def step(self) -> bool:
        """Let the next event happen; False when it is over, or has lasted too long."""
        when = self.simulation.next_at()
        if self.begin_at is not None and self.begin_at <= when:
            self._begin(self.begin_at)
            return True
        # A timer that was doubled at each loss fires after as long again as the losses
        # took.
        give_up_at = HEAL_TIME + 3 * self.link.healed_at
        give_up_at += HEAL_TIME_EACH * self.trial.application.size
        if when > give_up_at or self._storm:
            self.stuck = when == inf
            return False
        self.simulation.step()
        self._look()
        return True

    @property
    def _storm(self) -> bool:
        size = self.trial.application.size
        return self.link.since > HEAL_PACKETS + HEAL_EACH * size

    def _begin(self, now: float) -> None:
        """Let the application send its next phase."""
        now = self.simulation.now = max(now, self.simulation.now)
        self.begin_at = None
        for payload in self.phases.pop(0):
            self.simulation.sender.send(payload)
            self.given.append(payload)
        machine = self.machines[0]
        if not self.phases and isinstance(machine, FinishSender):
            machine.finish()
        self.link.heal(now)
        self.simulation.wake(0)

    def _deliver(self, payload: bytes) -> None:
        """Judge what a receiver delivers: it must be the next payload sent."""
        index = len(self.delivered)
        self.delivered.append(bytes(payload))
        if index >= len(self.given) or self.given[index] != payload:
            raise BrokenPromise(Promise.IN_ORDER_DELIVERY, 1)

    def _look(self) -> None:
        """Judge a sender that says it is done, and let the application go on."""
        if self.begin_at is not None or not self.sender.done:
            return
        deadline, now = self.sender.deadline, self.simulation.now
        if deadline is not None and not self.sender.resting:
            words = (
                f"The sender was done at t={now:.2f} s, but its timer went on: "
                f"`deadline` was still {deadline:.3f}. Set it to None as soon as "
                f"nothing is in flight"
            )
            raise BrokenPromise(Promise.QUIESCENCE, 0, words)
        if self.phases and len(self.delivered) == len(self.given):
            self.begin_at = now + REST

    def require_whole(self) -> None:
        """Judge a run that is over: everything has arrived, and the sender knows."""
        whole = not self.phases and len(self.delivered) == len(self.given)
        if not whole or not self.sender.done:
            storm = self._storm
            raise BrokenPromise(
                Promise.RETRANSMISSION if storm else Promise.TERMINATION
            )

    def require_silence(self) -> None:
        """Judge a run that is over: nobody holds a timer or goes on sending."""
        for way, machine in enumerate((self.sender, self.receiver)):
            if machine.deadline is not None or self._storm:
                raise BrokenPromise(Promise.QUIESCENCE, way)

    def blame(self, error: BaseException) -> Failure:
        """Return whose failure an error is."""
        if isinstance(error.__cause__, BrokenPromise):
            return Failure(*error.__cause__.args)
        if isinstance(error.__cause__, BrokenContract):
            error = error.__cause__  # ours, that the driver took for the machine's
        if not isinstance(error, BrokenContract):
            return Failure(Promise.NO_EXCEPTION, self.at, error=error)
        ways = [
            way
            for way, machine in enumerate(self.machines)
            if type(innermost(machine, way)).__name__ == error.machine
        ]
        way = self.at if self.at in ways or not ways else ways[-1]
        return Failure(Promise(error.promise), way, error=error)


def run(
    trial: Trial, makers: Makers, recorded: bool = False, apart: Apart | None = None
) -> Outcome:
    """Run a trial with fresh machines, to the end or to the first broken promise.

    Returns the transfer that failed, or the first one, with a trace if `recorded`.
    """
    transfers = [
        Outcome(trial, number * LATER, Trace() if recorded else None, apart=apart)
        for number in range(trial.application.pairs)
    ]
    now = transfers[0]
    try:
        for now in transfers:
            now.build(makers)
        going = list(transfers)
        while going:
            now = going[0] if len(going) == 1 else min(going, key=Outcome.next_at)
            if not now.step():
                going.remove(now)
        for now in transfers:
            now.require_whole()
        for now in transfers:
            now.require_silence()
        now = transfers[0]
    except BrokenPromise as why:
        now.failure = Failure(*why.args)
    except KeyboardInterrupt:
        raise
    except BaseException as why:  # SystemExit and what the watchdog throws, too
        now.failure = now.blame(why)
    if now.failure is None or now.failure.error is None:
        now.timers = [machine.deadline for machine in now.machines]
    return now


def innermost(machine: Any, way: int) -> Any:
    """Return the machine that is inside of a Finish… or Modulo…, or itself."""
    role = ROLES[way]
    while hasattr(machine, role):
        machine = getattr(machine, role)
    return machine


class _Observed:
    """A machine, and a note of what it sends and when it is asked: itself a machine.

    sender, receiver: the machine; a driver looks there for what is inside.
    resting: whether the driver has stopped pulling early.
    """

    # Slots keep its own fields out of a trace, which shows the machine's alone.
    _OWN: Final = ("_machine", "_way", "_outcome", "number", "resting", "woken")
    __slots__ = (*ROLES, *_OWN)

    def __init__(self, outcome: Outcome, way: int) -> None:
        self._machine, self._way, self._outcome = outcome.machines[way], way, outcome
        setattr(self, ROLES[way], self._machine)
        self.number, self.resting = 0, False
        self.woken: list[float] = []
        outcome.woken.append(self.woken)

    @property
    def _asked(self) -> Any:
        self._outcome.enter(self._way)
        return self._machine

    @property
    def deadline(self) -> Any:
        return self._asked.deadline

    @property
    def done(self) -> Any:
        return self._asked.done

    def send(self, payload: bytes) -> None:
        self._asked.send(payload)

    def on_packet(self, packet: Packet, now: float) -> None:
        self.woken.append(now)
        self._asked.on_packet(packet, now)

    def on_timeout(self, now: float) -> None:
        self.woken.append(now)
        self._asked.on_timeout(now)

    def next_packet(self, now: float) -> Any:
        packet = self._asked.next_packet(now)
        self.resting = packet is not None
        if type(packet) is Packet:  # the driver judges everything else
            for name, value in zip(Packet._fields, packet, strict=True):
                if type(value).__module__ not in PLAIN:
                    raise BrokenPromise(
                        Promise.APART,
                        self._way,
                        f"Sender and receiver share more than packets: {name} of a "
                        f"packet of the {ROLES[self._way]} is an object of the class "
                        f"{type(value).__name__}. Only plain numbers and bytes travel",
                    )
            if unsound := _unsound(packet):
                raise self._broken(Promise.PACKETS, "next_packet", now, *unsound)
            sent = Sent(now, self._way, self.number, packet)
            self._outcome.sent.append(sent)
            self.number += 1
        return packet

    def next_payload(self) -> Any:
        payload = self._asked.next_payload()
        if not isinstance(payload, _PAYLOAD):
            what = f"next_payload returned {payload!r:.60} ({type(payload).__name__})"
            cure = "Hand over the bytes that were sent."
            raise self._broken(Promise.PAYLOADS, "next_payload", None, what, cure)
        return payload

    def _broken(
        self, promise: Promise, member: str, now: float | None, what: str, cure: str
    ) -> BrokenContract:
        name = type(innermost(self._machine, self._way)).__name__
        return BrokenContract(MachinePromise(promise), name, member, what, cure, now)


def _unsound(packet: Packet) -> tuple[str, str] | None:
    """Return why a packet does not fit the header of real datagrams, and the cure."""
    _, seq, payload, ts_val, ts_ecr = packet
    said = "next_packet returned a packet whose"
    if type(payload) is not bytes or len(payload) > MAX_PAYLOAD:
        what = f"{said} payload is {payload!r:.60}"
        return what, f"A payload is `bytes`, at most {MAX_PAYLOAD} of them."
    if not isinstance(seq, int) or not -(2**31) <= seq < 2**31:
        what = f"{said} seq is {seq!r:.60}"
        return what, "A seq is a whole number of 32 bits."
    if not isinstance(ts_val, _TIME) or not isinstance(ts_ecr, _TIME):
        what = f"{said} ts_val is {ts_val!r:.60} and ts_ecr {ts_ecr!r:.60}"
        return what, "They are times in seconds, or None."
    return None


@dataclass(slots=True)
class _Pauses:
    """Tells a driver how to space its pulls, in place of the machine.

    Once the network has healed it is quick again: a protocol may count on that.
    """

    rest: Iterator[float]
    link: FaultyLink
    pulls: int = 0

    @property
    def pacing_rate(self) -> float | None:
        self.pulls += 1
        if self.pulls > (MOST_LATE if self.link.to_come else LATE):
            return None
        pause = next(self.rest)
        return 1 / pause if pause else None
