"""One thread for all UDP sockets of a process: who joins, who leaves, who is late."""

from __future__ import annotations

import socket
import threading
import time

from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.net.threads import SocketThread


class Member:
    """A socket that tells when it had a turn."""

    def __init__(self) -> None:
        self.inside, self.outside = socket.socketpair()
        self.turned = threading.Event()
        self.here: threading.Thread | None = None
        self.thread = SocketThread.join(self.inside, self.turn)

    def turn(self) -> None:
        self.inside.recv(100)
        self.here = threading.current_thread()
        self.turned.set()

    def wake(self) -> threading.Thread:
        self.outside.send(b"!")
        assert self.turned.wait(5)
        assert self.here is not None
        return self.here

    def leave(self) -> None:
        self.thread.leave(self.inside, self.inside.close)
        self.outside.close()


def test_all_share_one_thread_which_ends_with_the_last_and_begins_anew() -> None:
    one, two = Member(), Member()
    thread = one.wake()
    assert two.wake() is thread
    one.leave()
    assert thread.is_alive()
    two.leave()
    assert not thread.is_alive()
    three = Member()
    assert three.wake() is not thread
    three.leave()


def test_a_command_runs_in_the_thread_and_after_its_end_by_who_gives_it() -> None:
    member = Member()
    ran: list[threading.Thread] = []
    done = threading.Event()

    def command() -> None:
        ran.append(threading.current_thread())
        done.set()

    def clock() -> None:
        member.thread.call_at(time.monotonic(), command)

    member.thread.call(clock)
    assert done.wait(5)
    thread = member.wake()
    member.leave()
    member.thread.call(command)
    assert ran == [thread, threading.current_thread()]
