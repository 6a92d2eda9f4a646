"""Search for the hyper-parameters of a perceptron, by cross-validation over chromosomes.

    python -m conversion.search FEATURES EXPRESSION --kinds tf,tf_target,rbp,rbp_other,mirna \
        --study search.journal --trials 40 --ledger docs/accuracy/search.tsv

FEATURES is a feature set (folder or id) with positions, EXPRESSION the matrix of log2(TPM + 0.25).
The chromosomes that models are tested on are left out altogether: every figure here is of genes
on other ones. A study goes on where it was: the journal holds every fold of every trial. The
ledger has a line for each trial, also for those that were given up.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import optuna
import pandas as pd

import decode_zoo as dz
from conversion.gtex_tissue_decode_v1 import SELECTION
from conversion.gtex_tissue_v1 import MIN_TPM
from decode_zoo.cohort.expression import Targets, make_targets, read_expression
from decode_zoo.core.files import atomic_path
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.manifest import Split
from decode_zoo.networks.metrics import score, summarise
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.dataset import make_dataset
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.pipeline import fit_network, predict_part

# Whole chromosomes, of about as many genes; the longest first, so that giving up costs least.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("2", "9", "16", "22", "21"),
    ("3", "12", "15", "20", "18"),
    ("4", "6", "19", "13", "Y"),
    ("5", "7", "17", "X"),
    ("10", "11", "14", "M"),
)
STUDY = "perceptron"
# Better fold changes are what is wanted; the median counts for less, for it is the easier part.
MEDIAN_WEIGHT = 0.25


# Names of what is searched, which are those of the fields.
PROPOSED = (
    "encoder_width",
    "dense_width",
    "dense_layers",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "epochs",
    "group_dropout",
    "input_dropout",
    "encoder_dropout",
    "dense_dropout",
    "median_weight",
)


def propose(trial: optuna.Trial) -> tuple[PerceptronConfig, PerceptronFit]:
    """Draw hyper-parameters from all that is searched."""
    config = PerceptronConfig(
        encoder_width=trial.suggest_categorical("encoder_width", [64, 128, 256]),
        dense_width=trial.suggest_categorical("dense_width", [256, 512, 768, 1024]),
        dense_layers=trial.suggest_int("dense_layers", 1, 3),
    )
    fit = PerceptronFit(
        learning_rate=trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.02, 2, log=True),
        batch_size=trial.suggest_categorical("batch_size", [64, 128, 256]),
        epochs=trial.suggest_categorical("epochs", [15, 30, 45]),
        group_dropout=trial.suggest_float("group_dropout", 0.0, 0.5),
        input_dropout=trial.suggest_float("input_dropout", 0.0, 0.5),
        encoder_dropout=trial.suggest_float("encoder_dropout", 0.1, 0.6),
        dense_dropout=trial.suggest_float("dense_dropout", 0.2, 0.7),
        median_weight=trial.suggest_float("median_weight", 1.0, 16.0, log=True),
    )
    return config, fit


def score_fold(
    features: FeatureSet,
    targets: Targets,
    selection: Split,
    fold: Sequence[str],
    config: PerceptronConfig,
    fit: PerceptronFit,
) -> tuple[float, float]:
    """Train on all chromosomes but a fold's and the test's; Spearman's rho on the fold's genes.

    Returns
    -------
    fold_change, median : float
    """
    held_out = dataclasses.replace(
        selection, test=tuple(fold), absent=(*selection.absent, *selection.test)
    )
    dataset = make_dataset(features, targets, config.kernels, held_out)
    network = fit_network(dataset, config, fit).network
    rows = dataset.split.test
    known = dataset.targets
    found = summarise(score(predict_part(dataset, network, rows), known.values[rows], known.names))
    return found["fold_change_spearman"], found["median_spearman"]


def ledger(study: optuna.Study) -> pd.DataFrame:
    """One row a trial: its outcome, the mean of its folds, and its hyper-parameters."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        folds = np.array(trial.user_attrs.get("folds", []), float).reshape(-1, 2)
        means = folds.mean(axis=0) if len(folds) else (np.nan, np.nan)
        rows.append(
            {
                "trial": trial.number,
                "outcome": trial.state.name.lower(),
                "folds": len(folds),
                "fold_change_spearman": means[0],
                "median_spearman": means[1],
                **trial.params,
            }
        )
    return pd.DataFrame(rows)


@click.command()
@click.argument("features")
@click.argument("expression", type=click.Path(exists=True, path_type=Path))
@click.option("--kinds", required=True, help="Classes of tracks, by commas.")
@click.option("--study", "journal", type=click.Path(path_type=Path), required=True)
@click.option("--trials", default=40, show_default=True)
@click.option("--folds", default=len(FOLDS), show_default=True, help="How many to use.")
@click.option("--seed", default=0, show_default=True)
@click.option("--ledger", "table", type=click.Path(path_type=Path), required=True)
def main(
    features: str,
    expression: Path,
    kinds: str,
    journal: Path,
    trials: int,
    folds: int,
    seed: int,
    table: Path,
) -> None:
    """Search, or go on searching."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bound, targets = (
        dz.load_features(features),
        make_targets(read_expression(expression), min_tpm=MIN_TPM),
    )
    selection = dataclasses.replace(SELECTION, kinds=tuple(kinds.split(",")))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(5),
    )
    if not study.trials:  # what the first look came to is where the search sets out from
        defaults = {**vars(PerceptronConfig()), **vars(PerceptronFit())}
        study.enqueue_trial({name: defaults[name] for name in PROPOSED})

    def objective(trial: optuna.Trial) -> float:
        config, fit = propose(trial)
        found: list[tuple[float, float]] = []
        for number, fold in enumerate(FOLDS[:folds]):
            found.append(score_fold(bound, targets, selection, fold, config, fit))
            trial.set_user_attr("folds", found)
            fold_change, median = np.mean(found, axis=0)
            value = float(fold_change + MEDIAN_WEIGHT * median)
            trial.report(value, number)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    with atomic_path(table) as temporary:
        ledger(study).to_csv(temporary, sep="\t", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
