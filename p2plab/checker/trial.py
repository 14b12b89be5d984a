"""One trial: an application, a style of driver and a schedule of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, Final, NamedTuple

from p2plab.checker.network import Fault
from p2plab.core.packet import Packet
from p2plab.sim.driver import Host

Makers = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Application:
    """What the application sends.

    phases: each is sent when everything before has arrived and the sender is done.
    pairs: transfers that run in the same process at the same time.
    """

    phases: tuple[tuple[bytes, ...], ...]
    pairs: int = 1

    @property
    def size(self) -> int:
        """How many payloads there are."""
        return self.pairs * sum(map(len, self.phases))

    @property
    def words(self) -> str:
        """Say it in words."""
        if not self.size:
            return "no payload at all"
        parts = [
            ", ".join(map(repr, phase[:8])) + (", …" if len(phase) > 8 else "")
            for phase in self.phases
        ]
        said = "; when all was done, ".join(part or "nothing" for part in parts)
        twice = "in two transfers at the same time, " if self.pairs > 1 else ""
        return twice + said


def plain(size: int) -> Application:
    """Return the application that sends `size` different payloads at once."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = (letters[i % 26] + (str(i // 26) if i > 25 else "") for i in range(size))
    return Application((tuple(name.encode() for name in names),))


# In order of size, because the smallest that fails is shown.
APPLICATIONS: Final = (
    plain(0),
    plain(1),
    Application(((b"",),)),
    Application(((), (b"A",))),
    plain(2),
    Application(((b"A", b"A"),)),
    Application(((b"A",), (b"B",))),
    plain(3),
    plain(4),
    Application(((b"A", b"B"), (b"C", b"D"))),
    Application(((b"A", b"B"),), pairs=2),
    Application(((b"A", b"A", b"B", b"", b"A"),)),
    plain(6),
    plain(8),
    Application(((b"A", b"B", b"C"), (), (b"D", b"E", b"F", b"G", b"H"))),
    plain(40),
)


class Style(NamedTuple):
    """How the driver pulls: after each packet it makes a pause, in turn [s]."""

    name: str
    sender: tuple[float, ...] = ()
    receiver: tuple[float, ...] = ()


EAGER: Final = Style("eager")
SLOW: Final = Style("pulling late", (0.02, 0.0, 0.4, 0.0, 2.5), (0.0, 0.03, 0.0, 1.2))
STYLES: Final = (EAGER, SLOW)


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that a run depends on."""

    application: Application
    style: Style = EAGER
    faults: tuple[Fault, ...] = ()

    def plus(self, fault: Fault) -> Trial:
        """Return this trial with one fault more."""
        return replace(self, faults=(*self.faults, fault))


class Failure(NamedTuple):
    """What went wrong in a run.

    kind: "broken" or "breach" (of a machine's own promises).
    promise: its short name, see promises.
    words: what happened.
    way: at whom (0 sender, 1 receiver, and two more for each further transfer).
    """

    kind: str
    promise: str
    words: str
    way: int = -1
    error: BaseException | None = None


class Sent(NamedTuple):
    """One packet of a run. way: as in Fault, and two more for a second transfer."""

    time: float
    way: int
    number: int
    packet: Packet


@dataclass(slots=True)
class Run:
    """What came of a trial.

    woken: when each host was told something [s].
    hits: the faults that met a packet; harmed: packets that the network touched.
    stuck: whether it ended because nothing was left to happen.
    machines: as they were in the end, sender and receiver in turn; timers: theirs.
    """

    trial: Trial
    sent: list[Sent] = field(default_factory=list)
    woken: list[list[float]] = field(default_factory=list)
    delivered: list[list[bytes]] = field(default_factory=list)
    hits: list[Fault] = field(default_factory=list)
    harmed: int = 0
    time: float = 0.0
    stuck: bool = False
    healed_at: float = 0.0
    machines: list[Any] = field(default_factory=list)
    timers: list[Any] = field(default_factory=list)
    failure: Failure | None = None

    def like(self, other: Run) -> bool:
        """Whether two runs of one trial are the same to the last bit."""
        return (
            self.sent == other.sent
            and self.woken == other.woken
            and self.delivered == other.delivered
            and self.timers == other.timers
            and (self.failure is None) == (other.failure is None)
        )

    def packets(self, way: int) -> list[Packet]:
        """Return what was sent one way, in order."""
        return [each.packet for each in self.sent if each.way == way]


class QuickHost(Host):
    """A Host that may pull late."""

    def pausing(self, pauses: Sequence[float]) -> None:
        """Make these pauses after the packets that are pulled, in turn [s]."""
        if pauses:
            self.paced = _Pauses(cycle(pauses))

    @property
    def resting(self) -> bool:
        """Whether the driver has stopped pulling early."""
        return self._pull_at is not None


@dataclass(slots=True)
class _Pauses:
    rest: Iterator[float]

    @property
    def pacing_rate(self) -> float | None:
        pause = next(self.rest)
        return 1 / pause if pause else None
