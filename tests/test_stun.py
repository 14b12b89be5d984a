"""STUN: the RFC's own examples, other people's programs, and everything that is not."""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
import socket
import stringprep
import struct
import subprocess
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import PATIENCE, eventually, needs_ipv6
from loopback import no_thread_stays as no_thread_stays

from p2plab.core.packet import DATA, Packet
from p2plab.core.packet import encode as encode_packet
from p2plab.errors import CorruptPacket, PortInUse, RendezvousAway, RendezvousError
from p2plab.net.stun import (
    COOKIE,
    ERROR,
    ERROR_CODE,
    FINGERPRINT,
    INDICATION,
    MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    REALM,
    REQUEST,
    SOFTWARE,
    SUCCESS,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Address,
    Binding,
    Message,
    authentic,
    encode,
    is_stun,
    parse,
    with_fingerprint,
    with_integrity,
    write_address,
)
from p2plab.net.stun_client import Query, ask, observed, request
from p2plab.net.stun_server import StunServer, network, refusal, response

# RFC 5769, sections 2.1 to 2.4
SAMPLE_REQUEST: Final = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
IPV4_RESPONSE: Final = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
IPV6_RESPONSE: Final = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
LONG_TERM_REQUEST: Final = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e"
    "00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
SHORT_TERM: Final = [SAMPLE_REQUEST, IPV4_RESPONSE, IPV6_RESPONSE]
VECTORS: Final = [*SHORT_TERM, LONG_TERM_REQUEST]
PASSWORD: Final = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION: Final = bytes.fromhex("b7e7a701bc34d686fa87dfae")

HERE: Final = ("192.0.2.1", 32_853)
HERE_6: Final = ("2001:db8:1234:5678:11:2233:4455:6677", 32_853)
several = settings(derandomize=True, deadline=None, database=None, max_examples=300)


def long_term_key() -> bytes:
    """Return the key of section 2.4, whose password SASLprep makes simpler."""
    password = "The\u00adM\u00aatr\u2168"
    prepared = unicodedata.normalize(
        "NFKC", "".join(c for c in password if not stringprep.in_table_b1(c))
    )
    assert prepared == "TheMatrIX"
    return hashlib.md5(f"マトリックス:example.org:{prepared}".encode()).digest()


@contextmanager
def sockets(host: str = "127.0.0.1", count: int = 1) -> Iterator[list[socket.socket]]:
    """Yield bound sockets with patience."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for each in made:
            each.bind((host, 0))
            each.settimeout(PATIENCE)
        yield made
    finally:
        for each in made:
            each.close()


def size_of(datagram: bytes) -> str:
    return f"{len(datagram)} bytes"


def name_of(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return host, port


def in_a_hurry() -> Query:
    """Return a question that soon gives up."""
    return Query(rto=0.01, rc=2, rm=2)


def not_wanted(nonce: str, address: str, port: int) -> None:
    raise AssertionError(f"{nonce!r} should not have counted")


def needs(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package is {package})")
    return found


# ---- the RFC's examples


def test_the_sample_request_is_read_field_by_field() -> None:
    message = parse(SAMPLE_REQUEST)
    assert (message.kind, message.transaction) == (REQUEST, TRANSACTION)
    assert message.cookie == COOKIE
    assert message.attributes[SOFTWARE] == b"STUN test client"
    assert message.attributes[USERNAME] == b"evtj:h6vY"  # without the padding
    assert message.unknown == [0x0024]  # PRIORITY, which is ICE's and not ours


@pytest.mark.parametrize(
    ("vector", "address"),
    [(IPV4_RESPONSE, HERE), (IPV6_RESPONSE, HERE_6)],
    ids=["IPv4", "IPv6"],
)
def test_the_sample_responses_tell_their_address(
    vector: bytes, address: Address
) -> None:
    assert observed(vector, TRANSACTION) == address
    assert parse(vector).attributes[SOFTWARE] == b"test vector"


@pytest.mark.parametrize("vector", SHORT_TERM, ids=["request", "IPv4", "IPv6"])
def test_the_samples_hashes_are_those_that_the_rfc_describes(vector: bytes) -> None:
    length = len(vector) - 20 - 8  # up to MESSAGE-INTEGRITY's end, FINGERPRINT left out
    covered = vector[:2] + struct.pack("!H", length) + vector[4:-32]
    assert vector[-28:-8] == hmac.new(PASSWORD, covered, hashlib.sha1).digest()
    crc = zlib.crc32(vector[:-8]) ^ 0x5354554E
    assert vector[-4:] == struct.pack("!I", crc)


@pytest.mark.parametrize("vector", SHORT_TERM, ids=["request", "IPv4", "IPv6"])
def test_our_hashes_complete_the_samples_to_the_same_bytes(vector: bytes) -> None:
    assert authentic(vector, PASSWORD)
    assert not authentic(vector, PASSWORD + b"!")
    signed = with_integrity(vector[:-32], PASSWORD, "sha1")
    assert with_fingerprint(signed) == vector


def test_the_long_term_sample_is_made_anew_byte_for_byte() -> None:
    attributes = {
        USERNAME: "マトリックス".encode(),
        NONCE: b"f//499k954d6OL34oL9FSTvy64sA",
        REALM: b"example.org",
    }
    message = Message(REQUEST, LONG_TERM_REQUEST[8:20], attributes)
    made = with_integrity(encode(message), long_term_key(), "sha1")
    assert made == LONG_TERM_REQUEST
    assert authentic(LONG_TERM_REQUEST, long_term_key())
    covered = struct.pack("!HH", 1, 0x60) + LONG_TERM_REQUEST[4:-24]
    digest = hmac.new(long_term_key(), covered, hashlib.sha1).digest()
    assert LONG_TERM_REQUEST[-20:] == digest


@pytest.mark.parametrize("vector", SHORT_TERM, ids=["request", "IPv4", "IPv6"])
def test_any_flipped_bit_of_a_sample_is_noticed(vector: bytes) -> None:
    for bit in range(8 * len(vector)):
        damaged = bytearray(vector)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            passed = authentic(bytes(damaged), PASSWORD)
        except CorruptPacket:
            continue
        # only a FINGERPRINT that has become another, optional attribute
        assert not passed or len(vector) - 8 <= bit // 8 < len(vector) - 6


def test_both_integrity_hashes_may_stand_in_one_message() -> None:
    plain = request(TRANSACTION, b"ada")
    both = with_integrity(with_integrity(plain, b"key", "sha1"), b"key", "sha256")
    assert authentic(with_fingerprint(both), b"key")
    assert not authentic(with_integrity(both[:-36], b"other"), b"key")
    covered = both[:2] + struct.pack("!H", len(both) - 20) + both[4:-36]
    assert both[-32:] == hmac.new(b"key", covered, hashlib.sha256).digest()


def test_a_sha256_hash_may_be_cut_short_but_not_to_nothing() -> None:
    whole = with_integrity(request(TRANSACTION), b"key", "sha256")

    def cut(size: int) -> bytes:
        """Sign anew: the length in the header is part of what is hashed."""
        head = struct.pack("!HH", 1, 4 + size) + whole[4:20]
        digest = hmac.new(b"key", head, hashlib.sha256).digest()[:size]
        return head + struct.pack("!HH", MESSAGE_INTEGRITY_SHA256, size) + digest

    assert cut(32) == whole
    assert authentic(cut(16), b"key")
    assert not authentic(cut(12), b"key")
    assert not authentic(cut(0), b"key")
    assert not authentic(request(TRANSACTION), b"key")
    with pytest.raises(ValueError, match="sha1 or sha256"):
        with_integrity(whole, b"key", "md5")


# ---- the codec

ADDRESSES = st.tuples(st.ip_addresses().map(str), st.integers(0, 65_535))


@several
@given(ADDRESSES, st.binary(min_size=12, max_size=12))
def test_every_address_survives_being_asked_and_told(
    address: Address, transaction: bytes
) -> None:
    got = observed(response(parse(request(transaction)), address), transaction)
    assert got[1] == address[1]
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    assert socket.inet_pton(family, got[0]) == socket.inet_pton(family, address[0])


@pytest.mark.parametrize("address", [HERE, HERE_6])
def test_a_plain_mapped_address_is_understood_too(address: Address) -> None:
    value = write_address(address, bytes(16))
    answer = encode(Message(SUCCESS, TRANSACTION, {MAPPED_ADDRESS: value}))
    assert observed(answer, TRANSACTION) == address


def test_of_two_attributes_with_one_number_the_first_counts() -> None:
    twice = bytes.fromhex("000600036164610000060003426f6200")
    head = struct.pack("!HH", 1, len(twice)) + COOKIE + TRANSACTION
    assert parse(head + twice).attributes == {USERNAME: b"ada"}


def test_what_follows_the_integrity_hash_is_ignored() -> None:
    signed = with_integrity(request(TRANSACTION), b"key", "sha1")
    longer = signed[:2] + struct.pack("!H", len(signed) - 20 + 8) + signed[4:]
    message = parse(longer + bytes.fromhex("0006000461646121"))
    assert message.attributes.keys() == {MESSAGE_INTEGRITY}


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        request(TRANSACTION)[:19],
        request(TRANSACTION) + b"\0",
        request(TRANSACTION) + bytes(4),  # more than the header says
        SAMPLE_REQUEST[:-4],
        b"\0\3" + request(TRANSACTION)[2:],  # TURN's Allocate
        b"\x80" + request(TRANSACTION)[1:],  # RTP begins with such a bit
        struct.pack("!HH", 1, 4) + request(TRANSACTION)[4:] + b"\0\6\0\1",  # too short
        struct.pack("!HH", 1, 3) + request(TRANSACTION)[4:] + b"\0\6\0",
        SAMPLE_REQUEST[:-1] + b"!",  # another FINGERPRINT
        bytes(70_000),
    ],
    ids=size_of,
)
def test_what_is_no_binding_message_is_corrupt(datagram: bytes) -> None:
    with pytest.raises(CorruptPacket):
        parse(datagram)


def test_a_fingerprint_must_be_the_last() -> None:
    marked = with_fingerprint(request(TRANSACTION))
    longer = marked[:2] + struct.pack("!H", 16) + marked[4:] + b"\x80\x22\0\4lab!"
    with pytest.raises(CorruptPacket, match="at the end"):
        parse(longer)


def test_messages_that_cannot_be_are_not_made() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        request(b"short")
    with pytest.raises(ValueError, match="at most 508"):
        request(TRANSACTION, bytes(509))
    with pytest.raises(ValueError, match="at most 1500"):
        encode(Message(REQUEST, TRANSACTION, {SOFTWARE: bytes(1_500)}))


def test_our_own_packets_are_not_taken_for_stun() -> None:
    assert all(is_stun(vector) for vector in VECTORS)
    assert not is_stun(encode_packet(Packet(DATA, 1, bytes(64))))
    assert not is_stun(SAMPLE_REQUEST[:19])


def look_at(datagram: bytes) -> None:
    """Use everything that reads a datagram; CorruptPacket is the only way to fail."""
    try:
        message = parse(datagram)
        assert message.unknown is not None
        assert message.error is not None
        assert authentic(datagram, PASSWORD) in (True, False)
        assert message.address is None or len(message.address) == 2
        observed(datagram, message.transaction)
    except (CorruptPacket, RendezvousError):
        pass
    assert Query(transaction=TRANSACTION).on_datagram(datagram) in (True, False)


@several
@given(st.binary(max_size=200), st.sampled_from(Binding))
def test_random_bytes_do_no_harm(noise: bytes, kind: Binding) -> None:
    look_at(noise)
    noise = noise[: len(noise) // 4 * 4]
    look_at(struct.pack("!HH", kind, len(noise)) + COOKIE + TRANSACTION + noise)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 130), st.binary(max_size=4), st.integers(0, 4)),
    min_size=1,
    max_size=6,
)
MESSAGES = [*VECTORS, request(TRANSACTION, b"ada"), response(parse(VECTORS[0]), HERE_6)]
MESSAGES.append(refusal(parse(SAMPLE_REQUEST), [0x24]))


def mutated(datagram: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Put other bytes in the place of some."""
    for at, new, old in changes:
        datagram = datagram[:at] + new + datagram[at + old :]
    return datagram


@several
@given(st.sampled_from(MESSAGES), MUTATIONS, st.booleans())
def test_damaged_messages_do_no_harm(
    datagram: bytes, changes: list[tuple[int, bytes, int]], mended: bool
) -> None:
    damaged = mutated(datagram, changes)
    if mended:  # so that it gets past the length in the header
        damaged = (
            damaged[:2]
            + struct.pack("!H", max(len(damaged) - 20, 0))
            + (damaged[4 : len(damaged) // 4 * 4])
        )
    look_at(damaged)


# ---- the client


def test_a_question_is_repeated_at_the_moments_of_the_rfc() -> None:
    query = Query(transaction=TRANSACTION)
    moments, now = [], 0.0
    while not query.done:
        if query.next_datagram(now) is not None:
            moments.append(now)
            assert query.next_datagram(now) is None
        assert query.deadline is not None
        now = query.deadline
        query.on_timeout()
    assert moments == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert now == 39.5
    assert isinstance(query.error, RendezvousAway)
    assert query.deadline is None
    query.on_timeout()
    assert query.next_datagram(now) is None


def test_an_answer_ends_the_question_and_a_late_one_changes_nothing() -> None:
    query = Query(b"ada", transaction=TRANSACTION)
    asked = query.next_datagram(0.0)
    assert asked == request(TRANSACTION, b"ada")
    assert not query.on_datagram(b"a packet of somebody else")
    assert not query.on_datagram(response(parse(request(bytes(12))), HERE_6))
    assert query.on_datagram(IPV4_RESPONSE[:-4])  # ours, but damaged
    assert not query.done
    assert query.on_datagram(IPV4_RESPONSE)
    assert (query.address, query.deadline) == (HERE, None)
    assert query.on_datagram(IPV6_RESPONSE)
    assert query.address == HERE


def test_a_refusal_ends_the_question_with_its_code() -> None:
    query = Query(transaction=TRANSACTION)
    assert query.on_datagram(refusal(parse(SAMPLE_REQUEST), [0x24]))
    assert isinstance(query.error, RendezvousError)
    assert "420" in str(query.error)


@pytest.mark.parametrize(
    "answer",
    [
        request(TRANSACTION),  # our own words, sent back
        encode(Message(SUCCESS, TRANSACTION, {})),
        encode(Message(SUCCESS, TRANSACTION, {XOR_MAPPED_ADDRESS: b"\0\3abcdef"})),
        encode(Message(INDICATION, TRANSACTION, {MAPPED_ADDRESS: bytes(8)})),
        encode(Message(ERROR, TRANSACTION, {ERROR_CODE: b"\0\0\1\0"})),
        encode(
            Message(
                SUCCESS,
                TRANSACTION,
                {MAPPED_ADDRESS: write_address(HERE, bytes(16)), 0x7FFF: b""},
            )
        ),  # needs to be understood, and is not
        encode(parse(IPV4_RESPONSE)._replace(cookie=b"old!")),
    ],
    ids=size_of,
)
def test_answers_that_tell_nothing_are_corrupt(answer: bytes) -> None:
    with pytest.raises(CorruptPacket):
        observed(answer, TRANSACTION)


def test_asking_where_nobody_listens_ends_in_words() -> None:
    with sockets(count=2) as (sock, silent):
        sock.setblocking(False)
        with pytest.raises(RendezvousAway, match="none of 2 STUN requests"):
            ask(sock, name_of(silent), in_a_hurry())
        assert sock.gettimeout() == 0.0


# ---- the server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_server_tells_who_asks_where_it_is_seen(host: str) -> None:
    if host == "::1":
        needs_ipv6()
    with StunServer(host) as server, sockets(host) as [sock]:
        assert ask(sock, (host, server.port)) == name_of(sock)
        assert (server.answered, server.refused, server.garbage) == (1, 0, 0)


def test_both_families_are_answered_on_one_port() -> None:
    needs_ipv6()
    with StunServer() as server:
        assert server.addresses == [("127.0.0.1", server.port), ("::1", server.port)]
        for address in server.addresses:
            with sockets(address[0]) as [sock]:
                assert ask(sock, address) == name_of(sock)


def test_a_nonce_is_told_before_its_request_is_answered() -> None:
    told: list[tuple[str, str, int]] = []
    with (
        StunServer(on_nonce=lambda *words: told.append(words)) as server,
        sockets() as [sock],
    ):
        ask(sock, ("127.0.0.1", server.port))
        assert told == []
        host, port = ask(sock, ("127.0.0.1", server.port), Query(b"n-0nce"))
        assert told == [("n-0nce", host, port)]


def test_a_callback_that_fails_costs_nobody_the_answer() -> None:
    def fail(nonce: str, address: str, port: int) -> None:
        raise KeyError(nonce)

    with StunServer(on_nonce=fail) as server, sockets() as [sock]:
        assert ask(sock, ("127.0.0.1", server.port), Query(b"no")) == name_of(sock)
        assert isinstance(server.callback_error, KeyError)


def answer_to(server: StunServer, sock: socket.socket, datagram: bytes) -> bytes | None:
    """Return what the server answers; None if it answers the next request instead."""
    last = Query()
    sock.sendto(datagram, ("127.0.0.1", server.port))
    sock.sendto(request(last.transaction), ("127.0.0.1", server.port))
    answer = sock.recv(2_000)
    if last.on_datagram(answer):
        return None
    assert last.on_datagram(sock.recv(2_000))
    return answer


def test_what_must_be_understood_and_is_not_is_named_in_an_error() -> None:
    with StunServer(on_nonce=not_wanted) as server, sockets() as [sock]:
        answer = answer_to(server, sock, SAMPLE_REQUEST)
        assert answer is not None
        assert server.callback_error is None
        message = parse(answer)
        assert (message.kind, message.error) == (ERROR, (420, ""))
        assert message.attributes[UNKNOWN_ATTRIBUTES] == b"\0\x24"
        assert FINGERPRINT in message.attributes  # as in the request


def test_a_request_to_answer_from_elsewhere_is_refused() -> None:
    change = encode(Message(REQUEST, TRANSACTION, {3: b"\0\0\0\6"}))
    elsewhere = encode(Message(REQUEST, TRANSACTION, {2: write_address(HERE, b"")}))
    with StunServer() as server, sockets() as [sock]:
        for datagram in (change, elsewhere):
            answer = answer_to(server, sock, datagram)
            assert answer is not None
            assert parse(answer).error == (420, "")


@pytest.mark.parametrize(
    "datagram",
    [
        b"hello",
        request(TRANSACTION)[:-1],
        SAMPLE_REQUEST[:-1] + b"!",
        b"\0\3" + request(TRANSACTION)[2:],
        IPV4_RESPONSE,  # or two servers would talk for ever
        refusal(parse(SAMPLE_REQUEST), [0x24]),
        encode(Message(INDICATION, TRANSACTION, {})),
        encode(Message(REQUEST, TRANSACTION, {3: b"\0\0\0\4"}, b"old!")),
        bytes(1_501),
    ],
    ids=size_of,
)
def test_everything_else_stays_without_an_answer(datagram: bytes) -> None:
    with StunServer() as server, sockets() as [sock]:
        assert answer_to(server, sock, datagram) is None
        indication = datagram[:2] == b"\0\x11"
        assert (server.answered, server.garbage) == (1, 0 if indication else 1)


def test_a_client_of_2003_gets_its_address_in_plain() -> None:
    attributes = {3: bytes(4), USERNAME: b"n-0nce"}
    asked = encode(Message(REQUEST, TRANSACTION, attributes, b"old!"))
    with StunServer(on_nonce=not_wanted) as server, sockets() as [sock]:
        answer = answer_to(server, sock, asked)
        assert answer is not None
        assert server.callback_error is None
        assert answer[4:20] == b"old!" + TRANSACTION
        assert parse(answer).attributes.keys() == {MAPPED_ADDRESS}
        assert parse(answer).address == name_of(sock)


NUMBERS = st.integers(0, 0x7FFF)


@several
@given(st.dictionaries(NUMBERS, st.binary(max_size=8), max_size=20), st.booleans())
def test_no_answer_is_much_longer_than_its_request(
    attributes: dict[int, bytes], marked: bool
) -> None:
    datagram = encode(Message(REQUEST, TRANSACTION, attributes))
    asked = parse(with_fingerprint(datagram) if marked else datagram)
    size = len(datagram) + 8 * marked
    assert len(response(asked, HERE_6)) <= size + 24
    assert not asked.unknown or len(refusal(asked, asked.unknown)) <= size + 12


def test_one_source_is_answered_only_so_often_in_a_second() -> None:
    now = 100.0
    with (
        StunServer(per_source=5, clock=lambda: now) as server,
        sockets(count=2) as (greedy, other),  # of one address: one source
    ):
        to = ("127.0.0.1", server.port)
        for _ in range(8):
            greedy.sendto(request(TRANSACTION, b"me"), to)
        eventually(lambda: server.refused == 3, "three of eight requests are refused")
        with pytest.raises(RendezvousAway):
            ask(other, to, in_a_hurry())
        now = 101.0
        assert ask(other, to) == name_of(other)
        assert server.answered == 6


def test_an_ipv6_source_is_a_whole_64() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1")
    assert network("2001:db8::1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") != network("192.0.2.2")


def test_an_asker_that_is_gone_does_not_end_the_server() -> None:
    with StunServer() as server, sockets() as [sock]:
        for _ in range(20):  # Windows reports each of them to the server's socket
            with sockets() as [gone]:
                gone.sendto(request(TRANSACTION), ("127.0.0.1", server.port))
        assert ask(sock, ("127.0.0.1", server.port)) == name_of(sock)


@settings(several, max_examples=20)
@given(
    st.lists(st.binary(max_size=100), max_size=20),
    st.lists(st.tuples(st.sampled_from(MESSAGES), MUTATIONS), max_size=20),
)
def test_the_server_survives_what_is_thrown_at_it(
    noise: list[bytes], damaged: list[tuple[bytes, list[tuple[int, bytes, int]]]]
) -> None:
    with StunServer(per_source=10**9) as server, sockets(count=2) as (bad, honest):
        to = ("127.0.0.1", server.port)
        for datagram in [*noise, *(mutated(*each) for each in damaged)]:
            bad.sendto(datagram, to)
        assert ask(honest, to) == name_of(honest)
        assert server.callback_error is None


def test_starting_and_stopping_twice_is_once_and_a_restart_keeps_the_port() -> None:
    server = StunServer()
    server.stop()
    assert server.start() is server.start()
    port, addresses = server.port, server.addresses
    assert port
    server.stop()
    server.stop()
    assert server.addresses == []
    with server, sockets() as [sock]:
        assert server.addresses == addresses
        assert ask(sock, ("127.0.0.1", port)) == name_of(sock)


def test_a_port_that_is_taken_is_named() -> None:
    with sockets() as [taken]:
        port = name_of(taken)[1]
        with pytest.raises(PortInUse, match=f"UDP port {port} of 127.0.0.1"):
            StunServer(port=port).start()


def test_a_port_that_ipv6_has_taken_is_answered_over_ipv4() -> None:
    needs_ipv6()
    with (
        sockets("::1") as [taken],
        sockets() as [sock],
        StunServer(port=name_of(taken)[1]) as server,
    ):
        assert server.addresses == [("127.0.0.1", server.port)]
        assert ask(sock, ("127.0.0.1", server.port)) == name_of(sock)


def test_impossible_places_are_named() -> None:
    with pytest.raises(ValueError, match="port must be in"):
        StunServer(port=70_000)
    with pytest.raises(ValueError, match="an address of this computer"):
        StunServer("192.0.2.1").start()


# ---- other people's programs


def said_by(*command: str) -> str:
    """Run a program to its end, and return what it prints."""
    ran = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    return ran.stdout


@contextmanager
def turnserver(folder: Path, *hosts: str) -> Iterator[int]:
    """Run coturn as a STUN server, and yield its port."""
    binary = needs("turnserver", "coturn")
    with sockets() as [probe]:
        port = name_of(probe)[1]
    command = [binary, "-n", "--stun-only", "--no-auth", "--no-cli", "--no-tcp"]
    command += ["--no-tls", "--no-dtls", "--no-rfc5780", "--log-file", "stdout"]
    command += ["--pidfile", str(folder / "pid"), "--db", str(folder / "db")]
    command += ["--listening-port", str(port)]
    for host in hosts:
        command += ["--listening-ip", host]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_coturn_tells_us_the_right_address(host: str, tmp_path: Path) -> None:
    if host == "::1":
        needs_ipv6()
    with turnserver(tmp_path, host) as port, sockets(host) as [sock]:
        patient = Query(rto=0.1)  # it may still be starting
        assert ask(sock, (host, port), patient) == name_of(sock)
        # a nonce that means nothing to it does not disturb it
        assert ask(sock, (host, port), Query(b"n-0nce")) == name_of(sock)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_coturns_client_reads_our_answers(host: str) -> None:
    client = needs("turnutils_stunclient", "coturn")
    if host == "::1":
        needs_ipv6()
    with StunServer(host) as server:
        said = said_by(client, "-p", str(server.port), host)
        assert re.search(rf"reflexive addr: {host}:\d+$", said, re.MULTILINE), said
        assert server.answered > 0
        assert server.garbage == 0


def test_coturns_nat_discovery_finds_no_nat_between_us() -> None:
    client = needs("turnutils_natdiscovery", "coturn")
    with StunServer() as server:
        said = said_by(client, "-m", "-p", str(server.port), "127.0.0.1")
    seen = re.search(r"reflexive addr: 127.0.0.1:(\d+)", said)
    own = re.search(r"Local addr: : 0.0.0.0:(\d+)", said)
    assert seen, said
    assert own, said
    assert seen[1] == own[1]


def test_debians_stun_client_reads_our_answer() -> None:
    client = needs("stun", "stun-client")
    with StunServer() as server:
        said = said_by(client, f"127.0.0.1:{server.port}", "1", "-v")
    own = re.search(r"Opened port (\d+)", said)
    assert own, said
    assert f"mappedAddr=127.0.0.1:{own[1]}" in said
