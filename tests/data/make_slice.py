"""Derive the small real data of the tests from the folder of raw data.

    python tests/data/make_slice.py DATA

Standard library only, and nothing of decode_zoo: the slice must not inherit its mistakes.
"""

from __future__ import annotations

import gzip
import random
import re
import sys
from pathlib import Path

CHROMS = ("chr21", "chr22")
GENES_PER_GROUP = 38  # of each chromosome, strand, and single- or multi-exon
PROMOTER = ("CTCF.K562", "H3K4me3.NHEK", "POLR2A.GM12878", "TAF1.HepG2")
RNA = (
    "PRPF8.HepG2.ENCFF048YPA",
    "BCLAF1.HepG2.ENCFF810EUA",
    "YBX3.K562.ENCFF746XLE",
    "UCHL5.K562.ENCFF365LFU",
)
MIRNA = "targetscan_conserved_reconstructed.hg38"
# Targets by gene: the first sets of a library and one of odd name, and of each the genes of the
# slice and some others.
LIBRARY, SETS, STRANGERS = "chea_2016.symbols", 12, 3
ODD = "FOXM1_26100407__CHIPSEQ_HEK293FLPIN"
# Sites up to this far outside a promoter window or gene are kept, to cross its borders.
MARGIN = 500
UPSTREAM, DOWNSTREAM = 2000, 1000

Span = tuple[str, int, int]


def read(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [line.rstrip("\r\n").split("\t") for line in stream if not line.startswith("#")]


def write(path: Path, rows: list[list[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def near(rows: list[list[str]], spans: list[Span]) -> list[list[str]]:
    """Keep the sites that come within the margin of a span."""
    return [
        row
        for row in rows
        if row[0] in CHROMS
        and any(
            row[0] == chrom and int(row[2]) > start - MARGIN and int(row[1]) < end + MARGIN
            for chrom, start, end in spans
        )
    ]


def main(data: Path, out: Path) -> None:
    exons: dict[str, list[list[str]]] = {}
    for row in read(data / "annotation/gencode.v25.collapsed.hg38.gtf.gz"):
        if row[0] in CHROMS and row[2] == "exon":
            gene = re.search(r'gene_id "([^"]*)"', row[8])
            if gene:
                exons.setdefault(gene[1], []).append(row)
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for gene_id, rows in exons.items():
        groups.setdefault((rows[0][0], rows[0][6], len(rows) > 1), []).append(gene_id)
    chosen: set[str] = set()
    for _, members in sorted(groups.items()):
        # Most of them coding, which have more sites.
        coding = [g for g in members if 'gene_type "protein_coding"' in exons[g][0][8]]
        draw = random.Random(0)
        chosen |= set(draw.sample(coding, min(3 * GENES_PER_GROUP // 4, len(coding))))
        rest = [gene for gene in members if gene not in chosen]
        missing = GENES_PER_GROUP - sum(gene in chosen for gene in members)
        chosen |= set(draw.sample(rest, min(missing, len(rest))))
    models = [
        [*row[:8], re.sub(r" (transcript_id|exon_number) [^;]*;", "", row[8])]
        for gene_id, rows in exons.items()
        if gene_id in chosen
        for row in rows
    ]
    write(out / "genes.gtf.gz", models)

    bare = {gene.partition(".")[0] for gene in chosen}
    tss = read(data / "annotation/tss.cage.hg38.bed.gz")
    write(out / "tss.bed.gz", [row for row in tss if row[0] in CHROMS and row[3] in bare])

    moved = {row[3]: int(row[1]) for row in tss}
    windows: list[Span] = []
    bodies: list[Span] = []
    for gene_id in sorted(chosen):
        rows = exons[gene_id]
        start, end = min(int(row[3]) - 1 for row in rows), max(int(row[4]) for row in rows)
        forward = rows[0][6] == "+"
        site = moved.get(gene_id.partition(".")[0], start if forward else end - 1)
        before, after = (UPSTREAM, DOWNSTREAM) if forward else (DOWNSTREAM, UPSTREAM)
        windows.append((rows[0][0], site - before, site + after))
        bodies.append((rows[0][0], start, end))

    for name in PROMOTER:
        rows = near(read(data / f"binding/promoter/{name}.bed.gz"), windows)
        write(out / f"promoter/{name}.bed.gz", [row[:3] for row in rows])
    for name in RNA:
        rows = near(read(data / f"binding/rna/{name}.bed.gz"), bodies)
        write(out / f"rna/{name}.bed.gz", [row[:6] for row in rows])
    rows = near(read(data / f"binding/mirna/{MIRNA}.bed.gz"), bodies)
    write(out / "mirna.bed.gz", [row[:6] for row in rows])
    described = [["file", "regulator", "cell", "kind"]]
    described += [[f"rna/{name}.bed.gz", *name.split(".")[:2], "rbp"] for name in RNA]
    described += [["mirna.bed.gz", "*", "", "mirna"]]
    (out / "rna.tsv").write_text("".join("\t".join(row) + "\n" for row in described))

    names = {re.search(r'gene_name "([^"]*)"', exons[gene][0][8])[1] for gene in chosen}
    targets = read(data / f"binding/gene_level/{LIBRARY}.gmt.gz")
    targets = [row for i, row in enumerate(targets) if i < SETS or row[0] == ODD]
    for row in targets:
        others = [gene for gene in row[2:] if gene not in names][:STRANGERS]
        row[2:] = [gene for gene in row[2:] if gene in names or gene in others]
    write(out / f"targets/{LIBRARY}.gmt.gz", targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
