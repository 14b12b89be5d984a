"""What every driver does with a machine: feed it, pull it, check its word."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Final

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.link import CORRUPT
from p2plab.core.packet import ACK, HEADER_SIZE, MACHINE_KINDS, TIMESTAMP_PERIOD, Packet
from p2plab.core.trace import (
    DELIVER,
    RECEIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    State,
    Trace,
    probe,
)
from p2plab.errors import BrokenContract, Promise

BURST: Final = 64  # packets in one go; more would overrun a default socket buffer
PULL_LIMIT: Final = 10_000  # packets at one moment, beyond what it was given
ECHO_LIMIT: Final = 1_000_000  # packets at one moment, for those that have come in
TIMEOUT_LIMIT: Final = 1_000  # timeouts at one moment
# A clock that wakes us every millisecond, and late at that, is enough for any pace.
SLACK: Final = 0.001  # paced packets may leave so much too early [s]
CATCH_UP: Final = 0.005  # or so much too late, where a thread may be late [s]

# member -> how many arguments the driver calls it with; None: it reads a value
_ENDPOINT: Final = {"deadline": None, "next_packet": 1, "on_packet": 2, "on_timeout": 1}
_OWN: Final[dict[str, dict[str, int | None]]] = {
    SENDER: {"done": None, "send": 1},
    RECEIVER: {"next_payload": 0},
}


def wire_size(packet: Packet) -> int:
    """Return the bytes that a packet has on a link: header and payload."""
    return HEADER_SIZE + len(packet.payload)


class Host:
    """A machine, and everything that its driver knows about it.

    After every input (`send`, `feed`, `damage`, `fire`) the driver pulls, notes and
    reads `wake_at`. All of them raise BrokenContract when the machine breaks a promise
    of `endpoint`, naming the machine, the time and the cure.

    role: SENDER or RECEIVER.
    trace: where to record; None records nothing. states: the machine's numbers, too.
    on_payload: gets what a receiver delivers, after every input.
    catch_up: by how much a paced machine may make up for a late driver [s].
    inner: the machine, or the one inside a Finish… or Modulo….
    paced: the machine, or None if it does not ask its driver to space its packets.
    number: packets sent. payloads: taken from the application, or delivered to it.
    heard_at, moved_at: the last arrival, the last delivery [s].
    """

    def __init__(
        self,
        machine: Sender | Receiver,
        role: str,
        trace: Trace | None = None,
        on_payload: Callable[[bytes], object] | None = None,
        catch_up: float = 0.0,
        states: bool = True,
    ) -> None:
        inner: Any = machine
        while hasattr(inner, role):
            inner = getattr(inner, role)
        require_machine(inner, role)
        if inner is not machine:
            require_machine(machine, role)
        self.machine: Any = machine
        self.inner = inner
        self.role, self.trace, self.on_payload = role, trace, on_payload
        self.paced = inner if hasattr(inner, "pacing_rate") else None
        self.catch_up = catch_up
        self.number = self.payloads = 0
        self.heard_at = self.moved_at = 0.0
        self._due = 0.0  # when the next packet would leave at exactly its pace [s]
        self._pull_at: float | None = None  # when pacing allows the next packet [s]
        self._last_payload: dict[int, bytes] = {}  # that was sent with a seq
        self._fired = False  # on_timeout was called, and nothing has come of it yet
        self._fed = 0  # packets that have come in
        self._pulled_at, self._sent_before = -1.0, 0  # when last [s], packets till then
        self._fired_at, self._timeouts = -1.0, 0  # when last [s], and how often then
        self._last_values: object = None
        self._states: list[State] | None = None
        if trace is not None:
            trace.names[role], self._read = probe(machine)
            self._states = trace.states if states else None

    def wake_at(self) -> float | None:
        """Return when to `fire` or to pull again, whichever comes first [s]."""
        deadline: float | None = self.machine.deadline
        if self._pull_at is None:
            return deadline
        if deadline is None or self._fired:  # its answer is still held back
            return self._pull_at
        return min(deadline, self._pull_at)

    def send(self, *payloads: bytes) -> None:
        """Queue payloads at a sender."""
        for payload in payloads:
            self.machine.send(payload)
        self.payloads += len(payloads)

    def feed(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Hand over a packet that has arrived intact; `what` is the trace's word."""
        self._record(now, what, packet, number)
        self._fed += 1
        self.heard_at = now
        if now >= TIMESTAMP_PERIOD and packet.ts_ecr is not None:
            periods = (now - packet.ts_ecr) // TIMESTAMP_PERIOD
            packet = packet._replace(ts_ecr=packet.ts_ecr + periods * TIMESTAMP_PERIOD)
        try:
            self.machine.on_packet(packet, now)
        except Exception as why:
            raise self._raised(now, "on_packet", why) from why
        if self.role == RECEIVER:
            self._deliver(now)

    def lose(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Write down the end of a packet that no machine hears of."""
        self._record(now, what, packet, number)

    def damage(self, packet: Packet, now: float, number: int) -> None:
        """Tell that `packet` has arrived damaged: only the trace knows which it was."""
        self._record(now, CORRUPT, packet, number)
        self.heard_at = now
        if hasattr(self.inner, "on_corrupt"):
            try:
                self.inner.on_corrupt(now)
            except Exception as why:
                raise self._raised(now, "on_corrupt", why) from why
            if self.role == RECEIVER:
                self._deliver(now)

    def fire(self, now: float) -> None:
        """Call on_timeout if the deadline has passed; otherwise it was time to pull."""
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            if self.trace is not None:
                self.trace.rows.append(Row(now, self.role, TIMEOUT, 0, -1, 0, -1))
            self._timeouts = self._timeouts + 1 if now == self._fired_at else 1
            self._fired_at = now
            if self._timeouts > TIMEOUT_LIMIT:
                raise self._still_due(now, f" {TIMEOUT_LIMIT} times", deadline)
            try:
                self.machine.on_timeout(now)
            except Exception as why:
                raise self._raised(now, "on_timeout", why) from why
            self._fired = True
            self.note(now)  # before the pull: this is where go-back-N steps back
        if self.role == RECEIVER:
            self._deliver(now)

    def pull(self, now: float) -> Iterator[Packet]:
        """Yield what the machine puts on the wire now; the caller may stop early."""
        if self._pull_at is not None and now >= self._pull_at:
            self._pull_at = None
        if now != self._pulled_at:
            self._pulled_at, self._sent_before = now, self.number
        while self._pull_at is None:
            packet = self.next_packet(now)
            if packet is None:
                if self._fired:
                    self._require_effect(now)
                return
            if type(packet) is not Packet or packet.kind not in MACHINE_KINDS:
                raise self._no_packet(now, packet)
            if self.number >= self._sent_before + PULL_LIMIT:
                self._require_end(now)
            what = SEND
            if packet.kind != ACK:
                if self._last_payload.get(packet.seq) is packet.payload:
                    what = RETRANSMIT
                self._last_payload[packet.seq] = packet.payload
            self._record(now, what, packet, self.number)
            self.number += 1
            self._fired = False
            if self.paced is not None and (rate := self.paced.pacing_rate):
                self._pause(now, 1 / rate)
            yield packet

    def next_packet(self, now: float) -> Any:
        """Ask the machine for its next packet; a driver may look at it first."""
        try:
            return self.machine.next_packet(now)
        except Exception as why:
            raise self._raised(now, "next_packet", why) from why

    def next_payload(self, now: float) -> Any:
        """Ask a receiver for its next payload; a driver may look at it first."""
        try:
            return self.machine.next_payload()
        except Exception as why:
            raise self._raised(now, "next_payload", why) from why

    def note(self, now: float) -> None:
        """Write down the machine's own numbers if one of them has changed."""
        if self._states is not None:
            values = self._read(self.machine)
            if values != self._last_values:
                self._last_values = values
                self._states.append(State(now, self.role, values))

    def _record(self, now: float, what: str, packet: Packet, number: int) -> None:
        if self.trace is not None:
            kind, seq, payload, _, _ = packet
            row = Row(now, self.role, what, kind, seq, len(payload), number)
            self.trace.rows.append(row)

    def _pause(self, now: float, gap: float) -> None:
        self._due = max(self._due, now - self.catch_up) + gap
        if self._due >= now + SLACK:
            self._pull_at = self._due

    def _deliver(self, now: float) -> None:
        while (payload := self.next_payload(now)) is not None:
            if self.payloads > PULL_LIMIT + 2 * self._fed:
                raise self._endless(now, "next_payload", self.payloads, "is waiting")
            if self.trace is not None:
                row = Row(now, self.role, DELIVER, 0, self.payloads, len(payload), -1)
                self.trace.rows.append(row)
            self.payloads += 1
            self.moved_at = now
            if self.on_payload is not None:
                self.on_payload(payload)

    # The machine's promises

    def _raised(self, now: float, member: str, why: Exception) -> BrokenContract:
        what = f"{member} raised {type(why).__name__}: {why}"
        cure = "A machine must not raise because of what it is told."
        return self._broken(now, Promise.NO_EXCEPTION, member, what, cure)

    def _require_end(self, now: float) -> None:
        times = self.number - self._sent_before
        if times > PULL_LIMIT + 2 * self.payloads + min(self._fed, ECHO_LIMIT):
            raise self._endless(now, "next_packet", times, "may be sent now")

    def _require_effect(self, now: float) -> None:
        self._fired = False
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            raise self._still_due(now, ", nothing was sent,", deadline)

    def _no_packet(self, now: float, answer: object) -> BrokenContract:
        what = f"next_packet returned {answer!r:.80}"
        cure = "Return one Packet of kind DATA, ACK, NAK or FIN, or None."
        return self._broken(now, Promise.PACKETS, "next_packet", what, cure)

    def _endless(
        self, now: float, method: str, times: int, more: str
    ) -> BrokenContract:
        what = f"{method} had answered {times} times and still did not say None"
        cure = f"Return None once nothing more {more}."
        return self._broken(now, Promise.PACKETS, method, what, cure)

    def _still_due(self, now: float, how: str, deadline: float) -> BrokenContract:
        what = f"on_timeout was called{how} and the deadline is still {deadline:.3f}"
        cure = "Restart the timer (deadline = now + rto) or stop it (deadline = None)."
        return self._broken(now, Promise.TIMER, "on_timeout", what, cure)

    def _broken(
        self, now: float, promise: Promise, member: str, what: str, cure: str
    ) -> BrokenContract:
        machine = type(self.inner).__name__
        return BrokenContract(promise, machine, member, what, cure, now)


# Its members, before a run


def require_machine(machine: object, role: str) -> None:
    """Raise BrokenContract unless `machine` has all members of its role.

    role: SENDER or RECEIVER.
    """
    name = type(machine).__name__
    if isinstance(machine, type):
        name = machine.__name__
        cure = f"{name}()"
        what = f"{name} is a class: hand over a machine made of it, {cure}"
        raise BrokenContract(Promise.INTERFACE, name, "", what)
    members = {**_OWN[role], **_ENDPOINT}
    for member, arguments in members.items():
        if not hasattr(machine, member):
            what = f"{name} has no {member}, which every {role} needs"
            where = role.capitalize() if member in _OWN[role] else "Endpoint"
            cure = _misspelling(machine, member, members)
            if role == RECEIVER and hasattr(machine, "send"):
                cure = "Is it a sender?"
            what = f"{what} (see {where})"
        else:
            what, cure = _misfit(
                f"{name}.{member}", getattr(machine, member), arguments
            )
        if what:
            raise BrokenContract(Promise.INTERFACE, name, member, what, cure)


def _misspelling(machine: object, member: str, members: dict[str, int | None]) -> str:
    others = [name for name in dir(machine) if name not in members]
    if members[member] is not None:
        others = [name for name in others if callable(getattr(machine, name))]
    close = get_close_matches(member, (n for n in others if not n.startswith("__")), 1)
    return f"It has {close[0]}: is that a misspelling?" if close else ""


def _misfit(name: str, member: Any, arguments: int | None) -> tuple[str, str]:
    """Return why a driver cannot use a member, and what to do about it."""
    if arguments is None:
        if not inspect.ismethod(member):
            return "", ""
        what = f"{name} is a method, but the driver reads it as a value"
        return what, "Write @property above it."
    code = getattr(getattr(member, "__func__", None), "__code__", None)
    flags = code.co_flags if code else 0
    if code and not flags & inspect.CO_COROUTINE:
        if (code.co_argcount, code.co_kwonlyargcount) == (1 + arguments, 0):
            return "", ""  # plain, as nearly always: the other questions take long
        if not (code.co_argcount or flags & inspect.CO_VARARGS):
            return f"{name} is a method: write `self` as its first name", ""
    if inspect.iscoroutinefunction(member):
        return f"{name} is `async`, and nobody awaits it", "Write `def`."
    if not callable(member):
        return f"{name} is a value, but must be a method", ""
    try:
        inspect.signature(member).bind(*range(arguments))
    except ValueError:
        pass  # built into Python, which does not say how it is called
    except TypeError as why:
        what = f"{name} is called with {arguments} argument(s) after self, and cannot "
        return f"{what}be: {why}", ""
    return "", ""
