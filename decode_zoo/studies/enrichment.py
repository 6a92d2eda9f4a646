"""The study: gene sets and lists of genes against the regulators that a model uses most.

Regulators are ranked by importance, their mean absolute DeepLIFT score over genes. One that binds
many genes, or has many tracks, is important for that alone, so that each comparison along the
ranking is also made at equal sites.

Source: Tasaki et al. 2020, Methods, on the enrichment of gene sets among regulators, and Fig. 3f.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import plain
from decode_zoo.core.reader import Table, number_in
from decode_zoo.features.genes import GeneIndex
from decode_zoo.features.genesets import GeneSet
from decode_zoo.studies.regulator_ranking import (
    CLASSES,
    FEWEST,
    Ranking,
    Regulators,
    compare_lists,
    gsea,
    over_representation,
)
from decode_zoo.studies.result import StudyResult
from decode_zoo.zoo.model import Model

__all__ = [
    "EnrichmentStudy",
    "ListedGenes",
    "Scope",
    "choose_outputs",
    "keys_of",
    "mean_scores",
    "read_listed_above",
    "read_scores",
    "study_enrichment",
    "unknown_of",
]

_COLUMNS = ("output", "class", "regulator", "mean_abs", "n_genes")
_REMEDY = "Make it with: decode-zoo explain --summary -o scores.tsv"

_NOTES = (
    "Importance of a regulator is its mean absolute score over genes: for each output the "
    "logarithm, standardised over regulators, then averaged over outputs. A gene that is a "
    "regulator in several ways has the sum of its scores. Only genes that are regulators with "
    "sites in the genes explained are compared; they are the background of every test.",
    "A regulator that binds many genes, or was measured often, is important for that alone. "
    "'Given sites' means: after the ranks of importance were regressed on the numbers of genes "
    "bound and of tracks (logarithms and their squares), among TFs and RBPs together on the class "
    "too. What stays significant then is not explained by how much a regulator binds.",
    "AUROC is the probability that a regulator on the list is more important than one that is "
    "not, 0.5 by chance, with its 95% interval; p is of the two-sided Wilcoxon rank-sum test, "
    "p greater of the one-sided, p top of Fisher's exact test of the most important regulators. "
    "q is the false discovery rate (Benjamini and Hochberg) over lists, or over the gene sets of "
    "a file, among the same regulators.",
)


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


@dataclass(frozen=True)
class Scope:
    """What is compared, and how."""

    classes: tuple[str, ...] | None = None  # keys of CLASSES; all that there are regulators of
    top: int | None = None  # how many regulators count as the most important; a tenth
    min_size: int = 10  # of gene sets, in genes that are ranked
    max_size: int = 500
    permutations: int = 10_000  # random gene sets of each size
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError if this cannot be meant."""
        if self.classes is not None and (
            not self.classes
            or len(set(self.classes)) < len(self.classes)
            or not CLASSES.keys() >= set(self.classes)
        ):
            raise UsageError(
                f"Regulators cannot be ranked by {', '.join(self.classes)!r}.",
                remedy=f"Choose among {', '.join(CLASSES)}, each once.",
            )
        if self.top is not None and self.top < 1:
            raise UsageError(f"At least one regulator is at the top, not {self.top}.")
        if not 1 <= self.min_size <= self.max_size:
            raise UsageError(
                f"No gene set has {self.min_size} regulators or more, and {self.max_size} or fewer."
            )
        if self.permutations < 1:
            raise UsageError("There must be one permutation at least.")


@dataclass(frozen=True, repr=False)
class EnrichmentStudy:
    """What the regulators that a model uses most have in common.

    Tables are as the functions of `regulator_ranking` give them, with ``classes`` (and ``library``)
    in front. `members` has, for each ranking, list → rows that are on it, and all that could be.
    """

    rankings: tuple[Ranking, ...]
    members: tuple[Mapping[str, tuple[IntArray, IntArray]], ...]
    gsea: pd.DataFrame
    overrepresented: pd.DataFrame
    lists: pd.DataFrame
    numbers: dict[str, Any]

    def __repr__(self) -> str:
        """Return a line that says what this is."""
        ranked = ", ".join(f"{len(ranking)} {ranking.classes}" for ranking in self.rankings)
        return (
            f"EnrichmentStudy({ranked}; {len(self.gsea)} rows of gene sets, "
            f"{len(self.lists)} of lists)"
        )

    @property
    def importance(self) -> pd.DataFrame:
        """The rankings, one below the other, with ``classes`` and ``rank`` in front."""
        return _joined(
            [
                _labelled(ranking.table, classes=ranking.classes, rank=1 + np.arange(len(ranking)))
                for ranking in self.rankings
            ]
        )

    def result(self) -> StudyResult:
        """Put tables and words together, for a folder or a report."""
        tables = {"importance": ("Regulators by importance", self.importance)}
        if self.numbers["lists"]:
            tables["lists"] = ("Lists of genes", self.lists)
        if self.numbers["libraries"]:
            tables["gsea"] = ("Gene sets along the ranking (GSEA)", self.gsea)
            tables["overrepresented"] = (
                "Gene sets among the most important regulators",
                self.overrepresented,
            )
        return StudyResult(
            "enrich",
            "Regulators by importance: gene sets and lists",
            self._facts(),
            _NOTES,
            tables,
            self.numbers,
            self.summary(),
            {"study": self},
        )

    def summary(self) -> list[str]:
        """Return what was left out, what was compared, and what came of it."""
        left, lines = self.numbers["regulators"], []
        others = [f"{n} {kind}" for kind, n in left["of_other_classes"].items()]
        if unnamed := left["without_gene"]:
            others.append(f"{len(unnamed)} without a gene of that name ({', '.join(unnamed)})")
        if left["without_sites"]:
            others.append(f"{len(left['without_sites'])} without sites")
        if others:
            lines.append(f"left out of {left['scored']} regulators: {', '.join(others)}")
        for name, told in {**self.numbers["libraries"], **self.numbers["lists"]}.items():
            if told["unknown"]:
                lines.append(
                    f"{name}: {told['unknown']} of {told['names']} names are unknown genes, such "
                    f"as {', '.join(told['such_as'][:3])}"
                )
        for row in self.lists.to_dict("records"):
            compared = f"AUROC {row['auroc']:.3f} (q = {row['q']:.2g}), given sites "
            compared += f"{row['auroc_given_sites']:.3f} (q = {row['q_given_sites']:.2g})"
            if not (row["n"] and row["n_others"]):
                compared = "not compared"
            lines.append(f"{row['list']}, {row['n']} {row['classes']}: {compared}")
        if len(self.gsea):
            along, given = ((self.gsea[q] <= 0.05).sum() for q in ("q", "q_given_sites"))
            lines.append(
                f"gene sets of q ≤ 0.05: {along} of {len(self.gsea)} along the ranking, "
                f"{given} given sites"
            )
        return lines

    def _facts(self) -> dict[str, str]:
        ranked, libraries = self.numbers["rankings"], self.numbers["libraries"]
        facts = {
            "Model": self.numbers["provenance"].get("model", {}).get("id", "not said"),
            "Outputs": f"{len(self.numbers['outputs']):,}",
            "Regulators": ", ".join(f"{told['n']:,} {name}" for name, told in ranked.items()),
            "Ranks explained by sites": ", ".join(
                f"{told['explained_by_sites'] or 0:.0%} {name}" for name, told in ranked.items()
            ),
        }
        if libraries:
            found = Counter(self.gsea["classes"])
            facts["Gene sets"] = ", ".join(f"{found[name]:,} {name}" for name in ranked)
        if self.numbers["lists"]:
            facts["Lists"] = f"{len(self.numbers['lists']):,}"
        return facts


def study_enrichment(
    model: Model,
    scores: pd.DataFrame,
    *,
    libraries: Mapping[str, Sequence[GeneSet]] | None = None,
    lists: Sequence[ListedGenes] = (),
    outputs: Sequence[str] | None = None,
    scope: Scope | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> EnrichmentStudy:
    """Compare gene sets and lists of genes with the importance of a model's regulators.

    Scores are of `mean_scores` or `read_scores`, outputs as for `choose_outputs`. Each library of
    gene sets has false discovery rates of its own. Raises InputError if the scores are not of this
    model, or there are fewer than twenty regulators to rank.
    """
    scope, libraries = scope or Scope(), libraries or {}
    scope.check()
    if not libraries and not lists:
        raise UsageError(
            "There is nothing to compare regulators with.",
            remedy="Give gene sets, or lists of genes.",
        )
    for name, times in Counter(item.name for item in lists).items():
        if times > 1:
            raise UsageError(f"Two lists are named {name!r}.", remedy="Rename a file.")
    chosen = choose_outputs(model, scores["output"].unique(), outputs)
    regulators = Regulators.gather(model, scores, chosen)
    rankings = _rankings(regulators, scope)
    index = model.features.index

    members = tuple(
        {item.name: _on_list(ranking, item, index) for item in lists} for ranking in rankings
    )
    enriched, overrepresented = [], []
    for name, library in libraries.items():
        genes = _genes_of(library, index)
        for ranking in rankings:
            sets = _of_size(ranking, genes, scope)
            found = gsea(ranking, sets, permutations=scope.permutations, seed=scope.seed)
            labels = {"classes": ranking.classes, "library": name}
            enriched.append(_labelled(found, **labels))
            overrepresented.append(_labelled(over_representation(ranking, sets), **labels))
    compared = [
        _labelled(compare_lists(ranking, rows), classes=ranking.classes)
        for ranking, rows in zip(rankings, members, strict=True)
        if rows
    ]
    numbers = {
        "outputs": chosen,
        "regulators": regulators.told,
        "rankings": {ranking.classes: ranking.told() for ranking in rankings},
        "libraries": {
            name: {
                "sets": len(library),
                **unknown_of([gene for item in library for gene in item.genes], index),
            }
            for name, library in libraries.items()
        },
        "lists": {item.name: unknown_of(item.genes, index) for item in lists},
        "min_size": scope.min_size,
        "max_size": scope.max_size,
        "permutations": scope.permutations,
        "seed": scope.seed,
        "gseapy": importlib.metadata.version("gseapy") if any(map(len, enriched)) else None,
        "provenance": dict(provenance or {}),
    }
    return EnrichmentStudy(
        rankings,
        members,
        _joined(enriched),
        _joined(overrepresented),
        _joined(compared),
        plain(numbers),
    )


def _rankings(regulators: Regulators, scope: Scope) -> tuple[Ranking, ...]:
    """Rank the classes that were named, or all that can be ranked, none of them twice."""
    counts = {name: regulators.count(name) for name in CLASSES}
    both = min(counts["TF"], counts["RBP"]) > 0
    found = [name for name, n in counts.items() if n >= FEWEST and (both or name != "TF+RBP")]
    classes = scope.classes or tuple(found) or ("TF+RBP",)
    return tuple(regulators.rank(name, scope.top) for name in classes)


def _genes_of(library: Sequence[GeneSet], index: GeneIndex) -> dict[str, list[str | None]]:
    """Find the genes of sets; each name is looked up once."""
    names = list(dict.fromkeys(gene for item in library for gene in item.genes))
    key = dict(zip(names, keys_of(names, index), strict=True))
    return {item.name: [key[gene] for gene in item.genes] for item in library}


def _of_size(
    ranking: Ranking, genes: Mapping[str, Sequence[str | None]], scope: Scope
) -> dict[str, IntArray]:
    """Rows of the sets that are of the right size, and not all of the ranking."""
    most = min(scope.max_size, len(ranking) - 1)
    found = {name: ranking.rows(keys) for name, keys in genes.items()}
    return {name: rows for name, rows in found.items() if scope.min_size <= rows.size <= most}


def _on_list(ranking: Ranking, item: ListedGenes, index: GeneIndex) -> tuple[IntArray, IntArray]:
    """Rows that are on a list, and all that could be."""
    rows = ranking.rows(keys_of(item.genes, index))
    if item.among is None:
        return rows, np.arange(len(ranking), dtype=np.int64)
    return rows, np.union1d(rows, ranking.rows(keys_of(item.among, index)))


def _labelled(table: pd.DataFrame, **labels: object) -> pd.DataFrame:
    """Put columns in front."""
    return pd.concat([pd.DataFrame(labels, index=table.index, columns=list(labels)), table], axis=1)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables one below the other; empty ones, whose columns have no type, do not count."""
    parts = [table for table in tables if len(table)] or list(tables[:1])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
