"""A feature set as a network's inputs: the right tracks, in the right order, found by name."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.cells import Cells, first_channels
from decode_zoo.errors import InputError
from decode_zoo.features import FeatureSet
from decode_zoo.layout import SIDES, Layout, Side
from decode_zoo.pooling import PooledRows

__all__ = ["BoundFeatures", "bind"]

FloatArray = npt.NDArray[np.float32]

# Of tracks that are missing on a side.
_LISTED = 100
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BoundFeatures:
    """A feature set seen through a network's inputs. Made by `bind`.

    Attributes
    ----------
    features : FeatureSet
    columns : Mapping of Side to ndarray of int64, shape (n_tracks,)
        Column of each of the network's tracks; one past the last for a track that is missing.
    kernels : Mapping of Side to int
        Composite kernel widths of the network's branches, in bins.
    missing : Mapping of Side to tuple of str
        Tracks that the feature set lacks; they count as without sites.
    """

    features: FeatureSet = field(repr=False)
    columns: Mapping[Side, IntArray] = field(repr=False)
    kernels: Mapping[Side, int]
    missing: Mapping[Side, tuple[str, ...]]

    def pooled(self, rows: IntArray) -> dict[Side, PooledRows]:
        """Position sums of some rows, in bases."""
        return {
            side: self.features.pooled_rows(rows, side, self.kernels[side], columns)
            for side, columns in self.columns.items()
        }

    def full(self, rows: IntArray) -> dict[Side, npt.NDArray[Any]]:
        """Full matrices of some rows in bases, padded by kernel - 1 empty bins on the right."""
        return {
            side: self.features.matrix(rows, side, columns=columns, pad=self.kernels[side] - 1)
            for side, columns in self.columns.items()
        }

    @property
    def n_tracks(self) -> dict[Side, int]:
        """How many tracks the network has on each side."""
        return {side: columns.size for side, columns in self.columns.items()}

    def sum_cells(self, rows: IntArray) -> Cells:
        """Position sums of some rows that are not zero; places are the sums' numbers."""
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        pooled = self.pooled(rows)
        for side, channel in first_channels(self.n_tracks).items():
            row, k = np.nonzero(pooled[side].masks)
            parts.append((row, np.full_like(row, channel), k, pooled[side].masks[row, k]))
            for number, matrix in enumerate(pooled[side].sums):
                entries = matrix.tocoo()
                parts.append(
                    (
                        entries.row,
                        1 + channel + entries.col,
                        np.full(entries.nnz, number),
                        entries.data,
                    )
                )
        return Cells.gather(rows.size, parts)

    def bin_cells(self, rows: IntArray) -> Cells:
        """Bins of some rows that are not zero (needs the feature set's positions)."""
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
        return Cells.gather(rows.size, parts)


def bind(
    features: FeatureSet,
    tracks: Mapping[Side, Sequence[str]],
    kernels: Mapping[Side, int],
    *,
    layout: Layout,
    fill_missing: bool = False,
) -> BoundFeatures:
    """Match a feature set's tracks to a network's inputs, by name.

    Parameters
    ----------
    features : FeatureSet
    tracks : Mapping of Side to sequence of str
        The network's tracks, in channel order.
    kernels : Mapping of Side to int
        Composite kernel widths of its branches, in bins.
    layout : Layout
        Genome, bins and window that it needs; gene and transcript level are alike to it.
    fill_missing : bool
        Take missing tracks as without sites.

    Raises
    ------
    InputError
        If the layout is another one, tracks are missing and not to be filled, or all are missing.
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
        raise InputError(
            f"{absent} of the model's {total} tracks are not in the feature set:\n"
            + _listing(missing),
            remedy=_remedy(missing, features, every=absent == total),
        )
    return BoundFeatures(features, columns, kernels, missing)


def _listing(missing: Mapping[Side, Sequence[str]]) -> str:
    def named(names: Sequence[str]) -> str:
        more = len(names) - _LISTED
        return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")

    return "\n".join(
        textwrap.fill(
            f"{side} ({len(names)}): {named(names)}",
            100,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for side, names in missing.items()
        if names
    )


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
