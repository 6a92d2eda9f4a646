"""Fine-tuning: what a perceptron has learned of binding serves outputs that it has never seen.

Source: Tasaki et al. 2020, Methods, 'Training sample-specific models': the layers that read
binding stay as they are, the fully connected ones go on learning, with an output a sample.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from decode_zoo.core.arrays import FloatArray
from decode_zoo.core.errors import UsageError
from decode_zoo.features.spec import Side
from decode_zoo.networks.decode import BRANCHES
from decode_zoo.networks.metrics import column_correlation
from decode_zoo.networks.perceptron import Member, PerceptronNetwork
from decode_zoo.training import import_keras
from decode_zoo.training.checkpoints import Checkpoints, Progress
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.fit import Repeat, check_settings
from decode_zoo.training.members import join_members, normal_scores, position_sums
from decode_zoo.zoo.model import Model

__all__ = ["FinetuneFit", "base_network", "finetune_network"]

Inputs = dict[str, npt.NDArray[np.float32]]  # by the name of a Keras input

_log = logging.getLogger(__name__)

# Of an activation: a unit that is never at work must not be blown up.
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class FinetuneFit:
    """How to fine-tune."""

    # Layers that stay as they are, from the bottom: 1 the encoders, 2 the first dense layer too,
    # and so on; 0 none. The new output layer always learns.
    frozen_layers: int = 1
    learning_rate: float = 1e-4  # of AdamW
    weight_decay: float = 0.3
    batch_size: int = 128
    max_epochs: int = 60
    patience: int = 5  # epochs without a better validation loss; the best epoch is kept
    # Parts left out at each step: of the inputs (only if the encoders learn), of the encoders'
    # channels and of each hidden layer.
    input_dropout: float = 0.3
    encoder_dropout: float = 0.4
    dense_dropout: float = 0.5
    median_share: float = 0.1  # of the loss, for the median; the fold changes share the rest
    # One member each. The members start from those of the base, one after the other.
    seeds: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        check_settings(
            self,
            ("learning_rate", "batch_size", "max_epochs", "patience"),
            ("input_dropout", "encoder_dropout", "dense_dropout", "median_share"),
            ("weight_decay", "frozen_layers"),
        )


def base_network(base: Model, fit: FinetuneFit) -> PerceptronNetwork:
    """Return the network to start from; raise UsageError if it cannot be fine-tuned so."""
    network = base.network
    if not isinstance(network, PerceptronNetwork):
        raise UsageError(
            f"{base.id} is of the family {base.manifest.family}; only perceptrons can "
            "be fine-tuned.",
            remedy="--base gtex-tissue-v1",
        )
    if fit.frozen_layers > 1 + network.config.dense_layers:
        raise UsageError(
            f"{base.id} has {1 + network.config.dense_layers} layers below its "
            f"outputs; {fit.frozen_layers} cannot be frozen."
        )
    return network


def finetune_network(
    dataset: Dataset,
    network: PerceptronNetwork,
    fit: FinetuneFit,
    checkpoints: Checkpoints | None = None,
) -> tuple[PerceptronNetwork, tuple[Repeat, ...]]:
    """Fine-tune one member a seed, and join them.

    The dataset has the base's tracks (`dataset.make_dataset_like`) and the new outputs. With
    checkpoints, training goes on after the last epoch that is there, and comes to the same weights
    as if it had never stopped.
    """
    keras = import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    folded = network.fold()
    split, values = dataset.split, dataset.targets.values
    parts = (split.training, split.validation)
    scores = [
        {side: folded.inputs[side](sums) for side, sums in position_sums(dataset, part).items()}
        for part in parts
    ]
    targets = [
        normal_scores(values[part], values[split.training]).astype(np.float32) for part in parts
    ]
    weights = _loss_weights(dataset, fit)
    scored = np.array([output.kind != "median" for output in dataset.outputs])
    repeats = []
    for number, seed in enumerate(fit.seeds):
        keras.utils.set_random_seed(seed)
        member = folded.members[number % len(folded.members)]
        tuned = _Tuned.start(member, scores[0], targets[0], fit)
        model = tuned.build()
        model.compile(
            keras.optimizers.AdamW(fit.learning_rate, weight_decay=fit.weight_decay),
            loss=lambda truth, predicted: tf.reduce_sum(
                tf.square(truth - predicted) * weights, axis=-1
            ),
        )
        training, validation = ((tuned.bottom(x), y) for x, y in zip(scores, targets, strict=True))
        progress = _train(model, training, validation, weights, scored, fit, seed, checkpoints)
        losses = progress.history["val_loss"]
        best = _best(losses)
        _put(model.weights, progress.arrays, "best")
        repeats.append(
            Repeat(
                seed,
                tuned.weights(model),
                losses[best],
                best + 1,
                progress.history,
                progress.seconds,
            )
        )
    config = replace(network.config, members=len(repeats))
    return join_members(dataset, dict(folded.inputs), config, repeats), tuple(repeats)


def _loss_weights(dataset: Dataset, fit: FinetuneFit) -> npt.NDArray[np.float32]:
    """Parts of the loss that outputs have; their sum is 1."""
    medians = np.array([output.kind == "median" for output in dataset.outputs])
    if medians.all() or not medians.any():
        return np.full(medians.size, 1 / medians.size, np.float32)
    rest = (1 - fit.median_share) / (~medians).sum()
    shares: npt.NDArray[np.float32] = np.where(medians, fit.median_share / medians.sum(), rest)
    return shares.astype(np.float32)


def _train(
    model: Any,
    training: tuple[Inputs, npt.NDArray[np.float32]],
    validation: tuple[Inputs, npt.NDArray[np.float32]],
    weights: npt.NDArray[np.float32],
    scored: npt.NDArray[np.bool_],
    fit: FinetuneFit,
    seed: int,
    checkpoints: Checkpoints | None,
) -> Progress:
    """Train until the validation loss has not improved for some epochs.

    Raises UsageError if that loss is no finite number any more.
    """
    model.optimizer.build(model.trainable_variables)
    # Weights, the states of dropout's random numbers, and moments: with the order of the genes,
    # which seed and epoch decide, all that the next epoch depends on.
    state = [*model.variables, *model.optimizer.variables]
    progress = checkpoints.load(seed) if checkpoints else None
    if progress is None:
        progress = Progress({"loss": [], "val_loss": [], "rho": []}, 0.0, _taken(state, "state"))
    else:
        _put(state, progress.arrays, "state")
        _log.info("seed %d: goes on after epoch %d", seed, len(progress.history["loss"]))
    losses = progress.history["val_loss"]
    while len(losses) < fit.max_epochs and len(losses) <= fit.patience + _best(losses):
        started, epoch = time.monotonic(), len(losses)
        order = np.random.default_rng([seed, epoch]).permutation(len(training[1]))
        loss = model.fit(
            {name: values[order] for name, values in training[0].items()},
            training[1][order],
            batch_size=fit.batch_size,
            verbose=0,
            shuffle=False,
        ).history["loss"][0]
        predicted = np.asarray(model(validation[0], training=False))
        with np.errstate(over="ignore", invalid="ignore"):
            validation_loss = float((np.square(predicted - validation[1]) @ weights).mean())
        if not np.isfinite(validation_loss):
            raise UsageError(
                f"The training with seed {seed} diverged: the validation loss of epoch {epoch + 1} "
                f"is {validation_loss}.",
                remedy=f"Take a learning_rate below {fit.learning_rate:g}.",
            )
        ranks = (stats.rankdata(x[:, scored], axis=0) for x in (predicted, validation[1]))
        rho = float(np.nanmean(column_correlation(*ranks)))
        found = {"loss": float(loss), "val_loss": validation_loss, "rho": rho}
        history = {name: [*before, found[name]] for name, before in progress.history.items()}
        losses = history["val_loss"]
        if validation_loss <= min(losses):
            best = _taken(model.weights, "best")
        else:
            best = {k: array for k, array in progress.arrays.items() if k.startswith("best")}
        seconds = progress.seconds + time.monotonic() - started
        progress = Progress(history, seconds, _taken(state, "state") | best)
        if checkpoints:
            checkpoints.save(seed, progress)
        told = (seed, epoch + 1, validation_loss, rho, seconds)
        _log.info("seed %d, epoch %d: validation loss %.4f, rho %.4f, %.0f s", *told)
    return progress


def _best(losses: list[float]) -> int:
    return int(np.argmin(losses)) if losses else 0


def _taken(variables: list[Any], name: str) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}{i}": variable.numpy() for i, variable in enumerate(variables)}


def _put(variables: list[Any], arrays: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    for i, variable in enumerate(variables):
        variable.assign(arrays[f"{name}{i}"])


@dataclass(frozen=True)
class _Tuned:
    """A member of the base on its way: its frozen bottom, and where its upper layers start.

    Dropout takes a unit for its mean. So, while it trains, each layer sees the one below as
    z-scores over training genes; afterwards they are folded into the layer. `units` are the (mean,
    deviation) of what each layer above the encoders sees; `outputs` the (kernel, bias) to start
    from, on the z-scores of the last hidden layer.
    """

    member: Member
    fit: FinetuneFit
    units: list[tuple[FloatArray, FloatArray]]
    outputs: tuple[FloatArray, FloatArray]

    @classmethod
    def start(
        cls,
        member: Member,
        scores: dict[Side, FloatArray],
        y: npt.NDArray[np.floating],
        fit: FinetuneFit,
    ) -> _Tuned:
        units, hidden = [], _encoded(member, scores)
        for number in range(len(member.layers)):
            if number:
                hidden = _dense(member, number - 1, hidden)
            deviation = hidden.std(axis=0)
            deviation[deviation < _LEAST_DEVIATION] = 1
            units.append((hidden.mean(axis=0), deviation))
        mean, deviation = units[-1]
        top = (hidden - mean) / deviation
        # Ridge regression: what the base's last hidden layer says of the new outputs as it is. Its
        # penalty, as heavy as the genes, keeps noise of single samples out.
        kernel = np.linalg.solve(top.T @ top + len(top) * np.eye(top.shape[1]), top.T @ y)
        return cls(member, fit, units, (kernel, y.mean(axis=0, dtype=np.float64)))

    @property
    def first(self) -> int:
        """The lowest dense layer that learns."""
        return max(self.fit.frozen_layers - 1, 0)

    def bottom(self, scores: dict[Side, FloatArray]) -> Inputs:
        """Compute what the trained part sees: z-scores of inputs, or of the last frozen layer."""
        if not self.fit.frozen_layers:
            return {side: scores[side].astype(np.float32) for side in BRANCHES}
        hidden = _encoded(self.member, scores)
        for number in range(self.first):
            hidden = _dense(self.member, number, hidden)
        mean, deviation = self.units[self.first]
        return {"bottom": ((hidden - mean) / deviation).astype(np.float32)}

    def build(self) -> Any:
        """Build the part that is trained."""
        keras = import_keras()
        layers, fit = keras.layers, self.fit
        mean, deviation = self.units[self.first]
        if fit.frozen_layers:
            hidden = keras.Input((mean.size,), name="bottom")
            inputs = {"bottom": hidden}
        else:
            inputs = {
                side: keras.Input((len(self.member.encoders[side]),), name=side)
                for side in BRANCHES
            }
            encoded = [
                layers.Dense(kernel.shape[1], use_bias=False, name=f"{side}_encoder")(
                    layers.Dropout(fit.input_dropout)(inputs[side])
                )
                for side, kernel in ((side, self.member.encoders[side]) for side in BRANCHES)
            ]
            hidden = _standardised(keras, layers.Concatenate()(encoded), mean, deviation)
        for number in range(self.first, len(self.member.layers)):
            hidden = layers.Dropout(fit.dense_dropout if number else fit.encoder_dropout)(hidden)
            width = self._start_of(number)[1].size
            last = number == len(self.member.layers) - 1
            hidden = layers.Dense(
                width, activation=None if last else "relu", name=f"layer{number}"
            )(hidden)
            if not last:
                hidden = _standardised(keras, hidden, *self.units[number + 1])
        model = keras.Model(inputs, hidden)
        for number in range(self.first, len(self.member.layers)):
            model.get_layer(f"layer{number}").set_weights(
                [array.astype(np.float32) for array in self._start_of(number)]
            )
        if not fit.frozen_layers:
            for side in BRANCHES:
                model.get_layer(f"{side}_encoder").set_weights(
                    [self.member.encoders[side].astype(np.float32)]
                )
        return model

    def _start_of(self, number: int) -> tuple[FloatArray, FloatArray]:
        """Kernel and bias of a layer on z-scores of the one below."""
        if number == len(self.member.layers) - 1:
            return self.outputs
        kernel, bias = self.member.layers[number]
        mean, deviation = self.units[number]
        return deviation[:, None] * kernel, bias + mean @ kernel

    def weights(self, model: Any) -> dict[str, npt.NDArray[np.float32]]:
        """All weights of the tuned member, by their names in a `PerceptronNetwork`."""
        found: dict[str, npt.NDArray[Any]] = {
            str(side): kernel for side, kernel in self.member.encoders.items()
        }
        if not self.fit.frozen_layers:
            for side in BRANCHES:
                (found[side],) = model.get_layer(f"{side}_encoder").get_weights()
        last = len(self.member.layers) - 1
        for number, (kernel, bias) in enumerate(self.member.layers):
            name = "outputs" if number == last else f"dense{number}"
            if number >= self.first:
                mean, deviation = self.units[number]
                learned, bias = (
                    array.astype(np.float64)
                    for array in model.get_layer(f"layer{number}").get_weights()
                )
                kernel = learned / deviation[:, None]
                bias = bias - mean @ kernel
            found[f"{name}/kernel"], found[f"{name}/bias"] = kernel, bias
        return {name: array.astype(np.float32) for name, array in found.items()}


def _encoded(member: Member, scores: dict[Side, FloatArray]) -> FloatArray:
    return np.concatenate([scores[side] @ member.encoders[side] for side in BRANCHES], axis=1)


def _dense(member: Member, number: int, hidden: FloatArray) -> FloatArray:
    kernel, bias = member.layers[number]
    active: FloatArray = np.maximum(hidden @ kernel + bias, 0)
    return active


def _standardised(keras: Any, hidden: Any, mean: FloatArray, deviation: FloatArray) -> Any:
    return keras.layers.Normalization(mean=mean, variance=deviation**2)(hidden)
