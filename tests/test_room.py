"""A room in virtual time: what travels when, who is told what, and what is refused."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

import p2plab
from p2plab.room.gossip import AntiEntropy
from p2plab.room.graphs import complete, names_of, regular, some, thrown
from p2plab.room.node import LARGEST, Message
from p2plab.room.virtual import Change, Fault, Promise, RoomRun

room = p2plab.simulate_room


class Writer:
    """Says what it is given to say, and notes what it is told."""

    def __init__(self, *says: Any) -> None:
        self.says = list(says)
        self.told: list[Any] = []
        self.deadline: float | None = None

    def on_peer(self, who: str, here: bool, now: float) -> None:
        self.told.append((who, here, round(now, 6)))

    def on_message(self, who: str, message: Message, now: float) -> None:
        self.told.append((who, message.kind, round(now, 6)))

    def on_timeout(self, now: float) -> None:
        self.deadline = None

    def next_message(self, now: float) -> Any:
        return self.says.pop(0) if self.says else None


def played(*says: Any, peers: int = 3, **how: Any) -> RoomRun:
    """Let p0 say something to the others."""
    return room(lambda me, _: Writer(*says if me == "p0" else ()), peers, **how)


def gossip(seed: int = 0, **how: Any) -> RoomRun:
    knows = some(names_of(20), 3)

    def make(me: str, chance: Random) -> AntiEntropy:
        return AntiEntropy(me, chance, ["r"] if me == "p0" else [])

    return room(make, 20, knows, seed=seed, delay=(0.01, 0.1), **how)


def test_one_seed_gives_one_run_on_every_system() -> None:
    expected = "2378bf5b904818b0ca1f668a245e274fc3fcaed4deae7c21c29b9632390d637c"
    assert gossip(1, loss=0.2).digest() == expected
    assert gossip(2, loss=0.2).digest() != expected


def test_an_uplink_sends_one_message_after_the_other() -> None:
    said = [("p1", Message("a", 0, bytes(1_000))), ("p2", Message("b"))]
    run = played(*said, up=1e6, delay=0.5)
    first, second = run.messages
    assert first.left == pytest.approx(8 * first.size / 1e6)
    assert second.sent == first.left
    assert second.ended == pytest.approx(second.left + 0.5)
    assert run.ended


def test_a_fault_loses_doubles_or_delays_one_message() -> None:
    def heard(fault: str) -> list[tuple[str, float]]:
        said = [("p1", Message("a")), ("p1", Message("b"))]
        run = played(*said, up=None, delay=0.5, faults=[Fault(fault, 0)])
        return [
            tuple(each[1:]) for each in run.nodes["p1"].told if each[1] in ("a", "b")
        ]

    assert heard("loss") == [("b", 0.5)]
    assert heard("duplicate") == [("a", 0.5), ("a", 0.5), ("b", 0.5)]
    assert heard("late") == [("b", 0.5), ("a", 3.0)]


def test_as_many_are_lost_as_was_asked_for() -> None:
    said = [("p1", Message("a"))] * 2_000
    run = played(*said, loss=0.3)
    lost = sum(each.fate == "loss" for each in run.messages)
    assert lost / 2_000 == pytest.approx(0.3, abs=0.04)


def test_who_leaves_says_so_and_a_death_is_noticed_later() -> None:
    churn = [Change(1.0, "p1", "leave"), Change(1.0, "p2", "die")]
    told = played(churn=churn).nodes["p0"].told
    assert told[-2:] == [("p1", False, 1.0), ("p2", False, 4.0)]


def test_who_arrives_later_is_introduced_then() -> None:
    run = played(churn=[Change(2.0, "p2", "arrive")])
    assert run.nodes["p0"].told == [("p1", True, 0.0), ("p2", True, 2.0)]
    assert run.nodes["p2"].told == [("p0", True, 2.0), ("p1", True, 2.0)]


def test_nothing_comes_from_somebody_who_is_known_to_be_gone() -> None:
    late, leave = Fault("late", 0), Change(1.0, "p0", "leave")
    run = played(("p1", Message("a")), faults=[late], churn=[leave])
    assert run.messages[0].fate == "gone"
    assert ("p0", "a", 2.52) not in run.nodes["p1"].told


@pytest.mark.parametrize(
    ("says", "promise"),
    [
        (("nobody", Message("a")), Promise.KNOWN),
        (("p0", Message("a")), Promise.KNOWN),
        (("p1", Message("a", 0, bytes(LARGEST))), Promise.SIZE),
        (Message("a"), Promise.MESSAGE),
        (("p1", "a"), Promise.MESSAGE),
        (("p1", Message("a", {1, 2})), Promise.NO_EXCEPTION),
    ],
)
def test_a_broken_promise_is_told_and_the_others_go_on(
    says: Any, promise: Promise
) -> None:
    run = played(says, ("p1", Message("never said")))
    [broken] = run.broken
    assert (broken.who, broken.promise) == ("p0", promise)
    assert run.nodes["p1"].told[-1] == ("p0", False, 3.0)


def test_an_error_names_the_line_of_the_node() -> None:
    class Careless(Writer):
        def on_peer(self, who: str, here: bool, now: float) -> None:
            raise KeyError(who)

    [broken, *_] = room(lambda *_: Careless(), 2).broken
    line = Careless.on_peer.__code__.co_firstlineno + 1
    assert broken.line == f"line {line} of test_room.py"


def test_endless_messages_and_timeouts_end() -> None:
    class Endless(Writer):
        def next_message(self, now: float) -> Any:
            return "p1", Message("a")

    class Impatient(Writer):
        def on_peer(self, who: str, here: bool, now: float) -> None:
            self.deadline = 1.0

        def on_timeout(self, now: float) -> None:
            pass

    def make(me: str, _: Random) -> Any:
        return Endless() if me == "p0" else Impatient()

    promises = {each.promise for each in room(make, 2, up=None).broken}
    assert promises == {Promise.END, Promise.TIMER}


def test_who_talks_without_end_is_named() -> None:
    class Talker(Writer):
        def next_message(self, now: float) -> Any:
            return "p1", Message("a")

    run = room(lambda me, _: Talker() if me == "p0" else Writer(), 2, most=1_000)
    assert [(each.who, each.promise) for each in run.broken] == [("p0", Promise.END)]
    assert not run.ended


def test_a_node_that_wants_to_leave_leaves() -> None:
    class Leaver(Writer):
        have = (1,)
        leaves = True

    run = room(lambda me, _: Leaver() if me == "p1" else Writer(), 2)
    assert run.here == {"p0"}
    assert ("p1", False, 0.0) in run.nodes["p0"].told


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"peers": ["a", "b", "a"]}, "'a' is there twice"),
        ({"knows": {"p0": ["p9"]}}, "'p9'"),
        ({"churn": [Change(0.0, "x", "die")]}, "'x'"),
        ({"churn": [Change(0.0, "p1", "explode")]}, "arrive, leave, die"),
        ({"churn": [Change(1.0, "p1", "die"), Change(2.0, "p1", "arrive")]}, "back"),
        ({"faults": [Fault("lost", 0)]}, "loss, duplicate"),
        ({"loss": 1.0}, "loss"),
        ({"up": 0}, "up"),
        ({"delay": -1}, "delay"),
    ],
)
def test_an_impossible_room_is_refused_in_words(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        played(**how)


def test_graphs_have_the_degrees_that_they_say() -> None:
    names = names_of(50)
    assert {len(who) for who in complete(names).values()} == {49}
    assert {len({*who}) for who in regular(names, 4, 1).values()} == {4}
    assert min(len({*who}) for who in some(names, 4, 1).values()) >= 4
    degrees = [len({*who}) for who in thrown(names, 0.2, 1).values()]
    assert sum(degrees) / 50 == pytest.approx(0.2 * 49, rel=0.15)
    for knows in (regular(names, 4, 1), some(names, 4, 1), thrown(names, 0.2, 1)):
        assert all(me in knows[who] for me in names for who in knows[me])
    with pytest.raises(ValueError, match="left over"):
        regular(names_of(5), 3)


def test_a_node_without_a_member_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="object has no deadline"):
        room(lambda *_: cast(Any, object()), 2)
