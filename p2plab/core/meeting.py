"""What can be seen of two peers who meet: who saw what, and when."""

from __future__ import annotations

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
