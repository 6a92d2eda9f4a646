"""Moderated statistics: a linear model a gene, whose variances borrow from each other.

Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3 (doi 10.2202/1544-6115.1027), as limma has it.
The empirical Bayes step is pylimma's. Least squares are done here, since pylimma's own take the
full QR decomposition of the design, too slow for hundreds of permutations of hundreds of persons.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from decode_zoo.errors import InputError, MissingExtraError

__all__ = ["Moderated", "moderate"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moderated:
    """What n genes have to do with one coefficient; arrays have the shape (n,)."""

    effect: FloatArray  # the coefficient, in the values' unit by that of the coefficient
    mean: FloatArray  # over samples
    t: FloatArray  # moderated
    p: FloatArray  # two-sided
    q: FloatArray  # adjusted by Benjamini and Hochberg
    df_residual: float  # degrees of freedom of a gene
    df_prior: float  # what the other genes add to them; may be infinite
    variance_prior: float  # what the genes' variances are drawn to

    def to_frame(self, labels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        """Return a row a gene, with labels in front."""
        numbers = {name: getattr(self, name) for name in ("effect", "mean", "t", "p", "q")}
        return pd.DataFrame({**labels, **numbers})


def moderate(values: FloatArray, design: FloatArray) -> Moderated:
    """Test the last coefficient of a linear model, gene by gene.

    `values` (n_genes, n_samples) are on a logarithmic scale; `design` (n_samples, n_coefficients)
    is of full rank, with fewer coefficients than samples. Raises InputError if there are no genes,
    or more than half of them do not vary.
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
