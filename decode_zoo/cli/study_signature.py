"""``decode-zoo study signature``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.studies.findings import Format
    from decode_zoo.studies.signature import SignatureStudy
    from decode_zoo.studies.signature.lists import Direction

__all__ = ["signature"]

_SIDES: dict[str, Literal["promoter", "rna"]] = {"tf": "promoter", "rna": "rna"}


@click.command()
@click.argument("genes", metavar="[LIST]", required=False, type=options.FILE)
@click.option("--gmt", type=options.FILE, metavar="FILE", help="Many signatures (GMT) at once.")
@click.option(
    "--direction",
    type=click.Choice(["both", "up", "down"]),
    default="both",
    show_default=True,
    help="Which genes of a table to take.",
)
@click.option(
    "--regulators",
    type=click.Choice(list(_SIDES)),
    default="tf",
    show_default=True,
    help="Rank TFs and cofactors, or RBPs and miRNA families.",
)
@click.option(
    "--background",
    type=options.FILE,
    metavar="FILE",
    help="All genes that could have been in the signature (default: those of a table, else all "
    "that code for proteins).",
)
@click.option(
    "--model",
    "model_id",
    type=options.NAME,
    default="gtex-tissue-v1",
    show_default=True,
    metavar="ID|DIR",
    help="Model of fold changes, with whose features genes are compared.",
)
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    required=True,
    metavar="FILE|DIR",
    help="Ranks alone as .tsv, .tsv.gz, .csv or .parquet; else a new folder.",
)
@options.table_format
@click.option("--force", is_flag=True, help="Replace an existing file (never a folder).")
def signature(
    genes: Path | None,
    gmt: Path | None,
    direction: Direction,
    regulators: str,
    background: Path | None,
    model_id: str,
    output: Path,
    table_format: Format,
    force: bool,
) -> None:
    """Rank the regulators that account for a list of genes.

    LIST has a gene a line, or is a table whose header names a gene, a log2 fold change and,
    optionally, a p-value, in this order; '-' is stdin (a list). Of a table, the genes with a false
    discovery rate below 0.05, or without p the tenth that changes most, are taken; 600 at most.

    A regulator ranks high if its sites are in the genes more than their RNA length, the number of
    bound factors, open chromatin and expression let expect; if its own gene is among them; and if
    the model predicts the same for its own gene as for them. The table of ranks has the columns
    signature, regulator, rank, score, p and q (under random sets of genes).

    A folder holds ranks.tsv, details.tsv (evidence), explained.tsv (how well each output of the
    model tells the genes from others), genes.tsv, pictures, summary.json and index.html.

    \b
    Examples:
      decode-zoo study signature genes.txt -o my-genes
      decode-zoo study signature table.tsv --direction up -o up.tsv
      decode-zoo study signature --gmt perturbations.gmt -o ranks.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.files import atomic_dir
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of, provenance, provenance_path
    from decode_zoo.studies.findings import check_extras
    from decode_zoo.studies.signature import (
        read_signature,
        read_signatures,
        study_signatures,
    )
    from decode_zoo.studies.signature.study import COLUMNS
    from decode_zoo.tables import check_output, write_table

    source = gmt if genes is None else genes
    if source is None or (genes is not None and gmt is not None):
        raise UsageError("Give either a list of genes or --gmt FILE.")
    if gmt is not None and direction != "both":
        raise UsageError(
            f"Sets of a GMT file do not say which genes go {direction}.",
            remedy="Leave out --direction.",
        )
    if str(source) == str(background) == "-":
        raise UsageError("Only one list of genes can come from standard input.")
    as_table = _is_table(output)
    if as_table and table_format == "parquet" and output.suffix.lower() != ".parquet":
        raise UsageError(
            f"{output} is a table of its own format.",
            remedy="--format is for folders; end the name in .parquet.",
        )
    if as_table:
        check_output(output, force)
        options.check_inputs_kept(
            [output, provenance_path(output)], [model_id, genes, gmt, background]
        )
    else:
        check_extras(table_format)
        options.check_inputs_kept([output], [model_id, genes, gmt, background])

    def study() -> tuple[SignatureStudy, dict[str, object]]:
        signatures = [read_signature(source, direction)] if gmt is None else read_signatures(source)
        others = None if background is None else read_gene_list(background)
        model = dz.load(model_id)
        found = study_signatures(
            signatures, model.bind().features, model, side=_SIDES[regulators], background=others
        )
        return found, provenance(
            ["decode-zoo", *sys.argv[1:]],
            requested_model=model_id,
            genes=origin_of(genes),
            gmt=origin_of(gmt),
            direction=direction,
            regulators=regulators,
            background=origin_of(background),
            **model.provenance(model.bind(), model.backend("auto")),
        )

    if as_table:
        found, facts = study()
        write_table(found.ranks, output, provenance=facts, force=force, id_columns=COLUMNS[:2])
    else:
        with options.named_in_errors(output), atomic_dir(output) as folder:
            found, facts = study()
            found.findings(facts).fill(folder, table_format)
    _report(found)
    if str(output) != "-":
        click.echo(str(output))


def _is_table(output: Path) -> bool:
    """Tell whether an output is one table, by its name; '-' is standard output."""
    from decode_zoo.tables import suffix_of

    if str(output) == "-":
        return True
    try:
        return bool(suffix_of(output))
    except UsageError:
        return False


def _report(study: SignatureStudy) -> None:
    """Say on stderr what was studied, and what came of it."""
    tell, genes = partial(click.echo, err=True), study.genes
    if len(genes) == 1:
        row = genes.iloc[0]
        tell(
            f"{options.counted(row['given'], 'gene')} given, {row['used']} used, "
            f"{row['unknown']} unknown, {row['outside']} not in the background of "
            f"{study.n_background:,}"
        )
    else:
        tell(
            f"{options.counted(len(genes), 'signature')}, {genes['given'].sum():,} genes given, "
            f"{genes['used'].sum():,} used, {genes['unknown'].sum():,} unknown, "
            f"{genes['outside'].sum():,} not in the background of "
            f"{study.n_background:,}"
        )
    if study.skipped:
        few = [f"{name} ({options.counted(n, 'gene')})" for name, n in study.skipped.items()]
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        tell(
            f"{options.counted(len(few), 'signature')} left out, with too few or too many genes: "
            f"{', '.join(few[:5])}{more}"
        )
    for name in study.names[:5]:
        best = study.of(name)[0].head(5)
        tell(f"{name}: {', '.join(best['regulator'])}")
    if len(study.names) > 5:
        tell(f"… and {len(study.names) - 5} signatures more")
