"""Train and publish gtex-tissue-decode-v1, and score it beside its baselines on chr1.

    python conversion/gtex_tissue_decode_v1.py EXPRESSION zoo/models/gtex-tissue-decode-v1 \
        --scores docs/gtex-tissue-decode-v1.scores.tsv

EXPRESSION is the matrix of log2(TPM + 0.25), genes × 53 GTEx tissues (see the model card). The
feature set is zoo/features/hg38-open-v1. chr1 is looked at once, at the end, and decides nothing.
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks.baselines import bound_counts, fit_ridge, log_sums
from decode_zoo.cohort.expression import make_targets, read_expression
from decode_zoo.core.files import atomic_dir, atomic_path, sha256_of
from decode_zoo.core.tables import check_output
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import Split
from decode_zoo.networks.metrics import score, summarise
from decode_zoo.training.dataset import Dataset, make_dataset
from decode_zoo.training.fit import FitConfig, Repeat
from decode_zoo.training.pipeline import (
    Description,
    best_repeat,
    fit_network,
    make_network,
    predict_part,
    write_bundle,
)

ROOT = Path(__file__).resolve().parent.parent
FEATURES = "hg38-open-v1"
SELECTION = Split(
    # Binding only, as in the paper: no chromatin. Of the two miRNA sources, the paper's.
    kinds=("tf", "rbp", "rbp_other", "mirna"),
    excluded_sources=("miRBase Targets (miRanda predictions), lifted hg18 to hg38",),
    test=("1",),
    absent=("8",),
)
ALPHAS = tuple(10.0**k for k in np.arange(1.0, 6.01, 0.25))


def current_commit() -> str:
    """Commit that this script belongs to, marked if the code differs from it."""
    described = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()


def compare(dataset: Dataset, config: DecodeConfig, repeats: list[Repeat]) -> pd.DataFrame:
    """Spearman's rho by output on validation and chr1 genes, of the network and its baselines."""
    split, scale = dataset.split, np.array([output.scale for output in dataset.outputs])
    networks = [make_network(dataset, config, repeat) for repeat in repeats]
    best = make_network(dataset, config, best_repeat(repeats))
    inputs = {
        part: log_sums(dataset, getattr(split, part)) for part in ("training", "validation", "test")
    }
    y = dataset.targets.values / scale
    ridge = fit_ridge(
        inputs["training"], y[split.training], inputs["validation"], y[split.validation], ALPHAS
    )
    click.echo(f"ridge: alpha {ridge.alpha:g}", err=True)
    tables = []
    for part, rows in (("validation", split.validation), ("test", split.test)):
        predictions = {
            "decode": predict_part(dataset, best, rows),
            "decode_mean_of_repeats": np.mean(
                [predict_part(dataset, network, rows) for network in networks], axis=0
            ),
            "ridge": ridge.predict(inputs[part]) * scale,
            "bound_tf_count": np.repeat(bound_counts(dataset, rows), len(scale), axis=1),
        }
        for name, predicted in predictions.items():
            table = score(predicted, dataset.targets.values[rows], dataset.targets.names)
            # A count has no sign: give it the one that suits each tissue, as a regression would.
            if name == "bound_tf_count":
                fitted = score(
                    np.repeat(bound_counts(dataset, split.training), len(scale), axis=1),
                    dataset.targets.values[split.training],
                    dataset.targets.names,
                )
                table["spearman"] *= np.sign(fitted["spearman"])
            click.echo(f"{part} {name}: {summarise(table)}", err=True)
            table.insert(0, "model", name)
            table.insert(0, "part", part)
            tables.append(table[["part", "model", "output", "n", "spearman"]])
    return pd.concat(tables)


@click.command()
@click.argument("expression", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def main(expression: Path, folder: Path, scores: Path, force: bool) -> None:
    """Train ten repeats, keep the best by validation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_output(scores, force)
    features = FeatureSet.load(ROOT / "zoo/features" / FEATURES)
    targets = make_targets(read_expression(expression))
    config, fit = DecodeConfig(), FitConfig()
    dataset = make_dataset(features, targets, config.kernels, SELECTION)
    description = Description(
        id="gtex-tissue-decode-v1",
        title="Tissue expression from binding sites: the published DEcode network on open data",
        license="BSD-3-Clause",
        citation="Tasaki S, Gaiteri C, Mostafavi S, Wang Y. Deep learning decodes the principles "
        "of differential gene expression. Nat. Mach. Intell. 2:376-386 (2020). "
        "doi:10.1038/s42256-020-0201-6",
        sources=(
            "GTEx expression by tissue, v4 to v7, merged (see card)",
            "ENCODE ChIP-seq peaks: HepG2 consensus; uniform peaks of K562, GM12878, HeLa-S3, "
            "HUVEC, IMR90, NHEK",
            "ENCODE eCLIP peaks (IDR) of K562 and HepG2; older CLIP sets",
            "TargetScan 7.2 conserved miRNA targets, places reconstructed",
        ),
        features_id=FEATURES,
        data={expression.name: sha256_of(expression)},
        command=(
            "python",
            "conversion/gtex_tissue_decode_v1.py",
            expression.name,
            f"zoo/models/{folder.name}",
            "--scores",
            f"docs/{scores.name}",
        ),
        commit=current_commit(),
    )
    with atomic_dir(folder, force) as temporary:
        fitted = fit_network(dataset, config, fit)
        write_bundle(temporary, dataset, fitted, description)
    with atomic_path(scores) as temporary:
        compare(dataset, config, list(fitted.repeats)).to_csv(
            temporary, sep="\t", index=False, float_format="%.4f", lineterminator="\n"
        )


if __name__ == "__main__":
    main()
