"""Bad input: each gets an error that names cause and cure, and nothing is lost."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from loopback import PATIENCE, PICTURE, SHORT, eventually, over, same_pixels, setup
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.transfer import Transfer
from p2plab.core.link import GilbertElliott, Link, ScriptedLink
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.errors import (
    BadContent,
    NameTaken,
    NotDelivered,
    PeerNotFound,
    PeerUnreachable,
    PortInUse,
    TransferStopped,
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


@pytest.mark.parametrize(
    "name", ["", "two words", "ann/../bob", "x" * 65, "-ann", "😀", "\ud800"]
)
def test_a_name_that_is_illegal(lab: Lab, name: str) -> None:
    with pytest.raises(ValueError, match=r"letters, digits|at most 64|invisible"):
        lab.peer(name)
    with pytest.raises(ValueError, match=r"letters, digits|at most 64|invisible"):
        lab.peers["alice"].send_text(name, "hello")
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
        with pytest.raises(
            NotDelivered, match="the peer has ended, or a firewall"
        ) as text:
            alice.send_text("carol", "my words")
        assert text.value.text == "my words"
        assert isinstance(text.value.__cause__, PeerUnreachable)
        with pytest.raises(PeerUnreachable, match="the peer has left, or a NAT"):
            alice.send_picture("carol", PICTURE)
    with pytest.raises(PeerNotFound, match="list of peers"):
        alice.send_text("carol", "my words")
    assert still_in_order(lab)


def test_a_picture_file_that_is_no_picture(lab: Lab, tmp_path: Path) -> None:
    alice = lab.peers["alice"]
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for thing in (tmp_path / "cat.png", tmp_path / "dog.png", tmp_path, b"", None, 5):
        with pytest.raises(BadContent, match=r"\w+ \w+"):
            alice.send_picture("bob", thing)
    with pytest.raises(ValueError, match="payload_size"):
        alice.send_picture("bob", PICTURE, payload_size=0)
    with pytest.raises(PeerNotFound):
        alice.send_picture("nobody", PICTURE)
    assert lab.peers["bob"].inbox == []
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


def test_a_slider_moved_during_a_transfer_is_for_the_next_one(lab: Lab) -> None:
    alice = lab.peers["alice"]
    settings = {"delay": 0.01, "loss": 0.0}
    transfer = alice.send_picture("bob", PICTURE, setup(), Link(**settings))  # type: ignore[arg-type]  # only floats are in it
    settings["loss"] = 0.9
    assert same_pixels(transfer.wait(PATIENCE))
    assert "loss=0.0" in str(transfer.trace.about["link"])
    assert not [row for row in transfer.trace if row.what == "loss"]


def test_stop_pressed_half_way(lab: Lab) -> None:
    late = dict.fromkeys(range(6, 99), 30.0)
    link = ScriptedLink(late=late, delay=0.001)
    transfer = lab.peers["alice"].send_picture("bob", PICTURE, setup(), link)
    eventually(lambda: transfer.progress > 0.2, "some of it has arrived")
    transfer.stop()
    with pytest.raises(TransferStopped, match="stopped here"):
        transfer.wait(PATIENCE)
    received = lab.peers["bob"].inbox[0]
    assert isinstance(received, Transfer)
    assert isinstance(over(received).error, TransferStopped)
    assert transfer.assembly is received.assembly is not None
    first = (1200 - 4) // 3  # pixels of a payload
    picture = np.asarray(received.picture()).reshape(-1, 3)
    assert np.array_equal(picture[:first], PICTURE.reshape(-1, 3)[:first])
    assert len(transfer.trace) > 4
    assert still_in_order(lab)


def test_random_bytes_to_every_port_that_we_open(lab: Lab) -> None:
    alice, bob = lab.peers["alice"], lab.peers["bob"]
    link = ScriptedLink(delay=0.002)
    transfer = alice.send_picture("bob", PICTURE, setup("stop_and_wait"), link)
    ports = [lab.server.port, alice.texts.address[1], bob.texts.address[1]]
    throwers = [
        threading.Thread(target=throw_at_tcp, args=(port, seed))
        for seed, port in enumerate(ports)
    ]
    for thrower in throwers:
        thrower.start()
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        chance = random.Random(1)
        for _ in range(10 * ROUNDS):
            for peer in (alice, bob):
                stranger.sendto(rubbish(chance), peer.pictures.address)
    for thrower in throwers:
        thrower.join(PATIENCE)
    assert same_pixels(transfer.wait(PATIENCE))
    assert bob.pictures.strays > 0
    assert bob.texts.strangers > 0
    assert still_in_order(lab)
    assert [type(each) for each in bob.inbox].count(Transfer) == 2
    assert len(bob.inbox) == 3


def throw_at_tcp(port: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        with (
            suppress(OSError),  # it hangs up on us, and is right
            socket.create_connection(("127.0.0.1", port), PATIENCE) as stranger,
        ):
            stranger.sendall(rubbish(chance))


def rubbish(chance: random.Random) -> bytes:
    beginnings = (
        b"",
        b"p2",
        b"GET ",
        b"PUT /peers/",
        b"\x00\x00\x00\x20T",
        b"p2\x05\x01",
    )
    return chance.choice(beginnings) + chance.randbytes(chance.randrange(1, 1500))
