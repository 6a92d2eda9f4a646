"""What attributions are checked against: shap's DeepExplainer, and DeepLIFT by brute force.

Both take full matrices in bases, with the padding that convolutions need, and give a score for
every channel of every bin.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.decode import BATCH_NORM_EPSILON, BRANCHES, DecodeNetwork
from decode_zoo.networks.families import Network
from decode_zoo.networks.manifest import Manifest
from decode_zoo.networks.perceptron import PerceptronNetwork

__all__ = ["brute_force", "deep_explainer", "manifest_background", "padded"]

Matrices = Mapping[Side, npt.NDArray[np.floating]]
FloatArray = npt.NDArray[np.float64]
Scores = dict[Side, FloatArray]


def padded(*genes: Matrices) -> list[Matrices]:
    """Give genes one length: matrices of shape (n, bins, channels), empty bins on the right."""
    longest = {side: max(gene[side].shape[1] for gene in genes) for side in SIDES}
    return [
        {
            side: np.pad(gene[side], ((0, 0), (0, longest[side] - gene[side].shape[1]), (0, 0)))
            for side in SIDES
        }
        for gene in genes
    ]


def manifest_background(manifest: Manifest) -> Matrices:
    """The background of a model as full matrices of one row: masks filled, no sites."""
    matrices = {}
    for side, frozen in manifest.inputs.items():
        length, width = int(frozen.background), manifest.layout.bin
        matrices[side] = np.zeros((1, -(-length // width) + frozen.kernel - 1, len(frozen.scale)))
        for base in range(length):
            matrices[side][0, base // width, 0] += 1
    return matrices


# -- shap ----------------------------------------------------------------------------------------


def deep_explainer(
    network: Network, references: Matrices, dtype: str = "float64"
) -> Callable[[Matrices], Scores]:
    """Make a function that scores genes with shap.DeepExplainer, against the mean of references.

    Takes matrices of shape (n, bins, channels), all of the references' length, and gives scores of
    shape (n, bins, channels, n_outputs), in the outputs' units. shap divides by differences as
    small as 1e-6, which single precision (`dtype`) does not carry.
    """
    with _quiet():
        import shap
        from shap.explainers._deep import deep_tf

    deep_tf.op_handlers["Sqrt"] = _square_root
    with _precision(dtype) as keras:
        family = _perceptron if isinstance(network, PerceptronNetwork) else _decode
        any_length, last_weights = family(network, keras)
        last = any_length.get_layer("outputs")
        inputs = [keras.Input(references[side].shape[1:], name=side) for side in SIDES]
        model = keras.Model(inputs, any_length(dict(zip(SIDES, inputs, strict=True))))
        with _quiet():
            explainer = shap.DeepExplainer(model, _scaled(network, references, dtype))

    def explain(genes: Matrices) -> Scores:
        parts: dict[Side, list[FloatArray]] = {side: [] for side in SIDES}
        for i, scale in enumerate(network.output_scale):
            # One graph, traced once; for a network with many outputs shap traces one for each.
            last.set_weights(last_weights(i))
            with _precision(dtype):
                values = explainer.shap_values(
                    _scaled(network, genes, dtype), check_additivity=False
                )
            for side, part in zip(SIDES, values, strict=True):
                parts[side].append(part[..., 0] * scale)
        return {side: np.stack(values, axis=-1) for side, values in parts.items()}

    return explain


# A Keras model of one output, of scaled inputs of any length; and the weights of its last layer,
# "outputs", for each of the network's outputs.
_OneOutput = tuple[Any, Callable[[int], list[npt.NDArray[np.floating]]]]


def _decode(network: DecodeNetwork, _: Any) -> _OneOutput:
    from decode_zoo.training.fit import build_network, set_layer_weights

    channels = {side: len(scale) for side, scale in network.input_scale.items()}
    model = build_network(network.config, channels, 1)
    set_layer_weights(model, dict(network.select(np.array([0])).weights))
    return model, lambda i: [network.weights[f"outputs/{x}"][..., [i]] for x in ("kernel", "bias")]


def _perceptron(network: PerceptronNetwork, keras: Any) -> _OneOutput:
    """Build all members as one model, whose last layer sees what each has to say."""
    layers, ops, weights = keras.layers, keras.ops, network.weights

    def dense(inputs: Any, *arrays: npt.NDArray[np.float32], **options: Any) -> Any:
        layer = layers.Dense(arrays[0].shape[1], use_bias=len(arrays) == 2, **options)
        values = layer(inputs)
        layer.set_weights(arrays)
        return values

    inputs = {
        side: keras.Input((None, len(scale)), name=side)
        for side, scale in network.input_scale.items()
    }
    scores = {
        side: ops.minimum(
            ops.sqrt(ops.relu(ops.sum(bins, axis=1))) - weights[f"{side}/centre"],
            network.config.limit,
        )
        for side, bins in inputs.items()
    }
    members = [f"member{number}" for number in range(network.config.members)]
    last = []
    for member in members:
        hidden = layers.Concatenate()(
            [dense(scores[side], weights[f"{member}/{side}"]) for side in BRANCHES]
        )
        for i in range(network.config.dense_layers):
            arrays = [weights[f"{member}/dense{i}/{x}"] for x in ("kernel", "bias")]
            hidden = dense(hidden, *arrays, activation="relu")
        last.append(hidden)
    outputs = layers.Dense(1, name="outputs")(layers.Concatenate()(last))

    def last_weights(i: int) -> list[npt.NDArray[np.floating]]:
        kernels, biases = (
            [weights[f"{member}/outputs/{x}"][..., [i]].astype(np.float64) for member in members]
            for x in ("kernel", "bias")
        )
        return [np.concatenate(kernels) / len(members), np.mean(biases, axis=0)]

    return keras.Model(inputs, outputs), last_weights


def _square_root(explainer: Any, op: Any, *gradients: Any) -> list[Any]:
    """What shap does with functions of one variable; it has a list of them, without this one."""
    import tensorflow as tf
    from shap.explainers._deep import deep_tf

    (slope,) = deep_tf.nonlinearity_1d(0)(explainer, op, *gradients)
    # The gradient is infinite where neither gene nor reference has sites of a track. shap would
    # multiply it by their difference, zero, and get no number.
    return [tf.where(tf.math.is_finite(slope), slope, tf.zeros_like(slope))]


def _scaled(network: Network, genes: Matrices, dtype: str) -> list[npt.NDArray[Any]]:
    return [(genes[side] / network.input_scale[side]).astype(dtype) for side in SIDES]


@contextmanager
def _precision(dtype: str) -> Iterator[Any]:
    """Let Keras compute in another precision."""
    from decode_zoo.training import import_keras

    keras = import_keras()
    # Layers ask the policy, which Keras makes of floatx when it is first needed, and then keeps.
    policy, before = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield keras
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what shap says at every import and every explainer."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The set_.* function will be deprecated")
        warnings.filterwarnings("ignore", "Your TensorFlow version is newer than 2.4.0")
        yield


# -- brute force ---------------------------------------------------------------------------------


def brute_force(network: DecodeNetwork, gene: Matrices, reference: Matrices) -> Scores:
    """Score one gene against one reference by the definition of DeepLIFT's rescale rule.

    With each ReLU replaced by its slope between reference and gene the network is linear, so what
    a cell adds is what the network says of that cell's difference alone. Matrices have shape
    (1, bins, channels), scores (bins, channels, n_outputs).
    """
    seen = (_relu_inputs(network, gene), _relu_inputs(network, reference))
    slopes = [_slopes(x, r) for x, r in zip(*seen, strict=True)]

    def linear(inputs: Matrices) -> FloatArray:
        return _forward(network, inputs, lambda i, x: slopes[i] * x)

    nothing = {side: np.zeros_like(gene[side], np.float64) for side in SIDES}
    scores = {}
    for side in SIDES:
        difference = gene[side][0].astype(np.float64) - reference[side][0]
        cells = np.argwhere(difference)
        alone = {other: np.repeat(nothing[other], len(cells), axis=0) for other in SIDES}
        numbers = np.arange(len(cells))
        alone[side][numbers, cells[:, 0], cells[:, 1]] = difference[tuple(cells.T)]
        scores[side] = np.zeros((*difference.shape, len(network.output_scale)))
        scores[side][tuple(cells.T)] = linear(alone) - linear(nothing)
    return scores


def _relu_inputs(network: DecodeNetwork, inputs: Matrices) -> list[FloatArray]:
    seen: list[FloatArray] = []

    def relu(_: int, x: FloatArray) -> FloatArray:
        seen.append(x)
        return np.maximum(x, 0)

    _forward(network, inputs, relu)
    return seen


def _slopes(x: FloatArray, r: FloatArray) -> FloatArray:
    same = np.abs(x - r) < 1e-9
    rise = np.maximum(x, 0) - np.maximum(r, 0)
    return np.where(same, (x > 0).astype(np.float64), rise / np.where(same, 1, x - r))


def _forward(
    network: DecodeNetwork, inputs: Matrices, relu: Callable[[int, FloatArray], FloatArray]
) -> FloatArray:
    """Run the network as the paper draws it; `relu` is given its number and its input."""
    config, weights = network.config, network.weights
    number = count()
    branches = []
    layers = {"rna": config.rna_layers, "promoter": config.promoter_layers}
    for side in BRANCHES:
        x = inputs[side] / network.input_scale[side]
        for i in range(layers[side]):
            kernel = weights[f"{side}_conv{i}/kernel"].astype(np.float64)
            windows = np.lib.stride_tricks.sliding_window_view(x, len(kernel), axis=1)
            x = np.einsum("npck,kcd->npd", windows, kernel, optimize=True)
            if config.conv_relu:
                x = relu(next(number), x)
        branches.append(x.sum(axis=1))
    x = np.concatenate(branches, axis=1)
    for i in range(config.dense_layers):
        x = x @ weights[f"dense{i}/kernel"].astype(np.float64) + weights[f"dense{i}/bias"]
        if config.full_relu:
            x = relu(next(number), x)
        gamma, beta, mean, variance = (
            weights[f"norm{i}/{name}"].astype(np.float64)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = (x - mean) / np.sqrt(variance + BATCH_NORM_EPSILON) * gamma + beta
    x = x @ weights["outputs/kernel"].astype(np.float64) + weights["outputs/bias"]
    return x * network.output_scale
