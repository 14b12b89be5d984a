"""Pictures as they were received, one or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL.Image import Image

from p2plab.content.transfer import Transfer
from p2plab.plots.style import given_or_new, say, side_by_side

Picture = Image | np.ndarray[Any, Any]

_SHOWN_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "I", "F")


def picture(
    image: Picture | Transfer,
    ax: Axes | None = None,
    *,
    missing: int = 0,
    total: int | None = None,
    title: str = "received",
) -> Axes:
    """Draw a picture, and say how many of its packets are missing.

    image: a transfer, for what has arrived of it so far; or a PIL image, or an array
        (H, W), (H, W, 3) or (H, W, 4).
    missing, total: packets; a transfer knows them. Without a total, nothing is said.
    Raises BadContent for a transfer of which nothing can be seen here.
    """
    if isinstance(image, Transfer):
        missing, total, image = _counted(image)
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    ax = given_or_new(ax, 5, min(9.0, 0.4 + 5 * height / width))
    grey: dict[str, Any] = {"cmap": "gray"} if pixels.ndim == 2 else {}
    if grey and pixels.dtype == np.uint8:
        grey |= {"vmin": 0, "vmax": 255}
    ax.imshow(pixels, interpolation="nearest", **grey)
    ax.set_axis_off()
    state = f"{missing:,} of {total:,} packets missing" if missing else "complete"
    parts = [title, "" if total is None else state]
    ax.set_title(": ".join(filter(None, parts)), fontsize="medium")
    return say(ax, f"Picture of {width} by {height} pixels, {ax.get_title()}.")


def gallery(pictures: Mapping[str, Picture | Transfer]) -> list[Axes]:
    """Draw titled pictures side by side on a new figure; return their axes."""
    axes = side_by_side(len(pictures), 3.4, 4.0)
    for (name, image), ax in zip(pictures.items(), axes, strict=True):
        picture(image, ax, title=name)
        ax.set_title(ax.get_title().replace(": ", "\n"), fontsize="medium")
    return axes


def _counted(transfer: Transfer) -> tuple[int, int, Image]:
    """How many packets are missing, of how many, and the picture as it is now."""
    image = transfer.picture()
    missing = len(transfer.assembly.missing) if transfer.assembly is not None else 0
    return missing, transfer.offer.content.count, image


def _pixels(image: Picture) -> np.ndarray[Any, Any]:
    if isinstance(image, Image) and image.mode not in _SHOWN_AS_THEY_ARE:
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    pixels = np.asarray(image)
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
