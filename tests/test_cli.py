"""The command line, run as a person at a shell runs it."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest
from loopback import SHORT, eventually
from PIL import Image

from p2plab import Lab, Link, Peer, sample_picture
from p2plab.commands.cli import register
from p2plab.commands.console import Console
from p2plab.content.chunks import as_path, cut
from p2plab.content.offer import Offer
from p2plab.content.transfer import Transfer
from p2plab.core.trace import SENDER
from p2plab.errors import (
    IntroductionRefused,
    NameTaken,
    P2PLabError,
    TransferStopped,
)
from p2plab.net.chat import Message
from p2plab.net.frames import MessageId
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.rendezvous.admission import Request
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


@contextmanager
def terminal(lab: Lab, name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Be a peer in a terminal; it is registered from here on."""
    with subprocess.Popen(
        [*P2PLAB, "peer", name, "--rendezvous", lab.url, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as peer:
        type_in(peer, "list")
        until(peer, "nobody else", "since")
        yield peer


def type_in(peer: subprocess.Popen[str], line: str) -> None:
    assert peer.stdin is not None
    peer.stdin.write(f"{line}\n")
    peer.stdin.flush()


def until(peer: subprocess.Popen[str], *words: str) -> str:
    """Read up to a line with one of these words, and return it."""
    assert peer.stdout is not None
    return next(line for line in peer.stdout if any(each in line for each in words))


def test_the_demo_moves_the_picture_with_every_protocol(tmp_path: Path) -> None:
    run = p2plab("demo", "--folder", str(tmp_path / "out"))
    assert run.returncode == 0, run.stdout + run.stderr
    for protocol in ("stop_and_wait", "go_back_n", "selective_repeat"):
        assert re.search(rf"{protocol} .* identical", run.stdout)
        with Image.open(tmp_path / "out" / f"{protocol}.png") as received:
            assert received.tobytes() == sample_picture(128).tobytes()
    assert re.search(r"best_effort .* has holes", run.stdout)
    assert str(tmp_path / "out") in run.stdout
    assert len(list((tmp_path / "out").glob("*-ladder.png"))) == len(PROTOCOLS)


def test_the_demo_says_that_nothing_gets_through_a_loss_of_one(tmp_path: Path) -> None:
    run = p2plab("demo", "--loss", "1.0", "--folder", str(tmp_path / "out"))
    assert run.returncode == 1
    assert "loss must be in [0, 1)" in run.stderr
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
    assert "bob  since " in run.stdout
    assert " ms and 1 attempt\n" in run.stdout
    assert f"reading {picture_file.name} ...\n" in run.stdout
    assert "arrived after" in run.stdout
    assert "You are alice in the room lobby: texts on TCP port" in run.stdout
    assert "asking bob ...\n" in run.stdout
    assert run.stdout.count("asking bob") == 1, "they have met by then"
    assert "nobody is not in the room lobby. No peer of this name" in run.stdout
    assert "Look at the list of peers. To see who is there, type list.\n" in run.stdout
    assert "nothing.png" in run.stdout
    assert "the inbox has no number '7'" in run.stdout
    text, picture = bob.inbox
    assert getattr(text, "text", "") == "Hello, Bob!"
    assert getattr(picture, "offer").setup.protocol == "go_back_n"  # noqa: B009
    assert getattr(picture, "picture")().tobytes() == sample_picture(32).tobytes()  # noqa: B009


def test_the_console_peer_saves_what_it_has_received(lab: Lab, tmp_path: Path) -> None:
    with terminal(lab, "carol") as carol:
        dave = lab.peer("dave")
        dave.send_text("carol", "look")
        dave.send_picture("carol", sample_picture(32)).wait(20)
        typed = f"inbox\nsave 1 {tmp_path}\nsave 0\nquit\n"
        out, _ = carol.communicate(typed, timeout=20)
    assert out.index("saving picture ...") < out.index("written to")
    assert "dave: 'look'" in out
    assert "only files can be saved" in out
    with Image.open(next(tmp_path.iterdir())) as saved:
        assert saved.tobytes() == sample_picture(32).tobytes()


def test_a_person_at_the_terminal_accepts_and_refuses(lab: Lab) -> None:
    dave, erin = lab.peer("dave"), lab.peer("erin")
    with (
        terminal(lab, "carol", "--accept", "ask") as carol,
        ThreadPoolExecutor(2) as pool,
    ):
        text = pool.submit(dave.send_text, "carol", "let me in")
        assert "type accept dave or refuse dave" in until(
            carol, "dave wants to meet you"
        )
        assert not text.done()
        type_in(carol, "accept")
        until(carol, "you have met dave")
        assert text.result(20).attempts >= 1
        wish = pool.submit(erin.introduce, "carol")
        until(carol, "erin wants to meet you")
        type_in(carol, "refuse erin not today")
        with pytest.raises(IntroductionRefused, match="not want to meet: not today"):
            wish.result(20)
        wish = pool.submit(erin.introduce, "carol")
        until(carol, "erin wants to meet you")
        erin.close()  # and so it withdraws
        until(carol, "[erin does not wait for your word any more]")
        with pytest.raises(P2PLabError, match="closed"):
            wish.result(20)
        out, _ = carol.communicate("accept erin\ninbox\n", timeout=20)
    assert "erin has not asked to meet you, or is gone" in out
    assert "dave: 'let me in'" in out


def test_among_several_who_ask_one_is_named_and_older_requests_go_with_it() -> None:
    answered: list[str] = []

    def settle(request: Request, accept: bool, why: str) -> None:
        answered.append(f"{request.session} {accept} {why}")
        if request.session == "1":
            raise P2PLabError("it is over")

    asked = [("ann", "1"), ("bob", "2"), ("ann", "3")]
    peer = Mock(
        requests=[Request(name, session, settle) for name, session in asked],
        texts=Mock(address=("127.0.0.1", 1)),
        pictures=Mock(address=("127.0.0.1", 1)),
    )
    assert answer(peer, "accept") == "name one of those who wait: ann, bob\n"
    assert answer(peer, "accept ann") == "you have met ann\n"
    assert answer(peer, "refuse bob go  away").startswith("bob is told that you do not")
    assert answered == ["1 True ", "3 True ", "2 False go  away"]


def answer(peer: Peer, line: str) -> str:
    """Return what the console prints for a command."""
    console = Console(peer)
    console.stdout = io.StringIO()
    console.onecmd(line)
    return console.stdout.getvalue()


def test_a_name_cannot_steer_the_terminal(lab: Lab) -> None:
    peer = lab.peer("gina")
    console = Console(peer)  # which is told of all news
    console.stdout = io.StringIO()
    admission, address = peer.meetings.admission, peer.texts.address
    assert admission.on_request is not None
    assert peer.texts.on_message is not None
    admission.on_request(Request("\x1b[31m\rbob\u202e", "0" * 16, print))
    id = MessageId(1, 1)
    peer.texts.on_message(Message("\x1b[2Jbob", "hello", 0.0, address, id))
    said = console.stdout.getvalue()
    bob = r"\x1b[31m\rbob\u202e"
    assert said.startswith(f"\n[{bob} wants to meet you: type accept {bob} ")
    assert r"[\x1b[2Jbob: 'hello']" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("text", "text NAME WORDS...: send a text, and wait for its ACK\n"),
        ("text bob", "text NAME WORDS...: send a text, and wait for its ACK\n"),
        ("picture", "picture NAME FILE [PROTOCOL]: send a picture over UDP\n"),
        ("file bob", "file NAME PATH [PROTOCOL]: send any file over UDP, as it is\n"),
        ("save", "save NUMBER [FOLDER]: write a picture or file of the inbox to a fol"),
        ("inbox", "nothing has come yet\n"),
        ("nonsense, I say", "there is no command nonsense,: type one of accept, ag"),
        ("accept", "nobody waits for your word\n"),
        ("refuse bob", "bob has not asked to meet you, or is gone\n"),
        ("accept \x1b[2J", "a name has no invisible characters: leave out U+001B"),
        ("picture bob .", ". is not a file\n"),
        ("picture bob no.png", "no.png cannot be read: "),
        ("file bob .", ". is not a file\n"),
        ("file bob no.txt", "no.txt cannot be read: "),
    ],
)
def test_what_cannot_be_carried_out_is_answered_in_a_sentence(
    lab: Lab, line: str, said: str
) -> None:
    assert answer(lab.peer("grace"), line).startswith(said)


def test_a_protocol_that_does_not_exist_is_answered_with_those_that_do(
    lab: Lab, tmp_path: Path
) -> None:
    grace = lab.peer("grace")
    path = tmp_path / "a picture.png"
    Image.fromarray(sample_picture(32)).save(path)
    said = answer(grace, f"picture bob {path} nosuch")
    assert said.startswith("there is no protocol nosuch: take one of ")
    assert answer(grace, f"file bob {path} nosuch") == said
    help = answer(grace, "help picture")
    assert help.startswith("picture NAME FILE [PROTOCOL]: send a picture over UDP\n")
    for words in (said, help, answer(grace, "help file")):
        assert set(PROTOCOLS) <= set(re.findall(r"\w+", words))
    assert answer(grace, "help save").startswith("save NUMBER [FOLDER]: ")
    assert answer(grace, "help nosuch").startswith("there is no command nosuch: type")


def test_a_protocol_whose_package_is_absent_is_answered_with_how_to_install_it(
    lab: Lab, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(sample_picture(32)).save(path)
    absent = (
        "import sys; sys.modules['raptorq'] = None  # as if it were not installed\n"
        "from p2plab.commands.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", absent, "peer", "grace", "--rendezvous", lab.url],
        input=f"picture bob {path} fountain\nfile bob {path} fountain\nhelp file\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.count("there is no protocol fountain: take one of ") == 2
    needs = ". The fountain protocol needs the package raptorq, which is not installed"
    how = f"{needs}: .venv/bin/python -m pip install raptorq"
    assert run.stdout.count(how) == 3, run.stdout + run.stderr


def test_a_place_where_nothing_can_be_saved_is_named_with_what_to_do(
    lab: Lab, tmp_path: Path
) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    ivan.send_picture("judy", sample_picture(32)).wait(20)
    eventually(lambda: judy.inbox, "it has come")
    missing = tmp_path / "saved"
    _, said = answer(judy, f"save 0 {missing}").splitlines()
    assert said.startswith(
        f"there is no folder {missing}: make it first, or take .png or .tiff"
    )
    _, said = answer(judy, f"save 0 {missing / 'it.png'}").splitlines()
    assert said.startswith(f"{missing / 'it.png'} cannot be written: ")
    assert "Errno" not in said


def test_help_lists_what_one_can_type_and_nothing_else(lab: Lab) -> None:
    heading, *commands = answer(lab.peer("heidi"), "help").splitlines()
    assert "type" in heading
    assert [line.split()[0].strip(":") for line in commands] == [
        *("accept", "again", "clear", "file", "help", "inbox", "list", "picture"),
        *("quit", "refuse", "save", "text"),
    ]


def test_what_arrives_is_told_while_somebody_types(lab: Lab) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    ended = threading.Event()

    class Screen(io.StringIO):
        def write(self, words: str) -> int:
            if "complete" in words:
                ended.set()
            return super().write(words)

    console = Console(judy)
    console.stdout = screen = Screen()
    ivan.send_text("judy", "hello")
    ivan.send_picture("judy", sample_picture(32))
    assert ended.wait(20)
    text, begun, complete = re.findall(r"\n\[(.*)\]\njudy> ", screen.getvalue())
    assert text == "ivan: 'hello'"
    assert begun == "picture from ivan, 32x32, 0% here"
    assert complete == ("picture from ivan, 32x32, complete; to keep it, type save 1")


def test_a_file_is_sent_from_the_terminal_and_saved_as_it_was(
    lab: Lab, tmp_path: Path
) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    notes, saved = tmp_path / "some notes.txt", tmp_path / "saved"
    notes.write_bytes(b"as it is\r\n\x00" * 500)
    saved.mkdir()
    assert "arrived after" in answer(ivan, f"file judy {notes} go_back_n")
    assert "arrived after" in answer(ivan, f"file judy {notes}")
    protocols = [getattr(each, "offer").setup.protocol for each in judy.inbox]  # noqa: B009
    assert protocols == ["go_back_n", "selective_repeat"]
    assert answer(judy, f'save 0 "{saved}"').splitlines()[1].startswith("written to ")
    assert (saved / notes.name).read_bytes() == notes.read_bytes()


@pytest.mark.parametrize("command", ["rendezvous", "peer", "demo"])
def test_help_tells_of_every_option_what_it_is_for(command: str) -> None:
    said = p2plab(command, "--help").stdout
    assert not re.search(r"^  (--\S+( [A-Z]+)?|\w+)$(?!\n {10})", said, re.MULTILINE)
    assert "(default" in said


def test_the_version_is_the_installed_one() -> None:
    assert p2plab("--version").stdout == f"p2plab {version('p2plab')}\n"


def test_a_redis_that_is_away_is_told_when_the_rendezvous_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with subprocess.Popen(
        [*P2PLAB, "rendezvous", "--redis", f"redis://127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert "http://" in server.stdout.readline()  # it runs, and waits for its Redis
        assert "nothing listens there: start Redis" in server.stderr.readline()
        server.send_signal(signal.SIGTERM)
        assert "stopped" in server.stdout.read()
    assert server.returncode == 0


class Taken:
    """A peer whose name is held for so many seconds, at each look."""

    name = "erin"

    def __init__(self, *left: float) -> None:
        self.left = list(left)

    def register(self) -> None:
        if self.left:
            raise NameTaken("taken", self.left.pop(0))


def test_a_name_whose_peer_was_cut_off_is_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slept: list[float] = []
    register(cast(Peer, Taken(18.4, 13.4, 3.4)), slept.append)
    assert slept == [5, 5, 3.4]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "erin is held by another peer, or by one that was cut off" in said
    assert "free in 19 s. Waiting, Ctrl-C to stop" in said


def test_a_name_that_is_renewed_is_given_up() -> None:
    slept: list[float] = []
    with pytest.raises(NameTaken, match=r"erin, and renews it\. Take another name"):
        register(cast(Peer, Taken(45, 40, 59)), slept.append)
    assert slept == [5, 5]


def endless(stop: Callable[[Transfer], None] | None = None) -> Transfer:
    """Return a transfer that goes on until it is stopped; a quarter has arrived."""
    content = cut(bytes(4_000), payload_size=104).content
    offer = Offer("ann", content, Setup("go_back_n"))
    transfer = Transfer(0, SENDER, offer)
    transfer.started_at = time.monotonic()
    transfer.on_stop = None if stop is None else partial(stop, transfer)
    transfer.acknowledged = 10
    return transfer


class Screen(io.StringIO):
    """Presses Ctrl-C when a word is written on it; a terminal, or a file."""

    def __init__(self, word: str, terminal: bool) -> None:
        super().__init__()
        self.word, self.terminal = word, terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, words: str) -> int:
        if self.word in words:
            self.word = "no word"
            raise KeyboardInterrupt
        return super().write(words)


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_stops_the_transfer_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: bool
) -> None:
    for pause in ("EVERY", "REDRAWN"):
        monkeypatch.setattr(f"p2plab.commands.console.{pause}", 0.001)
    peer = lab.peer("ann")
    transfer = endless(lambda it: it.end(1.0, TransferStopped("stopped", it)))
    monkeypatch.setattr(peer, "send_picture", lambda *_: transfer)
    console = Console(peer)
    console.stdout = screen = Screen("25%", terminal)
    assert not console.onecmd(f"picture bob {tmp_path}"), "the peer goes on"
    assert screen.getvalue().endswith("stopped: 10 of 40 payloads had arrived\n")
    assert transfer.ended
    console.onecmd("list")
    assert screen.getvalue().endswith("nobody else is registered\n")


@pytest.mark.parametrize(("terminal", "start"), [(True, "\r"), (False, "")])
def test_a_transfer_tells_how_far_it_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, terminal: bool, start: str
) -> None:
    for pause in ("EVERY", "REDRAWN"):
        monkeypatch.setattr(f"p2plab.commands.console.{pause}", 0.001)
    peer, transfer = lab.peer("ann"), endless()
    monkeypatch.setattr(peer, "send_file", lambda *_: transfer)
    console = Console(peer)

    class Watched(Screen):
        def write(self, words: str) -> int:
            if "25%" in words:
                transfer.end(2.0)
            return super().write(words)

    console.stdout = screen = Watched("no word", terminal)
    console.onecmd("file bob notes.txt")
    line = f"{start}25%, 10 of 40 payloads, after 0 s (Ctrl-C stops it)"
    told, end = screen.getvalue().rsplit("\n", 2)[:2]
    assert told.rstrip() == line
    assert end == "arrived after 2.00 s"


def test_what_arrives_is_told_now_and_then(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2plab.commands.console.EVERY", 0.01)
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    console = Console(judy)
    console.stdout = screen = io.StringIO()
    slow = Link(delay=0.02, rate=400e3)
    ivan.send_picture("judy", sample_picture(64), link=slow).wait(20)
    eventually(lambda: "complete" in screen.getvalue(), "it has come")
    shares = re.findall(r"64x64, (\d+)% here", screen.getvalue())
    assert len(shares) > 2
    assert sorted(map(int, shares)) == list(map(int, shares))


def test_who_leaves_is_told_what_is_not_saved(lab: Lab, tmp_path: Path) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    ivan.send_picture("judy", sample_picture(32)).wait(20)
    eventually(lambda: judy.inbox and judy.inbox[0].ended, "it has come")  # type: ignore[union-attr]  # a picture
    console = Console(judy)
    console.stdout = screen = io.StringIO()
    assert not console.onecmd("quit")
    lost, how = screen.getvalue().splitlines()
    assert lost == "not saved: 0  picture from ivan, 32x32, complete"
    assert how == "to leave, type quit or press Ctrl-C once more"
    console.onecmd("inbox")
    assert not console.onecmd("quit"), "it was not asked directly before"
    assert console.onecmd("quit")
    console.onecmd(f"save 0 {tmp_path}")
    assert console.onecmd("quit"), "nothing would be lost"


def press_ctrl_c(peer: subprocess.Popen[str]) -> None:
    """Press it at the prompt; it may still come into the end of a command."""
    said = "stopped"
    while "stopped" in said:
        peer.send_signal(signal.SIGINT)
        said = until(peer, "to leave, type quit or press Ctrl-C once more", "stopped")


def test_ctrl_c_at_the_prompt_leaves_when_it_is_pressed_twice(lab: Lab) -> None:
    with terminal(lab, "carol") as carol:
        press_ctrl_c(carol)
        type_in(carol, "inbox")
        until(carol, "nothing has come yet")
        press_ctrl_c(carol)
        carol.send_signal(signal.SIGINT)
        assert carol.wait(20) == 130
    assert lab.peer("carol").registration is not None


def test_a_text_that_nobody_takes_can_be_sent_again(lab: Lab) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    console = Console(ivan)
    console.stdout = screen = io.StringIO()
    console.onecmd("again")
    assert "every text that you have sent was acknowledged" in screen.getvalue()
    judy.texts.stop()
    console.onecmd("text judy are  you there?")
    said = screen.getvalue()
    assert "refused" in said or "actively" in said
    assert "Errno" not in said
    assert "kept" not in said
    assert "the peer has ended, or a firewall or a NAT keeps us out" in said
    assert said.endswith("To send it once more, type again.\n")
    lab.peer("judy")
    console.onecmd("again")
    assert screen.getvalue().endswith(" ms and 1 attempt\n")
    (text,) = lab.peers["judy"].inbox
    assert getattr(text, "text", "") == "are  you there?"


def test_a_peer_that_falls_silent_is_told_without_a_trace(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ivan, judy = lab.peer("ivan"), lab.peer("judy")
    ivan.introduce("judy").contact.wait()
    judy.pictures.close()
    send = partial(ivan.send_file, patience=SHORT)
    monkeypatch.setattr(ivan, "send_file", lambda *what: send(*what))
    said = answer(ivan, f"file judy {__file__}")
    assert "nobody has answered our offer" in said
    assert said.endswith("let anything through? To see who is there, type list.\n")


@pytest.mark.parametrize("typed", ['"{}"', "'{}'", "{}", " {} "])
def test_a_path_may_be_quoted(tmp_path: Path, typed: str) -> None:
    for name in ("a b.png", "no such file.png", "it's.png"):
        path = tmp_path / name
        if "no" not in name:
            path.write_bytes(b"x")
        if "'" not in name or typed[0] != "'":
            assert as_path(typed.format(path)) == path


@pytest.mark.skipif(os.name != "posix", reason="a backslash parts folders on Windows")
def test_a_path_may_have_backslashes_before_its_spaces(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"x")
    assert as_path(f"{tmp_path}/a\\ b.png") == tmp_path / "a b.png"
    (tmp_path / "c\\d.png").write_bytes(b"x")
    assert as_path(f"{tmp_path}/c\\d.png") == tmp_path / "c\\d.png"
    assert as_path(f'"{tmp_path}/c\\d.png"') == tmp_path / "c\\d.png"


@pytest.mark.parametrize("name", sorted({"SIGHUP", "SIGTERM"} & set(dir(signal))))
def test_a_terminal_that_is_closed_gives_its_name_back(lab: Lab, name: str) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, a child ignores it
    with terminal(lab, "carol") as carol:
        signal.signal(number, before)
        assert carol.stderr is not None
        carol.send_signal(number)
        carol.send_signal(number)  # as a shell repeats it
        assert carol.wait(20) == 130
        assert carol.stderr.read() == ""
    assert lab.peer("carol").registration is not None
