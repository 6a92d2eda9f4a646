"""The store: from an artifact's name to a verified file on this machine.

Bundled files come first, then the cache, then the mirrors. Nothing is handed
out whose size and SHA-256 are not those of the registry.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import random
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from decode_zoo.download import TransferError, is_url, leftovers, public, transfer
from decode_zoo.errors import ArtifactError, VerificationError
from decode_zoo.registries import join_registries, registry_places
from decode_zoo.registry import Artifact, FileEntry, Registry, hash_file, load_registry

__all__ = ["Store", "builtin_registry_path", "bundled_root", "cache_root"]

_PACKAGE = Path(__file__).resolve().parent
_RETRIES = 3
_BACKOFF = 1.0  # seconds before the first retry; doubled each time
_PATIENCE = 60.0  # seconds; a mirror that wants more time is left alone
_FRESH = 2_000_000_000  # ns
_DELETE = "Delete it; it is fetched again when it is needed."
_RESTORE = "Restore it, or reinstall with: pip install --force-reinstall --no-deps decode-zoo"

_log = logging.getLogger(__name__)

# What was hashed in this process, by path, size, inode, mtime and ctime.
_hashed: dict[tuple[str, int, int, int, int], FileEntry] = {}


def builtin_registry_path() -> Path:
    """Find the registry that came with the package.

    Returns
    -------
    Path
        ``bundled/registry.yaml`` of an installed package, ``registry.yaml`` of a
        source checkout.

    Raises
    ------
    ArtifactError
        If there is neither.
    """
    candidates = (_PACKAGE / "bundled" / "registry.yaml", _PACKAGE.parent / "registry.yaml")
    for path in candidates:
        if path.is_file():
            return path
    raise ArtifactError(
        f"The registry is missing: neither {candidates[0]} nor {candidates[1]} exists.",
        remedy="Reinstall it with: pip install --force-reinstall --no-deps decode-zoo",
    )


def bundled_root() -> Path | None:
    """Find the artifacts that came with the package.

    Returns
    -------
    Path or None
        The folder that holds ``models/`` and ``features/``; None if the package
        came without artifacts.
    """
    bundled, source = _PACKAGE / "bundled", _PACKAGE.parent
    if (bundled / "registry.yaml").is_file():
        return bundled
    if (source / "registry.yaml").is_file() and (source / "zoo").is_dir():
        return source / "zoo"
    return None


def cache_root() -> Path:
    """Name the folder that fetched files are kept in; it need not exist.

    Returns
    -------
    Path
        ``DECODE_ZOO_CACHE``, else the usual place for caches on this system.
    """
    if folder := os.environ.get("DECODE_ZOO_CACHE"):
        return Path(folder).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("decode-zoo"))


@dataclass(frozen=True)
class Store:
    """Where the files of artifacts are looked for.

    Parameters
    ----------
    registry : Registry
        What there is, and the hashes.
    bundled : Path or None
        Folder of artifacts that came with the package; only read.
    cache : Path
        Folder that fetched files are kept in; made when first needed.
    mirrors : tuple of str
        Base URLs (http, https, file) or folders, in the order they are tried.
    offline : bool
        True: no socket is opened; folders and file URLs are still tried.
    """

    registry: Registry
    bundled: Path | None
    cache: Path
    mirrors: tuple[str, ...] = ()
    offline: bool = False

    @classmethod
    def default(cls) -> Store:
        """Make the store of this installation and environment.

        ``DECODE_ZOO_CACHE`` names the cache, ``DECODE_ZOO_MIRRORS`` mirrors that come
        before the registry's own (separated by commas or white space; a folder with
        either in its name goes as a file URL), ``DECODE_ZOO_OFFLINE`` forbids the
        network unless it is empty, 0, false, no or off. ``DECODE_ZOO_REGISTRY`` names
        registries of the user's own (see `registries`).

        Returns
        -------
        Store
            The store.

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
        cache, offline = cache_root(), switch not in ("", "0", "false", "no", "off")
        return cls(
            registry=join_registries(builtin, registry_places(), cache, offline=offline),
            bundled=bundled_root(),
            cache=cache,
            mirrors=(*filter(None, own), *builtin.mirrors),
            offline=offline,
        )

    def mirrors_of(self, artifact: Artifact) -> tuple[str, ...]:
        """List what a file of an artifact is asked for from, in order.

        Parameters
        ----------
        artifact : Artifact
            One of a user's own registry is asked of that registry's mirrors, not of the
            built-in one's, which need not know of it.

        Returns
        -------
        tuple of str
            Base URLs or folders.
        """
        origin = self.registry.origins.get(artifact.id)
        if origin is None:
            return self.mirrors
        named = (mirror for mirror in self.mirrors if mirror not in self.registry.mirrors)
        return (*named, *origin.mirrors)

    def has(self, artifact_id: str, name: str) -> bool:
        """Tell whether a file is here already; a glance that verifies nothing.

        Parameters
        ----------
        artifact_id : str
            As `Registry.resolve` takes it.
        name : str
            File name.

        Returns
        -------
        bool
            False also for a file that the artifact does not have.

        Raises
        ------
        ArtifactError
            If there is no such artifact.
        """
        artifact = self.registry.resolve(artifact_id)
        return name in artifact.files and self._present(artifact, name) is not None

    def _present(self, artifact: Artifact, name: str) -> tuple[Path, bool] | None:
        """Find a file that is here, and tell whether it came with the package."""
        for root in (self.bundled, self.cache):
            if root is not None and os.path.isfile(root / artifact.folder / name):
                return root / artifact.folder / name, root is self.bundled
        return None

    def check(self, artifact_id: str, name: str) -> Path | None:
        """Verify a file that is here, and leave it as it is, whatever comes of that.

        Parameters
        ----------
        artifact_id : str
            As `Registry.resolve` takes it.
        name : str
            File name.

        Returns
        -------
        Path or None
            The file that `locate` would look at first; None if it is not here.

        Raises
        ------
        ArtifactError
            If there is no such artifact or file.
        VerificationError
            If the file is not what the registry says.
        """
        artifact = self.registry.resolve(artifact_id)
        entry = _entry(artifact, name)
        found = self._present(artifact, name)
        if found is None:
            return None
        path, bundled = found
        _verify(path, entry, _RESTORE if bundled else _DELETE)
        return path

    def fetch(
        self, artifact_id: str, names: Iterable[str] | None = None, *, progress: bool = False
    ) -> list[Path]:
        """Have several files of an artifact on this machine.

        Parameters
        ----------
        artifact_id : str
            As `Registry.resolve` takes it.
        names : iterable of str, optional
            File names; all files of the artifact if not given.
        progress : bool
            Show a bar on stderr for each download, when stderr is a terminal.

        Returns
        -------
        list of Path
            The verified files, in the order of `names` or of the registry.

        Raises
        ------
        ArtifactError
            If an artifact or file does not exist or cannot be had.
        VerificationError
            If a bundled file is not what the registry says.
        """
        artifact = self.registry.resolve(artifact_id)
        wanted = list(artifact.files if names is None else names)
        for name in wanted:
            _entry(artifact, name)
        return [self.locate(artifact.id, name, progress=progress) for name in wanted]

    def locate(self, artifact_id: str, name: str, *, progress: bool = False) -> Path:
        """Find a file, or fetch it, and verify it.

        1. A bundled file is verified and returned.
        2. A cached file is verified and returned. A damaged one stays until it is
           replaced: to delete it could hit the good one of another process.
        3. Mirrors are tried in order; one that is busy or broke off is asked again
           later, as it wishes. What one sends goes to a temporary name beside the
           target, is verified, flushed to disk and then renamed, so that no process
           ever sees a partial file.

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
            If there is no such artifact or file, no mirror gave it, or the cache cannot
            be written.
        VerificationError
            If a bundled file is not what the registry says.
        """
        artifact = self.registry.resolve(artifact_id)
        entry = _entry(artifact, name)
        found = self._present(artifact, name)
        if found is not None:
            path, bundled = found
            if bundled:
                _verify(path, entry, _RESTORE)
                return path
            if _difference(path, entry) is None:
                return path
        return self._download(artifact, name, progress)

    def _download(self, artifact: Artifact, name: str, progress: bool) -> Path:
        """Bring a file from the first mirror that gives it, or say what each one did.

        A mirror that is busy is asked again, but after the others: who has the file is not
        waited for while someone else may have it.
        """
        entry, target = artifact.files[name], self.cache / artifact.folder / name
        told: dict[int, str] = {}
        mirrors = self.mirrors_of(artifact)
        queue = [(0.0, number, 0) for number in range(len(mirrors))]
        while queue:
            when, number, retries = heapq.heappop(queue)
            source = f"{mirrors[number].rstrip('/')}/{artifact.folder}/{name}"
            told[number] = f"{public(source)}: not tried, offline"
            if self.offline and is_url(source):
                continue
            if when:
                time.sleep(max(0.0, when - time.monotonic()))
                if _difference(target, entry) is None:  # another process got it meanwhile
                    return target
            try:
                _make_folder(self.cache, artifact.folder)
                _clean(target.parent)
                with _bar(name, entry.size, progress) as advance:
                    transfer(source, target, entry, advance)
                return target
            except OSError as error:
                raise _unwritable(target, entry, error) from error
            except TransferError as error:
                told[number] = f"{public(source)}: {error}"
                if error.wait is None or retries == _RETRIES:
                    continue
                if error.wait > _PATIENCE:
                    told[number] += f", to be asked again after {error.wait:.0f} seconds"
                    continue
                # Not all at the same time, when many processes were turned away at once.
                wait = error.wait + _BACKOFF * 2**retries * random.uniform(0.5, 1.5)
                _log.warning("%s; asked again in %.1f seconds", told[number], wait)
                heapq.heappush(queue, (time.monotonic() + wait, number, retries + 1))
        lines = [told[number] for number in sorted(told)] or ["no mirror is known"]
        if os.path.lexists(target):
            damage = _difference(target, entry)
            if damage is None:
                return target
            lines.append(f"{target}: damaged, not used: {damage}")
        raise ArtifactError(
            f"Could not get {name} of {artifact.id}"
            f" ({entry.size} bytes, sha256 {entry.sha256}):" + "".join(f"\n  {x}" for x in lines),
            remedy="Name a mirror that has it in DECODE_ZOO_MIRRORS, a URL or a folder; the folder"
            " zoo/ of a checkout of decode-zoo is one: DECODE_ZOO_MIRRORS=/path/to/decode-zoo/zoo."
            f" Or put the file at {target} by hand"
            + (", or allow the network: unset DECODE_ZOO_OFFLINE." if self.offline else "."),
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


def _verify(path: Path, entry: FileEntry, remedy: str) -> None:
    """Raise VerificationError unless `path` is what `entry` says."""
    if difference := _difference(path, entry):
        raise VerificationError(
            f"{path} is not the published file: {difference}.",
            remedy=f"It is damaged or was changed. {remedy}",
        )


def _difference(path: Path, entry: FileEntry) -> str | None:
    """Say how a file differs from what was published, None if it does not."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"expected {entry.size} bytes, got {size}"
        sha256 = _hash_once(path).sha256
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if sha256 == entry.sha256 else f"expected sha256 {entry.sha256}, got {sha256}"


def _hash_once(path: Path) -> FileEntry:
    """Hash a file unless this process did so and the file was not touched since."""
    status = path.stat()
    key = (
        os.fspath(path),
        status.st_size,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    if key not in _hashed:
        entry = hash_file(path)
        # Within one tick of the file system's clock a second change leaves no trace,
        # so what was written just now is hashed again next time.
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _FRESH:
            return entry
        _hashed[key] = entry
    return _hashed[key]


def _make_folder(cache: Path, folder: str) -> None:
    """Make a folder of the cache; where a group may write the cache, it may write this too."""
    cache.mkdir(parents=True, exist_ok=True)
    shared = cache.stat().st_mode & (stat.S_ISGID | stat.S_IRWXG)
    path = cache
    for part in folder.split("/"):
        path /= part
        try:
            path.mkdir()
        except FileExistsError:
            continue
        if shared & stat.S_IWGRP:
            # Some file systems know no permissions.
            with contextlib.suppress(OSError):
                path.chmod(stat.S_IMODE(path.stat().st_mode) | shared)


def _clean(folder: Path) -> None:
    """Remove what killed processes left; not all of it need be ours to remove."""
    for path in leftovers(folder):
        with contextlib.suppress(OSError):
            path.unlink()


def _unwritable(path: Path, entry: FileEntry, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"The cache cannot be written: {path}: {error.strerror or error}.",
        remedy=f"Name a folder that you can write, with room for {entry.size} bytes,"
        " in DECODE_ZOO_CACHE.",
    )
