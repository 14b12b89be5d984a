"""Those who want to be introduced to us, and wait for our word."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from p2plab.errors import P2PLabError


@dataclass(slots=True)
class Request:
    """Somebody who waits for our word.

    until: when its introduction is over, by time.monotonic [s]. asked_at: likewise.
    """

    peer: str
    session: str
    _settle: Callable[[Request, bool, str], None] = field(repr=False)
    until: float = field(default=inf, repr=False)
    asked_at: float = field(default_factory=time.monotonic, repr=False)

    def accept(self) -> None:
        """Let both learn how to reach each other. Raises RendezvousError."""
        self._settle(self, True, "")

    def refuse(self, why: str = "") -> None:
        """Say no; why: words for the other, up to 200 characters."""
        self._settle(self, False, why)


def settle(requests: Sequence[Request], act: Callable[[Request], None]) -> None:
    """Answer all requests of one peer; only the last one's error is for a person.

    Who has asked again may have given the earlier ones up.
    """
    *earlier, last = requests
    for each in earlier:
        with suppress(P2PLabError):
            act(each)
    act(last)
