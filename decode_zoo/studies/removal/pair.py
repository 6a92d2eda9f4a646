"""What holds two genes together: random removals of their sites, and what becomes of co-expression.

Source: Tasaki et al. 2020, Methods, 'In silico knockout experiment' and 'In silico binding-site
disruption', and the software that the authors released. Each removal takes a random half of the
regulators (or of the bins) away; the co-expression of the two predictions over persons is then
regressed on what was removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, stats

from decode_zoo.cores import share_out
from decode_zoo.errors import UsageError
from decode_zoo.studies.removal.bins import BinSums
from decode_zoo.studies.removal.knockout import Knockout

__all__ = ["PairStudy", "RemoveFrom", "disrupt_pair", "knock_out_pair", "regress", "row_spearman"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
RemoveFrom = Literal["both", "first", "second"]
# Co-expression after each of some removals.
Rho = Callable[[BoolArray], npt.NDArray[np.float64]]

# Removals worked on at a time.
_BLOCK = 512
_FEWEST_OUTPUTS = 5


@dataclass(frozen=True, repr=False)
class PairStudy:
    """Random removals of the sites of two genes.

    Attributes
    ----------
    model_id : str
    n_outputs : int
        Persons (or tissues) over which co-expression is measured.
    intact : float
        Spearman's rho of both predictions with all sites.
    rhos : ndarray of float64, shape (n_removals,)
        With what is left.
    regression : DataFrame
        ``term``, ``estimate`` (change of rho by its removal), ``std.error``, ``statistic``,
        ``p.value`` of a linear regression on all removals, as the original software has them,
        ``p.bonferroni``, and what the term is: ``class`` and which of the two genes have its
        sites (``sites``), or the gene, side and place of a bin.
    r_squared : float
        What the regression explains.
    """

    model_id: str
    n_outputs: int
    intact: float
    rhos: npt.NDArray[np.float64]
    regression: pd.DataFrame
    r_squared: float


def row_spearman(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
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


def regress(removed: BoolArray, response: npt.NDArray[np.float64]) -> tuple[pd.DataFrame, float]:
    """Ordinary least squares of a response on what was removed, with an intercept.

    Parameters
    ----------
    removed : ndarray of bool, shape (n, n_terms)
    response : ndarray of float64, shape (n,)

    Returns
    -------
    DataFrame
        A row a term: ``estimate``, ``std.error``, ``statistic``, ``p.value`` (two-sided t),
        ``p.bonferroni``. NaN for a response that does not vary.
    float
        R².

    Raises
    ------
    UsageError
        If there are hardly more removals than terms.
    """
    n, k = removed.shape
    if n < k + 10:
        raise UsageError(
            f"{n:,} removals do not tell {k:,} terms apart.",
            remedy=f"Draw more: --removals {max(1000, 10 * (k + 10))}",
        )
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
    """Knock out random halves of the regulators of two genes.

    Parameters
    ----------
    knockout : Knockout
        Of a model whose outputs are persons (the median is left out).
    rows : (int, int)
        The genes, by row of the feature set.
    removals : int
    remove_from : {"both", "first", "second"}
        Genes whose sites go. A regulator that is gone is gone from both; the original software
        takes it from the first only.
    seed : int

    Raises
    ------
    UsageError
        If the model has too few outputs, the genes have no regulator, or there are too few
        removals to tell regulators apart.
    """
    _check(knockout, removals, remove_from)
    network = knockout.network
    pair = np.array(rows, np.int64)
    cells, feature = knockout.cells(pair)
    touched = {"both": (0, 1), "first": (0,), "second": (1,)}[remove_from]
    feature = np.where(np.isin(cells.rows(), touched), feature, -1)
    terms = np.unique(feature[feature >= 0])
    if not terms.size:
        raise UsageError("Neither gene has sites of any regulator.")
    group = np.where(
        feature >= 0, cells.rows() * terms.size + np.searchsorted(terms, np.maximum(feature, 0)), -1
    )
    losses = network.losses(cells, group, 2 * terms.size).reshape(2, terms.size, -1)
    hidden = network.hidden(cells)
    removed = np.random.default_rng(seed).random((removals, terms.size)) < 0.5

    def rho(part: BoolArray) -> npt.NDArray[np.float64]:
        left = part.astype(hidden.dtype)
        one, two = (network.predict(hidden[i] + left @ losses[i]) for i in (0, 1))
        return row_spearman(one, two)

    there = np.zeros((2, terms.size), bool)
    there.ravel()[group[group >= 0]] = True
    names = knockout.resolution.features.iloc[terms].astype(str)
    return _study(
        knockout,
        rho,
        removed,
        {
            "term": names.iloc[:, -1].to_numpy(),
            "class": names["class"].to_numpy(),
            "sites": np.array(["none", "second", "first", "both"], object)[there.T @ (2, 1)],
        },
    )


def disrupt_pair(
    knockout: Knockout,
    rows: tuple[int, int],
    *,
    removals: int = 10_000,
    seed: int = 0,
) -> tuple[PairStudy, PairStudy]:
    """Take random halves of the bins away, from each gene in turn.

    Sites of experiments without positions (`genesets.TARGETS`) and the mask stay.

    Parameters
    ----------
    knockout : Knockout
        Of a model whose outputs are persons (the median is left out).
    rows : (int, int)
        The genes, by row of the feature set.
    removals : int
        Of each gene.
    seed : int

    Returns
    -------
    PairStudy, PairStudy
        With sites taken from the first gene, and from the second; terms as in the original
        software, ``promoter_interval_1`` upstream, ``RNA_interval_1`` at the 5' end.

    Raises
    ------
    UsageError
        As for `knock_out_pair`.
    ArtifactError
        If the feature set's positions cannot be had.
    """
    _check(knockout, removals, "both")
    network = knockout.network
    hidden = network.hidden(knockout.bound.sum_cells(np.array(rows, np.int64)))
    ids = knockout.bound.features.rows.ids
    found = []
    for number, row in enumerate(rows):
        bins = BinSums.make(knockout, row)
        if not bins.labels:
            raise UsageError(f"{ids[row]} has no sites with positions.")
        # The other gene as it is, once.
        other = network.predict(hidden[1 - number : 2 - number])
        removed = np.random.default_rng((seed, number)).random((removals, len(bins.labels))) < 0.5

        def rho(
            part: BoolArray, bins: BinSums = bins, other: FloatArray = other
        ) -> npt.NDArray[np.float64]:
            mine = network.predict(bins.hidden(network, ~part))
            return row_spearman(mine, np.broadcast_to(other, mine.shape))

        names = {"promoter": "promoter_interval", "rna": "RNA_interval"}
        found.append(
            _study(
                knockout,
                rho,
                removed,
                {
                    "term": [f"{names[side]}_{i + 1}" for side, i in bins.labels],
                    "gene": ids[row],
                    "side": [side for side, _ in bins.labels],
                    "bin": [i for _, i in bins.labels],
                },
            )
        )
    return found[0], found[1]


def _check(knockout: Knockout, removals: int, remove_from: str) -> None:
    if remove_from not in get_args(RemoveFrom):
        raise UsageError(
            f"Sites are removed from {', '.join(get_args(RemoveFrom))}, not {remove_from!r}."
        )
    if removals < 1:
        raise UsageError("There must be one removal at least.")
    folds = sum(output.kind == "fold_change" for output in knockout.outputs)
    if folds < _FEWEST_OUTPUTS or folds < len(knockout.outputs):
        raise UsageError(
            f"Co-expression is measured over fold changes of {_FEWEST_OUTPUTS} persons at least, "
            f"and over nothing else; {knockout.model.id} offers {folds}.",
            remedy="Choose a model of persons, such as lcl-person-v1.",
        )


def _over_blocks(rho: Rho, removed: BoolArray) -> npt.NDArray[np.float64]:
    parts = (removed[i : i + _BLOCK] for i in range(0, len(removed), _BLOCK))
    return np.concatenate(list(share_out(rho, parts)))


def _study(knockout: Knockout, rho: Rho, removed: BoolArray, labels: dict[str, Any]) -> PairStudy:
    """Draw what becomes of co-expression, and regress it; labels are columns of the terms."""
    rhos = _over_blocks(rho, removed)
    table, r_squared = regress(removed, rhos)
    (first, terms), *others = labels.items()
    table.insert(0, first, terms)
    for name, values in others:
        table[name] = values
    order = np.argsort(table["p.value"].to_numpy(), kind="stable")
    intact = float(rho(np.zeros((1, removed.shape[1]), bool))[0])
    return PairStudy(
        knockout.model.id,
        len(knockout.outputs),
        intact,
        rhos,
        table.iloc[order].reset_index(drop=True),
        r_squared,
    )
