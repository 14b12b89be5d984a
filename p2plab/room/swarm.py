"""A swarm: everybody passes on the pieces of one file that it already has.

    have n    I have piece n (said once, to each acquaintance)
    all m     all that I have, as the bits of a number, after a pause; answer "heard"
    heard m   your "all" has arrived
    want n    send me piece n
    piece n   here it is

A student replaces two small functions: `choose` which piece to ask for, and `serve`
whom to send the next one. In the manner of BitTorrent (Cohen 2003, Incentives Build
Robustness in BitTorrent).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from p2plab.room.node import Chance, Message

PATIENCE = 1.0  # seconds until a piece is asked for again, elsewhere if possible
CREDIT = 2  # pieces that tit for tat gives in advance
PAUSE = 0.5  # seconds between two "all" to somebody who has not heard it

Choose = Callable[[Sequence[int], Sequence[int], Chance], int]
Serve = Callable[[Sequence[str], Mapping[str, int], Chance], str | None]


# Which piece of `pieces`, of which so many copies are known: counts[piece]


def in_order(pieces: Sequence[int], counts: Sequence[int], chance: Chance) -> int:
    """The first one that is missing, as a film is watched."""
    return pieces[0]


def at_random(pieces: Sequence[int], counts: Sequence[int], chance: Chance) -> int:
    """Any of them."""
    return chance.choice(pieces)


def rarest_first(pieces: Sequence[int], counts: Sequence[int], chance: Chance) -> int:
    """One of those that the fewest have, before it is lost."""
    fewest = min(counts[piece] for piece in pieces)
    return chance.choice([piece for piece in pieces if counts[piece] == fewest])


# Whom of those who wait (longest first); balance[who]: pieces we got from them, less
# those we sent them. Who has everything keeps no balance.


def in_turn(waiting: Sequence[str], balance: Mapping[str, int], chance: Chance) -> str:
    """Who was served longest ago."""
    return waiting[0]


def tit_for_tat(
    waiting: Sequence[str], balance: Mapping[str, int], chance: Chance
) -> str | None:
    """Who gave us most, now and then anybody; but nobody who owes us CREDIT pieces."""
    fair = [who for who in waiting if balance.get(who, 0) > -CREDIT]
    if not fair:
        return None
    if chance.random() < 0.25:  # the optimistic slot: newcomers have nothing to give
        return chance.choice(fair)
    return max(fair, key=lambda who: balance.get(who, 0))


def nobody(waiting: Sequence[str], balance: Mapping[str, int], chance: Chance) -> None:
    """A free rider serves nobody."""


class Swarm:
    """One peer of a swarm.

    hashes: the SHA-256 of every piece, which everybody knows beforehand.
    have: the pieces so far. theirs: what each acquaintance has, as far as we know.
    counts: how many of them have each piece. asked: of whom and when, for each piece.
    """

    task = "swarm"  # what check_room holds it to
    requests = 4  # pieces asked for at a time, so that nobody waits for a question

    def __init__(
        self,
        me: str,
        chance: Chance,
        hashes: Sequence[bytes],
        pieces: Mapping[int, bytes],
        choose: Choose = rarest_first,
        serve: Serve = in_turn,
        leaves_when_complete: bool = False,
    ) -> None:
        self.me, self.chance, self.hashes = me, chance, hashes
        self.choose, self.serve = choose, serve
        self.leaves_when_complete = leaves_when_complete
        self.have = dict(pieces)
        self.theirs: dict[str, set[int]] = {}
        self.counts = [0] * len(hashes)
        self.asked: dict[int, tuple[str, float]] = {}
        self.wanted: dict[str, dict[int, None]] = {}  # by others, longest first
        self.balance: dict[str, int] = {}  # pieces that we got, less those we sent
        self.heard: dict[str, int] = {}  # the last "all" that has reached them
        self.failed: dict[str, int] = {}  # requests that were not answered in time
        self.liars: set[str] = set()
        self.out: deque[tuple[str, Message]] = deque()  # all but pieces
        self.deadline: float | None = None

    @property
    def complete(self) -> bool:
        return len(self.have) == len(self.hashes)

    @property
    def leaves(self) -> bool:
        return self.complete and self.leaves_when_complete

    def on_peer(self, who: str, here: bool, now: float) -> None:
        if here:
            self.theirs[who] = set()
            if self.have:
                self.out.append((who, Message("all", bits(self.have))))
        else:
            for piece in self.theirs.pop(who, ()):
                self.counts[piece] -= 1
            self.wanted.pop(who, None)
            self.heard.pop(who, None)
            self.out = deque(each for each in self.out if each[0] != who)
            self.asked = {
                piece: (whom, at)
                for piece, (whom, at) in self.asked.items()
                if whom != who
            }
            self.ask(now)
        self.wait(now)

    def on_message(self, who: str, message: Message, now: float) -> None:
        kind, what, body = message
        if kind == "have":
            self.learn(who, [what], now)
        elif kind == "all":
            self.learn(who, [n for n in range(len(self.hashes)) if what >> n & 1], now)
            self.out.append((who, Message("heard", what)))
        elif kind == "heard":
            self.heard[who] = what
        elif kind == "want":
            self.wanted.setdefault(who, {})[what] = None
        elif kind == "piece":
            self.take(who, what, body, now)
        self.wait(now)

    def learn(self, who: str, pieces: Sequence[int], now: float) -> None:
        """Somebody has these pieces."""
        theirs = self.theirs.setdefault(who, set())
        for piece in pieces:
            if piece not in theirs and who not in self.liars:
                theirs.add(piece)
                self.counts[piece] += 1
        if len(self.asked) < self.requests and not self.complete:
            self.ask(now)

    def take(self, who: str, piece: int, body: bytes, now: float) -> None:
        """A piece has come: keep it and tell the others, unless it is a wrong one."""
        self.asked.pop(piece, None)
        if sha256(body).digest() != self.hashes[piece]:
            self.liars.add(who)
            for each in self.theirs[who]:
                self.counts[each] -= 1
            self.theirs[who] = set()
        elif piece not in self.have:
            self.have[piece] = body
            self.balance[who] = self.balance.get(who, 0) + 1
            self.out.extend((each, Message("have", piece)) for each in self.theirs)
        self.ask(now)

    def ask(self, now: float) -> None:
        """Ask for pieces that somebody has, each of another one: no queue grows."""
        while len(self.asked) < self.requests:
            busy = {whom for whom, _ in self.asked.values()}
            free = [who for who in self.theirs if who not in busy]
            pieces = [
                piece
                for piece, count in enumerate(self.counts)
                if count > sum(piece in self.theirs[who] for who in busy)
                and piece not in self.have
                and piece not in self.asked
            ]
            if not pieces:
                return
            piece = self.choose(pieces, self.counts, self.chance)
            whom = min(
                (who for who in free if piece in self.theirs[who]),
                key=lambda who: (self.failed.get(who, 0), self.chance.random()),
            )
            self.asked[piece] = whom, now
            self.out.append((whom, Message("want", piece)))

    def unheard(self) -> list[str]:
        """Who may not know all that we have."""
        mine = bits(self.have)
        return [who for who in self.theirs if self.heard.get(who, 0) != mine]

    def on_timeout(self, now: float) -> None:
        self.deadline = None
        for piece, (whom, at) in list(self.asked.items()):
            if at + PATIENCE <= now:
                del self.asked[piece]
                self.failed[whom] = self.failed.get(whom, 0) + 1
        self.ask(now)
        if not self.out:  # a pause
            everything = Message("all", bits(self.have))
            self.out.extend((who, everything) for who in self.unheard())
        self.wait(now)

    def wait(self, now: float) -> None:
        """Let the timer run while something is asked for, or somebody has not heard."""
        if self.deadline is None and (self.asked or self.unheard()):
            self.deadline = now + PAUSE

    def next_message(self, now: float) -> tuple[str, Message] | None:
        if self.out:
            return self.out.popleft()
        waiting = [who for who, wants in self.wanted.items() if wants]
        balance = {} if self.complete else self.balance
        who = self.serve(waiting, balance, self.chance) if waiting else None
        if who is None:
            return None
        self.balance[who] = self.balance.get(who, 0) - 1
        wants = self.wanted.pop(who)
        piece = next(iter(wants))
        del wants[piece]
        self.wanted[who] = wants  # at the end of the queue
        return who, Message("piece", piece, self.have[piece])


def bits(pieces: Mapping[int, bytes]) -> int:
    """Return pieces as the bits of a number."""
    return sum(1 << piece for piece in pieces)


def torrent(pieces: Sequence[bytes]) -> list[bytes]:
    """Return the hashes of all pieces, which everybody must know beforehand."""
    return [sha256(piece).digest() for piece in pieces]
