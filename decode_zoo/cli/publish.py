"""``decode-zoo publish``: check a bundle or feature set, and put it into a zoo of one's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click

from decode_zoo.errors import UsageError

__all__ = ["publish"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "zoo",
    metavar="ZOO_DIR",
    type=click.Path(path_type=Path),
    help="Folder to publish in, as a mirror serves it (default: check only).",
)
@click.option("--title", help="What a feature set is, in a line.")
@click.option("--license", "license_id", help="Licence of a feature set, e.g. CC-BY-4.0.")
@click.option("--citation", help="What to cite for a feature set.")
def publish(
    folder: Path,
    zoo: Path | None,
    title: str | None,
    license_id: str | None,
    citation: str | None,
) -> None:
    """Check a model bundle or feature set, and lay it out for a mirror.

    DIR holds the bundle and its card, CARD.md. Its files, known answers and implementations are
    compared; then it appears under ZOO_DIR whole or not at all, with its entry in
    ZOO_DIR/registry.yaml. An id never changes its meaning: other content needs the next version.

    Whoever names that registry in DECODE_ZOO_REGISTRY, as a file or as a URL, has what it lists.
    """
    from decode_zoo.publication import Prose, inspect, lay_out, zoo_registry
    from decode_zoo.registry import Origin, load_registry
    from decode_zoo.store import Store, builtin_registry_path

    given = (title, license_id, citation)
    if any(given) and not all(given):
        raise UsageError("A feature set needs --title, --license and --citation, all three.")
    prose = Prose(title, license_id, citation) if title and license_id and citation else None
    store = Store.default()
    if zoo is not None:
        place = zoo.absolute()
        origin = Origin(str(place / "registry.yaml"), (str(place),))
        store = replace(store, registry=store.registry.joined(zoo_registry(zoo), origin))
    publication = inspect(folder, store, prose)
    for finding in publication.findings:
        click.echo(finding)
    artifact = publication.artifact
    if zoo is None:
        click.echo(f"{artifact.id} can be published: decode-zoo publish {folder} --to ZOO_DIR")
        return
    builtin = load_registry(builtin_registry_path())
    new = lay_out(publication, folder, zoo, builtin)
    click.echo(f"{artifact.id} {'is' if new else 'was already'} in {zoo / artifact.folder}")
    verb = f"predict --model {artifact.id}" if artifact.kind == "model" else f"info {artifact.id}"
    registry = (zoo / "registry.yaml").absolute()
    named = registry.as_uri() if re.search(r"[,\s]", str(registry)) else registry
    click.echo(f"Use it with: DECODE_ZOO_REGISTRY={named} decode-zoo {verb}")
