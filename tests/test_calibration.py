"""Normal scores of expression, and the line back to its units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from decode_zoo.training.perceptron import Calibration, normal_scores


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), m=st.integers(1, 4))
def test_normal_scores_are_quantiles_of_ranks(seed, n, m):
    values = np.random.default_rng(seed).integers(-4, 5, (n, m)) / 2  # with ties
    ranks = stats.rankdata(values, axis=0)
    np.testing.assert_allclose(
        normal_scores(values, values), stats.norm.ppf((ranks - 0.5) / n), atol=1e-12
    )


def test_other_genes_are_placed_among_training_genes():
    training = np.arange(10.0)[:, None]
    found = normal_scores(np.array([[-99.0], [4.5], [99.0]]), training)[:, 0]
    np.testing.assert_allclose(found, stats.norm.ppf([0.05, 0.5, 0.95]), atol=1e-12)


def test_monotone_changes_of_expression_leave_the_scores():
    values = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_array_equal(
        normal_scores(values, values), normal_scores(np.exp(values), np.exp(values))
    )


def test_calibration_is_simple_regression():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(30, 2))
    observed = predicted * [3, -0.5] + [1, 2] + rng.normal(size=(30, 2))
    line = Calibration.fit(predicted, observed)
    for column in range(2):
        oracle = stats.linregress(predicted[:, column], observed[:, column])
        assert line.slope[column] == pytest.approx(oracle.slope)
        assert line.intercept[column] == pytest.approx(oracle.intercept)


def test_a_constant_prediction_is_calibrated_to_the_mean():
    line = Calibration.fit(np.ones((3, 1)), np.array([[1.0], [2.0], [6.0]]))
    assert (line.slope[0], line.intercept[0]) == (0, pytest.approx(3))
