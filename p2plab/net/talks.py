"""The connections of a chat server, and which of them have proven who they are."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2plab.errors import CorruptPacket, Forged
from p2plab.net.frames import Decoder, Line, MessageId
from p2plab.net.handshake import admit
from p2plab.net.inbox import Address
from p2plab.net.session import Session
from p2plab.net.threads import spawn

THREAD: Final = "p2plab-chat"  # the name of each
TICK: Final = 0.2  # a waiting thread looks for stop() at least so often [s]
UNPROVEN: Final = 128  # connections that have not proven anything yet
UNPROVEN_OF_SOURCE: Final = 32  # of them from one address; a class may share one
CONNECTIONS_OF_PEER: Final = 4  # a client needs one; one that broke may linger


@dataclass(slots=True)
class Talk:
    """What a server knows about one connection."""

    line: Line
    address: Address
    session: Session | None = None  # what the other side has proven
    proven: bool = False  # a session; where none are asked for, that it can speak
    leaving: bool = False  # it had to make room
    heard_at: float = field(default_factory=time.perf_counter)
    due: list[tuple[float, MessageId, int]] = field(default_factory=list)  # ACKs, heap

    def idle(self, timeout: float) -> bool:
        return not self.due and time.perf_counter() - self.heard_at > timeout

    def patience(self) -> float:
        return min(TICK, self.due[0][0] - time.perf_counter()) if self.due else TICK

    def leave(self) -> None:
        self.leaving = True
        self.line.hang_up()


class Talks:
    """Runs `converse` for each connection, in a thread, once it may.

    sessions: if given, only who proves one of them within proof_timeout [s] may; if
    not, the first whole text is proof enough.
    A newcomer never waits for strangers: when too many connections have not proven
    anything (UNPROVEN, UNPROVEN_OF_SOURCE), the one that has had the longest time ends,
    and a peer's newest connection ends its oldest (CONNECTIONS_OF_PEER). Above
    max_connections, newcomers are turned away; in a session, once they have proven it.
    counts: broken, forged, strangers, turned_away; see ChatServer.
    """

    def __init__(
        self,
        converse: Callable[[Talk], None],
        max_connections: int,
        sessions: Callable[[bytes], Session | None] | None,
        proof_timeout: float,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._converse = converse
        self._max_connections = max_connections
        self._sessions = sessions
        self._proof_timeout = proof_timeout
        self._talks: dict[threading.Thread, Talk] = {}  # the oldest first
        self._lock = threading.Lock()  # for the talks and the counts

    def begin(self, connection: socket.socket, address: Address) -> None:
        """Give a new connection its thread, or turn it away."""
        with self._lock:
            self._make_room(address[0])
            if self._full:
                self.counts["turned_away"] += 1
                connection.close()
                return
            talk = Talk(Line(connection), address)
            thread = spawn(self._run, talk, name=THREAD)
            self._talks[thread] = talk  # before it can end, which needs the lock

    def end(self, timeout: float) -> None:
        """Hang up everywhere; wait for each thread, but our own, so long [s]."""
        with self._lock:
            talks = self._talks.copy()
        for talk in talks.values():
            talk.line.hang_up()
        for thread in talks:
            if thread is not threading.current_thread():
                thread.join(timeout)

    @property
    def _full(self) -> bool:
        """Whether there is no room for whoever need not prove anything."""
        staying = sum(not talk.leaving for talk in self._talks.values())
        return self._sessions is None and staying >= self._max_connections

    def _make_room(self, source: str) -> None:
        waiting = [
            talk for talk in self._talks.values() if not (talk.proven or talk.leaving)
        ]
        same = [talk for talk in waiting if talk.address[0] == source]
        if len(same) >= UNPROVEN_OF_SOURCE:
            same[0].leave()
        elif len(waiting) >= UNPROVEN or (self._full and waiting):
            waiting[0].leave()

    def _run(self, talk: Talk) -> None:
        why = ""
        try:
            why = self._objection(talk)
            if not why:
                self._converse(talk)
        except Forged:
            why = "forged"
        except CorruptPacket:
            why = "broken"
        except OSError:
            pass  # the peer went away: its texts come again over a new connection
        finally:
            with self._lock:
                self.counts.update([why] if why else [])  # before anybody sees the end
            talk.line.socket.close()
            with self._lock:
                del self._talks[threading.current_thread()]

    def _objection(self, talk: Talk) -> str:
        """Let it prove who it is; return why it may not go on, or nothing."""
        if self._sessions is None:
            return ""
        line = talk.line
        try:
            session, line.tag, theirs = admit(
                line.socket, self._sessions, self._proof_timeout
            )
        except (Forged, OSError):
            return "strangers"
        line.decoder = Decoder(theirs)
        with self._lock:
            proven = [
                (each, each.session.peer)
                for each in self._talks.values()
                if each.session is not None and not each.leaving
            ]
            same = [each for each, peer in proven if peer == session.peer]
            if len(same) >= CONNECTIONS_OF_PEER:
                same[0].leave()
            elif len(proven) >= self._max_connections:
                return "turned_away"
            talk.session, talk.proven = session, True
        talk.heard_at = time.perf_counter()
        return ""
