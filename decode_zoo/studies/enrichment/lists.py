"""Lists of genes to compare regulators with, and which genes their names mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decode_zoo.errors import InputError
from decode_zoo.genes import GeneIndex
from decode_zoo.textfile import read_table

__all__ = ["ListedGenes", "keys_of", "read_listed_above", "unknown_of"]

_MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "."})


@dataclass(frozen=True)
class ListedGenes:
    """A list of genes.

    Attributes
    ----------
    name : str
    genes : tuple of str
        Ids, symbols or aliases.
    among : tuple of str, optional
        The genes that could have been on it; any if not given.
    """

    name: str
    genes: tuple[str, ...]
    among: tuple[str, ...] | None = None


def read_listed_above(path: str | os.PathLike[str], column: str, above: float) -> ListedGenes:
    """Read the genes of a table whose number in a column is above a limit.

    Parameters
    ----------
    path : path-like
        Tab-separated text, plain or gzip, with a header; genes in the first column.
    column : str
        Genes without a number in it are neither on the list nor compared with it.
    above : float

    Returns
    -------
    ListedGenes

    Raises
    ------
    InputError
        If it has no such column, a cell is no number, or no gene is above.
    """
    cells = read_table(path)
    header = [name.strip() for name in cells[0]] if cells else []
    if column not in header[1:]:
        raise InputError(
            f"has no column {column!r} beside the first, which has the genes",
            path=path,
            line=1,
            remedy=f"Its columns are: {', '.join(header)[:200]}",
        )
    place, listed, among = header.index(column, 1), [], []
    for line, row in enumerate(cells[1:], 2):
        gene, cell = row[0].strip(), row[place].strip() if place < len(row) else ""
        if not gene or cell.lower() in _MISSING:
            continue
        try:
            number = float(cell)
        except ValueError:
            raise InputError(
                f"{cell[:40]!r} in column {column!r} is no number",
                path=path,
                line=line,
                remedy="Leave a cell empty where a gene has none.",
            ) from None
        among.append(gene)
        if number > above:
            listed.append(gene)
    if not listed:
        raise InputError(f"no gene has a {column} above {above:g}", path=path)
    name = f"{Path(path).name.partition('.')[0]}: {column} > {above:g}"
    return ListedGenes(name, tuple(listed), tuple(among))


def keys_of(names: Sequence[str], index: GeneIndex) -> list[str | None]:
    """Find what tells each gene apart: its id; the symbol itself, if several genes bear it.

    Parameters
    ----------
    names : sequence of str
        Ids, symbols or aliases.
    index : GeneIndex

    Returns
    -------
    list of str or None
        None for a name that is unknown.
    """
    found = index.resolve([name.strip() for name in names])
    known = zip(found.gene_ids, found.status, strict=True)
    return [None if status == "unknown_gene" else gene for gene, status in known]


def unknown_of(names: Sequence[str], index: GeneIndex) -> dict[str, Any]:
    """Count names of genes, and those that are unknown, and give some of these."""
    distinct = list(dict.fromkeys(name.strip() for name in names))
    keys = keys_of(distinct, index)
    unknown = [name for name, key in zip(distinct, keys, strict=True) if key is None]
    return {"names": len(distinct), "unknown": len(unknown), "such_as": unknown[:5]}
