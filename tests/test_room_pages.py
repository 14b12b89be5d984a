"""The pages of rooms: what they promise, and the closed forms where these hold."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from math import log
from random import Random
from statistics import fmean
from typing import Any

import pytest

from p2plab.measure import theory
from p2plab.room import ring, xor
from p2plab.room.check import connected
from p2plab.room.gossip import PERIOD, AntiEntropy, InfectAndDie, Rounds
from p2plab.room.graphs import names_of, regular, some, thrown
from p2plab.room.search import Flood, Walk
from p2plab.room.swarm import (
    Choose,
    Swarm,
    at_random,
    in_order,
    in_turn,
    nobody,
    rarest_first,
    tit_for_tat,
    torrent,
)
from p2plab.room.virtual import Change, Fault, RoomRun, simulate_room

UP = 1e6  # [bit/s]
PIECE = 1_100  # [bytes]


# A swarm


def swarm(
    peers: int,
    pieces: int,
    riders: int = 0,
    room: dict[str, Any] | None = None,
    **how: Any,
) -> tuple[RoomRun, float]:
    """Run a swarm of one seed and others; return also how long a piece takes [s]."""
    content = [bytes([number % 256]) * PIECE for number in range(pieces)]
    hashes, every = torrent(content), dict(enumerate(content))
    names = names_of(peers + 1)

    def make(me: str, chance: Random) -> Swarm:
        if me == "p0":
            return Swarm(me, chance, hashes, every)
        own = {**how, "serve": nobody} if me in names[1 : riders + 1] else how
        return Swarm(me, chance, hashes, {}, **own)

    settings: dict[str, Any] = {"up": UP, "delay": 0.001, **(room or {})}
    run = simulate_room(make, peers + 1, **settings)
    assert not run.broken
    slot = next(each.left - each.sent for each in run.messages if each.kind == "piece")
    return run, slot


def slots_taken(peers: int, pieces: int, riders: int = 0, **how: Any) -> float:
    run, slot = swarm(peers, pieces, riders, **how)
    finished = run.reached(pieces)
    assert len(finished) == peers + 1
    size = pieces * slot * UP / 8
    bound = theory.time_swarm(peers, size, UP, UP * (peers - riders))
    assert max(finished.values()) >= bound
    return max(finished.values()) / slot


@pytest.mark.parametrize("choose", [in_order, at_random, rarest_first])
@pytest.mark.parametrize("serve", [in_turn, tit_for_tat])
def test_everybody_gets_every_byte_over_a_lossy_network(
    choose: Choose, serve: Any
) -> None:
    lossy = {"loss": 0.1, "knows": some(names_of(11), 3), "delay": (0.01, 0.1)}
    run, _ = swarm(10, 16, room=lossy, choose=choose, serve=serve)
    assert run.ended
    assert all(node.have == run.nodes["p0"].have for node in run.nodes.values())


def test_who_all_ask_in_order_are_clients_of_one_server() -> None:
    slots = slots_taken(15, 32, choose=in_order)
    assert slots == pytest.approx(theory.time_client_server(15, 32, 8), rel=0.01)


def test_rarest_first_comes_near_to_the_fewest_slots() -> None:
    fewest = theory.slots_swarm(15, 32)
    assert fewest <= slots_taken(15, 32) <= 3.5 * fewest


def test_free_riders_cost_the_others_time() -> None:
    assert slots_taken(20, 32, riders=10) > 1.5 * slots_taken(20, 32)


@pytest.mark.parametrize("leaves", [False, True])
def test_tit_for_tat_bites_only_where_nobody_stays_who_is_done(leaves: bool) -> None:
    slow = {"up": UP / 4}
    how = {"serve": tit_for_tat, "leaves_when_complete": leaves}
    run, _ = swarm(30, 64, 8, slow, **how)
    times = run.reached(64)
    riders = fmean(times[name] for name in names_of(9)[1:])
    ratio = riders / fmean(times[name] for name in names_of(31)[9:])
    assert ratio > 1.4 if leaves else ratio < 1.2


def test_the_others_finish_although_the_seed_dies_once_all_pieces_are_out() -> None:
    run, _ = swarm(8, 16, room={"churn": [Change(0.6, "p0", "die")]})
    assert run.here == set(names_of(9)) - {"p0"}
    assert all(node.complete for node in run.nodes.values())


def test_a_liar_spoils_no_piece() -> None:
    run, _ = swarm(6, 8, room={"faults": [Fault("lie", 0, "p3")]})
    assert all(node.have == run.nodes["p0"].have for node in run.nodes.values())
    assert any("p3" in node.liars for node in run.nodes.values())


def test_drawing_at_random_collects_coupons() -> None:
    chance, draws = Random(1), 0
    for _ in range(300):
        missing = set(range(64))
        while missing:
            missing.discard(chance.randrange(64))
            draws += 1
    assert draws / 300 == pytest.approx(theory.draws_until_all(64), rel=0.03)


def test_pieces_survive_as_often_as_their_copies() -> None:
    chance, alive = Random(1), 0
    for _ in range(1_000):
        alive += all(any(chance.random() < 0.5 for _ in range(8)) for _ in range(64))
    assert alive / 1_000 == pytest.approx(theory.all_alive(64, 8, 0.5), abs=0.04)


# Gossip


def rounds(peers: int, push: bool, pull: bool) -> float:
    """Return the mean number of rounds until all know."""

    def last(seed: int) -> float:
        def make(me: str, chance: Random) -> Rounds:
            return Rounds(me, chance, ["r"] if me == "p0" else [], push, pull)

        most = 25 * PERIOD
        run = simulate_room(make, peers, up=None, delay=0.1, seed=seed, until=most)
        times = run.reached(1)
        assert len(times) == peers
        return max(times.values()) // PERIOD

    return fmean(last(seed) for seed in range(10))


@pytest.mark.parametrize("peers", [64, 150])
def test_pushing_ends_slowly_pulling_starts_slowly_and_both_do_neither(
    peers: int,
) -> None:
    push, pull = rounds(peers, True, False), rounds(peers, False, True)
    low, high = theory.rounds_push(peers)
    assert low <= push <= high
    assert pull == pytest.approx(theory.rounds_pull(peers) + 1, abs=0.6)
    both = rounds(peers, True, True)
    assert both == pytest.approx(theory.rounds_push_pull(peers), abs=0.6)
    assert both < pull < push


@pytest.mark.parametrize("fanout", [2, 3])
def test_a_rumour_that_dies_misses_more_than_the_first_guess(fanout: int) -> None:
    missed = []
    for seed in range(20):

        def make(me: str, chance: Random) -> InfectAndDie:
            return InfectAndDie(me, chance, ["r"] if me == "p0" else [], fanout)

        run = simulate_room(make, 250, up=None, seed=seed)
        if len(run.has) > 125:  # it took off
            missed.append(1 - len(run.has) / 250)
    assert fmean(missed) == pytest.approx(theory.share_missed(fanout), rel=0.1)


def test_anti_entropy_reaches_everybody_and_ends() -> None:
    def make(me: str, chance: Random) -> AntiEntropy:
        return AntiEntropy(me, chance, [f"from {me}"] if me in ("p0", "p9") else [])

    churn = [Change(1.5, "p3", "die"), Change(2.0, "p4", "leave")]
    churn.append(Change(9.0, "p5", "arrive"))
    names = names_of(30)
    run = simulate_room(make, 30, some(names, 4, 1), loss=0.3, churn=churn, seed=1)
    assert run.ended
    assert {len(run.nodes[who].have) for who in run.here} == {2}
    assert "p5" in run.here


# Finding


def looked_up(
    node: Any, knows: Any, names: Sequence[str], **room: Any
) -> tuple[list[tuple[str, str]], float]:
    """Let everybody ask for three keys; return the answers, and the mean of hops."""

    def make(me: str, chance: Random) -> Any:
        return node(me, chance, [f"{me} key {number}" for number in range(3)])

    run = simulate_room(make, names, knows, up=None, **room)
    assert not run.broken
    found = [item for who in run.here for item in run.nodes[who].answers.items()]
    answers = sorted((key, who) for key, (who, _) in found)
    return answers, fmean(hops for _, (_, hops) in found)


Owner = Callable[[str, Sequence[str]], str]


@pytest.mark.parametrize("peers", [64, 256])
@pytest.mark.parametrize(
    ("node", "knows", "owner"),
    [(ring.Ring, ring.fingers, ring.owner),
     (xor.Xor, lambda names: xor.buckets(names, 1), xor.owner)],
)  # fmt: skip
def test_hops_grow_with_the_logarithm_of_the_peers(
    node: Any, knows: Any, owner: Owner, peers: int
) -> None:
    means = []
    for start in (0, 1_000, 2_000, 3_000):
        names = [f"n{start + number}" for number in range(peers)]
        answers, hops = looked_up(node, knows(names), names)
        assert len(answers) == 3 * peers
        assert all(owner(key, names) == who for key, who in answers[::7])
        means.append(hops)
    assert fmean(means) == pytest.approx(theory.hops_halving(peers), abs=0.35)


@pytest.mark.parametrize(("copies", "more"), [(2, 0.04), (8, 0.15)])
def test_more_contacts_make_fewer_hops(copies: int, more: float) -> None:
    names = names_of(700)
    _, hops = looked_up(xor.Xor, xor.buckets(names, copies), names)
    wanted = theory.hops_kademlia(700, copies)
    assert wanted * 0.96 <= hops <= wanted * (1 + more)


def test_a_ring_finds_nearly_all_although_a_tenth_has_died() -> None:
    names = names_of(200)
    dead = set(Random(1).sample(names, 20))
    churn = [Change(0.05, who, "die") for who in names if who in dead]
    answers, _ = looked_up(ring.Ring, ring.fingers(names), names, churn=churn)
    alive = [name for name in names if name not in dead]
    right = [who in (ring.owner(key, alive), ring.owner(key, names))
             for key, who in answers]  # fmt: skip
    assert sum(right) >= 0.98 * 3 * len(alive)


def test_a_ring_shares_its_keys_unevenly() -> None:
    most, empty, runs = [], [], 60
    for number in range(runs):
        places = sorted(ring.place(f"{number} node {name}") for name in range(256))
        keys = [ring.place(f"{number} key {key}") for key in range(256)]
        held = Counter(bisect_left(places, key) % 256 for key in keys)
        empty.append(1 - len(held) / 256)
        ends = zip(places, [*places[1:], places[0]], strict=True)
        most.append(max(ring.distance(*arc) for arc in ends) / (1 << ring.BITS) * 256)
    assert fmean(empty) == pytest.approx(theory.nodes_without_key(256, 256), rel=0.02)
    assert fmean(most) == pytest.approx(theory.most_keys(256), rel=0.1)


def test_a_flood_reaches_as_many_as_a_tree_has() -> None:
    names = names_of(1_000)
    knows = regular(names, 4, seed=1)
    for hops in (1, 2, 3, 4):

        class Short(Flood):
            ttl = hops
            tries = 1

        def make(me: str, chance: Random, short: Any = Short) -> Any:
            return short(me, chance, ["x"] if me == "p0" else [])

        run = simulate_room(make, names, knows, up=None)
        reached = sum(bool(node.came) for node in run.nodes.values())
        assert reached == pytest.approx(theory.reached_flood(4, hops), rel=0.06)


@pytest.mark.parametrize("degree", [4, 8])
def test_a_walk_takes_as_many_steps_as_copies_are_rare(degree: int) -> None:
    steps = []
    for seed in range(4):
        names = names_of(1_000)
        holders = set(Random(seed).sample(names, 50))
        seekers = {name for name in names[:150] if name not in holders}

        def make(me: str, chance: Random, who: Any = (seekers, holders)) -> Walk:
            seeks, holds = (["x"] if me in each else [] for each in who)
            return Walk(me, chance, seeks, holds)

        knows = regular(names, degree, seed)
        run = simulate_room(make, names, knows, up=None, delay=0.0001, seed=seed)
        steps += [run.nodes[who].answers["x"][1] for who in sorted(seekers)]
    assert fmean(steps) == pytest.approx(theory.steps_walk(0.05, degree), rel=0.1)


# Churn


@pytest.mark.parametrize("more", [-1, 0, 1, 2])
def test_a_random_graph_is_connected_as_often_as_it_should(more: int) -> None:
    peers = 100
    mean = log(peers) + more
    names = names_of(peers)
    whole = 0
    for seed in range(100):
        knows = thrown(names, mean / peers, seed)
        pairs = [(me, who) for me in names for who in knows[me] if me < who]
        whole += connected(names, pairs)
    assert whole / 100 == pytest.approx(theory.all_reached(peers, mean), abs=0.12)


def test_few_are_cut_off_although_most_have_died() -> None:
    alone = living = 0
    for seed in range(12):
        names = names_of(600)
        knows = some(names, 4, seed)
        dead = set(Random(seed).sample(names, 420))
        alive = [name for name in names if name not in dead]
        living += len(alive)
        alone += sum(dead.issuperset(knows[name]) for name in alive)
    assert alone / living == pytest.approx(theory.share_cut_off(4, 0.7), rel=0.15)
