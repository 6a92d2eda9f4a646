"""What is in the cache, and what of it can go.

The cache may be a folder that other things live in. What decode-zoo cannot know to be its own is
never removed: only files of registered artifacts, what its own downloads left, and artifacts whose
folder has the description that decode-zoo writes into each. Symbolic links are not followed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from decode_zoo.core.errors import ArtifactError, InputError, VerificationError
from decode_zoo.core.files import entries_of, open_plain
from decode_zoo.core.text import check_id
from decode_zoo.zoo.artifact import FOLDERS, Artifact
from decode_zoo.zoo.download import is_left, is_partial
from decode_zoo.zoo.store import Store

__all__ = ["STATES", "CachedFile", "clean", "removable", "survey"]

State = Literal[
    "verified",
    "damaged",  # not what the registry says
    "unreadable",
    "in the way",  # a folder where a file should be
    "unfinished",  # left by a download that died
    "in use",  # a download under way
    "unregistered",  # of an artifact that no registry in use has
    "foreign",  # not made by decode-zoo, or a link
]
STATES: tuple[str, ...] = get_args(State)

# What a manifest.json and a features.json begin with.
_MARK = re.compile(rb'\{\s*"format_version"\s*:\s*\d')


@dataclass(frozen=True)
class CachedFile:
    """Something that lies in the cache where artifacts lie."""

    path: Path
    artifact: str  # name of the folder that it is in, or its own: the artifact's id
    size: int  # bytes
    modified: float  # when it was fetched, in seconds since the epoch
    state: State


def survey(store: Store) -> list[CachedFile]:
    """List by folder and name what ``features/`` and ``models/`` of the cache hold; verify it."""
    cache = store.cache_folder()
    try:
        return list(_walk(replace(store, bundled=None), cache))
    except OSError as error:
        raise ArtifactError(
            f"The cache cannot be read: {error.filename or cache}: {error.strerror}.",
            remedy="Name a folder of your own in DECODE_ZOO_CACHE.",
        ) from error


def removable(
    files: Iterable[CachedFile],
    *,
    artifacts: Collection[str] = (),
    older_than: float | None = None,
    everything: bool = False,
) -> list[CachedFile]:
    """Choose what to remove.

    Always what nobody can use: damaged files and downloads that died. With `artifacts` (ids), only
    of these, and of these also the good files, and those that no registry has: unnamed, these stay,
    for they may be of a zoo that is not in use just now. With `older_than` (seconds), of the good
    files only those that were fetched longer ago. `everything` of decode-zoo never includes
    downloads under way, nor what decode-zoo did not make.
    """
    now = time.time()
    unwanted = {"damaged", "unfinished"}
    # Of an artifact that no registry in use has, nobody knows whether it is good.
    if everything or artifacts:
        aging = {"verified", "unregistered"}
    else:
        aging = set() if older_than is None else {"verified"}
    return [
        file
        for file in files
        if (not artifacts or file.artifact in artifacts)
        and (
            file.state in unwanted
            or (file.state in aging and (older_than is None or now - file.modified > older_than))
        )
    ]


def clean(files: Iterable[CachedFile]) -> list[CachedFile]:
    """Remove files, and the folders of artifacts that are empty then; return what is gone.

    Raises ArtifactError if some could not be removed; the others are gone.
    """
    removed, failures = [], []
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
            removed.append(file)
        except OSError as error:
            failures.append(f"\n  {file.path}: {error.strerror}")
    for folder in {file.path.parent for file in removed}:
        with suppress(OSError):  # not empty
            folder.rmdir()
    if failures:
        raise ArtifactError(
            f"{len(failures)} files of the cache could not be removed:{''.join(failures)}",
            remedy="Ask who owns them, or name a cache of your own in DECODE_ZOO_CACHE.",
        )
    return removed


def _walk(store: Store, cache: Path) -> Iterator[CachedFile]:
    registered = {artifact.folder: artifact for artifact in store.registry.artifacts.values()}
    for top in sorted(FOLDERS.values()):
        for folder in entries_of(cache / top):
            if not (folder.is_dir(follow_symlinks=False) and _is_id(folder.name)):
                yield _cached(folder, folder.name, "foreign")
                continue
            artifact = registered.get(f"{top}/{folder.name}")
            rest: State = "foreign"
            if artifact is None and _is_marked(Path(folder.path)):
                rest = "unregistered"
            for file in entries_of(folder.path):
                # Another process cleans, or finished a download.
                with suppress(FileNotFoundError):
                    yield _cached(file, folder.name, _state(store, artifact, file) or rest)


def _state(store: Store, artifact: Artifact | None, file: os.DirEntry[str]) -> State | None:
    """Return the state of a download or of an artifact's file; None if it is something else."""
    known = artifact is not None and file.name in artifact.files
    if not file.is_file(follow_symlinks=False):
        return "in the way" if known and file.is_dir(follow_symlinks=False) else "foreign"
    if is_partial(file.name):
        return "unfinished" if is_left(Path(file.path)) else "in use"
    if artifact is None or not known:
        return None
    try:
        store.check(artifact.id, file.name)
    except ArtifactError:
        return "unreadable"
    except VerificationError:
        return "damaged"
    return "verified"


def _cached(entry: os.DirEntry[str], artifact: str, state: State) -> CachedFile:
    status = os.lstat(entry.path)
    return CachedFile(Path(entry.path), artifact, status.st_size, status.st_mtime, state)


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except InputError:
        return False
    return True


def _is_marked(folder: Path) -> bool:
    """Return whether a folder has the description that each artifact of decode-zoo has."""
    for name in ("manifest.json", "features.json"):
        with suppress(OSError, InputError), open_plain(folder / name) as file:
            if _MARK.match(file.read(64)):
                return True
    return False
