"""Sites grouped by row, and their sums over positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.intervals import ranges

__all__ = ["PooledRows", "SitePieces", "head_bases", "take_columns", "total_bases"]

IntArray = npt.NDArray[np.int64]


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

    `masks` are the sums of the mask channel, shape (n, kernel); `sums` those of the tracks, one
    matrix of shape (n, n_tracks) a position (`FeatureSet.sums`).
    """

    masks: IntArray
    sums: tuple[sparse.csr_array, ...]

    def dense(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Return rows ``start:stop`` as a network eats them, shape (n, kernel, 1 + n_tracks)."""
        masks = self.masks[start:stop]
        out = np.empty((*masks.shape, 1 + self.sums[0].shape[1]), np.float32)
        out[:, :, 0] = masks
        for k, matrix in enumerate(self.sums):
            out[:, k, 1:] = matrix[start:stop].toarray()
        return out


def take_columns(matrix: sparse.csr_array, columns: IntArray) -> sparse.csr_array:
    """Choose columns of a matrix; one past the last stands for an empty column."""
    if columns.max(initial=-1) >= matrix.shape[1]:
        empty = sparse.csr_array((matrix.shape[0], 1), dtype=matrix.dtype)
        matrix = sparse.csr_array(sparse.hstack([matrix, empty], format="csr"))
    chosen = matrix[:, columns]
    chosen.sort_indices()  # sums over entries must not depend on the order of the tracks
    return chosen


def total_bases(pieces: SitePieces, n_tracks: int) -> sparse.csr_array:
    """Covered bases of each row and track over all positions, shape (n_rows, n_tracks)."""
    return _csr(
        pieces.rows(),
        pieces.tracks,
        pieces.ends - pieces.starts,
        (pieces.indptr.size - 1, n_tracks),
    )


def head_bases(pieces: SitePieces, n_tracks: int, k: int, width: int) -> sparse.csr_array:
    """Covered bases of each row and track in bin k, shape (n_rows, n_tracks)."""
    bases = np.minimum(pieces.ends, (k + 1) * width) - np.maximum(pieces.starts, k * width)
    inside = bases > 0
    return _csr(
        pieces.rows()[inside],
        pieces.tracks[inside],
        bases[inside],
        (pieces.indptr.size - 1, n_tracks),
    )


def _csr(
    rows: IntArray, columns: IntArray, values: IntArray, shape: tuple[int, int]
) -> sparse.csr_array:
    """Sum entries that are already sorted by row and column."""
    key = rows * shape[1] + columns
    if key.size:
        starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
        values = np.add.reduceat(values, starts)
        rows, columns = rows[starts], columns[starts]
    counts = np.bincount(rows, minlength=shape[0])
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return sparse.csr_array(
        (values.astype(np.int32), columns.astype(np.int32), indptr), shape=shape
    )
