"""What is taken out of log2 values: unequal distributions, covariates, and bias by length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from decode_zoo.errors import MissingExtraError

__all__ = ["length_basis", "quantile_normalised", "without_covariates", "without_length"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_DEGREE = 3
_INNER_KNOTS = 4


def quantile_normalised(values: FloatArray) -> FloatArray:
    """Give all persons (columns) the same distribution of values, the mean of theirs."""
    try:
        import qnorm
    except ImportError:
        raise MissingExtraError("qnorm", "train") from None
    normalised: FloatArray = qnorm.quantile_normalize(np.array(values))
    return normalised


def without_covariates(values: FloatArray, design: FloatArray) -> FloatArray:
    """Remove what covariates explain of each gene (least squares); gene means stay.

    Values are genes × persons; the design is persons × columns, of mean 0.
    """
    coefficients = np.linalg.lstsq(design, values.T, rcond=None)[0]
    kept: FloatArray = values - (design @ coefficients).T
    return kept


def length_basis(lengths: npt.ArrayLike, fitted: BoolArray) -> FloatArray:
    """Return cubic splines of log2 length (nt), knots at quantiles, shape (n_genes, n_splines).

    Quantiles are taken of the `fitted` genes. Lengths beyond their 1st and 99th percentiles count
    as these, for few genes would decide there. The splines of a gene add up to 1.
    """
    x = np.log2(np.asarray(lengths, np.float64))
    knots = np.quantile(x[fitted], np.linspace(0, 1, _INNER_KNOTS + 2))
    knots[0], knots[-1] = np.quantile(x[fitted], [0.01, 0.99])
    knots = np.unique(knots)
    if len(knots) < 2:  # all genes are of one length
        return np.ones((len(x), 1))
    ends = [knots[0]] * _DEGREE, [knots[-1]] * _DEGREE
    basis: FloatArray = BSpline.design_matrix(
        np.clip(x, knots[0], knots[-1]), np.concatenate([ends[0], knots, ends[1]]), _DEGREE
    ).toarray()
    return basis


def without_length(
    values: FloatArray, basis: FloatArray, fitted: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Remove what a smooth function of length explains of each person's fold changes.

    The functions are fitted to the `fitted` genes (least squares, all persons at once). Returns the
    values, whose gene means stay, and what was removed, both genes × persons.
    """
    coefficients = np.linalg.lstsq(basis[fitted], values[fitted], rcond=None)[0]
    # The fit is linear in the values: what is left of the coefficients after their mean is taken
    # off is the fit of the deviations from the gene means.
    bias = basis @ (coefficients - coefficients.mean(axis=1, keepdims=True))
    return values - bias, bias
