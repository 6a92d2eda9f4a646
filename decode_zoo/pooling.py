"""Sites grouped by row, and their sums over positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from decode_zoo.intervals import ranges

__all__ = ["SitePieces", "head_bases", "total_bases"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SitePieces:
    """Sites of one side, grouped by row.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i owns entries ``indptr[i]:indptr[i + 1]``.
    tracks, starts, ends : ndarray of int64, shape (n,)
        Track index and local half-open interval, sorted by track, then start.
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
            self.tracks[entries], self.starts[entries], self.ends[entries],
        )  # fmt: skip


def total_bases(pieces: SitePieces, n_tracks: int) -> sparse.csr_array:
    """Covered bases of each row and track over all positions, shape (n_rows, n_tracks)."""
    return _csr(pieces.rows(), pieces.tracks, pieces.ends - pieces.starts,
                (pieces.indptr.size - 1, n_tracks))  # fmt: skip


def head_bases(pieces: SitePieces, n_tracks: int, k: int, width: int) -> sparse.csr_array:
    """Covered bases of each row and track in bin k, shape (n_rows, n_tracks)."""
    bases = np.minimum(pieces.ends, (k + 1) * width) - np.maximum(pieces.starts, k * width)
    inside = bases > 0
    return _csr(pieces.rows()[inside], pieces.tracks[inside], bases[inside],
                (pieces.indptr.size - 1, n_tracks))  # fmt: skip


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
