"""Whether tissues of the same donor are predicted to differ from others in the same way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decode_zoo.errors import InputError
from decode_zoo.evaluation.agreement import cross_spearman
from decode_zoo.metrics import auroc

__all__ = ["DonorConcordance", "compare_donors", "donor_of"]

_FIELDS = re.compile(r"[-.]")


@dataclass(frozen=True)
class DonorConcordance:
    """Mean correlation over genes of two tissues' fold changes, in pairs of one donor and of two.

    `area` is that under the ROC curve by which the former are told from the latter, and its
    interval.
    """

    genes: int
    same_pairs: int
    other_pairs: int
    same: float
    others: float
    area: tuple[float, float, float]


def donor_of(sample: str) -> str:
    """Return the donor of a GTEx sample: the first two fields of its name."""
    return "-".join(_FIELDS.split(sample)[:2])


def compare_donors(
    one: pd.DataFrame, other: pd.DataFrame, donors: Mapping[str, str] | None = None
) -> DonorConcordance:
    """Compare two tissues' fold changes (paper, Figure 4b), of shape (n_genes, n_samples).

    The donor of a sample is that of `donors`, or the first two fields of its GTEx name.
    """
    genes = one.index.intersection(other.index)
    if len(genes) < 3:
        raise InputError(f"the two share {len(genes)} genes")
    known = donors or {}
    names = [
        np.array([known.get(str(c), donor_of(str(c))) for c in frame.columns])
        for frame in (one, other)
    ]
    same = names[0][:, None] == names[1][None, :]
    if not same.any():
        raise InputError(
            "the two share no donor", remedy="Give a table of samples and their donors (--donors)."
        )
    rho = cross_spearman(one.loc[genes].to_numpy(float), other.loc[genes].to_numpy(float))
    return DonorConcordance(
        len(genes),
        int(same.sum()),
        int((~same).sum()),
        float(np.nanmean(rho[same])),
        float(np.nanmean(rho[~same])),
        auroc(np.nan_to_num(rho.ravel()), same.ravel()),
    )
