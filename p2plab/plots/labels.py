"""What stands beside a lifeline, as little of it as says the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from p2plab.core.validation import count_of


class Label(NamedTuple):
    """What a lifeline says: about which moment, drawn where [s]."""

    time: float
    y: float
    words: str  # {} stands for the numbers
    seq: int
    colour: str


def together(labels: Iterable[Label], line: float) -> list[list[Label]]:
    """Put labels together that say the same of (nearly) the same moment."""
    groups: list[list[Label]] = []
    for label in sorted(labels, key=lambda label: label.time):
        for group in reversed(groups[-2:]):
            first = group[0]
            alike = (first.words, first.colour) == (label.words, label.colour)
            if alike and label.time - first.time < line:
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def numbers(seqs: Sequence[int]) -> str:
    """Write sequence numbers shortly: 0–3, 7 or 2 ×4."""
    if len(seqs) > 1 and len(set(seqs)) == 1:
        return f"{seqs[0]} ×{len(seqs)}"
    parts = []
    for _, run in groupby(enumerate(seqs), lambda pair: pair[1] - pair[0]):
        first, *rest = [seq for _, seq in run]
        parts.append(f"{first}–{rest[-1]}" if rest else f"{first}")
    text = ", ".join(parts)
    if len(text) <= 16:
        return text
    return f"{text[:16].rpartition(', ')[0] or parts[0]}, …"


def what_is_absent(drawn: int, inside: int, left_out: int) -> str:
    """Say which packets and labels are not drawn; nothing if all are."""
    notes = []
    if drawn < inside:
        notes.append(
            f"The first {drawn} of {inside:,} packets; "
            "ladder(trace, start=SECONDS) draws later ones."
        )
    if left_out:
        notes.append(f"{count_of(left_out, 'label')} had no room.")
    return " ".join(notes)
