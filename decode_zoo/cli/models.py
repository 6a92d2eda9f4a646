"""``decode-zoo ls | info | fetch | verify | test | publish | doctor``: what is here, and whole."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import runner
from decode_zoo.cli.runner import cli, flag, note, option
from decode_zoo.core.errors import (
    ArtifactError,
    DecodeZooError,
    InputError,
    UsageError,
    VerificationError,
)
from decode_zoo.core.text import megabytes

if TYPE_CHECKING:
    from decode_zoo.networks.manifest import Manifest
    from decode_zoo.zoo.artifact import Artifact
    from decode_zoo.zoo.store import Store

_DIR = click.Path(path_type=Path)


def _size(artifact: Artifact) -> str:
    return megabytes(sum(entry.size for entry in artifact.files.values()))


def _place(store: Store, artifact: Artifact) -> str:
    from decode_zoo.zoo.model import needed_to_predict

    here = {name for name in artifact.files if store.has(artifact.id, name)}
    if len(here) == len(artifact.files):
        return "here"
    if here.issuperset(needed_to_predict(artifact)):
        return "enough to predict"
    return "partly here" if here else "to fetch"


def _registry_of(store: Store, name: str) -> str:
    """Return who vouches for a name: decode-zoo, or a registry of the user's own."""
    origin = store.registry.origins.get(name)
    return "decode-zoo" if origin is None else origin.place


@cli.command()
def ls() -> None:
    """List models and feature sets.

    Where: 'here'; 'enough to predict', but not the positions of sites or the card, which other
    verbs fetch; 'partly here'; 'to fetch'.
    """
    from decode_zoo.zoo.store import Store

    store = Store.default()
    registry = store.registry
    click.echo("id\tkind\tsize\twhere\tregistry\ttitle")
    for name in sorted({*registry.artifacts, *registry.same_as}):
        artifact = registry.resolve(name)
        title = artifact.title if name == artifact.id else f"the same as {artifact.id}"
        place, registered = _place(store, artifact), _registry_of(store, name)
        click.echo("\t".join((name, artifact.kind, _size(artifact), place, registered, title)))


@cli.command()
@click.argument("source", metavar="ID|DIR")
def info(source: str) -> None:
    """Describe a model or feature set: what it is, how good, and where it comes from."""
    import decode_zoo as dz
    from decode_zoo.cli.data import describe
    from decode_zoo.zoo.model import is_folder
    from decode_zoo.zoo.store import Store

    folder, store = Path(source), Store.default()
    if not is_folder(source, store):
        lines = _describe_artifact(store, store.registry.resolve(source))
    elif (folder / "manifest.json").is_file():
        lines = _describe_model(dz.load(folder).manifest)
    elif (folder / "features.json").is_file():
        lines = iter(describe(dz.load_features(folder)))
    else:
        raise InputError(
            "holds neither a model (manifest.json) nor a feature set (features.json)", path=folder
        )
    for line in lines:
        click.echo(line)


def _describe_artifact(store: Store, artifact: Artifact) -> Iterator[str]:
    import decode_zoo as dz
    from decode_zoo.cli.data import describe

    place = _place(store, artifact)
    yield f"{artifact.id}: {artifact.title}"
    yield f"licence     {artifact.license}"
    yield f"size        {_size(artifact)} ({place})"
    yield f"registry    {_registry_of(store, artifact.id)}"
    if place == "to fetch":
        yield f"more        once it is here: {store.way_to_get(artifact.id)}"
    elif artifact.kind == "model":
        yield from _describe_contents(dz.load(artifact.id, store=store).manifest)
    else:
        yield from describe(dz.load_features(artifact.id, store=store))
    yield f"cite        {artifact.citation}"
    if artifact.erratum is not None:
        yield f"erratum     {artifact.erratum}"


def _describe_model(manifest: Manifest) -> Iterator[str]:
    yield f"{manifest.id}: {manifest.title}"
    yield f"licence     {manifest.license}"
    yield from _describe_contents(manifest)
    yield f"cite        {manifest.citation}"


def _describe_contents(manifest: Manifest) -> Iterator[str]:
    yield f"family      {manifest.family}"
    yield f"features    {manifest.features['id']} ({manifest.layout.genome})"
    for side, frozen in manifest.inputs.items():
        regulators = len({track.regulator for track in frozen.tracks})
        yield f"{side:11} {len(frozen.tracks)} tracks of {regulators} regulators"
    for part, values in manifest.metrics.items():
        rho = manifest.spearman_text(part)
        yield f"{part:11} Spearman's rho {rho}, {values['n_genes']} genes"
    names = ", ".join(output.name for output in manifest.outputs)
    yield f"outputs     {len(manifest.outputs)}: {names}"
    for source in manifest.sources:
        yield f"source      {source}"


@cli.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1, required=True)
def fetch(artifact_ids: tuple[str, ...]) -> None:
    """Download artifacts into the cache and verify them.

    Exit codes: 3 if nobody has a file; 5 if there is something else in its place, in the cache or
    at a mirror, and no mirror gave the right one.
    """
    from decode_zoo.zoo.store import Store

    store = Store.default()
    for name in artifact_ids:
        for path in store.fetch(name, progress=True):
            click.echo(str(path))


@cli.command()
@click.argument("artifact_ids", metavar="ID...", nargs=-1)
@flag("--all everything", "Every artifact that is here.")
def verify(artifact_ids: tuple[str, ...], everything: bool) -> None:
    """Hash the files that are here again and compare with the registry; change nothing.

    Exit codes: 5 if a file is not the published one, else 3 if one may not be read or a folder is
    in its place, or if nothing of an id is here.
    """
    from decode_zoo.zoo.store import Store

    store = Store.default()
    if everything == bool(artifact_ids):
        raise UsageError("Give either ids or --all.")
    artifacts = [_registered(store, name) for name in artifact_ids or store.registry.artifacts]
    counts: dict[str, Counter[str]] = {}
    for id_, artifact in sorted({artifact.id: artifact for artifact in artifacts}.items()):
        count = counts[id_] = Counter(_state(store, id_, name) for name in artifact.files)
        good = f"{count['verified']} of {len(artifact.files)} files here, verified"
        parts = [good] if count["verified"] else []
        parts += [f"{count[state]} {state}" for state in ("damaged", "unreadable") if count[state]]
        click.echo(f"{id_}\t{', '.join(parts) or 'not here'}")
    for state, error, wrong in (
        ("damaged", VerificationError, "are not the published ones"),
        ("unreadable", ArtifactError, "cannot be read"),
    ):
        if bad := {id_: count[state] for id_, count in counts.items() if count[state]}:
            raise error(f"{sum(bad.values())} of the files here {wrong} ({', '.join(bad)}).")
    absent = [id_ for id_, count in counts.items() if set(count) == {"absent"}]
    if absent and not everything:
        raise ArtifactError(
            f"Nothing to verify: no file of {', '.join(absent)} is here.",
            remedy=f"First: {store.way_to_get(*absent)}",
        )


def _state(store: Store, artifact_id: str, name: str) -> str:
    """Return what a file is like, as it lies; say on stderr what is wrong with it."""
    try:
        return "absent" if store.check(artifact_id, name) is None else "verified"
    except (VerificationError, ArtifactError) as error:
        note(f"Error: {error}")
        return "damaged" if isinstance(error, VerificationError) else "unreadable"


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


@cli.command()
@click.argument("models", metavar="ID|DIR...", nargs=-1, required=True)
@option(
    runner.SOURCE,
    "--features features_source",
    "The feature set that the models were trained on, if it is elsewhere.",
)
def test(models: tuple[str, ...], features_source: str | None) -> None:
    """Recompute a model's known answers with each installed back end."""
    import decode_zoo as dz

    own = runner.load_own(features_source)
    for name in models:
        for model, backend, genes, off in dz.test(name, features=own).itertuples(index=False):
            click.echo(
                f"{model}\t{backend}\t{genes} genes\tlargest difference {off:.1e} "
                "of an output's scale"
            )


@cli.command()
@click.argument("folder", metavar="DIR", type=_DIR)
@option(
    _DIR,
    "--to zoo",
    "Folder to publish in, as a mirror serves it (default: check only).",
    metavar="ZOO_DIR",
)
@option(str, "--title", "What a feature set is, in a line.")
@option(str, "--license license_id", "Licence of a feature set, e.g. CC-BY-4.0.")
@option(str, "--citation", "What to cite for a feature set.")
def publish(
    folder: Path, zoo: Path | None, title: str | None, license_id: str | None, citation: str | None
) -> None:
    """Check a model bundle or feature set, and lay it out for a mirror.

    DIR holds the bundle and its card, CARD.md. Its files, known answers and implementations are
    compared; then it appears under ZOO_DIR whole or not at all, with its entry in
    ZOO_DIR/registry.yaml. An id never changes its meaning: other content needs the next version.

    Whoever names that registry in DECODE_ZOO_REGISTRY, as a file or as a URL, has what it lists.
    """
    from decode_zoo.zoo.publishing import inspect, lay_out, zoo_registry
    from decode_zoo.zoo.registry import Origin, load_registry
    from decode_zoo.zoo.store import Store, builtin_registry_path

    given = {"title": title, "license": license_id, "citation": citation}
    prose = {name: text for name, text in given.items() if text}
    if 0 < len(prose) < len(given):
        raise UsageError("A feature set needs --title, --license and --citation, all three.")
    store = Store.default()
    if zoo is not None:
        place = zoo.absolute()
        origin = Origin(str(place / "registry.yaml"), (str(place),))
        store = replace(store, registry=store.registry.joined(zoo_registry(zoo), origin))
    publication = inspect(folder, store, prose or None)
    for finding in publication.findings:
        click.echo(finding)
    artifact = publication.artifact
    if zoo is None:
        click.echo(f"{artifact.id} can be published: decode-zoo publish {folder} --to ZOO_DIR")
        return
    new = lay_out(publication, folder, zoo, load_registry(builtin_registry_path()))
    click.echo(f"{artifact.id} {'is' if new else 'was already'} in {zoo / artifact.folder}")
    verb = f"predict --model {artifact.id}" if artifact.kind == "model" else f"info {artifact.id}"
    registry = (zoo / "registry.yaml").absolute()
    named = registry.as_uri() if re.search(r"[,\s]", str(registry)) else registry
    click.echo(f"Use it with: DECODE_ZOO_REGISTRY={named} decode-zoo {verb}")


@cli.command()
@flag("--json as_json", "Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Examine this installation: versions, back ends, threads, cache, mirrors, files.

    Every installed back end recomputes the default model's known answers. Nothing is changed,
    nothing fetched but the registries in DECODE_ZOO_REGISTRY; passwords in URLs are not printed.

    Exit codes: 0 healthy (warnings allowed), else that of the worst problem, in this order: 5 a
    file or an answer is wrong, 6 there is a GPU and it cannot be used, 3 the cache, a mirror or
    the default model cannot be had, 4 the registry is not valid, 2 packages do not fit together,
    1 a check broke.
    """
    import decode_zoo
    from decode_zoo.cli.doctor import examine, exit_code, summary

    checks = examine()
    code, verdict = exit_code(checks), summary(checks)
    if as_json:
        document = {
            "format_version": 1,
            "decode_zoo": decode_zoo.__version__,
            "healthy": code == 0,
            "exit_code": code,
            "summary": verdict,
            "checks": [check.as_json() for check in checks],
        }
        click.echo(json.dumps(document, indent=1))
    else:
        wide = max(len(check.name) for check in checks if len(check.name) <= 24)
        margin = " " * (len("problem  ") + wide + 2)
        for check in checks:
            head = f"{check.state:9}{check.name:{wide}}  "
            if len(check.name) > wide:  # a mirror's URL has a line of its own
                head = f"{head.rstrip()}\n{margin}"
            click.echo(head + _filled(check.found, margin))
            if check.remedy and check.state != "ok":
                click.echo(f"{margin}-> {_filled(check.remedy, margin + '   ')}")
        if code == 0:
            click.echo(verdict)
    if code:
        error = DecodeZooError(verdict)
        error.exit_code = code
        raise error


def _filled(text: str, margin: str) -> str:
    """Break a text into lines that stand under each other."""
    lines = textwrap.wrap(
        text, max(40, 110 - len(margin)), break_long_words=False, break_on_hyphens=False
    )
    return f"\n{margin}".join(lines)
