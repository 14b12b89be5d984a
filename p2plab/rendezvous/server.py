"""Runs the rendezvous: behind a notebook, inside a test, or from a shell."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Self

import fakeredis
import uvicorn

from p2plab.errors import RendezvousError
from p2plab.net.stun_server import StunServer, start_near
from p2plab.net.threads import spawn
from p2plab.rendezvous.addresses import own_addresses
from p2plab.rendezvous.api import Service, make_app
from p2plab.rendezvous.connections import (
    KEEP_ALIVE,
    Gate,
    Turnstile,
    most_connections,
    want_many_files,
)
from p2plab.rendezvous.contents import Kept, contents
from p2plab.rendezvous.database import Database
from p2plab.rendezvous.hub import BLOCK, Hub
from p2plab.rendezvous.listening import BACKLOG, bind, url_of
from p2plab.rendezvous.model import Limits
from p2plab.rendezvous.nodes import AWAY, PATIENCE, Nodes, connect, memory
from p2plab.rendezvous.store import Store

OBSERVING = 256  # STUN requests whose nonces are looked up at a time
START_PATIENCE = 10.0  # seconds
NO_NETWORK = "none, as this one has no network yet: join one, and start this again"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}

# Whoever configures logging sees uvicorn's messages; nobody else's cell does.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())


class RendezvousServer:
    """A rendezvous in a background thread.

    port: 0 lets the operating system choose; a restart keeps the port.
    redis_url: `redis://host:6379/0`, or `redis+cluster://host:6379` for a cluster; None
    asks the variable P2PLAB_REDIS_URL; an empty one, or no such variable, keeps the
    names inside this process. Any number of servers may share one Redis.
    shards: slots of a cluster that the rooms are spread over, the same number for all
    servers of a Redis; without a cluster, more than one brings nothing.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        redis_url: str | None = None,
        *,
        shards: int = 1,
        limits: Limits | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be in 0..65535, got {port}")
        if redis_url is None:
            redis_url = os.environ.get("P2PLAB_REDIS_URL", "")
        if redis_url:
            connect(redis_url)  # a wrong URL is an error here, not in the thread
        self.host = host
        self.port = port
        self.redis_url = redis_url
        self._memory = fakeredis.FakeServer()
        self.shards = shards
        self._limits = limits or Limits()
        self._service = self._make_service()
        self._observing = threading.BoundedSemaphore(OBSERVING)
        self._running: _Uvicorn | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches the rendezvous, once it has started."""
        return url_of(ANY_HOST.get(self.host, self.host), self.port)

    @property
    def urls_elsewhere(self) -> list[str]:
        """Where other machines reach it, the likeliest first, if it lets them in."""
        own = own_addresses() if self.host in ANY_HOST else []
        return [url_of(each, self.port) for each in own]

    @property
    def waiting(self) -> int:
        """How many callers wait here now for something to happen."""
        return self._service.hub.waiting

    def start(self) -> Self:
        """Return when requests are answered; starting twice is starting once.

        Raises PortInUse, or RendezvousError for a host that is not this machine's.
        """
        if self._running is not None:
            return self
        listener = bind(self.host, self.port)
        host, self.port = listener.getsockname()[:2]
        self._service = self._make_service()
        stun = partial(self._answer_stun, host)
        running = _Uvicorn(self._config(), self._service.hub, stun)
        name = f"rendezvous on port {self.port}"
        self._thread = spawn(running.serve_here, listener, name=name)
        if not running.ready.wait(START_PATIENCE) or not running.started:
            running.should_exit = True
            listener.close()
            self._thread.join(START_PATIENCE)
            trouble = self._service.disagreement or "it said nothing in time"
            raise RendezvousError(
                f"the rendezvous did not start on {self.url}: {trouble}"
            )
        self._running = running
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Answer what has been asked, then end; stopping twice is stopping once."""
        if self._running is None or self._thread is None:
            return
        self._running.should_exit = True
        self._thread.join()
        self._running = self._thread = None
        atexit.unregister(self.stop)

    def redis_trouble(self) -> str:
        """Ask the Redis once; return why it does not answer, or nothing.

        Not inside a running event loop.
        """
        return asyncio.run(_trouble_of(self._redis()))

    def contents(self) -> list[Kept]:
        """Look at what is kept in Redis, without secrets. Raises RedisError."""
        return contents(self.redis_url, self._memory)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()

    async def _answer_stun(self, host: str) -> StunServer:
        stun = await start_near(host, self.port, self.observed)
        self._service.stun_port = stun.address[1]
        return stun

    def _config(self) -> uvicorn.Config:
        limits = self._limits
        gate = Gate(limits.connections_per_source, most_connections())
        return uvicorn.Config(
            Turnstile(make_app(self._service), limits.look_ups_per_second),
            interface="asgi3",
            loop="auto",  # uvloop, except on Windows
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

    def observed(self, nonce: str, address: str, port: int) -> None:
        """Write down where a STUN request with this nonce came from.

        May be called from any thread; in a flood, some are left out.
        """
        loop, names = self._service.loop, self._service.store.names
        if loop is None or not self._observing.acquire(blocking=False):
            return
        wish = names.observed(nonce, address, port)
        try:
            done = asyncio.run_coroutine_threadsafe(wish, loop)
        except RuntimeError:  # it ends at this moment
            wish.close()
            self._observing.release()
        else:
            done.add_done_callback(lambda _: self._observing.release())

    def _make_service(self) -> Service:
        limits = self._limits
        hub = Hub(
            self._redis(PATIENCE + BLOCK / 1000),
            self.shards,
            limits.waiting_per_name,
            limits.waiting_per_source,
        )
        return Service(Store(self._redis(), limits, self.shards), hub)

    def _redis(self, patience: float = PATIENCE) -> Nodes:
        if self.redis_url:
            return connect(self.redis_url, patience)
        return memory(self._memory, patience)


async def _trouble_of(nodes: Nodes) -> str:
    try:
        await Database(nodes).ping()
    except AWAY as why:
        return str(why).rstrip(".")
    finally:
        await nodes.aclose()
    return ""


class _Uvicorn(uvicorn.Server):
    """A server that tells when it is ready."""

    def __init__(
        self,
        config: uvicorn.Config,
        hub: Hub,
        answer_stun: Callable[[], Awaitable[StunServer]],
    ) -> None:
        super().__init__(config)
        self._answer_stun = answer_stun
        self.ready = threading.Event()
        self._hub = hub

    def serve_here(self, listener: socket.socket) -> None:
        """Serve, in this thread, until it is to end or could not begin."""
        with suppress(SystemExit):  # its word for a failed start, which `start` tells
            self.run([listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Windows complains there about every client that hangs up.
        asyncio.get_running_loop().set_exception_handler(_to_log)
        try:
            await super().startup(sockets)
            if self.started:
                self._stun = await self._answer_stun()
        finally:
            self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stun.stop()
        self._hub.dismiss()  # it waits for callers, and they would wait for news
        await super().shutdown(sockets)


def _to_log(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    logging.getLogger("uvicorn.error").warning("%s", context.get("message"))


def pause_less() -> None:
    """Let the collector of cycles leave alone what is there for good.

    With 1,000 callers waiting its rounds took 60 ms, in which nobody is answered.
    Only for a process that does nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def serve_forever(
    host: str = "127.0.0.1",
    port: int = 0,
    redis_url: str | None = None,
    shards: int = 1,
) -> None:
    """Run in the foreground until Ctrl-C or SIGTERM, and print where.

    Raises PortInUse.
    """
    want_many_files()
    asked: list[int] = []  # to stop; an exception could be lost in a finaliser
    with RendezvousServer(host, port, redis_url, shards=shards) as server:
        old = {
            each: signal.signal(each, lambda number, frame: asked.append(number))
            for each in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            tell_where(server)
            pause_less()
            while not asked:
                time.sleep(0.2)
        finally:
            for each, handler in old.items():
                signal.signal(each, handler)
    print("rendezvous stopped", flush=True)


def tell_where(server: RendezvousServer) -> None:
    """Print the addresses of a server, and whether its Redis is away."""
    print(f"rendezvous on {server.url} (Ctrl-C stops it)", flush=True)
    if server.host in ANY_HOST:
        elsewhere = "\n             or: ".join(server.urls_elsewhere)
        print(f"other machines: {elsewhere or NO_NETWORK}", flush=True)
    if trouble := server.redis_trouble():
        print(
            f"The Redis does not answer ({trouble}): start it, or check its URL. "
            "Until then nobody can register.",
            file=sys.stderr,
            flush=True,
        )
