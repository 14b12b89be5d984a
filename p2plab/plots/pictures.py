"""Pictures as they were received, one or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL.Image import Image

from p2plab.plots.style import given_or_new, say

Picture = Image | np.ndarray[Any, Any]

_SHOWN_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "I", "F")


def picture(
    image: Picture,
    ax: Axes | None = None,
    *,
    missing: int = 0,
    total: int | None = None,
    title: str = "received",
) -> Axes:
    """Draw a picture, and say how many of its packets are missing.

    image: a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4).
    missing, total: packets; without a total nothing is said of them.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    ax = given_or_new(ax, 5, min(9.0, 0.4 + 5 * height / width))
    grey: dict[str, Any] = {"cmap": "gray"} if pixels.ndim == 2 else {}
    if grey and pixels.dtype == np.uint8:
        grey |= {"vmin": 0, "vmax": 255}
    ax.imshow(pixels, interpolation="nearest", **grey)
    ax.set_axis_off()
    heading = title
    if total is not None:
        state = f"{missing:,} of {total:,} packets missing" if missing else "complete"
        heading = f"{title}: {state}" if title else state
    ax.set_title(heading, fontsize="medium")
    return say(ax, f"Picture of {width} by {height} pixels, {heading}.")


def gallery(pictures: Mapping[str, Picture]) -> list[Axes]:
    """Draw titled pictures side by side on a new figure; return their axes."""
    if not pictures:
        raise ValueError("a gallery needs at least one picture")
    from matplotlib import pyplot

    size = (3 * len(pictures), 3.3)
    _, grid = pyplot.subplots(
        1, len(pictures), figsize=size, dpi=100, squeeze=False, layout="constrained"
    )
    places = zip(pictures.items(), grid[0], strict=True)
    return [picture(image, ax, title=title) for (title, image), ax in places]


def _pixels(image: Picture) -> np.ndarray[Any, Any]:
    if isinstance(image, Image) and image.mode not in _SHOWN_AS_THEY_ARE:
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
