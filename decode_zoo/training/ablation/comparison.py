"""Rank correlations of several predictions of the same genes and outputs, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.metrics import column_correlation

__all__ = ["Rho", "compare", "correlate", "summarise"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# By name, the ends of a 95% interval.
_ENDS = {"low": 0.025, "high": 0.975}

# Spearman's rho by prediction, each of shape (1 + resamples, n_outputs). The first row is of the
# genes as they are, the others of genes drawn with replacement: the same in a row for all
# predictions and outputs, so that differences are paired.
Rho = dict[str, FloatArray]


def correlate(
    predicted: Mapping[str, FloatArray], observed: FloatArray, *, resamples: int, seed: int
) -> Rho:
    """Correlate predictions with observations over genes, and over resamples of the genes.

    Returns arrays of shape (1 + resamples, n_outputs) by prediction; the first row is of the genes
    as they are. 0 where a prediction or the observation does not vary: it then says nothing of the
    order.
    """
    rng, n = np.random.default_rng(seed), len(observed)
    drawn = [np.arange(n), *(rng.integers(n, size=n) for _ in range(resamples))]
    found: dict[str, list[FloatArray]] = {name: [] for name in predicted}
    for rows in drawn:
        truth = stats.rankdata(observed[rows], axis=0)
        for name, values in predicted.items():
            ranks = stats.rankdata(values[rows], axis=0)
            found[name].append(np.nan_to_num(column_correlation(ranks, truth)))
    return {name: np.array(rows) for name, rows in found.items()}


def summarise(rho: Rho, medians: BoolArray) -> pd.DataFrame:
    """Return each prediction's ``rho`` (mean over fold changes), ``median_rho``, 95% ranges."""
    return pd.DataFrame(
        {
            "variant": name,
            **_estimate("rho", values[:, ~medians].mean(axis=1)),
            **_estimate("median_rho", values[:, medians].mean(axis=1)),
        }
        for name, values in rho.items()
    )


def compare(rho: Rho, medians: BoolArray) -> pd.DataFrame:
    """Compare each prediction with each other one.

    One row a pair: ``difference`` of the mean rho of fold changes, first less second; ``higher``,
    in how many of them the first is better; ``p`` of Wilcoxon's signed-rank test of their rho,
    two-sided, ``p_bonferroni`` and ``q`` (Benjamini and Hochberg) over the pairs;
    ``median_difference``. Differences have the ends of their 95% intervals over genes.
    """
    differences = {(a, b): rho[a] - rho[b] for a, b in combinations(rho, 2)}
    p = np.array([_paired_p(values[0, ~medians]) for values in differences.values()])
    q = stats.false_discovery_control(p)
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            **_estimate("difference", values[:, ~medians].mean(axis=1)),
            "higher": int((values[0, ~medians] > 0).sum()),
            "p": p[i],
            "p_bonferroni": min(p[i] * len(p), 1.0),
            "q": q[i],
            **_estimate("median_difference", values[:, medians].mean(axis=1)),
        }
        for i, ((first, second), values) in enumerate(differences.items())
    )


def _paired_p(differences: FloatArray) -> float:
    """Test by Wilcoxon's signed ranks; without any difference there is nothing to rank."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def _estimate(name: str, values: FloatArray) -> dict[str, float]:
    """Name an estimate, which comes first, and the ends of its 95% interval."""
    ends = {f"{name}_{end}": float(np.quantile(values[1:], at)) for end, at in _ENDS.items()}
    return {name: float(values[0]), **ends}
