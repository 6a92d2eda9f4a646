"""Make the toy zoo under tests/data/toy, which unit tests load instead of published models.

    python -m tests.toy

About 40 real genes with made-up sites, and a model of each family that learned made-up expression
for a moment: real formats, written by the package's own code, and no biology. The folder is laid
out as `decode-zoo publish` does; the fixtures of tests/conftest.py open it. Made anew, files change
where TensorFlow or the formats do, and so do the numbers that tests expect.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from decode_zoo.cohort.expression import Targets
from decode_zoo.features.annotation import read_gtf
from decode_zoo.features.building import build_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import find_site_files
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import MEDIAN, Split
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.pipeline import Description, train_bundle

ROOT = Path(__file__).resolve().parents[1]
TOY = ROOT / "tests/data/toy"
FEATURES, DECODE, PERCEPTRON = "toy-sites-v1", "toy-decode-v1", "toy-perceptron-v1"
# Those of regulators with sites come first; one pair shares a symbol; MT-TF is short, with a
# window that the chromosome's end clips; SNORD99 is without sites.
GENES = (
    "SPI1 GATA1 YY1 CTCF MYC HNF4A ELAVL1 PUM2 SRSF1 TP53 BRCA2 ALB APOA1 HBB TTR INS CD4 CD53"
    " LAPTM5 GAPDH ACTB ENO1 XIST MALAT1 APP SOD1 RUNX1 MX1 IFNAR1 ADAR JAK1 JUN NRAS RPL5 S100A8"
    " MUC1 LMNA MT-TF SNORD99 U8"
)
BARE = "SNORD99"
PROMOTER = [
    *(("tf", name, cell) for name in ("SPI1", "GATA1", "YY1") for cell in ("K562", "GM12878")),
    *(("tf", name, "HepG2") for name in ("CTCF", "MYC", "HNF4A")),
    *(("histone", name, "K562") for name in ("H3K4me3", "H3K27ac")),
]
RNA = [
    *(("rbp", name, cell) for name in ("ELAVL1", "PUM2") for cell in ("K562", "HepG2")),
    ("rbp", "SRSF1", "K562"),
    *(("mirna", name, "") for name in ("AAAGUGC", "GAGGUAG", "UGGAAUG")),
]
CARD = "# A toy\n\nMade up for tests.\n\n<!-- facts: generated -->\n<!-- end of facts -->\n"


def write_genes(path: Path) -> dict[str, tuple[str, int, int, int]]:
    """Write a GTF of the genes; return chromosome, strand, start site and RNA length by id."""
    text = (ROOT / "zoo/features/hg38-open-v2/features.json").read_text(encoding="utf-8")
    rows = json.loads(text)["rows"]
    places, lines = {}, []
    for name in GENES.split():
        found = [at for at, symbol in enumerate(rows["symbols"]) if symbol == name]
        for at in found[: 2 if name == "U8" else 1]:
            gene, chrom, strand = rows["ids"][at], rows["chroms"][at], rows["strands"][at]
            tss, length, biotype = (rows[key][at] for key in ("tss", "rna_lengths", "biotypes"))
            # Two exons, an intron of the first one's length apart, where the gene is long enough.
            first = length if length < 400 else length // 3
            exons = [(0, first)] + ([(2 * first, first + length)] if first < length else [])
            places[gene] = (chrom, strand, tss, length)
            for start, end in exons:
                low, high = (tss + start, tss + end) if strand > 0 else (tss - end, tss - start)
                words = f'gene_id "{gene}"; transcript_id "{gene}.t"; gene_name "{name}";'
                place = f"chr{chrom}\ttoy\texon\t{max(low + 1, 1)}\t{high}"
                lines.append(
                    f'{place}\t.\t{"+" if strand > 0 else "-"}\t.\t{words} gene_type "{biotype}";'
                )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return places


def write_sites(folder: Path, places: dict[str, tuple[str, int, int, int]], bare: str) -> None:
    """Write BED files of random sites, and the two manifests that name them."""
    random = np.random.default_rng(14)
    for side, tracks in (("promoter", PROMOTER), ("rna", RNA)):
        manifest = ["file\tregulator\tcell\tkind\tsource"]
        for at, (kind, regulator, cell) in enumerate(tracks):
            lines = []
            for gene, (chrom, strand, tss, length) in places.items():
                if gene == bare or random.random() > 0.55:
                    continue
                for _ in range(random.integers(1, 4)):
                    width = int(random.integers(8, 25 if kind == "mirna" else 300))
                    spread = (-1800, 900) if side == "promoter" else (0, max(length - width, 1))
                    offset = int(random.integers(*spread))
                    start = tss + offset if strand > 0 else tss - offset - width
                    if start >= 0:
                        mark = "+" if strand > 0 else "-"
                        lines.append(f"chr{chrom}\t{start}\t{start + width}\tx\t0\t{mark}")
            (folder / f"{side}{at}.bed").write_text("\n".join(lines) + "\n", encoding="utf-8")
            manifest.append(f"{side}{at}.bed\t{regulator}\t{cell}\t{kind}\ttoy")
        (folder / f"{side}.tsv").write_text("\n".join(manifest) + "\n", encoding="utf-8")


def made_up(features: FeatureSet) -> Targets:
    """Return expression of two tissues that follows the number of sites, and noise."""
    random = np.random.default_rng(4)
    bound = sum(
        (features.sums(side)[0] > 0).toarray() @ random.normal(size=(n, 2))
        for side, n in (("promoter", len(PROMOTER)), ("rna", len(RNA)))
    )
    fold = 0.5 * bound + random.normal(size=(len(features.rows.ids), 2))
    fold -= np.median(fold, axis=1, keepdims=True)
    median = random.normal(3, 2, (len(features.rows.ids), 1))
    return Targets(list(features.rows.ids), ("Liver", "Lung", MEDIAN), np.hstack([fold, median]))


def main() -> None:
    """Write the toy zoo anew."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        places = write_genes(work / "genes.gtf")
        genome = Genome.named("hg38")
        annotation = read_gtf(work / "genes.gtf", genome)
        (bare,) = annotation.ids[annotation.symbols == BARE]
        write_sites(work, places, str(bare))
        tp53 = str(annotation.ids[annotation.symbols == "TP53"][0])
        features = build_features(
            annotation,
            genome,
            {side: find_site_files(work / f"{side}.tsv", side) for side in ("promoter", "rna")},
            work / FEATURES,
            aliases={"P53": tp53, "LFS1": tp53},
        )
        targets = made_up(features)
        selection = Split(test=("1",), min_genes=1, validation_fraction=0.3)
        for name, network, fit in (
            (
                DECODE,
                DecodeConfig(rna_channels=4, promoter_channels=4, dense_width=6),
                FitConfig(seeds=(1,), max_epochs=20, learning_rate=0.01),
            ),
            (
                PERCEPTRON,
                PerceptronConfig(encoder_width=4, dense_width=6, members=2),
                PerceptronFit(seeds=(1, 2), epochs=20, batch_size=8, learning_rate=0.01),
            ),
        ):
            said = Description(
                name, "A toy", "CC0-1.0", "nobody", ("made up",), FEATURES, {}, ("tests.toy",)
            )
            train_bundle(
                features, targets, work / name, said, network=network, fit=fit, selection=selection
            )
            (work / name / "CARD.md").write_text(CARD, encoding="utf-8")
        (work / FEATURES / "CARD.md").write_text(CARD, encoding="utf-8")
        shutil.rmtree(TOY, ignore_errors=True)
        said_of_sites = ["--title", "Toy sites", "--license", "CC0-1.0", "--citation", "nobody"]
        for name in (FEATURES, DECODE, PERCEPTRON):
            words = said_of_sites if name == FEATURES else []
            command = [sys.executable, "-m", "decode_zoo", "publish", str(work / name)]
            subprocess.run([*command, "--to", str(TOY), *words], check=True)


if __name__ == "__main__":
    main()
