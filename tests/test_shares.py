"""What is limited is shared: one peer cannot use up all, and the others are served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import PATIENCE, eventually, over

from p2plab import Lab, Setup, sample_picture
from p2plab.content.chunks import cut
from p2plab.content.offer import Offer
from p2plab.content.transfer import KEEP_BYTES, Transfer, inbox_objection
from p2plab.core.link import ScriptedLink
from p2plab.core.packet import Kind, Packet, encode
from p2plab.core.trace import RECEIVER
from p2plab.core.validation import may_have
from p2plab.errors import NotDelivered

FAR = ScriptedLink(delay=60.0)


@given(st.lists(st.integers(0, 9), max_size=400), st.integers(1, 200))
def test_whoever_comes_finds_a_place_unless_as_many_as_places_are_there(
    wishes: list[int], total: int
) -> None:
    own: dict[int, int] = {}
    for who in wishes:
        used = sum(own.values())
        if may_have(own.get(who, 0), used, total):
            own[who] = own.get(who, 0) + 1
    assert sum(own.values()) <= total
    assert not own or max(own.values()) <= total // 2 + 1
    if total > 1000:
        assert may_have(0, sum(own.values()), total)


def test_one_peer_that_sends_all_the_texts_it_can_leaves_room_for_others() -> None:
    with Lab() as lab:
        eve, bob, ann = (lab.peer(name) for name in ("eve", "bob", "ann"))
        bob.texts.inbox_limit = 10
        for number in range(5):
            eve.send_text("bob", str(number))
        with pytest.raises(NotDelivered):
            eve.send_text("bob", "one more", timeout=0.1, tries=2)
        for number in range(3):
            assert ann.send_text("bob", str(number)).attempts == 1
        bob.clear_inbox()
        assert eve.send_text("bob", "again").attempts == 1


def test_one_peer_that_opens_all_the_transfers_it_can_leaves_room_for_others() -> None:
    with Lab() as lab:
        eve, bob, ann = (lab.peer(name) for name in ("eve", "bob", "ann"))
        picture = sample_picture(32)
        held = [eve.send_picture("bob", picture, link=FAR) for _ in range(12)]
        eventually(lambda: sum(each.ended for each in held) == 4, "four are refused")
        ann.send_picture("bob", picture).wait(PATIENCE)
        for each in held:
            each.stop()
        assert bob.inbox


def test_bytes_are_shared_too() -> None:
    content = cut(bytes(100)).content

    def offer(sender: str, size: int) -> Offer:
        from dataclasses import replace

        large = replace(content, size=size, chunk_size=60_000)
        return Offer(sender, large, Setup())

    held: list[Transfer] = []
    for _ in range(8):
        each = offer("eve", KEEP_BYTES // 5)
        if inbox_objection(held, each) is None:
            held.append(Transfer(0, RECEIVER, each))
    assert 1 < len(held) < 5
    assert "yours" in str(inbox_objection(held, offer("eve", KEEP_BYTES // 5)))
    assert inbox_objection(held, offer("ann", KEEP_BYTES // 10)) is None


def test_a_flood_of_offers_slows_down_who_makes_them_and_nobody_else() -> None:
    with Lab() as lab:
        eve, bob, ann = (lab.peer(name) for name in ("eve", "bob", "ann"))
        over(eve.send_picture("bob", sample_picture(16)))
        contact = next(iter(eve.pictures._contacts.values()))
        offer = Offer("eve", cut(sample_picture(16)).content, Setup()).to_bytes()
        for id in range(1, 3001):
            contact.send(encode(Packet(Kind.OFFER, 0, offer), id))
            contact.send(encode(Packet(Kind.STOP, 0), id))
        transfer = ann.send_picture("bob", sample_picture(64)).wait(PATIENCE)
        assert transfer.seconds < 5
        assert len(bob.inbox) < 100
        over(eve.send_picture("bob", sample_picture(16)))
