"""From what a cohort's samples were measured as to what models are fine-tuned on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.interpolate import BSpline

from decode_zoo.cohort.expression import PSEUDOCOUNT
from decode_zoo.cohort.samples import design_of, match, read_samples
from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.core.reader import NamedMatrix, read_matrix
from decode_zoo.features.featureset import FeatureSet

__all__ = [
    "Abundance",
    "Cohort",
    "Quantity",
    "abundance_of",
    "length_basis",
    "prepare_cohort",
    "quantile_normalised",
    "without_covariates",
    "without_length",
]

Quantity = Literal["counts", "tpm", "log2"]

_MILLION = 1e6
_LEAST_KNOWN = 0.1  # of names, below which they are of another annotation
_QUANTITY = "Name what the values are with --quantity: counts, tpm or log2(TPM + 0.25)."
_FEWEST_SAMPLES = 3
_FEWEST_GENES = 100
# Splines of log2 length.
_DEGREE, _INNER_KNOTS = 3, 4
# Figures on this chromosome are what models are judged by: nothing is fitted to it.
_JUDGED = "1"
# Expression and RNA length: with fewer genes elsewhere the smooth function is fitted to all.
_FEWEST_FITTED = 500

# --- abundance ------------------------------------------------------------------------


@dataclass(frozen=True)
class Abundance:
    """TPM of genes of a feature set."""

    rows: IntArray  # of the feature set, ascending
    tpm: FloatArray  # shape (n_genes, n_samples)
    totals: FloatArray  # library sizes: sums over all genes of the input, of counts or TPM
    # How many names of the input were ok, unknown_gene, ambiguous_symbol, duplicate.
    statuses: dict[str, int]


def oriented(grid: NamedMatrix, features: FeatureSet) -> tuple[NamedMatrix, bool]:
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


def abundance_of(grid: NamedMatrix, features: FeatureSet, quantity: Quantity) -> Abundance:
    """Compute TPM of genes × samples.

    Counts are divided by exonic length, and then by their sum over all genes of the feature set
    that the matrix has. TPM stay as given, even if the matrix holds some of the genes only;
    ``log2`` is log2(TPM + 0.25). Rows of the same gene are added, which logarithms cannot be.
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
                f"sample '{grid.columns[int(sums.argmin())]}' has no counts",
                path=grid.path,
                remedy="Leave the sample out.",
            )
        values *= _MILLION / sums
    return Abundance(rows, values, linear.sum(axis=0), statuses)


def _check_values(grid: NamedMatrix, quantity: Quantity) -> None:
    """Refuse values that cannot be what they are said to be."""
    values, log2 = grid.values, quantity == "log2"
    lowest = np.log2(PSEUDOCOUNT) - 0.01 if log2 else 0.0
    if values.min() < lowest:
        row = int((values < lowest).any(axis=1).argmax())
        sample = int((values[row] < lowest).argmax())
        what = "is less than log2(0.25)" if log2 else "is negative"
        raise InputError(
            f"gene '{grid.rows[row]}', sample '{grid.columns[sample]}': {values[row, sample]:g}"
            f" {what}, which no {quantity} value is",
            path=grid.path,
            line=grid.lines[row] if grid.lines else None,
            remedy="Give values that are not centred or scaled. " + _QUANTITY,
        )
    sums = values.sum(axis=0)
    wrong = ""
    if quantity == "tpm" and sums.max() > 1.05 * _MILLION:
        wrong = "TPM of a sample add up to a million at most, and here to more: are these counts?"
    elif log2 and values.max() > np.log2(_MILLION) + 0.01:
        wrong = (
            f"{values.max():g} is more than the logarithm of a million: are these no logarithms?"
        )
    elif log2 and values.min() == 0 and (values == 0).mean() > 0.01:
        wrong = "the least value is 0, and many are: this is log2(TPM + 1), not log2(TPM + 0.25)"
    elif quantity == "counts" and np.abs(sums / _MILLION - 1).max() < 0.01 and (values % 1).any():
        wrong = "the values of each sample add up to a million: these are TPM, not counts"
    if wrong:
        raise InputError(wrong, path=grid.path, remedy=_QUANTITY)


# --- what is taken out of log2 values ---------------------------------------------------


def quantile_normalised(values: FloatArray) -> FloatArray:
    """Give all samples (columns) the same distribution of values, the mean of theirs."""
    try:
        import qnorm
    except ImportError:
        raise MissingExtraError("qnorm", "train") from None
    normalised: FloatArray = qnorm.quantile_normalize(np.array(values))
    return normalised


def without_covariates(values: FloatArray, design: FloatArray) -> FloatArray:
    """Remove what covariates explain of each gene (least squares); gene means stay.

    Values are genes × samples; the design is samples × columns, of mean 0.
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
    """Remove what a smooth function of length explains of each sample's fold changes.

    The functions are fitted to the `fitted` genes (least squares, all samples at once). Returns the
    values, whose gene means stay, and what was removed, both genes × samples.
    """
    coefficients = np.linalg.lstsq(basis[fitted], values[fitted], rcond=None)[0]
    # The fit is linear in the values: what is left of the coefficients after their mean is taken
    # off is the fit of the deviations from the gene means.
    bias = basis @ (coefficients - coefficients.mean(axis=1, keepdims=True))
    return values - bias, bias


# --- all steps ------------------------------------------------------------------------


@dataclass(frozen=True)
class Cohort:
    """A prepared cohort."""

    # log2(TPM + 0.25), normalised and corrected, genes × samples.
    expression: pd.DataFrame
    samples: pd.DataFrame  # texts, samples × traits
    # What it was made of, before genes were chosen.
    abundance: Abundance = field(repr=False)
    # Genes × samples after the first quantile normalisation, before anything is regressed out.
    normalised: FloatArray = field(repr=False)
    # Of the variance of each sample's fold changes, what RNA length explains.
    length_share: FloatArray = field(repr=False)
    facts: dict[str, Any]  # parameters, and what became of genes and samples


def prepare_cohort(
    expression: str | os.PathLike[str] | pd.DataFrame | NamedMatrix,
    samples: str | os.PathLike[str] | pd.DataFrame | None,
    features: FeatureSet,
    *,
    quantity: Quantity,
    covariates: Sequence[str] = (),
    min_tpm: float = 1.0,
    min_share: float = 0.5,
    length_bias: bool = True,
) -> Cohort:
    """Prepare a cohort as the paper does, and take out what RNA length explains.

    Counts become TPM; genes that enough samples express are kept; log2(TPM + 0.25); quantile
    normalisation; covariates are regressed out of each gene; a smooth function of RNA length is
    regressed out of each sample; quantile normalisation again.

    `expression` is genes × samples or samples × genes (`read_matrix`), `samples` their traits
    (`read_samples`), of which `covariates` are columns. A gene is kept if at least `min_share` of
    the samples have more than `min_tpm`. Whatever differs between samples in quality of RNA or
    sequencing depth looks like regulation of long or of short genes: that is the `length_bias`.
    """
    if not (min_tpm >= 0 and 0 < min_share <= 1):
        raise UsageError(
            "min_tpm must not be negative, and min_share must be above 0 and at most "
            f"1, not {min_tpm} and {min_share}."
        )
    if isinstance(expression, pd.DataFrame):
        expression = NamedMatrix.from_frame(expression, "the expression matrix")
    elif not isinstance(expression, NamedMatrix):
        expression = read_matrix(expression)
    grid, turned = oriented(expression, features)
    if samples is None:
        table = pd.DataFrame(index=pd.Index(grid.columns, name="sample", dtype=object))
    else:
        table = samples if isinstance(samples, pd.DataFrame) else read_samples(samples)
    if covariates and samples is None:
        raise UsageError("Covariates are columns of a sample table.", remedy="--samples FILE")
    place = match(grid.columns, table, grid.path)
    if len(place) < _FEWEST_SAMPLES:
        raise InputError(
            f"has {len(place)} samples, and fold changes against the median of a "
            f"cohort take {_FEWEST_SAMPLES}",
            path=grid.path,
        )
    design, traits = design_of(table, covariates)
    abundance = abundance_of(grid, features, quantity)
    abundance = replace(abundance, tpm=abundance.tpm[:, place], totals=abundance.totals[place])
    kept = (abundance.tpm > min_tpm).mean(axis=1) >= min_share
    if kept.sum() < _FEWEST_GENES:
        raise InputError(
            f"{int(kept.sum())} of {len(kept):,} genes exceed {min_tpm:g} TPM in "
            f"{100 * min_share:g}% of the samples; it takes {_FEWEST_GENES}",
            path=grid.path,
            remedy=f"Are the values {quantity}? Or ask for less.",
        )
    rows = abundance.rows[kept]
    normalised = quantile_normalised(np.log2(abundance.tpm[kept] + PSEUDOCOUNT))
    values = without_covariates(normalised, design) if design.size else normalised
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    fitted = np.array([features.rows.chroms[row] != _JUDGED for row in rows])
    fitted_to = "genes of other chromosomes than chr1"
    if fitted.sum() < _FEWEST_FITTED:
        fitted, fitted_to = np.ones(len(rows), np.bool_), "all genes"
    corrected, bias = without_length(values, length_basis(lengths, fitted), fitted)
    deviations = values - values.mean(axis=1, keepdims=True)
    share = bias.var(axis=0) / np.maximum(deviations.var(axis=0), 1e-12)
    frame = pd.DataFrame(
        quantile_normalised(corrected if length_bias else values),
        index=pd.Index([features.rows.gene_ids[row] for row in rows], name="gene_id"),
        columns=[str(name) for name in table.index],
    )
    facts = {
        "quantity": quantity,
        "transposed": turned,
        "genes": {
            "in_the_file": len(grid.rows),
            **abundance.statuses,
            "with_features": len(abundance.rows),
            "kept": len(rows),
        },
        "samples": len(table),
        "kept_if": {"tpm_above": min_tpm, "in_share_of_samples": min_share},
        "covariates": {trait.name: trait.kind for trait in traits},
        "length_bias": {
            "removed": length_bias,
            "mean_share_of_variance": round(float(share.mean()), 4),
            "largest_share_of_variance": round(float(share.max()), 4),
            "fitted_to": fitted_to,
        },
    }
    return Cohort(frame, table, abundance, normalised, share, facts)
