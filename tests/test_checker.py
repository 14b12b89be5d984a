"""The checker: the smallest run that breaks a protocol, or what it survived."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import pytest
from few_bits import receiving, sending

from p2plab.checker import CHANNELS, Verdict, VerdictKind, check
from p2plab.checker.faults import DOUBLE, Fault
from p2plab.checker.faults import OUTAGE as BLACKOUT
from p2plab.checker.fingerprint import difference, fingerprint
from p2plab.checker.run import Makers, Trial, plain
from p2plab.checker.search import Found, Search
from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.window import FixedWindow
from p2plab.protocols import Setup
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.modulo import ModuloSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender


def stop_and_wait(bits: int | None = None) -> Makers:
    return (
        lambda: sending(StopAndWaitSender(FixedRto(1.0)), bits),
        lambda: receiving(StopAndWaitReceiver(), bits),
    )


def go_back_n(window: int, bits: int | None = None) -> Makers:
    return (
        lambda: sending(GoBackNSender(Rfc6298(), FixedWindow(window)), bits),
        lambda: receiving(GoBackNReceiver(), bits),
    )


def selective_repeat(window: int, bits: int | None = None) -> Makers:
    return (
        lambda: sending(SelectiveRepeatSender(Rfc6298(), FixedWindow(window)), bits),
        lambda: receiving(SelectiveRepeatReceiver(window), bits, window),
    )


def search_for(makers: Makers, channel: str) -> Search:
    return Search(makers, CHANNELS[channel], 3, perf_counter() + 60, 60.0)


def pages(name: str) -> Makers:
    setup = Setup(name)
    return setup.sender, setup.receiver


@pytest.mark.parametrize(
    ("makers", "channel"),
    [
        (stop_and_wait(1), "fifo"),
        (stop_and_wait(1), "dup"),
        (stop_and_wait(1), "corrupt"),
        (go_back_n(3, 2), "dup"),
        (selective_repeat(4, 3), "dup"),
        (stop_and_wait(), "late"),
        (go_back_n(16), "late"),
        (selective_repeat(16), "late"),
        (pages("stop_and_wait"), "late"),
        (pages("go_back_n"), "late"),
        (pages("selective_repeat"), "late"),
    ],
)
def test_a_correct_page_survives_in_its_class(makers: Makers, channel: str) -> None:
    verdict = check(*makers, channel, budget=0.6)
    assert verdict.kind == "survived", verdict
    assert verdict.faults == ()
    assert verdict.to_json()["ladder"] == []
    assert "random schedules (seed 0)" in verdict.tried


@pytest.mark.parametrize(
    "makers", [stop_and_wait(), go_back_n(16), selective_repeat(16)]
)
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_correct_page_survives_a_thousand_random_schedules(
    makers: Makers, channel: str
) -> None:
    search = search_for(makers, channel)
    search.random(0, 1000)
    assert search.counts["random"] == 1000


def test_a_verdict_comes_within_its_budget() -> None:
    verdict = check(*stop_and_wait(), budget=0.5)
    assert verdict.kind == "survived"
    assert verdict.seconds < 5  # a busy machine may be late


def test_best_effort_is_broken_by_one_loss() -> None:
    verdict = check(BestEffortSender, BestEffortReceiver)
    assert verdict.kind == "broken"
    assert verdict.promise == "termination"
    assert [fault.kind for fault in verdict.faults] == ["lose"]
    assert verdict.sentence.startswith(
        "Packet 0 (b'A') was lost (1 fault). The sender took itself for done "
        "although nothing had arrived, and had sent b'A' 1 time: it was never "
        "delivered. "
        "Promise broken: once the network heals, everything is delivered"
    )


def test_numbers_that_come_round_again_are_broken_by_one_late_packet() -> None:
    verdict = check(*stop_and_wait(1), "late")
    assert [fault.kind for fault in verdict.faults] == ["late"]
    assert "When packet 0 (b'A') arrived at last" in verdict.sentence
    assert "took it for a new one and delivered b'A' twice" in verdict.sentence


def test_a_window_over_half_the_numbers_is_broken_by_one_lost_ack() -> None:
    verdict = check(*selective_repeat(3, 2))
    assert [(fault.kind, fault.way) for fault in verdict.faults] == [("lose", 1)]
    assert verdict.sentence.startswith(
        "ACK 0 was lost (1 fault). The sender sent packet 0 (b'A') again when its "
        "timer fired; the receiver took it for a new one and delivered b'A' twice"
    )


def test_what_a_class_does_not_promise_is_no_bug() -> None:
    @dataclass
    class Alternating(ModuloSender):
        channel = "fifo"

    def sender() -> Alternating:
        return Alternating(StopAndWaitSender(FixedRto(1.0)), 1)

    verdict = check(sender, stop_and_wait(1)[1], "late")
    assert verdict.promised  # a function promises nothing

    class Sender(ModuloSender):
        channel = "fifo"

        def __init__(self) -> None:
            super().__init__(StopAndWaitSender(FixedRto(1.0)), 1)

    verdict = check(Sender, stop_and_wait(1)[1], "late")
    assert (verdict.kind, verdict.title) == ("broken", "not promised")
    for text in (str(verdict), verdict._repr_html_()):
        assert text.split("<svg")[0].lower().count("not promised") == 1
    assert verdict.sentence.startswith(
        "This protocol is made for a network of the class fifo, and late is more."
    )
    assert check(Sender, stop_and_wait(1)[1], "fifo", budget=0.2).kind == "survived"


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
    """Makes everything upper case."""

    def next_payload(self) -> bytes | None:
        return self.inbox.popleft().replace(b"B", b"b") if self.inbox else None


@dataclass(slots=True)
class Restless(StopAndWaitSender):
    """Leaves its timer running."""

    def on_packet(self, packet: Packet, now: float) -> None:
        StopAndWaitSender.on_packet(self, packet, now)
        self.deadline = now + 1.0


@dataclass(slots=True)
class Doubter(StopAndWaitSender):
    """Sends its packet again for every old ACK, as the first TFTP did."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq < self.send_base:
            self.next_seq_num = self.send_base
        StopAndWaitSender.on_packet(self, packet, now)


@pytest.mark.parametrize(
    ("sender", "receiver", "channel", "promise", "faults", "words"),
    [
        (None, Deaf, "fifo", "termination", 1, "the receiver no longer answered"),
        (None, Hoarder, "fifo", "memory", 0, "`history` of the receiver still held"),
        (None, Mumbler, "fifo", "quiescence", 0, "the receiver went on sending ACK 0"),
        (
            None,
            Liar,
            "fifo",
            "in_order_delivery",
            0,
            "delivered b'b', which was never sent",
        ),
        (Restless, None, "fifo", "quiescence", 0, "its timer went on"),
        (Doubter, None, "dup", "retransmission", 1, "payloads took "),
    ],
)
def test_a_planted_mistake_is_found_with_the_fewest_faults_and_named(
    sender: Any, receiver: Any, channel: str, promise: str, faults: int, words: str
) -> None:
    verdict = check(
        (lambda: sender(FixedRto(1.0))) if sender else stop_and_wait()[0],
        receiver or StopAndWaitReceiver,
        channel,
    )
    assert (verdict.kind, verdict.promise) == ("broken", promise), verdict
    assert len(verdict.faults) == faults
    assert words in verdict.sentence


@dataclass(slots=True)
class Tired(StopAndWaitReceiver):
    """Stops listening after fifty packets."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if self.expected_seq_num < 50:
            StopAndWaitReceiver.on_packet(self, packet, now)


def test_a_mistake_that_shows_after_fifty_payloads_is_found_and_made_small() -> None:
    verdict = check(stop_and_wait()[0], Tired)
    assert (verdict.kind, verdict.faults) == ("broken", ())
    assert "the sender went on sending packet 50" in verdict.sentence.lower()


def test_repetitions_are_counted_whatever_the_application_sends() -> None:
    search = search_for((lambda: Doubter(FixedRto(1.0)), StopAndWaitReceiver), "dup")
    failure = search.run(Trial(plain(70), faults=(Fault(DOUBLE, 0, 0),))).failure
    assert failure
    assert failure.promise == "retransmission"


def test_what_is_sent_while_the_network_is_down_is_no_storm() -> None:
    makers = lambda: GoBackNSender(FixedRto(0.11), FixedWindow(64)), GoBackNReceiver
    search = search_for(makers, "fifo")
    run = search.run(Trial(plain(40), faults=(Fault(BLACKOUT, 0, 0, 30.0),)))
    assert len(run.sent) > 10_000
    assert run.failure is None


def test_a_second_batch_after_everything_was_done_is_tried() -> None:
    @dataclass(slots=True)
    class Once(StopAndWaitSender):
        closed: bool = False

        def next_packet(self, now: float) -> Packet | None:
            self.closed = self.closed or (self.done and self.next_seq_num > 0)
            return None if self.closed else StopAndWaitSender.next_packet(self, now)

    verdict = check(lambda: Once(FixedRto(1.0)), StopAndWaitReceiver)
    assert verdict.faults == ()
    assert "the application sent b'A'; when all was done, b'B'" in verdict.sentence


def test_json_has_the_keys_that_a_grader_reads() -> None:
    verdict = check(*selective_repeat(3, 2))
    content = json.loads(json.dumps(verdict.to_json()))
    assert list(content) == [
        "verdict",
        "channel",
        "faults",
        "promise",
        "sentence",
        "ladder",
        "schedules",
        "seconds",
    ]
    assert (content["verdict"], content["faults"]) == ("broken", 1)
    assert content["ladder"][0] == {
        "time": 0.0,
        "host": "sender",
        "what": "send",
        "kind": "DATA",
        "seq": 0,
        "size": 1,
        "number": 0,
    }


def test_the_same_seed_gives_the_same_verdict() -> None:
    one, other = (check(*selective_repeat(5, 3), budget=60) for _ in range(2))
    assert one.sentence == other.sentence
    assert one.trace.digest() == other.trace.digest()
    assert one.schedules == other.schedules


def test_what_chance_finds_is_made_smaller() -> None:
    search = search_for(selective_repeat(3, 2), "fifo")
    with pytest.raises(Found) as found:
        search.random()
    run = found.value.outcome
    small = search.smallest(run)
    assert len(small.trial.faults) <= 2 < len(run.trial.faults)
    assert small.trial.application.size <= run.trial.application.size


def test_progress_is_told() -> None:
    told: list[tuple[float, str]] = []
    check(*stop_and_wait(), budget=0.3, progress=lambda *said: told.append(said))
    assert told
    assert all(0 <= share <= 1 and "schedules, now" in words for share, words in told)


def test_an_executor_runs_random_schedules_elsewhere() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        verdict = check(
            BestEffortSender, BestEffortReceiver, budget=0.5, executor=executor
        )
        assert verdict.kind == "broken"
        setup = Setup("selective_repeat")
        verdict = check(setup.sender, setup.receiver, budget=1.5, executor=executor)
        assert verdict.kind == "survived", verdict
        assert "this process alone" not in verdict.tried
        verdict = check(*stop_and_wait(), budget=0.5, executor=executor)
        assert "in this process alone, because the classes did" in verdict.tried


def test_two_processes_are_compared_as_far_as_the_slower_one_came() -> None:
    slow, quick = (fingerprint(stop_and_wait(), "dup", 0, time) for time in (0.0, 60.0))
    assert len(slow) == 1 < len(quick)
    assert difference(slow, quick) is None
    words, ladder = difference([quick[1]], slow) or ("", [])
    assert words
    assert ladder[0]["kind"] == "DATA"


def test_a_speed_can_be_asked_for() -> None:
    verdict = check(*pages("stop_and_wait"), budget=2.0, speed=0.5)
    assert verdict.promise == "speed"
    assert "60 payloads took" in verdict.sentence


def test_a_notebook_shows_the_sentence_and_a_ladder() -> None:
    verdict = check(BestEffortSender, BestEffortReceiver)
    html = verdict._repr_html_()
    assert "Packet 0 (b&#x27;A&#x27;) was lost" in html
    assert html.count("<svg") == 1
    assert "DATA 0" in html
    assert (
        "<svg"
        not in Verdict(VerdictKind.SURVIVED, "fifo", "Nothing broke it.")._repr_html_()
    )


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
        check(BestEffortSender, BestEffortReceiver, **options)


def test_a_data_packet_is_called_by_its_number_and_payload() -> None:
    verdict = check(BestEffortSender, BestEffortReceiver)
    (fault,) = verdict.faults
    assert fault.words(Packet(DATA, 3, b"x")) == "packet 3 (b'x') was lost"
    assert fault.words(Packet(ACK, 3), again=True) == "ACK 3 (sent again) was lost"
