"""Callers that wait, and the one tail of Redis per shard that wakes them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic, NamedTuple, TypeVar

from p2plab.rendezvous.database import Refused, shard_key
from p2plab.rendezvous.nodes import AWAY, Line, Nodes

BLOCK: Final = 2_000  # ms that an XREAD waits; below any timeout of a connection
XREAD: Final = ("XREAD", "COUNT", 1_000, "BLOCK", BLOCK, "STREAMS")
RECONNECT: Final = 0.2  # s
REST: Final = 0.001  # s from one XREAD to the next: a flood comes in fewer of them
MAKE_ROOM: Final = 5.0  # s until a caller that had to make room should come again

Answer = TypeVar("Answer")


class Look(NamedTuple, Generic[Answer]):
    """What a caller finds when it looks; None makes it wait.

    again: seconds until it makes sense to look once more, though nobody wakes it.
    """

    answer: Answer | None
    again: float | None = None


class Hub:
    """Wakes whoever waits for a key of Redis.

    nodes: a way of its own, whose patience is longer than BLOCK.
    per_key: callers of one `once` key; the newest makes the oldest go.
    per_source: callers of one address that wait here.
    """

    def __init__(
        self, nodes: Nodes, shards: int, per_key: int, per_source: int
    ) -> None:
        self._nodes = nodes
        self._per_key = per_key
        self._per_source = per_source
        streams = [f"{shard_key(shard)}events" for shard in range(shards)]
        # One XREAD may only follow what lives in one slot of a cluster.
        self._groups = [streams] if nodes.together else [[each] for each in streams]
        self._bells: dict[str, dict[asyncio.Future[bool], None]] = {}
        self._sources: Counter[str] = Counter()
        self._tails: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return self._sources.total()

    def start(self, greet: Callable[[], Awaitable[None]]) -> None:
        """Follow Redis, in the running event loop.

        greet: called whenever Redis answers again.
        """
        self._greet = greet
        self._tails = [
            asyncio.create_task(self._follow(streams)) for streams in self._groups
        ]

    def dismiss(self) -> None:
        """Send every caller home with what it has; from now on nobody waits."""
        self._closed = True
        for bell in self._all_bells():
            ring(bell, False)

    async def close(self) -> None:
        """Stop following."""
        self.dismiss()
        for tail in self._tails:
            tail.cancel()
        await asyncio.gather(*self._tails, return_exceptions=True)
        await self._nodes.aclose()

    async def wait(
        self,
        key: str,
        source: str,
        seconds: float,
        look: Callable[[], Awaitable[Look[Answer]]],
        once: bool = False,
        tell: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> Answer | None:
        """Look until something is found, or the seconds are over: then None.

        once: the key is one peer's own, and few callers may wait for it.
        tell: takes what is found, and the seconds begin anew.
        Raises Refused: too_many_waiting; and what `look` raises.
        """
        if seconds <= 0:
            return (await look()).answer
        self._sit_down(source)
        loop = asyncio.get_running_loop()
        end, woken = loop.time() + seconds, True
        try:
            while woken:
                bell = self._hang_up(key, once)  # before looking: none is missed
                try:
                    answer, again = await look()
                    if answer is not None and tell is not None:
                        await tell(answer)
                        answer, end = None, loop.time() + seconds
                    left = end - loop.time()
                    if answer is not None or left <= 0 or self._closed:
                        return answer
                    pause = left if again is None else min(left, again)
                    timer = loop.call_later(pause, ring, bell, pause < left)
                    woken = await bell
                    timer.cancel()
                finally:
                    self._take_down(key, bell)
            return None
        finally:
            self._stand_up(source)

    def wake(self, key: str) -> None:
        """Let those who wait for a key look again."""
        for bell in self._bells.get(key, ()):
            ring(bell, True)

    def _sit_down(self, source: str) -> None:
        if self._sources[source] >= self._per_source:
            raise Refused("too_many_waiting", MAKE_ROOM)
        self._sources[source] += 1

    def _stand_up(self, source: str) -> None:
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]

    def _hang_up(self, key: str, once: bool) -> asyncio.Future[bool]:
        bells = self._bells.setdefault(key, {})
        if once and len(bells) >= self._per_key:
            # The oldest one's connection is most likely dead.
            oldest = next(iter(bells))
            if not oldest.done():
                oldest.set_exception(Refused("too_many_waiting", MAKE_ROOM))
        bell = asyncio.get_running_loop().create_future()
        bells[bell] = None
        return bell

    def _take_down(self, key: str, bell: asyncio.Future[bool]) -> None:
        bell.cancel()
        bells = self._bells[key]
        del bells[bell]
        if not bells:
            del self._bells[key]

    def _all_bells(self) -> list[asyncio.Future[bool]]:
        return list(itertools.chain.from_iterable(self._bells.values()))

    async def _follow(self, streams: list[str]) -> None:
        """Read what has happened; after any trouble everybody looks for himself."""
        while not self._closed:  # a cancellation may be lost (asyncio.wait_for in 3.11)
            try:
                await self._greet()
                line = (await self._nodes.line_of(streams[0])).another()
                try:
                    await self._read(line, streams)
                finally:
                    await line.aclose()
            except AWAY:
                await asyncio.sleep(RECONNECT)
                with suppress(*AWAY):  # the shard may have moved to another node
                    await self._nodes.look_again()

    async def _read(self, line: Line, streams: list[str]) -> None:
        places = {each: await end_of(line, each) for each in streams}
        for bell in self._all_bells():
            ring(bell, True)
        loop = asyncio.get_running_loop()
        while not self._closed:
            again = loop.time() + REST
            keys = *places, *places.values()
            found = await line.command(*XREAD, *keys)
            for stream, entries in found or ():
                for place, entry in entries:
                    self.wake(entry["key"])
                    places[stream] = place
            if (rest := again - loop.time()) > 0:
                await asyncio.sleep(rest)


async def end_of(line: Line, stream: str) -> str:
    """Return the place of the last entry of a stream."""
    last = await line.command("XREVRANGE", stream, "+", "-", "COUNT", 1)
    return str(last[0][0]) if last else "0-0"


def ring(bell: asyncio.Future[bool], again: bool) -> None:
    """End a caller's waiting; `again`: it is to look once more."""
    if not bell.done():
        bell.set_result(again)
