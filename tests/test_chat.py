"""Text over TCP between two introduced peers, on real loopback sockets."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import hears_the_end
from talk import (
    FOR_EVER,
    PATIENCE,
    ack_of,
    in_thread,
    introduced,
    known,
    scripted_peer,
    talk,
    text_frame,
)

from p2plab.errors import (
    BadContent,
    CorruptPacket,
    NotDelivered,
    PeerUnreachable,
)
from p2plab.net.chat import ChatClient, Message
from p2plab.net.chat_server import ChatServer
from p2plab.net.frames import (
    ACK,
    HEAD,
    LENGTH,
    MAX_BODY,
    MAX_TEXT,
    TEXT,
    Connection,
    Frame,
    MessageId,
    Tags,
    encode,
    take_frames,
)
from p2plab.net.session import CALLER, TAG_SIZE

ids = st.builds(MessageId, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
texts = st.builds(Frame, st.just(TEXT), ids, st.text())
frames = texts | st.builds(Frame, st.just(ACK), ids, st.just(""))


# ---- frames


def tags() -> Tags:
    return Tags(introduced()[0], CALLER, bytes(32))


def tagged(*sent: bytes) -> bytes:
    """Frames as they stand in a stream."""
    tag = tags()
    return b"".join(frame + tag(frame) for frame in sent)


def decoded(*pieces: bytes) -> list[Frame]:
    """Read a stream; what is no frame raises CorruptPacket, and nothing piles up."""
    stream, tag, received = bytearray(), tags(), list[Frame]()
    for piece in pieces:
        stream += piece
        received += take_frames(stream, tag)
        assert len(stream) < LENGTH.size + MAX_BODY + TAG_SIZE
    return received


@given(st.lists(frames, max_size=5), st.data())
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[Frame], data: st.DataObject
) -> None:
    stream = tagged(*map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    bounds = itertools.pairwise([0, *cuts, len(stream)])
    assert decoded(*(stream[begin:end] for begin, end in bounds)) == sent


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_random_bytes_are_corrupt_or_the_beginning_of_a_frame(
    pieces: list[bytes],
) -> None:
    with suppress(CorruptPacket):
        assert decoded(*pieces) == []


@given(frames, st.data())
def test_a_frame_with_one_byte_changed_is_never_believed(
    frame: Frame, data: st.DataObject
) -> None:
    changed = bytearray(tagged(encode(frame)))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    with suppress(CorruptPacket):
        assert decoded(bytes(changed)) == []


@pytest.mark.parametrize(
    "body",
    [
        HEAD.pack(b"X", 1, 1),
        HEAD.pack(ACK, 1, 1) + b"text",
        HEAD.pack(TEXT, 1, 1) + b"t" * (MAX_TEXT + 1),
        HEAD.pack(TEXT, 1, 1) + b"\xff",
        HEAD.pack(TEXT, 1, 1) + "\ud800".encode(errors="surrogatepass"),
        HEAD.pack(TEXT, 1, 1)[:-1],
    ],
)
def test_a_frame_that_breaks_a_rule_is_corrupt_even_with_its_tag(body: bytes) -> None:
    with pytest.raises(CorruptPacket):
        decoded(tagged(LENGTH.pack(len(body)) + body))


def test_an_absurd_length_is_refused_before_its_bytes_are_waited_for() -> None:
    with pytest.raises(CorruptPacket, match="1,195,725,856 bytes"):
        decoded(b"GET / HTTP/1.1\r\n"[: LENGTH.size])


# ---- the usual case


@pytest.mark.parametrize(
    "text",
    ["hello", "", "Grüße", "你好", "مرحبا", "👩🏽‍🚀", "\0\r\n", "t" * MAX_TEXT],
    ids=lambda text: ascii(text[:9]),
)
def test_a_text_of_any_script_and_length_arrives_as_it_was(text: str) -> None:
    before = time.time()
    with talk("Zoë") as both:
        delivery = both.send(text)
        (message,) = both.server.inbox
    assert delivery.attempts == 1
    assert 0 < delivery.seconds < PATIENCE
    assert (message.sender, message.text, message.id) == ("Zoë", text, delivery.id)
    assert message.address[0] == "127.0.0.1"
    assert before <= message.received_at <= time.time()


def test_200_texts_use_one_connection_and_arrive_in_order() -> None:
    with talk() as both:
        for number in range(200):
            both.send(str(number))
        assert both.shown == list(map(str, range(200)))
        assert len({message.address for message in both.server.inbox}) == 1


def test_many_clients_and_many_threads_of_one_client_send_at_once() -> None:
    (ann, to_ann), (ben, to_ben) = introduced("ann", 1), introduced("ben", 2)
    with (
        ChatServer(known(to_ann, to_ben)) as server,
        ChatClient() as a,
        ChatClient() as b,
    ):

        def write(part: int) -> None:
            client, session = (a, ann) if part < 3 else (b, ben)
            for number in range(10):
                words = f"{part} {number}"
                client.send_text(server.address, words, session, timeout=PATIENCE)

        for thread in [in_thread(partial(write, part)) for part in range(5)]:
            thread.join(PATIENCE)
        for name, parts in (("ann", (0, 1, 2)), ("ben", (3, 4))):
            got = [m.text for m in server.inbox if m.sender == name]
            wanted = [f"{part} {number}" for part in parts for number in range(10)]
            assert sorted(got) == wanted


def test_each_message_is_shown_in_the_context_of_the_starter() -> None:
    cell = ContextVar("cell", default=0)
    cell.set(7)
    shown: list[tuple[Message, int]] = []
    with talk(on_message=lambda message: shown.append((message, cell.get()))) as both:
        both.send("hello")
        assert shown == [(both.server.inbox[0], 7)]


# ---- timeouts, copies, losses


def test_a_text_whose_ack_is_late_is_sent_again_and_shown_once() -> None:
    with talk("ann", name="bob", ack_delay=0.3) as both:
        delivery = both.send("?", timeout=0.1, tries=100)
        rows = sorted(both.client.events + both.server.events)
        assert both.shown == ["?"]
        assert both.server.duplicates >= 1
    assert delivery.attempts > 1
    assert delivery.seconds > 0.29  # the ACK of the first copy ended it
    assert {row.id for row in rows} == {delivery.id}
    story = [(who, event, attempt) for _, who, event, _, attempt in rows]
    for earlier, later in itertools.pairwise(
        [
            ("ann", "send", 1),
            ("bob", "arrive", 1),
            ("ann", "timeout", 1),
            ("ann", "resend", 2),
            ("bob", "duplicate", 2),
            ("bob", "ack sent", 1),
            ("ann", "ack", delivery.attempts),
        ]
    ):
        assert story.index(earlier) < story.index(later), story


def test_acks_are_lost_as_the_seed_says() -> None:
    seed, loss = 4, 0.6
    coins = iter(Random(seed).random, None)
    lost = sum(1 for _ in itertools.takewhile(lambda coin: coin < loss, coins))
    assert lost >= 2, "choose a seed that loses more"
    wanted = [("arrive", 1), ("ack lost", 1)]
    for copy in range(2, lost + 1):
        wanted += [("duplicate", copy), ("ack lost", copy)]
    wanted += [("duplicate", lost + 1), ("ack sent", lost + 1)]
    with talk(ack_loss=loss, seed=seed) as both:
        delivery = both.send("hello", timeout=0.1, tries=50)
        events = [(row.event, row.attempt) for row in both.server.events]
        assert both.shown == ["hello"]
    assert delivery.attempts > lost
    assert events[: len(wanted)] == wanted


def test_an_ack_of_another_text_is_not_taken_for_ours() -> None:
    def answer(connection: Connection) -> None:
        (frame,) = connection.read(PATIENCE)
        connection.write(encode(Frame(ACK, MessageId(1, 1))), PATIENCE)
        (again,) = connection.read(PATIENCE)  # so the wrong one did not help
        assert again == frame
        connection.write(ack_of(frame), PATIENCE)

    with scripted_peer(answer) as address, talk() as both:
        assert both.send("hello", address, timeout=0.2, tries=50).attempts >= 2


def test_a_copy_that_comes_over_a_new_connection_is_shown_once() -> None:
    with talk() as both:
        for _ in range(2):
            connection = both.connection()
            with connection.socket:
                connection.write(text_frame("once"), PATIENCE)
                (ack,) = connection.read(PATIENCE)
                assert ack == Frame(ACK, MessageId(7, 1))
        assert both.shown == ["once"]
        assert both.server.duplicates == 1


# ---- peers that are away, leave, or misbehave


def test_a_text_never_acknowledged_is_given_back_with_what_was_tried() -> None:
    with talk(ack_delay=FOR_EVER) as both:
        with pytest.raises(NotDelivered, match=r"none of 3 tries .*0\.05 s") as caught:
            both.send("my words", timeout=0.05, tries=3)
        events = [(row.event, row.attempt) for row in both.client.events]
    assert caught.value.text == "my words"
    assert f"127.0.0.1:{both.server.address[1]}" in str(caught.value)
    assert events == [
        *(("send", 1), ("timeout", 1), ("resend", 2), ("timeout", 2)),
        *(("resend", 3), ("timeout", 3)),
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "no..host", "x" * 300])
def test_a_peer_that_is_not_there_is_reported_at_once(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with talk() as both:
        for to in ((host, port), ("127.0.0.1", 70_000)):
            with pytest.raises(PeerUnreachable, match="nobody answers at"):
                both.send("my words", to, timeout=FOR_EVER)
        assert both.events == ["unreachable"] * 2


def acknowledge(connection: Connection) -> None:
    for frame in connection.read(PATIENCE):
        connection.write(ack_of(frame), PATIENCE)


def nonsense(connection: Connection) -> None:
    list(connection.read(PATIENCE))
    connection.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert hears_the_end(connection.socket)


@pytest.mark.parametrize("first", [lambda peer: list(peer.read(PATIENCE)), nonsense])
def test_a_connection_that_breaks_before_the_ack_is_replaced_and_the_text_resent(
    first: Callable[[Connection], object],
) -> None:
    with scripted_peer(first, acknowledge) as address, talk() as both:
        assert both.send("hello", address, timeout=0.2).attempts == 2
        assert both.events == ["send", "dropped", "resend", "ack"]


def test_a_kept_connection_that_the_peer_has_closed_costs_no_attempt() -> None:
    closed = threading.Event()

    def then_close(connection: Connection) -> None:
        acknowledge(connection)
        connection.hang_up()
        closed.set()

    with scripted_peer(then_close, acknowledge) as address, talk() as both:
        both.send("one", address)
        assert closed.wait(PATIENCE)
        assert both.send("two", address).attempts == 1


def test_a_peer_that_restarts_gets_the_text_and_knows_the_copy() -> None:
    arrived = threading.Event()
    with talk(ack_delay=FOR_EVER, on_message=lambda _: arrived.set()) as both:
        deliveries = []
        sending = in_thread(
            lambda: deliveries.append(both.send("hello", timeout=0.2, tries=200))
        )
        assert arrived.wait(PATIENCE)
        both.server.stop()
        both.server.ack_delay = 0
        both.server.start()
        sending.join(PATIENCE)
        assert [delivery.attempts > 1 for delivery in deliveries] == [True]
        assert both.shown == ["hello"]


def test_closing_a_client_ends_its_waiting_texts_and_keeps_their_words() -> None:
    arrived = threading.Event()
    errors: list[NotDelivered] = []

    def send(text: str) -> None:
        with pytest.raises(NotDelivered, match="peer is closed") as caught:
            both.send(text, timeout=FOR_EVER)
        errors.append(caught.value)

    with talk(ack_delay=FOR_EVER, on_message=lambda _: arrived.set()) as both:
        threads = [in_thread(lambda: send("same")) for _ in range(3)]
        assert arrived.wait(PATIENCE)
        both.client.close()
        for thread in threads:
            thread.join(PATIENCE)
        send("after")
    assert [error.text for error in errors] == ["same"] * 3 + ["after"]


def test_an_interrupted_text_leaves_the_client_fit_for_the_next() -> None:
    with talk(ack_delay=FOR_EVER, on_message=lambda _: interrupt_main()) as both:
        with pytest.raises(KeyboardInterrupt):
            both.send("stop", timeout=0.05, tries=200)
        both.server.ack_delay, both.server.on_message = 0, None
        assert both.send("go").attempts == 1


# ---- bad input


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("é" * (MAX_TEXT // 2 + 1), r"text has 65,538 bytes .* 65,536 are allowed"),
        ("ab\ud800", "character 3"),
        (5, "a text is a str, got int"),
        (None, "a text is a str, got NoneType"),
        (b"hello", "a text is a str, got bytes"),
    ],
)
def test_a_text_that_cannot_be_carried_is_refused_and_nothing_is_sent(
    text: Any, reason: str
) -> None:
    with talk() as both:
        with pytest.raises(BadContent, match=reason):
            both.send(text)
        assert both.client.events == []
        assert both.send("fine").id.number == 1


def test_impossible_arguments_are_refused() -> None:
    with talk() as both:
        for timeout in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="timeout must be"):
                both.send("hello", timeout=timeout)
        with pytest.raises(ValueError, match="tries must be"):
            both.send("hello", tries=0)
        with pytest.raises(ValueError, match=r"ack_loss must be in \[0, 1\), got 1\.0"):
            both.server.ack_loss = 1.0
        with pytest.raises(ValueError, match="ack_delay must be"):
            both.server.ack_delay = -1
    with pytest.raises(ValueError, match="port must be"):
        ChatServer(known(), port=65_536)
    with pytest.raises(ValueError, match="host must be an address of this computer"):
        ChatServer(known(), "192.0.2.1").start()  # RFC 5737: an address for documents


@pytest.mark.parametrize("frame", [encode(Frame(ACK, MessageId(1, 1))), b"\0\0\0\1X"])
def test_a_peer_whose_frame_is_no_text_is_hung_up_on_and_counted(frame: bytes) -> None:
    with talk() as both:
        connection = both.connection()
        with connection.socket:
            connection.write(text_frame("before"), PATIENCE)
            connection.write(frame, PATIENCE)
            assert hears_the_end(connection.socket)
        assert both.server.broken == 1
        assert both.shown == ["before"]


def test_half_a_frame_and_then_silence_does_not_hold_a_thread() -> None:
    with talk(IDLE_TIMEOUT=0.05) as both:
        connection = both.connection()
        with connection.socket:
            connection.socket.sendall(text_frame()[:9])
            assert hears_the_end(connection.socket)
        assert both.shown == []


def test_a_peer_cannot_make_the_server_owe_more_acks_than_its_limit() -> None:
    with talk(ack_delay=FOR_EVER) as both:
        connection = both.connection()
        with connection.socket, suppress(ConnectionError):
            for _ in range(1_001):
                connection.write(text_frame(), PATIENCE)
            assert hears_the_end(connection.socket)
        assert (both.server.broken, both.server.duplicates) == (1, 999)


def test_a_full_inbox_acknowledges_nothing_until_it_is_cleared() -> None:
    with talk(inbox_limit=1) as both:
        both.send("first")
        with pytest.raises(NotDelivered, match="inbox is full") as caught:
            both.send("second", timeout=0.05, tries=2)
        assert [row.event for row in both.server.events][2:] == ["refused", "refused"]
        both.server.inbox.clear()
        both.send(caught.value.text)
        assert both.shown == ["second"]


def test_an_error_in_on_message_is_kept_and_the_text_acknowledged() -> None:
    def fail(message: Message) -> None:
        raise RuntimeError(f"cannot show {message.text}")

    with talk(on_message=fail) as both:
        both.send("hello")
        assert str(both.server.callback_error) == "cannot show hello"


# ---- starting and stopping


def test_stopping_is_quick_leaves_no_thread_and_frees_the_port() -> None:
    with talk(ack_delay=FOR_EVER) as both:
        with pytest.raises(NotDelivered):
            both.send("hello", timeout=0.05, tries=1)
        with socket.create_connection(both.server.address):
            began = time.perf_counter()
            both.server.stop()
            assert time.perf_counter() - began < 2
        assert "p2plab-chat" not in [thread.name for thread in threading.enumerate()]
        both.server.stop()  # again does no harm
        both.server.ack_delay = 0
        both.server.start()
        both.send("hello again")
