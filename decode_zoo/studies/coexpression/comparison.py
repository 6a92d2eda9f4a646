"""Comparisons of co-expression: pairs of genes within a tissue, and between two of one donor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.errors import InputError
from decode_zoo.evaluation.agreement import donor_of
from decode_zoo.expression import Targets, make_targets
from decode_zoo.inputs import BoundFeatures
from decode_zoo.layout import SIDES
from decode_zoo.model import Model
from decode_zoo.studies.coexpression.pairs import Correlation, PairScore, Similarity, unit_ranks
from decode_zoo.studies.measured import StudiedGenes, fold_changes, shared_genes
from decode_zoo.typing import IntArray, SingleArray

__all__ = ["PREDICTION", "TISSUES", "Comparison", "Tissue", "between", "open_tissue", "within"]


# Fewer say nothing of correlations.
_FEWEST = 10
PREDICTION, TISSUES, _LENGTH, _TRACKS = "prediction", "tissue profiles", "RNA length", "tracks"


@dataclass(frozen=True)
class Tissue:
    """A model and what was measured of the same persons."""

    label: str
    model: Model
    bound: BoundFeatures
    persons: tuple[str, ...]  # that both have
    targets: Targets  # all that was measured of them
    genes: StudiedGenes
    facts: Mapping[str, Any]  # what became of persons and genes

    def ranks(
        self, persons: Sequence[str], places: IntArray, rows: IntArray
    ) -> tuple[SingleArray, SingleArray]:
        """Return ranks of measured and predicted fold changes over persons, shape (n, m) each.

        `places` in `targets` and `rows` of the feature set are of the same n genes.
        """
        measured = [self.targets.names.index(name) for name in persons]
        predicted = [self.model.outputs.index(name) for name in persons]
        values = self.model.predict_rows(rows, self.bound, self.model.backend("numpy"))
        return (
            unit_ranks(self.targets.values[places][:, measured]),
            unit_ranks(values[:, predicted]),
        )


def open_tissue(
    label: str, model: Model, expression: pd.DataFrame, genes: Iterable[str] | None
) -> Tissue:
    """Bring a model of persons and their expression, genes × persons, together.

    Genes that the model was tested on if none are named. Raises InputError if they share too few
    persons or genes, UsageError if the model does not say which genes it was tested on.
    """
    outputs = set(fold_changes(model))
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
    facts = {
        "model": model.id,
        "persons": {
            "n": len(persons),
            "of_model": len(outputs),
            "of_expression": expression.shape[1],
        },
        "genes": found.facts,
    }
    return Tissue(label, model, bound, persons, targets, found, facts)


@dataclass(frozen=True)
class Comparison:
    """Pairs of n genes, as measured and by several scores."""

    label: str
    ids: list[str]
    symbols: list[str]
    tracks: IntArray  # (n,): tracks with sites
    measured: Correlation
    scores: Mapping[str, PairScore]
    symmetric: bool  # whether a pair is the same in either order
    facts: Mapping[str, Any]


def within(tissue: Tissue, profiles: Model, order: IntArray) -> Comparison:
    """Compare the genes of a tissue with each other, in an order."""
    rows = tissue.genes.rows[order]
    ranks = tissue.ranks(tissue.persons, tissue.genes.places[order], rows)
    return _comparison(tissue, rows, tissue.label, (ranks, ranks), profiles, tissue.facts)


def between(
    one: Tissue, other: Tissue, profiles: Model, generator: np.random.Generator
) -> Comparison | str:
    """Compare genes in one tissue with genes in another, or say why that cannot be."""
    both = one, other
    donors = [{donor_of(name): name for name in reversed(t.persons)} for t in both]
    shared = [donor for donor in donors[0] if donor in donors[1]]
    label = f"{one.label} × {other.label}"
    if len(shared) < _FEWEST:
        return f"{label}: {len(shared)} donors are in both, at least {_FEWEST} are needed."
    places = [
        {t.bound.features.rows.ids[row]: i for i, row in enumerate(t.genes.rows)} for t in both
    ]
    common = [gene for gene in places[0] if gene in places[1]]
    if len(common) < _FEWEST:
        return f"{label}: {len(common)} genes are in both, at least {_FEWEST} are needed."
    common = [common[i] for i in generator.permutation(len(common))]
    ranks, tested = [], []
    for tissue, place, names in zip(both, places, donors, strict=True):
        chosen, genes = np.array([place[gene] for gene in common]), tissue.genes
        persons = [names[donor] for donor in shared]
        ranks.append(tissue.ranks(persons, genes.places[chosen], genes.rows[chosen]))
        tested.append(None if genes.tested is None else genes.tested[chosen])
    first, second = tested
    facts = {
        "models": [tissue.model.id for tissue in both],
        "donors": {"n": len(shared), "of_first": len(donors[0]), "of_second": len(donors[1])},
        "genes": {
            "n": len(common),
            "chosen": "studied in both",
            "tested_on": None if first is None or second is None else int((first & second).sum()),
        },
    }
    rows = one.genes.rows[[places[0][gene] for gene in common]]
    return _comparison(one, rows, label, ranks, profiles, facts)


def _comparison(
    tissue: Tissue,
    rows: IntArray,
    label: str,
    ranks: Sequence[tuple[SingleArray, SingleArray]],
    profiles: Model,
    facts: Mapping[str, Any],
) -> Comparison:
    """Put ranks, measured and predicted, of both genes of a pair beside what knows no person."""
    features = tissue.bound.features
    ids = [features.rows.ids[row] for row in rows]
    tissues = fold_changes(profiles)
    profile = profiles.predict(ids, backend="numpy")[tissues].to_numpy(np.float64)
    unknown = np.isnan(profile).any(axis=1)
    rival = unit_ranks(np.where(unknown[:, None], 0, profile))
    bound = [np.diff((features.sums(side)[0][rows] > 0).indptr) for side in SIDES]
    tracks = np.array(bound, np.int64).sum(axis=0)
    lengths = np.array(features.rows.rna_lengths, np.float64)[rows]
    measured, predicted = (Correlation(a, b) for a, b in zip(*ranks, strict=True))
    return Comparison(
        label,
        ids,
        [features.rows.symbols[row] for row in rows],
        tracks,
        measured,
        {
            PREDICTION: predicted,
            TISSUES: Correlation(rival, rival),
            _LENGTH: Similarity.of(np.log2(np.maximum(lengths, 1))),
            _TRACKS: Similarity.of(np.log2(1 + tracks)),
        },
        ranks[0] is ranks[1],
        {**facts, "tissues": len(tissues), "genes_without_tissue_profile": int(unknown.sum())},
    )
