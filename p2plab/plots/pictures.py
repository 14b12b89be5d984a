"""Pictures as they were received, one or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL.Image import Image

from p2plab.content.pictures import opened
from p2plab.content.transfer import Transfer
from p2plab.plots.style import given_or_new, say, side_by_side

Picture = Image | np.ndarray[Any, Any]


def picture(
    image: Picture | Transfer,
    ax: Axes | None = None,
    *,
    title: str = "received",
) -> Axes:
    """Draw a picture, and say how many of its packets are missing.

    image: a transfer, for what has arrived of it so far; or a PIL image, or an array
        (H, W), (H, W, 3) or (H, W, 4), as `send_picture` takes it.
    Raises BadContent for a transfer of which nothing can be seen here.
    """
    state = ""
    if isinstance(image, Transfer):
        arrived, image = image.assembly, image.picture()
        if arrived is not None:
            missing, total = len(arrived.missing), arrived.content.count
            state = f"{missing:,} of {total:,} packets missing"
            state = state if missing else "complete"
    seen = opened(image, "this picture")
    width, height = seen.size
    ax = given_or_new(ax, 5, min(9.0, 0.4 + 5 * height / width))
    ax.imshow(np.asarray(seen), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    ax.set_title(": ".join(filter(None, (title, state))), fontsize="medium")
    return say(ax, f"Picture of {width} by {height} pixels, {ax.get_title()}.")


def gallery(pictures: Mapping[str, Picture | Transfer]) -> list[Axes]:
    """Draw titled pictures side by side on a new figure; return their axes."""
    axes = side_by_side(len(pictures), 3.4, 4.0)
    for (name, image), ax in zip(pictures.items(), axes, strict=True):
        picture(image, ax, title=name)
        ax.set_title(ax.get_title().replace(": ", "\n"), fontsize="medium")
    return axes
