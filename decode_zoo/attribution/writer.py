"""Attributions of many genes: explained in chunks, resumed after a kill, whole or not at all.

While the work lasts, its finished chunks lie in ``<output>.unfinished/``, in a folder named after
all that they depend on. The same call takes them up again; the result is the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from decode_zoo.attribution.explainer import Explainer
from decode_zoo.attribution.scores import Attribution, By, Summary
from decode_zoo.core import __version__
from decode_zoo.core.arrays import IntArray, read_arrays, write_arrays
from decode_zoo.core.errors import UsageError
from decode_zoo.core.files import FilePath, atomic_path, check_files
from decode_zoo.core.provenance import plain, provenance_path
from decode_zoo.core.tables import (
    Record,
    check_output,
    print_table,
    suffix_of,
    write_file,
    write_hdf5,
    write_text,
)

_log = logging.getLogger(__name__)

_DIGITS = 9  # the parts of a total add up to the last digit of single precision
# Rows of a chunk, the unit of resumption; by position a row has ten times as many scores.
_CHUNK = {"class": 1024, "regulator": 1024, "track": 1024, "position": 128}
_TABLE_SCORES = 2_000_000  # that are put into a table at a time: what memory holds
_HDF5_CHUNK = 1 << 15  # scores that are compressed together in an h5ad file
# What may lie in a folder of unfinished work: chunks in a folder named by a digest, and scratch.
_OURS = re.compile(r"[0-9a-f]{16}|\.decode-zoo-.*")


@dataclass(frozen=True)
class TopK:
    """Which scores are written: all, the `top` of each gene and output, or means over genes."""

    top: int | None = None
    summary: bool = False

    def frames(self, attribution: Attribution) -> Iterator[pd.DataFrame]:
        """Yield the long table, some genes at a time."""
        limit = max(1, _TABLE_SCORES // max(len(attribution.outputs), 1))
        # A gene goes into the table in which its first entry falls.
        group = attribution.indptr[:-1] // limit
        edges = np.flatnonzero(np.diff(group, prepend=-1, append=group.max(initial=0) + 1))
        for start, stop in pairwise(edges.tolist()):
            part = attribution.slice(start, stop)
            yield part.to_frame() if self.top is None else part.top(self.top)


def totals_path(path: FilePath) -> Path:
    """Return where the totals beside an output are written: ``x.parquet`` → ``x.totals.tsv``."""
    name = os.fspath(path)
    return Path(name[: -len(suffix_of(path))] + ".totals.tsv")


def check_attributions(
    path: FilePath | None, by: By, selection: TopK, *, force: bool = False
) -> None:
    """Refuse an output that could not be written, before the work is done (`check_output`).

    Raises UsageError, too, if the selection does not go with the resolution or the format.
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
    if _work_folder(path).is_dir():
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


def print_attributions(explainer: Explainer, rows: IntArray, selection: TopK) -> float:
    """Print the table to standard output, tab-separated; return the largest |delta|."""
    empty, largest = explainer.explain(rows[:0]), 0.0
    total = Summary.of(empty) if selection.summary else None
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
    path: FilePath,
    selection: TopK,
    *,
    provenance: Mapping[str, object],
    force: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> float:
    """Explain rows, each once; write the table, its totals and its provenance, all whole or none.

    Memory does not grow with the number of rows. After a kill, the same call goes on where the
    other stopped; `force` replaces existing files and drops unfinished work of another call.
    `progress` takes the number of rows of each chunk. Returns the largest |delta|. Raises
    UsageError as `check_attributions` does, if other work is in the way, and if the disk is full.
    """
    check_attributions(path, explainer.resolution.by, selection, force=force)
    form = _format_of(path, selection)
    if isinstance(form, _Sparse) and any("/" in output.name for output in explainer.outputs):
        raise UsageError(
            "The layers of an h5ad file cannot have '/' in their names, as an output has.",
            remedy="Write a .parquet or .tsv file.",
        )
    record = plain({**provenance, "units": {o.name: o.unit for o in explainer.outputs}})
    work, largest, stems = _work_folder(path), 0.0, list[str]()
    try:
        with _prepared(work, _digest(explainer, rows, form), force) as folder:
            for number, chunk in enumerate(_chunks(explainer, rows, selection)):
                stems.append(str(folder / f"{number:06d}"))
                largest = max(largest, _do_chunk(explainer, chunk, stems[-1], form))
                progress(chunk.size)
            empty = explainer.explain(np.zeros(0, np.int64))
            made = [folder / name for name in ("totals", "provenance", "table")]
            for left in made:  # by a kill
                left.unlink(missing_ok=True)
            totals, notes, table = made
            write_text([empty.totals()], totals, ".tsv")
            _append(totals, [Path(f"{stem}.totals.tsv") for stem in stems])
            notes.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            form.join([Path(stem + form.suffix) for stem in stems], empty, table, record)
            # The table gets its name last: where it is, its totals and provenance are too.
            named = (totals_path(path), provenance_path(path), path)
            for file, name in zip(made, named, strict=True):
                with atomic_path(name) as temporary:
                    shutil.move(file, temporary)
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


# -- chunks --------------------------------------------------------------------------------------


def _chunks(explainer: Explainer, rows: IntArray, selection: TopK) -> Iterator[IntArray]:
    """Cut rows into chunks; for summaries never between transcripts of a gene."""
    # With genes as references a row has the inputs of all of them.
    size = max(1, _CHUNK[explainer.resolution.by] // len(explainer.references))
    if not selection.summary:
        yield from (rows[i : i + size] for i in range(0, rows.size, size))
        return
    names = np.array(explainer.bound.features.rows.gene_ids)
    gene = pd.factorize(names[rows])[0]
    rows = rows[np.argsort(gene, kind="stable")]
    gene.sort()
    start = 0
    while start < rows.size:
        last = gene[min(start + size, rows.size) - 1]
        stop = int(np.searchsorted(gene, last, side="right"))
        yield rows[start:stop]
        start = stop


def _do_chunk(explainer: Explainer, rows: IntArray, stem: str, form: _Format) -> float:
    """Explain and store a chunk unless that is done; return its largest |delta|."""
    done = Path(f"{stem}.done")
    if done.exists():
        return float(done.read_text())
    attribution = explainer.explain(rows)
    with atomic_path(stem + form.suffix) as temporary:
        form.write(attribution, temporary)
    with atomic_path(f"{stem}.totals.tsv") as temporary:
        write_text([attribution.totals()], temporary, ".tsv", header=False, digits=_DIGITS)
    with atomic_path(done) as temporary:
        temporary.write_text(repr(attribution.largest_delta))
    return attribution.largest_delta


def _work_folder(path: FilePath) -> Path:
    """Return the folder of unfinished chunks: beside the file, not beside a link to it."""
    return Path(os.path.realpath(path) + ".unfinished")


def _digest(explainer: Explainer, rows: IntArray, form: _Format) -> str:
    """Return a digest of all that the chunks depend on."""
    described = {
        "decode_zoo": __version__,
        **explainer.description(),
        "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        **vars(form.selection),
        "format": form.suffix,
    }
    return hashlib.sha256(json.dumps(plain(described)).encode()).hexdigest()[:16]


@contextmanager
def _prepared(work: Path, digest: str, force: bool) -> Iterator[Path]:
    """Make the folder of unfinished chunks, or take one up; keep others out, and clear it away."""
    elsewhere = "choose another name with -o."
    if work.exists() and not (work.is_dir() and all(map(_OURS.fullmatch, os.listdir(work)))):
        raise UsageError(
            f"{work} is in the way and was not made by decode-zoo.",
            remedy=f"Move it, or {elsewhere}",
        )
    work.mkdir(exist_ok=True)
    lock = FileLock(work / ".decode-zoo-lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another call is writing {work.name.removesuffix('.unfinished')}.",
            remedy=f"Wait for it, or {elsewhere}",
        ) from None
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        _log.debug("no lock on %s: %s", work, error)
    try:
        others = [entry for entry in work.iterdir() if entry.is_dir() and entry.name != digest]
        if others and not force:
            raise UsageError(
                f"{work} holds the unfinished work of another call.",
                remedy=f"Repeat that call to finish it, drop it with --force, or {elsewhere}",
            )
        for other in others:
            shutil.rmtree(other)
        (work / digest).mkdir(exist_ok=True)
        yield work / digest
        shutil.rmtree(work, ignore_errors=True)  # Windows keeps the lock
    finally:
        lock.release()


def _append(path: Path, parts: Sequence[Path]) -> None:
    """Put files behind another one."""
    with open(path, "ab") as stream:
        for part in parts:
            with open(part, "rb") as chunk:
                shutil.copyfileobj(chunk, stream, 1 << 20)


# -- formats: how chunks are stored, and how they become one file --------------------------------


@dataclass(frozen=True)
class _Format:
    selection: TopK
    suffix: str

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk."""
        raise NotImplementedError

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Make the output from all chunks, in order; `empty` is of no gene."""
        raise NotImplementedError


class _Text(_Format):
    """Tab- or comma-separated text; members of a gzip file follow each other as the chunks do."""

    def write(self, attribution: Attribution, path: Path) -> None:
        write_text(self.selection.frames(attribution), path, self.suffix, header=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        write_text([empty.to_frame()], path, self.suffix)
        _append(path, parts)


class _Parquet(_Format):
    """Parquet, a row group for every few million scores; texts as dictionaries."""

    def write(self, attribution: Attribution, path: Path) -> None:
        import pyarrow.parquet

        schema = _schema(attribution)
        with pyarrow.parquet.ParquetWriter(path, schema, **_options(schema)) as writer:
            for frame in self.selection.frames(attribution):
                rows = pyarrow.Table.from_pandas(frame, schema, preserve_index=False)
                writer.write_table(rows.replace_schema_metadata())

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        from pyarrow.parquet import ParquetFile, ParquetWriter

        schema = _schema(empty).with_metadata({"decode_zoo.provenance": json.dumps(record)})
        options = _options(schema)
        with ParquetWriter(path, schema, **options) as writer:
            for part in parts:
                with ParquetFile(part, read_dictionary=options["use_dictionary"]) as chunk:
                    for number in range(chunk.num_row_groups):
                        rows = chunk.read_row_group(number)
                        writer.write_table(rows.replace_schema_metadata(schema.metadata))


def _schema(attribution: Attribution) -> Any:
    import pyarrow

    kinds = {"bin": pyarrow.int32(), "score": pyarrow.float32()}
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    units = {output.unit for output in attribution.outputs}
    fields = [
        pyarrow.field(name, kinds.get(name, text))
        for name in map(str, attribution.slice(0, 0).to_frame())
    ]
    if len(units) == 1:
        fields[-1] = fields[-1].with_metadata({"unit": units.pop()})
    return pyarrow.schema(fields)


def _options(schema: Any) -> dict[str, Any]:
    texts = [field.name for field in schema if field.name not in ("bin", "score")]
    # Ranges of values by row group cost more than all else; readers look for genes at most.
    return {"compression": "zstd", "use_dictionary": texts, "write_statistics": texts[:1]}


class _Sparse(_Format):
    """AnnData: rows × features, a sparse layer for each output (X if there is only one)."""

    def write(self, attribution: Attribution, path: Path) -> None:
        arrays: dict[str, Any] = {
            "indptr": attribution.indptr,
            "feature": attribution.feature,
            "scores": np.ascontiguousarray(attribution.scores.T),
        }
        for i, name in enumerate(attribution.genes):
            arrays[f"id{i}"] = attribution.genes[name].to_numpy(str)
        write_arrays(path, arrays, compress=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        write_hdf5(path, lambda file: _fill_h5ad(file, parts, empty, record))


def _fill_h5ad(
    file: Any, parts: Sequence[Path], empty: Attribution, record: Record
) -> Iterator[None]:
    """Append the chunks, layer by layer (see `tables.write_hdf5`)."""
    from anndata.io import sparse_dataset, write_elem
    from scipy import sparse

    features = empty.resolution.features.astype(str)
    names = [output.name for output in empty.outputs]
    layers = ["X"] if len(names) == 1 else [f"layers/{name}" for name in names]
    make: Any = sparse.csr_matrix  # whose stubs refuse what SciPy takes
    nothing = make((0, len(features)), dtype=np.float32)
    ids: list[list[str]] = [[] for _ in empty.genes]
    file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
    # Of its own it would cut what is to grow into chunks of a few hundred bytes.
    options = {"compression": "gzip", "chunks": (_HDF5_CHUNK,)}
    if len(names) == 1:
        write_elem(file, "X", nothing, dataset_kwargs=options)
    else:
        write_elem(file, "layers", dict.fromkeys(names, nothing), dataset_kwargs=options)
    for part in parts:
        stored = read_arrays(part)
        shape = (stored["indptr"].size - 1, len(features))
        for layer, scores in zip(layers, stored["scores"], strict=True):
            chunk = (scores, stored["feature"], stored["indptr"])
            sparse_dataset(file[layer]).append(make(chunk, shape=shape))
        for i, column in enumerate(ids):
            column.extend(stored[f"id{i}"].tolist())
        yield
    obs = pd.DataFrame(dict(zip(empty.genes.columns, ids, strict=True)), dtype=str)
    write_elem(file, "obs", obs.set_index(obs.columns[0], drop=False).rename_axis(None))
    # Names of features; with the class where two classes share a name.
    last = features.iloc[:, -1]
    labels = last.where(~last.duplicated(keep=False), last + " (" + features["class"] + ")")
    write_elem(file, "var", features.set_index(pd.Index(labels.tolist())))
    units = {output.name: output.unit for output in empty.outputs}
    write_elem(file, "uns", {"provenance": json.dumps(record), "units": units})


class _Summary(_Format):
    """Means over genes; chunks hold sums."""

    def write(self, attribution: Attribution, path: Path) -> None:
        arrays = {name: np.asarray(value) for name, value in vars(Summary.of(attribution)).items()}
        write_arrays(path, arrays, compress=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        total = Summary.of(empty)
        for part in parts:
            stored: dict[str, Any] = read_arrays(part)
            total += Summary(**stored)
        frame = total.to_frame(empty.resolution, empty.outputs)
        ids = frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]
        write_file(frame, path, record, self.suffix, id_columns=ids.tolist())


def _format_of(path: FilePath, selection: TopK) -> _Format:
    """Choose the format by an output's suffix and what is selected."""
    suffix = suffix_of(path)
    if selection.summary:
        return _Summary(selection, suffix)
    return {".parquet": _Parquet, ".h5ad": _Sparse}.get(suffix, _Text)(selection, suffix)
