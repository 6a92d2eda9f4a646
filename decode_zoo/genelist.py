"""Lists of genes as users bring them: the first column of a text file, gzip or stdin."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

from decode_zoo.display import printable
from decode_zoo.errors import InputError
from decode_zoo.files import MAX_BYTES, check_expansion, open_input, unpack

__all__ = ["GeneList", "is_gene_column", "read_gene_list"]

_MAX_LINE = 1_000_000
# Enough to see that a line is a list of genes.
_MAX_BESIDE = 50
# A table of a hundred comparisons of all genes has that many rows.
_MAX_LINES = 6_000_000
_HEADERS = frozenset(
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
_NOT_TEXT = (
    "Save it as UTF-8 text, one gene a line (from a spreadsheet: export as tab-separated UTF-8)."
)


class GeneList(list[str]):
    """Genes of a list.

    Attributes
    ----------
    beside : tuple of str
        The first cells beside the first gene, if the list has no header to say what they are.
    """

    beside: tuple[str, ...] = ()


def read_gene_list(source: str | os.PathLike[str] | TextIO | BinaryIO) -> GeneList:
    """Read the first column of a gene table.

    Columns are separated by tabs; by commas if the first line (header or gene) has no tab but a
    comma, or the file is named `.csv` or `.csv.gz`. Gzip is recognised by its content. Lines at
    the top that start with '#' are comments, or the header if a well-known column name follows
    (`#gene_id`). The first other line is a header only if its first cell is such a name, or
    empty: a gene (such as IDS) is never taken for a header. Blank lines are skipped; a row with an
    empty first cell but other content is kept as ''. What no terminal should obey, such as a tab in
    a quoted cell, is written out as an escape sequence.

    Parameters
    ----------
    source : str, os.PathLike or file object
        A path, '-' for standard input, or an open text or binary stream, which is
        read to its end and left open.

    Returns
    -------
    GeneList
        One entry a row, in file order, duplicates kept.

    Raises
    ------
    InputError
        If there is no such file, it is no UTF-8 text, its gzip data are damaged, a
        line is longer than 1 MB, it names no genes, or it has more than six
        million lines.
    """
    name, display = _names(source)
    csv = name.lower().endswith((".csv", ".csv.gz"))
    genes = GeneList()
    separator = ""  # not known yet
    top, headed = True, False
    with _opened(source, display) as stream:
        for number, line in _lines(stream, display):
            if number > _MAX_LINES:
                raise InputError(
                    f"has more than {_MAX_LINES:,} lines.",
                    path=display,
                    line=number,
                    remedy="Give each gene once.",
                )
            guess = separator or ("," if b"\t" not in line and (csv or b"," in line) else "\t")
            cell = _first_cell(line, guess, display, number)
            if cell is None:
                continue
            if top and cell.startswith("#"):
                # '# genes of the screen' is prose, '#gene_id' the header.
                if not headed and is_gene_column(cell[1:]) and not cell[1:2].isspace():
                    separator, headed = guess, True
                continue
            separator = guess
            if not top or headed or not (cell == "" or is_gene_column(cell)):
                if top and not headed:
                    genes.beside = _other_cells(line, separator)
                genes.append(cell)
            top = False
    if not genes:
        raise InputError(
            "no genes in it.",
            path=display,
            remedy="Give one gene a line: Ensembl ids or symbols in the first column.",
        )
    return genes


def _names(source: str | os.PathLike[str] | TextIO | BinaryIO) -> tuple[str, str]:
    """Return the file name (for its suffix) and what error messages call it."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        return (name, name) if name != "-" else ("", "standard input")
    label = getattr(source, "name", None)
    return (label, label) if isinstance(label, str) else ("", "the gene list")


@contextmanager
def _opened(source: str | os.PathLike[str] | TextIO | BinaryIO, display: str) -> Iterator[BinaryIO]:
    """Open `source` as plain bytes, decompressed if need be."""
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != "-":
        with open_input(source, pipe=True) as file:
            if file.seekable():
                yield unpack(file, display)
            else:
                yield _held(file, display)
    elif not isinstance(source, (str, os.PathLike)):
        yield _held(source, display)
    elif sys.stdin is None:  # closed by the caller (<&-)
        raise InputError("is closed.", path=display, remedy="Name a file of genes.")
    else:
        yield _held(sys.stdin.buffer, display)


def _held(handle: TextIO | BinaryIO, display: str) -> BinaryIO:
    """Read a stream to its end.

    So that a wrapper of ours never buffers ahead in, or closes, a stream that belongs to the
    caller.
    """
    try:
        data = handle.read(MAX_BYTES + 1)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text.", path=display, remedy=_NOT_TEXT) from error
    check_expansion(len(data), len(data), display)
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return unpack(io.BufferedReader(io.BytesIO(data)), display)  # type: ignore[arg-type,unused-ignore]


def _lines(stream: BinaryIO, display: str) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines without their ends (LF, CRLF or CR)."""
    number = 0
    while True:
        try:
            block = stream.readline(_MAX_LINE + 1)
        except OSError as error:
            raise InputError(
                f"cannot be read: {error.strerror}.",
                path=display,
                line=number + 1,
                remedy="Check the path; '-' reads genes from standard input.",
            ) from error
        if not block:
            return
        if number == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError("is UTF-16 text, not UTF-8.", path=display, line=1, remedy=_NOT_TEXT)
        if len(block) > _MAX_LINE:
            raise InputError(
                f"the line is longer than {_MAX_LINE:,} bytes.",
                path=display,
                line=number + 1,
                remedy="Give one gene a line; keep only the first columns (cut -f1).",
            )
        for line in block.splitlines():
            number += 1
            if b"\0" in line:
                raise InputError(
                    "has NUL bytes: a spreadsheet, UTF-16 or another binary format.",
                    path=display,
                    line=number,
                    remedy=_NOT_TEXT,
                )
            yield number, line


def _first_cell(line: bytes, separator: str, display: str, number: int) -> str | None:
    """Return the first cell without quotes and white space, None for a blank line."""
    # Only the first cell is decoded: the other columns are ignored, whatever they hold.
    cell, _, rest = line.partition(separator.encode())
    opening = cell.lstrip(b"\xef\xbb\xbf ").startswith(b'"')
    if separator == "," and opening and cell.count(b'"') == 1:
        # A separator inside a quoted cell; cutting there would drop half of it.
        quoted, closed, tail = rest.partition(b'"')
        if closed:
            cell, rest = cell + separator.encode() + quoted + closed, tail
    try:
        text = cell.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8 text.",
            path=display,
            line=number,
            remedy=_NOT_TEXT,
        ) from error
    # Concatenated files carry byte order marks in the middle.
    text = text.lstrip("\ufeff").strip()
    if not text and not rest.strip(separator.encode() + b" \t\r\v\f"):
        return None
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return printable(text)


def _other_cells(line: bytes, separator: str) -> tuple[str, ...]:
    """Return what else is on a line; nothing of it is needed, so nothing can be wrong with it."""
    cells = line.split(separator.encode(), _MAX_BESIDE + 1)[1 : _MAX_BESIDE + 1]
    return tuple(cell.decode(errors="replace").strip(" \"'") for cell in cells)


def is_gene_column(cell: str) -> bool:
    """Tell whether a cell is a well-known column name."""
    if cell == "IDS":  # iduronate 2-sulfatase: the one symbol that reads as a column name
        return False
    return "".join(filter(str.isalnum, cell.lower())) in _HEADERS
