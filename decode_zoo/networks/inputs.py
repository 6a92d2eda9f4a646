"""A network's inputs: the right tracks of a feature set, found by name, and what is not zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import FloatArray, IntArray
from decode_zoo.core.errors import InputError
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.pooling import PooledRows
from decode_zoo.features.spec import SIDES, Binning, Side

__all__ = ["BoundFeatures", "SparseInputs", "align_tracks", "first_channels"]

# How many missing tracks an error names on each side.
_LISTED = 100


def first_channels(n_tracks: Mapping[Side, int]) -> dict[Side, int]:
    """Return the number of each side's mask channel; the channels of its tracks follow."""
    return {"promoter": 0, "rna": 1 + n_tracks["promoter"]}


@dataclass(frozen=True)
class SparseInputs:
    """Inputs of some rows that are not zero. Entries of one channel and place add up."""

    indptr: IntArray  # (n_rows + 1,); row i owns entries indptr[i]:indptr[i + 1]
    channels: IntArray  # (n,), numbered through both sides (`first_channels`)
    places: IntArray  # (n,), bin, or which position sum
    bases: FloatArray  # (n,)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.indptr.size - 1

    def rows(self) -> IntArray:
        """Return the row of each entry, shape (n,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))

    def part(self, start: int, stop: int) -> SparseInputs:
        """Return rows ``start:stop``."""
        indptr = self.indptr[start : stop + 1]
        own = slice(indptr[0], indptr[-1])
        return SparseInputs(
            indptr - indptr[0], self.channels[own], self.places[own], self.bases[own]
        )

    def row(self, i: int) -> SparseInputs:
        """Return one row."""
        return self.part(i, i + 1)

    @classmethod
    def gather(cls, n_rows: int, parts: Sequence[tuple[npt.NDArray[Any], ...]]) -> SparseInputs:
        """Put together entries from several sources, each (rows, channels, places, bases)."""
        rows, channels, places, bases = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=n_rows)
        return cls(
            np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            channels[order].astype(np.int64),
            places[order].astype(np.int64),
            bases[order].astype(np.float64),
        )


@dataclass(frozen=True)
class BoundFeatures:
    """A feature set seen through a network's inputs. Made by `bind`."""

    features: FeatureSet = field(repr=False)
    # Column of each of the network's tracks; one past the last for a track that is missing.
    columns: Mapping[Side, IntArray] = field(repr=False)
    kernels: Mapping[Side, int]  # composite widths of the network's branches, in bins
    missing: Mapping[Side, tuple[str, ...]]  # tracks that count as without sites

    @property
    def n_tracks(self) -> dict[Side, int]:
        """How many tracks the network has on each side."""
        return {side: columns.size for side, columns in self.columns.items()}

    def pooled(self, rows: IntArray) -> dict[Side, PooledRows]:
        """Return position sums of some rows, in bases."""
        return {
            side: self.features.pooled_rows(rows, side, self.kernels[side], columns)
            for side, columns in self.columns.items()
        }

    def full(self, rows: IntArray) -> dict[Side, npt.NDArray[Any]]:
        """Return full matrices in bases, padded by kernel - 1 empty bins on the right."""
        return {
            side: self.features.matrix(rows, side, columns=columns, pad=self.kernels[side] - 1)
            for side, columns in self.columns.items()
        }

    def without_sites(self, bases: Mapping[Side, float], *, positions: bool) -> SparseInputs:
        """Make one row of which the mask channels only are filled (see `cells`).

        `bases` are the lengths of promoter window and RNA.
        """
        parts, width = [], self.features.layout.bin
        for side, channel in first_channels(self.n_tracks).items():
            n_bins = int(np.ceil(bases[side] / width))
            left = bases[side] - width * np.arange(n_bins if positions else self.kernels[side])
            amounts = np.minimum(left, width) if positions else np.maximum(left, 0)
            places = np.arange(amounts.size)
            parts.append((np.zeros_like(places), np.full_like(places, channel), places, amounts))
        return SparseInputs.gather(1, parts)

    def cells(self, rows: IntArray, *, positions: bool) -> SparseInputs:
        """Return some rows by bin (needs the feature set's positions), or as position sums."""
        return self.bin_cells(rows) if positions else self.sum_cells(rows)

    def sum_cells(self, rows: IntArray) -> SparseInputs:
        """Return position sums of some rows; places are the sums' numbers."""
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        pooled = self.pooled(rows)
        for side, channel in first_channels(self.n_tracks).items():
            masks = pooled[side].masks
            row, k = np.nonzero(masks)
            parts.append((row, np.full_like(row, channel), k, masks[row, k]))
            for number, found in enumerate(pooled[side].sums):
                columns = 1 + channel + found.columns.astype(np.int64)
                places = np.full(columns.size, number)
                parts.append((found.rows(), columns, places, found.values.astype(np.float32)))
        return SparseInputs.gather(rows.size, parts)

    def bin_cells(self, rows: IntArray) -> SparseInputs:
        """Return bins of some rows (needs the feature set's positions)."""
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for side, channel in first_channels(self.n_tracks).items():
            row, bins, bases = self.features.binned_mask(rows, side)
            parts.append((row, np.full_like(row, channel), bins, bases))
            row, bins, track, bases = self.features.binned(rows, side)
            # One place more for tracks that the feature set lacks, which no entry has.
            place = np.full(1 + len(self.features.side_tracks[side]), -1)
            place[self.columns[side]] = np.arange(self.columns[side].size)
            kept = np.flatnonzero(place[track] >= 0)
            if (np.diff(self.columns[side]) < 0).any():  # by the network's order, not the set's
                key = row[kept] * place.size + place[track[kept]]
                kept = kept[np.argsort(key, kind="stable")]
            parts.append((row[kept], 1 + channel + place[track[kept]], bins[kept], bases[kept]))
        return SparseInputs.gather(rows.size, parts)


def align_tracks(
    features: FeatureSet,
    tracks: Mapping[Side, Sequence[str]],
    kernels: Mapping[Side, int],
    *,
    layout: Binning,
    fill_missing: bool = False,
) -> BoundFeatures:
    """Match a feature set's tracks to a network's inputs, by name.

    `tracks` are the network's, in channel order, `layout` is what it needs; gene and transcript
    level are alike to it. Raises InputError if the layout is another one, all tracks are missing,
    or some are and not to be filled.
    """
    wanted = replace(layout, level=features.layout.level)
    if features.layout != wanted:
        raise InputError(
            f"the feature set does not fit the model: it is {features.layout}, "
            f"the model needs {wanted}",
            remedy="Build it with the model's genome, bins and window.",
        )
    columns: dict[Side, IntArray] = {}
    missing: dict[Side, tuple[str, ...]] = {}
    for side in SIDES:
        place = {name: i for i, name in enumerate(features.tracks(side))}
        missing[side] = tuple(name for name in tracks[side] if name not in place)
        columns[side] = np.array([place.get(name, len(place)) for name in tracks[side]], np.int64)
    absent, total = (sum(map(len, names.values())) for names in (missing, tracks))
    if absent == total or (absent and not fill_missing):
        listed = "".join(
            f"\n  {side} ({len(names)}): {', '.join(names[:_LISTED])}"
            + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            for side, names in missing.items()
            if names
        )
        raise InputError(
            f"{absent} of the model's {total} tracks are not in the feature set:{listed}",
            remedy=_remedy(missing, features, every=absent == total),
        )
    return BoundFeatures(features, columns, kernels, missing)


def _remedy(missing: Mapping[Side, Sequence[str]], features: FeatureSet, *, every: bool) -> str:
    dotted = sum(
        len({name.replace("@", ".") for name in names} & set(features.tracks(side)))
        for side, names in missing.items()
    )
    if dotted:
        return (
            f"{dotted} of them are there as REGULATOR.CELL: give the builder a manifest, or name "
            "the files REGULATOR@CELL.bed, so that the names match."
        )
    if every:
        return "Tracks are matched by name; see: decode-zoo features info ID --tracks"
    return (
        "Add them with 'decode-zoo features merge', or take them as without sites with "
        "--fill-missing."
    )
