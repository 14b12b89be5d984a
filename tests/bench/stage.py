"""The stage: from a turned knob to the new run, and frames while a long run plays."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from figures import Figure

import p2plab

sys.path.append(str(Path(__file__).parents[1]))

SOON: Final = 0.3  # from a turned knob to what it does [s]
SMOOTH: Final = 30  # frames in a second
ROUNDS: Final = 15
FRAMES: Final = """async (seconds) => {
    const stage = document.querySelector(".p2p-stage").stage;
    stage.speed = stage.scene.end / seconds;
    let drawn = 0;
    const drawNow = stage.drawNow.bind(stage);
    stage.drawNow = () => { drawn++; drawNow(); };
    const began = performance.now();
    stage.play(0);
    while (stage.playing) await new Promise(requestAnimationFrame);
    return drawn / ((performance.now() - began) / 1000);
}"""


def knob(protocol: str) -> Iterator[Figure]:
    """Turn the loss, and wait until the stage has the new run."""
    panel = p2plab.TransferPanel(key=f"bench {protocol}", protocol=protocol).wait()
    took = []
    for percent in range(1, ROUNDS + 1):
        begun = time.perf_counter()
        panel.set(loss=percent / 100).wait()
        took.append(time.perf_counter() - begun)
    panel.close()
    yield Figure(
        f"a turned knob, {protocol}, 172 payloads",
        f"{1000 * median(took):.0f} ms, at most {1000 * max(took):.0f}",
        f"asked: {1000 * SOON:.0f} ms",
        SOON / median(took),
    )


def playing() -> Iterator[Figure]:
    """Play 20,000 rows in Chromium, from the page that `save` writes."""
    from browser import BROWSERS
    from playwright.sync_api import sync_playwright

    link = p2plab.Link(delay=0.02, loss=0.05, seed=1)
    setup = p2plab.Setup("selective_repeat", window=64)
    run = p2plab.simulate(
        setup.sender(), setup.receiver(), [bytes(1000)] * 4_300, link
    ).trace
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "run.html"
        p2plab.Stage(run).save(path)
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, BROWSERS))),
            args=["--no-sandbox"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        page.locator(".p2p-stage .lifelines").wait_for()
        rate = page.evaluate(FRAMES, 10)
        browser.close()
    yield Figure(
        f"a run of {len(run):,} rows plays",
        f"{rate:.0f} frames/s",
        f"asked: {SMOOTH}",
        rate / SMOOTH,
    )


def stage() -> Iterator[Figure]:
    """All of them."""
    for protocol in ("stop_and_wait", "selective_repeat", "fast"):
        yield from knob(protocol)
    yield from playing()
