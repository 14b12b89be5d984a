"""The contract: what a machine of one's own is told when it does not keep it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from first_attempt import Receiver, Sender

from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, Kind, Packet, all_plain
from p2plab.core.rtt import FixedRto
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.errors import BrokenContract
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


def broken(sender: Any, receiver: Any = None, **options: Any) -> str:
    """Run it; it must break its contract. Return the words."""
    with pytest.raises(BrokenContract) as caught:
        run(sender, receiver, **options)
    return str(caught.value)


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


@pytest.mark.parametrize(
    "member", ["send", "done", "next_packet", "on_packet", "on_timeout"]
)
def test_a_sender_without_a_member_is_told_which(member: str) -> None:
    told = broken(without(Sender, member))
    assert f"Sender has no {member}, which every sender needs" in told


@pytest.mark.parametrize(
    "member", ["next_payload", "next_packet", "on_packet", "on_timeout"]
)
def test_a_receiver_without_a_member_is_told_which(member: str) -> None:
    told = broken(Sender(), without(Receiver, member))
    assert f"Receiver has no {member}, which every receiver needs" in told


@pytest.mark.parametrize("machine", [Sender, Receiver])
def test_another_member_of_the_contract_is_not_called_its_misspelling(
    machine: type,
) -> None:
    role = SENDER if machine is Sender else RECEIVER
    for member in ("next_packet", "on_packet", "on_timeout"):
        with pytest.raises(BrokenContract) as caught:
            require_machine(without(machine, member), role)
        assert "misspelling" not in str(caught.value)


def test_a_machine_without_a_deadline_is_told_so() -> None:
    sender = Sender()
    del sender.deadline
    assert "Sender has no deadline, which every sender needs" in broken(sender)


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
    assert f"It has {misspelt}: is that a misspelling?" in broken(sender)


def test_a_class_instead_of_a_machine_is_recognised() -> None:
    told = broken(Sender)
    assert told == ("Sender is a class: hand over a machine made of it, Sender().")


def test_done_as_a_method_would_always_be_true_and_is_refused() -> None:
    def done(self: Sender) -> bool:
        return False

    told = broken(without(Sender, "done", done=done))
    assert "Sender.done is a method, but the driver reads it as a value" in told
    assert "@property" in told


def test_a_property_in_place_of_a_method_is_refused() -> None:
    sender = without(Sender, "next_packet", next_packet=property(lambda self: None))
    assert "Sender.next_packet is a value, but must be a method" in broken(sender)


@pytest.mark.parametrize(
    ("member", "method", "words"),
    [
        ("next_packet", lambda self: None, "is called with 1 argument"),
        ("on_timeout", lambda self: None, "is called with 1 argument"),
        ("on_packet", lambda self, packet: None, "is called with 2 argument"),
        ("on_packet", lambda self, packet, now, more: None, "missing .*'more'"),
        ("send", lambda self: None, "is called with 1 argument"),
    ],
)
def test_a_method_with_the_wrong_number_of_arguments_is_refused(
    member: str, method: Callable[..., None], words: str
) -> None:
    told = broken(without(Sender, member, **{member: method}))
    assert told.startswith(f"Sender.{member} ")
    assert re.search(words, told)


def test_optional_arguments_of_one_s_own_are_fine() -> None:
    def on_timeout(self: Sender, now: float, loud: bool = False) -> None:
        self.sent = self.base
        self.deadline = None

    assert run(without(Sender, "on_timeout", on_timeout=on_timeout)).done


def test_a_method_that_is_built_into_python_is_fine() -> None:
    queue: deque[bytes] = deque()
    sender = Sender()
    sender.send = queue.append  # type: ignore[assignment,method-assign]  # as students do
    require_machine(sender, SENDER)
    Host(sender, SENDER).send(b"a")
    assert list(queue) == [b"a"]


def test_a_machine_inside_a_finish_is_checked_by_its_own_name() -> None:
    with pytest.raises(BrokenContract, match=r"^Sender has no on_timeout"):
        run(FinishSender(without(Sender, "on_timeout"), FixedRto(1.0)))
    with pytest.raises(BrokenContract, match=r"^Receiver has no next_payload"):
        run(Sender(), FinishReceiver(without(Receiver, "next_payload")))


# Promises that are broken later


def test_a_timer_that_is_neither_moved_nor_stopped_is_found() -> None:
    class Forgetful(Sender):
        def on_timeout(self, now: float) -> None:
            return

    told = broken(Forgetful())
    assert told == (
        "Forgetful: at t=1.500 on_timeout was called, nothing was sent, and the "
        "deadline is still 1.500. Restart the timer (deadline = now + rto) or stop it "
        "(deadline = None)."
    )


def test_a_timer_that_is_restarted_in_the_past_is_found() -> None:
    class Past(Sender):
        def next_packet(self, now: float) -> Any:
            packet = super().next_packet(now)
            if packet is not None:
                self.deadline = 1.0  # where now + 1.0 was meant
            return packet

    told = broken(Past())
    assert told.startswith("Past: at t=1.000 on_timeout was called 1000 times")
    assert "deadline = now + rto" in told


def test_a_next_packet_without_an_end_is_found() -> None:
    class Chatty(Sender):
        def next_packet(self, now: float) -> Packet | None:
            return Packet(DATA, 0, b"again")

    told = broken(Chatty())
    assert told.startswith("Chatty: at t=0.000 next_packet had answered ")
    assert told.endswith("Return None once nothing more may be sent now.")


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


@pytest.mark.parametrize(
    "answer",
    [[], [Packet(DATA, 0)], (DATA, 0), b"payload", Packet(Kind.OFFER, 0)],
    ids=["empty list", "list", "tuple", "bytes", "a driver's kind"],
)
def test_a_next_packet_that_returns_something_else_is_found(answer: Any) -> None:
    class Odd(Sender):
        def next_packet(self, now: float) -> Packet | None:
            return answer  # type: ignore[no-any-return]  # that is the mistake

    told = broken(Odd())
    assert told.startswith("Odd: at t=0.000 next_packet returned ")
    assert told.endswith("Return one Packet of kind DATA, ACK, NAK or FIN, or None.")


@pytest.mark.parametrize("member", ["on_packet", "next_packet", "on_timeout"])
def test_an_exception_in_a_machine_names_the_machine_the_time_and_the_cause(
    member: str,
) -> None:
    def wrong(self: Sender, *told: Any) -> None:
        raise KeyError("base")

    when = {"on_packet": "0.500", "next_packet": "0.000", "on_timeout": "1.500"}
    with pytest.raises(BrokenContract) as caught:
        run(without(Sender, member, **{member: wrong}))
    assert str(caught.value).startswith(
        f"Sender: at t={when[member]} {member} raised KeyError: 'base'."
    )
    assert isinstance(caught.value.__cause__, KeyError)  # with the line in their file


def test_a_next_payload_that_raises_is_named_like_the_others() -> None:
    class Empty(Receiver):
        def next_payload(self) -> Any:
            return self.inbox.popleft()  # without asking whether there is one

    told = broken(Sender(), Empty())
    assert told.startswith("Empty: at t=0.000 next_payload raised IndexError: pop from")


def test_a_next_payload_without_an_end_is_found() -> None:
    class Repeating(Receiver):
        def next_payload(self) -> Any:
            return self.inbox[0] if self.inbox else None  # and never takes it out

    told = broken(Sender(), Repeating())
    assert told.startswith("Repeating: at t=0.250 next_payload had answered ")
    assert told.endswith("Return None once nothing more is waiting.")


def test_a_machine_inside_a_finish_is_blamed_by_its_own_name() -> None:
    class Forgetful(Sender):
        def on_timeout(self, now: float) -> None:
            return

    told = broken(FinishSender(Forgetful(), FixedRto(1.0)), FinishReceiver(Receiver()))
    assert told.startswith("Forgetful: at t=1.500 on_timeout was called")


# Optional members


class Listening(Receiver):
    """A receiver that counts what it was told about damaged packets."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def on_corrupt(self, now: float) -> None:
        self.heard.append(now)


def test_on_corrupt_hears_of_a_damaged_packet_and_on_packet_does_not() -> None:
    receiver = Listening()
    run(Sender(), receiver, payloads=1, link=ScriptedLink(corrupt={1}, delay=0.25))
    assert receiver.heard == [0.25]
    assert receiver.expected == 1


def test_on_corrupt_is_heard_inside_a_finish_too() -> None:
    receiver = Listening()
    run(
        FinishSender(Sender(), FixedRto(1.0)),
        FinishReceiver(receiver),
        payloads=1,
        link=ScriptedLink(corrupt={1}, delay=0.25),
    )
    assert receiver.heard == [0.25]


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


def sent_at(trace: Trace) -> list[float]:
    return [
        row.time
        for row in trace
        if row.host == SENDER and row.what in ("send", "retransmit")
    ]


def test_pacing_spaces_the_packets_exactly_and_fires_no_timer() -> None:
    result = run(Paced(), payloads=20, link=ScriptedLink(delay=0.25))
    assert sent_at(result.trace) == [0.125 * each for each in range(20)]
    assert not [row for row in result.trace if row.what == "timeout"]
    assert result.done


def test_pacing_works_inside_a_finish_too() -> None:
    result = run(
        FinishSender(Paced(), FixedRto(1.0)),
        FinishReceiver(Receiver()),
        payloads=20,
        link=ScriptedLink(delay=0.25),
    )
    assert sent_at(result.trace)[:20] == [0.125 * each for each in range(20)]


def test_a_pacing_rate_of_none_is_no_pacing() -> None:
    sender = Paced()
    sender.pacing_rate = None
    result = run(sender, payloads=20, link=ScriptedLink(delay=0.25))
    assert sent_at(result.trace) == [0.0] * 20


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


def test_a_host_records_nothing_without_a_trace() -> None:
    result = run(Sender(), record=False)
    assert result.delivered == [b"0", b"1", b"2"]
    assert len(result.trace) == 0
    assert result.trace.states == []
    assert result.trace.names == {}


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


def test_a_batch_is_heard_as_if_its_packets_had_come_one_by_one() -> None:
    batch = [(Packet(DATA, seq, b"%d" % seq, ts_val=1.0), seq) for seq in (0, 2, 1, 1)]
    traces, heard = [], []
    for at_once in (False, True):
        trace, taken = Trace(), list[bytes]()
        machine = Setup("selective_repeat", window=4).receiver()
        host = Host(machine, RECEIVER, trace, taken.append)
        if at_once:
            host.feed_all(batch, 2.0, "arrive")
        else:
            for packet, number in batch:
                host.feed(packet, 2.0, "arrive", number)
        acks = list(host.pull(2.0))
        traces.append(list(trace.rows))
        heard.append((taken, acks, host.heard_at, host.moved_at, host.payloads))
    assert traces[0] == traces[1]
    assert heard[0] == heard[1]
    whats = [row[2] for row in traces[1] if row[2] != "send"]
    assert whats == [
        "arrive",
        "deliver",
        "arrive",
        "arrive",
        *["deliver"] * 2,
        "arrive",
    ]


def test_a_machine_that_raises_in_a_batch_has_heard_what_came_before() -> None:
    class Choosy(Sender):
        def on_packet(self, packet: Any, now: float) -> None:
            if packet.seq == 1:
                raise ValueError("not that one")

    trace = Trace()
    host = Host(Choosy(), SENDER, trace)
    batch = [(Packet(ACK, seq), seq) for seq in range(3)]
    with pytest.raises(BrokenContract, match=r"Choosy: at t=3\.000 on_packet raised"):
        host.feed_all(batch, 3.0, "arrive")
    assert [row[6] for row in trace.rows] == [0, 1]


@pytest.mark.parametrize(
    ("numbers", "size", "kind", "plain"),
    [
        ([5, 6], 8, DATA, True),
        ([5, 6], 9, DATA, False),  # too large
        ([5, 5], 8, DATA, False),  # a copy within the batch
        ([5, 4], 8, DATA, False),  # a copy of one that came before
        ([5, 6], 8, Kind.STOP, False),  # for the driver
    ],
)
def test_a_batch_is_plain_if_no_packet_of_it_needs_a_closer_look(
    numbers: list[int], size: int, kind: Kind, plain: bool
) -> None:
    first = Packet(ACK, 0), numbers[0]
    arrived = {4}
    assert (
        all_plain([first, (Packet(kind, 0, bytes(size)), numbers[1])], 8, arrived)
        == plain
    )
    assert arrived == ({4, *numbers} if plain else {4})


def test_nobody_looks_for_copies_without_a_trace() -> None:
    assert all_plain([(Packet(DATA, 0, b"a"), 1)] * 2, 8, None)


def test_a_number_used_for_a_new_payload_is_no_retransmission() -> None:
    result = simulate(
        Setup("stop_and_wait", seq_bits=1).sender(),
        Setup("stop_and_wait", seq_bits=1).receiver(),
        [b"payload %d" % each for each in range(6)],
        Link(),
    )
    assert not [row for row in result.trace if row.what == "retransmit"]
