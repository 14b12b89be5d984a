"""One picture, file or byte string on its way: what a notebook holds and watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakValueDictionary

from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Chunks
from p2plab.content.offer import Offer
from p2plab.core.link import AnyLink, Link
from p2plab.core.packet import PAYLOAD_SIZE
from p2plab.core.trace import OTHER, RECEIVER, SENDER, Trace
from p2plab.core.validation import count_of, may_have
from p2plab.errors import (
    BadContent,
    BrokenContract,
    P2PLabError,
    TransferError,
    TransferRefused,
    TransferStalled,
    TransferStopped,
)
from p2plab.protocols import Setup
from p2plab.sim.simulator import Run, simulate

if TYPE_CHECKING:
    from PIL.Image import Image

KEEP: Final = 100  # transfers that an inbox holds; then offers are refused
KEEP_BYTES: Final = 500_000_000  # likewise
OFFER_PATIENCE: Final = 10.0  # with who does not answer an offer [s]
WHY: Final = "What happened is a ladder: p2plab.autopsy(transfer)"


class State(StrEnum):
    """How far a transfer is."""

    OFFERED = "offered"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # its error says why: refused, stalled, stopped, ...


# Both ends of a transfer may live in one process; then each can show what the other
# has seen. (transfer id, role) -> that end.
_ENDS: Final[WeakValueDictionary[tuple[int, str], Transfer]] = WeakValueDictionary()


@dataclass(eq=False, repr=False)
class Transfer:
    """One end of a transfer: real or simulated, sending or receiving.

    id: the number that both ends know it by; 0 if it is simulated.
    role: SENDER or RECEIVER.
    offer: who sends what, and how.
    payloads: what its sender was given.
    link: the impairments, if any, in both directions; the sender applies them.
    patience: how long its driver goes on without a word from the other side [s].
    record: keep a trace; without one the trace stays empty.

    For its driver: started_at, the moment that the trace counts from, by
    time.monotonic() [s]; on_stop, how the driver is asked to end it.
    """

    id: int
    role: str
    offer: Offer
    _: KW_ONLY
    payloads: Sequence[bytes] = ()
    link: AnyLink | None = None
    patience: float = inf
    record: bool = True
    started_at: float = 0.0
    on_stop: Callable[[], None] | None = None
    state: State = State.OFFERED
    error: P2PLabError | None = None
    seconds: float = 0.0  # from the offer to the end, by the transfer's own clock
    # until a receiver held everything; the end comes when the sender knows it [s]
    complete_after: float | None = None
    heard_at: float = 0.0  # when the other side last said something [s]
    acknowledged: int = 0  # payloads that its sender need not think of any more

    def __post_init__(self) -> None:
        about = self.offer.setup.to_dict() | {"link": repr(self.link)}
        self.own_trace = Trace(about)
        self._ended = threading.Event()
        self._other_end: Transfer | None = None
        receives = self.role == RECEIVER
        self._assembly = Assembly(self.offer.content) if receives else None
        if self.id:  # the first one: another could only pretend to be this transfer
            _ENDS.setdefault((self.id, self.role), self)

    def __repr__(self) -> str:
        what = self.offer.content.name or self.offer.content.kind
        why = f". {WHY}" if self.went_wrong else ""
        share = 100 * self.progress
        return f"<{self.role} of {what}: {self.state}, {share:.0f} %{why}>"

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or another."""
        return self._ended.is_set()

    @property
    def gives_up_at(self) -> float:
        """When it fails unless the other side says something, by its own clock [s]."""
        offered = self.state is State.OFFERED
        patience = min(OFFER_PATIENCE, self.patience) if offered else self.patience
        return self.heard_at + patience

    @property
    def went_wrong(self) -> bool:
        """Whether it is over and not whole, and nobody wanted it so."""
        errors = [end.error for end in (self, self.other_end) if end and end.error]
        if errors:
            return any(map(_puzzling, errors))
        return self.ended and self.progress < 1

    @property
    def assembly(self) -> Assembly | None:
        """What has arrived so far; None at the sender of a far-away receiver."""
        twin = self.other_end
        return self._assembly or (None if twin is None else twin._assembly)

    @assembly.setter
    def assembly(self, assembly: Assembly) -> None:
        self._assembly = assembly

    @property
    def trace(self) -> Trace:
        """What happened, as far as it was seen in this process.

        With both ends here it is complete; otherwise it is what this end saw.
        """
        twin = self.other_end
        if twin is None:
            return self.own_trace
        later = twin.started_at - self.started_at
        return self.own_trace.merged(twin.own_trace, later)

    @property
    def progress(self) -> float:
        """How much has arrived, as far as this end knows, from 0 to 1."""
        if self.assembly is not None:
            return self.assembly.progress
        return min(self.acknowledged / self.offer.content.count, 1.0)

    def picture(self) -> Image:
        """Return the picture as received so far, holes marked.

        Raises BadContent where nothing of it can be seen: at the sender of a far-away
        receiver, or if it is no picture.
        """
        if self.assembly is None:
            raise BadContent("only the receiver can see what has arrived: ask it there")
        return self.assembly.picture()

    def wait(self, timeout: float = threading.TIMEOUT_MAX) -> Self:
        """Wait for the end and return the transfer.

        Raises what it failed with, or TransferError after `timeout` seconds, when it
        still goes on. The transfer's own patience ends every other waiting.
        """
        if not self._ended.wait(timeout):
            raise TransferError(
                f"not at its end after {timeout:g} s: {self!r}. It goes on. To "
                f"see what it does, stop() it, and then p2plab.autopsy(it)",
                self,
            )
        if self.error is not None:
            raise self.error
        return self

    def stop(self) -> None:
        """End it now; the partial picture and the trace stay."""
        if self.on_stop is not None and not self.ended:
            self.on_stop()

    def end(self, seconds: float, error: P2PLabError | None = None) -> None:
        """For drivers: it is over, well or with `error`. Only the first call counts."""
        if self.ended:
            return
        if error is not None and _puzzling(error):
            error.add_note(WHY)
        self.seconds = seconds
        self.error = error
        self._other_end = self.other_end  # while it is still there
        self.state = State.DONE if error is None else State.FAILED
        self._ended.set()

    @property
    def other_end(self) -> Transfer | None:
        """The same transfer as the other side holds it, if it is in this process."""
        if self._other_end is None:
            twin = _ENDS.get((self.id, OTHER[self.role]))
            if twin is not None and twin.offer == self.offer:
                self._other_end = twin  # and keep it: our picture lies there
        return self._other_end


def _puzzling(error: P2PLabError) -> bool:
    return not isinstance(error, TransferRefused | TransferStopped)


def simulate_transfer(
    chunks: Chunks,
    setup: Setup | None = None,
    link: AnyLink | None = None,
    *,
    back: AnyLink | None = None,
    on_payload: Callable[[Assembly], object] = lambda assembly: None,
) -> Transfer:
    """Move chunks in virtual time, and return the transfer when it has ended.

    What a peer's `send` does on real sockets, in the time that it takes to compute. The
    transfer has failed, with all that happened until then, where `simulate` raises.
    on_payload: called after each delivery; it may raise TransferStopped.
    """
    setup, link, payloads = setup or Setup(), link or Link(), chunks.payloads
    offer = Offer("", chunks.content, setup)
    transfer = Transfer(0, SENDER, offer, payloads=payloads, link=link)
    transfer.assembly = assembly = Assembly(chunks.content)
    machines = setup.sender(), setup.receiver()

    def deliver(payload: bytes) -> None:
        assembly.add(payload)
        on_payload(assembly)

    error: P2PLabError | None = None
    try:
        run = simulate(*machines, payloads, link, back=back, on_payload=deliver)
    except (TransferStalled, TransferStopped, BrokenContract) as why:
        if not isinstance(why.partial, Run):
            raise
        run, error = why.partial, why
    transfer.own_trace = run.trace
    transfer.own_trace.about |= setup.to_dict()
    transfer.end(run.time, error)
    return transfer


def simulate_picture(
    picture: object,
    setup: Setup | None = None,
    link: AnyLink | None = None,
    *,
    payload_size: int = PAYLOAD_SIZE,
    order: str = "rows",
    back: AnyLink | None = None,
) -> Transfer:
    """Send a picture in virtual time: what `Peer.send_picture` does on real sockets.

    picture, payload_size, order: as for `chunks.cut`; back: as for `simulate`.
    Raises BadContent.
    """
    chunks = cut(picture, kind="picture", payload_size=payload_size, order=order)
    return simulate_transfer(chunks, setup, link, back=back)


def inbox_objection(held: Sequence[Transfer], offer: Offer) -> str | None:
    """Say why an inbox that holds these transfers takes no other; None if it does."""
    kept = [each for each in held if each.progress or not each.ended]
    own = [each for each in kept if each.offer.sender == offer.sender]
    whose = f", and {len(own)} of them are yours" if own else ""
    if not may_have(len(own), len(kept), KEEP):
        return f"my inbox is full: it holds {len(kept)} pictures and files{whose}"
    mine, used = (sum(t.offer.content.size for t in some) for some in (own, kept))
    if not may_have(mine, used, KEEP_BYTES, offer.content.size):
        left = KEEP_BYTES - used
        return f"my inbox is full: it has room for {left:,} bytes{whose}"
    return None


def arrived(transfer: Transfer) -> str:
    """Return how many payloads have arrived, as far as this end knows, of how many."""
    count = transfer.offer.content.count
    return f"{round(transfer.progress * count):,} of {count_of(count, 'payload')}"
