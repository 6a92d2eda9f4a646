"""In-silico binding-site disruption: what predictions change by if one bin's sites are gone.

Source: Tasaki et al. 2020, Methods, 'In silico binding-site disruption'; here each bin is taken
away by itself, exactly (`pair.disrupt_pair` has the paper's random removals).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decode_zoo.cores import share_out
from decode_zoo.genesets import TARGETS
from decode_zoo.inputs import first_channels
from decode_zoo.intervals import ranges
from decode_zoo.layout import SIDES, Side
from decode_zoo.studies.removal.hidden import HiddenNetwork
from decode_zoo.studies.removal.knockout import Knockout
from decode_zoo.typing import BoolArray, IntArray, RealArray, SingleArray

__all__ = ["BinSums", "Disruption", "disrupt"]


@dataclass(frozen=True, repr=False)
class BinSums:
    """Position sums of one row, in bases, bin by bin."""

    labels: list[tuple[Side, int]]  # bins with sites that have positions: promoter, then RNA
    columns: IntArray  # (n_columns,): those of the network that have anything on this row
    sums: SingleArray  # (n_bins, n_columns): what each bin adds to each sum
    fixed: SingleArray  # (n_columns,): what stays whatever is taken away
    tracks: IntArray  # (n_bins,): how many tracks have sites in each

    @classmethod
    def make(cls, knockout: Knockout, row: int) -> BinSums:
        """Gather the bins of a row; raises ArtifactError if positions cannot be had."""
        network, bound = knockout.network, knockout.bound
        n_channels = network.starts.size
        stays, on_rna = np.zeros(n_channels, bool), np.zeros(n_channels, bool)
        for side, start in first_channels(bound.n_tracks).items():
            tracks = knockout.model.manifest.inputs[side].tracks
            own = slice(start, start + 1 + len(tracks))
            # The mask, and tracks without positions.
            stays[own] = [True, *(track.kind == TARGETS for track in tracks)]
            on_rna[own] = side == "rna"
        cells = bound.bin_cells(np.array([row], np.int64))
        # A bin is in the sums up to its own number; there are as many sums as the kernel is wide.
        counts = np.minimum(cells.places + 1, network.widths[cells.channels])
        entry = np.repeat(np.arange(counts.size), counts)
        columns, at = np.unique(ranges(network.starts[cells.channels], counts), return_inverse=True)
        bases, moving = cells.bases[entry], ~stays[cells.channels]
        fixed = np.bincount(at, bases * ~moving[entry], columns.size)
        stride = 1 + int(cells.places.max(initial=0))
        keys, bins = np.unique(
            (on_rna[cells.channels] * stride + cells.places)[moving], return_inverse=True
        )
        bin_of = np.full(counts.size, -1)
        bin_of[moving] = bins
        sums, moved = np.zeros((keys.size, columns.size), np.float32), moving[entry]
        np.add.at(sums, (bin_of[entry][moved], at[moved]), bases[moved])
        # Two sites of a track in one bin are two entries.
        pairs = np.unique(bins * n_channels + cells.channels[moving])
        return cls(
            [("rna" if key >= stride else "promoter", int(key % stride)) for key in keys],
            columns,
            sums,
            fixed.astype(np.float32),
            np.bincount(pairs // n_channels, minlength=keys.size).astype(np.int64),
        )

    def hidden(self, network: HiddenNetwork, kept: BoolArray) -> RealArray:
        """Return the first hidden layers with some of the bins, shape (n, n_units).

        `kept`, of shape (n, n_bins), says which.
        """
        sums = kept.astype(np.float32) @ self.sums + self.fixed
        # All other columns are those of a gene without sites.
        kind = network.first.dtype
        rest = network.level(np.zeros(len(network.first), kind)).astype(kind)
        rest[self.columns] = 0
        base = rest @ network.first + network.bias
        level = network.level(sums, self.columns).astype(kind)
        return np.asarray(level @ network.first[self.columns] + base)


@dataclass(frozen=True, repr=False)
class Disruption:
    """What the prediction of one row changes by, bin by bin.

    ``start`` and ``end`` of a bin are bases from the TSS on the promoter side (negative upstream),
    from the 5' end on the RNA, half open.
    """

    row: int  # of the feature set
    bins: pd.DataFrame  # side, bin (from 0, 5' to 3'), start, end, tracks that have sites there
    changes: SingleArray  # (n_bins, n_outputs): without the bin's sites minus with all
    whole: SingleArray  # (2, n_outputs): all sites of promoter, of RNA gone


def disrupt(knockout: Knockout, rows: IntArray) -> Iterator[Disruption]:
    """Take each bin's sites away, gene by gene, on all cores.

    Sites of experiments without positions (`genesets.TARGETS`) stay, and so does the mask. Raises
    ArtifactError, before any work, if positions cannot be had.
    """
    knockout.bound.features.pieces("promoter")
    return share_out(lambda row: _disrupted(knockout, row), rows.tolist())


def _disrupted(knockout: Knockout, row: int) -> Disruption:
    network, features = knockout.network, knockout.bound.features
    found = BinSums.make(knockout, row)
    n = len(found.labels)
    side = np.array([side for side, _ in found.labels], object)
    place = np.array([place for _, place in found.labels], np.int64)
    gone = np.vstack([np.eye(n), *(side == one for one in SIDES), np.zeros(n)]).astype(bool)
    predicted = network.predict(found.hidden(network, ~gone))
    changes = predicted[:-1] - predicted[-1]
    layout, promoter = features.layout, side == "promoter"
    offset = np.where(promoter, -layout.upstream, 0)
    length = np.where(promoter, layout.window, features.rows.rna_lengths[row])
    table = pd.DataFrame(
        {
            "side": side,
            "bin": place,
            "start": place * layout.bin + offset,
            "end": np.minimum((place + 1) * layout.bin, length) + offset,
            "tracks": found.tracks,
        }
    )
    return Disruption(row, table, changes[:n], changes[n:])
