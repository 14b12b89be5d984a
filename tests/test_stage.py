"""The stage: what a browser is given, and in Node what it makes of it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from p2plab import Link, ScriptedLink, Setup, sample_picture, simulate_picture
from p2plab.content.transfer import Transfer
from p2plab.measure.metrics import transmissions
from p2plab.ui.stage import HERE, Stage, program

NODE = shutil.which("node")
LINK = Link(delay=0.02, loss=0.12, corrupt=0.02, duplicate=0.02, seed=1)
TEST = Path(__file__).parent / "stage.test.mjs"


def transfer(protocol: str, link: Link | ScriptedLink = LINK) -> Transfer:
    return simulate_picture(sample_picture(64), Setup(protocol, window=8), link)


def column(stage: Stage, name: str) -> np.ndarray:
    kind, offset, length = stage.header["columns"][name]
    return np.frombuffer(stage.columns, f"<{kind}", length, offset)


def test_every_packet_reaches_the_stage_with_its_fate() -> None:
    run = transfer("go_back_n")
    stage, moves = Stage(run), transmissions(run.trace)
    fates = sum(max(1, len(move.fates)) for move in moves)
    assert len(column(stage, "messages/sent")) == fates
    firsts = {
        (int(move.host == "receiver"), move.number): move.moment for move in moves
    }
    ways, numbers = column(stage, "messages/from"), column(stage, "messages/number")
    for way, number, sent in zip(
        ways, numbers, column(stage, "messages/sent"), strict=True
    ):
        assert firsts[way, number] == sent
    here = column(stage, "payloads/here")
    assert np.isfinite(here).all()
    assert here.max() <= run.seconds


def test_a_fault_makes_the_run_anew_and_without_it_the_run_is_as_before() -> None:
    run = transfer("selective_repeat")
    stage = Stage(run)
    before = stage.columns
    stage.faults = [
        {"way": 0, "number": 3, "what": "lose", "seconds": 0},
        {"way": 1, "number": 2, "what": "late", "seconds": 0.25},
        {"way": 0, "number": 9, "what": "duplicate", "seconds": 0},
        {"way": 0, "number": 11, "what": "corrupt", "seconds": 0},
    ]
    link = ScriptedLink(
        lose={3}, late_back={2: 0.25}, duplicate={9}, corrupt={11}, link=LINK
    )
    assert stage.columns == Stage(transfer("selective_repeat", link)).columns
    assert stage.columns != before
    stage.faults = []
    assert stage.columns == before


def test_a_saved_page_holds_all_that_it_needs(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    Stage(transfer("fast")).save(page)
    text = page.read_text(encoding="utf-8")
    assert "import " not in program()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("<script") == text.count("</script>") == 1


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_the_layout_in_node(tmp_path: Path) -> None:
    protocols = "best_effort", "go_back_n", "selective_repeat"
    scenes = {}
    for protocol in protocols:
        stage = Stage(transfer(protocol, Link(delay=0.02, loss=0.12, rate=2e6, seed=1)))
        scenes[protocol] = {
            "header": stage.header,
            "columns": base64.b64encode(stage.columns).decode(),
            "picture": base64.b64encode(stage.picture).decode(),
        }
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps(scenes), encoding="utf-8")
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(TEST), HERE.as_uri(), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
