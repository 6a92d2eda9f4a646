"""Networks with linear convolutions, folded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells
from decode_zoo.deeplift.dense import DenseLayers
from decode_zoo.deeplift.scores import Scores, Slots, add_up
from decode_zoo.layout import SIDES, Side
from decode_zoo.network import FoldedNetwork

__all__ = ["FoldedRule"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class FoldedRule:
    """The rule for networks with linear convolutions.

    Parameters
    ----------
    network : FoldedNetwork
        With the outputs wanted only.
    positions : bool
        Whether places of inputs are bins, not numbers of position sums.
    """

    def __init__(self, network: FoldedNetwork, *, positions: bool) -> None:
        kernels: dict[Side, int] = {side: len(network.first[side]) for side in SIDES}
        n_tracks: dict[Side, int] = {side: network.first[side].shape[1] - 1 for side in SIDES}
        # Bin p is in the sums 0 .. p, the last sum has all that are left.
        tables = {
            side: np.cumsum(network.first[side], axis=0) if positions else network.first[side]
            for side in SIDES
        }
        # Row of the table for a channel's first place, and how many places it has there.
        self._places = np.concatenate([np.full(1 + n_tracks[s], kernels[s]) for s in SIDES])
        self._starts = np.cumsum(self._places) - self._places
        self._table = np.concatenate(
            [tables[s].transpose(1, 0, 2).reshape(-1, network.bias.size) for s in SIDES]
        )
        self._bias = network.bias
        self._dense = DenseLayers(network.layers, network.relu)

    def _hidden(self, cells: Cells, slots: IntArray, n_slots: int) -> FloatArray:
        """Add up what cells bring to the first hidden layer, by slot, shape (n_slots, width)."""
        column = self._starts[cells.channels] + np.minimum(
            cells.places, self._places[cells.channels] - 1
        )
        order = np.argsort(slots, kind="stable")
        indptr = np.concatenate(([0], np.cumsum(np.bincount(slots, minlength=n_slots))))
        matrix = sparse.csr_array(
            (cells.bases[order], column[order], indptr), shape=(n_slots, len(self._table))
        )
        return np.asarray(matrix @ self._table)

    def _reference_hidden(self, references: Sequence[Cells]) -> list[FloatArray]:
        return [
            self._bias + self._hidden(cells, np.zeros_like(cells.places), 1) for cells in references
        ]

    def reference(self, references: Sequence[Cells]) -> FloatArray:
        """Return the mean prediction of references (see `Rule`)."""
        hidden = np.concatenate(self._reference_hidden(references))
        mean: FloatArray = self._dense.inputs(hidden)[-1].mean(axis=0)
        return mean

    def scores(
        self,
        inputs: Cells,
        labels: IntArray,
        references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:
        """Score rows (see `Rule`)."""
        grouped = [np.unique(names, return_inverse=True) for names in reference_labels]
        slots = Slots.make(inputs, labels, [names for names, _ in grouped])
        mine = self._hidden(inputs, slots.of_inputs, slots.labels.size)
        values = np.zeros((slots.labels.size, self._dense.n_outputs))
        bases = self._reference_hidden(references)
        for cells, (names, group), places, base in zip(
            references, grouped, slots.of_references, bases, strict=True
        ):
            difference = mine.copy()
            difference[places] -= self._hidden(cells, group, names.size)
            hidden = base + add_up(difference, slots.indptr)
            for own, multipliers in zip(
                slots.slices(), self._dense.multipliers(hidden, base), strict=True
            ):
                values[own] += difference[own] @ multipliers
        return Scores(slots.indptr, slots.labels, values / len(references))
