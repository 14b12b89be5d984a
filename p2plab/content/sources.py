"""Whatever a person has, as raw bytes or as a picture in a mode that we send."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from p2plab.content.content import (
    BYTES_PER_PIXEL,
    MAX_BYTES,
    MAX_PIXELS,
    check_bytes,
    check_size,
)
from p2plab.errors import BadContent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


def unpacked(thing: object) -> tuple[object, str]:
    """The thing, with uploads and paths unpacked, and the name that it brings."""
    if isinstance(thing, (tuple, list)):  # the value of a FileUpload
        if len(thing) != 1 or not isinstance(thing[0], Mapping):
            raise BadContent("choose one file to upload, and upload it before sending")
        thing = thing[0]
    if isinstance(thing, Mapping):
        if not {"name", "content"} <= thing.keys():
            raise BadContent(
                "this is not the value of a FileUpload: no name and content"
            )
        return bytes(thing["content"]), str(thing["name"])
    if isinstance(thing, (str, os.PathLike)):
        path = Path(thing)
        return path, path.name
    if isinstance(thing, (bytearray, memoryview)):
        return bytes(thing), ""
    return thing, ""


def kind_of(thing: object, name: str) -> str:
    """The kind of content that somebody means who does not say it."""
    if not isinstance(thing, (bytes, Path)):
        return "picture"
    if not name:
        return "bytes"
    from PIL import Image  # only now: it takes 10 ms, which bytes need not wait for

    suffix = PurePosixPath(name).suffix.lower()
    known = Image.registered_extensions().get(suffix) in Image.OPEN  # PDF is not
    return "picture" if known else "file"


def raw_bytes(thing: object) -> bytes:
    """The bytes themselves, or those of a file; no more than we send."""
    if isinstance(thing, bytes):
        check_bytes(len(thing))
        return thing
    if not isinstance(thing, Path):
        raise BadContent(
            f"{type(thing).__name__} is neither bytes nor the path of a file"
        )
    try:
        if thing.exists() and not thing.is_file():  # a folder, or a device without end
            raise BadContent(f"{thing} is not a file")
        with thing.open("rb") as file:
            check_bytes(os.fstat(file.fileno()).st_size)
            raw = file.read(MAX_BYTES + 1)  # it may be growing
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error  # which names the file again
        raise BadContent(f"{thing} cannot be read: {why}") from None
    check_bytes(len(raw))
    return raw


def opened(thing: object, name: str) -> Image:
    """A loaded picture in a mode that we send; if too large, it is never unpacked."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(thing, Path):
        thing = raw_bytes(thing)
    if not isinstance(thing, (bytes, Image.Image)):
        thing = _from_array(thing)
    try:
        image = Image.open(io.BytesIO(thing)) if isinstance(thing, bytes) else thing
        check_size(image.width, image.height, image.mode)
        return _in_our_modes(ImageOps.exif_transpose(image))
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
    if image.mode.startswith("I;16") and image.mode != "I;16":
        image = image.convert("I").convert("I;16")
    elif image.mode in ("P", "PA"):
        clear = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if clear else "RGB")
    elif image.mode not in BYTES_PER_PIXEL:
        image = image.convert("L" if image.mode == "1" else "RGB")
    check_size(image.width, image.height, image.mode)
    image.load()
    return image


def _from_array(thing: object) -> Image:
    import numpy as np
    from PIL import Image

    if not isinstance(thing, np.ndarray):
        raise BadContent(
            f"a {type(thing).__name__} cannot be sent: give a path, bytes, a PIL "
            "image, a numpy array or the value of a FileUpload"
        )
    array = thing[:, :, 0] if thing.ndim == 3 and thing.shape[2] == 1 else thing
    mode, kind = _mode_of(array), array.dtype.kind
    if mode is None:
        raise BadContent(
            f"an array of shape {thing.shape} and type {thing.dtype} is no picture: "
            "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, bool or floats "
            'in 0..1, or (H, W) of uint16; astype("uint8") turns numbers into uint8'
        )
    height, width = array.shape[:2]
    check_size(width, height, mode)
    if kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        limits = f"{array.min():g} to {array.max():g}"
        raise BadContent(f"floats must be in 0..1 to be a picture, these are {limits}")
    if kind in "bf":
        array = np.rint(array * 255.0)
    pixels = array.astype("<u2" if mode == "I;16" else np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def _mode_of(array: NDArray[Any]) -> str | None:
    if array.ndim < 2:
        return None
    mode = {(): "L", (3,): "RGB", (4,): "RGBA"}.get(array.shape[2:])
    bits = array.dtype.itemsize * 8
    match array.dtype.kind:
        case "b" | "f":
            return mode
        case "u" if bits == 8:
            return mode
        case "u" if bits == 16 and mode == "L":
            return "I;16"
        case _:
            return None


def as_path(typed: str) -> Path:
    """Return the path that is meant: bare, in quotes, or with backslashes for spaces.

    What exists as it was typed is that, so Windows' own backslashes are no escapes.
    """
    bare = Path(typed.strip()).expanduser()
    if bare.exists():
        return bare
    words: list[str] = []
    with suppress(ValueError):  # an apostrophe in a name
        words = shlex.split(typed)
    quoted = typed.strip()[0] in "\"'"
    if len(words) != 1 or not (quoted or os.name == "posix"):
        return bare
    return Path(words[0]).expanduser()
