"""``decode-zoo cache``: what is in the cache, cleaning it, carrying it to another site."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli.runner import Verbs, cli, flag, note, option
from decode_zoo.core.errors import ArtifactError, UsageError
from decode_zoo.core.text import megabytes, printable

if TYPE_CHECKING:
    from decode_zoo.zoo.cache import CachedFile
    from decode_zoo.zoo.store import Store

__all__ = ["cache"]

# Why `clean` leaves files.
_REASONS = {
    "verified": "good; they go with --all, --older-than, or the ids of their artifacts",
    "unregistered": "of artifacts that no registry in use has, perhaps of a zoo that "
    "DECODE_ZOO_REGISTRY does not name now; they go with --all or the ids",
    "in use": "of downloads under way",
    "unreadable": "that you may not read",
    "in the way": "that are folders where files should be: remove them yourself",
    "foreign": "not made by decode-zoo, or links",
}
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ids = click.argument("artifact_ids", metavar="[ID]...", nargs=-1)


def _seconds(age: str) -> float:
    """Read a number of minutes, hours, days or weeks."""
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", age)
    if match is None:
        raise click.BadParameter(f"{age!r} is no age; give e.g. 12h, 30d or 8w.")
    return float(match[1]) * _UNITS[match[2]]


@cli.group(cls=Verbs)
def cache() -> None:
    """Look after the files that were fetched, or carry them to another site."""


@cache.command()
def path() -> None:
    """Print where fetched files are kept (DECODE_ZOO_CACHE); it need not exist."""
    from decode_zoo.zoo.store import cache_root

    click.echo(str(cache_root()))


@cache.command()
def ls() -> None:
    """List what is in the cache, and verify it.

    State: 'verified'; 'damaged', not what the registry says; 'unreadable'; 'in the way', a folder
    where a file should be; 'unfinished', left by a download that died; 'in use', a download under
    way; 'unregistered', of an artifact that no registry in use has; 'foreign', not made by
    decode-zoo, or a symbolic link.
    """
    from decode_zoo.zoo.cache import survey
    from decode_zoo.zoo.store import Store

    store = Store.default()
    files = survey(store)
    click.echo("artifact\tfile\tsize\tstate\tage\tregistered")
    for file in files:
        named = f"{printable(file.artifact)}\t{printable(file.path.name)}"
        known = "yes" if file.artifact in store.registry.artifacts else "no"
        age = _age(time.time() - file.modified)
        click.echo(f"{named}\t{megabytes(file.size)}\t{file.state}\t{age}\t{known}")


@cache.command()
@_ids
@option(
    _seconds,
    "--older-than",
    "Also good files that were fetched longer ago, e.g. 12h, 30d, 8w.",
    metavar="AGE",
)
@flag("--all everything", "All that decode-zoo put there.")
@flag("--dry-run", "Only print what would be removed.")
def clean(
    artifact_ids: tuple[str, ...], older_than: float | None, everything: bool, dry_run: bool
) -> None:
    """Remove what nobody can use from the cache; with options or ids, more.

    Removed are damaged files and what downloads that died left. With ids, only those artifacts are
    touched, and their good files go too. Artifacts that no registry in use has go only with --all
    or if named: they may be of a zoo that DECODE_ZOO_REGISTRY does not name just now. Nothing is
    asked; what goes and what stays is printed.

    Files that came with the package are never touched, nor is anything in the cache folder that
    decode-zoo did not make; symbolic links are not followed.
    """
    from decode_zoo.zoo import cache as contents
    from decode_zoo.zoo.store import Store

    if everything and (artifact_ids or older_than is not None):
        raise UsageError(
            "--all leaves nothing to choose.", remedy="Give either --all, or ids and --older-than."
        )
    store = Store.default()
    there = contents.survey(store)
    ids = {_cached_id(store, name, there) for name in artifact_ids}
    files = contents.removable(there, artifacts=ids, older_than=older_than, everything=everything)
    removed = files if dry_run else contents.clean(files)
    for file in removed:
        click.echo(f"{printable(str(file.path))}\t{megabytes(file.size)}\t{file.state}")
    verb = "would be removed" if dry_run else "removed"
    note(f"{_amount(removed)} {verb} from {store.cache}.")
    for state, reason in _REASONS.items():
        if left := [file for file in there if file.state == state and file not in removed]:
            note(f"Left: {_amount(left)} {reason}.")


@cache.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@_ids
def export(folder: str, artifact_ids: tuple[str, ...]) -> None:
    """Copy verified files into a new folder, to be carried to another site.

    It is laid out as a mirror, with a registry.yaml. There: decode-zoo cache import DIR, or
    DECODE_ZOO_MIRRORS=DIR. Without ids, everything that is here, bundled files included; with ids,
    those artifacts and what is here of the feature sets that they read. DIR appears whole or not
    at all.
    """
    from decode_zoo.zoo.archive import pack
    from decode_zoo.zoo.store import Store

    store = Store.default()
    _check_not_id(store, folder)
    done = pack(store, folder, artifact_ids)
    for place, size in done.files:
        click.echo(f"{place}\t{megabytes(size)}")
    total = sum(size for _, size in done.files)
    note(f"{len(done.files)} files, {megabytes(total)} in {folder}.")
    if done.left_out:
        note(f"Not here, so not in it: {', '.join(done.left_out)}.")


@cache.command(name="import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def import_(folder: Path) -> None:
    """Verify a carried folder against the registry here, and take it into the cache.

    No network is used. One wrong file, a symbolic link or anything else that is no ordinary file
    where the registry has one, and nothing is taken (exit code 5). What is here already is left
    as it is.
    """
    from decode_zoo.zoo.archive import unpack
    from decode_zoo.zoo.store import Store

    store = Store.default()
    cache = store.cache_folder()
    done = unpack(store, folder)
    for place, size in done.files:
        click.echo(f"{place}\t{megabytes(size)}")
    note(
        f"{len(done.files)} files verified and taken into {cache}, "
        f"{len(done.here)} verified and here already."
    )
    if done.lacking:
        note(f"Not in it, and not here: {', '.join(done.lacking)}.")
    if done.left_out:
        names = ", ".join(map(printable, done.left_out[:10])) + ", …" * (len(done.left_out) > 10)
        note(f"Not in the registry, so not looked at: {names}.")
    if done.remedy:
        note(done.remedy)


def _check_not_id(store: Store, folder: str) -> None:
    """Refuse an id where a folder was forgotten."""
    if os.path.basename(folder) != folder or folder in (".", ".."):
        return
    with suppress(ArtifactError):
        known = store.registry.resolve(folder).id
        raise UsageError(
            f"{folder} is an artifact ({known}); the folder to export into comes first.",
            remedy=f"decode-zoo cache export DIR {folder}, or for a folder of that name: "
            f"decode-zoo cache export {os.path.join('.', folder)}",
        )


def _cached_id(store: Store, name: str, files: Iterable[CachedFile]) -> str:
    """Return the id of an artifact that is in the registry, or only in the cache."""
    try:
        return store.registry.resolve(name).id
    except ArtifactError:
        if any(file.artifact == name for file in files):
            return name
        raise


def _amount(files: Collection[CachedFile]) -> str:
    return f"{len(files)} files, {megabytes(sum(file.size for file in files))}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0) / 60:.0f} min"
