"""The protocols and the simulator in a browser's Python: the same trace, quickly."""

from __future__ import annotations

import pytest
from browser_python import in_browser_python, missing

from p2plab.core.link import Link
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

LACKS = missing()

PAGES = ["best_effort", "stop_and_wait", "go_back_n", "selective_repeat"]

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

json.dumps({{name: digest(name) for name in {PAGES}}})
"""


def digest(name: str) -> str:
    setup = Setup(name, window=4)
    link = Link(loss=0.1, jitter=0.02, corrupt=0.1, reorder=0.1, rate=1e6, seed=11)
    payloads = [b"%d" % number for number in range(50)]
    return simulate(setup.sender(), setup.receiver(), payloads, link).trace.digest()


@pytest.mark.skipif(bool(LACKS), reason=LACKS)
def test_a_run_in_a_browser_s_python_leaves_the_same_trace_as_here() -> None:
    there = in_browser_python(PROGRAM)
    assert there == {name: digest(name) for name in PAGES}
