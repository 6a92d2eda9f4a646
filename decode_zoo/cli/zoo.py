"""``decode-zoo ls | info | fetch | verify | test``: what is in the zoo, and is it whole."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.registry import Artifact
    from decode_zoo.store import Store

__all__ = ["fetch", "info", "ls", "test", "verify"]


def _megabytes(artifact: Artifact) -> str:
    return f"{sum(entry.size for entry in artifact.files.values()) / 1e6:.1f} MB"


def _place(store: Store, artifact: Artifact) -> str:
    here = sum(store.has(artifact.id, name) for name in artifact.files)
    if here == len(artifact.files):
        return "here"
    return "partly here" if here else "to fetch"


@click.command()
def ls() -> None:
    """List models and feature sets."""
    from decode_zoo.store import Store

    store = Store.default()
    registry = store.registry
    click.echo("id\tkind\tsize\twhere\ttitle")
    for name in sorted({*registry.artifacts, *registry.same_as}):
        artifact = registry.resolve(name)
        title = artifact.title if name == artifact.id else f"the same as {artifact.id}"
        click.echo(f"{name}\t{artifact.kind}\t{_megabytes(artifact)}\t{_place(store, artifact)}"
                   f"\t{title}")  # fmt: skip


@click.command()
@click.argument("artifact_id", metavar="ID")
def info(artifact_id: str) -> None:
    """Say what a model or feature set is, how good, and where it comes from."""
    import decode_zoo as dz
    from decode_zoo.store import Store

    store = Store.default()
    artifact = store.registry.resolve(artifact_id)
    click.echo(f"{artifact.id}: {artifact.title}")
    click.echo(f"licence     {artifact.license}")
    click.echo(f"size        {_megabytes(artifact)} ({_place(store, artifact)})")
    if artifact.kind == "model":
        manifest = dz.load(artifact.id, store=store).manifest
        click.echo(f"family      {manifest.family}")
        click.echo(f"features    {manifest.features['id']} ({manifest.layout.genome})")
        for side, frozen in manifest.inputs.items():
            regulators = len({track.regulator for track in frozen.tracks})
            click.echo(f"{side:11} {len(frozen.tracks)} tracks of {regulators} regulators")
        for part, values in manifest.metrics.items():
            click.echo(
                f"{part:11} Spearman's rho {values['fold_change_spearman']:.3f} (mean over fold "
                f"changes), {values['median_spearman']:.3f} (median), {values['n_genes']} genes"
            )
        names = ", ".join(output.name for output in manifest.outputs)
        click.echo(f"outputs     {len(manifest.outputs)}: {names}")
        for source in manifest.sources:
            click.echo(f"source      {source}")
    click.echo(f"cite        {artifact.citation}")


@click.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1, required=True)
def fetch(artifact_ids: Sequence[str]) -> None:
    """Download artifacts into the cache and verify them."""
    from decode_zoo.store import Store

    store = Store.default()
    for name in artifact_ids:
        for path in store.fetch(name, progress=True):
            click.echo(str(path))


@click.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every artifact that is here.")
def verify(artifact_ids: Sequence[str], everything: bool) -> None:
    """Hash the files that are here again and compare with the registry."""
    from decode_zoo.store import Store

    store = Store.default()
    if everything == bool(artifact_ids):
        raise UsageError("Give either ids or --all.")
    for artifact_id in artifact_ids or sorted(store.registry.artifacts):
        artifact = store.registry.resolve(artifact_id)
        here = [name for name in artifact.files if store.has(artifact.id, name)]
        for name in here:
            store.locate(artifact.id, name)
        click.echo(f"{artifact.id}\t{len(here)} of {len(artifact.files)} files here, verified")


@click.command()
@click.argument("model_ids", metavar="ID...", nargs=-1, required=True)
def test(model_ids: Sequence[str]) -> None:
    """Recompute a model's known answers with each installed back end."""
    import decode_zoo as dz

    installed = importlib.util.find_spec("onnxruntime") is not None
    for name in model_ids:
        model = dz.load(name)
        genes = len(model.manifest.known_answers.genes)
        for backend in ("numpy", "onnxruntime") if installed else ("numpy",):
            opened = model.backend(backend)
            off = model.check_known_answers(opened)
            click.echo(f"{model.id}\t{opened.name}\t{genes} genes\tlargest difference {off:.1e} "
                       "of an output's scale")  # fmt: skip
