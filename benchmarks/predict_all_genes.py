"""All genes × all outputs: how long, against Keras on padded matrices and bare matrix products.

    python benchmarks/predict_all_genes.py [--model gtex-tissue-v1] [--keras-genes 1024]

Prints one table of ratios from one run. Keras predicts a sample of genes the way the original
software does: full-length matrices in batches of 128, padded to the longest gene of the batch. The
matrices are made beforehand, so their making is not counted against Keras. The bare products are
the network's own layers as float32 matrix products on inputs that are already there.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import click
import numpy as np

import decode_zoo as dz
from decode_zoo.runtime import BLOCK
from decode_zoo.training import import_keras

BATCH = 128


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Least seconds of some runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def bare_products(model: dz.Model, n_genes: int) -> float:
    """Seconds for the network's matrix products alone, block by block, layer by layer."""
    rng = np.random.default_rng(0)
    weights, config = model.network.weights, model.manifest.network
    steps = []
    for side, layers in (("rna", config.rna_layers), ("promoter", config.promoter_layers)):
        positions = config.kernels[side]
        for i in range(layers):
            kernel = weights[f"{side}_conv{i}/kernel"]
            positions -= len(kernel) - 1
            steps.append((BLOCK * positions, kernel.reshape(-1, kernel.shape[2])))
    for name in (*(f"dense{i}" for i in range(config.dense_layers)), "outputs"):
        steps.append((BLOCK, weights[f"{name}/kernel"]))
    pairs = [(rng.random((rows, w.shape[0]), dtype=np.float32), w) for rows, w in steps]

    def work() -> None:
        for x, w in pairs:
            x @ w

    work()
    return best_of(20, work) * n_genes / BLOCK


def keras_padded(model: dz.Model, n_genes: int) -> float:
    """Seconds a gene for Keras `predict` on batches padded to their longest gene."""
    import_keras()
    from decode_zoo.training.decode import build_network
    from decode_zoo.training.fit import set_layer_weights

    network, features = model.network, model.features
    bound = model.bind()
    channels = {side: len(scale) for side, scale in network.input_scale.items()}
    keras_model = build_network(network.config, channels, len(network.output_scale))
    set_layer_weights(keras_model, dict(network.weights))
    rows = np.random.default_rng(0).choice(len(features), n_genes, replace=False)
    seconds = 0.0
    for i in range(0, n_genes, BATCH):
        batch, full = {}, bound.full(rows[i : i + BATCH])
        for side in ("rna", "promoter"):
            dense = full[side]
            batch[side] = (dense / network.input_scale[side]).astype(np.float32)
        keras_model.predict(batch, verbose=0)  # tracing and first sight of a shape do not count
        start = time.perf_counter()
        keras_model.predict(batch, verbose=0)
        seconds += time.perf_counter() - start
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
