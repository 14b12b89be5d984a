"""`p2plab check`: a file is judged in a child process, whatever it does."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import first_attempt
import pytest

from p2plab.commands import grader

PROTOCOL = inspect.getsource(first_attempt)
ANSWER = "self.acks.append(Packet(ACK, packet.seq))"
LINE = PROTOCOL[: PROTOCOL.index(ANSWER)].count("\n") + 1


def judged(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p2plab", "check", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def written(folder: Path, answer: str) -> str:
    """Write the first attempt with another answer to a packet."""
    file = folder / "mine.py"
    file.write_text(PROTOCOL.replace(ANSWER, answer), encoding="utf-8")
    return str(file)


def graded(folder: Path, answer: str, **wishes: Any) -> dict[str, Any]:
    return grader.grade(written(folder, answer), **{"budget": 0.4, **wishes})


def test_a_correct_protocol_survives_with_status_0(tmp_path: Path) -> None:
    words = ["--budget", "0.5", "--channel", "late", "--seed", "5", "--json"]
    ran = judged(written(tmp_path, ANSWER), *words)
    assert ran.returncode == 0, ran.stderr
    verdict = json.loads(ran.stdout)
    keys = "verdict channel faults promise sentence ladder schedules seconds"
    assert list(verdict) == keys.split()
    assert (verdict["verdict"], verdict["channel"]) == ("survived", "late")
    assert "(seed 5)" in verdict["sentence"]


def test_a_broken_one_is_told_with_a_ladder_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    signed = "a = packet.seq; self.acks.append(Packet(ACK, a - 256 * (a > 127)))"
    assert "129 payloads" in judged(written(tmp_path, signed)).stdout
    ran = judged(written(tmp_path, "if len(self.inbox): " + ANSWER), "--budget", "0.5")
    assert ran.returncode == 1
    first, network, *ladder = ran.stdout.splitlines()
    assert first.startswith("broken: ACK 0 was lost (1 fault). The sender went on")
    assert network.startswith("The network (fifo): packets may be lost")
    assert ladder[0].split() == ["0.000", "s", "sender", "send", "DATA", "0"]


@pytest.mark.parametrize(
    ("answer", "promise", "words"),
    [
        ("while True: pass", "end", f"or a pause at mine.py, line {LINE}"),
        ("sum(iter(int, 1))", "end", f"seen at mine.py, line {LINE}: `sum(iter(int"),
        ("self.acks = [0] * 10**10", "no exception", "raised MemoryError at mine.py"),
        ("raise SystemExit(0)", "no exception", "raised SystemExit: 0 at mine.py"),
        ("import os; os._exit(0)", "no exception", "ended the whole process"),
        ("import ctypes; ctypes.string_at(0)", "no exception", "crashed Python"),
        ("input()", "no exception", "raised EOFError"),
        (f"{ANSWER}; print('survived')", "quiet", f"prints at mine.py, line {LINE}: "),
        (
            "self.acks += [Packet(ACK, n) for n in set(str(packet.seq) + 'abcdef')]",
            "packets",
            "A seq is a whole number of 32 bits",
        ),
        (
            "self.acks.append(Packet(ACK, packet.seq, str(hash('salt')).encode()))",
            "same again",
            "with another seed for hash()",
        ),
    ],
)
def test_whatever_happens_there_is_a_verdict(
    tmp_path: Path, answer: str, promise: str, words: str
) -> None:
    if sys.platform == "win32" and ("10**10" in answer or "ctypes" in answer):
        pytest.skip("Windows limits no memory, and reports crashes otherwise")
    verdict = graded(tmp_path, answer)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", promise)
    assert words in verdict["sentence"]
    assert len(verdict["ladder"]) <= 25


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
def test_what_a_file_has_started_ends_with_it(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "mine.py"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(100)']"
    file.write_text(
        f"import subprocess, sys\n"
        f"pipe = open({str(pipe)!r}, 'wb')\n"
        f"subprocess.Popen({sleeper}, pass_fds=[pipe.fileno()])\n"
    )
    begun = time.monotonic()
    with pytest.raises(grader.Unusable, match="defines no class Sender"):
        grader.grade(file)
    assert os.read(reader, 1) == b""  # waits for the last that holds the other end
    os.close(reader)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Sendr = Receiver = int", "defines no class Sender (it defines Sendr)"),
        ("class Sender", "could not be loaded: SyntaxError"),
        ("import sys; sys.exit(0)", "could not be loaded: SystemExit"),
        ("1 / 0", "ZeroDivisionError: division by zero at mine.py, line 1: `1 / 0`"),
        (
            "raise OSError('\\x1b[2J\\x07\\nsurvived: all')",
            r"OSError: \x1b[2J\x07\nsurvi",
        ),
    ],
)
def test_no_protocol_in_the_file_is_status_2(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    ran = judged(str(file), "--json")
    assert (ran.returncode, json.loads(ran.stdout)["verdict"]) == (2, "unusable")
    assert words in json.loads(ran.stdout)["sentence"]
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.strip().isprintable()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nowhere.py"],
        [__file__, "--channel", "carrier pigeon"],
        [__file__, "--budget", "0"],
        [__file__, "--budget", "soon"],
        [__file__, "--seed", "x"],
        [__file__, "--speed", "-1"],
    ],
)
def test_wrong_usage_is_status_2(words: list[str]) -> None:
    ran = judged(*words)
    assert ran.returncode == 2
    assert ran.stderr
    assert "Traceback" not in ran.stderr
