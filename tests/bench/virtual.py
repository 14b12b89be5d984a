"""Virtual time: packets per second beside simpy and ns-3, memory, browsers, sweeps.

ns-3 is compiled from Debian's libns3-dev with g++, where it is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from browser_python import in_browser_python, missing
from figures import Figure, seconds

from p2plab import Link, Setup, simulate
from p2plab.core.endpoint import FixedWindow
from p2plab.core.rtt import Rfc6298
from p2plab.measure.experiments import sweep
from p2plab.protocols import SelectiveRepeatReceiver, SelectiveRepeatSender
from p2plab.sim.simulator import Run

ROUNDS = 9
LOSSES = (0.0, 0.05)
COUNT, WINDOW = 10_000, 64
PAYLOADS = [bytes(1200)] * COUNT
NS3 = Path(__file__).with_name("ns3") / "transfer.cc"
NS3_PARTS = ("core", "network", "internet", "point-to-point")


def page(loss: float, record: bool = True) -> Run:
    """The protocol's page alone: what the models in simpy and ns-3 do."""
    sender = SelectiveRepeatSender(Rfc6298(), FixedWindow(WINDOW))
    link = Link(delay=0.01, rate=100e6, loss=loss, seed=1)
    receiver = SelectiveRepeatReceiver(WINDOW)
    return simulate(sender, receiver, PAYLOADS, link, record=record)


def with_finish(loss: float) -> Run:
    """The same and a FIN, as a notebook runs it."""
    setup = Setup("selective_repeat", window=WINDOW)
    link = Link(delay=0.01, rate=100e6, loss=loss, seed=1)
    return simulate(setup.sender(), setup.receiver(), PAYLOADS, link)


def sent(run: Run) -> int:
    """Count the packets that a run put on its link, both ways."""
    return sum(row[2] in ("send", "retransmit") for row in run.trace.rows)


def ns3_program(folder: str) -> str:
    """Compile the model in ns-3 and return its path, or nothing without ns-3."""
    program = str(Path(folder) / "transfer")
    command = ["g++", "-O2", "-std=c++17", str(NS3), "-o", program]
    command += [f"-lns3-{part}" for part in NS3_PARTS]
    if shutil.which("g++") is None:
        return ""
    done = subprocess.run(command, capture_output=True)
    return program if done.returncode == 0 else ""


def ns3_rate(program: str, loss: float) -> float:
    """Packets per second of CPU time, the set-up of its network not counted."""
    rates = []
    for _ in range(ROUNDS):
        command = [program, str(COUNT), str(loss)]
        taken, packets = subprocess.check_output(command, text=True).split()
        rates.append(int(packets) / float(taken))
    return median(rates)


def simpy_transfer() -> Callable[..., tuple[int, object]] | None:
    """Return the model in simpy, where simpy is installed."""
    try:
        from simpy_model import transfer
    except ImportError:
        return None
    return transfer


def speeds(program: str) -> Iterator[Figure]:
    """Ours, in its three forms, beside the others; medians of CPU time."""
    simpy = simpy_transfer()
    for loss in LOSSES:
        runs: dict[str, Callable[[], object]] = {
            "traced": partial(page, loss),
            "traced, with a FIN": partial(with_finish, loss),
            "without a trace": partial(page, loss, record=False),
        }
        if simpy is not None:
            runs["simpy"] = partial(simpy, PAYLOADS, loss)
        times = seconds(runs, ROUNDS, time.process_time)
        packets = dict.fromkeys(times, sent(page(loss)))
        if simpy is not None:
            packets["simpy"] = simpy(PAYLOADS, loss)[0]
        rates = {name: packets[name] / median(times[name]) for name in times}
        others = {"simpy, same rows": rates.pop("simpy", None)}
        others["ns-3, no trace"] = ns3_rate(program, loss) if program else None
        for name, rate in rates.items():
            value = f"{rate:,.0f} packets/s"
            for other, its in others.items():
                beside = f"{other}: {its:,.0f}" if its else f"{other}: not installed"
                yield Figure(
                    f"loss {loss:.0%}, {name}",
                    value,
                    beside,
                    rate / its if its else None,
                )


LONG = """
import json, sys, time
from peak import peak
from virtual import WINDOW, sent
from p2plab import Link, Setup, simulate
setup = Setup("selective_repeat", window=WINDOW)
payloads = [bytes(1200)] * int(sys.argv[1])
link = Link(delay=0.01, rate=100e6, loss=0.05, seed=1)
before, start = peak(), time.process_time()
run = simulate(setup.sender(), setup.receiver(), payloads, link)
taken = time.process_time() - start
grown = peak() - before
print(json.dumps([taken, grown, sent(run), len(run.trace), len(run.trace.states)]))
"""


def long_runs() -> Iterator[Figure]:
    """Ten times as many payloads, each run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = {}
    for count in (COUNT, 10 * COUNT):
        command = [sys.executable, "-c", LONG, str(count)]
        tries = [
            json.loads(subprocess.check_output(command, env=environment))
            for _ in range(3)
        ]
        found[count] = min(tries)
    short, long = (found[count] for count in (COUNT, 10 * COUNT))
    per_packet = [1e6 * taken / packets for taken, _, packets, _, _ in (short, long)]
    yield Figure(
        "100,000 payloads, time for a packet",
        f"{per_packet[1]:.2f} us",
        f"10,000 payloads: {per_packet[0]:.2f} us",
        per_packet[0] / per_packet[1],
    )
    _, grown, _, rows, states = long
    yield Figure(
        "100,000 payloads, memory of the traced run",
        f"{grown / 1e6:.0f} MB",
        f"{rows:,} rows, {states:,} states, all else",
    )
    yield Figure(
        "  for each event of the trace", f"{grown / (rows + states):.0f} bytes"
    )


def trace_cost() -> Iterator[Figure]:
    """What tracing costs, for each of the trace's rows and states."""
    for loss in LOSSES:
        runs = {"on": partial(page, loss), "off": partial(page, loss, record=False)}
        times = seconds(runs, ROUNDS, time.process_time)
        trace = page(loss).trace
        more = min(times["on"]) - min(times["off"])
        yield Figure(
            f"loss {loss:.0%}, a trace's cost for an event",
            f"{1e9 * more / (len(trace) + len(trace.states)):.0f} ns",
            "the same run without a trace",
            min(times["off"]) / min(times["on"]),
        )


BROWSER = """
import json, time
from p2plab.core.link import Link
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

def rate(loss):
    setup, best = Setup("selective_repeat", window=64), 1e9
    payloads = [bytes(1200)] * 10_000
    for _ in range(5):
        link = Link(delay=0.01, rate=100e6, loss=loss, seed=1)
        start = time.perf_counter()
        run = simulate(setup.sender(), setup.receiver(), payloads, link)
        best = min(best, time.perf_counter() - start)
    return sum(row[2] in ("send", "retransmit") for row in run.trace.rows) / best

json.dumps([rate(0.0), rate(0.05)])
"""


def in_browsers() -> Iterator[Figure]:
    """The same program in Pyodide and in this Python; the best of five."""
    lacks = missing()
    there = [None, None] if lacks else in_browser_python(BROWSER)
    for loss, rate in zip(LOSSES, there, strict=True):
        what = f"loss {loss:.0%}, traced, with a FIN, in Pyodide"
        if rate is None:
            yield Figure(what, lacks)
            continue
        times = seconds({"": partial(with_finish, loss)}, 5)[""]
        here = sent(with_finish(loss)) / min(times)
        yield Figure(what, f"{rate:,.0f} packets/s", f"here: {here:,.0f}", rate / here)


def sweeps() -> Iterator[Figure]:
    """600 runs, one after the other and on two cores."""
    names = ("stop_and_wait", "go_back_n", "selective_repeat")
    setups = [Setup(name) for name in names]
    losses = [each / 50 for each in range(10)]
    take = partial(sweep, setups, losses, range(20), count=600)
    with ProcessPoolExecutor(2) as pool:
        take(executor=pool)
        runs = {"alone": take, "two": partial(take, executor=pool)}
        times = seconds(runs, 1)
    alone, two = (min(times[name]) for name in runs)
    yield Figure(
        "3 protocols, 10 losses, 20 seeds, 600 packets",
        f"{two:.2f} s with 2 processes",
        f"in this process: {alone:.2f} s",
        alone / two,
    )


def virtual() -> Iterator[Figure]:
    """Return all of it."""
    with tempfile.TemporaryDirectory() as folder:
        yield from speeds(ns3_program(folder))
    yield from trace_cost()
    yield from long_runs()
    yield from in_browsers()
    yield from sweeps()
