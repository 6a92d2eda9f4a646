"""The store: from an artifact's name to a verified file on this machine.

Bundled files come first, then the cache, then the mirrors. Nothing is handed out whose size and
SHA-256 are not those of the registry.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from decode_zoo.core.errors import ArtifactError, VerificationError
from decode_zoo.core.files import hash_once
from decode_zoo.core.text import masked
from decode_zoo.zoo.artifact import Artifact, FileEntry, difference
from decode_zoo.zoo.download import (
    NoSourceError,
    TransferError,
    WrongFileError,
    first_of,
    in_turn,
    is_url,
    leftovers,
    make_folder,
    transfer,
)
from decode_zoo.zoo.registry import Registry, load_registry
from decode_zoo.zoo.remote import join_registries, registry_places

__all__ = [
    "Store",
    "builtin_registry_path",
    "bundled_root",
    "cache_root",
    "unwritable",
]

_PACKAGE = Path(__file__).resolve().parents[1]
_ANEW = "it is fetched again when it is needed"
_IMPORT = "bring it from where there is a network: decode-zoo cache import DIR"
_RESTORE = "Restore it, or reinstall with: pip install --force-reinstall --no-deps decode-zoo"


def builtin_registry_path() -> Path:
    """Find ``bundled/registry.yaml`` of an installed package, ``registry.yaml`` of a checkout."""
    candidates = (_PACKAGE / "bundled" / "registry.yaml", _PACKAGE.parent / "registry.yaml")
    for path in candidates:
        if path.is_file():
            return path
    raise ArtifactError(
        f"The registry is missing: neither {candidates[0]} nor {candidates[1]} exists.",
        remedy="Reinstall it with: pip install --force-reinstall --no-deps decode-zoo",
    )


def bundled_root() -> Path | None:
    """Find the folder with the artifacts that came with the package; None if it came without."""
    bundled, source = _PACKAGE / "bundled", _PACKAGE.parent
    if (bundled / "registry.yaml").is_file():
        return bundled
    if (source / "registry.yaml").is_file() and (source / "zoo").is_dir():
        return source / "zoo"
    return None


def cache_root() -> Path:
    """Return the folder that fetched files are kept in; it need not exist.

    That is `DECODE_ZOO_CACHE`, else the usual place for caches on this system. Raises ArtifactError
    if that is in a home folder, and there is no such home.
    """
    with contextlib.suppress(RuntimeError):  # no home
        if named := os.environ.get("DECODE_ZOO_CACHE"):
            return Path(named).expanduser().absolute()
        import platformdirs

        place = Path(platformdirs.user_cache_dir("decode-zoo"))
        if place.is_absolute():  # not '~', which nobody could replace
            return place
    raise _homeless()


def _homeless() -> ArtifactError:
    named = os.environ.get("DECODE_ZOO_CACHE")
    why = (
        f"there is no such home as in DECODE_ZOO_CACHE={named}"
        if named
        else "this user has no home, and DECODE_ZOO_CACHE is not set"
    )
    return ArtifactError(
        f"There is no folder to keep fetched files in: {why}.",
        remedy="Name a folder in DECODE_ZOO_CACHE.",
    )


@dataclass(frozen=True)
class Store:
    """Where the files of artifacts are looked for.

    Parameters
    ----------
    registry : Registry
        What there is, and the hashes.
    bundled : Path or None
        Folder of artifacts that came with the package; only read.
    cache : Path or None
        Folder that fetched files are kept in; made when first needed. None if there is no place
        for one.
    mirrors : tuple of str
        Base URLs (http, https, file) or folders, in the order they are tried.
    offline : bool
        True: no socket is opened; folders and file URLs are still tried.
    """

    registry: Registry
    bundled: Path | None
    cache: Path | None
    mirrors: tuple[str, ...] = ()
    offline: bool = False

    @classmethod
    def default(cls) -> Store:
        """Make the store of this installation and environment.

        `DECODE_ZOO_MIRRORS` names mirrors that come before the registry's own, separated by commas
        or white space; `DECODE_ZOO_REGISTRY` registries of the user's own (see `remote`).
        `DECODE_ZOO_OFFLINE` forbids the network unless it is empty, 0, false, no or off.

        Raises
        ------
        ArtifactError
            If the package came without a registry, or one of the user's own cannot be had.
        InputError
            If a registry is not valid.
        """
        builtin = load_registry(builtin_registry_path())
        own = re.split(r"[,\s]+", os.environ.get("DECODE_ZOO_MIRRORS", "").strip(", \t\r\n"))
        switch = os.environ.get("DECODE_ZOO_OFFLINE", "").strip().lower()
        offline = switch not in ("", "0", "false", "no", "off")
        cache: Path | None = None
        with contextlib.suppress(ArtifactError):  # what came with the package works without
            cache = cache_root()
        return cls(
            registry=join_registries(builtin, registry_places(), cache, offline=offline),
            bundled=bundled_root(),
            cache=cache,
            mirrors=(*filter(None, own), *builtin.mirrors),
            offline=offline,
        )

    def cache_folder(self) -> Path:
        """Return the folder of the cache; raise ArtifactError if there is no place for one."""
        if self.cache is None:
            raise _homeless()
        return self.cache

    def mirrors_of(self, artifact: Artifact) -> tuple[str, ...]:
        """List what an artifact's files are asked for from, base URLs or folders, in order.

        One of a user's own registry is asked of that registry's mirrors, not of the built-in one's.
        """
        origin = self.registry.origins.get(artifact.id)
        if origin is None:
            return self.mirrors
        named = (mirror for mirror in self.mirrors if mirror not in self.registry.mirrors)
        return (*named, *origin.mirrors)

    def way_to_get(self, *artifact_ids: str) -> str:
        """Name the command that brings artifacts here, with the network or without."""
        if self.offline:
            return (
                "decode-zoo cache import DIR, where DIR is from 'decode-zoo cache export DIR' "
                "at a place with a network"
            )
        return f"decode-zoo fetch {' '.join(artifact_ids)}"

    def has(self, artifact_id: str, name: str) -> bool:
        """Return whether a file is here already; a glance that verifies nothing."""
        artifact = self.registry.resolve(artifact_id)
        return name in artifact.files and self._present(artifact, name) is not None

    def _present(self, artifact: Artifact, name: str) -> tuple[Path, bool] | None:
        """Find a file that is here, and whether it came with the package."""
        for root in (self.bundled, self.cache):
            if root is not None and os.path.isfile(root / artifact.folder / name):
                return root / artifact.folder / name, root is self.bundled
        return None

    def check(self, artifact_id: str, name: str) -> Path | None:
        """Verify a file that is here, as it lies; return its path, or None if it is not here.

        Raises ArtifactError if there is no such artifact or file, or it may not be read;
        VerificationError if it is not what the registry says.
        """
        artifact = self.registry.resolve(artifact_id)
        entry = _entry(artifact, name)
        found = self._present(artifact, name)
        if found is None:
            if self.cache and (obstacle := _obstacle(self.cache / artifact.folder / name)):
                raise obstacle
            return None
        path, bundled = found
        anew = f"Delete it; {_IMPORT if self.offline else _ANEW}."
        _verify(path, entry, _RESTORE if bundled else anew)
        return path

    def fetch(
        self, artifact_id: str, names: Iterable[str] | None = None, *, progress: bool = False
    ) -> list[Path]:
        """Return several files of an artifact, by default all, fetched where necessary.

        Parameters
        ----------
        artifact_id : str
            As `Registry.resolve` takes it.
        names : iterable of str, optional
            File names; the order of the result is theirs, or the registry's.
        progress : bool
            Show a bar on stderr for each download, when stderr is a terminal.

        Returns
        -------
        list of Path
            The verified files.

        Raises
        ------
        ArtifactError, VerificationError
            As `locate` does.
        """
        artifact = self.registry.resolve(artifact_id)
        wanted = list(artifact.files if names is None else names)
        for name in wanted:
            _entry(artifact, name)
        return [self.locate(artifact.id, name, progress=progress) for name in wanted]

    def locate(self, artifact_id: str, name: str, *, progress: bool = False) -> Path:
        """Find a file, or fetch it, and verify it.

        A bundled file comes first, then a cached one, then the mirrors in order. A damaged cached
        file stays until it is replaced: to delete it could hit the good one of another process.

        Parameters
        ----------
        artifact_id : str
            As `Registry.resolve` takes it.
        name : str
            File name.
        progress : bool
            Show a bar on stderr while downloading, when stderr is a terminal.

        Returns
        -------
        Path
            A file with the size and SHA-256 of the registry.

        Raises
        ------
        ArtifactError
            If there is no such artifact or file, nobody gave it, or the cache cannot be written.
        VerificationError
            If what is in its place, or what a mirror sent, is not the published file.
        """
        artifact = self.registry.resolve(artifact_id)
        entry = _entry(artifact, name)
        if found := self._present(artifact, name):
            path, bundled = found
            if bundled:
                _verify(path, entry, _RESTORE)
            if bundled or _fault(path, entry) is None:
                return path
        return self._download(artifact, name, progress)

    def _download(self, artifact: Artifact, name: str, progress: bool) -> Path:
        """Bring a file from the first mirror that gives it, or say what each one did."""
        entry, cache = artifact.files[name], self.cache_folder()
        target = cache / artifact.folder / name
        if not os.path.isfile(target) and (obstacle := _obstacle(target)):
            raise obstacle

        def ask(source: str) -> Path:
            if self.offline and is_url(source):
                raise TransferError("not tried, offline")
            with _bar(name, entry.size, progress) as advance:
                transfer(source, target, entry, advance)
            return target

        mirrors = dict.fromkeys(mirror.rstrip("/") for mirror in self.mirrors_of(artifact))
        sources = [f"{mirror}/{artifact.folder}/{name}" for mirror in mirrors]
        try:
            with contextlib.ExitStack() as turn:
                if any(not (self.offline and is_url(source)) for source in sources):
                    make_folder(cache, artifact.folder)
                    for path in leftovers(target.parent):
                        with contextlib.suppress(OSError):  # not all of it need be ours
                            path.unlink()
                    turn.enter_context(in_turn(target))
                if _fault(target, entry) is None:  # another process brought it
                    return target
                return first_of(sources, ask)
        except NoSourceError as error:
            raise self._failure(artifact, name, target, error.errors) from None
        except OSError as error:
            raise unwritable(target, entry, error) from error

    def _failure(
        self, artifact: Artifact, name: str, target: Path, errors: Mapping[str, TransferError]
    ) -> ArtifactError | VerificationError:
        """Describe what each mirror did, what is in the cache, and all that may help."""
        entry = artifact.files[name]
        # That there is nothing and that there is something else call for different measures.
        wrong = any(isinstance(error, WrongFileError) for error in errors.values())
        lines = [f"{masked(source)}: {error}" for source, error in errors.items()]
        lines = lines or ["no mirror is known"]
        remedy = (
            "Name a mirror that has it in DECODE_ZOO_MIRRORS, a URL or a folder; the folder"
            " zoo/ of a checkout of decode-zoo is one: DECODE_ZOO_MIRRORS=/path/to/decode-zoo/zoo."
            f" Or put the file at {target} by hand"
        )
        if self.offline:
            remedy += f", allow the network (unset DECODE_ZOO_OFFLINE), or {_IMPORT}"
        if os.path.isfile(target):
            if closed := _obstacle(target):
                return closed
            wrong = True
            lines.insert(0, f"{target}: damaged, not used: {_fault(target, entry)}")
            remedy = f"Delete {target}, it is of no use. {remedy}"
        return (VerificationError if wrong else ArtifactError)(
            f"Could not get {name} of {artifact.id}"
            f" ({entry.size} bytes, sha256 {entry.sha256}):" + "".join(f"\n  {x}" for x in lines),
            remedy=f"{remedy}.",
        )


@contextlib.contextmanager
def _bar(name: str, size: int, progress: bool) -> Iterator[Callable[[int], object]]:
    if not (progress and sys.stderr.isatty()):
        yield lambda count: None
        return
    import click

    with click.progressbar(length=size, label=name, file=sys.stderr) as bar:
        yield bar.update


def _entry(artifact: Artifact, name: str) -> FileEntry:
    try:
        return artifact.files[name]
    except KeyError:
        raise ArtifactError(
            f"{artifact.id} has no file {name!r}.",
            remedy=f"It has: {', '.join(artifact.files)}.",
        ) from None


def _obstacle(path: Path) -> ArtifactError | None:
    """Return an error if a folder is where a file goes, or this user may not read the file."""
    if path.is_dir() and not path.is_symlink():
        return ArtifactError(
            f"{path} is a folder, where a file of the cache should be.",
            remedy=f"Remove the folder {path}.",
        )
    if not os.path.isfile(path) or os.access(path, os.R_OK):
        return None
    return ArtifactError(  # it may be good for all we know
        f"{path} cannot be read: permission denied.",
        remedy=f"Let its owner allow it (chmod a+r '{path}'), or name a folder of your own in "
        "DECODE_ZOO_CACHE.",
    )


def _verify(path: Path, entry: FileEntry, remedy: str) -> None:
    """Raise VerificationError unless `path` is what `entry` says, ArtifactError if it is closed."""
    if closed := _obstacle(path):
        raise closed
    if fault := _fault(path, entry):
        raise VerificationError(
            f"{path} is not the published file: {fault}.",
            remedy=f"It is damaged or was changed. {remedy}",
        )


def _fault(path: Path, entry: FileEntry) -> str | None:
    """Return in words how a file here differs from what was published; None if it does not."""
    return difference(path, entry, follow=True, digest=hash_once)


def unwritable(path: Path, entry: FileEntry, error: OSError) -> ArtifactError | VerificationError:
    """Return the error for a file that cannot be put at `path`, into the cache.

    A VerificationError if something else is in its place.
    """
    if obstacle := _obstacle(path):
        return obstacle
    damage = _fault(path, entry) if os.path.isfile(path) else None
    return (VerificationError if damage else ArtifactError)(
        f"The cache cannot be written: {path}: {error.strerror or error}."
        + (f"\n  What is there is damaged, not used: {damage}" if damage else ""),
        remedy=f"Name a folder that you can write, with room for {entry.size} bytes,"
        " in DECODE_ZOO_CACHE.",
    )
