"""One end of one transfer on a real socket: offer, machine, emulated link and end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any, Final

from p2plab.content.offer import ANSWER, to_words, words
from p2plab.content.transfer import State, Transfer
from p2plab.core.link import (
    ARRIVE,
    CORRUPT,
    DUPLICATE,
    LOSS,
    OVERFLOW,
    Channel,
)
from p2plab.core.packet import (
    HEADER_SIZE,
    MACHINE_KINDS,
    PAYLOAD_SIZE,
    Kind,
    Numbered,
    Packet,
    damaged,
    encode,
)
from p2plab.core.trace import OTHER, RECEIVER, SEND, SENDER, Row
from p2plab.errors import (
    BadContent,
    DatagramsTooLarge,
    P2PLabError,
    TransferRefused,
    TransferStalled,
    TransferStopped,
)
from p2plab.sim.driver import BURST, CATCH_UP, Host, wire_size

BREATH: Final = 0.001  # between two bursts [s]
MOST_ARRIVALS: Final = 200  # transmissions for each payload
OFFER_RTO: Final = 0.25  # until an offer is repeated; doubles up to MAX_OFFER_RTO [s]
EARLY_RTO: Final = 0.001  # the same, while data follows that waits for it [s]
MAX_OFFER_RTO: Final = 2.0
EARLY: Final = 512  # packets sent before the offer is answered
MORE: Final = 22  # bytes that a packet may be longer than a payload: see coding

# Where nothing of the transfer has come back, one asks whether its datagrams are too
# large for the path: a small probe and one of full size (RFC 8899, section 5.1.1).
ASK_AFTER: Final = 1.0  # without an answer to data [s]
ASK_EVERY: Final = 0.5  # [s]
ASK_TIMES: Final = 4
SMALLER: Final = (
    "Take a smaller payload_size; whatever the path, "
    f"payload_size={PAYLOAD_SIZE} should get through."
)

LetOut = Callable[[Packet, int, str, float], None]  # a packet, its number, fate, when


class Flow:
    """The driver of one end of a transfer; its socket calls it from one thread.

    All times are the transfer's own: seconds since its `started_at`.
    machine: the sending or receiving machine. emit: puts a datagram on the socket.
    at_once: let up to EARLY packets follow the offer; they are lost if it is refused.
    Only the sender's transfer has an emulated link, so that one person turns the knobs
    of both directions.

    A turn feeds the machine all that has come at once before it pulls: after every
    other call its socket calls `finish_turn`, and then looks at `wake_at`.
    """

    def __init__(
        self,
        transfer: Transfer,
        machine: Any,
        emit: Callable[[bytes], None],
        at_once: bool = False,
    ) -> None:
        self.transfer = transfer
        self._emit = emit
        self._forward: Channel | None = None
        self._backward: Channel | None = None
        if transfer.link is not None:
            self._forward = transfer.link.forward()
            self._backward = transfer.link.backward()
        self._held: list[tuple[float, int, LetOut, Packet, int, str]] = []  # till when
        self._order = count()
        content = transfer.offer.content
        self._largest = content.payload_size + MORE  # [bytes]
        self._most_arrivals = MOST_ARRIVALS * (content.count + 50)
        self._offer_at = self._more_at = math.inf  # when to repeat it, or go on [s]
        self._offer_rto = EARLY_RTO if at_once else OFFER_RTO
        self._at_once, self._early = at_once, EARLY if at_once else 0
        self._begun = transfer.role == RECEIVER  # or the machine has its payloads
        self._fed = False  # the machine has had an input that it was not pulled for
        self._arrived: set[int] = set()  # transmissions that have arrived
        self._answered = False  # a machine's packet has come, whatever the link does
        self._longest = 0  # payload that has come [bytes]
        self._asked, self._ask_at = 0, math.inf  # whether datagrams are too large [s]
        assembly = transfer.assembly if transfer.role == RECEIVER else None
        self._id = transfer.id | (0 if assembly is None else ANSWER)
        take = None if assembly is None else assembly.add
        self._trace = transfer.own_trace if transfer.record else None
        self.host = Host(machine, transfer.role, self._trace, take, CATCH_UP)

    @property
    def closed(self) -> bool:
        """Whether it is over, and nobody will need its answers any more."""
        failed = self.transfer.state is State.FAILED
        return self.transfer.ended and (failed or self.host.machine.deadline is None)

    @property
    def _waits(self) -> bool:
        """Whether nothing more may leave before our offer is answered."""
        offered = self.transfer.state is State.OFFERED
        return offered and self.host.number >= self._early

    # ---- what can happen to it

    def open(self, now: float) -> None:
        """Begin as a sender: offer. A receiver begins when it hears the offer."""
        self._offer(now)
        self._fed = self._at_once

    def arrive(self, packets: Sequence[Numbered], now: float) -> None:
        """Packets have come, each with its number; the link decides about each."""
        for packet, number in packets:
            self._answered |= packet.kind in MACHINE_KINDS
            self._longest = max(self._longest, len(packet.payload))
            if self._backward is None or packet.kind not in MACHINE_KINDS:
                self._hear(packet, number, ARRIVE, now)
            else:
                host = OTHER[self.transfer.role]
                self._meet(self._backward, host, packet, number, self._hear, now)

    def tick(self, now: float) -> None:
        """Do what is due: repeat the offer, fire the timer, go on sending, give up."""
        while self._held and self._held[0][0] <= now:
            _, _, let_out, packet, number, fate = heappop(self._held)
            let_out(packet, number, fate, now)
        transfer = self.transfer
        if self.closed:
            return
        if transfer.gives_up_at <= now and not transfer.ended:
            self._give_up(now)
            return
        if transfer.state is State.OFFERED and self._offer_at <= now:
            self._offer(now)
        if self._waits:
            return
        if self._ask_at <= now:
            self._ask(now)
        if (due := self.host.wake_at()) is not None and due <= now:
            self.host.fire(now)
            self._fed = True
        elif self._more_at <= now:
            self._fed = True

    def fail(self, now: float, error: P2PLabError) -> None:
        """End with an error, and tell the other side to stop, and why."""
        if not self.transfer.ended:
            self.transfer.end(now, error)
            why = "" if isinstance(error, TransferStopped) else str(error)
            self._say(Kind.STOP, now, to_words(why))

    def finish_turn(self, now: float) -> None:
        """Answer what this turn has brought."""
        fed, self._fed = self._fed, False
        if fed and self.transfer.state is not State.FAILED:
            if self.transfer.role == RECEIVER:
                self._end_receiver(now)  # before our last ACK: the sender counts on it
            if not self._waits:
                self._pull(now)
        self.host.note(now)

    def wake_at(self) -> float | None:
        """Return when `tick` is due [s], or None."""
        times = [self._held[0][0]] if self._held else []
        if not self.closed:
            if not self.transfer.ended:
                times.append(self.transfer.gives_up_at)
            if self.transfer.state is State.OFFERED:
                times.append(self._offer_at)
            if not self._waits:
                due = self.host.wake_at()
                times += [self._more_at, self._ask_at]
                times += [] if due is None else [due]
        return min(times, default=None)

    # ---- the emulated link, for the machines' packets only, as in virtual time

    def _meet(
        self,
        channel: Channel,
        host: str,
        packet: Packet,
        number: int,
        let_out: LetOut,
        now: float,
    ) -> None:
        """Lose a packet of `host`, or hold it back until it comes out of the link."""
        for when, fate in channel.transmit(wire_size(packet), now):
            if fate in (LOSS, OVERFLOW):
                self._row(now, host, fate, packet, number)
            else:
                entry = when, next(self._order), let_out, packet, number, fate
                heappush(self._held, entry)

    def _leave(self, packet: Packet, number: int, fate: str, now: float) -> None:
        datagram = encode(packet, self._id, number)
        if fate == CORRUPT:
            # The receiver will only see rubbish, so its row is written here.
            self._row(now, OTHER[self.transfer.role], CORRUPT, packet, number)
            datagram = damaged(datagram, number)
        self._emit(datagram)

    # ---- what comes

    def _hear(self, packet: Packet, number: int, fate: str, now: float) -> None:
        if fate == CORRUPT:
            self.host.damage(packet, now, number)
            self._fed = True
            return
        if packet.kind is Kind.DATA and len(packet.payload) > self._largest:
            return  # no part of what was offered, and nobody keeps it
        if len(self._arrived) > self._most_arrivals:  # the trace keeps every one
            raise BadContent("far more packets have come than a transfer needs")
        what = DUPLICATE if number in self._arrived else fate
        if self._trace is not None:  # nothing else tells copies apart
            self._arrived.add(number)
        if not (packet.kind is Kind.ACCEPT and self._asked):  # that moves nothing
            self.transfer.heard_at = now
        if packet.kind not in MACHINE_KINDS:
            self._row(now, self.transfer.role, what, packet, number)
            self._control(packet, now)
        elif self._listens(now):
            self.host.feed(packet, now, what, number)
            self._fed = True

    def _listens(self, now: float) -> bool:
        if self.transfer.state is State.FAILED:
            self._say(Kind.STOP, now)
        elif self._at_once:  # nobody answers data without having accepted it
            self._accepted()
        return self.transfer.state in (State.RUNNING, State.DONE)

    def _control(self, packet: Packet, now: float) -> None:
        transfer, kind = self.transfer, packet.kind
        if kind == Kind.OFFER and transfer.role == RECEIVER:
            if transfer.state is State.OFFERED:
                transfer.state = State.RUNNING
            failed = transfer.state is State.FAILED
            longest = self._longest.to_bytes(4, "big")
            self._say(Kind.STOP if failed else Kind.ACCEPT, now, longest)
        elif kind == Kind.ACCEPT:
            self._accepted()
            if self._asked >= ASK_TIMES and not self._answered:
                self._require_size(int.from_bytes(packet.payload[:4], "big"), now)
        elif kind == Kind.REFUSE and transfer.state is State.OFFERED:
            message = f"the offer was refused: {words(packet.payload)}"
            transfer.end(now, TransferRefused(message, transfer))
        elif kind == Kind.STOP:
            why = f": {words(packet.payload)}" if packet.payload else ""
            message = f"the other side has stopped the transfer{why}"
            transfer.end(now, TransferStopped(message, transfer))

    def _accepted(self) -> None:
        if self.transfer.state is State.OFFERED:
            self.transfer.state = State.RUNNING
            self._fed = True

    # ---- whether the path carries datagrams of this size

    def _ask(self, now: float) -> None:
        """Send a small probe and one of full size: what comes back tells what came."""
        done = self._answered or self.transfer.ended or self._asked > 2 * ASK_TIMES
        self._ask_at = math.inf if done else now + ASK_EVERY
        if done:
            return
        self._asked += 1
        offer = self.transfer.offer
        self._say(Kind.OFFER, now, bytes(offer.content.payload_size))
        self._say(Kind.OFFER, now, offer.to_bytes())

    def _require_size(self, longest: int, now: float) -> None:
        size = self.transfer.offer.content.payload_size
        if longest >= size:
            return  # they come: then something else keeps the answers away
        full = size + HEADER_SIZE
        message = (
            f"the peer answers, but none of our datagrams of {full:,} bytes reached "
            f"it in {now:.1f} s: the path drops what is so large. {SMALLER}"
        )
        self.fail(now, DatagramsTooLarge(message, full, self.transfer))

    # ---- what leaves

    def _offer(self, now: float) -> None:
        self._say(Kind.OFFER, now, self.transfer.offer.to_bytes())
        self._offer_at = now + self._offer_rto
        self._offer_rto = min(2 * self._offer_rto, MAX_OFFER_RTO)

    def _pull(self, now: float) -> None:
        host, transfer, forward = self.host, self.transfer, self._forward
        if not self._begun:
            self._begun = True
            self._ask_at = now + ASK_AFTER
            host.send(*transfer.payloads)
            host.machine.finish()
        first = host.number
        for number, packet in enumerate(islice(host.pull(now), BURST), first):
            if forward is None:
                self._emit(encode(packet, self._id, number))
            else:
                role = transfer.role
                self._meet(forward, role, packet, number, self._leave, now)
        full = host.number == first + BURST
        self._more_at = math.inf
        if full:
            self._more_at = now + (BREATH if host.paced is None else 0.0)
        if transfer.role == SENDER and not transfer.ended:
            transfer.acknowledged = getattr(host.inner, "send_base", host.number)
            if host.machine.done:
                transfer.end(now)

    def _say(self, kind: Kind, now: float, payload: bytes = b"") -> None:
        packet = Packet(kind, 0, payload)
        self._row(now, self.transfer.role, SEND, packet, self.host.number)
        self._emit(encode(packet, self._id, self.host.number))
        self.host.number += 1

    # ---- how it ends

    def _end_receiver(self, now: float) -> None:
        assembly = self.transfer.assembly
        assert assembly is not None
        if assembly.complete and self.transfer.complete_after is None:
            self.transfer.complete_after = now
        finished = getattr(self.host.machine, "finished", assembly.complete)
        if self.transfer.ended or not finished:
            return
        if assembly.complete and not assembly.verify():
            message = "everything has arrived, but its fingerprint is another one"
            self.fail(now, BadContent(message))
        else:
            self.transfer.end(now)

    def _give_up(self, now: float) -> None:
        """End for want of news: well, if only the goodbye was lost."""
        transfer = self.transfer
        if transfer.role == RECEIVER and transfer.assembly is not None:
            whole = transfer.assembly.verify()
        else:
            base = getattr(self.host.inner, "send_base", None)
            whole = base == transfer.offer.content.count
        if whole:
            transfer.end(now)
            return
        what = "the other side has said nothing"
        if transfer.state is State.OFFERED:
            what = "nobody has answered our offer"
        message = (
            f"{what} for {now - transfer.heard_at:.3g} s. Is the peer still there, and "
            f"does the link let anything through?"
        )
        self.fail(now, TransferStalled(message, transfer))

    def _row(self, now: float, host: str, what: str, packet: Packet, nr: int) -> None:
        if self._trace is not None:
            kind, seq, payload, _, _ = packet
            self._trace.rows.append(Row(now, host, what, +kind, seq, len(payload), nr))
