"""Binding a feature set to a network's inputs: names, order, missing tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decode_zoo.core.errors import InputError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.inputs import align_tracks

KERNELS = {"promoter": 1, "rna": 3}
ROWS = np.array([10, 38, 5])


@pytest.fixture(scope="module")
def features(toy_models):
    return toy_models["decode"].features


@pytest.fixture(scope="module")
def tracks(features):
    rng = np.random.default_rng(0)
    return {side: tuple(rng.choice(features.tracks(side), 5, replace=False)) for side in SIDES}


def bound(features, tracks, **options):
    return align_tracks(
        features, tracks, KERNELS, layout=options.pop("layout", features.layout), **options
    )


def test_columns_follow_the_network_not_the_set(features, tracks):
    whole = bound(features, tracks)
    other = bound(features, {side: names[::-1] for side, names in tracks.items()}).pooled(ROWS)
    full = whole.full(ROWS)
    for side, sums in whole.pooled(ROWS).items():
        dense, flipped = sums.dense(), other[side].dense()
        assert dense.shape == (3, KERNELS[side], 6)
        np.testing.assert_array_equal(dense[:, :, 1:], flipped[:, :, :0:-1])
        np.testing.assert_array_equal(dense[:, :, 0], flipped[:, :, 0])
        np.testing.assert_array_equal(sums.dense(1, 2), dense[1:2])
        genes = [features.rows.ids[row] for row in ROWS]
        expected = features.pooled(genes, side, kernel=KERNELS[side], tracks=tracks[side])
        np.testing.assert_array_equal(dense, expected)
        for k in range(KERNELS[side]):
            np.testing.assert_array_equal(full[side][:, k:].sum(axis=1), dense[:, k])


def test_filled_tracks_are_without_sites(features, tracks):
    some = {side: (*names, "new@cell") for side, names in tracks.items()}
    with pytest.raises(InputError, match="2 of the model's 12 tracks") as error:
        bound(features, some)
    assert "promoter (1): new@cell" in str(error.value)
    assert "--fill-missing" in str(error.value)
    filled, whole = bound(features, some, fill_missing=True), bound(features, tracks)
    assert filled.missing == {"promoter": ("new@cell",), "rna": ("new@cell",)}
    for side in SIDES:
        for ours, theirs in (
            (filled.pooled(ROWS)[side].dense(), whole.pooled(ROWS)[side].dense()),
            (filled.full(ROWS)[side], whole.full(ROWS)[side]),
        ):
            np.testing.assert_array_equal(ours[:, :, -1], 0)
            np.testing.assert_array_equal(ours[:, :, :-1], theirs)


def test_tracks_of_other_names_are_refused(features, tracks):
    foreign = {"promoter": ("a@b",), "rna": ("c@d",)}
    with pytest.raises(InputError, match="2 of the model's 2 tracks"):
        bound(features, foreign, fill_missing=True)
    dotted = {
        side: tuple(replace(track, name=track.name.replace("@", ".")) for track in own)
        for side, own in features.side_tracks.items()
    }
    with pytest.raises(InputError, match=r"of them are there as REGULATOR\.CELL"):
        bound(replace(features, side_tracks=dotted), tracks)


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
def test_another_layout_is_refused_but_for_its_level(features, tracks, change):
    with pytest.raises(InputError, match="does not fit the model"):
        bound(features, tracks, layout=replace(features.layout, **change))
    bound(features, tracks, layout=replace(features.layout, level="transcript"))
