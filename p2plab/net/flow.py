"""One end of one transfer on a real socket: offer, machine, link and end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from p2plab.content.offer import ANSWER, to_words, words
from p2plab.content.transfer import State, Transfer
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, Channel
from p2plab.core.packet import MACHINE_KINDS, Kind, Numbered, Packet, all_plain, encode
from p2plab.core.trace import RECEIVER, SEND, SENDER, Row
from p2plab.errors import (
    BadContent,
    P2PLabError,
    TransferRefused,
    TransferStalled,
    TransferStopped,
)
from p2plab.net.emulator import Emulator
from p2plab.sim.driver import BURST, CATCH_UP, Host

PORTION: Final = 2 * BURST  # payloads handed over in one go, more than can be sent
BREATH: Final = 0.001  # between two bursts [s]
MOST_ARRIVALS: Final = 200  # transmissions for each payload
MOST_REJECTED: Final = 1_000  # rows, or a stranger could fill our memory
OFFER_RTO: Final = 0.25  # until an offer is repeated; doubles up to MAX_OFFER_RTO [s]
EARLY_RTO: Final = 0.001  # the same, while data follows that waits for it [s]
MAX_OFFER_RTO: Final = 2.0
EARLY: Final = 512  # packets sent before the offer is answered
MORE: Final = 16  # bytes that a packet may be longer than a payload: see mixing
OFFERED, RUNNING, FAILED = State.OFFERED, State.RUNNING, State.FAILED  # found quicker


class Flow:
    """The driver of one end of a transfer; its socket calls it from one thread.

    All times are the transfer's own: seconds since its `started_at`.
    machine: the sending or receiving machine.
    payloads: what the sender is to send.
    emit: puts datagrams on the socket, a turn's at once.
    link: an artificial one, forward and backward. Only the sender has it, so that one
        person turns the knobs of both directions.
    patience: how long to go on without a word from the other side [s].
    at_once: let up to EARLY packets follow the offer; they are lost if it is refused.
    """

    def __init__(
        self,
        transfer: Transfer,
        machine: Any,
        emit: Callable[[Sequence[bytes]], None],
        *,
        payloads: Sequence[bytes] = (),
        link: tuple[Channel, Channel] | None = None,
        patience: float = 30.0,
        at_once: bool = False,
    ) -> None:
        self.transfer = transfer
        transfer.payloads = payloads
        transfer.patience = patience
        self._emit = emit
        self._outbox: list[bytes] = []  # datagrams of this turn
        self._link: Emulator | None = None
        if link is not None:
            leave = self._outbox.append
            self._link = Emulator(*link, transfer.role, self._row, leave, self._hear)
        content = transfer.offer.content
        self._largest = content.payload_size + MORE  # [bytes]
        self._most_arrivals = MOST_ARRIVALS * (content.count + 50)
        self._offer_at = self._more_at = math.inf  # when to repeat it, or go on [s]
        self._offer_rto = EARLY_RTO if at_once else OFFER_RTO
        self._at_once, self._early = at_once, EARLY if at_once else 0
        self._fed = False  # the machine has had an input that it was not pulled for
        self._feeding = transfer.role == SENDER  # until the machine has all payloads,
        self._portion = PORTION  # so many in a turn
        self._rejected = 0  # packets that were not believed
        self._arrived: set[int] = set()  # transmissions that have arrived
        assembly = transfer.assembly if transfer.role == RECEIVER else None
        self._id = transfer.id | (0 if assembly is None else ANSWER)
        take = None if assembly is None else assembly.add
        self._trace = transfer.own_trace if transfer.record else None
        self.host = Host(machine, transfer.role, self._trace, take, CATCH_UP)

    @property
    def closed(self) -> bool:
        """Whether it is over, and nobody will need its answers any more."""
        failed = self.transfer.state is FAILED
        return self.transfer.ended and (failed or self.host.machine.deadline is None)

    @property
    def _waits(self) -> bool:
        """Whether nothing more may leave before our offer is answered."""
        return self.transfer.state is OFFERED and self.host.number >= self._early

    def open(self, now: float) -> None:
        """Begin as a sender: offer. A receiver begins when it hears the offer."""
        self._offer(now)
        if self._at_once:
            self.flush()  # the other side can prepare itself, while we do
            self._fed = True

    def _offer(self, now: float) -> None:
        self._say(Kind.OFFER, now, self.transfer.offer.to_bytes())
        self._offer_at = now + self._offer_rto
        self._offer_rto = min(2 * self._offer_rto, MAX_OFFER_RTO)

    def arrive(self, packets: Sequence[Numbered], now: float) -> None:
        """Packets have come, each with its number; the link decides about each."""
        if self._link is None:
            self._hear(packets, ARRIVE, now)
        else:
            self._link.receive(packets, now)

    def reject(self, packet: Packet, number: int, what: str, now: float) -> None:
        """Note a packet that claims to be the other side's, and is not believed."""
        if self._rejected < MOST_REJECTED:
            self._rejected += 1
            self._row(now, self.transfer.role, what, packet, number)

    def finish_turn(self, now: float) -> None:
        """Answer what this turn has brought: to be called after every other call.

        A turn feeds the machine all that has come at once before it pulls, so that
        the answers, too, can leave in one go, with `flush`.
        """
        fed, self._fed = self._fed, False
        if fed and self.transfer.state is not FAILED:
            self._react(now)
        self.host.note(now)

    def flush(self) -> None:
        """Put on the socket what has gathered."""
        if self._outbox:
            self._emit(self._outbox)
            self._outbox.clear()

    def tick(self, now: float) -> None:
        """Do what is due: repeat the offer, fire the timer, go on sending, give up."""
        if self._link is not None:
            self._link.tick(now)
        if self.closed:
            return None
        if self.transfer.state is OFFERED:
            if self.transfer.gives_up_at <= now:
                return self._stall(now, "nobody has answered our offer")
            if self._offer_at <= now:
                self._offer(now)
            if self._waits:
                return None
        if not self.transfer.ended and self.transfer.gives_up_at <= now:
            if self.transfer.all_there(self.host.inner):
                return self.transfer.end(now)  # only the goodbye was lost
            return self._stall(now, "the other side has said nothing")
        if (due := self.host.wake_at()) is not None and due <= now:
            self.host.fire(now)
            self._fed = True
        elif self._more_at <= now:
            self._fed = True
        return None

    def wake_at(self) -> float | None:
        """Return when `tick` is due [s], or None."""
        held = None if self._link is None else self._link.wake_at()
        times = [] if held is None else [held]
        if self.closed:
            return min(times, default=None)
        if not self.transfer.ended:
            times.append(self.transfer.gives_up_at)
        if self.transfer.state is OFFERED:
            times.append(self._offer_at)
        if not self._waits:
            wake_at = self.host.wake_at()
            times += [self._more_at] if wake_at is None else [self._more_at, wake_at]
        return min(times)

    def fail(self, now: float, error: P2PLabError) -> None:
        """End with an error, and tell the other side to stop, and why."""
        if not self.transfer.ended:
            self.transfer.end(now, error)
            why = "" if isinstance(error, TransferStopped) else str(error)
            self._say(Kind.STOP, now, to_words(why))

    def _hear(self, packets: Sequence[Numbered], fate: str, now: float) -> None:
        if fate == CORRUPT:
            for packet, number in packets:
                self.host.damage(packet, now, number)
            self._fed = True
            return
        if len(self._arrived) > self._most_arrivals:  # the trace keeps every one
            raise BadContent("far more packets have come than a transfer needs")
        known = None if self._trace is None else self._arrived
        if self.transfer.state is RUNNING and all_plain(packets, self._largest, known):
            self.host.feed_all(packets, now, fate)
            self._fed = True
        else:
            for packet, number in packets:
                self._hear_one(packet, number, fate, now)
        self.transfer.heard_at = now

    def _hear_one(self, packet: Packet, number: int, fate: str, now: float) -> None:
        if packet.kind is Kind.DATA and len(packet.payload) > self._largest:
            return  # no part of what was offered, and nobody has room for it
        what = DUPLICATE if number in self._arrived else fate
        if self._trace is not None:  # nothing else tells copies apart
            self._arrived.add(number)
        if packet.kind not in MACHINE_KINDS:
            self._row(now, self.transfer.role, what, packet, number)
            self._control(packet, now)
        elif self.transfer.state is RUNNING or self._listens(now):
            self.host.feed(packet, now, what, number)
            self._fed = True

    def _listens(self, now: float) -> bool:
        if self.transfer.state is FAILED:
            self._say(Kind.STOP, now)
        elif self._at_once:  # nobody answers data without having accepted it
            self._accepted(now)
        return self.transfer.state not in (OFFERED, FAILED)

    def _control(self, packet: Packet, now: float) -> None:
        kind, offered = packet.kind, self.transfer.state is OFFERED
        if kind == Kind.OFFER and self.transfer.role == RECEIVER:
            if offered:
                self.transfer.state = RUNNING
            self._say(Kind.STOP if self.transfer.state is FAILED else Kind.ACCEPT, now)
        elif kind == Kind.ACCEPT:
            self._accepted(now)
        elif kind == Kind.REFUSE and offered:
            message = f"the offer was refused: {words(packet.payload)}"
            self.transfer.end(now, TransferRefused(message, self.transfer))
        elif kind == Kind.STOP:
            why = f": {words(packet.payload)}" if packet.payload else ""
            message = f"the other side has stopped the transfer{why}"
            self.transfer.end(now, TransferStopped(message, self.transfer))

    def _accepted(self, now: float) -> None:
        if self.transfer.state is OFFERED:
            self.transfer.state = RUNNING
            self._fed = True

    def _feed(self) -> None:
        """Hand over payloads; to a machine that knows how many will come, some."""
        host, payloads = self.host, self.transfer.payloads
        if not host.payloads and not host.expect_payloads(len(payloads)):
            self._portion = len(payloads)
        host.send(*payloads[host.payloads : host.payloads + self._portion])
        self._feeding = host.payloads < len(payloads)
        if not self._feeding:
            host.machine.finish()

    def _react(self, now: float) -> None:
        host = self.host
        if self.transfer.role == RECEIVER:
            self._end_receiver(now)  # before our last ACK: the sender may count on it
        self._more_at = math.inf
        if self._waits:
            return
        if self._feeding:
            self._feed()
        id, link, leave, first = self._id, self._link, self._outbox.append, host.number
        for number, packet in enumerate(islice(host.pull(now), BURST), first):
            datagram = encode(packet, id, number)
            if link is None:
                leave(datagram)
            else:
                link.send(packet, number, datagram, now)
        full = host.number == first + BURST
        if full or self._feeding:
            self._more_at = now + (BREATH if full and host.paced is None else 0.0)
        if self.transfer.role == SENDER and not self.transfer.ended:
            self.transfer.acknowledged = getattr(host.inner, "send_base", host.number)
            if host.machine.done:
                self.transfer.end(now)

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

    def _say(self, kind: Kind, now: float, payload: bytes = b"") -> None:
        packet = Packet(kind, 0, payload)
        self._row(now, self.transfer.role, SEND, packet, self.host.number)
        # Past the link, which is for the machines' packets only, as in virtual time.
        self._outbox.append(encode(packet, self._id, self.host.number))
        self.host.number += 1

    def _stall(self, now: float, what: str) -> None:
        message = (
            f"{what} for {now - self.transfer.heard_at:.3g} s. Is the peer still "
            f"there, and does the link let anything through?"
        )
        self.fail(now, TransferStalled(message, self.transfer))

    def _row(self, now: float, host: str, what: str, packet: Packet, nr: int) -> None:
        if self._trace is not None:
            kind, seq, payload, _, _ = packet
            self._trace.rows.append(Row(now, host, what, +kind, seq, len(payload), nr))
