"""Perceptrons on position sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.cells import Cells, first_channels
from decode_zoo.deeplift.dense import DenseLayers, product, slopes
from decode_zoo.deeplift.scores import Scores, Slots
from decode_zoo.deeplift.tangent import Tangent
from decode_zoo.layout import SIDES, Side
from decode_zoo.network import BRANCHES
from decode_zoo.perceptron import FoldedPerceptron, Standardisation

__all__ = ["PerceptronRule"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Moves:
    """Changes of a side's z-scores, and of which slots they are.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i owns changes ``indptr[i]:indptr[i + 1]``.
    scores : csr_array of float64, shape (n_changes, channels)
    share : csr_array of float64, shape (n_slots, n_changes)
        What each slot has of each.
    """

    indptr: IntArray
    scores: sparse.csr_array
    share: sparse.csr_array

    def row(self, i: int) -> slice:
        """Return where a row's changes are."""
        return slice(self.indptr[i], self.indptr[i + 1])


@dataclass(frozen=True)
class _Prepared:
    """What references give, member by member.

    Attributes
    ----------
    relus : list of ndarray of float64, shape (n_references, n_units)
        Inputs of all ReLUs.
    tangents : list of Tangent
        With the slopes of the first reference.
    whole : dict of Side to ndarray of float64, shape (channels, n_outputs)
        From z-scores to the outputs with those slopes, all members added up.
    """

    relus: list[FloatArray]
    tangents: list[Tangent]
    whole: dict[Side, FloatArray]


def _halves(rows: FloatArray) -> list[FloatArray]:
    """Split what has a row for each channel of the encoders."""
    return np.split(rows, len(BRANCHES))


class PerceptronRule:
    """The rule for perceptrons on position sums; bins and sums of an input are alike to it.

    A sum goes through its standardisation alone, so that step has one slope for each track and
    row, by which the track's bins share what it adds.

    Parameters
    ----------
    network : FoldedPerceptron
        With the outputs wanted only.
    positions : bool
        Whether labels tell a channel's places apart. A channel is then scored as a whole, and
        otherwise all that has one label.
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

    def _sums(self, cells: Cells) -> FloatArray:
        """Position sums in bases, shape (n_rows, channels)."""
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

    def reference(self, references: Sequence[Cells]) -> FloatArray:
        """Return the mean prediction of references (see `Rule`)."""
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

    def scores(
        self,
        inputs: Cells,
        labels: IntArray,
        references: Sequence[Cells],
        reference_labels: Sequence[IntArray],
    ) -> Scores:
        """Score rows (see `Rule`)."""
        slots = Slots.make(inputs, labels, reference_labels)
        values = np.zeros((slots.labels.size, self._dense[0].n_outputs))
        sums, bases = self._sums(inputs), [self._sums(cells) for cells in references]
        relus = self._relus(self._standardise(sums))
        prepared = self._prepared(b"".join(base.tobytes() for base in bases))
        for number, (cells, places) in enumerate(zip(references, slots.of_references, strict=True)):
            steepness = self._standardise.slopes(sums, bases[number])
            moves = self._moves(inputs, slots, cells, places, steepness)
            added = {s: np.asarray(moves[s].scores @ prepared.whole[s]) for s in BRANCHES}
            for member, x, r, tangent in zip(
                self._members, relus, prepared.relus, prepared.tangents, strict=True
            ):
                encoded = {s: moves[s].scores @ member.encoders[s] for s in BRANCHES}
                changes = tangent.changes(slopes(x, r[number]))
                for row, (left, right) in enumerate(changes):
                    for side, part in zip(BRANCHES, _halves(left), strict=True):
                        own = moves[side].row(row)
                        # In the order that costs less, for rows with few changes and with many.
                        added[side][own] += np.linalg.multi_dot([encoded[side][own], part, right])
            for side in BRANCHES:
                values += moves[side].share @ added[side]
        return Scores(slots.indptr, slots.labels, values / (len(references) * len(self._members)))

    def _moves(
        self,
        inputs: Cells,
        slots: Slots,
        reference: Cells,
        places: IntArray,
        steepness: FloatArray,
    ) -> dict[Side, _Moves]:
        """Find what sets z-scores apart from a reference's."""
        rows = np.arange(len(inputs))
        row = np.concatenate([inputs.rows(), np.repeat(rows, reference.channels.size)])
        slot = np.concatenate([slots.of_inputs, places.ravel()])
        channel = np.concatenate([inputs.channels, np.tile(reference.channels, len(inputs))])
        change = np.concatenate(
            [
                inputs.bases * steepness[inputs.rows(), inputs.channels],
                (-reference.bases * steepness[:, reference.channels]).ravel(),
            ]
        )
        found = {}
        for side, channels in self._sides.items():
            own = np.flatnonzero((channel >= channels.start) & (channel < channels.stop))
            column, width = channel[own] - channels.start, channels.stop - channels.start
            if self._positions:
                keys, which = np.unique(row[own] * width + column, return_inverse=True)
                indptr = np.searchsorted(keys, width * np.arange(len(inputs) + 1))
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
