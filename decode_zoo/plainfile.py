"""Opening files that others made: nothing but ordinary ones, and without waiting."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable

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


def open_plain(
    path: str | os.PathLike[str], *, follow: bool = False, pipe: bool = False
) -> io.BufferedReader:
    """Open an ordinary file for reading; never wait for a pipe.

    Parameters
    ----------
    path : path-like
    follow : bool
        Take a link for what it leads to; otherwise it is no ordinary file.
    pipe : bool
        Take a named pipe, too; whoever asks knows that it has a writer.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If there is a NUL in the path.
    InputError
        If it is anything else; the message lacks the path.
    """
    _check_kind((os.stat if follow else os.lstat)(path).st_mode, pipe)
    # It may have been exchanged since: hence the flags, and a second look at what was opened.
    flags = 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    for name in ("O_RDONLY", "O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        _check_kind(mode, pipe)
        if stat.S_ISFIFO(mode):
            os.set_blocking(descriptor, True)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(mode: int, pipe: bool) -> None:
    if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
        raise InputError(f"{kind_of(mode)}, no ordinary file")
