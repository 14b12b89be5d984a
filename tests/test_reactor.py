"""One thread for all UDP sockets of a process: who joins, who leaves, who raises."""

from __future__ import annotations

import contextvars
import socket
import threading
import time

import pytest
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.net.reactor import Reactor


class Member:
    """A socket that tells when it had a turn."""

    def __init__(self, due: float | None = None) -> None:
        self.inside, self.outside = socket.socketpair()
        self.due = due
        self.turned = threading.Event()
        self.threads: set[threading.Thread] = set()
        self.reactor = Reactor.join(self)

    def fileno(self) -> int:
        return self.inside.fileno()

    def wake_at(self) -> float | None:
        return self.due

    def turn(self, ready: bool) -> None:
        self.due = None
        if ready:
            self.inside.recv(100)
        self.threads.add(threading.current_thread())
        self.turned.set()

    def leave(self) -> None:
        self.reactor.leave(self, self.inside.close)
        self.outside.close()


def test_all_members_share_one_thread_which_ends_with_the_last_of_them() -> None:
    one, two = Member(), Member()
    for each in (one, two):
        each.outside.send(b"!")
        assert each.turned.wait(5)
    assert one.threads == two.threads
    (thread,) = one.threads
    one.leave()
    assert thread.is_alive()
    two.leave()
    assert not thread.is_alive()


def test_a_member_has_its_turn_when_its_time_has_come() -> None:
    member = Member(due=time.monotonic())
    assert member.turned.wait(5)
    member.leave()


def test_who_comes_after_the_last_has_left_gets_a_new_thread() -> None:
    for _ in range(2):
        member = Member()
        member.outside.send(b"!")
        assert member.turned.wait(5)
        member.leave()


def test_leaving_twice_is_fine() -> None:
    member = Member()
    member.leave()
    member.reactor.leave(member, lambda: pytest.fail("it had left"))


def test_a_command_after_the_end_is_run_by_who_gives_it() -> None:
    member = Member()
    member.leave()
    ran: list[threading.Thread] = []
    member.reactor.call(lambda: ran.append(threading.current_thread()))
    assert ran == [threading.current_thread()]


def test_a_turn_sees_the_context_in_which_the_member_joined() -> None:
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")
    seen: list[str] = []

    class Curious(Member):
        def turn(self, ready: bool) -> None:
            seen.append(cell.get())
            super().turn(ready)

    other = Member()  # its context, of before, is not the one
    cell.set("seventh")
    member = Curious()
    member.outside.send(b"!")
    assert member.turned.wait(5)
    member.leave()
    other.leave()
    assert seen == ["seventh"]
