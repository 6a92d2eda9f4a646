"""Files that people bring: opened without waiting, unpacked within limits.

A pipe without a writer would block for ever, a device never ends, and a few kilobytes of gzip can
stand for all of the memory: none of them gets as far as a parser.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from typing import BinaryIO, cast

from decode_zoo.errors import InputError
from decode_zoo.plainfile import open_plain

__all__ = ["MAX_BYTES", "check_expansion", "open_input", "read_at_most", "read_bytes", "unpack"]

# The largest GENCODE annotation has about 2 GiB.
MAX_BYTES = 4 << 30
# Genomics text shrinks five- to fiftyfold, repetitive text more, but not for so long.
MAX_RATIO = 250
_FREE_BYTES = 256 << 20
_BLOCK = 1 << 20

# Pipes that whoever started this process holds open: <(command) of a shell, and standard input.
_HELD_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def open_input(path: str | os.PathLike[str], *, pipe: bool = False) -> io.BufferedReader:
    """Open a file for reading, if it is one; never waits.

    Parameters
    ----------
    path : path-like
        A regular file, or a link to one.
    pipe : bool
        Take a pipe that the shell has made (``<(command)``), too.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, a device or a pipe, or it cannot be read.
    """
    held_open = os.fspath(path).startswith(_HELD_OPEN)
    try:
        return open_plain(path, follow=True, pipe=pipe and held_open)
    except FileNotFoundError:
        raise InputError(
            "no such file", path=path, remedy="Check the name, and the folder it is looked for in."
        ) from None
    except InputError as error:
        remedy = None if os.path.isdir(path) else "Save what it gives to a file first."
        raise InputError(f"is {error.message}", path=path, remedy=remedy) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"cannot be read ({reason})", path=path, remedy="Check its name and permissions."
        ) from error


def check_expansion(size: int, packed: int, path: str | os.PathLike[str]) -> None:
    """Refuse compressed data that grow beyond all that is sensible.

    Parameters
    ----------
    size : int
        Bytes that they have unpacked, or say that they will.
    packed : int
        Bytes that they had packed.
    path : path-like
        The file, for the message.

    Raises
    ------
    InputError
        If that is more than `MAX_BYTES`, or more than `MAX_RATIO` times as much as it was and more
        than 256 MiB.
    """
    if size > MAX_BYTES:
        raise InputError(
            f"has more than {MAX_BYTES >> 30} GiB and is not read",
            path=path,
            remedy="Keep only the lines that are needed.",
        )
    if size > _FREE_BYTES and size > MAX_RATIO * packed:
        raise InputError(
            f"unpacks to more than {MAX_RATIO} times its size and is not read (a decompression "
            "bomb?)",
            path=path,
            remedy="If you trust it, unpack it yourself and give the unpacked file.",
        )


class _Unpacker(io.RawIOBase):
    """Decompresses gzip, and counts."""

    def __init__(self, packed: io.BufferedReader, path: str | os.PathLike[str]) -> None:
        self._packed, self._path = packed, path
        self._stream = gzip.GzipFile(fileobj=packed)
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            count = self._stream.readinto(buffer)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"the gzip stream is damaged, truncated or corrupt ({error})",
                path=self._path,
                remedy="Fetch or compress the file again ('gzip -t' checks it).",
            ) from error
        self._size += count
        check_expansion(self._size, self._packed.tell(), self._path)
        return count


def unpack(stream: io.BufferedReader, path: str | os.PathLike[str]) -> BinaryIO:
    """Return a stream's content, decompressed if it is gzip (told by its magic bytes).

    Parameters
    ----------
    stream : BufferedReader
        Of a file or of bytes, at its beginning; stays open.
    path : path-like
        What to call it in messages.

    Returns
    -------
    BufferedReader
        Reading it raises InputError if the gzip data are damaged or a bomb.
    """
    if stream.peek(2)[:2] != b"\x1f\x8b":
        return stream
    return cast(BinaryIO, io.BufferedReader(_Unpacker(stream, path), _BLOCK))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Content of a file, decompressed if it is gzip.

    Raises
    ------
    InputError
        If it cannot be read, is not a regular file, is larger than `MAX_BYTES`, or its gzip stream
        is damaged or a bomb.
    """
    with open_input(path) as file:
        check_expansion(size := os.fstat(file.fileno()).st_size, size, path)
        try:
            stream = unpack(file, path)
            if stream is file:
                return file.read()
            return b"".join(iter(lambda: stream.read(_BLOCK), b""))
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", path=path) from error


def read_at_most(path: str | os.PathLike[str], limit: int) -> bytes:
    """Content of a file of this package's own formats, which are never packed.

    Parameters
    ----------
    path : path-like
    limit : int
        Bytes that it may have.

    Raises
    ------
    InputError
        If it cannot be read, is not a regular file, or is larger.
    """
    with open_input(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", path=path) from error
    if len(content) > limit:
        raise InputError(
            f"has more than {limit >> 20} MiB, which is too large for what it should be", path=path
        )
    return content
