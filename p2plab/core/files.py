"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

_WORDS = {
    errno.ENOSPC: "the disk at {disk} is full: make room there, or take another folder",
    getattr(errno, "EDQUOT", -1): "your share of the disk at {disk} is used up",
    errno.EROFS: "the disk at {disk} can only be read: take a folder on another one",
    errno.ENOENT: "there is no folder {folder}: make it first",
    errno.ENOTDIR: "{folder} is not a folder: take one",
    errno.EEXIST: "it exists already: take another name",
    errno.ENAMETOOLONG: "its name is too long: take a shorter one",
    errno.EISDIR: "it is a folder: name a file in it",
}
_OTHERS = "{why} on the disk at {disk}: take a folder in which you may make files"


def write_file(path: Path, pieces: Iterable[bytes], *, new: bool = False) -> Path:
    """Write these pieces beside the file, rename it when whole, and return its path.

    new: overwrite nothing. Raises the OSError that happened, in words and with its
    errno; then nothing was written and an older file is as it was.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        if not new and path.exists() and not path.is_file():  # a terminal, a pipe
            path.write_bytes(b"".join(pieces))
            return path
        try:
            with part.open("xb") as file:
                file.writelines(pieces)
            if new:
                path.open("xb").close()  # from here on nobody else takes the name
            part.replace(path.resolve())  # what a link names, not the link
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _in_words(error, path) from error
    return path


def _in_words(error: OSError, path: Path) -> OSError:
    folder = path.absolute().parent
    disk = next(each for each in (folder, *folder.parents) if os.path.ismount(each))
    words = _WORDS.get(error.errno or 0, _OTHERS)
    why = words.format(disk=disk, folder=folder, why=error.strerror or error)
    told = type(error)(f"{path} cannot be written: {why}")
    told.errno = error.errno
    return told
