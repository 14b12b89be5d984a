"""Orders in which the pixels of a picture travel."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from p2plab.content.content import BYTES_PER_PIXEL, Content

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def places(content: Content) -> NDArray[np.int64] | None:
    """The places of the pixels in the order of travel; None: they keep their order."""
    if content.order == "rows":
        return None
    if content.order == "interleaved":
        return _scattered(content.width, content.height)
    per_chunk = content.chunk_size // BYTES_PER_PIXEL[content.mode]
    return _tiled(content.width, content.height, isqrt(per_chunk))


def _scattered(width: int, height: int) -> NDArray[np.int64]:
    """Sorted so that any stretch of the journey is spread evenly over the picture.

    Source: M. Roberts, The Unreasonable Effectiveness of Quasirandom Sequences (2018):
    the fractions of x / g + y / g^2, g^3 = g + 1, here in units of 2^-32.
    """
    import numpy as np

    x = np.arange(width, dtype=np.uint32) * np.uint32(3_242_174_889)
    y = np.arange(height, dtype=np.uint32) * np.uint32(2_447_445_414)
    return np.argsort((y[:, None] + x).ravel(), kind="stable")


def _tiled(width: int, height: int, side: int) -> NDArray[np.int64]:
    """Bands of `side` rows, column by column, every other band from right to left."""
    import numpy as np

    grid = np.arange(width * height, dtype=np.int64).reshape(height, width)
    whole = height - height % side
    bands = grid[:whole].reshape(-1, side, width).transpose(0, 2, 1).copy()
    bands[1::2] = bands[1::2, ::-1].copy()
    rest = grid[whole:].T[:: -1 if len(bands) % 2 else 1]
    return np.concatenate([bands.ravel(), rest.ravel()])


def pixels(raw: bytes, content: Content) -> NDArray[np.void]:
    """Return raw data as an array of whole pixels, whatever their size."""
    import numpy as np

    return np.frombuffer(raw, dtype=np.dtype((np.void, BYTES_PER_PIXEL[content.mode])))
