"""Output files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from decode_zoo.errors import InputError, UsageError
from decode_zoo.inputfile import read_at_most
from decode_zoo.records import parse_json

__all__ = ["atomic_dir", "atomic_path", "check_files", "check_folder", "discard_stdout"]

# A folder is replaced only if it is whole what decode-zoo made: a description that says so, and
# nothing but the files that belong to it.
_OWN_FILES = {
    "features.json": frozenset({"features.json", "pooled.npz", "sites.npz"}),
    "manifest.json": frozenset({"manifest.json", "weights.npz", "model.onnx"}),
    "record.json": frozenset({"record.json", "expression.tsv.gz", "persons.tsv", "quality.html"}),
    "summary.json": frozenset(
        {
            "summary.json",
            "outputs.tsv",
            "genes.tsv",
            "matrix.tsv.gz",
            "evaluation.html",
            "expression.tsv",
            "predicted.tsv",
            "regulators.tsv",
            "traits.html",
            "volcanoes.svg",
            "concordance.svg",
            "regulators.svg",
            "heatmap.svg",
        }
    ),
}
# Written by hand, for publishing.
_KEPT = "CARD.md"
_MAX_DESCRIPTION = 128 << 20


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary file name that becomes `path` if the block succeeds.

    The name is unique and on the same file system, so that writers never meet and the
    final rename is atomic. The data reach the disk before the name does. On any
    error, Ctrl-C included, the temporary file is removed and `path` is untouched.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; a symbolic link stays, its target is replaced.
    scratch : pathlib.Path, optional
        Folder on the same file system for the temporary file, where it is cleared away with the
        rest after a kill; by default that of the file.

    Yields
    ------
    pathlib.Path
        A name that does not exist yet; the block must create it.
    """
    target = Path(os.path.realpath(path))
    temporary = _sibling(target if scratch is None else scratch / target.name)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


@contextmanager
def atomic_dir(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` if the block succeeds.

    Parameters
    ----------
    path : str or os.PathLike
        The folder to make. An empty one may exist.
    force : bool
        Replace an existing folder, provided that decode-zoo made it and all that is in it; a card
        (CARD.md), which people write, goes over into the new one.

    Yields
    ------
    pathlib.Path
        An empty folder next to `path`, removed on any error.

    Raises
    ------
    UsageError
        If `path` exists and may not be replaced, or cannot be made there, or a run that was killed
        while it replaced `path` has left the former folder beside it.
    """
    target = Path(os.path.realpath(path))
    check_folder(target.parent, path)
    aside = target.with_name(f".{target.name}.decode-zoo-replaced")
    _check_left(target, aside)
    _check_replaceable(target, path, force)
    temporary = _sibling(target)
    temporary.mkdir()
    moved = False
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _check_replaceable(target, path, force)
        _check_left(target, aside)
        if (target / _KEPT).exists() and not (temporary / _KEPT).exists():
            shutil.copyfile(target / _KEPT, temporary / _KEPT)
            _sync(temporary / _KEPT)
        if target.exists():
            os.rename(target, aside)
            moved = True
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if moved:
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:  # the second rename failed: put the old folder back
                os.rename(aside, target)
    _sync_folder(target.parent)


def _sibling(target: Path) -> Path:
    return target.with_name(f".decode-zoo-{uuid.uuid4().hex}.tmp")


def _sync(file: Path) -> None:
    with open(file, "rb+") as stream:  # Windows syncs only what is open for writing
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    # Some systems cannot sync a folder; the rename has happened all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_folder(folder: Path, path: str | os.PathLike[str]) -> None:
    """Refuse a folder that nothing can be written to.

    Parameters
    ----------
    folder : Path
        The folder.
    path : str or os.PathLike
        The output that was to go there, for the message.

    Raises
    ------
    UsageError
        If it does not exist or is not writable.
    """
    if not folder.is_dir():
        raise UsageError(
            f"Cannot write {os.fspath(path)}: there is no folder {folder}.",
            remedy=f"Make it first: mkdir -p '{folder}'",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"Cannot write {os.fspath(path)}: the folder {folder} is not writable.",
            remedy="Choose another folder, or change its permissions.",
        )


def check_files(
    path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]], force: bool
) -> None:
    """Refuse files that may not be written.

    Parameters
    ----------
    path : str or os.PathLike
        The output that they belong to.
    files : iterable of str or os.PathLike
        It, and what goes beside it.
    force : bool
        Whether existing ones may be replaced.

    Raises
    ------
    UsageError
        If a folder is missing or not writable, or a file exists.
    """
    check_folder(Path(os.path.realpath(path)).parent, path)
    check_folder(Path(os.path.abspath(path)).parent, path)  # of what goes beside a link
    for file in map(Path, files):
        if file.exists() and not file.is_file():
            raise UsageError(
                f"{file} exists and is not a regular file.", remedy="Choose another name with -o."
            )
        if file.exists() and not force:
            raise UsageError(
                f"{file} exists.", remedy="Choose another name with -o, or replace it with --force."
            )


def discard_stdout() -> None:
    """Send what is still to be printed nowhere, for standard output has failed.

    Python flushes it once more at exit, which would fail again and turn into the exit code 120.
    """
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _check_replaceable(target: Path, path: str | os.PathLike[str], force: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(
            f"{os.fspath(path)} exists and is not a folder.", remedy="Choose another name."
        )
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError(
            f"The folder {os.fspath(path)} exists and is not empty.",
            remedy="Choose another name, or replace it with --force where the command has that.",
        )
    own = next((files for name, files in _OWN_FILES.items() if _is_ours(target / name)), None)
    if own is None:
        raise UsageError(
            f"The folder {os.fspath(path)} was not made by decode-zoo; "
            "--force does not replace it.",
            remedy="Choose another name, or remove the folder yourself.",
        )
    foreign = sorted(
        entry.name
        for entry in target.iterdir()
        if entry.name not in {*own, _KEPT} or (entry.is_dir() and not entry.is_symlink())
    )
    if foreign:
        listed = ", ".join(map(repr, foreign[:5])) + (", …" if len(foreign) > 5 else "")
        raise UsageError(
            f"The folder {os.fspath(path)} holds more than decode-zoo made: {listed}; "
            "--force does not replace it.",
            remedy="Move that elsewhere, or choose another name.",
        )


def _is_ours(description: Path) -> bool:
    try:
        content = parse_json(read_at_most(description, _MAX_DESCRIPTION))
    except (InputError, ValueError):
        return False
    return isinstance(content, dict) and "format_version" in content


def _check_left(target: Path, aside: Path) -> None:
    """Refuse to go on where a run was killed between its two renames, or is at it right now."""
    if not os.path.lexists(aside):
        return
    if target.exists():  # killed behind both: what is left is of no use
        raise UsageError(
            f"A run that replaced {target} was killed and left the former folder at {aside}.",
            remedy="If you do not need it, remove it and try again.",
        )
    raise UsageError(
        f"A run that was to replace {target} was killed; the former folder is at {aside}.",
        remedy=f"Put it back and try again: mv '{aside}' '{target}'",
    )
