"""Machines that break their own promises: a verdict in words, with the line."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from first_attempt import Receiver, Sender

from p2plab.checker import Verdict, check
from p2plab.core.packet import ACK, DATA, Packet


def verdict_on(
    sender: Callable[[], Any] = Sender, receiver: Callable[[], Any] = Receiver
) -> Verdict:
    return check(sender, receiver, budget=0.5)


def test_the_first_attempt_survives() -> None:
    assert verdict_on().kind == "survived"


def test_a_method_called_finish_is_the_machines_own_business() -> None:
    class Finishing(Sender):
        def finish(self, seq: int) -> None: ...

    assert verdict_on(Finishing).kind == "survived"


class NoDeadline:
    done = True

    def next_packet(self, now: float) -> None: ...
    def on_packet(self, packet: Packet, now: float) -> None: ...
    def on_timeout(self, now: float) -> None: ...
    def send(self, payload: bytes) -> None: ...


class NeedsArguments(Sender):
    def __init__(self, rto: float) -> None:
        super().__init__()


class ReturnsAList(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and [packet]


class Yields(Sender):
    def next_packet(self, now: float) -> Any:
        yield super().next_packet(now)


class NeverSaysNone(Sender):
    def next_packet(self, now: float) -> Any:
        return Packet(DATA, 0, b"again")


class TextPayload(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and packet._replace(payload="text")


class HugeNumber(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and packet._replace(seq=2**40)


class StuckTimer(Sender):
    def on_timeout(self, now: float) -> None:
        return


class WordyTimer(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet:
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


class Clock(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet:
            self.deadline = time.monotonic() + 1.0
        return packet


class Shared(Receiver):
    seen: ClassVar[list[int]] = []

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq not in self.seen:
            self.seen.append(packet.seq)
            self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq))


class Counts(Sender):
    made = 0

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet:
            type(self).made += 1
            return packet._replace(ts_val=float(self.made))
        return None


class PlainNumbers(Sender):
    """Writes 1 for DATA, which is the same, and any number."""

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and packet._replace(kind=1, seq=random.getrandbits(20))


class OnlyOnce(Sender):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if self.made > 3:
            raise RuntimeError("the fourth")


class Stamped(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and packet._replace(ts_val="now")


@pytest.mark.parametrize(
    ("sender", "receiver", "promise", "words"),
    [
        (NoDeadline, Receiver, "interface", "NoDeadline has no deadline"),
        (NoDeadline, Receiver, "interface", "`class NoDeadline:`"),
        (NeedsArguments, Receiver, "interface", "give each of its parameters a defa"),
        (Sender(), Receiver, "interface", "is a machine already: hand over its class"),
        (lambda: Sender, Receiver, "interface", "Sender is a class: hand over a mach"),
        (OnlyOnce, Receiver, "interface", "OnlyOnce() raised RuntimeError: the fourth"),
        (PlainNumbers, Receiver, "same again", "packet number 1 was DATA "),
        (Stamped, Receiver, "packets", "They are times in seconds, or None"),
        (ReturnsAList, Receiver, "packets", "next_packet returned [Packet("),
        (ReturnsAList, Receiver, "packets", "`def next_packet(self, now: float)"),
        (Yields, Receiver, "packets", "`yield` makes it a generator"),
        (NeverSaysNone, Receiver, "packets", "still did not say None"),
        (TextPayload, Receiver, "packets", "whose payload is 'text'"),
        (HugeNumber, Receiver, "packets", "A seq is a whole number of 32 bits"),
        (StuckTimer, Receiver, "timer", "Restart the timer"),
        (WordyTimer, Receiver, "timer", "WordyTimer.deadline is 'soon' (a str)"),
        (LoopsForEver, Receiver, "end", "LoopsForEver.on_timeout did not come back"),
        (Quits, Receiver, "no exception", "Quits.on_packet raised SystemExit at "),
        (Sender, Misspells, "no exception", "`self.acks.append(Packet(ACK, packet.seq"),
        (Sender, HandsOverText, "payloads", "next_payload returned 'A' (str)"),
        (Random, Receiver, "same again", "`self.deadline = now + random.random()`"),
        (Clock, Receiver, "same again", "reads a clock"),
        (
            Sender,
            Shared,
            "isolation",
            "Shared.seen belongs to all machines of the class",
        ),
        (Counts, Receiver, "isolation", "Counts.made belongs to all machines"),
    ],
)
def test_a_breach_is_told_with_its_line_and_the_remedy(
    sender: Any, receiver: Any, promise: str, words: str
) -> None:
    Shared.seen.clear()
    verdict = verdict_on(sender, receiver)
    assert (verdict.kind, verdict.promise) == ("breach", promise), verdict
    assert words in verdict.sentence
    assert "Promise of the machine broken: " in verdict.sentence
    assert verdict.to_json()["verdict"] == "breach"


def test_an_exception_points_to_the_file_and_the_line() -> None:
    verdict = verdict_on(Sender, Misspells)
    line = Misspells.on_packet.__code__.co_firstlineno + 1
    assert f"at test_checker_breaches.py, line {line}: `self.acks" in verdict.sentence
    assert "'Packet' object has no attribute 'sequence'" in verdict.sentence


def test_an_endless_loop_is_interrupted_within_two_seconds() -> None:
    verdict = verdict_on(LoopsForEver)
    assert verdict.seconds < 10  # a busy machine may be late
    assert (
        "an endless loop or a pause at test_checker_breaches.py, line"
        in verdict.sentence
    )


class Dawdles(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        sum(range(2_000_000))
        self.inbox.append(packet.payload)  # of a copy, too
        self.acks.append(Packet(ACK, packet.seq))


def test_a_machine_too_slow_to_be_tried_has_not_survived() -> None:
    verdict = verdict_on(receiver=Dawdles)
    assert (verdict.kind, verdict.promise) == ("breach", "quick")
    assert verdict.sentence.startswith("Too slow to judge: in ")
    assert "`sum(range(2_000_000))`" in verdict.sentence


class Hashes(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet:
            self.deadline = now + 1 + hash(packet.payload) % 7 / 100
        return packet


def test_what_only_a_second_process_can_show_is_said() -> None:
    verdict = verdict_on(Hashes)
    assert verdict.kind == "survived"
    assert "uses hash(), which differs from process to process: `p2plab check FILE" in (
        verdict.sentence
    )


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


class Prints(Sender):
    def on_timeout(self, now: float) -> None:
        print("again")
        super().on_timeout(now)


class Threads(Sender):
    def on_timeout(self, now: float) -> None:
        threading.Thread(target=int).start()
        super().on_timeout(now)


@pytest.mark.parametrize(
    ("sender", "words"),
    [
        (Prints, 'prints at test_checker_breaches.py, line {}: `print("again")`'),
        (Threads, "starts a thread at test_checker_breaches.py, line {}: `threading."),
    ],
)
def test_who_prints_or_starts_a_thread_breaks_a_promise(
    sender: type, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = sender.on_timeout.__code__.co_firstlineno + 1  # type: ignore[attr-defined]
    verdict = verdict_on(sender)
    assert (verdict.kind, verdict.promise) == ("breach", "quiet")
    assert words.format(line) in verdict.sentence
    broken = verdict_on(sender, Misspells)
    assert broken.promise == "no exception"
    assert capsys.readouterr().out == ""


class Async(Sender):
    async def on_packet(  # type: ignore[override]
        self, packet: Packet, now: float
    ) -> None: ...


class Misnamed(Sender):
    channel = "dupp"


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


def shares(payloads: list[bytes] = []) -> Sender:  # noqa: B006  # the mistake
    sender = Sender()
    sender.payloads = payloads
    return sender


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [
        (Async, Receiver, "Async.on_packet is `async`, and nobody awaits it"),
        (Misnamed, Receiver, "Misnamed.channel is 'dupp', and not one of fifo, dup"),
        (Sender, Sender, "Sender has no next_payload, which every receiver needs (see"),
        (Sender, Sender, "(see Receiver). Is it a sender? See first_attempt.py, line"),
        (None, Receiver, "The sender is None: hand over a class"),
        ("Sender", Receiver, "The sender is 'Sender': hand over a class"),
        (NeedsArguments, Receiver, "`def __init__(self, rto: float) -> None:`"),
        (GivesUp, Receiver, "although nothing had arrived, and had sent b'A' 4 times"),
        (DoesNotListen, Receiver, "never sent b'A', although `send` was called with"),
        (Hasty, Receiver, "a round trip is 0.1 s here, is the timeout shorter?"),
        (shares, Receiver, "write payloads=None, and make a new one in __init__"),
    ],
)
def test_the_words_point_to_the_cause(sender: Any, receiver: Any, words: str) -> None:
    verdict = verdict_on(sender, receiver)
    assert words in verdict.sentence
    assert "?." not in verdict.sentence
