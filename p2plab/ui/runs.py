"""What a transfer panel watches: a transfer on real sockets, or a replay of one."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Parcel
from p2plab.content.transfer import State, Transfer, arrived, simulate_transfer
from p2plab.core.link import CORRUPT, LOSS, OVERFLOW, Link
from p2plab.core.packet import DATA
from p2plab.core.trace import RETRANSMIT, SEND, SENDER, TIMEOUT, Row, Trace
from p2plab.core.validation import count_of
from p2plab.errors import TransferStopped
from p2plab.measure.metrics import deliveries, transmissions
from p2plab.protocols import Setup

if TYPE_CHECKING:
    from p2plab.peer.peer import Peer


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent, and how."""

    picture: object
    setup: Setup
    link: Link
    order: str
    real: bool


class Tally:
    """Counts a sender's rows as they come, each once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._next = 0

    def read(self, rows: Sequence[Row], until: float = inf) -> str:
        """Say what has happened by then."""
        while self._next < len(rows) and rows[self._next][0] <= until:
            _, host, what, kind, _, _, _ = rows[self._next]
            damage = what == CORRUPT and kind == DATA  # is seen where it arrives
            if damage or (host == SENDER and (kind == DATA or what == TIMEOUT)):
                self.counts[what] += 1
            self._next += 1
        count = self.counts
        damaged = f"{count[CORRUPT]:,} damaged, " if count[CORRUPT] else ""
        return (
            f"{count_of(count[SEND] + count[RETRANSMIT], 'packet')} sent, "
            f"{count[LOSS] + count[OVERFLOW]:,} lost, {damaged}"
            f"{count[RETRANSMIT]:,} sent again, {count_of(count[TIMEOUT], 'timeout')}"
        )


class Replay:
    """The picture of a transfer that is over, at any moment of it."""

    def __init__(self, parcel: Parcel, trace: Trace) -> None:
        self._parcel = parcel
        self._deliveries = deliveries(trace.rows, transmissions(trace))
        self._times = [at for at, _ in self._deliveries]
        self._assembly = Assembly(parcel.content)
        self._shown = 0

    def at(self, moment: float) -> Assembly:
        """What had arrived by then; a later call changes the same object."""
        count = bisect_right(self._times, moment)
        if count < self._shown:
            self._assembly = Assembly(self._parcel.content)
            self._shown = 0
        for _, number in self._deliveries[self._shown : count]:
            if number < len(self._parcel.payloads):
                self._assembly.add(self._parcel.payloads[number])
        self._shown = count
        return self._assembly


def replayed(order: Order, transfer: Transfer) -> Replay:
    """The same once more, at any moment."""
    parcel = cut(order.picture, kind="picture", order=order.order)
    return Replay(parcel, transfer.trace)


class RealRun:
    """A transfer between two peers, while it goes on.

    peers: makes the two, or finds them.
    """

    words = "over real sockets"

    def __init__(self, order: Order, peers: Callable[[], tuple[Peer, Peer]]) -> None:
        self.order = order
        self.transfer: Transfer | None = None
        self.tally = Tally()
        self.stopped = False  # by who looks at it
        self._peers = peers

    def begin(self) -> None:
        """Make the transfer; may take a second, and raises what cannot be sent."""
        it = self.order
        sender, receiver = self._peers()
        self.transfer = sender.send_picture(
            receiver.name, it.picture, it.setup, it.link, order=it.order
        )
        if self.stopped:
            self.transfer.stop()

    @property
    def over(self) -> bool:
        """Whether the last of it has happened."""
        return self.transfer is not None and self.transfer.ended

    @property
    def moment(self) -> float:
        """How long it has been going on [s]."""
        assert self.transfer is not None
        return time.monotonic() - self.transfer.started_at

    @property
    def assembly(self) -> Assembly | None:
        """What has arrived."""
        return None if self.transfer is None else self.transfer.assembly

    def stop(self) -> None:
        """End it now."""
        self.stopped = True
        if self.transfer is not None:
            self.transfer.stop()

    def skip(self) -> None:
        """Nobody can skip what really happens."""

    def finish(self) -> None:
        """Nothing is left to do: a transfer keeps its other end, and what arrived."""


class SimulatedRun:
    """A transfer in virtual time: computed at once, then shown at a speed for people.

    seconds: how long it is shown at most [s]; 0 shows the end at once.
    """

    words = "in virtual time"

    def __init__(self, order: Order, seconds: float) -> None:
        self.order = order
        self.transfer: Transfer | None = None
        self.tally = Tally()
        self.stopped = False
        self._seconds = seconds
        self._end: float | None = None  # where somebody stopped or skipped [s]

    def begin(self) -> None:
        """Compute it; raises what cannot be sent."""
        it = self.order
        parcel = cut(it.picture, kind="picture", order=it.order)
        transfer = simulate_transfer(parcel, it.setup, it.link)
        self._replay = Replay(parcel, transfer.trace)
        self.speed = max(1.0, transfer.seconds / max(self._seconds, 1e-6))
        if self.speed > 1.05 and self._seconds:
            times = f"{self.speed:.1f}" if self.speed < 10 else f"{self.speed:,.0f}"
            self.words = f"in virtual time, shown {times} times as fast"
        self._began = time.monotonic()
        self.transfer = transfer

    @property
    def over(self) -> bool:
        """Whether all of it has been shown."""
        return self.transfer is not None and self.moment >= min(
            self.transfer.seconds, inf if self._end is None else self._end
        )

    @property
    def moment(self) -> float:
        """The virtual time that is shown [s]."""
        assert self.transfer is not None
        if self._end is not None:
            return min(self._end, self.transfer.seconds)
        shown = (time.monotonic() - self._began) * self.speed
        return min(shown, self.transfer.seconds)

    @property
    def assembly(self) -> Assembly | None:
        """What had arrived by the moment that is shown."""
        return None if self.transfer is None else self._replay.at(self.moment)

    def stop(self) -> None:
        """End it at the moment that is shown."""
        self.stopped = True
        self._end = 0.0 if self.transfer is None else self.moment

    def skip(self) -> None:
        """Show the end now."""
        self._end = inf

    def finish(self) -> None:
        """If somebody stopped it, forget what would have happened afterwards."""
        transfer, end = self.transfer, self._end
        if transfer is None or end is None or end >= transfer.seconds:
            return
        whole = transfer.own_trace
        transfer.own_trace = Trace(
            whole.about,
            whole.names,
            [row for row in whole.rows if row[0] <= end],
            [state for state in whole.states if state[0] <= end],
        )
        transfer.assembly = self._replay.at(end)
        transfer.seconds = end
        transfer.state = State.FAILED
        transfer.error = TransferStopped("the transfer was stopped here", transfer)


AnyRun = RealRun | SimulatedRun


def have(assembly: Assembly) -> str:
    """How much has arrived, in words."""
    here, count = assembly.received, assembly.content.count
    are = "is" if 1 in (here, count) else "are"
    return f"{here:,} of {count_of(count, 'payload')} {are} here"


def silence(transfer: Transfer) -> str:
    """What a real transfer waits for and when it gives up; nothing if it moves."""
    silent = time.monotonic() - transfer.started_at - transfer.heard_at
    if silent < 1 or transfer.ended:
        return ""
    offered = transfer.state is State.OFFERED
    what = "an answer to the offer" if offered else "a word from the other side"
    patience = transfer.gives_up_at - transfer.heard_at
    waited = f"It has waited {int(silent)} s for {what}"
    return f"{waited}, and gives up after {patience:.0f} s."


def whose_stop(transfer: Transfer, yours: bool) -> str:
    """Who stopped a transfer, and how far it was, in words."""
    if yours:
        return f"you stopped it at {arrived(transfer)}"
    return f"{transfer.error}; {arrived(transfer)} had arrived"


def verdict(run: AnyRun, transfer: Transfer) -> str:
    """How it ended, in a sentence."""
    # The duration in the table ends before that, with the last delivery.
    end = "" if transfer.error else " (FIN included)"
    after = f"after {transfer.seconds:.2f} s{end} {run.words}"
    assembly = transfer.assembly
    if isinstance(transfer.error, TransferStopped):
        return f"Stopped {after}: {whose_stop(transfer, run.stopped)}; these are kept."
    if transfer.error is not None:
        return f"Failed {after}; what arrived is kept."
    if assembly is None or assembly.verify():
        return f"Done {after}: the picture is complete, and its fingerprint is right."
    holes = assembly.content.count - assembly.received
    never = f"{count_of(holes, 'payload')} never arrived"
    return f"Over {after}: {never}; the holes are hatched."
