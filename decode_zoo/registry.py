"""The registry: which models and feature sets are published, and their hashes.

The dataclasses check themselves, so a registry that exists is one whose ids and
file names are safe to build paths and URLs from.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from decode_zoo.digest import sha256_of
from decode_zoo.errors import ArtifactError, InputError
from decode_zoo.output import atomic_path

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "FileEntry",
    "Registry",
    "check_id",
    "entry_for",
    "hash_file",
    "load_registry",
    "write_registry",
]

FORMAT_VERSION = 1

_ID = re.compile(r"[a-z0-9][a-z0-9-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"(https?|file)://.+")
_FOLDERS = {"model": "models", "features": "features"}


@dataclass(frozen=True)
class FileEntry:
    """What a published file must be.

    Parameters
    ----------
    sha256 : str
        64 lowercase hexadecimal digits.
    size : int
        Bytes.
    """

    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Refuse a hash or size that no file can have."""
        if not (isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)):
            raise InputError(
                f"sha256: must be 64 lowercase hexadecimal digits, got {self.sha256!r}"
            )
        if type(self.size) is not int or self.size < 0:
            raise InputError(f"size: must be a whole number of bytes, got {self.size!r}")


@dataclass(frozen=True)
class Artifact:
    """One published model bundle or feature set.

    Parameters
    ----------
    id : str
        Carries the version (``gtex-tissue-decode-v1``) and never changes its meaning.
    kind : str
        ``model`` or ``features``.
    title, license, citation : str
        For people; none may be empty.
    features : str or None
        Id of the feature set a model reads; None for feature sets.
    files : mapping of str to FileEntry
        File name to what the file must be; at least one.
    """

    id: str
    kind: str
    title: str
    license: str
    citation: str
    features: str | None
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        """Refuse values that are missing or unsafe as parts of a path."""
        check_id(self.id, "id")
        if self.kind not in _FOLDERS:
            raise InputError(f"kind: must be one of {', '.join(_FOLDERS)}, got {self.kind!r}")
        for key in ("title", "license", "citation"):
            _check_text(getattr(self, key), key)
        if self.features is not None:
            if self.kind != "model":
                raise InputError("features: only a model names the feature set that it reads")
            check_id(self.features, "features")
        if not self.files:
            raise InputError("files: is empty")
        for name in self.files:
            if not (isinstance(name, str) and _FILE_NAME.fullmatch(name)):
                raise InputError(
                    f"files: {name!r} is no file name (letters, digits, '.', '_', '-', "
                    "first a letter or digit, no folders)"
                )

    @property
    def folder(self) -> str:
        """Where its files lie in a mirror, the cache and ``zoo/``, e.g. ``models/<id>``."""
        return f"{_FOLDERS[self.kind]}/{self.id}"


@dataclass(frozen=True)
class Registry:
    """Everything that is published.

    Parameters
    ----------
    artifacts : mapping of str to Artifact
        By id.
    mirrors : tuple of str
        Base URLs (http, https, file) or absolute folders, each laid out like ``zoo/``.
    default_model : str
        Id of the model to use when none is named.
    same_as : mapping of str to str
        Second names: id to the id of an artifact.
    """

    artifacts: Mapping[str, Artifact]
    mirrors: tuple[str, ...]
    default_model: str
    same_as: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse references that lead nowhere."""
        for mirror in self.mirrors:
            if not (isinstance(mirror, str) and (_URL.fullmatch(mirror) or os.path.isabs(mirror))):
                raise InputError(
                    f"mirrors: {mirror!r} is neither a http, https or file URL nor an "
                    "absolute folder"
                )
        for key, artifact in self.artifacts.items():
            if key != artifact.id:
                raise InputError(f"artifacts.{key}: holds the artifact {artifact.id!r}")
            if artifact.features is not None:
                features = self.artifacts.get(artifact.features)
                if features is None or features.kind != "features":
                    raise InputError(
                        f"artifacts.{key}.features: {artifact.features!r} is no feature set here"
                    )
        for key, target in self.same_as.items():
            check_id(key, f"artifacts.{key}")
            if key in self.artifacts:
                raise InputError(f"artifacts.{key}: is an artifact and a same_as")
            if target not in self.artifacts:
                raise InputError(
                    f"artifacts.{key}.same_as: {target!r} is no artifact here "
                    "(a same_as of a same_as is not followed)"
                )
        check_id(self.default_model, "default_model")
        try:
            kind = self.resolve(self.default_model).kind
        except ArtifactError:
            kind = "nothing"
        if kind != "model":
            raise InputError(f"default_model: {self.default_model!r} is no model here")

    def resolve(self, artifact_id: str) -> Artifact:
        """Find an artifact by its id, a second name, or an id without its version.

        Parameters
        ----------
        artifact_id : str
            ``gtex-tissue-v1``, or ``gtex-tissue`` for the newest ``gtex-tissue-vN``.

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
            versions = [
                (int(key[len(prefix) :]), key)
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
            artifact_id = max(versions)[1]
        return self.artifacts[self.same_as.get(artifact_id, artifact_id)]


def hash_file(path: str | os.PathLike[str]) -> FileEntry:
    """Hash and measure a file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    FileEntry
        Its SHA-256 and size in bytes.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return FileEntry(sha256_of(path), os.path.getsize(path))


def entry_for(folder: str | os.PathLike[str]) -> dict[str, FileEntry]:
    """Describe the files of an artifact on disk, for publishing it.

    Parameters
    ----------
    folder : path-like
        A bundle or feature set.

    Returns
    -------
    dict of str to FileEntry
        The ``files`` of its `Artifact`, sorted by name.

    Raises
    ------
    InputError
        If there is no such folder, it is empty, or it holds anything but files
        with names that a registry accepts.
    """
    try:
        paths = sorted(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=folder) from error
    if not paths:
        raise InputError("the folder is empty", path=folder)
    for path in paths:
        if not (path.is_file() and _FILE_NAME.fullmatch(path.name)):
            raise InputError(
                f"{path.name!r} cannot be published: no file, or a hidden or unusual name",
                path=folder,
                remedy="Remove it, or give it a name of letters, digits, '.', '_' and '-'.",
            )
    return {path.name: hash_file(path) for path in paths}


def load_registry(path: str | os.PathLike[str]) -> Registry:
    """Read a ``registry.yaml``; anything it does not know is an error.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Registry
        What it lists.

    Raises
    ------
    InputError
        If it cannot be read or is not a valid registry; names the file and the key.
    """
    try:
        with open(path, "rb") as file:
            document = yaml.load(file, Loader=_UniqueKeyLoader)
        return _registry(document)
    except InputError as error:
        raise InputError(error.message, path=path, remedy=error.remedy) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InputError(f"not valid YAML: {error.problem}", path=path, line=line) from error
    # ValueError: PyYAML lets the one of an impossible date through.
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"not valid YAML: {error}", path=path) from error


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
    entries: dict[str, dict[str, Any]] = {
        key: {"same_as": target} for key, target in registry.same_as.items()
    }
    for key, artifact in registry.artifacts.items():
        entry: dict[str, Any] = {
            name: getattr(artifact, name) for name in ("kind", "title", "license", "citation")
        }
        if artifact.features is not None:
            entry["features"] = artifact.features
        entry["files"] = {
            name: {"sha256": file.sha256, "size": file.size}
            for name, file in sorted(artifact.files.items())
        }
        entries[key] = entry
    document = {
        "format_version": FORMAT_VERSION,
        "mirrors": list(registry.mirrors),
        "default_model": registry.default_model,
        "artifacts": dict(sorted(entries.items())),
    }
    # No aliases: the same title twice must not become an anchor and a reference.
    text = yaml.dump(
        document,
        Dumper=_PlainDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=1 << 16,
    )
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if (key_node.tag, key_node.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"duplicate key {key_node.value!r}", key_node.start_mark
                    )
                seen.add((key_node.tag, key_node.value))
        return super().construct_mapping(node, deep)


def _registry(document: object) -> Registry:
    root = _mapping(document, "the registry", ("format_version",), None)
    if type(root["format_version"]) is not int or root["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"format_version: must be {FORMAT_VERSION}, got {root['format_version']!r}",
            remedy="A newer registry needs a newer decode-zoo: pip install -U decode-zoo",
        )
    _mapping(root, "the registry", ("format_version", "mirrors", "default_model", "artifacts"), ())
    if not isinstance(root["mirrors"], list):
        raise InputError("mirrors: must be a list")
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
    return Registry(artifacts, tuple(root["mirrors"]), root["default_model"], same_as)


def _artifact(key: str, value: object, where: str) -> Artifact:
    entry = _mapping(value, where, ("kind", "title", "license", "citation", "files"), ("features",))
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
    """Check that `value` maps text to anything; `optional` None allows every other key."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be a mapping of keys to values")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{where}: the key {key!r} must be text; put it in quotes")
        if optional is not None and key not in (*required, *optional):
            raise InputError(f"{where}: unknown key {key!r}")
    for key in required:
        if key not in value:
            raise InputError(f"{where}: the key {key!r} is missing")
    return value


def check_id(value: object, where: str = "id") -> None:
    """Refuse what is no id.

    Parameters
    ----------
    value : object
        The candidate.
    where : str
        What it is, for the message.

    Raises
    ------
    InputError
        If it is not one.
    """
    if not (isinstance(value, str) and _ID.fullmatch(value)):
        raise InputError(
            f"{where}: {value!r} is no id (lowercase letters, digits, '-', first no '-')"
        )


def _check_text(value: object, where: str) -> None:
    if not (isinstance(value, str) and value.strip()):
        raise InputError(f"{where}: must be text and not empty, got {value!r}")
