"""A picture is what a browser shows of the same file; saving it is all or nothing."""

from __future__ import annotations

import base64
import errno
import io
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from p2plab import Link, plots, sample_picture, simulate_picture
from p2plab.content.chunks import Assembly, cut
from p2plab.content.pictures import opened
from p2plab.core import files
from p2plab.core.trace import Trace
from p2plab.errors import BadContent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RAMP = np.arange(64, dtype=np.uint8).reshape(4, 16) * 4
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
DEEP = RAMP.astype(np.uint16) * 256 + RAMP[::-1]
CHROMATICITIES = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
DRAWN = """async url => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return [canvas.height, canvas.width, [...data]];
}"""


def png(pixels: np.ndarray, kind: int, depth: int = 8, **chunks: bytes) -> bytes:
    """A PNG of these rows of numbers, with more chunks before them."""

    def chunk(name: str, data: bytes) -> bytes:
        body = name.encode() + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = pixels.reshape(len(pixels), -1)
    if depth < 8:
        bits = np.unpackbits(rows.astype(np.uint8)[:, :, None], axis=2)[:, :, -depth:]
        raw = [np.packbits(row.ravel()).tobytes() for row in bits]
    else:
        raw = [row.astype(">u2" if depth == 16 else "u1").tobytes() for row in rows]
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name, data) for name, data in chunks.items())
    body = chunk("IDAT", zlib.compress(b"".join(b"\0" + row for row in raw)))
    start = b"\x89PNG\r\n\x1a\n" + chunk("IHDR", header)
    return start + more + body + chunk("IEND", b"")


def as_file(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def profile() -> bytes:
    """A profile that is not sRGB, though it looks like a picture's own."""
    lab = ImageCms.createProfile("sRGB")
    data = bytearray(ImageCms.ImageCmsProfile(lab).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def gamma(value: float) -> bytes:
    return struct.pack(">I", round(value * 100_000))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
    b"</x:xmpmeta>"
)
PALETTE = bytes(value for n in range(64) for value in (4 * n, 255 - n, n))
PICTURE = Image.fromarray(COLOURS)
CLEAR = np.dstack([COLOURS, RAMP])
SWAPPED = profile()
FILES = {
    "grey": png(RAMP, 0),
    "grey, one value transparent": png(RAMP, 0, tRNS=b"\0\x28"),
    "grey of 16 bits": png(DEEP, 0, 16),
    "grey of 16 bits, all alike": png(np.full_like(DEEP, 32768), 0, 16),
    "grey of 16 bits, one value transparent": png(
        DEEP, 0, 16, tRNS=DEEP[1, 3].astype(">u2").tobytes()
    ),
    "grey of 4 bits, one value transparent": png(RAMP // 16, 0, 4, tRNS=b"\0\3"),
    "grey of 2 bits": png(RAMP // 64, 0, 2),
    "grey of 1 bit, white transparent": png(RAMP // 128, 0, 1, tRNS=b"\0\1"),
    "grey and alpha": png(np.dstack([RAMP, RAMP[::-1]]), 4),
    "grey and alpha of 16 bits": png(np.dstack([DEEP, DEEP[::-1]]), 4, 16),
    "colours": png(COLOURS, 2),
    "colours, one transparent": png(
        COLOURS, 2, tRNS=COLOURS[1, 3].astype(">u2").tobytes()
    ),
    "colours of 16 bits": png(np.dstack([DEEP, DEEP[::-1], DEEP[:, ::-1]]), 2, 16),
    "colours and alpha": png(CLEAR, 6),
    "a palette": png(RAMP // 4, 3, PLTE=PALETTE),
    "a palette with alpha": png(
        RAMP // 4, 3, PLTE=PALETTE, tRNS=bytes(range(0, 250, 5))
    ),
    "gamma 1": png(COLOURS, 2, gAMA=gamma(1)),
    "gamma 1, grey of 16 bits": png(DEEP, 0, 16, gAMA=gamma(1)),
    "gamma 1, a palette": png(RAMP // 4, 3, gAMA=gamma(1), PLTE=PALETTE),
    "gamma 1, but sRGB": png(COLOURS, 2, gAMA=gamma(1), sRGB=b"\0"),
    "gamma and primaries": png(
        COLOURS, 2, gAMA=gamma(0.45455), cHRM=struct.pack(">8I", *CHROMATICITIES)
    ),
    "a profile": as_file(PICTURE, "PNG", icc_profile=SWAPPED),
    "a profile, in JPEG": as_file(PICTURE, "JPEG", quality=95, icc_profile=SWAPPED),
    "a profile, in WebP": as_file(PICTURE, "WEBP", lossless=True, icc_profile=SWAPPED),
    "a profile beside alpha": as_file(
        Image.fromarray(CLEAR), "PNG", icc_profile=SWAPPED
    ),
    "a profile that is none": as_file(PICTURE, "PNG", icc_profile=b"nothing"),
    "JPEG, turned by its EXIF": as_file(PICTURE, "JPEG", quality=95, exif=turned()),
    "JPEG, turned by XMP alone": as_file(PICTURE, "JPEG", quality=95, xmp=XMP),
    "PNG, turned by its EXIF": as_file(PICTURE, "PNG", exif=turned()),
    "WebP, turned by its EXIF": as_file(PICTURE, "WEBP", lossless=True, exif=turned()),
    "JPEG, grey": as_file(PICTURE.convert("L"), "JPEG", quality=95),
    "JPEG, CMYK": as_file(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "GIF": as_file(PICTURE.convert("P"), "GIF"),
    "GIF, animated": as_file(
        PICTURE, "GIF", save_all=True, append_images=[Image.new("RGB", (16, 4))]
    ),
    "WebP, animated": as_file(
        PICTURE,
        "WEBP",
        lossless=True,
        save_all=True,
        append_images=[Image.new("RGB", (16, 4))],
    ),
    "PNG, animated, with another picture for who cannot": as_file(
        Image.new("RGB", (16, 4), "red"),
        "PNG",
        save_all=True,
        default_image=True,
        append_images=[PICTURE, Image.new("RGB", (16, 4))],
    ),
    "BMP": as_file(PICTURE, "BMP"),
    "ICO": as_file(PICTURE.resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)]),
}


@pytest.mark.browser
def test_what_is_sent_is_what_a_browser_shows(chromium: Browser) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        wrong = {}
        for name, data in FILES.items():
            url = f"data:image/x;base64,{base64.b64encode(data).decode()}"
            height, width, shown = page.evaluate(DRAWN, url)
            theirs = np.array(shown, float).reshape(height, width, 4)
            ours = np.asarray(opened(data, name).convert("RGBA"), float)
            if ours.shape != theirs.shape:
                wrong[name] = f"{ours.shape} instead of {theirs.shape}"
                continue
            for page_colour in (0, 255):  # a dark page and a light one
                apart = np.abs(on(ours, page_colour) - on(theirs, page_colour))
                if apart.max() > 4:  # a colour that is converted may be rounded
                    wrong[name] = f"{apart.max():.0f} apart"
    assert wrong == {}


def on(picture: np.ndarray, page: int) -> np.ndarray:
    """What one sees of a picture on a page of some grey."""
    alpha = picture[..., 3:] / 255
    return picture[..., :3] * alpha + page * (1 - alpha)


@pytest.mark.parametrize(
    ("thing", "pixel"),
    [
        (Image.new("LA", (1, 1), (200, 100)).convert("La"), (200, 200, 200, 100)),
        (Image.new("RGBA", (1, 1), (200, 0, 8, 128)).convert("RGBa"), (200, 0, 8, 128)),
        (Image.new("I;16", (1, 1), 32768), (128, 128, 128, 255)),
        (Image.new("F", (1, 1), 0.5), (128, 128, 128, 255)),
        (np.full((1, 1), 32768, np.uint16), (128, 128, 128, 255)),
        (np.ma.masked_equal([[7]], 7).astype(np.uint8), (0, 0, 0, 0)),
        (np.ma.masked_equal([[7]], 8).astype(np.uint8), (7, 7, 7, 255)),
    ],
)
def test_what_python_holds_keeps_its_greys_and_its_alpha(
    thing: Any, pixel: tuple[int, ...]
) -> None:
    found = np.asarray(opened(thing, "it").convert("RGBA"), int)[0, 0]
    assert np.abs(found - pixel).max() <= 2  # premultiplied: rounded


def test_a_deep_tiff_that_counts_from_white_is_no_negative() -> None:
    tiff = bytearray(as_file(Image.fromarray(DEEP.astype("<u2")), "TIFF"))
    at = tiff.index(struct.pack("<HHI", 262, 3, 1))  # PhotometricInterpretation
    tiff[at + 8 : at + 10] = b"\0\0"
    found = np.asarray(opened(bytes(tiff), "it"))
    assert np.abs(found - (255.0 - (DEEP >> 8))).max() <= 1


def test_a_picture_looks_the_same_with_holes_complete_in_a_plot_and_saved(
    tmp_path: Path,
) -> None:
    chunks = cut(FILES["grey of 16 bits, all alike"], kind="picture", payload_size=20)
    some, all_of_it = Assembly(chunks.content), Assembly(chunks.content)
    for payload in chunks.payloads:
        all_of_it.add(payload)
    some.add(chunks.payloads[0])
    assert np.asarray(some.picture().convert("L"))[0, 0] == 128
    assert (np.asarray(all_of_it.picture()) == 128).all()
    for suffix in ("png", "tiff", "webp", "gif", "avif", "bmp", "jpg"):
        with Image.open(all_of_it.save(tmp_path / f"grey.{suffix}")) as saved:
            greys = np.asarray(saved.convert("L"), int)
            assert np.abs(greys - 128).max() <= 2
    ax = plots.picture(all_of_it.picture(), plots.blank())
    assert (np.asarray(ax.images[0].get_array()) == 128).all()
    assert ax.images[0].get_clim() == (0, 255)


def test_what_is_transparent_stays_so_while_holes_are_left() -> None:
    transfer = simulate_picture(
        FILES["colours and alpha"], link=Link(loss=0.3, seed=1), payload_size=24
    ).wait()
    whole = transfer.assembly
    assert whole is not None
    chunks = cut(FILES["colours and alpha"], kind="picture", payload_size=24)
    some = Assembly(chunks.content)
    for payload in chunks.payloads[3:]:
        some.add(payload)
    assert (np.asarray(some.picture())[-1] == np.asarray(whole.picture())[-1]).all()
    assert (np.asarray(some.picture())[0, :5, 3] == 255).all(), "a hole can be seen"


JPEG = as_file(Image.fromarray(sample_picture(200)), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC: export it as JPEG"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"%PDF-1.7", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"", "empty"),
        (b"hello", "no format"),
        (JPEG[: len(JPEG) // 2], r"cut short after (9|10|11)\d of 200 rows"),
        (JPEG[:700], "cut short"),
    ],
)
def test_what_is_no_picture_is_told_what_it_is(data: bytes, words: str) -> None:
    with pytest.raises(BadContent, match=words):
        cut(data, kind="picture", name="photo.jpg")


# Files that are whole, or not there


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_full_disk_leaves_nothing_behind_and_is_named(
    code: int,
    before: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    target = tmp_path / "run.json"
    if before:
        target.write_bytes(before)
    monkeypatch.setattr(files, "_put", fail)
    with pytest.raises(OSError, match=r"run\.json cannot be written") as why:
        Trace().save(target)
    assert why.value.errno == code
    assert ("is full" in str(why.value)) == (code == errno.ENOSPC)
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"] * bool(before)
    assert not before or target.read_bytes() == before


def test_a_name_that_is_taken_is_not_overwritten_unless_one_asks(
    tmp_path: Path,
) -> None:
    target = tmp_path / "a"
    files.write(target, [b"1"], new=True)
    with pytest.raises(FileExistsError, match="Take another name"):
        files.write(target, [b"2"], new=True)
    assert target.read_bytes() == b"1"
    files.write(target, [b"3", b"4"])
    assert target.read_bytes() == b"34"
    with pytest.raises(FileNotFoundError, match="Make it first"):
        files.write(tmp_path / "none" / "a", [b""])
    assert len(list(tmp_path.iterdir())) == 1
