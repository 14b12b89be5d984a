"""The panels in a real browser: what a person does, and what is on the screen."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import LabPage
from PIL import Image

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
# Every picture that comes onto the screen: when, its kind, and where it stands.
WATCH = """() => {
    const place = document.querySelector(".p2p-picture");
    window.frames_seen = [];
    new MutationObserver(() => {
        const image = place.querySelector("img");
        if (!image) return;  // what stood there has gone
        const box = place.getBoundingClientRect();
        window.frames_seen.push(
            [performance.now(), image.src.slice(0, 15), box.left, box.top + scrollY]);
    }).observe(place, {childList: true, subtree: true});
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


def open_panel(lab_page: LabPage, real: bool) -> None:
    lab_page.page.set_viewport_size({"width": 1280, "height": 800})
    lab_page.open_cells("panel.ipynb", PANEL.format(real=real), STATE)
    run_cell(lab_page, 0)
    lab_page.page.locator(".p2p-picture img").wait_for()


@pytest.mark.parametrize("real", [True, False], ids=["real sockets", "simulated"])
def test_a_slider_a_click_and_the_picture_on_the_screen_is_the_receivers_own(
    lab_page: LabPage, real: bool
) -> None:
    page, name = lab_page.page, "real" if real else "simulated"
    open_panel(lab_page, real)
    lab_page.screenshot(f"transfer-panel-{name}-1-before")
    slider = page.locator(".p2p-loss-slider .noUi-handle")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    page.wait_for_function(
        "() => document.querySelector('.p2p-loss input').value === '15'"
    )
    page.evaluate(WATCH)
    page.get_by_role("button", name="Send").click()
    page.get_by_text(re.compile(r"^\d\.\d\d s: \d\d\d? of 172")).wait_for()
    lab_page.screenshot(f"transfer-panel-{name}-2-sending")
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    page.locator(".p2p-ladder img").wait_for()
    lab_page.screenshot(f"transfer-panel-{name}-3-done")

    kernel = state(lab_page)
    assert kernel["loss"] == 0.15
    assert kernel["simulated"] is not real
    picture = shown(page.locator(".p2p-picture img"))
    assert sha(picture.tobytes()) == kernel["data"]
    frames = page.evaluate("() => window.frames_seen")
    live = [at for at, kind, _, _ in frames if kind == "data:image/webp"]
    rate = (len(live) - 1) / (live[-1] - live[0]) * 1000
    print(f"{name}: {len(live)} live frames, {rate:.1f} frames/s")
    assert 5 <= rate <= 13
    assert len({(left, top) for _, _, left, top in frames}) == 1, "the picture jumps"


def test_every_figure_has_words_and_a_place_on_the_screen(lab_page: LabPage) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="To the end").click()
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    page.locator(".p2p-ladder img").wait_for()
    tabs = ["Ladder", "Over time", "Window", "Round trips"]
    page.locator(".p2p-tabs").scroll_into_view_if_needed()
    for number, title in enumerate(tabs):
        page.get_by_role("tab", name=title).click()
        image = page.locator(".p2p-tabs img:visible")
        image.wait_for()
        assert len(image.get_attribute("alt") or "") > 20
        assert shown(image).size[0] > 500
        lab_page.screenshot(f"transfer-panel-tab-{number + 1}")
    page.get_by_role("tab", name="Numbers").click()
    page.get_by_role("rowheader", name="DATA lost").wait_for()
    lab_page.screenshot("transfer-panel-tab-5")
    page.get_by_role("tab", name="As code").click()
    page.get_by_text("p2plab.simulate_picture(picture, setup, link)").wait_for()
    lab_page.screenshot("transfer-panel-tab-6")


def test_dragging_the_moment_shows_the_picture_as_it_was_then(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="To the end").click()
    page.locator(".p2p-ladder img").wait_for()
    page.get_by_label("Moment [%]").fill("50")
    page.get_by_label("Moment [%]").press("Enter")
    page.get_by_text(re.compile(r"s: 11\d of 172")).wait_for()
    page.locator(".p2p-ladder img:not([alt*='from 0 '])").wait_for()
    picture = shown(page.locator(".p2p-picture img")).convert("RGB")
    assert (213, 94, 0) in {
        picture.getpixel((x, picture.height - 1)) for x in range(16)
    }, "the last row should not have been there yet"
    lab_page.screenshot("transfer-panel-moment")


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
    page.locator(".p2p-picture img").wait_for()
    page.evaluate(CHOOSE_AND_SEND, ["go-back-N", "selective repeat", "fast"])
    page.locator(".p2p-ladder img").wait_for()
    run_cell(lab_page, 1)
    (sent,) = lab_page.outputs()[1]
    assert sent["data"]["text/plain"] == "('fast', 1)"


def test_stop_half_way_leaves_the_holes_on_the_screen(lab_page: LabPage) -> None:
    page = lab_page.page
    open_panel(lab_page, True)
    page.get_by_label("Protocol").select_option("stop-and-wait")
    page.get_by_role("button", name="Send").click()
    page.get_by_text(re.compile(r"^\d\.\d\d s: \d+ of 172")).wait_for()
    page.get_by_text(re.compile(r"^\d\.\d\d s: [1-9]\d* of 172")).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".p2p-status").get_by_text("Stopped after").wait_for()
    page.locator(".p2p-ladder img").wait_for()
    lab_page.screenshot("transfer-panel-stopped")
    kernel = state(lab_page)
    assert 0 < kernel["progress"] < 1
    assert kernel["rows"] > 0
    picture = shown(page.locator(".p2p-picture img"))
    assert sha(picture.convert("RGB").tobytes()) == kernel["picture"]


def test_a_cell_that_runs_twice_has_one_live_panel(lab_page: LabPage) -> None:
    page = lab_page.page
    open_panel(lab_page, False)
    page.get_by_role("button", name="Send").click()
    run_cell(lab_page, 0)
    page.get_by_text("Ready.").wait_for()
    assert page.locator(".p2p-transfer-panel .p2p-send").count() == 1
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="To the end").click()
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    picture = shown(page.locator(".p2p-picture img"))
    assert sha(picture.tobytes()) == state(lab_page)["data"]


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


def test_the_panel_fits_beside_the_file_browser(lab_page: LabPage) -> None:
    page, server = lab_page.page, lab_page.server
    page.set_viewport_size({"width": 1280, "height": 800})
    peer = "carol = p2plab.PeerPanel(p2plab.Lab(), 'carol')\ncarol"
    server.write("narrow.ipynb", PANEL.format(real=False), "panel.run();", peer)
    page.goto(f"{server.url}/lab/tree/narrow.ipynb?token={server.token}&reset")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.locator(".jp-DirListing-content").wait_for()
    lab_page.wait_idle()
    run_cell(lab_page, 0)
    page.locator(".p2p-picture img").wait_for()
    assert page.locator(".p2p-tabs").is_hidden()
    run_cell(lab_page, 1)
    page.get_by_text(re.compile(r"^\d\.\d\d s: \d+ of 172")).wait_for()
    lab_page.screenshot("transfer-panel-narrow-1-sending")
    page.locator(".p2p-ladder img").wait_for()
    panel = page.locator(".p2p-transfer-panel")
    panel.scroll_into_view_if_needed()
    lab_page.screenshot("transfer-panel-narrow-2-done")
    edges = """all => all.map(each => each.getBoundingClientRect())
        .map(box => box.left + box.width)"""
    inside = panel.locator("button, input, select, img, .p2p-tabs")
    (border,) = panel.evaluate_all(edges)
    assert max(inside.evaluate_all(edges)) <= border + 1, "something is cut off"
    picture, send = page.locator(".p2p-picture"), page.locator(".p2p-send")
    left, right = send.evaluate_all(edges)[0], picture.evaluate_all(edges)[0]
    assert left < right, "the picture stands beside the controls"
    run_cell(lab_page, 2)
    carol = page.locator(".p2p-peer-panel")
    carol.get_by_role("button", name="Send text").click()
    alert = carol.get_by_role("alert").get_by_text("register a name first")
    alert.wait_for()
    carol.evaluate("each => each.scrollIntoView()")
    lab_page.screenshot("peer-panel-narrow")
    inside = carol.locator("button, input, select, .p2p-inbox")
    (border,) = carol.evaluate_all(edges)
    assert max(inside.evaluate_all(edges)) <= border + 1, "something is cut off"
    below = carol.get_by_role("button", name="Send text").bounding_box()
    place = alert.bounding_box()
    assert below
    assert place
    assert 0 < place["y"] - below["y"] < 60, "it is said where it was pressed"


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
    page.locator(".p2p-status").get_by_text("Done after").wait_for()
    assert alert.count() == 0


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
    from p2plab.content.sample import sample_picture

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
