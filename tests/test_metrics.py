"""Rank correlation against scipy."""

from __future__ import annotations

import numpy as np
from scipy import stats

from decode_zoo.expression import MEDIAN
from decode_zoo.metrics import score, summarise


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


def test_constant_predictions_have_no_correlation():
    table = score(np.ones((5, 1)), np.arange(5.0)[:, None], [MEDIAN])
    assert np.isnan(table["spearman"].iloc[0])
