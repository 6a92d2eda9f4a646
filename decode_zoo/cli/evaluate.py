"""``decode-zoo evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import InputError, UsageError

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
@options.codes
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
    codes: Path | None,
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
    from decode_zoo.cohort.codes import read_codes
    from decode_zoo.evaluation.comparison import donor_concordance, fill_evaluation
    from decode_zoo.files import atomic_dir

    if (against is None) != (against_expression is None):
        raise UsageError("--against and --against-expression go together.")
    files = [expression, genes, against_expression, donors, codes]
    options.check_inputs_kept([output], [model_id, *(file for file in files if file)])
    with options.named_in_errors(output), atomic_dir(output, force) as folder:
        known = _donors(donors)
        named = {} if codes is None else read_codes(codes)
        model = dz.load(model_id)
        found, chosen = _evaluated(model, expression, scale, genes, seed, named)
        concordance = None
        if against is not None and against_expression is not None:
            other, _ = _evaluated(dz.load(against), against_expression, scale, genes, seed)
            concordance = donor_concordance(found, other, known)
        fill_evaluation(
            found,
            model,
            folder,
            genes=chosen,
            command=["decode-zoo", *sys.argv[1:]],
            inputs=[_matrix(file) for file in files if file],
            donors=concordance,
        )
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
    model: Model,
    expression: Path,
    scale: str | None,
    genes: Path | None,
    seed: int,
    codes: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Evaluation, str]:
    """Evaluate a model, and say whom it shares; with words for the genes that were taken."""
    import decode_zoo as dz
    from decode_zoo.evaluation.comparison import evaluate_model, held_out_genes
    from decode_zoo.expression import MEDIAN
    from decode_zoo.genelist import read_gene_list

    if expression.is_dir():
        scale = "log2"
    elif scale is None:
        raise UsageError(
            f"Say what {expression} holds: --scale tpm|log2tpm|log2.",
            remedy="Or give a folder that 'decode-zoo cohort prepare' made.",
        )
    targets = dz.make_targets(
        dz.read_expression(_matrix(expression)).rename(columns=dict(codes)),
        scale=scale,  # type: ignore[arg-type]
        min_tpm=0,
    )
    both = [{*names} - {MEDIAN} for names in (model.outputs, targets.names)]
    click.echo(
        f"{model.id} has {options.counted(len(both[0]), 'output')}, the matrix {len(both[1])}; "
        f"{len(both[0] & both[1])} are in both",
        err=True,
    )
    if genes is None:
        names = held_out_genes(model)
        chroms = model.manifest.training.get("selection", {}).get("test", ())
        listed = ", ".join(f"chr{name}" for name in chroms)
        chosen = f"on {listed}" if chroms else "held out of training"
        return evaluate_model(model, targets, names, seed=seed), chosen
    asked = read_gene_list(genes)
    resolved = model.features.index.resolve(asked)
    names = [gene for gene, row in zip(resolved.gene_ids, resolved.rows, strict=True) if row >= 0]
    return evaluate_model(model, targets, names, seed=seed), f"of {genes.name}"


def _donors(path: Path | None) -> dict[str, str] | None:
    """Donors by sample."""
    if path is None:
        return None
    from decode_zoo.textfile import read_table

    donors: dict[str, str] = {}
    for line, row in enumerate(read_table(path), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) < 2 or not (cells[0] and cells[1]):
            raise InputError(
                "names no sample and its donor",
                path=path,
                line=line,
                remedy="Give two cells a line, separated by a tab.",
            )
        if cells[0] in donors:
            raise InputError(
                f"sample '{cells[0]}' occurs twice",
                path=path,
                line=line,
                remedy="Keep one line a sample.",
            )
        donors[cells[0]] = cells[1]
    return donors
