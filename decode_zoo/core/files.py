"""Files: opened without waiting, unpacked within limits, hashed, and written whole or not at all.

A pipe without a writer would block for ever, a device never ends, and a few kilobytes of gzip can
stand for all of the memory: none of them gets as far as a parser.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import sys
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.schema import parse_json

__all__ = [
    "MAX_BYTES",
    "atomic_dir",
    "atomic_path",
    "check_expansion",
    "check_files",
    "check_folder",
    "discard_stdout",
    "entries_of",
    "hash_once",
    "kind_of",
    "only_ours",
    "open_input",
    "open_plain",
    "read_at_most",
    "read_bytes",
    "sha256_of",
    "sha256_of_stream",
    "unpack",
]

FilePath = str | os.PathLike[str]

# The largest GENCODE annotation has about 2 GiB.
MAX_BYTES = 4 << 30
# Genomics text shrinks five- to fiftyfold, repetitive text more, but not for so long.
MAX_RATIO = 250
_FREE_BYTES = 256 << 20
_BLOCK = 1 << 20
_FRESH = 2_000_000_000  # ns
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# What was hashed in this process, by device, inode, size, mtime and ctime.
_hashed: dict[tuple[int, int, int, int, int], str] = {}

# Pipes that whoever started this process holds open: <(command) of a shell, and standard input.
_HELD_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}

_MAX_DESCRIPTION = 128 << 20


class FolderKind(NamedTuple):
    """A kind of folder that decode-zoo makes, and may replace if nothing else is in it."""

    files: tuple[str, ...]  # the first describes the folder, with its format_version
    kept: tuple[str, ...] = ()  # written by hand: they go over into the new folder


# -- reading ---------------------------------------------------------------------------------------


def entries_of(folder: FilePath) -> list[os.DirEntry[str]]:
    """List a folder by name; nothing if it is not there, or not a folder but a link to one."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def kind_of(mode: int) -> str:
    """Return in words what a file of this mode (``st_mode``) is."""
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def open_plain(path: FilePath, *, follow: bool = False, pipe: bool = False) -> io.BufferedReader:
    """Open an ordinary file; never wait for a pipe.

    With `follow`, a link counts as what it leads to. With `pipe`, a named pipe is taken, too:
    whoever asks knows that it has a writer. Raises InputError, without the path, for anything
    else; OSError if it cannot be opened, and ValueError for a path with a NUL.
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


def open_input(path: FilePath, *, pipe: bool = False) -> io.BufferedReader:
    """Open a file that a user names, or raise InputError; links are followed.

    With `pipe`, a pipe that the shell has made (``<(command)``) is taken, too.
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


def check_expansion(size: int, packed: int, path: FilePath) -> None:
    """Refuse compressed data that grow beyond all that is sensible (sizes in bytes)."""
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

    def __init__(self, packed: io.BufferedReader, path: FilePath) -> None:
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


def unpack(stream: io.BufferedReader, path: FilePath) -> BinaryIO:
    """Return a stream's content, decompressed if it is gzip (told by its magic bytes).

    Reading it raises InputError if the gzip data are damaged or a bomb; `path` is for messages.
    """
    if stream.peek(2)[:2] != b"\x1f\x8b":
        return stream
    return cast(BinaryIO, io.BufferedReader(_Unpacker(stream, path), _BLOCK))


def read_bytes(path: FilePath) -> bytes:
    """Return the content of a file that a user names, decompressed if it is gzip."""
    with open_input(path) as file:
        check_expansion(size := os.fstat(file.fileno()).st_size, size, path)
        try:
            stream = unpack(file, path)
            if stream is file:
                return file.read()
            return b"".join(iter(lambda: stream.read(_BLOCK), b""))
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", path=path) from error


def read_at_most(path: FilePath, limit: int) -> bytes:
    """Return the content of a file of this package's own formats, which are never packed."""
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


def sha256_of(path: FilePath) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hash_once(file, os.fstat(file.fileno()).st_size)


def hash_once(file: BinaryIO, size: int) -> str:
    """Hash an open file, unless this process did so and the file was not touched since."""
    status = os.fstat(file.fileno())
    key = (status.st_dev, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _hashed or not stat.S_ISREG(status.st_mode):
        sha256 = sha256_of_stream(file, size if stat.S_ISREG(status.st_mode) else None)
        # Within one tick of the file system's clock a second change leaves no trace,
        # so what was written just now is hashed again next time.
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _FRESH:
            return sha256
        _hashed[key] = sha256
    return _hashed[key]


def only_ours(status: os.stat_result) -> bool:
    """Return whether only this user can have written a file, or into a folder."""
    if not hasattr(os, "geteuid"):  # Windows, where the cache is in the user's profile
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def sha256_of_stream(file: BinaryIO, most: int | None = None) -> str:
    """Hash the rest of an open file, or its next `most` bytes: it may grow meanwhile."""
    digest, left = hashlib.sha256(), most
    while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
        digest.update(block)
        left = None if left is None else left - len(block)
    return digest.hexdigest()


# -- writing ---------------------------------------------------------------------------------------


@contextmanager
def atomic_path(path: FilePath) -> Iterator[Path]:
    """Give a temporary name, which the block must create; it becomes `path` if the block succeeds.

    The name is unique and on the same file system, so that writers never meet and the final rename
    is atomic; the data reach the disk before the name does. On any error, Ctrl-C included, `path`
    is untouched. Of a symbolic link, the target is replaced.
    """
    target = Path(os.path.realpath(path))
    temporary = _sibling(target)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


@contextmanager
def atomic_dir(path: FilePath, replaces: FolderKind | None = None) -> Iterator[Path]:
    """Give an empty temporary folder, which becomes `path` if the block succeeds.

    `path` may be an empty folder, or one of the kind that it `replaces`. UsageError is raised,
    before and after the block, if `path` may not be replaced, or if a run that was killed while it
    replaced `path` has left the former folder beside it.
    """
    target = Path(os.path.realpath(path))
    check_folder(target.parent, path)
    aside = target.with_name(f".{target.name}.decode-zoo-replaced")
    _check_replaceable(target, aside, path, replaces)
    temporary = _sibling(target)
    temporary.mkdir()
    moved = False
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _check_replaceable(target, aside, path, replaces)
        for name in replaces.kept if replaces else ():
            if (target / name).exists() and not (temporary / name).exists():
                shutil.copyfile(target / name, temporary / name)
                _sync(temporary / name)
        if target.exists():
            os.rename(target, aside)
            moved = True
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if moved:
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:  # the second rename failed: put the old folder back
                os.rename(aside, target)
    _sync_folder(target.parent)


def _sibling(target: Path) -> Path:
    return target.with_name(f".decode-zoo-{uuid.uuid4().hex}.tmp")


def _sync(file: Path) -> None:
    with open(file, "rb+") as stream:  # Windows syncs only what is open for writing
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    # Some systems cannot sync a folder; the rename has happened all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_folder(folder: Path, path: FilePath) -> None:
    """Refuse a folder that `path`, an output, cannot be written to."""
    if not folder.is_dir():
        raise UsageError(
            f"Cannot write {os.fspath(path)}: there is no folder {folder}.",
            remedy=f"Make it first: mkdir -p '{folder}'",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"Cannot write {os.fspath(path)}: the folder {folder} is not writable.",
            remedy="Choose another folder, or change its permissions.",
        )


def check_files(path: FilePath, files: Iterable[FilePath], force: bool) -> None:
    """Refuse an output that may not be written: `files` are itself and what goes beside it."""
    check_folder(Path(os.path.realpath(path)).parent, path)
    check_folder(Path(os.path.abspath(path)).parent, path)  # of what goes beside a link
    for file in map(Path, files):
        if file.exists() and not (force and file.is_file()):
            found = "exists" if file.is_file() else "exists and is not a regular file"
            instead = ", or replace it with --force" if file.is_file() else ""
            raise UsageError(f"{file} {found}.", remedy=f"Choose another name with -o{instead}.")


def discard_stdout() -> None:
    """Send what is still to be printed nowhere, for standard output has failed.

    Python flushes it once more at exit, which would fail again and turn into the exit code 120.
    """
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _check_replaceable(
    target: Path, aside: Path, path: FilePath, replaces: FolderKind | None
) -> None:
    """Refuse a target that may not be replaced, or that a killed run has moved aside."""
    name = os.fspath(path)
    if os.path.lexists(aside):
        remedy = f"Put it back and try again: mv '{aside}' '{target}'"
        if target.exists():  # killed behind both renames: what is left is of no use
            remedy = "If you do not need it, remove it and try again."
        raise UsageError(
            f"A run that replaced {target} was killed and left the former folder at {aside}.",
            remedy=remedy,
        )
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{name} exists and is not a folder.", remedy="Choose another name.")
    entries = entries_of(target)
    if not entries:
        return
    if replaces is None:
        raise UsageError(
            f"The folder {name} exists and is not empty.",
            remedy="Choose another name, or replace it with --force where the command has that.",
        )
    own = {*replaces.files, *replaces.kept} if _is_ours(target / replaces.files[0]) else set()
    foreign = [e.name for e in entries if e.name not in own or e.is_dir(follow_symlinks=False)]
    if foreign:
        listed = ", ".join(map(repr, foreign[:5])) + (", …" if len(foreign) > 5 else "")
        found = (
            f"holds more than decode-zoo made: {listed}"
            if own
            else "is not what this command makes"
        )
        raise UsageError(
            f"The folder {name} {found}; --force does not replace it.",
            remedy="Move that elsewhere, or choose another name.",
        )


def _is_ours(description: Path) -> bool:
    try:
        content = parse_json(read_at_most(description, _MAX_DESCRIPTION))
    except (InputError, ValueError):
        return False
    return isinstance(content, dict) and "format_version" in content
