"""Whatever is cut is put together again, and what is missing can be seen."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import struct
import zlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p2plab.content import content
from p2plab.content.chunks import VERMILION, Assembly, cut
from p2plab.content.content import Chunks, Content
from p2plab.content.sample import sample_picture
from p2plab.errors import BadContent, TransferError

MODES = sorted(content.BYTES_PER_PIXEL)
SAMPLE = sample_picture(48)


def picture_of(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    size = width * height * content.BYTES_PER_PIXEL[mode]
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(size))


def together(chunks: Chunks, *missing: int) -> Assembly:
    assembly = Assembly(chunks.content)
    for number, payload in enumerate(chunks.payloads):
        assert number in missing or assembly.add(payload)
    return assembly


def upload(name: str, content: bytes) -> Any:
    """The value of a FileUpload with one file."""
    when = datetime(2024, 1, 1, tzinfo=UTC)
    file = {"name": name, "type": "", "size": len(content), "content": content}
    return ipywidgets.FileUpload(value=(file | {"last_modified": when},)).value


def png(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


# Cutting and putting together


@given(
    mode=st.sampled_from(MODES),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    order=st.sampled_from(content.ORDERS),
    payload_size=st.integers(8, 300),
    seed=st.integers(0, 999),
)
def test_any_picture_survives_cutting_in_any_order(
    mode: str, width: int, height: int, order: str, payload_size: int, seed: int
) -> None:
    picture = picture_of(mode, width, height, seed)
    chunks = cut(picture, order=order, payload_size=payload_size)
    assembly = together(chunks)
    assert max(map(len, chunks.payloads)) <= payload_size
    assert assembly.complete
    assert assembly.verify()
    received = assembly.picture()
    assert (received.mode, received.size) == (mode, picture.size)
    assert received.tobytes() == assembly.data() == picture.tobytes()


@given(
    order=st.sampled_from(content.ORDERS),
    width=st.integers(1, 30),
    height=st.integers(1, 30),
    payload_size=st.integers(7, 200),
    rng=st.randoms(use_true_random=False),
)
def test_any_chunks_in_any_order_show_exactly_their_pixels(
    order: str, width: int, height: int, payload_size: int, rng: random.Random
) -> None:
    sent = np.maximum(np.asarray(picture_of("RGB", width, height)), 1)
    chunks = cut(sent, order=order, payload_size=payload_size)
    arrived = rng.sample(chunks.payloads, rng.randrange(len(chunks.payloads) + 1))
    assembly = Assembly(chunks.content)
    for payload in arrived + arrived[:3]:
        assembly.add(payload)
    assert assembly.received == len(arrived)
    assert assembly.duplicates == len(arrived[:3])
    assert len(assembly.missing) == len(chunks.payloads) - len(arrived)
    received = np.asarray(assembly.picture(holes=False))
    here = received.any(axis=2)  # no pixel that was sent is black
    assert 3 * here.sum() == sum(len(payload) - 4 for payload in arrived)
    assert (received[here] == sent[here]).all()
    holes = np.asarray(assembly.picture())
    assert (holes[here] == sent[here]).all()
    assert set(map(tuple, holes[~here].tolist())) <= {(0, 0, 0), VERMILION}


def test_a_payload_is_four_bytes_of_number_and_then_pixels() -> None:
    chunks = cut(np.arange(10, dtype=np.uint8).reshape(2, 5), payload_size=8)
    assert list(chunks.payloads) == [
        b"\0\0\0\0\x00\x01\x02\x03",
        b"\0\0\0\1\x04\x05\x06\x07",
        b"\0\0\0\2\x08\x09",
    ]


def test_what_is_lost_is_spread_if_interleaved_and_about_a_square_in_tiles() -> None:
    def lost_pixels(order: str, *numbers: int) -> np.ndarray[Any, Any]:
        chunks = cut(
            np.full((256, 256, 3), 9, np.uint8), payload_size=1200, order=order
        )
        picture = together(chunks, *numbers).picture(holes=False)
        return np.asarray(np.asarray(picture)[:, :, 0] == 0)

    lost = lost_pixels("interleaved", *range(50, 60))
    assert lost.sum() == 10 * 398
    assert not (lost[1:] & lost[:-1]).any(), "no two of them touch"
    assert not (lost[:, 1:] & lost[:, :-1]).any()
    rows, columns = np.nonzero(lost_pixels("tiles", 17))
    assert len(rows) == 398  # 19 x 21, and one less
    assert np.ptp(rows) + 1 == 19
    assert np.ptp(columns) + 1 <= 22


# What can be sent


def grey(mode: str, *values: float) -> Image.Image:
    """A row of such numbers, each of 32 bits."""
    kind = np.float32 if mode == "F" else np.int32
    return Image.frombytes(mode, (len(values), 1), np.array(values, kind).tobytes())


@pytest.mark.parametrize(
    ("picture", "mode", "pixels"),
    [
        (Image.new("1", (1, 1), 1), "L", [255]),
        (Image.new("P", (1, 1)), "RGB", [[0, 0, 0]]),
        (Image.new("LA", (1, 1), (7, 0)), "RGBA", [[7, 7, 7, 0]]),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 0)), "RGBA", [[1, 2, 3, 0]]),
        (Image.new("CMYK", (1, 1)), "RGB", [[255, 255, 255]]),
        (Image.frombytes("I;16B", (1, 1), b"\x12\x34"), "L", [0x12]),
        (grey("I", 0, 700, 65_535), "L", [0, 2, 255]),
        (grey("I", -65_535, 0, 65_535), "L", [0, 128, 255]),
        (grey("F", -0.1, 0.5, 1.1), "L", [0, 128, 255]),
        (grey("F", 64, 128, 191), "L", [64, 128, 191]),
        (grey("F", np.nan, np.inf, -3e38, 3e38), "L", [128, 128, 0, 255]),
    ],
)
def test_every_picture_is_sent_in_the_mode_of_ours_that_shows_the_same(
    picture: Image.Image, mode: str, pixels: Any
) -> None:
    received = together(cut(picture)).picture()
    assert received.mode == mode
    assert (np.asarray(received).reshape(np.shape(pixels)) == pixels).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_is_declared_transparent_is_transparent(mode: str) -> None:
    data = png(Image.new(mode, (3, 3)), transparency=(0, 0, 0) if mode == "RGB" else 0)
    received = together(cut(data, kind="picture")).picture()
    assert received.mode == "RGBA"
    assert received.getpixel((0, 0)) == (0, 0, 0, 0)


def test_orientation_is_applied_and_an_animation_is_sent_as_its_first_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = png(Image.new("RGB", (30, 20)), "JPEG", exif=exif)
    assert together(cut(data, kind="picture")).picture().size == (20, 30)
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    data = png(first, "GIF", save_all=True, append_images=[second])
    received = together(cut(data, kind="picture")).picture().convert("L")
    assert received.getextrema() == (10, 10)


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (np.ones((2, 3), np.uint8), "L"),
        (np.ones((2, 3, 1), np.uint8), "L"),
        (np.ones((2, 3, 4), np.uint8), "RGBA"),
        (np.ones((2, 3), np.bool_), "L"),
        (np.full((2, 3), 511, ">u2"), "L"),
        (np.full((2, 3, 3), 511, np.uint16), "RGB"),
        (np.ones((2, 3, 3), np.float32), "RGB"),
        (np.ones((4, 6), np.uint8)[::2, ::2], "L"),
    ],
)
def test_arrays_are_pictures(array: np.ndarray[Any, Any], mode: str) -> None:
    received = together(cut(array)).picture()
    assert (received.mode, received.size) == (mode, (3, 2))
    full = 255 if array.dtype.kind in "bf" else 1
    assert (np.asarray(received) == full).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 3, 2), np.uint8), r"shape \(2, 3, 2\)"),
        (np.array(3, np.uint8), r"shape \(\)"),
        (np.ones((2, 3), np.int64), r'astype\("uint8"\)'),
        (np.full((2, 3), 255.0), r"floats must be in 0\.\.1"),
        (np.full((2, 3), np.nan), r"floats must be in 0\.\.1"),
        (np.ones((0, 3), np.uint8), "3 x 0 pixels"),
        (np.broadcast_to(np.uint8(0), (10**6, 10**6)), "40,000,000 pixels"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused_in_words(
    array: np.ndarray[Any, Any], words: str
) -> None:
    with pytest.raises(BadContent, match=words):
        cut(array)


def test_a_picture_file_is_a_picture_and_all_else_arrives_as_it_is(
    tmp_path: Path,
) -> None:
    # Pillow could write a PDF, and cannot read it.
    cat, report = tmp_path / "cat.PNG", tmp_path / "report.pdf"
    cat.write_bytes(png(Image.fromarray(SAMPLE)))
    report.write_bytes(b"%PDF" * 999)
    for path, kind in ((cat, "picture"), (report, "file")):
        for thing in (path, str(path), upload(path.name, path.read_bytes())):
            chunks = cut(thing)
            assert (chunks.content.kind, chunks.content.name) == (kind, path.name)
            raw = SAMPLE.tobytes() if kind == "picture" else report.read_bytes()
            assert together(chunks).data() == raw
    data = cat.read_bytes()
    assert together(cut(bytearray(data))).data() == data
    assert cut(data).content.kind == "bytes"
    assert cut(data, kind="picture", name="dot.png").content.name == "dot.png"


@given(st.binary(max_size=400), st.integers(5, 100))
def test_any_bytes_survive_and_nothing_at_all_is_one_empty_chunk(
    data: bytes, payload_size: int
) -> None:
    chunks = cut(data, payload_size=payload_size)
    assert len(chunks.payloads) == max(1, -(-len(data) // (payload_size - 4)))
    assembly = together(chunks)
    assert assembly.data() == data
    assert assembly.verify()


@pytest.mark.parametrize(
    ("thing", "options", "words"),
    [
        (None, {}, "NoneType"),
        ([[0, 1], [1, 0]], {}, "choose one file"),
        ({"a": 1}, {}, "FileUpload"),
        (SAMPLE, {"order": "spiral"}, "order must be one of"),
        (SAMPLE, {"kind": "film"}, "kind must be one of"),
        (SAMPLE, {"kind": "file"}, "neither bytes nor the path"),
        (b"abc", {"order": "tiles"}, 'order is "rows"'),
        (bytes(1_000_001), {"payload_size": 5}, "take a larger payload_size"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words(
    thing: object, options: Any, words: str
) -> None:
    with pytest.raises(BadContent, match=words):
        cut(thing, **options)


@pytest.mark.parametrize("payload_size", [-1, 0, 6, 65_001])
def test_an_impossible_payload_size_is_refused(payload_size: int) -> None:
    with pytest.raises(ValueError, match=r"payload_size must be in \[7, 65000\], got"):
        cut(SAMPLE, payload_size=payload_size)


def test_a_file_that_cannot_be_sent_is_refused_with_the_reason(tmp_path: Path) -> None:
    cat, big = tmp_path / "cat.png", tmp_path / "big.bin"
    with pytest.raises(BadContent, match=r"cat\.png cannot be read"):
        cut(cat)
    with pytest.raises(BadContent, match="is not a file"):
        cut(tmp_path)
    with big.open("wb") as file:
        file.truncate(content.MAX_BYTES + 1)
    with pytest.raises(BadContent, match="limit is 100,000,000 bytes"):
        cut(big)
    cat.write_text("I am not a cat")
    with pytest.raises(BadContent, match=r"cat\.png is not a picture that Pillow can"):
        cut(cat)
    assert cut(cat, kind="file").content.size == 14
    cat.write_bytes(b"")
    with pytest.raises(BadContent, match=r"cat\.png is empty"):
        cut(cat)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_picture_is_refused(format: str) -> None:
    data = png(Image.fromarray(SAMPLE), format)
    for length in (1, 20, len(data) // 2):
        with pytest.raises(
            BadContent, match=r"is not a picture that Pillow can open|cut short"
        ):
            cut(data[:length], kind="picture")


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=9))
def test_a_damaged_picture_is_a_picture_or_refused(place: int, damage: bytes) -> None:
    data = png(Image.fromarray(SAMPLE), "TIFF")
    data = data[:place] + damage + data[place + len(damage) :]
    with contextlib.suppress(BadContent):
        assert together(cut(data, kind="picture")).verify()


@pytest.mark.parametrize("side", [6_000, 7_000, 60_000])
def test_a_picture_that_unpacks_to_too_much_is_refused_unopened(side: int) -> None:
    def block(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = block(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = block(b"IDAT", zlib.compress(bytes(1000)))
    bomb = b"\x89PNG\r\n\x1a\n" + header + pixels + block(b"IEND", b"")
    with pytest.raises(BadContent, match=r"0,000,000 (bytes|pixels)"):
        cut(bomb, kind="picture")


# Names

NAMES = {
    "/etc/passwd": "passwd",
    r"C:\Users\ada\cat.png": "cat.png",
    "..": "unnamed",
    "": "unnamed",
    "C:evil.exe": "evil.exe",
    "stream.txt:hidden": "stream.txt_hidden",
    "nul.txt": "_nul.txt",
    "COM¹ .txt": "_COM¹ .txt",
    "\u0628\u200c" * 150 + ".png": "\u0628\u200c" * 38 + "\u0628.png",
    "a\nb\0c.png": "a_b_c.png",
    "photo\u202egnp.exe": "photognp.exe",
    "a\u200fb\u061cc\u200bd\ufeff\U000e0041.png": "abcd.png",
    "a\u200cb.png": "ab.png",
    "گربه‌ها.png": "گربه‌ها.png",
    "猫 🐈.png": "猫 🐈.png",
    "x" * 300 + ".png": "x" * 124 + ".png",
    "trailing. . ": "trailing",
}


def test_names_are_made_safe_for_every_system() -> None:
    assert {name: content.clean_name(name) for name in NAMES} == NAMES


@given(st.text(max_size=300))
def test_a_clean_name_stays_as_it_is(name: str) -> None:
    cleaned = content.clean_name(name)
    assert content.clean_name(cleaned) == cleaned
    assert 1 <= len(cleaned) <= content.MAX_NAME
    assert len(cleaned.encode()) <= 200
    assert cut(b"abc", name=name).content.name


# The description in an offer


GOOD = asdict(cut(SAMPLE, name="good.png").content)
MALFORMED: dict[str, list[object]] = {
    "kind": ["film", None, ["picture"], "file"],
    "name": ["../good.png", "a\nb.png", "\ud800", "", "x" * 129, 7],
    "size": [-1, 1, True, float("nan"), 6912.0, 10**9],
    "mode": ["CMY", {}, "RGBA"],
    "width": [0, -48, 10**30, "48", True],
    "height": [None, 49],
    "order": ["spiral"],
    "chunk_size": [0, 2, 4, 65_000],
    "sha256": ["0" * 63, "G" * 64, "0" * 64 + "\n", 0],
}


@pytest.mark.parametrize("field", MALFORMED)
def test_a_malformed_description_is_refused_with_its_field(field: str) -> None:
    for value in MALFORMED[field]:
        with pytest.raises(BadContent, match=field):
            Content(**GOOD | {field: value})


plausible = {
    "kind": st.sampled_from(content.KINDS),
    "mode": st.sampled_from(["", *MODES]),
    "order": st.sampled_from(content.ORDERS),
    "name": st.text(max_size=10),
    "sha256": st.just("0" * 64),
} | dict.fromkeys(("size", "width", "height", "chunk_size"), st.integers(0, 100))


@settings(max_examples=300)
@given(st.fixed_dictionaries(plausible))
def test_any_description_makes_a_possible_content_or_bad_content(
    given: dict[str, Any],
) -> None:
    try:
        content = Content(**given)
    except BadContent:
        return
    assembly = Assembly(content)
    assert len(assembly.missing) == content.count
    if content.kind == "picture":
        assert assembly.picture().size == (content.width, content.height)


# At the receiver


@given(st.sampled_from(content.ORDERS), st.lists(st.binary(max_size=30)), st.data())
def test_random_bytes_never_raise(
    order: str, noise: list[bytes], data: st.DataObject
) -> None:
    chunks = cut(SAMPLE[:5, :5], order=order, payload_size=20)
    assembly = Assembly(chunks.content)
    for payload in noise:
        assembly.add(payload)
    number = data.draw(st.integers(0, 2**32 - 1)).to_bytes(4, "big")
    assembly.add(number + data.draw(st.binary(max_size=17)))
    assert assembly.received + assembly.duplicates + assembly.ignored == len(noise) + 1
    for payload in chunks.payloads:
        assembly.add(payload)
    assert assembly.complete


def test_garbage_and_duplicates_are_counted_and_change_nothing() -> None:
    chunks = cut(b"abcdefg", payload_size=8)
    assembly = Assembly(chunks.content)
    first, last = chunks.payloads
    assert assembly.add(last)
    assert not assembly.add(last)
    for garbage in (b"", b"\0", b"\0\0\0\0", first + b"x", first[:-1], b"\0\0\0\2abcd"):
        assert not assembly.add(garbage)
    assert (assembly.received, assembly.duplicates, assembly.ignored) == (1, 1, 6)
    assert assembly.missing == [0]
    assert assembly.progress == 0.5
    assert assembly.data() == b"\0\0\0\0efg"
    assert not assembly.verify()
    assert assembly.add(b"\0\0\0\0abcX")
    assert assembly.complete
    assert not assembly.verify(), "its fingerprint is another one"
    with pytest.raises(BadContent, match="is no picture"):
        assembly.picture()


@pytest.mark.parametrize("mode", MODES)
def test_holes_can_be_shown_in_every_mode(mode: str) -> None:
    chunks = cut(picture_of(mode, 20, 20), payload_size=44)
    assembly = Assembly(chunks.content)
    assert assembly.picture().mode == ("RGBA" if mode == "RGBA" else "RGB")
    for payload in chunks.payloads[1:]:
        assembly.add(payload)
    holes = np.asarray(assembly.picture())
    pixels = 40 // content.BYTES_PER_PIXEL[mode]
    hole = holes.reshape(400, -1)[:pixels]
    assert set(map(tuple, hole[:, :3].tolist())) == {(0, 0, 0), VERMILION}
    assert (hole[:, 3:] == 255).all()


# Saving


def test_saving_overwrites_nothing(tmp_path: Path) -> None:
    assembly = together(cut(b"abc", kind="file", name="notes.txt"))
    first, second = assembly.save(tmp_path), assembly.save(tmp_path)
    assert (first.name, second.name) == ("notes.txt", "notes (2).txt")
    assert first.read_bytes() == second.read_bytes() == b"abc"
    with pytest.raises(FileExistsError):
        together(cut(b"xyz")).save(first)
    assert first.read_bytes() == b"abc"


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_picture_has_lost_nothing(mode: str, tmp_path: Path) -> None:
    picture = picture_of(mode, 9, 7)
    assembly = together(cut(picture, name="cat.jpg"))
    for path in (assembly.save(tmp_path), assembly.save(tmp_path / "cat.tiff")):
        with Image.open(path) as saved:
            assert path.name == f"cat.{saved.format or ''}".lower()
            assert saved.mode in (mode, "I;16B")
            assert saved.tobytes() == picture.tobytes()


@pytest.mark.parametrize("name", ["cat.jpg", "cat.xyz", "cat"])
def test_a_format_that_cannot_hold_the_picture_is_refused(
    name: str, tmp_path: Path
) -> None:
    assembly = together(cut(picture_of("RGBA", 3, 3)))
    with pytest.raises(BadContent, match=r"take \.png or \.tiff"):
        assembly.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_half_a_picture_can_be_saved_and_half_a_file_cannot(tmp_path: Path) -> None:
    with Image.open(Assembly(cut(SAMPLE).content).save(tmp_path)) as saved:
        assert saved.size == (48, 48)
    with pytest.raises(TransferError, match="0 of 1 chunks are here"):
        Assembly(cut(b"abc").content).save(tmp_path)


def test_the_sample_picture_is_the_same_on_every_machine_and_has_any_size() -> None:
    fingerprint = hashlib.sha256(sample_picture().tobytes()).hexdigest()
    assert fingerprint == (
        "5b7f3b7885b3ba8cd0fb62a125abe3d6aa2160decaaffb06f86969d929df6438"
    )
    for size in (1, 2, 5, 100):
        assert sample_picture(size).shape == (size, size, 3)
    for size in (0, -1, 2049):
        with pytest.raises(ValueError, match="size must be in"):
            sample_picture(size)
