"""``decode-zoo study traits``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.studies.traits import RegulatorGenes, TraitStudy

__all__ = ["traits"]


@click.command()
@options.model
@click.argument("expression", type=options.FILE)
@click.option(
    "--persons",
    type=options.FILE,
    help="TSV: names of persons, then their traits.",
)
@options.codes
@click.option("--trait", type=options.NAME, required=True, help="Column of --persons to study.")
@click.option(
    "--covariates", metavar="NAME,…", help="Columns of --persons that effects are adjusted for."
)
@click.option(
    "--genes",
    type=options.FILE,
    metavar="FILE",
    help="Genes to study (default: those that the model was tested on).",
)
@click.option("--all-genes", is_flag=True, help="Study all genes of EXPRESSION.")
@click.option(
    "--regulator-genes",
    type=click.Choice(["all", "de"]),
    default="all",
    show_default=True,
    help="Average a regulator's scores over all of these genes, or those related to the trait.",
)
@click.option(
    "--fdr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Largest false discovery rate of what counts as related.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How often persons are dealt out anew, for comparison.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.new_folder
def traits(
    model_id: str,
    expression: Path,
    persons: Path | None,
    codes: Path | None,
    trait: str,
    covariates: str | None,
    genes: Path | None,
    all_genes: bool,
    regulator_genes: RegulatorGenes,
    fdr: float,
    permutations: int,
    seed: int,
    output: Path,
) -> None:
    """Relate a trait to expression, its prediction, and regulators.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × persons of
    log2(TPM + 0.25), with --persons; MODEL predicts the same persons. Persons are matched by name;
    those who are not in model, matrix and --persons, or lack a value, are left out and counted.

    A trait of numbers, or of brackets such as 50-59, which stand for their middles, is a slope; one
    of two levels is the second, in alphabetical order, against the first. Each gene has a linear
    model of its own, with variances moderated as in limma.

    The folder holds expression.tsv, predicted.tsv and regulators.tsv (effect, mean, t, p, q),
    summary.json with the concordance of expression and prediction, and traits.html.

    \b
    Example:
      decode-zoo study traits --model ./my-cohort-v1 cohort --trait sex --covariates age -o sex
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.cohort import read_persons
    from decode_zoo.cohort.codes import read_codes
    from decode_zoo.cohort.folder import EXPRESSION, PERSONS
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of
    from decode_zoo.studies.traits import check_extras, study_traits

    if expression.is_dir():
        persons = expression / PERSONS if persons is None else persons
        expression = expression / EXPRESSION
    if persons is None:
        raise UsageError("A matrix needs a table of persons.", remedy="--persons FILE")
    if all_genes and genes is not None:
        raise UsageError("Give either a file of genes or --all-genes.")
    options.check_inputs_kept([output], [model_id, expression, persons, genes, codes])
    check_extras()
    with options.named_in_errors(output), atomic_dir(output) as folder:
        matrix, table = dz.read_expression(expression), read_persons(persons)
        if codes is not None:
            known = read_codes(codes)
            matrix, table = matrix.rename(columns=known), table.rename(index=known)
        listed = None if genes is None else read_gene_list(genes)
        model = dz.load(model_id)
        with options.progress("explaining") as tell:
            study = study_traits(
                model,
                matrix,
                table,
                trait,
                covariates=options.split_names(covariates) or (),
                genes=[str(name) for name in matrix.index] if all_genes else listed,
                regulator_genes=regulator_genes,
                fdr=fdr,
                permutations=permutations,
                seed=seed,
                command=["decode-zoo", *sys.argv[1:]],
                facts={
                    "requested_model": model_id,
                    "expression": origin_of(expression),
                    "persons": origin_of(persons),
                    "genes": origin_of(genes),
                    "codes": origin_of(codes),
                },
                progress=tell,
            )
        study.fill(folder)
    _report(study)
    click.echo(str(output))


def _report(study: TraitStudy) -> None:
    """Say on stderr what was studied, and what came of it."""
    tell, summary = partial(click.echo, err=True), study.summary
    persons, found = summary["persons"], summary["concordance"]
    lacking = len(persons["without_value"])
    tell(
        f"{options.counted(persons['n'], 'person')} (the model has {persons['of_model']}, the "
        f"matrix {persons['of_expression']}, the table {persons['of_table']}; "
        f"{lacking} without a value), {options.counted(summary['genes']['n'], 'gene')} "
        f"{summary['genes']['chosen']}"
    )
    tested = summary["genes"]["tested_on"]
    if tested is not None and tested < summary["genes"]["n"]:
        tell(
            f"the model was tested on {tested:,} of these genes; of the others it may know the "
            "expression"
        )
    for name, coding in summary["coding"].items():
        tell(f"{name}: {coding}")
    low, high = found["interval_95"]
    others, chance = found["other_persons"], found["random_traits"]
    if others["p"] is not None:
        tell(
            f"t statistics of expression and prediction: Spearman's rho {found['spearman']:.3f} "
            f"({low:.3f} to {high:.3f}); with other persons {others['mean']:.3f} "
            f"(p = {others['p']:.2g}), with random traits {chance['mean']:.3f} "
            f"(p = {chance['p']:.2g}), at equal RNA length {found['spearman_given_rna_length']:.3f}"
        )
    tell(
        f"related at FDR {summary['fdr']:g}: {summary['expression']['related']} genes by "
        f"expression, {summary['predicted']['related']} by prediction, "
        f"{summary['regulators']['related']} of {summary['regulators']['n']} regulators"
    )
