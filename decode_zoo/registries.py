"""Registries of the user's own beside the built-in one, so that a lab can run its own zoo.

``DECODE_ZOO_REGISTRY`` names them: files or URLs, separated by commas or white space. The folder
that a registry lies in is the first mirror of its artifacts. What comes from the web is kept, and
a refresh that fails, or that would change what an id has ever meant, never takes away what was
there. The copies are this user's alone: who may write to a shared cache vouches for nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin

from decode_zoo.display import masked
from decode_zoo.download import (
    NoSourceError,
    Sink,
    first_of,
    local_path,
    make_folder,
    receive,
)
from decode_zoo.errors import ArtifactError, DecodeZooError, InputError
from decode_zoo.files import atomic_path, open_plain
from decode_zoo.registry import (
    LIMIT,
    Origin,
    Registry,
    check_mirror,
    load_registry,
    parse_registry,
)
from decode_zoo.schema import from_plain

__all__ = ["Kept", "fetch_text", "join_registries", "kept_copy", "read_registry", "registry_places"]

# Seconds. Younger copies are not refreshed: a loop over commands must not become one over requests.
_FRESH = 300
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_WITHOUT = "unset DECODE_ZOO_REGISTRY to go on with the built-in zoo"

_log = logging.getLogger(__name__)
_told: set[Path] = set()  # stale copies that this process has warned of


@dataclass(frozen=True)
class _Copy:
    """What was kept of a registry from the web."""

    url: str
    text: str
    meanings: dict[str, str]  # each id that it has ever had, and a hash of what that means
    fetched: int  # seconds since the epoch; the file's own time is that of the last attempt


@dataclass(frozen=True)
class Kept:
    """A registry from the web of which there is a copy."""

    url: str
    date: str  # when it was fetched
    stale: bool  # whether it could not be refreshed since


def kept_copy(place: str, cache: Path | None) -> Kept | None:
    """Return what is kept of a registry; None if nothing is, or `place` is a file."""
    path = _copy_path(place, cache)
    copy = None if path is None else _read_copy(path, place)
    if path is None or copy is None:
        return None
    return Kept(place, _date(copy), _is_stale(path, copy))


def registry_places() -> tuple[str, ...]:
    """Return what ``DECODE_ZOO_REGISTRY`` lists, in order.

    A path with a comma or blank in it goes as a file URL.
    """
    places = re.split(r"[,\s]+", os.environ.get("DECODE_ZOO_REGISTRY", ""))
    return tuple(dict.fromkeys(filter(None, places)))


def join_registries(
    builtin: Registry, places: tuple[str, ...], cache: Path | None, *, offline: bool
) -> Registry:
    """Join the user's registries, files or URLs, to the built-in one; their ids have an `Origin`.

    Copies of what comes from the web lie in ``registries/`` of the folder `cache`, if there is one.
    Raises InputError if a registry is not valid, gives a name another meaning than one before it,
    or refers to what neither it nor one before it lists; ArtifactError if one cannot be had and
    there is no copy of it. If `offline`, no socket is opened.
    """
    joined = builtin
    for place in places:
        joined = joined.joined(*read_registry(place, cache, offline=offline))
        joined.check_references()
    return joined


def read_registry(place: str, cache: Path | None, *, offline: bool) -> tuple[Registry, Origin]:
    """Read one of the user's registries (see `join_registries`)."""
    scheme, separator, _ = place.partition("://")
    if separator:
        check_mirror(place, "DECODE_ZOO_REGISTRY")
    if separator and scheme.lower() != "file":
        registry, folder = _from_web(place, cache, offline), urljoin(place, ".")
    else:
        path = _local(place).absolute()
        place = str(path)
        if not path.exists():
            raise InputError(
                "there is no such registry",
                path=path,
                remedy=f"Correct DECODE_ZOO_REGISTRY, or {_WITHOUT}.",
            )
        registry, folder = load_registry(path, whole=False), str(path.parent)
    mirrors = dict.fromkeys((folder.rstrip("/") or "/", *registry.mirrors))
    return registry, Origin(place, tuple(mirrors))


def _local(place: str) -> Path:
    try:
        return local_path(place)
    except RuntimeError:
        raise InputError("DECODE_ZOO_REGISTRY: there is no such home", path=place) from None


def _from_web(url: str, cache: Path | None, offline: bool) -> Registry:
    path = _copy_path(url, cache)
    kept = None if path is None else _read_copy(path, url)
    if path is not None and kept is not None and (offline or _is_fresh(path)):
        if not offline and _is_stale(path, kept):
            _tell_stale(path, kept, "could not be refreshed lately")
        return parse_registry(kept.text.encode(), url)
    if offline:
        raise ArtifactError(
            f"The registry {url} is not in the cache, and decode-zoo is offline.",
            remedy="Unset DECODE_ZOO_OFFLINE once; or save the registry as a file (that of a "
            "folder from 'decode-zoo cache export DIR' is one) and name that in "
            f"DECODE_ZOO_REGISTRY; or {_WITHOUT}.",
        )
    try:
        data = fetch_text(url, LIMIT)
        if data.lstrip()[:1] == b"<":  # as HTML begins, and no registry
            raise ArtifactError(
                f"{url} gives a web page, perhaps of a login or a proxy, and no registry.",
                remedy=f"Correct DECODE_ZOO_REGISTRY, or {_WITHOUT}.",
            )
        registry = parse_registry(data, url)
        meanings = {**(kept.meanings if kept else {}), **_meanings(registry)}
        if kept is not None:
            _check_meanings(kept.meanings, meanings, url, path)
    except DecodeZooError as error:
        if path is None or kept is None:
            raise
        reason = error.message if isinstance(error, ArtifactError) else str(error)
        _tell_stale(path, kept, f"could not be refreshed ({' '.join(reason.split())})")
        # Not asked again at once, or each command would wait for a host that is gone.
        with suppress(OSError):
            os.utime(path)
        return parse_registry(kept.text.encode(), url)
    if path is not None:
        _write_copy(path, _Copy(url, data.decode(), meanings, int(time.time())))
    return registry


def _copy_path(url: str, cache: Path | None) -> Path | None:
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
    user = str(os.geteuid()) if hasattr(os, "geteuid") else "own"
    return None if cache is None else cache / "registries" / user / name


def _is_fresh(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < _FRESH
    except OSError:
        return False


def _is_stale(path: Path, copy: _Copy) -> bool:
    """Return whether a refresh has failed since: each attempt leaves its time on the file."""
    try:
        return path.stat().st_mtime > copy.fetched or not _is_fresh(path)
    except OSError:
        return False


def _tell_stale(path: Path, copy: _Copy, what: str) -> None:
    if path not in _told:
        _told.add(path)
        _log.warning(
            "The registry %s %s; its last good copy, of %s, is used.", copy.url, what, _date(copy)
        )


def _date(copy: _Copy) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(copy.fetched))


def _meanings(registry: Registry) -> dict[str, str]:
    """Hash what each id means: all but the words for people."""
    found: dict[str, object] = dict(registry.same_as)
    for key, artifact in registry.artifacts.items():
        files = {name: asdict(entry) for name, entry in artifact.files.items()}
        found[key] = [artifact.kind, artifact.features, files]
    return {
        key: hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
        for key, meaning in found.items()
    }


def _check_meanings(
    old: Mapping[str, str], new: Mapping[str, str], url: str, copy: Path | None
) -> None:
    """Refuse a refresh that gives known ids another meaning."""
    changed = sorted(key for key, meaning in old.items() if new[key] != meaning)
    if changed:
        raise InputError(
            f"artifacts.{changed[0]}: something else than before (files, kind, features or "
            "same_as), but an id never changes its meaning",
            path=url,
            remedy=f"Ask who runs this zoo. If what is there now is to be trusted, delete {copy}.",
        )


def _is_own(status: os.stat_result) -> bool:
    """Return whether only this user can have written a file, or into a folder."""
    if not hasattr(os, "geteuid"):  # Windows, where the cache is in the user's profile
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def _read_copy(path: Path, url: str) -> _Copy | None:
    """Read what was kept of a registry; None if there is nothing, or nothing to be trusted."""
    try:
        if not _is_own(os.lstat(path.parent)):
            return None
        with open_plain(path) as file:
            if not _is_own(os.fstat(file.fileno())):
                return None
            head, _, body = file.read().partition(b"\n")
        if head != _head(body):
            return None
        copy = from_plain(_Copy, json.loads(body))
        parse_registry(copy.text.encode(), url)
        _date(copy)
    except (OSError, InputError, ValueError, OverflowError):
        return None
    return copy if copy.url == url else None


def _write_copy(path: Path, copy: _Copy) -> None:
    # A cache that cannot be written is no reason not to use what was fetched.
    with suppress(OSError):
        make_folder(path.parents[2], path.parent.parent.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _is_own(os.lstat(path.parent)):
            _log.warning(
                "No copy of the registry %s is kept: others may write to %s", copy.url, path.parent
            )
            return
        body = json.dumps(asdict(copy)).encode()
        with atomic_path(path) as partial:
            partial.touch(mode=0o600)
            partial.write_bytes(_head(body) + b"\n" + body)
            os.utime(partial, (copy.fetched, copy.fetched))


def _head(data: bytes) -> bytes:
    return b"sha256 of what follows: " + hashlib.sha256(data).hexdigest().encode()


def fetch_text(url: str, limit: int) -> bytes:
    """Fetch a small text (https, or http on this machine), as patiently as files are fetched.

    Raises ArtifactError if it cannot be had, or has more than `limit` bytes.
    """

    def ask(source: str) -> bytes:
        text = io.BytesIO()
        receive(source, Sink(text, limit))
        return text.getvalue()

    try:
        return first_of([url], ask)
    except NoSourceError as error:
        raise ArtifactError(
            f"Could not fetch {masked(url)}: {error.errors[url]}.",
            remedy="Check the network, its proxy (HTTPS_PROXY) and certificates "
            f"(REQUESTS_CA_BUNDLE), or {_WITHOUT}.",
        ) from error
