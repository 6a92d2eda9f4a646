"""The registry: which models and feature sets are published, where, and their hashes.

One registry comes with the package; users may have others beside it (see `registries`). Names,
hashes and mirrors are checked when the objects are made, references when a registry is whole.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from decode_zoo.artifact import Artifact, FileEntry, check_id, check_versioned
from decode_zoo.display import brief, masked
from decode_zoo.errors import ArtifactError, InputError
from decode_zoo.files import atomic_path, read_at_most
from decode_zoo.yamltext import LIMIT, parse

__all__ = [
    "FORMAT_VERSION",
    "Origin",
    "Registry",
    "check_mirror",
    "is_this_machine",
    "load_registry",
    "parse_registry",
    "write_registry",
]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """A registry of the user's own, as what artifacts come from.

    Parameters
    ----------
    place : str
        Its file or URL.
    mirrors : tuple of str
        What to fetch its artifacts from.
    """

    place: str
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Registry:
    """Everything that is published.

    Parameters
    ----------
    artifacts : mapping of str to Artifact
        By id, which ends with its version.
    mirrors : tuple of str
        Base URLs (https, file; http for this machine) or absolute folders, each laid out like
        ``zoo/``. Those of the built-in registry, if others were joined to it.
    default_model : str or None
        Id of the model to use when none is named.
    same_as : mapping of str to str
        Second names, with versions of their own: id to the id of an artifact.
    origins : mapping of str to Origin
        For the ids and second names that were joined to it; its own have none.
    """

    artifacts: Mapping[str, Artifact]
    mirrors: tuple[str, ...]
    default_model: str | None = None
    same_as: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that contradict each other or are unsafe."""
        for mirror in self.mirrors:
            check_mirror(mirror, "mirrors")
        for key, artifact in self.artifacts.items():
            check_versioned(key, f"artifacts.{key}")
            if key != artifact.id:
                raise InputError(f"artifacts.{key}: holds the artifact {artifact.id!r}")
        for key, target in self.same_as.items():
            check_versioned(key, f"artifacts.{key}")
            check_id(target, f"artifacts.{key}.same_as")
            if key in self.artifacts:
                raise InputError(f"artifacts.{key}: is an artifact and a same_as")
        if self.default_model is not None:
            check_id(self.default_model, "default_model")

    def check_references(self) -> None:
        """Refuse references that lead nowhere.

        Raises
        ------
        InputError
            Names the registry, if it is one that was joined to this.
        """
        for key, artifact in self.artifacts.items():
            if artifact.features is not None:
                features = self.artifacts.get(artifact.features)
                if features is None or features.kind != "features":
                    raise InputError(
                        f"artifacts.{key}.features: {artifact.features!r} is no feature set here",
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
            try:
                kind = self.resolve(self.default_model).kind
            except ArtifactError:
                kind = "nothing"
            if kind != "model":
                raise InputError(f"default_model: {self.default_model!r} is no model here")

    def _place(self, key: str) -> str | None:
        return self.origins[key].place if key in self.origins else None

    def joined(self, other: Registry, origin: Origin) -> Registry:
        """Add what another registry lists; all names that this one resolves keep their meaning.

        Ids and second names may not mean two things, and an id without its version is none: it
        stands for the newest one of the first registry that has any (see `resolve`).

        Parameters
        ----------
        other : Registry
            May refer to artifacts of this one.
        origin : Origin
            Where `other` lies, and what to fetch its artifacts from.

        Returns
        -------
        Registry

        Raises
        ------
        InputError
            If both have a name with different meanings.
        """
        for key in [*other.artifacts, *other.same_as]:
            here = self.artifacts.get(key) or self.same_as.get(key)
            there = other.artifacts.get(key) or other.same_as.get(key)
            if here is not None and here != there:
                raise InputError(
                    f"artifacts.{key}: the registry {self._place(key) or 'of decode-zoo'} has "
                    "another artifact of this name",
                    path=origin.place,
                    remedy="An id never changes its meaning. Publish it under another one, e.g. "
                    "with the next version, or take one of the two out of DECODE_ZOO_REGISTRY.",
                )
        new = [
            k
            for k in (*other.artifacts, *other.same_as)
            if k not in self.artifacts and k not in self.same_as
        ]
        return replace(
            self,
            artifacts={**other.artifacts, **self.artifacts},
            same_as={**other.same_as, **self.same_as},
            origins={**self.origins, **dict.fromkeys(new, origin)},
        )

    def resolve(self, artifact_id: str) -> Artifact:
        """Find an artifact by its id, a second name, or an id without its version.

        Parameters
        ----------
        artifact_id : str
            ``gtex-tissue-v1``, or ``gtex-tissue`` for the newest ``gtex-tissue-vN``, in the first
            of the joined registries that has one: no other can put itself before it.

        Returns
        -------
        Artifact
            Its ``id`` may differ from what was asked for.

        Raises
        ------
        ArtifactError
            If there is no such artifact; names the closest ones.
        """
        known = [*self.artifacts, *self.same_as]
        if artifact_id not in known:
            prefix = f"{artifact_id}-v"
            ranks = {origin: -i for i, origin in enumerate(self._in_order())}
            versions = [
                (ranks[self.origins.get(key)], int(key[len(prefix) :]), key)
                for key in known
                if key.startswith(prefix) and key[len(prefix) :].isdigit()
            ]
            if not versions:
                stems = {re.sub(r"-v\d+$", "", key) for key in known}
                close = difflib.get_close_matches(artifact_id, sorted({*known, *stems}))
                hint = f" Closest: {', '.join(close)}." if close else ""
                raise ArtifactError(
                    f"There is no model or feature set {artifact_id!r}.{hint}",
                    remedy="List what there is with: decode-zoo ls",
                )
            artifact_id = max(versions)[-1]
        return self.artifacts[self.same_as.get(artifact_id, artifact_id)]

    def _in_order(self) -> list[Origin | None]:
        return list(dict.fromkeys([None, *self.origins.values()]))


def check_mirror(value: object, where: str = "mirror") -> None:
    """Refuse what is no mirror.

    Parameters
    ----------
    value : object
        A https URL, a http URL of this machine, a file URL, or an absolute folder.
    where : str
        What it is, for the message.

    Raises
    ------
    InputError
        If it is anything else, or holds a password, a query or blanks.
    """
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
    """Tell whether a host is this machine, so that nothing can change what it sends."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load_registry(path: str | os.PathLike[str], *, whole: bool = True) -> Registry:
    """Read a ``registry.yaml``; anything it does not know is an error.

    Parameters
    ----------
    path : path-like
        The file.
    whole : bool
        Whether its references must lead to what it lists itself.

    Returns
    -------
    Registry
        What it lists.

    Raises
    ------
    InputError
        If it cannot be read or is not a valid registry; names the file, the key and its line.
    """
    return parse_registry(read_at_most(path, LIMIT), path, whole=whole)


def parse_registry(data: bytes, path: str | os.PathLike[str], *, whole: bool = False) -> Registry:
    """Read the text of a registry.

    Parameters
    ----------
    data : bytes
    path : path-like
        File or URL that it comes from, for messages.
    whole : bool
        Whether its references must lead to what it lists itself.

    Returns
    -------
    Registry

    Raises
    ------
    InputError
        As `load_registry` does.
    """
    line = None
    try:
        document = parse(data)
        try:
            registry = _registry(document.value)
            if whole:
                registry.check_references()
            return registry
        except InputError as error:
            line = document.line(error.message.partition(": ")[0])
            raise
    except InputError as error:
        raise InputError(
            error.message, path=path, line=line or error.line, remedy=error.remedy
        ) from None


def write_registry(registry: Registry, path: str | os.PathLike[str]) -> None:
    """Write a registry so that equal registries give equal bytes.

    Parameters
    ----------
    registry : Registry
        What to write; artifacts and files are sorted by name.
    path : path-like
        Replaced whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        # The same title twice must not become an anchor and a reference.
        def ignore_aliases(self, data: Any) -> bool:
            return True

    entries: dict[str, dict[str, Any]] = {
        key: {"same_as": target} for key, target in registry.same_as.items()
    }
    for key, artifact in registry.artifacts.items():
        entry: dict[str, Any] = {
            name: getattr(artifact, name) for name in ("kind", "title", "license", "citation")
        }
        if artifact.features is not None:
            entry["features"] = artifact.features
        if artifact.erratum is not None:
            entry["erratum"] = artifact.erratum
        entry["files"] = {
            name: {"sha256": file.sha256, "size": file.size}
            for name, file in sorted(artifact.files.items())
        }
        entries[key] = entry
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "mirrors": list(registry.mirrors),
        "artifacts": dict(sorted(entries.items())),
    }
    if registry.default_model is not None:
        artifacts = document.pop("artifacts")
        document |= {"default_model": registry.default_model, "artifacts": artifacts}
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


def _registry(document: object) -> Registry:
    root = _mapping(document, "", ("format_version",), None)
    if type(root["format_version"]) is not int or root["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"format_version: must be {FORMAT_VERSION}, got {root['format_version']!r}",
            remedy="A newer registry needs a newer decode-zoo: pip install -U decode-zoo",
        )
    _mapping(root, "", ("format_version", "mirrors", "artifacts"), ("default_model",))
    if not isinstance(root["mirrors"], list):
        raise InputError("mirrors: must be a list")
    if root.get("default_model", "") is None:
        raise InputError("default_model: must be text and not empty")
    artifacts: dict[str, Artifact] = {}
    same_as: dict[str, str] = {}
    for key, value in _mapping(root["artifacts"], "artifacts", (), None).items():
        where = f"artifacts.{key}"
        if "same_as" in _mapping(value, where, (), None):
            target = _mapping(value, where, ("same_as",), ())["same_as"]
            check_id(target, f"{where}.same_as")
            same_as[key] = target
        else:
            artifacts[key] = _artifact(key, value, where)
    return Registry(artifacts, tuple(root["mirrors"]), root.get("default_model"), same_as)


def _artifact(key: str, value: object, where: str) -> Artifact:
    required = ("kind", "title", "license", "citation", "files")
    entry = _mapping(value, where, required, ("features", "erratum"))
    if entry.get("erratum", "") is None:
        raise InputError(f"{where}.erratum: must be text and not empty")
    files = {}
    for name, file in _mapping(entry["files"], f"{where}.files", (), None).items():
        file_where = f"{where}.files.{name}"
        try:
            files[name] = FileEntry(**_mapping(file, file_where, ("sha256", "size"), ()))
        except InputError as error:
            raise _within(file_where, error) from None
    try:
        return Artifact(**{"features": None, **entry, "id": key, "files": files})
    except InputError as error:
        raise _within(where, error) from None


def _within(where: str, error: InputError) -> InputError:
    """Say which entry of the registry an error is about, unless it already does."""
    if error.message.startswith(where):
        return error
    return InputError(f"{where}.{error.message}", remedy=error.remedy)


def _mapping(
    value: object, where: str, required: tuple[str, ...], optional: tuple[str, ...] | None
) -> dict[str, Any]:
    """Check that `value` has the keys it must have; `optional` None allows every other key."""
    if not isinstance(value, dict):
        raise InputError(f"{where or 'the registry'}: must be a mapping of keys to values")
    for key in value:
        if optional is not None and key not in (*required, *optional):
            place = f"{where}.{key}" if where else key
            raise InputError(f"{place[:200]}: unknown key {key[:60]!r}")
    for key in required:
        if key not in value:
            raise InputError(f"{where or 'the registry'}: the key {key!r} is missing")
    return value
