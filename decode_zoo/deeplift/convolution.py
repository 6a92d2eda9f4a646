"""Networks with ReLU in their convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells, first_channels
from decode_zoo.deeplift.dense import DenseLayers, slopes
from decode_zoo.deeplift.scores import Scores, Slots
from decode_zoo.layout import SIDES, Side
from decode_zoo.network import DecodeNetwork

__all__ = ["ConvolutionRule"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class ConvolutionRule:
    """The rule for networks with ReLU in their convolutions; places of inputs are bins.

    Parameters
    ----------
    network : DecodeNetwork
        With the outputs wanted only.
    """

    def __init__(self, network: DecodeNetwork) -> None:
        self._kernels = {side: network.kernels(side) for side in SIDES}
        # Inputs in bases, not scaled.
        for side, (first, *_) in self._kernels.items():
            first /= network.input_scale[side][None, :, None]
        self._first = first_channels({s: len(network.input_scale[s]) - 1 for s in SIDES})
        (weights, self._bias), *layers = network.dense_layers()
        self._branch: dict[Side, FloatArray] = network.by_branch(weights)
        self._dense = DenseLayers(layers, network.config.full_relu)

    def _side(self, cells: Cells, side: Side) -> npt.NDArray[np.bool_]:
        """Which entries are of a side."""
        last = self._first[side] + self._kernels[side][0].shape[1]
        side_entries: npt.NDArray[np.bool_] = (cells.channels >= self._first[side]) & (
            cells.channels < last
        )
        return side_entries

    def _length(self, cells: Cells, side: Side) -> int:
        """Bins of one row, with those of its padding."""
        padding = sum(len(kernel) - 1 for kernel in self._kernels[side])
        return int(cells.places[self._side(cells, side)].max(initial=-1)) + 1 + padding

    def _forward(self, cells: Cells, side: Side, length: int) -> list[FloatArray]:
        """Return the inputs of one row's ReLUs, each of shape (positions, width)."""
        first, *others = self._kernels[side]
        own = self._side(cells, side)
        bins = sparse.csr_array(
            (cells.bases[own], (cells.places[own], cells.channels[own] - self._first[side])),
            shape=(length, first.shape[1]),
        )
        size = length - len(first) + 1
        values = [np.asarray(sum(bins[k : k + size] @ first[k] for k in range(len(first))))]
        for kernel in others:
            x, size = np.maximum(values[-1], 0), len(values[-1]) - len(kernel) + 1
            values.append(np.asarray(sum(x[k : k + size] @ kernel[k] for k in range(len(kernel)))))
        return values

    def _hidden(self, branches: dict[Side, list[FloatArray]]) -> FloatArray:
        """First hidden layer of one row, shape (1, width)."""
        hidden = self._bias
        for side, values in branches.items():
            hidden = hidden + np.maximum(values[-1], 0).sum(axis=0) @ self._branch[side]
        return hidden[None]

    def _branches(self, cells: Cells, lengths: dict[Side, int]) -> dict[Side, list[FloatArray]]:
        return {side: self._forward(cells, side, lengths[side]) for side in SIDES}

    def reference(self, references: Sequence[Cells]) -> FloatArray:
        """Return the mean prediction of references (see `Rule`)."""
        hidden = np.concatenate(
            [
                self._hidden(self._branches(cells, {s: self._length(cells, s) for s in SIDES}))
                for cells in references
            ]
        )
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
        slots = Slots.make(inputs, labels, reference_labels)
        values = np.zeros((slots.labels.size, self._dense.n_outputs))
        for i in range(len(inputs)):
            x, own = inputs.row(i), slice(inputs.indptr[i], inputs.indptr[i + 1])
            for r, places in zip(references, slots.of_references, strict=True):
                lengths = {s: max(self._length(x, s), self._length(r, s)) for s in SIDES}
                of_x, of_r = self._branches(x, lengths), self._branches(r, lengths)
                onward = self._dense.multipliers(self._hidden(of_x), self._hidden(of_r))[0]
                for side in SIDES:
                    multipliers = self._backward(side, of_x[side], of_r[side], onward)
                    for cells, slot, sign in ((x, slots.of_inputs[own], 1), (r, places[i], -1)):
                        inside = self._side(cells, side)
                        scores = self._entries(side, cells, inside, multipliers)
                        np.add.at(values, slot[inside], sign * scores)
        return Scores(slots.indptr, slots.labels, values / len(references))

    def _backward(
        self, side: Side, x: list[FloatArray], r: list[FloatArray], onward: FloatArray
    ) -> FloatArray:
        """Multipliers of the first convolution's results, shape (positions, width, n_outputs)."""
        multipliers = (self._branch[side] @ onward)[None]
        layers = list(zip(x, r, self._kernels[side], strict=True))
        for number, (of_x, of_r, kernel) in reversed(list(enumerate(layers))):
            multipliers = slopes(of_x, of_r)[:, :, None] * multipliers
            if number:
                size = len(multipliers)
                spread = np.zeros((size + len(kernel) - 1, kernel.shape[1], onward.shape[1]))
                for k, weights in enumerate(kernel):
                    spread[k : k + size] += weights @ multipliers
                multipliers = spread
        return multipliers

    def _entries(
        self, side: Side, cells: Cells, inside: npt.NDArray[np.bool_], multipliers: FloatArray
    ) -> FloatArray:
        """Scores of one row's entries of a side, shape (n_inside, n_outputs)."""
        kernel = self._kernels[side][0]
        places, bases = cells.places[inside], cells.bases[inside]
        channels = cells.channels[inside] - self._first[side]
        values = np.zeros((places.size, multipliers.shape[2]))
        for place in np.unique(places):
            own = places == place
            for k in range(max(0, place - len(multipliers) + 1), min(len(kernel), place + 1)):
                values[own] += kernel[k][channels[own]] @ multipliers[place - k]
        return values * bases[:, None]
