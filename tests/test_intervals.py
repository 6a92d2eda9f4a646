"""Unions and overlaps of half-open intervals, against sets of positions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.features.intervals import merge, overlap_pairs, ranges

INTERVAL = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))
INTERVALS = st.lists(INTERVAL, max_size=20)


def columns(intervals: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(intervals, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def positions(intervals: list[tuple[int, int]]) -> set[int]:
    return {position for start, end in intervals for position in range(start, end)}


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 6)), max_size=12))
def test_ranges_concatenate_what_arange_gives(pairs):
    starts, counts = columns(pairs)
    expected = [value for start, count in pairs for value in range(start, start + count)]
    assert ranges(starts, counts).tolist() == expected


@given(INTERVALS)
def test_merge_covers_the_same_positions_with_separate_sorted_intervals(intervals):
    starts, ends = merge(*columns(intervals))
    merged = list(zip(starts.tolist(), ends.tolist(), strict=True))
    assert positions(merged) == positions(intervals)
    assert all(start < end for start, end in merged)
    assert all(left[1] < right[0] for left, right in pairwise(merged))


@given(INTERVALS, INTERVALS)
def test_overlap_pairs_are_those_that_share_a_base(intervals, regions):
    regions = sorted(region for region in regions if region[0] < region[1])
    expected = [
        (i, j)
        for i, interval in enumerate(intervals)
        for j, region in enumerate(regions)
        if positions([interval]) & positions([region])
    ]
    found = overlap_pairs(*columns(intervals), *columns(regions))
    assert list(zip(*(side.tolist() for side in found), strict=True)) == expected
