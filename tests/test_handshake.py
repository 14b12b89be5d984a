"""Who is heard over TCP: the peers of a session, and neither strangers nor forgers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import eventually, hears_the_end
from talk import (
    FOR_EVER,
    PATIENCE,
    in_thread,
    introduced,
    known,
    talk,
    text_frame,
)

from p2plab.errors import Forged, NotDelivered, WrongPeer
from p2plab.net.chat import ChatClient
from p2plab.net.chat_server import CONNECTIONS_OF_PEER, STRANGERS_OF_SOURCE, ChatServer
from p2plab.net.frames import Address, Connection
from p2plab.net.session import TAG_SIZE

SOON = 0.05
HELLO, ANSWER = 28, 32  # bytes of the handshake's first two messages
several = settings(derandomize=True, deadline=None, database=None, max_examples=100)

Edit = Callable[[bool, bytes], bytes]  # (does it go to the server?, bytes) -> bytes


@contextmanager
def man_in_the_middle(server: Address, edit: Edit) -> Iterator[Address]:
    """Pass everything on, as `edit` likes it; it is given each connection's streams."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                near = stack.enter_context(listener.accept()[0])
                far = stack.enter_context(socket.create_connection(server))
                in_thread(partial(pump, near, far, True))
                in_thread(partial(pump, far, near, False))

    def pump(source: socket.socket, to: socket.socket, inward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                to.sendall(edit(inward, data))
        for each in (source, to):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        thread = in_thread(serve)
        yield listener.getsockname()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


# ---- two who were introduced


def test_who_was_called_may_write_first() -> None:
    alice, bob = introduced()
    with ChatServer(known(alice)) as server, ChatClient() as client:
        client.send_text(server.address, "hello", bob, timeout=PATIENCE)
        assert [message.sender for message in server.inbox] == ["bob"]


def test_a_new_session_with_the_same_peer_gets_a_connection_of_its_own() -> None:
    (alice, bob), (alice_2, bob_2) = introduced(), introduced(id=2)
    with talk(sessions=known(bob, bob_2)) as both:
        for session in (alice, alice, alice_2):
            both.client.send_text(both.server.address, "hi", session, timeout=PATIENCE)
        assert len({message.address for message in both.server.inbox}) == 2


# ---- the wrong peer


def test_a_neighbour_who_has_the_address_gets_no_text_and_is_reported() -> None:
    _, other = introduced(id=2)
    with talk(sessions=known(other)) as both:
        with pytest.raises(WrongPeer, match="has not proven to be bob") as caught:
            both.send("secret", timeout=SOON, tries=3)
        assert caught.value.text == "secret"
        assert both.events == ["unproven"] * 3
        assert both.shown == []
        assert both.server.strangers == 3


def test_who_answers_something_else_is_certainly_not_the_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")
                assert hears_the_end(connection)

        thread = in_thread(answer)
        with talk() as both, pytest.raises(WrongPeer, match="not proven"):
            both.send("secret", listener.getsockname())
        thread.join(PATIENCE)
        assert not thread.is_alive(), "one try was enough"


def test_who_accepts_and_says_nothing_costs_no_more_than_the_timeouts() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        talk() as both,
        pytest.raises(WrongPeer),
    ):
        both.send("secret", silent.getsockname(), timeout=SOON, tries=2)


def test_nobody_can_make_us_prove_ourselves_to_ourselves() -> None:
    """Alice's connection is led back to her own server, which has the same key."""
    alice, _ = introduced()
    with talk(sessions=known(alice)) as both:
        with pytest.raises(WrongPeer):
            both.send("secret", tries=1)
        assert both.shown == []


# ---- in the middle


def flip(at: int, inward: bool) -> Edit:
    """Change one byte at this place of the first connection's stream."""
    passed = {True: 0, False: 0}

    def edit(direction: bool, data: bytes) -> bytes:
        here = at - passed[direction]
        passed[direction] += len(data)
        if direction != inward or not 0 <= here < len(data):
            return data
        return data[:here] + bytes([data[here] ^ 1]) + data[here + 1 :]

    return edit


@pytest.mark.parametrize("at", [HELLO + 16 + 30, HELLO + 16 + 4, HELLO + 16 + 3])
def test_a_frame_changed_on_the_way_ends_the_connection_and_is_counted(at: int) -> None:
    words = "pay ada 5 coins" * 9
    with talk() as both, man_in_the_middle(both.server.address, flip(at, True)) as to:
        both.send(words, to, timeout=0.3, tries=30)
        assert both.shown == [words]
        assert both.server.broken == 1


def test_a_forged_ack_acknowledges_nothing() -> None:
    changed = flip(ANSWER + 8, False)
    with talk() as both, man_in_the_middle(both.server.address, changed) as to:
        assert both.send("hello", to, timeout=0.3, tries=30).attempts == 2
        assert both.events == ["send", "dropped", "resend", "ack"]
        assert both.server.duplicates == 1


@pytest.mark.parametrize(
    ("at", "inward"),
    [(12, True), (HELLO + 3, True), (3, False), (20, False)],
    ids=["client's nonce", "client's proof", "server's nonce", "server's proof"],
)
def test_a_changed_handshake_lets_nobody_in(at: int, inward: bool) -> None:
    with talk() as both, man_in_the_middle(both.server.address, flip(at, inward)) as to:
        with pytest.raises(NotDelivered):
            both.send("hello", to, timeout=0.3, tries=1)
        assert both.shown == []


def test_a_recorded_connection_played_again_is_a_stranger() -> None:
    recorded = bytearray()

    def record(inward: bool, data: bytes) -> bytes:
        recorded.extend(data if inward else b"")
        return data

    with talk() as both:
        with man_in_the_middle(both.server.address, record) as to:
            both.send("hello", to)
            both.client.close()
        with socket.create_connection(both.server.address) as again:
            again.sendall(recorded)
            assert hears_the_end(again)
        assert both.shown == ["hello"]
        assert (both.server.strangers, both.server.duplicates) == (1, 0)


@pytest.mark.parametrize("which", ["again", "left out", "untagged"])
def test_a_frame_sent_again_or_left_out_by_somebody_else_is_forged(which: str) -> None:
    first, second = text_frame("first", 1), text_frame("second", 2)
    with talk() as both:
        connection = both.connection()
        tags = connection._ours
        tagged = first + tags(first), second + tags(second)
        by_hand = {
            "again": tagged[0] + tagged[0],
            "left out": tagged[1],
            "untagged": first + bytes(TAG_SIZE),
        }
        with connection.socket:
            connection.socket.sendall(by_hand[which])
            assert hears_the_end(connection.socket)
        assert both.server.broken == 1
        assert both.shown == ["first"] * (which == "again")


def test_nobody_can_use_up_the_id_of_another_ones_next_text() -> None:
    (alice, bob), (mallory, bob_2) = introduced(), introduced("mallory", 2)
    with ChatServer(known(bob, bob_2)) as server:
        for session in (mallory, alice):
            connected = socket.create_connection(server.address)
            connection = Connection(connected, server.address)
            with connected:
                connection.prove(session, PATIENCE)
                connection.write(text_frame("hello"), PATIENCE)
                assert list(connection.read(PATIENCE))
        assert [message.sender for message in server.inbox] == ["mallory", "alice"]


# ---- strangers


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    "data",
    [
        text_frame("believe me"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"p2t1" + bytes(8) + bytes(16),
        b"",
    ],
    ids=["a text", "http", "an unknown session", "nothing"],
)
def test_who_proves_nothing_is_a_stranger_and_nothing_of_it_is_believed(
    data: bytes,
) -> None:
    with (
        talk(PROOF_TIMEOUT=0.1) as both,
        socket.create_connection(both.server.address) as stranger,
    ):
        stranger.sendall(data)
        assert hears_the_end(stranger)
        assert (both.server.strangers, both.server.broken, both.shown) == (1, 0, [])


def test_who_proves_bit_by_bit_has_no_longer_than_all_others() -> None:
    with (
        talk(PROOF_TIMEOUT=0.2) as both,
        socket.create_connection(both.server.address) as slow,
    ):
        slow.settimeout(0.02)
        sent = 0
        with suppress(ConnectionError):
            for each in b"p2t1" + bytes(23):
                slow.sendall(bytes([each]))
                sent += 1
                with suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    break
        assert sent < 27, "it could have gone on"
        assert hears_the_end(slow)
        assert both.server.strangers == 1


def test_any_number_of_silent_strangers_keep_no_peer_out() -> None:
    with talk(PROOF_TIMEOUT=60.0, CONNECTIONS=2) as both, ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(both.server.address))
            for _ in range(3 * STRANGERS_OF_SOURCE)
        ]
        both.send("hello")
        assert both.shown == ["hello"]
        for early in strangers[:STRANGERS_OF_SOURCE]:
            assert hears_the_end(early), "the oldest make room"
        most = STRANGERS_OF_SOURCE + 2  # of Alice, and who waits for connections
        eventually(lambda: threads().count("p2plab-chat") <= most, "they are gone")


@pytest.mark.parametrize("most", [CONNECTIONS_OF_PEER + 1, 1])
def test_a_newcomer_ends_the_oldest_of_too_many_connections(most: int) -> None:
    carol, bob_2 = introduced("carol", 2)
    _, bob = introduced()
    sessions = known(bob, bob_2)
    with talk(sessions=sessions, CONNECTIONS=most) as both, ExitStack() as stack:
        mine = [both.connection() for _ in range(CONNECTIONS_OF_PEER + 3)]
        for connection in mine:
            stack.enter_context(connection.socket)
        client = stack.enter_context(ChatClient())
        client.send_text(both.server.address, "hello", carol, timeout=PATIENCE)
        for connection in mine[: 3 if most > 1 else None]:
            assert hears_the_end(connection.socket)
        both.send("me too")
        assert both.shown == ["hello", "me too"]


def test_stopping_waits_for_no_proof_and_closing_for_none_either() -> None:
    with (
        talk(PROOF_TIMEOUT=FOR_EVER) as both,
        socket.create_connection(both.server.address) as stranger,
    ):
        both.server.stop()
        assert hears_the_end(stranger)
        assert "p2plab-chat" not in threads()
    with talk() as both, socket.create_server(("127.0.0.1", 0)) as silent:

        def send() -> None:
            with pytest.raises(NotDelivered, match="peer is closed"):
                both.send("?", silent.getsockname(), timeout=FOR_EVER)

        thread = in_thread(send)
        with silent.accept()[0] as connection:
            assert connection.recv(4) == b"p2t1"
            both.client.close()
            thread.join(PATIENCE)
        assert not thread.is_alive()


# ---- any bytes


@several
@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_in_a_handshake_are_forged_or_an_end(
    data: bytes, as_server: bool
) -> None:
    alice, bob = introduced()
    near, far = socket.socketpair()
    with near, far:
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        connection = Connection(near, ("127.0.0.1", 0))
        run: Callable[[], None] = (
            partial(connection.admit, known(bob), PATIENCE)
            if as_server
            else partial(connection.prove, alice, PATIENCE)
        )
        with pytest.raises((Forged, OSError)):
            run()


def test_random_bytes_to_the_port_harm_nobody() -> None:
    _, bob = introduced()
    with talk() as both:

        @settings(several, max_examples=50)
        @given(st.binary(max_size=300), st.booleans())
        def throw(data: bytes, polite: bool) -> None:
            with socket.create_connection(both.server.address) as connection:
                with suppress(OSError):  # the server was quicker
                    connection.sendall(b"p2t1" + bob.id + data if polite else data)
                    connection.shutdown(socket.SHUT_WR)
                assert hears_the_end(connection)

        throw()
        both.send("still here")
        assert both.shown == ["still here"]
        assert both.server.strangers > 0
