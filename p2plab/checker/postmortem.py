"""A transfer that has ended, judged as the checker judges a run: with a ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from p2plab.checker.breaches import explained
from p2plab.checker.drawing import ladder
from p2plab.checker.network import called
from p2plab.checker.promises import PROMISES
from p2plab.checker.story import capital, count_of
from p2plab.checker.trial import Failure
from p2plab.checker.verdict import Verdict, cut
from p2plab.errors import BadContent, BrokenContract
from p2plab.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW
from p2plab.packet import MACHINE_KINDS, Kind, Packet
from p2plab.replay import Recording, replay
from p2plab.trace import DELIVER, RECEIVER, RETRANSMIT, SEND, SENDER, Row, Trace

if TYPE_CHECKING:
    from p2plab.transfer import Transfer


@dataclass(frozen=True, slots=True)
class Autopsy(Verdict):
    """What came of one transfer, and the part of its trace that tells it.

    kind: survived, broken, or breach (of the machine's own promises).
    trace: at most about 25 packets around the first broken promise, or the last ones.
    channel: always late: a real network may do anything.
    """

    def __str__(self) -> str:
        return f"{self.title}: {self.sentence}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>\n{ladder(self.trace, self.sentence)}"


def autopsy(transfer: Transfer, tape: Sequence[Recording] = ()) -> Autopsy:
    """Say what happened in a transfer that has ended, well or not, with its ladder.

    tape: the recordings of its two machines (see `replay.recording`), where there are
        some: they tell what was delivered, and whether the machines can be believed.
    With only one end in this process it tells what that end saw.
    Raises ValueError for a transfer that still goes on.
    """
    if not transfer.ended:
        raise ValueError("the transfer still goes on: wait() for its end, or stop() it")
    trace = _machines_only(transfer.trace)
    failure, until = _breach(transfer, tape), None
    if failure is None:
        failure, until = _wrong_delivery(tape, trace)
    failure = failure or _incomplete(transfer, trace)
    if until is not None:
        trace = Trace(trace.about, trace.names, trace.rows[: until + 1])
    shown = cut(trace, last=True)
    network = _network(trace)
    if failure is None:
        words = f"{network} Everything was delivered, and both sides finished."
        return Autopsy("survived", "late", words, trace=shown)
    whose = "" if failure.kind == "broken" else " of the machine"
    promise = f"Promise{whose} broken: {PROMISES[failure.promise]}."
    words = f"{network} {capital(failure.words.removesuffix('.'))}. {promise}"
    return Autopsy(failure.kind, "late", words, failure.promise, trace=shown)


def _machines_only(trace: Trace) -> Trace:
    """Leave out what drivers say to each other; an overflow is a loss as well."""
    rows: list[Row] = [
        (*row[:2], LOSS if row[2] == OVERFLOW else row[2], *row[3:])
        for row in trace.rows
        if not row[3] or row[3] in MACHINE_KINDS
    ]
    return Trace(trace.about, trace.names, rows)


def _network(trace: Trace) -> str:
    fates = Counter(row[2] for row in trace.rows)
    sent = fates[SEND] + fates[RETRANSMIT]
    said = [
        f"{verb} {fates[what]}"
        for what, verb in ((LOSS, "lost"), (CORRUPT, "damaged"), (DUPLICATE, "doubled"))
        if fates[what]
    ]
    return (
        f"Of {count_of(sent, 'packet')} the network {', '.join(said) or 'lost none'}."
    )


def _breach(transfer: Transfer, tape: Sequence[Recording]) -> Failure | None:
    """Return what a machine did that no machine may do."""
    for recording in tape:
        again = replay(recording)
        if not again.ok:
            return Failure("breach", "same again", again.difference)
    error = transfer.error
    if not isinstance(error, BrokenContract):
        return None
    setup = transfer.offer.setup
    machines: list[Any] = [setup.sender().sender, setup.receiver().receiver]
    failure = Failure("breach", "packets", str(error), error=error)
    for machine in machines:
        if str(error).startswith(f"{type(machine).__name__}:"):
            return explained(failure, machine)
    return failure


def _wrong_delivery(
    tape: Sequence[Recording], trace: Trace
) -> tuple[Failure | None, int | None]:
    """Return the first payload that was not the next one, and its row in the trace."""
    both = {each.role: each.payloads for each in tape}
    if len(both) < 2:
        return None, None
    sent, delivered = both[SENDER], both[RECEIVER]
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
    if isinstance(error, BadContent):
        return Failure("broken", "prefix", str(error))
    delivered = [row for row in trace.rows if row[2] == DELIVER]
    far = transfer.assembly is None  # nobody here knows what was delivered
    if error is None and (far or len(delivered) == count):
        return None
    if len(delivered) > count:
        words = f"{len(delivered)} payloads were delivered, and only {count} were sent"
        return Failure("broken", "prefix", words)
    since = delivered[-1][0] if delivered else 0.0
    parts = [] if far else [f"{len(delivered)} of {count} payloads were delivered"]
    parts += [_repeated(trace, role, since) for role in (SENDER, RECEIVER)]
    if error is None:
        parts.append("the sender took itself for done")
    else:
        parts.append(str(error))
    return Failure("broken", "completion", "; ".join(filter(None, parts)))


def _repeated(trace: Trace, role: str, since: float) -> str:
    """Say what a side sent most after the last delivery."""
    packets = Counter(
        row[3:5]
        for row in trace.rows
        if row[1] == role and row[2] in (SEND, RETRANSMIT) and row[0] > since
    )
    heard = any(
        row[1] == role and row[2] in (ARRIVE, DUPLICATE) and row[0] > since
        for row in trace.rows
    )
    if not packets:
        return f"the {role} sent nothing after that" if heard else ""
    (kind, seq), times = packets.most_common(1)[0]
    name = f"packet {seq}" if kind == Kind.DATA else called(Packet(Kind(kind), seq))
    more = " and others" if len(packets) > 1 else ""
    return f"after that the {role} sent {name}{more} ({count_of(times, 'time')})"
