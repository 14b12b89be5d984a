"""An exhibit: a protocol on show, right or wrong, and what to know about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from textwrap import dedent

from p2plab.core.endpoint import Receiver, Sender


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A protocol on show.

    mistake: the sentence that explains it; empty for a correct protocol.
    channel: fifo (packets are lost), dup (and doubled), late (and delayed, overtaken)
        or corrupt (lost or damaged). For a mistake the weakest of them in which it
        fails while both sides pull at once; for a correct protocol the strongest of
        the first three that it survives.
    make: builds both sides anew.
    """

    name: str
    title: str
    mistake: str
    channel: str
    make: Callable[[], tuple[Sender, Receiver]]

    def sender(self) -> Sender:
        """Build the sending side."""
        return self.make()[0]

    def receiver(self) -> Receiver:
        """Build the receiving side."""
        return self.make()[1]

    def __reduce__(self) -> tuple[Callable[[str], Exhibit], tuple[str]]:
        return _find, (self.name,)  # another process has the same museum

    @property
    def pages(self) -> list[type]:
        """The classes of its two sides, for `p2plab.show`."""
        kinds = dict.fromkeys(
            type(part) for each in self.make() for part in _parts(each)
        )
        rooms = (__package__, "p2plab.protocols", "p2plab.fast")
        return [kind for kind in kinds if kind.__module__.startswith(rooms)]

    def diff(self) -> str:
        """Return how its methods differ from the correct ones, in the words of `diff`.

        Empty where a parameter, or the choice of the two sides, is all the mistake.
        """
        parts = [part for machine in self.make() for part in _parts(machine)]
        kinds = dict.fromkeys(map(type, parts))
        return "\n".join(line for kind in kinds for line in _differences(kind))


def _find(name: str) -> Exhibit:
    from p2plab.museum import EXHIBITS, HEALTHY

    return (EXHIBITS if name in EXHIBITS else HEALTHY)[name]


def _parts(machine: object) -> Iterator[object]:
    yield machine
    for name in ("sender", "receiver", "rtt"):
        if hasattr(machine, name):
            yield getattr(machine, name)


def _differences(kind: type) -> Iterator[str]:
    base, room = kind.__base__, kind.__module__
    if base is None or not room.startswith(__package__) or ".healthy." in room:
        return
    for name, member in vars(kind).items():
        if name.startswith("__") or not (source := _source(member)):
            continue  # written by dataclass, or not a method
        before = _source(getattr(base, name, None))
        if f"{base.__name__}.{name}(self" in "".join(source):
            before = before[:1]  # it is all still there
        names = f"{base.__name__}.{name}", f"{kind.__name__}.{name}"
        yield from unified_diff(before, source, *names, n=9, lineterm="")


def _source(member: object) -> list[str]:
    function = member.fget if isinstance(member, property) else member
    if not inspect.isfunction(function):
        return []
    return dedent(inspect.getsource(function)).splitlines()
