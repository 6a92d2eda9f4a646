"""From what was measured to TPM of the genes of a feature set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import PSEUDOCOUNT
from decode_zoo.features import FeatureSet
from decode_zoo.reader import Grid

__all__ = ["Abundance", "Quantity", "abundance_of", "oriented"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Quantity = Literal["counts", "tpm", "log2"]

_MILLION = 1e6
_LEAST_KNOWN = 0.1  # of names, below which they are of another annotation
_REMEDY = "Name what the values are with --quantity: counts, tpm or log2(TPM + 0.25)."


@dataclass(frozen=True)
class Abundance:
    """TPM of genes of a feature set."""

    rows: IntArray  # of the feature set, ascending
    tpm: FloatArray  # shape (n_genes, n_persons)
    totals: FloatArray  # library sizes: sums over all genes of the input, of counts or TPM
    # How many names of the input were ok, unknown_gene, ambiguous_symbol, duplicate.
    statuses: dict[str, int]


def oriented(grid: Grid, features: FeatureSet) -> tuple[Grid, bool]:
    """Turn a matrix so that genes are its rows, the side with more names that are known.

    Returns it, and whether it was turned. Raises InputError if hardly any name is that of a gene.
    """
    if features.layout.level != "gene":
        raise UsageError("A cohort needs a feature set of genes, and this one has transcripts.")
    found = [features.index.resolve(names) for names in (grid.rows, grid.columns)]
    shares = [float((side.rows >= 0).mean()) for side in found]
    if max(shares) < _LEAST_KNOWN:
        names, side = max(
            zip((grid.rows, grid.columns), found, strict=True), key=lambda pair: len(pair[0])
        )
        raise InputError(
            f"neither rows nor columns are genes of the feature set {features.name}: "
            f"{features.index.hint(side, names)}",
            path=grid.path,
            remedy="Name genes by Ensembl ids or symbols.",
        )
    turned = shares[1] > shares[0]
    return (grid.transposed if turned else grid), turned


def abundance_of(grid: Grid, features: FeatureSet, quantity: Quantity) -> Abundance:
    """Compute TPM of genes × persons.

    Counts are divided by exonic length, and then by their sum over all genes of the feature set
    that the matrix has, expressed or not; without a length no other can take part. TPM stay as
    given, even if the matrix holds some of the genes only; ``log2`` is log2(TPM + 0.25). Rows that
    mean the same gene are added, which logarithms cannot be.
    """
    _check_values(grid, quantity)
    found = features.index.resolve(grid.rows)
    statuses = dict(Counter(status.partition("_of:")[0] for status in found.status))
    if quantity == "log2" and "duplicate" in statuses:
        place = next(i for i, s in enumerate(found.status) if s.startswith("duplicate"))
        raise InputError(
            f"gene '{grid.rows[place]}' occurs twice ({found.gene_ids[place]}), and logarithms are "
            "not added",
            path=grid.path,
            line=grid.lines[place] if grid.lines else None,
            remedy="Keep one row a gene; of counts and TPM the rows would be added.",
        )
    linear = grid.values
    if quantity == "log2":
        linear = np.maximum(np.exp2(linear) - PSEUDOCOUNT, 0)
    known = np.flatnonzero(found.rows >= 0)
    # In the order of the feature set, so that the order of the input does not matter.
    rows, places = np.unique(found.rows[known], return_inverse=True)
    values = np.zeros((len(rows), linear.shape[1]))
    if len(rows) == len(known):
        values[places] = linear[known]
    else:
        np.add.at(values, places, linear[known])
    if quantity == "counts":
        lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
        # A gene without exons has no rate.
        rows, values, lengths = rows[lengths > 0], values[lengths > 0], lengths[lengths > 0]
        values /= lengths[:, None]
        sums = values.sum(axis=0)
        if not (sums > 0).all():
            raise InputError(
                f"person '{grid.columns[int(sums.argmin())]}' has no counts",
                path=grid.path,
                remedy="Leave the person out.",
            )
        values *= _MILLION / sums
    return Abundance(rows, values, linear.sum(axis=0), statuses)


def _check_values(grid: Grid, quantity: Quantity) -> None:
    """Refuse values that cannot be what they are said to be."""
    values = grid.values
    lowest = np.log2(PSEUDOCOUNT) - 0.01 if quantity == "log2" else 0.0
    if values.min() < lowest:
        place = int((values < lowest).any(axis=1).argmax())
        person = int((values[place] < lowest).argmax())
        what = "is less than log2(0.25)" if quantity == "log2" else "is negative"
        raise InputError(
            f"gene '{grid.rows[place]}', person '{grid.columns[person]}': {values[place, person]:g}"
            f" {what}, which no {quantity} value is",
            path=grid.path,
            line=grid.lines[place] if grid.lines else None,
            remedy="Give values that are not centred or scaled. " + _REMEDY,
        )
    sums = values.sum(axis=0)
    wrong = ""
    if quantity == "tpm" and sums.max() > 1.05 * _MILLION:
        wrong = "TPM of a person add up to a million at most, and here to more: are these counts?"
    elif quantity == "log2" and values.max() > np.log2(_MILLION) + 0.01:
        wrong = (
            f"{values.max():g} is more than the logarithm of a million: are these no logarithms?"
        )
    elif quantity == "log2" and values.min() == 0 and (values == 0).mean() > 0.01:
        wrong = "the least value is 0, and many are: this is log2(TPM + 1), not log2(TPM + 0.25)"
    elif quantity == "counts" and np.abs(sums / _MILLION - 1).max() < 0.01 and (values % 1).any():
        wrong = "the values of each person add up to a million: these are TPM, not counts"
    if wrong:
        raise InputError(wrong, path=grid.path, remedy=_REMEDY)
