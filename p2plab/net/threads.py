"""Threads of ours: no program waits for their end, and one serves all UDP sockets."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import threading
import warnings
from collections.abc import Callable
from typing import ClassVar, Final

from p2plab.sim.watchdog import Stuck, Watchdog

LIMIT: Final = 5.0  # for a call of a protocol; a usual one takes a thousandth of it [s]
PATIENCE: Final = 5.0  # for a callback that takes its time while we close [s]


def spawn(
    work: Callable[..., object], *arguments: object, name: str | None = None
) -> threading.Thread:
    """Start a daemon thread in the caller's context.

    In a notebook the context says which cell a callback's output belongs to.
    """
    run = contextvars.copy_context().run
    thread = threading.Thread(
        target=run, args=(work, *arguments), name=name, daemon=True
    )
    thread.start()
    return thread


def warn_caller(why: Exception | None) -> None:
    """Warn whoever called our caller, if there is a why and it is the main thread.

    The words of another one would come into somebody else's cell.
    """
    if why is not None and threading.current_thread() is threading.main_thread():
        warnings.warn(str(why), stacklevel=3)


class SocketThread:
    """One thread with an event loop for many sockets; it ends with the last of them.

    One for all, because two peers in one process with a thread each would hand Python's
    lock to each other for every flight of packets, which takes longer than the flight.

    watchdog: whoever calls a protocol tells it when the call begins and ends.
    """

    _shared: ClassVar[SocketThread | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()  # who joins, and who ends

    def __init__(self) -> None:
        # Not the default one: on Windows that cannot wait for a socket of ours.
        self._loop = asyncio.SelectorEventLoop()
        self._sockets = 0
        self._ended = False
        self.watchdog = Watchdog(LIMIT)
        self._thread = threading.Thread(
            target=self._run, name="p2plab udp", daemon=True
        )

    @classmethod
    def join(cls, sock: socket.socket, on_ready: Callable[[], None]) -> SocketThread:
        """Call `on_ready` in this process's thread whenever something waits at `sock`.

        It must not raise.
        """
        with cls._lock:
            shared = cls._shared
            if shared is None or not shared._thread.is_alive():  # or after a fork
                shared = cls._shared = cls()
                shared._thread.start()
            shared._sockets += 1
            add = shared._loop.add_reader
            shared._loop.call_soon_threadsafe(add, sock, on_ready)
        return shared

    @property
    def here(self) -> bool:
        """Whether the caller is in the thread."""
        return threading.current_thread() is self._thread

    def call(self, command: Callable[[], None]) -> None:
        """Run `command` in the thread, soon; it must not raise.

        After the thread's end it is run at once, by the caller.
        """
        with self._lock:
            ended = self._ended
            if not ended:
                self._loop.call_soon_threadsafe(command)
        if ended:
            command()

    def call_at(self, when: float, command: Callable[[], None]) -> asyncio.TimerHandle:
        """Run `command` at a time by time.monotonic [s]; for the thread itself."""
        return self._loop.call_at(when, command)

    def leave(self, sock: socket.socket, last: Callable[[], None]) -> None:
        """Wait for `sock` no more, then call `last`, which may close it, in the thread.

        Returns after that; in the thread itself at once. To be called once.
        """
        left = threading.Event()

        def leave() -> None:
            self._loop.remove_reader(sock)
            last()
            with self._lock:
                self._sockets -= 1
                self._ended = not self._sockets
                if self._ended and SocketThread._shared is self:
                    SocketThread._shared = None
            if self._ended:
                self._loop.call_soon(self._loop.stop)  # behind all that was called
            left.set()

        self.call(leave)
        if not self.here:
            left.wait(PATIENCE)
            if self._ended:
                self._thread.join(PATIENCE)

    def _run(self) -> None:
        with self.watchdog:
            while not self._ended:
                with contextlib.suppress(Stuck):  # it came when the call was over
                    self._loop.run_forever()
        self._loop.close()
