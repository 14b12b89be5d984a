"""Two peers who know each other: met at the rendezvous, proven on every way."""

from __future__ import annotations

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

from p2plab.chat import ChatClient
from p2plab.errors import IntroductionRefused, NotDelivered
from p2plab.packet import Kind
from p2plab.paths import HOST
from p2plab.peer import Peer
from p2plab.rendezvous.client import RendezvousClient
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


def test_sending_introduces_by_itself_and_once(alice: Peer, bob: Peer) -> None:
    alice.send_text("bob", "hello")
    assert same_pixels(alice.send_picture("bob", PICTURE, setup()).wait(PATIENCE))
    bob.send_text("alice", "hello to you")
    assert len(list(alice.meetings)) == len(list(bob.meetings)) == 1


def test_who_has_the_address_and_no_key_is_not_heard(alice: Peer, bob: Peer) -> None:
    alice.introduce("bob").contact.wait()
    client = ChatClient("alice")
    with pytest.raises(NotDelivered):
        client.send_text(bob.texts.address, "I am alice", timeout=0.5, tries=1)
    client.close()
    with Stranger(bob.pictures.address) as mallory:
        before = bob.pictures.strays
        mallory.say(Kind.OFFER, words=b"{}")
        eventually(lambda: bob.pictures.strays > before, "the offer has come")
        assert mallory.hears_nothing_more()
    assert bob.inbox == []
    assert bob.texts.strangers == 1


def test_a_text_shows_the_proven_name(alice: Peer, bob: Peer) -> None:
    alice._chat.name = "carol"  # what a liar's frames would claim
    alice.send_text("bob", "hello")
    (message,) = bob.texts.inbox
    assert message.sender == "alice"


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
