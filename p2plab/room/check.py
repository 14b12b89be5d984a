"""The checker of rooms: the fewest peers and faults that break a node, in a sentence.

First every connected graph of 2 to 4 peers with at most one fault (a message lost,
doubled or late; a death; a liar), then larger rooms by chance, made smaller again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from html import escape
from itertools import chain, combinations, count
from math import log2
from random import Random
from time import perf_counter
from typing import Any, Final, NamedTuple

from p2plab.checker.inspection import OutputGuard, watchdog
from p2plab.checker.run import VerdictKind
from p2plab.core.link import DUPLICATE, LOSS
from p2plab.core.validation import count_of, on_one_line
from p2plab.room import ring, xor
from p2plab.room.graphs import mutual, names_of
from p2plab.room.node import Make
from p2plab.room.swarm import torrent
from p2plab.room.virtual import (
    DIE,
    LATE,
    LIE,
    Broken,
    Fault,
    Promise,
    RoomRun,
    simulate_room,
)
from p2plab.sim.watchdog import Stuck

Pair = tuple[str, str]

FIRST: Final = 12  # messages that a fault may meet
DEATHS: Final = 6  # of them, at which somebody may die
LONGEST: Final = 300.0  # seconds that a room of few peers may take
MOST: Final = 8_000  # messages, likewise
PIECE: Final = 1_000  # bytes of a piece
BUDGET: Final = 2.0  # seconds
SINGLES_SHARE: Final = 0.6  # of the budget, for single faults at most;
SEARCH_SHARE: Final = 0.8  # with chance, so much; the rest is for making it smaller
TWICE_EVERY: Final = 16  # one run in so many is done twice


class Together(StrEnum):
    """A promise of all nodes together."""

    ENDS = "ends"
    SAME = "same"  # same inputs, same outputs
    EVERYBODY = "everybody"  # who is connected has it
    TRUE = "true"  # nobody has what nobody gave
    ONCE = "once"  # a piece comes once, and once more for each fault
    ANSWERED = "answered"
    RIGHT = "right"  # the answer is the one that an all-seeing eye gives
    QUIET = "quiet"  # a node prints nothing, and starts no thread
    HOPS = "hops"  # at most log2 N + 1, while nothing goes wrong


_WORDS: Final = {
    Together.ENDS: "it does not end: after {time:.0f} s {who} still writes {thing}",
    Together.SAME: "the same room runs differently the second time: "
    "take chance only from `chance`, and never the order of a set",
    Together.EVERYBODY: "in the end {who} lacks {thing}, and {other}, to whom it is "
    "connected, has it",
    Together.TRUE: "{who} keeps {thing} with content that nobody gave",
    Together.ONCE: "{who} is sent {thing} {other} times",
    Together.ANSWERED: "{who} never learns where {thing} is; it is at {other}",
    Together.RIGHT: "{who} learns that {thing} is at {found}; it is at {other}",
    Together.QUIET: "a node only answers, but this one {thing}",
    Together.HOPS: "{who} needs {found} hops to find {thing}; {other} are enough",
}


class Finding(NamedTuple):
    """What is wrong with a run: whose promise, about what thing, and the right value.

    broken: what the driver saw, if it was a promise of one node to its driver.
    """

    promise: Together | Promise
    who: str = ""
    thing: str = ""
    other: str = ""
    found: str = ""
    time: float = 0.0
    broken: Broken | None = None

    def __str__(self) -> str:
        if self.broken is not None:
            return str(self.broken)
        return _WORDS[Together(self.promise)].format(**self._asdict())


class Trial(NamedTuple):
    """One room: who knows whom, how many pieces (rumours, keys), what goes wrong."""

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    size: int = 1
    faults: tuple[Fault, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What a kind of node is made for.

    make: builds the room's nodes from a class. judge: finds what is wrong with a run
    in which every node kept its contract, from what it `reads` of them.
    thing: the word for what is counted. rooms: the smallest ones, in order.
    liars: whether a body can be wrong.
    """

    make: Callable[[Any, Trial], Make]
    judge: Callable[[Trial, RoomRun], Finding | None]
    thing: str
    rooms: Callable[[], Iterator[Trial]]
    reads: str = "have"
    liars: bool = False


# Rooms


def connected(names: Sequence[str], pairs: Sequence[Pair]) -> bool:
    """Whether everybody can be reached from everybody."""
    return len(_part(names[0], names, pairs)) == len(names)


def _part(first: str, names: Sequence[str], pairs: Sequence[Pair]) -> set[str]:
    """Return who is connected to somebody through the others."""
    part, todo = {first}, [first]
    while todo:
        here = todo.pop()
        for pair in pairs:
            if here in pair:
                there = pair[pair[0] == here]
                if there in names and there not in part:
                    part.add(there)
                    todo.append(there)
    return part


def every_room() -> Iterator[Trial]:
    """Yield every connected graph of 2 to 4 peers, with one thing or two."""
    for peers in (2, 3, 4):
        names = tuple(names_of(peers))
        every = list(combinations(names, 2))
        for edges in range(peers - 1, len(every) + 1):
            for pairs in combinations(every, edges):
                if connected(names, pairs):
                    for size in (1, 2) if peers < 4 else (2,):
                        yield Trial(names, pairs, size)


def every_ring() -> Iterator[Trial]:
    """Yield some ways in which 2 to 4 names can lie on a ring, all acquainted."""
    for peers in (2, 3, 4):
        for start in range(0, 40, 5):
            names = tuple(f"p{start + place}" for place in range(peers))
            yield Trial(names, tuple(combinations(names, 2)), 2)


def with_a_fault(trial: Trial, run: RoomRun, liars: bool) -> Iterator[Trial]:
    """Yield a room once more with each single fault."""
    sent = len(run.messages)
    faults = chain(
        (Fault(kind, at) for kind in (LOSS, DUPLICATE, LATE) for at in range(FIRST)),
        (Fault(DIE, at, who) for at in range(DEATHS) for who in trial.names),
        (Fault(LIE, 0, who) for who in trial.names if liars),
    )
    for fault in faults:
        if fault.number < sent:
            yield trial._replace(faults=(fault,))


def by_chance(task: Task, seed: int, number: int) -> Trial:
    """Return a larger room with up to three faults: for a seed always the same."""
    chance = Random(f"{seed} {number}")
    names = tuple(names_of(chance.randint(3, 7)))
    pairs = {
        (chance.choice(names[:here]), names[here]) for here in range(1, len(names))
    }
    every = combinations(names, 2)
    pairs |= {
        pair for pair in every if task.rooms is every_ring or chance.random() < 0.2
    }
    kinds = [LOSS, LOSS, DUPLICATE, LATE, DIE] + [LIE] * task.liars
    faults = {}
    for _ in range(chance.randint(0, 3)):
        fault = Fault(chance.choice(kinds), chance.randrange(40), chance.choice(names))
        if fault.kind not in (DIE, LIE):
            fault = fault._replace(who="")
        faults[fault.kind if fault.kind in (DIE, LIE) else fault.number] = fault
    size = chance.randint(1, 5)
    return Trial(names, tuple(sorted(pairs)), size, tuple(faults.values()), number)


def smaller(trial: Trial, strangers: bool) -> Iterator[Trial]:
    """Yield rooms with less in them, those that save most first.

    strangers: whether not everybody must know everybody.
    """
    for fault in trial.faults:
        yield trial._replace(faults=tuple(f for f in trial.faults if f != fault))
    for gone in reversed(trial.names):
        names = tuple(name for name in trial.names if name != gone)
        pairs = tuple(pair for pair in trial.pairs if gone not in pair)
        used = {fault.who for fault in trial.faults}
        if len(names) > 1 and gone not in used and connected(names, pairs):
            yield trial._replace(names=names, pairs=pairs)
    for gone_pair in trial.pairs if strangers else ():
        pairs = tuple(pair for pair in trial.pairs if pair != gone_pair)
        if connected(trial.names, pairs):
            yield trial._replace(pairs=pairs)
    if trial.size > 1:
        yield trial._replace(size=trial.size - 1)
    for place, fault in enumerate(trial.faults):
        for number in range(min(fault.number, 4)):
            faults = list(trial.faults)
            faults[place] = fault._replace(number=number)
            yield trial._replace(faults=tuple(faults))


# What each kind of node is made for


def _rumours(trial: Trial) -> dict[str, list[str]]:
    """Say who begins with which rumours: first the first peer, then the last one."""
    begin: dict[str, list[str]] = {name: [] for name in trial.names}
    for number in range(trial.size):
        begin[trial.names[-(number % 2)]].append(f"r{number}")
    return begin


def _gossip(node: Any, trial: Trial) -> Make:
    begin = _rumours(trial)
    return lambda me, chance: node(me, chance, begin[me])


def _pieces(trial: Trial) -> list[bytes]:
    return [bytes([number + 1]) * PIECE for number in range(trial.size)]


def _swarm(node: Any, trial: Trial) -> Make:
    pieces = _pieces(trial)
    hashes = torrent(pieces)
    first = trial.names[0]  # it has all of them
    every = dict(enumerate(pieces))
    return lambda me, chance: node(me, chance, hashes, every if me == first else {})


def _search(node: Any, trial: Trial) -> Make:
    first, last, items = trial.names[0], trial.names[-1], _items(trial)
    return lambda me, chance: node(
        me, chance, items if me == first else [], items if me == last else []
    )


def _items(trial: Trial) -> list[str]:
    return [f"item {number}" for number in range(trial.size)]


def _keys(node: Any, trial: Trial) -> Make:
    return lambda me, chance: node(me, chance, _items(trial))


def _alive(trial: Trial, run: RoomRun) -> list[str]:
    """Return who is there in the end, liars apart."""
    liars = {fault.who for fault in trial.faults if fault.kind == LIE}
    return [name for name in trial.names if name in run.here and name not in liars]


def _everybody(trial: Trial, run: RoomRun, word: str) -> Finding | None:
    alive = _alive(trial, run)
    for who in alive:
        mine = run.nodes[who].have
        for other in sorted(_part(who, alive, trial.pairs)):
            for thing in sorted(run.nodes[other].have):
                if thing not in mine:
                    return Finding(Together.EVERYBODY, who, f"{word} {thing}", other)
    return None


def _judge_rumour(trial: Trial, run: RoomRun) -> Finding | None:
    real = {f"r{number}" for number in range(trial.size)}
    for who, node in run.nodes.items():
        for thing in sorted(set(node.have) - real):
            return Finding(Together.TRUE, who, f"rumour {thing}")
    return None


def _judge_gossip(trial: Trial, run: RoomRun) -> Finding | None:
    return _judge_rumour(trial, run) or _everybody(trial, run, "rumour")


def _judge_swarm(trial: Trial, run: RoomRun) -> Finding | None:
    pieces = _pieces(trial)
    for who, node in run.nodes.items():
        for piece in sorted(node.have):
            wrong = piece not in range(trial.size)
            if wrong or (
                isinstance(node.have, Mapping) and node.have[piece] != pieces[piece]
            ):
                return Finding(Together.TRUE, who, f"piece {piece}")
    if finding := _everybody(trial, run, "piece"):
        return finding
    came = Counter(
        (each.to, each.what)
        for each in run.messages
        if each.size >= PIECE and each.fate != DUPLICATE
    )
    for (to, what), times in came.items():
        if times > 1 + len(trial.faults):
            return Finding(Together.ONCE, to, f"piece {what}", str(times))
    return None


def _answer(run: RoomRun, who: str, item: str) -> tuple[str, int]:
    """Return whom a node found, empty if nobody, and after how many hops."""
    found = run.nodes[who].answers.get(item, ("", 0))
    return (found, 0) if isinstance(found, str) else found


def _judge_search(trial: Trial, run: RoomRun) -> Finding | None:
    who, holder = trial.names[0], trial.names[-1]
    alive = _alive(trial, run)
    for item in _items(trial):
        found, _ = _answer(run, who, item)
        if found and found != holder:
            return Finding(Together.RIGHT, who, item, holder, found)
        near = who in alive and holder in _part(who, alive, trial.pairs)
        if near and not found:
            return Finding(Together.ANSWERED, who, item, holder)
    return None


def _judge_keys(owner: Callable[[str, Sequence[str]], str]) -> Any:
    def judge(trial: Trial, run: RoomRun) -> Finding | None:
        alive = _alive(trial, run)
        enough = int(log2(len(trial.names))) + 1
        for who in alive:
            for item in _items(trial):
                right = owner(item, alive)
                found, hops = _answer(run, who, item)
                if not found:
                    return Finding(Together.ANSWERED, who, item, right)
                if found not in (right, owner(item, trial.names)):
                    return Finding(Together.RIGHT, who, item, right, found)
                if hops > enough and not trial.faults:
                    return Finding(Together.HOPS, who, item, str(enough), str(hops))
        return None

    return judge


TASKS: Final = {
    "gossip": Task(_gossip, _judge_gossip, "rumour", every_room),
    "rumour": Task(_gossip, _judge_rumour, "rumour", every_room),
    "swarm": Task(_swarm, _judge_swarm, "piece", every_room, liars=True),
    "search": Task(_search, _judge_search, "item", every_room, "answers"),
    "ring": Task(_keys, _judge_keys(ring.owner), "key", every_ring, "answers"),
    "xor": Task(_keys, _judge_keys(xor.owner), "key", every_ring, "answers"),
}


# The check


@dataclass(frozen=True, slots=True)
class RoomVerdict:
    """What came of a check of a node.

    kind: survived, broken (a promise of all together), or breach (of one node's own).
    finding, trial, run: what was wrong, and the smallest room in which it was.
    rooms: how many were tried, in so many seconds.
    """

    kind: VerdictKind
    task: str
    finding: Finding | None = None
    trial: Trial | None = None
    run: RoomRun | None = None
    rooms: int = 0
    seconds: float = 0.0

    @property
    def promise(self) -> str | None:
        """The promise that was broken, in a word."""
        return self.finding and self.finding.promise

    @property
    def sentence(self) -> str:
        """Who knows whom, what went wrong, and which promise that broke."""
        if self.finding and self.trial is None:
            return on_one_line(f"In some room {self.finding}.")
        if self.finding is None or self.trial is None:
            return f"No promise was broken in {count_of(self.rooms, 'room')}."
        trial, thing = self.trial, TASKS[self.task].thing
        who = ", ".join("–".join(pair) for pair in trial.pairs)
        said = f"{len(trial.names)} peers ({who}), {count_of(trial.size, thing)}"
        faults = " and ".join(self._fault(fault) for fault in trial.faults)
        said = f"{said}; {faults or 'nothing goes wrong'}: {self.finding}."
        return on_one_line(said)

    def _fault(self, fault: Fault) -> str:
        which = f"message {fault.number + 1}"
        if self.run and fault.number < len(self.run.messages):
            sent = self.run.messages[fault.number]
            which += f" ({sent.sender} to {sent.to}, {sent.kind} {sent.what})"
        return {
            LOSS: f"{which} is lost",
            DUPLICATE: f"{which} comes twice",
            LATE: f"{which} comes late",
            DIE: f"{fault.who} dies as {which} is sent",
            LIE: f"{fault.who} sends wrong bytes",
        }[fault.kind]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict for programs."""
        trial = self.trial
        return {
            "verdict": self.kind,
            "task": self.task,
            "promise": self.promise,
            "sentence": self.sentence,
            "pairs": trial and trial.pairs,
            "size": trial and trial.size,
            "faults": trial and trial.faults,
            "rooms": self.rooms,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"

    def _repr_html_(self) -> str:
        return f"<p><b>{self.kind}</b> {escape(self.sentence)}</p>"


class _Found(Exception):
    """A room that breaks a promise; ends the search."""


def check_room(
    node: Any, task: str | None = None, budget: float = BUDGET, seed: int = 0
) -> RoomVerdict:
    """Look for the smallest room that breaks a promise of a node.

    node: a class, made with the arguments of the page of its task.
    task: gossip (everybody hears it), rumour (as many as chance wants), swarm, search,
        ring or xor; None: what the class says as `task`.
    budget: after which it has survived [s]; seed: of the rooms by chance.
    Raises ValueError for another task.
    """
    task = task or getattr(node, "task", None)
    if task not in TASKS:
        raise ValueError(f"task is one of {', '.join(TASKS)}, got {task!r}")
    search = Search(node, TASKS[task], budget)
    with search.guard, search.watchdog:
        try:
            search.hunt(seed)
        except _Found:
            search.shrink()
    if search.finding is None and search.guard.noticed:
        search.finding = Finding(Together.QUIET, thing=search.guard.noticed)
    verdict = RoomVerdict(VerdictKind.SURVIVED, task)
    if search.finding is not None:
        alone = isinstance(search.finding.promise, Promise)
        kind = VerdictKind.BREACH if alone else VerdictKind.BROKEN
        verdict = RoomVerdict(kind, task, search.finding, search.trial, search.run)
    seconds = perf_counter() - search.begun
    return replace(verdict, rooms=search.rooms, seconds=seconds)


class Search:
    """Tries rooms one after the other, and keeps the one that failed."""

    def __init__(self, node: Any, task: Task, budget: float) -> None:
        self.node, self.task, self.budget = node, task, budget
        self.begun = perf_counter()
        self.rooms = 0
        self.finding: Finding | None = None
        self.trial: Trial | None = None
        self.run: RoomRun | None = None
        self.watchdog, self.guard = watchdog(), OutputGuard()

    def over(self, share: float) -> bool:
        return perf_counter() - self.begun > share * self.budget

    def play(self, trial: Trial) -> RoomRun:
        """Run a room; its graph is of pairs that know each other."""
        knows = mutual(trial.names, trial.pairs)
        return simulate_room(
            self.task.make(self.node, trial), trial.names, knows, delay=0.05,
            faults=trial.faults, seed=trial.seed, until=LONGEST, most=MOST,
        )  # fmt: skip

    def look(self, trial: Trial) -> tuple[RoomRun | None, Finding | None]:
        """Run a room and say what is wrong with it."""
        try:
            run = self.watchdog.call(self.play, trial)
        except Stuck as why:
            broken = Broken(0.0, "a node", Promise.END, str(why), str(why.line))
            return None, Finding(Promise.END, broken=broken)
        if not run.ended:
            last = run.messages[-1] if run.messages else None
            who, thing = (last.sender, last.kind) if last else ("a timer", "nothing")
            return run, Finding(Together.ENDS, who, thing, time=run.time)
        if run.broken:
            return run, Finding(run.broken[0].promise, broken=run.broken[0])
        for node in run.nodes.values():
            if not hasattr(node, self.task.reads):
                name = type(node).__name__
                raise TypeError(
                    f"{name} has no `{self.task.reads}`, which is looked at"
                )
        return run, self.task.judge(trial, run)

    def judge(self, trial: Trial) -> RoomRun | None:
        """Look at a room; raise _Found if it breaks a promise."""
        run, finding = self.look(trial)
        self.rooms += 1
        if finding is None and run and self.rooms % TWICE_EVERY == 1:
            again, _ = self.look(trial)
            if again is None or again.digest() != run.digest():
                finding = Finding(Together.SAME)
        if finding is not None:
            self.finding, self.trial, self.run = finding, trial, run
            raise _Found
        return run

    def hunt(self, seed: int) -> None:
        """Try rooms until one fails or the time is over."""
        rooms = list(self.task.rooms())
        runs = [self.judge(trial) for trial in rooms]
        for trial, run in zip(rooms, runs, strict=True):
            for harmed in with_a_fault(trial, run, self.task.liars) if run else ():
                self.judge(harmed)
                if self.over(SINGLES_SHARE):
                    break
        for number in count():
            self.judge(by_chance(self.task, seed, number))
            if self.over(SEARCH_SHARE):
                return

    def shrink(self) -> None:
        """Make the failing room smaller while it breaks the same promise."""
        again = True
        while again and self.trial and self.finding:
            again = False
            for trial in smaller(self.trial, self.task.rooms is every_room):
                if self.over(1.0):
                    return
                run, finding = self.look(trial)
                if finding and finding.promise == self.finding.promise:
                    self.finding, self.trial, self.run = finding, trial, run
                    again = True
                    break
