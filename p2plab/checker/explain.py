"""A failing run in words: what was lost, what the protocol did, which line it was."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from p2plab.checker.inspection import (
    LIMIT,
    SharedState,
    class_line,
    member_line,
    nondeterministic,
    passes_together_only,
    place,
    raised_at,
)
from p2plab.checker.run import (
    CHANNELS,
    EAGER,
    LATE,
    ROLES,
    Failure,
    Makers,
    Outcome,
    Promise,
    Trial,
    VerdictKind,
    called,
    differs,
    innermost,
    plain,
)
from p2plab.checker.run import run as run_trial
from p2plab.checker.verdict import SENDS, Verdict, cut, rounds
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE
from p2plab.core.packet import ACK, Kind, Packet
from p2plab.core.trace import RECEIVER, SENDER, Row, Trace
from p2plab.core.validation import count_of
from p2plab.errors import BrokenContract
from p2plab.sim.driver import require_machine
from p2plab.sim.watchdog import Stuck, Watchdog

if TYPE_CHECKING:
    from p2plab.checker.search import Search

AGAIN: Final = 0.3  # for the run that is recorded, if it does not come back [s]
LARGE: Final = 40  # payloads: of more, the end of a run tells what went wrong
# A run of these is recorded, and what it shows is not all that broke the promise.
_OF_MANY_RUNS: Final = (Promise.RETRANSMISSION, Promise.MEMORY, Promise.SPEED)
_NOT_RUN: Final = (Promise.INTERFACE, Promise.QUICK, Promise.QUIET)
# What is wrong with the last event of a run that ends at once.
WRONG: Final = {
    Promise.IN_ORDER_DELIVERY: "this was not next",
    Promise.NO_EXCEPTION: "raises an exception here",
}

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


# Machines that have something in common


def shared_state(makers: Makers) -> str:
    """Say what machines made one after the other share and change, if anything."""
    state = SharedState(makers)
    run_trial(Trial(plain(2)), makers)
    if not (name := state.changed()):
        return ""
    return (
        f"{name} belongs to all machines together, and what one leaves there the next "
        f"one finds: make it in __init__ (self.… = …); a default argument is made only "
        f"once, so write None there"
    )


# From a failing run to a verdict


def failed(search: Search, outcome: Outcome) -> Verdict:
    """Run what failed once more, recorded, and put it in words."""
    failure = outcome.failure
    assert failure is not None
    again = outcome
    if failure.promise not in _NOT_RUN and outcome.trace is None:
        stuck = isinstance(failure.error, Stuck)
        limit = Watchdog(AGAIN, AGAIN) if stuck else search.watchdog
        with suppress(Stuck), limit, search.guard:
            again = limit.call(
                run_trial, outcome.trial, search.makers, True, limit.begin
            )
        outcome.machines = outcome.machines or again.machines
        if failure.promise not in _OF_MANY_RUNS:
            with search.guard:
                failure = _cause(search, outcome, again)
            outcome.failure = failure
    trace = told(search, again)
    if failure.promise in WRONG and trace.rows:
        trace.about["wrong"] = WRONG[failure.promise]
    large = outcome.trial.application.size > LARGE
    shown = rounds(trace) if large else trace
    unpromised, besides = _unpromised(search), ""
    if search.guard.noticed and failure.promise != Promise.QUIET:
        besides = f" Besides, a machine {search.guard.noticed}."
    return Verdict(
        failure.promise.kind,
        search.network.name,
        unpromised + tell(outcome, trace) + besides,
        failure.promise,
        tuple(outcome.link.hits),
        cut(shown, last=failure.promise in WRONG or large),
        tried=search.tried(),
        promised=not unpromised,
    )


def told(search: Search, outcome: Outcome) -> Trace:
    """Return a run's trace with what a ladder says of it."""
    trace = outcome.trace or Trace()
    trace.about["link"] = search.network.words
    trace.about["delivered"] = [f"{each!r:.24}" for each in outcome.delivered]
    return trace


def _cause(search: Search, outcome: Outcome, again: Outcome) -> Failure:
    """Find out what is behind a failure: chance, something shared, or a line."""
    failure = outcome.failure
    assert failure is not None
    if failure.promise != Promise.SAME_AGAIN and not failure.out_of_resources:
        failure = differs(outcome, again) or failure
    chance = failure.promise == Promise.SAME_AGAIN
    broken = failure.promise.kind == VerdictKind.BROKEN
    common = ""
    if not chance and (broken or failure.promise == Promise.NO_EXCEPTION):
        with suppress(Stuck), search.watchdog:
            if only := search.watchdog.call(_only_together, search, outcome.trial):
                return only
    if chance or (broken and not outcome.link.hits):
        with suppress(Stuck), search.watchdog:
            common = search.watchdog.call(shared_state, search.makers)
            if common and (apart := search.watchdog.call(separated, search)):
                return apart.failure or failure
    if chance and not common:
        hints = filter(None, map(nondeterministic, outcome.machines))
        hint = next(hints, "Look for chance, a clock, or the order of a set")
        return failure._replace(words=f"{failure.words}. {hint}")
    if common:
        words = f"{failure.words}. {capital(common)}" if chance else common
        return Failure(Promise.ISOLATION, failure.way, words)
    if failure.error is not None and failure.way >= len(outcome.machines):
        return unbuilt(search.makers[failure.way], failure.way, failure.error)
    return breach(failure, outcome.machines[failure.way])


def _only_together(search: Search, trial: Trial) -> Failure | None:
    """Return the failure if the trial goes well where more than packets is shared."""
    makers = search.together or search.makers
    if trial.application.size > LARGE:
        return None
    with search.guard:
        well = run_trial(trial, makers, as_made=True)
    return separation("") if well.failure is None else None


def separated(search: Search) -> Outcome | None:
    """Return a run that goes well only where more than packets is shared, if any."""
    together = search.together or search.makers
    if search.shared is None:
        return None
    with search.guard:
        found = passes_together_only(search.makers, together, search.shared)
    if found is None:
        return None
    outcome, names = found
    outcome.failure = separation(names)
    return outcome


def separation(names: str) -> Failure:
    """Say that two sides share more than packets; names: what, as far as is known."""
    words = (
        "Sender and receiver share more than packets"
        + (f" ({names})" if names else "")
        + ": the run goes well only because both are in one program, and fails where "
        "each has its own. Let a packet's numbers and bytes carry all that the other "
        "side has to know"
    )
    return Failure(Promise.SEPARATION, words=words)


def _unpromised(search: Search) -> str:
    """Say that the protocol is made for less than this channel, if it says so."""
    asked = search.network.name
    for make in search.makers:
        promised = getattr(make, "channel", asked)
        survives = CHANNELS.get(promised, search.network).kinds
        if not set(survives).issuperset(search.network.kinds):
            return (
                f"This protocol is made for a network of the class "
                f"{promised}, and {asked} is more. "
            )
    return ""


# A protocol that loses, doubles or never delivers something


def tell(run: Outcome, trace: Trace) -> str:
    """Say what was lost, what the protocol did, and which promise that broke."""
    failure = run.failure
    assert failure is not None
    did = failure.words or _what_happened(run, failure, trace)
    did = capital(did.removesuffix("."))
    before = "" if failure.promise in _ALWAYS else f"{_circumstances(run)} "
    return f"{before}{did}{'' if did.endswith('?') else '.'} {failure.promise.broken}"


def _circumstances(run: Outcome) -> str:
    """Say what the network, the application and the driver did."""
    said = []
    for fault in run.link.hits:
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


def _what_happened(run: Outcome, failure: Failure, trace: Trace) -> str:
    sent, delivered = run.trial.application.payloads, run.delivered
    if failure.promise == Promise.IN_ORDER_DELIVERY:
        wrong = wrong_delivery(sent, delivered, lambda index: repr(sent[index]))
        wrong = wrong or WrongDelivery(0, False, "delivered what was not yet sent")
        packets, last = run.packets(0), _last_arrival(trace, RECEIVER)
        if last is None:
            return f"before anything had arrived, the receiver {wrong.did}"
        if wrong.twice:  # what came last may only have let it out of a buffer
            for row in trace.rows:
                arrived = row.host == RECEIVER and row.what in (ARRIVE, DUPLICATE)
                if arrived and packets[row.number].payload == delivered[-1]:
                    last = row
        name = called(packets[last.number])
        if last.what == DUPLICATE:
            name = f"the copy of {name}"
        elif _sent_before(packets, last.number):
            name += ", sent again,"
        if (LATE, 0, last.number) in [hit[:3] for hit in run.link.hits]:
            name += " at last"
        took = "took it for a new one and " if wrong.twice else ""
        return f"when {name} arrived, the receiver {took}{wrong.did}"
    missing = sent[len(delivered) :]
    if failure.promise == Promise.TERMINATION and run.machines[0].done:
        last = _last_arrival(trace, SENDER)
        heard = "although nothing had arrived"
        if last is not None:
            heard = f"after {called(run.packets(1)[last.number])}"
        elif any((row.host, row.what) == (SENDER, CORRUPT) for row in trace):
            heard = "after a damaged packet"
        times = sum(missing[0] in packet.payload for packet in run.packets(0))
        sent_it = f"had sent {missing[0]!r} {count_of(times, 'time')}"
        if not times:
            sent_it = f"never sent {missing[0]!r}, although `send` was called with it"
        return (
            f"the sender took itself for done {heard}, and {sent_it}: it was never "
            f"delivered"
        )
    state = "all was delivered, but the sender is not done"
    if failure.promise == Promise.QUIESCENCE:
        state = "all was delivered and the sender was done"
    elif missing:
        state = f"{missing[0]!r} was never delivered"
    return f"{_doing(run, trace)}; {state}"


def _doing(run: Outcome, trace: Trace) -> str:
    """Say what both sides did since the network had healed, for ever."""
    healed = run.link.healed_at
    ours, theirs = (repeated(trace, role, healed) for role in (SENDER, RECEIVER))
    if ours:
        answer = f"answered with {theirs}" if theirs else "did not answer"
        return f"the sender went on sending {ours}, the receiver {answer}"
    if theirs:
        return f"the receiver went on sending {theirs}"
    if run.stuck:
        return (
            f"from t={run.simulation.now:.2f} s on nothing happened any more: no "
            f"packet was on its way and no timer was running"
        )
    timers = [each.deadline for each in run.machines]
    next_at = min((each for each in timers if each is not None), default=inf)
    return (
        f"after the network had healed, at t={healed:.4g} s, nothing was sent; the "
        f"next timer is set for t={next_at:.6g} s"
    )


def _last_arrival(trace: Trace, role: str) -> Row | None:
    for row in reversed(trace.rows):
        if row.host == role and row.what in (ARRIVE, DUPLICATE):
            return row
    return None


def _sent_before(packets: list[Packet], number: int) -> bool:
    """Whether packet `number` had been sent before; ACKs are expected to repeat."""
    packet = packets[number]
    if packet.kind == ACK:
        return False
    return any(each[:3] == packet[:3] for each in packets[:number])


# What a diagnosis of a real transfer says, too


class WrongDelivery(NamedTuple):
    """A payload that was not the next one.

    place: among the delivered. twice: it had been delivered before.
    """

    place: int
    twice: bool
    did: str


def wrong_delivery(
    sent: Sequence[bytes], delivered: Sequence[bytes], name: Callable[[int], str]
) -> WrongDelivery | None:
    """Return the first payload that was not the next one, if there is one.

    name: how to call the payload that was sent in that place.
    """
    for index, payload in enumerate(delivered):
        if sent[index : index + 1] == [payload]:
            continue
        twice = payload in delivered[:index]
        what = f"{payload!r:.60}, which was never sent,"
        if payload in sent:
            what = name(sent.index(payload)) + (" twice" if twice else "")
        when = "although all was there"
        if index < len(sent):
            when = f"when {name(index)} was next"
        return WrongDelivery(index, twice, f"delivered {what} {when}")
    return None


def repeated(trace: Trace, role: str, since: float) -> str:
    """Say what a side has sent most often since then; empty if it sent nothing."""
    packets = Counter(
        (row.kind, row.seq)
        for row in trace.rows
        if row.host == role and row.what in SENDS and row.time > since
    )
    if not packets:
        return ""
    (kind, seq), times = packets.most_common(1)[0]
    name = "packet" if kind == Kind.DATA else Kind(kind).name
    more = " and others" if len(packets) > 1 else ""
    return f"{name} {seq}{more} ({count_of(times, 'time')})"
