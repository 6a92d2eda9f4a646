"""The search for hyper-parameters: what it draws, what it leaves out, what it writes down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decode_zoo.networks.perceptron import PerceptronConfig
from tests.test_training import SELECTION

optuna = pytest.importorskip("optuna")
search = pytest.importorskip("conversion.search")


def test_folds_hold_every_chromosome_once_but_those_held_out():
    chroms = [name for fold in search.FOLDS for name in fold]
    everything = [*map(str, range(1, 23)), "X", "Y", "M"]
    assert sorted(chroms) == sorted(set(everything) - {"1", "8"})


def test_a_fold_is_scored_on_its_own_genes(features, targets, monkeypatch):
    pytest.importorskip("tensorflow")
    from decode_zoo.training.members import PerceptronFit

    seen = {}
    make = search.make_dataset

    def watched(features, targets, kernels, selection):
        seen["dataset"] = make(features, targets, kernels, selection)
        return seen["dataset"]

    monkeypatch.setattr(search, "make_dataset", watched)
    selection = replace(SELECTION, test=("1",), absent=())
    found = search.score_fold(
        features,
        targets,
        selection,
        ("2", "3", "4", "8"),
        PerceptronConfig(encoder_width=4, dense_width=8),
        PerceptronFit(epochs=1),
    )
    dataset = seen["dataset"]
    chroms = np.array(dataset.features.rows.chroms)[dataset.rows]
    split = dataset.split
    assert {*chroms[split.training], *chroms[split.validation]} == {"5"}
    assert set(chroms[split.test]) == {"2", "3", "4", "8"}
    assert np.isfinite(found).all()
