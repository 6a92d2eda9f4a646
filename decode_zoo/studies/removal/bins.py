"""Position sums bin by bin, so that sites can be taken away by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decode_zoo.genesets import TARGETS
from decode_zoo.inputs import first_channels
from decode_zoo.layout import SIDES, Side
from decode_zoo.studies.removal.hidden import HiddenNetwork
from decode_zoo.studies.removal.knockout import Knockout

__all__ = ["BinSums"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False)
class BinSums:
    """Position sums of one row, bin by bin.

    Attributes
    ----------
    labels : list of (side, int)
        Bins with sites that have positions, along promoter, then RNA.
    columns : ndarray of int64, shape (n_columns,)
        Of the network, those that have anything on this row.
    sums : ndarray of float32, shape (n_bins, n_columns)
        In bases; what each bin adds to each sum.
    fixed : ndarray of float32, shape (n_columns,)
        What stays whatever is taken away.
    tracks : ndarray of int64, shape (n_bins,)
        How many tracks have sites in each.
    """

    labels: list[tuple[Side, int]]
    columns: IntArray
    sums: FloatArray
    fixed: FloatArray
    tracks: IntArray

    @classmethod
    def make(cls, knockout: Knockout, row: int) -> BinSums:
        """Gather the bins of a row (needs positions).

        Raises
        ------
        ArtifactError
            If the feature set's positions cannot be had.
        """
        network, bound = knockout.network, knockout.bound
        one = np.array([row], np.int64)
        first = first_channels(bound.n_tracks)
        cells = bound.bin_cells(one)
        fixed_channel = np.zeros(network.starts.size, bool)
        on_rna = np.zeros(network.starts.size, bool)
        for side in SIDES:
            tracks = knockout.model.manifest.inputs[side].tracks
            own = [True, *(track.kind == TARGETS for track in tracks)]
            fixed_channel[first[side] : first[side] + len(own)] = own
            on_rna[first[side] : first[side] + len(own)] = side == "rna"
        # A bin is in the sums up to its own number; there are as many sums as the kernel is wide.
        widths = network.widths[cells.channels]
        counts = np.minimum(cells.places + 1, widths)
        entry = np.repeat(np.arange(cells.places.size), counts)
        k = np.arange(entry.size) - np.repeat(np.cumsum(counts) - counts, counts)
        column = network.starts[cells.channels[entry]] + k
        columns, at = np.unique(column, return_inverse=True)
        stays = fixed_channel[cells.channels]
        fixed = np.bincount(at, cells.bases[entry] * stays[entry], columns.size)
        moving = ~stays
        stride = 1 + int(cells.places.max(initial=0))
        keys, group = np.unique(
            (on_rna[cells.channels] * stride + cells.places)[moving], return_inverse=True
        )
        of_entry = np.full(cells.places.size, -1)
        of_entry[moving] = group
        sums = np.zeros((keys.size, columns.size), np.float32)
        own_entries = moving[entry]
        np.add.at(
            sums, (of_entry[entry][own_entries], at[own_entries]), cells.bases[entry][own_entries]
        )
        labels: list[tuple[Side, int]] = [
            ("rna" if key >= stride else "promoter", int(key % stride)) for key in keys
        ]
        # Two sites of a track in one bin are two entries.
        pairs = np.unique(group * network.starts.size + cells.channels[moving])
        n_tracks = np.bincount(pairs // network.starts.size, minlength=keys.size)
        return cls(labels, columns, sums, fixed.astype(np.float32), n_tracks.astype(np.int64))

    def hidden(self, network: HiddenNetwork, kept: BoolArray) -> FloatArray:
        """Return the first hidden layers with some of the bins, shape (n, n_units).

        Parameters
        ----------
        network : HiddenNetwork
        kept : ndarray of bool, shape (n, n_bins)
        """
        sums = kept.astype(np.float32) @ self.sums + self.fixed
        # All other columns are those of a gene without sites.
        kind = network.first.dtype
        rest = network.level(np.zeros(len(network.first), kind)).astype(kind)
        rest[self.columns] = 0
        base = rest @ network.first + network.bias
        level = network.level(sums, self.columns).astype(kind)
        return np.asarray(level @ network.first[self.columns] + base)
