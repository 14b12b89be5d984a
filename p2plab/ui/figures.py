"""What a transfer panel shows when a transfer is over: figures, numbers, and code."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import fields
from statistics import median
from typing import Final

import numpy as np

from p2plab.content.sample import sample_picture
from p2plab.content.transfer import Transfer
from p2plab.core.link import Link
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.measure.metrics import summarise, transmissions
from p2plab.protocols import Setup
from p2plab.ui.choice import SIZES
from p2plab.ui.runs import Order

WIDTH, HEIGHT = 9.8, 5.1  # [inch], of 100 pixels
MOST_ARROWS: Final = 40
MOST_OF_A_BURST: Final = 16  # more arrows side by side are a block of colour


def ladder(
    trace: Trace, start: float = 0.0, names: tuple[str, str] = (SENDER, RECEIVER)
) -> str:
    """The ladder diagram, from a moment on [s]; names: of its two lifelines."""
    from p2plab import plots  # not before somebody looks: matplotlib takes its time

    most = _most(trace, start)
    note = f"At most {most} packets are drawn."
    ax = plots.blank(WIDTH, HEIGHT)
    plots.ladder(trace, ax, start=start, max_arrows=most, names=names, note=note)
    hint = "Drag the moment, and the ladder begins there."
    return f"<div>{hint}</div>{plots.to_html(ax)}"


def _most(trace: Trace, start: float) -> int:
    """How many packets a ladder from a moment on [s] can show apart."""
    moves = [each for each in transmissions(trace) if each.moment >= start]
    ways = [
        each.arrived_at - each.sent_at
        for each in moves[:MOST_ARROWS]
        if each.arrived_at is not None and each.sent_at is not None
    ]
    if not ways:
        return MOST_ARROWS
    within = moves[:MOST_ARROWS][-1].moment - moves[0].moment
    return MOST_OF_A_BURST if within < median(ways) else MOST_ARROWS


def over_time(trace: Trace) -> str:
    """Packets sent, lost, sent again and delivered."""
    from p2plab import plots

    return plots.to_html(plots.over_time(trace, plots.blank(WIDTH, HEIGHT)))


def window(trace: Trace) -> str:
    """The sender's window."""
    from p2plab import plots

    return plots.to_html(plots.window_over_time(trace, plots.blank(WIDTH, HEIGHT)))


def rtt(trace: Trace) -> str:
    """Round trips, and the timeout that was made of them."""
    from p2plab import plots

    return plots.to_html(plots.rtt(trace, plots.blank(WIDTH, HEIGHT)))


def numbers(trace: Trace) -> str:
    """The table."""
    from p2plab import plots

    return plots.table(summarise(trace))


def autopsy(transfer: Transfer) -> str:
    """What went wrong, with the ladder of it."""
    from p2plab.checker.diagnosis import autopsy

    if not transfer.went_wrong:
        return "<p>Nothing went wrong, so there is nothing to explain.</p>"
    return autopsy(transfer)._repr_html_()


# class in the page -> (title, what draws it)
FIGURES: Final[dict[str, tuple[str, Callable[[Trace], str]]]] = {
    "ladder": ("Ladder", ladder),
    "over-time": ("Over time", over_time),
    "window": ("Window", window),
    "rtt": ("Round trips", rtt),
    "numbers": ("Numbers", numbers),
}


def code(order: Order) -> str:
    """The same transfer as a cell of a notebook."""
    more = f', order="{order.order}"' if order.order != "rows" else ""
    lines = [
        "import p2plab",
        f"picture = {_picture(order.picture)}",
        f"setup = {_call(order.setup)}",
        f"link = {_call(order.link)}",
    ]
    if order.real:
        lines += [
            "lab = p2plab.Lab()",
            'alice, bob = lab.peer("alice"), lab.peer("bob")',
            f'transfer = alice.send_picture("bob", picture, setup, link{more})',
        ]
    else:
        lines += [f"transfer = p2plab.simulate_picture(picture, setup, link{more})"]
    lines += ["transfer.wait().picture()"]
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def _picture(picture: object) -> str:
    """How the sample is made; nobody knows how to make what somebody brought."""
    for size in SIZES:
        alike = getattr(picture, "shape", ()) == (size, size, 3)
        if alike and np.array_equal(np.asarray(picture), sample_picture(size)):
            return f"p2plab.sample_picture({size})"
    return '"a file of yours"'


def _call(thing: Setup | Link) -> str:
    """How it is made: by which protocol, and with what differs from the defaults."""
    plain = Setup(thing.protocol) if isinstance(thing, Setup) else Link()
    given = [
        f"{each.name}={getattr(thing, each.name)!r}"
        for each in fields(thing)
        if each.name == "protocol"
        or getattr(thing, each.name) != getattr(plain, each.name)
    ]
    return f"p2plab.{type(thing).__name__}({', '.join(given)})"
