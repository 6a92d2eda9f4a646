"""``decode-zoo ls | info | fetch | verify | test``: what is in the zoo, and is it whole."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.display import megabytes
from decode_zoo.errors import ArtifactError, InputError, UsageError, VerificationError

if TYPE_CHECKING:
    from decode_zoo.artifact import Artifact
    from decode_zoo.manifest import Manifest
    from decode_zoo.store import Store

__all__ = ["fetch", "info", "ls", "test", "verify"]


def _size(artifact: Artifact) -> str:
    return megabytes(sum(entry.size for entry in artifact.files.values()))


def _place(store: Store, artifact: Artifact) -> str:
    from decode_zoo.store import needed_to_predict

    here = {name for name in artifact.files if store.has(artifact.id, name)}
    if len(here) == len(artifact.files):
        return "here"
    if here.issuperset(needed_to_predict(artifact)):
        return "enough to predict"
    return "partly here" if here else "to fetch"


def _registry_of(store: Store, name: str) -> str:
    """Say who vouches for a name: decode-zoo, or a registry of the user's own."""
    origin = store.registry.origins.get(name)
    return "decode-zoo" if origin is None else origin.place


@click.command()
def ls() -> None:
    """List models and feature sets.

    Where: 'here'; 'enough to predict', but not the positions of sites or the card, which other
    verbs fetch; 'partly here'; 'to fetch'.
    """
    from decode_zoo.store import Store

    store = Store.default()
    registry = store.registry
    click.echo("id\tkind\tsize\twhere\tregistry\ttitle")
    for name in sorted({*registry.artifacts, *registry.same_as}):
        artifact = registry.resolve(name)
        title = artifact.title if name == artifact.id else f"the same as {artifact.id}"
        click.echo(
            f"{name}\t{artifact.kind}\t{_size(artifact)}\t{_place(store, artifact)}"
            f"\t{_registry_of(store, name)}\t{title}"
        )


@click.command()
@click.argument("source", metavar="ID|DIR")
def info(source: str) -> None:
    """Say what a model or feature set is, how good, and where it comes from."""
    import decode_zoo as dz
    from decode_zoo.cli.data import describe
    from decode_zoo.model import is_folder
    from decode_zoo.store import Store

    folder, store = Path(source), Store.default()
    if is_folder(source, store):
        if (folder / "manifest.json").is_file():
            manifest = dz.load(folder).manifest
            lines = [
                f"{manifest.id}: {manifest.title}",
                f"licence     {manifest.license}",
                *_describe_model(manifest),
                f"cite        {manifest.citation}",
            ]
        elif (folder / "features.json").is_file():
            lines = describe(dz.load_features(folder))
        else:
            raise InputError(
                "holds neither a model (manifest.json) nor a feature set (features.json)",
                path=folder,
            )
    else:
        artifact = store.registry.resolve(source)
        place = _place(store, artifact)
        lines = [
            f"{artifact.id}: {artifact.title}",
            f"licence     {artifact.license}",
            f"size        {_size(artifact)} ({place})",
            f"registry    {_registry_of(store, artifact.id)}",
        ]
        if place == "to fetch":
            lines.append(f"more        once it is here: {store.way_to_get(artifact.id)}")
        elif artifact.kind == "model":
            lines += _describe_model(dz.load(artifact.id, store=store).manifest)
        else:
            lines += describe(dz.load_features(artifact.id, store=store))
        lines.append(f"cite        {artifact.citation}")
        if artifact.erratum is not None:
            lines.append(f"erratum     {artifact.erratum}")
    for line in lines:
        click.echo(line)


def _describe_model(manifest: Manifest) -> Iterator[str]:
    yield f"family      {manifest.family}"
    yield f"features    {manifest.features['id']} ({manifest.layout.genome})"
    for side, frozen in manifest.inputs.items():
        regulators = len({track.regulator for track in frozen.tracks})
        yield f"{side:11} {len(frozen.tracks)} tracks of {regulators} regulators"
    for part, values in manifest.metrics.items():
        yield (
            f"{part:11} Spearman's rho {manifest.spearman_text(part)}, {values['n_genes']} genes"
        )
    names = ", ".join(output.name for output in manifest.outputs)
    yield f"outputs     {len(manifest.outputs)}: {names}"
    for source in manifest.sources:
        yield f"source      {source}"


@click.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1, required=True)
def fetch(artifact_ids: Sequence[str]) -> None:
    """Download artifacts into the cache and verify them.

    Exit codes: 3 if nobody has a file; 5 if there is something else in its place, in the cache or
    at a mirror, and no mirror gave the right one.
    """
    from decode_zoo.store import Store

    store = Store.default()
    for name in artifact_ids:
        for path in store.fetch(name, progress=True):
            click.echo(str(path))


@click.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every artifact that is here.")
def verify(artifact_ids: Sequence[str], everything: bool) -> None:
    """Hash the files that are here again and compare with the registry; change nothing.

    Exit codes: 5 if a file is not the published one, else 3 if one may not be read or a folder is
    in its place, or if nothing of an id is here.
    """
    from decode_zoo.store import Store

    store = Store.default()
    if everything == bool(artifact_ids):
        raise UsageError("Give either ids or --all.")
    artifacts = [_registered(store, name) for name in artifact_ids or store.registry.artifacts]
    bad: list[str] = []
    closed: list[str] = []
    absent: list[str] = []
    for _, artifact in sorted({artifact.id: artifact for artifact in artifacts}.items()):
        good, spoilt, unread = 0, 0, 0
        for name in artifact.files:
            try:
                good += store.check(artifact.id, name) is not None
            except VerificationError as error:
                spoilt += 1
                click.echo(f"Error: {error}", err=True)
            except ArtifactError as error:
                unread += 1
                click.echo(f"Error: {error}", err=True)
        parts = [f"{good} of {len(artifact.files)} files here, verified"] if good else []
        parts += [f"{spoilt} damaged"] if spoilt else []
        parts += [f"{unread} unreadable"] if unread else []
        click.echo(f"{artifact.id}\t{', '.join(parts) or 'not here'}")
        bad += [artifact.id] * spoilt
        closed += [artifact.id] * unread
        absent += [artifact.id] if not parts else []
    if bad:
        raise VerificationError(
            f"{len(bad)} of the files here are not the published ones "
            f"({', '.join(dict.fromkeys(bad))})."
        )
    if closed:
        raise ArtifactError(
            f"{len(closed)} of the files here cannot be read ({', '.join(dict.fromkeys(closed))})."
        )
    if absent and not everything:
        raise ArtifactError(
            f"Nothing to verify: no file of {', '.join(absent)} is here.",
            remedy=f"First: {store.way_to_get(*absent)}",
        )


def _registered(store: Store, name: str) -> Artifact:
    try:
        return store.registry.resolve(name)
    except ArtifactError:
        if Path(name).is_dir():
            raise UsageError(
                f"{name} is a folder, and the hashes of the registry are not about it.",
                remedy=f"Test the model in it: decode-zoo test {name}",
            ) from None
        raise


@click.command()
@click.argument("models", metavar="ID|DIR...", nargs=-1, required=True)
@click.option(
    "--features",
    "features_source",
    metavar="ID|DIR",
    help="The feature set that the models were trained on, if it is elsewhere.",
)
def test(models: Sequence[str], features_source: str | None) -> None:
    """Recompute a model's known answers with each installed back end."""
    import decode_zoo as dz
    from decode_zoo.graph import check_with_onnx

    installed = importlib.util.find_spec("onnxruntime") is not None
    own = dz.load_features(features_source) if features_source else None
    for name in models:
        model = dz.load(name)
        click.echo(f"{model.id}: {check_with_onnx(model.locate('model.onnx'))}", err=True)
        genes = len(model.manifest.known_answers.genes)
        for backend in ("numpy", "onnxruntime") if installed else ("numpy",):
            opened = model.backend(backend)
            off = model.check_known_answers(opened, features=own)
            click.echo(
                f"{model.id}\t{opened.name}\t{genes} genes\tlargest difference {off:.1e} "
                "of an output's scale"
            )
