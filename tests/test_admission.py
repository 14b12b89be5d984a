"""Whom a peer lets in: policies, requests, and calls that nobody answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from loopback import PATIENCE, PICTURE, SHORT, eventually
from loopback import no_thread_stays as no_thread_stays  # for every test here
from redis_server import RedisServer

from p2plab.errors import (
    IntroductionRefused,
    NotDelivered,
    P2PLabError,
    PeerNotFound,
    PeerUnreachable,
    RendezvousAway,
)
from p2plab.peer.meetings import Meeting, Meetings
from p2plab.peer.peer import Peer
from p2plab.rendezvous.admission import Admission, Lease, Request
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Met, Quotas, Registration
from p2plab.rendezvous.server import RendezvousServer


@pytest.fixture(scope="module")
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Quotas(names_per_minute=10**6)) as run:
        yield run


@pytest.fixture
def alice(server: RendezvousServer) -> Iterator[Peer]:
    with Peer("alice", server.url) as peer:
        peer.register()
        yield peer


def leased(client: RendezvousClient, name: str) -> Lease:
    def claim(seconds: float, token: str) -> Registration:
        return client.register(name, ["127.0.0.1"], 1, 2, seconds, token=token)

    lease = Lease(client, claim, lambda registration: None)
    lease.take(60)
    return lease


def killed(caller: Peer) -> None:
    """Let what it does at its end not get through, as if it had been killed."""
    away = Mock(side_effect=RendezvousAway("killed"))
    caller.rendezvous.answer = away  # type: ignore[method-assign]


def one_request(peer: Peer) -> Request:
    eventually(lambda: peer.requests, "somebody asks")
    (request,) = peer.requests
    return request


def test_a_person_may_accept(server: RendezvousServer, alice: Peer) -> None:
    with Peer("bob", server.url, accept="ask") as bob, ThreadPoolExecutor(1) as pool:
        bob.register()
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


def test_a_person_may_refuse_in_words(server: RendezvousServer, alice: Peer) -> None:
    with Peer("bob", server.url, accept="ask") as bob, ThreadPoolExecutor(1) as pool:
        bob.register()
        call = pool.submit(alice.introduce, "bob", PATIENCE)
        one_request(bob).refuse("<b>busy</b>" * 100)
        with pytest.raises(IntroductionRefused, match="bob does not want to meet: <b>"):
            call.result(PATIENCE)


def test_nobody_is_let_in_and_told_so(server: RendezvousServer, alice: Peer) -> None:
    with Peer("bob", server.url, accept="nobody") as bob:
        bob.register()
        with pytest.raises(IntroductionRefused, match="it talks to nobody now"):
            alice.send_text("bob", "hello")
        with pytest.raises(IntroductionRefused):
            alice.send_picture("bob", PICTURE)
        assert bob.requests == []


def test_who_does_not_answer_is_named_and_the_text_is_not_lost(
    server: RendezvousServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    with Peer("bob", server.url, accept="ask", on_request=asked.append) as bob:
        bob.register()
        with pytest.raises(PeerUnreachable, match="bob has not answered yet"):
            alice.introduce("bob", SHORT)
        assert len(asked) == 1
        monkeypatch.setattr(Meetings.introduce, "__defaults__", (SHORT,))
        with pytest.raises(NotDelivered, match="may be asking its person") as failed:
            alice.send_text("bob", "are you there?")
        assert failed.value.text == "are you there?"


def test_a_late_yes_is_still_a_yes_unless_the_withdrawal_came_before(
    server: RendezvousServer, alice: Peer
) -> None:
    killed(alice)
    with Peer("bob", server.url, accept="ask") as bob:
        bob.register()
        with pytest.raises(PeerUnreachable):
            alice.introduce("bob", SHORT)
        one_request(bob).accept()
        eventually(
            lambda: alice.meetings.last("bob"),
            "alice hears of it though she has given up",
        )
        assert alice.send_text("bob", "there you are").attempts == 1


def test_a_yes_that_is_quicker_than_the_withdrawal_is_a_meeting(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url, accept="ask") as bob:
        bob.register()
        withdraw = alice.rendezvous.answer

        def too_late(*words: Any) -> None:
            one_request(bob).accept()
            withdraw(*words)

        alice.rendezvous.answer = too_late  # type: ignore[method-assign, assignment]
        assert alice.introduce("bob", SHORT) is alice.meetings.last("bob")


@pytest.fixture(params=["fakeredis", "redis-server"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a rendezvous over each kind of Redis."""
    if request.param == "fakeredis":
        with RendezvousServer(redis_url="") as run:
            yield run.url
    else:
        with (
            RedisServer(tmp_path) as redis,
            RendezvousServer(redis_url=redis.url) as run,
        ):
            yield run.url


@pytest.mark.parametrize("way", ["timeout", "ctrl-c", "close"])
def test_who_gives_up_is_gone_at_once_from_those_who_wait(
    either: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdrawn: list[Request] = []
    with (
        Peer("zoe", either) as zoe,
        Peer("bob", either, accept="ask") as bob,
        ThreadPoolExecutor(1) as pool,
    ):
        bob.meetings.admission.on_withdrawn = withdrawn.append
        asker, asked = zoe.meetings.admission, list[Request]()

        def give_up(*_: object) -> None:
            asked.append(one_request(bob))
            assert asker.asking, "until it is withdrawn"
            if way == "ctrl-c":
                raise KeyboardInterrupt
            if way == "close":
                pool.submit(zoe.close)
                assert asker._closed.wait(PATIENCE)

        monkeypatch.setattr(asker, "_outcome", give_up)
        zoe.register()
        bob.register()
        with pytest.raises((P2PLabError, KeyboardInterrupt)):
            zoe.introduce("bob", 0.0 if way == "timeout" else PATIENCE)
        eventually(lambda: withdrawn == asked, "bob is told")
        assert bob.requests == []
        assert not asker.asking
        with pytest.raises(P2PLabError, match="waits no more"):
            asked[0].accept()


def test_a_request_that_is_over_goes_when_it_is_answered(
    server: RendezvousServer,
) -> None:
    with Peer("bob", server.url, accept="ask") as bob:
        bob.register()
        with Peer("zoe", server.url) as zoe:
            zoe.register()
            killed(zoe)
            with pytest.raises(PeerUnreachable):
                zoe.introduce("bob", SHORT)
        request = one_request(bob)
        with pytest.raises(P2PLabError, match="not registered any more"):
            request.accept()
        assert bob.requests == []


def test_who_has_left_waits_no_more_and_who_is_there_does(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url, accept="ask") as bob:
        bob.register()
        with Peer("zoe", server.url) as zoe:
            zoe.register()
            for caller in (zoe, alice):
                killed(caller)
                with pytest.raises(PeerUnreachable):
                    caller.introduce("bob", SHORT)
            eventually(lambda: len(bob.requests) == 2, "both have asked")
        bob.meetings.admission.forget_gone()
        assert one_request(bob).peer == "alice"


def test_a_request_is_forgotten_when_its_introduction_is_over(
    server: RendezvousServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    killed(alice)
    monkeypatch.setattr("p2plab.rendezvous.admission.INTRODUCTION_LIFE", 0)
    with Peer("bob", server.url, accept="ask", on_request=asked.append) as bob:
        bob.register()
        with pytest.raises(PeerUnreachable):
            alice.introduce("bob", SHORT)
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


def test_an_introduction_serves_later_sends_until_the_peer_is_another(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url) as bob:
        bob.register()
        alice.send_text("bob", "one")
        first = alice.meetings.last("bob")
        alice.send_text("bob", "two")
        bob.send_text("alice", "three")
        assert alice.meetings.last("bob") == first
        eventually(lambda: bob.meetings.last("alice"), "bob has met alice")
    with Peer("bob", server.url) as bob:
        bob.register()
        alice.send_text("bob", "four")
        assert alice.meetings.last("bob") != first
        assert [each.text for each in bob.texts.inbox] == ["four"]


def test_only_who_has_a_name_can_be_introduced(
    server: RendezvousServer, alice: Peer
) -> None:
    with (
        Peer("bob", server.url) as bob,
        pytest.raises(P2PLabError, match="register first"),
    ):
        bob.send_text("alice", "hello")


def test_peers_of_one_rendezvous_meet_in_their_rooms_alone(
    server: RendezvousServer, alice: Peer
) -> None:
    with Peer("bob", server.url, room="other") as bob:
        bob.register()
        assert bob.peers() == []
        with pytest.raises(PeerNotFound):
            alice.introduce("bob")


def test_an_impossible_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="accept must be one of"):
        Peer("bob", "http://127.0.0.1:1", accept="everybody")  # type: ignore[arg-type]


def test_who_listens_may_fail_and_the_admission_goes_on(
    server: RendezvousServer, alice: Peer
) -> None:
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
        Peer("erin", server.url) as erin,
    ):
        erin.register()
        held = client.register("silent", ["127.0.0.1"], 1, 2)
        began = threading.Event()

        def introduce() -> Meeting:
            began.set()
            return erin.introduce("silent", PATIENCE)

        call = pool.submit(introduce)
        assert began.wait(PATIENCE)
        eventually(lambda: client.inbox(held)[0], "the call is on its way")
        erin.close()
        with pytest.raises(P2PLabError, match="closed"):
            call.result(PATIENCE)
        client.leave(held)


def test_a_peer_goes_on_through_the_second_server_when_the_first_dies(
    tmp_path: Path,
) -> None:
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
