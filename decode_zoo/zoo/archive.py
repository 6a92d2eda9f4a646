"""Folders that carry artifacts to a site without network, laid out as a mirror."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from decode_zoo.core.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.core.files import atomic_dir, entries_of, kind_of, open_plain
from decode_zoo.core.text import printable
from decode_zoo.zoo.artifact import FOLDERS, Artifact, FileEntry, difference
from decode_zoo.zoo.download import TransferError, make_folder, transfer
from decode_zoo.zoo.registry import LIMIT, Registry, parse_registry, write_registry
from decode_zoo.zoo.store import Store, unwritable

__all__ = ["CopiedFiles", "pack", "unpack"]

_REGISTRY = "registry.yaml"


@dataclass(frozen=True)
class CopiedFiles:
    """What went into or came out of a carried folder; files by their paths in it."""

    files: tuple[tuple[str, int], ...]  # that were copied, with their sizes in bytes
    left_out: tuple[str, ...] = ()  # exporting: files not here; importing: folders not registered
    here: tuple[str, ...] = ()  # files that were here before the import
    # Neither here nor in the folder, though its own registry lists them or it has others of theirs.
    lacking: tuple[str, ...] = ()
    remedy: str | None = None  # how to take what was left out, if the folder's registry lists it


def pack(
    store: Store, folder: str | os.PathLike[str], artifacts: Sequence[str] = ()
) -> CopiedFiles:
    """Copy verified files into a folder that serves as a mirror; it appears whole or not at all.

    The folder must not exist, or be empty; it also gets a ``registry.yaml``, which lists the
    artifacts in it, and no mirrors. Bundled and cached files are taken; nothing is fetched. Of
    `artifacts` (ids), each must be here in whole, and a model takes along what is here of the
    feature set that it reads; without ids, everything that is here is taken.
    """
    registry = store.registry
    named = {artifact.id: artifact for artifact in map(registry.resolve, artifacts)}
    if lacking := _absent(store, named.values()):
        raise ArtifactError(
            f"Not everything that was asked for is here: {', '.join(lacking)}.",
            remedy=f"First: {store.way_to_get(*named)}",
        )
    read = {a.features: registry.artifacts[a.features] for a in named.values() if a.features}
    chosen = {**named, **read} if artifacts else registry.artifacts
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise UsageError(
            f"{os.fspath(folder)} exists and is not an empty folder.",
            remedy="Give the name of a folder that does not exist yet.",
        )
    files, left_out = [], []
    with atomic_dir(folder) as target:
        for artifact in (chosen[key] for key in sorted(chosen)):
            for name, entry in artifact.files.items():
                path = store.check(artifact.id, name)
                place = f"{artifact.folder}/{name}"
                if path is None:
                    left_out.append(place)
                    continue
                (target / artifact.folder).mkdir(parents=True, exist_ok=True)
                # A cached file may be a link that its owner made.
                _copy(Path(os.path.realpath(path)), target / place, entry)
                files.append((place, entry.size))
        if not files:
            raise ArtifactError(
                "Nothing is here that could be exported.", remedy=f"First: {store.way_to_get('ID')}"
            )
        write_registry(_part(registry, {place for place, _ in files}), target / _REGISTRY)
    return CopiedFiles(tuple(files), tuple(left_out))


def unpack(store: Store, folder: str | os.PathLike[str]) -> CopiedFiles:
    """Take the files of a carried folder into the cache, once all of them are verified.

    The folder is laid out as a mirror: from `pack`, or ``zoo/`` of a checkout. What counts is the
    registry in use here, not the one in the folder. Only names that it lists are opened; links are
    not followed, and nothing but ordinary files of the right size is read. If any file is not what
    the registry says, VerificationError is raised and the cache is as it was.
    """
    root = Path(os.path.abspath(folder))  # a folder of the name '~' is not the home
    if not root.is_dir():
        raise InputError("there is no such folder", path=root)
    artifacts = [artifact for _, artifact in sorted(store.registry.artifacts.items())]
    wrong: list[str] = []
    found: list[tuple[Artifact, str]] = []
    unknown = _unknown(root, {artifact.folder for artifact in artifacts})
    for artifact in artifacts:
        if reason := _no_folder(root, artifact.folder):
            wrong.append(reason)
            continue
        for name, entry in artifact.files.items():
            path = root / artifact.folder / name
            if os.path.lexists(path):
                found.append((artifact, name))
                if reason := difference(path, entry):
                    wrong.append(f"{artifact.folder}/{name}: {reason}")
    if wrong:
        raise VerificationError(
            f"Nothing was taken from {root}: not everything in it is what the registry says."
            + "".join(f"\n  {reason}" for reason in dict.fromkeys(wrong)),
            remedy="Copy it again, or export it again where it comes from: "
            "decode-zoo cache export DIR",
        )
    listed = _listed(root)
    remedy = _with_its_registry(root) if listed & {p.partition("/")[2] for p in unknown} else None
    if not found:
        raise InputError(
            "holds no file of a registered artifact (models/<id>/… or features/<id>/…)"
            + (f", but {', '.join(map(ascii, unknown[:10]))}" if unknown else ""),
            path=root,
            remedy=remedy
            or "Make one with: decode-zoo cache export DIR. If it is of another zoo, name that "
            "zoo's registry in DECODE_ZOO_REGISTRY.",
        )
    carried = {artifact.id for artifact, _ in found} | listed
    absent = _absent(store, [artifact for artifact in artifacts if artifact.id in carried])
    lacking = [place for place in absent if not os.path.lexists(root / place)]
    taken, here = [], []
    for artifact, name in found:
        place, entry = f"{artifact.folder}/{name}", artifact.files[name]
        if _is_here(store, artifact, name):
            here.append(place)
            continue
        cache = store.cache_folder()
        try:
            make_folder(cache, artifact.folder)
            _copy(root / place, cache / place, entry)
        except OSError as error:
            raise unwritable(cache / place, entry, error) from error
        taken.append((place, entry.size))
    return CopiedFiles(tuple(taken), tuple(unknown), tuple(here), tuple(lacking), remedy)


def _absent(store: Store, artifacts: Collection[Artifact]) -> list[str]:
    """List the files of artifacts that are not here."""
    return [
        f"{artifact.folder}/{name}"
        for artifact in artifacts
        for name in artifact.files
        if not store.has(artifact.id, name)
    ]


def _unknown(root: Path, registered: Collection[str]) -> list[str]:
    try:
        places = [
            f"{top}/{entry.name}"
            for top in sorted(FOLDERS.values())
            for entry in entries_of(root / top)
        ]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=error.filename) from error
    return [place for place in places if place not in registered]


def _no_folder(root: Path, folder: str) -> str | None:
    """Return why a folder below `root` is not one; None if it is, or is not there."""
    for part in (Path(folder).parent, Path(folder)):
        try:
            mode = os.lstat(root / part).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{part.as_posix()}: cannot be read: {error.strerror}"
        if not stat.S_ISDIR(mode):
            return f"{part.as_posix()}: {kind_of(mode)}, no folder"
    return None


def _part(registry: Registry, places: Collection[str]) -> Registry:
    """Keep what describes these files: their artifacts, what those read, and second names."""
    held = {place.split("/")[1] for place in places}
    held |= {a.features for a in registry.artifacts.values() if a.id in held and a.features}
    artifacts = {key: artifact for key, artifact in registry.artifacts.items() if key in held}
    same_as = {key: target for key, target in registry.same_as.items() if target in held}
    default = registry.default_model
    known = default is not None and registry.resolve(default).id in held
    return Registry(artifacts, (), default if known else None, same_as)


def _listed(root: Path) -> set[str]:
    """Return the ids in a folder's own registry: a hint of what should be in it, and no more."""
    try:
        with open_plain(root / _REGISTRY) as file:
            return set(parse_registry(file.read(LIMIT), root / _REGISTRY).artifacts)
    except (OSError, InputError):
        return set()


def _with_its_registry(root: Path) -> str:
    path = root / _REGISTRY
    named = path.as_uri() if re.search(r"[,\s]", str(path)) else str(path)
    return (
        f"The registry in the folder lists them. If you trust it, copy it to where it can stay "
        f"and name it, e.g. DECODE_ZOO_REGISTRY={printable(named)}"
    )


def _is_here(store: Store, artifact: Artifact, name: str) -> bool:
    try:
        return store.check(artifact.id, name) is not None
    except (ArtifactError, VerificationError):  # closed or damaged: what was carried replaces it
        return False


def _copy(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file that was verified; it is verified once more, for it may have changed."""
    try:
        transfer(os.fspath(source), target, entry, lambda count: None)
    except TransferError as error:
        raise VerificationError(
            f"{source} changed while it was copied: {error}.", remedy="Try again."
        ) from error
