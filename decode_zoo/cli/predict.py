"""``decode-zoo predict``."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.digest import sha256_of
from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.layout import Side
    from decode_zoo.runtime import BackendName, Device

__all__ = ["predict"]


@click.command()
@click.option(
    "--model",
    "model_id",
    required=True,
    metavar="ID|DIR",
    help="Model id in the registry, or a folder with a bundle.",
)
@click.argument("genes", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--all-genes", is_flag=True, help="Predict every gene of the feature set.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Output file: .tsv, .tsv.gz, .csv, .parquet or .h5ad (default: TSV on stdout).",
)
@click.option("--outputs", metavar="NAME,…", help="Only these outputs, e.g. Liver,Whole_Blood.")
@click.option(
    "--features",
    "features_source",
    metavar="ID|DIR",
    help="A feature set of your own (default: the model's).",
)
@click.option(
    "--fill-missing",
    is_flag=True,
    help="Take tracks that --features lacks as without sites, and report them.",
)
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
    from decode_zoo.provenance import provenance
    from decode_zoo.tables import check_output, write_table

    if all_genes == (genes is not None):
        raise UsageError("Give either a file of genes or --all-genes.")
    check_output(output, force)
    queries = None if genes is None else read_gene_list("-" if str(genes) == "-" else genes)
    model = dz.load(model_id)
    own = dz.load_features(features_source) if features_source else None
    bound = model.bind(own, fill_missing=fill_missing)
    chosen = None if outputs is None else [name.strip() for name in outputs.split(",")]
    table = model.predict(
        queries,
        features=own,
        outputs=chosen,
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
            genes=_origin(genes),
            **model.provenance(bound, used),
        ),
        force=force,
        id_columns=list(table.columns[:3]),
        units={item.name: item.unit for item in model.manifest.outputs if item.name in table},
    )
    _report(table["status"].tolist(), table.attrs["hint"], bound.missing, used.name)


def _origin(genes: Path | None) -> dict[str, str] | None:
    """Name and sha256 of the file of genes; None for all genes and for stdin."""
    if genes is None or str(genes) == "-" or not genes.is_file():
        return None
    return {"file": genes.name, "sha256": sha256_of(genes)}


def _report(
    status: Sequence[str], hint: str | None, missing: Mapping[Side, Sequence[str]], backend: str
) -> None:
    """Say on stderr what came of the rows."""
    count = Counter(text.partition(":")[0] for text in status)
    parts = ", ".join(f"{number} {name}" for name, number in count.items())
    click.echo(f"{len(status)} rows ({parts}), {backend}", err=True)
    for side, names in missing.items():
        if names:
            listed = textwrap.fill(", ".join(names), 100, break_on_hyphens=False)
            click.echo(f"{len(names)} {side} tracks taken as without sites:\n{listed}", err=True)
    if hint:
        click.echo(hint, err=True)
