"""Signatures as users bring them: a list of genes, a table of differential expression, or a GMT."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.errors import InputError, UsageError
from decode_zoo.genelist import read_gene_list
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

    Columns are separated by tabs, or commas if the first line has no tab; a header is skipped. It
    is a table if the second column holds numbers. The signature of a table is the genes with a
    false discovery rate below 0.05, or without p those that change most, a tenth; 600 at most.

    Parameters
    ----------
    path : path-like
        Plain or gzip; '-' is standard input, which must be a list.
    direction : {"both", "up", "down"}
        Which changes of a table to take.

    Raises
    ------
    InputError
        If it cannot be read, a cell is no number, or no gene changes.
    UsageError
        If a direction is asked of a list.
    """
    if direction not in get_args(Direction):
        raise UsageError(
            f"There is no direction {direction!r}.", remedy="Choose among both, up and down."
        )
    name = "signature" if os.fspath(path) == "-" else Path(path).name.partition(".")[0]
    cells = [] if os.fspath(path) == "-" else _cells(path)
    body = cells[1:] if len(cells) > 1 and _number(cells[0][1], 1) is None else cells
    if not any(len(row) > 2 and _number(row, 2) is not None for _, row in body[:20]) and not any(
        len(row) > 1 and _number(row, 1) is not None for _, row in body[:20]
    ):
        if direction != "both":
            raise UsageError(
                f"{path} is a list of genes: it does not say which go {direction}.",
                remedy="Give a table: gene, log2 fold change, p.",
            )
        return Signature(name, tuple(dict.fromkeys(read_gene_list(path))))
    return _from_table(name, path, body, direction)


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
