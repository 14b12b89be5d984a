"""Gossip: a rumour told to one acquaintance after another.

`Rounds` is the textbook's push, pull, or both; `InfectAndDie` tells so many and forgets
it. Neither can promise that everybody hears it. `AntiEntropy` can: two that meet
compare all they know (Demers et al. 1987, Epidemic Algorithms for Replicated Database
Maintenance).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from p2plab.room.node import Chance, Message

PERIOD = 1.0  # seconds of one round


class Gossip:
    """What all kinds have in common.

    have: the rumours that it knows. peers: who is here. out: what is to be sent.
    """

    task = "rumour"  # what check_room holds it to

    def __init__(self, me: str, chance: Chance, rumours: Iterable[str] = ()) -> None:
        self.me, self.chance = me, chance
        self.have = set(rumours)
        self.peers: list[str] = []
        self.out: deque[tuple[str, Message]] = deque()
        self.deadline: float | None = None

    def on_peer(self, who: str, here: bool, now: float) -> None:
        if here:
            self.peers.append(who)
        elif who in self.peers:
            self.peers.remove(who)
            self.out = deque(each for each in self.out if each[0] != who)

    def on_message(self, who: str, message: Message, now: float) -> None:
        self.have.update(message.what)

    def on_timeout(self, now: float) -> None:
        self.deadline = None

    def next_message(self, now: float) -> tuple[str, Message] | None:
        return self.out.popleft() if self.out else None

    def tell(self, who: str, kind: str) -> None:
        """Write all that is known to somebody."""
        self.out.append((who, Message(kind, tuple(sorted(self.have)))))


class Rounds(Gossip):
    """In every round each node calls one acquaintance, drawn by chance.

    push: who knows it says it. pull: who does not know it asks. Both: everybody calls,
    and whoever of the two knows it says it. It ends after so many rounds.
    """

    def __init__(
        self,
        me: str,
        chance: Chance,
        rumours: Iterable[str] = (),
        push: bool = True,
        pull: bool = False,
        rounds: int = 60,
    ) -> None:
        super().__init__(me, chance, rumours)
        self.push, self.pull, self.rounds = push, pull, rounds
        self.knew = bool(self.have)  # anything, when the round began
        self.deadline = PERIOD

    def on_timeout(self, now: float) -> None:
        self.rounds -= 1
        self.knew = bool(self.have)
        self.deadline = now + PERIOD if self.rounds > 0 else None
        if not self.peers:
            return
        who = self.chance.choice(self.peers)
        if self.pull and (self.push or not self.have):
            self.tell(who, "ask")
        elif self.push and self.have:
            self.tell(who, "tell")

    def on_message(self, who: str, message: Message, now: float) -> None:
        if message.kind == "ask" and self.knew:  # no rumour goes two ways in a round
            self.tell(who, "tell")
        super().on_message(who, message, now)


class InfectAndDie(Gossip):
    """Who hears it for the first time tells it to `fanout` others, and never again."""

    def __init__(
        self, me: str, chance: Chance, rumours: Iterable[str] = (), fanout: int = 3
    ) -> None:
        super().__init__(me, chance, rumours)
        self.fanout = fanout
        self.deadline = PERIOD if self.have else None  # whoever starts it

    def on_timeout(self, now: float) -> None:
        self.deadline = None
        for who in self.chance.sample(self.peers, min(self.fanout, len(self.peers))):
            self.tell(who, "tell")

    def on_message(self, who: str, message: Message, now: float) -> None:
        if not self.have.issuperset(message.what):
            self.have.update(message.what)
            self.on_timeout(now)


class AntiEntropy(Gossip):
    """Two that meet compare what they know, until each knows that the other has it all.

    agreed: for each acquaintance, what it is known to know.
    """

    task = "gossip"

    def __init__(self, me: str, chance: Chance, rumours: Iterable[str] = ()) -> None:
        super().__init__(me, chance, rumours)
        self.agreed: dict[str, set[str]] = {}

    def on_peer(self, who: str, here: bool, now: float) -> None:
        super().on_peer(who, here, now)
        self.agreed[who] = set()
        self.wait(now)

    def on_message(self, who: str, message: Message, now: float) -> None:
        self.have.update(message.what)
        self.agreed.setdefault(who, set()).update(message.what)
        if message.kind == "ask":
            self.tell(who, "answer")
        self.wait(now)

    def on_timeout(self, now: float) -> None:
        self.deadline = None
        if differ := self.differ():
            self.tell(self.chance.choice(differ), "ask")
        self.wait(now)

    def differ(self) -> list[str]:
        """Who is here, and not known to know all that we know."""
        return [who for who in self.peers if self.agreed[who] != self.have]

    def wait(self, now: float) -> None:
        """Let the timer run exactly while somebody may lack something."""
        if not self.differ():
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + PERIOD
