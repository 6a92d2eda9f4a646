"""``decode-zoo train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from decode_zoo.cli import options
from decode_zoo.errors import InputError, UsageError

__all__ = ["train"]


@click.command()
@click.option(
    "--family",
    type=click.Choice(["perceptron", "decode"]),
    default="perceptron",
    show_default=True,
    help="Kind of network, see above.",
)
@click.option("--features", "features_source", type=options.NAME, required=True, metavar="ID|DIR")
@click.option(
    "--expression",
    type=options.FILE,
    required=True,
    help="TSV: gene ids, then one column a tissue or sample.",
)
@click.option(
    "--scale",
    type=click.Choice(["tpm", "log2tpm"]),
    required=True,
    help="Whether values are TPM or log2(TPM + 0.25).",
)
@click.option(
    "--id", "model_id", required=True, help="Id of the new model, with version: my-tissue-v1."
)
@click.option("--title", help="A line that says what it predicts (default: the id).")
@click.option(
    "--license", "license_id", required=True, help="Licence of the model, e.g. CC-BY-4.0."
)
@click.option("--citation", required=True, help="What to cite, e.g. 'Doe, unpublished, 2026'.")
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
@click.option(
    "--min-tpm",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Drop genes that no tissue or sample expresses above this.",
)
@click.option("--split-seed", default=0, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    metavar="N",
    help="Networks to train: members of a perceptron (default 3), candidates of decode (10).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A hyper-parameter, see above; may be given several times.",
)
@click.option(
    "-o",
    "--output",
    type=options.FILE,
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
    title: str | None,
    license_id: str,
    citation: str,
    kinds: str | None,
    test_chrom: tuple[str, ...],
    absent_chrom: tuple[str, ...],
    min_genes: int,
    min_tpm: float,
    split_seed: int,
    repeats: int | None,
    settings: tuple[str, ...],
    output: Path,
    force: bool,
) -> None:
    """Train a model on a feature set and an expression matrix; write a bundle.

    The bundle has all that 'decode-zoo publish' asks for; its card, CARD.md, has headings to be
    filled in. With --force the prose of a former card stays.

    Families: 'perceptron' learns from the square roots of position sums, and predicts the mean of
    its members; 'decode' is the published network, of which the candidate with the least validation
    loss is kept.

    Hyper-parameters are set by name, as in --set epochs=20. Those most often changed:

    \b
      perceptron  encoder_width dense_width dense_dropout learning_rate batch_size epochs
      decode      rna_channels promoter_channels conv_relu dense_width learning_rate max_epochs

    A name that the family does not have lists all that it has, with their defaults.

    \b
    Example:
      decode-zoo train --features my-sites-v1 --expression tpm.tsv --scale tpm --id my-tissue-v1 \\
          --license CC-BY-4.0 --citation 'Doe et al. 2026' -o my-tissue-v1
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.artifact import check_versioned
    from decode_zoo.files import sha256_of
    from decode_zoo.training import import_keras
    from decode_zoo.training.dataset import Selection
    from decode_zoo.training.entry import check_entry
    from decode_zoo.training.pipeline import Description, train_bundle
    from decode_zoo.training.settings import read_settings

    network, fit = read_settings(family, settings, repeats)
    options.check_inputs_kept([output], [features_source, expression])
    logging.getLogger("decode_zoo.training").setLevel(logging.INFO)
    features = dz.load_features(features_source)
    title = model_id if title is None else title
    try:
        check_entry(model_id, title, license_id, citation, features.name)
    except InputError as error:
        raise UsageError(
            f"--{error.message}.",
            remedy=error.remedy or "Otherwise nobody could publish the model.",
        ) from error
    try:
        check_versioned(features.name)
    except InputError:
        click.echo(
            f"To be published, this model needs a published feature set, whose id has a version; "
            f"that of {features_source} would be its name, '{features.name}'.",
            err=True,
        )
    import_keras()
    targets = dz.make_targets(
        dz.read_expression(expression),
        scale=scale,  # type: ignore[arg-type]
        min_tpm=min_tpm,
    )
    description = Description(
        model_id,
        title,
        license_id,
        citation,
        (str(expression.name),),
        features.name,
        {expression.name: sha256_of(expression)},
        ("decode-zoo", *sys.argv[1:]),
    )
    with options.named_in_errors(output):
        model = train_bundle(
            features,
            targets,
            output,
            description,
            network=network,
            fit=fit,
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
        click.echo(f"{part}: Spearman's rho {model.manifest.spearman_text(part)}", err=True)
    click.echo(str(output))
