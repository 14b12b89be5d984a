"""The museum: every mistake shows itself, and no correct protocol is accused.

The hunt on this page is a small one of its own, so that the museum does not depend on
the checker, which is tried on it at the end.
"""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from browser import ROOT

from p2plab.checker import check
from p2plab.checker.grader import grade
from p2plab.core.link import (
    ARRIVE,
    CORRUPT,
    DUPLICATE,
    LOSS,
    Channel,
    Fate,
    ScriptedLink,
)
from p2plab.core.trace import RETRANSMIT, SEND
from p2plab.errors import BrokenContract
from p2plab.museum import EXHIBITS, HEALTHY, Exhibit
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


LOSE, COPY, DAMAGE, DARK = "lose", "copy", "damage", "dark"
DELAYED, LATE_COPY = "late", "late copy"
LOSSES: Final = ((LOSE, 0.0), (DARK, 2.5))
COPIES: Final = (*LOSSES, (COPY, 0.0))
KINDS: Final = {
    "fifo": LOSSES,
    "dup": COPIES,
    "late": (*COPIES, (DELAYED, 0.06), (DELAYED, 2.2), (LATE_COPY, 2.2)),
    "corrupt": (*LOSSES, (DAMAGE, 0.0)),
}
WEAKER: Final = {"dup": "fifo", "late": "dup", "corrupt": "fifo"}


@dataclass
class Network:
    """Both ways of a network with these faults, and healthy otherwise."""

    faults: Iterable[Fault]
    dark_until: float = 0.0
    healed_at: float = 0.0
    plan: dict[tuple[int, int], Fault] = field(init=False)

    def __post_init__(self) -> None:
        self.plan = {(fault.way, fault.number): fault for fault in self.faults}

    def forward(self) -> Channel:
        return Way(self, 0)

    def backward(self) -> Channel:
        return Way(self, 1)


@dataclass
class Way:
    network: Network
    way: int
    count: int = 0

    def transmit(self, size: int, now: float) -> list[Fate]:
        self.count += 1
        arrival = now + DELAY
        fault = self.network.plan.get((self.way, self.count))
        if fault is not None:
            what, later = fault.what, arrival + fault.seconds
            self.network.healed_at = max(self.network.healed_at, later)
            if what == DARK:
                self.network.dark_until = now + fault.seconds
        if now < self.network.dark_until:
            return [(now, LOSS)]
        if fault is None:
            return [(arrival, ARRIVE)]
        return {
            LOSE: [(now, LOSS)],
            COPY: [(arrival, ARRIVE), (arrival, DUPLICATE)],
            DAMAGE: [(arrival, CORRUPT)],
            DELAYED: [(later, ARRIVE)],
            LATE_COPY: [(arrival, ARRIVE), (later, DUPLICATE)],
        }[what]


# An application, and what it was promised


class App(NamedTuple):
    """Payloads, and some more when those are done and all is silent."""

    first: tuple[bytes, ...]
    later: tuple[bytes, ...] = ()


FIVE: Final = tuple(b"payload" + b"!" * number for number in range(5))
SMALL: Final = (
    App(()),
    App((b"",)),
    App((b"same", b"same")),
    App(FIVE),
    App(FIVE[:2], FIVE[2:4]),
    App(tuple(b"%d" % number * 200 for number in range(12))),
)
LONG: Final = App(tuple(b"%d" % number for number in range(200)))


class BrokenPromise(Exception):
    """What was promised, in a word or two."""


def broken_promise(
    make: Callable[[], tuple[Any, Any]], app: App, faults: Iterable[Fault]
) -> str:
    """Return the promise that a run breaks, or nothing."""
    faults = tuple(faults)
    try:
        _run(make(), app, Network(faults), len(faults))
    except (BrokenPromise, BrokenContract) as why:
        return str(why)
    return ""


def _run(machines: tuple[Any, Any], app: App, network: Network, faults: int) -> None:
    sender, receiver = machines
    size = len(pickle.dumps(receiver))
    sent: list[bytes] = []
    delivered: list[bytes] = []
    world = Simulation(sender, receiver, network, network, None, delivered.append)
    world.wake(1)
    for payloads in (app.first, app.later):
        for payload in payloads:
            world.sender.send(payload)
        sent += payloads
        _until_silent(world, network, sent, delivered, faults)
    if hasattr(sender, "finish"):
        sender.finish()
        _until_silent(world, network, sent, delivered, faults)
    _promise(delivered == sent, "everything is delivered")
    _promise(len(pickle.dumps(receiver)) < size + ROOM, "memory is bounded")


def _until_silent(
    world: Simulation,
    network: Network,
    sent: list[bytes],
    delivered: list[bytes],
    faults: int,
) -> None:
    packets = 1.4 * len(sent) + EXTRA * (1 + faults)
    world.wake(0)
    running = True
    while running:
        so_far = len(delivered)
        running = world.step()
        if len(delivered) > so_far:
            _promise(delivered == sent[: len(delivered)], "a prefix is delivered")
        _promise(world.now < network.healed_at + PATIENCE, "both sides finish")
        _promise(world.sender.number < packets, "few packets are repeated")
        timer = world.sender.machine.deadline
        _promise(not world.sender.machine.done or timer is None, "done has no timer")
    _promise(world.sender.machine.done, "the sender finishes")


def _promise(kept: bool, promise: str) -> None:
    if not kept:
        raise BrokenPromise(promise)


# The hunt


def single_faults(channel: str, forth: int = 10, back: int = 6) -> list[Fault]:
    """Return what can happen to the first packets, the simplest first."""
    places = [(0, n + 1) for n in range(forth)] + [(1, n + 1) for n in range(back)]
    return [
        Fault(way, number, what, seconds)
        for what, seconds in KINDS[channel]
        for way, number in places
        if what != DARK or number % 2
    ]


def schedules(singles: list[Fault], count: int) -> Iterator[tuple[Fault, ...]]:
    """Return every way to combine faults, not two for one packet."""
    for faults in combinations(singles, count):
        if len({fault[:2] for fault in faults}) == count:
            yield faults


def smallest(exhibit: Exhibit, most: int = 3) -> tuple[tuple[Fault, ...], App, str]:
    """Return the first faults that break it, the application and the promise."""
    singles = single_faults(exhibit.channel)
    for count in range(most + 1):
        for app in (*SMALL, LONG)[: 7 if count < 2 else 6]:
            for faults in schedules(singles, count):
                if broken := broken_promise(exhibit.make, app, faults):
                    return faults, app, broken
    pytest.fail(f"{exhibit.name} got away with it")


def survives(exhibit: Exhibit, channel: str, most: int = 2) -> None:
    """Fail, with the story, if at most so many faults of a class break it."""
    singles = single_faults(channel, 5, 4)
    for count in range(most + 1):
        for faults, app in product(schedules(singles, count), SMALL[3 : 6 - count]):
            broken = broken_promise(exhibit.make, app, faults)
            assert not broken, f"{exhibit.name}: {broken} after {faults} with {app}"


def random_schedule(channel: str, seed: int) -> tuple[App, list[Fault]]:
    """Return faults for about every fifth of the first packets."""
    rng = Random(seed)
    share = rng.choice((0.05, 0.2, 0.4))
    faults = []
    for way, number in product((0, 1), range(1, 31)):
        if rng.random() < share:
            what, seconds = rng.choice(KINDS[channel])
            faults.append(Fault(way, number, what, seconds * rng.random()))
    return rng.choice(SMALL), faults


# Mistakes

# how many faults it takes, a black-out being one
PAR: Final = {
    "ack_not_repeated": 1,
    "copies_delivered": 1,
    "no_numbers": 1,
    "any_ack_believed": 2,
    "sorcerers_apprentice": 1,
    "only_the_last_remembered": 1,
    "copies_known_by_content": 0,
    "empty_payload_dropped": 0,
    "home_when_done": 0,
    "never_done_with_nothing": 0,
    "shared_list": 0,
    "timer_not_restarted": 1,
    "no_timer_for_the_last": 1,
    "timer_left_running": 0,
    "repetition_timed": 1,
    "timer_stopped_at_any_ack": 1,
    "deadline_in_the_past": 1,
    "backs_off_for_every_packet": 2,
    "window_as_large_as_the_numbers": 1,
    "dropped_packet_acknowledged": 1,
    "next_number_acknowledged": 0,
    "zero_for_nothing": 1,
    "every_other_acknowledged": 0,
    "goes_back_one": 1,
    "selective_ack_taken_as_cumulative": 1,
    "every_duplicate_answered": 1,
    "window_over_half_the_numbers": 1,
    "past_not_acknowledged": 1,
    "delivered_as_it_comes": 1,
    "buffer_never_freed": 0,
    "arrived_packets_repeated": 0,
    "window_stuck_after_a_gap": 1,
    "second_ack_raises": 2,
    "cumulative_ack_taken_as_selective": 1,
    "sent_once_and_hoped": 1,
    "nak_and_no_timer": 1,
    "damage_taken_for_an_ack": 2,
    "damage_acknowledged": 1,
    "parity_of_the_wrong_group": 1,
    "parity_with_two_missing": 2,
    "acks_only_ride_along": 0,
    "leaves_on_finish": 1,
    "lingers_for_ever": 0,
}
# A driver that pulls late makes one fault do for two.
CHECKER_PAR: Final = {**PAR, "parity_with_two_missing": 1}
# These are never the same twice, and otherwise right.
FICKLE: Final = ("random_timer", "order_of_a_set")


@pytest.mark.parametrize("name", PAR)
def test_a_mistake_shows_itself_after_as_few_faults_as_recorded(name: str) -> None:
    faults, _, _ = smallest(EXHIBITS[name])
    assert len(faults) == PAR[name], faults


@pytest.mark.parametrize("name", [name for name in PAR if not PAR[name]])
def test_a_mistake_that_needs_no_fault_needs_only_the_right_application(
    name: str,
) -> None:
    assert any(broken_promise(EXHIBITS[name].make, app, ()) for app in SMALL)


@pytest.mark.parametrize("name", [name for name in PAR if PAR[name]])
def test_every_other_mistake_goes_unnoticed_on_a_healthy_network(name: str) -> None:
    for app in (*SMALL, LONG):
        assert not broken_promise(EXHIBITS[name].make, app, ())


@pytest.mark.parametrize(
    "name", [name for name in EXHIBITS if EXHIBITS[name].channel in WEAKER]
)
def test_a_mistake_goes_unnoticed_in_a_weaker_class_than_its_own(name: str) -> None:
    survives(EXHIBITS[name], WEAKER[EXHIBITS[name].channel])


def test_every_exhibit_has_a_record() -> None:
    assert {*PAR, *FICKLE} == {*EXHIBITS}


def digest(name: str) -> str:
    """Return the digest of a transfer in which the first packets are lost."""
    sender, receiver = EXHIBITS[name].make()
    lost = ScriptedLink(lose={1, 2, 3, 4})
    run = simulate(sender, receiver, [b"a", b"b", b"c", b"d"], lost)
    return run.trace.digest()


def test_a_timeout_drawn_by_lot_is_another_one_the_second_time() -> None:
    assert len({digest("random_timer") for _ in range(3)}) > 1
    assert len({digest("sorcerers_apprentice") for _ in range(3)}) == 1


def test_the_order_of_a_set_is_another_one_in_another_process() -> None:
    code = f"""
from p2plab.core.link import ScriptedLink
from p2plab.museum import EXHIBITS
from p2plab.sim.simulator import simulate
{inspect.getsource(digest)}
print(digest("order_of_a_set"))
"""
    seen = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        seen.add(ran.stdout)
    assert len(seen) > 1


@pytest.mark.parametrize("name", FICKLE)
def test_what_is_never_the_same_twice_is_otherwise_right(name: str) -> None:
    survives(EXHIBITS[name], "fifo")


# Correct ones


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives_any_two_faults_of_its_class(name: str) -> None:
    survives(HEALTHY[name], HEALTHY[name].channel)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives_damage_too(name: str) -> None:
    survives(HEALTHY[name], "corrupt", most=1)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_survives_three_hundred_random_schedules(name: str) -> None:
    for seed in range(300):
        channel = "corrupt" if seed % 4 == 0 else HEALTHY[name].channel
        app, faults = random_schedule(channel, seed)
        broken = broken_promise(HEALTHY[name].make, app, faults)
        assert not broken, f"seed {seed}: {broken} after {faults} with {app}"


@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_protocol_carries_many_payloads(name: str) -> None:
    assert not broken_promise(HEALTHY[name].make, LONG, [Fault(0, 20, LOSE)])


@pytest.mark.parametrize(
    "name", [name for name in HEALTHY if HEALTHY[name].channel == "dup"]
)
def test_few_bits_for_the_numbers_do_not_survive_a_late_copy(name: str) -> None:
    singles = single_faults("late")
    pairs = (pair for count in (1, 2) for pair in schedules(singles, count))
    assert any(broken_promise(HEALTHY[name].make, SMALL[5], pair) for pair in pairs)


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
    assert [event.seq for event in run.trace if event.what == "retransmit"] == [0]


def test_a_delayed_ack_saves_half_the_acks() -> None:
    run = simulate(*HEALTHY["delayed_ack"].make(), FIVE[:4])
    acks = [event for event in run.trace if event[1:3] == ("receiver", "send")]
    assert [event.seq for event in acks] == [1, 3]


def test_both_sides_of_a_duplex_get_what_the_other_one_sends() -> None:
    ours, theirs = HEALTHY["duplex"].make()
    machine: Any = ours
    lost = ScriptedLink(lose={2}, lose_back={1}, delay=DELAY)
    assert simulate(ours, theirs, FIVE, lost).delivered == list(FIVE)
    assert list(iter(machine.next_payload, None)) == [b"yes", b"", b"no"]


# The labels beside the exhibits


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_an_exhibit_tells_its_mistake_in_a_sentence(exhibit: Exhibit) -> None:
    assert exhibit.mistake.endswith((".", ").")), exhibit.mistake
    assert 40 < len(exhibit.mistake) < 250
    assert len(exhibit.title) < 60
    assert exhibit.channel in KINDS


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_a_mistake_is_a_small_difference(exhibit: Exhibit) -> None:
    lines = exhibit.diff().splitlines()
    new = [line for line in lines if line[0] == "+" and line[:3] != "+++"]
    old = [line for line in lines if line[0] == "-" and line[:3] != "---"]
    assert len(new) < 15, exhibit.diff()
    assert len(old) < 15, exhibit.diff()


def test_a_difference_can_be_shown_as_a_slide() -> None:
    assert "-    self.deadline = None" in EXHIBITS["deadline_in_the_past"].diff()
    assert not EXHIBITS["no_numbers"].diff()


@pytest.mark.parametrize("exhibit", HEALTHY.values(), ids=HEALTHY)
def test_a_correct_protocol_has_a_page_and_no_mistake(exhibit: Exhibit) -> None:
    assert not exhibit.mistake
    assert not exhibit.diff()
    assert exhibit.channel in ("dup", "late")


@pytest.mark.parametrize("name", HEALTHY)
def test_the_pages_of_a_correct_protocol_can_be_shown(name: str) -> None:
    sender, receiver = HEALTHY[name].make()
    shown = show(HEALTHY[name]).data
    assert f"{type(sender).__name__}" in shown
    assert f"{type(receiver).__name__}" in shown


def test_an_exhibit_can_be_sent_to_another_process() -> None:
    assert not {*EXHIBITS} & {*HEALTHY}
    for exhibit in (*EXHIBITS.values(), *HEALTHY.values()):
        make = pickle.loads(pickle.dumps(exhibit.sender))
        assert type(make()) is type(exhibit.sender())


def test_a_museum_is_large_enough_to_get_lost_in() -> None:
    assert len(EXHIBITS) >= 26
    assert len(HEALTHY) >= 9


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


def test_the_checker_sees_two_processes_differ_in_the_order_of_a_set(
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
