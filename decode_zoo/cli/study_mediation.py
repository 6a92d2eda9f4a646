"""``decode-zoo study mediation``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.studies.findings import Findings, Format

__all__ = ["mediation"]


@click.command()
@click.argument("expression", type=options.FILE)
@click.option(
    "--pair", type=options.NAME, required=True, metavar="GENE,GENE", help="The two genes."
)
@click.option(
    "--regulators",
    type=options.NAME,
    required=True,
    metavar="NAME,…|FILE",
    help="Regulators to regress out, by symbol or gene id.",
)
@click.option(
    "--features",
    "features_source",
    type=options.NAME,
    default="hg38-open-v2",
    show_default=True,
    metavar="ID|DIR",
    help="Feature set whose TFs and RBPs are what random sets are drawn from.",
)
@click.option(
    "--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Random sets."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.table_format
@options.new_folder
def mediation(
    expression: Path,
    pair: str,
    regulators: str,
    features_source: str,
    draws: int,
    seed: int,
    table_format: Format,
    output: Path,
) -> None:
    """Test whether regulators account for the co-expression of two genes.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × persons of
    log2(TPM + 0.25). No model is used: the measured expression of the regulators is regressed out
    of that of both genes, and what is left of their squared correlation is compared with what as
    many random regulators leave.

    The folder holds regulators (each alone), random_sets, histogram.svg, summary.json and
    index.html.

    \b
    Example:
      decode-zoo study mediation cohort --pair LAPTM5,CD53 --regulators SPI1,RUNX3 -o mediation
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort.folder import EXPRESSION
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.studies.mediation import study_mediation

    genes = options.split_names(pair) or []
    if len(genes) != 2 or not all(genes):
        raise UsageError(f"--pair names two genes, not '{pair}'.", remedy="--pair LAPTM5,CD53")
    if expression.is_dir():
        expression = expression / EXPRESSION
    listed = Path(regulators) if Path(regulators).is_file() else None
    options.check_inputs_kept([output], [expression, listed, features_source])
    check_extras(table_format)
    with options.named_in_errors(output), atomic_dir(output) as folder:
        names = options.split_names(regulators) if listed is None else read_gene_list(listed)
        found = study_mediation(
            dz.read_expression(expression),
            genes,
            [name for name in names or [] if name],
            dz.load_features(features_source),
            draws=draws,
            seed=seed,
            command=["decode-zoo", *sys.argv[1:]],
            facts={"expression": origin_of(expression), "regulators": origin_of(listed)},
        )
        found.fill(folder, table_format)
    _report(found)
    click.echo(str(output))


def _report(found: Findings) -> None:
    """Say on stderr what was tested, and what came of it."""
    tell, numbers = partial(click.echo, err=True), found.numbers
    for name, status in numbers["left_out"].items():
        tell(f"left out: {name} ({status})")
    random = numbers["random_sets"]
    low, high = random["interval_95"]
    tell(
        f"{' and '.join(numbers['pair'])}, {options.counted(numbers['persons'], 'person')}: "
        f"R2 {numbers['r2']:.3f}, given {options.counted(random['size'], 'regulator')} "
        f"{numbers['r2_left']:.3f}; given as many of {random['of_regulators']:,} others "
        f"{random['mean']:.3f} ({low:.3f} to {high:.3f}), p = {numbers['p']:.2g}"
    )
