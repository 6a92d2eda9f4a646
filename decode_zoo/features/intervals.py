"""Half-open intervals as pairs of arrays: union and overlap, vectorised."""

from __future__ import annotations

import numpy as np

from decode_zoo.core.arrays import IntArray

__all__ = ["covered_bases", "merge", "overlap_pairs", "ranges"]


def ranges(starts: IntArray, counts: IntArray) -> IntArray:
    """Concatenate ``arange(start, start + count)`` of every pair; shape (counts.sum(),)."""
    before = np.cumsum(counts) - counts
    inside = np.arange(int(counts.sum()), dtype=np.int64)
    return inside + np.repeat(starts - before, counts).astype(np.int64, copy=False)


def merge(starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Return the union of half-open intervals, sorted; those that overlap or abut become one.

    Intervals come in any order, and empty ones (start == end) are ignored.
    """
    filled = ends > starts
    if not filled.all():
        starts, ends = starts[filled], ends[filled]
    if not starts.size:
        return starts, ends
    if np.any(starts[1:] < starts[:-1]):
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
    reach = np.maximum.accumulate(ends)
    first = np.flatnonzero(np.concatenate(([True], starts[1:] > reach[:-1])))
    last = np.append(first[1:], starts.size) - 1
    return starts[first], reach[last]


def overlap_pairs(
    starts: IntArray, ends: IntArray, region_starts: IntArray, region_ends: IntArray
) -> tuple[IntArray, IntArray]:
    """Return every pair of an interval and a region that share at least one base, by interval.

    Intervals come in any order; regions are sorted by start and may overlap or nest. The pairs are
    two arrays of indices, (interval, region).
    """
    # Regions that start before the interval's end form a prefix; among them those whose running
    # maximum of ends has passed its start form a suffix. Nesting leaves a few false candidates.
    reach = np.maximum.accumulate(region_ends) if region_ends.size else region_ends
    low = np.searchsorted(reach, starts, side="right")
    high = np.searchsorted(region_starts, ends, side="left")
    counts = np.maximum(high - low, 0)
    interval = np.repeat(np.arange(starts.size, dtype=np.int64), counts)
    region = ranges(low, counts)
    # Empty intervals share no base although they may lie inside a region.
    true = (region_ends[region] > starts[interval]) & (ends[interval] > starts[interval])
    return interval[true], region[true]


def covered_bases(
    starts: IntArray, ends: IntArray, width: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Spread local intervals, half-open and not empty, over bins of some width.

    Returns (interval, bin, bases) with an entry for each interval and bin that share bases.
    """
    first, last = starts // width, (ends - 1) // width
    counts = last - first + 1
    interval = np.repeat(np.arange(starts.size, dtype=np.int64), counts)
    bins = ranges(first, counts)
    bases = np.minimum(ends[interval], (bins + 1) * width) - np.maximum(
        starts[interval], bins * width
    )
    return interval, bins, bases
