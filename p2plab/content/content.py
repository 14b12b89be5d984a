"""What is sent: its description, the limits, and names that are safe."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from p2plab.core.packet import MAX_PAYLOAD
from p2plab.errors import BadContent

KINDS: Final = ("picture", "file", "bytes")
ORDERS: Final = ("rows", "interleaved", "tiles")
BYTES_PER_PIXEL: Final = {"L": 1, "RGB": 3, "RGBA": 4}
NUMBER_SIZE: Final = 4  # [bytes]
MAX_PIXELS: Final = 40_000_000  # a good phone's camera; shuffling them takes a second
MAX_BYTES: Final = 100_000_000  # several seconds at what a Python socket can carry
MAX_CHUNKS: Final = 1_000_000  # each costs memory at both ends, however small it is
MAX_NAME: Final = 128  # characters; file systems hold 255 bytes

_DEVICE = re.compile(
    r"(con(in\$|out\$)?|prn|aux|nul|(com|lpt)[\d¹²³])\s*(\.|$)", re.IGNORECASE
)
# What has no place in a name. Invisible characters go: they turn the reading direction
# round ("gnp.exe" looks like "exe.png") or make two names look the same. Only between
# two Arabic letters, where Persian is written with it, the zero-width non-joiner stays.
_JOINED = re.compile("(?<=[\u0620-\u06ff])\u200c(?=[\u0620-\u06ff])")
_UNSAFE: Final = frozenset('<>:"/\\|?*')
_UNSAFE_KINDS: Final = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves, line ends


def clean_name(name: str) -> str:
    """The last part of a path, made safe as a file name on every system."""
    name = PureWindowsPath(name).name  # takes / and \ for separators, and a drive off
    joined = {found.start() for found in _JOINED.finditer(name)}
    name = "".join(
        "_" if c in _UNSAFE or unicodedata.category(c) in _UNSAFE_KINDS else c
        for place, c in enumerate(name)
        if unicodedata.category(c) != "Cf" or place in joined
    ).strip(". ")
    if _DEVICE.match(name):
        name = f"_{name}"
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix) <= 16 else ""
    stem = name.removesuffix(suffix)[: MAX_NAME - len(suffix)]
    while len(f"{stem}{suffix}".encode()) > 200:
        stem = stem[:-1]
    stem = stem.rstrip("\u200c")  # cut off between two letters
    return f"{stem}{suffix}".strip(". ") or "unnamed"


def _check_whole(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise BadContent(
            f"{field} must be a whole number from {low:,} to {high:,}, not "
            f"{reprlib.repr(value)}"
        )


def check_one_of(field: str, value: object, choices: Sequence[str]) -> None:
    """Raise BadContent unless the value is one of the choices."""
    if value not in choices:
        raise BadContent(f"{field} must be one of {choices}, not {reprlib.repr(value)}")


def check_size(width: int, height: int, mode: str) -> None:
    """Raise BadContent unless a picture is within our limits."""
    if width * height > MAX_PIXELS or width < 1 or height < 1:
        raise BadContent(
            f"a picture of {width:,} x {height:,} pixels cannot be sent: the limit is "
            f"1 to {MAX_PIXELS:,} pixels (content.MAX_PIXELS); send a smaller one"
        )
    check_bytes(width * height * BYTES_PER_PIXEL.get(mode, 1))


def check_bytes(size: int) -> None:
    """Raise BadContent if there is more than we send."""
    if size > MAX_BYTES:
        raise BadContent(
            f"{size:,} bytes are too many to send: the limit is {MAX_BYTES:,} bytes "
            "(content.MAX_BYTES); pictures count uncompressed"
        )


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent, in so few words that an offer can carry it.

    Whoever holds a Content holds a possible one: BadContent names the wrong field.
    size: bytes of the raw data. chunk_size: bytes of a full chunk, without its number.
    sha256: hex fingerprint of the raw data, in the order in which it travels.
    mode, width, height, order: of pictures; modes as Pillow names them.
    """

    kind: str
    name: str
    size: int
    chunk_size: int
    sha256: str
    mode: str = ""
    width: int = 0
    height: int = 0
    order: str = "rows"

    def __post_init__(self) -> None:
        check_one_of("kind", self.kind, KINDS)
        check_one_of("order", self.order, ORDERS)
        name, sha256 = self.name, self.sha256
        if not isinstance(name, str) or clean_name(name) != name:
            raise BadContent(f"name must be a plain file name, not {name!r:.200}")
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise BadContent(f"sha256 must be 64 hex digits, not {sha256!r:.200}")
        _check_whole("size", self.size, 0, MAX_BYTES)
        _check_whole("chunk_size", self.chunk_size, 1, MAX_PAYLOAD - NUMBER_SIZE)
        if self.kind == "picture":
            check_one_of("mode", self.mode, tuple(BYTES_PER_PIXEL))
            _check_whole("width", self.width, 1, MAX_PIXELS)
            _check_whole("height", self.height, 1, MAX_PIXELS)
            check_size(self.width, self.height, self.mode)
            unit = BYTES_PER_PIXEL[self.mode]
            if self.size != self.width * self.height * unit:
                raise BadContent(
                    f"size {self.size:,} does not fit a picture of width "
                    f"{self.width:,}, height {self.height:,} and mode {self.mode}"
                )
            if self.chunk_size % unit:
                raise BadContent(f"chunk_size {self.chunk_size} cuts a pixel in half")
        elif (self.mode, self.width, self.height, self.order) != ("", 0, 0, "rows"):
            raise BadContent(
                f'kind "{self.kind}" has no mode, width and height; order is "rows"'
            )
        if self.count > MAX_CHUNKS:
            raise BadContent(
                f"chunk_size {self.chunk_size} makes {self.count:,} chunks, the limit "
                f"is {MAX_CHUNKS:,} (content.MAX_CHUNKS): take a larger payload_size"
            )

    @property
    def count(self) -> int:
        """Number of chunks; nothing at all travels as one empty chunk."""
        return max(1, -(-self.size // self.chunk_size))

    def size_of(self, number: int) -> int:
        """Bytes of chunk `number`, from 0; below 0 if there is no such chunk."""
        start = number * self.chunk_size
        return min(self.chunk_size, self.size - start) if number < self.count else -1

    @property
    def payload_size(self) -> int:
        """Bytes of a full payload, its number included."""
        return NUMBER_SIZE + self.chunk_size


@dataclass(frozen=True, slots=True)
class Chunks:
    """A content, and the payloads that carry it, in the order of their numbers."""

    content: Content
    payloads: Sequence[bytes]
