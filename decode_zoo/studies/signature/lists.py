"""Signatures as users bring them: a list of genes, a table of differential expression, or a GMT."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.errors import InputError, UsageError
from decode_zoo.genelist import is_gene_column, read_gene_list
from decode_zoo.genesets import read_gmt
from decode_zoo.textfile import read_text

__all__ = ["Direction", "Signature", "read_signature", "read_signatures"]

FloatArray = npt.NDArray[np.float64]
Direction = Literal["both", "up", "down"]

_log = logging.getLogger(__name__)

# Of a table, genes below this false discovery rate are the signature, the best at most: the
# reference signatures have 240 to 600 genes.
FDR = 0.05
MOST = 600
_MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "."})

# What DESeq2, edgeR, limma, GEO2R, Seurat, scanpy, sleuth, Cuffdiff and people call such columns,
# letters and digits only.
_CHANGES = frozenset(
    {"lfc", "logfc", "log2fc", "log2foldchange", "log2foldchanges", "logfoldchange"}
    | {"logfoldchanges", "avglogfc", "avglog2fc", "log2ratio"}
)
_P_VALUES = frozenset(
    {"p", "pval", "pvals", "pvalue", "pvalues", "q", "qval", "qvalue", "fdr", "padj", "padjusted"}
    | {"adjp", "adjpval", "adjpvalue", "adjustedp", "adjustedpvalue", "pvaladj", "pvalsadj"}
    | {"pvalueadj", "fdrp", "fdrpvalue", "bh"}
)
# -0,35 and 12% are numbers, too: of a table that has to be written otherwise.
_LIKE_A_NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+(e[+-]?[0-9]+)? *%?", re.IGNORECASE)


@dataclass(frozen=True)
class Signature:
    """A set of genes that something changed.

    Attributes
    ----------
    name : str
    genes : tuple of str
        Ids, symbols or aliases.
    measured : tuple of str, optional
        All genes of the table that it comes from.
    changes : tuple of float, optional
        log2 fold change of each measured gene.
    """

    name: str
    genes: tuple[str, ...]
    measured: tuple[str, ...] | None = None
    changes: tuple[float, ...] | None = None


def read_signatures(path: str | os.PathLike[str]) -> list[Signature]:
    """Read the signatures of a GMT file, in its order.

    Raises
    ------
    InputError
        As `genesets.read_gmt` does.
    """
    return [Signature(found.name, found.genes) for found in read_gmt(path)]


def read_signature(path: str | os.PathLike[str], direction: Direction = "both") -> Signature:
    """Read a list of genes, or a table of a gene, its log2 fold change and, if it has one, its p.

    Columns are separated by tabs, or commas if the first line has no tab. It is a table if the
    header names a log2 fold change or a p-value, or the second or third column holds numbers; then
    the header must name a gene, a log2 fold change and a p-value, in this order. The signature of a
    table is the genes with a false discovery rate below 0.05, or without p those that change most,
    a tenth; 600 at most.

    Parameters
    ----------
    path : path-like
        Plain or gzip; '-' is standard input, which must be a list.
    direction : {"both", "up", "down"}
        Which changes of a table to take.

    Raises
    ------
    InputError
        If it cannot be read, the columns of a table are not named or others, a cell is no number,
        or no gene changes.
    UsageError
        If a direction is asked of a list.
    """
    if direction not in get_args(Direction):
        raise UsageError(
            f"There is no direction {direction!r}.", remedy="Choose among both, up and down."
        )
    name = "signature" if os.fspath(path) == "-" else Path(path).name.partition(".")[0]
    cells = [] if os.fspath(path) == "-" else _cells(path)
    if not _is_table(cells):
        if direction != "both":
            raise UsageError(
                f"{path} is a list of genes: it does not say which go {direction}.",
                remedy="Give a table: gene, log2 fold change, p.",
            )
        return Signature(name, tuple(dict.fromkeys(read_gene_list(path))))
    _check_header(path, cells)
    return _from_table(name, path, cells[1:], direction)


def _is_table(cells: Sequence[tuple[int, list[str]]]) -> bool:
    """Tell a table of differential expression from a list of genes with notes beside them."""
    if cells and any(_is_named(name, _CHANGES | _P_VALUES) for name in cells[0][1][1:]):
        return True
    beside = (cell for _, row in cells for cell in row[1:3] if cell.lower() not in _MISSING)
    return any(_LIKE_A_NUMBER.fullmatch(cell) for cell in islice(beside, 40))


def _is_named(cell: str, names: Collection[str]) -> bool:
    return "".join(filter(str.isalnum, cell.lower())) in names


def _check_header(path: str | os.PathLike[str], cells: Sequence[tuple[int, list[str]]]) -> None:
    """Refuse a table whose columns are not named, or not a gene, its change and p in this order."""
    (line, header), *body = cells
    if any(_LIKE_A_NUMBER.fullmatch(cell) for cell in header[1:3]):
        raise InputError(
            "is a table without a header, so that what its columns are is not known",
            path=path,
            line=line,
            remedy="Add a first line that names them, in this order: gene, log2FoldChange, pvalue. "
            "Of a list of genes, give the genes alone.",
        )
    if body and len(header) == len(body[0][1]) - 1:  # as R's write.table leaves out row names
        header = ["", *header]
    change = next((name for name in header if _is_named(name, _CHANGES)), None)
    p = next((name for name in header if _is_named(name, _P_VALUES)), None)
    remedy = (
        "The first columns must be genes, log2 fold changes and (unless there are none) p-values, "
        "under names such as gene, log2FoldChange and pvalue."
        if change is None
        else f"Put the columns of genes, {change!r} and {p!r} first, in this order."
        if p is not None
        else f"Put the columns of genes and {change!r} first, and leave out the others."
    )
    wanted: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("gene", lambda name: not name or is_gene_column(name)),
        ("log2 fold change", lambda name: _is_named(name, _CHANGES)),
        ("p-value", lambda name: _is_named(name, _P_VALUES)),
    )
    for place, (name, (what, fits)) in enumerate(zip(header, wanted, strict=False), 1):
        if not fits(name):
            raise InputError(
                f"column {place} is {name[:40]!r}, which names no {what}",
                path=path,
                line=line,
                remedy=remedy,
            )
    if len(header) < 2:
        raise InputError("names one column only", path=path, line=line, remedy=remedy)


def _cells(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    """Numbered lines of a table that are not blank or comments, cut at tabs or commas."""
    try:
        text = read_text(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", path=path) from None
    lines = [
        (n, line)
        for n, line in enumerate(text.split("\n"), 1)
        if line.strip() and not line.startswith("#")
    ]
    cut = "\t" if lines and "\t" in lines[0][1] else ","
    return [(n, [cell.strip().strip('"') for cell in line.split(cut)]) for n, line in lines]


def _number(row: Sequence[str], column: int) -> float | None:
    """Read a number; NaN for one that is missing, None for a text."""
    cell = row[column] if column < len(row) else ""
    if cell.lower() in _MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _column(
    path: str | os.PathLike[str], rows: Sequence[tuple[int, list[str]]], column: int, what: str
) -> FloatArray:
    values = [_number(row, column) for _, row in rows]
    for (line, row), value in zip(rows, values, strict=True):
        if value is None or math.isinf(value):
            raise InputError(
                f"{row[column][:40]!r} in column {column + 1} is no {what}",
                path=path,
                line=line,
                remedy="Columns are: gene, log2 fold change, p (optional).",
            )
    return np.array(values, np.float64)


def _from_table(
    name: str,
    path: str | os.PathLike[str],
    rows: Sequence[tuple[int, list[str]]],
    direction: Direction,
) -> Signature:
    rows = [(line, row) for line, row in rows if row[0]]
    change = _column(path, rows, 1, "log2 fold change")
    if len(change) and np.isfinite(change).any() and not ((change < 0) | (change > 1)).any():
        raise InputError(
            "all numbers in column 2 are between 0 and 1, as p-values are and log2 fold changes "
            "are not",
            path=path,
            line=rows[0][0],
            remedy="Columns are: gene, log2 fold change, p (optional).",
        )
    p = _column(path, rows, 2, "p") if any(len(row) > 2 for _, row in rows) else None
    if p is not None and ((p < 0) | (p > 1)).any():
        place = int(np.flatnonzero((p < 0) | (p > 1))[0])
        raise InputError(
            f"p = {p[place]:g} is not between 0 and 1",
            path=path,
            line=rows[place][0],
            remedy="Columns are: gene, log2 fold change, p (optional).",
        )
    known = ~np.isnan(change) if p is None else ~np.isnan(change) & ~np.isnan(p)
    rows = [row for row, keep in zip(rows, known, strict=True) if keep]
    change = change[known]
    lost = int((~known).sum())
    if lost:
        _log.warning("%s: %d genes without values are left out", path, lost)
    wanted = {"both": change != 0, "up": change > 0, "down": change < 0}[direction]
    if p is None:
        allowed, most = wanted, min(MOST, len(rows) // 10)
        order = np.argsort(-np.abs(change), kind="stable")
    else:
        p = p[known]
        allowed, most = wanted & (stats.false_discovery_control(p) < FDR), MOST
        order = np.lexsort((-np.abs(change), p))
    chosen = [int(i) for i in order if allowed[i]][:most]
    if not chosen:
        raise InputError(
            f"of {len(rows)} genes none changes at a false discovery rate below {FDR:g}"
            if p is not None
            else f"of {len(rows)} genes, none is among a tenth that changes most",
            path=path,
            remedy="Give a list of the genes that you mean.",
        )
    genes = [row[0] for _, row in rows]
    return Signature(
        name, tuple(dict.fromkeys(genes[i] for i in chosen)), tuple(genes), tuple(change.tolist())
    )
