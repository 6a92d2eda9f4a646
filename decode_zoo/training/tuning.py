"""Search for how to fine-tune, by the rank correlation on validation genes (extra ``search``)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from decode_zoo.errors import MissingExtraError
from decode_zoo.perceptron import PerceptronNetwork
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.finetune import FinetuneFit, finetune_network

__all__ = ["search_fit"]

_log = logging.getLogger(__name__)

_SEARCHED = ("frozen_layers", "learning_rate", "weight_decay", "encoder_dropout", "dense_dropout")


def search_fit(
    dataset: Dataset,
    network: PerceptronNetwork,
    fit: FinetuneFit,
    trials: int,
    journal: Path,
    study: str,
) -> FinetuneFit:
    """Try settings, the given ones first, and return the best.

    Each trial trains one member with the first seed of `fit`; those in the journal count towards
    `trials`, and a search goes on where it was. Another base or other data must have another
    `study`.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise MissingExtraError("optuna", "search") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    found = optuna.create_study(
        storage=storage,
        study_name=study,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=fit.seeds[0]),
    )
    if not found.trials:
        found.enqueue_trial({name: getattr(fit, name) for name in _SEARCHED})

    def rho(trial: Any) -> float:
        tried = replace(
            fit,
            seeds=fit.seeds[:1],
            frozen_layers=trial.suggest_int("frozen_layers", 0, 1 + network.config.dense_layers),
            learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 0.01, 3, log=True),
            encoder_dropout=trial.suggest_float("encoder_dropout", 0.1, 0.7),
            dense_dropout=trial.suggest_float("dense_dropout", 0.1, 0.7),
        )
        _, (repeat,) = finetune_network(dataset, network, tried)
        value = repeat.history["rho"][repeat.best_epoch - 1]
        _log.info("trial %d: rho %.4f with %s", trial.number, value, trial.params)
        return value

    finished = [trial for trial in found.trials if trial.state.is_finished()]
    found.optimize(rho, n_trials=max(trials - len(finished), 0))
    return replace(fit, **found.best_params)
