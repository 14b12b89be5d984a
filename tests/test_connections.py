"""Connections to a rendezvous: silent ones make room, and a whole class fits."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from itertools import chain, repeat

import pytest
from loopback import PATIENCE, eventually, hears_the_end
from processes import Server, resident

from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer, want_many_files

CLASS = 300
EACH = 3  # connections of one of the class
LOOK_UP = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
Address = tuple[str, int]


@contextmanager
def serving(limits: Quotas | None = None) -> Iterator[Address]:
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


def send_all(line: socket.socket, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        line.sendall(piece)


def status(line: socket.socket) -> int:
    return ask(line).status


def test_the_head_of_a_request_has_a_largest_size() -> None:
    with serving() as server, ExitStack() as stack:
        line = connected(stack, server)
        line.sendall(LOOK_UP[:-2] + b"X-Long: " + 20_000 * b"x")  # and no end of it
        assert line.recv(12) == b"HTTP/1.1 400"
        assert status(connected(stack, server)) == 200


def test_silent_connections_make_room_and_those_that_ask_stay() -> None:
    with serving(Quotas(connections_per_source=5)) as server, ExitStack() as stack:
        asking = [connected(stack, server) for _ in range(3)]
        assert [status(each) for each in asking] == [200] * 3
        silent = [connected(stack, server) for _ in range(20)]
        silent[0].sendall(LOOK_UP[:20])  # half a question is none
        for each in silent[:18]:
            assert hears_the_end(each), "the oldest silent one makes room"
        assert [status(each) for each in (*asking, *silent[18:])] == [200] * 5
        late = connected(stack, server)
        assert status(late) == 200
        assert hears_the_end(asking[0]), "where nobody is silent, the oldest idle one"


def test_who_is_being_answered_is_not_hung_up_on_for_a_newcomer() -> None:
    limits = Quotas(connections_per_source=2)
    with RendezvousServer(redis_url="", limits=limits) as server, ExitStack() as stack:
        address = "127.0.0.1", server.port
        with RendezvousClient(server.url) as client:
            ann = client.register("ann", ["10.0.0.1"], 1, 2)
        wait = LOOK_UP.replace(b"/ ", b"/rooms/lobby/peers/ann/inbox?wait=25 ")
        wait = wait[:-2] + f"Authorization: Bearer {ann.token}\r\n\r\n".encode()
        for _ in range(2):
            connected(stack, address).sendall(wait)
        eventually(lambda: server.waiting == 2, "both wait")
        assert hears_the_end(connected(stack, address))
        assert server.waiting == 2


def test_a_whole_class_behind_one_address_is_served_beside_silent_connections() -> None:
    want_many_files()
    lines = CLASS * EACH
    # As many look-ups as there are here, however quick or slow the machine is.
    limits = {"connections_per_source": 1_500, "look_ups_per_second": 2 * lines}
    with Server(limits=limits, files=4_096) as server, ExitStack() as stack:
        asking = []
        for number in range(lines):
            asking.append(connected(stack, server.address))
            assert status(asking[-1]) == 200
            if number % 9 == 0:
                for _ in range(10):
                    connected(stack, server.address)
        assert {status(each) for each in asking} == {200}


def test_so_many_look_ups_a_second_and_the_others_lose_nothing() -> None:
    with serving(Quotas(look_ups_per_second=3)) as server, ExitStack() as stack:
        line = connected(stack, server)
        answers = (ask(line) for _ in range(1_000))  # so many take no second each
        refused = next(each for each in answers if each.status == 429)
        assert refused.getheader("Retry-After") == "1"
        assert ask(line, LOOK_UP.replace(b"GET", b"POST")).status == 405
        inbox = LOOK_UP.replace(b"/ ", b"/rooms/lobby/peers/ann/inbox ")
        assert ask(line, inbox).status == 401  # it needs a token, and no patience


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("what", ["headers", "path", "trailers", "chunks", "ahead"])
def test_what_has_no_end_is_hung_up_on(kept: bool, what: str) -> None:
    chunked = b"PUT /rooms/a/peers/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"
    long = b"x" * 1000
    first, more = {
        "headers": (LOOK_UP[:-2], b"X: " + long + b"\r\n"),
        "path": (b"GET /", long),
        "trailers": (chunked + b"\r\n\r\n0\r\n", b"X: " + long + b"\r\n"),
        "chunks": (chunked + b"\r\n\r\n", b"1;" + long + b"\r\na\r\n"),
        "ahead": (LOOK_UP, LOOK_UP * 1000),
    }[what]
    with serving() as server, ExitStack() as stack:
        line = connected(stack, server)
        if kept:
            assert status(line) == 200
        with pytest.raises(ConnectionError):
            send_all(line, chain([first], repeat(more, 100_000)))
        assert status(connected(stack, server)) == 200


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_stays_small_whatever_many_connections_send() -> None:
    want_many_files()
    with Server(files=4_096) as server, ExitStack() as stack:
        assert server.process is not None
        pids = [server.process.pid]
        before = resident(pids) or 0
        for sent in (LOOK_UP[:-2] + 15_000 * b"x", LOOK_UP * 10_000):
            for _ in range(300):
                line = connected(stack, server.address)
                with suppress(OSError):  # it hangs up while we write
                    line.sendall(sent)
        assert (resident(pids) or 0) - before < 60e6  # 200 kB would be kept
        assert status(connected(stack, server.address)) == 200
