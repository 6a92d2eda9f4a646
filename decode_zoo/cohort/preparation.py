"""From what a cohort's samples were measured as to what models are fine-tuned on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.cohort.abundance import Abundance, Quantity, abundance_of, oriented
from decode_zoo.cohort.normalisation import (
    length_basis,
    quantile_normalised,
    without_covariates,
    without_length,
)
from decode_zoo.cohort.persons import design_of, match, read_persons
from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import PSEUDOCOUNT
from decode_zoo.features import FeatureSet
from decode_zoo.reader import Grid, read_grid

__all__ = ["Cohort", "prepare_cohort"]

FloatArray = npt.NDArray[np.float64]

FEWEST_PERSONS = 3
_FEWEST_GENES = 100
# Figures on this chromosome are what models are judged by: nothing is fitted to it.
_JUDGED = "1"
# Expression and RNA length: with fewer genes elsewhere the smooth function is fitted to all.
_FEWEST_FITTED = 500


@dataclass(frozen=True)
class Cohort:
    """A prepared cohort."""

    # log2(TPM + 0.25), normalised and corrected, genes × persons.
    expression: pd.DataFrame
    persons: pd.DataFrame  # texts, persons × traits
    # What it was made of, before genes were chosen.
    abundance: Abundance = field(repr=False)
    # Genes × persons after the first quantile normalisation, before anything is regressed out.
    normalised: FloatArray = field(repr=False)
    # Of the variance of each person's fold changes, what RNA length explains.
    length_share: FloatArray = field(repr=False)
    facts: dict[str, Any]  # parameters, and what became of genes and persons


def prepare_cohort(
    expression: str | os.PathLike[str] | pd.DataFrame | Grid,
    persons: str | os.PathLike[str] | pd.DataFrame | None,
    features: FeatureSet,
    *,
    quantity: Quantity,
    covariates: Sequence[str] = (),
    min_tpm: float = 1.0,
    min_share: float = 0.5,
    length_bias: bool = True,
) -> Cohort:
    """Prepare a cohort as the paper does, and take out what RNA length explains.

    Counts become TPM; genes that enough persons express are kept; log2(TPM + 0.25); quantile
    normalisation; covariates are regressed out of each gene; a smooth function of RNA length is
    regressed out of each person; quantile normalisation again.

    `expression` is genes × persons or persons × genes (`read_grid`), `persons` their traits
    (`read_persons`), of which `covariates` are columns. A gene is kept if at least `min_share` of
    the persons have more than `min_tpm`. Whatever differs between persons in quality of RNA or
    sequencing depth looks like regulation of long or of short genes: that is the `length_bias`.
    """
    if not (min_tpm >= 0 and 0 < min_share <= 1):
        raise UsageError(
            "min_tpm must not be negative, and min_share must be above 0 and at most "
            f"1, not {min_tpm} and {min_share}."
        )
    if isinstance(expression, pd.DataFrame):
        expression = Grid.from_frame(expression, "the expression matrix")
    elif not isinstance(expression, Grid):
        expression = read_grid(expression)
    grid, turned = oriented(expression, features)
    if persons is None:
        table = pd.DataFrame(index=pd.Index(grid.columns, name="person", dtype=object))
    else:
        table = persons if isinstance(persons, pd.DataFrame) else read_persons(persons)
    if covariates and persons is None:
        raise UsageError("Covariates are columns of a person table.", remedy="--persons FILE")
    place = match(grid.columns, table, grid.path)
    if len(place) < FEWEST_PERSONS:
        raise InputError(
            f"has {len(place)} persons, and fold changes against the median of a "
            f"cohort take {FEWEST_PERSONS}",
            path=grid.path,
        )
    design, traits = design_of(table, covariates)
    abundance = abundance_of(grid, features, quantity)
    abundance = replace(abundance, tpm=abundance.tpm[:, place], totals=abundance.totals[place])
    kept = (abundance.tpm > min_tpm).mean(axis=1) >= min_share
    if kept.sum() < _FEWEST_GENES:
        raise InputError(
            f"{int(kept.sum())} of {len(kept):,} genes exceed {min_tpm:g} TPM in "
            f"{100 * min_share:g}% of the persons; it takes {_FEWEST_GENES}",
            path=grid.path,
            remedy=f"Are the values {quantity}? Or ask for less.",
        )
    rows = abundance.rows[kept]
    normalised = quantile_normalised(np.log2(abundance.tpm[kept] + PSEUDOCOUNT))
    values = without_covariates(normalised, design) if design.size else normalised
    values, share, fitted = _without_length(values, rows, features, length_bias)
    frame = pd.DataFrame(
        quantile_normalised(values),
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
        "persons": len(table),
        "kept_if": {"tpm_above": min_tpm, "in_share_of_persons": min_share},
        "covariates": {trait.name: trait.kind for trait in traits},
        "length_bias": {
            "removed": length_bias,
            "mean_share_of_variance": round(float(share.mean()), 4),
            "largest_share_of_variance": round(float(share.max()), 4),
            "fitted_to": fitted,
        },
    }
    return Cohort(frame, table, abundance, normalised, share, facts)


def _without_length(
    values: FloatArray, rows: npt.NDArray[np.int64], features: FeatureSet, remove: bool
) -> tuple[FloatArray, FloatArray, str]:
    """Return values less what length explains, its share by person, and what it was fitted to."""
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    elsewhere = np.array([features.rows.chroms[row] != _JUDGED for row in rows])
    fitted = "genes of other chromosomes than chr1"
    if elsewhere.sum() < _FEWEST_FITTED:
        elsewhere, fitted = np.ones(len(rows), np.bool_), "all genes"
    corrected, bias = without_length(values, length_basis(lengths, elsewhere), elsewhere)
    deviations = values - values.mean(axis=1, keepdims=True)
    share = bias.var(axis=0) / np.maximum(deviations.var(axis=0), 1e-12)
    return (corrected if remove else values), share, fitted
