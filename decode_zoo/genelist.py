"""Lists of genes as users bring them: the first column of a text file, packed or not, or stdin."""

from __future__ import annotations

import os

from decode_zoo.display import printable
from decode_zoo.files import open_input
from decode_zoo.reader import Source, Table, is_gene_column

__all__ = ["GeneList", "read_gene_list"]

_MAX_LINE = 1_000_000
# Enough to see that a line is a list of genes.
_MAX_BESIDE = 50
# A table of a hundred comparisons of all genes has that many rows.
_MAX_LINES = 6_000_000


class GeneList(list[str]):
    """Genes of a list.

    `beside` has the first cells beside the first gene, if the list has no header to say what they
    are.
    """

    beside: tuple[str, ...] = ()


def read_gene_list(source: Source) -> GeneList:
    """Read the first column of a gene table, one entry a row, duplicates kept.

    The first line is a header only if its first cell is a well-known column name, or empty: a gene
    (such as IDS) is never taken for one. A row with an empty first cell but other content is kept
    as ''. What no terminal should obey, such as a tab in a quoted cell, is written out as an escape
    sequence. The source is a path, '-' for standard input, or an open stream, which is left open.
    """
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != "-":
        with open_input(source, pipe=True) as stream:
            if not stream.seekable():  # <(command) of a shell
                return read_gene_list(stream)
    table = Table.read(source, header=lambda cell: not cell or is_gene_column(cell))
    if len(table.rows) > _MAX_LINES:
        raise table.fault(
            f"has more than {_MAX_LINES:,} lines.", table.lines[_MAX_LINES], "Give each gene once."
        )
    for line, row in zip(table.lines, table.rows, strict=True):
        if len(row) > _MAX_LINE:
            raise table.fault(
                f"the line is longer than {_MAX_LINE:,} bytes.",
                line,
                "Give one gene a line; keep only the first columns (cut -f1).",
            )
    # Concatenated files carry byte order marks in the middle.
    genes = GeneList(_unquoted(cell.lstrip("\ufeff").strip()) for cell in table.first_cells())
    if not genes:
        raise table.fault(
            "no genes in it.",
            remedy="Give one gene a line: Ensembl ids or symbols in the first column.",
        )
    if not table.header:
        # Nothing of it is needed, so nothing can be wrong with it.
        beside = table.rows[0].split(table.separator, _MAX_BESIDE + 1)[1 : _MAX_BESIDE + 1]
        genes.beside = tuple(cell.decode(errors="replace").strip(" \"'") for cell in beside)
    return genes


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'":
        cell = cell[1:-1].strip()
    return printable(cell)
