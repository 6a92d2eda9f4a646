"""Moderated statistics: a linear model a gene, whose variances borrow from each other.

Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3 (doi 10.2202/1544-6115.1027), as limma has it.
The empirical Bayes step is pylimma's. Least squares are done here, since pylimma's own take the
full QR decomposition of the design, too slow for hundreds of permutations of hundreds of persons.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.errors import InputError, MissingExtraError

__all__ = ["Moderated", "moderate"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moderated:
    """What n genes have to do with one coefficient.

    Attributes
    ----------
    effect : ndarray of float64, shape (n,)
        The coefficient, in the values' unit by that of the coefficient.
    mean : ndarray of float64, shape (n,)
        Over samples.
    t, p, q : ndarray of float64, shape (n,)
        Moderated t statistic, its two-sided p value, and that adjusted by Benjamini and Hochberg.
    df_residual, df_prior : float
        Degrees of freedom of a gene, and what the other genes add to them; may be infinite.
    variance_prior : float
        What the genes' variances are drawn to.
    """

    effect: FloatArray
    mean: FloatArray
    t: FloatArray
    p: FloatArray
    q: FloatArray
    df_residual: float
    df_prior: float
    variance_prior: float


def moderate(values: FloatArray, design: FloatArray) -> Moderated:
    """Test the last coefficient of a linear model, gene by gene.

    Parameters
    ----------
    values : ndarray of float64, shape (n_genes, n_samples)
        On a logarithmic scale.
    design : ndarray of float64, shape (n_samples, n_coefficients)
        Of full rank, with fewer coefficients than samples.

    Returns
    -------
    Moderated

    Raises
    ------
    MissingExtraError
        If pylimma is not installed.
    InputError
        If there are no genes, or more than half of them do not vary.
    """
    try:
        from pylimma import squeeze_var
    except ImportError:
        raise MissingExtraError("pylimma", "studies") from None
    if not len(values):
        raise InputError("there is no gene to test")
    basis, triangle = np.linalg.qr(design)
    projected = values @ basis
    residuals = values - projected @ basis.T
    df = float(design.shape[0] - design.shape[1])
    variance = (residuals * residuals).sum(axis=1) / df
    if not np.median(variance) > 0:
        raise InputError(
            "more than half of the genes do not vary among the samples",
            remedy="Leave out genes that are not expressed.",
        )
    # The last coefficient is the last row of the triangular system alone.
    effect = projected[:, -1] / triangle[-1, -1]
    with warnings.catch_warnings():
        # That variances of exactly zero are raised, which changes no other gene's.
        warnings.simplefilter("ignore")
        squeezed = squeeze_var(variance, df)
    posterior = np.asarray(squeezed["var_post"], np.float64)
    df_prior, prior = float(squeezed["df_prior"]), squeezed["var_prior"]
    t = effect * abs(triangle[-1, -1]) / np.sqrt(posterior)
    p = 2 * stats.t.sf(np.abs(t), min(df + df_prior, df * len(values)))
    return Moderated(
        effect,
        values.mean(axis=1),
        t,
        p,
        stats.false_discovery_control(p),
        df,
        df_prior,
        float(np.mean(prior)),
    )
