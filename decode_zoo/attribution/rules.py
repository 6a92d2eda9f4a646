"""DeepLIFT's rescale rule in closed form: how much each input adds to each output.

DeepLIFT replaces the slope of a ReLU by the ratio of differences to a reference input: with x the
ReLU's input and r that of the reference, (max(x, 0) - max(r, 0)) / (x - r). Everything else in the
networks is linear, so an input's score is its difference to the reference times a product of
matrices, for all outputs at once, and the scores of a gene add up to the difference of the
predictions. Sources: Shrikumar et al. 2017 (arXiv:1704.02685), section 3.5.1, and, for several
references averaged, Lundberg & Lee 2017 (arXiv:1705.07874).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.decode import BRANCHES, DecodeNetwork, FoldedNetwork
from decode_zoo.networks.families import Network
from decode_zoo.networks.inputs import SparseInputs, first_channels
from decode_zoo.networks.perceptron import FoldedPerceptron, PerceptronNetwork, Standardisation

__all__ = [
    "ConvolutionRule",
    "FoldedRule",
    "PerceptronRule",
    "Rule",
    "Scores",
    "rule_for",
    "slopes",
]

# Rows, and for each of their entries what its score is added to.
Labelled = tuple[SparseInputs, IntArray]
# Rows of a matrix product.
_ROWS = 64

# -- what rules take and give --------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Scores of some rows, each for the labels that it has, in the outputs' units."""

    indptr: IntArray  # (n_rows + 1,); row i owns entries indptr[i]:indptr[i + 1]
    labels: IntArray  # (m,), what is scored, ascending within a row
    values: FloatArray  # (m, n_outputs)

    def not_zero(self) -> Scores:
        """Leave out what scores zero for every output, as what equals the reference does."""
        kept = self.values.any(axis=1)
        before = np.concatenate(([0], np.cumsum(kept)))
        return Scores(before[self.indptr], self.labels[kept], self.values[kept])

    def sums(self) -> FloatArray:
        """Add up the scores of each row, shape (n_rows, n_outputs)."""
        return _add_up(self.values, self.indptr)


@dataclass(frozen=True)
class _Slots:
    """Where scores of rows are added up: one slot for each row and label that it has."""

    indptr: IntArray  # (n_rows + 1,); row i owns slots indptr[i]:indptr[i + 1]
    labels: IntArray  # (m,), ascending within a row
    of_inputs: IntArray  # slot of each entry of the inputs
    of_references: list[IntArray]  # of each reference's entries in each row, (n_rows, n_entries)

    @classmethod
    def make(cls, inputs: Labelled, reference_labels: Sequence[IntArray]) -> _Slots:
        """Give slots to the labels of inputs and references."""
        cells, labels = inputs
        stride = 1 + max(int(names.max(initial=0)) for names in (labels, *reference_labels))
        starts = stride * np.arange(len(cells) + 1, dtype=np.int64)
        mine = starts[cells.rows()] + labels
        theirs = [starts[:-1, None] + names for names in reference_labels]
        keys = np.unique(np.concatenate([mine, *(part.ravel() for part in theirs)]))
        return cls(
            np.searchsorted(keys, starts),
            keys % stride,
            np.searchsorted(keys, mine),
            [np.searchsorted(keys, part) for part in theirs],
        )


def _add_up(values: FloatArray, indptr: IntArray) -> FloatArray:
    """Add up the entries of each row, one after the other; rows may be empty."""
    shape = (indptr.size - 1, len(values))
    ones = sparse.csr_array((np.ones(len(values)), np.arange(len(values)), indptr), shape=shape)
    return np.asarray(ones @ values)


# -- dense layers --------------------------------------------------------------------------------


def slopes(x: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the slope of a ReLU between a reference and an input, between 0 and 1.

    It is the gradient where both are the same. Shapes broadcast.
    """
    low, high = np.minimum(x, reference), np.maximum(x, reference)
    # Where both are on one side the slope is exactly 1 or 0, whatever the difference.
    slope = (low >= 0).astype(np.float64) * (high > 0)
    np.divide(high, high - low, out=slope, where=(low < 0) & (high > 0))
    return slope


def product(rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Multiply rows with a matrix; a row's bits do not depend on its neighbours.

    Matrix libraries choose their kernels by shape. Blocks of one fixed shape, the last filled up
    with empty rows, cost far less than rows one by one.
    """
    blocks = np.zeros((-(-len(rows) // _ROWS), _ROWS, rows.shape[1]))
    blocks.reshape(-1, rows.shape[1])[: len(rows)] = rows
    return (blocks @ weights).reshape(-1, weights.shape[1])[: len(rows)]


class DenseLayers:
    """Dense layers (weights, bias) behind the first hidden layer, each behind a ReLU (or none)."""

    def __init__(self, layers: Sequence[tuple[FloatArray, FloatArray]], relu: bool) -> None:
        self.layers = tuple(layers)
        self.relu = relu
        self.n_outputs = self.layers[-1][1].size

    def inputs(self, hidden: FloatArray) -> list[FloatArray]:
        """Return the inputs of every ReLU, and the outputs last; `hidden` has shape (n, width)."""
        values = [hidden]
        for weights, bias in self.layers:
            x = np.maximum(values[-1], 0) if self.relu else values[-1]
            values.append(product(x, weights) + bias)
        return values

    def multipliers(self, hidden: FloatArray, reference: FloatArray) -> FloatArray:
        """Return what takes differences of the first hidden layer to those of the outputs.

        `hidden` has shape (n, width), `reference` (1, width), both before the ReLU; the result
        (n, width, n_outputs).
        """
        product = np.eye(self.n_outputs)[None]
        steps = zip(self.inputs(hidden), self.inputs(reference), self.layers, strict=False)
        for x, r, (weights, _) in reversed(list(steps)):
            product = weights @ product
            if self.relu:
                product = slopes(x, r)[:, :, None] * product
        return np.broadcast_to(product, (len(hidden), *product.shape[1:]))


class Tangent:
    """Dense layers made linear by some slopes of their units, and what other slopes change.

    Most units have the same slope in row after row. What goes through those alone is the same for
    all rows, and so computed once: `whole`, shape (n_inputs, n_outputs). For each row there is only
    what goes through others. Units stand between the layers' `weights`; `usual` has their slopes,
    through all layers.
    """

    def __init__(self, weights: Sequence[FloatArray], usual: FloatArray) -> None:
        self._usual = usual
        self._ends = np.cumsum([0, *(matrix.shape[1] for matrix in weights[:-1])])
        by_layer = np.split(usual, self._ends[1:-1])
        # From the inputs, and from each layer's units, to all units behind and to the outputs.
        paths = []
        for number, path in enumerate(weights):
            columns = [path]
            for slope, matrix in zip(by_layer[number:], weights[number + 1 :], strict=True):
                path = (path * slope) @ matrix
                columns.append(path)
            paths.append(np.concatenate(columns, axis=1))
        from_inputs, *others = paths
        self.whole = from_inputs[:, usual.size :]
        # Rows are what is chosen: of another order they would cost a copy of all.
        self._entries = np.ascontiguousarray(from_inputs[:, : usual.size].T)
        self._paths = [np.ascontiguousarray(path) for path in others]

    def changes(self, slopes: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield what to add to `whole` for each row, as two matrices to be multiplied.

        `slopes` has shape (n, n_units). For the m units with another slope than usual the matrices
        have shapes (n_inputs, m) and (m, n_outputs).
        """
        n_outputs = self.whole.shape[1]
        for change in slopes - self._usual:
            units = np.flatnonzero(change)
            bounds = np.searchsorted(units, self._ends)
            onward = np.empty((units.size, n_outputs))
            for layer in reversed(range(len(self._paths))):
                own, later = slice(*bounds[layer : layer + 2]), slice(bounds[layer + 1], None)
                paths = self._paths[layer].take(units[own] - self._ends[layer], axis=0)
                between = paths.take(units[later] - self._ends[layer + 1], axis=1)
                straight = paths[:, -n_outputs:]
                onward[own] = change[units[own], None] * (straight + between @ onward[later])
            yield self._entries.take(units, axis=0).T, onward


# -- networks with linear convolutions -----------------------------------------------------------


class FoldedRule:
    """The rule for networks with linear convolutions, folded."""

    def __init__(self, network: FoldedNetwork, *, positions: bool) -> None:
        # Bin p is in the sums 0 .. p, the last sum has all that are left.
        tables = [
            np.cumsum(network.first[side], axis=0) if positions else network.first[side]
            for side in SIDES
        ]
        # Row of the table for a channel's first place, and how many places it has there.
        self._places = np.concatenate([np.full(table.shape[1], len(table)) for table in tables])
        self._starts = np.cumsum(self._places) - self._places
        width = network.bias.size
        self._table = np.concatenate([t.transpose(1, 0, 2).reshape(-1, width) for t in tables])
        self._bias = network.bias
        self._dense = DenseLayers(network.layers, network.relu)

    def _hidden(self, cells: SparseInputs, slots: IntArray, n_slots: int) -> FloatArray:
        """Add up what cells bring to the first hidden layer, by slot, shape (n_slots, width)."""
        last = self._places[cells.channels] - 1
        column = self._starts[cells.channels] + np.minimum(cells.places, last)
        order = np.argsort(slots, kind="stable")
        indptr = np.concatenate(([0], np.cumsum(np.bincount(slots, minlength=n_slots))))
        matrix = sparse.csr_array(
            (cells.bases[order], column[order], indptr), shape=(n_slots, len(self._table))
        )
        return np.asarray(matrix @ self._table)

    def _reference_hidden(self, cells: SparseInputs) -> FloatArray:
        """Return the first hidden layer of one row, shape (1, width)."""
        return self._bias + self._hidden(cells, np.zeros_like(cells.places), 1)

    def reference(self, references: Sequence[SparseInputs]) -> FloatArray:
        """Return the mean prediction of references, shape (n_outputs,)."""
        hidden = np.concatenate([self._reference_hidden(cells) for cells in references])
        mean: FloatArray = self._dense.inputs(hidden)[-1].mean(axis=0)
        return mean

    def scores(self, inputs: Labelled, references: Sequence[Labelled]) -> Scores:
        """Score rows against each reference, and average."""
        grouped = [np.unique(labels, return_inverse=True) for _, labels in references]
        slots = _Slots.make(inputs, [names for names, _ in grouped])
        mine = self._hidden(inputs[0], slots.of_inputs, slots.labels.size)
        values = np.zeros((slots.labels.size, self._dense.n_outputs))
        for (cells, _), (names, group), places in zip(
            references, grouped, slots.of_references, strict=True
        ):
            base = self._reference_hidden(cells)
            difference = mine.copy()
            difference[places] -= self._hidden(cells, group, names.size)
            hidden = base + _add_up(difference, slots.indptr)
            for row, multipliers in enumerate(self._dense.multipliers(hidden, base)):
                own = slice(*slots.indptr[row : row + 2])
                values[own] += difference[own] @ multipliers
        return Scores(slots.indptr, slots.labels, values / len(references))


# -- networks with ReLU in their convolutions ----------------------------------------------------


class ConvolutionRule:
    """The rule for networks with ReLU in their convolutions; places of inputs are bins."""

    def __init__(self, network: DecodeNetwork) -> None:
        self._kernels = {side: network.kernels(side) for side in SIDES}
        # Inputs in bases, not scaled.
        for side, (first, *_) in self._kernels.items():
            first /= network.input_scale[side][None, :, None]
        self._first = first_channels({s: len(network.input_scale[s]) - 1 for s in SIDES})
        (weights, self._bias), *layers = network.dense_layers()
        self._branch = network.by_branch(weights)
        self._dense = DenseLayers(layers, network.config.full_relu)

    def _side(self, cells: SparseInputs, side: Side) -> BoolArray:
        """Return which entries are of a side."""
        channel = cells.channels - self._first[side]
        inside: BoolArray = (channel >= 0) & (channel < self._kernels[side][0].shape[1])
        return inside

    def _length(self, cells: SparseInputs, side: Side) -> int:
        """Return the bins of one row, with those of its padding."""
        padding = sum(len(kernel) - 1 for kernel in self._kernels[side])
        return int(cells.places[self._side(cells, side)].max(initial=-1)) + 1 + padding

    def _forward(self, cells: SparseInputs, side: Side, length: int) -> list[FloatArray]:
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

    def _branches(
        self, cells: SparseInputs, lengths: dict[Side, int]
    ) -> dict[Side, list[FloatArray]]:
        return {side: self._forward(cells, side, lengths[side]) for side in SIDES}

    def _hidden(self, branches: dict[Side, list[FloatArray]]) -> FloatArray:
        """Return the first hidden layer of one row, shape (1, width)."""
        hidden = self._bias
        for side, values in branches.items():
            hidden = hidden + np.maximum(values[-1], 0).sum(axis=0) @ self._branch[side]
        return hidden[None]

    def reference(self, references: Sequence[SparseInputs]) -> FloatArray:
        """Return the mean prediction of references, shape (n_outputs,)."""
        hidden = [
            self._hidden(self._branches(cells, {s: self._length(cells, s) for s in SIDES}))
            for cells in references
        ]
        mean: FloatArray = self._dense.inputs(np.concatenate(hidden))[-1].mean(axis=0)
        return mean

    def scores(self, inputs: Labelled, references: Sequence[Labelled]) -> Scores:
        """Score rows against each reference, and average."""
        slots, rows = _Slots.make(inputs, [labels for _, labels in references]), inputs[0]
        values = np.zeros((slots.labels.size, self._dense.n_outputs))
        for i in range(len(rows)):
            x, own = rows.row(i), slice(*rows.indptr[i : i + 2])
            for (r, _), places in zip(references, slots.of_references, strict=True):
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
        """Return the multipliers of the first convolution, shape (positions, width, n_outputs)."""
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
        self, side: Side, cells: SparseInputs, inside: BoolArray, multipliers: FloatArray
    ) -> FloatArray:
        """Score one row's entries of a side, shape (n_inside, n_outputs)."""
        kernel = self._kernels[side][0]
        places, bases = cells.places[inside], cells.bases[inside]
        channels = cells.channels[inside] - self._first[side]
        values = np.zeros((places.size, multipliers.shape[2]))
        for place in np.unique(places):
            own = places == place
            for k in range(max(0, place - len(multipliers) + 1), min(len(kernel), place + 1)):
                values[own] += kernel[k][channels[own]] @ multipliers[place - k]
        return values * bases[:, None]


# -- perceptrons on position sums ----------------------------------------------------------------


@dataclass(frozen=True)
class _Moves:
    """Changes of a side's z-scores, and of which slots they are."""

    indptr: IntArray  # (n_rows + 1,); row i owns changes indptr[i]:indptr[i + 1]
    scores: sparse.csr_array  # (n_changes, channels)
    share: sparse.csr_array  # (n_slots, n_changes), what each slot has of each


@dataclass(frozen=True)
class _Prepared:
    """What references give, member by member."""

    relus: list[FloatArray]  # inputs of all ReLUs, (n_references, n_units)
    tangents: list[Tangent]  # with the slopes of the first reference
    whole: dict[Side, FloatArray]  # z-scores to outputs with those, members added up


def _halves(rows: FloatArray) -> list[FloatArray]:
    """Split what has a row for each channel of the encoders, in the order of `BRANCHES`."""
    return np.split(rows, len(BRANCHES))


class PerceptronRule:
    """The rule for perceptrons on position sums; bins and sums of an input are alike to it.

    A sum goes through its standardisation alone, so that step has one slope for each track and
    row, by which the track's bins share what it adds. With `positions` labels tell a channel's
    places apart, and a channel is scored as a whole; otherwise all that has one label is.
    """

    def __init__(self, network: FoldedPerceptron, *, positions: bool) -> None:
        self._positions = positions
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
        # It costs as much as a dozen rows, and blocks of rows have the same references.
        self._prepared = lru_cache(maxsize=1)(self._prepare)

    def _sums(self, cells: SparseInputs) -> FloatArray:
        """Return position sums in bases, shape (n_rows, channels)."""
        shape = (len(cells), self._standardise.scale.size)
        entries = sparse.csr_array((cells.bases, cells.channels, cells.indptr), shape=shape)
        return np.asarray(entries.toarray())

    def _by_side(self, scores: FloatArray) -> dict[Side, FloatArray]:
        return {side: scores[:, own] for side, own in self._sides.items()}

    def _relus(self, scores: FloatArray) -> list[FloatArray]:
        """Return what all ReLUs of each member see, shape (n_rows, n_units)."""
        found, z = [], self._by_side(scores)
        for member, dense in zip(self._members, self._dense, strict=True):
            encoded = [product(z[side], member.encoders[side]) for side in BRANCHES]
            weights, bias = member.layers[0]
            hidden = product(np.concatenate(encoded, axis=1), weights) + bias
            found.append(np.concatenate(dense.inputs(hidden)[:-1], axis=1))
        return found

    def reference(self, references: Sequence[SparseInputs]) -> FloatArray:
        """Return the mean prediction of references, shape (n_outputs,)."""
        sums = np.concatenate([self._sums(cells) for cells in references])
        scores = self._by_side(self._standardise(sums))
        mean: FloatArray = np.mean([m.forward(scores) for m in self._members], axis=(0, 1))
        return mean

    def _prepare(self, sums: bytes) -> _Prepared:
        """Prepare for references of some sums."""
        scores = self._standardise(np.frombuffer(sums).reshape(-1, self._standardise.scale.size))
        relus, tangents = self._relus(scores), []
        whole = {side: np.zeros((1, 1)) for side in BRANCHES}
        for member, (first, *_) in zip(self._members, relus, strict=True):
            tangent = Tangent([weights for weights, _ in member.layers], slopes(first, first))
            for side, part in zip(BRANCHES, _halves(tangent.whole), strict=True):
                whole[side] = whole[side] + member.encoders[side] @ part
            tangents.append(tangent)
        return _Prepared(relus, tangents, whole)

    def scores(self, inputs: Labelled, references: Sequence[Labelled]) -> Scores:
        """Score rows against each reference, and average."""
        slots, rows = _Slots.make(inputs, [labels for _, labels in references]), inputs[0]
        values = np.zeros((slots.labels.size, self._dense[0].n_outputs))
        sums, bases = self._sums(rows), [self._sums(cells) for cells, _ in references]
        relus = self._relus(self._standardise(sums))
        prepared = self._prepared(b"".join(base.tobytes() for base in bases))
        for number, (cells, _) in enumerate(references):
            slope = self._standardise.slopes(sums, bases[number])
            moves = self._moves(rows, cells, slots, slots.of_references[number], slope)
            added = {s: np.asarray(moves[s].scores @ prepared.whole[s]) for s in BRANCHES}
            for member, x, r, tangent in zip(
                self._members, relus, prepared.relus, prepared.tangents, strict=True
            ):
                encoded = {s: moves[s].scores @ member.encoders[s] for s in BRANCHES}
                changes = tangent.changes(slopes(x, r[number]))
                for row, (left, right) in enumerate(changes):
                    for side, part in zip(BRANCHES, _halves(left), strict=True):
                        own = slice(*moves[side].indptr[row : row + 2])
                        # In the order that costs less, for rows with few changes and with many.
                        added[side][own] += np.linalg.multi_dot([encoded[side][own], part, right])
            for side in BRANCHES:
                values += moves[side].share @ added[side]
        return Scores(slots.indptr, slots.labels, values / (len(references) * len(self._members)))

    def _moves(
        self,
        inputs: SparseInputs,
        reference: SparseInputs,
        slots: _Slots,
        places: IntArray,
        slope: FloatArray,
    ) -> dict[Side, _Moves]:
        """Find what sets z-scores apart from a reference's."""
        n_rows = len(inputs)
        row = np.concatenate([inputs.rows(), np.repeat(np.arange(n_rows), reference.channels.size)])
        slot = np.concatenate([slots.of_inputs, places.ravel()])
        channel = np.concatenate([inputs.channels, np.tile(reference.channels, n_rows)])
        change = np.concatenate(
            [
                inputs.bases * slope[inputs.rows(), inputs.channels],
                (-reference.bases * slope[:, reference.channels]).ravel(),
            ]
        )
        found = {}
        for side, channels in self._sides.items():
            own = np.flatnonzero((channel >= channels.start) & (channel < channels.stop))
            column, width = channel[own] - channels.start, channels.stop - channels.start
            if self._positions:
                keys, which = np.unique(row[own] * width + column, return_inverse=True)
                indptr = np.searchsorted(keys, width * np.arange(n_rows + 1))
                one = (np.ones(keys.size), keys % width, np.arange(keys.size + 1))
                scores = sparse.csr_array(one, shape=(keys.size, width))
                share = (change[own], (slot[own], which))
            else:
                keys, which = np.unique(slot[own], return_inverse=True)
                indptr = np.searchsorted(keys, slots.indptr)
                scores = sparse.csr_array((change[own], (which, column)), (keys.size, width))
                share = (np.ones(keys.size), (keys, np.arange(keys.size)))
            shares = sparse.csr_array(share, (slots.labels.size, keys.size))
            found[side] = _Moves(indptr, scores, shares)
        return found


# -- the rule of a network -----------------------------------------------------------------------

# What scores rows against references, each of which is one row of cells.
Rule = FoldedRule | ConvolutionRule | PerceptronRule


def rule_for(network: Network, *, positions: bool) -> Rule:
    """Choose the rule for a network, which has the wanted outputs only.

    `positions` says that places of inputs are bins rather than numbers of position sums.
    """
    if isinstance(network, PerceptronNetwork):
        return PerceptronRule(network.fold(), positions=positions)
    if network.config.pools:
        return FoldedRule(network.fold(), positions=positions)
    return ConvolutionRule(network)
