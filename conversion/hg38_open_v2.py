"""Make the feature set hg38-open-v2 from the raw open data.

    python -m conversion.hg38_open_v2 DATA zoo/features/hg38-open-v2

All of hg38-open-v1 (its sites, gene models and other names of genes), and with it the gene-level
targets of TFs, CpG islands and RNA modifications. DATA is as for hg38_open_v1.py.
"""

from __future__ import annotations

import csv
import gzip
import logging
from pathlib import Path

import click

from conversion.hg38_open_v1 import gene_aliases
from decode_zoo.features.annotation import override_tss, read_gtf, read_tss_bed
from decode_zoo.features.building import build_features
from decode_zoo.features.genesets import TargetFile
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import SiteFile, describe_tracks, find_site_files
from decode_zoo.features.spec import Track

# File, how its names are made up, source. All but the last call genes by symbol. The last source
# is wrong (the links are ENCODE-rE2G's) and frozen with hg38-open-v2: see ERRATA in publish.py.
TARGETS = (
    ("chea_2016.symbols.gmt.gz", "{regulator}_{}_{}_{cell}_{species}", "ChEA 2016 (ChEA3)"),
    ("encode_chipseq_2015.symbols.gmt.gz", "{regulator}_{cell}_{}", "ENCODE ChIP-seq 2015 (ChEA3)"),
    ("remap.symbols.gmt.gz", "{regulator}", "ReMap (ChEA3)"),
    ("tfea_chip.entrez.gmt.gz", "{}.{regulator}.{cell}", "TFEA.ChIP, enhancers by GeneHancer"),
)
MODIFICATIONS = ("m1A", "m5C", "m6A", "pseudouridine")


def entrez_ids(data: Path) -> dict[str, str]:
    """Ensembl ids by Entrez number; numbers of several genes are left out."""
    found: dict[str, set[str]] = {}
    with gzip.open(data / "annotation/genes.hg38.tsv.gz", "rt") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["entrez"]:
                found.setdefault(row["entrez"], set()).add(row["ensembl_id"])
    return {number: genes.pop() for number, genes in found.items() if len(genes) == 1}


def targets(data: Path) -> list[TargetFile]:
    """The four libraries of target genes."""
    ids = entrez_ids(data)
    return [
        TargetFile(
            data / "binding/gene_level" / name,
            pattern,
            source,
            ids=ids if ".entrez." in name else None,
        )
        for name, pattern, source in TARGETS
    ]


def single(path: Path, regulator: str, kind: str, source: str) -> SiteFile:
    """A file that is one track of no cell in particular."""
    return SiteFile(path, Track(regulator, regulator, kind, "", source))


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing set.")
def main(data: Path, folder: Path, force: bool) -> None:
    """Build hg38-open-v2: all genes, all tracks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    genome = Genome.named("hg38")
    annotation = read_gtf(data / "annotation/gencode.v25.collapsed.hg38.gtf.gz", genome)
    sites = read_tss_bed(data / "annotation/tss.cage.hg38.bed.gz", genome)
    annotation, moved = override_tss(annotation, sites)
    click.echo(f"{len(annotation)} genes, {moved} with a CAGE start site", err=True)
    binding = data / "binding"
    islands = binding / "sequence/CpG_island.hg38.bed.gz"
    built = build_features(
        annotation,
        genome,
        {
            "promoter": [
                *find_site_files(binding / "promoter/manifest.tsv.gz", "promoter"),
                single(islands, "CpG island", "sequence", "ChromHMM"),
            ],
            "rna": [
                *find_site_files(binding / "rna/manifest.tsv.gz", "rna"),
                *(
                    single(
                        binding / f"rna_modification/{name}.hg38.bed.gz",
                        name,
                        "rna_modification",
                        "RNAModR",
                    )
                    for name in MODIFICATIONS
                ),
            ],
        },
        folder,
        aliases=gene_aliases(data),
        targets=targets(data),
        force=force,
    )
    for side, tracks in built.side_tracks.items():
        click.echo(f"{side}: {describe_tracks(tracks)}", err=True)


if __name__ == "__main__":
    main()
