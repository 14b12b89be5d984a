"""A peer: register, list, text, pictures, inbox, close, and what can go wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import (
    FAR,
    PATIENCE,
    PICTURE,
    SHORT,
    eventually,
    over,
    setup,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.offer import Limits, Offer
from p2plab.content.transfer import State, Transfer
from p2plab.core.link import Link, ScriptedLink
from p2plab.errors import (
    NameTaken,
    P2PLabError,
    PeerNotFound,
    RendezvousAway,
    TransferRefused,
    TransferStalled,
    TransferStopped,
)
from p2plab.net.chat import Message
from p2plab.peer.peer import Peer
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Quotas as Many
from p2plab.rendezvous.server import RendezvousServer

LOSSY = Link(delay=0.001, loss=0.2, seed=1)
BEAT = 5.0  # the shortest lease; a heart beats three times in it [s]


@pytest.fixture(scope="module")
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Many(names_per_minute=10**6)) as run:
        yield run


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


def arrived(peer: Peer, place: int = -1) -> Transfer:
    """Return a picture or file from an inbox, which must be one."""
    transfer = peer.inbox[place]
    assert isinstance(transfer, Transfer)
    return transfer


# The main job


def test_peers_find_each_other_and_talk_as_in_the_report(
    alice: Peer, bob: Peer, tmp_path: Path
) -> None:
    assert [peer.name for peer in alice.peers()] == ["bob"]
    assert [peer.name for peer in bob.peers()] == ["alice"]

    delivery = alice.send_text("bob", "سلام, bob 🌍")
    assert delivery.attempts == 1
    picture = alice.send_picture("bob", PICTURE, setup(), LOSSY)
    picture.wait(PATIENCE)
    notes = tmp_path / "notes.txt"
    notes.write_text("one\ntwo\n", encoding="utf-8")
    alice.send_file("bob", notes, setup("go_back_n"), LOSSY).wait(PATIENCE)
    alice.send_file("bob", b"only bytes").wait(PATIENCE)

    text, *files = bob.inbox
    assert isinstance(text, Message)
    assert (text.sender, text.text) == ("alice", "سلام, bob 🌍")
    assert [type(each) for each in files] == [Transfer] * 3
    assert np.array_equal(np.asarray(arrived(bob, 1).picture()), PICTURE)
    assert arrived(bob, 1).offer.sender == "alice"
    assert arrived(bob, 2).offer.content.name == "notes.txt"
    assembly = arrived(bob, 2).assembly
    assert assembly is not None
    assert assembly.data() == notes.read_bytes()
    assert [each.state for each in files if isinstance(each, Transfer)] == ["done"] * 3

    bob.clear_inbox()
    assert bob.inbox == bob.texts.inbox == []
    assert alice.inbox == []


def test_every_attempt_of_a_text_is_on_record_at_both_peers(server: object) -> None:
    assert isinstance(server, RendezvousServer)
    with (
        Peer("alice", server.url) as alice,
        Peer("bob", server.url, ack_loss=0.6, seed=1) as bob,
    ):
        alice.register()
        bob.register()
        delivery = alice.send_text("bob", "hello", timeout=0.1, tries=50)
        events = [each.event for each in alice.text_events]
        assert delivery.attempts > 1, "choose another seed"
        assert events.count("send") + events.count("resend") == delivery.attempts
        assert [each.text for each in bob.texts.inbox] == ["hello"]
        assert bob.texts.duplicates == delivery.attempts - 1
        assert {each.who for each in bob.text_events} == {"bob"}


def test_a_peer_that_writes_to_itself_is_told_so(alice: Peer) -> None:
    with pytest.raises(P2PLabError, match="alice is this peer itself"):
        alice.send_text("alice", "note to self")
    assert alice.peers() == []


def test_many_pictures_and_texts_cross_at_once(alice: Peer, bob: Peer) -> None:
    both = [(alice, "bob"), (bob, "alice")]
    transfers = [
        peer.send_picture(to, PICTURE, setup(), LOSSY) for peer, to in both * 4
    ]
    for number in range(10):
        for peer, to in both:
            peer.send_text(to, f"{number}")
    for each in transfers:
        each.wait(PATIENCE)
    for peer in (alice, bob):
        texts = [each.text for each in peer.inbox if isinstance(each, Message)]
        assert texts == [f"{number}" for number in range(10)]
        pictures = [each for each in peer.inbox if isinstance(each, Transfer)]
        assert [over(each).state for each in pictures] == [State.DONE] * 4


def test_news_are_told_once_for_a_text_and_twice_for_a_picture(
    server: RendezvousServer, alice: Peer
) -> None:
    news: list[object] = []
    with Peer("carol", server.url, on_news=news.append) as carol:
        carol.register()
        alice.send_text("carol", "hello")
        alice.send_picture("carol", PICTURE).wait(PATIENCE)
        eventually(lambda: len(news) == 3, "the picture's end is told, too")
        assert news == [carol.inbox[0], carol.inbox[1], carol.inbox[1]]
        carol.send_picture("alice", PICTURE).wait(PATIENCE)
        assert len(news) == 3, "what we send is no news to us"


def test_clearing_the_inbox_keeps_what_is_still_arriving(
    alice: Peer, bob: Peer
) -> None:
    alice.send_text("bob", "hello")
    link = ScriptedLink(late=dict.fromkeys(range(2, 99), FAR.delay), delay=0)
    alice.send_picture("bob", PICTURE, setup(timeout=9.0), link)
    eventually(lambda: len(bob.inbox) == 2, "the picture has begun to arrive")
    bob.clear_inbox()
    assert len(bob.inbox) == 1
    arrived(bob).stop()
    bob.clear_inbox()
    assert bob.inbox == []


# Refusals


@pytest.mark.parametrize(
    ("limit", "value", "told"),
    [
        ("KEEP", 1, "holds 1 pictures and files, and 1 of them are yours"),
        ("KEEP_BYTES", 20_000, "room for 7,712 bytes"),
    ],
)
def test_a_full_inbox_refuses_in_words_until_it_is_cleared(
    limit: str,
    value: int,
    told: str,
    alice: Peer,
    bob: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"p2plab.content.transfer.{limit}", value)
    alice.send_picture("bob", PICTURE).wait(PATIENCE)
    with pytest.raises(TransferRefused, match=f"inbox is full.*{told}"):
        alice.send_picture("bob", PICTURE).wait(PATIENCE)
    bob.clear_inbox()
    alice.send_picture("bob", PICTURE).wait(PATIENCE)


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://x", "http://"])
def test_what_is_no_url_is_refused_before_a_port_is_opened(url: str) -> None:
    with pytest.raises(ValueError, match="url must look like"):
        Peer("alice", url)


# Peers and rendezvous that are away


def test_a_peer_that_dies_after_we_have_met_leaves_a_transfer_that_stalls(
    alice: Peer, bob: Peer
) -> None:
    alice.introduce("bob").contact.wait()
    bob.pictures.close()  # its name stays at the rendezvous until the lease ends
    for transfer in (
        alice.send_picture("bob", PICTURE, patience=SHORT),
        alice.send_file("bob", b"file", patience=SHORT),
    ):
        with pytest.raises(TransferStalled, match="nobody has answered our offer"):
            transfer.wait(PATIENCE)


def test_while_the_rendezvous_is_away_what_runs_goes_on_and_it_may_return() -> None:
    with (
        RendezvousServer(redis_url="") as server,
        Peer("alice", server.url) as alice,
        Peer("bob", server.url) as bob,
        Peer("carol", server.url) as carol,
    ):
        for peer in (alice, bob, carol):
            peer.register()
        transfer = alice.send_picture("bob", PICTURE, setup(), Link(delay=0.05))
        server.stop()
        for look_up in (
            lambda: alice.peers(),
            lambda: alice.register(),
            lambda: carol.send_text("alice", "where are you?"),
            lambda: carol.send_picture("alice", PICTURE),
        ):
            with pytest.raises(RendezvousAway, match="does not answer"):
                look_up()
        transfer.wait(PATIENCE)
        assert np.array_equal(np.asarray(arrived(bob).picture()), PICTURE)
        assert alice.send_text("bob", "I know where you are").attempts == 1
        server.start()
        assert carol.send_text("alice", "hello again").attempts == 1
        carol.send_picture("alice", PICTURE).wait(PATIENCE)


def test_a_peer_can_be_closed_while_the_rendezvous_is_away() -> None:
    with RendezvousServer(redis_url="") as server, Peer("alice", server.url) as alice:
        alice.register()
        server.stop()
        alice.close()
        assert isinstance(alice.trouble, RendezvousAway)


def test_a_heartbeat_takes_a_lost_name_again_or_says_who_has_it() -> None:
    with (
        RendezvousServer(redis_url="") as server,
        RendezvousClient(server.url) as client,
        Peer("alice", server.url) as alice,
        Peer("bob", server.url) as bob,
        Peer("carol", server.url) as carol,
    ):
        names = [peer.register(lease=BEAT) for peer in (alice, bob, carol)]
        for name in names[:2]:
            client.leave(name)  # as if its lease had ended
        client.register("bob", ["127.0.0.1"], 1, 2)
        eventually(
            lambda: "alice" in [peer.name for peer in client.peers()],
            "alice is registered again",
        )
        eventually(lambda: bob.trouble, "bob is told")
        assert isinstance(bob.trouble, NameTaken)
        assert alice.registration is not None
        assert alice.registration.lease == BEAT
        assert alice.send_text("carol", "I am back").attempts == 1
        assert carol.trouble is None


# The end


def test_a_closed_peer_leaves_keeps_its_inbox_and_says_that_it_is_closed(
    alice: Peer, bob: Peer
) -> None:
    alice.send_text("bob", "hello")
    alice.send_picture("bob", PICTURE).wait(PATIENCE)
    before = repr(bob)
    bob.close()
    bob.close()
    assert alice.peers() == []
    assert repr(bob) == before
    assert len(bob.inbox) == 2
    assert arrived(bob).picture().size == (64, 64)
    with pytest.raises(P2PLabError, match="closed"):
        bob.send_text("alice", "too late")
    with pytest.raises(P2PLabError, match="closed"):
        bob.peers()
    with pytest.raises(P2PLabError, match="closed"):
        bob.send_picture("alice", PICTURE)
    with pytest.raises(P2PLabError, match="closed"):
        bob.register()
    with pytest.raises(PeerNotFound):
        alice.send_text("bob", "are you there?")


def test_closing_a_peer_ends_its_transfers_at_the_other_peer_too(
    alice: Peer, bob: Peer
) -> None:
    transfer = alice.send_picture("bob", PICTURE, setup("stop_and_wait"), Link())
    eventually(lambda: bob.inbox, "it has begun")
    bob.close()
    with pytest.raises(TransferStopped, match="the other side"):
        transfer.wait(PATIENCE)
    with pytest.raises(TransferStopped, match="closed"):
        arrived(bob).wait(PATIENCE)


def test_whoever_hears_the_news_may_close_the_peer(
    server: RendezvousServer, alice: Peer
) -> None:
    closed = threading.Event()

    def close(news: object) -> None:
        carol.close()
        closed.set()

    with Peer("carol", server.url, on_news=close) as carol:
        carol.register()
        transfer = alice.send_picture("carol", PICTURE, setup(), Link())
        assert closed.wait(PATIENCE)
        assert isinstance(over(transfer).error, TransferStopped)


def test_a_peer_takes_what_its_limits_and_its_owner_allow(
    server: RendezvousServer, alice: Peer
) -> None:
    def no_files(offer: Offer, address: tuple[str, int]) -> str | None:
        return None if offer.content.kind == "picture" else "pictures only, please"

    limits = Limits(max_bytes=20_000)
    with Peer("carol", server.url, on_offer=no_files, limits=limits) as carol:
        carol.register()
        with pytest.raises(TransferRefused, match="pictures only, please"):
            alice.send_file("carol", b"virus").wait(PATIENCE)
        large = np.zeros((100, 100, 3), np.uint8)
        with pytest.raises(TransferRefused, match="20,000"):
            alice.send_picture("carol", large).wait(PATIENCE)
        assert len(carol.inbox) == 0
