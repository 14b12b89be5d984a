"""What every driver does with a machine: feed it, pull it, watch it, check its word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from p2plab.endpoint import Receiver, Sender, require_receiver, require_sender
from p2plab.errors import BrokenContract
from p2plab.link import CORRUPT
from p2plab.packet import ACK, HEADER_SIZE, MACHINE_KINDS, STAMP_PERIOD, Packet
from p2plab.trace import DELIVER, RETRANSMIT, SEND, SENDER, TIMEOUT, Trace, probe

BURST: Final = 64  # packets in one go; more would overrun a default socket buffer
PULL_LIMIT: Final = 10_000  # packets at one moment, beyond what it was given
ECHO_LIMIT: Final = 1_000_000  # packets at one moment, for those that came in then
TIMEOUT_LIMIT: Final = 1_000  # timeouts at one moment
# A clock that wakes us every millisecond, and late at that, is enough for any pace.
SLACK: Final = 0.001  # paced packets may leave so much too early [s]
CATCH_UP: Final = 0.005  # or so much too late, where a thread may be late [s]


def wire_size(packet: Packet) -> int:
    """Return the bytes that a packet has on a link: header and payload."""
    return HEADER_SIZE + len(packet.payload)


class Host:
    """A machine, and everything that its driver knows about it.

    After every input (`send`, `feed`, `damage`, `fire`) the driver pulls, notes and
    reads `wake_at`. All of them raise BrokenContract when the machine breaks a promise
    of `endpoint`, naming the machine, the time and the remedy.

    role: SENDER or RECEIVER.
    trace: where to record; None records nothing.
    on_payload: gets what a receiver delivers, after every input.
    paced: the machine, or None if it does not ask its driver to space its packets.
    catch_up: by how much a paced machine may make up for a late driver [s].
    inner: the machine, or the one that a Finish… has inside.
    """

    __slots__ = (
        "_catch_up",
        "_due",
        "_fed",
        "_fed_at_last",
        "_fed_before",
        "_fired",
        "_fired_at",
        "_last_state",
        "_log",
        "_log_head",
        "_log_values",
        "_look_at",
        "_looked_at",
        "_name",
        "_on_corrupt",
        "_own",
        "_pull_at",
        "_read",
        "_seen",
        "_sent_before",
        "_timeouts",
        "heard_at",
        "inner",
        "machine",
        "moved_at",
        "number",
        "on_payload",
        "paced",
        "payloads",
        "role",
        "trace",
    )

    def __init__(
        self,
        machine: Sender | Receiver,
        role: str,
        trace: Trace | None = None,
        on_payload: Callable[[bytes], object] | None = None,
        catch_up: float = 0.0,
    ) -> None:
        self.machine: Any = machine
        self.role = role
        self._examine()
        self.trace = trace
        self._log = None if trace is None else trace.rows.append
        self.on_payload = on_payload
        self.number = 0  # packets sent
        self.payloads = 0  # taken by a sender, or delivered by a receiver
        self.inner = inner = getattr(machine, role, machine)
        self._name = type(inner).__name__
        self._on_corrupt = getattr(inner, "on_corrupt", None)
        self.paced = inner if hasattr(inner, "pacing_rate") else None
        self._pull_at: float | None = None  # when pacing allows the next packet
        self._catch_up = catch_up
        self._due = 0.0  # when the next packet would leave at exactly that pace [s]
        self.heard_at = 0.0  # when a packet last arrived [s]
        self.moved_at = 0.0  # when a payload was last delivered [s]
        self._seen: dict[int, bytes] = {}  # the payload last sent under a number
        self._fed = 0  # packets that have come in
        self._look_at = PULL_LIMIT  # the packet at which to look whether it ends
        self._looked_at = -1.0  # when that was last begun, and what had been before
        self._sent_before = self._fed_before = self._fed_at_last = 0
        self._fired_at, self._timeouts = -1.0, 0  # when last, and how often then
        self._fired = False  # on_timeout was called, and nothing has come of it yet
        self._last_state: object = None
        if trace is not None:
            trace.names[role], self._read = probe(machine)
            self._own = role, len(trace.names[role])
            self._log_values = trace.states.values.extend
            self._log_head = trace.states.heads.extend

    def wake_at(self) -> float | None:
        """Return when to `fire` or to pull again, whichever comes first [s]."""
        deadline: float | None = self.machine.deadline
        if self._pull_at is None:
            return deadline
        if deadline is None or self._fired:  # its answer is still held back
            return self._pull_at
        return min(deadline, self._pull_at)

    def send(self, payload: bytes) -> None:
        """Queue a payload at a sender."""
        self.machine.send(payload)
        self.payloads += 1

    def feed(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Hand over a packet that has arrived intact; `what` is the trace's word."""
        if self._log is not None:
            kind, seq, payload, _, _ = packet
            self._log((now, self.role, what, kind, seq, len(payload), number))
        self._fed += 1
        self.heard_at = now
        if now >= STAMP_PERIOD and (echo := packet.echo) is not None:
            turns = (now - echo) // STAMP_PERIOD
            packet = packet._replace(echo=echo + turns * STAMP_PERIOD)
        try:
            self.machine.on_packet(packet, now)
        except Exception as why:
            self._raised("on_packet", now, why)
        if self.role != SENDER:
            self._deliver(now)

    def lose(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Write down the end of a packet that no machine hears of."""
        if self._log is not None:
            kind, seq, size = packet.kind, packet.seq, len(packet.payload)
            self._log((now, self.role, what, kind, seq, size, number))

    def damage(self, packet: Packet, now: float, number: int) -> None:
        """Tell that `packet` has arrived damaged: only the trace knows which it was."""
        self.lose(packet, now, CORRUPT, number)
        self.heard_at = now
        if self._on_corrupt is not None:
            try:
                self._on_corrupt(now)
            except Exception as why:
                self._raised("on_corrupt", now, why)
            if self.role != SENDER:
                self._deliver(now)

    def fire(self, now: float) -> None:
        """Call on_timeout if the deadline has passed; otherwise it was time to pull."""
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            self._time_out(now, deadline)
        if self.role != SENDER:
            self._deliver(now)

    def _time_out(self, now: float, deadline: float) -> None:
        if self._log is not None:
            self._log((now, self.role, TIMEOUT, 0, -1, 0, -1))
        if now != self._fired_at:
            self._fired_at, self._timeouts = now, 0
        self._timeouts += 1
        if self._timeouts > TIMEOUT_LIMIT:
            self._break(now, f"on_timeout was called {TIMEOUT_LIMIT} times", deadline)
        try:
            self.machine.on_timeout(now)
        except Exception as why:
            self._raised("on_timeout", now, why)
        self._fired = True
        self.note(now)  # before the pull: this is where go-back-N steps back

    def pull(self, now: float) -> Iterator[Packet]:
        """Yield what the machine puts on the wire now; the caller may stop early."""
        while (packet := self.next_packet(now)) is not None:
            yield packet

    def next_packet(self, now: float) -> Packet | None:
        """Return the next packet for the wire; None when there is none, or not yet."""
        if self._pull_at is not None:
            if now < self._pull_at:
                return None
            self._pull_at = None
        try:
            packet = self.machine.next_packet(now)
        except Exception as why:
            self._raised("next_packet", now, why)
        if packet is None:
            if self._fired:
                self._require_effect(now)
            return None
        if type(packet) is not Packet or packet.kind not in MACHINE_KINDS:
            self._no_packet(packet, now)
        number = self.number
        if number >= self._look_at:
            self._require_end(now)
        if self._log is not None:
            kind, seq, payload, _, _ = packet
            what = SEND
            if kind != ACK:
                if self._seen.get(seq) is payload:
                    what = RETRANSMIT
                self._seen[seq] = payload
            self._log((now, self.role, what, kind, seq, len(payload), number))
        self.number = number + 1
        self._fired = False
        if self.paced is not None and (rate := self.paced.pacing_rate):
            self._pause(now, 1 / rate)
        return packet

    def _pause(self, now: float, gap: float) -> None:
        self._due = max(self._due, now - self._catch_up) + gap
        if self._due >= now + SLACK:
            self._pull_at = self._due

    def _require_effect(self, now: float) -> None:
        self._fired = False
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            self._break(now, "on_timeout was called, nothing was sent,", deadline)

    def note(self, now: float) -> None:
        """Write down which of the machine's own numbers have changed."""
        if self.trace is not None:
            state = self._read(self.machine)
            if state != self._last_state:
                self._last_state = state
                self._log_values(state)
                self._log_head((now, self._own))

    def _deliver(self, now: float) -> None:
        next_payload, on_payload = self.machine.next_payload, self.on_payload
        while True:
            try:
                payload = next_payload()
            except Exception as why:
                self._raised("next_payload", now, why)
            if payload is None:
                return
            number = self.payloads
            if number > PULL_LIMIT and number > PULL_LIMIT + 2 * self._fed:
                self._endless(now, "next_payload", number, "is waiting")
            if self._log is not None:
                self._log((now, self.role, DELIVER, 0, number, len(payload), -1))
            self.payloads = number + 1
            self.moved_at = now
            if on_payload is not None:
                on_payload(payload)

    def _examine(self) -> None:
        (require_sender if self.role == SENDER else require_receiver)(self.machine)

    def _require_end(self, now: float) -> None:
        # A count begins at every PULL_LIMIT-th packet only, so that the others cost
        # nothing; an endless machine is caught all the same.
        if now != self._looked_at:
            self._looked_at, self._sent_before = now, self.number
            self._fed_before, self._fed_at_last = self._fed_at_last, self._fed
        pulled = self.number + 1 - self._sent_before
        echoes = min(self._fed - self._fed_before, ECHO_LIMIT)
        if pulled > PULL_LIMIT + 2 * self.payloads + echoes:
            self._endless(now, "next_packet", pulled, "may be sent now")
        self._look_at = self.number + (PULL_LIMIT if pulled == 1 else 1)

    def _no_packet(self, answer: object, now: float) -> NoReturn:
        raise BrokenContract(
            f"{self._name}: at t={now:.3f} next_packet returned {answer!r:.80}. "
            f"Return one Packet of kind DATA, ACK, NAK or FIN, or None."
        )

    def _break(self, now: float, what: str, deadline: float) -> NoReturn:
        raise BrokenContract(
            f"{self._name}: at t={now:.3f} {what} and the deadline is still "
            f"{deadline:.3f}. Restart the timer (deadline = now + rto) or stop it "
            f"(deadline = None)."
        )

    def _endless(self, now: float, method: str, times: int, more: str) -> NoReturn:
        raise BrokenContract(
            f"{self._name}: at t={now:.3f} {method} had answered {times} times and "
            f"still did not say None. Return None once nothing more {more}."
        )

    def _raised(self, method: str, now: float, why: Exception) -> NoReturn:
        raise BrokenContract(
            f"{self._name}: at t={now:.3f} {method} raised {type(why).__name__}: "
            f"{why}. A machine must not raise because of what it is told."
        ) from why
