"""What is sent of a picture is what a browser shows; files are whole or absent."""

from __future__ import annotations

import base64
import errno
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from p2plab.content.chunks import Assembly, cut
from p2plab.content.pictures import opened
from p2plab.core.files import write_file
from p2plab.errors import BadContent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Y, X = np.mgrid[:16, :24]
GREYS = (X * 11).astype(np.uint8)
COLOURS = np.dstack([GREYS, (Y * 17).astype(np.uint8), GREYS[:, ::-1]])
SEEN = """async ([kind, data, page]) => {
    const image = new Image();
    image.src = `data:image/${kind};base64,${data}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext("2d");
    pen.fillStyle = page;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0);
    const {data: pixels} = pen.getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, Array.from(pixels)];
}"""


def chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def raw_png(values: Any, bits: int, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of greys or colours with these chunks before its pixels.

    values: of less than 8 bits, two or more are in a byte.
    """
    height, width, *colours = np.shape(values)
    width *= 8 // min(bits, 8)
    head = struct.pack(">IIBBBBB", width, height, bits, 2 if colours else 0, 0, 0, 0)
    flat = np.asarray(values, ">u2" if bits == 16 else np.uint8).reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in flat)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def swapped() -> bytes:
    """A profile that says red is green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        srgb.replace(b"rXYZ", b"?XYZ")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"?XYZ", b"gXYZ")
    )


def masked_bmp() -> bytes:
    """A BMP with 4 bits for each colour and for alpha."""
    pixels = np.arange(64, dtype="<u2") * 1021
    head = struct.pack("<IiiHHI20x", 124, 8, 8, 1, 16, 3)
    head += struct.pack("<4I", 0xF00, 0xF0, 0xF, 0xF000)
    file = b"BM" + struct.pack("<IHHI", 138 + 128, 0, 0, 138)
    return file + head.ljust(124, b"\0") + pixels.tobytes()


COLOUR = Image.fromarray(COLOURS)
DEEP = np.linspace(0, 65_535, 16 * 24).reshape(16, 24).astype(np.uint16)
P3 = numbers(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
PICTURES = {
    "grey of 16 bits": ("png", raw_png(DEEP, 16)),
    "colours of 16 bits": (
        "png",
        raw_png(np.dstack([DEEP, DEEP.T.reshape(16, 24), DEEP]), 16),
    ),
    "tRNS of 4 bits": ("png", raw_png(GREYS[:, :12], 4, (b"tRNS", b"\0\1"))),
    "tRNS of greys": ("png", raw_png(GREYS, 8, (b"tRNS", b"\0\x21"))),
    "tRNS of 16 bits": (
        "png",
        raw_png(DEEP, 16, (b"tRNS", DEEP[3, 4].astype(">u2").tobytes())),
    ),
    "tRNS of colours": ("png", raw_png(COLOURS, 8, (b"tRNS", b"\0\0\0\0\0\xfd"))),
    "alpha of a palette": (
        "png",
        saved(COLOUR.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
    ),
    "gAMA": ("png", raw_png(COLOURS, 8, (b"gAMA", numbers(100_000)))),
    "gAMA of greys": ("png", raw_png(GREYS, 8, (b"gAMA", numbers(60_000)))),
    "gAMA of sRGB": ("png", raw_png(COLOURS, 8, (b"gAMA", numbers(45_455)))),
    "gAMA and cHRM": (
        "png",
        raw_png(COLOURS, 8, (b"gAMA", numbers(45_455)), (b"cHRM", P3)),
    ),
    "sRGB before gAMA": (
        "png",
        raw_png(COLOURS, 8, (b"gAMA", numbers(100_000)), (b"sRGB", b"\0")),
    ),
    "cICP before gAMA": (
        "png",
        raw_png(COLOURS, 8, (b"cICP", b"\x0c\x0d\0\1"), (b"gAMA", numbers(100_000))),
    ),
    "profile of a PNG": ("png", saved(COLOUR, "PNG", icc_profile=swapped())),
    "profile of a JPEG": (
        "jpeg",
        saved(COLOUR, "JPEG", quality=100, subsampling=0, icc_profile=swapped()),
    ),
    "profile of a WebP": (
        "webp",
        saved(COLOUR, "WEBP", lossless=True, icc_profile=swapped()),
    ),
    "broken profile": ("png", saved(COLOUR, "PNG", icc_profile=b"no profile")),
    "CMYK": ("jpeg", saved(COLOUR.convert("CMYK"), "JPEG", quality=100)),
    "turned by EXIF": (
        "jpeg",
        saved(COLOUR, "JPEG", quality=100, subsampling=0, exif=turned(6)),
    ),
    "mirrored by EXIF": ("png", saved(COLOUR, "PNG", exif=turned(5))),
    "animation": (
        "gif",
        saved(COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(180)]),
    ),
    "animation after another picture": (
        "png",
        saved(
            COLOUR,
            "PNG",
            save_all=True,
            default_image=True,
            append_images=[COLOUR.rotate(180)],
        ),
    ),
    "first picture that covers a part": (
        "gif",
        (lambda gif: gif[:6] + b"\x30\0\x20\0" + gif[10:])(saved(COLOUR, "GIF")),
    ),
    "BMP with masks": ("bmp", masked_bmp()),
    "icon": (
        "x-icon",
        saved(COLOUR.resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)]),
    ),
}


@pytest.mark.browser
def test_each_picture_is_what_chromium_shows_of_it(chromium: Browser) -> None:
    page = chromium.new_page()
    wrong = {}
    for name, (kind, data) in PICTURES.items():
        ours = opened(data, name).convert("RGBA")
        for paper, colour in (("#fff", "white"), ("#000", "black")):
            words = [kind, base64.b64encode(data).decode(), paper]
            height, width, pixels = page.evaluate(SEEN, words)
            theirs = np.reshape(pixels, (height, width, 4)).astype(int)
            on_paper = Image.new("RGBA", ours.size, colour)
            on_paper.alpha_composite(ours)
            if on_paper.size != (width, height):
                wrong[name] = f"{on_paper.size}, not {(width, height)}"
            elif (worst := np.abs(theirs - np.asarray(on_paper)).max()) > 3:
                wrong[name] = f"{worst} on {colour}"
    page.close()
    assert wrong == {}


def test_what_no_browser_opens_keeps_its_meaning_too() -> None:
    tiff = saved(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    white_is_zero = np.asarray(opened(tiff, "a"))
    assert (white_is_zero == 255 - (DEEP >> 8)).all()
    packet = b'<x:xmpmeta xmlns:tiff="t"><a tiff:Orientation="6"/></x:xmpmeta>'
    assert opened(saved(COLOUR, "JPEG", xmp=packet), "a").size == (24, 16)
    half = Image.new("LA", (2, 2), (100, 128))
    assert opened(half.convert("La"), "a").getpixel((0, 0)) == (99, 99, 99, 128)
    premultiplied = half.convert("RGBA").convert("RGBa")
    assert opened(premultiplied, "a").getpixel((0, 0)) == (99, 99, 99, 128)
    white = opened(Image.new("LAB", (1, 1), (255, 128, 128)), "a")
    assert np.asarray(white).min() >= 254


def test_what_is_masked_in_an_array_is_transparent() -> None:
    gap = GREYS == 121
    picture = np.asarray(opened(np.ma.masked_array(GREYS / 255, gap), "a"))
    assert (picture[..., 3] == np.where(gap, 0, 255)).all()
    assert (picture[~gap][:, 0] == GREYS[~gap]).all()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC: export it as JPEG"),
        (b'<?xml version="1.0"?>\n<svg xmlns="s"/>', "SVG: export it as PNG"),
        (b"%PDF-1.7", "PDF: export the page as PNG"),
        (b"\xff\x0a\xfa", "JPEG XL: export it as JPEG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "camera RAW: export it as JPEG"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video: export one picture"),
        (b"", "is empty"),
        (b"dear diary", "no format that Pillow knows"),
        (SIGNATURE + b"\0\0\0\x0dIHDR" + bytes(17), "bad header checksum"),
    ],
)
def test_a_file_that_is_no_picture_is_named_by_its_bytes(
    data: bytes, told: str
) -> None:
    with pytest.raises(BadContent, match=rf"photo\.jpg.*{told}"):
        cut(data, kind="picture", name="photo.jpg")


def test_a_picture_that_is_cut_short_says_how_far_it_goes() -> None:
    noise = np.random.default_rng(1).integers(1, 255, (200, 200), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG")
    with pytest.raises(BadContent, match=r"cut short after 1?\d\d of 200 rows"):
        opened(data[: len(data) // 2], "cat.jpg")


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".avif", ".png", ".jpg"])
@pytest.mark.parametrize("mode", ["I;16", "I", "F", "CMYK"])
def test_greys_and_colours_of_every_depth_are_kept_in_every_format(
    mode: str, suffix: str, tmp_path: Path
) -> None:
    middle: Any = {"F": 0.5, "CMYK": (127, 127, 127, 0)}.get(mode, 32_768)
    chunks = cut(Image.new(mode, (16, 16), middle))
    assembly = Assembly(chunks.content)
    for payload in chunks.payloads:
        assembly.add(payload)
    with Image.open(assembly.save(tmp_path / f"grey{suffix}")) as picture:
        assert abs(picture.convert("L").getpixel((8, 8)) - 128) <= 2  # type: ignore[operator]  # one band


# Files


def fails_after(error: OSError) -> Iterator[bytes]:
    yield b"the first half"
    raise error


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "the disk at .* is full"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "in which you may make files"),
        (errno.EIO, "on the disk at"),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_what_cannot_be_written_leaves_nothing_and_names_disk_and_file(
    code: int, told: str, new: bool, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"as it was")
    path = tmp_path / "cat.png" if new else old
    words = rf"{path.name} cannot be written: .*{told}"
    with pytest.raises(OSError, match=words) as why:
        write_file(path, fails_after(OSError(code, "no")), new=new)
    assert why.value.errno == code
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"as it was"]


def test_a_place_where_no_file_can_be_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, told in (
        ("none/a", "there is no folder"),
        ("file", "exists already"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(OSError, match=told):
            write_file(tmp_path / place, [b"abc"], new=True)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert write_file(tmp_path / "file", [b"abc", b"d"]).read_bytes() == b"abcd"
