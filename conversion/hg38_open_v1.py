"""Make the feature set hg38-open-v1 from the raw open data.

    python conversion/hg38_open_v1.py DATA zoo/features/hg38-open-v1

DATA is the folder with annotation/ and binding/ (see model_cards/hg38-open-v1.md for what they
are and where they come from).
"""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import click

from decode_zoo.features.annotation import override_tss, read_gtf, read_tss_bed
from decode_zoo.features.building import build_features
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import find_site_files


def gene_aliases(data: Path) -> dict[str, str]:
    """Symbols that RefSeq uses for genes that GENCODE calls otherwise.

    Only those that no gene is called by, and that stand for one gene.
    """
    with gzip.open(data / "annotation/genes.hg38.tsv.gz", "rt") as stream:
        symbols = {
            row["ensembl_id"]: row["symbol"] for row in csv.DictReader(stream, delimiter="\t")
        }
    taken = set(symbols.values())
    found: dict[str, set[str]] = {}
    with gzip.open(data / "annotation/refseq.transcripts.hg38.gtf.gz", "rt") as stream:
        for line in stream:
            if "\ttranscript\t" not in line:
                continue
            gene = re.search(r'gene_id "([^"]*)"', line)
            name = re.search(r'gene_name "([^"]*)"', line)
            if gene and name and gene[1] in symbols and name[1] not in taken:
                found.setdefault(name[1], set()).add(gene[1])
    return {name: genes.pop() for name, genes in found.items() if len(genes) == 1}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing set.")
def main(data: Path, folder: Path, force: bool) -> None:
    """Build hg38-open-v1: all genes, all tracks."""
    genome = Genome.named("hg38")
    annotation = read_gtf(data / "annotation/gencode.v25.collapsed.hg38.gtf.gz", genome)
    sites = read_tss_bed(data / "annotation/tss.cage.hg38.bed.gz", genome)
    annotation, moved = override_tss(annotation, sites)
    click.echo(f"{len(annotation)} genes, {moved} with a CAGE start site", err=True)
    built = build_features(
        annotation,
        genome,
        {
            "promoter": find_site_files(data / "binding/promoter/manifest.tsv.gz", "promoter"),
            "rna": find_site_files(data / "binding/rna/manifest.tsv.gz", "rna"),
        },
        folder,
        aliases=gene_aliases(data),
        force=force,
    )
    click.echo(
        f"{len(built.tracks('promoter'))} promoter tracks, {len(built.tracks('rna'))} RNA tracks",
        err=True,
    )


if __name__ == "__main__":
    main()
