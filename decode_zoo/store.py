"""The store: from an artifact's name to a verified file on this machine.

Bundled files come first, then the cache, then the mirrors. Nothing is handed
out whose size and SHA-256 are not those of the registry.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from decode_zoo.errors import ArtifactError, VerificationError
from decode_zoo.registry import Artifact, FileEntry, Registry, hash_file, load_registry

__all__ = ["Store", "builtin_registry_path", "bundled_root", "cache_root"]

_PACKAGE = Path(__file__).resolve().parent
_TIMEOUT = (10, 30)  # seconds: to connect, between two reads
_BLOCK = 1 << 20
_FRESH = 2_000_000_000  # ns
_DELETE = "Delete it; it is fetched again when it is needed."
_RESTORE = "Restore it, or reinstall with: pip install --force-reinstall --no-deps decode-zoo"

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
        network unless it is empty, 0, false, no or off.

        Returns
        -------
        Store
            The store.

        Raises
        ------
        ArtifactError
            If the package came without a registry.
        InputError
            If the registry is not valid.
        """
        registry = load_registry(builtin_registry_path())
        own = re.split(r"[,\s]+", os.environ.get("DECODE_ZOO_MIRRORS", "").strip(", \t\r\n"))
        offline = os.environ.get("DECODE_ZOO_OFFLINE", "").strip().lower()
        return cls(
            registry=registry,
            bundled=bundled_root(),
            cache=cache_root(),
            mirrors=(*filter(None, own), *registry.mirrors),
            offline=offline not in ("", "0", "false", "no", "off"),
        )

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
        2. A cached file is verified and returned; if it is corrupt, it is deleted.
        3. Mirrors are tried in order. What one sends goes to a temporary name beside
           the target, is verified, flushed to disk and then renamed, so that no
           process ever sees a partial file.

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
            If there is no such artifact or file, or no mirror gave it.
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
            _remove(path)
        target = self.cache / artifact.folder / name
        self._download(artifact, name, target, progress)
        return target

    def _download(self, artifact: Artifact, name: str, target: Path, progress: bool) -> None:
        """Bring a file from the first mirror that has it, or say what each one said."""
        entry = artifact.files[name]
        attempts = []
        _make_folder(target.parent)
        for mirror in self.mirrors:
            is_web = re.match(r"https?://", mirror, re.IGNORECASE) is not None
            source = f"{mirror.rstrip('/')}/{artifact.folder}/{name}"
            if is_web and self.offline:
                attempts.append(f"{source}: not tried, offline")
                continue
            partial = target.with_name(f".{name}.{secrets.token_hex(8)}.part")
            try:
                with open(partial, "xb") as file, _bar(name, entry.size, progress) as advance:
                    sink = _Sink(file, entry.size, advance)
                    if is_web:
                        _copy_url(source, sink)
                    else:
                        _copy_file(source, sink)
                    file.flush()
                    os.fsync(file.fileno())
                if difference := _difference(partial, entry):
                    raise VerificationError(f"not the published file: {difference}")
                os.replace(partial, target)
                return
            # Whatever a mirror, a proxy or a disk does, the next mirror may do better.
            except Exception as error:
                attempts.append(f"{source}: {str(error) or type(error).__name__}")
            finally:
                partial.unlink(missing_ok=True)
        tried = "".join(f"\n  {attempt}" for attempt in attempts) or " no mirror is known."
        raise ArtifactError(
            f"Could not get {name} of {artifact.id}"
            f" ({entry.size} bytes, sha256 {entry.sha256}):{tried}",
            remedy="Name a mirror that has it in DECODE_ZOO_MIRRORS, a URL or a folder; the folder"
            " zoo/ of a checkout of decode-zoo is one: DECODE_ZOO_MIRRORS=/path/to/decode-zoo/zoo."
            f" Or put the file at {target} by hand"
            + (", or allow the network: unset DECODE_ZOO_OFFLINE." if self.offline else "."),
        )


class _Sink:
    """Ends a transfer at the first byte too many, lest an endless answer fill the disk."""

    def __init__(self, file: IO[bytes], size: int, advance: Callable[[int], object]) -> None:
        self._file = file
        self._size = size
        self._left = size
        self._advance = advance

    def write(self, block: bytes) -> int:
        self._left -= len(block)
        if self._left < 0:
            raise VerificationError(f"sent more than the expected {self._size} bytes")
        self._advance(len(block))
        return self._file.write(block)

    def flush(self) -> None:
        """Leave it to the file; pooch asks after each block."""


def _copy_url(url: str, sink: _Sink) -> None:
    from importlib.metadata import PackageNotFoundError, version

    import pooch

    try:
        agent = f"decode-zoo/{version('decode-zoo')}"
    except PackageNotFoundError:  # run from a checkout that was never installed
        agent = "decode-zoo/0"
    # Some hosts limit clients without a name of their own. No encoding, because the
    # sizes are those of the stored files.
    headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
    pooch.HTTPDownloader(chunk_size=_BLOCK, timeout=_TIMEOUT, headers=headers)(url, sink, None)


def _copy_file(source: str, sink: Any) -> None:
    if "://" in source:
        from urllib.request import url2pathname

        parts = urlsplit(source)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise ValueError("neither a http, https or local file URL nor a folder")
        source = url2pathname(parts.path)
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError("no such file")
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sink, _BLOCK)


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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(folder, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"The cache cannot be written: {path}: {error.strerror}.",
        remedy="Name a folder that you can write in DECODE_ZOO_CACHE.",
    )
