"""An inbox that is followed: an answer that goes on, kept from one call to the next."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from p2plab.errors import RendezvousAway
from p2plab.rendezvous.answers import Event
from p2plab.rendezvous.exchange import Lines

Events = tuple[list[Event], str]  # what came in, and after which place to go on
Read = Callable[[bytes], Events]


class Place(NamedTuple):
    """Where one reads: as the owner of `token`, after an entry.

    wait: seconds of silence after which there is no use in going on.
    """

    token: str
    entry: str
    wait: float


class Followed(NamedTuple):
    """An answer that goes on after a place. read: understands a line of it."""

    place: Place
    lines: Lines
    read: Read


class Following:
    """The answers that go on, one for each name; may be used from several threads."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._kept: dict[str, Followed] = {}

    def next(self, name: str, place: Place) -> Events | None:
        """Return what comes next, where an answer goes on after this place.

        None: there is none, or it has broken. Raises what its reading does.
        """
        kept = self._kept.pop(name, None)
        if kept is None:
            return None
        if kept.place != place:
            kept.lines.close()
            return None
        with suppress(RendezvousAway):
            return self._keep(name, *_line(kept, self._timeout + place.wait))
        return None

    def begin(self, name: str, new: Followed) -> Events:
        """Read an answer whose first line comes at once: what was there before."""
        found, rest = _line(new, self._timeout)
        if not found[0] and rest is not None:
            found, rest = _line(rest, self._timeout + new.place.wait)
        return self._keep(name, found, rest)

    def close(self) -> None:
        """Hang up; calls that wait have to be called off before."""
        while self._kept:
            self._kept.popitem()[1].lines.close()

    def _keep(self, name: str, found: Events, rest: Followed | None) -> Events:
        if rest is not None:
            other = self._kept.pop(name, None)
            self._kept[name] = rest
            if other is not None:  # another thread's
                other.lines.close()
        return found


def _line(followed: Followed, seconds: float) -> tuple[Events, Followed | None]:
    """Read a line; also return what goes on after it, if anything does."""
    place, lines, read = followed
    try:
        line = lines.next(seconds)
        if not line:  # silence
            lines.close()
            return ([], place.entry), None
        events, entry = read(line)
    except BaseException:
        lines.close()
        raise
    return (events, entry), Followed(place._replace(entry=entry), lines, read)
