"""`p2plab check`: a file is judged in a child process, whatever it does."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import first_attempt
import pytest

P2PLAB = [sys.executable, "-m", "p2plab", "check"]

PROTOCOL = inspect.getsource(first_attempt)
ANSWER = "self.acks.append(Packet(ACK, packet.seq))"
LINE = PROTOCOL[: PROTOCOL.index(ANSWER)].count("\n") + 1


def graded(folder: Path, answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Judge the first attempt, with another answer to a packet."""
    file = folder / "mine.py"
    file.write_text(PROTOCOL.replace(ANSWER, answer), encoding="utf-8")
    return judged(str(file), "--budget", "0.5", *words)


def judged(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*P2PLAB, *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_correct_protocol_survives_with_status_0(tmp_path: Path) -> None:
    ran = graded(tmp_path, ANSWER, "--channel", "late", "--seed", "5", "--json")
    assert ran.returncode == 0, ran.stderr
    verdict = json.loads(ran.stdout)
    assert list(verdict) == [
        "verdict",
        "channel",
        "faults",
        "promise",
        "sentence",
        "ladder",
        "schedules",
        "seconds",
    ]
    assert (verdict["verdict"], verdict["channel"]) == ("survived", "late")
    assert "(seed 5)" in verdict["sentence"]


def test_a_broken_one_is_told_with_a_ladder_and_status_1(tmp_path: Path) -> None:
    ran = graded(tmp_path, "if packet.seq == self.expected - 1: " + ANSWER)
    assert ran.returncode == 0, "an old packet cannot come in stop-and-wait"
    ran = graded(tmp_path, "if len(self.inbox): " + ANSWER)
    assert ran.returncode == 1
    first, network, *ladder = ran.stdout.splitlines()
    assert first.startswith("broken: ACK 0 was lost (1 fault). The sender went on")
    assert network.startswith("The network (fifo): packets may be lost")
    assert ladder[0].split() == ["0.000", "s", "sender", "send", "DATA", "0"]


@pytest.mark.parametrize(
    ("answer", "promise", "words"),
    [
        ("while True: pass", "end", f"or a pause at mine.py, line {LINE}"),
        ("self.acks = [0] * 10**10", "no exception", "raised MemoryError at mine.py"),
        ("raise SystemExit(0)", "no exception", "raised SystemExit: 0 at mine.py"),
        ("import os; os._exit(0)", "no exception", "ended the whole process"),
        ("import ctypes; ctypes.string_at(0)", "no exception", "crashed Python"),
        ("input()", "no exception", "raised EOFError"),
        (
            "self.acks += [Packet(ACK, n) for n in set(str(packet.seq) + 'abcdef')]",
            "packets",
            "A seq is a whole number of 32 bits",
        ),
    ],
)
def test_whatever_happens_there_is_a_verdict(
    tmp_path: Path, answer: str, promise: str, words: str
) -> None:
    if sys.platform == "win32" and ("10**10" in answer or "ctypes" in answer):
        pytest.skip("Windows limits no memory, and reports crashes otherwise")
    ran = graded(tmp_path, answer, "--json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    verdict = json.loads(ran.stdout)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", promise)
    assert words in verdict["sentence"]


def test_what_a_machine_prints_does_not_disturb_the_answer(tmp_path: Path) -> None:
    ran = graded(tmp_path, f"{ANSWER}; print('verdict: survived')", "--json")
    verdict = json.loads(ran.stdout)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", "quiet")
    assert f"prints at mine.py, line {LINE}: " in verdict["sentence"]


def test_a_machine_that_depends_on_the_hash_seed_is_a_breach(tmp_path: Path) -> None:
    answer = "self.acks.append(Packet(ACK, packet.seq, str(hash('salt')).encode()))"
    ran = graded(tmp_path, answer, "--json")
    assert ran.returncode == 1
    verdict = json.loads(ran.stdout)
    assert (verdict["verdict"], verdict["promise"]) == ("breach", "same again")
    assert "with another seed for hash()" in verdict["sentence"]
    assert 0 < len(verdict["ladder"]) <= 25


def test_a_loop_that_python_cannot_interrupt_ends_with_the_process(
    tmp_path: Path,
) -> None:
    file = tmp_path / "stuck.py"
    text = PROTOCOL.replace(ANSWER, "sum(iter(int, 1))")
    file.write_text(text, encoding="utf-8")
    ran = judged(str(file), "--budget", "0.1", "--json")
    verdict = json.loads(ran.stdout)
    assert (ran.returncode, verdict["promise"]) == (1, "end")
    assert "did not come back: it was stopped after" in verdict["sentence"]
    assert f"stuck.py, line {LINE}: `sum(iter(int, 1))`" in verdict["sentence"]


def test_a_speed_can_be_asked_for(tmp_path: Path) -> None:
    ran = graded(tmp_path, ANSWER, "--speed", "0.8", "--json")
    assert json.loads(ran.stdout)["promise"] == "speed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Sendr = Receiver = int", "defines no Sender (it defines Sendr)"),
        ("class Sender", "could not be loaded: SyntaxError"),
        ("import sys; sys.exit(0)", "could not be loaded: SystemExit"),
        ("1 / 0", "ZeroDivisionError: division by zero at mine.py, line 1: `1 / 0`"),
    ],
)
def test_no_protocol_in_the_file_is_status_2(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    ran = judged(str(file), "--json")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


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
