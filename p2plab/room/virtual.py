"""A room in virtual time: nodes, uplinks, losses, arrivals and departures."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from p2plab.core.link import ARRIVE, DUPLICATE, LOSS
from p2plab.core.validation import number
from p2plab.room.graphs import Acquaintances, complete, names_of
from p2plab.room.node import LARGEST, Make, Message, size_of

# What can become of a message, beside the words of `link`
GONE: Final = "gone"  # the receiver has left or died, or the sender is known to have
LATE: Final = "late"
# What a change in the room can be
COME: Final = "arrive"
LEAVE: Final = "leave"  # says good-bye: acquaintances hear of it at once
DIE: Final = "die"  # they notice only after NOTICE seconds
LIE: Final = "lie"  # what it sends from now on has wrong bytes
CHANGES: Final = (COME, LEAVE, DIE)
FAULTS: Final = (LOSS, DUPLICATE, LATE, DIE, LIE)

MEMBERS: Final = ["deadline", "on_peer", "on_message", "on_timeout", "next_message"]
NOTICE: Final = 3.0  # seconds until a silent death is noticed
LATER: Final = 2.5  # seconds by which a late message is late
PULLS: Final = 10_000  # messages of one node at one moment: more never end
TIMEOUTS: Final = 1_000  # timeouts of one node at one moment


class Change(NamedTuple):
    """Somebody arrives, leaves or dies."""

    time: float
    who: str
    what: str


class Fault(NamedTuple):
    """One thing that goes wrong, at the message with a number (in the room, from 0).

    kind: loss, duplicate or late, of that message; die or lie: of `who`, at that moment
    """

    kind: str
    number: int
    who: str = ""


class Passage(NamedTuple):
    """One message: when it began to be sent, had left the uplink, and ended [s]."""

    sender: str
    to: str
    kind: str
    what: Any
    size: int  # bytes
    sent: float
    left: float
    ended: float
    fate: str


class Has(NamedTuple):
    """From a moment on, somebody has so much, and these things are new."""

    time: float
    who: str
    so_far: int
    new: tuple[Any, ...]


class Promise(StrEnum):
    """What a node promises its driver, in a word: see node."""

    KNOWN = "known"  # it writes to whom it knows
    MESSAGE = "message"  # next_message returns (to, Message) or None
    SIZE = "size"  # a message fits into a datagram
    END = "end"  # next_message says None in the end
    TIMER = "timer"  # after on_timeout, the deadline has moved
    NO_EXCEPTION = "no exception"  # no method raises


class Broken(NamedTuple):
    """A node that broke a promise of its contract; the room went on without it.

    what: what it did and what to do, in words; line: where, in the node's source.
    """

    time: float
    who: str
    promise: Promise
    what: str
    line: str

    def __str__(self) -> str:
        return f"{self.who}: at t={self.time:.3f} {self.what} ({self.line})"


@dataclass(slots=True)
class RoomRun:
    """What came of a room.

    time: when the last thing happened [s]. ended: whether nothing was left to be done.
    messages, has, changes: what happened, in order.
    nodes: by name, those who left as well; here: the names of those who are there.
    broken: whose contract did not hold. knows: who was told of whom.
    """

    knows: dict[str, tuple[str, ...]]
    nodes: dict[str, Any] = field(repr=False)
    here: set[str] = field(default_factory=set, repr=False)
    time: float = 0.0
    ended: bool = False
    messages: list[Passage] = field(default_factory=list, repr=False)
    has: list[Has] = field(default_factory=list, repr=False)
    changes: list[Change] = field(default_factory=list, repr=False)
    broken: list[Broken] = field(default_factory=list)

    def reached(self, count: int) -> dict[str, float]:
        """Return when each node had `count` things or more [s]."""
        times: dict[str, float] = {}
        for time, who, so_far, _ in self.has:
            if so_far >= count:
                times.setdefault(who, time)
        return times

    def digest(self) -> str:
        """Return a SHA-256 of everything that happened: equal runs, equal digests."""
        all_of_it = [self.knows, self.messages, self.has, self.changes, self.broken]
        return hashlib.sha256(json.dumps(all_of_it).encode()).hexdigest()


# The room


class _Peer:
    """A node, and what the driver knows about it."""

    __slots__ = (
        "at", "busy", "chance", "count", "has", "here", "known", "lies", "name", "node",
        "seconds_per_byte", "wake",
    )  # fmt: skip

    def __init__(self, name: str, up: float | None, seed: int) -> None:
        self.name = name
        self.node: Any = None
        self.chance = Random(f"{seed} link of {name}")
        self.seconds_per_byte = 8 / up if up else 0.0
        self.known: set[str] = set()  # to whom it may write
        self.has: set[Any] = set()
        self.here = self.busy = self.lies = False
        self.wake: float | None = None  # for when its timer is in the heap
        self.at, self.count = -1.0, 0  # the moment, and what it sent or timed out then


class _Breach(Exception):
    """A promise that the driver itself sees broken, in a member of the node."""

    def __init__(self, promise: Promise, member: str, what: str) -> None:
        super().__init__(promise, member, what)


class Room:
    """One heap of events for all nodes. The arguments are those of `simulate_room`."""

    def __init__(
        self,
        make: Make,
        names: Sequence[str],
        knows: Acquaintances,
        up: float | Mapping[str, float] | None,
        delay: float | tuple[float, float],
        loss: float,
        churn: Sequence[Change],
        faults: Sequence[Fault],
        seed: int,
    ) -> None:
        self.now, self._order, self._number = 0.0, 0, 0
        self._delay, self._loss, self._seed = delay, loss, seed
        self._delays: dict[tuple[str, str], float] = {}
        self._faults: dict[int, list[Fault]] = {}
        for fault in faults:
            self._faults.setdefault(fault.number, []).append(fault)
        self.run = RoomRun({me: tuple(knows.get(me, ())) for me in names}, {})
        self.peers: dict[str, _Peer] = {}
        self._known_by: dict[str, list[str]] = {name: [] for name in names}
        # time, what comes first at that time, order, and what is to be done
        self._heap: list[tuple[float, int, int, Callable[..., None], tuple[Any, ...]]]
        self._heap = []
        for me in names:
            for who in self.run.knows[me]:
                self._known_by[who].append(me)
            rate = up.get(me) if isinstance(up, Mapping) else up
            peer = self.peers[me] = _Peer(me, rate, seed)
            node = peer.node = self.run.nodes[me] = make(me, Random(f"{seed}:{me}"))
            if lacks := [member for member in MEMBERS if not hasattr(node, member)]:
                name = type(node).__name__
                raise TypeError(f"{name} has no {lacks[0]}, which every Node needs")
        late = {change.who for change in churn if change.what == COME}
        for name in names:
            self.peers[name].here = name not in late
        self.run.here = {name for name in names if name not in late}
        for change in churn:
            self._push(change.time, 0, self._change, change.who, change.what)
        for peer in self.peers.values():
            if peer.here:
                peer.busy = True  # nobody writes before all are introduced
                self._do(peer, self._introduce, peer)
        for peer in self.peers.values():
            self._free(peer)

    def go(self, until: float, most: int) -> RoomRun:
        """Let everything happen until that time [s], and that many messages."""
        heap, run = self._heap, self.run
        while heap and heap[0][0] <= until and self._number < most:
            self.now, _, _, action, arguments = heappop(heap)
            action(*arguments)
        run.time, run.ended = self.now, not heap
        if self._number >= most:
            senders = Counter(passage.sender for passage in run.messages)
            [(name, sent)] = senders.most_common(1)
            what = f"had sent {sent:,} of {most:,} messages, and there was no end to it"
            breach = _Breach(Promise.END, "next_message", what)
            run.broken.append(_broken(self.now, self.peers[name], breach))
        return run

    def _push(self, time: float, rank: int, action: Any, *arguments: Any) -> None:
        self._order += 1
        heappush(self._heap, (time, rank, self._order, action, arguments))

    # Events

    def _arrive(self, place: int, to: _Peer, message: Message) -> None:
        passage = self.run.messages[place]
        who = passage.sender
        if not to.here or (not self.peers[who].here and who not in to.known):
            self.run.messages[place] = passage._replace(fate=GONE)
            return
        to.known.add(who)
        self._do(to, to.node.on_message, who, message, self.now)

    def _free(self, peer: _Peer) -> None:
        peer.busy = False
        self._do(peer)

    def _timer(self, peer: _Peer, time: float) -> None:
        if peer.wake == time:  # or it was set to another time meanwhile
            peer.wake = None
            self._do(peer, self._time_out, peer)

    def _time_out(self, peer: _Peer) -> None:
        deadline = peer.node.deadline
        if deadline is not None and deadline <= self.now:
            self._count(peer, TIMEOUTS, Promise.TIMER, "on_timeout")
            peer.node.on_timeout(self.now)

    def _change(self, who: str, what: str) -> None:
        peer = self.peers[who]
        if peer.here == (what == COME):
            return
        self.run.changes.append(Change(self.now, who, what))
        peer.here = what == COME
        if peer.here:
            self.run.here.add(who)
            self._do(peer, self._introduce, peer)
            for other in self._known_by[who]:
                self._tell(self.peers[other], who, True)
        else:
            self.run.here.discard(who)
            notice = self.now + (NOTICE if what == DIE else 0.0)
            self._push(notice, 0, self._notice, who)

    def _notice(self, who: str) -> None:
        for other in self.peers.values():
            if who in other.known and not self.peers[who].here:
                self._tell(other, who, False)

    def _introduce(self, peer: _Peer) -> None:
        for who in self.run.knows[peer.name]:
            if self.peers[who].here:
                peer.known.add(who)
                peer.node.on_peer(who, True, self.now)

    def _tell(self, peer: _Peer, who: str, here: bool) -> None:
        (peer.known.add if here else peer.known.discard)(who)
        self._do(peer, peer.node.on_peer, who, here, self.now)

    # A node is told something, and asked

    def _do(
        self, peer: _Peer, call: Callable[..., Any] | None = None, *how: Any
    ) -> None:
        """Tell a node something, then see what it has, wants to send, and waits for."""
        if not peer.here:
            return
        node = peer.node
        try:
            if call is not None:
                call(*how)
                if (have := getattr(node, "have", None)) is not None:
                    self._note(peer, have)
            while not peer.busy and peer.here:
                answer = node.next_message(self.now)
                if answer is None:
                    break
                self._send(peer, answer)
            deadline = node.deadline
            if deadline is not None and (peer.wake is None or deadline < peer.wake):
                peer.wake = deadline
                self._push(max(deadline, self.now), 2, self._timer, peer, deadline)
        except Exception as why:
            self.run.broken.append(_broken(self.now, peer, why))
            self._change(peer.name, DIE)

    def _note(self, peer: _Peer, have: Any) -> None:
        if len(have) != len(peer.has):
            now_has = set(have)
            new = tuple(sorted(now_has - peer.has))
            peer.has = now_has
            self.run.has.append(Has(self.now, peer.name, len(now_has), new))
        if getattr(peer.node, "leaves", False):
            self._change(peer.name, LEAVE)

    def _count(self, peer: _Peer, most: int, promise: Promise, member: str) -> None:
        peer.count = peer.count + 1 if peer.at == self.now else 1
        peer.at = self.now
        if peer.count > most:
            cure = {
                Promise.END: "return None once there is nothing more to say now",
                Promise.TIMER: "move the deadline, or set it to None",
            }[promise]
            what = f"{member} was called {most:,} times at one moment: {cure}"
            raise _Breach(promise, member, what)

    def _send(self, peer: _Peer, answer: Any) -> None:
        now = self.now
        to, message = _checked(peer, answer)
        size = size_of(message)
        if size > LARGEST:
            what = f"a message {message.kind!r} of {size:,} bytes; a datagram holds "
            what += f"{LARGEST:,}: send it in pieces"
            raise _Breach(Promise.SIZE, "next_message", what)
        if peer.seconds_per_byte:
            left = now + size * peer.seconds_per_byte
            peer.busy = True
            self._push(left, 1, self._free, peer)
        else:
            left = now
            self._count(peer, PULLS, Promise.END, "next_message")
        ended, fate, copies = left + self._way(peer.name, to), ARRIVE, 1
        if self._loss and peer.chance.random() < self._loss:
            fate = LOSS
        for fault in self._faults.get(self._number, ()):
            if fault.kind == LOSS:
                fate = LOSS
            elif fault.kind == DUPLICATE:
                copies = 2
            elif fault.kind == LATE:
                ended, fate = ended + LATER, LATE
            elif fault.kind == LIE:
                self.peers[fault.who].lies = True
            else:
                self._push(now, 0, self._change, fault.who, fault.kind)
        self._number += 1
        if peer.lies and message.body:
            wrong = bytes(255 - byte for byte in message.body)
            message = message._replace(body=wrong)
        kind, what, _ = message
        if fate == LOSS:
            ended = left
        for copy in range(copies):
            if fate != LOSS:
                place = len(self.run.messages)
                self._push(ended, 0, self._arrive, place, self.peers[to], message)
            self.run.messages.append(
                Passage(peer.name, to, kind, what, size, now, left, ended,
                        DUPLICATE if copy else fate)
            )  # fmt: skip

    def _way(self, sender: str, to: str) -> float:
        """Return the delay from one to another; the same back [s]."""
        if not isinstance(self._delay, tuple):
            return self._delay
        pair = min(sender, to), max(sender, to)
        if pair not in self._delays:
            drawn = Random(f"{self._seed} way {pair}").uniform(*self._delay)
            self._delays[pair] = drawn
        return self._delays[pair]


def _checked(peer: _Peer, answer: Any) -> tuple[str, Message]:
    """Return what a node wants to send, or raise what is wrong with it."""
    member = "next_message"
    if (
        not isinstance(answer, tuple)
        or len(answer) != 2
        or not isinstance(answer[1], Message)
    ):
        what = (
            f"next_message returned {answer!r:.80}: return (to, Message(...)) or None"
        )
        raise _Breach(Promise.MESSAGE, member, what)
    to, message = answer
    if to not in peer.known:
        what = f"it writes to {to!r}, whom it does not know, or who is gone: on_peer "
        what += "says who is here"
        raise _Breach(Promise.KNOWN, member, what)
    if not (isinstance(message.kind, str) and isinstance(message.body, bytes)):
        what = f"{message!r:.80} has a kind that is no text, or a body that is no bytes"
        raise _Breach(Promise.MESSAGE, member, what)
    return to, message


def _broken(now: float, peer: _Peer, why: Exception) -> Broken:
    """Say what a node did, and where in its source."""
    if isinstance(why, _Breach):
        promise, member, what = why.args
        code = getattr(getattr(type(peer.node), member, None), "__code__", None)
        file, line = (code.co_filename, code.co_firstlineno) if code else ("?", 0)
    else:
        promise, what = Promise.NO_EXCEPTION, f"raised {type(why).__name__}: {why}"
        frames = traceback.extract_tb(why.__traceback__)
        ours = Path(__file__).parent
        theirs = [each for each in frames if Path(each.filename) != Path(__file__)]
        last = next(
            (each for each in reversed(theirs) if Path(each.filename).parent != ours),
            (theirs or list(frames))[-1],
        )
        file, line = last.filename, last.lineno or 0
    return Broken(now, peer.name, promise, what, f"line {line} of {Path(file).name}")


def simulate_room(
    make: Make,
    peers: int | Sequence[str] = 30,
    knows: Acquaintances | None = None,
    up: float | Mapping[str, float] | None = 1e6,
    delay: float | tuple[float, float] = 0.02,
    loss: float = 0.0,
    churn: Iterable[Change] = (),
    faults: Iterable[Fault] = (),
    seed: int = 0,
    until: float = 600.0,
    most: int = 1_000_000,
) -> RoomRun:
    """Let many nodes talk in virtual time; one seed gives one run, on every system.

    make: called with a name and a generator of its own, returns a node.
    peers: how many (p0, p1, ...), or their names.
    knows: who is told of whom; None: everybody of everybody. See complete, some, ...
    up: of each uplink, bit/s; None for no limit; or by name, without limit for others.
    delay: one way [s], or (least, most), drawn for each pair.
    loss: probability that a message is lost, in [0, 1).
    churn: who arrives, leaves or dies when. faults: what happens to single messages.
    until: when it ends [s of virtual time]; most: messages, after which it ends and who
        sent most of them is named.
    Raises ValueError outside these ranges. A node that breaks its contract dies, is
    named in `broken`, and the others go on.
    """
    names = names_of(peers) if isinstance(peers, int) else list(peers)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"the name {twice[0]!r} is there twice: give each peer its own"
        )
    knows = complete(names) if knows is None else knows
    churn, faults = sorted(churn), list(faults)
    seen: set[str] = set()
    for _, who, what in churn:
        if what == COME and who in seen:
            raise ValueError(f"{who!r} comes back: give it another name")
        seen.add(who)
    _require("a change", {what for _, _, what in churn}, CHANGES)
    _require("a fault", {fault.kind for fault in faults}, FAULTS)
    strangers = {*knows, *(change.who for change in churn)} - set(names)
    strangers |= {who for others in knows.values() for who in others} - set(names)
    if strangers:
        raise ValueError(f"nobody in the room is called {min(strangers)!r}")
    number("loss", loss, 0.1, "[0, 1)")
    for each in delay if isinstance(delay, tuple) else (delay,):
        number("delay", each, 0.02, "[0, inf)", " s")
    for rate in up.values() if isinstance(up, Mapping) else [up]:
        if rate is not None:
            number("up", rate, 1e6, "(0, inf)", " bit/s")
    room = Room(make, names, knows, up, delay, loss, churn, faults, seed)
    return room.go(until, most)


def _require(name: str, found: set[str], words: Sequence[str]) -> None:
    """Raise ValueError for a word that is none of those that there are."""
    if wrong := found.difference(words):
        raise ValueError(f"{name} is one of {', '.join(words)}, got {min(wrong)!r}")
