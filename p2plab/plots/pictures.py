"""Pictures as they were received, one or several side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from PIL.Image import Image

from p2plab.content.chunks import Assembly
from p2plab.content.pictures import opened
from p2plab.content.transfer import Transfer
from p2plab.core.link import CORRUPT, LOSS, OVERFLOW
from p2plab.core.packet import DATA
from p2plab.measure.metrics import deliveries, transmissions
from p2plab.plots.style import given_or_new, say, side_by_side

Picture = Image | np.ndarray[Any, Any]

# What becomes of a packet that is not here.
HARM: Final = {LOSS: "lost", OVERFLOW: "lost", CORRUPT: "damaged"}
NEVER: Final = "never came"
LATER: Final = "not come yet"


def picture(
    image: Picture | Transfer,
    ax: Axes | None = None,
    *,
    title: str = "received",
    at: float | None = None,
) -> Axes:
    """Draw a picture, and say how many of its packets are not here, and why.

    What was lost or damaged is hatched; what has not come yet is plain grey.
    image: a transfer, for what has arrived of it so far; or a PIL image, or an array
        (H, W), (H, W, 3) or (H, W, 4), as `send_picture` takes it.
    at: draw a transfer as it was at that moment, by its trace [s]; its sender must be
        here.
    Raises BadContent for a transfer of which nothing can be seen here.
    """
    state = ""
    if isinstance(image, Transfer):
        transfer, image = image, image.picture()
        arrived = transfer.assembly if at is None else _arrived(transfer, at)
        if arrived is not None:
            fates = _fates(transfer, arrived.missing, at)
            awaited = {number for number, fate in fates.items() if fate == LATER}
            image = arrived.picture(awaited=awaited)
            state = _counted(fates, arrived.content.count)
    seen = opened(image, "this picture")
    width, height = seen.size
    ax = given_or_new(ax, 5, min(9.0, 0.4 + 5 * height / width))
    ax.imshow(np.asarray(seen), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    ax.set_title(": ".join(filter(None, (title, state))), fontsize="medium")
    return say(ax, f"Picture of {width} by {height} pixels, {ax.get_title()}.")


def gallery(
    pictures: Mapping[str, Picture | Transfer], *, at: float | None = None
) -> list[Axes]:
    """Draw titled pictures side by side on a new figure; return their axes.

    at: as for `picture`.
    """
    axes = side_by_side(len(pictures), 3.4, 4.0)
    for (name, image), ax in zip(pictures.items(), axes, strict=True):
        picture(image, ax, title=name, at=at)
        ax.set_title(ax.get_title().replace(": ", "\n"), fontsize="medium")
    return axes


def _arrived(transfer: Transfer, at: float) -> Assembly:
    """What had arrived of a transfer at a moment."""
    trace, part = transfer.trace, Assembly(transfer.offer.content)
    for when, number in deliveries(trace.rows, transmissions(trace)):
        if when <= at:
            part.add(transfer.payloads[number])
    return part


def _fates(
    transfer: Transfer, missing: Iterable[int], at: float | None
) -> dict[int, str]:
    """What had become of each missing packet, at a moment or until now."""
    unknown = NEVER if transfer.ended and at is None else LATER
    until = inf if at is None else at
    fates = dict.fromkeys(missing, unknown)
    for move in transmissions(transfer.trace):
        if move.kind == DATA and move.payload in fates and move.moment <= until:
            harms = [HARM.get(what) for when, what in move.fates if when <= until]
            fates[move.payload] = next(filter(None, harms), unknown)
    return fates


def _counted(fates: Mapping[int, str], total: int) -> str:
    """How many packets are not here, as in "2 of 172 packets damaged, 9 lost"."""
    counts = sorted(Counter(fates.values()).items())
    told = ", ".join(f"{count:,} {fate}" for fate, count in counts)
    return told.replace(" ", f" of {total:,} packets ", 1) or "complete"
