"""Whatever Pillow or numpy holds becomes the pixels that a browser shows: only here.

The sender converts once; both ends show, plot and save these pixels as they are.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from p2plab.content.content import MAX_PIXELS, check_size
from p2plab.errors import BadContent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Floats = tuple[float, ...]

# What people bring that is no picture to Pillow: how such a file begins, and the cure.
_FOREIGN: Final = (
    (rb"....ftyp(hei|hev|mif1|msf1)", "HEIC: export it as JPEG"),
    (rb"....ftypavi[fs]", "AVIF, which this Pillow cannot read: export it as JPEG"),
    (rb"\xff\x0a|....JXL ", "JPEG XL: export it as JPEG"),
    (rb"(\xef\xbb\xbf)?\s*<(\?xml|!--|!DOCTYPE svg|svg).*", "SVG: export it as PNG"),
    (rb"%PDF", "PDF: export the page as PNG"),
    (
        rb"(II\*\0|MM\0\*).{4}CR|....ftypcrx|FUJIFILM|II(RO|RS|U\0)|\0MRM|FOVb",
        "camera RAW: export it as JPEG",
    ),
    (
        rb"....(ftyp|moov)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]|FLV\x01",
        "a video: export one picture of it as JPEG, or send it as a file",
    ),
)

# Source: ITU-T H.273, tables 2 and 3: x and y of white, red, green and blue; exponents,
# where BT.709 is seen as on its screens (BT.1886), and 0 is the curve of sRGB.
_PRIMARIES: Final = {
    1: (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),  # sRGB, BT.709
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_EXPONENTS: Final = {1: 2.4, 4: 2.2, 5: 2.8, 6: 2.4, 8: 1, 13: 0, 14: 2.4, 15: 2.4}


def opened(thing: object, name: str) -> Image:
    """The picture as a browser shows it: 8 bits, sRGB, in the mode L, RGB or RGBA.

    thing: the bytes of a picture file, a PIL image or an array (see `chunks.cut`).
    Raises BadContent for anything else; what is too large is never unpacked.
    """
    from PIL import Image

    image = None
    try:
        if isinstance(thing, bytes):
            name = f"the file {name}"
            image = _first(thing)
        else:
            image = thing if isinstance(thing, Image.Image) else _from_array(thing)
        check_size(image.width, image.height, image.mode)
        image = as_shown(image)
        check_size(image.width, image.height, image.mode)
        return image
    except BadContent:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadContent(
            f"{name} cannot be sent: {error} Our limit is {MAX_PIXELS:,} pixels "
            "(content.MAX_PIXELS)"
        ) from error
    except Exception as error:  # each of Pillow's readers has errors of its own
        data = thing if isinstance(thing, bytes) else b"?"
        raise BadContent(f"{name} {_why_not(data, image, error)}") from error


def _why_not(data: bytes, image: Image | None, error: Exception) -> str:
    """What is wrong with a file that Pillow refuses, and what to do about it."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        return "is empty: copy or download it again"
    for beginning, words in _FOREIGN:
        if re.match(beginning, data[:1000], re.DOTALL):
            return f"is {words}"
    if isinstance(error, UnidentifiedImageError):  # ask the readers whose kind it is
        error = ValueError("it has no format that Pillow knows")
        for reader, accepts in Image.OPEN.values():
            try:
                if accepts and accepts(data[:16]) is True:
                    reader(io.BytesIO(data), "")
            except Exception as refusal:
                error = refusal
                break
    why = str(error) or repr(error)
    if "truncat" not in why.lower():
        return (
            f"is not a picture that Pillow can open ({why}): take a PNG, JPEG, GIF, "
            "WebP, AVIF or BMP file"
        )
    rows = ""
    with suppress(Exception):  # not every reader fills in what it has read
        assert image is not None
        _, top, _, bottom = image.im.getbbox()
        done = bottom - top if bottom == image.height else bottom  # BMP: upwards
        rows = f" after {done} of {image.height} rows" if done < image.height else ""
    return f"is cut short{rows}: copy or download it again ({why})"


def _first(data: bytes) -> Image:
    """The picture of a file that a browser takes, not unpacked.

    With what Pillow leaves out: cICP of a PNG; masks and profile of a BMP.
    """
    from PIL import Image

    image = _masked_bmp(data) if data[:2] == b"BM" else None
    image = image or Image.open(io.BytesIO(data))
    if image.format == "PNG":
        before = data[: data.find(b"IDAT")]
        if found := re.search(rb"\0\0\0\x04cICP(..)\0\x01", before, re.DOTALL):
            image.info["cicp"] = found[1]
        if getattr(image, "default_image", False):  # for who shows no animations
            image.seek(1)
    elif image.format == "ICO":
        icons: Any = image
        ranks = [(each.square, each.color_depth) for each in icons.ico.entry]
        image = icons.ico.frame(ranks.index(max(ranks)))
    elif data[:2] == b"BM" and data[70:74] == b"DEBM":  # a profile is embedded
        start, size = struct.unpack_from("<II", data, 126)
        image.info["icc_profile"] = data[14 + start : 14 + start + size]
    return image


def _masked_bmp(data: bytes) -> Image | None:
    """A BMP of 16 or 32 bits, whose channels have masks; None for others.

    Source: BITMAPV5HEADER. As in a browser, an alpha that is 0 everywhere is none.
    """
    import numpy as np
    from PIL import Image

    with suppress(struct.error, ValueError):  # Pillow says what is wrong with it
        start, header, width, height, bits, packed = struct.unpack_from(
            "<10xIIii2xHI", data
        )
        if header < 40 or bits not in (16, 32) or packed not in (0, 3, 6):
            return None
        masks = list(struct.unpack_from("<4I", data, 54))
        if packed == 0:
            masks[:3] = (
                (31 << 10, 31 << 5, 31) if bits == 16 else (255 << 16, 65280, 255)
            )
        if header < 56 and packed != 6:
            masks[3] = 0
        check_size(width, abs(height), "RGBA")
        line = -(-width * bits // 32) * 32 // bits  # full words of 32 bits
        count = abs(height) * line
        pixels = np.frombuffer(data, f"<u{bits // 8}", count, start)
        pixels = pixels.reshape(-1, line)[:: -1 if height > 0 else 1, :width]
        if not masks[3] or not (packed or (pixels & masks[3]).any()):
            masks.pop()
        channels = [
            eight_bits((pixels & mask).astype(np.float32) / np.float32(mask or 1))
            for mask in masks
        ]
        return Image.fromarray(np.stack(channels, axis=2))
    return None


def as_shown(image: Image) -> Image:
    """The pixels that a browser shows of what Pillow holds.

    Upright, in 8 bits and sRGB, in the mode L, RGB or RGBA; numbers of 16 bits give
    their upper byte, as in Chromium. Transparent stays transparent.
    """
    from PIL import Image

    upright = _turn(image)  # first: EXIF after the pixels counts for nothing
    tile = getattr(image, "tile", None)
    _, inside, _, layout = tile[0] if tile else ("", None, 0, "")
    image.load()
    said, gif, whole = image.info, image.format == "GIF", (0, 0, *image.size)
    if "transparency" in said and layout in ("L;2", "L;4"):  # Pillow scales the greys
        said["transparency"] *= {"L;2": 85, "L;4": 17}[layout]
    elif "transparency" in said and layout == "RGB;16B":  # ... and halves the colours
        said["transparency"] = tuple(each >> 8 for each in said["transparency"])
    if image.mode[0] in "IF":
        image = _grey(image)
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if gif and inside not in (None, whole):  # what a first picture leaves out
        part, image = image.crop(inside), Image.new("RGBA", image.size)
        image.paste(part, inside)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert(image.mode[:-1])
    with suppress(ImportError):  # a Python in a browser has no ImageCms
        image = _in_srgb(image, said)
    image = image.convert("L" if image.mode == "L" and alpha is None else "RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image if upright is None else image.transpose(upright)


def _turn(image: Image) -> Any:
    """How EXIF says that the picture must be turned; XMP alone says nothing."""
    from PIL.Image import Exif, Transpose

    exif = Exif()
    if image.format != "WEBP":  # where Chromium does not look for it
        with suppress(Exception):  # what cannot be read says nothing
            exif.load(image.info.get("exif") or b"")
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(exif.get(0x0112, 1))


# Greys and colours of more than 8 bits.


def eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Greys and colours of 8 bits: of 16 the upper byte, of floats 255 times 0..1."""
    import numpy as np

    if values.dtype.kind in "bf":
        values = np.rint(values * np.float32(255))
    elif values.dtype.itemsize == 2:
        values = values >> 8
    return values.astype(np.uint8)


def _grey(image: Image) -> Image:
    """Greys in numbers of 16 or 32 bits, as L or LA.

    Whole numbers go from 0 to 65,535; floats to 1, or to 255 or 65,535 where some are
    larger by half. Where some lie far outside, all are shifted and scaled to fit.
    """
    import numpy as np
    from PIL import Image

    numbers = np.asarray(image if image.mode == "F" else image.convert("I"))
    if image.mode != "F" and numbers.min() >= 0 and numbers.max() <= 0xFFFF:
        greys = eight_bits(numbers.astype(np.uint16))
    else:
        values = np.nan_to_num(numbers.astype(np.float64), posinf=0, neginf=0)
        low, high = values.min(), values.max()
        for white in (1, 255, 0xFFFF) if image.mode == "F" else ():
            if -white / 2 <= low and high <= 1.5 * white:
                low, high = 0, white
                break
        low, high = min(low, 0), max(high, 1)
        greys = eight_bits(np.clip((values - low) / (high - low), 0, 1))
    if getattr(image, "tag_v2", {}).get(262) == 0:  # TIFF's PhotometricInterpretation
        greys = 255 - greys  # is WhiteIsZero
    grey = Image.fromarray(greys)
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(numbers != transparent).convert("L"))
    return grey


def _from_array(thing: object) -> Image:
    import numpy as np
    from PIL import Image

    if not isinstance(thing, np.ndarray):
        raise BadContent(
            f"a {type(thing).__name__} cannot be sent: give a path, bytes, a PIL "
            "image, a numpy array or the value of a FileUpload"
        )
    array: NDArray[Any] = thing[:, :, 0] if thing.shape[2:] == (1,) else thing
    number = array.dtype.kind in "bf" or array.dtype.str[1:] in ("u1", "u2")
    if array.ndim < 2 or array.shape[2:] not in [(), (3,), (4,)] or not number:
        raise BadContent(
            f"an array of shape {thing.shape} and type {thing.dtype} is no picture: "
            "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or "
            'floats in 0..1; astype("uint8") turns numbers into uint8'
        )
    check_size(array.shape[1], array.shape[0], "L")  # before it is copied
    masked = np.ma.getmaskarray(array).reshape(*array.shape[:2], -1).any(axis=2)
    array = np.ma.filled(array, 0)
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        limits = f"{array.min():g} to {array.max():g}"
        raise BadContent(f"floats must be in 0..1 to be a picture, these are {limits}")
    image = Image.fromarray(eight_bits(array))
    if masked.any():
        image = image.convert("RGBA")
        image.paste((0, 0, 0, 0), mask=Image.fromarray(masked))
    return image


# Colours: what the numbers of a picture mean, and the numbers that mean it in sRGB.


def _in_srgb(image: Image, said: dict[Any, Any]) -> Image:
    """The colours that a profile means; as they are where it is broken or for others.

    said: what the file says of them.
    """
    profile, lab, mode = said.get("icc_profile"), image.mode == "LAB", image.mode
    told = _told(said)
    if not (profile or told or lab):
        return image
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    with suppress(ImageCms.PyCMSError, OSError):
        if told:
            profile = _made_profile(ImageCms.ImageCmsProfile(srgb).tobytes(), *told)
        given = ImageCms.createProfile("LAB") if lab else io.BytesIO(profile or b"")
        source = ImageCms.ImageCmsProfile(given)
        space = source.profile.xcolor_space.strip()
        if mode == "L" and space == "RGB":
            image = image.convert("RGB")
        if space == {"L": "GRAY", "LAB": "Lab"}.get(image.mode, image.mode):
            seen = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if seen is not None:
                return seen.getchannel("G") if image.mode == "L" else seen
    return image


def _told(said: dict[Any, Any]) -> tuple[tuple[float, ...], float] | None:
    """The primaries and the exponent that a PNG tells in chunks; None for sRGB.

    Source: PNG specification, third edition, 4.3: cICP before iCCP before sRGB before
    gAMA and cHRM. As in Chromium, cHRM counts only with gAMA, and gAMA alone near
    1 / 2.2 means sRGB.
    """
    primaries, exponent = said.get("cicp", (0, 0))
    if primaries in _PRIMARIES and exponent in _EXPONENTS:
        return _PRIMARIES[primaries], _EXPONENTS[exponent]
    gamma, places = said.get("gamma", 0), said.get("chromaticity")
    if said.get("icc_profile") or "srgb" in said or not gamma:
        return None
    if min(places[1::2]) <= 0 if places else abs(2.2 * gamma - 1) < 0.05:
        return None
    return places or _PRIMARIES[1], 1 / gamma


def _made_profile(srgb: bytes, places: tuple[float, ...], exponent: float) -> bytes:
    """Return the profile of sRGB with other primaries and another curve.

    Source: ICC.1:2022, 7.3 (the table of tags), 10.18 (curves), annex E (colours are
    adapted to the white D50 by Bradford's matrix).
    """
    import numpy as np

    cones = np.array(
        [
            [0.8951, 0.2664, -0.1614],
            [-0.7502, 1.7135, 0.0367],
            [0.0389, -0.0685, 1.0296],
        ]
    )
    x, y = np.array(places).reshape(4, 2).T
    white, *colours = np.stack([x / y, y / y, (1 - x - y) / y], axis=1)
    seen = np.transpose(colours) * np.linalg.solve(np.transpose(colours), white)
    adapted = (cones @ [0.9642, 1, 0.8249]) / (cones @ white)
    columns = np.linalg.solve(cones, adapted[:, None] * (cones @ seen)).T
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns + 0.0, strict=True))
    if exponent:
        tags[b"rTRC"] = np.array([0, exponent])  # a power of x, for all three
    made = bytearray(srgb)
    for tag, numbers in tags.items():
        (start,) = struct.unpack_from(">I", made, made.index(tag) + 4)
        whole = np.rint(numbers * 65536).astype(">i4").tobytes()
        made[start + 8 : start + 8 + len(whole)] = whole
    return bytes(made)
