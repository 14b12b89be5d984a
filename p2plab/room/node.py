"""What a node of a room of many peers is, and what it promises its driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from p2plab.core.packet import HEADER_SIZE

LARGEST: Final = 1_200  # bytes of a message, so that it fits into one datagram
Chance: TypeAlias = Random  # the only luck that a node has: it is handed over


class Message(NamedTuple):
    """What one node writes to another: one datagram of at most LARGEST bytes.

    kind: a word, such as "have".
    what: a number, a text or a tuple of them: a piece, a key, the way so far.
    body: bytes, such as those of a piece.
    """

    kind: str
    what: Any = 0
    body: bytes = b""


def size_of(message: Message) -> int:
    """Return the bytes of a message on the wire, `what` as JSON.

    Raises TypeError for a `what` that cannot be written.
    """
    kind, what, body = message
    text = str(what) if type(what) is int else json.dumps(what, separators=(",", ":"))
    return HEADER_SIZE + len(kind) + len(text) + len(body)


class Node(Protocol):
    """One peer of many: an Endpoint that hears *from whom*, and says *to whom*.

    A node is made as `make(me, chance)`: its name, and a generator of its own.

    The node promises its driver:
    1. Same inputs, same outputs: no clock, thread or printing inside, and no chance
       but the one it was given. Nothing depends on the order of a set.
    2. It writes only to whom it knows: those it was told of, and those who wrote to it,
       until it is told that they are gone.
    3. `next_message` says None in the end, and so does the whole room.
    4. After `on_timeout`, `deadline` has moved or is None.
    5. It never raises because of what it is told.

    The driver promises the node:
    1. `now` never decreases [s].
    2. Whenever its uplink is free it is pulled: one message each time, so that "whom
       first" is decided as late as possible.
    3. `on_timeout` is never called before `deadline`; at equal times what arrives comes
       first.
    4. Nothing comes from somebody of whom it was told that they are gone.
    5. Messages arrive whole or not at all; twice and late is normal.

    Two members are optional: `have` is what the node has so far (pieces, rumours, ...),
    which pictures and the checker read; `leaves` is true once it wants to go.
    """

    deadline: float | None  # when on_timeout must be called [s]; None: no timer runs

    def on_peer(self, who: str, here: bool, now: float) -> None:
        """`who` can be reached from now on, or no longer."""

    def on_message(self, who: str, message: Message, now: float) -> None:
        """A message from `who` has arrived."""

    def on_timeout(self, now: float) -> None:
        """The deadline has passed."""

    def next_message(self, now: float) -> tuple[str, Message] | None:
        """To whom to write what, or None while there is nothing to say."""


Make: TypeAlias = Callable[[str, Random], Node]
