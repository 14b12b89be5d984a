"""The receiving end of a chat: a TCP port, a thread per connection, and an inbox."""

from __future__ import annotations

import contextvars
import errno
import heapq
import math
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Self

from p2plab.errors import CorruptPacket, PortInUse
from p2plab.frames import Frame, FrameKind, Line, MessageId, encode
from p2plab.inbox import Address, Event, Inbox, Log, Message

MAX_PENDING = 1_000  # ACKs that wait for their moment on one connection
WRITE_TIMEOUT = 5.0  # for a peer that never reads its ACKs
TICK = 0.2  # a waiting thread looks for stop() at least so often [s]


@dataclass(slots=True)
class _Talk:
    """What a server knows about one connection."""

    line: Line
    address: Address
    heard_at: float = field(default_factory=time.perf_counter)
    due: list[tuple[float, MessageId, int]] = field(default_factory=list)  # ACKs, heap

    def idle(self, timeout: float) -> bool:
        return not self.due and time.perf_counter() - self.heard_at > timeout

    def patience(self) -> float:
        return min(TICK, self.due[0][0] - time.perf_counter()) if self.due else TICK


class ChatServer:
    """Takes texts, a thread per connection; shows each once, acknowledges every copy.

    name: for the log. ack_delay [s] and ack_loss, in [0, 1), may change while it runs.
    on_message: called with each new Message, in a thread, before its ACK; what it
    raises is kept in callback_error, and the message is acknowledged all the same.
    inbox_limit: a text that finds the inbox full gets no ACK, so its sender keeps it.
    idle_timeout: a connection that brings no whole text for so long is closed [s].
    Counted: duplicates; broken, connections closed for bytes that are no text;
    turned_away, connections above max_connections. start() can raise PortInUse.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "",
        ack_delay: float = 0.0,
        ack_loss: float = 0.0,
        seed: int = 0,
        on_message: Callable[[Message], object] | None = None,
        inbox_limit: int = 1_000,
        max_connections: int = 256,
        idle_timeout: float = 60.0,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be in [0, 65535], got {port}")
        self.address: Address = (host, port)
        self.ack_delay = ack_delay
        self.ack_loss = ack_loss
        self.on_message = on_message
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout
        self.broken = self.turned_away = 0
        self.callback_error: Exception | None = None
        self._inbox = Inbox(inbox_limit)
        self._log = Log(name)
        self._rng = Random(seed)
        self._talks: dict[threading.Thread, _Talk] = {}
        self._lock = threading.Lock()  # for the talks and the two counts
        self._stopping = threading.Event()
        self._listener: socket.socket
        self._acceptor: threading.Thread | None = None

    @property
    def ack_delay(self) -> float:
        return self._ack_delay

    @ack_delay.setter
    def ack_delay(self, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"ack_delay must be 0 seconds or more, got {seconds}")
        self._ack_delay = seconds

    @property
    def ack_loss(self) -> float:
        return self._ack_loss

    @ack_loss.setter
    def ack_loss(self, loss: float) -> None:
        if not 0 <= loss < 1:
            raise ValueError(f"ack_loss must be in [0, 1), got {loss}")
        self._ack_loss = loss

    @property
    def inbox(self) -> list[Message]:
        return self._inbox.messages()

    @property
    def duplicates(self) -> int:
        return self._inbox.duplicates

    @property
    def events(self) -> list[Event]:
        return self._log.events()

    def clear(self) -> None:
        """Empty the inbox."""
        self._inbox.clear()

    def start(self) -> Self:
        """Listen; from here on `address` has the port that the system chose."""
        if self._acceptor is None:
            self._listener = _listen(*self.address)
            self.address = self._listener.getsockname()[:2]
            self._stopping.clear()
            self._acceptor = _thread(self._accept, self._listener)
            self._acceptor.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection; all threads are gone afterwards.

        Except a thread in which on_message takes longer than 5 s.
        """
        self._stopping.set()
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            with suppress(OSError):  # wakes it on Linux; elsewhere it takes a TICK
                self._listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
        with self._lock:
            talks = self._talks.copy()
        for talk in talks.values():
            talk.line.hang_up()
        for thread in talks:
            if thread is not threading.current_thread():  # on_message may call stop
                thread.join(WRITE_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *why: object) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(TICK)
        with listener:
            while not self._stopping.is_set():
                try:
                    connection, address = listener.accept()
                    self._welcome(connection, address[:2])
                except TimeoutError:
                    pass
                except (OSError, RuntimeError):  # no file handle or thread is left
                    self._stopping.wait(TICK)

    def _welcome(self, connection: socket.socket, address: Address) -> None:
        with self._lock:
            if len(self._talks) >= self.max_connections:
                self.turned_away += 1
                connection.close()
                return
            talk = _Talk(Line(connection), address)
            thread = _thread(self._converse, talk)
            thread.start()
            self._talks[thread] = talk  # before it can end, which needs the lock

    def _converse(self, talk: _Talk) -> None:
        try:
            while not self._stopping.is_set() and not talk.idle(self.idle_timeout):
                for frame in talk.line.read(talk.patience()):
                    self._take(talk, frame)
                self._acknowledge(talk)
        except CorruptPacket:
            with self._lock:
                self.broken += 1
        except OSError:
            pass  # the peer went away: its texts come again over a new connection
        finally:
            talk.line.socket.close()
            with self._lock:
                del self._talks[threading.current_thread()]

    def _take(self, talk: _Talk, frame: Frame) -> None:
        talk.heard_at = time.perf_counter()
        if frame.kind != FrameKind.TEXT or len(talk.due) >= MAX_PENDING:
            raise CorruptPacket("only texts are taken here, and not so many at once")
        message = Message(frame.name, frame.text, time.time(), talk.address, frame.id)
        copy = self._inbox.put(message)
        if not copy:
            self._log.add("refused", frame.id, 1)
            return
        self._log.add("arrive" if copy == 1 else "duplicate", frame.id, copy)
        if copy == 1 and self.on_message is not None:
            try:
                self.on_message(message)
            except Exception as error:  # not the sender's fault
                self.callback_error = error
        heapq.heappush(talk.due, (talk.heard_at + self.ack_delay, frame.id, copy))
        self._acknowledge(talk)

    def _acknowledge(self, talk: _Talk) -> None:
        """Send the ACKs whose moment has come, or lose them."""
        while talk.due and talk.due[0][0] <= time.perf_counter():
            _, id, copy = heapq.heappop(talk.due)
            if self._rng.random() < self.ack_loss:
                self._log.add("ack lost", id, copy)
            else:
                self._log.add("ack sent", id, copy)
                talk.line.write(encode(Frame(FrameKind.ACK, id)), WRITE_TIMEOUT)


def _thread(run: Callable[..., None], *args: object) -> threading.Thread:
    # In a notebook the context says which cell a callback's output belongs to.
    context = contextvars.copy_context()
    return threading.Thread(
        target=context.run, args=(run, *args), name="p2plab-chat", daemon=True
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # SO_REUSEADDR only where it means what we want, so not on Windows.
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"port {port} of {host} is taken or needs administrator's rights: "
                "stop the other program, or choose port 0, and the system finds one"
            ) from error
        raise ValueError(
            f"host must be an address of this computer, got {host!r} ({error})"
        ) from error
