"""The search for hyper-parameters: what it draws, what it leaves out, what it writes down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decode_zoo.perceptron import PerceptronConfig
from tests.test_training import SELECTION

optuna = pytest.importorskip("optuna")
search = pytest.importorskip("conversion.search")


def test_folds_hold_every_chromosome_once_but_those_held_out():
    chroms = [name for fold in search.FOLDS for name in fold]
    everything = [*map(str, range(1, 23)), "X", "Y", "M"]
    assert sorted(chroms) == sorted(set(everything) - {"1", "8"})


def test_what_is_drawn_is_what_is_trained():
    drawn = {
        "encoder_width": 128,
        "dense_width": 512,
        "dense_layers": 1,
        "learning_rate": 1e-3,
        "weight_decay": 0.5,
        "batch_size": 64,
        "epochs": 15,
        "group_dropout": 0.4,
        "input_dropout": 0.1,
        "encoder_dropout": 0.2,
        "dense_dropout": 0.3,
        "median_weight": 2.0,
    }
    assert set(drawn) == set(search.PROPOSED)
    config, fit = search.propose(optuna.trial.FixedTrial(drawn))
    made = {**vars(config), **vars(fit)}
    assert {name: made[name] for name in drawn} == drawn


def test_the_ledger_keeps_what_was_given_up():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")

    def objective(trial):
        rate = trial.suggest_float("learning_rate", 0.1, 1)
        trial.set_user_attr("folds", [(0.3, 0.8), (0.4, 0.9)][: 2 - trial.number])
        if trial.number:
            raise optuna.TrialPruned
        return rate

    study.optimize(objective, n_trials=2)
    table = search.ledger(study)
    assert table["outcome"].tolist() == ["complete", "pruned"]
    assert table["folds"].tolist() == [2, 1]
    np.testing.assert_allclose(table["fold_change_spearman"], [0.35, 0.3])
    np.testing.assert_allclose(table["median_spearman"], [0.85, 0.8])
    assert table["learning_rate"].notna().all()


def test_a_fold_is_scored_on_its_own_genes(features, targets, monkeypatch):
    pytest.importorskip("tensorflow")
    from decode_zoo.training.perceptron import PerceptronFit

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
        PerceptronFit(epochs=3),
    )
    dataset = seen["dataset"]
    chroms = np.array(dataset.features.rows.chroms)[dataset.rows]
    split = dataset.split
    assert {*chroms[split.training], *chroms[split.validation]} == {"5"}
    assert set(chroms[split.test]) == {"2", "3", "4", "8"}
    assert np.isfinite(found).all()
