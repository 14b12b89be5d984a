"""A transfer that has ended, judged as the checker judges a run: with a ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from p2plab.checker.breaches import explained
from p2plab.checker.checking import WRONG
from p2plab.checker.drawing import headline, ladder, overtaken
from p2plab.checker.evidence import SENDS, contents, errors_of, fits, named
from p2plab.checker.network import called
from p2plab.checker.promises import PROMISES
from p2plab.checker.quiet import Ear
from p2plab.checker.story import capital
from p2plab.checker.trial import Failure
from p2plab.checker.verdict import UNJUDGED, Verdict, cut
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW
from p2plab.core.packet import MACHINE_KINDS, Kind, Packet
from p2plab.core.trace import DELIVER, RECEIVER, RETRANSMIT, SEND, SENDER, Trace
from p2plab.core.validation import count_of
from p2plab.errors import (
    BadContent,
    BrokenContract,
    P2PLabError,
    TransferRefused,
    TransferStopped,
)
from p2plab.sim.replay import Recording, replay

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer

ARRIVALS: Final = (ARRIVE, DUPLICATE)
TRIES: Final = 3  # packets lost one after the other: nobody could do anything


@dataclass(frozen=True, slots=True)
class Autopsy(Verdict):
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


def autopsy(transfer: Transfer, tape: Sequence[Recording] = ()) -> Autopsy:
    """Say what happened in a transfer that has ended, well or not, with its ladder.

    Where both ends are in this process, fresh machines are told the same again: what
    they deliver is what was delivered, or the note says where they differ. With only
    one end here it tells what that end saw.
    tape: the recordings of its two machines (see `replay.recording`), where there are
        some: they also tell whether the machines can be believed. Those of other
        transfers are left out.
    Raises ValueError for a transfer that still goes on.
    """
    if not transfer.ended:
        raise ValueError("the transfer still goes on: wait() for its end, or stop() it")
    trace = _machines_only(transfer.trace)
    own = [each for each in tape if fits(each, transfer, trace)]
    with Ear():  # it has printed before
        sent, delivered, note = contents(transfer, own)
        failure, until = _breach(transfer, own), None
    if tape and not own:
        note = f"The tape is of another transfer. {note}"
    if failure is None:
        failure, until = _wrong_delivery(sent, delivered, trace)
    failure = failure or _innocent(transfer, trace) or _incomplete(transfer, trace)
    trace.about["delivered"] = named(sent, delivered)
    if until is not None:
        trace.about["wrong"] = WRONG["prefix"]
        trace = Trace(trace.about, trace.names, trace.rows[: until + 1])
    shown = cut(trace, last=True)
    network = _network(trace)
    if failure is None:
        words = f"{network} Everything was delivered, and both sides finished."
        return Autopsy("survived", "late", words, trace=shown, note=note)
    words = f"{network} {capital(failure.words.removesuffix('.'))}."
    if not failure.promise:
        return Autopsy(failure.kind, "late", words, trace=shown, note=note)
    whose = "" if failure.kind == "broken" else " of the machine"
    # The checker's limits are in virtual time, and for faults that it has made.
    broken = PROMISES[failure.promise].split(" (within")[0]
    words = f"{words} Promise{whose} broken: {broken}."
    promise, kind = failure.promise, failure.kind
    return Autopsy(kind, "late", words, promise, trace=shown, note=note)


def _machines_only(trace: Trace) -> Trace:
    """Leave out what drivers say to each other; an overflow is a loss as well."""
    rows = [
        row._replace(what=LOSS) if row.what == OVERFLOW else row
        for row in trace.rows
        if not row[3] or row[3] in MACHINE_KINDS
    ]
    return Trace(dict(trace.about), trace.names, rows)


def _network(trace: Trace) -> str:
    if not trace.rows:
        return "Of the machines' packets there is no trace."
    fates = Counter(row[2] for row in trace.rows)
    sent = fates[SEND] + fates[RETRANSMIT]
    said = [
        f"{verb} {fates[what]}"
        for what, verb in ((LOSS, "lost"), (CORRUPT, "damaged"), (DUPLICATE, "doubled"))
        if fates[what]
    ]
    if late := len(overtaken(trace.rows)):
        said.append(f"delayed {late} until later ones had arrived")
    did = ", ".join(said) or "lost none"
    return f"Of {count_of(sent, 'packet')} the network {did}."


def _breach(transfer: Transfer, tape: Sequence[Recording]) -> Failure | None:
    """Return what a machine did that no machine may do."""
    for recording in tape:
        again = replay(recording)
        if not again.ok:
            return Failure("breach", "same again", again.difference)
    errors = [each for each in errors_of(transfer) if isinstance(each, BrokenContract)]
    if not errors:
        return None
    error = errors[0]
    setup = transfer.offer.setup
    machines: list[Any] = [setup.sender().sender, setup.receiver().receiver]
    failure = Failure("breach", "packets", str(error), error=error)
    for machine in machines:
        if type(machine).__name__ == error.machine:
            return explained(failure, machine)
    return failure


def _innocent(transfer: Transfer, trace: Trace) -> Failure | None:
    """Return why it ended, if that was not for the protocol to prevent."""
    errors = errors_of(transfer)
    if not errors or any(isinstance(each, BadContent) for each in errors):
        return None
    words = _first(errors[0])
    if all(isinstance(each, TransferRefused | TransferStopped) for each in errors):
        last = max([row[0] for row in trace.rows], default=0.0)
        words += f"; after t={last:.3g} s nothing more was sent"
        return Failure(UNJUDGED, "", words)
    heard_at = max([row[0] for row in trace.rows if row[2] in ARRIVALS], default=-1.0)
    rows = [row for row in trace.rows if row[0] > heard_at]
    tries = sum(row[2] in SENDS for row in rows)
    lost = sum(row[2] == LOSS for row in rows)
    if not trace.rows or tries == lost >= TRIES:
        words = f"{words}; the last {lost} packets were all lost" if lost else words
        return Failure(UNJUDGED, "", words)
    return None


def _first(error: P2PLabError) -> str:
    """Return an error's first sentence."""
    return str(error).split(". ")[0]


def _wrong_delivery(
    sent: Sequence[bytes], delivered: Sequence[bytes], trace: Trace
) -> tuple[Failure | None, int | None]:
    """Return the first payload that was not the next one, and its row in the trace."""
    for index, payload in enumerate(delivered):
        if sent[index : index + 1] == [payload]:
            continue
        which = sent.index(payload) if payload in sent else None
        words = "delivered something that was never sent"
        if which is not None:
            words = f"delivered payload {which}"
            words += " once more" if payload in delivered[:index] else ""
        wanted = f"payload {index} was next" if index < len(sent) else "all was there"
        at = [
            number
            for number, row in enumerate(trace.rows)
            if row[2] == DELIVER and row[4] == index
        ]
        words = f"the receiver {words} when {wanted}"
        return Failure("broken", "prefix", words), at[0] if at else None
    return None, None


def _incomplete(transfer: Transfer, trace: Trace) -> Failure | None:
    error, count = transfer.error, transfer.offer.content.count
    for each in errors_of(transfer):
        if isinstance(each, BadContent):
            return Failure("broken", "prefix", _first(each))
    delivered = [row for row in trace.rows if row[2] == DELIVER]
    far = transfer.assembly is None  # nobody here knows what was delivered
    got = len(delivered)
    if transfer.assembly is not None and not delivered:
        got = transfer.assembly.received  # the receiver kept no trace
    if error is None and (far or got == count):
        return None
    if got > count:
        words = f"{got} payloads were delivered, and only {count} were sent"
        return Failure("broken", "prefix", words)
    since = delivered[-1][0] if delivered else 0.0
    parts = [] if far else [f"{got} of {count} payloads were delivered"]
    parts += [_repeated(trace, role, since) for role in (SENDER, RECEIVER)]
    if error is None:
        parts.append("the sender took itself for done")
    else:
        parts.append(_first(error))
    return Failure("broken", "completion", "; ".join(filter(None, parts)))


def _repeated(trace: Trace, role: str, since: float) -> str:
    """Say what a side sent most after the last delivery."""
    packets = Counter(
        row[3:5]
        for row in trace.rows
        if row[1] == role and row[2] in SENDS and row[0] > since
    )
    heard = any(
        row[1] == role and row[2] in ARRIVALS and row[0] > since for row in trace.rows
    )
    if not packets:
        return f"the {role} sent nothing after that" if heard else ""
    (kind, seq), times = packets.most_common(1)[0]
    name = f"packet {seq}" if kind == Kind.DATA else called(Packet(Kind(kind), seq))
    more = " and others" if len(packets) > 1 else ""
    return f"after that the {role} sent {name}{more} ({count_of(times, 'time')})"
