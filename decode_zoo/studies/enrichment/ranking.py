"""Rankings: regulators by importance, and by what of it their sites do not account for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.attribution import MASK, Resolution
from decode_zoo.errors import InputError, UsageError
from decode_zoo.model import Model

__all__ = ["CLASSES", "FEWEST", "Ranking", "Regulators", "importance", "residual_ranks"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

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
        tracks = Resolution.make(model.manifest, "track").features.astype(str)
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
