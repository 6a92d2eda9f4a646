"""Sites grouped by row, and their sums over positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from decode_zoo.core.arrays import IntArray, SingleArray, SparseRows
from decode_zoo.features.intervals import ranges

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["PooledRows", "SitePieces", "total_bases"]


@dataclass(frozen=True)
class SitePieces:
    """Sites of one side, grouped by row: row i owns entries ``indptr[i]:indptr[i + 1]``.

    Entries are a track index and a local half-open interval, sorted by track, then start.
    """

    indptr: IntArray
    tracks: IntArray
    starts: IntArray
    ends: IntArray

    def rows(self) -> IntArray:
        """Row of each entry, shape (n,)."""
        return np.repeat(np.arange(self.indptr.size - 1, dtype=np.int64), np.diff(self.indptr))

    def take(self, rows: IntArray) -> SitePieces:
        """Return the pieces of some rows, in their order."""
        counts = self.indptr[rows + 1] - self.indptr[rows]
        entries = ranges(self.indptr[rows], counts)
        return SitePieces(
            np.concatenate(([0], np.cumsum(counts))),
            self.tracks[entries],
            self.starts[entries],
            self.ends[entries],
        )


@dataclass(frozen=True)
class PooledRows:
    """Position sums of some rows of one side in bases, kept sparse until they are needed.

    `masks` are the sums of the mask channel, shape (n, kernel); `sums` those of the tracks, n rows
    a position (`FeatureSet.sums`).
    """

    masks: IntArray
    sums: tuple[SparseRows, ...]

    def dense(self, start: int = 0, stop: int | None = None) -> SingleArray:
        """Return rows ``start:stop`` as a network eats them, shape (n, kernel, 1 + n_tracks)."""
        masks = self.masks[start:stop]
        out = np.zeros((*masks.shape, 1 + self.sums[0].n_columns), np.float32)
        out[:, :, 0] = masks
        rows = np.arange(len(self.masks))[start:stop]
        for k, sums in enumerate(self.sums):
            part = sums.take(rows)
            out[part.rows(), k, 1 + part.columns.astype(np.int64)] = part.values
        return out


def total_bases(
    pieces: SitePieces, n_tracks: int, first: int = 0, last: int | None = None
) -> sparse.csr_array:
    """Return covered bases of each row and track, shape (n_rows, n_tracks).

    Only the local bases from `first` to before `last` count.
    """
    from scipy import sparse

    ends = pieces.ends if last is None else np.minimum(pieces.ends, last)
    bases = ends - np.maximum(pieces.starts, first)
    inside = bases > 0
    where = pieces.rows()[inside], pieces.tracks[inside]
    shape = (pieces.indptr.size - 1, n_tracks)
    return sparse.csr_array((bases[inside].astype(np.int32), where), shape=shape)
