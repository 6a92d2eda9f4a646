"""What rules give: scores of rows, added up in slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells

__all__ = ["Rule", "Scores", "Slots", "add_up"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of some rows, each for the labels that it has.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i owns entries ``indptr[i]:indptr[i + 1]``.
    labels : ndarray of int64, shape (m,)
        What is scored, ascending within a row.
    values : ndarray of float64, shape (m, n_outputs)
        In the outputs' units.
    """

    indptr: IntArray
    labels: IntArray
    values: FloatArray

    def not_zero(self) -> Scores:
        """Leave out what scores zero for every output, as what equals the reference does."""
        kept = self.values.any(axis=1)
        before = np.concatenate(([0], np.cumsum(kept)))
        return Scores(before[self.indptr], self.labels[kept], self.values[kept])

    def sums(self) -> FloatArray:
        """Add up the scores of each row, shape (n_rows, n_outputs)."""
        return add_up(self.values, self.indptr)


def add_up(values: FloatArray, indptr: IntArray) -> FloatArray:
    """Add up the entries of each row, one after the other; rows may be empty."""
    shape = (indptr.size - 1, len(values))
    ones = sparse.csr_array((np.ones(len(values)), np.arange(len(values)), indptr), shape=shape)
    return np.asarray(ones @ values)


class Rule(Protocol):
    """Scores rows of inputs against references."""

    def reference(self, references: Sequence[Cells]) -> FloatArray:
        """Return the mean prediction of references, shape (n_outputs,)."""
        ...

    def scores(
        self,
        inputs: Cells,
        labels: IntArray,
        references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:
        """Score rows, against each reference, and average.

        Parameters
        ----------
        inputs : Cells
        labels : ndarray of int64, shape (n_entries,)
            To what each entry's score is added.
        references : sequence of Cells of one row each
        reference_labels : sequence of ndarray of int64
            Labels of their entries.
        """
        ...


@dataclass(frozen=True)
class Slots:
    """Where scores of rows are added up: one slot for each row and label that it has.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i owns slots ``indptr[i]:indptr[i + 1]``.
    labels : ndarray of int64, shape (m,)
        Ascending within a row.
    of_inputs : ndarray of int64, shape (n_entries,)
        Slot of each entry of the inputs.
    of_references : list of ndarray of int64, each of shape (n_rows, n_entries of the reference)
        Slots of each reference's entries in each row.
    """

    indptr: IntArray
    labels: IntArray
    of_inputs: IntArray
    of_references: list[IntArray]

    @classmethod
    def make(cls, inputs: Cells, labels: IntArray, reference_labels: Sequence[IntArray]) -> Slots:
        """Give slots to the labels of inputs and references (see `Rule.scores`)."""
        every = [labels, *reference_labels]
        stride = 1 + max(int(names.max(initial=0)) for names in every)
        starts = stride * np.arange(len(inputs) + 1, dtype=np.int64)
        mine = starts[inputs.rows()] + labels
        theirs = [starts[:-1, None] + names for names in reference_labels]
        keys = np.unique(np.concatenate([mine, *(part.ravel() for part in theirs)]))
        return cls(
            np.searchsorted(keys, starts),
            keys % stride,
            np.searchsorted(keys, mine),
            [np.searchsorted(keys, part) for part in theirs],
        )

    def slices(self) -> list[slice]:
        """Return the slots of each row."""
        return [slice(a, b) for a, b in zip(self.indptr, self.indptr[1:], strict=False)]
