"""Text over TCP in a session: who is heard, who is shown, and who is a stranger."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import hears_the_end

from p2plab.errors import CorruptPacket, Forged, NotDelivered, WrongPeer
from p2plab.net.chat import ChatClient, ChatServer
from p2plab.net.frames import (
    MAX_BODY,
    Decoder,
    Frame,
    FrameKind,
    Line,
    MessageId,
    encode,
)
from p2plab.net.handshake import Tags, admit, prove
from p2plab.net.inbox import Address
from p2plab.net.session import CALLEE, CALLER, TAG_SIZE, Session
from p2plab.net.talks import CONNECTIONS_OF_PEER, UNPROVEN_OF_SOURCE

PATIENCE = 10.0  # a test that waits longer has failed [s]
SOON = 0.05
HELLO, ANSWER = 28, 32  # bytes of the handshake's first two messages
several = settings(derandomize=True, deadline=None, database=None, max_examples=100)


def introduced(peer: str = "alice", id: int = 1) -> tuple[Session, Session]:
    """The session of `peer`, who called, and the one of Bob."""
    key = Random(id).randbytes(32)
    name = id.to_bytes(8)
    return Session(name, key, CALLER, "bob"), Session(name, key, CALLEE, peer)


def known(*sessions: Session) -> Callable[[bytes], Session | None]:
    return {session.id: session for session in sessions}.get


def text(words: str, number: int = 1, name: str = "alice") -> Frame:
    return Frame(FrameKind.TEXT, MessageId(7, number), name, words)


def proven_line(address: Address, session: Session) -> Line:
    """A connection by hand, past its handshake."""
    connection = socket.create_connection(address)
    ours, theirs = prove(connection, session, PATIENCE)
    return Line(connection, Decoder(theirs), ours)


def told(line: Line) -> list[Frame]:
    return list(line.read(PATIENCE))


Edit = Callable[[bool, bytes], bytes]  # (does it go to the server?, bytes) -> bytes


@contextmanager
def man_in_the_middle(server: Address, edit: Edit) -> Iterator[Address]:
    """Pass everything on, as `edit` likes it; it is given each connection's streams."""
    listener = socket.create_server(("127.0.0.1", 0))
    with ExitStack() as stack:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    near = stack.enter_context(listener.accept()[0])
                    far = stack.enter_context(socket.create_connection(server))
                    start(near, far, True)
                    start(far, near, False)

        def start(source: socket.socket, to: socket.socket, inward: bool) -> None:
            threading.Thread(
                target=pump, args=(source, to, inward), daemon=True
            ).start()

        def pump(source: socket.socket, to: socket.socket, inward: bool) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    to.sendall(edit(inward, data))
            for each in (source, to):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


# ── Two who were introduced ───────────────────────────────────────────────────────


def test_a_text_shows_the_name_that_was_proven_not_the_one_that_is_claimed() -> None:
    alice, bob = introduced()
    with ChatServer(sessions=known(bob)) as server, ChatClient("carol") as client:
        for words in ("Grüße", "你好"):
            client.send_text(server.address, words, timeout=PATIENCE, session=alice)
        shown = [(message.sender, message.text) for message in server.inbox]
        assert len({message.address for message in server.inbox}) == 1
    assert shown == [("alice", "Grüße"), ("alice", "你好")]


def test_who_was_called_may_write_first() -> None:
    alice, bob = introduced()
    with ChatServer(sessions=known(alice)) as server, ChatClient("bob") as client:
        client.send_text(server.address, "hello", timeout=PATIENCE, session=bob)
        assert [message.sender for message in server.inbox] == ["bob"]


def test_late_and_lost_acks_resending_and_copies_are_as_without_a_session() -> None:
    alice, bob = introduced()
    server = ChatServer(ack_loss=0.6, seed=4, ack_delay=0.01, sessions=known(bob))
    with server, ChatClient() as client:
        delivery = client.send_text(
            server.address, "?", timeout=0.1, tries=50, session=alice
        )
        assert delivery.attempts > 2
        assert [message.text for message in server.inbox] == ["?"]
        assert server.duplicates >= delivery.attempts - 2
        assert {"ack lost", "ack sent"} <= {row.event for row in server.events}
        assert server.forged == server.strangers == 0


def test_a_new_session_with_the_same_peer_gets_a_connection_of_its_own() -> None:
    (alice, bob), (alice_2, bob_2) = introduced(), introduced(id=2)
    with ChatServer(sessions=known(bob, bob_2)) as server, ChatClient() as client:
        for session in (alice, alice_2):
            client.send_text(server.address, "hi", timeout=PATIENCE, session=session)
        assert len({message.address for message in server.inbox}) == 2


def test_a_kept_connection_that_broke_is_proven_anew() -> None:
    alice, bob = introduced()
    with ChatServer(sessions=known(bob)) as server, ChatClient() as client:
        client.send_text(server.address, "one", timeout=PATIENCE, session=alice)
        server.stop()
        server.start()
        client.send_text(server.address, "two", timeout=PATIENCE, session=alice)
        assert [message.text for message in server.inbox] == ["one", "two"]


# ── The wrong peer ────────────────────────────────────────────────────────────────


def test_a_neighbour_who_has_the_address_gets_no_text_and_is_reported() -> None:
    alice, _ = introduced()
    _, other = introduced(id=2)
    with ChatServer(sessions=known(other)) as neighbour, ChatClient() as client:
        with pytest.raises(WrongPeer, match="has not proven to be bob") as caught:
            client.send_text(
                neighbour.address, "secret", timeout=SOON, tries=3, session=alice
            )
        assert caught.value.text == "secret"
        assert isinstance(caught.value, NotDelivered)
        assert [row.event for row in client.events] == ["unproven"] * 3
        assert neighbour.inbox == []
        assert neighbour.strangers == 3


def test_a_server_without_sessions_never_sees_the_text() -> None:
    alice, _ = introduced()
    with ChatServer() as server, ChatClient() as client:
        with pytest.raises(WrongPeer):
            client.send_text(
                server.address, "secret", timeout=SOON, tries=1, session=alice
            )
        assert server.inbox == []
        assert server.broken == 1


def test_who_answers_something_else_is_certainly_not_the_peer() -> None:
    alice, _ = introduced()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")
                assert hears_the_end(connection)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with ChatClient() as client, pytest.raises(WrongPeer, match="not proven"):
            client.send_text(
                listener.getsockname(), "secret", timeout=PATIENCE, session=alice
            )
        thread.join(PATIENCE)
        assert not thread.is_alive(), "one try was enough"


def test_who_accepts_and_says_nothing_costs_no_more_than_the_timeouts() -> None:
    alice, _ = introduced()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ChatClient() as client,
        pytest.raises(WrongPeer),
    ):
        client.send_text(
            silent.getsockname(), "secret", timeout=SOON, tries=2, session=alice
        )


def test_nobody_can_make_us_prove_ourselves_to_ourselves() -> None:
    """Alice's connection is led back to her own server, which has the same key."""
    alice, _ = introduced()
    with ChatServer(sessions=known(alice)) as own, ChatClient() as client:
        with pytest.raises(WrongPeer):
            client.send_text(
                own.address, "secret", timeout=PATIENCE, tries=1, session=alice
            )
        assert own.inbox == []


# ── In the middle ─────────────────────────────────────────────────────────────────


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
    alice, bob = introduced()
    words = "pay ada 5 coins" * 9
    with (
        ChatServer(sessions=known(bob)) as server,
        man_in_the_middle(server.address, flip(at, True)) as address,
        ChatClient() as client,
    ):
        client.send_text(address, words, timeout=0.3, tries=30, session=alice)
        assert [message.text for message in server.inbox] == [words]
        assert server.forged == 1


def test_a_forged_ack_acknowledges_nothing() -> None:
    alice, bob = introduced()
    with (
        ChatServer(sessions=known(bob)) as server,
        man_in_the_middle(server.address, flip(ANSWER + 8, False)) as address,
        ChatClient() as client,
    ):
        delivery = client.send_text(
            address, "hello", timeout=0.3, tries=30, session=alice
        )
        assert delivery.attempts == 2
        events = [row.event for row in client.events]
        assert events == ["send", "dropped", "resend", "ack"]
        assert client.forged == 1
        assert server.duplicates == 1


@pytest.mark.parametrize(
    ("at", "inward"),
    [(12, True), (HELLO + 3, True), (3, False), (20, False)],
    ids=["client's nonce", "client's proof", "server's nonce", "server's proof"],
)
def test_a_changed_handshake_lets_nobody_in(at: int, inward: bool) -> None:
    alice, bob = introduced()
    with (
        ChatServer(sessions=known(bob)) as server,
        man_in_the_middle(server.address, flip(at, inward)) as address,
        ChatClient() as client,
    ):
        with pytest.raises(NotDelivered):
            client.send_text(address, "hello", timeout=0.3, tries=1, session=alice)
        assert server.inbox == []


def test_a_recorded_connection_played_again_is_a_stranger() -> None:
    alice, bob = introduced()
    recorded = bytearray()

    def record(inward: bool, data: bytes) -> bytes:
        recorded.extend(data if inward else b"")
        return data

    with ChatServer(sessions=known(bob)) as server, ChatClient() as client:
        with man_in_the_middle(server.address, record) as address:
            client.send_text(address, "hello", timeout=PATIENCE, session=alice)
            client.close()
        server.clear()
        with socket.create_connection(server.address) as again:
            again.sendall(recorded)
            assert hears_the_end(again)
        assert server.inbox == []
        assert (server.strangers, server.duplicates) == (1, 0)


@pytest.mark.parametrize("which", ["again", "left out", "untagged"])
def test_a_frame_sent_again_or_left_out_by_somebody_else_is_forged(which: str) -> None:
    alice, bob = introduced()
    with ChatServer(sessions=known(bob)) as server:
        line = proven_line(server.address, alice)
        assert line.tag is not None
        first, second = encode(text("first", 1)), encode(text("second", 2))
        tagged = first + line.tag(first), second + line.tag(second)
        by_hand = {
            "again": tagged[0] + tagged[0],
            "left out": tagged[1],
            "untagged": first + bytes(TAG_SIZE),
        }
        line.socket.sendall(by_hand[which])
        assert hears_the_end(line.socket)
        line.socket.close()
        assert server.forged == 1
        assert len(server.inbox) == (which == "again")


def test_nobody_can_use_up_the_id_of_another_ones_next_text() -> None:
    (alice, bob), (mallory, bob_2) = introduced(), introduced("mallory", 2)
    with ChatServer(sessions=known(bob, bob_2)) as server:
        for session, words in ((mallory, "gotcha"), (alice, "hello")):
            line = proven_line(server.address, session)
            line.write(encode(text(words, name="alice")), PATIENCE)
            assert told(line)[0].kind == FrameKind.ACK
            line.socket.close()
        shown = [(message.sender, message.text) for message in server.inbox]
    assert shown == [("mallory", "gotcha"), ("alice", "hello")]


# ── Strangers ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [
        encode(text("believe me")),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"p2t1" + bytes(8) + bytes(16),
        b"",
    ],
    ids=["a text", "http", "an unknown session", "nothing"],
)
def test_who_proves_nothing_is_a_stranger_and_nothing_of_it_is_believed(
    data: bytes,
) -> None:
    _, bob = introduced()
    with (
        ChatServer(sessions=known(bob), proof_timeout=0.1) as server,
        socket.create_connection(server.address) as stranger,
    ):
        stranger.sendall(data)
        assert hears_the_end(stranger)
        assert (server.strangers, server.broken, server.inbox) == (1, 0, [])


def test_who_proves_bit_by_bit_has_no_longer_than_all_others() -> None:
    _, bob = introduced()
    with (
        ChatServer(sessions=known(bob), proof_timeout=0.2) as server,
        socket.create_connection(server.address) as slow,
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
        assert server.strangers == 1


def test_any_number_of_silent_strangers_keep_no_peer_out() -> None:
    alice, bob = introduced()
    server = ChatServer(sessions=known(bob), proof_timeout=60.0, max_connections=2)
    with ExitStack() as stack:
        stack.enter_context(server)
        client = stack.enter_context(ChatClient())
        strangers = [
            stack.enter_context(socket.create_connection(server.address))
            for _ in range(3 * UNPROVEN_OF_SOURCE)
        ]
        client.send_text(server.address, "hello", timeout=PATIENCE, session=alice)
        assert [message.sender for message in server.inbox] == ["alice"]
        for early in strangers[:UNPROVEN_OF_SOURCE]:
            assert hears_the_end(early), "the oldest make room"
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("p2plab-chat") <= UNPROVEN_OF_SOURCE + 20
        assert server.turned_away == 0


def test_one_peer_cannot_use_up_the_places_of_the_others() -> None:
    (mallory, bob), (alice, bob_2) = introduced("mallory"), introduced("alice", 2)
    server = ChatServer(
        sessions=known(bob, bob_2), max_connections=CONNECTIONS_OF_PEER + 1
    )
    with ExitStack() as stack:
        stack.enter_context(server)
        lines = [
            proven_line(server.address, mallory) for _ in range(CONNECTIONS_OF_PEER + 3)
        ]
        for line in lines:
            stack.enter_context(line.socket)
        client = stack.enter_context(ChatClient())
        client.send_text(server.address, "hello", timeout=PATIENCE, session=alice)
        for line in lines[:3]:
            assert hears_the_end(line.socket), "its newest replaces its oldest"
        lines[-1].write(encode(text("me too")), PATIENCE)
        assert told(lines[-1])
        assert server.turned_away == 0


def test_a_proven_connection_too_many_is_turned_away() -> None:
    (alice, bob), (carol, bob_2) = introduced(), introduced("carol", 2)
    server = ChatServer(sessions=known(bob, bob_2), max_connections=1)
    with server, ChatClient() as first, ChatClient() as second:
        first.send_text(server.address, "hello", timeout=PATIENCE, session=alice)
        with pytest.raises(NotDelivered, match="acknowledged none"):
            second.send_text(server.address, "hi", timeout=0.2, tries=1, session=carol)
        assert server.turned_away == 1
        assert server.strangers == 0


def test_an_error_while_looking_for_the_session_is_kept_and_lets_nobody_in() -> None:
    alice, _ = introduced()

    def fail(id: bytes) -> Session | None:
        raise RuntimeError("no sessions today")

    with ChatServer(sessions=fail) as server, ChatClient() as client:
        with pytest.raises(WrongPeer):
            client.send_text(server.address, "?", timeout=SOON, tries=1, session=alice)
        assert str(server.callback_error) == "no sessions today"


def test_stopping_waits_for_no_proof_and_closing_for_none_either() -> None:
    alice, bob = introduced()
    with (
        ChatServer(sessions=known(bob), proof_timeout=1_000.0) as server,
        socket.create_connection(server.address) as stranger,
    ):
        server.stop()
        assert hears_the_end(stranger)
        assert "p2plab-chat" not in [thread.name for thread in threading.enumerate()]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ChatClient()

        def send() -> None:
            with pytest.raises(NotDelivered, match="peer is closed"):
                client.send_text(
                    silent.getsockname(), "?", timeout=1_000.0, session=alice
                )

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        with silent.accept()[0] as connection:
            assert connection.recv(4) == b"p2t1"
            client.close()
            thread.join(PATIENCE)
        assert not thread.is_alive()


# ── Any bytes ─────────────────────────────────────────────────────────────────────


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
        run: Callable[[], object] = (
            partial(admit, near, known(bob), PATIENCE)
            if as_server
            else partial(prove, near, alice, PATIENCE)
        )
        with pytest.raises((Forged, OSError)):
            run()


@several
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_random_bytes_are_never_a_tagged_frame_and_never_pile_up(
    pieces: list[bytes],
) -> None:
    decoder = Decoder(Tags(introduced()[0], CALLER, bytes(32)))
    with suppress(CorruptPacket):
        for piece in pieces:
            decoder.feed(piece)
            assert decoder.next_frame() is None
            assert len(decoder) < MAX_BODY + 4 + TAG_SIZE + 200


@several
@given(st.text(max_size=50), st.data())
def test_a_tagged_frame_with_one_byte_changed_is_no_frame(
    words: str, data: st.DataObject
) -> None:
    alice, bob = introduced()
    frame = encode(text(words))
    changed = bytearray(frame + Tags(alice, CALLER, bytes(32))(frame))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    decoder = Decoder(Tags(bob, CALLER, bytes(32)))
    decoder.feed(bytes(changed))
    with suppress(CorruptPacket):
        assert decoder.next_frame() is None, "believed"


def test_random_bytes_to_the_port_harm_nobody() -> None:
    alice, bob = introduced()
    with ChatServer(sessions=known(bob)) as server, ChatClient() as client:

        @settings(several, max_examples=50)
        @given(st.binary(max_size=300), st.booleans())
        def throw(data: bytes, polite: bool) -> None:
            with socket.create_connection(server.address) as connection:
                with suppress(OSError):  # the server was quicker
                    connection.sendall(b"p2t1" + bob.id + data if polite else data)
                    connection.shutdown(socket.SHUT_WR)
                assert hears_the_end(connection)

        throw()
        client.send_text(server.address, "still here", timeout=PATIENCE, session=alice)
        assert [message.text for message in server.inbox] == ["still here"]
        assert server.strangers > 0
