"""Artifacts: models and feature sets as a registry lists them, and the names they may have.

The dataclasses check themselves, so an artifact that exists is one whose id and file names are
safe to build paths and URLs from, on every system.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from decode_zoo.core.errors import InputError
from decode_zoo.core.files import open_plain, sha256_of, sha256_of_stream
from decode_zoo.core.text import DEVICE_NAME, brief, check_id

__all__ = ["FOLDERS", "Artifact", "FileEntry", "difference", "entry_for", "hash_file"]

_FILE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 40  # bytes
_MOST_FILES = 1000
_LONGEST_TEXT = 2000
# Controls, invisible and reordering characters: they could forge what a terminal shows.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
FOLDERS = {"model": "models", "features": "features"}


@dataclass(frozen=True)
class FileEntry:
    """What a published file must be: 64 lowercase hexadecimal digits, and bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Refuse a hash or size that no file can have."""
        if not (isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)):
            raise InputError(
                f"sha256: must be 64 lowercase hexadecimal digits, got {brief(self.sha256)}"
            )
        if type(self.size) is not int or not 0 <= self.size <= _LARGEST:
            raise InputError(
                f"size: must be a whole number of bytes, at most {_LARGEST}, got {brief(self.size)}"
            )


@dataclass(frozen=True)
class Artifact:
    """One published model bundle or feature set.

    The id carries the version (``gtex-tissue-decode-v1``) and never changes its meaning.
    """

    id: str
    kind: str  # 'model' or 'features'
    title: str
    license: str
    citation: str
    features: str | None  # id of the feature set that a model reads
    files: Mapping[str, FileEntry]  # by name, at least one
    # What its files, which never change, say wrongly; no part of its meaning.
    erratum: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse values that are missing or unsafe as parts of a path."""
        check_id(self.id, "id")
        if self.kind not in FOLDERS:
            raise InputError(f"kind: must be one of {', '.join(FOLDERS)}, got {self.kind!r}")
        for key in ("title", "license", "citation"):
            _check_text(getattr(self, key), key)
        if self.erratum is not None:
            _check_text(self.erratum, "erratum")
        if self.features is not None:
            if self.kind != "model":
                raise InputError("features: only a model names the feature set that it reads")
            check_id(self.features, "features")
        if not 0 < len(self.files) <= _MOST_FILES:
            raise InputError(
                f"files: is empty, or has more than {_MOST_FILES} entries ({len(self.files)})"
            )
        seen: dict[str, str] = {}
        for name in self.files:
            if not _is_file_name(name):
                raise InputError(
                    f"files: {brief(name)} is no file name (letters, digits, '.', '_', '-', first "
                    "a letter or digit, last no '.', at most 100; no folders, no name of a device)"
                )
            # On many disks the two would be one file.
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise InputError(f"files: {other!r} and {name!r} differ only in capitals")

    @property
    def folder(self) -> str:
        """Where its files lie in a mirror, the cache and ``zoo/``, e.g. ``models/<id>``."""
        return f"{FOLDERS[self.kind]}/{self.id}"


def hash_file(path: str | os.PathLike[str]) -> FileEntry:
    """Hash and measure a file."""
    return FileEntry(sha256_of(path), os.path.getsize(path))


def difference(
    path: str | os.PathLike[str],
    entry: FileEntry,
    *,
    follow: bool = False,
    digest: Callable[[BinaryIO, int], str] = sha256_of_stream,
) -> str | None:
    """Return in words how a file differs from what is published; None if it does not.

    Its size is looked at first, and no more than that is read. A link is no ordinary file, unless
    `follow`. `digest` gives the SHA-256 of so many bytes of an open file.
    """
    try:
        with open_plain(path, follow=follow) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.size:
                return f"expected {entry.size} bytes, got {size}"
            sha256 = digest(file, size)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except InputError as error:
        return error.message
    return None if sha256 == entry.sha256 else f"expected sha256 {entry.sha256}, got {sha256}"


def entry_for(folder: str | os.PathLike[str]) -> dict[str, FileEntry]:
    """Describe the files of a bundle or feature set on disk, sorted by name, for publishing it.

    Raises InputError if there is no such folder, it is empty, or it holds anything but files with
    names that a registry accepts.
    """
    try:
        paths = sorted(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=folder) from error
    if not paths:
        raise InputError("the folder is empty", path=folder)
    for path in paths:
        if path.is_symlink() or not (path.is_file() and _is_file_name(path.name)):
            raise InputError(
                f"{path.name!r} cannot be published: no file (a folder or link), or a hidden or "
                "unusual name",
                path=folder,
                remedy="Remove it, or give it a name of letters, digits, '.', '_' and '-'.",
            )
    return {path.name: hash_file(path) for path in paths}


def _is_file_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and _FILE_NAME.fullmatch(name) is not None
        and DEVICE_NAME.fullmatch(name) is None
    )


def _check_text(value: object, where: str) -> None:
    if not (isinstance(value, str) and value.strip()):
        raise InputError(f"{where}: must be text and not empty, got {brief(value)}")
    if len(value) > _LONGEST_TEXT:
        raise InputError(f"{where}: has {len(value)} characters (at most {_LONGEST_TEXT})")
    for character in value:
        if unicodedata.category(character) in _HIDDEN:
            raise InputError(f"{where}: must be one line without the character {character!r}")
