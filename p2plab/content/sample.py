"""A picture to send at once, painted from formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def sample_picture(size: int = 256) -> NDArray[np.uint8]:
    """A landscape, (size, size, 3), the same on every machine.

    Only operations that IEEE 754 rounds exactly: no sine, its last digit varies.
    """
    import numpy as np

    if not 1 <= size <= 2048:  # painted in floats, 24 bytes for a pixel and a layer
        raise ValueError(f"size must be in [1, 2048], got {size}")
    across = (np.arange(size) + 0.5) / size
    x, y = across[None, :, None], across[:, None, None]
    scene = _with_balloon(_with_hills(_evening(x, y), x, y), x, y)
    return np.rint(np.clip(scene, 0, 255)).astype(np.uint8)


def _bump(t: Floats) -> Floats:
    """Smooth hills of height 1, one in every unit of t."""
    f: Floats = t % 1
    return 16 * f * f * (1 - f) * (1 - f)


def _evening(x: Floats, y: Floats) -> Floats:
    import numpy as np

    sky = np.array([40.0, 90, 190]) * (1 - y) + np.array([255.0, 210, 160]) * y
    far = np.sqrt((x - 0.70) * (x - 0.70) + (y - 0.27) * (y - 0.27))
    halo = np.clip(1 - far / 0.45, 0, 1) * (0.35 + 0.65 * _bump(far * 14))
    sky = sky + (np.array([255.0, 235, 150]) - sky) * halo * 0.75
    return np.where(far < 0.11, np.array([255.0, 225, 60]), sky)


def _with_hills(scene: Floats, x: Floats, y: Floats) -> Floats:
    import numpy as np

    for top, height, pitch, shift, colour in (
        (0.62, 0.20, 1.6, 0.35, (105.0, 95, 160)),
        (0.74, 0.14, 2.3, 0.10, (35.0, 140, 95)),
        (0.90, 0.10, 1.2, 0.60, (120.0, 185, 60)),
    ):
        ridge = top - height * _bump(x * pitch + shift)
        furrows = 0.80 + 0.20 * _bump((y - ridge) * 18)
        scene = np.where(y > ridge, np.array(colour) * furrows, scene)
    return scene


def _with_balloon(scene: Floats, x: Floats, y: Floats) -> Floats:
    import numpy as np

    east, south = (x - 0.28) / 0.17, (y - 0.30) / 0.19
    stripe = np.floor((east / np.sqrt(np.clip(1 - south * south, 0.01, 1)) + 1) * 3.5)
    red, white = np.array([225.0, 45, 50]), np.array([250.0, 245, 235])
    skin = np.where(stripe % 2 == 0, red, white) * (1 - 0.25 * np.clip(east, 0, 1))
    ropes = (np.abs(np.abs(x - 0.28) - 0.035) < 0.005) & (y > 0.45) & (y < 0.56)
    basket = (np.abs(x - 0.28) < 0.045) & (y > 0.55) & (y < 0.61)
    scene = np.where(ropes | basket, np.array([110.0, 65, 35]), scene)
    return np.where(east * east + south * south < 1, skin, scene)
