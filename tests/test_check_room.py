"""check_room: every mistake is found with few peers, and no correct node is accused."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from p2plab.checker import VerdictKind
from p2plab.room.check import (
    TASKS,
    Search,
    by_chance,
    check_room,
    connected,
    every_room,
)
from p2plab.room.gossip import AntiEntropy, InfectAndDie, Rounds
from p2plab.room.museum import EXHIBITS
from p2plab.room.node import Message
from p2plab.room.ring import Ring
from p2plab.room.search import Flood, Walk
from p2plab.room.swarm import Swarm
from p2plab.room.xor import Xor

CORRECT: Final = (Rounds, InfectAndDie, AntiEntropy, Swarm, Flood, Walk, Ring, Xor)

# promise, peers and faults of the smallest room
PAR: Final[dict[str, tuple[str, int, int]]] = {
    "told_once": ("everybody", 2, 1),
    "sent_is_taken_for_heard": ("everybody", 2, 1),
    "answers_answers": ("ends", 2, 0),
    "writes_to_the_dead": ("known", 2, 1),
    "no_hash": ("true", 2, 1),
    "liar_asked_again": ("ends", 2, 1),
    "have_said_once": ("everybody", 2, 1),
    "never_asks_again": ("ends", 2, 1),
    "too_polite": ("ends", 2, 0),
    "asks_everybody": ("once", 3, 1),
    "tells_the_dead": ("known", 2, 1),
    "keeps_it_to_itself": ("everybody", 3, 0),
    "forgets_who_asked": ("answered", 2, 0),
    "answers_strangers": ("known", 3, 0),
    "passes_on_again": ("ends", 4, 0),
    "asks_once": ("answered", 2, 1),
    "predecessor_answers": ("right", 2, 0),
    "no_way_around": ("right", 2, 0),
    "flies_past": ("hops", 5, 0),
    "difference_for_xor": ("right", 2, 0),
    "first_who_is_nearer": ("right", 3, 0),
}


@pytest.mark.parametrize("name", EXHIBITS)
def test_a_mistake_is_found_in_the_smallest_room(name: str) -> None:
    verdict = check_room(EXHIBITS[name].node)
    assert verdict.trial is not None, verdict
    found = verdict.promise, len(verdict.trial.names), len(verdict.trial.faults)
    assert found == PAR[name]
    assert verdict.seconds < 2.2
    assert verdict.sentence == check_room(EXHIBITS[name].node).sentence


@pytest.mark.parametrize("node", CORRECT, ids=lambda node: node.__name__)
def test_a_correct_node_is_never_accused(node: Any) -> None:
    search = Search(node, TASKS[node.task], 60.0)
    found = [search.look(by_chance(search.task, 1, number))[1] for number in range(200)]
    assert found == [None] * 200


def test_a_correct_node_survives_every_small_room() -> None:
    verdict = check_room(AntiEntropy)
    assert verdict.kind == VerdictKind.SURVIVED, verdict
    assert verdict.rooms > 500


def test_there_are_43_connected_graphs_of_two_to_four_peers() -> None:
    graphs = {(trial.names, trial.pairs) for trial in every_room()}
    assert len(graphs) == 43
    assert all(connected(*graph) for graph in graphs)


class Prints(AntiEntropy):
    def on_timeout(self, now: float) -> None:
        print("here")
        super().on_timeout(now)


class Hangs(AntiEntropy):
    def on_timeout(self, now: float) -> None:
        while True:
            pass


class Forgetful(AntiEntropy):
    luck = Random(1)

    def on_timeout(self, now: float) -> None:
        super().on_timeout(now)
        if self.deadline is not None:
            self.deadline += self.luck.random()


class Liar(AntiEntropy):
    def on_message(self, who: str, message: Message, now: float) -> None:
        super().on_message(who, message, now)
        self.have.add("something else")


@pytest.mark.parametrize(
    ("node", "promise"),
    [(Prints, "quiet"), (Hangs, "end"), (Forgetful, "same"), (Liar, "true")],
)
def test_what_a_node_may_not_do_is_found(node: Any, promise: str) -> None:
    verdict = check_room(node)
    assert verdict.promise == promise
    assert verdict.to_json()["promise"] == promise


def test_an_error_names_the_line_of_the_node() -> None:
    class Careless(AntiEntropy):
        def on_message(self, who: str, message: Message, now: float) -> None:
            raise KeyError(who)

    verdict = check_room(Careless)
    assert verdict.kind == VerdictKind.BREACH
    line = Careless.on_message.__code__.co_firstlineno + 1
    assert f"line {line} of test_check_room.py" in verdict.sentence


def test_a_node_that_does_not_show_what_it_found_is_told_so() -> None:
    with pytest.raises(TypeError, match="AntiEntropy has no `answers`"):
        check_room(lambda me, chance, *_: AntiEntropy(me, chance), "search")


def test_an_unknown_task_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"gossip.*swarm.*ring.*'chess'"):
        check_room(Swarm, "chess")
