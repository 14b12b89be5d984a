"""The benchmark's contestant: two processes, one file, and when it was there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from browser import ROOT

SCRIPT = ROOT / "tests" / "bench" / "contestant.py"


@pytest.mark.parametrize("told", [[], ["--rate", "1e8"], ["--aggressive"]])
def test_a_file_moves_from_one_process_to_another(
    tmp_path: Path, told: list[str]
) -> None:
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.write_bytes(os.urandom(200_000))
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = [sys.executable, str(SCRIPT)]
    receive = ["recv", "--bind", "127.0.0.1", "--port", port]
    receive += ["--out", str(taken), "--size", "200000"]
    send = ["send", "--to", "127.0.0.1", "--port", port, "--in", str(given), *told]
    with subprocess.Popen(
        script + receive, stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "READY\n"
        sent = subprocess.run(
            script + send, stdout=subprocess.PIPE, text=True, timeout=30, check=True
        )
        here = json.loads(sent.stdout)
        there = json.loads(receiver.stdout.readline())
        assert receiver.wait(10) == 0
    assert taken.read_bytes() == given.read_bytes()
    assert there["got"] == 200_000
    assert here["t0"] <= here["t_data"]
    assert here["t0"] < there["t1"]  # all may be there before the sender looks again
