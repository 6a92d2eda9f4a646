"""Result tables: written whole or not at all, each with its provenance beside it."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from decode_zoo.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "atomic_dir",
    "atomic_path",
    "check_output",
    "provenance",
    "provenance_path",
    "write_table",
]

_CHUNK_ROWS = 2048
_SUFFIXES = (".tsv", ".txt", ".tsv.gz", ".csv", ".parquet", ".h5ad")
_NEEDS = {".parquet": "pyarrow", ".h5ad": "anndata"}
_PACKAGES = ("numpy", "scipy", "pandas", "onnxruntime", "onnxruntime-gpu", "tensorflow")
# A folder is replaced only if one of these files says that decode-zoo made it.
_OWN_MARKS = {
    "features.json": "format_version",
    "manifest.json": "format_version",
    "provenance.json": "decode_zoo",
}


# --- atomic output -----------------------------------------------------------------


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file name that becomes `path` if the block succeeds.

    The name is unique and in the same folder, so that writers never meet and the
    final rename is atomic. The data reach the disk before the name does. On any
    error, Ctrl-C included, the temporary file is removed and `path` is untouched.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; a symbolic link stays, its target is replaced.

    Yields
    ------
    pathlib.Path
        A name that does not exist yet; the block must create it.
    """
    target = Path(os.path.realpath(path))
    temporary = _sibling(target)
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
        Replace an existing folder, provided that decode-zoo made it.

    Yields
    ------
    pathlib.Path
        An empty folder next to `path`, removed on any error.

    Raises
    ------
    UsageError
        If `path` exists and may not be replaced, or cannot be made there.
    """
    target = Path(os.path.realpath(path))
    _check_folder(target.parent, path)
    _check_replaceable(target, path, force)
    temporary = _sibling(target)
    aside = _sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _check_replaceable(target, path, force)
        if target.exists():
            os.rename(target, aside)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists():
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


def _check_folder(folder: Path, path: str | os.PathLike[str]) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"Cannot write {os.fspath(path)}: there is no folder {folder}.",
            remedy=f"Make it first: mkdir -p '{folder}'",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"Cannot write {os.fspath(path)}: the folder {folder} is not writable.",
            remedy="Choose another folder with -o, or change its permissions.",
        )


def _check_replaceable(target: Path, path: str | os.PathLike[str], force: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(
            f"{os.fspath(path)} exists and is not a folder.", remedy="Choose another name with -o."
        )
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError(
            f"The folder {os.fspath(path)} exists and is not empty.",
            remedy="Choose another name with -o, or replace it with --force.",
        )
    if not any(_says(target / name, key) for name, key in _OWN_MARKS.items()):
        raise UsageError(
            f"The folder {os.fspath(path)} was not made by decode-zoo; "
            "--force does not replace it.",
            remedy="Choose another name with -o, or remove the folder yourself.",
        )


def _says(file: Path, key: str) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and key in content


# --- provenance --------------------------------------------------------------------


def provenance(command: Sequence[str], **facts: object) -> dict[str, Any]:
    """Describe how a result came about, in JSON-able terms.

    Parameters
    ----------
    command : sequence of str
        The command line or call.
    **facts
        What else a reader must know: artifact sha256s, back end, seeds. Paths,
        NumPy values and other objects are turned into plain ones.

    Returns
    -------
    dict
        `command`, `decode_zoo` (version), `python`, `packages` (name to version),
        `platform`, `created` (UTC, ISO 8601), and the facts.
    """
    packages = {name: version for name in _PACKAGES if (version := _version(name))}
    return {
        "command": [str(word) for word in command],
        "decode_zoo": _own_version(),
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **_plain(facts),
    }


def provenance_path(path: str | os.PathLike[str]) -> Path:
    """Return where the provenance of the output `path` is written."""
    return Path(f"{os.fspath(path)}.provenance.json")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _own_version() -> str:
    import decode_zoo

    return _version("decode-zoo") or str(getattr(decode_zoo, "__version__", "unknown"))


def _plain(value: object) -> Any:
    """Turn a value into what JSON has; NaN and infinity, which it lacks, into null."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


# --- tables ------------------------------------------------------------------------


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
        writable, or the file exists.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if path is None or os.fspath(path) == "-":
        return
    suffix = _suffix(path)
    if suffix in _NEEDS and importlib.util.find_spec(_NEEDS[suffix]) is None:
        raise MissingExtraError(_NEEDS[suffix], "tables")
    target = Path(os.path.realpath(path))
    _check_folder(target.parent, path)
    _check_folder(Path(os.path.abspath(path)).parent, path)  # of the provenance, beside a link
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(
            f"{os.fspath(path)} exists and is not a regular file.",
            remedy="Choose another name with -o.",
        )
    if not force:
        raise UsageError(
            f"{os.fspath(path)} exists.",
            remedy="Choose another name with -o, or replace it with --force.",
        )


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
        As for `check_output`, or if the disk refuses the data.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if path is None or os.fspath(path) == "-":
        _print(frame)
        return
    check_output(path, force)
    record = _plain({**provenance, **({"units": units} if units else {})})
    write = _WRITERS[_suffix(path)]
    sidecar = provenance_path(path)
    fresh = not os.path.exists(path)
    try:
        with atomic_path(path) as table:
            write(frame, table, record, units or {}, [c for c in id_columns if c in frame.columns])
            with atomic_path(sidecar) as notes:
                notes.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except BaseException as error:
        if fresh:  # the provenance is renamed first, so that no table is ever without
            sidecar.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(
                f"Cannot write {os.fspath(path)}: {error.strerror or error}.",
                remedy="Choose another folder with -o, or free some space.",
            ) from error
        raise


def _suffix(path: str | os.PathLike[str]) -> str:
    name = os.path.basename(path).lower()
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise UsageError(
        f"Cannot tell the format of {os.fspath(path)} from its name.",
        remedy=f"End the name of the output in one of: {', '.join(_SUFFIXES)}",
    )


def _print(frame: pd.DataFrame) -> None:
    try:
        sys.stdout.flush()
        # Past the text layer: it would encode to the locale and translate line ends.
        stream = getattr(sys.stdout, "buffer", None)
        for text in _text(frame, "\t"):
            if stream is None:
                sys.stdout.write(text)
            else:
                stream.write(text.encode())
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python flushes once more at exit,
        # which must not fail either.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)


def _text(frame: pd.DataFrame, separator: str) -> Iterator[str]:
    """Yield the header and then blocks of rows, quoted as the csv module would."""
    special = re.compile(f'[{separator}\n\r"]')
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    cells = [_quote(str(name), special) for name in frame.columns]
    yield separator.join(cells) + "\n"
    for start in range(0, len(frame), _CHUNK_ROWS):
        block = [_cells(column.iloc[start : start + _CHUNK_ROWS], special) for column in columns]
        rows = map(separator.join, zip(*block, strict=True))
        yield "\n".join(rows) + "\n"


def _cells(column: pd.Series[Any], special: re.Pattern[str]) -> list[str]:
    """Return the printed cells of one column.

    Formatting column by column with the bare % operator is what makes this several
    times as fast as `DataFrame.to_csv(float_format=...)`.
    """
    from pandas.api.types import is_float_dtype

    if is_float_dtype(column.dtype):
        # Adding zero drops the sign of -0, which depends on the back end.
        values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
        texts = list(map("%.6g".__mod__, values.tolist()))
        for row in np.flatnonzero(np.isnan(values)).tolist():
            texts[row] = ""
        return texts
    missing = column.isna().tolist()
    return [
        "" if absent else _quote(f"{cell:.6g}" if isinstance(cell, float) else str(cell), special)
        for cell, absent in zip(column.tolist(), missing, strict=True)
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
    for text in _text(frame, separator):
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
    from anndata.utils import make_index_unique

    outputs = [name for name in frame.columns if name not in id_columns]
    texts = [name for name in outputs if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if texts:
        raise UsageError(
            f"An h5ad file holds numbers only, and column '{texts[0]}' has text.",
            remedy="Write this table as .tsv or .parquet.",
        )
    obs = frame[list(id_columns)].fillna("").astype(str)
    # As a list, for the index must not take the column's name: anndata refuses that.
    labels = obs.iloc[:, 0].tolist() if id_columns else [str(row) for row in range(len(frame))]
    obs.index = make_index_unique(pd.Index(labels, dtype=str))
    var = pd.DataFrame(
        {"unit": [units.get(name, "") for name in outputs]}, index=pd.Index(outputs, dtype=str)
    )
    anndata.AnnData(
        X=frame[outputs].to_numpy(dtype=np.float32, na_value=np.nan),
        obs=obs,
        var=var,
        uns={"provenance": json.dumps(record)},
    ).write_h5ad(path, compression="gzip")


_WRITERS: dict[str, _Writer] = {
    ".tsv": _text_writer("\t"),
    ".txt": _text_writer("\t"),
    ".tsv.gz": _text_writer("\t", compressed=True),
    ".csv": _text_writer(","),
    ".parquet": _write_parquet,
    ".h5ad": _write_h5ad,
}
