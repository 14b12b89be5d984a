"""What a panel shows of a transfer: its picture at any moment, and words about it."""

from __future__ import annotations

import base64
import html
import io
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Final

from PIL import Image

from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Chunks
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

LIVE_SIDE: Final = 512  # pixels; what moves need not be sharper
FINAL_SIDE: Final = 1024  # more would take seconds to reach the screen


def tally(rows: Iterable[Row], until: float = inf) -> str:
    """Say what a sender has done, and what became of it, by then."""
    count: Counter[str] = Counter()
    for row in takewhile(lambda row: row.time <= until, rows):
        damage = row.what == CORRUPT and row.kind == DATA  # seen where it arrives
        ours = row.host == SENDER and (row.kind == DATA or row.what == TIMEOUT)
        count[row.what] += damage or ours
    damaged = f"{count[CORRUPT]:,} damaged, " if count[CORRUPT] else ""
    return (
        f"{count_of(count[SEND] + count[RETRANSMIT], 'packet')} sent, "
        f"{count[LOSS] + count[OVERFLOW]:,} lost, {damaged}"
        f"{count[RETRANSMIT]:,} sent again, {count_of(count[TIMEOUT], 'timeout')}"
    )


class Playback:
    """A transfer and the clock by which it is shown.

    On real sockets that is the time itself. A transfer in virtual time is computed at
    once, and then shown at a speed for people.

    picture, setup, link, order: what is sent, and how.
    peers: makes the two who send and receive over real sockets, or finds them.
    seconds: how long a simulated one is shown at most [s]; 0 shows the end at once.
    """

    def __init__(
        self,
        picture: object,
        setup: Setup,
        link: Link,
        order: str,
        *,
        peers: Callable[[], tuple[Peer, Peer]] | None,
        seconds: float,
    ) -> None:
        self.picture, self.setup, self.link, self.order = picture, setup, link, order
        self.real = peers is not None
        self.chunks: Chunks | None = None
        self.transfer: Transfer | None = None
        self.drawn = False  # whether its end is on the screen
        self.stopped = False  # before it had begun, or later
        self.words = "over real sockets" if self.real else "in virtual time"
        self._peers, self._seconds = peers, seconds
        self._began, self._speed, self._end = 0.0, 1.0, inf

    def begin(self) -> None:
        """Make the transfer; may take a second, and raises what cannot be sent."""
        self.chunks = cut(self.picture, kind="picture", order=self.order)
        if self._peers is not None:
            sender, receiver = self._peers()
            what = receiver.name, self.picture, self.setup, self.link
            transfer = sender.send_picture(*what, order=self.order)
            self._began = transfer.started_at
        else:
            transfer = simulate_transfer(self.chunks, self.setup, self.link)
            self._speed = max(1.0, transfer.seconds / max(self._seconds, 1e-6))
            if self._speed > 1.05 and self._seconds:
                digits = ".1f" if self._speed < 10 else ",.0f"
                self.words += f", shown {self._speed:{digits}} times as fast"
            self._began = time.monotonic()
        self.transfer = transfer
        if self.stopped:
            self.stop()

    @property
    def moment(self) -> float:
        """How much of it is shown, or how long it has been going on [s]."""
        assert self.transfer is not None
        shown = (time.monotonic() - self._began) * self._speed
        if self.real:
            return shown
        return min(shown, self._end, self.transfer.seconds)

    @property
    def over(self) -> bool:
        """Whether the last of it has happened, and was shown."""
        assert self.transfer is not None
        shown = self.real or self.moment >= min(self.transfer.seconds, self._end)
        return self.transfer.ended and shown

    @property
    def assembly(self) -> Assembly:
        """What has arrived by the moment that is shown."""
        assert self.transfer is not None
        if not self.real:
            return self.at(self.moment)
        return self.transfer.assembly or Assembly(self.transfer.offer.content)

    def at(self, moment: float) -> Assembly:
        """What had arrived at a moment of a transfer that is over [s]."""
        assert self.chunks is not None
        assembly, payloads = Assembly(self.chunks.content), self.chunks.payloads
        for _, number in takewhile(lambda each: each[0] <= moment, self._deliveries):
            if number < len(payloads):
                assembly.add(payloads[number])
        return assembly

    @cached_property
    def _deliveries(self) -> list[tuple[float, int]]:
        assert self.transfer is not None
        trace = self.transfer.trace
        return deliveries(trace.rows, transmissions(trace))

    def stop(self) -> None:
        """End it now: at the moment that is shown."""
        self.stopped = True
        if self.transfer is not None and self.real:
            self.transfer.stop()
        elif self.transfer is not None:
            self._end = self.moment

    def skip(self) -> None:
        """Show the end now; nobody can skip what really happens."""
        if not self.real:
            self._seconds, self._began = 0.0, -inf

    def finish(self) -> None:
        """If somebody stopped a simulation, forget what would have happened then."""
        transfer, end = self.transfer, self._end
        if transfer is None or self.real or end >= transfer.seconds:
            return
        whole = transfer.own_trace
        transfer.own_trace = Trace(
            whole.about,
            whole.names,
            [row for row in whole.rows if row.time <= end],
            [state for state in whole.states if state[0] <= end],
        )
        transfer.assembly = self.at(end)
        transfer.seconds = end
        transfer.state = State.FAILED
        transfer.error = TransferStopped("the transfer was stopped here", transfer)

    def verdict(self) -> str:
        """How it ended, in a sentence."""
        transfer = self.transfer
        assert transfer is not None
        # The duration in the table ends before that, with the last delivery.
        end = "" if transfer.error else " (FIN included)"
        after = f"after {transfer.seconds:.2f} s{end} {self.words}"
        assembly = transfer.assembly
        if isinstance(transfer.error, TransferStopped):
            return f"Stopped {after}: {stopped_where(transfer)}; these are kept."
        if transfer.error is not None:
            return f"Failed {after}; what arrived is kept."
        if assembly is None or assembly.verify():
            words = "the picture is complete, and its fingerprint is right"
            return f"Done {after}: {words}."
        holes = count_of(assembly.content.count - assembly.received, "payload")
        return f"Over {after}: {holes} never arrived; the holes are hatched."


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


def stopped_where(transfer: Transfer) -> str:
    """Where a transfer was stopped, and how far it was, in words."""
    return f"{transfer.error}; {arrived(transfer)} had arrived"


def figure(image: Image.Image, alt: str, side: int, *, final: bool) -> str:
    """An HTML figure that fills a square of `side` CSS pixels, or what room there is.

    final: in PNG, exact to the pixel up to FINAL_SIDE; otherwise in JPEG, small and
        quick while it changes.
    """
    most = FINAL_SIDE if final else LIVE_SIDE
    if max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most))
    buffer = io.BytesIO()
    if final:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "WEBP", quality=80, method=0)
    kind = "png" if final else "webp"
    data = base64.b64encode(buffer.getvalue()).decode()
    sharp = "pixelated" if max(image.size) <= side else "auto"
    return (
        f'<figure><img alt="{html.escape(alt)}" style="{square(side)};'
        f'image-rendering:{sharp}" src="data:image/{kind};base64,{data}"></figure>'
    )


def bar(progress: float, words: str) -> str:
    """A progress bar with a name, and the numbers below it."""
    return (
        f'<progress aria-label="received" max="1" value="{progress:.4f}"></progress>'
        f'<div dir="auto">{html.escape(words)}</div>'
    )


def square(side: int) -> str:
    """The CSS of a picture's place."""
    return f"width:{side}px;max-width:100%;aspect-ratio:1"
