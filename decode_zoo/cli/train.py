"""``decode-zoo train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

__all__ = ["train"]


@click.command()
@click.option("--family", type=click.Choice(["decode"]), default="decode", show_default=True)
@click.option("--features", "features_source", required=True, metavar="ID|DIR")
@click.option(
    "--expression",
    type=click.Path(path_type=Path),
    required=True,
    help="TSV: gene ids, then one column a tissue or sample.",
)
@click.option(
    "--scale",
    type=click.Choice(["tpm", "log2tpm"]),
    required=True,
    help="Whether values are TPM or log2(TPM + 0.25).",
)
@click.option("--id", "model_id", required=True, help="Id of the new model, e.g. my-tissue-v1.")
@click.option("--title", default="", help="A line that says what it predicts.")
@click.option(
    "--license", "license_id", required=True, help="Licence of the model, e.g. CC-BY-4.0."
)
@click.option("--citation", default="", help="What to cite.")
@click.option("--kinds", metavar="KIND,…", help="Use only tracks of these kinds.")
@click.option(
    "--test-chrom",
    multiple=True,
    default=["1"],
    show_default=True,
    help="Chromosome to test on, never trained or selected on.",
)
@click.option("--absent-chrom", multiple=True, help="Chromosome to leave out altogether.")
@click.option(
    "--min-genes",
    default=30,
    show_default=True,
    help="Drop tracks with sites in fewer training genes.",
)
@click.option("--split-seed", default=0, show_default=True)
@click.option("--repeats", default=10, show_default=True, help="Networks to train; the best stays.")
@click.option("--max-epochs", default=100, show_default=True)
@click.option("--patience", default=10, show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--rna-channels", default=160, show_default=True)
@click.option("--rna-kernel", default=2, show_default=True)
@click.option("--rna-layers", default=2, show_default=True)
@click.option("--promoter-channels", default=120, show_default=True)
@click.option("--promoter-kernel", default=1, show_default=True)
@click.option("--promoter-layers", default=5, show_default=True)
@click.option(
    "--conv-relu/--no-conv-relu",
    default=False,
    show_default=True,
    help="ReLU after convolutions; needs full matrices, slow.",
)
@click.option("--full-relu/--no-full-relu", default=True, show_default=True)
@click.option("--dense-layers", default=2, show_default=True)
@click.option("--dense-width", default=160, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write the bundle to.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def train(  # one parameter an option
    family: str,
    features_source: str,
    expression: Path,
    scale: str,
    model_id: str,
    title: str,
    license_id: str,
    citation: str,
    kinds: str | None,
    test_chrom: tuple[str, ...],
    absent_chrom: tuple[str, ...],
    min_genes: int,
    split_seed: int,
    repeats: int,
    max_epochs: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    output: Path,
    force: bool,
    **network: int | bool,
) -> None:
    """Train a model on a feature set and an expression matrix; write a bundle."""
    import decode_zoo as dz
    from decode_zoo.digest import sha256_of
    from decode_zoo.network import DecodeConfig
    from decode_zoo.training import import_keras
    from decode_zoo.training.dataset import Selection
    from decode_zoo.training.fit import FitConfig
    from decode_zoo.training.pipeline import Description, train_bundle

    import_keras()
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    targets = dz.make_targets(dz.read_expression(expression), scale=scale)  # type: ignore[arg-type]
    features = dz.load_features(features_source)
    model = train_bundle(
        features,
        targets,
        output,
        Description(
            model_id,
            title or model_id,
            license_id,
            citation,
            (str(expression.name),),
            features.name,
            {expression.name: sha256_of(expression)},
            ("decode-zoo", *sys.argv[1:]),
        ),
        network=DecodeConfig(**network),  # type: ignore[arg-type]
        fit=FitConfig(
            learning_rate, batch_size, max_epochs, patience, tuple(range(1, repeats + 1))
        ),
        selection=Selection(
            kinds=tuple(kind.strip() for kind in kinds.split(",")) if kinds else None,
            test=test_chrom,
            absent=absent_chrom,
            min_genes=min_genes,
            split_seed=split_seed,
        ),
        force=force,
    )
    for part in model.manifest.metrics:
        fold, median = model.manifest.spearman(part)
        click.echo(
            f"{part}: rho {fold:.3f} (fold changes), {median:.3f} (median)",
            err=True,
        )
    click.echo(str(output))
