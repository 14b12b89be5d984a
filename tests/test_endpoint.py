"""The contract: what a machine of one's own is told when it does not keep it."""

from __future__ import annotations

import pickle
import re
from collections import deque
from typing import Any

import pytest
from first_attempt import Receiver, Sender

from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import DATA, Kind, Packet
from p2plab.core.rtt import FixedRto
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.errors import BrokenContract, Promise
from p2plab.protocols import Setup
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver
from p2plab.sim.driver import Host
from p2plab.sim.simulator import simulate


def run(sender: Any, receiver: Any = None, payloads: int = 3, **options: Any) -> Any:
    options.setdefault("link", ScriptedLink(lose={2}, delay=0.25))
    receiver = Receiver() if receiver is None else receiver
    return simulate(
        sender, receiver, [b"%d" % each for each in range(payloads)], **options
    )


def broken(sender: Any, receiver: Any = None, **options: Any) -> BrokenContract:
    """Run it; it must break its contract. Return the error."""
    with pytest.raises(BrokenContract) as caught:
        run(sender, receiver, **options)
    return caught.value


def test_a_plain_class_without_any_p2plab_in_it_runs() -> None:
    result = run(Sender())
    assert result.done
    assert result.delivered == [b"0", b"1", b"2"]
    assert result.trace.state(SENDER, "base")[-1, 1] == 3
    assert result.trace.state(RECEIVER, "expected")[-1, 1] == 3


# Missing, misspelt or misshapen members


def changed(machine: type, **members: Any) -> Any:
    """Make a machine of a copy of its class with other members; None leaves one out."""
    gone = {"__dict__", "__weakref__"} | members.keys()
    kept = {name: value for name, value in vars(machine).items() if name not in gone}
    others = {name: value for name, value in members.items() if value is not None}
    return type(machine.__name__, (), kept | others)()


@pytest.mark.parametrize("machine", [Sender, Receiver])
@pytest.mark.parametrize("inside", [False, True])
def test_a_machine_without_a_member_is_told_which(machine: type, inside: bool) -> None:
    role = SENDER if machine is Sender else RECEIVER
    own = {"send", "done"} if machine is Sender else {"next_payload"}
    for member in {"next_packet", "on_packet", "on_timeout"} | own:
        lacking = changed(machine, **{member: None})
        if inside:
            wrapped = FinishSender(lacking, FixedRto(1.0))
            lacking = wrapped if machine is Sender else FinishReceiver(lacking)
        with pytest.raises(BrokenContract) as caught:
            Host(lacking, role)
        why = caught.value
        assert (why.promise, why.machine) == (Promise.INTERFACE, machine.__name__)
        assert (why.member, why.time, why.cure) == (member, None, "")


def test_a_misspelt_member_a_missing_value_and_a_class_are_recognised() -> None:
    names = {"on_timeout": "on_time_out", "next_packet": "nextPacket", "send": "snd"}
    for member, misspelt in names.items():
        sender = changed(Sender, **{member: None, misspelt: vars(Sender)[member]})
        assert broken(sender).cure == f"It has {misspelt}: is that a misspelling?"
    sender = Sender()
    del sender.deadline
    assert broken(sender).member == "deadline"
    assert str(broken(Sender)).endswith("hand over a machine made of it, Sender().")


async def waits(self: Any, packet: Any, now: float) -> None: ...


@pytest.mark.parametrize(
    ("member", "method", "words"),
    [
        ("done", lambda self: False, "a method, but the driver reads it as a value"),
        ("next_packet", property(lambda self: None), "a value, but must be a method"),
        ("on_timeout", lambda: None, "write `self`"),
        ("on_packet", lambda self, packet: None, "is called with 2 argument"),
        ("on_packet", waits, "nobody awaits it"),
        ("send", lambda self: None, "is called with 1 argument"),
    ],
)
def test_a_member_that_a_driver_cannot_use_is_refused(
    member: str, method: Any, words: str
) -> None:
    told = broken(changed(Sender, **{member: method}))
    assert (told.promise, told.member) == (Promise.INTERFACE, member)
    assert re.search(words, str(told))


def test_optional_arguments_and_methods_built_into_python_are_fine() -> None:
    def on_timeout(self: Sender, now: float, loud: bool = False) -> None:
        self.sent = self.base
        self.deadline = None

    assert run(changed(Sender, on_timeout=on_timeout)).done
    queue: deque[bytes] = deque()
    sender = changed(Sender, send=queue.append)
    Host(sender, SENDER).send(b"a")
    assert list(queue) == [b"a"]


# Promises that are broken later


class Past(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet is not None:
            self.deadline = 1.0  # where now + 1.0 was meant
        return packet


@pytest.mark.parametrize(
    ("machine", "promise", "member", "time", "words"),
    [
        (
            changed(Sender, on_timeout=lambda self, now: None),
            *(Promise.TIMER, "on_timeout", 1.5, "nothing was sent"),
        ),
        (Past(), Promise.TIMER, "on_timeout", 1.0, "called 1000 times"),
        (
            changed(Sender, next_packet=lambda self, now: Packet(DATA, 0, b"again")),
            *(Promise.PACKETS, "next_packet", 0.0, "still did not say None"),
        ),
        (  # and never takes it out
            changed(Receiver, next_payload=lambda self: next(iter(self.inbox), None)),
            *(Promise.PACKETS, "next_payload", 0.25, "still did not say None"),
        ),
    ],
    ids=["no packet", "a deadline in the past", "chatty", "repeating"],
)
def test_a_promise_that_is_broken_in_a_run_is_named(
    machine: Any, promise: Promise, member: str, time: float, words: str
) -> None:
    if hasattr(machine, "next_payload"):
        told = broken(Sender(), machine)
    else:  # it is blamed by its own name
        sender = FinishSender(machine, FixedRto(1.0))
        told = broken(sender, FinishReceiver(Receiver()))
    assert (told.promise, told.machine) == (promise, type(machine).__name__)
    assert (told.member, told.time) == (member, time)
    assert words in told.what
    assert pickle.loads(pickle.dumps(told)).args == told.args  # from another process


def test_a_broken_promise_is_said_with_its_time_and_its_cure() -> None:
    assert str(broken(changed(Sender, on_timeout=lambda self, now: None))) == (
        "Sender: at t=1.500 on_timeout was called, nothing was sent, and the "
        "deadline is still 1.500. Restart the timer (deadline = now + rto) or stop it "
        "(deadline = None)."
    )


def test_a_large_window_that_arrives_at_one_moment_is_no_endless_next_packet() -> None:
    setup = Setup("go_back_n", window=15_000, timeout=1.0)
    ends, link = (setup.sender(), setup.receiver()), ScriptedLink(lose={1})
    result = simulate(*ends, [b""] * 15_000, link, record=False)
    assert len(result.delivered) == 15_000


def test_two_machines_that_answer_each_other_for_ever_at_one_moment_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Answering(Sender):
        def on_packet(self, packet: Packet, now: float) -> None:
            self.sent = self.base  # each ACK brings the same packet again

    monkeypatch.setattr("p2plab.sim.driver.ECHO_LIMIT", 1000)
    told = broken(Answering(), link=Link(delay=0.0))
    assert (told.promise, told.member) == (Promise.PACKETS, "next_packet")


@pytest.mark.parametrize(
    "answer",
    [[], [Packet(DATA, 0)], (DATA, 0), b"payload", Packet(Kind.OFFER, 0)],
    ids=["empty list", "list", "tuple", "bytes", "a driver's kind"],
)
def test_a_next_packet_that_returns_something_else_is_found(answer: Any) -> None:
    told = broken(changed(Sender, next_packet=lambda self, now: answer))
    assert (told.promise, told.member) == (Promise.PACKETS, "next_packet")
    assert told.what.startswith("next_packet returned ")


@pytest.mark.parametrize(
    ("member", "time"), [("on_packet", 0.5), ("next_packet", 0.0), ("on_timeout", 1.5)]
)
def test_an_exception_in_a_machine_names_the_member_the_time_and_the_cause(
    member: str, time: float
) -> None:
    def wrong(self: Sender, *told: Any) -> None:
        raise KeyError("base")

    wrong.__name__ = member
    told = broken(changed(Sender, **{member: wrong}))
    assert (told.promise, told.member) == (Promise.NO_EXCEPTION, member)
    assert (told.machine, told.time) == ("Sender", time)
    assert isinstance(told.__cause__, KeyError)  # with the line in their file


# Optional members


def test_on_corrupt_hears_of_a_damaged_packet_and_on_packet_does_not() -> None:
    heard = []

    class Listening(Receiver):
        def on_corrupt(self, now: float) -> None:
            heard.append(now)

    sender, receiver = FinishSender(Sender(), FixedRto(1.0)), Listening()
    link = ScriptedLink(corrupt={1}, delay=0.25)
    run(sender, FinishReceiver(receiver), payloads=1, link=link)
    assert (heard, receiver.expected) == ([0.25], 1)


class Paced(Sender):
    """Everything at once if it were allowed; its timer restarts with each packet."""

    pacing_rate: float | None = 8.0  # packets/s: 0.125 s apart

    def __init__(self) -> None:
        super().__init__()
        self.next = 0

    def next_packet(self, now: float) -> Packet | None:
        if self.next == len(self.payloads):
            return None
        self.next += 1
        self.deadline = now + 1.0
        return Packet(DATA, self.next - 1, self.payloads[self.next - 1])

    def on_packet(self, packet: Packet, now: float) -> None:
        self.base = max(self.base, packet.seq + 1)
        self.deadline = None if self.done else now + 1.0

    def on_timeout(self, now: float) -> None:
        self.next = self.base


@pytest.mark.parametrize(("rate", "gap"), [(8.0, 0.125), (None, 0.0)])
def test_pacing_spaces_the_packets_exactly_and_fires_no_timer(
    rate: float | None, gap: float
) -> None:
    sender = Paced()
    sender.pacing_rate = rate
    ends = FinishSender(sender, FixedRto(1.0)), FinishReceiver(Receiver())
    result = run(*ends, payloads=20, link=ScriptedLink(delay=0.25))
    sends = [row.time for row in result.trace if row[1:4] == (SENDER, "send", DATA)]
    assert sends == [gap * each for each in range(20)]
    assert not [row for row in result.trace if row[1:3] == (SENDER, "timeout")]
    assert result.done


def test_a_timer_that_fires_while_pacing_holds_back_the_answer_is_no_fault() -> None:
    class Slow(Paced):
        pacing_rate = 0.5  # the next packet may go 2 s after the last one

    receiver = GoBackNReceiver()
    result = run(Slow(), receiver, payloads=2, link=ScriptedLink(lose={1}))
    assert result.delivered == [b"0", b"1"]


# What a driver promises


def test_a_packet_that_arrives_when_the_timer_is_due_arrives_first() -> None:
    result = run(Sender(), payloads=1, link=ScriptedLink(delay=0.5))  # RTT = 1 s
    assert not [row for row in result.trace if row.what == "timeout"]


def test_a_host_does_not_fire_before_the_deadline() -> None:
    host = Host(Sender(), SENDER)
    host.send(b"a")
    assert len(list(host.pull(0.0))) == 1
    assert host.wake_at() == 1.0
    host.fire(0.999)
    assert list(host.pull(0.999)) == []
    host.fire(1.0)
    assert [packet.seq for packet in host.pull(1.0)] == [0]
    assert host.wake_at() == 2.0


def test_a_driver_may_stop_pulling_early_and_go_on_later() -> None:
    host = Host(Setup("go_back_n", window=4).sender(), SENDER)
    host.send(*[b"a"] * 4)
    assert next(host.pull(0.0)).seq == 0  # then its socket is full
    assert [packet.seq for packet in host.pull(0.25)] == [1, 2, 3]
    assert host.number == 4


def test_a_number_used_for_a_new_payload_is_no_retransmission() -> None:
    setup = Setup("stop_and_wait", seq_bits=1)
    payloads = [b"payload %d" % each for each in range(6)]
    result = simulate(setup.sender(), setup.receiver(), payloads)
    assert not [row for row in result.trace if row.what == "retransmit"]
