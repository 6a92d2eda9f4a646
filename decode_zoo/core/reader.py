"""Tables as people bring them: one reader for texts, Parquet and AnnData, BED and GTF.

`Table` finds out how a text is written (compression, encoding, separator, quotes, comments, header)
and gives its cells, each with its line. `NamedMatrix` is a matrix of numbers, whatever its file.
`read_columns` reads millions of lines of genomic text fast.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import FloatArray
from decode_zoo.core.errors import InputError, MissingExtraError
from decode_zoo.core.files import MAX_BYTES, check_expansion, open_input, read_bytes, unpack

Source = str | os.PathLike[str] | TextIO | BinaryIO

# What programs and people call the column of genes, letters and digits only.
GENES = frozenset(
    """
    gene genes geneid geneids geneidentifier geneaccession genename genenames genesymbol
    genesymbols genestableid genestableidversion id ids symbol symbols name names identifier
    identifiers feature features featureid featurename index rowname rownames unnamed0 ensembl
    ensemblid ensemblids ensemblgene ensemblgenes ensemblgeneid ensemblgeneids
    ensembltranscriptid hgnc hgncid hgncsymbol approvedsymbol officialgenesymbol entrez entrezid
    entrezids entrezgene entrezgeneid transcript transcripts transcriptid transcriptstableid
    transcriptstableidversion targetid refseq refseqid
    """.split()  # noqa: SIM905 (a list literal of these takes half a page)
)
MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "."})

_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_QUOTED = re.compile(rb'"[^"]*"')
_WHOLLY_QUOTED = {
    separator: re.compile(rb'(?:^|(?<=%b))"([^"%b]*)"(?=%b|$)' % ((separator,) * 3))
    for separator in (b"\t", b",", b";")
}
# Separates cells once quotes are resolved, where cells hold the separator of the file.
_UNIT = b"\x1f"
_NOT_TEXT = "Save it as UTF-8 text (from a spreadsheet: export as tab-separated or CSV text)."
POINT = "Write numbers with a decimal point, as 0.5."
_SHAPE = "Give one row a gene and one column a sample, or the reverse, and no other columns."
_WIDTH = "Columns are separated by tabs, commas or semicolons, and the header names each of them."
_FILL = "Leave the gene or the sample out, or fill the gap in; zero is a value, not a gap."

# -- texts -----------------------------------------------------------------------------------------


def read_text(source: Source) -> bytes:
    """Return a text as UTF-8, decompressed, without byte order mark, every line end a newline.

    The source is a path, '-' for standard input, or an open stream, which is left open. Only cells
    that are used are decoded, so that what stands elsewhere cannot be wrong.
    """
    path = name_of(source)
    if not isinstance(source, (str, os.PathLike)):
        data = _held(source, path)
    elif os.fspath(source) != "-":
        data = read_bytes(source)
    elif sys.stdin is None:  # closed by the caller (<&-)
        raise InputError("is closed.", path=path, remedy="Name a file of genes.")
    else:
        data = _held(sys.stdin.buffer, path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise InputError(
                f"is damaged UTF-16 text ({error})", path=path, line=1, remedy=_NOT_TEXT
            ) from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:  # Windows or old Macintosh line ends
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        raise InputError(
            "is no text: it holds NUL bytes, as spreadsheets and other binary formats do",
            path=path,
            line=1 + data.count(b"\n", 0, data.find(b"\0")),
            remedy=_NOT_TEXT,
        )
    return data


def name_of(source: Source) -> str:
    """Return what messages call a source."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return "standard input" if path == "-" else path
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "the gene list"


def _held(stream: TextIO | BinaryIO, path: str) -> bytes:
    """Read a stream to its end, so that no wrapper of ours buffers ahead in it or closes it."""
    try:
        data = stream.read(MAX_BYTES + 1)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text.", path=path, remedy=_NOT_TEXT) from error
    check_expansion(len(data), len(data), path)
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return unpack(io.BufferedReader(io.BytesIO(data)), path).read()  # type: ignore[arg-type,unused-ignore]


# -- tables ----------------------------------------------------------------------------------------


def named(cell: str, names: Iterable[str]) -> bool:
    """Return whether a cell is one of some names, whatever its case and punctuation."""
    return "".join(filter(str.isalnum, cell.lower())) in names


def is_gene_column(cell: str) -> bool:
    """Return whether a cell is a well-known name of a column of genes."""
    # Iduronate 2-sulfatase is the one symbol that reads as a column name.
    return cell != "IDS" and named(cell, GENES)


def number_in(cell: str) -> float | None:
    """Return the number in a cell, NaN for one that is missing, None for a text."""
    if cell.lower() in MISSING:
        return math.nan
    return float(cell) if _NUMBER.fullmatch(cell) or _INFINITE.fullmatch(cell) else None


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that occurs more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


@dataclass(frozen=True)
class Table:
    """A table of texts; its lines are cut into cells as they are asked for."""

    path: str
    header: list[str]  # empty if there is none; the first name is '' where R leaves it out
    line: int  # of the header
    lines: list[int]  # of the rows, counted from 1
    rows: list[bytes]
    separator: bytes

    @classmethod
    def read(cls, source: Source, header: bool | Callable[[str], bool] = True) -> Table:
        """Read a text: its first line is a header, or is none, or is one by its first cell.

        Tabs, commas or semicolons separate cells, as the first line has them. Lines at the top that
        begin with # are comments, but for a header (#gene_id). Blank lines are skipped. Quotes are
        those of CSV where they are in pairs on a line, else ordinary characters.
        """
        path = name_of(source)
        text = read_text(source).split(b"\n")
        lines = [number for number, row in enumerate(text, 1) if row.strip()]
        rows = [text[number - 1] for number in lines]
        top = next((i for i, row in enumerate(rows) if not row.startswith(b"#")), len(rows))
        is_header = header if callable(header) else lambda cell: header is True
        rows[:top] = [row[1:] for row in rows[:top]]
        found = next((i for i in range(top) if _names_genes(rows[i])), None)
        leading = rows[top if found is None else found :][:1]
        separator = _separator(b"".join(leading), path, header)
        prose = separator == b","  # which has commas, and so may a comment
        rows, separator = _without_quotes(rows, separator)
        if header is False:
            found = None
        elif found is None and not prose and _is_header_above(rows, top, separator):
            found = top - 1
        elif found is None and top < len(rows) and is_header(_cut(rows[top], separator)[0]):
            found, top = top, top + 1
        kept = [i for i in range(top, len(rows)) if rows[i].strip(separator + b" \t\v\f")]
        table = cls(
            path,
            [],
            1 if found is None else lines[found],
            [lines[i] for i in kept],
            [rows[i] for i in kept],
            separator,
        )
        if found is not None:
            names = table.cut(rows[found], table.line)
            # R's write.table has no name for the first column; mere separators at the ends of
            # lines are no column.
            if (
                table.rows
                and not is_gene_column(names[0])
                and len(names) == table.rows[0].count(separator)
                and not all(row.rstrip(b" ").endswith(separator) for row in table.rows)
            ):
                names = ["", *names]
            table.header[:] = names
        return table

    def fault(self, message: str, line: int | None = None, remedy: str | None = None) -> InputError:
        """Return an error about this table."""
        return InputError(message, path=self.path, line=line, remedy=remedy)

    def cut(self, row: bytes, line: int) -> list[str]:
        """Return the cells of a row, without blanks around them."""
        return [cell.strip() for cell in self._decoded(row, line).split(self.separator.decode())]

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line and the cells of each row."""
        for line, row in zip(self.lines, self.rows, strict=True):
            yield line, self.cut(row, line)

    def pairs(self, fault: str, remedy: str) -> Iterator[tuple[int, str, str]]:
        """Yield the line and the first two cells of each row, neither of which may be empty."""
        for line, cells in self.cells():
            if len(cells) < 2 or not (cells[0] and cells[1]):
                raise self.fault(fault, line, remedy)
            yield line, cells[0], cells[1]

    def first_cells(self) -> list[str]:
        """Return the first cell of each row; whatever the others hold is not looked at."""
        return [
            self._decoded(row.partition(self.separator)[0], line).strip()
            for line, row in zip(self.lines, self.rows, strict=True)
        ]

    def _decoded(self, row: bytes, line: int) -> str:
        try:
            return row.decode()
        except UnicodeDecodeError as error:
            raise self.fault(
                f"byte 0x{row[error.start]:02x} is not UTF-8 text", line, _NOT_TEXT
            ) from None

    def check_width(self, remedy: str = _WIDTH) -> None:
        """Raise InputError at the first row that has more or fewer cells than the header."""
        for line, row in zip(self.lines, self.rows, strict=True):
            if (width := 1 + row.count(self.separator)) != len(self.header):
                text = f"has {width} cells, but the header has {len(self.header)}"
                raise self.fault(text, line, remedy)

    def check_names(self) -> None:
        """Raise InputError if a column but the first has no name, or two have the same."""
        if "" in self.header[1:]:
            raise self.fault(
                f"column {self.header.index('', 1) + 1} has no name",
                self.line,
                "Name it in the header, or take it out; only the first column needs no name.",
            )
        if twice := first_twice(self.header):
            raise self.fault(
                f"column '{twice}' occurs twice", self.line, "Give each column a name of its own."
            )

    def numbers(self) -> FloatArray:
        """Return the numbers beside the first column, shape (n_rows, n_columns - 1), all finite."""
        self.check_width()
        places = range(len(self.header))
        try:
            frame = pd.read_csv(
                io.BytesIO(b"\n".join(self.rows)),
                sep=self.separator.decode(),
                header=None,
                names=list(places),
                usecols=list(places[1:]),
                index_col=False,
                dtype=np.float64,
                quoting=csv.QUOTE_NONE,
                na_filter=False,
                engine="c",
                low_memory=False,
                float_precision="round_trip",
            )
        except (ValueError, TypeError, OverflowError) as error:  # pandas raises any of them
            self.first_cells()
            self._check_numbers(self.rows)
            raise self.fault(f"holds something that is not a number ({error})") from None
        values = frame.to_numpy(np.float64)
        # pandas takes a column of nothing but True and False as 1 and 0; its first cell tells.
        self._check_numbers(self.rows[:1] if np.isfinite(values).all() else self.rows)
        return values

    def _check_numbers(self, rows: Sequence[bytes]) -> None:
        """Raise InputError at the first cell that is not a finite number."""
        for line, row in zip(self.lines, rows, strict=False):
            first, *cells = row.decode(errors="replace").split(self.separator.decode())
            for name, cell in zip(self.header[1:], cells, strict=True):
                if _NUMBER.fullmatch(cell) and np.isfinite(float(cell)):
                    continue
                if cell.strip().lower() in MISSING:
                    problem, remedy = "the value is missing", _FILL
                else:
                    point = _NUMBER.fullmatch(cell.replace(",", ".", 1))
                    problem = f"not a finite number: {cell[:40]!r}"
                    remedy = POINT if point else _SHAPE
                where = f"row '{first.strip()[:60]}', column '{name[:60]}'"
                raise self.fault(f"{where}: {problem}", line, remedy)


def _separator(row: bytes, path: str, header: bool | Callable[[str], bool]) -> bytes:
    """Return what separates the cells of the first line."""
    row = _QUOTED.sub(b"", row)
    for separator in (b"\t", b","):
        if separator in row:
            return separator
    first = row.partition(b";")[0].decode(errors="replace").strip()
    # Of a list without a header, A;B is one line that names two genes.
    if b";" in row and (not callable(header) or header(first)):
        return b";"
    return b"," if path.lower().endswith((".csv", ".csv.gz")) else b"\t"


def _without_quotes(rows: list[bytes], separator: bytes) -> tuple[list[bytes], bytes]:
    """Resolve quotes, and return what separates cells then."""
    simple = _WHOLLY_QUOTED[separator]
    plain = [simple.sub(rb"\1", row) if b'"' in row else row for row in rows]
    if not any(b'"' in row for row in plain):
        return plain, separator
    cut = []
    for row, stripped in zip(rows, plain, strict=True):
        if b'"' in stripped and row.count(b'"') % 2 == 0:
            # Latin-1 knows all bytes, and gives them back.
            reader = csv.reader([row.decode("latin-1")], delimiter=separator.decode())
            try:
                cut.append([cell.encode("latin-1") for cell in next(reader)])
                continue
            except csv.Error:  # a cell of more than 128 KiB
                pass
        cut.append(stripped.split(separator))
    if any(_UNIT in row for row in rows):
        return plain, separator
    return [_UNIT.join(cells) for cells in cut], _UNIT


def _cut(row: bytes, separator: bytes) -> list[str]:
    return [cell.strip() for cell in row.decode(errors="replace").split(separator.decode())]


def _names_genes(comment: bytes) -> bool:
    """Return whether a comment is a header: #gene_id, but not '# genes of the screen'."""
    first = re.split(rb"[\t,;]", comment, maxsplit=1)[0].decode(errors="replace")
    return not first[:1].isspace() and is_gene_column(first)


def _is_header_above(rows: Sequence[bytes], top: int, separator: bytes) -> bool:
    """Return whether the last comment has as many cells as the next line, which is no header."""
    if not 0 < top < len(rows):
        return False
    above, width = rows[top - 1].count(separator), rows[top].count(separator)
    first = _cut(rows[top], separator)[0]
    return above > 0 and width - above in (0, 1) and first != "" and not is_gene_column(first)


# -- matrices --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NamedMatrix:
    """A matrix of finite numbers with names on both sides, of which either may be the genes."""

    path: str  # what to call it in messages
    rows: list[str]
    columns: list[str]
    values: FloatArray  # shape (n_rows, n_columns)
    lines: list[int] | None = None  # of the rows, if it comes from a text

    def __post_init__(self) -> None:
        """Raise InputError if a side has no names, a name is empty, or a value is not finite."""
        for side, names in (("row", self.rows), ("column", self.columns)):
            if not names:
                raise InputError(f"has no {side}s", path=self.path, remedy=_SHAPE)
            if "" in names:
                place = names.index("")
                line = self.lines[place] if self.lines and side == "row" else None
                raise InputError(f"{side} {place + 1} has no name", path=self.path, line=line)
        wrong = np.argwhere(~np.isfinite(self.values))
        if len(wrong):
            row, column = wrong[0]
            more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
            raise InputError(
                f"row '{self.rows[row]}', column '{self.columns[column]}': "
                f"the value is missing or not finite{more}",
                path=self.path,
                remedy=_FILL,
            )

    @property
    def transposed(self) -> NamedMatrix:
        """The same with sides exchanged."""
        return NamedMatrix(self.path, self.columns, self.rows, self.values.T)

    @classmethod
    def from_table(cls, table: Table) -> NamedMatrix:
        """Take the names in the header and the first column, the numbers beside them."""
        if not (table.header and table.rows):
            raise table.fault("holds no table: a header and rows", remedy=_SHAPE)
        if len(table.header) < 2:
            raise table.fault("has one column only", table.line, _SHAPE)
        values = table.numbers()
        return cls(table.path, table.first_cells(), table.header[1:], values, table.lines)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, path: str = "the expression table") -> NamedMatrix:
        """Take the names in the index, or, if that only counts, in the first column."""
        if isinstance(frame.index, pd.RangeIndex) and frame.shape[1]:
            frame = frame.set_index(frame.columns[0])
        columns: list[FloatArray] = []
        for place, name in enumerate(frame.columns):
            column = frame.iloc[:, place]
            if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
                text = f"column '{name}' does not hold numbers, but {column.dtype}"
                raise InputError(text, path=path, remedy=_SHAPE)
            columns.append(column.to_numpy(np.float64, na_value=np.nan))
        values = np.column_stack(columns) if columns else np.empty((len(frame), 0))
        return cls(path, _texts(frame.index), _texts(frame.columns), values)


def read_matrix(path: str | os.PathLike[str]) -> NamedMatrix:
    """Read a matrix of genes × samples or the reverse: a text, Parquet, or AnnData's X."""
    suffix = os.path.splitext(os.fspath(path).lower())[1]
    if suffix in (".parquet", ".h5ad"):
        with open_input(path):  # says what is wrong with a path in our words
            pass
        return _read_parquet(path) if suffix == ".parquet" else _read_h5ad(path)
    return NamedMatrix.from_table(Table.read(path))


def _texts(names: Sequence[object] | pd.Index) -> list[str]:
    return ["" if name is None or name != name else str(name).strip() for name in names]


def _read_parquet(path: str | os.PathLike[str]) -> NamedMatrix:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "tables") from None
    try:
        frame = pyarrow.parquet.read_table(path).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"is no Parquet file that can be read ({error})", path=path) from None
    return NamedMatrix.from_frame(frame, os.fspath(path))


def _read_h5ad(path: str | os.PathLike[str]) -> NamedMatrix:
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
    return NamedMatrix(os.fspath(path), rows, columns, dense.astype(np.float64))


# -- BED and GTF -----------------------------------------------------------------------------------

_POSITIONS = ("start", "end")
_TOP_LINES = (b"#", b"track", b"browser")
# What int() takes and files mean, within 64 bits.
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)


def read_columns(
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    places: tuple[int, ...],
    *,
    what: str,
    select: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Read some columns of a headerless tab-separated file, indexed by line counted from 1.

    `places` are counted from 0 and ascend; ``start`` and ``end`` are whole numbers, the others
    texts (categories, or plain objects with `select`). Leading ``#``, ``track`` and ``browser``
    lines, and ``#`` and blank lines anywhere, are skipped. `what` names the format in messages.
    `select` keeps only lines where the named column has this value; others are not checked.
    """
    data = read_text(path)
    header, start = _count_top_lines(data)
    data = data[start:]
    if not data.strip():
        return pd.DataFrame({name: [] for name in names})
    texts = [name for name in names if name not in _POSITIONS]
    numbers = [name for name in names if name in _POSITIONS]
    kind = object if select else "category"
    try:
        # The fast path; whatever it stumbles over is looked at again, line by line, below. What a
        # number is, it must find out itself: told to expect one, it takes True and 1e3 for one.
        table = pd.read_csv(
            io.BytesIO(data),
            sep="\t",
            header=None,
            usecols=list(places),
            names=list(names),
            dtype=dict.fromkeys(texts, kind),
            quoting=csv.QUOTE_NONE,
            skip_blank_lines=False,
            na_filter=False,
            engine="c",
            low_memory=False,
            float_precision="round_trip",  # the others crash on 1e3999999999
        )
        table.index += header + 1
        if select:
            # Other lines may hold anything there, which makes texts of all the numbers.
            table = table[table[select[0]] == select[1]]
            table = table.assign(**{name: _whole(table[name]) for name in numbers})
        found = {name: set(table[name].unique()) for name in texts}
        if (
            all(table[name].dtype == np.int64 for name in numbers)
            and all(type(text) is str and text for cells in found.values() for text in cells)
            and not any(name.startswith("#") for name in found[names[0]])
        ):
            return table
    except (ValueError, OverflowError):
        pass
    rows = dict(_lines_carefully(data, header, path, names, places, what, select))
    table = pd.DataFrame(list(rows.values()), columns=list(names), index=list(rows))
    return table.astype({**dict.fromkeys(texts, kind), **dict.fromkeys(numbers, np.int64)})


def _count_top_lines(data: bytes) -> tuple[int, int]:
    """Count the lines and bytes before the first line of data."""
    lines = position = 0
    for line in io.BytesIO(data):
        if line.strip() and not line.strip().startswith(_TOP_LINES):
            break
        lines, position = lines + 1, position + len(line)
    return lines, position


def _whole(column: pd.Series[Any]) -> pd.Series[Any]:
    """Turn texts into whole numbers if all of them are plain ones, which pandas does not check."""
    texts = column.tolist()
    plain = all(type(text) is str and 0 < len(text) < 19 for text in texts)
    if plain and set("".join(texts)) <= set("0123456789"):
        return column.astype(np.int64)
    return column


def _lines_carefully(
    data: bytes,
    header: int,
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    places: tuple[int, ...],
    what: str,
    select: tuple[str, str] | None,
) -> Iterator[tuple[int, list[str | int]]]:
    """Yield number and cells of each line: slowly, but knowing where it is."""
    for number, line in enumerate(data.splitlines(), header + 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            cells = line.decode("utf-8").split("\t")
        except UnicodeDecodeError:
            raise InputError(f"is not {what} text in UTF-8", path=path, line=number) from None
        if len(cells) <= places[-1]:
            raise InputError(
                f"expected {what} with at least {places[-1] + 1} tab-separated columns, "
                f"found {len(cells)}",
                path=path,
                line=number,
                remedy="Columns are separated by tabs, not spaces." if b" " in line else None,
            )
        row: dict[str, str | int] = {n: cells[i] for n, i in zip(names, places, strict=True)}
        if select and row[select[0]] != select[1]:
            continue
        for name in _POSITIONS:
            if name in row and not _WHOLE_NUMBER.fullmatch(str(row[name])):
                text = f"{name} is not a whole number: {str(row[name])[:40]!r}"
                raise InputError(text, path=path, line=number)
            if name in row:
                row[name] = int(row[name])
        yield number, list(row.values())
