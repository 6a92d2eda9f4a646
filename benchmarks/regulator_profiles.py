"""What benchmarks/regulator_biology.py finds and benchmarks/regulator_figures.py draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from decode_zoo.attribution.scores import Summary
from decode_zoo.core.arrays import FloatArray, IntArray

# GTEx samples these organs in several places that are nearly copies of each other; every other
# tissue counts as an organ of its own.
ORGANS = ("Adipose", "Artery", "Brain", "Cervix", "Heart", "Skin")


def organ_of(tissue: str) -> str:
    """Organ that a tissue counts as."""
    first = tissue.partition("_")[0]
    return first if first in ORGANS else tissue


@dataclass(frozen=True)
class Profiles:
    """Scores of regulators by tissue, over some genes.

    Attributes
    ----------
    tissues : tuple of str
    regulators : DataFrame
        ``class`` and ``regulator`` of the r regulators, no masks.
    summary : Summary
        Of those regulators.
    """

    tissues: tuple[str, ...]
    regulators: pd.DataFrame
    summary: Summary

    def where(self, kind: str) -> IntArray:
        """Regulators of a class."""
        return np.flatnonzero(self.regulators["class"] == kind)

    @property
    def mean(self) -> FloatArray:
        """Mean score over all genes, shape (r, n_tissues)."""
        return self.summary.total / self.summary.n_genes

    @property
    def mean_bound(self) -> FloatArray:
        """Mean score over bound genes, shape (r, n_tissues); zero if there are none."""
        return self.summary.total / np.maximum(self.summary.present, 1)[:, None]

    @property
    def mean_abs(self) -> FloatArray:
        """Mean absolute score over all genes, shape (r, n_tissues)."""
        return self.summary.absolute / self.summary.n_genes

    def organs(self) -> tuple[list[str], FloatArray]:
        """Names of organs, and the matrix that averages tissues, shape (n_tissues, n_organs)."""
        names = list(dict.fromkeys(map(organ_of, self.tissues)))
        matrix = np.array([[organ_of(t) == name for name in names] for t in self.tissues], float)
        return names, matrix / matrix.sum(axis=0)


@dataclass(frozen=True)
class OwnExpression:
    """Attributions of regulators against their own expression, for one class.

    Attributes
    ----------
    table : DataFrame
        Lines of own_expression.tsv.
    control : dict
        Line of own_expression_controls.tsv.
    permuted : dict of str to ndarray
        Rhos under each control.
    """

    table: pd.DataFrame
    control: dict[str, object]
    permuted: dict[str, FloatArray]
