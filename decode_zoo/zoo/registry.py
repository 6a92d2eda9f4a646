"""The registry: which models and feature sets are published, where, and their hashes.

One registry comes with the package; users may have others beside it (see `remote`). Names,
hashes and mirrors are checked when the objects are made, references when a registry is whole.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from decode_zoo.core.errors import ArtifactError, InputError
from decode_zoo.core.files import atomic_path, read_at_most
from decode_zoo.core.schema import from_plain, line_of, parse_yaml
from decode_zoo.core.text import brief, check_versioned, masked
from decode_zoo.zoo.artifact import Artifact

__all__ = [
    "FORMAT_VERSION",
    "LIMIT",
    "Origin",
    "Registry",
    "check_mirror",
    "is_this_machine",
    "load_registry",
    "parse_registry",
    "write_registry",
]

FORMAT_VERSION = 1
# Bytes; a registry of some thousand artifacts.
LIMIT = 1 << 20


@dataclass(frozen=True)
class Origin:
    """A registry of the user's own: its file or URL, and what to fetch its artifacts from."""

    place: str
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """Everything that is published."""

    artifacts: Mapping[str, Artifact]  # by id, which ends with its version
    # Base URLs (https, file; http for this machine) or absolute folders, each laid out like zoo/;
    # those of the built-in registry, if others were joined to it.
    mirrors: tuple[str, ...]
    default_model: str | None = None
    same_as: Mapping[str, str] = field(default_factory=dict)  # second name to id
    origins: Mapping[str, Origin] = field(default_factory=dict)  # of joined ids and second names

    def __post_init__(self) -> None:
        """Refuse names that contradict each other or are unsafe."""
        for mirror in self.mirrors:
            check_mirror(mirror, "mirrors")
        for key, artifact in self.artifacts.items():
            check_versioned(key, f"artifacts.{key}")
            if key != artifact.id:
                raise InputError(f"artifacts.{key}: holds the artifact {artifact.id!r}")
        for key in self.same_as:
            check_versioned(key, f"artifacts.{key}")
            if key in self.artifacts:
                raise InputError(f"artifacts.{key}: is an artifact and a same_as")

    def check_references(self) -> None:
        """Raise InputError, which names a joined registry, for references that lead nowhere."""
        for key, artifact in self.artifacts.items():
            read = artifact.features
            if read is not None and getattr(self.artifacts.get(read), "kind", None) != "features":
                raise InputError(
                    f"artifacts.{key}.features: {read!r} is no feature set here",
                    path=self._place(key),
                )
        for key, target in self.same_as.items():
            if target not in self.artifacts:
                raise InputError(
                    f"artifacts.{key}.same_as: {target!r} is no artifact here "
                    "(a same_as of a same_as is not followed)",
                    path=self._place(key),
                )
        if self.default_model is not None:
            with suppress(ArtifactError):
                if self.resolve(self.default_model).kind == "model":
                    return
            raise InputError(f"default_model: {self.default_model!r} is no model here")

    def _place(self, key: str) -> str | None:
        return self.origins[key].place if key in self.origins else None

    def joined(self, other: Registry, origin: Origin) -> Registry:
        """Add what another registry lists; all names that this one resolves keep their meaning.

        Ids and second names may not mean two things (InputError), and an id without its version is
        none: it stands for the newest one of the first registry that has any (see `resolve`). The
        other may refer to artifacts of this one, and its own lie where `origin` says.
        """
        mine, theirs = ({**r.same_as, **r.artifacts} for r in (self, other))
        for key, meaning in theirs.items():
            if key in mine and mine[key] != meaning:
                raise InputError(
                    f"artifacts.{key}: the registry {self._place(key) or 'of decode-zoo'} has "
                    "another artifact of this name",
                    path=origin.place,
                    remedy="An id never changes its meaning. Publish it under another one, e.g. "
                    "with the next version, or take one of the two out of DECODE_ZOO_REGISTRY.",
                )
        new = [key for key in theirs if key not in mine]
        return replace(
            self,
            artifacts={**other.artifacts, **self.artifacts},
            same_as={**other.same_as, **self.same_as},
            origins={**self.origins, **dict.fromkeys(new, origin)},
        )

    def resolve(self, artifact_id: str) -> Artifact:
        """Find an artifact by its id, a second name, or an id without its version.

        ``gtex-tissue`` stands for the newest ``gtex-tissue-vN`` in the first of the joined
        registries that has one: no other can put itself before it. Raises ArtifactError, which
        names the closest ids, if there is no such artifact.
        """
        known = [*self.artifacts, *self.same_as]
        if artifact_id not in known:
            versions: dict[Origin | None, list[tuple[int, str]]] = {}
            for key in known:
                stem, _, version = key.rpartition("-v")
                if stem == artifact_id:
                    versions.setdefault(self.origins.get(key), []).append((int(version), key))
            if not versions:
                stems = {re.sub(r"-v\d+$", "", key) for key in known}
                close = difflib.get_close_matches(artifact_id, sorted({*known, *stems}))
                hint = f" Closest: {', '.join(close)}." if close else ""
                raise ArtifactError(
                    f"There is no model or feature set {artifact_id!r}.{hint}",
                    remedy="List what there is with: decode-zoo ls",
                )
            first = next(o for o in (None, *self.origins.values()) if o in versions)
            artifact_id = max(versions[first])[1]
        return self.artifacts[self.same_as.get(artifact_id, artifact_id)]


def check_mirror(value: object, where: str = "mirror") -> None:
    """Raise InputError for what is no mirror: a URL with a password, a query or blanks, too."""
    if isinstance(value, str) and value.isprintable():
        if "://" not in value and os.path.isabs(value):
            return
        if "://" in value and not re.search(r"[\s\\?#]", value) and _is_fit(value):
            return
    shown = brief(masked(value) if isinstance(value, str) else value)
    raise InputError(
        f"{where}: {shown} is neither a https or file URL (http only for this machine) without "
        "password and query, nor an absolute folder"
    )


def _is_fit(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if "@" in parts.netloc:
        return False
    if parts.scheme == "file":
        return parts.netloc in ("", "localhost") and parts.path.startswith("/")
    if parts.scheme == "http":
        return is_this_machine(host)
    return parts.scheme == "https" and bool(host)


def is_this_machine(host: str | None) -> bool:
    """Return whether a host is this machine, so that nothing can change what it sends."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load_registry(path: str | os.PathLike[str], *, whole: bool = True) -> Registry:
    """Read a ``registry.yaml``; anything it does not know is an error (see `parse_registry`)."""
    return parse_registry(read_at_most(path, LIMIT), path, whole=whole)


def parse_registry(data: bytes, path: str | os.PathLike[str], *, whole: bool = False) -> Registry:
    """Read the text of a registry; `path` is the file or URL that it comes from.

    Raises InputError with file, line and key if it is not valid; if `whole`, also for references
    that lead to what it does not list itself.
    """
    document: object = None
    try:
        document = parse_yaml(data)
        registry = _registry(document)
        if whole:
            registry.check_references()
        return registry
    except (InputError, ValueError) as error:
        message = error.message if isinstance(error, InputError) else str(error)
        line, remedy = getattr(error, "line", None), getattr(error, "remedy", None)
        if "expected text" in message:
            remedy = "Put it in quotes."
    line = line or line_of(document, message.partition(": ")[0])
    raise InputError(message, path=path, line=line, remedy=remedy)


def write_registry(registry: Registry, path: str | os.PathLike[str]) -> None:
    """Write a registry, whole or not at all, so that equal registries give equal bytes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        # The same title twice must not become an anchor and a reference.
        def ignore_aliases(self, data: Any) -> bool:
            return True

    entries: dict[str, dict[str, Any]] = {
        key: {"same_as": target} for key, target in registry.same_as.items()
    }
    for key, artifact in registry.artifacts.items():
        names = ("kind", "title", "license", "citation", "features", "erratum")
        entry = {name: value for name in names if (value := getattr(artifact, name)) is not None}
        files = sorted(artifact.files.items())
        entries[key] = entry | {"files": {name: asdict(file) for name, file in files}}
    document = {
        "format_version": FORMAT_VERSION,
        "mirrors": list(registry.mirrors),
        "default_model": registry.default_model,
        "artifacts": dict(sorted(entries.items())),
    }
    if registry.default_model is None:
        del document["default_model"]
    text = yaml.dump(
        document,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=1 << 16,
    )
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class _Document:
    """What a registry.yaml holds."""

    format_version: int
    mirrors: tuple[str, ...]
    artifacts: Mapping[str, dict[str, Any]]
    default_model: str = ""


def _registry(document: object) -> Registry:
    if not isinstance(document, dict):
        raise InputError("the registry: must be a mapping of keys to values", line=1)
    version = document.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise InputError(
            f"format_version: must be {FORMAT_VERSION}, got {version!r}",
            remedy="A newer registry needs a newer decode-zoo: pip install -U decode-zoo",
        )
    found = from_plain(_Document, document)
    artifacts: dict[str, Artifact] = {}
    same_as: dict[str, str] = {}
    for key, entry in found.artifacts.items():
        where = f"artifacts.{key}"
        if "same_as" in entry:
            same_as[key] = from_plain(_Second, entry, where).same_as
        elif "id" in entry:
            raise InputError(f"{where}.id: unknown key 'id'")
        else:
            artifacts[key] = from_plain(Artifact, {"features": None, **entry, "id": key}, where)
    return Registry(artifacts, found.mirrors, found.default_model or None, same_as)


@dataclass(frozen=True)
class _Second:
    """A second name of an artifact."""

    same_as: str
