"""The training loop: repeats, early stopping, the best by validation."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.errors import UsageError
from decode_zoo.network import DecodeConfig
from decode_zoo.training import import_keras
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.decode import build_network

__all__ = ["FitConfig", "Repeat", "fit_repeats", "layer_weights", "set_layer_weights"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitConfig:
    """How to train; the defaults are the paper's (Methods, 'Deep learning model').

    Attributes
    ----------
    learning_rate : float
        Of Adam.
    batch_size : int
    max_epochs : int
    patience : int
        Epochs without a better validation error before training stops.
    seeds : tuple of int
        One repeat each.
    """

    learning_rate: float = 1e-3
    batch_size: int = 128
    max_epochs: int = 100
    patience: int = 10
    seeds: tuple[int, ...] = tuple(range(1, 11))

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        for name in ("learning_rate", "batch_size", "max_epochs", "patience"):
            if not getattr(self, name) > 0:
                raise UsageError(f"The {name} must be above zero, not {getattr(self, name)}.")
        if not self.seeds:
            raise UsageError("Training needs at least one repeat.")


@dataclass(frozen=True)
class Repeat:
    """One trained network: weights by ``layer/variable``, losses by epoch.

    The validation loss is the mean squared error at the best epoch (counted from 1), in units of
    the output scales.
    """

    seed: int
    weights: dict[str, npt.NDArray[np.float32]]
    validation_loss: float
    best_epoch: int
    history: dict[str, list[float]]
    seconds: float

    def log(self) -> dict[str, Any]:
        """Return what a run log keeps: what the seed decides, less the weights."""
        return {
            "seed": self.seed,
            "validation_loss": self.validation_loss,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }


def fit_repeats(dataset: Dataset, network: DecodeConfig, fit: FitConfig) -> Iterator[Repeat]:
    """Train one network a seed, in the order of the seeds."""
    keras = import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    channels = {side: 1 + len(tracks) for side, tracks in dataset.tracks.items()}
    if network.conv_relu:
        training, validation = (
            _padded_batches(dataset, part, fit.batch_size)
            for part in (dataset.split.training, dataset.split.validation)
        )
        data: dict[str, Any] = {"x": training, "validation_data": validation}
    else:
        data = {
            "x": dataset.scaled(dataset.pooled(dataset.split.training)),
            "y": dataset.scaled_targets(dataset.split.training),
            "validation_data": (
                dataset.scaled(dataset.pooled(dataset.split.validation)),
                dataset.scaled_targets(dataset.split.validation),
            ),
            "batch_size": fit.batch_size,
        }
    for seed in fit.seeds:
        keras.utils.set_random_seed(seed)
        model = build_network(network, channels, len(dataset.outputs))
        model.compile(keras.optimizers.Adam(fit.learning_rate), loss="mse")
        stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=fit.patience, restore_best_weights=True
        )
        started = time.monotonic()
        history = model.fit(**data, epochs=fit.max_epochs, callbacks=[stopping], verbose=0).history
        best = int(np.argmin(history["val_loss"]))
        repeat = Repeat(
            seed,
            layer_weights(model),
            float(history["val_loss"][best]),
            best + 1,
            {name: [float(v) for v in values] for name, values in history.items()},
            time.monotonic() - started,
        )
        _log.info(
            "seed %d: validation loss %.4f at epoch %d, %.0f s",
            seed,
            repeat.validation_loss,
            repeat.best_epoch,
            repeat.seconds,
        )
        yield repeat


def layer_weights(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of a Keras model by ``layer/variable``."""
    return {
        f"{layer.name}/{weight.name}": weight.numpy().astype(np.float32)
        for layer in model.layers
        for weight in layer.weights
    }


def set_layer_weights(model: Any, weights: dict[str, npt.NDArray[np.float32]]) -> None:
    """Put weights by ``layer/variable`` into a Keras model of the same architecture."""
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(weights[f"{layer.name}/{weight.name}"])


def _padded_batches(dataset: Dataset, part: npt.NDArray[np.int64], size: int) -> Any:
    """Full matrices in batches of genes of similar length, for convolutions with ReLU."""
    keras = import_keras()
    order = part[np.argsort(dataset.features.n_bins("rna")[dataset.rows[part]], kind="stable")]
    chunks = [order[i : i + size] for i in range(0, order.size, size)]

    class PaddedBatches(keras.utils.PyDataset):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return len(chunks)

        def __getitem__(self, i: int) -> tuple[dict[str, Any], Any]:
            return dataset.scaled(dataset.full(chunks[i])), dataset.scaled_targets(chunks[i])

    return PaddedBatches()
