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
    """The picture as a browser shows it: sRGB, 8 bits, of mode L, RGB or RGBA; loaded.

    thing: the bytes of a picture file, a PIL image or an array (see `chunks.cut`).
    Raises BadContent for anything else; what is too large is never unpacked.
    """
    from PIL import Image, ImageOps

    image: Any = (
        thing if isinstance(thing, (bytes, Image.Image)) else _from_array(thing)
    )
    try:
        if isinstance(image, bytes):
            image = Image.open(io.BytesIO(image))
            if image.info.get("default_image"):  # for who cannot show an animation
                image.seek(1)
        check_size(image.width, image.height, image.mode)
        bits, format = _bits(image), image.format
        image.load()
        image = image if isinstance(thing, bytes) else image.copy()
        image.info["bits"] = bits
        image.info["white_is_zero"] = getattr(image, "tag_v2", {}).get(262) == 0
        for other in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
            image.info.pop(other, None)  # no browser turns a picture by these
        if format != "WEBP":  # in which browsers do not look for it
            image = ImageOps.exif_transpose(image)
        seen = _as_seen(image)
        check_size(seen.width, seen.height, seen.mode)
        return seen
    except BadContent:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadContent(
            f"{name} cannot be sent: {error} Our limit is {MAX_PIXELS:,} pixels "
            "(content.MAX_PIXELS)"
        ) from error
    except Exception as error:  # each of Pillow's readers has errors of its own
        why = _what_is_wrong(thing, image, error)
        raise BadContent(f"{name} cannot be opened: {why}") from error


# What people take for pictures, by how it begins after some bytes, and the cure.
_OTHER_FILES: Final = (
    (4, b"ftypheic", "it is HEIC: export it as JPEG"),
    (4, b"ftypheix", "it is HEIC: export it as JPEG"),
    (4, b"ftypmif1", "it is HEIC: export it as JPEG"),
    (4, b"ftyphevc", "it is HEIC: export it as JPEG"),
    (4, b"ftypmsf1", "it is HEIC: export it as JPEG"),
    (4, b"ftypcrx", "it is a camera's raw file: export it as JPEG"),
    (4, b"ftyp", "it is a video: take one picture of it"),
    (0, b"\x1aE\xdf\xa3", "it is a video: take one picture of it"),
    (8, b"AVI ", "it is a video: take one picture of it"),
    (0, b"%PDF", "it is a PDF: export the page as PNG"),
    (0, b"\xff\x0a", "it is JPEG XL: export it as PNG or JPEG"),
    (0, b"\0\0\0\x0cJXL ", "it is JPEG XL: export it as PNG or JPEG"),
    (0, b"PK\3\4", "it is a ZIP archive or a document: take the picture out of it"),
)


def _what_is_wrong(thing: object, image: Any, error: Exception) -> str:
    """The true cause for which a picture cannot be opened, and a cure."""
    from PIL import Image, UnidentifiedImageError

    if thing == b"":
        return "the file is empty"
    if isinstance(thing, bytes) and isinstance(error, UnidentifiedImageError):
        for start, magic, words in _OTHER_FILES:
            if thing[start:].startswith(magic):
                return words
        head = thing[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if b"<svg" in head:
            return "it is SVG, a drawing without pixels: export it as PNG"
        if head.startswith((b"<!doctype html", b"<html")):
            return "it is a web page: save the picture itself"
        return "it has no format that Pillow knows: export it as PNG or JPEG"
    if isinstance(image, Image.Image) and "truncated" in str(error):
        if rows := _rows(image):
            return f"it is cut short after {rows} of {image.height} rows: get it again"
        return f"it is cut short before the first row: get it again ({error})"
    return f"it is damaged, or of a kind that Pillow cannot read ({error})"


def _rows(image: Image) -> int:
    """How many rows of a file that is cut short could be unpacked."""
    from PIL import Image, ImageChops, ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image.load()
        seen = image.convert("RGB")
        # What did not come is of one colour, such as black or grey.
        empty = Image.new(
            "RGB", seen.size, seen.getpixel((seen.width - 1, seen.height - 1))
        )
        box = ImageChops.difference(seen, empty).getbbox()
    except Exception:  # a format that shows nothing of half a file
        return 0
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return box[3] if box else 0


def _as_seen(image: Image) -> Image:
    """Turn what Pillow has into what a browser shows."""
    info, transparency = image.info, image.info.pop("transparency", None)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "F" or image.mode.startswith("I"):
        alpha = _not_equal(image, transparency)
        image = _eight_bits(image)
    elif transparency is not None:
        image.info["transparency"] = _in_eight_bits(image, transparency)
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    elif image.has_transparency_data:
        full = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        image = image.convert(full) if full else image
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    else:
        alpha = None
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    image = _in_srgb(image, info)
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(alpha)
    return image


def _bits(image: Image) -> str:
    """The bits of a number in a PNG, if they are not 8; known before it is loaded."""
    tile = getattr(image, "tile", None)
    raw = tile[0][3] if tile else ""  # such as RGB;16B
    raw = raw if isinstance(raw, str) else ""
    return "".join(filter(str.isdigit, raw.partition(";")[2]))


def _in_eight_bits(image: Image, transparency: Any) -> Any:
    """The colour or grey that is transparent in a PNG, whose pixels have 8 bits here.

    Pillow gives it as the file has it: of 1, 2, 4, 8 or 16 bits.
    """
    bits = image.info["bits"]
    if image.mode == "RGB" and bits == "16":
        return tuple(value >> 8 for value in transparency)
    if image.mode == "L" and bits in ("2", "4"):
        return transparency * (255 // ((1 << int(bits)) - 1))
    return transparency


def _not_equal(image: Image, grey: int | None) -> Image | None:
    """An alpha channel for a deep picture in which one grey is transparent."""
    import numpy as np
    from PIL import Image

    if grey is None:
        return None
    return Image.fromarray(np.where(np.asarray(image) == grey, 0, 255).astype(np.uint8))


def _eight_bits(image: Image) -> Image:
    """Greys of 16 or 32 bits as greys of 8 bits: the one place where they are scaled.

    Whole numbers mean 0 to 65,535, floats 0 to 1. Where some lie outside, all are
    shifted and scaled until they fit.
    """
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.array(image, np.float64), posinf=0, neginf=0)
    white = 1 if image.mode == "F" else 0xFFFF
    low, high = values.min(initial=0), values.max(initial=white)
    values = (values - low) / (high - low)
    # Pillow turns the polarity of such a TIFF with 8 bits, but not with 16.
    if image.info.get("white_is_zero") and image.mode.startswith("I;16"):
        values = 1 - values
    # As browsers do it, the high byte of 16 bits.
    return Image.fromarray(np.minimum(256 * values, 255).astype(np.uint8))


def _in_srgb(image: Image, info: Any) -> Image:
    """Convert to sRGB what has a colour profile or a gamma, without its alpha.

    A profile counts before the sRGB chunk, that one before gAMA and cHRM.
    Source: Portable Network Graphics, third edition, section 4.3.
    """
    from PIL import ImageCms

    if profile := info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            image = image.convert("L") if space == "GRAY" else image
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            image = converted or image
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # browsers ignore a profile that they cannot read, or that fits not
    elif (gamma := info.get("gamma")) and "srgb" not in info:
        image = _from_gamma(image, gamma, info.get("chromaticity"))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _curve(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """From light to sRGB's numbers, both 0 to 1. Source: IEC 61966-2-1."""
    import numpy as np

    low, high = 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, low, high)


SRGB: Final = (
    0.3127,
    0.329,
    0.64,
    0.33,
    0.3,
    0.6,
    0.15,
    0.06,
)  # white, red, green, blue


def _from_gamma(image: Image, gamma: float, primaries: Any) -> Image:
    """Convert from a gamma, and from other primaries than sRGB's if they are given."""
    import numpy as np
    from PIL import Image

    light = (np.arange(256) / 255) ** (1 / gamma)
    if image.mode == "L" or np.allclose(primaries or SRGB, SRGB, atol=1e-3):
        table = np.rint(255 * _curve(light)).astype(int).tolist()
        return image.point(table * len(image.getbands()))
    matrix = np.linalg.inv(_to_xyz(SRGB)) @ _to_xyz(primaries)
    picture = np.array(image)
    for row in picture:  # one by one: floats need much memory
        row[:] = np.rint(255 * _curve(np.clip(light[row] @ matrix.T, 0, 1)))
    return Image.fromarray(picture)


def _to_xyz(primaries: Any) -> NDArray[np.float64]:
    """From linear RGB with these primaries to XYZ, in which white is (1, 1, 1)."""
    import numpy as np

    white, *colours = (
        np.array([x / y, 1.0, (1 - x - y) / y])
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    columns = np.array(colours).T
    scaled = columns * np.linalg.solve(columns, white)
    return np.asarray(scaled / white[:, None])


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
        array = np.rint(np.ma.filled(array, 0) * 255.0)
    image = Image.fromarray(np.ma.filled(array, 0).astype("<u2" if deep else np.uint8))
    hidden = np.ma.getmaskarray(array).reshape(*array.shape[:2], -1).any(axis=2)
    if hidden.any():  # what is masked is not there: it is transparent
        image = _as_seen(image).convert("RGBA")
        alpha = np.array(image.getchannel("A"))
        alpha[hidden] = 0
        image.putalpha(Image.fromarray(alpha))
    return image


def shown(content: Content, raw: bytes, here: NDArray[np.bool_] | None) -> Image:
    """The picture that these raw pixels, row by row, are.

    here: of each pixel whether it has arrived; what has not is hatched in black and
        vermilion, in colour. None: nothing is missing, or shall be marked.
    """
    import numpy as np
    from PIL import Image

    image = Image.frombytes(content.mode, (content.width, content.height), raw)
    if here is None:
        return image
    picture = np.array(image.convert("RGBA" if image.mode == "RGBA" else "RGB"))
    colours = picture[:, :, :3]
    missing = ~here.reshape(content.height, content.width)
    rows, columns = (np.arange(n).astype(np.uint8) for n in missing.shape)
    striped = (rows[:, None] + columns) & 4 > 0
    colours[missing & striped] = VERMILION
    colours[missing & ~striped] = 0
    if image.mode == "RGBA":
        picture[missing, 3] = 255
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
