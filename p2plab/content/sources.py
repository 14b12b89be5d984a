"""Whatever a person has: the path that is meant, the bytes that are in it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from p2plab.content.content import MAX_BYTES, check_bytes
from p2plab.errors import BadContent


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
