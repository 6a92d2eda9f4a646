"""All genes × all outputs explained: how long, how much memory, against shap.DeepExplainer.

    python -m benchmarks.explain_all_genes [--model gtex-tissue-v1] [--by regulator]

Prints one table of ratios from one run. Genes are explained in chunks and only their summary is
kept. shap explains a random sample of genes, each against the same background, on inputs as long
as the longer of the two. It is given its best case: Keras in single precision, one graph for all
outputs, and the time to make and trace that graph told apart.
"""

from __future__ import annotations

import resource
import time

import click
import numpy as np

import decode_zoo as dz
from decode_zoo.attribution.explainer import Explainer
from decode_zoo.attribution.scores import Summary
from tests.oracle import deep_explainer, manifest_background, padded


def explain_all(explainer: Explainer, chunk: int) -> tuple[float, float]:
    """Seconds for all genes of the feature set, and their largest |delta|."""
    n, largest, total = len(explainer.bound.features), 0.0, None
    start = time.perf_counter()
    for first in range(0, n, chunk):
        attribution = explainer.explain(np.arange(first, min(first + chunk, n)))
        part = Summary.of(attribution)
        total = part if total is None else total + part
        largest = max(largest, attribution.largest_delta)
    return time.perf_counter() - start, largest


def explain_with_shap(model: dz.Model, n_genes: int) -> tuple[float, float]:
    """Seconds a gene for all outputs: without and with the making of the graph."""
    bound = model.bind()
    background = manifest_background(model.manifest)
    rows = np.random.default_rng(0).choice(len(bound.features), n_genes, replace=False)
    traced = making = 0.0
    for row in rows:
        gene, reference = padded(bound.full(np.array([row])), background)
        start = time.perf_counter()
        explain = deep_explainer(model.network, reference, "float32")
        explain(gene)
        made = time.perf_counter()
        explain(gene)
        end = time.perf_counter()
        traced += end - made
        making += made - start
    return traced / n_genes, making / n_genes


@click.command()
@click.option("--model", "model_id", default="gtex-tissue-v1", show_default=True)
@click.option(
    "--by",
    type=click.Choice(["class", "regulator", "track"]),
    default="regulator",
    show_default=True,
)
@click.option("--chunk", default=1024, show_default=True, help="Genes explained at a time.")
@click.option("--shap-genes", default=8, show_default=True, help="Genes that shap explains.")
def main(model_id: str, by: str, chunk: int, shap_genes: int) -> None:
    """Time all genes, and shap on a few, and print ratios."""
    start = time.perf_counter()
    model = dz.load(model_id)
    explainer, n = model.explainer(by=by), len(model.features)
    explainer.explain(np.arange(chunk))
    loading = time.perf_counter() - start
    seconds, delta = explain_all(explainer, chunk)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    traced, making = explain_with_shap(model, shap_genes)
    click.echo(
        f"{n} genes, {len(model.outputs)} outputs, by {by}; loading {loading:.2f} s; "
        f"peak memory {peak:.2f} GB; largest |delta| {delta:.1e}"
    )
    click.echo("method\tseconds for all genes\tms a gene\tratio")
    click.echo(f"decode-zoo\t{seconds:.1f}\t{1e3 * seconds / n:.3f}\t1")
    for name, gene in (("shap, graph there", traced), ("shap, graph made for each gene", making)):
        click.echo(
            f"{name}\t{gene * n:.0f} (from {shap_genes} genes)\t{1e3 * gene:.0f}\t"
            f"{gene * n / seconds:.0f}"
        )


if __name__ == "__main__":
    main()
