"""Machines that break their own promises: a verdict in words, with the line."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, ClassVar

import pytest
from first_attempt import Receiver, Sender

from p2plab.checker import Verdict, check
from p2plab.core.packet import ACK, DATA, Packet


def verdict_on(
    sender: Any = Sender, receiver: Any = Receiver, budget: float = 3.0
) -> Verdict:
    return check(sender, receiver, budget=budget)


class Changed(Sender):
    """Changes every packet that it sends."""

    def change(self, packet: Packet, now: float) -> Any:
        raise NotImplementedError

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and self.change(packet, now)


class NoDeadline:
    done = True

    def next_packet(self, now: float) -> None: ...
    def on_packet(self, packet: Packet, now: float) -> None: ...
    def on_timeout(self, now: float) -> None: ...
    def send(self, payload: bytes) -> None: ...


class NeedsArguments(Sender):
    def __init__(self, rto: float) -> None:
        super().__init__()


class OnlyOnce(Sender):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if self.made > 3:
            raise RuntimeError("the fourth")


class Async(Sender):
    async def on_packet(  # type: ignore[override]
        self, packet: Packet, now: float
    ) -> None: ...


class Misnamed(Sender):
    channel = "dupp"


class ReturnsAList(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        return [packet]


class Yields(Sender):
    def next_packet(self, now: float) -> Any:
        yield super().next_packet(now)


class NeverSaysNone(Sender):
    def next_packet(self, now: float) -> Any:
        return Packet(DATA, 0, b"again")


class TextPayload(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        return packet._replace(payload="text")  # type: ignore[arg-type]


class HugeNumber(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        return packet._replace(seq=2**40)


class Stamped(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        return packet._replace(ts_val="now")  # type: ignore[arg-type]


class StuckTimer(Sender):
    def on_timeout(self, now: float) -> None:
        return


class WordyTimer(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        self.deadline = "soon"  # type: ignore[assignment]
        return packet


class LoopsForEver(Sender):
    def on_timeout(self, now: float) -> None:
        while True:
            pass


class Quits(Sender):
    def on_packet(self, packet: Packet, now: float) -> None:
        raise SystemExit


class Misspells(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        self.acks.append(Packet(ACK, packet.sequence))  # type: ignore[attr-defined]


class HandsOverText(Receiver):
    def next_payload(self) -> Any:
        payload = super().next_payload()
        return payload and payload.decode()


class Random(Sender):
    def on_timeout(self, now: float) -> None:
        super().on_timeout(now)
        self.deadline = now + random.random()
        self.sent += 1
        if now > 1.0:
            self.sent = self.base


class PlainNumbers(Changed):
    """Writes 1 for DATA, which is the same, and any number."""

    def change(self, packet: Packet, now: float) -> Any:
        seq = random.getrandbits(20)
        return packet._replace(kind=1, seq=seq)  # type: ignore[arg-type]


class Clock(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        self.deadline = time.monotonic() + 1.0
        return packet


class Shared(Receiver):
    seen: ClassVar[list[int]] = []

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq not in self.seen:
            self.seen.append(packet.seq)
            self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq))


class Counts(Changed):
    made = 0

    def change(self, packet: Packet, now: float) -> Any:
        type(self).made += 1
        return packet._replace(ts_val=float(self.made))


def shares(payloads: list[bytes] = []) -> Sender:  # noqa: B006  # the mistake
    sender = Sender()
    sender.payloads = payloads
    return sender


class Prints(Sender):
    def on_timeout(self, now: float) -> None:
        print("again")
        super().on_timeout(now)


class Threads(Sender):
    def on_timeout(self, now: float) -> None:
        threading.Thread(target=int).start()
        super().on_timeout(now)


HERE = "at test_checker_breaches.py, line "


@pytest.mark.parametrize(
    ("sender", "receiver", "promise", "words"),
    [
        (NoDeadline, Receiver, "interface", "NoDeadline has no deadline"),
        (NoDeadline, Receiver, "interface", "`class NoDeadline:`"),
        (NeedsArguments, Receiver, "interface", "give each of its parameters a defa"),
        (NeedsArguments, Receiver, "interface", "`def __init__(self, rto: float)"),
        (Sender(), Receiver, "interface", "is a machine already: hand over its class"),
        (lambda: Sender, Receiver, "interface", "Sender is a class: hand over a mach"),
        (OnlyOnce, Receiver, "interface", "OnlyOnce() raised RuntimeError: the fourth"),
        (Async, Receiver, "interface", "Async.on_packet is `async`, and nobody awaits"),
        (Misnamed, Receiver, "interface", "Misnamed.channel is 'dupp', and not one of"),
        (Sender, Sender, "interface", "Is it a sender? See first_attempt.py, line"),
        (None, Receiver, "interface", "The sender is None: hand over a class"),
        ("Sender", Receiver, "interface", "The sender is 'Sender': hand over a class"),
        (ReturnsAList, Receiver, "packets", "next_packet returned [Packet("),
        (ReturnsAList, Receiver, "packets", "`def next_packet(self, now: float)"),
        (Yields, Receiver, "packets", "`yield` makes it a generator"),
        (NeverSaysNone, Receiver, "packets", "still did not say None"),
        (TextPayload, Receiver, "packets", "whose payload is 'text'"),
        (HugeNumber, Receiver, "packets", "A seq is a whole number of 32 bits"),
        (Stamped, Receiver, "packets", "They are times in seconds, or None"),
        (StuckTimer, Receiver, "timer", "Restart the timer"),
        (WordyTimer, Receiver, "timer", "WordyTimer.deadline is 'soon' (a str)"),
        (LoopsForEver, Receiver, "end", f"an endless loop or a pause {HERE}"),
        (Quits, Receiver, "no exception", f"Quits.on_packet raised SystemExit {HERE}"),
        (Sender, Misspells, "no exception", "`self.acks.append(Packet(ACK, packet.seq"),
        (Sender, Misspells, "no exception", "'Packet' object has no attribute"),
        (Sender, HandsOverText, "payloads", "next_payload returned 'A' (str)"),
        (Random, Receiver, "same again", "`self.deadline = now + random.random()`"),
        (PlainNumbers, Receiver, "same again", "packet number 1 was DATA "),
        (Clock, Receiver, "same again", "reads a clock"),
        (Sender, Shared, "isolation", "Shared.seen belongs to all machines"),
        (Counts, Receiver, "isolation", "Counts.made belongs to all machines"),
        (shares, Receiver, "isolation", "default argument of shares belongs to all"),
        (Prints, Receiver, "quiet", f"prints {HERE}"),
        (Threads, Receiver, "quiet", f"starts a thread {HERE}"),
    ],
)
def test_a_breach_is_told_with_its_line_and_the_remedy(
    sender: Any,
    receiver: Any,
    promise: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Shared.seen.clear()
    verdict = verdict_on(sender, receiver)
    assert (verdict.kind, verdict.promise) == ("breach", promise), verdict
    assert words in verdict.sentence
    assert "Promise of the machine broken: " in verdict.sentence
    assert "?." not in verdict.sentence
    assert capsys.readouterr().out == ""


def test_an_exception_points_to_the_line_and_to_the_end_of_the_ladder() -> None:
    verdict = verdict_on(Sender, Misspells)
    line = Misspells.on_packet.__code__.co_firstlineno + 1
    assert f"{HERE}{line}: `self.acks" in verdict.sentence
    assert "✗ raises an exception here" in verdict._repr_html_()


def test_a_machine_that_prints_and_raises_has_raised_first() -> None:
    verdict = verdict_on(Prints, Misspells)
    assert verdict.promise == "no exception"
    assert "print" not in verdict.sentence, "it had no time to"


class GivesUp(Sender):
    tries = 0

    def on_timeout(self, now: float) -> None:
        super().on_timeout(now)
        self.tries += 1
        if self.tries > 3:
            self.base = len(self.payloads)


class DoesNotListen(Sender):
    def send(self, payload: bytes) -> None:
        return


class Hasty(Sender):
    rto = 0.01


@pytest.mark.parametrize(
    ("sender", "words"),
    [
        (GivesUp, "although nothing had arrived, and had sent b'A' 4 times"),
        (DoesNotListen, "never sent b'A', although `send` was called with"),
        (Hasty, "(a round trip is 0.1 s here) is the timeout longer?"),
    ],
)
def test_a_broken_promise_is_told_with_its_cause(sender: Any, words: str) -> None:
    verdict = verdict_on(sender)
    assert verdict.kind == "broken"
    assert words in verdict.sentence


class Finishing(Sender):
    def finish(self, seq: int) -> None: ...


@pytest.mark.parametrize("sender", [Sender, Finishing])
def test_what_a_machine_does_besides_is_its_own_business(sender: type) -> None:
    assert verdict_on(sender, budget=0.5).kind == "survived"


class Hashes(Changed):
    def change(self, packet: Packet, now: float) -> Any:
        self.deadline = now + 1 + hash(packet.payload) % 7 / 100
        return packet


def test_what_only_a_second_process_can_show_is_said() -> None:
    verdict = verdict_on(Hashes, budget=0.5)
    assert verdict.kind == "survived"
    assert "uses hash(), which differs from process to process" in verdict.sentence


class Dawdles(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        sum(range(2_000_000))
        super().on_packet(packet, now)


def test_a_machine_too_slow_to_be_tried_has_not_survived() -> None:
    verdict = verdict_on(receiver=Dawdles, budget=0.5)
    assert (verdict.kind, verdict.promise) == ("breach", "quick")
    assert "`sum(range(2_000_000))`" in verdict.sentence


def test_memory_that_is_used_up_now_and_then_is_no_chance() -> None:
    calls = iter(range(1000))

    class Greedy(Receiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            super().on_packet(packet, now)
            if next(calls):
                raise MemoryError

    verdict = verdict_on(receiver=Greedy)
    assert (verdict.kind, verdict.promise) == ("breach", "no exception")
    assert "more than the limit of memory" in verdict.sentence
