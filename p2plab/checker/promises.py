"""The promises, and the two that a single small run cannot judge alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from p2plab.checker.memory import held
from p2plab.checker.network import LATE, LATE_COPY, RTT, Fault
from p2plab.checker.trial import Application, Failure, Run, plain
from p2plab.checker.wire import HEAL_EACH, HEAL_PACKETS, HEAL_TIME
from p2plab.core.validation import count_of

PROMISES: Final = {
    "prefix": "what is delivered is always a prefix of what was sent",
    "completion": "once the network heals, everything is delivered and both sides "
    f"finish (within {HEAL_TIME:g} s and twice the time of the faults, and within "
    f"{HEAL_PACKETS} packets and {HEAL_EACH} more for each payload)",
    "silence": "when all is done, nobody holds a timer or goes on sending",
    "retransmission": "no more is sent again than the losses call for",
    "memory": "a machine's memory does not grow with what it has moved",
    "speed": "it is about as quick as the reference page",
    "interface": "a machine has the members of `endpoint`",
    "packets": "next_packet returns one Packet or None, and None in the end",
    "payloads": "next_payload returns the bytes of one payload or None",
    "timer": "after on_timeout a packet comes out, or the deadline moves or stops",
    "no exception": "a machine never raises because of what it is told",
    "end": "every method comes back",
    "quick": "a machine is quick enough to be tried",
    "quiet": "a machine neither prints nor starts a thread",
    "same again": "same inputs, same outputs: no clock, no chance, no order of a set",
    "apart": "two machines have nothing in common",
}

FEW: Final = 40  # payloads that show whether something grows
MORE: Final = 60  # so many more, to see how much


def in_flight(run: Run) -> int:
    """Return how many packets the sender had on the wire within one round trip."""
    times = [each.time for each in run.sent if each.way == 0]
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - RTT:
            first += 1
        most = max(most, last - first + 1)
    return most


def resent_too_often(run: Run, calm: Run) -> Failure | None:
    """Judge the number of packets against the same trial without faults."""
    least = run.trial.application.size
    count, base = (sum(each.way == 0 for each in one.sent) for one in (run, calm))
    allowed = base + least // 10
    if base > 1.5 * least + 16:  # an impatient timer, even in calm weather
        allowed = 3 * base
    allowed += run.harmed * (4 * in_flight(calm) + 8) + 16
    if count > allowed or base > 10 * least + 20:
        words = f"{count_of(least, 'payload')} took {count} packets of the sender"
        if run.harmed:
            words += f", although the network harmed only {run.harmed} of all; "
            words += f"without a fault it takes {base}"
        else:
            words += f": a round trip is {RTT:g} s here, is the timeout shorter?"
        return Failure("broken", "retransmission", words, 0)
    return None


def big(size: int) -> Application:
    """Return an application whose payloads are long enough to be seen in memory."""
    (names,) = plain(size).phases
    return Application((tuple(name.ljust(32, b".") for name in names),))


def harm(kind: str, numbers: Iterable[int]) -> tuple[Fault, ...]:
    """Harm these packets, each way, in the same manner."""
    extra = 1.5 * RTT if kind in (LATE, LATE_COPY) else 0.0
    return tuple(
        Fault(kind, way, number, extra) for number in numbers for way in (0, 1)
    )


class Growth(NamedTuple):
    """A container of a machine: how many items it holds after few payloads, and many.

    way: 0 the sender's, 1 the receiver's.
    """

    way: int
    name: str
    items: tuple[int, int]

    @property
    def more(self) -> int:
        """How many items came with the last MORE payloads."""
        return self.items[1] - self.items[0]


def growths(few: Run, many: Run) -> list[Growth]:
    """Return what every container holds at the end of two runs."""
    found = []
    for way in (1, 0):
        less, much = (held(run.machines[way]) for run in (few, many))
        found += [Growth(way, each, (less[each], much[each])) for each in sorted(much)]
    return found


def unbounded(found: list[Growth], calm: list[Growth]) -> Growth | None:
    """Return the first growth that goes too far; calm: without any harm."""
    usual = {(each.way, each.name): each.more for each in calm}
    for each in found:
        limit = MORE // 4
        if each.way == 0:  # a sender may keep what it has sent, but no repetitions
            limit = max(usual.get((0, each.name), 0), 0) + MORE // 3
            limit = 12 * MORE if found is calm else limit
        if each.more > limit:
            return each
    return None
