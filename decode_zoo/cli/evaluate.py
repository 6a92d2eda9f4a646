"""``decode-zoo evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.evaluation.agreement import Evaluation
    from decode_zoo.model import Model

__all__ = ["evaluate"]

_PREPARED = "expression.tsv.gz"


@click.command()
@click.argument("expression", type=options.FILE)
@options.model
@click.option(
    "--scale",
    type=click.Choice(["tpm", "log2tpm", "log2"]),
    help="What a file holds: TPM, log2(TPM + 0.25), or the latter normalised.",
)
@click.option(
    "--genes",
    type=options.FILE,
    help="Genes to compare (default: those of the chromosomes that the model was tested on).",
)
@click.option(
    "--against",
    metavar="ID|DIR",
    help="A model of another tissue; are donors the same in both? Needs --against-expression.",
)
@click.option("--against-expression", type=options.FILE, help="What was measured in that tissue.")
@click.option(
    "--donors",
    type=options.FILE,
    help="Table of samples and donors (default: the first two fields of GTEx names).",
)
@click.option("--seed", default=0, show_default=True, help="Of bootstrap and permutations.")
@click.option(
    "-o", "--output", type=options.FILE, required=True, metavar="DIR", help="Folder to write."
)
@click.option("--force", is_flag=True, help="Replace an existing evaluation.")
def evaluate(  # one parameter an option
    expression: Path,
    model_id: str,
    scale: str | None,
    genes: Path | None,
    against: str | None,
    against_expression: Path | None,
    donors: Path | None,
    seed: int,
    output: Path,
    force: bool,
) -> None:
    """Compare predictions with measured expression, beside controls.

    EXPRESSION is a folder that 'decode-zoo cohort prepare' made, or a matrix of genes × outputs
    (--scale) whose columns are named as the model's outputs.

    DIR gets outputs.tsv, genes.tsv, matrix.tsv.gz, summary.json and evaluation.html: rho of each
    output over genes, with the measurements of other outputs, of RNA length and the number of bound
    tracks alone; which prediction goes with which output best; the genes that differ between
    outputs as predicted.

    \b
    Example:
      decode-zoo evaluate cohort --model ./lcl-v1 -o lcl-evaluation
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.evaluation.comparison import donor_concordance, write_evaluation

    if (against is None) != (against_expression is None):
        raise UsageError("--against and --against-expression go together.")
    files = [expression, genes, against_expression, donors]
    options.check_inputs_kept([output], [model_id, *(file for file in files if file)])
    model = dz.load(model_id)
    found, chosen = _evaluated(model, expression, scale, genes, seed)
    concordance = None
    if against is not None and against_expression is not None:
        other, _ = _evaluated(dz.load(against), against_expression, scale, genes, seed)
        concordance = donor_concordance(found, other, _donors(donors))
    with options.named_in_errors(output):
        write_evaluation(
            found, model, output, genes=chosen, command=["decode-zoo", *sys.argv[1:]],
            inputs=[_matrix(file) for file in files if file], donors=concordance, force=force,
        )  # fmt: skip
    summary = found.summary
    low, high = summary["interval_95"]
    click.echo(
        f"{options.counted(summary['outputs'], 'output')}, {summary['genes']:,} genes: Spearman's "
        f"rho {summary['fold_change_spearman']:.3f} ({low:.3f} to {high:.3f}), with other outputs "
        f"{summary['other_outputs_spearman']:.3f}, median {summary['median_spearman']:.3f}",
        err=True,
    )
    click.echo(str(output))


def _matrix(path: Path) -> Path:
    return path / _PREPARED if path.is_dir() else path


def _evaluated(
    model: Model, expression: Path, scale: str | None, genes: Path | None, seed: int
) -> tuple[Evaluation, str]:
    """Evaluate a model; with words for the genes that were taken."""
    import decode_zoo as dz
    from decode_zoo.evaluation.comparison import evaluate_model, held_out_genes
    from decode_zoo.genelist import read_gene_list

    if expression.is_dir():
        scale = "log2"
    elif scale is None:
        raise UsageError(
            f"Say what {expression} holds: --scale tpm|log2tpm|log2.",
            remedy="Or give a folder that 'decode-zoo cohort prepare' made.",
        )
    targets = dz.make_targets(
        dz.read_expression(_matrix(expression)),
        scale=scale,  # type: ignore[arg-type]
        min_tpm=0,
    )
    if genes is None:
        chroms = ", ".join(f"chr{name}" for name in model.manifest.training["selection"]["test"])
        return evaluate_model(model, targets, held_out_genes(model), seed=seed), f"on {chroms}"
    asked = read_gene_list(genes)
    resolved = model.features.index.resolve(asked)
    names = [gene for gene, row in zip(resolved.gene_ids, resolved.rows, strict=True) if row >= 0]
    return evaluate_model(model, targets, names, seed=seed), f"of {genes.name}"


def _donors(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    from decode_zoo.textfile import read_table

    return {cells[0]: cells[1] for cells in read_table(path) if len(cells) > 1}
