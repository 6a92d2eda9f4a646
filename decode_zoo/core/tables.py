"""Result tables: written whole or not at all, each with its provenance beside it."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.core.files import FilePath, atomic_path, check_files, discard_stdout
from decode_zoo.core.provenance import plain, provenance_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "atomic_output",
    "check_output",
    "print_table",
    "suffix_of",
    "text_rows",
    "write_blocks",
    "write_file",
    "write_hdf5",
    "write_table",
    "write_text",
]

Record = Mapping[str, Any]

_BLOCK_ROWS = 1 << 14
_SUFFIXES = (".tsv", ".txt", ".tsv.gz", ".csv", ".parquet", ".h5ad")
_NEEDS = {".parquet": "pyarrow", ".h5ad": "anndata"}

# -- outputs -------------------------------------------------------------------------------------


def suffix_of(path: FilePath) -> str:
    """Return the suffix of an output, e.g. ``.tsv.gz``, or raise UsageError."""
    name = os.path.basename(path).lower()
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise UsageError(
        f"Cannot tell the format of {os.fspath(path)} from its name.",
        remedy=f"End the name of the output in one of: {', '.join(_SUFFIXES)}",
    )


def check_output(path: FilePath | None, force: bool = False) -> None:
    """Refuse an output that could not be written, before the work is done.

    Raises UsageError if its suffix is unknown, the folder is missing or not writable, or the file
    or its provenance exists and is not to be replaced, MissingExtraError if a package is missing.
    """
    if path is None or os.fspath(path) == "-":
        return
    suffix = suffix_of(path)
    if suffix in _NEEDS and importlib.util.find_spec(_NEEDS[suffix]) is None:
        raise MissingExtraError(_NEEDS[suffix], "tables")
    check_files(path, (path, provenance_path(path)), force)


def write_table(
    frame: pd.DataFrame,
    path: FilePath | None,
    *,
    provenance: Mapping[str, object],
    force: bool = False,
    units: Mapping[str, str] | None = None,
    id_columns: Sequence[str] = ("gene_id", "symbol", "status"),
) -> None:
    """Write a result table and its provenance, both whole or neither; '-' or None prints the table.

    The suffix chooses the format (see `write_file`). Raises UsageError as `check_output` does, and
    if the disk or standard output refuses the data.
    """
    if path is None or os.fspath(path) == "-":
        print_table(frame)
        return
    check_output(path, force)
    record = plain({**provenance, **({"units": units} if units else {})})
    ids = [c for c in id_columns if c in frame.columns]
    with atomic_output(path, record) as table:
        write_file(frame, table, record, suffix_of(path), units=units, id_columns=ids)


@contextmanager
def atomic_output(path: FilePath, record: Record) -> Iterator[Path]:
    """Give a temporary name; it becomes `path`, with its provenance beside it, or neither appears.

    Raises UsageError if the disk refuses the data.
    """
    sidecar, before = Path(os.path.realpath(provenance_path(path))), None
    try:
        before = sidecar.read_bytes() if sidecar.exists() else None
        with atomic_path(path) as made:
            yield made
            # The provenance gets its name first, so that no output is ever without.
            with atomic_path(sidecar) as notes:
                notes.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except BaseException as error:
        if before is None:
            sidecar.unlink(missing_ok=True)
        elif sidecar.read_bytes() != before:
            with atomic_path(sidecar) as notes:
                notes.write_bytes(before)
        if isinstance(error, OSError):
            raise UsageError(
                f"Cannot write {os.fspath(path)}: {error.strerror or error}.",
                remedy="Choose another folder with -o, or free some space.",
            ) from error
        raise


def print_table(frame: pd.DataFrame, *, header: bool = True) -> bool:
    """Print a table to standard output; return False if its reader (head, less) has seen enough.

    Raises UsageError if standard output is closed or refuses the data.
    """
    if sys.stdout is None:  # closed by the caller (>&-)
        raise UsageError("Standard output is closed.", remedy="Name an output file with -o.")
    try:
        sys.stdout.flush()
        # Past the text layer: it would encode to the locale and translate line ends.
        stream = getattr(sys.stdout, "buffer", None)
        for text in text_rows(frame, "\t", header=header):
            if stream is None:  # in a notebook
                sys.stdout.write(text)
            else:
                stream.write(text.encode())
        (stream or sys.stdout).flush()
    except OSError as error:
        discard_stdout()
        if not isinstance(error, BrokenPipeError):
            raise UsageError(
                f"Cannot write to standard output: {error.strerror or error}.",
                remedy="Name an output file with -o, or free some space.",
            ) from error
        return False
    return True


# -- formats -------------------------------------------------------------------------------------


def write_file(
    frame: pd.DataFrame,
    path: Path,
    record: Record,
    suffix: str,
    *,
    units: Mapping[str, str] | None = None,
    id_columns: Sequence[str] = (),
) -> None:
    """Create a file with a table, without its index, in the format of a suffix.

    Text has six significant digits and empty cells for missing values. Parquet has the provenance
    (`record`) as schema metadata and units as metadata of fields; h5ad has it in ``uns``, units in
    ``var``, `id_columns` in ``obs`` and the others, which must be numbers, as ``X`` in float32.
    """
    if suffix == ".parquet":
        _write_parquet(frame, path, record, units or {})
    elif suffix == ".h5ad":
        _write_h5ad(frame, path, record, units or {}, id_columns)
    else:
        write_text([frame], path, suffix)


def write_blocks(path: Path, frames: Iterable[pd.DataFrame], units: Mapping[str, str]) -> None:
    """Create a TSV or Parquet file with a table that comes in blocks, one at a time in memory.

    The suffix chooses which. Parquet has the units of columns as schema metadata.
    """
    if path.suffix == ".tsv":
        write_text(frames, path, path.suffix)
        return
    import pyarrow
    import pyarrow.parquet

    blocks = iter(frames)
    first = next(blocks)
    schema = pyarrow.Schema.from_pandas(first, preserve_index=False).with_metadata(
        {"decode_zoo.units": json.dumps(dict(units))}
    )
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in chain([first], blocks):
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))


def text_rows(
    frame: pd.DataFrame, separator: str, *, header: bool = True, digits: int = 6
) -> Iterator[str]:
    """Yield the header and then blocks of rows, quoted as the csv module would.

    Column by column, with the bare % operator: several times as fast as `DataFrame.to_csv`.
    """
    import pandas as pd

    special, pattern = re.compile(f'[{separator}\n\r"]'), f"%.{digits}g"

    def quoted(cell: object) -> str:
        text = f"{cell:.6g}" if isinstance(cell, float) else str(cell)
        return text if special.search(text) is None else '"' + text.replace('"', '""') + '"'

    def cells(column: pd.Series[Any]) -> list[str]:
        if isinstance(column.dtype, pd.CategoricalDtype):
            labels = np.array([*map(quoted, column.cat.categories), ""], object)
            chosen: list[str] = labels[column.cat.codes.to_numpy()].tolist()
            return chosen
        absent = column.isna().to_numpy()
        if pd.api.types.is_float_dtype(column.dtype):
            # Adding zero drops the sign of -0, which depends on the back end.
            values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
            texts = list(map(pattern.__mod__, values.tolist()))
        else:
            texts = list(map(quoted, column.tolist()))
        for row in np.flatnonzero(absent).tolist():
            texts[row] = ""
        return texts

    if header:
        yield separator.join(quoted(str(name)) for name in frame.columns) + "\n"
    for start in range(0, len(frame), _BLOCK_ROWS):
        block = frame.iloc[start : start + _BLOCK_ROWS]
        columns = [cells(block.iloc[:, i]) for i in range(block.shape[1])]
        yield "\n".join(map(separator.join, zip(*columns, strict=True))) + "\n"


def write_text(
    frames: Iterable[pd.DataFrame], path: Path, suffix: str, *, header: bool = True, digits: int = 6
) -> None:
    """Create a text file with tables one below the other; only the first may have a header."""
    separator = "," if suffix == ".csv" else "\t"
    with ExitStack() as stack:
        stream: Any = stack.enter_context(open(path, "xb"))
        if suffix.endswith(".gz"):
            # No name and no time in the header: the same table, the same bytes.
            packed = gzip.GzipFile("", "wb", compresslevel=4, fileobj=stream, mtime=0)
            stream = stack.enter_context(packed)
        for frame in frames:
            for text in text_rows(frame, separator, header=header, digits=digits):
                stream.write(text.encode())
            header = False


def _write_parquet(
    frame: pd.DataFrame, path: Path, record: Record, units: Mapping[str, str]
) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    fields = [
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field
        for field in table.schema
    ]
    metadata = {**(table.schema.metadata or {}), b"decode_zoo.provenance": json.dumps(record)}
    pyarrow.parquet.write_table(table.cast(pyarrow.schema(fields, metadata)), path)


def _write_h5ad(
    frame: pd.DataFrame, path: Path, record: Record, units: Mapping[str, str], ids: Sequence[str]
) -> None:
    import anndata
    import pandas as pd
    from anndata.io import write_elem
    from anndata.utils import make_index_unique

    outputs = [name for name in frame.columns if name not in ids]
    texts = [name for name in outputs if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if texts:
        raise UsageError(
            f"An h5ad file holds numbers only, and column '{texts[0]}' has text.",
            remedy="Write this table as .tsv or .parquet.",
        )
    obs = frame[list(ids)]
    obs = obs.astype(object).where(obs.notna(), "").astype(str)
    # As a list, for the index must not take the column's name: anndata refuses that.
    labels = obs.iloc[:, 0].tolist() if ids else [str(row) for row in range(len(frame))]
    obs.index = make_index_unique(pd.Index(labels, dtype=str))
    var = pd.DataFrame(
        {"unit": [units.get(name, "") for name in outputs]}, index=pd.Index(outputs, dtype=str)
    )
    table = anndata.AnnData(
        X=frame[outputs].to_numpy(dtype=np.float32, na_value=np.nan),
        obs=obs,
        var=var,
        uns={"provenance": json.dumps(record)},
    )
    table.strings_to_categoricals()

    def fill(file: Any) -> Iterator[None]:
        yield write_elem(file, "/", table, dataset_kwargs={"compression": "gzip"})

    write_hdf5(path, fill)


# -- HDF5 ----------------------------------------------------------------------------------------


class _Disk(io.FileIO):
    """A new file that fills up without the HDF5 library's knowledge.

    If a write fails, the library keeps the file open for good, tries again at the end of the
    process and dies of it (exit code 139), whatever Python makes of the error. Here the first error
    is kept, and from then on so is what is written, in memory, for the library to read back.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self.error: OSError | None = None
        self._late: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write all of it, to disk or to memory."""
        part, start = memoryview(data).cast("B"), self.tell()
        rest = part
        try:
            while rest and self.error is None:
                rest = rest[os.write(self.fileno(), rest) :]
        except OSError as error:
            self.error = error
        if self.error is not None:
            self._late.append((start, bytes(part)))
            self.seek(start + len(part))
        return len(part)

    def readinto(self, buffer: Any) -> int:
        """Read what was written, wherever it is, and zeros behind it."""
        view, start = memoryview(buffer).cast("B"), self.tell()
        n_read = super().readinto(view) or 0
        view[n_read:] = bytes(len(view) - n_read)
        for place, part in self._late:
            first, last = max(place, start), min(place + len(part), start + len(view))
            if first < last:
                view[first - start : last - start] = part[first - place : last - place]
        self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Make the file as long as this, unless it is lost already."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size


def write_hdf5(path: Path, fill: Callable[[Any], Iterable[object]]) -> None:
    """Create an HDF5 file; `fill` takes it, and yields where the work may be given up.

    In a thread of its own: no signal strikes there, and what Ctrl-C raises within the library's
    calls to the file would be lost, and the library with it. Raises OSError if the disk is full.
    """
    import h5py

    stopped = threading.Event()

    def work() -> None:
        with _Disk(path) as disk:
            with h5py.File(disk, "w") as file:
                for _ in fill(file):
                    if stopped.is_set() or disk.error is not None:
                        break
            if disk.error is not None:
                raise disk.error

    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(work).result()
        finally:
            stopped.set()
