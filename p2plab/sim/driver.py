"""What every driver does with a machine: feed it, pull it, watch it, check its word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from p2plab.core.endpoint import (
    Breach,
    Receiver,
    Sender,
    require_receiver,
    require_sender,
)
from p2plab.core.link import CORRUPT
from p2plab.core.packet import ACK, HEADER_SIZE, MACHINE_KINDS, TIMESTAMP_PERIOD, Packet
from p2plab.core.trace import (
    DELIVER,
    RETRANSMIT,
    SEND,
    SENDER,
    TIMEOUT,
    Row,
    State,
    Trace,
    probe,
)

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


def _in_this_period(packet: Packet, now: float) -> Packet:
    """Return a packet whose echo counts the periods of stamps that have passed."""
    if packet.ts_ecr is None:
        return packet
    turns = (now - packet.ts_ecr) // TIMESTAMP_PERIOD
    return packet._replace(ts_ecr=packet.ts_ecr + turns * TIMESTAMP_PERIOD)


class Host:
    """A machine, and everything that its driver knows about it.

    After every input (`send`, `feed`, `feed_all`, `damage`, `fire`) the driver pulls,
    notes and reads `wake_at`. All of them raise BrokenContract when the machine breaks
    a promise of `endpoint`, naming the machine, the time and the remedy.

    role: SENDER or RECEIVER.
    trace: where to record; None records nothing.
    on_payload: gets what a receiver delivers, after every input.
    paced: the machine, or None if it does not ask its driver to space its packets.
    catch_up: by how much a paced machine may make up for a late driver [s].
    inner: the machine, or the one inside a Finish… or Modulo….
    """

    __slots__ = (
        "_breach",
        "_catch_up",
        "_due",
        "_fed",
        "_fed_at_last",
        "_fed_before",
        "_fired",
        "_fired_at",
        "_last_state",
        "_log",
        "_look_at",
        "_looked_at",
        "_next_payload",
        "_on_corrupt",
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
        self.role, self.trace, self.on_payload = role, trace, on_payload
        self._examine()
        self._log = None if trace is None else trace.rows.append
        self.number = self.payloads = 0  # packets sent; payloads taken, or delivered
        inner: Any = machine
        while hasattr(inner, role):  # a Finish… or Modulo… around it
            inner = getattr(inner, role)
        self.inner = inner
        self._breach = Breach(type(inner).__name__)
        self._on_corrupt = getattr(inner, "on_corrupt", None)
        either: Any = machine  # what is called for every packet is looked up once
        self._next_payload: Any = None if role == SENDER else either.next_payload
        self.paced = inner if hasattr(inner, "pacing_rate") else None
        self._pull_at: float | None = None  # when pacing allows the next packet
        self._catch_up = catch_up
        self._due = 0.0  # when the next packet would leave at exactly that pace [s]
        self.heard_at = self.moved_at = 0.0  # last arrival, last delivery [s]
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

    def wake_at(self) -> float | None:
        """Return when to `fire` or to pull again, whichever comes first [s]."""
        deadline: float | None = self.machine.deadline
        if self._pull_at is None:
            return deadline
        if deadline is None or self._fired:  # its answer is still held back
            return self._pull_at
        return min(deadline, self._pull_at)

    def expect_payloads(self, count: int) -> bool:
        """Tell a sender how many will come, before the first; whether it listens."""
        hear = getattr(self.inner, "expect_payloads", None)
        if hear is not None:
            hear(count)
        return hear is not None

    def send(self, *payloads: bytes) -> None:
        """Queue payloads at a sender."""
        send = self.machine.send
        for payload in payloads:
            send(payload)
        self.payloads += len(payloads)

    def feed(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Hand over a packet that has arrived intact; `what` is the trace's word."""
        if self._log is not None:
            kind, seq, payload, _, _ = packet
            self._log(Row(now, self.role, what, kind, seq, len(payload), number))
        self._fed += 1
        self.heard_at = now
        if now >= TIMESTAMP_PERIOD:
            packet = _in_this_period(packet, now)
        try:
            self.machine.on_packet(packet, now)
        except Exception as why:
            raise self._breach.raised(now, "on_packet", why) from why
        if self._next_payload is not None:
            self._deliver(now)

    def feed_all(
        self, packets: Iterable[tuple[Packet, int]], now: float, what: str
    ) -> None:
        """Hand over what has arrived at once; the same as to feed one by one."""
        role, log, on_packet = self.role, self._log, self.machine.on_packet
        delivers, late = self._next_payload is not None, now >= TIMESTAMP_PERIOD
        self.heard_at = now
        for packet, number in packets:
            if log is not None:
                kind, seq, payload, _, _ = packet
                log(Row(now, role, what, kind, seq, len(payload), number))
            self._fed += 1
            if late:
                packet = _in_this_period(packet, now)
            try:
                on_packet(packet, now)
            except Exception as why:
                raise self._breach.raised(now, "on_packet", why) from why
            if delivers:
                self._deliver(now)

    def lose(self, packet: Packet, now: float, what: str, number: int) -> None:
        """Write down the end of a packet that no machine hears of."""
        if self._log is not None:
            kind, seq, size = packet.kind, packet.seq, len(packet.payload)
            self._log(Row(now, self.role, what, kind, seq, size, number))

    def damage(self, packet: Packet, now: float, number: int) -> None:
        """Tell that `packet` has arrived damaged: only the trace knows which it was."""
        self.lose(packet, now, CORRUPT, number)
        self.heard_at = now
        if self._on_corrupt is not None:
            try:
                self._on_corrupt(now)
            except Exception as why:
                raise self._breach.raised(now, "on_corrupt", why) from why
            if self._next_payload is not None:
                self._deliver(now)

    def fire(self, now: float) -> None:
        """Call on_timeout if the deadline has passed; otherwise it was time to pull."""
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            self._time_out(now, deadline)
        if self._next_payload is not None:
            self._deliver(now)

    def _time_out(self, now: float, deadline: float) -> None:
        if self._log is not None:
            self._log(Row(now, self.role, TIMEOUT, 0, -1, 0, -1))
        if now != self._fired_at:
            self._fired_at, self._timeouts = now, 0
        self._timeouts += 1
        if self._timeouts > TIMEOUT_LIMIT:
            what = f"on_timeout was called {TIMEOUT_LIMIT} times"
            raise self._breach.still_due(now, what, deadline)
        try:
            self.machine.on_timeout(now)
        except Exception as why:
            raise self._breach.raised(now, "on_timeout", why) from why
        self._fired = True
        self.note(now)  # before the pull: this is where go-back-N steps back

    def pull(self, now: float) -> Iterator[Packet]:
        """Yield what the machine puts on the wire now; the caller may stop early."""
        if self._pull_at is not None and now >= self._pull_at:
            self._pull_at = None
        next_packet, seen, paced = self.machine.next_packet, self._seen, self.paced
        role, log = self.role, self._log
        while self._pull_at is None:
            try:
                packet = next_packet(now)
            except Exception as why:
                raise self._breach.raised(now, "next_packet", why) from why
            if packet is None:
                if self._fired:
                    self._require_effect(now)
                return
            if type(packet) is not Packet or packet.kind not in MACHINE_KINDS:
                raise self._breach.odd_packet(now, packet)
            number = self.number
            if number >= self._look_at:
                self._require_end(now)
            if log is not None:
                kind, seq, payload, _, _ = packet
                what = SEND
                if kind != ACK:
                    what = RETRANSMIT if seen.get(seq) is payload else SEND
                    seen[seq] = payload
                log(Row(now, role, what, kind, seq, len(payload), number))
            self.number = number + 1
            self._fired = False
            if paced is not None and (rate := paced.pacing_rate):
                self._pause(now, 1 / rate)
            yield packet

    def _pause(self, now: float, gap: float) -> None:
        self._due = max(self._due, now - self._catch_up) + gap
        if self._due >= now + SLACK:
            self._pull_at = self._due

    def _require_effect(self, now: float) -> None:
        self._fired = False
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            what = "on_timeout was called, nothing was sent,"
            raise self._breach.still_due(now, what, deadline)

    def note(self, now: float) -> None:
        """Write down which of the machine's own numbers have changed."""
        if self.trace is not None:
            state = self._read(self.machine)
            if state != self._last_state:
                self._last_state = state
                self.trace.states.append(State(now, self.role, state))

    def _deliver(self, now: float) -> None:
        next_payload, on_payload = self._next_payload, self.on_payload
        while True:
            try:
                payload = next_payload()
            except Exception as why:
                raise self._breach.raised(now, "next_payload", why) from why
            if payload is None:
                return
            number = self.payloads
            if number > PULL_LIMIT and number > PULL_LIMIT + 2 * self._fed:
                raise self._breach.endless(now, "next_payload", number, "is waiting")
            if self._log is not None:
                self._log(Row(now, self.role, DELIVER, 0, number, len(payload), -1))
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
            raise self._breach.endless(now, "next_packet", pulled, "may be sent now")
        self._look_at = self.number + (PULL_LIMIT if pulled == 1 else 1)
