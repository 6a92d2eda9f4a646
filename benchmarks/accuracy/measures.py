"""Rank correlations with bootstrap intervals over genes, specificity and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95


def resample_counts(n: int, resamples: int, seed: int) -> FloatArray:
    """Draw how often each gene is in each resample.

    Returns
    -------
    ndarray of float64, shape (1 + resamples, n)
        Row 0 has each gene once: what is measured on it is the estimate itself.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.concatenate([np.ones((1, n)), drawn])


def resampled_ranks(values: FloatArray, counts: FloatArray) -> FloatArray:
    """Rank genes within each resample, ties and copies of a gene by their mean rank.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
    counts : ndarray of float64, shape (b, n)
        How often each gene is in each resample; rows of the same sum.

    Returns
    -------
    ndarray of float64, shape (b, n)
        Ranks less their mean. Those of genes that are not in a resample mean nothing.
    """
    order = np.argsort(values, kind="stable")
    arranged = values[order]
    first = np.concatenate(([True], arranged[1:] != arranged[:-1]))
    sizes = counts[:, order]
    if not first.all():
        sizes = np.add.reduceat(sizes, np.flatnonzero(first), axis=1)
    ranks = np.cumsum(sizes, axis=1)
    total = ranks[:, -1:].copy()
    ranks -= (sizes - 1) / 2 + (total + 1) / 2
    place = np.empty(len(values), np.int64)
    place[order] = np.cumsum(first) - 1
    return ranks[:, place]


def resampled_spearman(a: FloatArray, b: FloatArray, counts: FloatArray) -> FloatArray:
    """Spearman's rho in each resample, from ranks as `resampled_ranks` gives them; shape (b,).

    NaN where one of the two does not vary.
    """
    weighted = counts * a
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: FloatArray = np.einsum("ij,ij->i", weighted, b) / np.sqrt(
            np.einsum("ij,ij->i", weighted, a) * np.einsum("ij,ij,ij->i", counts, b, b)
        )
    return rho


def bootstrap(
    predicted: Mapping[str, FloatArray], observed: FloatArray, counts: FloatArray
) -> dict[str, FloatArray]:
    """Spearman's rho over genes of each model and output in each resample.

    All models see the same resamples, so that differences between them are paired.

    Parameters
    ----------
    predicted : Mapping of str to ndarray, shape (n, n_outputs)
        By model. A column of NaN: the model does not predict that output.
    observed : ndarray, shape (n, n_outputs)
    counts : ndarray, shape (b, n)
        From `resample_counts`.

    Returns
    -------
    dict of str to ndarray, shape (b, n_outputs)
    """
    n_outputs = observed.shape[1]
    found = {name: np.full((len(counts), n_outputs), np.nan) for name in predicted}
    for column in range(n_outputs):
        truth = resampled_ranks(observed[:, column], counts)
        for name, values in predicted.items():
            if not np.isnan(values[:, column]).any():
                ranks = resampled_ranks(values[:, column], counts)
                found[name][:, column] = resampled_spearman(ranks, truth, counts)
    return found


def summary(samples: FloatArray) -> tuple[float, float, float]:
    """Return estimate (row 0) and interval (percentiles of the others) of one statistic."""
    if np.isnan(samples[0]):
        return float("nan"), float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(samples[1:], [tail, 1 - tail])
    return float(samples[0]), float(low), float(high)


# --- does a prediction know its tissue? -------------------------------------------------------


def specificity(predicted: FloatArray, observed: FloatArray) -> FloatArray:
    """Spearman's rho over genes of each predicted with each observed tissue, shape (k, k)."""
    ranks = [stats.rankdata(values, axis=0) for values in (predicted, observed)]
    a, b = ((r - r.mean(axis=0)) / r.std(axis=0) for r in ranks)
    rho: FloatArray = a.T @ b / len(a)
    return rho


def centred(values: FloatArray) -> FloatArray:
    """Fold changes less each gene's mean over tissues: what tissues have in common is gone."""
    return values - values.mean(axis=1, keepdims=True)


def own_best(rho: FloatArray) -> tuple[int, int]:
    """Count tissues that match their own best.

    Returns
    -------
    of_predictions : int
        Predictions whose best-matching observed tissue is their own.
    of_observations : int
        Observed tissues whose best-matching prediction is their own.
    """
    own = np.arange(len(rho))
    return int((rho.argmax(axis=1) == own).sum()), int((rho.argmax(axis=0) == own).sum())


# --- are fold changes of the right size? ------------------------------------------------------


def within_tissues(values: FloatArray) -> FloatArray:
    """Fold changes less each tissue's mean over genes.

    Tissues differ in their mean, which a model knows from its intercepts alone: with it, one whose
    inputs were permuted would look calibrated.
    """
    return values - values.mean(axis=0)


def slopes(predicted: FloatArray, observed: FloatArray, counts: FloatArray) -> FloatArray:
    """Slope of observed on predicted values within tissues, in each resample of genes.

    One slope for all columns, each less its own mean. 1: of the right size; below: predicted too
    large; above: too small. Shape (b,).
    """
    n = counts.sum(axis=1, keepdims=True)
    x, y = counts @ predicted / n, counts @ observed / n
    xy, xx = ((counts @ sums / n).sum(axis=1) for sums in (predicted * observed, predicted**2))
    slope: FloatArray = (xy - (x * y).sum(axis=1)) / (xx - (x * x).sum(axis=1))
    return slope


def calibration_bins(predicted: FloatArray, observed: FloatArray, bins: int) -> dict[str, Any]:
    """Observed fold changes by size of the predicted ones, in bins of about as many.

    Returns
    -------
    dict of str to ndarray, shape (bins,)
        ``n``, ``predicted`` (mean), ``observed`` (mean), ``observed_10``, ``observed_90``.
    """
    order = np.argsort(predicted, axis=None, kind="stable")
    parts = np.array_split(order, bins)
    x, y = predicted.ravel(), observed.ravel()
    return {
        "n": np.array([len(part) for part in parts]),
        "predicted": np.array([x[part].mean() for part in parts]),
        "observed": np.array([y[part].mean() for part in parts]),
        "observed_10": np.array([np.quantile(y[part], 0.1) for part in parts]),
        "observed_90": np.array([np.quantile(y[part], 0.9) for part in parts]),
    }


def quantile_pairs(predicted: FloatArray, observed: FloatArray, count: int) -> dict[str, Any]:
    """Quantiles of predicted beside those of observed values (a Q-Q plot)."""
    levels = (np.arange(count) + 0.5) / count
    return {
        "level": levels,
        "predicted": np.quantile(predicted, levels),
        "observed": np.quantile(observed, levels),
    }
