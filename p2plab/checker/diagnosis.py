"""A transfer that has ended, judged as the checker judges a run: with a ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from p2plab.checker.explain import WRONG, breach, capital, repeated, wrong_delivery
from p2plab.checker.inspection import OutputGuard
from p2plab.checker.run import Failure, Promise, VerdictKind, innermost
from p2plab.checker.verdict import SENDS, Verdict, cut, headline, ladder, overtaken
from p2plab.content.chunks import Assembly
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW
from p2plab.core.packet import MACHINE_KINDS
from p2plab.core.trace import DELIVER, RECEIVER, SENDER, Row, Trace
from p2plab.core.validation import count_of
from p2plab.errors import (
    BadContent,
    BrokenContract,
    P2PLabError,
    TransferRefused,
    TransferStopped,
)
from p2plab.sim.replay import Replay, replay

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer

INTACT: Final = (ARRIVE, DUPLICATE)
TRIES: Final = 3  # packets lost one after the other: nobody could do anything


@dataclass(frozen=True, slots=True)
class Diagnosis(Verdict):
    """What came of one transfer, and the part of its trace that tells it.

    kind: survived, broken, breach (of the machine's own promises), or unjudged, if it
        failed for something else: it was stopped or refused, or the network was down.
    trace: at most about 25 packets around the first broken promise, or the last ones.
    channel: always late: a real network may do anything.
    note: whether it was replayed packet for packet, or why not.
    """

    note: str = ""

    def __str__(self) -> str:
        return f"{self.title}: {self.sentence} {self.note}".rstrip()

    def _repr_html_(self) -> str:
        words = headline(self, f"{self.sentence} {self.note}")
        return f"{words}\n{ladder(self.trace, self.sentence)}"


class _Finding(NamedTuple):
    """What went wrong.

    promise: which one was broken; None if that was not for the protocol to prevent.
    """

    words: str
    promise: Promise | None = None


def autopsy(transfer: Transfer) -> Diagnosis:
    """Say what happened in a transfer that has ended, well or not, with its ladder.

    Where both ends are in this process, fresh machines are told the same again: what
    they deliver is what was delivered, or the note says where they differ. With only
    one end here it tells what that end saw.
    Raises ValueError for a transfer that still goes on.
    """
    if not transfer.ended:
        raise ValueError("the transfer still goes on: wait() for its end, or stop() it")
    trace = _machines_only(transfer.trace)
    errors, network = _errors(transfer), _network(trace)
    with OutputGuard():  # it has printed before
        sent, delivered, note = _contents(transfer)
        found = _breach(transfer, errors)
    wrong = wrong_delivery(sent, delivered, "payload {}".format)
    if wrong is not None and found is None:
        found = _Finding(f"the receiver {wrong.did}", Promise.IN_ORDER_DELIVERY)
        trace.about["wrong"] = WRONG[Promise.IN_ORDER_DELIVERY]
        trace.rows = _until_delivery(trace.rows, wrong.place)
    found = found or _not_to_blame(errors, trace) or _incomplete(transfer, trace)
    trace.about["delivered"] = _named(sent, delivered)
    shown = cut(trace, last=True)
    if found is None:
        words = f"{network} Everything was delivered, and both sides finished."
        return Diagnosis(VerdictKind.SURVIVED, "late", words, trace=shown, note=note)
    kind, promise = VerdictKind.UNJUDGED, found.promise
    words = f"{network} {capital(found.words.removesuffix('.'))}."
    if promise is not None:
        kind = promise.kind
        # The checker's limits are in virtual time, and for faults that it has made.
        words = f"{words} {promise.broken.split(' (within')[0].rstrip('.')}."
    return Diagnosis(kind, "late", words, promise, trace=shown, note=note)


def _errors(transfer: Transfer) -> list[P2PLabError]:
    """Return what each end failed with, as far as it is here."""
    ends = [transfer, transfer.other_end]
    return [end.error for end in ends if end is not None and end.error is not None]


def _machines_only(trace: Trace) -> Trace:
    """Leave out what drivers say to each other; an overflow is a loss as well."""
    rows = [
        row._replace(what=LOSS) if row.what == OVERFLOW else row
        for row in trace.rows
        if not row.kind or row.kind in MACHINE_KINDS
    ]
    return Trace(dict(trace.about), trace.names, rows)


# What was sent and delivered, from a replay


def _contents(transfer: Transfer) -> tuple[Sequence[bytes], Sequence[bytes], str]:
    """Return what was sent and what was delivered, as far as is known, and the note."""
    ends = [transfer, transfer.other_end or transfer]
    traces = {end.role: end.own_trace for end in ends}
    sent = next((end.payloads for end in ends if end.payloads), ())
    real, offer = transfer.id > 0, transfer.offer
    if real and len(traces) < 2:
        return sent, (), "Not replayed: the other end is in another process."
    if not all(trace.rows for trace in traces.values()):
        return sent, (), "Not replayed: there is no trace of it."
    try:
        sender = offer.setup.sender()
        receiver = offer.receiver() if real else offer.setup.receiver()
    except Exception as why:  # the protocol's name may mean nothing any more
        return sent, (), f"Not replayed: {why}"
    traces.setdefault(RECEIVER, transfer.own_trace)  # of both, if it was simulated
    again = replay(sender, receiver, sent, traces, real=real)
    packets = count_of(again.packets, "packet")
    difference = _difference(again, transfer)
    if not difference:
        note = f"Replayed into fresh machines: the same {packets}."
        return sent, again.delivered, note
    note = (
        f"A replay into fresh machines is the same for {packets} only: {difference}. "
        f"Have the classes changed since, do they use chance or a clock, or do "
        f"machines have something in common?"
    )
    return sent, (), note


def _difference(again: Replay, transfer: Transfer) -> str:
    """Say how a replay differs from what happened, if it does."""
    if again.error is not None:
        same = {(type(each), str(each)) for each in _errors(transfer)}
        if (type(again.error), str(again.error)) in same:
            return ""
        return f"a fresh machine ended it: {again.error}"
    assembly = transfer.assembly
    if not again.difference and assembly is not None:
        fresh = Assembly(assembly.content)
        for payload in again.delivered:
            fresh.add(payload)
        arrived = [(each.received, each.data()) for each in (fresh, assembly)]
        if arrived[0] != arrived[1]:  # a trace has only their number
            return "other bytes were delivered"
    return again.difference


def _named(sent: Sequence[bytes], delivered: Sequence[bytes]) -> list[str]:
    """Call each delivered payload by its place among those sent."""
    places = {payload: index for index, payload in reversed(list(enumerate(sent)))}
    return [
        f"payload {i if sent[i : i + 1] == [payload] else places.get(payload, '?')}"
        for i, payload in enumerate(delivered)
    ]


# What went wrong


def _until_delivery(rows: list[Row], number: int) -> list[Row]:
    """Return the rows until payload `number` was delivered; all if it was not."""
    for place, row in enumerate(rows, 1):
        if row.what == DELIVER and row.seq == number:
            return rows[:place]
    return rows


def _network(trace: Trace) -> str:
    if not trace.rows:
        return "Of the machines' packets there is no trace."
    fates = Counter(row.what for row in trace.rows)
    said = [
        f"{verb} {fates[what]}"
        for what, verb in ((LOSS, "lost"), (CORRUPT, "damaged"), (DUPLICATE, "doubled"))
        if fates[what]
    ]
    if late := len(overtaken(trace.rows)):
        said.append(f"delayed {late} until later ones had arrived")
    sent = count_of(sum(fates[what] for what in SENDS), "packet")
    return f"Of {sent} the network {', '.join(said) or 'lost none'}."


def _breach(transfer: Transfer, errors: Sequence[P2PLabError]) -> _Finding | None:
    """Return what a machine did that no machine may do."""
    error = next((each for each in errors if isinstance(each, BrokenContract)), None)
    if error is None:
        return None
    promise, words = Promise(error.promise), str(error)
    setup = transfer.offer.setup
    for way, machine in enumerate((setup.sender(), setup.receiver())):
        if type(innermost(machine, way)).__name__ == error.machine:
            failure = breach(Failure(promise, way, error=error), machine)
            promise, words = failure.promise, failure.words
    return _Finding(words, promise)


def _not_to_blame(errors: Sequence[P2PLabError], trace: Trace) -> _Finding | None:
    """Return why it ended, if that was not for the protocol to prevent."""
    if not errors or any(isinstance(each, BadContent) for each in errors):
        return None
    words = _first_sentence(errors[0])
    if all(isinstance(each, TransferRefused | TransferStopped) for each in errors):
        last = max([row.time for row in trace.rows], default=0.0)
        return _Finding(f"{words}; after t={last:.3g} s nothing more was sent")
    heard_at = max([row.time for row in trace.rows if row.what in INTACT], default=-1.0)
    rows = [row for row in trace.rows if row.time > heard_at]
    tries = sum(row.what in SENDS for row in rows)
    lost = sum(row.what == LOSS for row in rows)
    if tries == lost >= TRIES:
        return _Finding(f"{words}; the last {lost} packets were all lost")
    return None if trace.rows else _Finding(words)


def _incomplete(transfer: Transfer, trace: Trace) -> _Finding | None:
    error, count = transfer.error, transfer.offer.content.count
    for each in _errors(transfer):
        if isinstance(each, BadContent):
            return _Finding(_first_sentence(each), Promise.IN_ORDER_DELIVERY)
    delivered = [row for row in trace.rows if row.what == DELIVER]
    far = transfer.assembly is None  # nobody here knows what was delivered
    got = len(delivered)
    if transfer.assembly is not None and not delivered:
        got = transfer.assembly.received  # the receiver kept no trace
    if error is None and (far or got == count):
        return None
    if got > count:
        words = f"{got} payloads were delivered, and only {count} were sent"
        return _Finding(words, Promise.IN_ORDER_DELIVERY)
    since = delivered[-1].time if delivered else 0.0
    parts = [] if far else [f"{got} of {count} payloads were delivered"]
    for role in (SENDER, RECEIVER):
        if did := repeated(trace, role, since):
            parts.append(f"after that the {role} sent {did}")
    why = "the sender took itself for done" if error is None else _first_sentence(error)
    return _Finding("; ".join([*parts, why]), Promise.TERMINATION)


def _first_sentence(error: P2PLabError) -> str:
    return str(error).split(". ")[0]
