"""``decode-zoo cohort``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from decode_zoo.cli import options

__all__ = ["cohort"]


@click.group()
def cohort() -> None:
    """Expression of persons: prepare it for fine-tuning."""


@cohort.command()
@click.argument("expression", type=options.FILE)
@click.option(
    "--quantity",
    type=click.Choice(["counts", "tpm", "log2"]),
    required=True,
    help="What the values are; log2 is log2(TPM + 0.25).",
)
@click.option(
    "--persons", type=options.FILE, help="Table of persons: names, then traits (TSV or CSV)."
)
@click.option(
    "--features",
    "features_source",
    type=options.NAME,
    default="hg38-open-v2",
    show_default=True,
    metavar="ID|DIR",
    help="Feature set, for gene ids and exonic lengths.",
)
@click.option(
    "--covariates",
    metavar="NAME,…",
    help="Columns of --persons to regress out of each gene: numbers as slopes, all else as "
    "categories. So are brackets such as 50-59, whose middles 'study traits' takes: give numbers "
    "for a slope.",
)
@click.option(
    "--min-tpm",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Keep genes above this …",
)
@click.option(
    "--min-share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.5,
    show_default=True,
    help="… in this share of the persons or more.",
)
@click.option(
    "--length-bias/--no-length-bias",
    "length_bias",
    default=True,
    show_default=True,
    help="Take out what RNA length explains of each person's differences.",
)
@click.option(
    "-o", "--output", type=options.FILE, required=True, metavar="DIR", help="Folder to write."
)
@click.option("--force", is_flag=True, help="Replace an existing cohort.")
def prepare(  # one parameter an option
    expression: Path,
    quantity: str,
    persons: Path | None,
    features_source: str,
    covariates: str | None,
    min_tpm: float,
    min_share: float,
    length_bias: bool,
    output: Path,
    force: bool,
) -> None:
    """Prepare counts, TPM or log2(TPM + 0.25) of persons for fine-tuning.

    EXPRESSION is a matrix of genes × persons or persons × genes: TSV or CSV, plain or gzip,
    Parquet, or AnnData (.h5ad). Genes are named by Ensembl ids or symbols.

    Counts become TPM by exonic lengths; genes above 1 TPM in half of the persons are kept; then
    log2(TPM + 0.25), quantile normalisation, covariates and length bias regressed out, quantile
    normalisation again.

    DIR gets expression.tsv.gz, persons.tsv, record.json and quality.html: a page of library sizes,
    principal components by trait, outliers, sex by expression, and what became of the genes. It
    names persons.

    \b
    Example:
      decode-zoo cohort prepare counts.tsv --quantity counts --persons persons.tsv -o cohort
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort import prepare_cohort
    from decode_zoo.cohort.folder import write_cohort

    options.check_inputs_kept([output], [expression, persons, features_source])
    features = dz.load_features(features_source)
    prepared = prepare_cohort(
        expression,
        persons,
        features,
        quantity=quantity,  # type: ignore[arg-type]
        covariates=options.split_names(covariates) or (),
        min_tpm=min_tpm,
        min_share=min_share,
        length_bias=length_bias,
    )
    with options.named_in_errors(output):
        quality = write_cohort(
            prepared,
            features,
            output,
            inputs=[file for file in (expression, persons) if file],
            command=["decode-zoo", *sys.argv[1:]],
            force=force,
        )
    genes, people = prepared.expression.shape
    turned = "; persons were its rows" if prepared.facts["transposed"] else ""
    click.echo(
        f"{genes:,} of {prepared.facts['genes']['in_the_file']:,} genes kept, "
        f"{options.counted(people, 'person')}{turned}",
        err=True,
    )
    if again := prepared.facts["genes"].get("duplicate", 0):
        click.echo(
            f"{options.counted(again, 'row')} of genes that had one before: added to it", err=True
        )
    if quality.outliers or quality.sex.differing:
        found = [options.counted(len(quality.outliers), "outlier")]
        if quality.sex.calls and quality.sex.given:
            found.append(f"{len(quality.sex.differing)} of another sex than the table says")
        click.echo(f"look at quality.html: {', '.join(found)}", err=True)
    click.echo(str(output))
