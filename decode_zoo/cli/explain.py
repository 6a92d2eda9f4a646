"""``decode-zoo explain``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.attribution import By
    from decode_zoo.explainer import Explainer
    from decode_zoo.model import Asked

__all__ = ["explain"]


@click.command()
@options.model
@options.genes
@options.all_genes
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    help="Output file: .tsv, .tsv.gz, .csv, .parquet or .h5ad (default: TSV on stdout).",
)
@options.outputs
@click.option(
    "--by",
    type=click.Choice(["class", "regulator", "track", "position"]),
    default="regulator",
    show_default=True,
    help="What scores are given for; by position, the bins of each track (needs sites.npz).",
)
@click.option("--top", type=int, metavar="K", help="Only the K strongest per gene and output.")
@click.option("--summary", is_flag=True, help="Only means over genes; not with --top.")
@options.background
@options.features
@options.fill_missing
@click.option("--force", is_flag=True, help="Replace existing output files.")
def explain(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    output: Path | None,
    outputs: str | None,
    by: By,
    top: int | None,
    summary: bool,
    background: Path | None,
    features_source: str | None,
    fill_missing: bool,
    force: bool,
) -> None:
    """Say which regulators the predictions for the genes in GENES come from.

    Scores (DeepLIFT's rescale rule, in the output's unit) say how much each regulator adds to a
    prediction, compared with a gene without sites. The table is long: gene_id, symbol, output,
    class, regulator[, track[, bin]], score; what is not in it is zero. Beside it, NAME.totals.tsv
    holds each prediction, the reference, the sum of scores and what it misses. Large tables are
    written in chunks: repeat a call that was killed, and it goes on where it stopped.

    \b
    Examples:
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --outputs Liver --top 10
      decode-zoo explain --model gtex-tissue-v1 --all-genes --by track -o scores.parquet
      decode-zoo explain --model gtex-tissue-v1 genes.tsv --summary -o summary.tsv
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.chunks import (
        check_attributions,
        print_attributions,
        totals_path,
        write_attributions,
    )
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of, provenance, provenance_path
    from decode_zoo.scorefiles import Selection

    if all_genes == (genes is not None):
        raise UsageError("Give either a file of genes or --all-genes.")
    if str(genes) == str(background) == "-":
        raise UsageError("Only one list of genes can come from standard input.")
    selection = Selection(top, summary)
    check_attributions(output, by, selection, force=force)
    if output is not None and str(output) != "-":
        written = [output, totals_path(output), provenance_path(output)]
        options.check_inputs_kept(written, [genes, background])
    queries = None if genes is None else read_gene_list(genes)
    against = None if background is None else read_gene_list(background)
    model = dz.load(model_id)
    explainer = model.explainer(
        by=by,
        outputs=options.split_names(outputs),
        background=against,
        features=dz.load_features(features_source) if features_source else None,
        fill_missing=fill_missing,
    )
    asked = model.rows_of(queries, explainer.bound)
    rows = asked.rows
    if output is None or str(output) == "-":
        largest = print_attributions(explainer, rows, selection)
    else:
        record = provenance(
            ["decode-zoo", *sys.argv[1:]],
            requested_model=model_id,
            genes=origin_of(genes),
            not_explained=asked.lost,
            **explainer.description(),
        )
        with click.progressbar(
            length=rows.size, label="explaining", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            largest = write_attributions(
                explainer,
                rows,
                output,
                selection,
                provenance=record,
                force=force,
                progress=bar.update,
            )
    _report(asked, explainer, largest)
    options.tell_beside(queries, explainer.bound.features)


def _report(asked: Asked, explainer: Explainer, largest: float) -> None:
    """Say on stderr what came of the genes."""
    count = Counter(asked.lost.values())
    level = explainer.bound.features.layout.level
    lost = "".join(f", {number} {name}" for name, number in count.items())
    click.echo(
        f"{options.counted(asked.rows.size, level)} explained{lost}; "
        f"largest |prediction - reference - sum of scores|: {largest:.1e}",
        err=True,
    )
    options.tell_missing(explainer.bound.missing)
    if asked.hint:
        click.echo(asked.hint, err=True)
