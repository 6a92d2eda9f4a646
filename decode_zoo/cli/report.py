"""``decode-zoo report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.report import Report

__all__ = ["report"]


@click.command()
@options.model
@click.argument("genes", type=options.FILE)
@click.option(
    "-o",
    "--output",
    required=True,
    type=options.FILE,
    help="The page to write: a name that ends in .html.",
)
@click.option("--title", help="Heading of the page (default: the number of genes).")
@click.option(
    "--study",
    "studies",
    type=options.FILE,
    multiple=True,
    metavar="DIR",
    help="A folder that 'decode-zoo study' made, as a section of the page; may be repeated.",
)
@options.outputs
@options.background
@options.features
@options.fill_missing
@click.option("--force", is_flag=True, help="Replace an existing page.")
def report(
    model_id: str,
    genes: Path,
    output: Path,
    title: str | None,
    studies: tuple[Path, ...],
    outputs: str | None,
    background: Path | None,
    features_source: str | None,
    fill_missing: bool,
    force: bool,
) -> None:
    """Write an interactive page about the genes in GENES (first column; '-' is stdin).

    One HTML file that needs no network: predictions as a heat map, the regulators behind them, each
    gene's sites along promoter and RNA, and where all of it comes from. At most 5,000 genes; the
    first 300 (with 54 outputs; more with fewer) are shown one by one.

    \b
    Examples:
      decode-zoo report --model gtex-tissue-v1 genes.tsv -o report.html
      decode-zoo report --model gtex-tissue-v1 genes.tsv --outputs Liver,Lung -o report.html
    """  # noqa: D301
    from decode_zoo.report import build_report, check_page

    if str(genes) == str(background) == "-":
        raise UsageError("Only one list of genes can come from standard input.")
    check_page(output, force)

    import decode_zoo as dz
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of, provenance_path

    options.check_inputs_kept([output, provenance_path(output)], [genes, background, *studies])
    queries = read_gene_list(genes)
    against = None if background is None else read_gene_list(background)
    model = dz.load(model_id)
    own = dz.load_features(features_source) if features_source else None
    with options.progress("explaining", len(queries)) as tell:
        made = build_report(
            model,
            queries,
            outputs=options.split_names(outputs),
            background=against,
            features=own,
            fill_missing=fill_missing,
            title=title,
            studies=studies,
            command=["decode-zoo", *sys.argv[1:]],
            facts={
                "requested_model": model_id,
                "genes": origin_of(genes),
                "background_genes": origin_of(background),
                "studies": [origin_of(folder / "summary.json") for folder in studies],
            },
            progress=tell,
        )
    made.write(output, force=force)
    _report(made, output)
    options.tell_beside(queries, own or model.features)


def _report(made: Report, output: Path) -> None:
    """Say on stderr what came of the rows."""
    size = output.stat().st_size / 1e6
    click.echo(f"{output}: {options.statuses(made.table['status'])}, {size:.1f} MB", err=True)
    options.tell_missing(made.missing)
    if made.no_positions:
        click.echo(f"Without scores by position: {made.no_positions}", err=True)
    if hint := made.table.attrs["hint"]:
        click.echo(hint, err=True)
