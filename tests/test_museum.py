"""The museum: every mistake shows itself, and no correct protocol is accused.

The hunt on this page is a small one of its own, so that the museum does not depend on
the checker, which is tried on it at the end.
"""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from p2plab.checker import check
from p2plab.commands.grader import grade
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, Fate, ScriptedLink
from p2plab.core.packet import ACK, Kind, Packet
from p2plab.core.trace import RETRANSMIT, SEND
from p2plab.errors import BrokenContract
from p2plab.museum import EXHIBITS, HEALTHY, Exhibit
from p2plab.museum.exhibit import Page
from p2plab.protocols import go_back_n
from p2plab.sim.simulator import Simulation, simulate
from p2plab.ui.lesson import show

DELAY: Final = 0.05  # one way [s]
PATIENCE: Final = 600.0  # after the network has healed [s]
EXTRA: Final = 50  # packets that one fault may cost
ROOM: Final = 1600  # bytes; a window of four payloads of 400 bytes


# A network that does what it is told


class Fault(NamedTuple):
    """What happens to packet `number`, from 1, on its way there (0) or back (1)."""

    way: int
    number: int
    what: str
    seconds: float = 0.0


LOSSES: Final = (("lose", 0.0), ("dark", 2.5))
COPIES: Final = (*LOSSES, ("copy", 0.0))
KINDS: Final = {
    "fifo": LOSSES,
    "dup": COPIES,
    "late": (*COPIES, ("late", 0.06), ("late", 2.2), ("late copy", 2.2)),
    "corrupt": (*LOSSES, ("damage", 0.0)),
}
WEAKER: Final = {"dup": "fifo", "late": "dup", "corrupt": "fifo"}


class Network:
    """Both ways of a network with these faults, and healthy otherwise."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.plan = {fault[:2]: fault for fault in faults}
        self.dark_until = self.healed_at = 0.0

    def forward(self) -> Way:
        return Way(self, 0)

    def backward(self) -> Way:
        return Way(self, 1)


class Way:
    def __init__(self, network: Network, way: int) -> None:
        self.network, self.way, self.count = network, way, 0

    def transmit(self, size: int, now: float) -> list[Fate]:
        self.count += 1
        network, arrival = self.network, now + DELAY
        _, _, what, seconds = network.plan.get(
            (self.way, self.count), Fault(0, 0, "arrive")
        )
        later = arrival + seconds
        if what != "arrive":
            network.healed_at = max(network.healed_at, later)
        if what == "dark":
            network.dark_until = now + seconds
        if now < network.dark_until or what == "lose":
            return [(now, LOSS)]
        return {
            "copy": [(arrival, ARRIVE), (arrival, DUPLICATE)],
            "damage": [(arrival, CORRUPT)],
            "late": [(later, ARRIVE)],
            "late copy": [(arrival, ARRIVE), (later, DUPLICATE)],
        }.get(what, [(arrival, ARRIVE)])


# An application, and what it was promised

# Payloads, and some more when those are done and all is silent.
App = tuple[tuple[bytes, ...], ...]
FIVE: Final = tuple(b"payload" + b"!" * number for number in range(5))
SMALL: Final[tuple[App, ...]] = (
    ((),),
    ((b"",),),
    ((b"same", b"same"),),
    (FIVE,),
    (FIVE[:2], FIVE[2:4]),
    (tuple(b"%d" % number * 200 for number in range(12)),),
)
LONG: Final[App] = (tuple(b"%d" % number for number in range(200)),)


def broken_promise(
    make: Callable[[], tuple[Any, Any]], app: App, faults: tuple[Fault, ...]
) -> str:
    """Return the promise that a run breaks, or nothing."""
    try:
        run(*make(), app, faults)
    except (AssertionError, BrokenContract) as why:
        return str(why)
    return ""


def run(sender: Any, receiver: Any, app: App, faults: tuple[Fault, ...]) -> None:
    """Raise AssertionError or BrokenContract when a promise is broken."""
    size = len(pickle.dumps(receiver))
    sent: list[bytes] = []
    delivered: list[bytes] = []
    network = Network(faults)
    world = Simulation(sender, receiver, network, network, None, delivered.append)
    world.wake(1)
    for payloads in (*app, None):
        if payloads is not None:
            world.sender.send(*payloads)
            sent += payloads
        elif hasattr(sender, "finish"):
            sender.finish()
        world.wake(0)
        packets = 1.4 * len(sent) + EXTRA * (1 + len(faults))
        running = True
        while running:
            so_far = len(delivered)
            running = world.step()
            if len(delivered) > so_far:
                assert delivered == sent[: len(delivered)], "a prefix is delivered"
            assert world.now < network.healed_at + PATIENCE, "both sides finish"
            assert world.sender.number < packets, "few packets are repeated"
            assert not sender.done or sender.deadline is None, "done has no timer"
        assert sender.done, "the sender finishes"
    assert delivered == sent, "everything is delivered"
    assert len(pickle.dumps(receiver)) < size + ROOM, "memory is bounded"


# The hunt


def schedules(
    channel: str, count: int, forth: int = 10, back: int = 6
) -> Iterator[tuple[Fault, ...]]:
    """Yield all ways to do so many things to the first packets, the simplest first."""
    places = [(0, n + 1) for n in range(forth)] + [(1, n + 1) for n in range(back)]
    singles = [
        Fault(way, number, what, seconds)
        for what, seconds in KINDS[channel]
        for way, number in places
        if what != "dark" or number % 2
    ]
    for faults in combinations(singles, count):
        if len({fault[:2] for fault in faults}) == count:
            yield faults


def smallest(exhibit: Exhibit) -> tuple[Fault, ...]:
    """Return the first faults that break it."""
    for count in range(4):
        for app in (*SMALL, LONG) if count < 2 else SMALL:
            for faults in schedules(exhibit.channel, count):
                if broken_promise(exhibit.make, app, faults):
                    return faults
    pytest.fail(f"{exhibit.name} got away with it")


def survives(exhibit: Exhibit, channel: str, most: int = 2) -> None:
    """Fail, with the story, if at most so many faults of a class break it."""
    for count in range(most + 1):
        for faults, app in product(schedules(channel, count, 5, 4), SMALL[3:]):
            broken = broken_promise(exhibit.make, app, faults)
            assert not broken, f"{exhibit.name}: {broken} after {faults} with {app}"


# Mistakes

# how many faults it takes, a black-out being one
FAULTS: Final = {
    0: "copies_known_by_content empty_payload_dropped home_when_done shared_list "
    "never_done_with_nothing timer_left_running next_number_acknowledged "
    "every_other_acknowledged buffer_never_freed arrived_packets_repeated "
    "acks_only_ride_along lingers_for_ever",
    1: "ack_not_repeated copies_delivered no_numbers sorcerers_apprentice "
    "only_the_last_remembered timer_not_restarted no_timer_for_the_last "
    "repetition_timed timer_stopped_at_any_ack deadline_in_the_past goes_back_one "
    "window_as_large_as_the_numbers dropped_packet_acknowledged zero_for_nothing "
    "selective_ack_taken_as_cumulative every_duplicate_answered leaves_on_finish "
    "window_over_half_the_numbers past_not_acknowledged delivered_as_it_comes "
    "window_stuck_after_a_gap cumulative_ack_taken_as_selective sent_once_and_hoped "
    "nak_and_no_timer damage_acknowledged parity_of_the_wrong_group",
    2: "any_ack_believed backs_off_for_every_packet second_ack_raises "
    "damage_taken_for_an_ack parity_with_two_missing",
}
PAR: Final = {name: count for count in FAULTS for name in FAULTS[count].split()}
# A driver that pulls late makes one fault do for two.
CHECKER_PAR: Final = {**PAR, "parity_with_two_missing": 1}
# These are never the same twice, and otherwise right.
NONDETERMINISTIC: Final = ("random_timer", "order_of_a_set")


def test_every_exhibit_has_a_record() -> None:
    assert sorted((*PAR, *NONDETERMINISTIC)) == sorted(EXHIBITS)


@pytest.mark.parametrize("name", PAR)
def test_a_mistake_shows_itself_after_as_few_faults_as_recorded(name: str) -> None:
    faults = smallest(EXHIBITS[name])
    assert len(faults) == PAR[name], faults


@pytest.mark.parametrize(
    "name", [name for name in EXHIBITS if EXHIBITS[name].channel in WEAKER]
)
def test_a_mistake_goes_unnoticed_in_a_weaker_class_than_its_own(name: str) -> None:
    survives(EXHIBITS[name], WEAKER[EXHIBITS[name].channel])


def test_a_timeout_drawn_by_lot_is_another_one_the_second_time() -> None:
    runs = [
        simulate(*EXHIBITS["random_timer"].make(), FIVE, ScriptedLink(lose={1}))
        for _ in range(3)
    ]
    assert len({run.time for run in runs}) > 1


@pytest.mark.parametrize("name", NONDETERMINISTIC)
def test_what_is_never_the_same_twice_is_otherwise_right(name: str) -> None:
    survives(EXHIBITS[name], "fifo")


# Correct ones


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives_any_two_faults_and_damage(name: str) -> None:
    survives(HEALTHY[name], HEALTHY[name].channel)
    survives(HEALTHY[name], "corrupt", most=1)
    assert not broken_promise(HEALTHY[name].make, LONG, (Fault(0, 20, "lose"),))


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives_three_hundred_random_schedules(name: str) -> None:
    for seed in range(300):
        channel = "corrupt" if seed % 4 == 0 else HEALTHY[name].channel
        rng = Random(seed)
        app, share = rng.choice(SMALL), rng.choice((0.05, 0.2, 0.4))
        faults = tuple(
            Fault(way, number, what, seconds * rng.random())
            for way, number in product((0, 1), range(1, 31))
            for what, seconds in [rng.choice(KINDS[channel])]
            if rng.random() < share
        )
        broken = broken_promise(HEALTHY[name].make, app, faults)
        assert not broken, f"seed {seed}: {broken} after {faults} with {app}"


@pytest.mark.parametrize(
    "name", [name for name in HEALTHY if HEALTHY[name].channel == "dup"]
)
def test_few_bits_for_the_numbers_do_not_survive_a_late_copy(name: str) -> None:
    late = (faults for count in (1, 2) for faults in schedules("late", count))
    assert any(broken_promise(HEALTHY[name].make, SMALL[5], faults) for faults in late)


def test_with_parity_a_single_loss_costs_no_time() -> None:
    for number in (1, 2, 3):
        lost = ScriptedLink(lose={number}, delay=DELAY)
        run = simulate(*HEALTHY["parity"].make(), FIVE[:3], lost)
        assert run.delivered == list(FIVE[:3])
        assert run.time == pytest.approx(2 * DELAY)


def test_a_fast_retransmit_does_not_wait_for_the_timer() -> None:
    lost = ScriptedLink(lose={1}, delay=DELAY)
    run = simulate(*HEALTHY["fast_retransmit"].make(), FIVE, lost)
    assert run.delivered == list(FIVE)
    assert run.time == pytest.approx(4 * DELAY)


def test_a_map_of_what_has_arrived_saves_the_repetition_of_the_others() -> None:
    lost = ScriptedLink(lose={1}, delay=DELAY)
    run = simulate(*HEALTHY["bitmap"].make(), FIVE, lost)
    assert run.delivered == list(FIVE)
    assert [row.seq for row in run.trace if row.what == RETRANSMIT] == [0]


def test_a_delayed_ack_saves_half_the_acks() -> None:
    run = simulate(*HEALTHY["delayed_ack"].make(), FIVE[:4])
    sent = [row for row in run.trace if row.what == SEND]
    assert [row.seq for row in sent if row.host == "receiver"] == [1, 3]


def test_both_sides_of_a_duplex_get_what_the_other_one_sends() -> None:
    ours, theirs = HEALTHY["duplex"].make()
    machine: Any = ours
    lost = ScriptedLink(lose={2}, lose_back={1}, delay=DELAY)
    assert simulate(ours, theirs, FIVE, lost).delivered == list(FIVE)
    assert list(iter(machine.next_payload, None)) == [b"yes", b"", b"no"]


@pytest.mark.parametrize("name", HEALTHY)
def test_no_packet_makes_a_correct_protocol_raise(name: str) -> None:
    rng = Random(name)
    for machine in HEALTHY[name].make():
        for now in range(500):
            packet = Packet(
                rng.choice(list(Kind)), rng.randrange(-9, 20), rng.randbytes(now % 12)
            )
            machine.on_packet(packet, now)
            machine.next_packet(now)


# The labels beside the exhibits, and their pages


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_a_mistake_is_a_sentence_and_a_small_difference(exhibit: Exhibit) -> None:
    assert exhibit.mistake.endswith((".", ").")), exhibit.mistake
    assert 40 < len(exhibit.mistake) < 250
    assert 0 < len(exhibit.title) < 60
    assert exhibit.channel in KINDS
    changed = [line for line in exhibit.diff().splitlines()[3:] if line[0] in "+-"]
    assert len(changed) < 10, exhibit.diff()


@pytest.mark.parametrize("exhibit", HEALTHY.values(), ids=HEALTHY)
def test_a_correct_protocol_has_pages_and_no_mistake(exhibit: Exhibit) -> None:
    assert exhibit.title
    assert not exhibit.mistake
    assert not exhibit.diff()
    assert exhibit.channel in ("dup", "late")
    shown = show(exhibit).data
    assert all(type(machine).__name__ in shown for machine in exhibit.make())


def test_a_difference_can_be_shown_as_a_slide() -> None:
    lines = EXHIBITS["deadline_in_the_past"].diff().splitlines()[3:]
    assert lines[2:4] == [
        "         self.next_seq_num = self.send_base  # go back N",
        "-        self.deadline = None",
    ]
    assert not EXHIBITS["no_numbers"].diff()


def test_the_source_of_an_exhibit_is_its_changed_page() -> None:
    exhibit = EXHIBITS["second_ack_raises"]
    shown = re.sub("<.*?>", "", show(exhibit).data)
    assert "del self.sent_at[seq]" in shown
    sender: Any = exhibit.sender()
    lines, first = inspect.getsourcelines(type(sender).on_packet)
    wrong = first + lines.index("        del self.sent_at[seq]\n")
    sender.next_seq_num = 1
    with pytest.raises(KeyError) as raised:
        sender.on_packet(Packet(ACK, 0), 0.0)
    assert raised.traceback[-1].lineno == wrong - 1


@pytest.mark.parametrize("old", ["nowhere", "packet.seq"])
def test_a_change_that_does_not_fit_its_page_is_refused(old: str) -> None:
    with pytest.raises(ValueError, match=r"go_back_n has these words \d times"):
        Page(go_back_n).change(old, "new")


def test_an_exhibit_can_be_sent_to_another_process() -> None:
    assert not {*EXHIBITS} & {*HEALTHY}
    for exhibit in (*EXHIBITS.values(), *HEALTHY.values()):
        make = pickle.loads(pickle.dumps(exhibit.sender))
        assert type(make()) is type(exhibit.sender())


# The checker


@pytest.mark.parametrize("name", PAR)
def test_the_checker_needs_as_few_faults_and_at_most_25_packets(name: str) -> None:
    exhibit = EXHIBITS[name]
    verdict = check(exhibit.sender, exhibit.receiver, exhibit.channel)
    assert verdict.kind != "survived", verdict
    assert len(verdict.faults) == CHECKER_PAR[name], verdict
    assert sum(row.what in (SEND, RETRANSMIT) for row in verdict.trace) <= 25


@pytest.mark.parametrize("name", HEALTHY)
def test_the_checker_accuses_no_correct_protocol(name: str) -> None:
    for channel in {HEALTHY[name].channel, "corrupt"}:
        verdict = check(HEALTHY[name].sender, HEALTHY[name].receiver, channel, 0.3)
        assert verdict.kind == "survived", verdict


def test_the_grader_sees_two_processes_differ_in_the_order_of_a_set(
    tmp_path: Path,
) -> None:
    file = tmp_path / "exhibit.py"
    file.write_text(
        "from p2plab.museum import EXHIBITS\n"
        "Sender = EXHIBITS['order_of_a_set'].sender\n"
        "Receiver = EXHIBITS['order_of_a_set'].receiver\n"
    )
    verdict = grade(file, budget=0.3)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", "same again")
