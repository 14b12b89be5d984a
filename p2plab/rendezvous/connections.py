"""The connections of a rendezvous: how many one source holds, how often it asks."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import ClassVar, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from p2plab.rendezvous.model import MAX_WAIT, legal_address
from p2plab.rendezvous.names import source_of
from p2plab.rendezvous.refusals import problem

# A connection that does not get on in time ends, however many bytes it drips.
FIRST_PATIENCE: Final = 10.0  # s for the head of its first request
KEEP_ALIVE: Final = 75  # s until the next one; longer than a heartbeat's pause
ANSWER_PATIENCE: Final = 2 * MAX_WAIT  # s between looks whether answers are taken
PAUSE: Final = 1.0  # s between two looks for connections out of time
SPARE: Final = 200  # files beside connections: Redis, STUN, those that just come and go
MANY_FILES: Final = 10_240  # as many as any system lets a process wish for


class Gate:
    """Knows every connection, and ends those that only take up room.

    per_source: connections of one source (see Limits), at most half of total: of all
    together, so that no source alone can have them all.
    Whoever is above either does not keep newcomers out: the oldest connection of the
    source that is not being answered makes room, one that has never asked first. So of
    silent ones any number can come, from a class's own address too: each of the class
    that asks at once is answered.
    """

    def __init__(self, per_source: int, total: int) -> None:
        self.per_source, self.total = min(per_source, total // 2), total
        self._sources: dict[str, dict[Connection, None]] = {}  # the oldest first
        self._count = 0
        self._looking = False

    def protocol(self) -> type[Connection]:
        """A class of connections that pass through this gate, for uvicorn."""
        return type("Connection", (Connection,), {"gate": self})

    def enter(self, line: Connection) -> bool:
        """Let a connection in; False if there is no room."""
        own = self._sources.get(line.source, {})
        if len(own) >= self.per_source and not make_room(own):
            return False
        if self._count >= self.total:
            largest = max(self._sources, key=lambda source: len(self._sources[source]))
            if not make_room(self._sources[largest]):
                return False
        self._sources.setdefault(line.source, {})[line] = None
        self._count += 1
        if not self._looking:
            self._looking = True
            line.loop.call_later(PAUSE, self._look, line.loop)
        return True

    def leave(self, line: Connection) -> None:
        """Forget a connection; twice is once."""
        own = self._sources.get(line.source, {})
        if line in own:
            del own[line]
            self._count -= 1
            if not own:
                del self._sources[line.source]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        everybody = itertools.chain.from_iterable(self._sources.values())
        for line in [each for each in everybody if each.due < now]:
            if line.busy and line.transport.get_write_buffer_size() == 0:
                line.due = now + ANSWER_PATIENCE  # it waits for us, not we for it
            else:
                line.hang_up()
        self._looking = bool(self._sources)
        if self._looking:
            loop.call_later(PAUSE, self._look, loop)


def make_room(lines: Iterable[Connection]) -> bool:
    """End the connection that is missed least; False if all are being answered."""
    silent = (each for each in lines if each.cycle is None)
    idle = (each for each in lines if not each.busy)
    for each in itertools.chain(silent, idle):
        each.hang_up()
        return True
    return False


class Connection(HttpToolsProtocol):
    """uvicorn's, with a moment until which it must have got on: `due`."""

    # Beside uvicorn's own, which fill up what Python lets objects share: two more of
    # these would cost each connection a dictionary of its own, 1.4 kB.
    __slots__ = ("due", "source")

    gate: ClassVar[Gate]
    source: str
    due: float  # by the loop's clock [s]

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Pass the gate, or end."""
        super().connection_made(transport)
        self.due, self.source = self.loop.time() + FIRST_PATIENCE, ""
        if self.client is not None:  # or it has gone already
            self.source = source_at(self.client[0])
        if self.client is None or not self.gate.enter(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave a place for another one."""
        self.gate.leave(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Have time for the answer to be made, and taken."""
        self.due = self.loop.time() + ANSWER_PATIENCE
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Have time until the next request."""
        super().on_response_complete()
        if not self.busy:
            self.due = self.loop.time() + KEEP_ALIVE

    def hang_up(self) -> None:
        """End at once; what it was sent and has not read is lost."""
        self.gate.leave(self)
        self.transport.abort()


class Turnstile:
    """Lets every source look things up so often in a second, and no more.

    It asks no Redis, and is no coroutine, of which callers who wait would need one
    more. Only GET is counted, which nobody needs to keep a name, and inboxes by
    themselves: a class that has looked too often loses nothing but a second.
    """

    def __init__(self, app: ASGIApp, per_second: int) -> None:
        self._app, self._per_second = app, per_second
        self._second = 0
        self._looks: dict[tuple[str, bool], int] = {}  # in this second

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            now = time.monotonic()
            if int(now) != self._second:
                self._second = int(now)
                self._looks.clear()
            path = scope["path"].split("/")
            what = source_at(scope["client"][0]), path[5:] == ["inbox"]
            looks = self._looks[what] = self._looks.get(what, 0) + 1
            if looks > self._per_second:
                wait = self._second + 1 - now
                return problem("too_many_look_ups", wait)(scope, receive, send)
        return self._app(scope, receive, send)


@lru_cache(4096)
def source_at(host: str) -> str:
    """The source that an address of a socket belongs to; see Limits."""
    return source_of(legal_address(host.partition("%")[0]))


def most_connections() -> int:
    """How many connections this process has files for, as far as the system tells."""
    if sys.platform == "win32":
        return MANY_FILES
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MANY_FILES
    return max(files - SPARE, files // 2)


def want_many_files() -> None:
    """Ask the system for MANY_FILES, or as many as it gives.

    Only for a process that does nothing else.
    """
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
