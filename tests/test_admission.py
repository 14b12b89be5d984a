"""Whom a peer lets in: policies, requests, and calls that nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from loopback import PATIENCE, PICTURE, SHORT, eventually
from loopback import no_thread_stays as no_thread_stays  # for every test here
from peers import alice as alice
from peers import joined
from peers import server as server
from redis_server import RedisServer

from p2plab.errors import (
    IntroductionRefused,
    NotDelivered,
    P2PLabError,
    PeerNotFound,
    PeerUnreachable,
    RendezvousAway,
)
from p2plab.peer.meetings import Meetings
from p2plab.peer.peer import Peer
from p2plab.rendezvous.admission import Admission, Lease, Request
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Met, Registration
from p2plab.rendezvous.server import RendezvousServer


@pytest.fixture
def bob(server: RendezvousServer) -> Iterator[Peer]:
    """He asks his person about each call."""
    with joined(server, "bob", accept="ask") as peer:
        yield peer


def leased(client: RendezvousClient, name: str) -> Lease:
    def claim(seconds: float, token: str) -> Registration:
        return client.register(name, ["127.0.0.1"], 1, 2, seconds, token=token)

    lease = Lease(client, claim, lambda registration: None)
    lease.take(60)
    return lease


def one_request(peer: Peer) -> Request:
    eventually(lambda: peer.requests, "somebody asks")
    (request,) = peer.requests
    return request


def test_a_person_may_accept(alice: Peer, bob: Peer) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(alice.introduce, "bob", PATIENCE)
        request = one_request(bob)
        assert request.peer == "alice"
        assert not call.done()
        request.accept()
        assert call.result(PATIENCE).peer == "bob"
        assert bob.requests == []
        request.accept()  # twice is once
        with pytest.raises(P2PLabError, match="answered already"):
            request.refuse("changed my mind")


def test_a_person_may_refuse_in_words(alice: Peer, bob: Peer) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(alice.introduce, "bob", PATIENCE)
        one_request(bob).refuse("<b>busy</b>" * 100)
        with pytest.raises(IntroductionRefused, match="bob does not want to meet: <b>"):
            call.result(PATIENCE)


def test_nobody_is_let_in_and_told_so(server: RendezvousServer, alice: Peer) -> None:
    with joined(server, "carol", accept="nobody") as carol:
        with pytest.raises(IntroductionRefused, match="it talks to nobody now"):
            alice.send_text("carol", "hello")
        with pytest.raises(IntroductionRefused):
            alice.send_picture("carol", PICTURE)
        assert not carol.requests
        assert not list(alice.meetings)


def test_who_does_not_answer_is_named_and_the_text_is_not_lost(
    server: RendezvousServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    with joined(server, "carol", accept="ask", on_request=asked.append):
        with pytest.raises(PeerUnreachable, match="carol has not answered yet"):
            alice.introduce("carol", SHORT)
        assert len(asked) == 1
        monkeypatch.setattr(Meetings.introduce, "__defaults__", (SHORT,))
        with pytest.raises(NotDelivered, match="may be asking its person") as failed:
            alice.send_text("carol", "are you there?")
        assert failed.value.text == "are you there?"


def given_up(*callers: Peer) -> None:
    """Each calls bob and is gone before he answers, as if it had been killed."""
    for caller in callers:
        away = Mock(side_effect=RendezvousAway("killed"))
        caller.rendezvous.answer = away  # type: ignore[method-assign]
        with pytest.raises(PeerUnreachable):
            caller.introduce("bob", SHORT)


def test_a_late_yes_is_still_a_yes(alice: Peer, bob: Peer) -> None:
    given_up(alice)
    one_request(bob).accept()
    eventually(lambda: alice.meetings.last("bob"), "alice hears of it")
    assert alice.send_text("bob", "there you are").attempts == 1


def test_a_quick_yes_counts(alice: Peer, bob: Peer) -> None:
    withdraw = alice.rendezvous.answer

    def too_late(*words: Any) -> None:
        one_request(bob).accept()
        withdraw(*words)

    alice.rendezvous.answer = too_late  # type: ignore[method-assign, assignment]
    assert alice.introduce("bob", SHORT) is alice.meetings.last("bob")


@pytest.mark.parametrize("way", ["timeout", "ctrl-c", "close"])
def test_who_gives_up_waits_no_more(
    alice: Peer, bob: Peer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdrawn, asked = list[Request](), list[Request]()
    bob.meetings.admission.on_withdrawn = withdrawn.append
    asker = alice.meetings.admission
    with ThreadPoolExecutor(1) as pool:

        def give_up(*_: object) -> None:
            asked.append(one_request(bob))
            assert asker.asking, "until it is withdrawn"
            if way == "ctrl-c":
                raise KeyboardInterrupt
            if way == "close":
                pool.submit(alice.close)
                assert asker._closed.wait(PATIENCE)

        monkeypatch.setattr(asker, "_outcome", give_up)
        with pytest.raises((P2PLabError, KeyboardInterrupt)):
            alice.introduce("bob", 0.0 if way == "timeout" else PATIENCE)
    eventually(lambda: withdrawn == asked, "bob is told")
    assert bob.requests == []
    assert not asker.asking
    with pytest.raises(P2PLabError, match="waits no more"):
        asked[0].accept()


def test_who_has_left_waits_no_more(
    server: RendezvousServer, alice: Peer, bob: Peer
) -> None:
    with joined(server, "yan") as yan, joined(server, "zoe") as zoe:
        given_up(yan, zoe, alice)
        eventually(lambda: len(bob.requests) == 3, "all have asked")
    with pytest.raises(P2PLabError, match="not registered any more"):
        bob.requests[0].accept()
    assert [each.peer for each in bob.requests] == ["zoe", "alice"]
    bob.meetings.admission.forget_gone()
    assert one_request(bob).peer == "alice"


def test_a_request_is_forgotten_when_its_introduction_is_over(
    alice: Peer, bob: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    bob.meetings.admission.on_request = asked.append
    monkeypatch.setattr("p2plab.rendezvous.admission.INTRODUCTION_LIFE", 0)
    given_up(alice)
    eventually(lambda: asked, "bob was asked")
    assert bob.requests == []


def test_knocking_again_reaches_a_peer_whose_inbox_was_lost(
    server: RendezvousServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2plab.rendezvous.admission.REPEAT", 0.05)
    with (
        RendezvousClient(server.url) as client,
        ThreadPoolExecutor(1) as pool,
        Peer("bob", server.url) as bob,
    ):
        held = client.register("bob", ["127.0.0.1"], 1, 2)  # and nobody listens
        call = pool.submit(alice.introduce, "bob", PATIENCE)
        eventually(lambda: client.inbox(held)[0], "bob is asked")
        client.leave(held)
        with pytest.raises(PeerNotFound):
            call.result(PATIENCE)
        bob.register()
        assert alice.introduce("bob", PATIENCE).peer == "bob"


def test_an_introduction_serves_later_sends(
    server: RendezvousServer, alice: Peer
) -> None:
    with joined(server, "bob") as bob:
        alice.send_text("bob", "one")
        first = alice.meetings.last("bob")
        alice.send_text("bob", "two")
        bob.send_text("alice", "three")
        assert alice.meetings.last("bob") == first
        eventually(lambda: bob.meetings.last("alice"), "bob has met alice")
    with joined(server, "bob") as bob:
        alice.send_text("bob", "four")
        assert alice.meetings.last("bob") != first
        assert [each.text for each in bob.texts.inbox] == ["four"]


@pytest.mark.usefixtures("alice")
def test_who_is_introduced_has_a_name(server: RendezvousServer) -> None:
    with Peer("x", server.url) as x, pytest.raises(P2PLabError, match="register first"):
        x.send_text("alice", "hello")


def test_peers_meet_in_their_rooms_alone(server: RendezvousServer, alice: Peer) -> None:
    with joined(server, "bob", room="other") as bob:
        assert bob.peers() == []
        with pytest.raises(PeerNotFound):
            alice.introduce("bob")


def test_an_impossible_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="accept must be one of"):
        Peer("bob", "http://127.0.0.1:1", accept="everybody")  # type: ignore[arg-type]


def test_who_listens_may_fail(server: RendezvousServer, alice: Peer) -> None:
    told: list[Met] = []

    def fail(met: Met) -> None:
        told.append(met)
        raise RuntimeError("cannot show it")

    with RendezvousClient(server.url) as client:
        admission = Admission(leased(client, "carol"), on_met=fail)
        admission.start()
        for _ in range(2):
            assert alice.introduce("carol", PATIENCE).peer == "carol"
        with pytest.raises(P2PLabError, match="carol is this peer itself"):
            admission.introduce("carol")
        eventually(lambda: len(told) == 2, "each is told")
        admission.close()


class Flaky(RendezvousClient):
    """A client whose answers do not get through at first."""

    failures = 1

    def answer(
        self, registration: Registration, session: str, accept: bool, why: str = ""
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise RendezvousAway("on purpose")
        super().answer(registration, session, accept, why)


def test_an_answer_that_did_not_get_through_is_given_again(
    server: RendezvousServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2plab.rendezvous.admission.PAUSE", 0.01)
    with Flaky(server.url) as client:
        admission = Admission(leased(client, "dave"))
        admission.start()
        assert alice.introduce("dave", PATIENCE).peer == "dave"
        admission.close()


def test_closing_ends_a_call_that_waits(server: RendezvousServer, alice: Peer) -> None:
    with (
        RendezvousClient(server.url) as client,
        ThreadPoolExecutor(1) as pool,
        joined(server, "erin") as erin,
    ):
        held = client.register("silent", ["127.0.0.1"], 1, 2)
        call = pool.submit(erin.introduce, "silent", PATIENCE)
        eventually(lambda: client.inbox(held)[0], "the call is on its way")
        erin.close()
        with pytest.raises(P2PLabError, match="closed"):
            call.result(PATIENCE)
        client.leave(held)


def test_a_peer_goes_on_through_the_second_server(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as redis,
        RendezvousServer(redis_url=redis.url) as one,
        RendezvousServer(redis_url=redis.url) as other,
        Peer("alice", [one.url, other.url]) as alice,
        Peer("bob", [one.url, other.url]) as bob,
    ):
        alice.register()
        bob.register()
        one.stop()
        assert alice.introduce("bob", PATIENCE).peer == "bob"
        assert [peer.name for peer in bob.peers()] == ["alice"]
