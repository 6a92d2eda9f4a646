"""Comparisons of co-expression: pairs of genes within a tissue, and between two of one donor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError
from decode_zoo.evaluation.donors import donor_of
from decode_zoo.expression import Targets, make_targets
from decode_zoo.holdout import tested_rows
from decode_zoo.inputs import BoundFeatures
from decode_zoo.layout import SIDES
from decode_zoo.model import Model
from decode_zoo.studies.coexpression.pairs import Correlation, PairScore, Similarity, unit_ranks
from decode_zoo.studies.traits.study import shared_genes

__all__ = ["PREDICTION", "TISSUES", "Comparison", "Tissue", "between", "open_tissue", "within"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Fewer say nothing of correlations.
_FEWEST = 10
PREDICTION, TISSUES, _LENGTH, _TRACKS = "prediction", "tissue profiles", "RNA length", "tracks"


@dataclass(frozen=True)
class Tissue:
    """A model and what was measured of the same persons.

    Attributes
    ----------
    label : str
    model : Model
    bound : BoundFeatures
    persons : tuple of str
        The m that both have.
    targets : Targets
        All that was measured of them.
    places, rows : ndarray of int64, shape (n,)
        Of the genes that are studied, in `targets` and in the feature set.
    tested : ndarray of bool, shape (n,), or None
        Which of them the model was tested on; None if it does not say.
    facts : Mapping
        What became of persons and genes.
    """

    label: str
    model: Model
    bound: BoundFeatures
    persons: tuple[str, ...]
    targets: Targets
    places: IntArray
    rows: IntArray
    tested: BoolArray | None
    facts: Mapping[str, Any]

    @property
    def ids(self) -> list[str]:
        """Genes that are studied, by id of the feature set."""
        ids = self.bound.features.rows.ids
        return [ids[row] for row in self.rows]

    def take(self, order: IntArray) -> Tissue:
        """Choose among the genes that are studied."""
        tested = None if self.tested is None else self.tested[order]
        return replace(self, places=self.places[order], rows=self.rows[order], tested=tested)

    def measured(self, persons: Sequence[str]) -> npt.NDArray[np.float32]:
        """Ranks of measured fold changes over persons."""
        columns = [self.targets.names.index(name) for name in persons]
        return unit_ranks(self.targets.values[self.places][:, columns])

    def predicted(self, persons: Sequence[str]) -> npt.NDArray[np.float32]:
        """Ranks of predicted fold changes over persons."""
        columns = [self.model.outputs.index(name) for name in persons]
        values = self.model.predict_rows(self.rows, self.bound, self.model.backend("numpy"))
        return unit_ranks(values[:, columns])


def open_tissue(
    label: str, model: Model, expression: pd.DataFrame, genes: Iterable[str] | None
) -> Tissue:
    """Bring a model and its persons' expression together.

    Parameters
    ----------
    label : str
    model : Model
        Its outputs are persons.
    expression : DataFrame, shape (n_genes, n_persons)
    genes : iterable of str, optional
        Those to study; those that the model was tested on if not given.

    Raises
    ------
    InputError
        If they share too few persons or genes.
    UsageError
        If the model does not say which genes it was tested on, and none are named.
    """
    outputs = {output.name for output in model.manifest.outputs if output.kind == "fold_change"}
    persons = tuple(name for name in map(str, expression.columns) if name in outputs)
    if len(persons) < _FEWEST:
        raise InputError(
            f"{len(persons)} of its columns ({expression.columns[0]}, …) are persons of the model "
            f"{model.id} ({model.outputs[0]}, …); at least {_FEWEST} are needed",
            path=expression.attrs.get("path"),
            remedy="Persons are matched by name: columns of the "
            "matrix and outputs of the model. Give --model and --expression in the same order.",
        )
    bound = model.bind()
    targets = make_targets(expression[list(persons)], scale="log2")
    found = shared_genes(model, bound, expression, targets.values, genes)
    known = tested_rows(model.manifest, bound.features)
    tested = None if known is None else np.isin(found.rows, known)
    facts = {
        "model": model.id,
        "persons": {
            "n": len(persons),
            "of_model": len(outputs),
            "of_expression": expression.shape[1],
        },
        "genes": {
            "n": found.rows.size,
            "chosen": found.chosen,
            "tested_on": _number(tested),
            **found.lost,
        },
    }
    return Tissue(label, model, bound, persons, targets, found.places, found.rows, tested, facts)


def _number(tested: BoolArray | None) -> int | None:
    return None if tested is None else int(tested.sum())


@dataclass(frozen=True)
class Comparison:
    """Pairs of n genes, as measured and by several scores.

    Attributes
    ----------
    label : str
    ids, symbols : list of str
    tracks : ndarray of int64, shape (n,)
        Tracks with sites.
    measured : Correlation
    scores : Mapping of str to PairScore
    symmetric : bool
    facts : Mapping
    """

    label: str
    ids: list[str]
    symbols: list[str]
    tracks: IntArray
    measured: Correlation
    scores: Mapping[str, PairScore]
    symmetric: bool
    facts: Mapping[str, Any]


def within(tissue: Tissue, profiles: Model, order: IntArray) -> Comparison:
    """Compare the genes of a tissue with each other, in an order."""
    tissue = tissue.take(order)
    measured, predicted = tissue.measured(tissue.persons), tissue.predicted(tissue.persons)
    return _comparison(
        tissue,
        tissue.label,
        Correlation(measured, measured),
        Correlation(predicted, predicted),
        profiles,
        tissue.facts,
        symmetric=True,
    )


def between(
    one: Tissue, other: Tissue, profiles: Model, generator: np.random.Generator
) -> Comparison | str:
    """Compare genes in one tissue with genes in another, or say why that cannot be."""
    donors = [{donor_of(name): name for name in reversed(t.persons)} for t in (one, other)]
    shared = [donor for donor in donors[0] if donor in donors[1]]
    label = f"{one.label} × {other.label}"
    if len(shared) < _FEWEST:
        return f"{label}: {len(shared)} donors are in both, at least {_FEWEST} are needed."
    places = {gene: place for place, gene in enumerate(other.ids)}
    common = [gene for gene in one.ids if gene in places]
    if len(common) < _FEWEST:
        return f"{label}: {len(common)} genes are in both, at least {_FEWEST} are needed."
    common = [common[i] for i in generator.permutation(len(common))]
    own = {gene: place for place, gene in enumerate(one.ids)}
    one = one.take(np.array([own[gene] for gene in common]))
    other = other.take(np.array([places[gene] for gene in common]))
    names = [[donors[k][donor] for donor in shared] for k in (0, 1)]
    facts = {
        "models": [one.model.id, other.model.id],
        "donors": {"n": len(shared), "of_first": len(donors[0]), "of_second": len(donors[1])},
        "genes": {
            "n": len(common),
            "chosen": "studied in both",
            "tested_on": _number(
                None if one.tested is None or other.tested is None else one.tested & other.tested
            ),
        },
    }
    return _comparison(
        one,
        label,
        Correlation(one.measured(names[0]), other.measured(names[1])),
        Correlation(one.predicted(names[0]), other.predicted(names[1])),
        profiles,
        facts,
        symmetric=False,
    )


def _comparison(
    tissue: Tissue,
    label: str,
    measured: Correlation,
    predicted: Correlation,
    profiles: Model,
    facts: Mapping[str, Any],
    *,
    symmetric: bool,
) -> Comparison:
    features, ids = tissue.bound.features, tissue.ids
    tissues = [o.name for o in profiles.manifest.outputs if o.kind == "fold_change"]
    profile = profiles.predict(ids, backend="numpy")[tissues].to_numpy(np.float64)
    unknown = np.isnan(profile).any(axis=1)
    ranks = unit_ranks(np.where(unknown[:, None], 0, profile))
    bound = [np.diff((features.sums(side)[0][tissue.rows] > 0).indptr) for side in SIDES]
    tracks = np.array(bound, np.int64).sum(axis=0)
    lengths = np.array(features.rows.rna_lengths, np.float64)[tissue.rows]
    scores: dict[str, PairScore] = {
        PREDICTION: predicted,
        TISSUES: Correlation(ranks, ranks),
        _LENGTH: Similarity.of(np.log2(np.maximum(lengths, 1))),
        _TRACKS: Similarity.of(np.log2(1 + tracks)),
    }
    symbols = [features.rows.symbols[row] for row in tissue.rows]
    more = {"tissues": len(tissues), "genes_without_tissue_profile": int(unknown.sum())}
    return Comparison(label, ids, symbols, tracks, measured, scores, symmetric, {**facts, **more})
