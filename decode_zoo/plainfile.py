"""Files and folders that others made: nothing but ordinary ones is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from decode_zoo.errors import InputError

__all__ = ["entries_of", "kind_of", "open_plain"]


def entries_of(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder by name; nothing if it is not there, or not a folder but a link to one."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def kind_of(mode: int) -> str:
    """Say in words what a file of this mode (``st_mode``) is."""
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def open_plain(path: Path) -> BinaryIO:
    """Open an ordinary file; never follow a link, never wait for a pipe.

    Parameters
    ----------
    path : Path

    Returns
    -------
    BinaryIO

    Raises
    ------
    OSError
        If it cannot be opened.
    InputError
        If it is anything else.
    """
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        raise InputError(f"{kind_of(mode)}, no ordinary file")
    # It may have been exchanged since: hence the flags, and a second look at what was opened.
    names = ("O_RDONLY", "O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    file = os.fdopen(os.open(path, flags), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise InputError(f"{kind_of(mode)}, no ordinary file")
    return file
