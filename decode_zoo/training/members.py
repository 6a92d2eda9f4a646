"""Training of perceptrons on position sums.

They learn normal scores of expression, with dropout everywhere and one cycle of the learning rate;
a line for each output then brings what they say back to its units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from decode_zoo.core.arrays import IntArray, SingleArray
from decode_zoo.features.genesets import TARGETS
from decode_zoo.features.spec import Side
from decode_zoo.networks.decode import BATCH_NORM_EPSILON, BRANCHES
from decode_zoo.networks.perceptron import PerceptronConfig, PerceptronNetwork, Standardisation
from decode_zoo.training import import_keras
from decode_zoo.training.dataset import Dataset
from decode_zoo.training.fit import Repeat, check_settings, run_fit

__all__ = [
    "PerceptronFit",
    "calibrate",
    "fit_members",
    "join_members",
    "normal_scores",
    "position_sums",
    "standardisation_of",
    "track_groups",
]

# Of a root's standard deviation, in roots of bases: a track that hardly varies tells nothing.
_LEAST_DEVIATION = 1e-3
_CHUNK = 1024


@dataclass(frozen=True)
class PerceptronFit:
    """How to train."""

    # Of AdamW, at the height of the cycle: it rises from a twenty-fifth of that over the first
    # three tenths of the steps and falls to nothing, both along half a cosine.
    learning_rate: float = 2e-3
    weight_decay: float = 0.3
    batch_size: int = 128
    epochs: int = 30
    # Parts that are left out at each step: of the groups of tracks (`track_groups`), so that no
    # assay, cell or collection of targets decides alone; of the single inputs, of the encoders'
    # channels and of each hidden layer besides.
    group_dropout: float = 0.2
    input_dropout: float = 0.3
    encoder_dropout: float = 0.4
    dense_dropout: float = 0.5
    median_weight: float = 6.0  # of the median's squared error, where a fold change's weighs 1
    seeds: tuple[int, ...] = (1,)  # one member each

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        check_settings(
            self,
            ("learning_rate", "batch_size", "epochs", "median_weight"),
            ("group_dropout", "input_dropout", "encoder_dropout", "dense_dropout"),
            ("weight_decay",),
        )


def standardisation_of(dataset: Dataset, limit: float) -> dict[Side, Standardisation]:
    """Measure means and variances of the roots of position sums, over training genes.

    `limit` is the largest z-score. The dataset must have kernels of width 1.
    """
    sums = position_sums(dataset, dataset.split.training)
    found = {}
    for side in BRANCHES:
        roots = np.sqrt(sums[side].astype(np.float64))
        deviation, mean = roots.std(axis=0), roots.mean(axis=0)
        constant = deviation < _LEAST_DEVIATION
        deviation[constant] = np.maximum(mean[constant], 1)
        # Weights have float32: what is trained on is what is stored.
        centre = (mean / deviation).astype(np.float32).astype(np.float64)
        found[side] = Standardisation(deviation**2, centre, limit)
    return found


def track_groups(dataset: Dataset, side: Side) -> IntArray:
    """Return the group of each input, shape (channels,): groups stand or fall together.

    Tracks of a class are one group a cell; those of gene-level targets one a source, for each of
    them comes from many cells. The mask channel is alone.
    """
    known = {track.name: track for track in dataset.features.side_tracks[side]}
    keys = [("", "")]
    for name in dataset.tracks[side]:
        track = known[name]
        keys.append((track.kind, track.source if track.kind == TARGETS else track.cell))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def position_sums(dataset: Dataset, part: IntArray) -> dict[Side, SingleArray]:
    """Add up the bins of some rows of the targets, in bases; shape (n, channels) a side."""
    blocks = [dataset.pooled(part[i : i + _CHUNK]) for i in range(0, len(part), _CHUNK)]
    return {side: np.concatenate([block[side][:, 0] for block in blocks]) for side in BRANCHES}


def fit_members(
    dataset: Dataset,
    inputs: Mapping[Side, Standardisation],
    config: PerceptronConfig,
    fit: PerceptronFit,
) -> Iterator[Repeat]:
    """Train one member a seed; weights have the names of `PerceptronNetwork`, without `memberN/`.

    The last epoch's are kept: by then the learning rate has come to nothing.
    """
    keras = import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    split, values = dataset.split, dataset.targets.values
    x, validation_x = (
        {side: inputs[side](values).astype(np.float32) for side, values in sums.items()}
        for sums in (position_sums(dataset, part) for part in (split.training, split.validation))
    )
    y, validation_y = (
        normal_scores(values[part], values[split.training]).astype(np.float32)
        for part in (split.training, split.validation)
    )
    groups = {side: track_groups(dataset, side) for side in BRANCHES}
    steps = -(-len(y) // fit.batch_size) * fit.epochs
    for seed in fit.seeds:
        keras.utils.set_random_seed(seed)
        model = _build(config, fit, groups, y.shape[1])
        rate = _one_cycle(keras, fit.learning_rate, steps)
        model.compile(
            keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay), loss=_loss(dataset, fit)
        )
        repeat = run_fit(
            model,
            seed,
            lambda losses: len(losses) - 1,
            x=x,
            y=y,
            batch_size=fit.batch_size,
            epochs=fit.epochs,
            validation_data=(validation_x, validation_y),
        )
        yield replace(repeat, weights=_folded(repeat.weights, config))


def _build(
    config: PerceptronConfig, fit: PerceptronFit, groups: Mapping[Side, IntArray], n_outputs: int
) -> Any:
    """Build the network as it is trained: with dropout and batch normalisation."""
    keras = import_keras()
    layers = keras.layers
    inputs = {side: keras.Input((groups[side].size,), name=side) for side in BRANCHES}
    encoders = []
    for side, tracks in inputs.items():
        kept = _group_dropout(keras, groups[side], fit.group_dropout)(tracks)
        kept = layers.Dropout(fit.input_dropout)(kept)
        encoder = layers.Dense(config.encoder_width, use_bias=False, name=f"{side}_encoder")
        encoders.append(encoder(kept))
    hidden = layers.BatchNormalization(name="norm")(layers.Concatenate()(encoders))
    hidden = layers.Dropout(fit.encoder_dropout)(hidden)
    for i in range(config.dense_layers):
        hidden = layers.Dense(config.dense_width, activation="relu", name=f"dense{i}")(hidden)
        hidden = layers.BatchNormalization(name=f"norm{i}")(hidden)
        hidden = layers.Dropout(fit.dense_dropout)(hidden)
    return keras.Model(inputs, layers.Dense(n_outputs, name="outputs")(hidden), name="perceptron")


def _group_dropout(keras: Any, groups: IntArray, rate: float) -> Any:
    """Make a layer that leaves out whole groups of inputs, and scales up the others."""
    import tensorflow as tf

    class GroupDropout(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dropout = keras.layers.Dropout(rate)

        def call(self, inputs: Any, training: bool = False) -> Any:
            if not training:
                return inputs
            each = tf.ones((tf.shape(inputs)[0], int(groups.max()) + 1))
            return inputs * tf.gather(self.dropout(each, training=True), groups, axis=1)

    return GroupDropout()


def _loss(dataset: Dataset, fit: PerceptronFit) -> Callable[[Any, Any], Any]:
    """Mean squared error in which the median has a weight of its own."""
    import tensorflow as tf

    weights = np.array(
        [fit.median_weight if output.kind == "median" else 1 for output in dataset.outputs],
        np.float32,
    )
    return lambda truth, predicted: tf.reduce_mean(
        tf.square(truth - predicted) * (weights / weights.mean()), axis=-1
    )


def _one_cycle(keras: Any, height: float, steps: int) -> Any:
    """Learning rate by step (Smith & Topin 2018, arXiv:1708.07120; half cosines for lines)."""
    import tensorflow as tf

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            part = tf.cast(step, tf.float32) / steps
            up = 0.04 + 0.96 * (1 - tf.cos(np.pi * part / 0.3)) / 2
            down = (1 + tf.cos(np.pi * (part - 0.3) / 0.7)) / 2
            return height * tf.where(part < 0.3, up, tf.maximum(down, 0.0))

    return OneCycle()


def _folded(weights: Mapping[str, SingleArray], config: PerceptronConfig) -> dict[str, SingleArray]:
    """Fold each batch normalisation into the dense layer behind it."""
    names = [*(f"dense{i}" for i in range(config.dense_layers)), "outputs"]
    norms = ["norm", *(f"norm{i}" for i in range(config.dense_layers))]
    found: dict[str, SingleArray] = {side: weights[f"{side}_encoder/kernel"] for side in BRANCHES}
    for name, norm in zip(names, norms, strict=True):
        gamma, beta, mean, variance = (
            weights[f"{norm}/{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = weights[f"{name}/kernel"].astype(np.float64)
        found[f"{name}/kernel"] = (factor[:, None] * kernel).astype(np.float32)
        found[f"{name}/bias"] = (weights[f"{name}/bias"] + (beta - mean * factor) @ kernel).astype(
            np.float32
        )
    return found


def normal_scores(
    values: npt.NDArray[np.floating], training: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return quantiles of the normal distribution at (rank - 1/2) / n among training genes.

    Fold changes have heavy tails: with squared errors a few genes would decide what a network
    learns. Equal values share the mean of their ranks; what lies beyond the training genes is at
    their end.
    """
    count = len(training)
    places = np.empty(values.shape)
    for column, known in enumerate(np.sort(training, axis=0).T):
        left, right = (np.searchsorted(known, values[:, column], s) for s in ("left", "right"))
        places[:, column] = (left + right) / (2 * count)
    scores: npt.NDArray[np.float64] = special.ndtri(np.clip(places, 0.5 / count, 1 - 0.5 / count))
    return scores


def calibrate(
    predicted: npt.NDArray[np.float64], observed: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit a line for each output by least squares; return slopes and intercepts."""
    centre, mean = predicted.mean(axis=0), observed.mean(axis=0)
    x = predicted - centre
    spread = (x * x).sum(axis=0)
    covered = (x * (observed - mean)).sum(axis=0)
    slope = np.divide(covered, spread, out=np.zeros_like(mean), where=spread > 0)
    return slope, mean - slope * centre


def join_members(
    dataset: Dataset,
    inputs: Mapping[Side, Standardisation],
    config: PerceptronConfig,
    repeats: Sequence[Repeat],
) -> PerceptronNetwork:
    """Make one network of members, calibrated to the outputs' units on validation genes."""
    weights = {f"{side}/centre": inputs[side].centre.astype(np.float32) for side in BRANCHES}
    for number, repeat in enumerate(repeats):
        weights |= {
            f"member{number}/{name}": array if name.endswith("/bias") else _rounded(array)
            for name, array in repeat.weights.items()
        }
    scale = {side: inputs[side].scale for side in BRANCHES}
    raw = PerceptronNetwork(config, weights, scale, np.ones(len(dataset.outputs)))
    validation = dataset.split.validation
    sums = {side: values[:, None] for side, values in position_sums(dataset, validation).items()}
    slope, intercept = calibrate(raw.forward(sums), dataset.targets.values[validation])
    units = dataset.output_scale
    for number in range(config.members):
        kernel, bias = (f"member{number}/outputs/{part}" for part in ("kernel", "bias"))
        weights[kernel] = _rounded(weights[kernel] * slope / units)
        shifted = (weights[bias] * slope + intercept) / units
        weights[bias] = shifted.astype(np.float32)
    return PerceptronNetwork(config, weights, scale, units)


def _rounded(array: npt.NDArray[np.floating]) -> SingleArray:
    """Keep six significant bits: files shrink to less than half, predictions hardly move."""
    mantissa, exponent = np.frexp(array)
    rounded: SingleArray = np.ldexp(np.round(mantissa * 64) / 64, exponent).astype(np.float32)
    return rounded
