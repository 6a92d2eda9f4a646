"""How attributions are written: text, Parquet or AnnData, chunk by chunk, then as one file."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pandas as pd

from decode_zoo.arrays import read_arrays, write_arrays
from decode_zoo.attribution import Attribution, Summary
from decode_zoo.hdf5 import create_hdf5
from decode_zoo.tables import suffix_of, text_rows, write_file

__all__ = ["Format", "Selection", "format_of"]

Record = Mapping[str, Any]

# Scores that are put into a table at a time: what memory holds, not what a chunk has.
_TABLE_SCORES = 2_000_000
# Scores that are compressed together in an h5ad file.
_HDF5_CHUNK = 1 << 15


@dataclass(frozen=True)
class Selection:
    """Which scores are written.

    Attributes
    ----------
    top : int, optional
        Only the strongest features of each gene and output.
    summary : bool
        Only means over genes.
    """

    top: int | None = None
    summary: bool = False

    def frames(self, attribution: Attribution) -> Iterator[pd.DataFrame]:
        """Yield the long table, some genes at a time."""
        n_outputs = len(attribution.outputs)
        limit = max(1, _TABLE_SCORES // max(n_outputs, 1))
        # A gene goes into the table in which its first entry falls.
        group = attribution.indptr[:-1] // limit
        edges = np.flatnonzero(np.diff(group, prepend=-1, append=group.max(initial=0) + 1))
        for start, stop in pairwise(edges.tolist()):
            part = attribution.slice(start, stop)
            yield part.to_frame() if self.top is None else part.top(self.top)


class Format(Protocol):
    """How chunks are stored, and how they become one file."""

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk."""
        ...

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Make the output from all chunks.

        Parameters
        ----------
        parts : sequence of Path
            In order.
        empty : Attribution
            Of no gene.
        path : Path
            To be created.
        record : Mapping
            Provenance.
        """
        ...


@dataclass(frozen=True)
class TextFormat:
    """Tab- or comma-separated text; members of a gzip file follow each other as the chunks do."""

    selection: Selection
    separator: str
    compressed: bool

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk, without header."""
        with open(path, "xb") as stream:
            self._dump(self.selection.frames(attribution), stream, header=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Put the chunks one after the other, below a header."""
        with open(path, "xb") as stream:
            self._dump([empty.to_frame()], stream, header=True)
            for part in parts:
                with open(part, "rb") as chunk:
                    shutil.copyfileobj(chunk, stream, 1 << 20)

    def _dump(self, frames: Iterable[pd.DataFrame], stream: BinaryIO, *, header: bool) -> None:
        with ExitStack() as stack:
            if self.compressed:
                # No name and no time in the header: the same table, the same bytes.
                packed = gzip.GzipFile("", "wb", compresslevel=4, fileobj=stream, mtime=0)
                stream = cast(BinaryIO, stack.enter_context(packed))
            for frame in frames:
                for text in text_rows(frame, self.separator, header=header):
                    stream.write(text.encode())


@dataclass(frozen=True)
class ParquetFormat:
    """Parquet, a row group for every few million scores; texts as dictionaries."""

    selection: Selection

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk."""
        import pyarrow.parquet

        schema = self._schema(attribution)
        with pyarrow.parquet.ParquetWriter(path, schema, **self._options(schema)) as writer:
            for frame in self.selection.frames(attribution):
                writer.write_table(_arrow_table(frame, schema))

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Put the chunks' row groups into one file."""
        import pyarrow.parquet

        schema = self._schema(empty).with_metadata({"decode_zoo.provenance": json.dumps(record)})
        options = self._options(schema)
        with pyarrow.parquet.ParquetWriter(path, schema, **options) as writer:
            for part in parts:
                with pyarrow.parquet.ParquetFile(
                    part, read_dictionary=options["use_dictionary"]
                ) as chunk:
                    for number in range(chunk.num_row_groups):
                        rows = chunk.read_row_group(number)
                        writer.write_table(rows.replace_schema_metadata(schema.metadata))

    def _schema(self, attribution: Attribution) -> Any:
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

    def _options(self, schema: Any) -> dict[str, Any]:
        texts = [field.name for field in schema if field.name not in ("bin", "score")]
        # Ranges of values by row group cost more than all else; readers look for genes at most.
        return {"compression": "zstd", "use_dictionary": texts, "write_statistics": texts[:1]}


def _arrow_table(frame: pd.DataFrame, schema: Any) -> Any:
    """Hand a frame over; categories that pandas holds in small types get the schema's."""
    import pyarrow

    columns = []
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = pyarrow.array(column.cat.codes.to_numpy().astype(np.int32))
            labels = pyarrow.array(column.cat.categories.astype(str).tolist(), pyarrow.string())
            columns.append(pyarrow.DictionaryArray.from_arrays(codes, labels))
        else:
            columns.append(pyarrow.array(column.to_numpy(), schema.field(str(name)).type))
    return pyarrow.Table.from_arrays(columns, schema=schema)


@dataclass(frozen=True)
class AnnDataFormat:
    """AnnData: rows × features, a sparse layer for each output (X if there is only one)."""

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk."""
        arrays: dict[str, Any] = {
            "indptr": attribution.indptr,
            "feature": attribution.feature,
            "scores": np.ascontiguousarray(attribution.scores.T),
        }
        for i, name in enumerate(attribution.genes):
            arrays[f"id{i}"] = attribution.genes[name].to_numpy(str)
        write_arrays(path, arrays, compress=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Append the chunks, layer by layer."""
        from anndata.io import sparse_dataset, write_elem
        from scipy import sparse

        features = empty.resolution.features.astype(str)
        names = [output.name for output in empty.outputs]
        layers = ["X"] if len(names) == 1 else [f"layers/{name}" for name in names]
        make: Any = sparse.csr_matrix  # whose stubs refuse what SciPy takes
        nothing = make((0, len(features)), dtype=np.float32)
        ids: list[list[str]] = [[] for _ in empty.genes]
        with create_hdf5(path) as (file, disk):
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
                disk.check()
            obs = pd.DataFrame(dict(zip(empty.genes.columns, ids, strict=True)), dtype=str)
            write_elem(file, "obs", obs.set_index(obs.columns[0], drop=False).rename_axis(None))
            write_elem(file, "var", features.set_index(pd.Index(_labels(features))))
            write_elem(
                file,
                "uns",
                {
                    "provenance": json.dumps(record),
                    "units": {output.name: output.unit for output in empty.outputs},
                },
            )


def _labels(features: pd.DataFrame) -> list[str]:
    """Names of features; with the class where two classes share a name."""
    last = features.iloc[:, -1]
    shared = last.duplicated(keep=False)
    return [
        f"{name} ({kind})" if both else name
        for name, kind, both in zip(last, features["class"], shared, strict=True)
    ]


@dataclass(frozen=True)
class SummaryFormat:
    """Means over genes; chunks hold sums."""

    suffix: str

    def write(self, attribution: Attribution, path: Path) -> None:
        """Store one chunk."""
        arrays = {name: np.asarray(value) for name, value in vars(Summary.of(attribution)).items()}
        write_arrays(path, arrays, compress=False)

    def join(self, parts: Sequence[Path], empty: Attribution, path: Path, record: Record) -> None:
        """Add the chunks up, in order."""
        total = Summary.of(empty)
        for part in parts:
            stored: dict[str, Any] = read_arrays(part)
            total += Summary(**stored)
        frame = total.to_frame(empty.resolution, empty.outputs)
        ids = [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
        write_file(frame, path, record, self.suffix, id_columns=ids)


def format_of(path: Path, selection: Selection) -> Format:
    """Choose the format by an output's suffix and what is selected."""
    suffix = suffix_of(path)
    if selection.summary:
        return SummaryFormat(suffix)
    if suffix == ".parquet":
        return ParquetFormat(selection)
    if suffix == ".h5ad":
        return AnnDataFormat()
    return TextFormat(selection, "," if suffix == ".csv" else "\t", suffix.endswith(".gz"))
