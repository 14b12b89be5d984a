"""Who has it? A question is passed on, and the answer goes back the same way.

    find   item, asker, number, hops: who has the item? the asker's question so far
    found  item, asker, number, hops, holder: who has it, found after so many hops

`Flood` passes a question on to everybody, `Walk` to one, drawn by chance (Lv et al.
2002, Search and Replication in Unstructured Peer-to-Peer Networks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from p2plab.room.node import Chance, Message

Question = tuple[str, str, int, int]  # item, asker, number, hops


class Search:
    """What all kinds of search have in common; they differ in `holder` and `onward`.

    seeks: items that it asks for. answers: item -> (who has it, after how many hops).
    came: from whom each question came first, so that the answer finds back.
    """

    task = "search"  # what check_room holds it to
    ttl = 64  # hops after which a question is not passed on
    tries = 6  # times that it asks
    patience = 2.0  # seconds until it asks again

    def __init__(self, me: str, chance: Chance, seeks: Iterable[str] = ()) -> None:
        self.me, self.chance, self.seeks = me, chance, tuple(seeks)
        self.peers: list[str] = []
        self.gone: set[str] = set()
        self.answers: dict[str, tuple[str, int]] = {}
        self.came: dict[tuple[str, str, int], str] = {}
        self.asked = 0
        self.out: deque[tuple[str, Message]] = deque()
        self.deadline: float | None = 0.0 if self.seeks else None

    @property
    def have(self) -> dict[str, tuple[str, int]]:
        return self.answers

    def holder(self, item: str) -> str | None:
        """Who has the item, if we know it."""
        raise NotImplementedError

    def onward(self, item: str, came_from: str) -> Iterable[str]:
        """To whom a question is passed on."""
        raise NotImplementedError

    def on_peer(self, who: str, here: bool, now: float) -> None:
        if here:
            self.peers.append(who)
            self.gone.discard(who)
        else:
            self.gone.add(who)  # its questions need no answer any more
            self.peers = [each for each in self.peers if each != who]
            self.out = deque(each for each in self.out if each[0] != who)

    def on_timeout(self, now: float) -> None:
        missing = [item for item in self.seeks if item not in self.answers]
        self.deadline = (
            now + self.patience if missing and self.asked < self.tries else None
        )
        if self.deadline is not None:
            for item in missing:
                self.question((item, self.me, self.asked, 0), self.me)
            self.asked += 1

    def on_message(self, who: str, message: Message, now: float) -> None:
        if message.kind == "find":
            self.question(message.what, who)
        elif message.kind == "found":
            self.answer(message.what)

    def question(self, question: Question, who: str) -> None:
        """Answer a question that came from `who`, or pass it on."""
        item, asker, number, hops = question
        first = (item, asker, number) not in self.came
        if first:
            self.came[item, asker, number] = who
        if (holder := self.holder(item)) is not None:
            self.answer((item, asker, number, hops, holder))
        elif hops < self.ttl and self.again(first):
            for onward in self.onward(item, who):
                what = (item, asker, number, hops + 1)
                self.out.append((onward, Message("find", what)))

    def again(self, first: bool) -> bool:
        """Whether a question is passed on when it comes, for the first time or not."""
        return True

    def answer(self, answer: tuple[str, str, int, int, str]) -> None:
        """Take an answer, or send it back on the way that its question came."""
        item, asker, number, hops, holder = answer
        if asker == self.me:
            self.answers.setdefault(item, (holder, hops))
        else:
            back = self.came.get((item, asker, number))
            if back is not None and back not in self.gone:
                self.out.append((back, Message("found", answer)))

    def next_message(self, now: float) -> tuple[str, Message] | None:
        return self.out.popleft() if self.out else None


class Flood(Search):
    """Everybody passes a question on to all others, once.

    holds: the items that it has itself.
    """

    def __init__(
        self,
        me: str,
        chance: Chance,
        seeks: Iterable[str] = (),
        holds: Iterable[str] = (),
    ) -> None:
        super().__init__(me, chance, seeks)
        self.holds = set(holds)

    def holder(self, item: str) -> str | None:
        return self.me if item in self.holds else None

    def onward(self, item: str, came_from: str) -> Iterable[str]:
        return [who for who in self.peers if who != came_from]

    def again(self, first: bool) -> bool:
        return first


class Walk(Flood):
    """A question goes to one after the other, drawn by chance, until it is answered."""

    ttl = 256

    def onward(self, item: str, came_from: str) -> Iterable[str]:
        return [self.chance.choice(self.peers)] if self.peers else []

    def again(self, first: bool) -> bool:
        return True
