"""The thread that waits for all UDP sockets of this process, and for their clocks."""

from __future__ import annotations

import contextlib
import contextvars
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Protocol

from p2plab.net.stuck import CALLS, NeverBack, watching

LONGEST_PAUSE: Final = 60.0  # select takes no eternity [s]
PATIENCE: Final = 5.0  # for a callback that takes its time while we close [s]


class Member(Protocol):
    """What a reactor drives, from its own thread; none of this may raise."""

    def fileno(self) -> int:
        """The socket to wait for."""

    def wake_at(self) -> float | None:
        """When to `turn` even if nothing has come, by time.monotonic [s], or None."""

    def turn(self, ready: bool) -> None:
        """Do what is due; `ready`: something waits at the socket."""


class Reactor:
    """One thread for many sockets; it ends with the last of them.

    One for all, because two peers in one process with a thread each would hand Python's
    lock to each other for every flight of packets, which takes longer than the flight.
    """

    _shared: ClassVar[Reactor | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()  # who joins, and who ends

    def __init__(self) -> None:
        self._members: dict[Member, contextvars.Context] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._left: list[threading.Event] = []  # those who wait for `leave`
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)
        self._wakee.setblocking(False)
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._thread = threading.Thread(
            target=self._loop, name="p2plab udp", daemon=True
        )

    @classmethod
    def join(cls, member: Member) -> Reactor:
        """Let this process's reactor drive `member`, and return it."""
        # In a notebook the context says which cell a callback's output belongs to.
        context = contextvars.copy_context()
        with cls._lock:
            reactor = cls._shared
            if reactor is None or not reactor._thread.is_alive():  # or after a fork
                reactor = cls._shared = cls()
                reactor._thread.start()
            reactor._commands.append(lambda: reactor._add(member, context))
        reactor._wake()
        return reactor

    @property
    def here(self) -> bool:
        """Whether the caller is in the reactor's thread."""
        return threading.current_thread() is self._thread

    def call(self, command: Callable[[], None]) -> None:
        """Run `command` in the thread, soon; it must not raise.

        After the thread's end it is run at once, by the caller.
        """
        with self._lock:
            ended = self._ended
            if not ended:
                self._commands.append(command)
        if ended:
            command()
        else:
            self._wake()

    def leave(self, member: Member, last: Callable[[], None]) -> None:
        """Call `last` in the thread, and drive `member` no more; return after that.

        `last` may close the socket. In the thread itself it returns at once.
        """
        left = threading.Event()

        def leave() -> None:
            if self._members.pop(member, None) is not None:
                self._selector.unregister(member)
                last()
            if self._ended:
                left.set()
            else:
                self._left.append(left)

        self.call(leave)
        if not self.here:
            left.wait(PATIENCE)
            if self._ended:
                self._thread.join(PATIENCE)

    def _add(self, member: Member, context: contextvars.Context) -> None:
        self._members[member] = context
        self._selector.register(member, selectors.EVENT_READ, member)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # woken often enough, or ended meanwhile
            self._waker.send(b"!")

    def _loop(self) -> None:
        with watching(lambda: CALLS.now):
            ended = False
            while not ended:
                with contextlib.suppress(NeverBack):  # it came when all was over
                    ended = self._over() or self._turn()
        self._selector.close()
        self._waker.close()
        self._wakee.close()

    def _turn(self) -> bool:
        dues = {each: each.wake_at() for each in self._members}
        ready = {key.data for key, _ in self._selector.select(_pause(dues))}
        with contextlib.suppress(BlockingIOError):
            self._wakee.recv(4096)
        while self._commands:
            self._commands.popleft()()
        now = time.monotonic()
        for member, context in list(self._members.items()):
            due = dues.get(member)  # what a command made due, the next turn does
            if member in ready or (due is not None and due <= now):
                context.run(member.turn, member in ready)
        return False

    def _over(self) -> bool:
        with self._lock:
            self._ended = not self._members and not self._commands
            if self._ended and Reactor._shared is self:
                Reactor._shared = None
        while self._left:
            self._left.pop().set()
        return self._ended


def _pause(dues: Mapping[Member, float | None]) -> float:
    now = time.monotonic()
    times = [due for due in dues.values() if due is not None]
    return max(0.0, min([*times, now + LONGEST_PAUSE]) - now)
