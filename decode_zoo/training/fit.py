"""The DEcode network in Keras, as published, and its training: repeats and early stopping."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.errors import UsageError
from decode_zoo.features.spec import Side
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.training import import_keras
from decode_zoo.training.dataset import Dataset

__all__ = [
    "FitConfig",
    "Repeat",
    "build_network",
    "check_settings",
    "fit_repeats",
    "layer_weights",
    "run_fit",
    "set_layer_weights",
]

_log = logging.getLogger(__name__)


def check_settings(
    fit: Any, above_zero: Sequence[str], parts: Sequence[str] = (), not_negative: Sequence[str] = ()
) -> None:
    """Raise UsageError for settings that train nothing; parts are in [0, 1)."""
    if not fit.seeds:
        raise UsageError("Training needs at least one seed.")
    for name in not_negative:
        if not getattr(fit, name) >= 0:
            raise UsageError(f"The {name} must not be negative: {getattr(fit, name)}.")
    for name in above_zero:
        if not getattr(fit, name) > 0:
            raise UsageError(f"The {name} must be above zero, not {getattr(fit, name)}.")
    for name in parts:
        if not 0 <= getattr(fit, name) < 1:
            raise UsageError(
                f"The {name} must be at least 0 and below 1, not {getattr(fit, name)}."
            )


@dataclass(frozen=True)
class FitConfig:
    """How to train; the defaults are the paper's (Methods, 'Deep learning model')."""

    learning_rate: float = 1e-3  # of Adam
    batch_size: int = 128
    max_epochs: int = 100
    patience: int = 10  # epochs without a better validation error before training stops
    seeds: tuple[int, ...] = tuple(range(1, 11))  # one repeat each

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        check_settings(self, ("learning_rate", "batch_size", "max_epochs", "patience"))


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


def build_network(config: DecodeConfig, channels: dict[Side, int], n_outputs: int) -> Any:
    """Build the network for sequences of any length.

    Source: Tasaki et al. 2020, Methods, 'Deep learning model'. Inputs ``rna`` and ``promoter`` have
    shape (batch, bins, channels), mask channel included, and are scaled; the output of shape
    (batch, n_outputs) is in units of the output scales.
    """
    keras = import_keras()

    def branch(side: Side, layers: int, kernel: int, width: int) -> tuple[Any, Any]:
        inputs = hidden = keras.Input((None, channels[side]), name=side)
        for i in range(layers):
            hidden = keras.layers.Conv1D(
                width,
                kernel,
                use_bias=False,
                activation="relu" if config.conv_relu else None,
                name=f"{side}_conv{i}",
            )(hidden)
        return inputs, keras.ops.sum(hidden, axis=1)

    rna, rna_sum = branch("rna", config.rna_layers, config.rna_kernel, config.rna_channels)
    promoter, promoter_sum = branch(
        "promoter", config.promoter_layers, config.promoter_kernel, config.promoter_channels
    )
    hidden = keras.layers.Concatenate(name="regulators")([rna_sum, promoter_sum])
    for i in range(config.dense_layers):
        hidden = keras.layers.Dense(
            config.dense_width, activation="relu" if config.full_relu else None, name=f"dense{i}"
        )(hidden)
        hidden = keras.layers.BatchNormalization(name=f"norm{i}")(hidden)
    outputs = keras.layers.Dense(n_outputs, name="outputs")(hidden)
    return keras.Model({"rna": rna, "promoter": promoter}, outputs, name="decode")


def fit_repeats(dataset: Dataset, network: DecodeConfig, fit: FitConfig) -> Iterator[Repeat]:
    """Train one network a seed, in the order of the seeds."""
    keras = import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    channels = {side: 1 + len(tracks) for side, tracks in dataset.tracks.items()}
    parts = dataset.split.training, dataset.split.validation
    if network.conv_relu:
        training, validation = (_padded_batches(dataset, part, fit.batch_size) for part in parts)
        data: dict[str, Any] = {"x": training, "validation_data": validation}
    else:
        training, validation = (
            (dataset.scaled(dataset.pooled(part)), dataset.scaled_targets(part)) for part in parts
        )
        data = {"x": training[0], "y": training[1], "validation_data": validation}
        data["batch_size"] = fit.batch_size
    for seed in fit.seeds:
        keras.utils.set_random_seed(seed)
        model = build_network(network, channels, len(dataset.outputs))
        model.compile(keras.optimizers.Adam(fit.learning_rate), loss="mse")
        stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=fit.patience, restore_best_weights=True
        )
        yield run_fit(model, seed, np.argmin, **data, epochs=fit.max_epochs, callbacks=[stopping])


def run_fit(model: Any, seed: int, choose: Callable[[list[float]], Any], **options: Any) -> Repeat:
    """Train a compiled model; `choose` says which of the validation losses is of its weights."""
    started = time.monotonic()
    found = model.fit(**options, verbose=0).history
    history = {name: [float(v) for v in values] for name, values in found.items()}
    epoch, seconds = int(choose(history["val_loss"])), time.monotonic() - started
    loss = history["val_loss"][epoch]
    _log.info("seed %d: validation loss %.4f at epoch %d, %.0f s", seed, loss, epoch + 1, seconds)
    return Repeat(seed, layer_weights(model), loss, epoch + 1, history, seconds)


def layer_weights(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a Keras model by ``layer/variable``."""
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
    """Put full matrices in batches of genes of similar length, for convolutions with ReLU."""
    keras = import_keras()
    order = part[np.argsort(dataset.features.n_bins("rna")[dataset.rows[part]], kind="stable")]
    chunks = [order[i : i + size] for i in range(0, order.size, size)]

    class PaddedBatches(keras.utils.PyDataset):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return len(chunks)

        def __getitem__(self, i: int) -> tuple[dict[str, Any], Any]:
            return dataset.scaled(dataset.full(chunks[i])), dataset.scaled_targets(chunks[i])

    return PaddedBatches()
