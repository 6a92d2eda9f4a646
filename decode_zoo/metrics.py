"""How good predictions are: rank correlation over genes, output by output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.expression import MEDIAN

__all__ = ["column_correlation", "score", "summarise"]

FloatArray = npt.NDArray[np.float64]


def column_correlation(predicted: FloatArray, observed: FloatArray) -> FloatArray:
    """Pearson's correlation of matching columns, NaN where one is constant; shape (m,)."""
    a = predicted - predicted.mean(axis=0)
    b = observed - observed.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (a * b).sum(axis=0) / norm, np.nan)


def score(predicted: FloatArray, observed: FloatArray, names: Sequence[str]) -> pd.DataFrame:
    """Compare predictions with observations.

    Parameters
    ----------
    predicted, observed : ndarray of float64, shape (n_genes, n_outputs)
    names : sequence of str
        Output names.

    Returns
    -------
    DataFrame
        One row an output: ``output, n, spearman, pearson, rmse``.
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
    """Mean over outputs of the fold changes' rho, and the rho of the median.

    Returns
    -------
    dict
        ``fold_change_spearman``, ``median_spearman``, ``n_genes``.
    """
    is_median = scores["output"] == MEDIAN
    return {
        "fold_change_spearman": float(scores.loc[~is_median, "spearman"].mean()),
        "median_spearman": float(scores.loc[is_median, "spearman"].iloc[0]),
        "n_genes": int(scores["n"].iloc[0]),
    }
