"""All genes × all outputs: how long, against Keras on padded matrices and bare matrix products.

    python benchmarks/predict_all_genes.py [--model gtex-tissue-v1] [--keras-genes 1024]

Prints one table of ratios from one run. Keras predicts a sample of genes the way the original
software does: full-length matrices in batches of 128, padded to the longest gene of the batch. The
matrices are made beforehand, so their making is not counted against Keras. A perceptron, which the
original does not know, runs as a TensorFlow function on the same matrices. The bare products are
the network's own layers as float32 matrix products on inputs that are already there.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping

import click
import numpy as np
import numpy.typing as npt

import decode_zoo as dz
from decode_zoo.features.spec import Side
from decode_zoo.networks.backends import BLOCK
from decode_zoo.networks.decode import DecodeNetwork
from decode_zoo.networks.perceptron import PerceptronNetwork
from decode_zoo.training import import_keras

BATCH = 128

Matrices = Mapping[Side, npt.NDArray[np.floating]]
Work = Callable[[], object]
# Rows of a block, and the weights that they are multiplied with.
Product = tuple[int, npt.NDArray[np.float32]]


def best_of(runs: int, work: Work) -> float:
    """Least seconds of some runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def decode_products(network: DecodeNetwork) -> Iterator[Product]:
    """All products of a decode network: convolutions on position sums, dense layers."""
    weights, config = network.weights, network.config
    for side, layers in (("rna", config.rna_layers), ("promoter", config.promoter_layers)):
        positions = config.kernels[side]
        for i in range(layers):
            kernel = weights[f"{side}_conv{i}/kernel"]
            positions -= len(kernel) - 1
            yield BLOCK * positions, kernel.reshape(-1, kernel.shape[2])
    for name in (*(f"dense{i}" for i in range(config.dense_layers)), "outputs"):
        yield BLOCK, weights[f"{name}/kernel"]


def perceptron_products(network: PerceptronNetwork) -> Iterator[Product]:
    """All products of a perceptron: encoders, dense layers and outputs of each member."""
    for array in network.weights.values():
        if array.ndim == 2:  # no centre, no bias
            yield BLOCK, array


def bare_products(model: dz.Model, n_genes: int) -> float:
    """Seconds for the network's matrix products alone, block by block, layer by layer."""
    rng = np.random.default_rng(0)
    products = {"decode": decode_products, "perceptron": perceptron_products}
    steps = products[model.manifest.family](model.network)
    pairs = [(rng.random((rows, w.shape[0]), dtype=np.float32), w) for rows, w in steps]

    def work() -> None:
        for x, w in pairs:
            x @ w

    work()
    return best_of(20, work) * n_genes / BLOCK


def keras_decode(network: DecodeNetwork) -> Callable[[Matrices], Work]:
    """Keras `predict`, as the original software calls it."""
    from decode_zoo.training.fit import build_network, set_layer_weights

    channels = {side: len(scale) for side, scale in network.input_scale.items()}
    model = build_network(network.config, channels, len(network.output_scale))
    set_layer_weights(model, dict(network.weights))

    def ready(full: Matrices) -> Work:
        batch = {
            side: (values / network.input_scale[side]).astype(np.float32)
            for side, values in full.items()
        }
        return lambda: model.predict(batch, verbose=0)

    return ready


def keras_perceptron(network: PerceptronNetwork) -> Callable[[Matrices], Work]:
    """The perceptron as a TensorFlow function, which it is exported from."""
    import tensorflow as tf

    from decode_zoo.training.export import keras_function

    function = keras_function(network)

    def ready(full: Matrices) -> Work:
        batch = [tf.constant(full[side], tf.float32) for side in ("rna", "promoter")]
        return lambda: function(*batch).numpy()

    return ready


def keras_padded(model: dz.Model, n_genes: int) -> float:
    """Seconds a gene for Keras on batches padded to their longest gene."""
    import_keras()
    families = {"decode": keras_decode, "perceptron": keras_perceptron}
    ready, bound = families[model.manifest.family](model.network), model.bind()
    rows = np.random.default_rng(0).choice(len(model.features), n_genes, replace=False)
    seconds = 0.0
    for i in range(0, n_genes, BATCH):
        work = ready(bound.full(rows[i : i + BATCH]))
        work()  # tracing and first sight of a shape do not count
        seconds += best_of(1, work)
    return seconds / n_genes


@click.command()
@click.option("--model", "model_id", default="gtex-tissue-v1", show_default=True)
@click.option("--keras-genes", default=1024, show_default=True, help="Genes that Keras predicts.")
@click.option("--runs", default=5, show_default=True)
def main(model_id: str, keras_genes: int, runs: int) -> None:
    """Time all genes in each back end and print ratios."""
    start = time.perf_counter()
    model = dz.load(model_id)
    bound, n = model.bind(), len(model.features)
    rows = np.arange(n)
    backends = {name: model.backend(name, "cpu") for name in ("onnxruntime", "numpy")}
    model.predict_rows(rows[:BLOCK], bound, backends["onnxruntime"])
    loading = time.perf_counter() - start
    ours = {
        name: best_of(runs, lambda b=backend: model.predict_rows(rows, bound, b))
        for name, backend in backends.items()
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    products = bare_products(model, n)
    keras = keras_padded(model, keras_genes) * n
    click.echo(
        f"{n} genes, {len(model.outputs)} outputs; loading {loading:.2f} s; "
        f"peak memory {peak:.2f} GB"
    )
    click.echo("back end\tseconds\tratio to bare products\tKeras padded / this")
    for name, seconds in ours.items():
        click.echo(f"{name}\t{seconds:.2f}\t{seconds / products:.2f}\t{keras / seconds:.0f}")
    click.echo(f"bare products\t{products:.2f}\t1.00\t{keras / products:.0f}")
    click.echo(f"Keras padded\t{keras:.0f} (from {keras_genes} genes)\t{keras / products:.0f}\t1")


if __name__ == "__main__":
    main()
