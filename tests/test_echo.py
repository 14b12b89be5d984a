"""A press waits for what the browser had set before it, but not for ever."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from p2plab.net.threads import spawn
from p2plab.ui import panel
from p2plab.ui.panel import Echo


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Those who wait for a browser that never answers."""
    started = []

    def spawned(*what: Any, **more: Any) -> None:
        started.append(spawn(*what, **more))

    monkeypatch.setattr(panel, "PATIENCE", 0.05)
    monkeypatch.setattr(panel, "spawn", spawned)
    return started


def test_presses_without_an_answer_act_one_after_the_other(
    threads: list[threading.Thread],
) -> None:
    both, done = threading.Barrier(2), []

    def act() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.1)
            done.append("at the same time")
        done.append("once")

    asked = Echo()
    asked.then(act)
    asked.then(act)
    for each in threads:
        each.join(20)
    assert done == ["once", "once"]


def test_a_panel_that_was_closed_does_not_act_any_more(
    threads: list[threading.Thread],
) -> None:
    asked, done = Echo(), []
    asked.then(lambda: done.append(1))
    asked.close()
    threads[0].join(20)
    assert done == []
