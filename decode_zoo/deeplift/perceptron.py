"""Perceptrons on position sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells, first_channels
from decode_zoo.deeplift.dense import DenseLayers
from decode_zoo.deeplift.scores import Scores, Slots
from decode_zoo.layout import SIDES, Side
from decode_zoo.network import BRANCHES
from decode_zoo.perceptron import FoldedPerceptron, Member, Standardisation

__all__ = ["PerceptronRule"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class PerceptronRule:
    """The rule for perceptrons on position sums; bins and sums of an input are alike to it.

    A sum goes through its standardisation alone, so that step has one slope for each track and
    row, by which the track's bins share what it adds.

    Parameters
    ----------
    network : FoldedPerceptron
        With the outputs wanted only.
    """

    def __init__(self, network: FoldedPerceptron) -> None:
        scales = [network.inputs[side].scale for side in SIDES]
        self._standardise = Standardisation(
            np.concatenate(scales),
            np.concatenate([network.inputs[side].centre for side in SIDES]),
            network.inputs[SIDES[0]].limit,
        )
        first = first_channels({s: len(network.inputs[s].scale) - 1 for s in SIDES})
        self._sides = {
            side: slice(first[side], first[side] + len(scale))
            for side, scale in zip(SIDES, scales, strict=True)
        }
        self._members = network.members
        self._dense = [DenseLayers(member.layers[1:], True) for member in network.members]

    def _sums(self, cells: Cells) -> FloatArray:
        """Position sums in bases, shape (n_rows, channels)."""
        shape = (len(cells), self._standardise.scale.size)
        entries = sparse.csr_array((cells.bases, cells.channels, cells.indptr), shape=shape)
        return np.asarray(entries.toarray())

    def _scores(self, sums: FloatArray) -> dict[Side, FloatArray]:
        scores = self._standardise(sums)
        return {side: scores[:, own] for side, own in self._sides.items()}

    def reference(self, references: Sequence[Cells]) -> FloatArray:
        """Return the mean prediction of references (see `Rule`)."""
        scores = self._scores(np.concatenate([self._sums(cells) for cells in references]))
        mean: FloatArray = np.mean(
            [member.forward(scores) for member in self._members], axis=(0, 1)
        )
        return mean

    def scores(
        self, inputs: Cells, labels: IntArray, references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:  # fmt: skip
        """Score rows (see `Rule`)."""
        slots = Slots.make(inputs, labels, reference_labels)
        values = np.zeros((slots.labels.size, self._dense[0].n_outputs))
        sums = self._sums(inputs)
        for cells, places in zip(references, slots.of_references, strict=True):
            base = self._sums(cells)
            slopes = self._standardise.slopes(sums, base)
            shares = [
                self._shares(inputs, i, slots.of_inputs, cells, places[i], slopes[i])
                for i in range(len(inputs))
            ]
            for member, dense in zip(self._members, self._dense, strict=True):
                weights, bias = member.layers[0]
                encoded = [self._encoded(member, channels) for _, channels, _ in shares]
                before = np.stack([
                    share.sum(axis=0) @ rows @ weights
                    for (_, _, share), rows in zip(shares, encoded, strict=True)
                ])  # fmt: skip
                start = (
                    np.concatenate(
                        [self._scores(base)[side] @ member.encoders[side] for side in BRANCHES],
                        axis=1,
                    )
                    @ weights
                    + bias
                )
                onward = dense.multipliers(start + before, start)
                for (slot, _, share), rows, multipliers in zip(
                    shares, encoded, onward, strict=True
                ):
                    values[slot] += share @ (rows @ (weights @ multipliers))
        return Scores(slots.indptr, slots.labels, values / (len(references) * len(self._members)))

    def _encoded(self, member: Member, channels: IntArray) -> FloatArray:
        """From z-scores of channels to all encoders' channels, shape (n_channels, width)."""
        n_outputs = member.layers[0][0].shape[0] // len(BRANCHES)
        rows = np.zeros((channels.size, len(BRANCHES), n_outputs))
        for number, side in enumerate(BRANCHES):
            own = self._sides[side]
            inside = (channels >= own.start) & (channels < own.stop)
            rows[inside, number] = member.encoders[side][channels[inside] - own.start]
        return rows.reshape(channels.size, -1)

    def _shares(
        self, inputs: Cells, i: int, of_inputs: IntArray, reference: Cells, places: IntArray,
        slopes: FloatArray,
    ) -> tuple[IntArray, IntArray, sparse.csr_array]:  # fmt: skip
        """Share out a row's changed z-scores: slots, channels, and what each slot has of each."""
        own = slice(inputs.indptr[i], inputs.indptr[i + 1])
        channels = np.concatenate([inputs.channels[own], reference.channels])
        moved = np.concatenate([inputs.bases[own], -reference.bases]) * slopes[channels]
        slot, row = np.unique(np.concatenate([of_inputs[own], places]), return_inverse=True)
        channel, column = np.unique(channels, return_inverse=True)
        share = sparse.csr_array((moved, (row, column)), shape=(slot.size, channel.size))
        return slot, channel, share
