"""Binding a feature set to a network's inputs: names, order, missing tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decode_zoo.errors import InputError
from decode_zoo.inputs import bind

KERNELS = {"promoter": 1, "rna": 3}


@pytest.fixture(scope="module")
def features(toy_models):
    return toy_models["decode"].features


def tracks_of(features, n=5):
    rng = np.random.default_rng(0)
    return {
        side: tuple(rng.choice(features.tracks(side), n, replace=False))
        for side in ("promoter", "rna")
    }


def test_columns_follow_the_network_not_the_set(features):
    tracks = tracks_of(features)
    rows = np.array([10, 38, 5])
    bound = bind(features, tracks, KERNELS, layout=features.layout)
    backwards = {side: names[::-1] for side, names in tracks.items()}
    other = bind(features, backwards, KERNELS, layout=features.layout)
    for side, sums in bound.pooled(rows).items():
        dense, flipped = sums.dense(), other.pooled(rows)[side].dense()
        assert dense.shape == (3, KERNELS[side], 6)
        np.testing.assert_array_equal(dense[:, :, 1:], flipped[:, :, :0:-1])
        np.testing.assert_array_equal(dense[:, :, 0], flipped[:, :, 0])
        genes = [features.rows.ids[row] for row in rows]
        expected = features.pooled(genes, side, kernel=KERNELS[side], tracks=tracks[side])
        np.testing.assert_array_equal(dense, expected)
        np.testing.assert_array_equal(sums.dense(1, 2), dense[1:2])


def test_full_matrices_sum_to_the_pooled_ones(features):
    bound = bind(features, tracks_of(features, 8), KERNELS, layout=features.layout)
    rows = np.array([10, 38, 5])
    sums = bound.pooled(rows)
    for side, full in bound.full(rows).items():
        for k in range(KERNELS[side]):
            np.testing.assert_array_equal(full[:, k:].sum(axis=1), sums[side].dense()[:, k])


def test_filled_tracks_are_without_sites(features):
    tracks = tracks_of(features)
    some = {side: (*names, "new@cell") for side, names in tracks.items()}
    with pytest.raises(InputError, match="2 of the model's 12 tracks") as error:
        bind(features, some, KERNELS, layout=features.layout)
    assert "promoter (1): new@cell" in str(error.value)
    assert "--fill-missing" in str(error.value)
    bound = bind(features, some, KERNELS, layout=features.layout, fill_missing=True)
    assert bound.missing == {"promoter": ("new@cell",), "rna": ("new@cell",)}
    rows = np.arange(40)
    whole = bind(features, tracks, KERNELS, layout=features.layout)
    for side, sums in bound.pooled(rows).items():
        np.testing.assert_array_equal(sums.dense()[:, :, -1], 0)
        np.testing.assert_array_equal(sums.dense()[:, :, :-1], whole.pooled(rows)[side].dense())
    for side, full in bound.full(rows[:3]).items():
        np.testing.assert_array_equal(full[:, :, -1], 0)
        np.testing.assert_array_equal(full[:, :, :-1], whole.full(rows[:3])[side])


def test_a_set_without_any_track_of_the_network_is_refused_even_if_filled(features):
    foreign = {"promoter": ("a@b",), "rna": ("c@d",)}
    with pytest.raises(InputError, match="2 of the model's 2 tracks"):
        bind(features, foreign, KERNELS, layout=features.layout, fill_missing=True)


def test_dotted_names_are_recognised(features):
    renamed = replace(
        features,
        side_tracks={
            side: tuple(replace(t, name=t.name.replace("@", ".")) for t in tracks)
            for side, tracks in features.side_tracks.items()
        },
    )
    with pytest.raises(InputError, match=r"of them are there as REGULATOR\.CELL"):
        bind(renamed, tracks_of(features), KERNELS, layout=features.layout)


@pytest.mark.parametrize(
    "change",
    [
        {"bin": 50},
        {"upstream": 1000},
        {"boundary": "within"},
        {"genome": "hg19"},
        {"rna_stranded": False},
    ],
)
def test_another_layout_is_refused(features, change):
    other = replace(features, layout=replace(features.layout, **change))
    with pytest.raises(InputError, match="does not fit the model"):
        bind(other, tracks_of(features), KERNELS, layout=features.layout)
    transcripts = replace(features, layout=replace(features.layout, level="transcript"))
    bind(transcripts, tracks_of(features), KERNELS, layout=features.layout)
