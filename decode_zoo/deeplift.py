"""DeepLIFT's rescale rule in closed form: how much each input adds to each output.

DeepLIFT replaces the slope of a ReLU by the ratio of differences to a reference input: with x the
ReLU's input and r that of the reference, (max(x, 0) - max(r, 0)) / (x - r). Everything else in the
networks is linear, so an input's score is its difference to the reference times a product of
matrices, for all outputs at once, and the scores of a gene add up to the difference of the
predictions. Sources: Shrikumar et al. 2017 (arXiv:1704.02685), section 3.5.1, and, for several
references averaged, Lundberg & Lee 2017 (arXiv:1705.07874).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells, first_channels
from decode_zoo.families import Network
from decode_zoo.layout import SIDES, Side
from decode_zoo.network import BRANCHES, DecodeNetwork, FoldedNetwork
from decode_zoo.perceptron import FoldedPerceptron, Member, PerceptronNetwork, Standardisation

__all__ = [
    "ConvolutionRule",
    "FoldedRule",
    "PerceptronRule",
    "Rule",
    "Scores",
    "rule_for",
    "slopes",
]

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
        return _add_up(self.values, self.indptr)


def _add_up(values: FloatArray, indptr: IntArray) -> FloatArray:
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
        self, inputs: Cells, labels: IntArray, references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:  # fmt: skip
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


def slopes(x: FloatArray, reference: FloatArray) -> FloatArray:
    """Slope of a ReLU between a reference and an input, the gradient where both are the same.

    Parameters
    ----------
    x, reference : ndarray of float64
        Inputs of the ReLU; shapes that broadcast.

    Returns
    -------
    ndarray of float64
        Between 0 and 1.
    """
    low, high = np.minimum(x, reference), np.maximum(x, reference)
    # Where both are on one side the slope is exactly 1 or 0, whatever the difference.
    slope = (low >= 0).astype(np.float64) * (high > 0)
    np.divide(high, high - low, out=slope, where=(low < 0) & (high > 0))
    return slope


class DenseLayers:
    """What follows the first hidden layer: dense layers, each behind a ReLU (or none).

    Parameters
    ----------
    layers : sequence of (weights, bias)
    relu : bool
    """

    def __init__(self, layers: Sequence[tuple[FloatArray, FloatArray]], relu: bool) -> None:
        self.layers = tuple(layers)
        self.relu = relu
        self.n_outputs = self.layers[-1][1].size

    def inputs(self, hidden: FloatArray) -> list[FloatArray]:
        """Return the inputs of every ReLU, and the outputs last; `hidden` has shape (n, width)."""
        values = [hidden]
        for weights, bias in self.layers:
            # Row by row, so that a row's bits do not depend on its neighbours.
            x = np.maximum(values[-1], 0) if self.relu else values[-1]
            values.append((x[:, None, :] @ weights)[:, 0] + bias)
        return values

    def multipliers(self, hidden: FloatArray, reference: FloatArray) -> FloatArray:
        """From the first hidden layer's difference to the outputs'.

        Parameters
        ----------
        hidden : ndarray of float64, shape (n, width)
            Before its ReLU.
        reference : ndarray of float64, shape (1, width)

        Returns
        -------
        ndarray of float64, shape (n, width, n_outputs)
        """
        product = np.eye(self.layers[-1][1].size)[None]
        steps = zip(self.inputs(hidden), self.inputs(reference), self.layers, strict=False)
        for x, r, (weights, _) in reversed(list(steps)):
            product = weights @ product
            if self.relu:
                product = slopes(x, r)[:, :, None] * product
        return np.broadcast_to(product, (len(hidden), *product.shape[1:]))


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
        self, inputs: Cells, labels: IntArray, references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:  # fmt: skip
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
            hidden = base + _add_up(difference, slots.indptr)
            for own, multipliers in zip(
                slots.slices(), self._dense.multipliers(hidden, base), strict=True
            ):
                values[own] += difference[own] @ multipliers
        return Scores(slots.indptr, slots.labels, values / len(references))


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
        hidden = np.concatenate([
            self._hidden(self._branches(cells, {s: self._length(cells, s) for s in SIDES}))
            for cells in references
        ])  # fmt: skip
        mean: FloatArray = self._dense.inputs(hidden)[-1].mean(axis=0)
        return mean

    def scores(
        self, inputs: Cells, labels: IntArray, references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:  # fmt: skip
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


def rule_for(network: Network, *, positions: bool) -> Rule:
    """Choose the rule for a network.

    Parameters
    ----------
    network : DecodeNetwork or PerceptronNetwork
        With the outputs wanted only.
    positions : bool
        Whether places of inputs are bins, not numbers of position sums.
    """
    if isinstance(network, PerceptronNetwork):
        return PerceptronRule(network.fold())
    if network.config.pools:
        return FoldedRule(network.fold(), positions=positions)
    return ConvolutionRule(network)
