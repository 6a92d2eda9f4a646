"""Networks seen from their first hidden layer, where taking sites away is an addition.

Up to that layer a network that pools exactly is linear in its inputs, once each sum has gone
through its own standardisation. What a regulator's sites bring to the layer can thus be worked out
once and taken away in any combination; only the layers behind it are run for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.errors import UsageError
from decode_zoo.families import Network
from decode_zoo.inputs import Cells
from decode_zoo.layout import SIDES
from decode_zoo.network import BRANCHES, DecodeNetwork, FoldedNetwork
from decode_zoo.perceptron import FoldedPerceptron, Standardisation

__all__ = ["HiddenNetwork", "Layers", "Precision"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
# Dense layers behind the first: weights and biases.
Layers = tuple[tuple[FloatArray, FloatArray], ...]

Precision = Literal["double", "single"]
_TYPES: Mapping[Precision, type[np.floating]] = {"double": np.float64, "single": np.float32}

# Rows of a matrix product. With one shape for all, a row's bits in double precision do not depend
# on its neighbours; in single precision they do with some matrix libraries.
_ROWS = 256


@dataclass(frozen=True, repr=False)
class HiddenNetwork:
    """A network as what follows its position sums.

    A column is one position sum of one channel; channels are numbered as in `Cells`. Arrays are of
    one floating type, in which all is computed.

    Attributes
    ----------
    first : ndarray, shape (n_columns, n_units)
        From standardised sums to the first hidden layers of all members, side by side.
    bias : ndarray, shape (n_units,)
    starts : ndarray of int64, shape (n_channels,)
        First column of each channel.
    widths : ndarray of int64, shape (n_channels,)
        How many columns it has.
    standardise : Standardisation or None
        Of each column; none if sums are taken as they are, in bases.
    members : tuple of Layers
        What follows, for equal shares of the units; their outputs are averaged.
    relu : bool
        Whether a ReLU stands before each of those layers.
    """

    first: FloatArray
    bias: FloatArray
    starts: IntArray
    widths: IntArray
    standardise: Standardisation | None
    members: tuple[Layers, ...]
    relu: bool

    @classmethod
    def make(cls, network: Network, precision: Precision = "double") -> HiddenNetwork:
        """See a network from its first hidden layer.

        Parameters
        ----------
        network : Network
        precision : {"double", "single"}
            Single takes half the time.

        Raises
        ------
        UsageError
            If its convolutions are not linear.
        """
        if isinstance(network, DecodeNetwork):
            if network.config.conv_relu:
                raise UsageError(
                    "This network has ReLU in its convolutions: no position sums stand for its "
                    "inputs, and sites cannot be taken away one by one.",
                    remedy="Choose a model that pools exactly, such as gtex-tissue-v1.",
                )
            return cls._of_decode(network.fold(), _TYPES[precision])
        return cls._of_perceptron(network.fold(), _TYPES[precision])

    @classmethod
    def _of_decode(cls, network: FoldedNetwork, kind: type[np.floating]) -> HiddenNetwork:
        kernels = {side: len(network.first[side]) for side in SIDES}
        # A channel's columns are neighbours: its sums, one a kernel offset.
        tables = [
            network.first[side].transpose(1, 0, 2).reshape(-1, network.bias.size) for side in SIDES
        ]
        widths = np.concatenate(
            [np.full(network.first[side].shape[1], kernels[side]) for side in SIDES]
        )
        return cls(
            np.concatenate(tables).astype(kind),
            network.bias.astype(kind),
            np.cumsum(widths) - widths,
            widths,
            None,
            (_cast(network.layers, kind),),
            network.relu,
        )

    @classmethod
    def _of_perceptron(cls, network: FoldedPerceptron, kind: type[np.floating]) -> HiddenNetwork:
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

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.members[0][-1][1].size)

    def columns(self, cells: Cells) -> IntArray:
        """Column of each entry of position sums, shape (n,)."""
        return np.asarray(self.starts[cells.channels] + cells.places)

    def level(
        self, sums: npt.NDArray[np.floating], columns: IntArray | slice = slice(None)
    ) -> npt.NDArray[np.floating]:
        """Return what sums in bases are to the first layer.

        Parameters
        ----------
        sums : ndarray, shape (..., n)
        columns : ndarray of int64, shape (n,)
            Columns that they are of; all if not given.
        """
        if self.standardise is None:
            return sums
        s = self.standardise
        return Standardisation(s.scale[columns], s.centre[columns], s.limit)(sums)

    def hidden(self, cells: Cells) -> FloatArray:
        """Return the first hidden layers of rows before any ReLU, shape (n_rows, n_units)."""
        sums = np.zeros((len(cells), len(self.first)))
        np.add.at(sums, (cells.rows(), self.columns(cells)), cells.bases)
        return np.concatenate(
            [
                self.level(part).astype(self.first.dtype) @ self.first + self.bias
                for part in _padded(sums, 64)
            ]
        )[: len(cells)]

    def losses(self, cells: Cells, groups: IntArray, n_groups: int) -> FloatArray:
        """Return what the first hidden layers lose with all entries of each group.

        Parameters
        ----------
        cells : Cells
            Position sums of rows.
        groups : ndarray of int64, shape (n_entries,)
            Group of each entry, of one row each; -1 for what is never taken away.
        n_groups : int

        Returns
        -------
        ndarray, shape (n_groups, n_units)
            To be added to a row's hidden layer; groups of one row add up.
        """
        kept = groups >= 0
        columns = self.columns(cells)[kept]
        bases = cells.bases[kept]
        change = self.level(np.zeros_like(bases), columns) - self.level(bases, columns)
        matrix = sparse.csr_array(
            (change.astype(self.first.dtype), (groups[kept], columns)),
            shape=(n_groups, len(self.first)),
        )
        return np.asarray(matrix @ self.first)

    def predict(self, hidden: FloatArray) -> FloatArray:
        """Run the layers behind the first, shape (n, n_outputs), in the outputs' units."""
        found = np.empty((len(hidden), self.n_outputs), self.first.dtype)
        start = 0
        for part in _padded(hidden, _ROWS):
            stop = min(start + _ROWS, len(hidden))
            found[start:stop] = self._behind(part)[: stop - start]
            start = stop
        return found

    def _behind(self, hidden: FloatArray) -> FloatArray:
        total = np.zeros((len(hidden), self.n_outputs), hidden.dtype)
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


def _padded(rows: FloatArray, size: int) -> Iterator[FloatArray]:
    """Cut into blocks of one size, the last filled up with empty rows."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        if len(part) < size:
            part = np.concatenate([part, np.zeros((size - len(part), rows.shape[1]), rows.dtype)])
        yield part
