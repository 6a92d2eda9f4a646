"""How good predictions are: rank correlation over genes, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.networks.manifest import MEDIAN

__all__ = [
    "INDEPENDENT",
    "against_null",
    "auroc",
    "column_correlation",
    "determined",
    "false_discovery",
    "interval_95",
    "leaf_order",
    "score",
    "spearman",
    "summarise",
]

# Of a column, what earlier ones leave of it; below this it is their combination but for rounding.
INDEPENDENT = 1e-7


def column_correlation(predicted: FloatArray, observed: FloatArray) -> FloatArray:
    """Pearson's correlation of matching columns, NaN where one is constant; shape (m,)."""
    a = predicted - predicted.mean(axis=0)
    b = observed - observed.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (a * b).sum(axis=0) / norm, np.nan)


def determined(columns: FloatArray) -> IntArray:
    """Return which columns (m, k) are combinations of those before them."""
    left = np.abs(np.diag(np.linalg.qr(columns, mode="r"))) / np.linalg.norm(columns, axis=0)
    return np.flatnonzero(left < INDEPENDENT)


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rho of two arrays, NaN if one is constant."""
    x, y = (ranks - ranks.mean() for ranks in (stats.rankdata(a), stats.rankdata(b)))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else np.nan


def false_discovery(p: FloatArray) -> FloatArray:
    """Benjamini and Hochberg's false discovery rates of the p-values that are known, NaN else."""
    q, known = np.full(p.size, np.nan), np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def interval_95(values: npt.ArrayLike) -> list[float]:
    """Range of the middle 95% of what is finite; NaN if nothing is."""
    every = np.asarray(values, np.float64)
    finite = every[np.isfinite(every)]
    return np.quantile(finite, [0.025, 0.975]).tolist() if finite.size else [np.nan, np.nan]


def against_null(values: npt.ArrayLike, found: float) -> dict[str, Any]:
    """Return mean and 95% range of a number over permutations, and p of its reaching `found`.

    All are NaN if one of the numbers is.
    """
    null = np.asarray(values, np.float64)
    if not (np.isfinite(found) and np.isfinite(null).all()):
        return {"mean": np.nan, "interval_95": [np.nan, np.nan], "p": np.nan}
    p = (1 + (null >= found).sum()) / (1 + null.size)
    return {"mean": float(null.mean()), "interval_95": interval_95(null), "p": float(p)}


def leaf_order(values: npt.NDArray[np.floating]) -> IntArray:
    """Order rows by average-linkage clustering, so that similar ones are neighbours.

    The best order of leaves takes the cube of their number: that of up to 500 is optimal.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(values) < 3 or not values.shape[1]:
        return np.arange(len(values))
    tree = linkage(values, "average", optimal_ordering=len(values) <= 500)
    return leaves_list(tree).astype(np.int64)


def auroc(scores: npt.NDArray[np.floating], positive: BoolArray) -> tuple[float, float, float]:
    """Compute the area under the ROC curve and its 95% interval (DeLong 1988, doi 10.2307/2531595).

    All three are NaN without positives or without negatives; with one of either there is no
    interval.
    """
    cases, controls = scores[positive], scores[~positive]
    m, n = len(cases), len(controls)
    if not (m and n):
        return np.nan, np.nan, np.nan
    together = stats.rankdata(np.concatenate([cases, controls]))
    # Of each case, the share of controls below it; of each control, that of cases above it.
    above = (together[:m] - stats.rankdata(cases)) / n
    below = 1 - (together[m:] - stats.rankdata(controls)) / m
    area = float(above.mean())
    if min(m, n) < 2:
        return area, np.nan, np.nan
    half = 1.959964 * float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    return area, max(area - half, 0.0), min(area + half, 1.0)


def score(predicted: FloatArray, observed: FloatArray, names: Sequence[str]) -> pd.DataFrame:
    """Compare predictions with observations, both of shape (n_genes, n_outputs).

    Returns one row an output: ``output, n, spearman, pearson, rmse``.
    """
    ranks = stats.rankdata(predicted, axis=0), stats.rankdata(observed, axis=0)
    return pd.DataFrame(
        {
            "output": list(names),
            "n": len(predicted),
            "spearman": column_correlation(*ranks),
            "pearson": column_correlation(predicted, observed),
            "rmse": np.sqrt(((predicted - observed) ** 2).mean(axis=0)),
        }
    )


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    """Return the mean rho of fold changes over outputs, and that of the median (NaN if none)."""
    is_median = scores["output"] == MEDIAN
    return {
        "fold_change_spearman": float(scores.loc[~is_median, "spearman"].mean()),
        "median_spearman": float(scores.loc[is_median, "spearman"].mean()),
        "n_genes": int(scores["n"].iloc[0]),
    }
