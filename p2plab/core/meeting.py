"""What can be seen of two peers who meet: who saw what, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

REGISTER: Final = "register"  # a peer took its name
INTRODUCE: Final = "introduce"  # the caller asked to meet the peer in the note
ASKED: Final = "asked"  # the callee was asked; the note is by whom
ACCEPT: Final = "accept"  # the callee agreed
REFUSE: Final = "refuse"  # or it did not
MET: Final = "met"  # both were told how to reach each other; the note is the other one
REFUSED: Final = "refused"
PROBE: Final = "probe"  # a probe was sent to the address in the note
HEAR: Final = "hear"  # the other side's probe came from there
ANSWER: Final = "answer"  # and was answered
CONFIRM: Final = "confirm"  # the answer to our own probe came from there
CHOOSE: Final = "choose"  # the path that was taken
FAIL: Final = "fail"  # no path was found
MORE: Final = "more"  # the note says how many probes a report leaves out

PROBING: Final = (PROBE, HEAR, ANSWER, CONFIRM)


class Seen(NamedTuple):
    """One thing that was done or seen.

    at: seconds since 1970, on one clock for all that are shown together.
    what: one of the words above. note: about whom, or about which address; after it,
        where a probe or its answer is meant, its number, as in "192.0.2.7:4000 #71".
    who: a peer's name; None for the rendezvous.
    """

    at: float
    what: str
    note: str = ""
    who: str | None = None

    @property
    def where(self) -> str:
        """The note without the probe's number."""
        return self.note.partition(" #")[0]

    @property
    def probe(self) -> str:
        """The number of the probe that this is about, as both sides know it, or ""."""
        return self.note.partition(" #")[2]


# What goes from a peer to the rendezvous, from there to a peer, and between two peers:
# what is seen where it begins, and where it arrives.
_TO_RENDEZVOUS: Final = ((INTRODUCE, ASKED), (ACCEPT, MET))
_FROM_RENDEZVOUS: Final = ((ASKED, ASKED), (MET, MET))
_BETWEEN: Final = ((PROBE, HEAR), (ANSWER, CONFIRM))


def together(own: Sequence[Seen], others: Iterable[Seen]) -> list[Seen]:
    """Put what a peer, the rendezvous and the other peer saw on the peer's own clock.

    Each has told the time by its own one. As NTP sets a clock (RFC 5905, section 8):
    what went there and what came back took equally long, and so nothing arrives before
    it was sent. Where nothing went both ways, a clock is taken for right.
    """
    rows = list(others)
    rendezvous = [each for each in rows if each.who is None]
    peer = [each for each in rows if each.who is not None]
    offset = _offset(own, peer, _BETWEEN, _BETWEEN)
    if offset is not None:
        peers = [*own, *_moved(peer, offset)]
        offset = _offset(peers, rendezvous, _TO_RENDEZVOUS, _FROM_RENDEZVOUS)
        seen = [*peers, *_moved(rendezvous, offset)]
    else:  # no path between them, so the rendezvous' clock has to do
        offset = _offset(own, rendezvous, _TO_RENDEZVOUS, _FROM_RENDEZVOUS)
        rendezvous = _moved(rendezvous, offset)
        offset = _offset(rendezvous, peer, _FROM_RENDEZVOUS, _TO_RENDEZVOUS)
        seen = [*own, *rendezvous, *_moved(peer, offset)]
    return sorted(seen, key=lambda each: each.at)


def _moved(rows: Iterable[Seen], offset: float | None) -> list[Seen]:
    return [each._replace(at=each.at + (offset or 0.0)) for each in rows]


_Ways = tuple[tuple[str, str], ...]


def _offset(
    ours: Sequence[Seen], theirs: Sequence[Seen], there: _Ways, back: _Ways
) -> float | None:
    """By how much their clock is behind ours [s]; None if nothing went both ways."""
    out = [_took(ours, went, theirs, came) for went, came in there]
    home = [_took(theirs, went, ours, came) for went, came in back]
    least, least_back = min(out, default=inf), min(home, default=inf)
    return None if inf in (least, least_back) else (least_back - least) / 2


def _took(here: Sequence[Seen], went: str, there: Sequence[Seen], came: str) -> float:
    """The shortest time that something seems to have taken, by two clocks [s]."""
    sent: dict[str, float] = {}
    for each in here:
        if each.what == went:
            sent.setdefault(each.probe, each.at)
    took = [
        each.at - sent[each.probe]
        for each in there
        if each.what == came and each.probe in sent
    ]
    return min(took, default=inf)
