"""Bad input: each gets an error that names cause and cure, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from loopback import PATIENCE, PICTURE, SHORT, same_pixels, setup
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.transfer import Transfer
from p2plab.core.link import GilbertElliott, Link, ScriptedLink
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.errors import (
    NameTaken,
    NotDelivered,
    PeerNotFound,
    PeerUnreachable,
    PortInUse,
)
from p2plab.peer.lab import Lab
from p2plab.peer.peer import Peer
from p2plab.protocols import Setup

ROUNDS = 60  # of rubbish for every port


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as run:
        run.peer("alice")
        run.peer("bob")
        yield run


def still_in_order(lab: Lab) -> bool:
    """Say whether a text and a picture go from alice to bob as if nothing had been."""
    alice, bob = lab.peers["alice"], lab.peers["bob"]
    assert [peer.name for peer in alice.peers()] == ["bob"]
    alice.send_text("bob", "as if nothing had been")
    transfer = alice.send_picture("bob", PICTURE, setup()).wait(PATIENCE)
    text, picture = bob.inbox[-2:]
    return same_pixels(transfer) and {type(text), type(picture)} > {Transfer}


def test_a_name_that_is_taken(lab: Lab) -> None:
    with Peer("carol", lab.url) as carol:
        carol.register()
        with pytest.raises(NameTaken, match="Choose another name, or wait") as taken:
            lab.peer("carol")
        assert 0 < taken.value.retry_after <= 60
    lab.peer("carol").close()  # it is free at once when its peer has closed
    assert still_in_order(lab)


def test_a_port_that_is_taken_or_none(lab: Lab) -> None:
    alice = lab.peers["alice"]
    tcp, udp = alice.texts.address[1], alice.pictures.address[1]
    for ports in ({"tcp_port": tcp}, {"udp_port": udp}):
        with pytest.raises(PortInUse, match="port 0"):
            lab.peer("carol", **ports)
    for ports in ({"tcp_port": -1}, {"udp_port": 65_536}):
        with pytest.raises(ValueError, match="port must be in"):
            lab.peer("carol", **ports)
    with pytest.raises(PortInUse, match="0 lets the system choose"):
        Lab(port=lab.server.port, name="another")
    assert still_in_order(lab)


def test_a_dead_peer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2plab.net.paths.PATIENCE", SHORT)
    alice = lab.peers["alice"]
    with Peer("carol", lab.url) as carol:
        carol.register()
        carol.texts.stop()
        carol.pictures.close()
        with pytest.raises(NotDelivered, match="the peer has ended") as text:
            alice.send_text("carol", "my words")
        assert text.value.text == "my words"
        assert isinstance(text.value.__cause__, PeerUnreachable)
        with pytest.raises(PeerUnreachable, match="the peer has left, or a NAT"):
            alice.send_picture("carol", PICTURE)
    with pytest.raises(PeerNotFound, match="list of peers"):
        alice.send_text("carol", "my words")
    assert still_in_order(lab)


@pytest.mark.parametrize(
    ("build", "written", "told"),
    [
        (Link, {"loss": "0.1"}, "loss is a number, got '0.1': write loss=0.1, without"),
        (Link, {"delay": [0.05]}, r"delay is a number, got \[0.05\]: write delay=0.05"),
        (Link, {"rate": "fast"}, "rate is a number, got 'fast': write rate=1000000"),
        (Link, {"queue": 2.5}, "queue is a whole number, got 2.5: write queue=20$"),
        (GilbertElliott, {"p": "0.1", "r": 0.5}, "p is a number, got '0.1'"),
        (GilbertElliott.from_mean, {"loss": 0.1, "burst": "4"}, "burst is a number"),
        (ScriptedLink, {"lose": 3}, "lose names packets by whole numbers, got 3"),
        (ScriptedLink, {"lose": "3"}, r"got '3': write lose=\{3, 5\}"),
        (ScriptedLink, {"late": {3}}, r"got \{3\}: write late=\{3: 0.5\}"),
        (ScriptedLink, {"delay": "50 ms"}, "delay is a number, got '50 ms'"),
        (Setup, {"window": 2.5}, "window is a whole number, got 2.5: write window=16$"),
        (Setup, {"window": []}, r"window is a whole number, got \[\]"),
        (Setup, {"seq_bits": "2"}, "seq_bits is a whole number, got '2'"),
        (Setup, {"timeout": "1 s"}, "timeout is a number, got '1 s'"),
        (Setup, {"rate": "50 Mbit/s"}, "rate is a number, got '50 Mbit/s'"),
        (FixedRto, {"rto": "1"}, "rto is a number, got '1'"),
        (Rfc6298, {"min_rto": "0.2"}, "min_rto is a number, got '0.2'"),
    ],
)
def test_what_is_no_number_is_named_and_shown_as_it_should_be_written(
    build: Callable[..., object], written: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        build(**written)


def test_numbers_of_numpy_are_numbers() -> None:
    link = Link(loss=np.float32(0.1), queue=np.int64(20))  # type: ignore[arg-type]  # that is what is tested
    assert link.queue == 20
    assert Setup(window=np.int32(8), timeout=np.float32(0.5)).window == 8  # type: ignore[arg-type]  # likewise
