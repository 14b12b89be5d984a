"""Runs the rendezvous: behind a notebook, inside a test, or from a shell."""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Any, ClassVar, Final, Self, TypeVar

import fakeredis
import h11
import uvicorn
from redis.exceptions import RedisClusterException, RedisError
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2plab.errors import PortInUse, RendezvousError
from p2plab.net.stun import start_near
from p2plab.net.threads import spawn
from p2plab.rendezvous.addresses import EVERYWHERE, listening_on, own_addresses
from p2plab.rendezvous.api import Service, address_at, make_app
from p2plab.rendezvous.contents import Kept, contents
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.store import Store, connect, source_of

BACKLOG: Final = 4096  # a school that connects at once; the system may allow fewer
KEEP_ALIVE: Final = 75  # s until the next request; longer than a heartbeat's pause
SPARE: Final = 200  # files beside connections: STUN, those that just come and go
MANY_FILES: Final = 10_240  # as many as any system lets a process wish for
MOST_AHEAD: Final = 16_384  # bytes of further requests; our clients send none
MOST_AFTER: Final = 1_000_000  # bytes of a refused request
OBSERVING = 256  # STUN requests whose nonces are looked up at a time
PATIENCE = 10.0  # s for the thread to start, or to do something
NO_NETWORK = "none, as this one has no network yet: join one, and start this again"
Result = TypeVar("Result")


class _SteadyTime:
    """In place of the module `time`: seconds since 1970, however the clock is set."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()

    def time(self) -> float:
        """Return the time that has gone by since the start, and when that was."""
        return self._began + time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


# The embedded store's leases last as long as they should, whoever sets the clock.
for each in [m for n, m in sys.modules.items() if n.startswith("fakeredis")]:
    if getattr(each, "time", None) is time:
        each.time = _SteadyTime()  # type: ignore[attr-defined]

# Whoever configures logging sees uvicorn's messages; nobody else's cell does.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())


class RendezvousServer:
    """A rendezvous in a background thread.

    port: 0 lets the operating system choose; a restart keeps the port.
    redis_url: `redis://host:6379/0`, or `redis+cluster://host:6379` for a cluster; None
    asks the variable P2PLAB_REDIS_URL; an empty one, or no such variable, keeps the
    names inside this process. Any number of servers may share one Redis.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        redis_url: str | None = None,
        *,
        limits: Quotas | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be in 0..65535, got {port}")
        if redis_url is None:
            redis_url = os.environ.get("P2PLAB_REDIS_URL", "")
        connect(redis_url)  # a wrong URL is an error here, not in the thread
        self.host = listening_on(host)
        self.port = port
        self.redis_url = redis_url
        self._memory = fakeredis.FakeServer()
        self._limits = limits or Quotas()
        self._service = Service(self._limits)
        self._observing: set[asyncio.Task[bool]] = set()
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._running: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches the rendezvous, once it has started."""
        return url_of(EVERYWHERE.get(self.host, self.host), self.port)

    @property
    def urls_elsewhere(self) -> list[str]:
        """Where other machines reach it, the likeliest first, if it lets them in."""
        own = own_addresses(self.host) if self.host in EVERYWHERE else []
        return [url_of(each, self.port) for each in own]

    @property
    def waiting(self) -> int:
        """How many calls wait here now at their inboxes."""
        return self._service.waiting

    def start(self) -> Self:
        """Return when requests are answered; starting twice is starting once.

        Raises PortInUse, or RendezvousError for a host that is not this machine's.
        """
        if self._running is not None:
            return self
        listener = bind(self.host, self.port)
        host, self.port = listener.getsockname()[:2]
        self._service = Service(self._limits)
        gate = Gate(self._limits.connections_per_source, most_connections())
        config = uvicorn.Config(
            make_app(self._service, lambda _: self._run(host)),
            loop="auto",  # uvloop, where it is installed
            http=gate.protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # or anybody could choose the address that we see
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
        running = uvicorn.Server(config)
        self._failed = None
        self._ready.clear()
        name = f"rendezvous on port {self.port}"

        def serve() -> None:
            try:
                running.run([listener])
            except (Exception, SystemExit) as why:
                if self._ready.is_set():
                    raise
                self._failed = self._failed or why
                self._ready.set()

        self._thread = spawn(serve, name=name)
        if not self._ready.wait(PATIENCE) or self._failed is not None:
            running.should_exit = True
            listener.close()
            self._thread.join(PATIENCE)
            why = self._failed or f"nothing happened within {PATIENCE:g} s"
            raise RendezvousError(
                f"the rendezvous did not start on {self.url}: {why}"
            ) from self._failed
        self._running = running
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Answer what has been asked, then end; stopping twice is stopping once."""
        if self._running is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._service.close)
        self._running.should_exit = True
        self._thread.join()
        self._running = self._thread = None
        atexit.unregister(self.stop)

    @asynccontextmanager
    async def _run(self, host: str) -> AsyncIterator[None]:
        """Keep the store open, and answer STUN, while the service runs."""
        self._loop = asyncio.get_running_loop()
        # Windows complains there about every client that hangs up.
        self._loop.set_exception_handler(_to_log)
        try:
            self._service.store = Store(self.redis_url, self._memory, self._limits)
            stun = await start_near(host, self.port, self.observed)
            self._service.stun_port = stun.address[1]
        except Exception as why:
            self._failed = why  # uvicorn says no more than that there is one
            raise
        self._ready.set()
        yield
        stun.stop()
        await self._service.store.aclose()

    def redis_trouble(self) -> str:
        """Try what peers will need; return what is wrong with the Redis, or nothing."""
        try:
            self._do(self._service.store.try_out())
        except OSError as why:
            return str(why)
        return ""

    def contents(self) -> list[Kept]:
        """Look at what is kept in Redis, without secrets.

        Raises OSError while the server does not run, or its Redis cannot be used.
        """
        if self._running is None:
            raise ConnectionError("the rendezvous does not run")
        return self._do(contents(self._service.store.redis))

    def observed(self, nonce: str, address: str, port: int) -> None:
        """Write down where a STUN request with this nonce came from.

        Called in the loop of the server; in a flood, some are left out.
        """
        if len(self._observing) < OBSERVING:
            wish = self._service.store.observed(nonce, address, port)
            task = self._loop.create_task(wish)
            self._observing.add(task)
            task.add_done_callback(self._observing.discard)

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have something done in the loop of the server, which runs.

        Raises ConnectionError with what is wrong with the Redis.
        """

        async def told() -> Result:
            try:
                return await work
            except (RedisError, RedisClusterException, OSError) as why:
                words = await self._service.store.trouble(why)
                raise ConnectionError(words) from None

        return asyncio.run_coroutine_threadsafe(told(), self._loop).result(PATIENCE)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()


class Gate:
    """Knows every connection, and ends those that only take up room.

    per_source: connections of one source (see Quotas), at most half of total: of all
    together, so that no source alone can have them all.
    Whoever is above either does not keep newcomers out: the oldest connection of the
    source that is not being answered makes room, one that has never asked first. So of
    silent ones any number can come, from a class's own address too: each of the class
    that asks at once is answered.
    """

    def __init__(self, per_source: int, total: int) -> None:
        self.per_source, self.total = min(per_source, total // 2), total
        self._lines: dict[Connection, None] = {}  # the oldest first

    def protocol(self) -> type[Connection]:
        """A class of connections that pass through this gate, for uvicorn."""
        return type("Connection", (Connection,), {"gate": self})

    def enter(self, line: Connection) -> bool:
        """Let a connection in; False if there is no room."""
        sources = Counter(each.source for each in self._lines)
        if sources[line.source] >= self.per_source and not self._end(line.source):
            return False
        if len(self._lines) >= self.total:
            ((largest, _),) = sources.most_common(1)
            if not self._end(largest):
                return False
        self._lines[line] = None
        return True

    def leave(self, line: Connection) -> None:
        """Forget a connection; twice is once."""
        self._lines.pop(line, None)

    def _end(self, source: str) -> bool:
        """End what is missed least of a source; False if all are being answered."""
        own = [each for each in self._lines if each.source == source]
        silent = (each for each in own if each.cycle is None)
        idle = (each for each in own if each.cycle and each.cycle.response_complete)
        for each in chain(silent, idle):
            self.leave(each)
            each.transport.abort()
            return True
        return False


class Connection(H11Protocol):
    """uvicorn's, which passes a gate, and ends when it is sent what nobody reads.

    h11 limits the head of a request, its trailers and its line of a chunk to 16 KiB,
    and the application its body. Ahead of an answer, and after a refusal of what still
    goes on, a little more is heard, so that whoever sends it reads why.
    """

    gate: ClassVar[Gate]
    source = ""
    _after = 0  # bytes of a request that came after its answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Pass the gate, or end."""
        super().connection_made(transport)
        if self.client is not None:  # or it has gone already
            self.source = source_of(address_at(self.client[0]))
        if self.client is None or not self.gate.enter(self):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came, or end."""
        super().data_received(data)
        ahead = len(self.conn.trailing_data[0])  # unread until the answer is given
        refused = self.conn.our_state is h11.DONE
        self._after = self._after + len(data) if refused else 0
        if ahead > MOST_AHEAD or self._after > MOST_AFTER:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave a place for another one."""
        self.gate.leave(self)
        super().connection_lost(exc)


def _to_log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logging.getLogger("uvicorn.error").warning("%s", context.get("message"))


def most_connections() -> int:
    """How many connections this process has files for, as far as the system tells.

    Each that waits takes another one to Redis.
    """
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


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; a busy port is found here, not in a thread."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio switch Nagle's algorithm off, which
    # would hold every answer back for the 40 ms of a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if host == "::":  # IPv4 is let in, too, whatever the system prefers
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if os.name == "posix":  # on Windows, two servers would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is used by another program: stop that program, "
                "or take another port (0 lets the system choose a free one)"
            ) from None
        raise RendezvousError(
            f"cannot listen on {host}, port {port} ({error.strerror}): host must be an "
            "address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them, "
            "and ports below 1024 may need rights that you do not have"
        ) from None


def url_of(host: str, port: int) -> str:
    """`http://host:port`, with brackets around IPv6 (a zone as in RFC 6874)."""
    host = host.replace("%", "%25")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_forever(
    host: str = "127.0.0.1",
    port: int = 0,
    redis_url: str | None = None,
) -> None:
    """Run in the foreground until Ctrl-C or SIGTERM, and print where.

    Raises PortInUse.
    """
    want_many_files()
    asked: list[int] = []  # to stop; an exception could be lost in a finaliser
    with RendezvousServer(host, port, redis_url) as server:
        old = {
            each: signal.signal(each, lambda number, frame: asked.append(number))
            for each in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            tell_where(server)
            while not asked:
                time.sleep(0.2)
        finally:
            for each, handler in old.items():
                signal.signal(each, handler)
    print("rendezvous stopped", flush=True)


def tell_where(server: RendezvousServer) -> None:
    """Print the addresses of a server, and whether its Redis is away."""
    print(f"rendezvous on {server.url} (Ctrl-C stops it)", flush=True)
    if server.host in EVERYWHERE:
        elsewhere = "\n             or: ".join(server.urls_elsewhere)
        print(f"other machines: {elsewhere or NO_NETWORK}", flush=True)
    if trouble := server.redis_trouble():
        print(
            f"The Redis cannot be used: {trouble}. Until then nobody can register.",
            file=sys.stderr,
            flush=True,
        )
