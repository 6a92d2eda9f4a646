"""What holds two genes together: random removals of their sites, and what becomes of co-expression.

Source: Tasaki et al. 2020, Methods, 'In silico knockout experiment' and 'In silico binding-site
disruption', and the software that the authors released. Each removal takes a random half of the
regulators (or of the bins) away; the co-expression of the two predictions over samples is then
regressed on what was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import linalg, stats

from decode_zoo.core.arrays import BoolArray, FloatArray, RealArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.provenance import plain, provenance
from decode_zoo.core.system import share_out
from decode_zoo.studies.disruption import BinSums
from decode_zoo.studies.knockouts import (
    By,
    Knockout,
    Progress,
)
from decode_zoo.studies.measured import find_pair, fold_changes, name_of
from decode_zoo.studies.result import StudyResult
from decode_zoo.zoo.model import Model

__all__ = [
    "PairStudy",
    "RemoveFrom",
    "across_models",
    "disrupt_pair",
    "knock_out_pair",
    "regress",
    "row_spearman",
    "study_pair",
]

RemoveFrom = Literal["both", "first", "second"]
# Co-expression after each of some removals.
Rho = Callable[[BoolArray], FloatArray]

# Removals worked on at a time.
_BLOCK = 512
_FEWEST_OUTPUTS = 5


@dataclass(frozen=True, repr=False)
class PairStudy:
    """Random removals of the sites of two genes, and a linear regression of rho on all of them.

    The regression has ``model``, then the columns of the original software: ``term``, ``estimate``
    (change of rho by its removal), ``std.error``, ``statistic``, ``p.value``; ``p.bonferroni``; and
    what the term is: ``class`` and which of the genes have its sites (``sites``), or a bin's
    ``gene``, ``side`` and ``bin``. By p.
    """

    model_id: str
    n_outputs: int  # samples over which co-expression is measured
    intact: float  # Spearman's rho of both predictions with all sites
    rhos: FloatArray  # (n_removals,): with what is left
    regression: pd.DataFrame
    r_squared: float

    def to_row(self, removed: str) -> dict[str, Any]:
        """Return a row of the table of models; `removed` is what lost its sites."""
        return {
            "model": self.model_id,
            "samples": self.n_outputs,
            "removed": removed,
            "rho_intact": self.intact,
            "rho_after_removals": float(self.rhos.mean()),
            "terms": len(self.regression),
            "significant": int((self.regression["p.bonferroni"] < 0.05).sum()),
            "r_squared": self.r_squared,
        }


def row_spearman(a: RealArray, b: RealArray) -> FloatArray:
    """Spearman's rho of each row of one table with that of another, shape (n,).

    Ties get the ranks of their order: predictions of a network hardly ever tie.
    """
    ranks = []
    for values in (a, b):
        order = np.argsort(values, axis=1)
        rank = np.empty(values.shape, np.float32)
        np.put_along_axis(rank, order, np.arange(values.shape[1], dtype=np.float32)[None], axis=1)
        ranks.append(rank)
    n = a.shape[1]
    middle = (n - 1) / 2
    products = np.einsum("ij,ij->i", ranks[0] - middle, ranks[1] - middle, dtype=np.float64)
    return np.asarray(products * 12 / (n * (n * n - 1.0)))


def regress(removed: BoolArray, response: FloatArray) -> tuple[pd.DataFrame, float]:
    """Regress a response (n,) on what was removed (n, n_terms) by least squares; return R2, too.

    A row a term, p two-sided of t; NaN for a response that does not vary.
    """
    n, k = removed.shape
    design = np.empty((n, k + 1))
    design[:, 0], design[:, 1:] = 1, removed
    # Few distinct columns of 0 and 1: the normal equations are well conditioned.
    inverse = linalg.inv(design.T @ design, check_finite=False)
    found = inverse @ (design.T @ response)
    residuals = response - design @ found
    freedom = n - k - 1
    total = float(((response - response.mean()) ** 2).sum())
    variance = float(residuals @ residuals) / freedom
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(variance * np.diag(inverse))[1:]
        statistic = np.where(total > 0, found[1:] / error, np.nan)
        p = 2 * stats.t.sf(np.abs(statistic), freedom)
    table = pd.DataFrame(
        {
            "estimate": found[1:],
            "std.error": error,
            "statistic": statistic,
            "p.value": p,
            "p.bonferroni": np.minimum(1, p * k),
        }
    )
    return table, 1 - variance * freedom / total if total > 0 else np.nan


def knock_out_pair(
    knockout: Knockout,
    rows: tuple[int, int],
    *,
    removals: int = 10_000,
    remove_from: RemoveFrom = "both",
    seed: int = 0,
) -> PairStudy:
    """Knock out random halves of the regulators of two genes, given by row of the feature set.

    The knock-out is of a model whose outputs are samples (the median is left out). A regulator
    that is gone is gone from both genes; the original software takes it from the first only.
    Raises UsageError if there are too few outputs, regulators, or removals to tell these apart.
    """
    _check(knockout, remove_from)
    network = knockout.network
    terms, hidden, losses, there = knockout.apart(np.array(rows, np.int64))
    intact = [remove_from == "second", remove_from == "first"]
    losses[intact], there[intact] = 0, False
    own = there.any(axis=0)
    terms, losses, there = terms[own], losses.compress(own, axis=1), there[:, own]
    if not terms.size:
        raise UsageError("Neither gene has sites of any regulator.")
    removed = np.random.default_rng(seed).random((removals, terms.size)) < 0.5

    def rho(part: BoolArray) -> FloatArray:
        left = part.astype(hidden.dtype)
        return row_spearman(*(network.predict(hidden[i] + left @ losses[i]) for i in (0, 1)))

    names = knockout.labels(terms)
    labels = {
        "term": names.iloc[:, -1].to_numpy(),
        "class": names["class"].to_numpy(),
        "sites": np.array(["none", "second", "first", "both"], object)[there.T @ (2, 1)],
    }
    return _study(knockout, rho, removed, labels)


def disrupt_pair(
    knockout: Knockout, rows: tuple[int, int], *, removals: int = 10_000, seed: int = 0
) -> tuple[PairStudy, PairStudy]:
    """Take random halves of the bins away, from each gene in turn, so many times each.

    Sites of experiments without positions (`genesets.TARGETS`) and the mask stay. Terms are as in
    the original software, ``promoter_interval_1`` upstream, ``RNA_interval_1`` at the 5' end.
    Raises UsageError as `knock_out_pair` does, and ArtifactError if positions cannot be had.
    """
    _check(knockout, "both")
    network = knockout.network
    hidden = network.hidden(knockout.bound.sum_cells(np.array(rows, np.int64)))
    one, two = (
        _disrupt_one(knockout, row, network.predict(hidden[[1 - i]]), removals, (seed, i))
        for i, row in enumerate(rows)
    )
    return one, two


def _disrupt_one(
    knockout: Knockout, row: int, other: RealArray, removals: int, seed: tuple[int, int]
) -> PairStudy:
    """Take bins away from one gene; the other's predictions, shape (1, n_outputs), stay."""
    gene, bins = knockout.bound.features.rows.ids[row], BinSums.make(knockout, row)
    if not bins.labels:
        raise UsageError(f"{gene} has no sites with positions.")
    removed = np.random.default_rng(seed).random((removals, len(bins.labels))) < 0.5

    def rho(part: BoolArray) -> FloatArray:
        mine = knockout.network.predict(bins.hidden(knockout.network, ~part))
        return row_spearman(mine, np.broadcast_to(other, mine.shape))

    names = {"promoter": "promoter_interval", "rna": "RNA_interval"}
    labels = {
        "term": [f"{names[side]}_{i + 1}" for side, i in bins.labels],
        "gene": gene,
        "side": [side for side, _ in bins.labels],
        "bin": [i for _, i in bins.labels],
    }
    return _study(knockout, rho, removed, labels)


def _check(knockout: Knockout, remove_from: str) -> None:
    if remove_from not in get_args(RemoveFrom):
        raise UsageError(
            f"Sites are removed from {', '.join(get_args(RemoveFrom))}, not {remove_from!r}."
        )
    folds = sum(output.kind == "fold_change" for output in knockout.outputs)
    if folds < _FEWEST_OUTPUTS or folds < len(knockout.outputs):
        raise UsageError(
            f"Co-expression is measured over fold changes of {_FEWEST_OUTPUTS} samples at least, "
            f"and over nothing else; {knockout.model.id} offers {folds}.",
            remedy="Choose a model of samples, such as lcl-person-v1.",
        )


def _study(knockout: Knockout, rho: Rho, removed: BoolArray, labels: dict[str, Any]) -> PairStudy:
    """Draw what becomes of co-expression, and regress it; labels are columns of the terms."""
    n, k = removed.shape
    if n < k + 10:
        raise UsageError(
            f"{n:,} removals do not tell {k:,} terms apart.",
            remedy=f"Draw more: --removals {max(1000, 10 * (k + 10))}",
        )
    parts = (removed[i : i + _BLOCK] for i in range(0, len(removed), _BLOCK))
    rhos = np.concatenate(list(share_out(rho, parts)))
    table, r_squared = regress(removed, rhos)
    table = table.assign(model=knockout.model.id, **labels)
    table = table[["model", "term", *table.columns.drop(["model", "term"])]]
    return PairStudy(
        knockout.model.id,
        len(knockout.outputs),
        float(rho(np.zeros((1, k), bool))[0]),
        rhos,
        table.sort_values("p.value", kind="stable", ignore_index=True),
        r_squared,
    )


def across_models(table: pd.DataFrame, n_models: int) -> pd.DataFrame:
    """Sum up what models say of each regulator; first those that all models have."""
    ranked = table.assign(
        rank=table.groupby("model")["estimate"].transform(lambda e: e.abs().rank(ascending=False)),
        significant=table["p.bonferroni"] < 0.05,
        lost=table["estimate"] < 0,
    )
    found = ranked.groupby(["class", "term", "sites"], sort=False, as_index=False).agg(
        models=("model", "size"),
        significant=("significant", "sum"),
        models_that_lose=("lost", "sum"),
        mean_rank=("rank", "mean"),
        mean_estimate=("estimate", "mean"),
    )
    order = np.lexsort([found["mean_rank"], found["models"] < n_models])
    return found[["term", "class", "sites", *found.columns[3:]]].iloc[order].reset_index(drop=True)


def study_pair(
    models: Sequence[Model],
    pair: tuple[str, str],
    *,
    by: By = "regulator",
    removals: int = 10_000,
    remove_from: RemoveFrom = "both",
    positions: bool = True,
    seed: int = 0,
    command: Sequence[str] = ("decode_zoo.studies.pairs.study_pair",),
    progress: Progress = lambda done, total: None,
) -> StudyResult:
    """Ask models of samples which regulators and places hold two genes together.

    So many random removals of each kind, `remove_from` these genes (the original software: first);
    bins are removed, too, if `positions` are asked for.
    """
    if not models or len({model.id for model in models}) < len(models):
        raise UsageError("Name one model at least, and each once.")
    regulators, bins, origins = list[PairStudy](), list[PairStudy](), list[dict[str, Any]]()
    genes: dict[str, str] = {}
    for number, model in enumerate(models):
        folds = fold_changes(model)
        if not folds:
            raise UsageError(
                f"{model.id} predicts no fold changes.", remedy="Choose a model of samples."
            )
        knockout = Knockout.make(model, by=by, outputs=folds, precision="single")
        features = knockout.bound.features
        rows = find_pair(features, pair, InputError)
        genes = {features.rows.ids[row]: name_of(features, row) for row in rows}
        regulators.append(
            knock_out_pair(knockout, rows, removals=removals, remove_from=remove_from, seed=seed)
        )
        if positions:
            bins.extend(disrupt_pair(knockout, rows, removals=removals, seed=seed))
        origins.append(knockout.origin)
        progress(number + 1, len(models))
    numbers = {
        "pair": list(genes.values()),
        "genes": list(genes),
        "by": by,
        "removals": removals,
        "remove_from": remove_from,
        "seed": seed,
        "provenance": provenance(command, models=origins),
    }
    return _result(regulators, bins, genes, plain(numbers))


def _result(
    regulators: Sequence[PairStudy],
    bins: Sequence[PairStudy],
    genes: Mapping[str, str],
    numbers: Mapping[str, Any],
) -> StudyResult:
    ids, names = [study.model_id for study in regulators], list(genes.values())
    title = f"{names[0]} and {names[1]}"
    table = pd.concat([study.regression for study in regulators], ignore_index=True)
    across = across_models(table, len(ids))
    models = [study.to_row("regulators") for study in regulators]
    models += [study.to_row(f"bins of {names[i % 2]}") for i, study in enumerate(bins)]
    tables = {
        "models": ("Models", pd.DataFrame(models)),
        "across": ("Regulators over all models, by mean rank", across),
        "regression": ("Regression of co-expression on knock-outs", table),
    }
    if bins:
        by_bin = pd.concat([study.regression for study in bins], ignore_index=True)
        tables["intervals"] = ("Regression of co-expression on removed bins", by_bin)
    best, where = across.iloc[0], numbers["remove_from"]
    return StudyResult(
        "pair",
        f"{title}: what holds them together",
        {
            "Models": f"{len(ids)}",
            "Removals": f"{numbers['removals']:,} each",
            "Co-expression as predicted": ", ".join(f"{s.intact:.2f}" for s in regulators),
            "First regulator": f"{best['term']} ({best['significant']} of {len(ids)} models)",
        },
        (
            "Co-expression is Spearman's rho of both predictions over samples. "
            f"{numbers['removals']:,} times a random half of the regulators lost its sites "
            f"({'on both genes' if where == 'both' else f'on the {where} gene only'}); "
            "an estimate is by how much rho changes, on average over what else is gone, with that "
            "regulator's removal: below zero, it holds the genes together.",
            "Standard errors and p values are those of the simulation: more removals make them as "
            "small as one likes. They tell a change from none in this model, not whether the model "
            "is right; Bonferroni over the regulators of a model.",
        ),
        tables,
        numbers,
        [
            f"{row['model']}, {row['removed']}: rho {row['rho_intact']:.3f} with all sites, "
            f"{row['rho_after_removals']:.3f} after removals; {row['significant']} of "
            f"{row['terms']} matter"
            for row in models
        ],
        {"studies": regulators, "pair": title, "genes": genes},
    )
