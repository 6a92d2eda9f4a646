"""Rankings: regulators by importance, and by what of it their sites do not account for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from decode_zoo.attribution.scores import MASK, Level
from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.networks.metrics import auroc, false_discovery
from decode_zoo.zoo.model import Model

__all__ = [
    "CLASSES",
    "FEWEST",
    "Ranking",
    "Regulators",
    "compare_lists",
    "gsea",
    "importance",
    "over_representation",
    "residual_ranks",
]

# What is ranked together. Other classes, such as miRNA families, are no genes.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "TF+RBP": ("TF", "RBP"),
    "TF": ("TF",),
    "RBP": ("RBP",),
}
# Fewer regulators make no ranking.
FEWEST = 20


def importance(scores: FloatArray) -> FloatArray:
    """Compute importance: log scores, standardised over regulators, averaged over outputs.

    Scores are mean absolute ones (n_regulators, n_outputs), above zero; an output's unit does not
    matter. Source: Tasaki et al. 2020, Methods, on the enrichment of gene sets among regulators.
    """
    logs = np.log(scores)
    centred = logs - logs.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray((centred / np.where(spread > 0, spread, 1)).mean(axis=1), np.float64)


def residual_ranks(values: FloatArray, covariates: FloatArray) -> FloatArray:
    """Rank values (n,), and take away what a linear model of covariates (n, m) explains of it."""
    ranks = stats.rankdata(values)
    spread = covariates.std(axis=0)
    standard = (covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1)
    design = np.column_stack([np.ones(len(ranks)), standard])
    coefficients, *_ = np.linalg.lstsq(design, ranks, rcond=None)
    return np.asarray(ranks - design @ coefficients, np.float64)


@dataclass(frozen=True, repr=False)
class Ranking:
    """Genes that are regulators, most important first.

    The table has ``gene_id`` (the symbol, where several genes bear it), ``symbol``, ``class``,
    ``regulators``, ``importance``, ``given_sites`` (`residual_ranks`), ``score`` (mean absolute,
    averaged over outputs), ``n_genes`` that are bound, ``n_tracks``. The first `top` count as the
    most important; `classes` is a key of `CLASSES`.
    """

    classes: str
    table: pd.DataFrame
    top: int

    def __len__(self) -> int:
        """Return the number of genes."""
        return len(self.table)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {str(gene): i for i, gene in enumerate(self.table["gene_id"])}

    def column(self, name: str) -> FloatArray:
        """Return a column of numbers."""
        return self.table[name].to_numpy(np.float64)

    def rows(self, genes: Iterable[str | None]) -> IntArray:
        """Find the rows of genes (`inputs.keys_of`), ascending, each once; others have none."""
        found = {self._place[gene] for gene in genes if gene in self._place}
        return np.array(sorted(found), np.int64)

    def named(self, rows: IntArray) -> str:
        """Join the symbols of rows."""
        return ", ".join(self.table["symbol"].to_numpy(object)[rows])

    def told(self) -> dict[str, Any]:
        """Return how much of the ranking is a matter of sites.

        ``explained_by_sites`` is a share of the variance of ranks; others are Spearman's rho.
        """
        ranks, rest = stats.rankdata(self.column("importance")), self.column("given_sites")
        share = 1 - rest.var() / ranks.var() if np.ptp(ranks) > 0 else math.nan
        told: dict[str, Any] = {"n": len(self), "top": self.top, "explained_by_sites": share}
        for name in ("n_genes", "n_tracks"):
            column = self.column(name)
            varies = np.ptp(column) > 0 and np.ptp(ranks) > 0
            told[f"spearman_{name}"] = stats.spearmanr(ranks, column)[0] if varies else math.nan
        return told


@dataclass(frozen=True, repr=False)
class Regulators:
    """Regulators that are genes and have sites, and their scores."""

    table: pd.DataFrame  # class, regulator, gene_id, symbol, n_genes, n_tracks
    scores: FloatArray  # (n, n_outputs), mean absolute
    told: dict[str, Any]  # how many were scored, and what was left out

    @classmethod
    def gather(cls, model: Model, scores: pd.DataFrame, outputs: Sequence[str]) -> Regulators:
        """Find the genes of regulators, and count their tracks.

        Raises InputError if the scores are not of the model's regulators.
        """
        keys = ["class", "regulator"]
        table = scores.astype({"output": str, "class": str, "regulator": str})
        table = table[(table["class"] != MASK) & table["output"].isin(outputs)]
        wide = table.pivot(index=keys, columns="output", values="mean_abs")[list(outputs)]
        tracks = Level.make(model.manifest, "track").features.astype(str)
        n_tracks = tracks[tracks["class"] != MASK].groupby(keys).size()
        for only, where in (
            (wide.index.difference(n_tracks.index), "in the table"),
            (n_tracks.index.difference(wide.index), "in the model"),
        ):
            if len(only):
                raise InputError(
                    f"the scores are not of model {model.id}: {len(only)} regulators are only "
                    f"{where}, such as {' '.join(only[0])[:60]!r}",
                    path=scores.attrs.get("path"),
                    remedy="Name the model that was explained.",
                )
        found = wide.index.to_frame(index=False)
        resolved = model.features.index.resolve(found["regulator"].tolist())
        found["gene_id"] = resolved.gene_ids
        found["symbol"] = [
            symbol or name
            for symbol, name in zip(resolved.symbols, found["regulator"], strict=True)
        ]
        n_genes = table.groupby(keys)["n_genes"].first()
        found["n_genes"] = n_genes.loc[wide.index].to_numpy(np.int64)
        found["n_tracks"] = n_tracks.loc[wide.index].to_numpy(np.int64)
        values = wide.to_numpy(np.float64)

        ours = found["class"].isin(CLASSES["TF+RBP"]).to_numpy(np.bool_)
        # A symbol that several genes bear is no unknown one: it stands for itself (`keys_of`).
        genes = np.array([status != "unknown_gene" for status in resolved.status], np.bool_)
        bound = (values > 0).all(axis=1) & (found["n_genes"] > 0).to_numpy(np.bool_)
        kept = ours & genes & bound
        told = {
            "scored": len(found),
            "of_other_classes": dict(Counter(found["class"][~ours].tolist())),
            "without_gene": found["regulator"][ours & ~genes].tolist(),
            "without_sites": found["regulator"][ours & genes & ~bound].tolist(),
        }
        return cls(found[kept].reset_index(drop=True), values[kept], told)

    def count(self, classes: str) -> int:
        """Count the genes that can be ranked."""
        return int(self.table["gene_id"][self._of(classes)].nunique())

    def rank(self, classes: str, top: int | None = None) -> Ranking:
        """Rank genes; one that is a regulator in several ways has the sum of its scores.

        A tenth is at the top if not told otherwise. Raises InputError if there are too few,
        UsageError if all are to be at the top.
        """
        chosen = self._of(classes)
        own = self.table[chosen]
        gene, ids = pd.factorize(own["gene_id"], sort=True)
        if ids.size < FEWEST:
            raise InputError(
                f"{ids.size} regulators ({classes}) have sites in these genes; "
                f"{FEWEST} are needed to rank them",
                remedy="Score more genes, or choose other classes.",
            )
        top = max(1, round(ids.size / 10)) if top is None else top
        if top >= ids.size:
            raise UsageError(f"The top cannot be {top} of {ids.size} regulators ({classes}).")
        scores = np.zeros((ids.size, self.scores.shape[1]))
        np.add.at(scores, gene, self.scores[chosen])
        grouped = own.groupby(gene)
        table = pd.DataFrame(
            {
                "gene_id": ids,
                "symbol": grouped["symbol"].first(),
                "class": grouped["class"].unique().map(", ".join),
                "regulators": grouped["regulator"].unique().map(", ".join),
                "importance": importance(scores),
                "given_sites": 0.0,
                "score": scores.mean(axis=1),
                "n_genes": grouped["n_genes"].sum(),
                "n_tracks": grouped["n_tracks"].sum(),
            }
        )
        values = table["importance"].to_numpy(np.float64)
        table["given_sites"] = residual_ranks(values, _covariates(table))
        order = np.argsort(-values, kind="stable")
        return Ranking(classes, table.iloc[order].reset_index(drop=True), top)

    def _of(self, classes: str) -> BoolArray:
        return self.table["class"].isin(CLASSES[classes]).to_numpy(np.bool_)


def _covariates(table: pd.DataFrame) -> FloatArray:
    """List what makes a regulator important without being more than bound, or measured, often."""
    logs = np.log(table[["n_genes", "n_tracks"]].to_numpy(np.float64))
    kinds = [table["class"] == kind for kind in sorted(table["class"].unique())]
    # At a straight line, ranks of TFs stay correlated with both (rho 0.14 and 0.11).
    return np.column_stack([logs, logs**2, *kinds]).astype(np.float64)


def gsea(
    ranking: Ranking, sets: Mapping[str, IntArray], *, permutations: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Analyse the enrichment of gene sets, rows of a ranking, along it (pre-ranked GSEA). By p.

    Subramanian et al. 2005 (doi 10.1073/pnas.0506580102), weight 1. P-values are of adaptive
    multilevel splitting (Korotkevich et al., doi 10.1101/060012), so that none is zero, with so
    many random gene sets of each size. ``leading_edge`` has symbols.
    """
    raw = _prerank(ranking.column("importance"), sets, permutations, seed)
    given = _prerank(ranking.column("given_sites"), sets, permutations, seed)
    table = pd.DataFrame(
        {
            "gene_set": list(sets),
            "size": [rows.size for rows in sets.values()],
            "es": raw["es"],
            "nes": raw["nes"],
            "p": raw["p"],
            "q": false_discovery(raw["p"]),
            "nes_given_sites": given["nes"],
            "p_given_sites": given["p"],
            "q_given_sites": false_discovery(given["p"]),
            "leading_edge": [ranking.named(rows) for rows in raw["leading_edge"]],
        }
    )
    order = np.lexsort([-np.abs(raw["nes"]), raw["p"]])
    return table.iloc[order].reset_index(drop=True)


def _prerank(
    values: FloatArray, sets: Mapping[str, IntArray], permutations: int, seed: int
) -> dict[str, Any]:
    """Run GSEA on sets of places in some values, and give what it finds in the order of sets."""
    if not sets or not np.any(values):
        unknown = np.full(len(sets), np.nan)
        none = [np.zeros(0, np.int64)] * len(sets)
        return {"es": unknown, "nes": unknown, "p": unknown, "leading_edge": none}
    try:
        import gseapy
    except ImportError:
        raise MissingExtraError("gseapy", "studies") from None

    order = np.argsort(-values, kind="stable")
    # Names of our own, since gseapy looks at how names of genes are spelled.
    names = np.array([f"G{i}" for i in range(values.size)], object)
    found = gseapy.prerank(
        pd.Series(values[order], names[order], name="importance"),
        {f"S{i}": names[rows].tolist() for i, rows in enumerate(sets.values())},
        outdir=None,
        no_plot=True,
        method="multilevel",
        permutation_num=permutations,
        seed=seed,
        min_size=1,
        max_size=values.size,
        ascending=None,
        threads=1,
    )
    table = found.res2d.set_index("Term").loc[[f"S{i}" for i in range(len(sets))]]
    return {
        "es": table["ES"].to_numpy(np.float64),
        "nes": table["NES"].to_numpy(np.float64),
        "p": table["NOM p-val"].to_numpy(np.float64),
        "leading_edge": [
            np.array(sorted(int(name[1:]) for name in names.split(";") if name), np.int64)
            for names in table["Lead_genes"]
        ],
    }


def over_representation(ranking: Ranking, sets: Mapping[str, IntArray]) -> pd.DataFrame:
    """Compare gene sets with the most important regulators of all ranked (hypergeometric test).

    Sets have rows of the ranking; ``n_top`` of them are at the top, p is one-sided. By p.
    """
    size = np.array([rows.size for rows in sets.values()], np.int64)
    tops = [rows[rows < ranking.top] for rows in sets.values()]
    n_top = np.array([rows.size for rows in tops], np.int64)
    odds, p = _overlap(n_top, size, ranking.top, len(ranking))
    table = pd.DataFrame(
        {
            "gene_set": list(sets),
            "size": size,
            "n_top": n_top,
            "expected": size * ranking.top / len(ranking),
            "odds_ratio": odds,
            "p": p,
            "q": false_discovery(p),
            "top_members": [ranking.named(rows) for rows in tops],
        }
    )
    return table.sort_values("p", kind="stable", ignore_index=True)


def _overlap(both: IntArray, size: IntArray, top: int, n: int) -> tuple[FloatArray, FloatArray]:
    """Odds ratio of being in a set for the top of n, and p of as many there or more."""
    p = np.asarray(stats.hypergeom.sf(both - 1, n, size, top), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = both * (n - size - top + both) / ((size - both) * (top - both))
    return np.asarray(odds, np.float64), np.minimum(p, 1)


def compare_lists(ranking: Ranking, lists: Mapping[str, tuple[IntArray, IntArray]]) -> pd.DataFrame:
    """Compare the importance of listed regulators with that of others.

    Of each list, rows of the ranking that are on it, and all that could be. Wilcoxon's rank-sum
    test with the AUROC and its 95% interval, the same given sites, and Fisher's exact test of the
    top (one-sided). Numbers are unknown where none or all are listed. Source: Tasaki et al. 2020,
    Fig. 3f.
    """
    found = []
    for name, (rows, among) in lists.items():
        member, top = np.isin(among, rows), among < ranking.top
        both = np.array([np.count_nonzero(member & top)], np.int64)
        odds, p = _overlap(both, np.array([rows.size]), int(np.count_nonzero(top)), among.size)
        tested = 0 < rows.size < among.size
        found.append(
            {
                "list": name,
                "n": rows.size,
                "n_others": among.size - rows.size,
                **_rank_sum(ranking.column("importance")[among], member, ""),
                **_rank_sum(ranking.column("given_sites")[among], member, "_given_sites"),
                "n_top": both[0],
                "odds_ratio": odds[0] if tested else np.nan,
                "p_top": p[0] if tested else np.nan,
                "q_top": np.nan,
                "top_members": ranking.named(rows[rows < ranking.top]),
            }
        )
    table = pd.DataFrame(found)
    for end in ("", "_given_sites", "_top"):
        table[f"q{end}"] = false_discovery(table[f"p{end}"].to_numpy(np.float64))
    return table


def _rank_sum(values: FloatArray, member: BoolArray, end: str) -> dict[str, float]:
    """Wilcoxon's rank-sum test, with the AUROC as the size of the effect."""
    area, low, high = auroc(values, member)
    p = p_greater = np.nan
    if 0 < np.count_nonzero(member) < member.size:
        listed, others = values[member], values[~member]
        p = float(stats.mannwhitneyu(listed, others, alternative="two-sided").pvalue)
        p_greater = float(stats.mannwhitneyu(listed, others, alternative="greater").pvalue)
    found = {"auroc": area, "auroc_low": low, "auroc_high": high, "p": p, "p_greater": p_greater}
    return {f"{name}{end}": value for name, value in {**found, "q": np.nan}.items()}
