"""Networks seen from their first hidden layer, where taking sites away is an addition.

Up to that layer a network that pools exactly is linear in its inputs, once each sum has gone
through its own standardisation. What a regulator's sites bring to the layer can thus be worked out
once and taken away in any combination; only the layers behind it are run for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from decode_zoo.core.arrays import IntArray, RealArray
from decode_zoo.core.errors import UsageError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.decode import BRANCHES, DecodeNetwork, FoldedNetwork
from decode_zoo.networks.families import Network
from decode_zoo.networks.inputs import SparseInputs
from decode_zoo.networks.perceptron import FoldedPerceptron, Standardisation

__all__ = ["FirstLayer", "Layers", "Precision"]

# Dense layers behind the first: weights and biases.
Layers = tuple[tuple[RealArray, RealArray], ...]

Precision = Literal["double", "single"]
_TYPES: Mapping[Precision, type[np.floating]] = {"double": np.float64, "single": np.float32}

# Rows of a matrix product. With one shape for all, a row's bits in double precision do not depend
# on its neighbours; in single precision they do with some matrix libraries.
_FIRST_ROWS, _ROWS = 64, 256


@dataclass(frozen=True, repr=False)
class FirstLayer:
    """A network as what follows its position sums, computed in one floating type.

    A column is one position sum of one channel; channels are numbered as in `SparseInputs`.
    """

    first: RealArray  # (n_columns, n_units): to the first layers of all members, side by side
    bias: RealArray  # (n_units,)
    starts: IntArray  # (n_channels,): first column of each channel
    widths: IntArray  # (n_channels,): how many columns it has
    standardise: Standardisation | None  # of each column; none if sums are taken in bases
    members: tuple[Layers, ...]  # what follows, for equal shares of the units; outputs averaged
    relu: bool  # whether a ReLU stands before each of those layers

    @classmethod
    def make(cls, network: Network, precision: Precision = "double") -> FirstLayer:
        """See a network from its first hidden layer; single precision takes half the time.

        Raises UsageError if its convolutions are not linear.
        """
        if not isinstance(network, DecodeNetwork):
            return cls._of_perceptron(network.fold(), _TYPES[precision])
        if network.config.conv_relu:
            raise UsageError(
                "This network has ReLU in its convolutions: no position sums stand for its "
                "inputs, and sites cannot be taken away one by one.",
                remedy="Choose a model that pools exactly, such as gtex-tissue-v1.",
            )
        return cls._of_decode(network.fold(), _TYPES[precision])

    @classmethod
    def _of_decode(cls, network: FoldedNetwork, kind: type[np.floating]) -> FirstLayer:
        # A channel's columns are neighbours: its sums, one a kernel offset.
        weights = [network.first[side] for side in SIDES]
        columns = [w.transpose(1, 0, 2).reshape(-1, network.bias.size) for w in weights]
        widths = np.concatenate([np.full(w.shape[1], len(w)) for w in weights])
        return cls(
            np.concatenate(columns).astype(kind),
            network.bias.astype(kind),
            np.cumsum(widths) - widths,
            widths,
            None,
            (_cast(network.layers, kind),),
            network.relu,
        )

    @classmethod
    def _of_perceptron(cls, network: FoldedPerceptron, kind: type[np.floating]) -> FirstLayer:
        inputs = [network.inputs[side] for side in SIDES]
        blocks, bias = [], []
        for member in network.members:
            weights, shift = member.layers[0]
            part = dict(zip(BRANCHES, np.split(weights, len(BRANCHES)), strict=True))
            blocks.append(np.concatenate([member.encoders[s] @ part[s] for s in SIDES]))
            bias.append(shift)
        n_channels = sum(part.scale.size for part in inputs)
        return cls(
            np.concatenate(blocks, axis=1).astype(kind),
            np.concatenate(bias).astype(kind),
            np.arange(n_channels),
            np.ones(n_channels, np.int64),
            Standardisation(
                np.concatenate([part.scale for part in inputs]),
                np.concatenate([part.centre for part in inputs]),
                inputs[0].limit,
            ),
            tuple(_cast(member.layers[1:], kind) for member in network.members),
            True,
        )

    def columns(self, cells: SparseInputs) -> IntArray:
        """Return the column of each entry of position sums, shape (n,)."""
        return np.asarray(self.starts[cells.channels] + cells.places)

    def level(self, sums: RealArray, columns: IntArray | slice = slice(None)) -> RealArray:
        """Return what sums in bases, shape (..., n), of n columns are to the first layer."""
        if self.standardise is None:
            return sums
        s = self.standardise
        return Standardisation(s.scale[columns], s.centre[columns], s.limit)(sums)

    def hidden(self, cells: SparseInputs) -> RealArray:
        """Return the first hidden layers of rows before any ReLU, shape (n_rows, n_units)."""
        sums = np.zeros((len(cells), len(self.first)))
        np.add.at(sums, (cells.rows(), self.columns(cells)), cells.bases)
        return _by_blocks(
            lambda part: self.level(part).astype(self.first.dtype) @ self.first + self.bias,
            sums,
            _FIRST_ROWS,
        )

    def losses(self, cells: SparseInputs, groups: IntArray, n_groups: int) -> RealArray:
        """Return what the first hidden layers lose with each group, shape (n_groups, n_units).

        `groups` has the group of each entry of `cells`, -1 for what is never taken away; a group's
        entries are of one row. Losses are to be added to a row's hidden layer, and add up.
        """
        kept = groups >= 0
        columns, bases = self.columns(cells)[kept], cells.bases[kept]
        change = self.level(np.zeros_like(bases), columns) - self.level(bases, columns)
        matrix = sparse.csr_array(
            (change.astype(self.first.dtype), (groups[kept], columns)),
            shape=(n_groups, len(self.first)),
        )
        return np.asarray(matrix @ self.first)

    def predict(self, hidden: RealArray) -> RealArray:
        """Run the layers behind the first, shape (n, n_outputs), in the outputs' units."""
        return _by_blocks(self._behind, hidden, _ROWS)

    def _behind(self, hidden: RealArray) -> RealArray:
        n_outputs = self.members[0][-1][1].size
        total = np.zeros((len(hidden), n_outputs), hidden.dtype)
        for values, layers in zip(
            np.split(hidden, len(self.members), axis=1), self.members, strict=True
        ):
            for weights, bias in layers:
                values = (np.maximum(values, 0) if self.relu else values) @ weights + bias
            total += values
        total /= len(self.members)
        return total


def _cast(layers: Layers, kind: type[np.floating]) -> Layers:
    return tuple((weights.astype(kind), bias.astype(kind)) for weights, bias in layers)


def _by_blocks(function: Callable[[RealArray], RealArray], rows: RealArray, size: int) -> RealArray:
    """Apply a function to blocks of one size, the last filled up with empty rows."""
    found = []
    for start in range(0, max(len(rows), 1), size):
        part = rows[start : start + size]
        found.append(function(np.pad(part, ((0, size - len(part)), (0, 0)))))
    return np.concatenate(found)[: len(rows)]
