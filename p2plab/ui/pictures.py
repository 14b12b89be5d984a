"""Pictures for the page: small and quick while they change, exact when they stay."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image

LIVE_SIDE: Final = 512  # pixels; what moves need not be sharper
FINAL_SIDE: Final = 1024  # more would take seconds to reach the screen


def figure(image: Image, alt: str, side: int, *, final: bool) -> str:
    """An HTML figure that fills a square of `side` CSS pixels, or what room there is.

    final: in PNG, exact to the pixel up to FINAL_SIDE; otherwise in JPEG.
    """
    most = FINAL_SIDE if final else LIVE_SIDE
    image = _presentable(image)
    if max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most))
    buffer = io.BytesIO()
    if final:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=80)
    kind = "png" if final else "jpeg"
    data = base64.b64encode(buffer.getvalue()).decode()
    sharp = "pixelated" if max(image.size) <= side else "auto"
    style = f"{_square(side)};image-rendering:{sharp}"
    return (
        f'<figure><img alt="{html.escape(alt)}" style="{style}" '
        f'src="data:image/{kind};base64,{data}"></figure>'
    )


def empty(side: int) -> str:
    """The place of a picture that is not there yet."""
    style = f"{_square(side)};background:var(--jp-layout-color2,#eee)"
    return f'<div style="{style}"></div>'


def bar(progress: float, words: str) -> str:
    """A progress bar with a name, and the numbers below it."""
    return (
        f'<progress aria-label="received" max="1" value="{progress:.4f}"></progress>'
        f"<div>{html.escape(words)}</div>"
    )


def _square(side: int) -> str:
    return f"width:{side}px;max-width:100%;aspect-ratio:1"


def _presentable(image: Image) -> Image:
    """The picture in a mode that PNG and people can take."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "CMYK":
        return image.convert("RGB")
    import numpy as np
    from PIL import Image as pillow

    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    grey = (values - low) / (high - low or 1) * 255  # from the darkest to the brightest
    return pillow.fromarray(grey.astype(np.uint8))
