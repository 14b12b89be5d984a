"""Two peers who know each other: met at the rendezvous, proven on every way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from loopback import (
    PATIENCE,
    PICTURE,
    Stranger,
    eventually,
    same_pixels,
    setup,
)
from loopback import (
    no_thread_stays as no_thread_stays,  # for every test here
)
from talk import introduced

from p2plab.core.meeting import (
    ACCEPT,
    ANSWER,
    ASKED,
    CHOOSE,
    CONFIRM,
    HEAR,
    INTRODUCE,
    MET,
    PROBE,
    REGISTER,
    Seen,
    together,
)
from p2plab.core.packet import Kind
from p2plab.errors import IntroductionRefused, NotDelivered
from p2plab.net.chat import ChatClient
from p2plab.net.paths import HOST
from p2plab.peer.meetings import MOST_BYTES, shortened, size
from p2plab.peer.peer import Peer
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import MAX_EVENTS
from p2plab.rendezvous.server import RendezvousServer


@pytest.fixture
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="") as server:
        yield server


@pytest.fixture
def alice(server: RendezvousServer) -> Iterator[Peer]:
    with Peer("alice", server.url) as peer:
        peer.register()
        yield peer


@pytest.fixture
def bob(server: RendezvousServer) -> Iterator[Peer]:
    with Peer("bob", server.url) as peer:
        peer.register()
        yield peer


def test_both_sides_hold_the_same_meeting_and_a_path(alice: Peer, bob: Peer) -> None:
    meeting = alice.introduce("bob")
    path = meeting.contact.wait()
    assert (path.kind, path.address) == (HOST, bob.pictures.address)
    eventually(lambda: list(bob.meetings), "bob was told")
    (other,) = bob.meetings
    assert other.contact.wait().address == alice.pictures.address
    assert other.session.id == meeting.session.id
    assert (other.peer, meeting.peer) == ("alice", "bob")


def test_a_peer_in_a_list_and_a_path_are_shown_in_words(alice: Peer, bob: Peer) -> None:
    shown = repr(alice.peers())
    assert re.fullmatch(r"\[<bob, registered at \d\d:\d\d:\d\d>\]", shown)
    path = alice.introduce("bob").contact.wait()
    port = bob.pictures.address[1]
    shown = rf"<Path to 127.0.0.1, port {port}: round trip \d+\.\d\d ms>"
    assert re.fullmatch(shown, repr(path))


def test_sending_introduces_by_itself_and_once(alice: Peer, bob: Peer) -> None:
    alice.send_text("bob", "hello")
    assert same_pixels(alice.send_picture("bob", PICTURE, setup()).wait(PATIENCE))
    bob.send_text("alice", "hello to you")
    assert len(list(alice.meetings)) == len(list(bob.meetings)) == 1


def test_who_has_the_address_and_no_key_is_not_heard(alice: Peer, bob: Peer) -> None:
    alice.introduce("bob").contact.wait()
    made_up, _ = introduced("alice")
    with ChatClient() as client, pytest.raises(NotDelivered):
        client.send_text(bob.texts.address, "I am alice", made_up, timeout=0.5, tries=1)
    with Stranger(bob.pictures.address) as mallory:
        before = bob.pictures.strays
        mallory.say(Kind.OFFER, words=b"{}")
        eventually(lambda: bob.pictures.strays > before, "the offer has come")
        assert mallory.hears_nothing_more()
    assert bob.inbox == []
    eventually(lambda: bob.texts.strangers == 1, "its session is nobody's")


def test_a_peer_that_has_forgotten_the_meeting_is_met_anew(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url) as bob:
        bob.register()
        alice.send_text("bob", "first")
        tcp_port = bob.texts.address[1]
    with Peer("bob", server.url, tcp_port=tcp_port) as again:
        again.register()
        alice.send_text("bob", "second")
        assert [each.text for each in again.texts.inbox] == ["second"]


def test_nobody_is_met_who_does_not_want_to(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url, accept="nobody") as bob:
        bob.register()
        with pytest.raises(IntroductionRefused, match="bob does not want to meet"):
            alice.send_text("bob", "hello")
        assert list(alice.meetings) == []


def test_the_rendezvous_sees_where_a_peers_datagrams_come_from(
    server: RendezvousServer, alice: Peer
) -> None:
    eventually(lambda: alice.pictures.observed, "STUN has answered")
    assert alice.pictures.observed == alice.pictures.address
    with RendezvousClient(server.url) as client, Peer("bob", server.url) as bob:
        assert client.url == server.url
        bob.register()
        kinds = {each.kind for each in bob.introduce("alice").met.candidates}
        assert HOST in kinds


# What was seen of a meeting


def words_of(rows: list[Seen], who: str | None) -> list[str]:
    """What one of them did and saw, each word once, in the order of time."""
    return list(dict.fromkeys(each.what for each in rows if each.who == who))


def test_a_meeting_leaves_one_trace_of_both_peers_and_the_rendezvous(
    alice: Peer, bob: Peer
) -> None:
    meeting = alice.introduce("bob")
    meeting.contact.wait()
    eventually(lambda: words_of(meeting.seen(), "bob"), "bob has told his part")
    rows = meeting.seen()
    assert words_of(rows, None) == ["asked", "met"]
    assert words_of(rows, "alice")[:3] == ["register", "introduce", "met"]
    assert words_of(rows, "bob")[:4] == ["register", "asked", "accept", "met"]
    for who, there in (("alice", bob), ("bob", alice)):
        assert {PROBE, HEAR, ANSWER, CONFIRM, CHOOSE} <= set(words_of(rows, who))
        host, port = there.pictures.address[:2]
        (chosen,) = [e.note for e in rows if (e.who, e.what) == (who, CHOOSE)]
        assert chosen == f"{host}:{port}"
    assert [each.at for each in rows] == sorted(each.at for each in rows)
    for before, after in ((HEAR, ANSWER), (CONFIRM, CHOOSE)):
        mine = [each.what for each in rows if each.who == "alice"]
        assert mine.index(before) + 1 == mine.index(after)
    asking = [(e.who, e.what) for e in rows if e.what in (INTRODUCE, ASKED, ACCEPT)]
    assert asking == [
        *(("alice", INTRODUCE), (None, ASKED), ("bob", ASKED), ("bob", ACCEPT)),
    ]


def test_no_probe_of_a_trace_is_heard_before_it_was_sent(
    alice: Peer, bob: Peer
) -> None:
    meeting = alice.introduce("bob")
    meeting.contact.wait()
    eventually(lambda: words_of(meeting.seen(), "bob"), "bob has told his part")
    rows = meeting.seen()
    for went, came in ((PROBE, HEAR), (ANSWER, CONFIRM)):
        sent = {(e.who, e.probe): e.at for e in rows if e.what == went}
        arrived = [each for each in rows if each.what == came]
        assert arrived
        for each in arrived:
            other = "bob" if each.who == "alice" else "alice"
            assert sent.get((other, each.probe), 0.0) <= each.at


def test_while_the_rendezvous_is_away_a_trace_has_our_own_part(
    server: RendezvousServer, alice: Peer, bob: Peer
) -> None:
    meeting = alice.introduce("bob")
    meeting.contact.wait()
    server.stop()
    rows = meeting.seen(wait=0.0)
    assert {each.who for each in rows} == {"alice"}
    assert "introduce" in words_of(rows, "alice")
    server.start()


def test_a_trace_has_no_key_and_no_token(alice: Peer, bob: Peer) -> None:
    meeting = alice.introduce("bob")
    meeting.contact.wait()
    told = repr(meeting.seen())
    assert alice.registration is not None
    assert meeting.met.key.hex() not in told
    assert alice.registration.token not in told


def test_a_report_that_is_too_long_loses_its_last_probes_and_says_so() -> None:
    rows = [Seen(0.0, "introduce", "bob", "alice")]
    note = "[2001:db8:1234:5678:9abc:def0:1234:5678]:40123 #12345"
    rows += [Seen(1.0 + n, PROBE, note, "alice") for n in range(1_000)]
    rows += [Seen(2e3, "fail", "", "alice")]
    short = shortened(rows)
    assert len(short) <= MAX_EVENTS
    assert sum(map(size, short)) <= MOST_BYTES + 100
    assert short[0] == rows[0]
    assert short[-2] == rows[-1]
    left = 1_000 - sum(each.what == PROBE for each in short)
    assert (short[-1].what, short[-1].note) == ("more", f"{left} probes left out")
    assert shortened(rows[:3]) == rows[:3]


OWN = [
    *(Seen(10.0, INTRODUCE, "bob", "alice"), Seen(10.3, MET, "bob", "alice")),
    *(Seen(11.0, PROBE, "x #1", "alice"), Seen(11.2, CONFIRM, "x #1", "alice")),
]
OTHERS = [  # Bob's clock is 3 s behind, and that of the rendezvous 50 s ahead
    *(Seen(60.1, ASKED), Seen(7.15, ASKED, "alice", "bob")),
    *(Seen(7.16, ACCEPT, "", "bob"), Seen(60.2, MET), Seen(7.3, MET, "alice", "bob")),
    *(Seen(8.1, HEAR, "y #1", "bob"), Seen(8.1, ANSWER, "y #1", "bob")),
]


@pytest.mark.parametrize("probes", [True, False])
def test_three_clocks_that_differ_are_brought_together(probes: bool) -> None:
    own, others = ([e for e in rows if probes or not e.probe] for rows in (OWN, OTHERS))
    seen = together(own, others)
    words = [INTRODUCE, ASKED, ASKED, ACCEPT, MET, MET, MET]
    assert [each.what for each in seen if not each.probe] == words
    moved = {(each.who, each.what): each.at for each in seen}
    assert moved["bob", ASKED] == pytest.approx(10.15, abs=0.03)
    assert moved[None, MET] == pytest.approx(10.2, abs=0.03)
    assert moved["alice", MET] == 10.3
    if probes:
        assert [each.what for each in seen[-4:]] == [PROBE, HEAR, ANSWER, CONFIRM]


def test_a_clock_that_nothing_is_known_of_is_taken_for_right() -> None:
    rows = [Seen(9.0, REGISTER, "", "bob"), Seen(9.5, ASKED)]
    assert together(OWN[:1], rows) == [*rows, OWN[0]]


def test_while_the_rendezvous_is_away_a_meeting_in_doubt_still_serves(
    server: RendezvousServer, alice: Peer, bob: Peer
) -> None:
    first = alice.introduce("bob")
    first.contact.wait()
    bob.texts.ack_loss = 0.999  # its seed loses the first
    with pytest.raises(NotDelivered):
        alice.send_text("bob", "do you hear me?", timeout=0.05, tries=1)
    bob.texts.ack_loss = 0.0
    server.stop()
    alice.send_text("bob", "who needs it?")
    server.start()
    alice.send_text("bob", "there it is again")
    assert alice.meetings.last("bob") is not first, "they met anew"
