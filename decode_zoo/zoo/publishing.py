"""Publishing: from a bundle or feature set that proves itself to a zoo that others fetch from.

A zoo is a folder as a mirror serves it: ``registry.yaml``, ``models/<id>/…``, ``features/<id>/…``.
Put on any web server or shared disk, it is used with ``DECODE_ZOO_REGISTRY``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from decode_zoo.core.errors import InputError, MissingExtraError, UsageError, VerificationError
from decode_zoo.core.files import atomic_dir, check_folder, entries_of
from decode_zoo.core.text import check_versioned
from decode_zoo.features.featureset import FEATURE_FOLDER, FeatureSet
from decode_zoo.features.pooling import total_bases
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import BUNDLE_FILES, Manifest
from decode_zoo.networks.onnx import check_with_onnx
from decode_zoo.zoo.artifact import FOLDERS, Artifact, FileEntry, entry_for
from decode_zoo.zoo.cards import BEGIN, CARD, END, feature_facts, model_facts, with_facts
from decode_zoo.zoo.model import Model, load_features
from decode_zoo.zoo.registry import Origin, Registry, load_registry, write_registry
from decode_zoo.zoo.store import Store

__all__ = ["CARD", "Publication", "inspect", "lay_out", "model_artifact", "zoo_registry"]

_PATIENCE = 10.0  # seconds
_LOCK = ".decode-zoo-publish.lock"
# What `files` stages files and folders under.
_STAGED = re.compile(r"\.decode-zoo-[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Publication:
    """An artifact that may be published, its card, and for people what was checked.

    The card has the facts of the artifact, which has the hash of the card as it is here.
    """

    artifact: Artifact
    card: str
    findings: tuple[str, ...]


def model_artifact(manifest: Manifest, files: Mapping[str, FileEntry]) -> Artifact:
    """Make the registry's entry of a model from its manifest."""
    return Artifact(
        manifest.id,
        "model",
        manifest.title,
        manifest.license,
        manifest.citation,
        manifest.features["id"],
        files,
    )


def inspect(folder: Path, store: Store, prose: Mapping[str, str] | None = None) -> Publication:
    """Check whether a folder holds what may be published; change nothing.

    It holds a model bundle or a feature set, its card as ``CARD.md``, and nothing else. The prose
    (title, license, citation) is for a feature set, and only for one: its id is the name of the
    folder. The feature set of a model comes from `store`. ONNX Runtime is needed: without it nobody
    knows whether graph and weights agree.
    """
    files = entry_for(folder)
    if "manifest.json" in files:
        if prose is not None:
            raise UsageError(
                "A model's title, licence and citation are in its manifest.",
                remedy="Leave out --title, --license and --citation.",
            )
        _check_files(folder, files, BUNDLE_FILES)
        return _inspect_model(folder, files, store)
    if "features.json" in files:
        if prose is None:
            raise UsageError(
                "A feature set does not say under what licence it is.",
                remedy="Give --title, --license and --citation.",
            )
        _check_files(folder, files, FEATURE_FOLDER.files)
        return _inspect_features(folder, files, prose)
    raise InputError(
        "holds neither a model (manifest.json) nor a feature set (features.json)", path=folder
    )


def _check_files(folder: Path, files: Mapping[str, FileEntry], wanted: tuple[str, ...]) -> None:
    found, remedy = None, None
    if lacking := [name for name in wanted if name not in files]:
        found = f"has no {lacking[0]}"
    elif CARD not in files:
        found = f"has no card, {CARD}"
        remedy = "Write one: what it is, what it is good for, what not; with the lines "
        remedy += f"{BEGIN!r} and {END!r}, between which the facts are put."
    elif odd := sorted(set(files) - {*wanted, CARD}):
        found, remedy = f"holds {', '.join(odd)}, which is no part of it", "Remove it."
    if found:
        raise InputError(found, path=folder, remedy=remedy)


@contextmanager
def _found_in(path: Path) -> Iterator[None]:
    """Add to an error of the block in which file it is."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, path=path, remedy=error.remedy) from None


def _inspect_model(folder: Path, files: Mapping[str, FileEntry], store: Store) -> Publication:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "cpu")
    model = Model.open(lambda name: folder / name, lambda other: load_features(other, store=store))
    manifest = model.manifest
    with _found_in(folder / "manifest.json"):
        check_versioned(manifest.id)
        artifact = model_artifact(manifest, files)
        facts = model_facts(manifest, files)
    findings = [
        f"{len(files)} files, as the manifest names them",
        check_with_onnx(folder / "model.onnx"),
    ]
    for backend in (model.backend("onnxruntime", "cpu"), model.backend("numpy", "cpu")):
        off = model.check_known_answers(backend)
        findings.append(
            f"{len(manifest.known_answers.genes)} known answers, {backend.name}: largest "
            f"difference {off:.1e} of an output's scale"
        )
    return _with_card(artifact, folder, facts, findings)


def _inspect_features(
    folder: Path, files: Mapping[str, FileEntry], prose: Mapping[str, str]
) -> Publication:
    name = folder.resolve().name
    with _found_in(folder):
        check_versioned(name)
    features = FeatureSet.load(folder)
    artifact = Artifact(name, "features", features=None, files=files, **prose)
    for side in SIDES:
        direct = total_bases(features.pieces(side), len(features.side_tracks[side]))
        if abs(features.sums(side)[0] - direct).sum():
            raise VerificationError(
                f"{folder}: sites.npz and pooled.npz are not of the same sites ({side}).",
                remedy="Build it again.",
            )
    findings = [
        f"{len(files)} files, as features.json names them",
        f"{len(features)} {features.layout.level}s: sums and sites agree",
    ]
    return _with_card(artifact, folder, feature_facts(artifact, features), findings)


def _with_card(artifact: Artifact, folder: Path, facts: str, findings: list[str]) -> Publication:
    path = folder / CARD
    try:
        with _found_in(path):
            card = with_facts(path.read_text(encoding="utf-8"), facts)
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", path=path) from None
    content = card.encode()
    entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    files = dict(sorted({**artifact.files, CARD: entry}.items()))
    return Publication(replace(artifact, files=files), card, tuple(findings))


def zoo_registry(zoo: Path) -> Registry:
    """Read the registry of a zoo; an empty one if it has none yet."""
    path = zoo / "registry.yaml"
    return load_registry(path, whole=False) if path.exists() else Registry({}, ())


def lay_out(publication: Publication, folder: Path, zoo: Path, builtin: Registry) -> bool:
    """Put what `inspect` made of `folder` into a zoo, whole or not at all.

    The zoo is made if need be, in a folder that exists. Its registry must get along with
    `builtin`, which every user has: an id that means something else there, or in the zoo, is
    refused, and so is a model whose feature set is in neither. Returns False if the artifact was
    there already, to the last byte.
    """
    zoo = Path(os.path.realpath(zoo))
    check_folder(zoo if zoo.exists() else zoo.parent, zoo)
    artifact = publication.artifact
    target = zoo / artifact.folder
    # What was made goes again unless everything succeeds; the artifact while others are kept out.
    with ExitStack() as made:
        for path in (zoo, target.parent):
            if not path.exists():
                path.mkdir()
                made.callback(_remove_if_empty, path)
        with _alone(zoo), ExitStack() as placed:
            _sweep(zoo)
            registry = zoo_registry(zoo)
            joined = _with(registry, artifact, builtin, zoo / "registry.yaml")
            new = _place(publication, folder, target)
            if new:
                placed.callback(shutil.rmtree, target, ignore_errors=True)
            if joined is not registry:
                write_registry(joined, zoo / "registry.yaml")
            placed.pop_all()
        made.pop_all()
    return new or joined is not registry


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        if [entry.name for entry in entries_of(folder)] == [_LOCK]:
            (folder / _LOCK).unlink()
        folder.rmdir()


def _with(registry: Registry, artifact: Artifact, builtin: Registry, path: Path) -> Registry:
    """Add an artifact to a zoo's registry, unless its id is taken."""
    for known, whose in ((registry, f"the zoo of {path}"), (builtin, "decode-zoo itself")):
        found = known.artifacts.get(artifact.id)
        if artifact.id in known.same_as or found not in (None, artifact):
            stem, _, version = artifact.id.rpartition("-v")
            raise InputError(
                f"{artifact.id} is published already, in {whose}, and is something else there",
                remedy="An id never changes its meaning. Publish this as the next version, e.g. "
                f"{stem}-v{int(version) + 1}.",
            )
    if artifact.id in registry.artifacts:
        return registry
    joined = replace(registry, artifacts={**registry.artifacts, artifact.id: artifact})
    builtin.joined(joined, Origin(str(path), ())).check_references()
    return joined


def _place(publication: Publication, folder: Path, target: Path) -> bool:
    """Copy the files, unless they are there; what is copied must be what was checked."""
    artifact = publication.artifact
    if target.is_dir() and any(target.iterdir()):
        if entry_for(target) == artifact.files:
            return False
        raise UsageError(
            f"The folder {target} exists, and is not what is to be published.",
            remedy="Publish the next version. If that folder is a leftover, remove it.",
        )
    with atomic_dir(target) as staged:
        for name in artifact.files:
            if name != CARD:
                shutil.copyfile(folder / name, staged / name, follow_symlinks=False)
        (staged / CARD).write_text(publication.card, encoding="utf-8", newline="")
        if entry_for(staged) != artifact.files:
            raise InputError("changed while it was published", path=folder)
    return True


@contextmanager
def _alone(zoo: Path) -> Iterator[None]:
    """Keep other publishers out: of two that write the registry at once, one would be lost."""
    # The file stays, and whoever else may write the zoo must be able to lock it.
    lock = FileLock(zoo / _LOCK, timeout=_PATIENCE, mode=0o666)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Someone else is publishing into {zoo}.", remedy="Wait for it, and try again."
        ) from None
    except PermissionError as error:
        raise UsageError(f"Cannot write {zoo}: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def _sweep(zoo: Path) -> None:
    """Remove what publishers that were killed left; whoever holds the lock is the only one."""
    for folder in (zoo, *(zoo / name for name in FOLDERS.values())):
        for entry in entries_of(folder):
            if not _STAGED.fullmatch(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)
