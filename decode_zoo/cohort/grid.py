"""Numbers with names on both sides, as files of many formats have them.

Which side are genes and which are persons is not known yet.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, MissingExtraError
from decode_zoo.files import open_input
from decode_zoo.textfile import read_text

__all__ = ["Grid", "read_grid", "separator_of"]

FloatArray = npt.NDArray[np.float64]

_QUOTED = {
    "\t": re.compile(rb'(?m)(?:^|(?<=\t))"([^"\t\r\n]*)"(?=\t|\r?$)'),
    ",": re.compile(rb'(?m)(?:^|(?<=,))"([^",\r\n]*)"(?=,|\r?$)'),
}
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_SHAPE = "Give one row a gene and one column a person, or the reverse, and no other columns."
_FILL = "Leave the gene or the person out, or fill the gap in; zero is a value, not a gap."


@dataclass(frozen=True)
class Grid:
    """A matrix of finite numbers.

    Attributes
    ----------
    path : str
        What to call it in messages.
    rows, columns : list of str
        Names, none of them empty.
    values : ndarray of float64, shape (n_rows, n_columns)
    lines : list of int or None
        Line of each row, if it comes from a text.
    """

    path: str
    rows: list[str]
    columns: list[str]
    values: FloatArray
    lines: list[int] | None = None

    @property
    def transposed(self) -> Grid:
        """The same with sides exchanged."""
        return Grid(self.path, self.columns, self.rows, self.values.T)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, path: str = "the expression table") -> Grid:
        """Take names and numbers of a DataFrame.

        Parameters
        ----------
        frame : DataFrame
            Names in its index, or, if that only counts, in its first column.
        path : str
            What to call it in messages.

        Raises
        ------
        InputError
            If a name is empty, or a value is no finite number.
        """
        if isinstance(frame.index, pd.RangeIndex) and frame.shape[1]:
            frame = frame.set_index(frame.columns[0])
        columns: list[FloatArray] = []
        for place, name in enumerate(frame.columns):
            column = frame.iloc[:, place]
            if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
                raise InputError(
                    f"column '{name}' does not hold numbers, but {column.dtype}",
                    path=path,
                    remedy=_SHAPE,
                )
            columns.append(column.to_numpy(np.float64, na_value=np.nan))
        values = np.column_stack(columns) if columns else np.empty((len(frame), 0))
        return _checked(cls(path, _texts(frame.index), _texts(frame.columns), values))


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """Read a matrix of genes × persons or persons × genes.

    Parameters
    ----------
    path : path-like
        Tab- or comma-separated text, plain or gzip, with a header and names in the first column
        (the header may lack a name for that, as R writes it); Parquet (``.parquet``); or AnnData
        (``.h5ad``, of which X is read).

    Raises
    ------
    InputError
        If it cannot be read, a line has more or fewer cells than the others, a cell is not a finite
        number, or a name is missing.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    suffix = os.path.splitext(os.fspath(path).lower())[1]
    if suffix in (".parquet", ".h5ad"):
        with open_input(path):  # says what is wrong with a path in our words
            pass
        return _read_parquet(path) if suffix == ".parquet" else _read_h5ad(path)
    return _read_text(path)


def separator_of(path: str | os.PathLike[str], header: str) -> str:
    """Tell what separates cells: commas in what is named .csv, or has no tab but a comma."""
    name = os.fspath(path).lower()
    if "\t" not in header and ("," in header or name.endswith((".csv", ".csv.gz"))):
        return ","
    return "\t"


def _texts(names: Sequence[object] | pd.Index) -> list[str]:
    return ["" if name is None or name != name else str(name).strip() for name in names]


def _checked(grid: Grid) -> Grid:
    """Refuse a matrix with gaps in its numbers or names."""
    for side, names in (("row", grid.rows), ("column", grid.columns)):
        if not names:
            raise InputError(f"has no {side}s", path=grid.path, remedy=_SHAPE)
        if "" in names:
            raise InputError(f"{side} {names.index('') + 1} has no name", path=grid.path)
    wrong = np.argwhere(~np.isfinite(grid.values))
    if len(wrong):
        row, column = wrong[0]
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise InputError(
            f"row '{grid.rows[row]}', column '{grid.columns[column]}': "
            f"the value is missing or not finite{more}",
            path=grid.path,
            remedy=_FILL,
        )
    return grid


def _read_parquet(path: str | os.PathLike[str]) -> Grid:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "tables") from None
    try:
        frame = pyarrow.parquet.read_table(path).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"is no Parquet file that can be read ({error})", path=path) from None
    return Grid.from_frame(frame, os.fspath(path))


def _read_h5ad(path: str | os.PathLike[str]) -> Grid:
    try:
        import anndata
    except ImportError:
        raise MissingExtraError("anndata", "tables") from None
    try:
        table = anndata.read_h5ad(path)
    except Exception as error:  # whatever h5py and anndata raise of files that are not theirs
        raise InputError(f"is no AnnData file that can be read ({error})", path=path) from None
    if table.X is None:
        raise InputError("has no X", path=path, remedy="Put the values into X, not into a layer.")
    dense = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    rows, columns = _texts(table.obs_names), _texts(table.var_names)
    return _checked(Grid(os.fspath(path), rows, columns, dense.astype(np.float64)))


def _read_text(path: str | os.PathLike[str]) -> Grid:
    data = read_text(path)
    lines = {n: line for n, line in enumerate(data.split(b"\n"), 1) if line.strip()}
    # Programs that count reads put a line about themselves on top.
    while lines and (first := lines[min(lines)]).startswith(b"#") and b"\t" not in first:
        lines.pop(min(lines))
    if len(lines) < 2:
        raise InputError("holds no table: a header and rows", path=path, remedy=_SHAPE)
    number = min(lines)
    header = _decoded(lines[number], path, number)
    separator = separator_of(path, header)
    if b'"' in data:
        lines = {n: _QUOTED[separator].sub(rb"\1", line) for n, line in lines.items()}
        header = _decoded(lines[number], path, number)
    names = header.split(separator)
    lines.pop(number)
    width = 1 + next(iter(lines.values())).count(separator.encode())
    if width == len(names):
        names = names[1:]
    elif width != len(names) + 1:  # which R's write.table makes
        first_line = min(lines)
        raise InputError(
            f"has {width} cells, but the header has {len(names)}",
            path=path,
            line=first_line,
            remedy="Columns are separated by tabs or commas, and the header names each of them.",
        )
    for n, line in lines.items():
        if (cells := 1 + line.count(separator.encode())) != width:
            raise InputError(
                f"has {cells} cells, but the lines above have {width}", path=path, line=n
            )
    if width < 2:
        raise InputError("has one column only", path=path, line=number, remedy=_SHAPE)
    names = [name.strip() for name in names]
    rows, values = _parsed(lines, names, separator, path)
    return _checked(Grid(os.fspath(path), rows, names, values, list(lines)))


def _parsed(
    lines: Mapping[int, bytes], names: Sequence[str], separator: str, path: str | os.PathLike[str]
) -> tuple[list[str], FloatArray]:
    places = range(len(names) + 1)
    try:
        frame = pd.read_csv(
            io.BytesIO(b"\n".join(lines.values())),
            sep=separator,
            header=None,
            names=list(places),
            index_col=False,
            dtype={i: np.float64 if i else str for i in places},
            quoting=3,
            na_filter=False,
            engine="c",
            low_memory=False,
            float_precision="round_trip",
        )
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error})", path=path) from None
    except (ValueError, TypeError) as error:  # pandas raises either
        _check_numbers(lines, names, separator, path)
        raise InputError(f"holds something that is not a number ({error})", path=path) from None
    values = frame.loc[:, 1:].to_numpy(np.float64)
    # pandas takes a column of nothing but True and False as 1 and 0; its first cell tells.
    first = next(iter(lines))
    whole = np.isfinite(values).all()
    _check_numbers({first: lines[first]} if whole else lines, names, separator, path)
    return [str(name).strip() for name in frame[0]], values


def _check_numbers(
    lines: Mapping[int, bytes], names: Sequence[str], separator: str, path: str | os.PathLike[str]
) -> None:
    """Raise InputError at the first cell that is not a finite number."""
    for number, line in lines.items():
        row, *cells = line.decode("utf-8", "replace").split(separator)
        for name, cell in zip(names, cells, strict=True):
            if _NUMBER.fullmatch(cell) and np.isfinite(float(cell)):
                continue
            missing = cell.strip().lower() in ("", "na", "nan", "n/a", "null", ".")
            raise InputError(
                f"row '{row.strip()[:60]}', column '{name[:60]}': "
                + ("the value is missing" if missing else f"not a finite number: {cell[:40]!r}"),
                path=path,
                line=number,
                remedy=_FILL if missing else _SHAPE,
            )


def _decoded(line: bytes, path: str | os.PathLike[str], number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8 ({error})", path=path, line=number) from None


def first_twice(names: Sequence[str]) -> str | None:
    """Return the first name that occurs more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)
