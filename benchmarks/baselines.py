"""Baselines that a network must beat: ridge regression and the number of bound regulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from decode_zoo.training.dataset import Dataset

__all__ = ["RidgeFit", "bound_counts", "fit_ridge", "log_sums"]

FloatArray = npt.NDArray[np.float64]


def log_sums(dataset: Dataset, part: npt.NDArray[np.int64]) -> FloatArray:
    """log(1 + covered bases) of all tracks and of the RNA length, shape (n, n_features)."""
    rows = dataset.rows[part]
    blocks = [np.log1p(dataset.features.mask_sums("rna", 1)[rows].astype(np.float64))]
    for side, columns in dataset.bound.columns.items():
        blocks.append(np.log1p(dataset.features.sums(side)[0][rows][:, columns].toarray()))
    return np.concatenate(blocks, axis=1)


def bound_counts(dataset: Dataset, part: npt.NDArray[np.int64]) -> FloatArray:
    """Count promoter tracks with a site in the window, shape (n, 1)."""
    columns = dataset.bound.columns["promoter"]
    bound = dataset.features.sums("promoter")[0][dataset.rows[part]][:, columns] > 0
    return np.asarray(bound.sum(axis=1), np.float64)[:, None]


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge regression on standardised features.

    `alpha` was chosen on validation genes; `mean` and `scale`, shape (n_features,), are those of
    training genes. Coefficients have shape (n_features, n_outputs).
    """

    alpha: float
    mean: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    intercept: FloatArray

    def predict(self, features: FloatArray) -> FloatArray:
        """Predict outputs, shape (n, n_outputs)."""
        return (features - self.mean) / self.scale @ self.coefficients + self.intercept


def fit_ridge(
    x: FloatArray, y: FloatArray, x_val: FloatArray, y_val: FloatArray, alphas: Sequence[float]
) -> RidgeFit:
    """Fit a ridge regression for each penalty, keep the one with the least validation error.

    `y` and `y_val` are in units of the output scales, shape (n, n_outputs).
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    z, intercept = (x - mean) / scale, y.mean(axis=0)
    values, vectors = linalg.eigh(z.T @ z)
    rotated = vectors.T @ (z.T @ (y - intercept))
    fits = [
        RidgeFit(alpha, mean, scale, vectors @ (rotated / (values + alpha)[:, None]), intercept)
        for alpha in alphas
    ]
    return min(fits, key=lambda fit: float(((fit.predict(x_val) - y_val) ** 2).mean()))
