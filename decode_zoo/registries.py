"""Registries of the user's own beside the built-in one, so that a lab can run its own zoo.

``DECODE_ZOO_REGISTRY`` names them: files or URLs, separated by commas or white space. The folder
that a registry lies in is the first mirror of its artifacts. What comes from the web is kept, and
a refresh that fails, or that would change what an id means, never takes away what was there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from decode_zoo.download import public, request_headers
from decode_zoo.errors import ArtifactError, DecodeZooError, InputError
from decode_zoo.output import atomic_path
from decode_zoo.registry import Origin, Registry, check_mirror, parse_registry, read_limited
from decode_zoo.yamltext import LIMIT

__all__ = ["fetch_text", "join_registries", "read_registry", "registry_places"]

# Seconds. Younger copies are not refreshed: a loop over commands must not become one over requests.
_FRESH = 300
_TIMEOUT = (10, 30)  # to connect, between two reads
_DEADLINE = 60
_REDIRECTS = 5
_BLOCK = 1 << 14

_log = logging.getLogger(__name__)


def registry_places() -> tuple[str, ...]:
    """Name the user's registries.

    Returns
    -------
    tuple of str
        What ``DECODE_ZOO_REGISTRY`` lists, in order; a path with a comma or blank in it goes as a
        file URL.
    """
    places = re.split(r"[,\s]+", os.environ.get("DECODE_ZOO_REGISTRY", ""))
    return tuple(dict.fromkeys(filter(None, places)))


def join_registries(
    builtin: Registry, places: tuple[str, ...], cache: Path, *, offline: bool
) -> Registry:
    """Join the user's registries to the built-in one.

    Parameters
    ----------
    builtin : Registry
    places : tuple of str
        Files or URLs.
    cache : Path
        Folder of the store's cache; copies of what came from the web lie in ``registries/``.
    offline : bool
        True: no socket is opened.

    Returns
    -------
    Registry
        Ids of the user's registries have an `Origin`.

    Raises
    ------
    InputError
        If one is not valid, or gives a name another meaning than one before it.
    ArtifactError
        If one cannot be had and there is no copy of it.
    """
    if not places:
        return builtin
    joined = builtin
    for place in places:
        joined = joined.joined(*read_registry(place, cache, offline=offline))
    joined.check_references()
    return joined


def read_registry(place: str, cache: Path, *, offline: bool) -> tuple[Registry, Origin]:
    """Read one of the user's registries (parameters and errors as for `join_registries`)."""
    scheme, separator, _ = place.partition("://")
    if separator and scheme.lower() != "file":
        check_mirror(place, f"DECODE_ZOO_REGISTRY: {place}")
        registry, folder = _from_web(place, cache, offline), urljoin(place, ".")
    else:
        path = _as_path(place) if separator else Path(place).expanduser()
        path = path.absolute()
        place = str(path)
        registry, folder = parse_registry(read_limited(path), path), str(path.parent)
    mirrors = dict.fromkeys((folder.rstrip("/") or "/", *registry.mirrors))
    return registry, Origin(place, tuple(mirrors))


def _as_path(url: str) -> Path:
    from urllib.request import url2pathname

    check_mirror(url, "DECODE_ZOO_REGISTRY")
    return Path(url2pathname(urlsplit(url).path))


def _from_web(url: str, cache: Path, offline: bool) -> Registry:
    copy = cache / "registries" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.yaml"
    kept = _read_copy(copy, url)
    if kept is not None and (offline or _is_fresh(copy)):
        return kept
    if offline:
        raise ArtifactError(
            f"The registry {url} is not in the cache, and decode-zoo is offline.",
            remedy="Unset DECODE_ZOO_OFFLINE once, or save the registry as a file and name that "
            "in DECODE_ZOO_REGISTRY.",
        )
    try:
        data = fetch_text(url, LIMIT)
        registry = parse_registry(data, url)
        if kept is not None:
            _check_ids(kept, registry, url, copy)
    except DecodeZooError as error:
        if kept is None:
            raise
        _log.warning("The last good copy of the registry %s is used: %s", url, error)
        # Not asked again at once, or each command would wait for a host that is gone.
        with suppress(OSError):
            os.utime(copy)
        return kept
    _write_copy(copy, data)
    return registry


def _check_ids(old: Registry, new: Registry, url: str, copy: Path) -> None:
    """Refuse a refresh that gives known ids another content."""
    changed = [
        key for key, artifact in old.artifacts.items()
        if key in new.artifacts and new.artifacts[key].files != artifact.files
    ]  # fmt: skip
    if changed:
        raise InputError(
            f"artifacts.{changed[0]}: other files than before, but an id never changes its meaning",
            path=url,
            remedy=f"Ask who runs this zoo. If the new files are to be trusted, delete {copy}.",
        )


def _is_fresh(copy: Path) -> bool:
    try:
        return 0 <= time.time() - copy.stat().st_mtime < _FRESH
    except OSError:
        return False


def _read_copy(copy: Path, url: str) -> Registry | None:
    """Read what was kept of a registry; None if there is nothing, or nothing whole."""
    try:
        head, _, data = copy.read_bytes().partition(b"\n")
        if head != _head(data):
            return None
        return parse_registry(data, url)
    except (OSError, InputError):
        return None


def _write_copy(copy: Path, data: bytes) -> None:
    # A cache that cannot be written is no reason not to use what was fetched.
    with suppress(OSError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(copy) as partial:
            partial.write_bytes(_head(data) + b"\n" + data)


def _head(data: bytes) -> bytes:
    return b"# sha256 of what follows: " + hashlib.sha256(data).hexdigest().encode()


def fetch_text(url: str, limit: int) -> bytes:
    """Fetch a small text.

    Parameters
    ----------
    url : str
        https, or http on this machine; redirects lead nowhere else.
    limit : int
        Most bytes.

    Returns
    -------
    bytes

    Raises
    ------
    ArtifactError
        If it cannot be had, is larger, or takes longer than a minute.
    """
    found: list[bytes] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            found.append(_receive(url, limit))
        except Exception as error:
            failures.append(error)

    # In a thread that can be left: neither the look-up of a name nor a server that sends a byte
    # now and then keeps to the limit between two packets.
    thread = threading.Thread(target=work, name="decode-zoo registry", daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    if found:
        return found[0]
    reason = failures[0] if failures else f"not there after {_DEADLINE} seconds"
    raise ArtifactError(public(f"Could not fetch {url}: {reason}."))


def _receive(url: str, limit: int) -> bytes:
    import requests

    def close_redirect(answer: requests.Response, **_: object) -> None:
        if answer.is_redirect:  # whose body requests would read to its end, if it has one
            answer.close()

    headers = request_headers()
    with requests.Session() as session:
        session.hooks["response"].append(close_redirect)
        for _ in range(_REDIRECTS + 1):
            with session.get(
                url, stream=True, timeout=_TIMEOUT, headers=headers, allow_redirects=False
            ) as answer:
                if answer.is_redirect:
                    url = _followed(url, answer.headers["Location"])
                    continue
                answer.raise_for_status()
                data = b""
                for block in answer.iter_content(_BLOCK):
                    data += block
                    if len(data) > limit:
                        raise ArtifactError(f"more than {limit} bytes")
                return data
    raise ArtifactError(f"more than {_REDIRECTS} redirects")


def _followed(url: str, location: str) -> str:
    target = urljoin(url, location)
    check_mirror(target, f"redirect from {url}")
    if urlsplit(url).scheme != urlsplit(target).scheme:
        raise ArtifactError(f"redirected to {target}")
    return target
