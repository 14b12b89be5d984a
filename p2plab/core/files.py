"""Files that are whole, or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write(
    path: str | os.PathLike[str], pieces: Iterable[bytes], *, new: bool = False
) -> Path:
    """Write a file beside its place, put it there when it is whole; return its path.

    new: refuse a name that is taken; without it, what had the name is replaced.
    Raises an OSError of the system's own kind that names the file, the cause and a
    cure; then nothing is left behind.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if new and path.exists():
            raise _taken()
        try:
            with beside.open("xb") as file:
                file.writelines(pieces)
            _put(beside, path, new)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as why:
        better = type(why)(f"{path} cannot be written: {_in_words(why, path)}")
        better.errno = why.errno
        raise better from why
    return path


def _put(beside: Path, path: Path, new: bool) -> None:
    if not new:
        beside.replace(path)
    elif os.name == "nt":
        beside.rename(path)  # which refuses a name that is taken
    else:
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            raise
        except OSError as why:  # a file system without links, such as a USB stick's
            if path.exists():
                raise _taken() from why
            beside.rename(path)


def _taken() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "the name is taken")


def _in_words(why: OSError, path: Path) -> str:
    folder = path.absolute().parent
    if why.errno in (errno.ENOSPC, errno.EDQUOT):
        disk = folder
        while not disk.is_mount() and disk != disk.parent:
            disk = disk.parent
        return f"the disk {disk} is full. Make room there, or take another disk"
    cures = {
        errno.EEXIST: "a file of that name is there. Take another name",
        errno.EISDIR: "it is a folder. Add the name of a file",
        errno.ENOENT: f"there is no folder {folder}. Make it first",
        errno.ENAMETOOLONG: "the name is too long. Take a shorter one",
        errno.EROFS: "the disk can only be read. Take another folder",
        errno.EACCES: f"you may not make files in {folder}. Take another folder",
        errno.EPERM: f"you may not make files in {folder}. Take another folder",
    }
    return cures.get(why.errno or 0) or f"{why.strerror or why}"
