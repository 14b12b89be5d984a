"""One trial: an application and a schedule of faults, run in virtual time and judged.

A run ends at the first broken promise, or when nothing more happens. The faults are a
link of the simulator, and a driver that pulls late is a pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, partial
from itertools import cycle
from math import inf
from typing import Any, Final, NamedTuple, Self
from zlib import crc32

from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, Channel, Fate
from p2plab.core.packet import MAX_PAYLOAD, Kind, Packet
from p2plab.core.trace import DELIVER, RECEIVER, SEND, SENDER, TIMEOUT, Row, Trace
from p2plab.errors import BrokenContract
from p2plab.errors import Promise as MachinePromise
from p2plab.protocols.finish import FinishSender
from p2plab.sim.driver import Host
from p2plab.sim.simulator import Simulation
from p2plab.sim.watchdog import Stuck

DELAY: Final = 0.05  # one way [s]
RTT: Final = 2 * DELAY  # [s]
ROLES: Final = (SENDER, RECEIVER)
REST: Final = 0.5  # between phases [s]
APART: Final = 0.02  # between the beginnings of two transfers [s]
HEAL_TIME: Final = 600.0  # virtual time for recovery after the last fault [s]
HEAL_PACKETS: Final = 2_000  # packets for recovery after the last fault,
HEAL_EACH: Final = 100  # and so many more for each payload
LATE_PACKETS: Final = 100  # after these a driver that pulls late is quick again
BEAT: Final = 1_000  # events between two beats of a run
COPIES: Final = 0.05  # of the payloads may be sent twice where nothing is lost

_PAYLOAD: Final = (bytes, bytearray, memoryview, type(None))
_TIME: Final = (float, int, type(None))
_PLAIN: Final = {Kind, int, bytes, float, type(None)}

Makers = tuple[Callable[[], Any], Callable[[], Any]]


# What is promised


class VerdictKind(StrEnum):
    """What came of a check, or of a transfer."""

    SURVIVED = "survived"
    BROKEN = "broken"  # a promise of both machines together
    BREACH = "breach"  # a promise that one machine makes to its driver
    UNJUDGED = "unjudged"  # a transfer that failed for something else


class Promise(StrEnum):
    """A promise in a word: of a protocol, or (see errors.Promise) of one machine.

    text: what is promised.
    """

    text: str

    def __new__(cls, word: str, text: str = "") -> Self:
        promise = str.__new__(cls, word)
        promise._value_, promise.text = word, text
        return promise

    # Of both machines together
    IN_ORDER_DELIVERY = (
        "in_order_delivery",
        "what is delivered is always a prefix of what was sent",
    )
    TERMINATION = (
        "termination",
        "once the network heals, everything is delivered and both sides finish (within "
        f"{HEAL_TIME:g} s and twice the time of the faults, and within {HEAL_PACKETS} "
        f"packets and {HEAL_EACH} more for each payload)",
    )
    QUIESCENCE = (
        "quiescence",
        "when all is done, nobody holds a timer or goes on sending",
    )
    RETRANSMISSION = (
        "retransmission",
        "no more is sent again than the losses call for (without a loss, copies of one "
        f"payload in {1 / COPIES:g}; with losses, four windows for each packet that "
        "was harmed)",
    )
    MEMORY = "memory", "a machine's memory does not grow with what it has moved"
    SPEED = "speed", "it is about as quick as the reference page"
    SEPARATION = "separation", "sender and receiver share nothing but packets"

    # Of one machine
    INTERFACE = "interface", "a machine has the members of `endpoint`"
    PACKETS = "packets", "next_packet returns one Packet or None, and None in the end"
    PAYLOADS = "payloads", "next_payload returns the bytes of one payload or None"
    TIMER = (
        "timer",
        "after on_timeout a packet comes out, or the deadline moves or stops",
    )
    NO_EXCEPTION = "no exception", "a machine never raises because of what it is told"
    END = "end", "every method comes back"
    QUICK = "quick", "a machine is quick enough to be tried"
    QUIET = "quiet", "a machine neither prints nor starts a thread"
    SAME_AGAIN = (
        "same again",
        "same inputs, same outputs: no clock, no chance, no order of a set",
    )
    ISOLATION = "isolation", "two machines have nothing in common"

    @property
    def kind(self) -> VerdictKind:
        """What it is to break it: broken, or a breach."""
        return VerdictKind.BROKEN if self in _OF_BOTH else VerdictKind.BREACH

    @property
    def broken(self) -> str:
        """The sentence that says that it is broken."""
        whose = "" if self in _OF_BOTH else " of the machine"
        return f"Promise{whose} broken: {self.text}."


_OF_BOTH: Final = tuple(Promise)[:7]


# What a network may do


class FaultKind(StrEnum):
    """What a network does to a packet."""

    LOSE = "lose"
    DAMAGE = "damage"
    DOUBLE = "double"  # the copy follows directly behind
    LATE = "late"
    LATE_COPY = "late copy"  # doubled, and the copy is late
    OUTAGE = "outage"  # from this packet on everything is lost, both ways


LOSE, DAMAGE, DOUBLE = FaultKind.LOSE, FaultKind.DAMAGE, FaultKind.DOUBLE
LATE, LATE_COPY, OUTAGE = FaultKind.LATE, FaultKind.LATE_COPY, FaultKind.OUTAGE

_WORDS: Final = {
    LOSE: "{} was lost",
    DAMAGE: "{} was damaged on its way",
    DOUBLE: "{} was doubled by the network",
    LATE: "{} was delayed by {:.3g} s",
    LATE_COPY: "a copy of {} arrived {:.3g} s after the first",
    OUTAGE: "the network was down for {1:.3g} s from {0} on",
}


class Fault(NamedTuple):
    """One thing that the network does to a packet.

    way: 0 for what the sender sends, 1 for what the receiver sends.
    number: how many packets were sent that way before this one.
    extra: how much later it arrives, or how long an outage lasts [s].
    """

    kind: FaultKind
    way: int
    number: int
    extra: float = 0.0

    def words(self, packet: Packet | None = None, again: bool = False) -> str:
        """Say it in words; `again` if the same packet had been sent before."""
        name = f"packet number {self.number + 1} of the {ROLES[self.way]}"
        if packet is not None:
            name = called(packet) + (" (sent again)" if again else "")
        return _WORDS[self.kind].format(name, self.extra)


def called(packet: Packet) -> str:
    """Name a packet as a person would."""
    if packet.kind == Kind.DATA:
        return f"packet {packet.seq} ({packet.payload!r:.24})"
    return f"{Kind(packet.kind).name} {packet.seq}"


@dataclass(frozen=True, slots=True)
class NetworkClass:
    """A class of networks: what they may do, and what they never do."""

    name: str
    kinds: tuple[FaultKind, ...]
    words: str


_ORDER: Final = "; the delay is constant and the order is kept"
CHANNELS: Final = {
    each.name: each
    for each in (
        NetworkClass("fifo", (LOSE, OUTAGE), "packets may be lost" + _ORDER),
        NetworkClass(
            "dup",
            (LOSE, DOUBLE, OUTAGE),
            "packets may be lost or doubled, the copy directly behind" + _ORDER,
        ),
        NetworkClass(
            "late",
            (LOSE, DOUBLE, LATE, LATE_COPY, OUTAGE),
            "packets may be lost, doubled, and late by a fraction of the round trip up "
            "to many seconds, so that others overtake them",
        ),
        NetworkClass(
            "corrupt",
            (LOSE, DAMAGE, OUTAGE),
            "packets may be lost or damaged (a damaged one never reaches on_packet)"
            + _ORDER,
        ),
    )
}


@dataclass(slots=True)
class FaultyLink:
    """A link of constant delay that does exactly what its schedule says.

    hits: the faults that have met a packet; harmed: packets that were touched.
    healed_at: since when nothing has been harmed, and nothing was begun [s].
    since: packets that were sent since then.
    """

    faults: Iterable[Fault]
    hits: list[Fault] = field(default_factory=list)
    harmed: int = 0
    healed_at: float = 0.0
    since: int = 0
    schedule: dict[tuple[int, int], Fault] = field(init=False)
    down_until: float = -1.0

    def __post_init__(self) -> None:
        self.schedule = {(each.way, each.number): each for each in self.faults}

    def forward(self) -> Channel:
        """A fresh channel from sender to receiver."""
        return _Direction(self, 0)

    def backward(self) -> Channel:
        """A fresh channel from receiver to sender."""
        return _Direction(self, 1)

    def heal(self, at: float) -> None:
        """Count from `at` on how long recovery takes, and how many packets."""
        self.healed_at = max(self.healed_at, at)
        self.since = 0


@dataclass(slots=True)
class _Direction:
    link: FaultyLink
    way: int
    count: int = 0  # packets so far

    def transmit(self, size: int, now: float) -> list[Fate]:
        link = self.link
        fault = link.schedule.get((self.way, self.count))
        self.count += 1
        link.since += 1
        if fault is not None:
            link.hits.append(fault)
            link.heal(now + fault.extra)
            if fault.kind == OUTAGE:
                link.down_until = max(link.down_until, now + fault.extra)
        down = now < link.down_until
        if down:
            link.since = 0  # it has not healed yet
        if fault is None and not down:
            return [(now + DELAY, ARRIVE)]
        link.harmed += 1
        if fault is None or down or fault.kind in (LOSE, OUTAGE):
            return [(now, LOSS)]
        arrival, later = now + DELAY, now + DELAY + fault.extra
        if fault.kind == DAMAGE:
            return [(arrival, CORRUPT)]
        if fault.kind == LATE:
            return [(later, ARRIVE)]
        return [(arrival, ARRIVE), (later, DUPLICATE)]


# What the application and the driver do


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
            (f"{len(phase)} payloads, " if len(phase) > 8 else "")
            + ", ".join(map(repr, phase[:8]))
            + (", …" if len(phase) > 8 else "")
            for phase in self.phases
        ]
        said = "; when all was done, ".join(part or "nothing" for part in parts)
        twice = "in two transfers at the same time, " if self.pairs > 1 else ""
        return twice + said


@cache
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
    """How the driver pulls: after each packet it makes a pause, in turn [s].

    Once the network has healed, it soon pulls at once again: after LATE_PACKETS.
    """

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


# The run


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
    as_made: packets arrive as the very objects that were sent, and are not made anew
        from their numbers and bytes.
    enter: called with the way whose machine is asked next.
    link: which faults have met a packet, how many were harmed, and when it had healed.
    given, delivered: the payloads that were sent so far, and what came out.
    sent: packets. woken: when each machine was told something [s].
    stuck: whether it ended because nothing was left to happen.
    machines: as they were in the end, sender and receiver; timers: theirs.
    at: which machine was asked last.
    """

    trial: Trial
    begin_at: float | None = 0.0
    trace: Trace | None = None
    as_made: bool = False
    enter: Callable[[int], object] | None = None
    failure: Failure | None = None
    link: FaultyLink = field(init=False)
    given: list[bytes] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    woken: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    stuck: bool = False
    machines: list[Any] = field(default_factory=list)
    timers: list[Any] = field(default_factory=list)
    at: int = 0
    phases: list[tuple[bytes, ...]] = field(init=False)
    simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        self.link = FaultyLink(self.trial.faults)
        self.phases = list(self.trial.application.phases)

    def packets(self, way: int) -> list[Packet]:
        """Return what was sent one way, in order."""
        return [each.packet for each in self.sent if each.way == way]

    def ask(self, way: int) -> Any:
        """Return the machine that is asked now, and note which it is."""
        self.at = way
        if self.enter is not None:
            self.enter(way)
        return self.machines[way] if way < len(self.machines) else None

    def build(self, makers: Makers) -> None:
        """Make the machines, and what they run in."""
        for way, make in enumerate(makers):
            self.ask(way)
            self.machines.append(make())
        self.simulation = _Judged(
            self.machines[0],
            self.machines[1],
            self.link,
            self.link,
            self.trace,
            self._deliver,
            states=False,
        )
        hosts = self.simulation.sender, self.simulation.receiver
        for way, (host, pauses) in enumerate(zip(hosts, self.trial.style, strict=True)):
            assert isinstance(host, _Host)
            host.outcome, host.way = self, way
            if pauses:
                host.paced = _Pauses(cycle(pauses), self.link)

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
        # took. A long transfer has its time as long as it gets on.
        moved_at = self.simulation.receiver.moved_at
        if self._storm or when > HEAL_TIME + max(3 * self.link.healed_at, moved_at):
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
        machine = self.ask(0)
        for payload in self.phases.pop(0):
            self.simulation.sender.send(payload)
            self.given.append(payload)
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
        if self.begin_at is not None or not (machine := self.ask(0)).done:
            return
        deadline, now = machine.deadline, self.simulation.now
        host = self.simulation.sender
        if deadline is not None and not (isinstance(host, _Host) and host.resting):
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
        if not whole or not self.ask(0).done:
            raise BrokenPromise(
                Promise.RETRANSMISSION if self._storm else Promise.TERMINATION
            )

    def require_silence(self) -> None:
        """Judge a run that is over: nobody holds a timer or goes on sending."""
        for way in (0, 1):
            if self.ask(way).deadline is not None or self._storm:
                raise BrokenPromise(Promise.QUIESCENCE, way)

    def blame(self, error: BaseException) -> Failure:
        """Return whose failure an error is."""
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
    trial: Trial,
    makers: Makers,
    recorded: bool = False,
    beat: Callable[[], object] | None = None,
    as_made: bool = False,
    enter: Callable[[int], object] | None = None,
) -> Outcome:
    """Run a trial with fresh machines, to the end or to the first broken promise.

    Returns the transfer that failed, or the first one, with a trace if `recorded`.
    beat: called now and then; what it raises goes on to the caller.
    as_made, enter: see Outcome.
    """
    make = partial(Outcome, trial, as_made=as_made, enter=enter)
    transfers = [
        make(number * APART, Trace() if recorded else None)
        for number in range(trial.application.pairs)
    ]
    now, events = transfers[0], 0
    try:
        for now in transfers:
            now.build(makers)
        going = list(transfers)
        while going:
            now = going[0] if len(going) == 1 else min(going, key=Outcome.next_at)
            if not now.step():
                going.remove(now)
            events += 1
            if beat is not None and events % BEAT == 0:
                beat()
        for now in transfers:
            now.require_whole()
        for now in transfers:
            now.require_silence()
        now = transfers[0]
    except BrokenPromise as why:
        now.failure = Failure(*why.args)
    except (KeyboardInterrupt, OutOfTime):
        raise
    except BaseException as why:  # SystemExit and what the watchdog throws, too
        now.failure = now.blame(why)
    if now.failure is None or now.failure.error is None:
        now.timers = [now.ask(way).deadline for way in (0, 1)]
    return now


class OutOfTime(Exception):
    """The budget is used up."""


def innermost(machine: Any, way: int) -> Any:
    """Return the machine that is inside of a Finish… or Modulo…, or itself."""
    role = ROLES[way]
    while hasattr(machine, role):
        machine = getattr(machine, role)
    return machine


class _Host(Host):
    """A host that notes what its machine sends, and lets only plain values out."""

    outcome: Outcome
    way: int

    @property
    def resting(self) -> bool:
        """Whether the driver has stopped pulling early."""
        return self._pull_at is not None

    def feed(self, packet: Packet, now: float, what: str, number: int) -> None:
        self.outcome.ask(self.way)
        self.outcome.woken[self.way].append(now)
        super().feed(packet, now, what, number)

    def damage(self, packet: Packet, now: float, number: int) -> None:
        self.outcome.ask(self.way)
        super().damage(packet, now, number)

    def fire(self, now: float) -> None:
        machine = self.outcome.ask(self.way)
        if machine.deadline is not None and machine.deadline <= now:
            self.outcome.woken[self.way].append(now)
        super().fire(now)

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if type(packet) is Packet:  # the driver judges everything else
            packet = self._plain(packet, now)
            self.outcome.sent.append(Sent(now, self.way, self.number, packet))
        return packet

    def next_payload(self, now: float) -> Any:
        payload = super().next_payload(now)
        if not isinstance(payload, _PAYLOAD):
            what = f"next_payload returned {payload!r:.60} ({type(payload).__name__})"
            cure = "Hand over the bytes that were sent."
            raise self._wrong(Promise.PAYLOADS, "next_payload", None, what, cure)
        return payload

    def _plain(self, packet: Packet, now: float) -> Packet:
        """Return a packet that consists of plain numbers and bytes, as on a wire.

        Raises BrokenContract if it does not fit the header of real datagrams.
        """
        kind, seq, payload, ts_val, ts_ecr = packet
        cure = ""
        if not isinstance(payload, bytes) or len(payload) > MAX_PAYLOAD:
            what = f"payload is {payload!r:.60}"
            cure = f"A payload is `bytes`, at most {MAX_PAYLOAD} of them."
        elif not isinstance(seq, int) or not -(2**31) <= seq < 2**31:
            what = f"seq is {seq!r:.60}"
            cure = "A seq is a whole number of 32 bits."
        elif not isinstance(ts_val, _TIME) or not isinstance(ts_ecr, _TIME):
            what = f"ts_val is {ts_val!r:.60} and ts_ecr {ts_ecr!r:.60}"
            cure = "They are times in seconds, or None."
        if cure:
            what = f"next_packet returned a packet whose {what}"
            raise self._wrong(Promise.PACKETS, "next_packet", now, what, cure)
        if self.outcome.as_made or _PLAIN.issuperset(map(type, packet)):
            return packet
        with suppress(ValueError):  # the driver judges a kind that there is not
            kind = Kind(int.__index__(kind))
        times = (None if t is None else float.__add__(0.0, t) for t in (ts_val, ts_ecr))
        return Packet(kind, int.__index__(seq), b"".join([payload]), *times)

    def _wrong(
        self, promise: Promise, member: str, now: float | None, what: str, cure: str
    ) -> BrokenContract:
        name = type(self.inner).__name__
        return BrokenContract(MachinePromise(promise), name, member, what, cure, now)


class _Judged(Simulation):
    host = _Host


@dataclass(slots=True)
class _Pauses:
    """Tells a driver how to space its pulls, in place of the machine."""

    rest: Iterator[float]
    link: FaultyLink

    @property
    def pacing_rate(self) -> float | None:
        pause = next(self.rest) if self.link.since <= LATE_PACKETS else 0.0
        return 1 / pause if pause else None


# What was sent, so that two runs can be compared


def event(row: Row) -> dict[str, Any]:
    """Return a row of a trace as JSON can carry it."""
    time, host, what, kind, seq, size, number = row
    said = {"time": round(time, 6), "host": host, "what": what}
    if what == DELIVER:
        return {**said, "payload": seq, "size": size}
    if what == TIMEOUT:
        return said
    name = Kind(kind).name
    return {**said, "kind": name, "seq": seq, "size": size, "number": number}


Prints = Sequence[dict[str, Any]]


def printed(outcome: Outcome) -> list[dict[str, Any]]:
    """Return what was sent in a run, as JSON can carry it."""
    prints = []
    for time, way, number, (kind, seq, payload, ts_val, _) in outcome.sent:
        row = Row(time, ROLES[way], SEND, kind, seq, len(payload), number)
        begin, checksum = f"{payload!r:.20}", crc32(payload)
        prints.append(
            event(row) | {"begin": begin, "checksum": checksum, "ts_val": ts_val}
        )
    return prints


def difference(
    ours: Sequence[Prints], theirs: Sequence[Prints]
) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the first difference in words, and what was sent up to it, or None."""

    def said(sent: dict[str, Any]) -> str:
        ts_val = "" if sent["ts_val"] is None else f" (ts_val {sent['ts_val']:.6g})"
        return (
            f"{sent['kind']} {sent['seq']} {sent['begin']} of the {sent['host']} at "
            f"t={sent['time']:.6g} s{ts_val}"
        )

    for one, other in zip(ours, theirs, strict=False):
        for number, (this, that) in enumerate(zip(one, other, strict=False), 1):
            if this != that:
                words = f"packet number {number} was {said(this)}, then {said(that)}"
                return words, list(one[:number])
        if len(one) != len(other):
            words = f"it took {len(one)} packets, then {len(other)}"
            return words, list(one)
    return None


def same(outcome: Outcome, again: Outcome) -> bool:
    """Whether two runs of a trial took the same course."""
    return (
        outcome.sent == again.sent
        and outcome.woken == again.woken
        and outcome.delivered == again.delivered
        and outcome.timers == again.timers
        and (outcome.failure is None) == (again.failure is None)
    )


def differs(outcome: Outcome, again: Outcome) -> Failure | None:
    """Say how the second run of a trial differs from the first, if it does."""
    if same(outcome, again):
        return None
    words = "The same trial was run twice, with fresh machines"
    found = difference([printed(outcome)], [printed(again)])
    if found is not None:
        words += f"; {found[0]}"
    elif outcome.timers != again.timers:
        words += f"; the timers were {outcome.timers}, then {again.timers}"
    else:
        words += "; the timers fired at other times, or other payloads came out"
    return Failure(Promise.SAME_AGAIN, words=words)
