"""The checker: the smallest run that breaks a protocol, or what it survived."""

from __future__ import annotations

import inspect
import json
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import first_attempt
import pytest
from few_bits import receiving, sending

from p2plab.checker import CHANNELS, Verdict, VerdictKind, check, play
from p2plab.checker.run import (
    LOSE,
    OUTAGE,
    SLOW,
    Fault,
    Makers,
    Trial,
    difference,
    plain,
    run,
)
from p2plab.checker.search import Found, Search, fingerprint
from p2plab.checker.verdict import ladder
from p2plab.commands.grader import grade
from p2plab.core.endpoint import FixedWindow
from p2plab.core.packet import ACK, Packet
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.trace import RETRANSMIT, SEND, Row, Trace
from p2plab.museum import EXHIBITS
from p2plab.protocols import Setup
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.modulo import ModuloSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

BEST_EFFORT: Makers = (BestEffortSender, BestEffortReceiver)


def stop_and_wait(bits: int | None = None) -> Makers:
    return (
        lambda: sending(StopAndWaitSender(FixedRto(1.0)), bits),
        lambda: receiving(StopAndWaitReceiver(), bits),
    )


def selective_repeat(window: int, bits: int | None = None) -> Makers:
    return (
        lambda: sending(SelectiveRepeatSender(Rfc6298(), FixedWindow(window)), bits),
        lambda: receiving(SelectiveRepeatReceiver(window), bits, window),
    )


def pages(name: str) -> Makers:
    setup = Setup(name)
    return setup.sender, setup.receiver


def search_for(makers: Makers, channel: str) -> Search:
    return Search(makers, CHANNELS[channel], 3, perf_counter() + 60, 60.0)


# What breaks, and what does not


def test_what_is_sent_while_the_network_is_down_is_no_storm() -> None:
    makers = lambda: GoBackNSender(FixedRto(0.11), FixedWindow(64)), GoBackNReceiver
    search = search_for(makers, "fifo")
    run = search.run(Trial(plain(40), faults=(Fault(OUTAGE, 0, 0, 30.0),)))
    assert len(run.sent) > 10_000
    assert run.failure is None


@dataclass(slots=True)
class Deaf(StopAndWaitReceiver):
    """Does not repeat the ACK of a duplicate."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected_seq_num:
            StopAndWaitReceiver.on_packet(self, packet, now)


@dataclass(slots=True)
class Hoarder(StopAndWaitReceiver):
    """Keeps all that it was ever given."""

    history: list[bytes] = field(default_factory=list)

    def on_packet(self, packet: Packet, now: float) -> None:
        self.history.append(packet.payload)
        StopAndWaitReceiver.on_packet(self, packet, now)


@dataclass(slots=True)
class Mumbler(StopAndWaitReceiver):
    """Repeats its last ACK every second, for ever."""

    def on_packet(self, packet: Packet, now: float) -> None:
        StopAndWaitReceiver.on_packet(self, packet, now)
        self.deadline = now + 1.0

    def on_timeout(self, now: float) -> None:
        self.acks.append(Packet(ACK, self.expected_seq_num - 1))
        self.deadline = now + 1.0


@dataclass(slots=True)
class Liar(StopAndWaitReceiver):
    """Delivers what was never sent."""

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft().replace(b"B", b"b") if self.inbox else None


@dataclass(slots=True)
class Tired(StopAndWaitReceiver):
    """Stops listening after fifty packets."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if self.expected_seq_num < 50:
            StopAndWaitReceiver.on_packet(self, packet, now)


class Restless(StopAndWaitSender):
    """Leaves its timer running."""

    def on_packet(self, packet: Packet, now: float) -> None:
        super().on_packet(packet, now)
        self.deadline = now + 1.0


class Doubter(StopAndWaitSender):
    """Sends its packet again for every old ACK, as the first TFTP did."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq < self.send_base:
            self.next_seq_num = self.send_base
        super().on_packet(packet, now)


class Once(StopAndWaitSender):
    """Sends nothing any more when it has been done."""

    closed = False

    def next_packet(self, now: float) -> Packet | None:
        self.closed = self.closed or (self.done and self.next_seq_num > 0)
        return None if self.closed else super().next_packet(now)


def timed(sender: type) -> Makers:
    return lambda: sender(FixedRto(1.0)), StopAndWaitReceiver


def heard_by(receiver: type) -> Makers:
    return stop_and_wait()[0], receiver


@pytest.mark.parametrize(
    ("makers", "channel", "promise", "faults", "words"),
    [
        (BEST_EFFORT, "fifo", "termination", "lose", "had sent b'A' 1 time"),
        (heard_by(Deaf), "fifo", "termination", "lose", "receiver did not answer"),
        (heard_by(Tired), "fifo", "termination", "", "went on sending packet 50"),
        (heard_by(Hoarder), "fifo", "memory", "", "`history` of the receiver"),
        (heard_by(Mumbler), "fifo", "quiescence", "", "went on sending ACK 0"),
        (heard_by(Liar), "fifo", "in_order_delivery", "", "which was never sent"),
        (timed(Restless), "fifo", "quiescence", "", "its timer went on"),
        (timed(Once), "fifo", "termination", "", "b'A'; when all was done, b'B'"),
        (timed(Doubter), "dup", "retransmission", "double", "harmed only 1"),
        (stop_and_wait(1), "late", "in_order_delivery", "late", "at last arrived"),
        (selective_repeat(3, 2), "fifo", "in_order_delivery", "lose", "sent again,"),
    ],
)
def test_a_mistake_is_found_with_the_fewest_faults_and_named(
    makers: Makers, channel: str, promise: str, faults: str, words: str
) -> None:
    verdict = check(*makers, channel, budget=10)
    assert (verdict.kind, verdict.promise) == ("broken", promise), verdict
    assert [fault.kind for fault in verdict.faults] == faults.split()
    assert words in verdict.sentence
    assert "Promise broken: " in verdict.sentence


def test_memory_that_has_a_limit_is_no_leak() -> None:
    class Remembers(first_attempt.Receiver):
        def __init__(self) -> None:
            super().__init__()
            self.last: deque[Packet] = deque(maxlen=1000)

        def on_packet(self, packet: Packet, now: float) -> None:
            self.last.append(packet)
            super().on_packet(packet, now)

    both: tuple[Makers, ...] = (first_attempt.Sender, Remembers), pages("fast")
    for makers in both:
        assert check(*makers, budget=1).kind == "survived"


def test_what_a_class_does_not_promise_is_no_bug() -> None:
    class Alternating(ModuloSender):
        channel = "fifo"

        def __init__(self) -> None:
            super().__init__(StopAndWaitSender(FixedRto(1.0)), 1)

    receiver = stop_and_wait(1)[1]
    verdict = check(Alternating, receiver, "late")
    assert (verdict.kind, verdict.title) == ("broken", "not promised")
    assert not verdict.promised
    assert verdict.sentence.startswith("This protocol is made for a network of the ")
    for text in (str(verdict), verdict._repr_html_()):
        assert "not promised" in text
    assert check(Alternating, receiver, "fifo", budget=0.2).kind == "survived"
    assert check(lambda: Alternating(), receiver, "late").promised, "it says nothing"


def test_the_same_seed_gives_the_same_verdict() -> None:
    one, other = (check(*selective_repeat(5, 3), budget=60) for _ in range(2))
    assert one.sentence == other.sentence
    assert one.trace.digest() == other.trace.digest()
    assert one.schedules == other.schedules


def test_what_chance_finds_is_made_smaller() -> None:
    search = search_for(selective_repeat(3, 2), "fifo")
    with pytest.raises(Found) as found:
        search.random(range(9999))
    run = found.value.outcome
    small = search.smallest(run)
    assert len(small.trial.faults) <= 2 < len(run.trial.faults)
    assert small.trial.application.size <= run.trial.application.size


def test_a_schedule_of_ones_own_can_be_played() -> None:
    makers = stop_and_wait()[0], Deaf
    lost = Fault(LOSE, 1, 0)
    assert play(makers, "fifo", (lost,)).faults == (lost,)
    harmless = play(makers, "fifo", (Fault(LOSE, 0, 0), Fault(LOSE, 0, 500)))
    assert harmless.kind == "survived"
    assert "1 fault met no packet" in harmless.sentence
    assert harmless.trace.rows


def test_a_speed_can_be_asked_for() -> None:
    verdict = check(*pages("stop_and_wait"), budget=2.0, speed=0.5)
    assert verdict.promise == "speed"


# How far it looks


class Numbered(first_attempt.Sender):
    """Its numbers begin again at `wrap`; it reads those of ACKs as signed, or not."""

    wrap = 2**8
    signed = False

    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        return packet and packet._replace(seq=packet.seq % self.wrap)

    def on_packet(self, packet: Packet, now: float) -> None:
        negative = self.signed and packet.seq >= self.wrap // 2
        if packet.seq - self.wrap * negative == self.base % self.wrap:
            super().on_packet(packet._replace(seq=self.base), now)


class Counting(first_attempt.Receiver):
    """Expects numbers that begin again at `wrap`."""

    wrap = 2**8

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected % self.wrap:
            self.inbox.append(packet.payload)
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))


def numbered(theirs: int, ours: int, signed: bool = False) -> Makers:
    """Return a sender and a receiver whose numbers begin again there."""
    return (
        type("Sender", (Numbered,), {"wrap": theirs, "signed": signed}),
        type("Receiver", (Counting,), {"wrap": ours}),
    )


@pytest.mark.parametrize(
    ("makers", "payloads"),
    [
        (numbered(2**8, 2**8, signed=True), 129),
        (numbered(2**8, 2**30), 257),
        (numbered(2**16, 2**16, signed=True), 2**15 + 1),
        (numbered(2**16, 2**30), 2**16 + 1),
    ],
)
def test_numbers_that_begin_again_late_are_looked_at(
    makers: Makers, payloads: int
) -> None:
    verdict = check(*makers, budget=20)
    assert (verdict.promise, verdict.faults) == ("termination", ())
    assert f"{payloads} payloads" in verdict.sentence


def test_who_survives_is_told_up_to_how_many_payloads() -> None:
    for bits, budget in ((8, 0.3), (16, 4)):
        verdict = check(*numbered(2**bits, 2**bits), budget=budget)
        assert verdict.kind == "survived"
        words = verdict.sentence.split(" of up to ")[1]
        assert int(words.split()[0].replace(",", "")) > 2**bits


class FreeRunning(first_attempt.Sender):
    """Its timer is not started anew for a new packet."""

    def next_packet(self, now: float) -> Any:
        due = self.deadline
        packet = super().next_packet(now)
        self.deadline = self.deadline if due is None or due <= now else due
        return packet

    def on_packet(self, packet: Packet, now: float) -> None:
        due = self.deadline
        super().on_packet(packet, now)
        self.deadline = None if self.done else due


class Twice(first_attempt.Sender):
    """Sends every eighth packet twice."""

    again: Any = None

    def next_packet(self, now: float) -> Any:
        packet, self.again = self.again, None
        if packet is None:
            packet = super().next_packet(now)
            self.again = packet if packet and packet.seq % 8 == 7 else None
        return packet


@pytest.mark.parametrize("sender", [FreeRunning, Twice])
def test_copies_without_a_loss_are_judged_by_a_small_share(sender: type) -> None:
    verdict = check(sender, first_attempt.Receiver)
    assert (verdict.kind, verdict.promise) == ("broken", "retransmission"), verdict
    assert verdict.faults == ()


def test_a_driver_that_pulls_late_becomes_quick_again() -> None:
    late = run(Trial(plain(300), SLOW), BEST_EFFORT)
    times = [each.time for each in late.sent]
    assert times[20] > 1.0
    assert times[-100] == times[-1]


def test_the_fewest_faults_are_found_however_slow_the_machine_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exhibit = EXHIBITS["backs_off_for_every_packet"]
    counts = set()
    for slowness in (1, 5, 30):
        begun = perf_counter()
        clock = partial(lambda at, n: at + n * (perf_counter() - at), begun, slowness)
        monkeypatch.setattr("p2plab.checker.search.perf_counter", clock)
        verdict = check(exhibit.sender, exhibit.receiver, exhibit.channel, budget=6)
        counts.add((verdict.kind, len(verdict.faults)))
    assert ("broken", 2) in counts
    assert counts <= {("broken", 2), ("survived", 0)}


# Sender and receiver share nothing but packets

SOURCE = inspect.getsource(first_attempt)
EMPTY = (
    (
        "Packet(DATA, self.base, self.payloads[self.base])",
        'Packet(DATA, self.base, b"")',
    ),
    ("self.inbox.append(packet.payload)", "self.inbox.append(BOX[self.expected])"),
    (
        "self.payloads.append(payload)",
        "self.payloads.append(payload); BOX.append(payload)",
    ),
)


def prank(place: str, clears: bool, head: str) -> str:
    """Return a protocol whose receiver reads what the sender has left somewhere."""
    text = SOURCE
    for old, new in EMPTY:
        text = text.replace(old, new)
    if clears:
        text = text.replace(
            "self.base = self.sent = 0", "self.base = self.sent = 0; BOX.clear()"
        )
    return text.replace("class Sender:", f"{head}\nclass Sender:", 1).replace(
        "BOX", place
    )


FIELD = (
    SOURCE.replace("class Sender:", "class Carrier(int): pass\nclass Sender:", 1)
    .replace(
        "return Packet(DATA, self.base, self.payloads[self.base])",
        "seq = Carrier(self.base); seq.all = self.payloads; return Packet(DATA, seq)",
    )
    .replace("packet.payload)", "packet.seq.all[self.expected])")
)


@pytest.mark.parametrize(
    "text",
    [
        prank("BOX", True, "BOX = []"),
        prank("BOX", False, "BOX = []"),
        prank("box.items", True, "class Box: pass\nbox = Box(); box.items = []"),
        prank("Sender.box", True, "").replace("rto = 1.0", "rto = 1.0; box = []"),
        prank("sys.box", True, "import sys; sys.box = []"),
        FIELD,
    ],
    ids=["global", "not cleared", "object", "class", "module", "field"],
)
def test_what_passes_only_by_sharing_more_than_packets_is_broken(
    text: str, tmp_path: Path
) -> None:
    names: dict[str, Any] = {"__name__": "prank"}
    exec(text, names)
    for channel in CHANNELS:
        verdict = check(names["Sender"], names["Receiver"], channel, budget=1)
        assert (verdict.kind, verdict.promise) == ("broken", "separation"), verdict
    file = tmp_path / "prank.py"
    file.write_text(text, "utf-8")
    told = grade(file, budget=1)
    assert (told["verdict"], told["promise"]) == ("broken", "separation")


def test_what_is_shared_and_does_no_harm_is_no_bug() -> None:
    log: list[int] = []

    class Logs(first_attempt.Receiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            log.append(packet.seq)
            super().on_packet(packet, now)

    assert check(first_attempt.Sender, Logs, budget=0.3).kind == "survived"


# What a terminal shows

RAW = "\x1b[2J\x07\nsurvived: No promise was broken"


def test_nothing_of_a_protocol_steers_a_terminal() -> None:
    class Raises(first_attempt.Receiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            raise ValueError(RAW)

    class Odd:
        def __repr__(self) -> str:
            return RAW

    class Returns(first_attempt.Sender):
        def next_packet(self, now: float) -> Any:
            return Odd()

    members = {"send": lambda *_: 1 / 0}
    named = type(f"Named{RAW}", (first_attempt.Sender,), members)
    good = first_attempt.Sender, first_attempt.Receiver
    for makers in ((good[0], Raises), (Returns, good[1]), (named, good[1])):
        verdict = check(*makers, budget=0.5)
        assert verdict.kind == "breach"
        assert verdict.sentence.isprintable()
        assert "\\x1b[2J" in verdict.sentence
        assert len(str(verdict).splitlines()) <= 3


# How it is asked, and what it tells


def test_json_has_the_keys_that_a_grader_reads() -> None:
    verdict = check(*selective_repeat(3, 2))
    content = json.loads(json.dumps(verdict.to_json()))
    first = content["ladder"][0]
    assert (content.pop("verdict"), content.pop("faults")) == ("broken", 1)
    assert {*content} == {
        *("channel", "promise", "sentence", "ladder", "schedules", "seconds")
    }
    assert (first["time"], first["host"], first["what"]) == (0.0, "sender", "send")
    assert (first["kind"], first["seq"], first["size"], first["number"]) == (
        *("DATA", 0, 1, 0),
    )


def test_progress_is_told() -> None:
    told: list[tuple[float, str]] = []
    check(*stop_and_wait(), budget=0.3, progress=lambda *said: told.append(said))
    assert told
    assert all(0 <= share <= 1 and "now" in words for share, words in told)


def test_two_processes_are_compared_as_far_as_the_slower_one_came() -> None:
    slow, quick = (
        fingerprint(stop_and_wait(), CHANNELS["dup"], 0, time) for time in (0.0, 60.0)
    )
    assert len(slow) == 1 < len(quick)
    assert difference(slow, quick) is None
    words, packets = difference([quick[1]], slow) or ("", [])
    assert words
    assert packets[0]["kind"] == "DATA"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channel": "fiffo"}, "channel is one of fifo, dup, late, corrupt"),
        ({"channel": ["fifo"]}, "channel is one of fifo, dup, late, corrupt"),
        ({"budget": 0.0}, "budget is a time above 0 s, got 0.0"),
        ({"budget": "2"}, "budget is a time above 0 s, got '2'"),
        ({"seed": "a"}, "seed is a whole number, got 'a'"),
        ({"speed": -1}, "speed is a share of the reference's, above 0, got -1"),
    ],
)
def test_impossible_wishes_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(*BEST_EFFORT, **options)


# The ladder


class Silent(first_attempt.Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        return


class Credulous(first_attempt.Receiver):
    """Hands over every copy."""

    def on_packet(self, packet: Packet, now: float) -> None:
        self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq))


def test_a_ladder_is_cut_to_25_packets_and_to_three_rounds() -> None:
    verdict = check(*heard_by(Tired))
    sends = [row for row in verdict.trace if row.what in (SEND, RETRANSMIT)]
    assert len(sends) == 25
    assert verdict.trace.about["cut"].startswith("the last 25 of ")
    verdict = check(first_attempt.Sender, Silent)
    assert sum(row.what == "timeout" for row in verdict.trace) <= 5
    assert " times more)" in verdict._repr_html_()


def test_a_notebook_shows_the_sentence_and_what_was_delivered() -> None:
    page = check(first_attempt.Sender, Credulous)._repr_html_()
    assert page.count("<svg") == 1
    assert page.count("delivers b&#x27;A&#x27;") == 2
    assert "✗ this was not next" in page
    survived = Verdict(VerdictKind.SURVIVED, "fifo", "Nothing broke it.")
    assert "<svg" not in survived._repr_html_()


def test_a_packet_that_was_overtaken_is_called_late_and_one_has_no_end_yet() -> None:
    rows = [Row(0.0, "sender", SEND, 1, n, 1, n) for n in (0, 1)]
    drawn = ladder(Trace(rows=rows))
    assert drawn.count("<line") == 2 + 2
    rows += [Row(0.1, "receiver", "arrive", 1, n, 1, n) for n in (1, 0)]
    assert "DATA 0 late, 0.1 s" in ladder(Trace(rows=rows))
    assert "late" not in drawn
