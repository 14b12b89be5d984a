"""Pictures, files and bytes: cut into numbered payloads, and put together again.

    payload  =  number of the chunk (4 bytes, big-endian)  +  chunk

A picture travels as raw pixels, so that a lost packet is a hole that one can see.
The number lets the receiver place a chunk whatever the protocol made of the order.
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from math import isqrt
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from p2plab.content.content import (
    BYTES_PER_PIXEL,
    KINDS,
    MAX_BYTES,
    NUMBER_SIZE,
    Chunks,
    Content,
    check_bytes,
    check_one_of,
    clean_name,
)
from p2plab.content.pictures import opened
from p2plab.core.files import write_file
from p2plab.core.packet import MAX_PAYLOAD, PAYLOAD_SIZE
from p2plab.errors import BadContent, TransferError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

VERMILION: Final = (213, 94, 0)  # holes are hatched in black and this, #D55E00
NOT_YET: Final = (191, 191, 191)  # what may still come is grey


def cut(
    thing: object,
    *,
    kind: str | None = None,
    payload_size: int = PAYLOAD_SIZE,
    order: str = "rows",
    name: str | None = None,
) -> Chunks:
    """Cut a picture, a file or bytes into numbered payloads.

    thing: a path; bytes; the value of an ipywidgets FileUpload; a PIL image; a numpy
        array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or
        floats in 0..1; what is masked is transparent.
    kind: "picture", "file" or "bytes". By default arrays and images are pictures, so
        are paths and uploads with a picture's suffix, other ones are files; bytes
        are sent as they are, unless kind says that they hold a picture file.
    payload_size: bytes, the number included; pixels are never cut in half.
    order: "rows", row by row; "interleaved", neighbours travel in different payloads;
        "tiles", a payload is about a square. Other things than pictures: "rows".

    A picture is sent as the pixels that a browser shows of it: 8 bits, sRGB, in the
    mode L, RGB or RGBA, upright; of an animation, its first picture.
    Raises BadContent for what cannot be sent, ValueError for a bad payload_size.
    """
    thing, own_name = _unpacked(thing)
    kind = kind or _kind_of(thing, own_name)
    check_one_of("kind", kind, KINDS)
    name = clean_name(name or own_name or kind)
    shape: tuple[str, int, int] = "", 0, 0
    if kind == "picture":
        image = opened(_raw_bytes(thing) if isinstance(thing, Path) else thing, name)
        shape, raw = (image.mode, *image.size), image.tobytes()
    else:
        raw = _raw_bytes(thing)
    unit = BYTES_PER_PIXEL.get(shape[0], 1)
    if not NUMBER_SIZE + unit <= payload_size <= MAX_PAYLOAD:
        limits = f"[{NUMBER_SIZE + unit}, {MAX_PAYLOAD}]"
        raise ValueError(f"payload_size must be in {limits}, got {payload_size}")
    size = (payload_size - NUMBER_SIZE) // unit * unit
    content = Content(kind, name, len(raw), size, "0" * 64, *shape, order)
    if (travelling := places(content)) is not None:
        raw = pixels(raw, content)[travelling].tobytes()
    payloads = [
        number.to_bytes(NUMBER_SIZE, "big") + raw[number * size : (number + 1) * size]
        for number in range(content.count)
    ]
    content = replace(content, sha256=hashlib.sha256(raw).hexdigest())
    return Chunks(content, payloads)


def _unpacked(thing: object) -> tuple[object, str]:
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


def _kind_of(thing: object, name: str) -> str:
    """The kind of content that somebody means who does not say it."""
    if not isinstance(thing, (bytes, Path)):
        return "picture"
    if not name:
        return "bytes"
    from PIL import Image  # only now: it takes 10 ms, which bytes need not wait for

    suffix = PurePosixPath(name).suffix.lower()
    known = Image.registered_extensions().get(suffix) in Image.OPEN  # PDF is not
    return "picture" if known else "file"


def _raw_bytes(thing: object) -> bytes:
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


class Assembly:
    """The chunks that have arrived so far: one thread adds, others may look.

    received: different chunks. duplicates: chunks that came again. ignored: payloads
    that are no chunk of this content.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.received = self.duplicates = self.ignored = 0
        self._chunks: list[bytes | None] = [None] * content.count

    def add(self, payload: bytes) -> bool:
        """Put a payload in its place; False if it brought nothing new. Never raises."""
        number = int.from_bytes(payload[:NUMBER_SIZE], "big")
        chunk = payload[NUMBER_SIZE:]
        if len(payload) < NUMBER_SIZE or len(chunk) != self.content.size_of(number):
            self.ignored += 1
            return False
        if self._chunks[number] is not None:
            self.duplicates += 1
            return False
        self._chunks[number] = chunk
        self.received += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.received == self.content.count

    @property
    def progress(self) -> float:
        """Share of the chunks that are here, in 0..1."""
        return self.received / self.content.count

    @property
    def missing(self) -> list[int]:
        """Numbers of the chunks that are not here yet."""
        return [number for number, chunk in enumerate(self._chunks) if chunk is None]

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        return places(self.content)  # not before somebody looks: it takes its time

    def _raw(self, chunks: Sequence[bytes | None]) -> bytes:
        """What these chunks hold, pixels row by row; what is missing is zeros."""
        zeros = bytes(self.content.chunk_size)
        stream = b"".join(zeros if chunk is None else chunk for chunk in chunks)
        stream = stream[: self.content.size]  # the last chunk may be a short one
        if self._places is None:
            return stream
        return in_place(pixels(stream, self.content), self._places).tobytes()

    def data(self) -> bytes:
        """The raw data, pixels row by row; what is missing is zeros."""
        return self._raw(list(self._chunks))

    def verify(self) -> bool:
        """Whether everything is here and has the fingerprint that was announced."""
        fingerprint = hashlib.sha256()
        for chunk in self._chunks:
            if chunk is None:
                return False
            fingerprint.update(chunk)
        return fingerprint.hexdigest() == self.content.sha256

    def picture(self, *, holes: bool = True, awaited: Collection[int] = ()) -> Image:
        """The picture as far as it is here, a copy that no later chunk changes.

        holes: hatch what is missing in black and vermilion, a grey picture becoming
        RGB; else it is zeros. A picture without holes is in its own mode.
        awaited: missing chunks that may still come, and are plain grey therefore.
        Raises BadContent if the content is no picture.
        """
        import numpy as np
        from PIL import Image

        it, chunks = self.content, list(self._chunks)
        if it.kind != "picture":
            raise BadContent(f"{it.name} is no picture: take data() or save()")
        size = it.width, it.height
        picture = Image.frombytes(it.mode, size, self._raw(chunks))
        if not holes or None not in chunks:
            return picture
        per_chunk = it.chunk_size // BYTES_PER_PIXEL[it.mode]
        shape = it.height, it.width

        def where(marked: list[bool]) -> NDArray[np.bool_]:
            every = np.repeat(marked, per_chunk)[: it.width * it.height]
            return in_place(every, self._places).reshape(shape)

        y, x = (np.arange(n).astype(np.uint8) for n in shape)
        striped = ((y[:, None] + x) & 4 > 0)[:, :, None]
        marks = striped * np.array(VERMILION, np.uint8)
        marks[where([number in awaited for number in range(it.count)])] = NOT_YET
        picture = picture.convert("RGBA" if it.mode == "RGBA" else "RGB")
        missing = where([chunk is None for chunk in chunks])
        picture.paste(Image.fromarray(marks), mask=Image.fromarray(missing))
        return picture

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
            return write_file(target, self._encoded(target.suffix), new=True)
        own = target / self.content.name
        if self.content.kind == "picture":
            own = own.with_suffix(".png")
        encoded = self._encoded(own.suffix)
        free, number = own, 1
        while True:
            try:
                return write_file(free, encoded, new=True)
            except FileExistsError:
                number += 1
                free = own.with_stem(f"{own.stem} ({number})")

    def _encoded(self, suffix: str) -> Iterable[bytes]:
        """The bytes of a file of that suffix, in pieces: a large file stays one."""
        from PIL import Image

        if self.content.kind != "picture":
            if not self.complete:
                raise TransferError(
                    f"{self.content.name} is not complete: {self.received} of "
                    f"{self.content.count} chunks are here; data() returns those"
                )
            return [chunk for chunk in self._chunks if chunk is not None]
        file = io.BytesIO()
        try:
            format = Image.registered_extensions()[suffix.lower()]
            self.picture().save(file, format)
        except (KeyError, OSError, ValueError) as error:
            raise BadContent(
                f"a picture of mode {self.content.mode} cannot be saved as {suffix}: "
                f"take .png or .tiff ({error})"
            ) from error
        return [file.getvalue()]


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
