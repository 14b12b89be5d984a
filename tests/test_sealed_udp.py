"""UDP between two introduced peers: nothing else is believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from loopback import (
    BAD,
    CHUNKS,
    FAR,
    PATIENCE,
    Stranger,
    eventually,
    same_pixels,
    setup,
    twin,
)
from loopback import (
    no_thread_stays as no_thread_stays,  # for every test here
)
from stun import serving

from p2plab.content.offer import Offer
from p2plab.content.transfer import State
from p2plab.core.link import ARRIVE, DUPLICATE, Link
from p2plab.core.packet import ACK, FIN, Kind, Packet, encode
from p2plab.errors import PeerUnreachable
from p2plab.net.paths import HOST, OBSERVED, Contact
from p2plab.net.session import CALLEE, CALLER, Session
from p2plab.net.udp import UdpSocket

ID, KEY = bytes(range(8)), bytes(range(32))


def sessions() -> tuple[Session, Session]:
    """Both ends of one session."""
    return Session(ID, KEY, CALLER, "bob"), Session(ID, KEY, CALLEE, "alice")


@contextmanager
def met() -> Iterator[tuple[UdpSocket, Contact, UdpSocket, Contact]]:
    """Two sockets that believe only each other, and their contacts."""
    with UdpSocket(sealed=True) as here, UdpSocket(sealed=True) as there:
        ours, theirs = sessions()
        bob = here.meet(ours, [(HOST, there.address)])
        alice = there.meet(theirs, [(HOST, here.address)])
        for contact in (bob, alice):
            contact.wait(PATIENCE)
        yield here, bob, there, alice


def test_a_picture_travels_sealed_through_a_bad_link_and_its_sender_is_proven() -> None:
    with met() as (here, bob, there, alice):
        path = bob.wait(PATIENCE)
        assert path[:2] == (HOST, there.address)
        assert 0 <= path.rtt < PATIENCE
        transfer = here.send(bob, CHUNKS, setup(), link=BAD, sender="carol")
        received = twin(there, transfer)
        transfer.wait(PATIENCE)
        assert same_pixels(received)
        assert received.offer.sender == "alice"
        copies = Link(delay=0.001, duplicate=0.5, seed=3)
        transfer = here.send(bob, CHUNKS, setup(), link=copies).wait(PATIENCE)
        assert DUPLICATE in {row.what for row in twin(there, transfer).own_trace}
        for contact in (alice, bob):
            assert contact.session.forged == contact.session.replayed == 0


def test_who_was_not_introduced_is_not_answered() -> None:
    with met() as (_, _, there, _), Stranger(there.address) as mallory:
        before = there.strays  # a probe that came before we knew of the session
        offer = encode(Packet(Kind.OFFER, 0, b"{}"), 7)
        mallory.throw(offer)  # no seal
        other = Session(bytes(8), KEY, CALLER, "bob")
        mallory.throw(other.seal(offer))  # a session that nobody knows
        wrong = Session(ID, bytes(32), CALLER, "bob")
        mallory.throw(wrong.seal(offer))  # another key
        eventually(lambda: there.strays == before + 3, "all three have come")
        assert mallory.hears_nothing_more()


def test_a_forged_ack_and_finish_are_counted_and_change_nothing() -> None:
    with met() as (here, bob, there, alice), Stranger(here.address) as mallory:
        transfer = here.send(bob, CHUNKS, setup(timeout=60), link=FAR)
        receiving = twin(there, transfer)
        eventually(lambda: transfer.state is State.RUNNING, "it has begun")
        forger = Session(ID, bytes(32), CALLEE, "alice")
        answer = transfer.id | 0x8000_0000
        mallory.throw(forger.seal(encode(Packet(ACK, 0), answer, 77)))
        mallory.to = there.address
        mallory.throw(forger.seal(encode(Packet(FIN, 0), transfer.id, 78)))
        eventually(lambda: bob.session.forged == 1, "the forged ACK has come")
        eventually(lambda: alice.session.forged == 1, "the forged finish has come")
        assert transfer.acknowledged == 0
        assert not receiving.ended
        transfer.stop()


def test_a_replayed_packet_and_a_reflected_one_are_counted_and_ignored() -> None:
    ours, theirs = sessions()
    offer = Offer("alice", CHUNKS.content, setup()).to_bytes()
    with UdpSocket(sealed=True) as there, Stranger(there.address) as alice:
        there.meet(theirs, [(HOST, alice.address)])
        probe, _ = alice.socket.recvfrom(65_535)
        alice.throw(probe)
        eventually(lambda: theirs.forged == 1, "our own packet has come back")
        sealed = ours.seal(encode(Packet(Kind.OFFER, 0, offer), 7))
        alice.throw(sealed)
        eventually(there.transfers, "the offer has come")
        alice.throw(sealed)
        eventually(lambda: theirs.replayed == 1, "the copy has come")
        (transfer,) = there.transfers()
        assert [row.what for row in transfer.own_trace].count(ARRIVE) == 1
        assert there.strays == 2


def test_nobody_at_the_address_is_said_in_words() -> None:
    ours, _ = sessions()
    with UdpSocket(sealed=True) as here, Stranger(here.address) as silent:
        bob = here.meet(ours, [(HOST, silent.address), (OBSERVED, silent.address)])
        with pytest.raises(PeerUnreachable, match=r"bob cannot be reached .* no path"):
            bob.wait(0.01)


def test_an_address_that_the_socket_cannot_reach_is_left_out() -> None:
    ours, _ = sessions()
    with UdpSocket(sealed=True) as here:
        bob = here.meet(ours, [(HOST, ("::1", 5000)), (HOST, ("127.0.0.1", 0))])
        with pytest.raises(PeerUnreachable, match=r"no path|no address"):
            bob.wait(PATIENCE)


def test_the_socket_that_carries_the_data_learns_how_others_see_it() -> None:
    noted: list[tuple[str, str, int]] = []
    with (
        serving(on_nonce=lambda *seen: noted.append(seen)) as server,
        UdpSocket(sealed=True) as here,
    ):
        here.observe(server.address, b"nonce")
        eventually(lambda: here.observed, "the answer has come")
        assert here.observed == here.address
        assert noted == [("nonce", *here.address)]
