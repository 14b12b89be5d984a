"""Broken nodes: the lines of a correct page that change, and the mistake in a sentence.

Each is found by `check_room` within two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Final

from p2plab.museum.exhibit import Page
from p2plab.room import gossip, ring, search, swarm, xor


@dataclass(frozen=True, slots=True)
class RoomExhibit:
    """A node with one mistake.

    page: the module with the correct one, of class `kind`.
    changes: words that stand on the page once, and the lines in their place.
    """

    name: str
    mistake: str
    page: ModuleType
    kind: str
    changes: tuple[tuple[str, ...], ...]

    @property
    def node(self) -> Any:
        """The class with the mistake."""
        return getattr(_changed(self), self.kind)


@cache
def _changed(exhibit: RoomExhibit) -> ModuleType:
    page = Page(exhibit.page)
    for old, *new in exhibit.changes:
        page.change(old, *new)
    return page.module(__name__, exhibit.name, exhibit.mistake)


# page, class, and its mistakes: name, sentence, changes
_MISTAKES: Final[tuple[tuple[ModuleType, str, tuple[Any, ...]], ...]] = (
    (gossip, "AntiEntropy", (
    ("told_once",
     "It says what it knows once. If that is lost, nobody ever says it again.",
     ('self.tell(self.chance.choice(differ), "ask")\nself.wait(now)',
      'self.tell(self.chance.choice(differ), "ask")')),
    ("sent_is_taken_for_heard",
     "It takes for known to the other what it has only sent.",
     ('self.tell(self.chance.choice(differ), "ask")',
      "who = self.chance.choice(differ)",
      'self.tell(who, "ask")',
      "self.agreed[who] = set(self.have)")),
    ("answers_answers",
     "It answers an answer, and the two never stop.",
     ('if message.kind == "ask":\nself.tell(who, "answer")',
      'self.tell(who, "answer")')),
    ("writes_to_the_dead",
     "It goes on calling somebody of whom it was told that they are gone.",
     ("self.peers.remove(who)",)),
    )),
    (swarm, "Swarm", (
    ("no_hash",
     "It believes whatever bytes come; one liar spoils everybody's file.",
     ("if sha256(body).digest() != self.hashes[piece]:", "if not body:")),
    ("liar_asked_again",
     "It throws a wrong piece away, and asks the same peer for it for ever.",
     ("self.liars.add(who)", "pass"),
     ("self.counts[each] -= 1\nself.theirs[who] = set()", "pass")),
    ("have_said_once",
     "It says what it has once; if the seed's first word is lost, nobody asks.",
     ("(self.asked or self.unheard())", "self.asked")),
    ("never_asks_again",
     "A lost request, or a lost piece, is waited for without end.",
     ("if at + PATIENCE <= now:", "if at + PATIENCE <= 0:")),
    ("too_polite",
     "It serves only those who have given it something; all wait for the first one.",
     ("if wants]", "if wants and self.balance.get(who)]")),
    ("asks_everybody",
     "It asks everybody who has a piece for it, and gets it as many times.",
     ('self.out.append((whom, Message("want", piece)))',
      "for each in free:",
      "    if piece in self.theirs[each]:",
      '        self.out.append((each, Message("want", piece)))')),
    ("tells_the_dead",
     "It keeps whom it knew, and tells of its new pieces those who are gone, too.",
     ("self.theirs.pop(who, ())", "self.theirs.get(who, ())")),
    ("keeps_it_to_itself",
     "It does not say what it has got, so that all depend on the seed.",
     ('self.out.extend((each, Message("have", piece)) for each in self.theirs)',),
     ("in self.unheard()", "in []"),
     ("(self.asked or self.unheard())", "self.asked")),
    )),
    (search, "Flood", (
    ("forgets_who_asked",
     "It does not remember from whom a question came: no answer finds back.",
     ("self.came[item, asker, number] = who", "self.came[item, asker, number] = ''"),
     ("if back is not None and back", "if back and back")),
    ("answers_strangers",
     "It writes to who asked first, whom it does not know.",
     ('(back, Message("found", answer))', '(asker, Message("found", answer))')),
    ("passes_on_again",
     "It passes on what it has seen before, without counting the hops.",
     ("return first", "return True"),
     ("hops < self.ttl and self.again(first)", "self.again(first)")),
    ("asks_once",
     "It asks once, and a lost question stays without an answer.",
     ("tries = 6  # times that it asks", "tries = 1")),
    )),
    (ring, "Ring", (
    ("predecessor_answers",
     "It says that it has the key itself, but the next one on the ring has it.",
     ("return successor if between", "return self.me if between")),
    ("no_way_around",
     "It measures the distance without going around past zero.",
     ("return (end - begin) % (1 << BITS)", "return abs(end - begin)")),
    ("flies_past",
     "It passes the question on to the last node of the ring, past the key.",
     ("if distance(mine, place(who)) < way]", "]")),
    )),
    (xor, "Xor", (
    ("difference_for_xor",
     "It measures the distance as a difference, and others use XOR.",
     ("return place(one) ^ place(other)", "return abs(place(one) - place(other))")),
    ("first_who_is_nearer",
     "It takes itself for the nearest as soon as one other is farther away.",
     ("(self.me, *self.peers)", "(self.me, *self.peers[:1])")),
    )),
)  # fmt: skip

EXHIBITS: Final = {
    name: RoomExhibit(name, mistake, page, kind, tuple(changes))
    for page, kind, mistakes in _MISTAKES
    for name, mistake, *changes in mistakes
}
