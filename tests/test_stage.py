"""The stage: what a browser is given, and in Node what it makes of it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from random import Random

import numpy as np
import pytest

import p2plab
from p2plab import Link, ScriptedLink, Setup, sample_picture, simulate_picture
from p2plab.content.transfer import Transfer
from p2plab.measure.metrics import transmissions
from p2plab.room.swarm import Swarm, torrent
from p2plab.room.virtual import DIE, Change, RoomRun
from p2plab.ui.stage import HERE, Stage, program

NODE = shutil.which("node")
LINK = Link(delay=0.02, loss=0.12, corrupt=0.02, duplicate=0.02, seed=1)
TEST = Path(__file__).parent / "stage.test.mjs"


def transfer(protocol: str, link: Link | ScriptedLink = LINK) -> Transfer:
    return simulate_picture(sample_picture(64), Setup(protocol, window=8), link)


def room() -> RoomRun:
    """Five peers; the last one dies after half a second."""
    pieces = [bytes([n]) * 500 for n in range(8)]
    hashes = torrent(pieces)

    def make(me: str, chance: Random) -> Swarm:
        return Swarm(me, chance, hashes, dict(enumerate(pieces)) if me == "p0" else {})

    churn = [Change(0.5, "p4", DIE)]
    return p2plab.simulate_room(make, 5, up=4e5, loss=0.1, churn=churn, seed=1)


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


def test_a_verdict_plays_its_smallest_run_and_takes_other_faults() -> None:
    exhibit = p2plab.museum.EXHIBITS["copies_delivered"]
    verdict = p2plab.check(exhibit.sender, exhibit.receiver, exhibit.channel)
    assert verdict.kind == "broken"
    stage = Stage(verdict)
    assert len(stage.faults) == len(verdict.faults) > 0
    assert verdict.sentence in stage.header["words"]
    assert ["lose", "Lose it"] in stage.header["moves"]
    stage.faults = []
    assert "Everything was delivered all the same" in stage.header["words"]
    assert stage.header["payloads"] > 0


def test_an_exhibit_is_broken_on_the_stage_and_the_faults_are_a_line_of_code() -> None:
    stage = Stage(p2plab.break_it("copies_delivered"))
    assert "Not broken" in stage.header["words"]
    stage.faults = [{"way": 1, "number": 1, "what": "lose", "seconds": 0}]
    code = "p2plab.break_it('copies_delivered', lose_back={1})"
    assert stage.header["code"] == code
    assert (
        str(p2plab.break_it("copies_delivered", lose_back={1})) == stage.header["words"]
    )


def test_a_machine_that_survives_shows_its_plain_run() -> None:
    setup = Setup("go_back_n")
    stage = Stage(p2plab.check(setup.sender, setup.receiver, "fifo", budget=0.3))
    assert stage.header["payloads"] == 3
    assert stage.faults == []


def test_only_parts_that_there_are_can_be_shown() -> None:
    with pytest.raises(ValueError, match="lifelines"):
        Stage(parts=["ladder"])
    stage = Stage(transfer("fast"), parts=["lifelines"])
    assert stage.header["parts"] == ["lifelines"]


def test_a_large_picture_is_shown_no_larger_than_a_screen_needs() -> None:
    picture = np.zeros((900, 1500, 3), np.uint8)
    picture[:450] = 255
    stage = Stage(simulate_picture(picture, Setup("fast", window=64)))
    assert stage.header["picture"] == {"width": 500, "height": 300}
    kind, offset, length = stage.header["picture_columns"]["picture/pixels"]
    pixels = np.frombuffer(stage.picture, f"<{kind}", length, offset)
    assert pixels.reshape(300, 500, 4)[::150, 0, 0].tolist() == [255, 0]


def test_a_notebook_that_was_saved_as_a_page_plays() -> None:
    bundle, _ = Stage(transfer("fast"))._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "<iframe" in bundle["text/html"]


def test_a_saved_page_holds_all_that_it_needs(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    Stage(transfer("fast")).save(page)
    text = page.read_text(encoding="utf-8")
    assert "import " not in program()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("<script") == text.count("</script>") == 1


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_the_layout_in_node(tmp_path: Path) -> None:
    link = Link(delay=0.02, loss=0.12, rate=2e6, seed=1)
    protocols = "best_effort", "go_back_n", "selective_repeat"
    runs: dict[str, Transfer | RoomRun] = {
        each: transfer(each, link) for each in protocols
    }
    scenes = {}
    for name, each in {**runs, "room": room()}.items():
        stage = Stage(each)
        scenes[name] = {
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


def test_of_a_long_transfer_that_goes_on_the_last_is_shown_and_all_that_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = transfer("selective_repeat")
    whole = Stage(run)
    monkeypatch.setattr("p2plab.ui.stage.columns.RECENT", 20)
    monkeypatch.setattr(Transfer, "ended", property(lambda self: False))
    stage = Stage(run)
    assert stage.header["live"]
    assert stage.header["end"] == whole.header["end"]
    sent = column(stage, "messages/sent")
    assert 0 < len(sent) < len(column(whole, "messages/sent"))
    assert set(column(stage, "messages/payload")) <= {*range(-1, 11)}
    assert np.isfinite(column(stage, "payloads/here")).all()
    monkeypatch.undo()
    stage.show(run)
    assert stage.columns == whole.columns, "at the end all of it"


def test_a_room_of_many_peers_reaches_the_stage_as_a_map() -> None:
    run = room()
    stage = Stage(run)
    assert stage.header["lifelines"] == ["p0", "p1", "p2", "p3", "p4"]
    assert stage.header["things"] == 8
    assert len(column(stage, "messages/sent")) == len(run.messages)
    assert 4 * 8 <= len(column(stage, "has/at")) <= 5 * 8
    assert (column(stage, "messages/fate") == 2).sum() == sum(
        message.fate in ("loss", "gone") for message in run.messages
    )
    assert stage.header["moves"] == []
