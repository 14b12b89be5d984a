"""A failing run in words: what was lost, what the protocol did, what that broke."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import Final

from p2plab.checker.network import LATE, SIDES, Fault, called
from p2plab.checker.promises import PROMISES
from p2plab.checker.trial import EAGER, Run
from p2plab.checker.wire import HEAL_TIME
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE
from p2plab.core.packet import ACK, Packet
from p2plab.core.trace import OTHER, RECEIVER, SENDER, TIMEOUT, Row, Trace
from p2plab.core.validation import count_of

# Broken whatever the network does: there is no need to tell the run.
_ALWAYS: Final = ("interface", "quick", "quiet", "same again", "apart")


def capital(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class Story:
    """The run that failed, as its trace tells it. pair: which of its transfers."""

    run: Run
    trace: Trace
    pair: int = 0

    def tell(self) -> str:
        """Say what was lost, what the protocol did, and which promise that broke."""
        failure = self.run.failure
        assert failure is not None
        whose = "" if failure.kind == "broken" else " of the machine"
        promise = f"Promise{whose} broken: {PROMISES[failure.promise]}."
        if failure.promise in _ALWAYS:
            return f"{capital(failure.words)}. {promise}"
        return f"{self.before()} {capital(self.middle())} {promise}"

    def before(self) -> str:
        """Say what the network, the application and the driver did."""
        said = [self._fault(fault) for fault in self.run.hits]
        number = count_of(len(said), "fault")
        text = "Without any fault of the network"
        if said:
            text = capital("; ".join(said[:6])) + (" …" if len(said) > 6 else "")
            text += f" ({number})"
        asides = []
        application = self.run.trial.application
        if application.pairs > 1 or len(application.phases) > 1 or not said:
            asides.append(f"the application sent {application.words}")
        if self.run.trial.style != EAGER:
            asides.append("the driver pulled packets late")
        return "; ".join([text, *asides]) + "."

    def middle(self) -> str:
        """Say what the protocol did."""
        failure = self.run.failure
        assert failure is not None
        if failure.words:
            asks = failure.words.endswith("?")
            return failure.words if asks else failure.words.removesuffix(".") + "."
        match failure.promise:
            case "prefix":
                return self._prefix()
            case "retransmission":
                return self._storm()
            case "silence":
                return self._restless()
        return self._unfinished()

    def _fault(self, fault: Fault) -> str:
        packets = self.run.packets(fault.way)
        packet = packets[fault.number]
        return fault.words(packet, _same(packets, fault.number))

    def _packets(self, role: str) -> list[Packet]:
        return self.run.packets(2 * self.pair + (role == RECEIVER))

    def _prefix(self) -> str:
        delivered = self.run.delivered[self.pair]
        sent = [one for phase in self.run.trial.application.phases for one in phase]
        index, got = len(delivered) - 1, delivered[-1]
        wanted = sent[index] if index < len(sent) else None
        if not got and wanted:
            did = f"delivered {got!r} where {wanted!r} was next"
        elif got in sent[:index] and got != wanted:
            did = f"delivered {got!r} twice"
        elif got in sent[index + 1 :]:
            did = f"delivered {got!r} although {wanted!r} was still missing"
        elif got in sent:
            did = f"delivered {got!r} once more than it was sent"
        else:
            did = f"delivered {got!r:.60}, which was never sent"
        last = self._last_arrival(RECEIVER)
        if last is None:
            return f"Before anything had arrived, the receiver {did}."
        fresh = "twice" in did or "once more" in did
        cause = (fresh and got and self._last_arrival(RECEIVER, got)) or last
        if cause != last:
            name = called(self._packets(SENDER)[last.number])
            did = f"{did} (when {name} had arrived)"
        return self._because(cause, did, fresh)

    def _because(self, cause: Row, did: str, fresh: bool) -> str:
        packets = self._packets(SENDER)
        name = called(packets[cause.number])
        took = "took it for a new one and " if fresh else ""
        hit = {f.number: f.kind for f in self.run.hits if f.way == 2 * self.pair}
        if cause.what == DUPLICATE:
            it = f"took the copy of {name} for a new one" if fresh else ""
            return f"The receiver {it or f'got the copy of {name}'} and {did}."
        if hit.get(cause.number) == LATE:
            return f"When {name} arrived at last, the receiver {took}{did}."
        if _same(packets, cause.number):
            why = self._why_again(cause)
            return f"The sender sent {name} again{why}; the receiver {took}{did}."
        return f"When {name} arrived, the receiver {did}."

    def _why_again(self, cause: Row) -> str:
        sent_at = next(
            event.time
            for event in self.trace
            if event.host == SENDER and event.number == cause.number
        )
        for event in self.trace:
            if (event.host, event.what, event.time) == (SENDER, TIMEOUT, sent_at):
                return " when its timer fired"
        return ""

    def _last_arrival(self, role: str, carrying: bytes = b"") -> Row | None:
        packets = self._packets(OTHER[role])
        for event in reversed(list(self.trace)):
            arrived = event.host == role and event.what in (ARRIVE, DUPLICATE)
            if arrived and carrying in packets[event.number].payload:
                return event
        return None

    def _unfinished(self) -> str:
        run, way = self.run, 2 * self.pair
        sender = run.machines[way]
        sent = [one for phase in run.trial.application.phases for one in phase]
        missing = sent[len(run.delivered[self.pair]) :]
        if sender.done and missing:
            return self._too_sure(missing[0])
        what = f"{missing[0]!r} was never delivered" if missing else ""
        if not sent:
            what = "there was nothing to send"
        what = what or "all was delivered, but the sender is not done"
        if not run.stuck:
            return f"{self._busy()}; {what}."
        return (
            f"{self._last_words()} From t={run.time:.2f} s on nothing happened any "
            f"more: no packet was on its way and no timer was running, although the "
            f"sender's `done` is False; {what}."
        )

    def _too_sure(self, missing: bytes) -> str:
        last = self._last_arrival(SENDER)
        why = "although nothing had arrived"
        if last is not None:
            why = f"after {called(self._packets(RECEIVER)[last.number])} had arrived"
        elif any((e.host, e.what) == (SENDER, CORRUPT) for e in self.trace):
            why = "after a damaged packet had arrived"
        times = sum(missing in packet.payload for packet in self._packets(SENDER))
        sent = f"and had sent {missing!r} {count_of(times, 'time')}"
        if not times:
            sent = f"and never sent {missing!r}, although `send` was called with it"
        return f"The sender took itself for done {why}, {sent}: it was never delivered."

    def _last_words(self) -> str:
        last = self._last_arrival(SENDER)
        if last is None:
            return "The sender heard nothing."
        packet = self._packets(RECEIVER)[last.number]
        return f"The last that the sender heard was {called(packet)}."

    def _storm(self) -> str:
        """Say how much was sent, and that it did not help."""
        healed = self.run.healed_at
        count = sum(each.time >= healed for each in self.run.sent)
        took = self.run.time - healed
        return (
            f"In the {took:.3g} s after that, {count} packets were sent, and it was "
            f"not yet done: {self._busy()}."
        )

    def _busy(self) -> str:
        """Say what both sides do for ever."""
        healed = self.run.healed_at
        ours = self._repeated(SENDER, healed)
        theirs = self._repeated(RECEIVER, healed)
        if ours is None and theirs is None:
            at = [each.deadline for each in self.run.machines[2 * self.pair :][:2]]
            waits = min((each for each in at if each is not None), default=inf)
            return (
                f"After the network had healed, at t={healed:.4g} s, nothing was sent; "
                f"the next timer is set for t={waits:.6g} s"
            )
        parts = []
        if ours is not None:
            parts.append(f"the sender went on sending {ours}")
        if theirs is not None:
            parts.append(f"the receiver {'answered with' if ours else 'sent'} {theirs}")
        elif ours is not None:
            once = self._repeated(RECEIVER, -inf) is not None
            parts.append(f"the receiver {'no longer' if once else 'never'} answered")
        return ", ".join(parts)

    def _repeated(self, role: str, since: float) -> str | None:
        way = 2 * self.pair + (role == RECEIVER)
        packets = [s.packet for s in self.run.sent if s.way == way and s.time > since]
        if not packets:
            return None
        often = Counter((p.kind, p.seq, p.payload) for p in packets).most_common(2)
        (kind, seq, payload), times = often[0]
        name = called(Packet(kind, seq, payload))
        more = " and others" if len(often) > 1 else ""
        return f"{name}{more} ({count_of(times, 'time')})"

    def _restless(self) -> str:
        failure = self.run.failure
        assert failure is not None
        done = "Everything was delivered and the sender was done"
        healed = self.run.healed_at
        ours = self._repeated(SENDER, healed + 1)
        theirs = self._repeated(RECEIVER, healed + 1)
        for who, what in ((RECEIVER, theirs), (SENDER, ours)):
            if what is not None:
                return f"{done}, but the {who} went on sending {what}."
        who = SIDES[failure.way % 2]
        return f"{done}, but the {who} still held a timer {HEAL_TIME:g} s later."


def _same(packets: list[Packet], number: int) -> bool:
    """Whether packet `number` had been sent before; ACKs are expected to repeat."""
    packet = packets[number]
    if packet.kind == ACK:
        return False
    return any(each[:3] == packet[:3] for each in packets[:number])
