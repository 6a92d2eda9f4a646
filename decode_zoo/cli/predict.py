"""``decode-zoo predict``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.cli import options
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.layout import Side
    from decode_zoo.runtime import BackendName, Device

__all__ = ["predict"]


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
@options.features
@options.fill_missing
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="With cuda: all of it there, or an error.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "onnxruntime", "numpy"]),
    default="auto",
    show_default=True,
)
@click.option("--force", is_flag=True, help="Replace an existing output file.")
def predict(
    model_id: str,
    genes: Path | None,
    all_genes: bool,
    output: Path | None,
    outputs: str | None,
    features_source: str | None,
    fill_missing: bool,
    device: Device,
    backend: BackendName,
    force: bool,
) -> None:
    """Predict expression of the genes in GENES (first column; '-' is stdin).

    Genes are Ensembl ids (with or without version), symbols or aliases. The result has one row for
    each input row, in input order: gene_id, symbol, status, then the outputs.

    \b
    Examples:
      decode-zoo predict --model gtex-tissue-v1 genes.tsv -o predictions.tsv
      printf 'TP53\\nGATA1\\n' | decode-zoo predict --model gtex-tissue-v1 - --outputs Whole_Blood
    """  # noqa: D301
    import decode_zoo as dz
    from decode_zoo.genelist import read_gene_list
    from decode_zoo.provenance import origin_of, provenance, provenance_path
    from decode_zoo.tables import check_output, write_table

    if all_genes == (genes is not None):
        raise UsageError("Give either a file of genes or --all-genes.")
    check_output(output, force)
    if output is not None:
        options.check_inputs_kept([output, provenance_path(output)], [genes])
    queries = None if genes is None else read_gene_list(genes)
    model = dz.load(model_id)
    own = dz.load_features(features_source) if features_source else None
    bound = model.bind(own, fill_missing=fill_missing)
    table = model.predict(
        queries,
        features=own,
        outputs=options.split_names(outputs),
        fill_missing=fill_missing,
        backend=backend,
        device=device,
    )
    used = model.backend(backend, device)
    write_table(
        table,
        output,
        provenance=provenance(
            ["decode-zoo", *sys.argv[1:]],
            requested_model=model_id,
            genes=origin_of(genes),
            **model.provenance(bound, used),
        ),
        force=force,
        id_columns=list(table.columns[:3]),
        units={item.name: item.unit for item in model.manifest.outputs if item.name in table},
    )
    _report(table["status"].tolist(), table.attrs["hint"], bound.missing, used.name)
    options.tell_beside(queries, bound.features)


def _report(
    status: Sequence[str], hint: str | None, missing: Mapping[Side, Sequence[str]], backend: str
) -> None:
    """Say on stderr what came of the rows."""
    click.echo(f"{options.statuses(status)}, {backend}", err=True)
    options.tell_missing(missing)
    if hint:
        click.echo(hint, err=True)
