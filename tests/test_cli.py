"""The command line, run as a person at a shell runs it."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from p2plab import Lab, Peer, sample_picture
from p2plab.chat import ChatClient
from p2plab.console import Console
from p2plab.rendezvous.client import RendezvousClient

P2PLAB = [sys.executable, "-m", "p2plab"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(name="test_cli") as lab:
        yield lab


def p2plab(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*P2PLAB, *words], input=typed, capture_output=True, text=True, timeout=60
    )


def test_the_demo_moves_the_picture_with_every_protocol(tmp_path: Path) -> None:
    run = p2plab("demo", "--folder", str(tmp_path / "out"))
    assert run.returncode == 0, run.stdout + run.stderr
    for protocol in ("stop_and_wait", "go_back_n", "selective_repeat"):
        assert re.search(rf"{protocol} .* identical", run.stdout)
        with Image.open(tmp_path / "out" / f"{protocol}.png") as received:
            assert received.tobytes() == sample_picture(128).tobytes()
    assert re.search(r"best_effort .* has holes", run.stdout)
    assert str(tmp_path / "out") in run.stdout
    assert len(list((tmp_path / "out").glob("*-ladder.png"))) == 4


def test_the_demo_says_that_nothing_gets_through_a_loss_of_one(tmp_path: Path) -> None:
    run = p2plab("demo", "--loss", "1.0", "--folder", str(tmp_path / "out"))
    assert run.returncode == 1
    assert "loss is a probability in [0, 1)" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()


def test_rendezvous_prints_its_address_and_ends_cleanly() -> None:
    with subprocess.Popen(
        [*P2PLAB, "rendezvous"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        with RendezvousClient(address[0]) as client:
            client.register("ada", ["127.0.0.1"], 5001, 5002)
            assert [peer.name for peer in client.peers()] == ["ada"]
        server.send_signal(signal.SIGTERM)
        assert "stopped" in server.stdout.read()
    assert server.returncode == 0


def test_a_busy_port_is_named_and_not_a_stack_trace() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = p2plab("rendezvous", "--port", str(taken.getsockname()[1]))
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "port" in run.stderr


def test_the_console_peer_lists_sends_and_shows_its_inbox(
    lab: Lab, tmp_path: Path
) -> None:
    bob = lab.peer("bob")
    Image.fromarray(sample_picture(32)).save(tmp_path / "a picture.png")
    picture_file = tmp_path / "a picture.png"
    typed = (
        f"list\ntext bob Hello, Bob!\npicture bob {picture_file} go_back_n\n"
        "text nobody hello\npicture bob nothing.png\nsave 7\n\nnonsense\nquit\n"
    )
    run = p2plab("peer", "alice", "--rendezvous", lab.url, typed=typed)
    assert run.returncode == 0, run.stderr
    assert "bob  127.0.0.1" in run.stdout
    assert "1 attempt(s)" in run.stdout
    assert "arrived after" in run.stdout
    assert "No peer of this name" in run.stdout
    assert "nothing.png" in run.stdout
    assert "the inbox has no number '7'" in run.stdout
    text, picture = bob.inbox
    assert getattr(text, "text", "") == "Hello, Bob!"
    assert getattr(picture, "offer").setup.protocol == "go_back_n"  # noqa: B009
    assert getattr(picture, "picture")().tobytes() == sample_picture(32).tobytes()  # noqa: B009


def test_the_console_peer_saves_what_it_has_received(lab: Lab, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*P2PLAB, "peer", "carol", "--rendezvous", lab.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as carol:
        assert carol.stdin is not None
        assert carol.stdout is not None
        carol.stdin.write("list\n")  # its answer tells that carol is there
        carol.stdin.flush()
        while "nobody else" not in carol.stdout.readline():
            pass
        dave = lab.peer("dave")
        dave.send_text("carol", "look")
        dave.send_picture("carol", sample_picture(32)).wait(20)
        out, _ = carol.communicate(f"inbox\nsave 1 {tmp_path}\nsave 0\n", timeout=20)
    assert "dave: 'look'" in out
    assert "only files can be saved" in out
    with Image.open(next(tmp_path.iterdir())) as saved:
        assert saved.tobytes() == sample_picture(32).tobytes()


def answer(peer: Peer, line: str) -> str:
    """Return what the console prints for a command."""
    console = Console(peer)
    console.stdout = io.StringIO()
    console.onecmd(line)
    return console.stdout.getvalue()


def test_the_name_of_a_stranger_cannot_steer_the_terminal(lab: Lab) -> None:
    frank = lab.peer("frank")
    with ChatClient("\x1b[2Jbob") as stranger:
        stranger.send_text(frank.texts.address, "hello")
    assert answer(frank, "inbox") == "0   [2Jbob: 'hello'\n"


def test_a_picture_for_nobody_is_refused_in_words(lab: Lab) -> None:
    assert "is not a file" in answer(lab.peer("grace"), "picture")


def test_a_name_that_is_taken_is_told_with_the_time_to_wait(lab: Lab) -> None:
    lab.peer("erin")
    run = p2plab("peer", "erin", "--rendezvous", lab.url)
    assert run.returncode == 1
    assert "Another peer holds this name" in run.stderr
    assert re.search(r"ends in \d+ s", run.stderr)
