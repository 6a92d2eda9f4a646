"""Scores that are drawn: of which genes and outputs, their sums, and the strongest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.attribution import Attribution, indicator
from decode_zoo.errors import UsageError

__all__ = ["add_up", "choose_output", "choose_rows", "comparable_outputs", "strongest"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def choose_rows(attribution: Attribution, genes: Iterable[str] | None) -> IntArray:
    """Find the rows to draw.

    Parameters
    ----------
    attribution : Attribution
    genes : iterable of str, optional
        Ids or symbols of genes, or ids of transcripts; all if not given.

    Returns
    -------
    ndarray of int64
        In order, each once.

    Raises
    ------
    UsageError
        If nothing or not one of these genes was explained, or none is given.
    """
    if not len(attribution):
        raise UsageError(
            "No gene was explained, so there is nothing to draw.",
            remedy="attribution.not_explained says why.",
        )
    if genes is None:
        return np.arange(len(attribution))
    if isinstance(genes, str):
        raise UsageError("Give a list of genes, not a single string.", remedy=f"genes=[{genes!r}]")
    names = [*attribution.genes.to_numpy(object).T, np.array(attribution.parents, object)]
    found = [np.zeros(0, np.int64)]
    for gene in genes:
        own = np.flatnonzero(np.any([column == gene for column in names], axis=0))
        if not own.size:
            raise UsageError(
                f"Gene '{gene}' is not among those explained.",
                remedy="They are in attribution.genes.",
            )
        found.append(own)
    if len(found) == 1:
        raise UsageError("The list of genes is empty.")
    return np.unique(np.concatenate(found))


def comparable_outputs(attribution: Attribution) -> IntArray:
    """Find the outputs in one unit: the fold changes, if there are any."""
    folds = [output.kind == "fold_change" for output in attribution.outputs]
    return np.flatnonzero(folds) if any(folds) else np.arange(len(folds))


def choose_output(attribution: Attribution, rows: IntArray, output: str | None) -> int:
    """Find the output to draw.

    Parameters
    ----------
    attribution : Attribution
    rows : ndarray of int64
        What is drawn.
    output : str, optional
        If not given, of those in one unit the one whose mean prediction differs most from the
        reference.

    Raises
    ------
    UsageError
        If this output was not explained.
    """
    if output is None:
        chosen = comparable_outputs(attribution)
        shift = attribution.prediction[rows].mean(axis=0) - attribution.reference
        return int(chosen[np.argmax(np.abs(shift[chosen]))])
    names = [item.name for item in attribution.outputs]
    if output not in names:
        raise UsageError(
            f"There is no output '{output}' among those explained.",
            remedy="They are in attribution.outputs.",
        )
    return names.index(output)


def strongest(features: IntArray, strength: FloatArray, k: int) -> IntArray:
    """Choose the k features of highest absolute strength, strongest first.

    Raises
    ------
    UsageError
        If k is below 1.
    """
    if k < 1:
        raise UsageError(f"The number of regulators is at least 1, not {k}.")
    return features[np.argsort(-np.abs(strength[features]), kind="stable")[:k]]


def add_up(group: npt.NDArray[Any], n_groups: int, scores: npt.NDArray[Any]) -> FloatArray:
    """Add up scores (n, …) by group: (n_groups, …)."""
    return np.asarray(indicator(group, n_groups) @ scores.astype(np.float64))
