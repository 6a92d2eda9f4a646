"""Attributions of many genes: explained in chunks, resumed after a kill, whole or not at all.

While the work lasts, its finished chunks lie in ``<output>.unfinished/`` beside a description of
what is being explained. The same call takes them up again; the result is the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo import __version__
from decode_zoo.attribution import By, Summary
from decode_zoo.errors import UsageError
from decode_zoo.explainer import Explainer
from decode_zoo.files import atomic_path, check_files
from decode_zoo.provenance import plain, provenance_path
from decode_zoo.schema import parse_json
from decode_zoo.scorefiles import Selection, format_of
from decode_zoo.tables import check_output, print_table, suffix_of, text_rows

__all__ = ["check_attributions", "print_attributions", "totals_path", "write_attributions"]

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

# The parts of a total add up to the last digit of single precision.
_DIGITS = 9
# A file in the folder of unfinished work that says: only the outputs' names were missing.
_JOINED = "joined"
# Rows of a chunk, the unit of resumption; by position a row has ten times as many scores.
_CHUNK = {"class": 1024, "regulator": 1024, "track": 1024, "position": 128}


def totals_path(path: str | os.PathLike[str]) -> Path:
    """Return where the totals beside an output are written: ``x.parquet`` → ``x.totals.tsv``."""
    name = os.fspath(path)
    return Path(name[: -len(suffix_of(path))] + ".totals.tsv")


def check_attributions(
    path: str | os.PathLike[str] | None, by: By, selection: Selection, *, force: bool = False
) -> None:
    """Refuse an output that could not be written, before the work is done.

    Parameters
    ----------
    path : str, os.PathLike or None
        As for `tables.check_output`.
    by : {"class", "regulator", "track", "position"}
    selection : Selection
    force : bool

    Raises
    ------
    UsageError
        As `tables.check_output` does, for the table and its totals; if the selection does not go
        with the resolution or the format.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if selection.top is not None and selection.top < 1:
        raise UsageError(f"At least one feature per gene and output, not --top {selection.top}.")
    if selection.top is not None and selection.summary:
        raise UsageError("--top and --summary exclude each other.")
    if selection.summary and by == "position":
        raise UsageError(
            "Scores by position are not added up over genes.",
            remedy="Summarise by class, regulator or track.",
        )
    if path is None or os.fspath(path) == "-":
        return
    if (work := _work_folder(path)).is_dir():
        if os.path.exists(path) and (work / _JOINED).exists():
            shutil.rmtree(work)  # a kill came after the last step
        # Totals and provenance may be those of the call that is to be taken up.
        check_files(path, [path], force)
        force = True
    check_output(path, force)
    check_output(totals_path(path), force)
    sparse = suffix_of(path) == ".h5ad" and not selection.summary
    if sparse and (selection.top is not None or by == "position"):
        raise UsageError(
            "An h5ad file holds genes × features, not bins or the strongest few.",
            remedy="Write a .parquet or .tsv file.",
        )


def print_attributions(explainer: Explainer, rows: IntArray, selection: Selection) -> float:
    """Print the table to standard output, tab-separated.

    Parameters
    ----------
    explainer, rows, selection
        As for `write_attributions`.

    Returns
    -------
    float
        Largest |delta|.
    """
    empty = explainer.explain(rows[:0])
    total, largest = Summary.of(empty) if selection.summary else None, 0.0
    if total is None:
        print_table(empty.to_frame())
    for chunk in _chunks(explainer, rows, selection):
        attribution = explainer.explain(chunk)
        largest = max(largest, attribution.largest_delta)
        if total is not None:
            total += Summary.of(attribution)
        elif not all(print_table(frame, header=False) for frame in selection.frames(attribution)):
            break
    if total is not None:
        print_table(total.to_frame(empty.resolution, empty.outputs))
    return largest


def write_attributions(
    explainer: Explainer,
    rows: IntArray,
    path: str | os.PathLike[str],
    selection: Selection,
    *,
    provenance: Mapping[str, object],
    force: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> float:
    """Explain rows and write the table, its totals and its provenance, all whole or none.

    Memory does not grow with the number of rows. After a kill, the same call goes on where the
    other stopped.

    Parameters
    ----------
    explainer : Explainer
    rows : ndarray of int64, shape (n,)
        Of the feature set, each once.
    path : path-like
        The output; its suffix chooses the format, as for `tables.write_table`. The totals go to
        `totals_path`. In an h5ad file each output is a sparse layer (X if there is only one).
    selection : Selection
    provenance : Mapping
        As for `tables.write_table`.
    force : bool
        Replace existing files, and unfinished work of another call.
    progress : callable
        Is told the number of rows of each chunk that is done.

    Returns
    -------
    float
        Largest |delta| of the totals.

    Raises
    ------
    UsageError
        As for `check_attributions`; if the unfinished work of another call is in the way; if the
        disk refuses the data.
    """
    check_attributions(path, explainer.resolution.by, selection, force=force)
    target, work = Path(path), _work_folder(path)
    if suffix_of(path) == ".h5ad" and any("/" in output.name for output in explainer.outputs):
        raise UsageError(
            "The layers of an h5ad file cannot have '/' in their names, as an output has.",
            remedy="Write a .parquet or .tsv file.",
        )
    record = plain({**provenance, "units": {o.name: o.unit for o in explainer.outputs}})
    try:
        with _prepared(work, _plan(explainer, rows, selection, target), force) as parts:
            largest = 0.0
            numbered = list(enumerate(_chunks(explainer, rows, selection)))
            for number, chunk in numbered:
                largest = max(
                    largest, _do_chunk(explainer, chunk, parts, number, target, selection)
                )
                progress(chunk.size)
            _finish(explainer, work, parts, len(numbered), target, selection, record)
            shutil.rmtree(work)
    except KeyboardInterrupt:
        _log.warning("Finished chunks are in %s; the same command goes on from there.", work)
        raise
    except OSError as error:
        raise UsageError(
            f"Cannot write {os.fspath(path)}: {error.strerror or error}.",
            remedy="Free some space, or choose another folder with -o. Chunks that are finished "
            f"are kept in {work.name}; the same command goes on from there.",
        ) from error
    return largest


def _chunks(explainer: Explainer, rows: IntArray, selection: Selection) -> Iterator[IntArray]:
    """Cut rows into chunks; for summaries never between transcripts of a gene."""
    # With genes as references a row has the inputs of all of them.
    size = max(1, _CHUNK[explainer.resolution.by] // len(explainer.references))
    if not selection.summary:
        yield from (rows[i : i + size] for i in range(0, rows.size, size))
        return
    names = explainer.bound.features.rows.gene_ids
    order: dict[str, int] = {}
    gene = np.array([order.setdefault(names[row], len(order)) for row in rows], np.int64)
    rows = rows[np.argsort(gene, kind="stable")]
    gene.sort()
    start = 0
    while start < rows.size:
        last = gene[min(start + size, rows.size) - 1]
        stop = int(np.searchsorted(gene, last, side="right"))
        yield rows[start:stop]
        start = stop


def _work_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of unfinished chunks: beside the file, not beside a link to it."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ".unfinished")


def _plan(
    explainer: Explainer, rows: IntArray, selection: Selection, target: Path
) -> dict[str, Any]:
    """Describe all that the chunks depend on."""
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    described: dict[str, Any] = plain(
        {
            "decode_zoo": __version__,
            **explainer.description(),
            "rows": digest,
            "top": selection.top,
            "summary": selection.summary,
            "format": suffix_of(target),
        }
    )
    return described


@contextmanager
def _prepared(work: Path, plan: dict[str, Any], force: bool) -> Iterator[Path]:
    """Make the folder of unfinished chunks, or take up one of the same plan; keep others out.

    Yields the folder in it that the chunks of this plan go to: where locks do nothing, a call that
    was dropped with --force and runs on cannot mix its chunks with those of another plan.
    """
    try:
        work.mkdir()
    except FileExistsError:
        if not work.is_dir():
            raise UsageError(
                f"{work} is in the way.", remedy="Move it, or choose another name with -o."
            ) from None
    with _locked(work):
        file = work / "plan.json"
        found = _found_plan(file)
        # What a killed call left unnamed is ours.
        others = [e for e in work.iterdir() if not e.name.startswith(".decode-zoo-")]
        if found is None and others:
            raise UsageError(
                f"{work} is in the way and was not made by decode-zoo.",
                remedy="Move it, or choose another name with -o.",
            )
        if found not in (None, plan) and not force:
            raise UsageError(
                f"{work} holds the unfinished work of another call.",
                remedy="Repeat that call to finish it, drop it with --force, or choose another "
                "name with -o.",
            )
        text = json.dumps(plan, indent=1) + "\n"
        parts = work / hashlib.sha256(text.encode()).hexdigest()[:16]
        if found != plan:
            # The plan last: as long as there is anything else, it says that the folder is ours.
            for entry in sorted(work.iterdir(), key=lambda entry: entry == file):
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            with atomic_path(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        parts.mkdir(exist_ok=True)
        yield parts


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Keep other calls out of a folder; a killed one holds it no longer."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another call is writing {work.name.removesuffix('.unfinished')}.",
                remedy="Wait for it, or choose another name with -o.",
            ) from None
        except OSError as error:  # some file systems have no locks
            _log.debug("no lock on %s: %s", work, error)
        yield
    finally:
        os.close(descriptor)


def _found_plan(file: Path) -> object:
    """Return the plan that a folder's chunks belong to; None if there is none."""
    try:
        found: object = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _files(parts: Path, number: int, target: Path) -> tuple[Path, Path, Path]:
    """Files of a chunk: scores, totals, and what says that it is done."""
    stem = f"{number:06d}"
    return (
        parts / f"{stem}{suffix_of(target)}",
        parts / f"{stem}.totals.tsv",
        parts / f"{stem}.done",
    )


def _do_chunk(
    explainer: Explainer,
    rows: IntArray,
    parts: Path,
    number: int,
    target: Path,
    selection: Selection,
) -> float:
    """Explain and store a chunk unless that is done; return its largest |delta|."""
    scores, totals, done = _files(parts, number, target)
    if done.exists():
        return float(done.read_text())
    attribution = explainer.explain(rows)
    with atomic_path(scores) as temporary:
        format_of(target, selection).write(attribution, temporary)
    with atomic_path(totals) as temporary, open(temporary, "xb") as stream:
        for text in text_rows(attribution.totals(), "\t", header=False, digits=_DIGITS):
            stream.write(text.encode())
    with atomic_path(done) as temporary:
        temporary.write_text(repr(attribution.largest_delta))
    return attribution.largest_delta


def _finish(
    explainer: Explainer,
    work: Path,
    parts: Path,
    n_chunks: int,
    target: Path,
    selection: Selection,
    record: Mapping[str, Any],
) -> None:
    """Make the outputs from all chunks."""
    files = [_files(parts, number, target) for number in range(n_chunks)]
    empty = explainer.explain(np.zeros(0, np.int64))
    with ExitStack() as stack:
        # The table gets its name last: where it is, its totals and provenance are too.
        table, totals, notes = (
            # What a kill leaves behind is cleared away with the chunks, unless it is elsewhere.
            stack.enter_context(
                atomic_path(name, scratch=work if name.resolve().parent == work.parent else None)
            )
            for name in (target, totals_path(target), provenance_path(target))
        )
        format_of(target, selection).join([scores for scores, _, _ in files], empty, table, record)
        with open(totals, "xb") as stream:
            stream.write("".join(text_rows(empty.totals(), "\t")).encode())
            for _, part, _ in files:
                with open(part, "rb") as chunk:
                    shutil.copyfileobj(chunk, stream, 1 << 20)
        notes.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (work / _JOINED).touch()
