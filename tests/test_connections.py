"""Connections to a rendezvous: silent ones make room, and a whole class fits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse

import pytest
from loopback import PATIENCE, eventually, hears_the_end
from processes import Server

from p2plab.rendezvous import connections
from p2plab.rendezvous.connections import want_many_files
from p2plab.rendezvous.model import Limits
from p2plab.rendezvous.server import RendezvousServer

CLASS = 300
EACH = 3  # connections of one of the class
LOOK_UP = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
WAIT = b"GET /rooms/lobby/changes?wait=25 HTTP/1.1\r\nHost: here\r\n\r\n"
Address = tuple[str, int]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("FIRST_PATIENCE", "ANSWER_PATIENCE", "KEEP_ALIVE"):
        monkeypatch.setattr(connections, each, 0.1)
    monkeypatch.setattr(connections, "PAUSE", 0.02)


@contextmanager
def serving(limits: Limits | None = None) -> Iterator[Address]:
    with RendezvousServer(redis_url="", limits=limits) as server:
        yield "127.0.0.1", server.port


def connected(stack: ExitStack, server: Address) -> socket.socket:
    return stack.enter_context(socket.create_connection(server, PATIENCE))


def ask(line: socket.socket, request: bytes = LOOK_UP) -> HTTPResponse:
    """Ask, and return the answer once it is here."""
    line.sendall(request)
    answer = HTTPResponse(line)
    answer.begin()
    answer.read()
    return answer


def status(line: socket.socket) -> int:
    return ask(line).status


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("first", [b"", LOOK_UP[:20], b"\r\n"])
def test_who_asks_nothing_or_half_is_hung_up_on(first: bytes) -> None:
    with serving() as server, ExitStack() as stack:
        line = connected(stack, server)
        line.sendall(first)
        assert hears_the_end(line)


@pytest.mark.usefixtures("hasty")
def test_who_waits_for_news_may_wait_as_long_as_it_said() -> None:
    with serving() as server, ExitStack() as stack:
        line = connected(stack, server)
        assert ask(line, WAIT.replace(b"=25", b"=0.5")).status == 200


@pytest.mark.usefixtures("hasty")
def test_who_takes_its_answers_drop_by_drop_is_hung_up_on() -> None:
    number, page = 300, LOOK_UP.replace(b"/ ", b"/openapi.json ")
    with (
        serving(Limits(look_ups_per_second=number + 1)) as server,
        ExitStack() as stack,
    ):
        line = connected(stack, server)
        line.sendall(page)
        answer = HTTPResponse(line)
        answer.begin()
        size = len(answer.read())
        slow = stack.enter_context(socket.socket())
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(PATIENCE)
        slow.connect(server)
        slow.sendall(page * number)
        read = 0
        with suppress(ConnectionError):
            while drop := slow.recv(8):
                read += len(drop)
        assert 0 < read < number * size


@pytest.mark.usefixtures("hasty")
def test_who_has_asked_and_then_drips_has_no_longer_than_all_others() -> None:
    with serving() as server, ExitStack() as stack:
        line = connected(stack, server)
        assert status(line) == 200

        def ended() -> bool:
            try:
                line.sendall(b"\r\n")  # which would wind uvicorn's own clock up again
            except OSError:
                return True
            return False

        eventually(ended, "hung up on, though it never was quiet")


def test_silent_connections_make_room_and_those_that_ask_stay() -> None:
    with serving(Limits(connections_per_source=5)) as server, ExitStack() as stack:
        asking = [connected(stack, server) for _ in range(3)]
        assert [status(each) for each in asking] == [200] * 3
        silent = [connected(stack, server) for _ in range(20)]
        for each in silent[:18]:
            assert hears_the_end(each), "the oldest silent one makes room"
        assert [status(each) for each in (*asking, *silent[18:])] == [200] * 5
        late = connected(stack, server)
        assert status(late) == 200
        assert hears_the_end(asking[0]), "where nobody is silent, the oldest idle one"


def test_who_is_being_answered_is_not_hung_up_on_for_a_newcomer() -> None:
    limits = Limits(connections_per_source=2)
    with RendezvousServer(redis_url="", limits=limits) as server, ExitStack() as stack:
        address = "127.0.0.1", server.port
        for _ in range(2):
            connected(stack, address).sendall(WAIT)
        eventually(lambda: server.waiting == 2, "both wait")
        assert hears_the_end(connected(stack, address))
        assert server.waiting == 2


def test_a_whole_class_behind_one_address_is_served_beside_silent_connections() -> None:
    want_many_files()
    with Server(limits={}, files=4_096) as server, ExitStack() as stack:
        lines = []
        for number in range(CLASS * EACH):
            lines.append(connected(stack, server.address))
            assert status(lines[-1]) == 200
            if number % 9 == 0:
                for _ in range(10):
                    connected(stack, server.address)
        assert {status(each) for each in lines} == {200}


def test_so_many_look_ups_a_second_and_the_others_lose_nothing() -> None:
    with serving(Limits(look_ups_per_second=3)) as server, ExitStack() as stack:
        line = connected(stack, server)
        answers = (ask(line) for _ in range(1_000))  # so many take no second each
        refused = next(each for each in answers if each.status == 429)
        assert refused.getheader("Retry-After") == "1"
        assert ask(line, LOOK_UP.replace(b"GET", b"POST")).status == 405
        inbox = LOOK_UP.replace(b"/ ", b"/rooms/lobby/peers/ann/inbox ")
        assert ask(line, inbox).status == 401  # it needs a token, and no patience
