"""Text over TCP, on real loopback sockets."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import hears_the_end

from p2plab.errors import (
    BadContent,
    CorruptPacket,
    NotDelivered,
    PeerUnreachable,
    PortInUse,
)
from p2plab.net.chat import ChatClient, ChatServer
from p2plab.net.frames import (
    HEAD,
    LENGTH,
    MAX_BODY,
    MAX_NAME,
    MAX_TEXT,
    Decoder,
    Frame,
    FrameKind,
    Line,
    MessageId,
    encode,
)
from p2plab.net.inbox import Message
from p2plab.net.talks import UNPROVEN_OF_SOURCE

PATIENCE = 10.0  # a test that waits longer has failed [s]
FOR_EVER = 1_000.0

ids = st.builds(MessageId, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
names = st.text(max_size=MAX_NAME // 4).filter(str.isprintable)
texts = st.builds(Frame, st.just(FrameKind.TEXT), ids, names, st.text())
frames = texts | st.builds(Frame, st.just(FrameKind.ACK), ids)


def text_frame(text: str = "hello", number: int = 1) -> bytes:
    return encode(Frame(FrameKind.TEXT, MessageId(7, number), "mallory", text))


def decoded(decoder: Decoder) -> list[Frame]:
    return list(iter(decoder.next_frame, None))


def in_thread(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextmanager
def scripted_peer(*scripts: Callable[[Line], object]) -> Iterator[tuple[str, int]]:
    """A peer that plays one script on each connection it gets, then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def play() -> None:
        for script in scripts:
            with listener.accept()[0] as connection:
                script(Line(connection))

    thread = in_thread(play)
    yield listener.getsockname()
    thread.join(PATIENCE)
    listener.close()
    assert not thread.is_alive(), "the client used fewer connections than scripted"


def acknowledge(line: Line) -> None:
    for frame in line.read(PATIENCE):
        line.write(encode(Frame(FrameKind.ACK, frame.id)), PATIENCE)


# ── Frames ────────────────────────────────────────────────────────────────────────


@given(st.lists(frames, max_size=5), st.data())
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    decoder, received = Decoder(), []
    for begin, end in itertools.pairwise([0, *cuts, len(stream)]):
        decoder.feed(stream[begin:end])
        received += decoded(decoder)
    assert received == sent
    assert len(decoder) == 0


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_random_bytes_are_frames_or_corrupt_and_never_pile_up(
    pieces: list[bytes],
) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            decoder.feed(piece)
            decoded(decoder)
            assert len(decoder) < LENGTH.size + MAX_BODY
    except CorruptPacket:
        pass


@given(frames, st.data())
def test_a_frame_with_one_byte_changed_is_a_frame_or_corrupt(
    frame: Frame, data: st.DataObject
) -> None:
    changed = bytearray(encode(frame))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    decoder = Decoder()
    decoder.feed(bytes(changed))
    with suppress(CorruptPacket):
        decoded(decoder)


@pytest.mark.parametrize(
    "body",
    [
        HEAD.pack(ord("X"), 1, 1, 0),
        HEAD.pack(FrameKind.ACK, 1, 1, 1) + b"a",
        HEAD.pack(FrameKind.ACK, 1, 1, 0) + b"text",
        HEAD.pack(FrameKind.TEXT, 1, 1, 5) + b"four",
        HEAD.pack(FrameKind.TEXT, 1, 1, MAX_NAME + 1) + b"n" * 200,
        HEAD.pack(FrameKind.TEXT, 1, 1, 0) + b"t" * (MAX_TEXT + 1),
        HEAD.pack(FrameKind.TEXT, 1, 1, 0) + b"\xff",
        HEAD.pack(FrameKind.TEXT, 1, 1, 1) + b"\n",
        HEAD.pack(FrameKind.TEXT, 1, 1, 3) + "\u202e".encode(),
        HEAD.pack(FrameKind.TEXT, 1, 1, 3) + "\ud800".encode(errors="surrogatepass"),
        HEAD.pack(FrameKind.TEXT, 1, 1, 0)[:-1],
    ],
)
def test_a_frame_that_breaks_a_rule_is_corrupt(body: bytes) -> None:
    decoder = Decoder()
    decoder.feed(LENGTH.pack(len(body)) + body)
    with pytest.raises(CorruptPacket):
        decoder.next_frame()


def test_an_absurd_length_is_refused_before_its_bytes_are_waited_for() -> None:
    decoder = Decoder()
    decoder.feed(b"GET / HTTP/1.1\r\n"[: LENGTH.size])
    with pytest.raises(CorruptPacket, match="1,195,725,856 bytes"):
        decoder.next_frame()


def test_a_text_or_name_above_its_limit_is_refused_with_both_numbers() -> None:
    id = MessageId(1, 1)
    encode(Frame(FrameKind.TEXT, id, "n" * MAX_NAME, "t" * MAX_TEXT))
    with pytest.raises(
        BadContent, match=r"text has 65,538 bytes .* 65,536 are allowed"
    ):
        encode(Frame(FrameKind.TEXT, id, "", "é" * (MAX_TEXT // 2 + 1)))
    with pytest.raises(BadContent, match=r"name has 129 bytes .* 128 are allowed"):
        encode(Frame(FrameKind.TEXT, id, "n" * 129))


@pytest.mark.parametrize(
    ("name", "place"), [("al\nice", 3), ("\x1b[31mbob", 1), ("bob\u202e", 4)]
)
def test_a_name_that_could_look_like_another_one_is_refused(
    name: str, place: int
) -> None:
    for make in (
        ChatClient,
        lambda n: encode(Frame(FrameKind.ACK, MessageId(1, 1), n)),
    ):
        with pytest.raises(BadContent, match=f"character {place} of the name"):
            make(name)


# ── The usual case ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    ["hello", "", "Grüße", "你好", "שלום", "مرحبا", "👩🏽‍🚀", "\0\r\n", "t" * MAX_TEXT],
    ids=lambda text: ascii(text[:9]),
)
def test_a_text_of_any_script_and_length_arrives_as_it_was(text: str) -> None:
    before = time.time()
    with ChatServer() as server, ChatClient("Zoë") as client:
        delivery = client.send_text(server.address, text, timeout=PATIENCE)
        assert delivery.attempts == 1
        assert 0 < delivery.seconds < PATIENCE
        (message,) = server.inbox
    assert (message.sender, message.text, message.id) == ("Zoë", text, delivery.id)
    assert message.address[0] == "127.0.0.1"
    assert before <= message.received_at <= time.time()


def test_200_texts_use_one_connection_and_arrive_in_order() -> None:
    with ChatServer() as server, ChatClient("alice") as client:
        for number in range(200):
            client.send_text(server.address, str(number), timeout=PATIENCE)
        assert [message.text for message in server.inbox] == list(map(str, range(200)))
        assert len({message.address for message in server.inbox}) == 1


def test_many_clients_and_many_threads_of_one_client_send_at_once() -> None:
    with ChatServer() as server, ChatClient("a") as a, ChatClient("b") as b:

        def talk(client: ChatClient, part: int) -> None:
            for number in range(10):
                text = f"{part} {number}"
                client.send_text(server.address, text, timeout=PATIENCE)

        threads = [
            in_thread(partial(talk, client, part))
            for part, client in enumerate([a, a, a, b, b])
        ]
        for thread in threads:
            thread.join(PATIENCE)
        for client, name, parts in [(a, "a", (0, 1, 2)), (b, "b", (3, 4))]:
            got = [m.text for m in server.inbox if m.sender == name]
            wanted = [f"{part} {number}" for part in parts for number in range(10)]
            assert sorted(got) == sorted(wanted), client.events


def test_each_message_is_shown_to_on_message_in_the_context_of_the_starter() -> None:
    cell = ContextVar("cell", default=0)
    cell.set(7)
    shown: list[tuple[Message, int]] = []
    with (
        ChatServer(on_message=lambda message: shown.append((message, cell.get()))) as s,
        ChatClient() as client,
    ):
        client.send_text(s.address, "hello", timeout=PATIENCE)
        assert shown == [(s.inbox[0], 7)]


# ── Timeouts, copies, losses ──────────────────────────────────────────────────────


def test_a_text_whose_ack_is_late_is_sent_again_and_shown_once() -> None:
    with ChatServer(name="bob", ack_delay=0.3) as server, ChatClient("ann") as client:
        delivery = client.send_text(server.address, "?", timeout=0.1, tries=100)
        assert delivery.attempts > 1
        assert delivery.seconds > 0.29  # the ACK of the first copy ended it
        assert [message.text for message in server.inbox] == ["?"]
        assert server.duplicates >= 1

        rows = sorted(client.events + server.events)
    story = [(who, event, attempt) for _, who, event, _, attempt in rows]
    assert {row.id for row in rows} == {delivery.id}
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


def test_the_ack_delay_can_be_changed_while_the_server_runs() -> None:
    with ChatServer(ack_delay=FOR_EVER) as server, ChatClient() as client:
        with pytest.raises(NotDelivered):
            client.send_text(server.address, "too late", timeout=0.05, tries=1)
        server.ack_delay = 0
        assert client.send_text(server.address, "now", timeout=PATIENCE).attempts == 1


def test_acks_are_lost_as_the_seed_says() -> None:
    seed, loss, copies = 4, 0.6, itertools.count(1)
    rng = Random(seed)
    script = list(itertools.takewhile(lambda coin: coin < loss, iter(rng.random, None)))
    wanted = []
    for copy in itertools.islice(copies, len(script)):
        wanted += [("arrive" if copy == 1 else "duplicate", copy), ("ack lost", copy)]
    wanted += [("duplicate", len(script) + 1), ("ack sent", len(script) + 1)]

    with ChatServer(ack_loss=loss, seed=seed) as server, ChatClient() as client:
        delivery = client.send_text(server.address, "hello", timeout=0.1, tries=50)
        events = [(row.event, row.attempt) for row in server.events]
        assert len(server.inbox) == 1
    assert len(script) >= 2, "choose a seed that loses more"
    assert delivery.attempts >= len(script) + 1
    assert events[: len(wanted)] == wanted


def test_an_ack_of_another_text_is_not_taken_for_ours() -> None:
    def answer(line: Line) -> None:
        (frame,) = line.read(PATIENCE)
        line.write(encode(Frame(FrameKind.ACK, MessageId(1, 1))), PATIENCE)
        (again,) = line.read(PATIENCE)  # so the wrong one did not help
        assert again == frame
        line.write(encode(Frame(FrameKind.ACK, frame.id)), PATIENCE)

    with scripted_peer(answer) as address, ChatClient() as client:
        delivery = client.send_text(address, "hello", timeout=0.2, tries=50)
    assert delivery.attempts >= 2


def test_a_copy_that_comes_over_a_new_connection_is_shown_once() -> None:
    with ChatServer() as server:
        for _ in range(2):
            with socket.create_connection(server.address) as connection:
                line = Line(connection)
                line.write(text_frame("once"), PATIENCE)
                (ack,) = line.read(PATIENCE)
                assert ack == Frame(FrameKind.ACK, MessageId(7, 1))
        assert [message.text for message in server.inbox] == ["once"]
        assert server.duplicates == 1


# ── Peers that are away, leave, or misbehave ──────────────────────────────────────


def test_a_text_never_acknowledged_is_given_back_with_what_was_tried() -> None:
    with ChatServer(ack_delay=FOR_EVER) as server, ChatClient() as client:
        with pytest.raises(NotDelivered, match=r"none of 3 tries .*0\.05 s") as caught:
            client.send_text(server.address, "my words", timeout=0.05, tries=3)
        events = [(row.event, row.attempt) for row in client.events]
    assert caught.value.text == "my words"
    assert f"127.0.0.1:{server.address[1]}" in str(caught.value)
    assert events == [
        ("send", 1),
        ("timeout", 1),
        ("resend", 2),
        ("timeout", 2),
        ("resend", 3),
        ("timeout", 3),
    ]


@pytest.mark.parametrize("words", [5, None, b"hello"])
def test_what_is_no_text_is_refused_in_words(words: Any) -> None:
    with (
        ChatServer() as server,
        ChatClient() as client,
        pytest.raises(BadContent, match=f"a text is a str, got {type(words).__name__}"),
    ):
        client.send_text(server.address, words)


@pytest.mark.parametrize("host", ["127.0.0.1", "no..host", "x" * 300])
def test_a_peer_that_is_not_there_is_reported_at_once(host: str) -> None:
    with ChatServer() as server:
        port = server.address[1]
    with ChatClient() as client:
        with pytest.raises(NotDelivered, match="nobody answers at") as caught:
            client.send_text((host, port), "my words", timeout=FOR_EVER)
        assert isinstance(caught.value.__cause__, PeerUnreachable)
        assert caught.value.text == "my words"
        with pytest.raises(NotDelivered, match="nobody answers at"):
            client.send_text(("127.0.0.1", 70_000), "no such port")


def test_a_connection_dropped_before_the_ack_is_replaced_and_the_text_resent() -> None:
    got: list[Frame] = []
    with (
        scripted_peer(
            lambda line: got.extend(line.read(PATIENCE)), acknowledge
        ) as peer,
        ChatClient() as client,
    ):
        delivery = client.send_text(peer, "hello", timeout=0.2)
        events = [row.event for row in client.events]
        assert events == ["send", "dropped", "resend", "ack"]
    assert delivery.attempts == 2
    assert [frame.id for frame in got] == [delivery.id]


def test_a_kept_connection_that_the_peer_has_closed_costs_no_attempt() -> None:
    closed = threading.Event()

    def then_close(line: Line) -> None:
        acknowledge(line)
        line.hang_up()
        closed.set()

    with scripted_peer(then_close, acknowledge) as address, ChatClient() as client:
        client.send_text(address, "one", timeout=PATIENCE)
        assert closed.wait(PATIENCE)
        assert client.send_text(address, "two", timeout=PATIENCE).attempts == 1


def test_a_peer_that_restarts_gets_the_text_and_knows_the_copy() -> None:
    arrived = threading.Event()
    server = ChatServer(ack_delay=FOR_EVER, on_message=lambda _: arrived.set())
    with server, ChatClient() as client:
        deliveries = []
        sending = in_thread(
            lambda: deliveries.append(
                client.send_text(server.address, "hello", timeout=0.2, tries=200)
            )
        )
        assert arrived.wait(PATIENCE)
        server.stop()
        server.ack_delay = 0
        server.start()
        sending.join(PATIENCE)
        assert [delivery.attempts > 1 for delivery in deliveries] == [True]
        assert [message.text for message in server.inbox] == ["hello"]


def test_a_peer_that_answers_nonsense_is_no_danger() -> None:
    def nonsense(line: Line) -> None:
        list(line.read(PATIENCE))
        line.write(b"HTTP/1.1 400 Bad Request\r\n\r\n", PATIENCE)
        assert hears_the_end(line.socket)

    with scripted_peer(nonsense, nonsense) as address, ChatClient() as client:
        with pytest.raises(NotDelivered):
            client.send_text(address, "hello", timeout=0.05, tries=2)
        events = [row.event for row in client.events]
        assert events == ["send", "dropped", "resend", "dropped"]


def test_closing_a_client_ends_its_waiting_texts_and_keeps_their_words() -> None:
    arrived = threading.Event()
    errors: list[NotDelivered] = []
    client = ChatClient()

    def send(text: str) -> None:
        with pytest.raises(NotDelivered, match="peer is closed") as caught:
            client.send_text(server.address, text, timeout=FOR_EVER)
        errors.append(caught.value)

    with ChatServer(ack_delay=FOR_EVER, on_message=lambda _: arrived.set()) as server:
        threads = [in_thread(lambda: send("same")) for _ in range(3)]
        assert arrived.wait(PATIENCE)
        client.close()
        for thread in threads:
            thread.join(PATIENCE)
        send("after")
    assert [error.text for error in errors] == ["same"] * 3 + ["after"]


def test_an_interrupted_text_leaves_the_client_fit_for_the_next() -> None:
    server = ChatServer(ack_delay=FOR_EVER, on_message=lambda _: interrupt_main())
    with server, ChatClient() as client:
        with pytest.raises(KeyboardInterrupt):
            client.send_text(server.address, "stop", timeout=0.05, tries=200)
        server.ack_delay, server.on_message = 0, None
        assert client.send_text(server.address, "go", timeout=PATIENCE).attempts == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [("t" * (MAX_TEXT + 1), "65,536 are allowed"), ("ab\ud800", "character 3")],
)
def test_a_text_that_cannot_be_carried_is_refused_and_nothing_is_sent(
    text: str, reason: str
) -> None:
    with ChatServer() as server, ChatClient() as client:
        with pytest.raises(BadContent, match=reason):
            client.send_text(server.address, text)
        assert client.events == []
        client.send_text(server.address, "fine", timeout=PATIENCE)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(BadContent, match="name has 200 bytes"):
        ChatClient("n" * 200)
    with ChatClient() as client:
        for timeout in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="timeout must be"):
                client.send_text(("127.0.0.1", 9), "hello", timeout=timeout)
        with pytest.raises(ValueError, match="tries must be"):
            client.send_text(("127.0.0.1", 9), "hello", tries=0)
    server = ChatServer()
    with pytest.raises(ValueError, match=r"ack_loss must be in \[0, 1\), got 1\.0"):
        server.ack_loss = 1.0
    with pytest.raises(ValueError, match="ack_delay must be"):
        ChatServer(ack_delay=-1)
    with pytest.raises(ValueError, match="port must be"):
        ChatServer(port=65_536)
    with pytest.raises(ValueError, match="host must be an address of this computer"):
        ChatServer("192.0.2.1").start()  # RFC 5737: an address for documents


# ── A server among strangers ──────────────────────────────────────────────────────


def test_random_bytes_to_the_port_harm_nobody() -> None:
    with ChatServer() as server, ChatClient() as client:

        @settings(max_examples=50, deadline=None)
        @given(st.binary(max_size=300))
        def throw(data: bytes) -> None:
            with socket.create_connection(server.address) as connection:
                connection.sendall(data)
                with suppress(OSError):  # the server was quicker
                    connection.shutdown(socket.SHUT_WR)
                assert hears_the_end(connection)

        throw()
        client.send_text(server.address, "still here", timeout=PATIENCE)
        assert [message.text for message in server.inbox] == ["still here"]
        assert server.broken > 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        encode(Frame(FrameKind.ACK, MessageId(1, 1))),
        LENGTH.pack(MAX_BODY + 1),
    ],
    ids=["http", "an ack", "too long"],
)
def test_bytes_that_are_no_text_close_the_connection_and_are_counted(
    data: bytes,
) -> None:
    with ChatServer() as server, socket.create_connection(server.address) as stranger:
        stranger.sendall(text_frame("before") + data)
        assert hears_the_end(stranger)
        assert server.broken == 1
        assert [message.text for message in server.inbox] == ["before"]


def test_half_a_frame_and_then_silence_does_not_hold_a_thread() -> None:
    with (
        ChatServer(idle_timeout=0.05) as server,
        socket.create_connection(server.address) as stranger,
    ):
        stranger.sendall(text_frame()[:9])
        assert hears_the_end(stranger)
        assert server.inbox == []


def test_a_stranger_cannot_make_the_server_owe_more_acks_than_its_limit() -> None:
    with (
        ChatServer(ack_delay=FOR_EVER) as server,
        socket.create_connection(server.address) as stranger,
    ):
        stranger.sendall(text_frame() * 1_001)
        assert hears_the_end(stranger)
        assert (server.broken, server.duplicates) == (1, 999)


def test_a_connection_too_many_is_turned_away_until_another_ends() -> None:
    with ChatServer(max_connections=1) as server, ChatClient() as late:
        with ChatClient() as early:
            early.send_text(server.address, "first", timeout=PATIENCE)
            with pytest.raises(NotDelivered):
                late.send_text(server.address, "second", timeout=0.05, tries=2)
            assert server.turned_away == 2
        late.send_text(server.address, "second", timeout=0.05, tries=200)
        assert [message.text for message in server.inbox] == ["first", "second"]


def test_any_number_of_silent_strangers_keep_nobody_out() -> None:
    with ExitStack() as stack:
        server = ChatServer(max_connections=UNPROVEN_OF_SOURCE + 8)
        stack.enter_context(server)
        client = stack.enter_context(ChatClient())
        client.send_text(server.address, "before", timeout=PATIENCE)
        strangers = [
            stack.enter_context(socket.create_connection(server.address))
            for _ in range(UNPROVEN_OF_SOURCE + 20)
        ]
        for early in strangers[:20]:
            assert hears_the_end(early), "the oldest make room"
        late = stack.enter_context(ChatClient())
        for each in (client, late):
            assert each.send_text(server.address, "hi", timeout=PATIENCE).attempts == 1
        assert server.turned_away == 0


def test_a_full_inbox_acknowledges_nothing_until_it_is_cleared() -> None:
    with ChatServer(inbox_limit=1) as server, ChatClient() as client:
        client.send_text(server.address, "first", timeout=PATIENCE)
        with pytest.raises(NotDelivered, match="inbox is full") as caught:
            client.send_text(server.address, "second", timeout=0.05, tries=2)
        assert [row.event for row in server.events][2:] == ["refused", "refused"]
        server.clear()
        client.send_text(server.address, caught.value.text, timeout=PATIENCE)
        assert [message.text for message in server.inbox] == ["second"]


def test_an_error_in_on_message_is_kept_and_the_text_acknowledged() -> None:
    def fail(message: Message) -> None:
        raise RuntimeError(f"cannot show {message.text}")

    with ChatServer(on_message=fail) as server, ChatClient() as client:
        client.send_text(server.address, "hello", timeout=PATIENCE)
        assert str(server.callback_error) == "cannot show hello"


# ── Starting and stopping ─────────────────────────────────────────────────────────


def test_a_port_in_use_is_refused_with_what_to_do() -> None:
    with (
        ChatServer() as server,
        pytest.raises(PortInUse, match=f"port {server.address[1]} .*choose port 0"),
    ):
        ChatServer(port=server.address[1]).start()


def test_stopping_is_quick_leaves_no_thread_and_frees_the_port() -> None:
    with ChatServer(ack_delay=FOR_EVER) as server, ChatClient() as client:
        with pytest.raises(NotDelivered):
            client.send_text(server.address, "hello", timeout=0.05, tries=1)
        with socket.create_connection(server.address):
            began = time.perf_counter()
            server.stop()
            assert time.perf_counter() - began < 2
        assert "p2plab-chat" not in [thread.name for thread in threading.enumerate()]
        server.stop()  # again does no harm
        with ChatServer(port=server.address[1]) as heir:
            client.send_text(heir.address, "hello again", timeout=PATIENCE)


def test_on_message_may_stop_the_server() -> None:
    stopped = threading.Event()

    def stop(message: Message) -> None:
        server.stop()
        stopped.set()

    server = ChatServer(on_message=stop).start()
    with ChatClient() as client, pytest.raises(NotDelivered):
        client.send_text(server.address, "stop", timeout=0.05, tries=1)
    assert stopped.wait(PATIENCE)
    server.stop()
