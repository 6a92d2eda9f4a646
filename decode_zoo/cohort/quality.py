"""What may be wrong with samples: principal components, outliers, sex against expression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from decode_zoo.cohort.expression import PSEUDOCOUNT
from decode_zoo.cohort.preparation import Cohort
from decode_zoo.cohort.samples import Trait, standardised, trait_of
from decode_zoo.core.arrays import FloatArray
from decode_zoo.features.featureset import FeatureSet

__all__ = ["Components", "Quality", "SexCheck", "measure_quality"]

_VARIABLE = 2000  # genes of most variance, which components are computed of
_COMPONENTS = 4
_FAR = 3.5  # robust standard deviations (Iglewicz & Hoaglin 1993)
_MAD = 1.4826  # of a normal distribution's standard deviation over its median absolute deviation
_APART, _UNCLEAR = 4.0, 1.0  # log2 units: the two sexes, and the space between them

XIST = "ENSG00000229807"
# Single copy, expressed everywhere, outside the pseudo-autosomal regions.
Y_GENES: Mapping[str, str] = {
    "RPS4Y1": "ENSG00000129824",
    "DDX3Y": "ENSG00000067048",
    "KDM5D": "ENSG00000012817",
    "EIF1AY": "ENSG00000198692",
    "UTY": "ENSG00000183878",
}


@dataclass(frozen=True)
class Components:
    """Principal components of samples."""

    scores: FloatArray  # shape (n_samples, n_components)
    shares: FloatArray  # of the variance of the most variable genes, by component
    by_trait: dict[str, FloatArray]  # share of each component's variance that a trait explains


@dataclass(frozen=True)
class SexCheck:
    """Sex by expression."""

    # log2(TPM + 0.25) by sample of XIST, and the mean of that of `genes`; None if not in the input.
    xist: FloatArray | None
    y: FloatArray | None
    genes: tuple[str, ...]  # symbols of the Y genes that are there
    calls: tuple[str, ...]  # female, male or unclear; empty if either is missing
    given: tuple[str, ...]  # as the sample table has it (column sex or gender), if it does

    @property
    def differing(self) -> list[int]:
        """Samples whose expression says otherwise than the table."""
        if not self.given:
            return []
        pairs = zip(self.calls, map(_sex_of, self.given), strict=False)
        return [i for i, (call, sex) in enumerate(pairs) if {call, sex} == {"female", "male"}]


@dataclass(frozen=True)
class Quality:
    """What the page of a cohort shows."""

    components: Components
    # Mean Spearman-like correlation with the others: of normalised values, of the same ranks.
    similarity: FloatArray
    outliers: list[int]  # samples whose similarity is far below the median
    sex: SexCheck
    traits: list[Trait]  # columns of the sample table that differ between samples


def measure_quality(cohort: Cohort, features: FeatureSet) -> Quality:
    """Measure what the page of a cohort shows."""
    traits = [trait_of(cohort.samples, str(name)) for name in cohort.samples.columns]
    # A name for each sample, unlike a trait, groups none of them.
    traits = [
        trait
        for trait in traits
        if trait.varies
        and (trait.numbers is not None or len(trait.categories) <= max(len(trait.texts) // 2, 2))
    ]
    correlation = np.atleast_2d(np.corrcoef(cohort.normalised.T))
    similarity = (correlation.sum(axis=1) - 1) / (len(correlation) - 1)
    deviation = _MAD * float(np.median(np.abs(similarity - np.median(similarity))))
    far = similarity < np.median(similarity) - _FAR * deviation
    return Quality(
        _components(cohort.expression.to_numpy(), traits),
        similarity,
        np.flatnonzero(far).tolist() if deviation > 0 else [],
        _sex_check(cohort, features),
        traits,
    )


def _components(values: FloatArray, traits: list[Trait]) -> Components:
    variable = np.argsort(values.var(axis=1), kind="stable")[-_VARIABLE:]
    centred = values[variable] - values[variable].mean(axis=1, keepdims=True)
    # Of samples × samples: there are far fewer of them than genes.
    sizes, vectors = np.linalg.eigh(centred.T @ centred)
    count = min(_COMPONENTS, len(sizes) - 1)
    sizes, vectors = np.maximum(sizes[::-1], 0), vectors[:, ::-1][:, :count]
    # Which way a component points is arbitrary; the same input is to give the same picture.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    scores = vectors * np.sqrt(sizes[:count])
    explained = {trait.name: _explained(scores, trait) for trait in traits}
    return Components(scores, sizes[:count] / max(sizes.sum(), 1e-12), explained)


def _explained(scores: FloatArray, trait: Trait) -> FloatArray:
    """Return what share of each column's variance a trait explains, over samples that have it."""
    there = np.array([text != "" for text in trait.texts])
    if trait.numbers is not None:
        design = standardised(trait.numbers[there])[:, None]
    else:
        texts = np.array(trait.texts)[there]
        design = np.column_stack([(texts == text).astype(float) for text in trait.categories])
        design -= design.mean(axis=0)
    centred = scores[there] - scores[there].mean(axis=0)
    fitted = design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    explained: FloatArray = (fitted**2).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    return explained


def _sex_check(cohort: Cohort, features: FeatureSet) -> SexCheck:
    row_of = {features.rows.gene_ids[row]: i for i, row in enumerate(cohort.abundance.rows)}
    tpm = cohort.abundance.tpm
    xist = np.log2(tpm[row_of[XIST]] + PSEUDOCOUNT) if XIST in row_of else None
    there = tuple(symbol for symbol, gene in Y_GENES.items() if gene in row_of)
    rows = [row_of[Y_GENES[symbol]] for symbol in there]
    # Of logarithms, for reads of X genes make much of one or two of them in women, too.
    y = np.log2(tpm[rows] + PSEUDOCOUNT).mean(axis=0) if there else None
    calls: tuple[str, ...] = ()
    if xist is not None and y is not None:
        calls = _calls(xist - y)
    column = next((c for c in cohort.samples if str(c).lower() in ("sex", "gender")), None)
    given = () if column is None else tuple(trait_of(cohort.samples, str(column)).texts)
    return SexCheck(xist, y, there, calls, given)


def _calls(difference: FloatArray) -> tuple[str, ...]:
    """Call sexes by XIST less Y genes, in log2 units.

    Where between the sexes the border lies depends on the library: short reads of X genes count as
    their relatives on Y. So samples are split where the two parts differ most, as Otsu does with
    pixels; where that is not far, all are of one sex.
    """
    ordered = np.sort(difference)
    count = np.arange(1, len(ordered))
    sums: FloatArray = np.cumsum(ordered)
    low, high = sums[:-1] / count, (sums[-1] - sums[:-1]) / count[::-1]
    best = int(np.argmax(count * count[::-1] * (high - low) ** 2))
    split = 0.0
    if high[best] - low[best] > _APART:
        split = float(ordered[best] + ordered[best + 1]) / 2
    return tuple(
        "unclear" if abs(d - split) < _UNCLEAR else "female" if d > split else "male"
        for d in difference
    )


def _sex_of(text: str) -> str:
    return {"f": "female", "w": "female", "m": "male"}.get(text[:1].lower(), "")
