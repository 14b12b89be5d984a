"""A browser's Python has no threads and no sockets: what needs neither works there."""

from __future__ import annotations

import threading

import pytest
from browser_python import in_browser_python, missing
from matplotlib import pyplot
from packaging.requirements import Requirement
from test_environment import PROJECT

from p2plab import check, plots, sample_picture, simulate_picture
from p2plab.core.link import Link
from p2plab.measure.experiments import sweep
from p2plab.protocols import PROTOCOLS, BestEffortReceiver, BestEffortSender, Setup
from p2plab.sim.simulator import simulate

LACKS = missing()

PAGES = ["best_effort", "stop_and_wait", "go_back_n", "selective_repeat", "fast"]
PROGRAM = f"""
import json
from p2plab.core.link import Link
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

def digest(name):
    setup = Setup(name, window=4)
    link = Link(loss=0.1, jitter=0.02, corrupt=0.1, reorder=0.1, rate=1e6, seed=11)
    payloads = [b"%d" % number for number in range(50)]
    return simulate(setup.sender(), setup.receiver(), payloads, link).trace.digest()

digests = {{name: digest(name) for name in {PAGES}}}
json.dumps(digests)
"""


@pytest.mark.skipif(bool(LACKS), reason=LACKS)
def test_a_run_in_a_browser_s_python_leaves_the_same_trace_as_here() -> None:
    here: dict[str, object] = {}
    exec(PROGRAM, here)
    assert in_browser_python(PROGRAM) == here["digests"]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("no_threads")
def test_virtual_time_the_checker_and_figures_need_no_thread() -> None:
    link = Link(loss=0.1, rate=1e6, seed=1)
    for protocol in PROTOCOLS:
        setup = Setup(protocol)
        assert simulate(setup.sender(), setup.receiver(), [b"a", b"b"], link).delivered
    transfer = simulate_picture(sample_picture(32), link=link)
    assert transfer.assembly is not None
    assert transfer.assembly.verify()
    plots.picture(transfer)
    plots.over_time(transfer.trace)
    results = sweep([Setup()], losses=[0.0, 0.1], seeds=[1], progress=True)
    plots.goodput_over_loss(results)
    pyplot.close("all")
    verdict = check(BestEffortSender, BestEffortReceiver, "fifo", budget=0.1)
    assert verdict.kind == "broken"


def test_a_browser_s_python_is_asked_for_nothing_that_needs_threads_or_sockets() -> (
    None
):
    wanted = map(Requirement, PROJECT["project"]["dependencies"])
    there = {"sys_platform": "emscripten"}
    asked = {
        each.name for each in wanted if not each.marker or each.marker.evaluate(there)
    }
    assert asked == {
        *("ipywidgets", "anywidget", "numpy", "pillow", "matplotlib", "tqdm")
    }
