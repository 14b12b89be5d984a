"""A lab in a notebook: cells run twice, ports are taken, kernels end."""

from __future__ import annotations

import subprocess
import sys

import pytest
from loopback import PATIENCE, PICTURE, needs_ipv6, setup
from loopback import no_thread_stays as no_thread_stays  # for every test here

import p2plab
from p2plab.errors import P2PLabError
from p2plab.peer.lab import Lab


def script(text: str) -> tuple[int, str, str]:
    """Run a script as a student would: its status, its output, its errors."""
    run = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def test_a_lab_brings_peers_together_and_closes_them() -> None:
    with p2plab.Lab() as lab:
        alice, bob = lab.peer("alice"), lab.peer("bob", ack_delay=0.01)
        assert bob.texts.ack_delay == 0.01
        alice.send_text("bob", "hello")
        alice.send_picture("bob", PICTURE, setup()).wait(PATIENCE)
        assert len(bob.inbox) == 2
        assert "alice, bob" in repr(lab)
    with pytest.raises(P2PLabError, match="closed"):
        alice.register()
    lab.close()
    assert lab.peers == {}


def test_a_closed_lab_says_so_and_what_to_do_and_nothing_else() -> None:
    with Lab() as lab:
        lab.peer("alice")
        assert not lab.closed
    assert lab.closed
    assert "closed" in repr(lab)
    with pytest.raises(P2PLabError, match="closed: run the cell") as caught:
        lab.peer("bob")
    assert caught.value.__context__ is None


def test_running_the_cell_again_replaces_the_lab() -> None:
    first = Lab()
    alice = first.peer("alice")
    second = Lab()
    try:
        assert first.peers == {}
        with pytest.raises(P2PLabError):
            alice.peers()
        second.peer("alice")
        second.peer("bob").send_text("alice", "hello")
    finally:
        second.close()
        first.close()


def test_running_the_cell_again_may_take_the_same_port() -> None:
    with Lab() as first:
        port = first.server.port
        with Lab(port=port) as second:
            assert second.url == first.url
            second.peer("alice")


def test_labs_of_two_names_live_side_by_side() -> None:
    with Lab(name="one") as one, Lab(name="two") as two:
        alice, other = one.peer("alice"), two.peer("alice")
        assert one.url != two.url
        assert alice.peers() == other.peers() == []
        assert set(one.peers) == set(two.peers) == {"alice"}


def test_making_a_peer_again_replaces_it() -> None:
    with Lab() as lab:
        old = lab.peer("zoë")
        bob = lab.peer("bob")
        new = lab.peer("zoe\N{COMBINING DIAERESIS}")  # the same name, typed on a Mac
        assert new.name == old.name
        bob.send_text("zoë", "hello")
        assert (len(new.inbox), len(old.inbox)) == (1, 0)
        assert set(lab.peers) == {"zoë", "bob"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::1"])
def test_a_lab_may_listen_on_every_address_of_the_machine_or_speak_ipv6(
    host: str,
) -> None:
    if host == "::1":
        needs_ipv6()
    with Lab(host=host) as lab:
        alice, bob = lab.peer("alice"), lab.peer("bob")
        assert ("[::1]" in lab.url) == (host == "::1")
        alice.send_text("bob", "hello")
        alice.send_picture("bob", PICTURE, setup()).wait(PATIENCE)
        assert len(bob.inbox) == 2


@pytest.mark.parametrize(
    "last",
    [
        "alice.send_picture('bob', p2plab.sample_picture(64), link=p2plab.Link())",
        "carol = p2plab.Peer('carol', lab.url); carol.register(); lab.server.stop()",
        "lab = p2plab.Lab(); alice = lab.peer('alice')",
    ],
    ids=["in the middle", "without a rendezvous", "a cell run again"],
)
def test_a_program_that_never_closes_its_lab_ends_without_a_word(last: str) -> None:
    assert script(
        "import p2plab\n"
        "lab = p2plab.Lab()\n"
        "alice, bob = lab.peer('alice'), lab.peer('bob')\n"
        "alice.send_text('bob', 'hello')\n"
        f"{last}\n"
        "print('ends')\n"
    ) == (0, "ends\n", "")


@pytest.mark.parametrize("name", ["Lab", "Peer"])
def test_a_browsers_python_says_in_words_that_it_has_no_sockets(name: str) -> None:
    status, _, errors = script(
        f"import sys; sys.platform = 'emscripten'; import p2plab; p2plab.{name}()"
    )
    assert status == 1
    assert "P2PLabError: A browser's Python has no sockets" in errors
