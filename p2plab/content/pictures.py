"""A picture becomes pixels here, and pixels become a picture again: nowhere else."""

from __future__ import annotations

import io
from math import isqrt
from typing import TYPE_CHECKING, Any, Final

from p2plab.content.content import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    Content,
    check_size,
)
from p2plab.errors import BadContent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

VERMILION: Final = (213, 94, 0)  # holes are hatched in black and this, #D55E00


def opened(thing: object, name: str) -> Image:
    """The picture in a mode that we send, loaded.

    thing: the bytes of a picture file, a PIL image or an array (see `chunks.cut`).
    Raises BadContent for anything else; what is too large is never unpacked.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not isinstance(thing, (bytes, Image.Image)):
        thing = _from_array(thing)
    try:
        image = Image.open(io.BytesIO(thing)) if isinstance(thing, bytes) else thing
        check_size(image.width, image.height, image.mode)
        image = _in_our_modes(ImageOps.exif_transpose(image))
        check_size(image.width, image.height, image.mode)
        image.load()
        return image
    except BadContent:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadContent(
            f"{name} cannot be sent: {error} Our limit is {MAX_PIXELS:,} pixels "
            "(content.MAX_PIXELS)"
        ) from error
    except Exception as error:  # each of Pillow's readers has errors of its own
        why: object = error
        if thing == b"":
            why = "the file is empty"
        elif isinstance(error, UnidentifiedImageError):
            why = "it has no format that Pillow knows"
        raise BadContent(
            f"{name} is not a picture that Pillow can open ({why})"
        ) from error


def _in_our_modes(image: Image) -> Image:
    """Convert to the mode of ours that shows the same."""
    if image.mode in ("I", "F"):
        return _deep_grey(image)
    if image.mode.startswith("I;16"):
        # Pillow turns the bytes of a big-endian picture only on this way round.
        return image if image.mode == "I;16" else image.convert("I").convert("I;16")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _deep_grey(image: Image) -> Image:
    """Turn numbers of 32 bits into greys of 16 bits.

    Whole numbers from 0 to 65,535 stay; floats from 0 to 1 are spread over these. Where
    some lie outside, all are shifted and scaled until they fit.
    """
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.array(image, np.float64), posinf=0, neginf=0)
    white = 1 if image.mode == "F" else 0xFFFF
    low, high = values.min(initial=0), values.max(initial=white)
    values = np.rint((values - low) * (0xFFFF / (high - low)))
    return Image.fromarray(values.astype("<u2"))


def _from_array(thing: object) -> Image:
    import numpy as np
    from PIL import Image

    if not isinstance(thing, np.ndarray):
        raise BadContent(
            f"a {type(thing).__name__} cannot be sent: give a path, bytes, a PIL "
            "image, a numpy array or the value of a FileUpload"
        )
    array: NDArray[Any] = thing[:, :, 0] if thing.shape[2:] == (1,) else thing
    kind, deep = array.dtype.kind, array.dtype.str[1:] == "u2"
    channels = [()] if deep else [(), (3,), (4,)]
    number = deep or kind in "bf" or array.dtype == np.uint8
    if array.ndim < 2 or array.shape[2:] not in channels or not number:
        raise BadContent(
            f"an array of shape {thing.shape} and type {thing.dtype} is no picture: "
            "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, bool or floats "
            'in 0..1, or (H, W) of uint16; astype("uint8") turns numbers into uint8'
        )
    check_size(array.shape[1], array.shape[0], "L")  # before it is copied
    if kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        limits = f"{array.min():g} to {array.max():g}"
        raise BadContent(f"floats must be in 0..1 to be a picture, these are {limits}")
    if kind in "bf":
        array = np.rint(array * 255.0)
    return Image.fromarray(array.astype("<u2" if deep else np.uint8))


def shown(content: Content, raw: bytes, here: NDArray[np.bool_] | None) -> Image:
    """The picture that these raw pixels, row by row, are.

    here: of each pixel whether it has arrived; what has not is hatched in black and
        vermilion, on an RGB picture. None: nothing is missing, or shall be marked.
    """
    import numpy as np
    from PIL import Image

    image = Image.frombytes(content.mode, (content.width, content.height), raw)
    if here is None:
        return image
    if image.mode == "I;16":  # 8 bits of it, as a screen shows it
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    picture = np.array(image.convert("RGB"))
    missing = ~here.reshape(content.height, content.width)
    rows, columns = (np.arange(n).astype(np.uint8) for n in missing.shape)
    striped = (rows[:, None] + columns) & 4 > 0
    picture[missing & striped] = VERMILION
    picture[missing & ~striped] = 0
    return Image.fromarray(picture)


# The orders in which the pixels of a picture travel.


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
    """Raw data as an array of whole pixels, whatever their size."""
    import numpy as np

    return np.frombuffer(raw, dtype=np.dtype((np.void, BYTES_PER_PIXEL[content.mode])))


def in_place(travelled: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    """What belongs to each pixel, row by row, from what came in the order of travel."""
    if places is None:
        return travelled
    picture = travelled.copy()
    picture[places] = travelled
    return picture
