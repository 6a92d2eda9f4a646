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
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin

from decode_zoo.core.errors import ArtifactError, DecodeZooError, InputError
from decode_zoo.core.files import atomic_path, only_ours, open_plain
from decode_zoo.core.schema import from_plain
from decode_zoo.core.text import masked
from decode_zoo.zoo.download import NoSourceError, Sink, first_of, local_path, make_folder, receive
from decode_zoo.zoo.registry import (
    LIMIT,
    Origin,
    Registry,
    check_mirror,
    load_registry,
    parse_registry,
)

__all__ = ["Copy", "join_registries", "kept_copy", "registry_places"]

# Seconds. Younger copies are not refreshed: a loop over commands must not become one over requests.
_FRESH = 300
_WITHOUT = "unset DECODE_ZOO_REGISTRY to go on with the built-in zoo"

_log = logging.getLogger(__name__)
_told: set[str] = set()  # URLs of stale copies that this process has warned of


@dataclass(frozen=True)
class Copy:
    """What was kept of a registry from the web."""

    url: str
    text: str
    meanings: dict[str, str]  # each id that it has ever had, and a hash of what that means
    fetched: int  # seconds since the epoch
    tried: float = 0.0  # when a refresh was last tried, which leaves its time on the file

    @property
    def date(self) -> str:
        """When it was fetched, in words."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.fetched))

    @property
    def fresh(self) -> bool:
        """Whether it need not be refreshed yet."""
        return 0 <= time.time() - self.tried < _FRESH

    @property
    def stale(self) -> bool:
        """Whether it could not be refreshed since it was fetched."""
        return self.tried > self.fetched or not self.fresh


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
        scheme, separator, _ = place.partition("://")
        if separator:
            check_mirror(place, "DECODE_ZOO_REGISTRY")
        if separator and scheme.lower() != "file":
            registry, folder = _from_web(place, cache, offline), urljoin(place, ".")
        else:
            registry, place, folder = _from_file(place)
        mirrors = dict.fromkeys((folder.rstrip("/") or "/", *registry.mirrors))
        joined = joined.joined(registry, Origin(place, tuple(mirrors)))
        joined.check_references()
    return joined


def _from_file(place: str) -> tuple[Registry, str, str]:
    """Read a registry from a file; return also its path and folder."""
    try:
        path = local_path(place).absolute()
    except RuntimeError:
        raise InputError("DECODE_ZOO_REGISTRY: there is no such home", path=place) from None
    if not path.exists():
        raise InputError(
            "there is no such registry",
            path=path,
            remedy=f"Correct DECODE_ZOO_REGISTRY, or {_WITHOUT}.",
        )
    return load_registry(path, whole=False), str(path), str(path.parent)


def _from_web(url: str, cache: Path | None, offline: bool) -> Registry:
    path, kept = _copy_path(url, cache), kept_copy(url, cache)
    if kept is not None and (offline or kept.fresh):
        if not offline and kept.stale:
            _tell_stale(kept, "could not be refreshed lately")
        return parse_registry(kept.text.encode(), url)
    if offline:
        raise ArtifactError(
            f"The registry {url} is not in the cache, and decode-zoo is offline.",
            remedy="Unset DECODE_ZOO_OFFLINE once; or save the registry as a file (that of a "
            "folder from 'decode-zoo cache export DIR' is one) and name that in "
            f"DECODE_ZOO_REGISTRY; or {_WITHOUT}.",
        )
    try:
        data = _fetch(url)
        registry = parse_registry(data, url)
        meanings = {**(kept.meanings if kept else {}), **_meanings(registry)}
        changed = (
            sorted(k for k in kept.meanings if kept.meanings[k] != meanings[k]) if kept else []
        )
        if changed:
            raise InputError(
                f"artifacts.{changed[0]}: something else than before (files, kind, features or "
                "same_as), but an id never changes its meaning",
                path=url,
                remedy="Ask who runs this zoo. If what is there now is to be trusted, delete "
                f"{path}.",
            )
    except DecodeZooError as error:
        if path is None or kept is None:
            raise
        reason = error.message if isinstance(error, ArtifactError) else str(error)
        _tell_stale(kept, f"could not be refreshed ({' '.join(reason.split())})")
        # Not asked again at once, or each command would wait for a host that is gone.
        with suppress(OSError):
            os.utime(path)
        return parse_registry(kept.text.encode(), url)
    if path is not None:
        _write_copy(path, Copy(url, data.decode(), meanings, int(time.time())))
    return registry


def _fetch(url: str) -> bytes:
    """Fetch the text of a registry as patiently as files are fetched."""

    def ask(source: str) -> bytes:
        text = io.BytesIO()
        receive(source, Sink(text, LIMIT))
        return text.getvalue()

    try:
        data = first_of([url], ask)
    except NoSourceError as error:
        raise ArtifactError(
            f"Could not fetch {masked(url)}: {error.errors[url]}.",
            remedy="Check the network, its proxy (HTTPS_PROXY) and certificates "
            f"(REQUESTS_CA_BUNDLE), or {_WITHOUT}.",
        ) from error
    if data.lstrip()[:1] == b"<":  # as HTML begins, and no registry
        raise ArtifactError(
            f"{url} gives a web page, perhaps of a login or a proxy, and no registry.",
            remedy=f"Correct DECODE_ZOO_REGISTRY, or {_WITHOUT}.",
        )
    return data


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


# -- copies ----------------------------------------------------------------------------------------


def kept_copy(place: str, cache: Path | None) -> Copy | None:
    """Return what is kept of a registry; None if nothing is, or `place` is a file."""
    path = _copy_path(place, cache)
    return None if path is None else _read_copy(path, place)


def _copy_path(url: str, cache: Path | None) -> Path | None:
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
    user = str(os.geteuid()) if hasattr(os, "geteuid") else "own"
    return None if cache is None else cache / "registries" / user / name


def _tell_stale(copy: Copy, what: str) -> None:
    if copy.url not in _told:
        _told.add(copy.url)
        _log.warning(
            "The registry %s %s; its last good copy, of %s, is used.", copy.url, what, copy.date
        )


def _read_copy(path: Path, url: str) -> Copy | None:
    """Read what was kept of a registry; None if there is nothing, or nothing to be trusted."""
    try:
        if not only_ours(os.lstat(path.parent)):
            return None
        with open_plain(path) as file:
            status = os.fstat(file.fileno())
            if not only_ours(status):
                return None
            head, _, body = file.read().partition(b"\n")
        copy = from_plain(Copy, {**json.loads(body), "tried": status.st_mtime})
        parse_registry(copy.text.encode(), url)
        return copy if head == _head(body) and copy.url == url and copy.date else None
    except (OSError, InputError, ValueError, OverflowError):
        return None


def _write_copy(path: Path, copy: Copy) -> None:
    # A cache that cannot be written is no reason not to use what was fetched.
    with suppress(OSError):
        make_folder(path.parents[2], path.parent.parent.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not only_ours(os.lstat(path.parent)):
            _log.warning(
                "No copy of the registry %s is kept: others may write to %s", copy.url, path.parent
            )
            return
        plain = {key: value for key, value in asdict(copy).items() if key != "tried"}
        body = json.dumps(plain).encode()
        with atomic_path(path) as partial:
            partial.touch(mode=0o600)
            partial.write_bytes(_head(body) + b"\n" + body)
            os.utime(partial, (copy.fetched, copy.fetched))


def _head(data: bytes) -> bytes:
    return b"sha256 of what follows: " + hashlib.sha256(data).hexdigest().encode()
