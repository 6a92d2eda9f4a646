"""Rank correlation, normal scores of expression and the line back to its units, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.networks.metrics import score, summarise
from decode_zoo.training.members import calibrate, normal_scores


def test_scores_equal_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(80, 4)).round(1), rng.normal(size=(80, 4)).round(1)
    table = score(a, b, ["x", "y", "z", MEDIAN])
    for i in range(4):
        row = table.iloc[i]
        assert np.isclose(row["spearman"], stats.spearmanr(a[:, i], b[:, i]).statistic)
        assert np.isclose(row["pearson"], stats.pearsonr(a[:, i], b[:, i]).statistic)
        assert np.isclose(row["rmse"], np.sqrt(np.mean((a[:, i] - b[:, i]) ** 2)))
    summary = summarise(table)
    assert np.isclose(summary["fold_change_spearman"], table["spearman"][:3].mean())
    assert np.isclose(summary["median_spearman"], table["spearman"][3])
    assert summary["n_genes"] == 80
    constant = score(np.ones((5, 1)), np.arange(5.0)[:, None], [MEDIAN])
    assert np.isnan(constant["spearman"].iloc[0])


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), m=st.integers(1, 4))
def test_normal_scores_are_quantiles_of_ranks(seed, n, m):
    values = np.random.default_rng(seed).integers(-4, 5, (n, m)) / 2  # with ties
    ranks, found = stats.rankdata(values, axis=0), normal_scores(values, values)
    np.testing.assert_allclose(found, stats.norm.ppf((ranks - 0.5) / n), atol=1e-12)
    np.testing.assert_array_equal(normal_scores(np.exp(values), np.exp(values)), found)


def test_other_genes_are_placed_among_training_genes():
    training = np.arange(10.0)[:, None]
    found = normal_scores(np.array([[-99.0], [4.5], [99.0]]), training)[:, 0]
    np.testing.assert_allclose(found, stats.norm.ppf([0.05, 0.5, 0.95]), atol=1e-12)


def test_calibration_is_simple_regression():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(30, 2))
    observed = predicted * [3, -0.5] + [1, 2] + rng.normal(size=(30, 2))
    slope, intercept = calibrate(predicted, observed)
    for column in range(2):
        oracle = stats.linregress(predicted[:, column], observed[:, column])
        assert slope[column] == pytest.approx(oracle.slope)
        assert intercept[column] == pytest.approx(oracle.intercept)
    slope, intercept = calibrate(np.ones((3, 1)), np.array([[1.0], [2.0], [6.0]]))
    assert (slope[0], intercept[0]) == (0, pytest.approx(3)), "constant: the mean"
