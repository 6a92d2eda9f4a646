"""Evidence that regulators account for sets of genes: closed-form tests of all tracks at once.

Each statistic is linear in membership: a covariance over genes of membership with what a track
binds (or how alike predicted expression is), after both are freed of confounders. Under random
sets of genes its first three moments are known, which is what p-values come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import ndtr

__all__ = [
    "Contrasts",
    "Matches",
    "adjusted",
    "cauchy",
    "contrasts",
    "likeness",
    "orthonormal",
    "upper_tail",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# Confounders that add less than that to those before them are none of their own.
_FLAT = 1e-6
# Weakest directions of expression count as if they had this share of the strongest one's variance.
_RIDGE = 0.02
# P-values next to one would undo any other in a Cauchy combination.
_LARGEST_P = 0.9
_BLOCK = 256


def orthonormal(columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis of confounders, their squares and cubes, and a constant."""
    spread = columns.std(axis=0)
    z = (columns - columns.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    powers = np.hstack([np.ones((len(z), 1)), z, z**2, z**3])
    powers /= np.linalg.norm(powers, axis=0)
    left, values, _ = np.linalg.svd(powers, full_matrices=False)
    return np.asarray(left[:, values > _FLAT * values[0]])


def adjusted(columns: npt.NDArray[Any], basis: FloatArray) -> npt.NDArray[Any]:
    """Free columns of what a basis explains; their type is kept, their mean is 0."""
    own = basis.astype(columns.dtype)
    return np.asarray(columns - own @ (own.T @ columns))


@dataclass(frozen=True, repr=False)
class Contrasts:
    """Sets of genes, as what their membership is beyond confounders.

    `values`, shape (n_genes, n_sets), have mean 0 and variance 1.
    """

    values: npt.NDArray[np.float32]
    skewness: FloatArray
    sizes: IntArray

    def tests(self, columns: npt.NDArray[np.float32], basis: FloatArray) -> FloatArray:
        """Return standard normal scores of the covariance of each set with each column.

        `columns` is what tracks bind, not yet adjusted. Scores, shape (n_sets, n_columns), are
        positive where members are bound more, and 0 for a column that confounders explain.
        """
        found = np.zeros((self.values.shape[1], columns.shape[1]))
        for start in range(0, columns.shape[1], _BLOCK):
            part, skewness = _standard(adjusted(columns[:, start : start + _BLOCK], basis))
            raw = (self.values.T @ part).astype(np.float64) / np.sqrt(len(part))
            found[:, start : start + _BLOCK] = _normal(
                raw, np.outer(self.skewness, skewness) / np.sqrt(len(part))
            )
        return found


def contrasts(members: BoolArray, basis: FloatArray) -> Contrasts:
    """Free membership in sets, shape (n_genes, n_sets), of confounders."""
    values, skewness = _standard(adjusted(members.astype(np.float32), basis))
    return Contrasts(values, skewness, members.sum(axis=0))


def _standard(columns: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Columns of mean 0 with variance 1 (0 if they are flat), and their skewness."""
    spread = np.sqrt(np.einsum("ij,ij->j", columns, columns) / len(columns))
    with np.errstate(divide="ignore"):
        columns = columns * np.where(spread > _FLAT, 1 / spread, 0).astype(np.float32)
    return columns, np.asarray(
        np.einsum("ij,ij,ij->j", columns, columns, columns) / len(columns), np.float64
    )


def _normal(standard: FloatArray, skewness: FloatArray) -> FloatArray:
    """Turn values of Pearson's type III distribution into normal ones (Wilson and Hilferty).

    A short list against a track of few genes is closer to Poisson than to normal: its skewness is
    the product of both over the root of the number of genes.
    """
    slight = np.abs(skewness) < 1e-4
    skew = np.where(slight, 1.0, skewness)
    bent = (6 / skew) * (np.cbrt(np.maximum(skew * standard / 2 + 1, 1e-9)) - 1) + skew / 6
    return np.where(slight, standard, bent)


@dataclass(frozen=True, repr=False)
class Matches:
    """How alike genes of regulators and sets are in predicted expression; (n_sets, n_regulators).

    `cosine` is between the mean of a set, without the regulator's own gene, and the regulator's
    gene, over outputs that are made independent; `z` is standard normal for random sets.
    """

    cosine: FloatArray
    z: FloatArray


def likeness(
    profiles: npt.NDArray[np.float32], own: IntArray, sets: Contrasts, basis: FloatArray
) -> Matches:
    """Compare what models predict for sets with what they predict for regulators' own genes.

    `profiles` are predicted log2 fold changes, `own` the row of each regulator's gene.
    """
    centred = profiles - profiles.mean(axis=0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    shapes = (centred / np.maximum(length, _FLAT)).astype(np.float64)
    variances, axes = np.linalg.eigh(shapes.T @ shapes / len(shapes))
    axes /= np.sqrt(np.maximum(variances, _RIDGE * variances[-1]))
    white = shapes @ axes
    means = sets.values.astype(np.float64).T @ white
    regulators = white[own]
    selves = sets.values[own].T * (regulators**2).sum(axis=1)
    norms = np.linalg.norm(means, axis=1)[:, None] * np.linalg.norm(regulators, axis=1)
    free = adjusted(white, basis)
    spread = np.sqrt(np.einsum("ij,jk,ik->i", regulators, free.T @ free, regulators))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(norms > 0, (means @ regulators.T - selves) / norms, 0)
        z = np.where(spread > 0, (means @ regulators.T - selves) / spread, 0)
    return Matches(cosine, z)


def cauchy(p: FloatArray, groups: Sequence[int], n_groups: int) -> FloatArray:
    """Combine p-values by groups of columns; they may depend on each other (Liu and Xie 2020).

    0.5 for a group without columns: nothing is known.
    """
    bounded = np.clip(p, 1e-300, _LARGEST_P)
    # tan loses all digits next to its pole, where it is 1 / (pi p).
    angles = np.where(bounded < 1e-8, 1 / (np.pi * bounded), np.tan(np.pi * (0.5 - bounded)))
    codes = np.asarray(groups, np.int64)
    spread = sparse.csr_array(
        (np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), n_groups)
    )
    mean = (angles @ spread) / np.maximum(np.bincount(codes, minlength=n_groups), 1)
    return np.asarray(np.arctan2(1, mean) / np.pi)  # 1/2 - arctan(mean)/pi, without cancellation


def upper_tail(z: FloatArray) -> FloatArray:
    """Return how likely a standard normal value is at least `z`."""
    return np.asarray(ndtr(-z))
