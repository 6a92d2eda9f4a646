"""Signatures as users bring them: a list of genes, a table of differential expression, or a GMT."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.errors import UsageError
from decode_zoo.genes import read_gene_list
from decode_zoo.genesets import read_gmt
from decode_zoo.reader import MISSING, POINT, Table, is_gene_column, named, number_in, read_text

__all__ = ["Direction", "Signature", "read_signature", "read_signatures"]

FloatArray = npt.NDArray[np.float64]
Direction = Literal["both", "up", "down"]

_log = logging.getLogger(__name__)

# Of a table, genes below this false discovery rate are the signature, the best at most: the
# reference signatures have 240 to 600 genes.
FDR = 0.05
MOST = 600
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
    """A set of genes that something changed: ids, symbols or aliases.

    If it comes from a table: all genes of that, and the log2 fold change of each.
    """

    name: str
    genes: tuple[str, ...]
    measured: tuple[str, ...] | None = None
    changes: tuple[float, ...] | None = None


def read_signatures(path: str | os.PathLike[str]) -> list[Signature]:
    """Read the signatures of a GMT file, in its order."""
    return [Signature(found.name, found.genes) for found in read_gmt(path)]


def read_signature(path: str | os.PathLike[str], direction: Direction = "both") -> Signature:
    """Read a list of genes, or a table of a gene, its log2 fold change and, if it has one, its p.

    It is a table if the header names a log2 fold change or a p-value, or the second or third column
    holds numbers; then the header must name a gene, a log2 fold change and a p-value, in this
    order. The signature of a table is the genes with a false discovery rate below 0.05, or without
    p those that change most, a tenth; 600 at most. The path may be '-', standard input.
    """
    if direction not in get_args(Direction):
        raise UsageError(
            f"There is no direction {direction!r}.", remedy="Choose among both, up and down."
        )
    piped = os.fspath(path) == "-"
    name = "signature" if piped else Path(path).name.partition(".")[0]
    # Standard input is read once only, and looked at twice.
    source = io.BytesIO(read_text(path)) if piped else path
    table = Table.read(source)
    if _is_differential(table):
        _check_header(table)
        return _from_table(name, table, direction)
    if direction != "both":
        raise UsageError(
            f"{path} is a list of genes: it does not say which go {direction}.",
            remedy="Give a table: gene, log2 fold change, p.",
        )
    if isinstance(source, io.BytesIO):
        source.seek(0)
    return Signature(name, tuple(dict.fromkeys(read_gene_list(source))))


def _is_differential(table: Table) -> bool:
    """Tell a table of differential expression from a list of genes with notes beside them."""
    if any(named(name, _CHANGES | _P_VALUES) for name in table.header[1:]):
        return True
    rows = chain([table.header], (cells for _, cells in table.cells()))
    beside = (cell for row in rows for cell in row[1:3] if cell.lower() not in MISSING)
    return any(_LIKE_A_NUMBER.fullmatch(cell) for cell in islice(beside, 40))


def _check_header(table: Table) -> None:
    """Refuse columns that are not named, or not a gene, its change and p in this order."""
    header, line = table.header, table.line
    if any(_LIKE_A_NUMBER.fullmatch(cell) for cell in header[1:3]):
        raise table.fault(
            "is a table without a header, so that what its columns are is not known",
            line,
            "Add a first line that names them, in this order: gene, log2FoldChange, pvalue. "
            "Of a list of genes, give the genes alone.",
        )
    change = next((name for name in header if named(name, _CHANGES)), None)
    p = next((name for name in header if named(name, _P_VALUES)), None)
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
        ("log2 fold change", lambda name: named(name, _CHANGES)),
        ("p-value", lambda name: named(name, _P_VALUES)),
    )
    for place, (name, (what, fits)) in enumerate(zip(header, wanted, strict=False), 1):
        if not fits(name):
            raise table.fault(
                f"column {place} is {name[:40]!r}, which names no {what}", line, remedy
            )
    if len(header) < 2:
        raise table.fault("names one column only", line, remedy)


def _from_table(name: str, table: Table, direction: Direction) -> Signature:
    remedy = "Columns are: gene, log2 fold change, p (optional)."
    genes: list[str] = []
    values: list[tuple[float, float]] = []  # change and p; the latter is 0 where there is none
    with_p = len(table.header) > 2
    lines: list[int] = []
    for line, (gene, *cells) in table.cells():
        if not gene:
            continue
        numbers = []
        for place, what in enumerate(("log2 fold change", "p")[: 1 + with_p]):
            cell = cells[place] if place < len(cells) else ""
            number = number_in(cell)
            if number is None or np.isinf(number):
                comma = "," in cell and _LIKE_A_NUMBER.fullmatch(cell)
                raise table.fault(
                    f"{cell[:40]!r} in column {place + 2} is no {what}",
                    line,
                    POINT if comma else remedy,
                )
            if what == "p" and not (np.isnan(number) or 0 <= number <= 1):
                raise table.fault(f"p = {number:g} is not between 0 and 1", line, remedy)
            numbers.append(number)
        genes.append(gene)
        lines.append(line)
        values.append((numbers[0], numbers[1] if with_p else 0.0))
    change, p = np.array(values, np.float64).reshape(-1, 2).T
    if np.isfinite(change).any() and not ((change < 0) | (change > 1)).any():
        raise table.fault(
            "all numbers in column 2 are between 0 and 1, as p-values are and log2 fold changes "
            "are not",
            lines[0],
            remedy,
        )
    known = ~np.isnan(change) & ~np.isnan(p)
    if lost := int((~known).sum()):
        _log.warning("%s: %d genes without values are left out", table.path, lost)
    measured = [gene for gene, keep in zip(genes, known, strict=True) if keep]
    change, p = change[known], p[known]
    wanted = {"both": change != 0, "up": change > 0, "down": change < 0}[direction]
    if with_p:
        allowed, most = wanted & (stats.false_discovery_control(p) < FDR), MOST
    else:
        allowed, most = wanted, min(MOST, len(measured) // 10)
    order = np.lexsort((-np.abs(change), p))
    chosen = [measured[i] for i in order if allowed[i]][:most]
    if not chosen:
        raise table.fault(
            f"of {len(measured)} genes none changes at a false discovery rate below {FDR:g}"
            if with_p
            else f"of {len(measured)} genes, none is among a tenth that changes most",
            remedy="Give a list of the genes that you mean.",
        )
    return Signature(name, tuple(dict.fromkeys(chosen)), tuple(measured), tuple(change.tolist()))
