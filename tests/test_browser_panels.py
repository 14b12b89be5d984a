"""The panels in a real browser: what a person does, and what is on the screen."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import LabPage
from PIL import Image

from p2plab import sample_picture

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

# Sends for some seconds with these knobs, so that there is something to watch.
PANEL = "import p2plab\npanel = p2plab.TransferPanel(real={real}, delay=0.06)\npanel"
STATE = """
import hashlib, json

def sha(data):
    return hashlib.sha256(data).hexdigest()

transfer = panel.transfer
json.dumps({
    "data": sha(transfer.assembly.data()),
    "picture": sha(transfer.picture().convert("RGB").tobytes()),
    "loss": transfer.link.loss,
    "simulated": transfer.id == 0,
    "progress": transfer.progress,
    "rows": len(transfer.trace),
})
"""
PEERS = """
import p2plab
from IPython.display import display

lab = p2plab.Lab()
panels = [p2plab.PeerPanel(lab, name) for name in ("alice", "bob")]
for each in panels:
    display(each)
"""
# How often the kernel has shown more of a transfer that goes on, and when.
WATCH = """() => {
    const stage = document.querySelector(".p2p-stage").stage, load = stage.load;
    window.loads = [];
    stage.load = function () {
        load.call(this);
        window.loads.push([performance.now(), this.scene.live]);
    };
}"""
# The picture on the stage, as the receiver's would be in a file: red, green, blue.
PICTURE = """() => {
    const canvas = document.querySelector(".p2p-stage .picture");
    const {data} = canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.width, canvas.height, ...data.filter((_, i) => i % 4 < 3)];
}"""
RUN_CELL = """index => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    notebook.deselectAll();
    window.ranAll = false;
    window.jupyterapp.commands.execute("notebook:run-cell")
        .finally(() => { window.ranAll = true; });
}"""


def run_cell(lab_page: LabPage, index: int) -> None:
    """Run one cell, counted from 0."""
    lab_page.page.evaluate(RUN_CELL, index)
    lab_page.page.wait_for_function("() => window.ranAll")
    lab_page.wait_idle()
    assert lab_page.errors() == []


def state(lab_page: LabPage) -> dict[str, Any]:
    """What the kernel knows of the transfer, told by the notebook's second cell."""
    import ast
    import json

    run_cell(lab_page, 1)
    text = lab_page.outputs()[1][0]["data"]["text/plain"]
    found: dict[str, Any] = json.loads(ast.literal_eval(text))
    return found


def shown(image: Locator) -> Image.Image:
    """The picture that an img on the screen has, decoded."""
    source = image.get_attribute("src") or ""
    assert source.startswith("data:image/png;base64,"), source[:30]
    picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    loaded = image.evaluate("each => [each.naturalWidth, each.naturalHeight]")
    assert tuple(loaded) == picture.size, "the browser could not decode it"
    return picture


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def on_stage(lab_page: LabPage) -> Image.Image:
    """The picture that the stage shows."""
    width, height, *pixels = lab_page.page.evaluate(PICTURE)
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def open_panel(lab_page: LabPage, real: bool) -> None:
    lab_page.page.set_viewport_size({"width": 1280, "height": 800})
    lab_page.open_cells("panel.ipynb", PANEL.format(real=real), STATE)
    run_cell(lab_page, 0)
    if not real:
        lab_page.page.locator(".p2p-status").get_by_text("Done after").wait_for()


def drag_to(lab_page: LabPage, name: str, value: int) -> None:
    """Drag a slider's handle with the mouse until its number is such."""
    page = lab_page.page
    handle = page.locator(f".p2p-{name}-slider .noUi-handle").bounding_box()
    assert handle
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    read = f"() => Number(document.querySelector('.p2p-{name}-slider .noUi-handle')"
    read += ".getAttribute('aria-valuenow'))"
    for step in range(1, 120):
        if round(page.evaluate(read)) == value:
            break
        page.mouse.move(x + step, y)
    page.mouse.up()
    page.wait_for_function(
        f"() => document.querySelector('.p2p-{name} input').value === '{value}'"
    )


def test_a_slider_hits_twelve_per_cent_and_the_stage_follows_at_once(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    lab_page.screenshot("transfer-panel-1-playing")
    before = page.locator(".p2p-stage .counts").inner_text()
    drag_to(lab_page, "loss", 12)
    page.locator(".p2p-stage").get_by_text("172 of 172 payloads are here").wait_for()
    assert page.locator(".p2p-stage .counts").inner_text() != before
    assert state(lab_page)["loss"] == 0.12
    page.get_by_role("button", name="Send").click()
    page.locator('.p2p-stage[data-playing="true"]').wait_for()
    page.locator('.p2p-stage[data-playing="false"]').wait_for()
    assert sha(on_stage(lab_page).tobytes()) == state(lab_page)["data"]
    page.get_by_role("tab", name="Numbers").click()
    page.get_by_role("rowheader", name="DATA lost").wait_for()
    page.get_by_role("tab", name="As code").click()
    page.get_by_text("p2plab.simulate_picture(picture, setup, link)").wait_for()
    lab_page.screenshot("transfer-panel-2-code")


def test_a_real_transfer_is_seen_while_it_travels_and_marked_when_a_knob_turns(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    open_panel(lab_page, True)
    page.get_by_role("button", name="Send").click()
    page.locator(".p2p-stage .counts").wait_for()
    page.evaluate(WATCH)
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    lab_page.screenshot("transfer-panel-real")
    live = [at for at, live in page.evaluate("() => window.loads") if live]
    assert len(live) > 5
    rate = (len(live) - 1) / (live[-1] - live[0]) * 1000
    print(f"{len(live)} live frames, {rate:.1f} frames/s")
    kernel = state(lab_page)
    assert not kernel["simulated"]
    assert sha(on_stage(lab_page).tobytes()) == kernel["data"]
    assert page.locator(".p2p-stage.stale").count() == 0
    page.get_by_label("Loss [%]").fill("30")
    page.get_by_label("Loss [%]").press("Enter")
    page.locator(".p2p-stage.stale").wait_for()
    page.get_by_role("note").get_by_text("Press Send").wait_for()
    lab_page.screenshot("transfer-panel-earlier")


# All at once, as a quick hand does: the browser tells of the first choice, keeps the
# second one back until the kernel is done with the first, and tells the press at once.
CHOOSE_AND_SEND = """titles => {
    const choice = document.querySelector(".p2p-protocol select");
    for (const title of titles) {
        choice.selectedIndex = [...choice.options].findIndex(o => o.label === title);
        choice.dispatchEvent(new Event("change", {bubbles: true}));
    }
    document.querySelector(".p2p-send").click();
}"""
SENT = """
answered, _ = panel.echo.link.target
panel.transfer.offer.setup.protocol, answered.value
"""


def test_what_was_chosen_last_is_sent_however_quickly_send_was_pressed(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    lab_page.open_cells("quick.ipynb", PANEL.format(real=False), SENT)
    run_cell(lab_page, 0)
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    page.evaluate(CHOOSE_AND_SEND, ["go-back-N", "selective repeat", "fast"])
    page.locator(".p2p-stage").get_by_text("172 of 172 payloads are here").wait_for()
    page.wait_for_function("() => document.querySelector('.p2p-window-note').innerText")
    run_cell(lab_page, 1)
    (sent,) = lab_page.outputs()[1]
    assert sent["data"]["text/plain"] == "('fast', 1)"


def test_stop_half_way_leaves_the_holes_on_the_screen(lab_page: LabPage) -> None:
    page = lab_page.page
    open_panel(lab_page, True)
    page.get_by_label("Protocol").select_option("stop-and-wait")
    page.get_by_role("button", name="Send").click()
    page.get_by_text(re.compile(r" s: [1-9]\d* of 172 payloads are here")).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".p2p-status").get_by_text("Stopped after").wait_for()
    lab_page.screenshot("transfer-panel-stopped")
    kernel = state(lab_page)
    assert 0 < kernel["progress"] < 1
    assert kernel["rows"] > 0
    picture, sample = np.asarray(on_stage(lab_page)), sample_picture()
    assert 0 < (picture == sample).all(axis=2).mean() < 1
    assert (picture[0] == sample[0]).all()


def test_a_cell_that_runs_twice_has_one_live_panel(lab_page: LabPage) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    run_cell(lab_page, 0)
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    assert page.locator(".p2p-transfer-panel .p2p-send").count() == 1
    assert page.locator(".p2p-stage").count() == 1


def test_a_number_that_is_too_large_is_limited_in_words(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    loss = page.get_by_label("Loss [%]")
    loss.fill("150")
    loss.press("Enter")
    words = page.get_by_text("At most 95 here, so 150 became 95")
    words.wait_for()
    assert loss.input_value() == "95"
    loss.fill("20")
    loss.press("Enter")
    words.wait_for(state="detached")


EDGES = """all => all.map(each => each.getBoundingClientRect())
    .map(({left, top, right, bottom}) => [left, top, right, bottom])"""
IN_SIGHT = (
    ".p2p-loss-slider",
    ".p2p-seed input",
    ".p2p-send",
    ".p2p-stage .play",
    ".p2p-stage .cursor",
    ".p2p-stage .picture",
    ".p2p-stage .lifelines",
    ".p2p-stage .sender",
    ".p2p-stage .receiver",
)


def test_all_of_the_panel_is_in_sight_beside_the_file_browser(
    lab_page: LabPage,
) -> None:
    page, server = lab_page.page, lab_page.server
    page.set_viewport_size({"width": 1280, "height": 800})
    peer = "carol = p2plab.PeerPanel(p2plab.Lab(), 'carol')\ncarol"
    server.write("narrow.ipynb", PANEL.format(real=False), peer)
    page.goto(f"{server.url}/lab/tree/narrow.ipynb?token={server.token}&reset")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.locator(".jp-DirListing-content").wait_for()
    lab_page.wait_idle()
    run_cell(lab_page, 0)
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    panel = page.locator(".p2p-transfer-panel")
    panel.evaluate("each => each.scrollIntoView()")
    lab_page.screenshot("transfer-panel-beside-files")
    [(_, above, _, below)] = page.locator(".jp-WindowedPanel-outer").evaluate_all(EDGES)
    places = {each: page.locator(each).evaluate_all(EDGES) for each in IN_SIGHT}
    for name, [(_, top, _, bottom)] in places.items():
        assert above - 1 <= top < bottom <= below + 1, name
    inside = panel.locator("button, input, select, canvas, .p2p-more")
    [(_, _, border, _)] = panel.evaluate_all(EDGES)
    assert max(right for _, _, right, _ in inside.evaluate_all(EDGES)) <= border + 1
    run_cell(lab_page, 1)
    carol = page.locator(".p2p-peer-panel")
    carol.get_by_role("button", name="Send text").click()
    alert = carol.get_by_role("alert").get_by_text("register a name first")
    alert.wait_for()
    carol.evaluate("each => each.scrollIntoView()")
    lab_page.screenshot("peer-panel-narrow")
    inside = carol.locator("button, input, select, .p2p-inbox")
    [(_, _, border, _)] = carol.evaluate_all(EDGES)
    assert max(right for _, _, right, _ in inside.evaluate_all(EDGES)) <= border + 1
    pressed = carol.get_by_role("button", name="Send text").evaluate_all(EDGES)
    said = alert.evaluate_all(EDGES)
    assert 0 < said[0][1] - pressed[0][1] < 60, "it is said where it was pressed"


def test_on_a_narrow_screen_the_panel_is_one_column_in_the_order_of_use(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    page.set_viewport_size({"width": 412, "height": 900})
    page.wait_for_function(
        "() => document.querySelector('.p2p-stage').clientWidth < 400"
    )
    lab_page.screenshot("transfer-panel-412")
    tops = [page.locator(each).evaluate_all(EDGES)[0][1] for each in IN_SIGHT]
    order = [".p2p-loss-slider", ".p2p-send", ".p2p-stage .play"]
    order += [".p2p-stage .lifelines", ".p2p-stage .picture", ".p2p-stage .sender"]
    at = dict(zip(IN_SIGHT, tops, strict=True))
    assert [at[each] for each in order] == sorted(at[each] for each in order)
    inside = page.locator(".p2p-transfer-panel").locator(
        "button, input, select, canvas"
    )
    assert max(right for _, _, right, _ in inside.evaluate_all(EDGES)) <= 412


def test_a_text_file_as_picture_is_met_with_words_in_the_panel(
    lab_page: LabPage, tmp_path: Path
) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    diary = tmp_path / "<b>diary.txt"
    diary.write_text("no picture", encoding="utf-8")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a picture").click()
    chooser.value.set_files(diary)
    alert = page.get_by_role("alert")
    alert.get_by_text("take a PNG, JPEG, GIF").wait_for()
    assert alert.locator("b").count() == 0
    choice = page.locator(".p2p-picture-choice option:checked")
    assert "256" in choice.inner_text()
    lab_page.screenshot("transfer-panel-no-picture")
    with page.expect_file_chooser() as chooser:  # the same once more is heard, too
        page.get_by_role("button", name="Upload a picture").click()
    chooser.value.set_files(diary)
    page.get_by_role("button", name="Send").click()
    alert.wait_for(state="detached")


def test_two_peers_find_each_other_and_send_a_text_and_a_picture(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    page.set_viewport_size({"width": 1280, "height": 800})
    lab_page.open_cells("peers.ipynb", PEERS)
    lab_page.run_all()
    assert lab_page.errors() == []
    alice, bob = (page.locator(".p2p-peer-panel").nth(n) for n in (0, 1))
    for each in (alice, bob):
        each.get_by_role("button", name="Register").click()
        each.get_by_text("Registered as").wait_for()
    alice.get_by_role("button", name="Refresh").click()
    alice.get_by_label("Peers").select_option("bob")
    alice.get_by_label("Text").fill("salâm <b>bob</b>")
    alice.get_by_role("button", name="Send text").click()
    alice.get_by_text("sent, ACK").wait_for()
    bob.locator(".p2p-inbox").get_by_text("salâm <b>bob</b>").wait_for()
    alice.get_by_role("button", name="Send picture").click()
    alice.get_by_text("43 of 43 payloads arrived").wait_for()
    bob.get_by_text("43 of 43 payloads are here", exact=True).wait_for()
    lab_page.screenshot("peer-panel-alice")
    bob.scroll_into_view_if_needed()
    picture = shown(bob.locator(".p2p-inbox img"))
    assert picture.tobytes() == sample_picture(128).tobytes()
    lab_page.screenshot("peer-panel-bob")


def test_what_redis_holds_is_on_the_screen_and_follows(lab_page: LabPage) -> None:
    page = lab_page.page
    page.set_viewport_size({"width": 1280, "height": 900})
    cell = "import p2plab\nlab = p2plab.Lab()\nalice, bob = lab.peer('alice'), "
    cell += "lab.peer('bob')\nmeeting = alice.introduce('bob')\np2plab.RedisPanel(lab)"
    lab_page.open_cells("redis.ipynb", cell, "alice.close()")
    run_cell(lab_page, 0)
    table = page.locator(".p2p-redis-keys table")
    record = table.locator("th").filter(has_text=re.compile("^alice, in room"))
    record.wait_for()
    lab_page.screenshot("redis-panel")
    run_cell(lab_page, 1)
    record.wait_for(state="detached")
