"""Lists of genes to compare regulators with, and which genes their names mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decode_zoo.genes import GeneIndex
from decode_zoo.reader import Table, number_in

__all__ = ["ListedGenes", "keys_of", "read_listed_above", "unknown_of"]


@dataclass(frozen=True)
class ListedGenes:
    """A list of genes (ids, symbols or aliases), and those that could have been on it, if known."""

    name: str
    genes: tuple[str, ...]
    among: tuple[str, ...] | None = None


def read_listed_above(path: str | os.PathLike[str], column: str, above: float) -> ListedGenes:
    """Read the genes, in the first column of a table, whose number in a column is above a limit.

    Genes without a number there are neither on the list nor compared with it.
    """
    table = Table.read(path)
    if column not in table.header[1:]:
        raise table.fault(
            f"has no column {column!r} beside the first, which has the genes",
            table.line,
            f"Its columns are: {', '.join(table.header)[:200]}",
        )
    place = table.header.index(column, 1)
    listed, among = [], []
    for line, cells in table.cells():
        if not cells[0]:
            continue
        cell = cells[place] if place < len(cells) else ""
        number = number_in(cell)
        if number is None:
            raise table.fault(
                f"{cell[:40]!r} in column {column!r} is no number",
                line,
                "Leave a cell empty where a gene has none.",
            )
        if number != number:
            continue
        among.append(cells[0])
        if number > above:
            listed.append(cells[0])
    if not listed:
        raise table.fault(f"no gene has a {column} above {above:g}")
    name = f"{Path(path).name.partition('.')[0]}: {column} > {above:g}"
    return ListedGenes(name, tuple(listed), tuple(among))


def keys_of(names: Sequence[str], index: GeneIndex) -> list[str | None]:
    """Return what tells each gene apart: its id; the symbol itself, if several genes bear it.

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
