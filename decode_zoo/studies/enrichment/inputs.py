"""What a study starts from: mean absolute scores of regulators, and lists of genes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.genes import GeneIndex
from decode_zoo.model import Model
from decode_zoo.reader import Table, number_in

__all__ = [
    "ListedGenes",
    "choose_outputs",
    "keys_of",
    "mean_scores",
    "read_listed_above",
    "read_scores",
    "unknown_of",
]

IntArray = npt.NDArray[np.int64]

_COLUMNS = ("output", "class", "regulator", "mean_abs", "n_genes")
_REMEDY = "Make it with: decode-zoo explain --summary -o scores.tsv"


def mean_scores(
    model: Model,
    rows: IntArray,
    outputs: Sequence[str] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> pd.DataFrame:
    """Average absolute scores over genes, as ``decode-zoo explain --summary`` does.

    Genes are rows of the model's own feature set; outputs as for `choose_outputs`.
    """
    explainer = model.explainer(
        by="regulator", outputs=choose_outputs(model, model.outputs, outputs)
    )
    total = explainer.summarise(rows, progress)
    return total.to_frame(explainer.resolution, explainer.outputs)


def choose_outputs(
    model: Model, scored: Iterable[str], outputs: Sequence[str] | None = None
) -> list[str]:
    """Choose the outputs that importance is averaged over, of those that there are scores of.

    If none are named, the fold changes, or all if none is one. Raises UsageError if an output is
    unknown, named twice, or not scored.
    """
    there = set(scored)
    if outputs is not None:
        named = [model.outputs[i] for i in model.numbers_of(outputs)]
        if lacking := [name for name in named if name not in there]:
            raise UsageError(f"There are no scores of the output {lacking[0]!r}.")
        return named
    found = [item for item in model.manifest.outputs if item.name in there]
    return [item.name for item in found if item.kind == "fold_change"] or [
        item.name for item in found
    ]


def read_scores(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read ``output``, ``class``, ``regulator``, ``mean_abs`` and ``n_genes`` from a table (TSV).

    It is what ``decode-zoo explain --summary`` wrote, plain or gzip: by regulator, with the same
    regulators for every output, each once. The file is ``attrs["path"]``.
    """
    found = Table.read(path)

    def fault(message: str, line: int | None = None) -> InputError:
        return found.fault(message, line, _REMEDY)

    if "track" in found.header:
        raise fault("holds scores by track, not by regulator", 1)
    if any(found.header.count(name) != 1 for name in _COLUMNS):
        raise fault(f"is no summary of scores, with the columns {', '.join(_COLUMNS)}", 1)
    found.check_width(_REMEDY)
    table = pd.DataFrame([cells for _, cells in found.cells()], columns=found.header)
    table = table[list(_COLUMNS)]
    if table.empty:
        raise fault("holds no scores")
    for name in ("mean_abs", "n_genes"):
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        if (bad := np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))).size:
            cell = table[name].iloc[bad[0]][:40]
            raise fault(f"{name} must be a number, 0 or above, not {cell!r}", found.lines[bad[0]])
        table[name] = numbers
    twice = table.duplicated(["output", "class", "regulator"]).to_numpy()
    if (bad := np.flatnonzero(twice)).size:
        output, _, regulator, *_ = table.iloc[bad[0]]
        raise fault(f"{regulator[:60]!r} is there twice for {output[:60]!r}", found.lines[bad[0]])
    groups = table.groupby(["class", "regulator"])["n_genes"]
    uneven = (groups.size() < table["output"].nunique()) | (groups.nunique() > 1)
    if uneven.any():
        name = str(uneven.index[uneven.to_numpy()][0][1])[:60]
        raise fault(f"{name!r} does not have each output, and the same n_genes for all of them")
    table.attrs["path"] = os.fspath(path)
    return table


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
