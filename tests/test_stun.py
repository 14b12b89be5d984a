"""STUN: the RFC's own examples, other people's programs, and everything that is not."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import PATIENCE, eventually, needs_ipv6
from loopback import no_thread_stays as no_thread_stays
from stun import ask, serving

from p2plab.core.packet import DATA, Packet
from p2plab.core.packet import encode as encode_packet
from p2plab.errors import CorruptPacket, PortInUse, RendezvousAway, RendezvousError
from p2plab.net.datagrams import Address
from p2plab.net.stun import (
    COOKIE,
    ERROR,
    ERROR_CODE,
    INDICATION,
    MAPPED_ADDRESS,
    REQUEST,
    SUCCESS,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Message,
    Query,
    StunServer,
    answer_to,
    encode,
    is_stun,
    network,
    parse,
    start_near,
    write_address,
)

# RFC 5769, sections 2.1 to 2.3; what is keyed in them is known, and not looked at
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
TRANSACTION: Final = SAMPLE_REQUEST[4:20]
ASKED: Final = encode(Message(REQUEST, TRANSACTION, {}))

HERE: Final = ("192.0.2.1", 32_853)
HERE_6: Final = ("2001:db8:1234:5678:11:2233:4455:6677", 32_853)
several = settings(derandomize=True, deadline=None, database=None, max_examples=300)


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


def needs(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package is {package})")
    return found


# ---- messages


def test_the_sample_request_is_read_field_by_field() -> None:
    assert is_stun(SAMPLE_REQUEST)
    assert not is_stun(encode_packet(Packet(DATA, 1, bytes(64))))
    message = parse(SAMPLE_REQUEST)
    assert (message.kind, message.transaction) == (REQUEST, TRANSACTION)
    assert message.attributes[0x8022] == b"STUN test client"
    assert message.attributes[USERNAME] == b"evtj:h6vY"  # without the padding
    assert message.unknown == [0x0024]  # PRIORITY, which is ICE's and not ours


@pytest.mark.parametrize(
    ("vector", "address"), [(IPV4_RESPONSE, HERE), (IPV6_RESPONSE, HERE_6)]
)
def test_the_sample_responses_tell_their_address(
    vector: bytes, address: Address
) -> None:
    message = parse(vector)
    assert (message.kind, message.address, message.unknown) == (SUCCESS, address, [])
    told = {XOR_MAPPED_ADDRESS: write_address(address, TRANSACTION)}
    assert encode(Message(SUCCESS, TRANSACTION, told))[20:] in vector


@several
@given(
    st.tuples(st.ip_addresses().map(str), st.integers(0, 65_535)),
    st.binary(min_size=12, max_size=12),
)
def test_every_address_survives_being_told(
    address: Address, transaction: bytes
) -> None:
    answer = answer_to(Message(REQUEST, COOKIE + transaction, {}), address)
    assert answer is not None
    told = parse(encode(answer)).address
    assert told is not None
    assert (ip_address(told[0]), told[1]) == (ip_address(address[0]), address[1])


def test_of_two_attributes_with_one_number_the_first_counts() -> None:
    twice = bytes.fromhex("000600036164610000060003426f6200")
    head = struct.pack("!HH", 1, len(twice)) + TRANSACTION
    assert parse(head + twice).attributes == {USERNAME: b"ada"}


NOT_STUN: Final = [
    b"",
    ASKED[:19],
    ASKED + b"\0",
    ASKED + bytes(4),  # more than the header says
    SAMPLE_REQUEST[:-4],
    b"\0\3" + ASKED[2:],  # TURN's Allocate
    b"\x80" + ASKED[1:],  # RTP begins with such a bit
    struct.pack("!HH", 1, 4) + ASKED[4:] + b"\0\6\0\1",  # too short
    struct.pack("!HH", 1, 3) + ASKED[4:] + b"\0\6\0",
    bytes(70_000),
]


@pytest.mark.parametrize("datagram", NOT_STUN, ids=size_of)
def test_what_is_no_binding_message_is_corrupt(datagram: bytes) -> None:
    with pytest.raises(CorruptPacket):
        parse(datagram)


# ---- the question


def test_a_question_is_repeated_at_the_moments_of_the_rfc() -> None:
    query = Query()
    moments, now = [], 0.0
    while query.next_datagram(now) is not None:
        moments.append(now)
        assert query.next_datagram(now) is None
        assert query.deadline is not None
        now = query.deadline
    assert moments == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert now == 39.5
    assert isinstance(query.error, RendezvousAway)
    assert query.deadline is None
    assert query.next_datagram(now) is None


def test_an_answer_ends_the_question_and_a_late_one_changes_nothing() -> None:
    query = Query(b"ada", transaction=TRANSACTION)
    asked = query.next_datagram(0.0)
    assert asked is not None
    assert parse(asked) == Message(REQUEST, TRANSACTION, {USERNAME: b"ada"})
    assert not query.on_datagram(b"a packet of somebody else")
    assert not query.on_datagram(IPV6_RESPONSE[:19] + b"!" + IPV6_RESPONSE[20:])
    assert query.on_datagram(IPV4_RESPONSE)
    assert (query.address, query.deadline) == (HERE, None)
    assert query.on_datagram(IPV6_RESPONSE)
    assert query.address == HERE


XOR: Final = write_address(HERE, TRANSACTION)
PLAIN: Final = write_address(HERE, bytes(16))


@pytest.mark.parametrize(
    "attributes",
    [
        {0x8020: XOR},  # its number in drafts of RFC 5389
        {MAPPED_ADDRESS: PLAIN},
        {XOR_MAPPED_ADDRESS: b"\0\3abcdef", MAPPED_ADDRESS: PLAIN},
        {0x8020: b"", XOR_MAPPED_ADDRESS: XOR, 0xFFFF: b"?"},
    ],
)
def test_an_address_is_taken_from_whichever_attribute_has_one(
    attributes: dict[int, bytes],
) -> None:
    query = Query(transaction=TRANSACTION)
    assert query.on_datagram(encode(Message(SUCCESS, TRANSACTION, attributes)))
    assert query.address == HERE


@pytest.mark.parametrize(
    ("kind", "attributes", "words"),
    [
        (ERROR, {ERROR_CODE: b"\0\0\4\x01who are you?\0\0\x1b[2J"}, "who are you?[2J"),
        (ERROR, {ERROR_CODE: b"\0\0\4\x14", 0xA: b"\0\6\x7f\xff"}, "0x0006, 0x7FFF"),
        (ERROR, {ERROR_CODE: b"\0\0\4\x14", 0xA: b"\0"}, "420, unknown attribute"),
        (ERROR, {ERROR_CODE: b"\0\0\3\0", 0x8023: PLAIN}, "ask 192.0.2.1, port 32853"),
        (ERROR, {ERROR_CODE: b"\0\0\4\x26\0\0\0"}, "438, stale nonce"),
        (ERROR, {ERROR_CODE: b"\0\0\6\0", 0x7FFF: b""}, "600, without a reason"),
        (ERROR, {ERROR_CODE: b"\0\0\1\0"}, "no code"),
        (ERROR, {}, "no code"),
        (SUCCESS, {}, "without a readable address"),
        (SUCCESS, {XOR_MAPPED_ADDRESS: b"\0\3abcdef"}, "without a readable address"),
        (SUCCESS, {MAPPED_ADDRESS: PLAIN, 0x7FFF: b""}, "0x7FFF, unknown here"),
    ],
)
def test_a_refusal_or_an_answer_without_an_address_ends_the_question_in_words(
    kind: int, attributes: dict[int, bytes], words: str
) -> None:
    query = Query(transaction=TRANSACTION)
    query.next_datagram(0.0)
    assert query.on_datagram(encode(Message(kind, TRANSACTION, attributes)))
    assert type(query.error) is RendezvousError
    assert words in str(query.error)
    assert str(query.error).isprintable()
    assert query.deadline is None


@pytest.mark.parametrize(
    "unread",
    [
        IPV4_RESPONSE[:-4],
        encode(Message(REQUEST, TRANSACTION, {})),  # our own words, sent back
        encode(Message(INDICATION, TRANSACTION, {MAPPED_ADDRESS: PLAIN})),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_silence_and_a_better_one_may_follow(
    unread: bytes,
) -> None:
    for better in (False, True):
        query = Query(transaction=TRANSACTION)
        query.next_datagram(0.0)
        assert query.on_datagram(unread)
        assert not query.done
        if better:
            query.on_datagram(IPV4_RESPONSE)
        assert query.next_datagram(query.rto) is None
        assert query.address == (HERE if better else None)
        assert better or "cannot be read" in str(query.error)


def test_a_question_where_nobody_listens_ends_in_words() -> None:
    with (
        sockets(count=2) as (sock, silent),
        pytest.raises(RendezvousAway, match="none of 2 STUN requests"),
    ):
        ask(sock, name_of(silent), in_a_hurry())


# ---- the server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_the_server_tells_who_asks_its_address_and_us_its_nonce(host: str) -> None:
    if ":" in host:
        needs_ipv6()
    told: list[tuple[str, str, int]] = []
    near = "127.0.0.1" if host == "::" else host  # which hears IPv4, too
    with (
        serving(host, on_nonce=lambda *words: told.append(words)) as server,
        sockets(near) as [sock],
    ):
        to = near, server.address[1]
        assert ask(sock, to) == name_of(sock)
        assert told == []
        assert ask(sock, to, Query(b"n-0nce")) == name_of(sock)
        assert told == [("n-0nce", *name_of(sock))]


def answer_of(server: StunServer, sock: socket.socket, asked: bytes) -> Message | None:
    """Return what the server answers; None if it answers the next request instead."""
    last = Query()
    sock.sendto(asked, server.address)
    sock.sendto(last.next_datagram(0.0) or b"", server.address)
    answer = sock.recv(2_000)
    if last.on_datagram(answer):
        return None
    assert last.on_datagram(sock.recv(2_000))
    return parse(answer)


def test_what_must_be_understood_and_is_not_is_named_in_an_error() -> None:
    told: list[object] = []
    change = encode(Message(REQUEST, TRANSACTION, {3: b"\0\0\0\6"}))
    with serving(on_nonce=lambda *words: told.append(words)) as server:
        for asked, named in ((SAMPLE_REQUEST, 0x24), (change, 3)):
            with sockets() as [sock]:
                answer = answer_of(server, sock, asked)
            assert answer is not None
            assert (answer.kind, answer.error) == (ERROR, (420, ""))
            assert answer.attributes[UNKNOWN_ATTRIBUTES] == bytes([0, named])
    assert told == []


@pytest.mark.parametrize(
    "datagram",
    [
        b"hello",
        *NOT_STUN[1:6],
        IPV4_RESPONSE,  # or two servers would talk for ever
        encode(Message(ERROR, TRANSACTION, {ERROR_CODE: b"\0\0\4\x14"})),
        encode(Message(INDICATION, TRANSACTION, {})),
        encode(Message(REQUEST, b"old!" + TRANSACTION[4:], {})),  # from before 2008
        bytes(1_501),
    ],
    ids=size_of,
)
def test_everything_else_stays_without_an_answer(datagram: bytes) -> None:
    with serving() as server, sockets() as [sock]:
        assert answer_of(server, sock, datagram) is None
        assert server.answered == 1


@several
@given(
    st.dictionaries(st.integers(0, 0x7FFF), st.binary(max_size=8), max_size=20),
)
def test_no_answer_is_much_longer_than_its_request(
    attributes: dict[int, bytes],
) -> None:
    datagram = encode(Message(REQUEST, TRANSACTION, attributes))
    if answer := answer_to(parse(datagram), HERE_6):
        assert len(encode(answer)) <= len(datagram) + 24


def test_one_source_is_answered_only_so_often_in_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("p2plab.net.stun.monotonic", lambda: now)
    with (
        serving(per_source=5) as server,
        sockets(count=2) as (greedy, other),  # of one address: one source
    ):
        for _ in range(8):
            greedy.sendto(ASKED, server.address)
        eventually(lambda: server.refused == 3, "three of eight requests are refused")
        with pytest.raises(RendezvousAway):
            ask(other, server.address, in_a_hurry())
        now = 101.0
        assert ask(other, server.address) == name_of(other)
        assert server.answered == 6
    # An IPv6 source is a whole /64.
    assert network("2001:db8::1") == network("2001:db8::ffff:1")
    assert network("2001:db8::1") != network("2001:db8:0:1::1")


def test_an_asker_that_is_gone_does_not_end_the_server() -> None:
    with serving() as server, sockets() as [sock]:
        for _ in range(20):  # Windows reports each of them to the server's socket
            with sockets() as [gone]:
                gone.sendto(ASKED, server.address)
        assert ask(sock, server.address) == name_of(sock)


@settings(several, max_examples=20)
@given(st.lists(st.binary(max_size=100), max_size=20), st.data())
def test_the_server_survives_what_is_thrown_at_it(
    noise: list[bytes], data: st.DataObject
) -> None:
    with serving(per_source=10**9) as server, sockets(count=2) as (bad, honest):
        for each in noise:
            damaged = bytearray(SAMPLE_REQUEST)
            at = data.draw(st.integers(0, len(damaged)))
            damaged[at : at + len(each) // 8] = each
            for datagram in (each, ASKED[:20] + each, bytes(damaged)):
                bad.sendto(datagram, server.address)
        assert ask(honest, server.address) == name_of(honest)


def test_a_port_that_is_taken_or_cannot_be_ours_is_named() -> None:
    async def start_beside(host: str, port: int) -> None:
        with pytest.raises(PortInUse, match=f"UDP port {port} of 127.0.0.1"):
            await StunServer().start(host, port)
        another = await start_near(host, port, print)
        assert another.address[1] not in (0, port)
        another.stop()

    with sockets() as [taken]:
        asyncio.run(start_beside(*name_of(taken)))
    with pytest.raises(ValueError, match="port must be in"), serving(port=70_000):
        pass
    with pytest.raises(ValueError, match="an address of this"), serving("192.0.2.1"):
        pass


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
    with serving(host) as server:
        said = said_by(client, "-p", str(server.address[1]), host)
        assert re.search(rf"reflexive addr: {host}:\d+$", said, re.MULTILINE), said
        assert server.answered > 0
