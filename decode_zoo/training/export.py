"""From a trained network to an ONNX graph, with proof that both say the same."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import SingleArray
from decode_zoo.core.errors import VerificationError
from decode_zoo.features.spec import Side
from decode_zoo.networks.backends import OnnxBackend
from decode_zoo.networks.decode import BRANCHES, DecodeNetwork
from decode_zoo.networks.families import Network
from decode_zoo.networks.perceptron import PerceptronNetwork
from decode_zoo.training import import_converters, import_keras
from decode_zoo.training.fit import build_network, set_layer_weights

__all__ = ["TOLERANCE", "check_parity", "export_onnx", "keras_function"]

# 17 has all the operators of the network; ONNX Runtime reads it since 1.12.
OPSET = 17
# What published models keep to.
TOLERANCE = 1e-5

_log = logging.getLogger(__name__)


def keras_function(network: Network) -> Any:
    """Return a tf.function (rna, promoter) → prediction, from bases to the outputs' units."""
    import_keras()
    import tensorflow as tf

    run = _perceptron(network) if isinstance(network, PerceptronNetwork) else _decode(network)

    signature = [
        tf.TensorSpec((None, None, len(network.input_scale[side])), tf.float32, name=side)
        for side in BRANCHES
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def predict(rna: Any, promoter: Any) -> Any:
        return run({"rna": rna, "promoter": promoter})

    return predict


def _decode(network: DecodeNetwork) -> Callable[[dict[Side, Any]], Any]:
    channels = {side: len(scale) for side, scale in network.input_scale.items()}
    model = build_network(network.config, channels, len(network.output_scale))
    set_layer_weights(model, dict(network.weights))
    input_scale = {side: scale.astype(np.float32) for side, scale in network.input_scale.items()}
    output_scale = network.output_scale.astype(np.float32)

    def run(inputs: dict[Side, Any]) -> Any:
        scaled = {side: values / input_scale[side] for side, values in inputs.items()}
        return model(scaled, training=False) * output_scale

    return run


def _perceptron(network: PerceptronNetwork) -> Callable[[dict[Side, Any]], Any]:
    import tensorflow as tf

    config, weights = network.config, network.weights
    scale = {side: values.astype(np.float32) for side, values in network.input_scale.items()}
    names = [*(f"dense{i}" for i in range(config.dense_layers)), "outputs"]

    def run(inputs: dict[Side, Any]) -> Any:
        scores = {}
        for side, values in inputs.items():
            roots = tf.sqrt(tf.nn.relu(tf.reduce_sum(values, axis=1)) / scale[side])
            scores[side] = tf.minimum(roots - weights[f"{side}/centre"], config.limit)
        predictions = []
        for member in range(config.members):
            hidden = tf.concat(
                [scores[side] @ weights[f"member{member}/{side}"] for side in BRANCHES], axis=1
            )
            for name in names:
                hidden = tf.nn.relu(hidden) if name not in names[:1] else hidden
                hidden = hidden @ weights[f"member{member}/{name}/kernel"]
                hidden += weights[f"member{member}/{name}/bias"]
            predictions.append(hidden)
        return sum(predictions) * (network.output_scale / config.members).astype(np.float32)

    return run


def export_onnx(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    """Convert a network to ONNX with tf2onnx.

    Inputs ``rna`` (batch, rna_bins, channels) and ``promoter`` (batch, promoter_bins, channels) in
    bases; output ``prediction`` (batch, outputs) in the outputs' units.
    """
    tf2onnx, onnx = import_converters()
    function = keras_function(network)
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    _canonicalise(graph.graph)
    (output,) = graph.graph.output
    output.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in graph.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
        value.type.tensor_type.shape.dim[1].dim_param = f"{value.name}_bins"
    graph.graph.doc_string = ""  # a number that counts what was converted before
    # Shapes that the converter inferred carry its own made-up dimension names.
    del graph.graph.value_info[:]
    graph.graph.name = "decode"
    graph.producer_name, graph.producer_version = "decode-zoo", metadata["decode_zoo"]
    for key, text in sorted(metadata.items()):
        graph.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _canonicalise(graph: Any) -> None:
    """Put nodes and arrays in the order of the computation and name them by it.

    The converter's own order and names change from run to run; the same network should give the
    same file.
    """
    (output,) = graph.output
    made_by = {name: node for node in graph.node for name in node.output}
    arrays = {array.name: array for array in graph.initializer}
    names = {value.name: value.name for value in graph.input} | {output.name: "prediction"}
    nodes: list[Any] = []
    used: list[Any] = []

    def visit(tensor: str) -> None:
        if tensor in arrays:
            if tensor not in names:
                names[tensor] = f"array{len(used)}"
                used.append(arrays[tensor])
            return
        node = made_by.get(tensor)
        if node is None or any(node is seen for seen in nodes):
            return
        for name in node.input:
            visit(name)
        nodes.append(node)
        for name in node.output:
            names.setdefault(name, f"value{len(nodes)}")

    visit(output.name)
    for i, node in enumerate(nodes):
        node.name = f"{node.op_type}{i}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for array in used:
        array.name = names[array.name]
    output.name = "prediction"
    ordered, kept = copy.deepcopy(nodes), copy.deepcopy(used)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend(kept)


def check_parity(
    network: Network,
    graph: Path,
    full: Mapping[Side, SingleArray],
    pooled: Mapping[Side, SingleArray] | None,
    same: npt.NDArray[np.int64],
    *,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Compare the implementations of a network, and position sums with full matrices.

    `full` has shape (m, bins + kernel - 1, channels) a side; `pooled`, of n genes, (n, kernel,
    channels), None for a network that does not pool; `same` says which of these the m genes are.
    Returns the largest difference of each comparison in standard deviations of an output. Raises
    VerificationError if implementations differ by more than the tolerance, or full matrices from
    sums by more than 1e-4 in float32 or 1e-10 in float64.
    """
    function, onnx = keras_function(network), OnnxBackend(graph, "cpu")

    def keras(block: Mapping[Side, SingleArray]) -> SingleArray:
        return np.asarray(function(block["rna"], block["promoter"]))

    def differ(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
        return float((np.abs(a.astype(np.float64) - b) / network.output_scale).max())

    # Folded, and so fit for sums only, where the network allows it.
    sample, numpy = (full, network) if pooled is None else (pooled, network.fold())
    of_keras, of_onnx, of_numpy = keras(sample), onnx.run(sample), numpy.forward(sample)
    found = {
        "keras_onnx": differ(of_keras, of_onnx),
        "keras_numpy": differ(of_keras, of_numpy),
        "onnx_numpy": differ(of_onnx, of_numpy),
    }
    if pooled is not None:
        rest: dict[Side, SingleArray] = {side: values[same] for side, values in pooled.items()}
        found |= {
            "full_pooled_keras_float32": differ(keras(full), of_keras[same]),
            "full_pooled_onnx_float32": differ(onnx.run(full), of_onnx[same]),
            "full_pooled_numpy_float64": differ(network.forward(full), network.forward(rest)),
        }
    for name, value in found.items():
        limit = tolerance
        if name.startswith("full"):
            limit = 1e-10 if name.endswith("64") else 1e-4
        if not value <= limit:
            raise VerificationError(
                f"The exported graph is not the network: {name} differ by {value:.2g} of an "
                f"output's standard deviation (at most {limit:.0e} is allowed). {found}"
            )
        if value > TOLERANCE and not name.startswith("full"):
            _log.warning("%s differ by %.1e of an output's standard deviation", name, value)
    return found
