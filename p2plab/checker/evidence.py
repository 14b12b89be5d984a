"""What is known of a transfer that has ended: its packets, payloads and recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from p2plab.content.chunks import Assembly
from p2plab.core.packet import Kind, Packet
from p2plab.core.trace import RECEIVER, RETRANSMIT, SEND, SENDER, Trace
from p2plab.core.validation import count_of
from p2plab.errors import P2PLabError
from p2plab.sim.replay import Recording
from p2plab.sim.rerun import Rerun, rerun

if TYPE_CHECKING:
    from p2plab.content.transfer import Transfer

SENDS: Final = (SEND, RETRANSMIT)


def fits(recording: Recording, transfer: Transfer, trace: Trace) -> bool:
    """Whether a recording is of this transfer: what it sent stands in the trace."""
    role, given = recording.role, list(transfer.payloads)
    if role == SENDER and given and recording.payloads != given:
        return False
    packets = [
        (each.kind, each.seq, len(each.payload))
        for each in recording.packets
        if isinstance(each, Packet)
    ]
    rows = [row[3:6] for row in trace.rows if row[1] == role and row[2] in SENDS]
    rows = [row for row in rows if row[0] != Kind.FIN]
    same = rows[: len(packets)] == packets[: len(rows)]
    rest = {*rows[len(packets) :], *packets[len(rows) :]}  # a FIN's ACK, or a bad one
    return not rows or (same and len(rest) <= 1)


def contents(
    transfer: Transfer, tape: Sequence[Recording]
) -> tuple[Sequence[bytes], Sequence[bytes], str]:
    """Return what was sent and what was delivered, as far as is known, and the note."""
    both = {each.role: each.payloads for each in tape}
    if len(both) == 2:
        return both[SENDER], both[RECEIVER], ""
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
    if not real:
        traces[RECEIVER] = transfer.own_trace
    errors = [str(error) for error in errors_of(transfer)]
    again = rerun(sender, receiver, sent, traces, real=real, errors=errors)
    if not again.difference and not _as_received(again.delivered, transfer.assembly):
        again = replace(again, difference="other bytes were delivered")
    return sent, () if again.difference else again.delivered, _note(again)


def _as_received(delivered: Sequence[bytes], assembly: Assembly | None) -> bool:
    """Whether these are the bytes that were received: a trace has only their number."""
    if assembly is None:
        return True
    fresh = Assembly(assembly.content)
    for payload in delivered:
        fresh.add(payload)
    ours, theirs = (
        (each.received, each.duplicates, each.ignored, each.data())
        for each in (fresh, assembly)
    )
    return ours == theirs


def _note(again: Rerun) -> str:
    packets = count_of(again.packets, "packet")
    if not again.difference:
        return f"Replayed into fresh machines: the same {packets}."
    return (
        f"A replay into fresh machines is the same for {packets} only: "
        f"{again.difference}. Have the classes changed since, do they use chance or a "
        f"clock, or do machines have something in common?"
    )


def named(sent: Sequence[bytes], delivered: Sequence[bytes]) -> list[str]:
    """Call each delivered payload by its place among those sent."""
    places = {payload: index for index, payload in reversed(list(enumerate(sent)))}
    return [
        f"payload {places.get(payload, '?') if sent[i : i + 1] != [payload] else i}"
        for i, payload in enumerate(delivered)
    ]


def errors_of(transfer: Transfer) -> list[P2PLabError]:
    """Return what each end failed with, as far as it is here."""
    ends = [transfer, transfer.other_end]
    return [end.error for end in ends if end is not None and end.error is not None]
