"""Result tables: written whole or not at all, each with its provenance beside it."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from decode_zoo.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import pandas as pd

from decode_zoo.files import atomic_path, check_files, discard_stdout
from decode_zoo.provenance import plain, provenance_path

__all__ = ["check_output", "print_table", "suffix_of", "text_rows", "write_file", "write_table"]

_CHUNK_ROWS = 2048
_SUFFIXES = (".tsv", ".txt", ".tsv.gz", ".csv", ".parquet", ".h5ad")
_NEEDS = {".parquet": "pyarrow", ".h5ad": "anndata"}


def check_output(path: str | os.PathLike[str] | None, force: bool = False) -> None:
    """Refuse an output that could not be written, before the work is done.

    Parameters
    ----------
    path : str, os.PathLike or None
        As for `write_table`.
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    UsageError
        If the suffix is not one that can be written, the folder is missing or not
        writable, or the file or its provenance exists.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if path is None or os.fspath(path) == "-":
        return
    suffix = suffix_of(path)
    if suffix in _NEEDS and importlib.util.find_spec(_NEEDS[suffix]) is None:
        raise MissingExtraError(_NEEDS[suffix], "tables")
    check_files(path, (path, provenance_path(path)), force)


def write_table(
    frame: pd.DataFrame,
    path: str | os.PathLike[str] | None,
    *,
    provenance: Mapping[str, object],
    force: bool = False,
    units: Mapping[str, str] | None = None,
    id_columns: Sequence[str] = ("gene_id", "symbol", "status"),
) -> None:
    """Write a result table and its provenance, both whole or neither.

    The suffix chooses the format: `.tsv`, `.txt`, `.tsv.gz`, `.csv` (six significant
    digits, empty cells for missing values), `.parquet`, `.h5ad`. The index of the
    frame is not written.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table; its column names are unique.
    path : str, os.PathLike or None
        The output; None or '-' prints tab-separated text, without provenance.
    provenance : Mapping
        How the table came about, see `provenance`. It goes to
        `<path>.provenance.json` and into Parquet (schema metadata
        `decode_zoo.provenance`) and h5ad (`uns['provenance']`) files.
    force : bool
        Replace an existing file.
    units : Mapping of str to str, optional
        Unit of each output column; recorded in the provenance as `units`, in Parquet
        as field metadata `unit`, in h5ad as `var['unit']`.
    id_columns : sequence of str
        Columns that identify the rows; the others must be numeric in h5ad, where
        they become X (float32, rows x outputs).

    Raises
    ------
    UsageError
        As for `check_output`, or if the disk or standard output refuses the data.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if path is None or os.fspath(path) == "-":
        print_table(frame)
        return
    check_output(path, force)
    record = plain({**provenance, **({"units": units} if units else {})})
    sidecar = Path(os.path.realpath(provenance_path(path)))
    try:
        before = sidecar.read_bytes() if sidecar.exists() else None
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with atomic_path(path) as table:
            ids = [c for c in id_columns if c in frame.columns]
            write_file(frame, table, record, suffix_of(path), units=units, id_columns=ids)
            with atomic_path(sidecar) as notes:
                notes.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except BaseException as error:
        # The provenance is renamed first, so that no table is ever without.
        if before is None:
            sidecar.unlink(missing_ok=True)
        elif sidecar.read_bytes() != before:
            with atomic_path(sidecar) as notes:
                notes.write_bytes(before)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def write_file(
    frame: pd.DataFrame,
    path: Path,
    record: Mapping[str, Any],
    suffix: str,
    *,
    units: Mapping[str, str] | None = None,
    id_columns: Sequence[str],
) -> None:
    """Create a file with a table, in the format of a suffix (see `write_table`)."""
    _WRITERS[suffix](frame, path, record, units or {}, id_columns)


def _refused(path: str | os.PathLike[str], error: OSError) -> UsageError:
    return UsageError(
        f"Cannot write {os.fspath(path)}: {error.strerror or error}.",
        remedy="Choose another folder with -o, or free some space.",
    )


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix that tells the format of an output, e.g. ``.tsv.gz``.

    Raises
    ------
    UsageError
        If it is not one that can be written.
    """
    name = os.path.basename(path).lower()
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise UsageError(
        f"Cannot tell the format of {os.fspath(path)} from its name.",
        remedy=f"End the name of the output in one of: {', '.join(_SUFFIXES)}",
    )


def print_table(frame: pd.DataFrame, *, header: bool = True) -> bool:
    """Print a table to standard output, tab-separated.

    Parameters
    ----------
    frame : pandas.DataFrame
    header : bool
        Whether to print the names of its columns first.

    Returns
    -------
    bool
        False if the reader (head, less) has seen enough.

    Raises
    ------
    UsageError
        If standard output is closed or refuses the data.
    """
    if sys.stdout is None:  # closed by the caller (>&-)
        raise UsageError("Standard output is closed.", remedy="Name an output file with -o.")
    try:
        sys.stdout.flush()
        # Past the text layer: it would encode to the locale and translate line ends.
        stream = getattr(sys.stdout, "buffer", None)
        for text in text_rows(frame, "\t", header=header):
            if stream is None:
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


def text_rows(
    frame: pd.DataFrame, separator: str, *, header: bool = True, digits: int = 6
) -> Iterator[str]:
    """Yield the header and then blocks of rows, quoted as the csv module would."""
    special = re.compile(f'[{separator}\n\r"]')
    columns = [_formatter(frame.iloc[:, i], special, digits) for i in range(frame.shape[1])]
    if header:
        cells = [_quote(str(name), special) for name in frame.columns]
        yield separator.join(cells) + "\n"
    for start in range(0, len(frame), _CHUNK_ROWS):
        block = [cells_of(slice(start, start + _CHUNK_ROWS)) for cells_of in columns]
        rows = map(separator.join, zip(*block, strict=True))
        yield "\n".join(rows) + "\n"


def _formatter(
    column: pd.Series[Any], special: re.Pattern[str], digits: int
) -> Callable[[slice], list[str]]:
    """Return what turns rows of a column into printed cells.

    Formatting column by column with the bare % operator is what makes this several
    times as fast as `DataFrame.to_csv(float_format=...)`.
    """
    import pandas as pd
    from pandas.api.types import is_float_dtype

    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = [_quote(str(name), special) for name in column.cat.categories]
        labels, codes = np.array([*texts, ""], object), column.cat.codes.to_numpy()
        return lambda rows: labels[codes[rows]].tolist()
    if is_float_dtype(column.dtype):
        return partial(_floats, column, f"%.{digits}g")
    return partial(_others, column, special)


def _floats(column: pd.Series[Any], pattern: str, rows: slice) -> list[str]:
    # Adding zero drops the sign of -0, which depends on the back end.
    values = column.iloc[rows].to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
    texts = list(map(pattern.__mod__, values.tolist()))
    for row in np.flatnonzero(np.isnan(values)).tolist():
        texts[row] = ""
    return texts


def _others(column: pd.Series[Any], special: re.Pattern[str], rows: slice) -> list[str]:
    part = column.iloc[rows]
    return [
        "" if absent else _quote(f"{cell:.6g}" if isinstance(cell, float) else str(cell), special)
        for cell, absent in zip(part.tolist(), part.isna().tolist(), strict=True)
    ]


def _quote(cell: str, special: re.Pattern[str]) -> str:
    if special.search(cell) is None:
        return cell
    return '"' + cell.replace('"', '""') + '"'


_Writer = Callable[
    ["pd.DataFrame", Path, Mapping[str, Any], Mapping[str, str], Sequence[str]], None
]


def _text_writer(separator: str, compressed: bool = False) -> _Writer:
    def write(
        frame: pd.DataFrame,
        path: Path,
        record: Mapping[str, Any],
        units: Mapping[str, str],
        id_columns: Sequence[str],
    ) -> None:
        with open(path, "xb") as raw:
            if compressed:
                # No name and no time in the header: the same table, the same bytes.
                with gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
                    _dump(frame, separator, packed)
            else:
                _dump(frame, separator, raw)

    return write


def _dump(frame: pd.DataFrame, separator: str, stream: BinaryIO | io.BufferedIOBase) -> None:
    for text in text_rows(frame, separator):
        stream.write(text.encode())


def _write_parquet(
    frame: pd.DataFrame,
    path: Path,
    record: Mapping[str, Any],
    units: Mapping[str, str],
    id_columns: Sequence[str],
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
    frame: pd.DataFrame,
    path: Path,
    record: Mapping[str, Any],
    units: Mapping[str, str],
    id_columns: Sequence[str],
) -> None:
    import anndata
    import pandas as pd
    from anndata.io import write_elem
    from anndata.utils import make_index_unique

    from decode_zoo.hdf5 import create_hdf5

    outputs = [name for name in frame.columns if name not in id_columns]
    texts = [name for name in outputs if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if texts:
        raise UsageError(
            f"An h5ad file holds numbers only, and column '{texts[0]}' has text.",
            remedy="Write this table as .tsv or .parquet.",
        )
    ids = frame[list(id_columns)]
    obs = ids.astype(object).where(ids.notna(), "").astype(str)
    # As a list, for the index must not take the column's name: anndata refuses that.
    labels = obs.iloc[:, 0].tolist() if id_columns else [str(row) for row in range(len(frame))]
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
    with create_hdf5(path) as (file, _):
        write_elem(file, "/", table, dataset_kwargs={"compression": "gzip"})


_WRITERS: dict[str, _Writer] = {
    ".tsv": _text_writer("\t"),
    ".txt": _text_writer("\t"),
    ".tsv.gz": _text_writer("\t", compressed=True),
    ".csv": _text_writer(","),
    ".parquet": _write_parquet,
    ".h5ad": _write_h5ad,
}
