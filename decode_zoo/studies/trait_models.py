"""Linear models of a trait: how samples enter them, and moderated statistics of each gene.

Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3 (doi 10.2202/1544-6115.1027), as limma has it.
The empirical Bayes step is pylimma's. Least squares are done here, since pylimma's own take the
full QR decomposition of the design, too slow for hundreds of permutations of hundreds of samples.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from decode_zoo.cohort.samples import trait_of
from decode_zoo.core.arrays import FloatArray
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.networks.metrics import determined

__all__ = ["Design", "Moderated", "make_design", "moderate"]

_BRACKET = re.compile(r"([0-9]{1,3})\s*[-–]\s*([0-9]{1,3})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Design:
    """A linear model of one trait."""

    trait: str
    samples: tuple[str, ...]  # the m whose trait and covariates are known
    names: tuple[str, ...]  # of the k coefficients; the last one is the trait's
    matrix: FloatArray  # (m, k)
    coding: Mapping[str, str]  # how the trait and each covariate were taken, in words
    values: tuple[str, ...]  # the trait of each sample, as the table has it
    incomplete: tuple[str, ...]  # samples left out because a value is missing


def make_design(
    table: pd.DataFrame, samples: Sequence[str], trait: str, covariates: Sequence[str] = ()
) -> Design:
    """Lay out a linear model: an intercept, covariates, and the trait.

    Samples are those to use, all in the table (`read_samples`). A column of
    numbers is a slope by unit; one of brackets such as 50-59 a slope by the brackets' middles;
    another one is a contrast of each level against the first in alphabetical order, and as a trait
    has two levels.

    Raises UsageError if there are no such columns, or one is asked for twice, InputError for a
    column that makes no linear model.
    """
    asked = [*covariates, trait]
    if twice := [name for name, times in Counter(asked).items() if times > 1]:
        raise UsageError(
            f"Column '{twice[0]}' is asked for twice.",
            remedy="The trait is no covariate of itself.",
        )
    path, chosen = table.attrs.get("path"), table.loc[list(samples)]
    traits = [trait_of(chosen, name) for name in asked]
    known = [i for i in range(len(chosen)) if all(item.texts[i] for item in traits)]
    incomplete = set(range(len(chosen))).difference(known)
    if not known:
        raise InputError(f"no sample has values of {', '.join(asked)}", path=path)
    names, columns, owners, coding = ["intercept"], [np.ones(len(known))], [""], {}
    for item in traits:
        cells = {samples[i]: item.texts[i] for i in known}
        parts, coding[item.name] = _coded(item.name, cells, path, is_trait=item.name == trait)
        names += parts
        columns += list(parts.values())
        owners += [item.name] * len(parts)
    matrix = np.stack(columns, axis=1)
    m, k = matrix.shape
    if m <= k:
        raise InputError(
            f"{m} samples are too few for {k} coefficients ({', '.join(names[:6])}"
            f"{', …' if k > 6 else ''}): at least {k + 1} are needed",
            path=path,
            remedy="Leave out covariates, or bring more samples.",
        )
    for column in determined(matrix):
        others = [name for name in dict.fromkeys(owners[:column]) if name]
        raise InputError(
            f"'{names[column]}' is determined by {', '.join(others)}, so their effects cannot be "
            "told apart",
            path=path,
            remedy="Leave one of these covariates out.",
        )
    return Design(
        trait,
        tuple(samples[i] for i in known),
        tuple(names),
        matrix,
        coding,
        tuple(traits[-1].texts[i] for i in known),
        tuple(samples[i] for i in sorted(incomplete)),
    )


def _coded(
    name: str, cells: Mapping[str, str], path: str | None, *, is_trait: bool
) -> tuple[dict[str, FloatArray], str]:
    """Columns of one trait by the name of their coefficient, and in words what they are."""
    counts = Counter(cells.values())
    levels = sorted(counts)
    if len(levels) == 1:
        raise InputError(
            f"'{name}' has one value only ('{levels[0]}') among the {len(cells)} samples",
            path=path,
            remedy="There is nothing to compare." if is_trait else "Leave this covariate out.",
        )
    numbers = [_number(cell) for cell in cells.values()]
    if None not in numbers:
        text = f"slope by unit of {name}"
        if any(_BRACKET.fullmatch(cell) for cell in levels):
            text += ", taken in the middle of each bracket"
        return {name: np.array(numbers, np.float64)}, text
    if any(number is not None for number in numbers):
        sample = list(cells)[numbers.index(None)]
        raise InputError(
            f"column '{name}' mixes numbers and words: '{cells[sample]}' (sample {sample})",
            path=path,
            remedy="Leave a cell empty if the value is not known; begin each level of a category "
            "with a letter.",
        )
    if is_trait and len(levels) > 2:
        raise InputError(
            f"'{name}' has {len(levels)} levels ({', '.join(levels[:5])}"
            f"{', …' if len(levels) > 5 else ''}); a trait is a number or has two",
            path=path,
            remedy="Add a column that says which of two groups a sample is in.",
        )
    base, *others = levels
    parts = {
        f"{name}={level}": np.array([cell == level for cell in cells.values()], np.float64)
        for level in others
    }
    listed = ", ".join(f"{level} ({counts[level]})" for level in others[:5])
    more = ", …" if len(others) > 5 else ""
    return parts, f"{listed}{more} against {base} ({counts[base]})"


def _number(cell: str) -> float | None:
    if bracket := _BRACKET.fullmatch(cell):
        low, high = map(int, bracket.groups())
        return (low + high) / 2 if low < high else None
    if not _NUMBER.fullmatch(cell):
        return None
    number = float(cell)
    return number if math.isfinite(number) else None


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
