"""Whatever is cut is put together again, and what is missing can be seen."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import struct
import sys
import threading
import tracemalloc
import zlib
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p2plab.content import chunks, content
from p2plab.content.chunks import Assembly, cut
from p2plab.content.content import Content, Parcel, Payloads
from p2plab.content.sample import sample_picture
from p2plab.errors import BadContent, TransferError

MODES = sorted(content.BYTES_PER_PIXEL)
SAMPLE = sample_picture(48)


def picture_of(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    size = width * height * content.BYTES_PER_PIXEL[mode]
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(size))


def put_together(parcel: Parcel) -> Assembly:
    assembly = Assembly(parcel.content)
    assert all(assembly.add(payload) for payload in parcel.payloads)
    return assembly


def png(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def upload(name: str, content: bytes) -> tuple[dict[str, object], ...]:
    """What ipywidgets 8 gives as the value of a FileUpload."""
    file = {"name": name, "type": "", "size": len(content)}
    when = datetime(2024, 1, 1, tzinfo=UTC)
    return (file | {"content": memoryview(content), "last_modified": when},)


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
    parcel = cut(picture, order=order, payload_size=payload_size)
    assembly = put_together(parcel)
    assert max(map(len, parcel.payloads)) <= payload_size
    assert assembly.complete
    assert assembly.verify()
    assert assembly.progress == 1
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
    parcel = cut(sent, order=order, payload_size=payload_size)
    arrived = rng.sample(parcel.payloads, rng.randrange(len(parcel.payloads) + 1))
    assembly = Assembly(parcel.content)
    for payload in arrived + arrived[:3]:
        assembly.add(payload)
    assert assembly.received == len(arrived)
    assert assembly.duplicates == len(arrived[:3])
    assert len(assembly.missing) == len(parcel.payloads) - len(arrived)
    received = np.asarray(assembly.picture(holes=False))
    here = received.any(axis=2)  # no pixel that was sent is black
    assert 3 * here.sum() == sum(len(payload) - 4 for payload in arrived)
    assert (received[here] == sent[here]).all()
    holes = np.asarray(assembly.picture())
    assert (holes[here] == sent[here]).all()
    assert set(map(tuple, holes[~here].tolist())) <= {(0, 0, 0), chunks.VERMILION}


def test_a_payload_is_four_bytes_of_number_and_then_pixels() -> None:
    parcel = cut(np.arange(10, dtype=np.uint8).reshape(2, 5), payload_size=8)
    assert list(parcel.payloads) == [
        b"\0\0\0\0\x00\x01\x02\x03",
        b"\0\0\0\1\x04\x05\x06\x07",
        b"\0\0\0\2\x08\x09",
    ]


def test_pixels_are_never_cut_in_half() -> None:
    parcel = cut(SAMPLE, payload_size=1200)
    assert parcel.content.chunk_size == 1194  # 1196 bytes hold 398 pixels and a bit
    assert parcel.content.payload_size == len(parcel.payloads[0]) == 1198


def test_row_by_row_a_lost_packet_is_a_stripe() -> None:
    parcel = cut(np.full((4, 6), 9, np.uint8), payload_size=10)
    assembly = Assembly(parcel.content)
    for payload in chain(parcel.payloads[:1], parcel.payloads[2:]):
        assembly.add(payload)
    received = np.asarray(assembly.picture(holes=False))
    assert received.tolist() == [[9] * 6, [0] * 6, [9] * 6, [9] * 6]


def test_interleaved_no_two_lost_pixels_touch_even_after_a_burst_of_ten() -> None:
    picture = np.full((256, 256, 3), 9, np.uint8)
    parcel = cut(picture, order="interleaved")
    assembly = Assembly(parcel.content)
    for payload in chain(parcel.payloads[:50], parcel.payloads[60:]):
        assembly.add(payload)
    lost = np.asarray(assembly.picture(holes=False))[:, :, 0] == 0
    assert lost.sum() == 10 * 398
    assert not (lost[1:] & lost[:-1]).any()
    assert not (lost[:, 1:] & lost[:, :-1]).any()


def test_in_tiles_a_lost_packet_is_about_a_square() -> None:
    parcel = cut(np.full((256, 256, 3), 9, np.uint8), order="tiles")
    assembly = Assembly(parcel.content)
    for payload in chain(parcel.payloads[:17], parcel.payloads[18:]):
        assembly.add(payload)
    lost = np.asarray(assembly.picture(holes=False))[:, :, 0] == 0
    rows, columns = np.nonzero(lost)
    assert len(rows) == 398  # 19 x 21, and one less
    assert np.ptp(rows) + 1 == 19
    assert np.ptp(columns) + 1 <= 22


@pytest.mark.parametrize("order", content.ORDERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 13)])
def test_thin_pictures_and_single_pixels_survive(
    shape: tuple[int, int], order: str
) -> None:
    sent = np.random.default_rng(1).integers(0, 255, (*shape, 3), np.uint8)
    assembly = put_together(cut(sent, order=order, payload_size=40))
    assert (np.asarray(assembly.picture()) == sent).all()


# What can be sent


@pytest.mark.parametrize(
    ("mode", "sent_as"),
    [
        ("1", "L"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("RGBX", "RGB"),
        ("RGBa", "RGB"),
        ("I;16B", "I;16"),
    ],
)
def test_modes_that_are_not_sent_as_they_are_are_converted(
    mode: str, sent_as: str
) -> None:
    parcel = cut(Image.new(mode, (5, 4)))
    assert parcel.content.mode == sent_as
    assert put_together(parcel).verify()


def test_big_endian_pixels_of_16_bits_keep_their_values() -> None:
    picture = Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xfe")
    received = put_together(cut(picture)).picture()
    assert np.asarray(received).tolist() == [[0x1234, 0xFFFE]]


def test_a_transparent_palette_becomes_rgba() -> None:
    picture = Image.new("P", (3, 3))
    data = png(picture, transparency=0)
    assert cut(data, kind="picture").content.mode == "RGBA"


def test_the_orientation_that_a_camera_wrote_down_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = png(Image.new("RGB", (30, 20)), "JPEG", exif=exif)
    content = cut(data, kind="picture").content
    assert (content.width, content.height) == (20, 30)


def test_an_animation_is_sent_as_its_first_picture() -> None:
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    data = png(first, "GIF", save_all=True, append_images=[second])
    received = put_together(cut(data, kind="picture")).picture().convert("L")
    assert received.getextrema() == (10, 10)


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (np.ones((2, 3), np.uint8), "L"),
        (np.ones((2, 3, 1), np.uint8), "L"),
        (np.ones((2, 3, 3), np.uint8), "RGB"),
        (np.ones((2, 3, 4), np.uint8), "RGBA"),
        (np.ones((2, 3), np.bool_), "L"),
        (np.ones((2, 3), np.uint16), "I;16"),
        (np.ones((2, 3), ">u2"), "I;16"),
        (np.ones((2, 3, 3), np.float32), "RGB"),
        (np.ones((4, 6), np.uint8)[::2, ::2], "L"),
    ],
)
def test_arrays_are_pictures(array: np.ndarray[Any, Any], mode: str) -> None:
    received = put_together(cut(array)).picture()
    assert (received.mode, received.size) == (mode, (3, 2))
    full = 255 if array.dtype.kind in "bf" else 1
    assert (np.asarray(received) == full).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 3, 2), np.uint8), r"shape \(2, 3, 2\)"),
        (np.ones(5, np.uint8), r"shape \(5,\)"),
        (np.ones((1, 2, 3, 3), np.uint8), r"shape \(1, 2, 3, 3\)"),
        (np.array(3, np.uint8), r"shape \(\)"),
        (np.ones((2, 3), np.int64), r'astype\("uint8"\)'),
        (np.ones((2, 3, 3), np.uint16), "uint16"),
        (np.ones((2, 3), complex), "complex"),
        (np.full((2, 3), 255.0), r"floats must be in 0\.\.1"),
        (np.full((2, 3), np.nan), r"floats must be in 0\.\.1"),
        (np.ones((0, 3), np.uint8), "3 x 0 pixels"),
        (np.ones((3, 0, 3)), "0 x 3 pixels"),
        (np.array([["a"]]), "no picture"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused_in_words(
    array: np.ndarray[Any, Any], words: str
) -> None:
    with pytest.raises(BadContent, match=words):
        cut(array)


def test_a_picture_file_is_a_picture_and_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.PNG"
    path.write_bytes(png(Image.fromarray(SAMPLE)))
    for thing in (path, str(path), upload("cat.PNG", path.read_bytes())):
        parcel = cut(thing)
        assert (parcel.content.kind, parcel.content.name) == ("picture", "cat.PNG")
        assert (np.asarray(put_together(parcel).picture()) == SAMPLE).all()


def test_other_files_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello" * 999)
    for thing in (path, str(path), upload("notes.txt", path.read_bytes())):
        parcel = cut(thing)
        assert (parcel.content.kind, parcel.content.name) == ("file", "notes.txt")
        assert put_together(parcel).data() == b"hello" * 999
    data = png(Image.new("L", (2, 2)))
    assert put_together(cut(data)).data() == data
    assert put_together(cut(bytearray(data))).data() == data
    assert cut(data).content.kind == "bytes"
    assert cut(data, kind="picture", name="dot.png").content.name == "dot.png"


@given(st.binary(max_size=400), st.integers(5, 100))
def test_any_bytes_survive(data: bytes, payload_size: int) -> None:
    assembly = put_together(cut(data, payload_size=payload_size))
    assert assembly.data() == data
    assert assembly.verify()


def test_nothing_at_all_travels_as_one_empty_chunk() -> None:
    parcel = cut(b"")
    assert list(parcel.payloads) == [b"\0\0\0\0"]
    assembly = Assembly(parcel.content)
    assert not assembly.complete
    assert assembly.add(parcel.payloads[0])
    assert assembly.verify()
    assert assembly.data() == b""


def test_the_value_of_a_real_upload_widget_is_taken() -> None:
    widget = ipywidgets.FileUpload(value=upload("cat.png", png(Image.new("L", (3, 2)))))
    content = cut(widget.value).content
    assert (content.name, content.width, content.height) == ("cat.png", 3, 2)


def test_a_document_is_a_file_although_pillow_could_write_one() -> None:
    assert cut(upload("report.pdf", b"%PDF")).content.kind == "file"


def test_an_empty_upload_asks_for_a_file() -> None:
    with pytest.raises(BadContent, match="choose one file"):
        cut(())


@pytest.mark.parametrize("thing", [None, 3, object(), {"a": 1}, [[0, 1], [1, 0]]])
def test_other_things_are_refused_in_words(thing: object) -> None:
    with pytest.raises(BadContent):
        cut(thing)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadContent, match=r"cat\.png cannot be read") as missing:
        cut(tmp_path / "cat.png")
    assert str(missing.value).count("cat.png") == 1
    with pytest.raises(BadContent, match="is not a file"):
        cut(tmp_path)


def test_a_text_that_calls_itself_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_text("I am not a cat")
    with pytest.raises(BadContent, match=r"cat\.png is not a picture that Pillow can"):
        cut(path)
    assert cut(path, kind="file").content.size == 14
    path.write_bytes(b"")
    with pytest.raises(BadContent, match=r"\(the file is empty\)$"):
        cut(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_picture_is_refused(format: str) -> None:
    data = png(Image.fromarray(SAMPLE), format)
    for length in (0, 1, 20, len(data) // 2):
        with pytest.raises(BadContent, match="is not a picture that Pillow can open"):
            cut(data[:length], kind="picture")


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=9))
def test_a_damaged_picture_is_a_picture_or_refused(place: int, damage: bytes) -> None:
    data = png(Image.fromarray(SAMPLE), "TIFF")
    data = data[:place] + damage + data[place + len(damage) :]
    with contextlib.suppress(BadContent):
        assert put_together(cut(data, kind="picture")).verify()


def bomb(side: int) -> bytes:
    """A PNG file whose header announces side x side pixels, and hardly any data."""

    def block(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    blocks = block(b"IHDR", header) + block(b"IDAT", pixels) + block(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + blocks


@pytest.mark.parametrize("side", [7_000, 12_000, 60_000])
def test_a_picture_that_unpacks_to_too_many_pixels_is_refused_unopened(
    side: int,
) -> None:
    with pytest.raises(BadContent, match="40,000,000 pixels"):
        cut(bomb(side), kind="picture")


def test_a_picture_with_too_many_bytes_is_refused_unopened() -> None:
    with pytest.raises(BadContent, match="limit is 100,000,000 bytes"):
        cut(bomb(6_000), kind="picture")


def test_an_array_with_too_many_pixels_is_refused_before_it_is_copied() -> None:
    with pytest.raises(BadContent, match="40,000,000 pixels"):
        cut(np.broadcast_to(np.uint8(0), (10**6, 10**6)))


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(content.MAX_BYTES + 1)
    with pytest.raises(BadContent, match="limit is 100,000,000 bytes"):
        cut(path)


@pytest.mark.parametrize("payload_size", [-1, 0, 6, 65_001])
def test_an_impossible_payload_size_is_refused(payload_size: int) -> None:
    with pytest.raises(ValueError, match=r"payload_size must be in \[7, 65000\], got"):
        cut(SAMPLE, payload_size=payload_size)


def test_an_unknown_order_or_kind_is_refused_and_files_have_only_one_order() -> None:
    with pytest.raises(BadContent, match="order must be one of"):
        cut(SAMPLE, order="spiral")
    with pytest.raises(BadContent, match="kind must be one of"):
        cut(SAMPLE, kind="film")
    with pytest.raises(BadContent, match='order is "rows"'):
        cut(b"abc", order="tiles")


def test_more_than_a_million_chunks_ask_for_a_larger_payload() -> None:
    with pytest.raises(BadContent, match="take a larger payload_size"):
        cut(bytes(1_000_001), payload_size=5)


# Names


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("cat.png", "cat.png"),
        ("/etc/passwd", "passwd"),
        (r"C:\Users\ada\cat.png", "cat.png"),
        ("../../cat.png", "cat.png"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("C:evil.exe", "evil.exe"),
        ("stream.txt:hidden", "stream.txt_hidden"),
        ("nul.txt", "_nul.txt"),
        ("a\nb\0c.png", "a_b_c.png"),
        ("photo\u202egnp.exe", "photo_gnp.exe"),
        ("گربه‌ها.png", "گربه‌ها.png"),
        ("猫 🐈.png", "猫 🐈.png"),
        ("x" * 300 + ".png", "x" * 124 + ".png"),
        ("trailing. . ", "trailing"),
    ],
)
def test_names_are_made_safe_for_every_system(given_name: str, kept: str) -> None:
    assert content.clean_name(given_name) == kept


@given(st.text(max_size=300))
def test_a_clean_name_stays_as_it_is(name: str) -> None:
    cleaned = content.clean_name(name)
    assert content.clean_name(cleaned) == cleaned
    assert 1 <= len(cleaned) <= content.MAX_NAME
    assert len(cleaned.encode()) <= 200
    assert cut(b"abc", name=name).content.name


# The description in an offer


@given(
    st.sampled_from(MODES),
    st.integers(1, 9),
    st.sampled_from(content.ORDERS),
    st.text(),
)
def test_a_content_survives_json(mode: str, size: int, order: str, name: str) -> None:
    content = cut(picture_of(mode, size, size), order=order, name=name).content
    assert Content.from_dict(json.loads(json.dumps(content.to_dict()))) == content


GOOD = cut(SAMPLE, name="good.png").content.to_dict()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "film"),
        ("kind", None),
        ("kind", ["picture"]),
        ("kind", "file"),
        ("name", "../good.png"),
        ("name", "a\nb.png"),
        ("name", "\ud800"),
        ("name", ""),
        ("name", "x" * 129),
        ("name", 7),
        ("size", -1),
        ("size", 1),
        ("size", True),
        ("size", float("nan")),
        ("size", 6912.0),
        ("size", 10**9),
        pytest.param("size", 10**9999, id="size-beyond str()"),
        ("mode", "CMY"),
        ("mode", {}),
        ("mode", "RGBA"),
        ("width", 0),
        ("width", -48),
        ("width", 10**30),
        ("width", "48"),
        ("width", True),
        ("height", None),
        ("height", 49),  # does not fit the size
        ("order", "spiral"),
        ("chunk_size", 0),
        ("chunk_size", 2),
        ("chunk_size", 4),
        ("chunk_size", 65_000),
        ("sha256", "0" * 63),
        ("sha256", "G" * 64),
        ("sha256", "0" * 64 + "\n"),
        ("sha256", 0),
    ],
)
def test_a_malformed_description_is_refused_with_its_field(
    field: str, value: object
) -> None:
    with pytest.raises(BadContent, match=field):
        Content.from_dict(GOOD | {field: value})


def test_a_description_with_a_missing_field_is_refused() -> None:
    for field in GOOD:
        given = {name: value for name, value in GOOD.items() if name != field}
        with pytest.raises(BadContent, match=f"{field} is missing"):
            Content.from_dict(given)


def test_keys_that_a_later_version_may_add_are_ignored() -> None:
    assert Content.from_dict(GOOD | {"colour": "blue"}).to_dict() == GOOD


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
plausible = {
    "kind": st.sampled_from(content.KINDS),
    "mode": st.sampled_from(["", *MODES]),
    "order": st.sampled_from(content.ORDERS),
    "size": st.integers(0, 100),
    "width": st.integers(0, 10),
    "height": st.integers(0, 10),
    "chunk_size": st.integers(0, 100),
    "name": st.text(max_size=10),
    "sha256": st.just("0" * 64),
}


@settings(max_examples=300)
@given(
    json_values
    | st.fixed_dictionaries({name: s | json_values for name, s in plausible.items()})
    | st.fixed_dictionaries(plausible)
)
def test_any_description_makes_a_possible_content_or_bad_content(given: object) -> None:
    try:
        content = Content.from_dict(given)
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
    parcel = cut(SAMPLE[:5, :5], order=order, payload_size=20)
    assembly = Assembly(parcel.content)
    for payload in noise:
        assembly.add(payload)
    number = data.draw(st.integers(0, 2**32 - 1)).to_bytes(4, "big")
    assembly.add(number + data.draw(st.binary(max_size=17)))
    assert assembly.received + assembly.duplicates + assembly.ignored == len(noise) + 1
    for payload in parcel.payloads:
        assembly.add(payload)
    assert assembly.complete


def test_garbage_and_duplicates_are_counted_and_change_nothing() -> None:
    parcel = cut(b"abcdefg", payload_size=8)
    assembly = Assembly(parcel.content)
    first, last = parcel.payloads
    assert assembly.add(last)
    assert not assembly.add(last)
    for garbage in (b"", b"\0", b"\0\0\0\0", first + b"x", first[:-1], b"\0\0\0\2abcd"):
        assert not assembly.add(garbage)
    assert (assembly.received, assembly.duplicates, assembly.ignored) == (1, 1, 6)
    assert assembly.missing == [0]
    assert assembly.progress == 0.5
    assert assembly.data() == b"\0\0\0\0efg"


def test_a_changed_chunk_fails_the_fingerprint() -> None:
    parcel = cut(b"abcdefg", payload_size=8)
    assembly = Assembly(parcel.content)
    assembly.add(parcel.payloads[0])
    assert not assembly.verify()
    assembly.add(b"\0\0\0\1efx")
    assert assembly.complete
    assert not assembly.verify()


@pytest.mark.parametrize("mode", MODES)
def test_holes_can_be_shown_in_every_mode(mode: str) -> None:
    parcel = cut(picture_of(mode, 20, 20), payload_size=44)
    assembly = Assembly(parcel.content)
    assert assembly.picture().mode == "RGB"  # nothing but a hole
    for payload in parcel.payloads[1:]:
        assembly.add(payload)
    holes = np.asarray(assembly.picture())
    pixels = 40 // content.BYTES_PER_PIXEL[mode]
    hole = set(map(tuple, holes.reshape(-1, 3)[:pixels].tolist()))
    assert hole == {(0, 0, 0), chunks.VERMILION}


def test_infinite_and_missing_values_can_be_shown() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 3e38, -3e38, 0]], np.float32)
    picture = Image.frombytes("F", (6, 1), values.tobytes())
    parcel = cut(picture, payload_size=8)
    assembly = Assembly(parcel.content)
    for payload in parcel.payloads[:-1]:
        assembly.add(payload)
    assert assembly.picture().size == (6, 1)


def test_a_snapshot_does_not_change_when_more_arrives() -> None:
    parcel = cut(SAMPLE, payload_size=100)
    assembly = Assembly(parcel.content)
    before = assembly.picture()
    copy = before.copy()
    put_in = [assembly.add(payload) for payload in parcel.payloads]
    assert all(put_in)
    assert before == copy


def test_pictures_can_be_taken_while_chunks_arrive() -> None:
    parcel = cut(sample_picture(64), payload_size=40, order="tiles")
    assembly = Assembly(parcel.content)
    threads = [
        threading.Thread(target=lambda part=part: list(map(assembly.add, part)))
        for part in (parcel.payloads[::2], parcel.payloads[1::2], parcel.payloads)
    ]
    for thread in threads:
        thread.start()
    while not assembly.complete:
        assembly.picture()
    for thread in threads:
        thread.join()
    assert assembly.verify()
    assert assembly.received == len(parcel.payloads) == assembly.duplicates


def test_a_file_is_no_picture_and_says_so() -> None:
    with pytest.raises(BadContent, match=r"notes\.txt is no picture"):
        put_together(cut(b"abc", kind="file", name="notes.txt")).picture()


# Saving


def test_saving_twice_into_a_folder_overwrites_nothing(tmp_path: Path) -> None:
    assembly = put_together(cut(b"abc", kind="file", name="notes.txt"))
    first, second = assembly.save(tmp_path), assembly.save(tmp_path)
    assert (first.name, second.name) == ("notes.txt", "notes (2).txt")
    assert first.read_bytes() == second.read_bytes() == b"abc"


def test_saving_to_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        put_together(cut(b"abc")).save(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_picture_has_lost_nothing(mode: str, tmp_path: Path) -> None:
    picture = picture_of(mode, 9, 7)
    path = put_together(cut(picture, name="cat.jpg")).save(tmp_path)
    assert path.stem == "cat"
    with Image.open(path) as saved:
        assert saved.mode in (mode, "I;16B")
        assert saved.tobytes() == picture.tobytes()


def test_the_suffix_is_the_format_of_a_saved_picture(tmp_path: Path) -> None:
    assembly = put_together(cut(SAMPLE))
    with Image.open(assembly.save(tmp_path / "cat.bmp")) as saved:
        assert saved.format == "BMP"


@pytest.mark.parametrize("name", ["cat.jpg", "cat.xyz", "cat"])
def test_a_format_that_cannot_hold_the_picture_is_refused(
    name: str, tmp_path: Path
) -> None:
    assembly = put_together(cut(picture_of("RGBA", 3, 3)))
    with pytest.raises(BadContent, match=r"take \.png or \.tiff"):
        assembly.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_neither_verifying_nor_saving_a_file_copies_it(tmp_path: Path) -> None:
    assembly = put_together(cut(bytes(4_000_000), kind="file", payload_size=60_000))
    tracemalloc.start()
    try:
        assert assembly.verify()
        path = assembly.save(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 4_000_000


def test_half_a_picture_can_be_saved_and_half_a_file_cannot(tmp_path: Path) -> None:
    half = Assembly(cut(SAMPLE).content)
    with Image.open(half.save(tmp_path)) as saved:
        assert saved.size == (48, 48)
    with pytest.raises(TransferError, match="0 of 1 chunks are here"):
        Assembly(cut(b"abc").content).save(tmp_path)


# The sample


def test_the_sample_picture_is_the_same_on_every_machine() -> None:
    fingerprint = hashlib.sha256(sample_picture().tobytes()).hexdigest()
    assert fingerprint == (
        "5b7f3b7885b3ba8cd0fb62a125abe3d6aa2160decaaffb06f86969d929df6438"
    )


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_sample_picture_comes_in_every_size(size: int) -> None:
    picture = sample_picture(size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("size", [0, -1, 2049])
def test_a_sample_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size must be in"):
        sample_picture(size)


def test_the_module_needs_numpy_and_pillow_only_when_it_is_used() -> None:
    import subprocess

    slow = "{'numpy', 'PIL'} & set(sys.modules)"
    code = f"import sys, p2plab.content.chunks; sys.exit(bool({slow}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.binary(max_size=40), st.integers(1, 9))
def test_payloads_are_cut_when_they_are_asked_for(stream: bytes, size: int) -> None:
    payloads = Payloads(stream, size)
    starts = range(0, max(1, len(stream)), size)
    whole = [struct.pack("!I", at // size) + stream[at : at + size] for at in starts]
    assert list(payloads) == payloads[:] == whole
    assert [payloads[at] for at in range(-len(whole), len(whole))] == whole * 2
    assert payloads[1:-1] == whole[1:-1]
    with pytest.raises(IndexError):
        payloads[len(whole)]
