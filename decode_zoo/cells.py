"""What a network eats, sparse: the inputs of both sides that are not zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.layout import Side

__all__ = ["Cells", "first_channels"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def first_channels(n_tracks: Mapping[Side, int]) -> dict[Side, int]:
    """Return the number of each side's mask channel; the channels of its tracks follow."""
    return {"promoter": 0, "rna": 1 + n_tracks["promoter"]}


@dataclass(frozen=True)
class Cells:
    """Inputs of some rows that are not zero.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i owns entries ``indptr[i]:indptr[i + 1]``.
    channels : ndarray of int64, shape (n,)
        Channel, numbered through both sides (`first_channels`).
    places : ndarray of int64, shape (n,)
        Bin, or which position sum. Entries of one channel and place add up.
    bases : ndarray of float64, shape (n,)
    """

    indptr: IntArray
    channels: IntArray
    places: IntArray
    bases: FloatArray

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.indptr.size - 1

    def rows(self) -> IntArray:
        """Row of each entry, shape (n,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))

    def part(self, start: int, stop: int) -> Cells:
        """Return rows ``start:stop``."""
        indptr = self.indptr[start : stop + 1]
        own = slice(indptr[0], indptr[-1])
        return Cells(indptr - indptr[0], self.channels[own], self.places[own], self.bases[own])

    def row(self, i: int) -> Cells:
        """Return one row."""
        return self.part(i, i + 1)

    @classmethod
    def gather(cls, n_rows: int, parts: Sequence[tuple[npt.NDArray[Any], ...]]) -> Cells:
        """Put together entries from several sources.

        Parameters
        ----------
        n_rows : int
        parts : sequence of (rows, channels, places, bases)
        """
        rows, channels, places, bases = (
            np.concatenate([part[i] for part in parts]) for i in range(4)
        )
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=n_rows)
        return cls(
            np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            channels[order].astype(np.int64),
            places[order].astype(np.int64),
            bases[order].astype(np.float64),
        )

    @classmethod
    def without_sites(
        cls,
        bases: Mapping[Side, float],
        n_tracks: Mapping[Side, int],
        width: int,
        kernels: Mapping[Side, int] | None,
    ) -> Cells:
        """Make one row whose mask channels only are filled.

        Parameters
        ----------
        bases : Mapping of Side to float
            Length of the promoter window and of the RNA.
        n_tracks : Mapping of Side to int
        width : int
            Bin width in bases.
        kernels : Mapping of Side to int, optional
            Position sums are wanted, for kernels of these widths; bins if not given.
        """
        parts = []
        for side, channel in first_channels(n_tracks).items():
            if kernels is None:
                edges = np.arange(0, bases[side], width)
                amounts = np.minimum(bases[side] - edges, width)
            else:
                amounts = np.maximum(bases[side] - width * np.arange(kernels[side]), 0)
            places = np.arange(amounts.size)
            parts.append((np.zeros_like(places), np.full_like(places, channel), places, amounts))
        return cls.gather(1, parts)
