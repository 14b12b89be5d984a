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
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.errors import BrokenContract, Promise
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver
from p2plab.sim.contract import require_machine
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


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_page_has_the_members_that_it_needs(protocol: str) -> None:
    setup = Setup(protocol)
    require_machine(setup.sender(), SENDER)
    require_machine(setup.sender().sender, SENDER)
    require_machine(setup.receiver(), RECEIVER)
    require_machine(setup.receiver().receiver, RECEIVER)


# Missing, misspelt or misshapen members


def without(machine: type, member: str, **others: Any) -> Any:
    """Make a machine of a copy of its class that lacks a member and has others."""
    gone = {member, "__dict__", "__weakref__"}
    kept = {name: value for name, value in vars(machine).items() if name not in gone}
    return type(machine.__name__, (), {**kept, **others})()


def with_another(member: str, method: Any) -> Any:
    return without(Sender, member, **{member: method})


@pytest.mark.parametrize("role", [SENDER, RECEIVER])
@pytest.mark.parametrize("inside", [False, True])
def test_a_machine_without_a_member_is_told_which(role: str, inside: bool) -> None:
    machine = Sender if role == SENDER else Receiver
    own = {"send", "done"} if role == SENDER else {"next_payload"}
    for member in {"next_packet", "on_packet", "on_timeout"} | own:
        lacking = without(machine, member)
        if inside and role == SENDER:
            lacking = FinishSender(lacking, FixedRto(1.0))
        elif inside:
            lacking = FinishReceiver(lacking)
        with pytest.raises(BrokenContract) as caught:
            Host(lacking, role)
        why = caught.value
        assert (why.promise, why.machine) == (Promise.INTERFACE, machine.__name__)
        assert (why.member, why.time) == (member, None)
        assert "misspelling" not in str(why)  # of another one of the contract


def test_a_machine_without_a_deadline_is_told_so() -> None:
    sender = Sender()
    del sender.deadline
    told = broken(sender)
    assert told.member == "deadline"
    assert str(told).startswith("Sender has no deadline, which every sender needs (see")


@pytest.mark.parametrize(
    ("member", "misspelt"),
    [
        ("on_timeout", "on_time_out"),
        ("next_packet", "nextPacket"),
        ("on_packet", "on_paket"),
        ("send", "snd"),
    ],
)
def test_a_misspelt_member_is_recognised(member: str, misspelt: str) -> None:
    sender = without(Sender, member, **{misspelt: vars(Sender)[member]})
    assert broken(sender).cure == f"It has {misspelt}: is that a misspelling?"


async def waits(self: Any, packet: Any, now: float) -> None: ...


@pytest.mark.parametrize(
    ("member", "method", "words"),
    [
        ("done", lambda self: False, "a method, but the driver reads it as a value"),
        ("next_packet", property(lambda self: None), "a value, but must be a method"),
        ("next_packet", lambda self: None, "is called with 1 argument"),
        ("on_timeout", lambda: None, "write `self`"),
        ("on_packet", lambda self, packet: None, "is called with 2 argument"),
        ("on_packet", lambda self, packet, now, more: None, "missing .*'more'"),
        ("on_packet", waits, "nobody awaits it"),
        ("send", lambda self: None, "is called with 1 argument"),
    ],
)
def test_a_member_that_a_driver_cannot_use_is_refused(
    member: str, method: Any, words: str
) -> None:
    told = broken(with_another(member, method))
    assert (told.promise, told.member) == (Promise.INTERFACE, member)
    assert re.search(words, str(told))


def test_a_class_instead_of_a_machine_is_recognised() -> None:
    told = broken(Sender)
    assert str(told) == "Sender is a class: hand over a machine made of it, Sender()."


def test_optional_arguments_of_one_s_own_are_fine() -> None:
    def on_timeout(self: Sender, now: float, loud: bool = False) -> None:
        self.sent = self.base
        self.deadline = None

    assert run(with_another("on_timeout", on_timeout)).done


def test_a_method_that_is_built_into_python_is_fine() -> None:
    queue: deque[bytes] = deque()
    sender = Sender()
    sender.send = queue.append  # type: ignore[assignment,method-assign]  # as students do
    Host(sender, SENDER).send(b"a")
    assert list(queue) == [b"a"]


# Promises that are broken later


class Forgetful(Sender):
    def on_timeout(self, now: float) -> None:
        return


class Past(Sender):
    def next_packet(self, now: float) -> Any:
        packet = super().next_packet(now)
        if packet is not None:
            self.deadline = 1.0  # where now + 1.0 was meant
        return packet


class Chatty(Sender):
    def next_packet(self, now: float) -> Packet | None:
        return Packet(DATA, 0, b"again")


class Empty(Receiver):
    def next_payload(self) -> Any:
        return self.inbox.popleft()  # without asking whether there is one


class Repeating(Receiver):
    def next_payload(self) -> Any:
        return self.inbox[0] if self.inbox else None  # and never takes it out


@pytest.mark.parametrize(
    ("machine", "promise", "member", "time", "words"),
    [
        (Forgetful, Promise.TIMER, "on_timeout", 1.5, "nothing was sent"),
        (Past, Promise.TIMER, "on_timeout", 1.0, "called 1000 times"),
        (Chatty, Promise.PACKETS, "next_packet", 0.0, "still did not say None"),
        (Empty, Promise.NO_EXCEPTION, "next_payload", 0.0, "IndexError: pop from"),
        (Repeating, Promise.PACKETS, "next_payload", 0.25, "still did not say None"),
    ],
)
def test_a_promise_that_is_broken_in_a_run_is_named(
    machine: type, promise: Promise, member: str, time: float, words: str
) -> None:
    if issubclass(machine, Sender):
        told = broken(machine())
        inside = broken(
            FinishSender(machine(), FixedRto(1.0)), FinishReceiver(Receiver())
        )
        assert str(inside) == str(told)  # the machine is blamed by its own name
    else:
        told = broken(Sender(), machine())
    assert (told.promise, told.machine) == (promise, machine.__name__)
    assert (told.member, told.time) == (member, time)
    assert words in told.what
    assert pickle.loads(pickle.dumps(told)).args == told.args  # from another process


def test_a_broken_promise_is_said_with_its_time_and_its_cure() -> None:
    assert str(broken(Forgetful())) == (
        "Forgetful: at t=1.500 on_timeout was called, nothing was sent, and the "
        "deadline is still 1.500. Restart the timer (deadline = now + rto) or stop it "
        "(deadline = None)."
    )


def test_a_large_window_that_arrives_at_one_moment_is_no_endless_next_packet() -> None:
    setup = Setup("go_back_n", window=15_000, timeout=1.0)
    result = simulate(
        setup.sender(),
        setup.receiver(),
        [b""] * 15_000,
        ScriptedLink(lose={1}),
        record=False,
    )
    assert len(result.delivered) == 15_000


def test_two_machines_that_answer_each_other_for_ever_at_one_moment_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Answering(Sender):
        def on_packet(self, packet: Packet, now: float) -> None:
            self.sent = self.base  # each ACK brings the same packet again

    monkeypatch.setattr("p2plab.sim.driver.ECHO_LIMIT", 1000)
    told = broken(Answering(), link=Link(delay=0.0))
    assert (told.promise, told.member, told.time) == (
        Promise.PACKETS,
        "next_packet",
        0.0,
    )


@pytest.mark.parametrize(
    "answer",
    [[], [Packet(DATA, 0)], (DATA, 0), b"payload", Packet(Kind.OFFER, 0)],
    ids=["empty list", "list", "tuple", "bytes", "a driver's kind"],
)
def test_a_next_packet_that_returns_something_else_is_found(answer: Any) -> None:
    told = broken(with_another("next_packet", lambda self, now: answer))
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
    told = broken(with_another(member, wrong))
    assert (told.promise, told.member) == (Promise.NO_EXCEPTION, member)
    assert (told.machine, told.time) == ("Sender", time)
    assert "raised KeyError: 'base'" in told.what
    assert isinstance(told.__cause__, KeyError)  # with the line in their file


# Optional members


class Listening(Receiver):
    """A receiver that counts what it was told about damaged packets."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def on_corrupt(self, now: float) -> None:
        self.heard.append(now)


@pytest.mark.parametrize("inside", [False, True])
def test_on_corrupt_hears_of_a_damaged_packet_and_on_packet_does_not(
    inside: bool,
) -> None:
    sender, receiver = Sender(), Listening()
    ends: tuple[Any, Any] = sender, receiver
    if inside:
        ends = FinishSender(sender, FixedRto(1.0)), FinishReceiver(receiver)
    run(*ends, payloads=1, link=ScriptedLink(corrupt={1}, delay=0.25))
    assert receiver.heard == [0.25]
    assert receiver.expected == 1


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
@pytest.mark.parametrize("inside", [False, True])
def test_pacing_spaces_the_packets_exactly_and_fires_no_timer(
    rate: float | None, gap: float, inside: bool
) -> None:
    sender = Paced()
    sender.pacing_rate = rate
    ends: tuple[Any, Any] = sender, Receiver()
    if inside:
        ends = FinishSender(ends[0], FixedRto(1.0)), FinishReceiver(ends[1])
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
    host = Host(Sender(), SENDER, Trace())
    host.send(b"a")
    assert len(list(host.pull(0.0))) == 1
    assert host.wake_at() == 1.0
    host.fire(0.999)
    assert list(host.pull(0.999)) == []
    host.fire(1.0)
    assert [packet.seq for packet in host.pull(1.0)] == [0]
    assert host.wake_at() == 2.0


def test_a_driver_may_stop_pulling_early_and_go_on_later() -> None:
    setup = Setup("go_back_n", window=4, timeout=1.0)
    host = Host(setup.sender(), SENDER, Trace())
    for _ in range(4):
        host.send(b"a")
    first = host.pull(0.0)
    assert next(first).seq == 0  # then its socket is full
    first.close()  # type: ignore[attr-defined]  # it is a generator
    assert [packet.seq for packet in host.pull(0.25)] == [1, 2, 3]
    assert host.number == 4


def test_a_number_used_for_a_new_payload_is_no_retransmission() -> None:
    result = simulate(
        Setup("stop_and_wait", seq_bits=1).sender(),
        Setup("stop_and_wait", seq_bits=1).receiver(),
        [b"payload %d" % each for each in range(6)],
        Link(),
    )
    assert not [row for row in result.trace if row.what == "retransmit"]
