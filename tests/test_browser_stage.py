"""The stage in a real browser: it plays, steps, lights up a story, takes a fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import RUN_ALL, LabPage
from PIL import Image

from p2plab import Link, ScriptedLink, Setup, sample_picture, simulate_picture
from p2plab.content.content import MAX_BYTES
from p2plab.content.transfer import Transfer
from p2plab.core.trace import TIMEOUT
from p2plab.measure.metrics import transmissions
from p2plab.ui.stage import Stage

pytestmark = pytest.mark.browser

LINK = Link(delay=0.02, loss=0.12, seed=1)
CELL = """import p2plab
from p2plab.ui.stage import Stage
link = p2plab.Link(delay=0.02, loss=0.12, seed=1)
setup = p2plab.Setup("selective_repeat", window=8)
stage = Stage(p2plab.simulate_picture(p2plab.sample_picture(), setup, link))
stage"""
# what colour, as (r, g, b), a canvas has around a point of it
COLOURS = """([x, y]) => {
    const canvas = document.querySelector(".p2p-stage .lifelines");
    const ratio = window.devicePixelRatio || 1;
    const data = canvas.getContext("2d")
        .getImageData((x - 9) * ratio, (y - 3) * ratio, 19 * ratio, 7 * ratio).data;
    return Array.from({length: data.length / 4}, (_, i) =>
        [...data.slice(4 * i, 4 * i + 4)]);
}"""
# where on the canvas the middle of a message's arrow is
MIDDLE = """(i) => {
    const stage = document.querySelector(".p2p-stage").stage;
    const m = stage.scene.messages, at = stage.at();
    const arrives = m.ended[i] > m.sent[i];
    const whole = arrives ? m.ended[i] - m.sent[i] : stage.scene.flight;
    const share = arrives ? 0.5 : 0.25;
    return [at.x(m.from[i]) + (at.x(m.to[i]) - at.x(m.from[i])) * share,
            at.y(m.sent[i] + stage.scene.later[i] + whole * share)];
}"""


def run(link: Link | ScriptedLink = LINK) -> Transfer:
    return simulate_picture(sample_picture(), Setup("selective_repeat", window=8), link)


def test_a_student_plays_a_run_steps_through_it_and_kills_a_packet(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    lab_page.open_cells("stage.ipynb", CELL)
    lab_page.run_all()
    assert lab_page.errors() == []
    stage = page.locator(".p2p-stage")
    canvas = stage.locator(".lifelines")
    canvas.wait_for()
    transfer = run()
    end = Stage(transfer).header["end"]
    moves = transmissions(transfer.trace)
    losses = sorted({m.moment for m in moves if m.fate == "loss"})
    timeouts = sorted({row.time for row in transfer.trace if row.what == TIMEOUT})

    canvas.focus()
    for key, moment in (
        ("Home", 0.0),
        ("l", losses[0] if losses[0] > 0 else losses[1]),
        ("End", end),
        ("Shift+L", losses[-1]),
        ("Home", 0.0),
        ("t", timeouts[0]),
    ):
        page.keyboard.press(key)
        page.wait_for_function(
            "moment => Math.abs(document.querySelector('.p2p-stage').dataset.now"
            " - moment) < 1e-5",
            arg=moment,
        )
    # the moment of the first timeout: its packet had been lost, and nothing came later
    chosen = next(i for i, m in enumerate(moves) if m.fate == "loss" and m.payload >= 0)
    x, y = page.evaluate(MIDDLE, chosen)
    colours = np.array(page.evaluate(COLOURS, [x, y]))
    solid = colours[colours[:, 3] > 100]
    assert (np.abs(solid[:, :3] - (213, 94, 0)) < 20).all(axis=1).any()
    lab_page.screenshot("stage")

    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + x, box["y"] + y)
    stage.locator(".story", has_text="lost").wait_for()
    arrived = next(
        i for i, m in enumerate(moves) if m.fate == "arrive" and m.payload >= 0
    )
    x, y = page.evaluate(MIDDLE, arrived)
    page.mouse.click(box["x"] + x, box["y"] + y)
    stage.locator(".moves .lose").click()
    number = moves[arrived].number + 1
    stage.locator(".faults code", has_text=f"lose={{{number}}}").wait_for()
    stage.locator(".change", has_text="With this fault:").wait_for()
    other = run(ScriptedLink(lose={number}, link=LINK))
    canvas.focus()
    page.keyboard.press("End")
    after = Stage(other).header["end"]
    stage.locator(".counts", has_text=f"{after:.3f} s of {after:.3f} s").wait_for()
    lab_page.screenshot("stage-fault")
    stage.locator(".faults button", has_text="Undo").click()
    stage.locator(".faults code").wait_for(state="detached")
    assert stage.locator(".change").inner_text() == ""
    canvas.focus()
    page.keyboard.press("End")
    stage.locator(".counts", has_text=f"{end:.3f} s of {end:.3f} s").wait_for()


def test_a_saved_page_plays_without_jupyter(lab_page: LabPage, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    Stage(run()).save(path)
    page = lab_page.page
    page.goto(path.as_uri())
    stage = page.locator(".p2p-stage")
    stage.locator(".lifelines").focus()
    page.keyboard.press("Home")
    page.wait_for_function(
        "() => +document.querySelector('.p2p-stage').dataset.now === 0"
    )
    page.keyboard.press(" ")
    page.wait_for_function(
        "() => document.querySelector('.p2p-stage').dataset.now > 0.1"
    )
    page.keyboard.press(" ")
    page.wait_for_function(
        "() => document.querySelector('.p2p-stage').dataset.playing === 'false'"
    )


def test_a_notebook_saved_as_html_plays_without_a_network(
    lab_page: LabPage, tmp_path: Path
) -> None:
    page = lab_page.page
    lab_page.open_cells("exported.ipynb", CELL, UPLOADS)
    lab_page.run_all()
    page.locator(".p2p-stage .lifelines").nth(1).wait_for()
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    exported = lab_page.server.root / "exported.ipynb"
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir"]
    subprocess.run([*convert, tmp_path, exported], check=True, timeout=60)
    path = tmp_path / "exported.html"
    page.context.set_offline(True)
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    for nth in (0, 1):
        stage = page.frame_locator("iframe").nth(nth).locator(".p2p-stage")
        stage.locator(".lifelines").focus()
        page.keyboard.press("Home")
        stage.locator(".counts", has_text="0.000 s of").wait_for()
        page.keyboard.press(" ")
        stage.locator(".counts", has_text=re.compile(r": [1-9]\d* of 172")).wait_for()
    lab_page.screenshot("stage-exported")


UPLOADS = """import p2plab
panel = p2plab.TransferPanel()
panel"""


def test_pictures_above_a_message_s_limit_are_taken_and_the_panel_goes_on(
    lab_page: LabPage, tmp_path: Path
) -> None:
    page = lab_page.page
    lab_page.open_cells("upload.ipynb", UPLOADS)
    lab_page.run_all()
    large, huge = tmp_path / "large.png", tmp_path / "huge.png"
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), np.uint8)
    Image.fromarray(noise).save(large)
    assert large.stat().st_size > 11_000_000
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path, answer in (
        (large, "The picture: 2000 × 2000 pixels"),
        (huge, "has 100,000,001 bytes, and the limit is 100,000,000"),
        (large, "The picture: 2000 × 2000 pixels"),
    ):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a picture").click()
        chooser.value.set_files(path)
        page.get_by_text(answer).first.wait_for()


WAITING = """panel.set(real=True, protocol="stop_and_wait", delay=0.4, loss=0.3)
panel.run().wait(60)
print("went on")"""


def test_who_interrupts_a_cell_that_waits_stops_the_transfer_and_keeps_what_came(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    lab_page.open_cells("waits.ipynb", UPLOADS, WAITING)
    page.evaluate(RUN_ALL)
    page.get_by_role("note").get_by_text("press ■ in").wait_for()
    page.evaluate(
        "() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')"
    )
    page.wait_for_function("() => window.ranAll")
    page.locator(".p2p-status").get_by_text("Stopped after").wait_for()
    assert lab_page.errors() == []
    assert "went on" in str(lab_page.outputs()[1])
