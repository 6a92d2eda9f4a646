"""Genes of a study: what their names mean, and which of them were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.inputs import BoundFeatures
from decode_zoo.zoo.model import Model

__all__ = [
    "StudiedGenes",
    "find_pair",
    "first_places",
    "fold_changes",
    "name_of",
    "shared_genes",
    "tested_rows",
]

# Fewer say nothing of variances or ranks.
_FEWEST_GENES = 10


def fold_changes(model: Model) -> list[str]:
    """Return the names of a model's outputs that are fold changes: its samples or tissues."""
    return [output.name for output in model.manifest.outputs if output.kind == "fold_change"]


def name_of(features: FeatureSet, row: int) -> str:
    """Return a gene's symbol, or its id if it has none."""
    return features.rows.symbols[row] or features.rows.ids[row]


def find_pair(
    features: FeatureSet, pair: Sequence[str], error: type[InputError | UsageError] = UsageError
) -> tuple[int, int]:
    """Return the rows of two genes; raises `error` if one is unknown, UsageError if no pair."""
    if isinstance(pair, str) or len(pair) != 2:
        raise UsageError("A pair is of two genes.", remedy="For example: LAPTM5,CD53")
    found = features.index.resolve(list(pair))
    for name, row, status in zip(pair, found.rows, found.status, strict=True):
        if row < 0:
            raise error(
                f"Gene {name!r} is not known to {features.name} ({status}).",
                remedy="Give an Ensembl id or a symbol.",
            )
    one, two = found.rows.tolist()
    if one == two:
        raise UsageError(f"{pair[0]} and {pair[1]} are one gene.", remedy="Name two genes.")
    return one, two


def first_places(features: FeatureSet, genes: Iterable[object]) -> dict[int, int]:
    """Return row of the feature set → place in a matrix; the first of two rows of a gene counts."""
    places: dict[int, int] = {}
    for place, row in enumerate(
        features.index.resolve([str(gene) for gene in genes]).rows.tolist()
    ):
        if row >= 0:
            places.setdefault(row, place)
    return places


def tested_rows(model: Model, bound: BoundFeatures) -> IntArray:
    """Return the rows that a model was tested on; raises UsageError if it does not say so."""
    rows = model.manifest.tested_rows(bound.features)
    if rows is None:
        raise UsageError(
            f"Model {model.id} does not say which genes it was tested on.",
            remedy="Name the genes to study.",
        )
    return rows


@dataclass(frozen=True)
class StudiedGenes:
    """Genes that are studied."""

    places: IntArray  # (n,): in the expression matrix
    rows: IntArray  # (n,): of the feature set
    tested: BoolArray | None  # (n,): whether the model was tested on them, if it says
    facts: dict[str, Any]  # how many, how they were chosen, and why others are not studied


def shared_genes(
    model: Model,
    bound: BoundFeatures,
    expression: pd.DataFrame,
    values: FloatArray,
    genes: Iterable[str] | None,
) -> StudiedGenes:
    """Find the genes that were asked for and have expression, which varies, and features.

    Genes that the model was tested on if none are named. `values` are targets (n, m + 1) of the m
    samples that are studied, the median last; genes as in `expression`. Raises InputError if there
    are fewer than ten, UsageError as `tested_rows`.
    """
    known = bound.features.index.resolve([str(name) for name in expression.index])
    first = np.array([status == "ok" for status in known.status], np.bool_)
    wanted = np.zeros(len(bound.features), np.bool_)
    if genes is None:
        chosen = "tested on by the model"
        remedy = (
            "Does the matrix hold genes of the chromosomes that the model was tested on? "
            "Otherwise name the genes."
        )
        wanted[tested_rows(model, bound)] = True
    else:
        chosen, remedy = "given", "Name more genes."
        wanted[model.rows_of(genes, bound).rows] = True
    kept = first & wanted[known.rows]
    varies = np.ptp(values[:, :-1], axis=1) > 0
    places = np.flatnonzero(kept & varies)
    if places.size < _FEWEST_GENES:
        raise InputError(
            f"{places.size} genes {chosen} have features and expression that varies; at least "
            f"{_FEWEST_GENES} are needed",
            path=expression.attrs.get("path"),
            remedy=remedy,
        )
    rows = known.rows[places]
    known_tested = model.manifest.tested_rows(bound.features)
    tested = None if known_tested is None else np.isin(rows, known_tested)
    facts = {
        "n": rows.size,
        "chosen": chosen,
        "tested_on": None if tested is None else int(tested.sum()),
        "chosen_without_expression": int(wanted.sum() - kept.sum()),
        "constant": int((kept & ~varies).sum()),
    }
    return StudiedGenes(places, rows, tested, facts)
