"""A failing run in words: what was lost, what the protocol did, which line it was."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from p2plab.checker.faults import CHANNELS, LATE, ROLES, Fault, called
from p2plab.checker.guard import LIMIT, attributes, changeable, shared
from p2plab.checker.promises import HEAL_TIME, Promise
from p2plab.checker.run import EAGER, Failure, Makers, Outcome, Trial, innermost, plain
from p2plab.checker.run import run as run_trial
from p2plab.checker.source import (
    class_line,
    member_line,
    methods,
    place,
    raised_at,
)
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE
from p2plab.core.packet import ACK, Packet
from p2plab.core.trace import OTHER, RECEIVER, SENDER, TIMEOUT, Row, Trace
from p2plab.core.validation import count_of
from p2plab.errors import BrokenContract
from p2plab.sim.contract import require_machine
from p2plab.sim.watchdog import Stuck

# Broken whatever the network does: there is no need to tell the run.
_ALWAYS: Final = (
    Promise.INTERFACE,
    Promise.QUICK,
    Promise.QUIET,
    Promise.SAME_AGAIN,
    Promise.ISOLATION,
)


def capital(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


# A machine that breaks its own promises


def unfit(makers: Makers) -> Failure | None:
    """Look at both machines before anything is run."""
    for way, make in enumerate(makers):
        try:
            machine = make()
        except (Exception, SystemExit, Stuck) as why:
            return unbuilt(make, way, why)
        try:
            require_machine(machine, ROLES[way])
            promised = getattr(make, "channel", "fifo")
            if isinstance(promised, str) and promised not in CHANNELS:
                name = type(machine).__name__
                words = f"{name}.channel is {promised!r}, and not one of "
                words = f"{words}{', '.join(CHANNELS)}. See {class_line(type(machine))}"
                return Failure(Promise.INTERFACE, way, words)
        except BrokenContract as error:
            line = member_line(machine, error.member) or class_line(type(machine))
            return Failure(Promise.INTERFACE, way, _see(str(error), line), error)
        except Exception as error:
            words = f"the {ROLES[way]} raised {_error(error)}"
            words += _at(error, type(machine))
            return Failure(Promise.INTERFACE, way, words, error)
    return None


def unbuilt(make: Any, way: int, why: BaseException) -> Failure:
    """Say why there is no machine."""
    kind = make if isinstance(make, type) else type(make)
    name = getattr(make, "__name__", kind.__name__)
    if isinstance(why, Stuck):
        words = f"{name}() did not come back within about {LIMIT:g} s{_at(why, kind)}"
    elif hasattr(make, "next_packet") and not callable(make):
        words = f"the {ROLES[way]} is a machine already: hand over its class, {name}"
    elif not callable(make):
        words = f"the {ROLES[way]} is {make!r:.60}: hand over a class"
    else:
        words = f"{name}() raised {_error(why)}{_at(why, kind)}"
        if isinstance(why, TypeError):
            code = getattr(vars(kind).get("__init__"), "__code__", None)
            if code is not None and not _at(why, kind):
                words += f" at {place(code.co_filename, code.co_firstlineno)}"
            words += f". The {ROLES[way]} is built without arguments: give each of its "
            words += "parameters a default"
    return Failure(Promise.INTERFACE, way, words, why)


def breach(failure: Failure, machine: Any) -> Failure:
    """Name the student's line in a breach, and the cure."""
    error = failure.error
    if error is None:
        return failure
    inner = innermost(machine, failure.way)
    if isinstance(error, BrokenContract) and not error.__cause__:
        words = str(error)
        if error.time is None:
            words = f"{error.machine}: {words}"
        if inspect.isgeneratorfunction(getattr(type(inner), error.member, None)):
            words += " `yield` makes it a generator: use `return`"
        return failure._replace(words=_see(words, member_line(inner, error.member)))
    for each in (inner, machine):
        who = type(each).__name__
        method, line = raised_at(error, type(each))
        if method:
            break
    if isinstance(error, Stuck):
        words = f"{who}.{method}" if method else who
        words += f" did not come back within about {LIMIT:g} s"
        words += f": an endless loop or a pause at {line}" if line else ""
        return failure._replace(promise=Promise.END, words=words)
    if not method:
        promise, words = _odd_value(inner, error)
        return failure._replace(promise=promise, words=words)
    words = f"{who}.{method} raised {_error(error.__cause__ or error)} at {line}"
    if failure.out_of_resources:
        words += ": it is more than the limit of memory"
    return failure._replace(words=words)


def _odd_value(machine: Any, error: BaseException) -> tuple[Promise, str]:
    """Return the promise that is broken by a value that no driver can use, and how."""
    who = type(machine).__name__
    for name, unit in (("deadline", "seconds"), ("pacing_rate", "packets per second")):
        value = getattr(machine, name, None)
        if value is not None and not isinstance(value, int | float):
            return Promise.TIMER, (
                f"{who}.{name} is {value!r:.60} (a {type(value).__name__}); it is a "
                f"number of {unit} or None"
            )
    words = f"the driver could not go on with {who}: {_error(error)}"
    return Promise.INTERFACE, words


def _error(why: BaseException) -> str:
    said = f": {why}" if str(why) else ""
    return f"{type(why).__name__}{said}"


def _at(why: BaseException, kind: type) -> str:
    _, line = raised_at(why, kind)
    return f" at {line}" if line else ""


def _see(words: str, line: str) -> str:
    words = words.removesuffix(".")
    mark = "" if words.endswith("?") else "."
    return f"{words}{mark} See {line}" if line else words


# Two machines that have something in common


def shared_state(makers: Makers) -> str:
    """Say what two machines made one after the other share and change, if anything."""
    before = _common(makers)
    run_trial(Trial(plain(2)), makers)
    for words, value in _common(makers).items():
        if before.get(words, value) != value:
            return words
    return ""


def _common(makers: Makers) -> dict[str, str]:
    """Return what machines share: the words to say if it changes, and its value."""
    found = {}
    for make in makers:
        machine = make()
        who = type(machine).__name__
        for name, value in shared(machine, make()).items():
            cure = f"make it in __init__ (self.{name} = …), or with "
            cure += "field(default_factory=…)"
            if name in dict(attributes(machine)):  # a default or a global
                cure = f"a default is made only once: write {name}=None, and make a "
                cure += "new one in __init__ if it is None"
            words = (
                f"{who}.{name} belongs to all machines of the class together, and what "
                f"one leaves there the next one finds: {cure}"
            )
            found[words] = repr(value)[:4000]
        for _, method in methods(type(machine)):
            for name in method.__code__.co_names:
                if changeable(value := method.__globals__.get(name)):
                    words = (
                        f"{who} changes the global {name}, which all machines share: "
                        f"keep it in `self`, made in __init__"
                    )
                    found[words] = repr(value)[:4000]
    return found


# A protocol that loses, doubles or never delivers something


@dataclass(frozen=True, slots=True)
class Story:
    """The run that failed, as its trace tells it. pair: which of its transfers."""

    run: Outcome
    trace: Trace
    pair: int = 0

    def tell(self) -> str:
        """Say what was lost, what the protocol did, and which promise that broke."""
        failure = self.run.failure
        assert failure is not None
        words = failure.words or self._what_happened(failure)
        words = capital(words.removesuffix("."))
        if not words.endswith("?"):
            words += "."
        before = "" if failure.promise in _ALWAYS else f"{self._before()} "
        return f"{before}{words} {failure.promise.broken}"

    def _before(self) -> str:
        """Say what the network, the application and the driver did."""
        run, said = self.run, []
        for fault in run.hits:
            packets = run.packets(fault.way)
            again = _sent_before(packets, fault.number)
            said.append(fault.words(packets[fault.number], again))
        text = "Without any fault of the network"
        if said:
            text = capital("; ".join(said[:6])) + (" …" if len(said) > 6 else "")
            text += f" ({count_of(len(said), 'fault')})"
        application = run.trial.application
        if application.pairs > 1 or len(application.phases) > 1 or not said:
            text += f"; the application sent {application.words}"
        if run.trial.style != EAGER:
            text += "; the driver pulled packets late"
        return f"{text}."

    def _what_happened(self, failure: Failure) -> str:
        match failure.promise:
            case Promise.IN_ORDER_DELIVERY:
                return self._wrong_delivery()
            case Promise.RETRANSMISSION:
                return self._storm()
            case Promise.QUIESCENCE:
                return self._restless(failure.way)
        return self._unfinished()

    def _packets(self, role: str) -> list[Packet]:
        return self.run.packets(2 * self.pair + (role == RECEIVER))

    def _last_arrival(self, role: str, carrying: bytes = b"") -> Row | None:
        packets = self._packets(OTHER[role])
        for row in reversed(self.trace.rows):
            arrived = row.host == role and row.what in (ARRIVE, DUPLICATE)
            if arrived and carrying in packets[row.number].payload:
                return row
        return None

    def _wrong_delivery(self) -> str:
        """Say what was delivered in place of what, and which packet was the cause."""
        delivered = self.run.delivered[self.pair]
        sent = self.run.trial.application.payloads
        index, got = len(delivered) - 1, delivered[-1]
        wanted = sent[index] if index < len(sent) else None
        twice = got in sent[:index] and got != wanted
        once_more = got in sent and not twice and got not in sent[index + 1 :]
        if not got and wanted:
            did = f"delivered {got!r} where {wanted!r} was next"
        elif twice:
            did = f"delivered {got!r} twice"
        elif got in sent[index + 1 :]:
            did = f"delivered {got!r} although {wanted!r} was still missing"
        elif once_more:
            did = f"delivered {got!r} once more than it was sent"
        else:
            did = f"delivered {got!r:.60}, which was never sent"
        last = self._last_arrival(RECEIVER)
        if last is None:
            return f"Before anything had arrived, the receiver {did}"
        fresh = twice or once_more
        cause = (fresh and got and self._last_arrival(RECEIVER, got)) or last
        packets = self._packets(SENDER)
        if cause != last:
            did = f"{did} (when {called(packets[last.number])} had arrived)"
        name = called(packets[cause.number])
        took = "took it for a new one and " if fresh else ""
        late = Fault(LATE, 2 * self.pair, cause.number)
        if cause.what == DUPLICATE:
            took = took.replace("it", f"the copy of {name}")
            return f"The receiver {took or f'got the copy of {name} and '}{did}"
        if any(hit[:3] == late[:3] for hit in self.run.hits):
            return f"When {name} arrived at last, the receiver {took}{did}"
        if not _sent_before(packets, cause.number):
            return f"When {name} arrived, the receiver {did}"
        way = 2 * self.pair
        sent_at = [each.time for each in self.run.sent if each.way == way]
        fired = (SENDER, TIMEOUT, sent_at[cause.number])
        timer = any((row.host, row.what, row.time) == fired for row in self.trace)
        why = " when its timer fired" if timer else ""
        return f"The sender sent {name} again{why}; the receiver {took}{did}"

    def _unfinished(self) -> str:
        run = self.run
        sent = run.trial.application.payloads
        missing = sent[len(run.delivered[self.pair]) :]
        last = self._last_arrival(SENDER)
        heard = last and called(self._packets(RECEIVER)[last.number])
        if missing and run.machines[2 * self.pair].done:
            return self._done_too_early(missing[0], heard)
        what = f"{missing[0]!r} was never delivered" if missing else ""
        if not sent:
            what = "there was nothing to send"
        what = what or "all was delivered, but the sender is not done"
        if not run.stuck:
            return f"{self._busy()}; {what}"
        words = "The sender heard nothing"
        if heard:
            words = f"The last that the sender heard was {heard}"
        return (
            f"{words}. From t={run.time:.2f} s on nothing happened any more: no packet "
            f"was on its way and no timer was running, although the sender's `done` is "
            f"False; {what}"
        )

    def _done_too_early(self, missing: bytes, heard: str | None) -> str:
        why = "although nothing had arrived"
        if heard:
            why = f"after {heard} had arrived"
        elif any((row.host, row.what) == (SENDER, CORRUPT) for row in self.trace):
            why = "after a damaged packet had arrived"
        times = sum(missing in packet.payload for packet in self._packets(SENDER))
        sent = f"and had sent {missing!r} {count_of(times, 'time')}"
        if not times:
            sent = f"and never sent {missing!r}, although `send` was called with it"
        return f"The sender took itself for done {why}, {sent}: it was never delivered"

    def _storm(self) -> str:
        """Say how much was sent, and that it did not help."""
        healed = self.run.healed_at
        count = sum(each.time >= healed for each in self.run.sent)
        took = self.run.time - healed
        return (
            f"In the {took:.3g} s after that, {count} packets were sent, and it was "
            f"not yet done: {self._busy()}"
        )

    def _busy(self) -> str:
        """Say what both sides do for ever."""
        healed = self.run.healed_at
        ours = self._repeated(SENDER, healed)
        theirs = self._repeated(RECEIVER, healed)
        if ours is None and theirs is None:
            at = [each.deadline for each in self.run.machines[2 * self.pair :][:2]]
            waits = min((each for each in at if each is not None), default=inf)
            return (
                f"After the network had healed, at t={healed:.4g} s, nothing was sent; "
                f"the next timer is set for t={waits:.6g} s"
            )
        parts = []
        if ours is not None:
            parts.append(f"the sender went on sending {ours}")
        if theirs is not None:
            parts.append(f"the receiver {'answered with' if ours else 'sent'} {theirs}")
        else:
            once = self._repeated(RECEIVER, -inf) is not None
            parts.append(f"the receiver {'no longer' if once else 'never'} answered")
        return ", ".join(parts)

    def _repeated(self, role: str, since: float) -> str | None:
        """Say what a side has sent most often since then, if it has sent anything."""
        way = 2 * self.pair + (role == RECEIVER)
        packets = [s.packet for s in self.run.sent if s.way == way and s.time > since]
        if not packets:
            return None
        often = Counter(packet[:3] for packet in packets).most_common(2)
        (packet, times), more = often[0], " and others" if len(often) > 1 else ""
        return f"{called(Packet(*packet))}{more} ({count_of(times, 'time')})"

    def _restless(self, way: int) -> str:
        done = "Everything was delivered and the sender was done"
        for role in (RECEIVER, SENDER):
            what = self._repeated(role, self.run.healed_at + 1)
            if what is not None:
                return f"{done}, but the {role} went on sending {what}"
        return (
            f"{done}, but the {ROLES[way % 2]} still held a timer {HEAL_TIME:g} s later"
        )


def _sent_before(packets: list[Packet], number: int) -> bool:
    """Whether packet `number` had been sent before; ACKs are expected to repeat."""
    packet = packets[number]
    if packet.kind == ACK:
        return False
    return any(each[:3] == packet[:3] for each in packets[:number])
