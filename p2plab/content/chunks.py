"""Pictures, files and bytes: cut into numbered payloads, and put together again.

    payload  =  number of the chunk (4 bytes, big-endian)  +  chunk

A picture travels as raw pixels, so that a lost packet is a hole that one can see.
The number lets the receiver place a chunk whatever the protocol made of the order.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from p2plab.content.content import (
    BYTES_PER_PIXEL,
    KINDS,
    NUMBER_SIZE,
    Content,
    Parcel,
    Payloads,
    check_one_of,
    clean_name,
)
from p2plab.content.orders import pixels, places
from p2plab.content.sources import kind_of, opened, raw_bytes, unpacked
from p2plab.core.packet import MAX_PAYLOAD
from p2plab.errors import BadContent, TransferError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

GROWTH: Final = 250_000  # room that is made at once [bytes]
VERMILION: Final = (213, 94, 0)  # holes are hatched in black and this, #D55E00


def cut(
    thing: object,
    *,
    kind: str | None = None,
    payload_size: int = 1200,
    order: str = "rows",
    name: str | None = None,
) -> Parcel:
    """Cut a picture, a file or bytes into numbered payloads.

    thing: a path; bytes; the value of an ipywidgets FileUpload; a PIL image; a numpy
        array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, bool or floats in
        0..1, or (H, W) of uint16.
    kind: "picture", "file" or "bytes". By default arrays and images are pictures, so
        are paths and uploads with a picture's suffix, other ones are files; bytes
        are sent as they are, unless kind says that they hold a picture file.
    payload_size: bytes, the number included; pixels are never cut in half.
    order: "rows", row by row; "interleaved", neighbours travel in different payloads;
        "tiles", a payload is about a square. Other things than pictures: "rows".

    The modes L, LA, RGB, RGBA, I;16, I, F and CMYK are sent as they are, 1 as L, P and
    PA as RGB or (transparent) RGBA, big-endian I;16 as I;16, all others as RGB.
    EXIF orientation is applied; an animation is sent as its first picture.
    Raises BadContent for what cannot be sent, ValueError for a bad payload_size.
    """
    thing, own_name = unpacked(thing)
    kind = kind or kind_of(thing, own_name)
    check_one_of("kind", kind, KINDS)
    name = clean_name(name or own_name or kind)
    if kind == "picture":
        return _cut_picture(thing, name, payload_size, order)
    raw = raw_bytes(thing)
    chunk_size = _chunk_size(payload_size, 1)
    content = Content(kind, name, len(raw), chunk_size, "0" * 64, order=order)
    return _parcel(raw, content)


def _cut_picture(thing: object, name: str, payload_size: int, order: str) -> Parcel:
    image = opened(thing, name)
    raw = image.tobytes()
    chunk_size = _chunk_size(payload_size, BYTES_PER_PIXEL[image.mode])
    shape = image.mode, *image.size, order
    content = Content("picture", name, len(raw), chunk_size, "0" * 64, *shape)
    way = places(content)
    if way is not None:
        raw = pixels(raw, content)[way].tobytes()
    return _parcel(raw, content)


def _chunk_size(payload_size: int, unit: int) -> int:
    if not NUMBER_SIZE + unit <= payload_size <= MAX_PAYLOAD:
        limits = f"[{NUMBER_SIZE + unit}, {MAX_PAYLOAD}]"
        raise ValueError(f"payload_size must be in {limits}, got {payload_size}")
    return (payload_size - NUMBER_SIZE) // unit * unit


def _parcel(stream: bytes, content: Content) -> Parcel:
    fingerprint = hashlib.sha256(stream).hexdigest()
    payloads = Payloads(stream, content.chunk_size)
    return Parcel(replace(content, sha256=fingerprint), payloads)


class Assembly:
    """The chunks that have arrived so far; safe to use from several threads.

    received: different chunks. duplicates: chunks that came again. ignored: payloads
    that are no chunk of this content.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.received = self.duplicates = self.ignored = 0
        self._size, self._step = content.size, content.chunk_size
        self._last = content.count - 1
        self._last_size = self._size - self._last * self._step
        # Cuts the number off, and refuses what is longer or shorter, all in one call.
        self._split = struct.Struct(f"!I{self._step}s").unpack
        # In the order of travel. It grows as it fills: to make room for a large file
        # takes milliseconds, and the first packets would wait for it.
        self._stream = bytearray()
        self._have = bytearray(content.count)

    def add(self, payload: bytes) -> bool:
        """Put a payload in its place; False if it brought nothing new. Never raises."""
        try:
            number, chunk = self._split(payload)
        except struct.error:  # not as long as the others: the last one, or none of ours
            number, chunk = self._last, payload[NUMBER_SIZE:]
            its_number = number.to_bytes(NUMBER_SIZE, "big")
            if len(chunk) != self._last_size or payload[:NUMBER_SIZE] != its_number:
                self.ignored += 1
                return False
        start = number * self._step
        end = start + len(chunk)
        if end > self._size:
            self.ignored += 1
            return False
        have, stream = self._have, self._stream
        if have[number]:
            self.duplicates += 1
            return False
        if end > len(stream):
            stream += bytes(min(end + GROWTH, self._size) - len(stream))
        stream[start:end] = chunk
        have[number] = True  # last, so that whoever looks finds no empty place
        self.received += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.received > self._last

    @property
    def progress(self) -> float:
        """Share of the chunks that are here, in 0..1."""
        return self.received / self.content.count

    @property
    def missing(self) -> list[int]:
        """Numbers of the chunks that are not here yet."""
        return [number for number, here in enumerate(self._snapshot()[1]) if not here]

    def _snapshot(self) -> tuple[bytes, bytes]:
        have = bytes(self._have)  # first: what it names is in the stream by then
        return bytes(self._stream).ljust(self.content.size, b"\0"), have

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        return places(self.content)  # not before somebody looks: it takes its time

    def _in_place(self, stream: bytes) -> bytes:
        if self._places is None:
            return stream
        travelled = pixels(stream, self.content)
        picture = travelled.copy()
        picture[self._places] = travelled
        return picture.tobytes()

    def data(self) -> bytes:
        """The raw data, pixels row by row; what is missing is zeros."""
        return self._in_place(self._snapshot()[0])

    def verify(self) -> bool:
        """Whether everything is here and has the fingerprint that was announced."""
        if not self.complete:
            return False
        # From here on nothing changes: there is no need to copy it.
        return hashlib.sha256(self._stream).hexdigest() == self.content.sha256

    def picture(self, *, holes: bool = True) -> Image:
        """The picture as far as it is here, a copy that no later chunk changes.

        holes: hatch what is missing in black and vermilion, on an RGB picture; else it
        is zeros. A picture without holes is in its own mode.
        Raises BadContent if the content is no picture.
        """
        from PIL import Image

        it = self.content
        if it.kind != "picture":
            raise BadContent(f"{it.name} is no picture: take data() or save()")
        stream, have = self._snapshot()
        image = Image.frombytes(it.mode, (it.width, it.height), self._in_place(stream))
        if not holes or all(have):
            return image
        return _hatched(image, self._where(have))

    def _where(self, have: bytes) -> NDArray[np.bool_]:
        """(height, width) of whether that pixel is here."""
        import numpy as np

        it = self.content
        per_chunk = it.chunk_size // BYTES_PER_PIXEL[it.mode]
        chunks = np.frombuffer(have, np.bool_)
        here = np.repeat(chunks, per_chunk)[: it.width * it.height]
        if self._places is not None:
            travelled, here = here, np.empty_like(here)
            here[self._places] = travelled
        return here.reshape(it.height, it.width)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a new file, and return its path; nothing is ever overwritten.

        path: a folder, where the content's own name is used, with a number if it is
        taken; or a file, whose suffix is the format of a picture. A picture may have
        holes. Raises FileExistsError if that file exists, TransferError if chunks of
        anything but a picture are missing, BadContent for an impossible format.
        """
        target = Path(path)
        if not target.is_dir():
            if self.content.kind == "picture" and not target.suffix:
                raise BadContent(
                    f"there is no folder {target}: make it first, or take .png or "
                    f".tiff for a file, such as {target}.png"
                )
            return _write_new(target, self._encoded(target.suffix))
        name = PurePosixPath(self.content.name)
        if self.content.kind == "picture":
            lossless = ".tiff" if self.content.mode in ("CMYK", "F", "I") else ".png"
            name = name.with_suffix(lossless)
        encoded = self._encoded(name.suffix)
        for number in count(1):
            free = f"{name.stem} ({number}){name.suffix}" if number > 1 else str(name)
            try:
                return _write_new(target / free, encoded)
            except FileExistsError:
                continue
        raise AssertionError("count() never ends")

    def _encoded(self, suffix: str) -> bytes | bytearray:
        """The bytes of a file of that suffix."""
        from PIL import Image

        if self.content.kind != "picture":
            if not self.complete:
                raise TransferError(
                    f"{self.content.name} is not complete: {self.received} of "
                    f"{self.content.count} chunks are here; data() returns those"
                )
            return self._stream
        file = io.BytesIO()
        try:
            format = Image.registered_extensions()[suffix.lower()]
            self.picture().save(file, format)
        except (KeyError, OSError, ValueError) as error:
            raise BadContent(
                f"a picture of mode {self.content.mode} cannot be saved as {suffix}: "
                f"take .png or .tiff ({error})"
            ) from error
        return file.getvalue()


def _write_new(path: Path, data: bytes | bytearray) -> Path:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written: {error.strerror}; take a folder in which you "
            "may make files, and a name that is free"
        ) from error
    return path


def _hatched(image: Image, here: NDArray[np.bool_]) -> Image:
    import numpy as np
    from PIL import Image

    if image.mode in ("I;16", "I", "F"):  # shown from the darkest to the brightest
        values = np.nan_to_num(np.array(image, np.float64), posinf=0, neginf=0)
        low, high = np.min(values[here], initial=0), np.max(values[here], initial=1)
        grey = np.clip((values - low) / (high - low), 0, 1) * 255
        image = Image.fromarray(grey.astype(np.uint8))
    picture = np.array(image.convert("RGB"))
    rows, columns = (np.arange(n).astype(np.uint8) for n in here.shape)
    striped = (rows[:, None] + columns) & 4 > 0
    picture[~here & striped] = VERMILION
    picture[~here & ~striped] = 0
    return Image.fromarray(picture)
