"""What time it is at the rendezvous, by what its answers say."""

from __future__ import annotations

import time
from math import inf
from threading import Lock
from typing import Final

TICK: Final = 0.001  # its answers tell whole milliseconds, rounded down [s]


class ServerClock:
    """Tells the server's time from our own clock; every answer makes it better.

    An answer was made between our request and its arrival, so it says between which
    bounds the offset of the clocks lies (Cristian, 1989); all answers together say more
    than the quickest alone (Marzullo, 1984). Where they contradict each other a clock
    was set, or drifted, and the newest counts.
    """

    def __init__(self) -> None:
        self._low, self._high = -inf, inf  # of server's time - ours [s]
        self._lock = Lock()

    def learn(self, now: float, sent: float, received: float) -> None:
        """Take an answer in.

        now: what it says [s since 1970]. sent, received: by time.monotonic [s].
        """
        low, high = now - received, now + TICK - sent
        with self._lock:
            if low > self._high or high < self._low:
                self._low, self._high = low, high
            self._low, self._high = max(low, self._low), min(high, self._high)

    def at(self, moment: float) -> float:
        """Return the server's time at a moment of time.monotonic [s since 1970].

        Before any answer, our own computer's.
        """
        with self._lock:
            if self._low == -inf:
                return moment + time.time() - time.monotonic()
            return moment + (self._low + self._high) / 2
