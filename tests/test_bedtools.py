"""Bins equal what bedtools counts, on real data.

Gene models, windows and bins are derived here a second time, in plain Python and without
decode_zoo; bedtools does the overlaps, in two different ways.
"""

from __future__ import annotations

import gzip
import random
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from decode_zoo.annotation import override_tss, read_gtf, read_tss_bed
from decode_zoo.builder import build_features
from decode_zoo.features import FeatureSet
from decode_zoo.genome import Genome
from decode_zoo.layout import Side
from decode_zoo.sites import find_site_files

DATA = Path(__file__).parent / "data"
ZOO = Path(__file__).parents[1] / "zoo" / "features"
UPSTREAM, DOWNSTREAM, BIN = 2000, 1000, 100

pytestmark = pytest.mark.skipif(not shutil.which("bedtools"), reason="bedtools is not installed")

Bins = dict[tuple[str, int], int]


class Model(NamedTuple):
    chrom: str
    strand: str
    exons: list[tuple[int, int]]
    tss: int


def lines(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [line.rstrip("\r\n").split("\t") for line in stream if not line.startswith("#")]


def gene_models(gtf: Path, tss: Path) -> dict[str, Model]:
    places: dict[str, tuple[str, str]] = {}
    exons: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in lines(gtf):
        if row[2] != "exon":
            continue
        gene = re.findall(r'gene_id "([^"]*)"', row[8])[0]
        gene = re.sub(r"\.\d+", "", gene)
        places[gene] = (row[0], row[6])
        exons[gene].append((int(row[3]) - 1, int(row[4])))
    starts = {row[3]: (row[0], row[5], int(row[1])) for row in lines(tss)}
    models = {}
    for gene, (chrom, strand) in places.items():
        parts = sorted(exons[gene])
        site = parts[0][0] if strand == "+" else parts[-1][1] - 1
        measured = starts.get(gene)
        if measured and measured[:2] == (chrom, strand):
            site = measured[2]
        models[gene] = Model(chrom, strand, parts, site)
    return models


def promoter_bins(models: Mapping[str, Model], sizes: Mapping[str, int]) -> list[str]:
    rows = []
    for gene, model in models.items():
        for i in range((UPSTREAM + DOWNSTREAM) // BIN):
            if model.strand == "+":
                start = model.tss - UPSTREAM + i * BIN
            else:
                start = model.tss + UPSTREAM - (i + 1) * BIN + 1
            end = min(start + BIN, sizes[model.chrom])
            start = max(start, 0)
            if start < end:
                rows.append(f"{model.chrom}\t{start}\t{end}\t{gene}|{i}\t0\t{model.strand}")
    return rows


def rna_bins(models: Mapping[str, Model]) -> list[str]:
    """Cut exons at bin borders; a bin may lie on several exons."""
    rows = []
    for gene, model in models.items():
        done = 0
        for start, end in model.exons if model.strand == "+" else model.exons[::-1]:
            offset = 0
            while offset < end - start:
                size = min(BIN - done % BIN, end - start - offset)
                left = start + offset if model.strand == "+" else end - offset - size
                piece = (left, left + size, f"{gene}|{done // BIN}")
                rows.append("\t".join(map(str, (model.chrom, *piece, 0, model.strand))))
                offset += size
                done += size
    return rows


def bedtools(*arguments: str, stdin: str | None = None) -> list[list[str]]:
    done = subprocess.run(
        ["bedtools", *arguments], input=stdin, capture_output=True, text=True, check=True
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def by_coverage(bins: Path, sites: Path, stranded: bool) -> Bins:
    """Bases of each bin that any site covers, by ``bedtools coverage``."""
    counted: Bins = defaultdict(int)
    strand = ["-s"] if stranded else []
    for row in bedtools("coverage", *strand, "-a", str(bins), "-b", str(sites)):
        gene, _, place = row[3].rpartition("|")
        counted[gene, int(place)] += int(row[-3])
    return counted


def by_overlap(bins: Path, sites: Path, stranded: bool) -> Bins:
    """Count the same from merged sites and the bases that each shares with a bin."""
    text = "\n".join("\t".join(row) for row in bedtools("sort", "-i", str(sites))) + "\n"
    options = ["-s", "-c", "4,5,6", "-o", "first,first,distinct"] if stranded else []
    merged = bedtools("merge", *options, "-i", "-", stdin=text)
    text = "".join("\t".join(row) + "\n" for row in merged)
    counted: Bins = defaultdict(int)
    strand = ["-s"] if stranded else []
    for row in bedtools("intersect", *strand, "-wao", "-a", str(bins), "-b", "-", stdin=text):
        gene, _, place = row[3].rpartition("|")
        counted[gene, int(place)] += int(row[-1])
    return counted


def bin_counts(models: Mapping[str, Model], side: Side) -> dict[str, int]:
    if side == "promoter":
        return dict.fromkeys(models, (UPSTREAM + DOWNSTREAM) // BIN)
    return {
        gene: -(-sum(end - start for start, end in model.exons) // BIN)
        for gene, model in models.items()
    }


def assert_equal(
    features: FeatureSet,
    side: Side,
    models: Mapping[str, Model],
    sites: Mapping[str, Path],
    folder: Path,
    rows: list[str],
) -> int:
    """Compare every bin of every gene and track; return how many are not empty."""
    bins = folder / f"{side}.bins.bed"
    bins.write_text("".join(row + "\n" for row in rows))
    stranded = side == "rna"
    counts = {
        track: (by_coverage(bins, path, stranded), by_overlap(bins, path, stranded))
        for track, path in sites.items()
    }
    filled = 0
    for gene, n_bins in bin_counts(models, side).items():
        ours = features.bins(gene, side)
        assert len(ours) == n_bins, gene
        for track, theirs in counts.items():
            values = ours[track].tolist()
            for name, counted in zip(("coverage", "overlap"), theirs, strict=True):
                expected = [counted.get((gene, i), 0) for i in range(n_bins)]
                assert values == expected, (gene, track, name)
            filled += sum(value > 0 for value in values)
    return filled


def by_name(path: Path, names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Split a file by its name column."""
    split: dict[str, list[str]] = {name: [] for name in names}
    for row in lines(path):
        if row[3] in split:
            split[row[3]].append("\t".join(row[:6]) + "\n")
    files = {}
    for i, (name, rows) in enumerate(split.items()):
        files[name] = folder / f"name{i}.bed"
        files[name].write_text("".join(rows))
    return files


# -- on the slice that lies beside the tests -------------------------------------------------------

SIZES = {"chr21": 46_709_983, "chr22": 50_818_468}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return gene_models(DATA / "genes.gtf.gz", DATA / "tss.bed.gz")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    genome = Genome.named("hg38")
    annotation = read_gtf(DATA / "genes.gtf.gz", genome)
    annotation, moved = override_tss(annotation, read_tss_bed(DATA / "tss.bed.gz", genome))
    assert moved > 100
    return build_features(
        annotation,
        genome,
        {
            "promoter": find_site_files(DATA / "promoter", "promoter"),
            "rna": find_site_files(DATA / "rna.tsv", "rna"),
        },
        tmp_path_factory.mktemp("slice") / "set",
    )


def test_slice_holds_genes_of_every_sort(models, built):
    assert sorted(models) == sorted(built.genes)
    for strand in "+-":
        for spliced in (False, True):
            kind = [m for m in models.values() if (m.strand, len(m.exons) > 1) == (strand, spliced)]
            assert len(kind) >= 60


def test_promoters_of_the_slice(models, built, tmp_path):
    sites = {path.name.removesuffix(".bed.gz"): path for path in (DATA / "promoter").iterdir()}
    assert sorted(sites) == built.tracks("promoter")
    rows = promoter_bins(models, SIZES)
    assert assert_equal(built, "promoter", models, sites, tmp_path, rows) > 1000


def test_rnas_of_the_slice(models, built, tmp_path):
    sites = {}
    for path in (DATA / "rna").iterdir():
        regulator, cell, *_ = path.name.split(".")
        sites[f"{regulator}@{cell}"] = path
    assert set(sites) <= set(built.tracks("rna"))
    assert assert_equal(built, "rna", models, sites, tmp_path, rna_bins(models)) > 200


def test_mirnas_of_the_slice(models, built, tmp_path):
    names = sorted({row[3] for row in lines(DATA / "mirna.bed.gz")})
    assert names == [t.name for t in built.side_tracks["rna"] if t.kind == "mirna"]
    sites = by_name(DATA / "mirna.bed.gz", names[::4], tmp_path)
    assert len(sites) > 20
    assert assert_equal(built, "rna", models, sites, tmp_path, rna_bins(models)) > 50


# -- on the published set --------------------------------------------------------------------------

PROMOTER = {
    "CTCF@K562": "CTCF.K562",
    "H3K4me3@NHEK": "H3K4me3.NHEK",
    "EP300@IMR90": "EP300.IMR90",
    "REST@HepG2": "REST.HepG2",
    "TAF1@HepG2": "TAF1.HepG2",
    "DNase-seq@GM12878": "DNase-seq.GM12878",
}
RNA = {
    "PRPF8@HepG2": "PRPF8.HepG2.ENCFF048YPA",
    "BCLAF1@HepG2": "BCLAF1.HepG2.ENCFF810EUA",
    "AQR@K562": "AQR.K562.ENCFF949QGM",
    "QKI@HepG2": "QKI.HepG2.ENCFF704OCI",
    "DDX24@K562": "DDX24.K562.ENCFF537KWB",
}
MIRNA = {
    "targetscan_conserved_reconstructed.hg38": ("AUGUGGG", "AAGGCAC"),
    "mirbase_targets.hg38": ("hsa-miR-145", "hsa-miR-187*"),
}


@pytest.mark.shared
@pytest.mark.slow
def test_published_set(shared, tmp_path):
    folder = ZOO / "hg38-open-v1"
    if not (folder / "sites.npz").is_file():
        pytest.skip("hg38-open-v1 has no sites.npz here")
    features = FeatureSet.load(folder)
    annotation, binding = shared / "data" / "annotation", shared / "data" / "binding"
    everything = gene_models(
        annotation / "gencode.v25.collapsed.hg38.gtf.gz", annotation / "tss.cage.hg38.bed.gz"
    )
    assert sorted(everything) == sorted(features.genes)
    sizes_text = (annotation / "chrom.sizes.hg38.tsv").read_text()
    sizes = {cells[0]: int(cells[1]) for cells in map(str.split, sizes_text.splitlines())}

    coding = set(features.genes[[kind == "protein_coding" for kind in features.rows.biotypes]])
    draw = random.Random(1)
    models: dict[str, Model] = {}
    for strand in "+-":
        for spliced in (False, True):
            group = [
                gene
                for gene, model in everything.items()
                if (model.strand, len(model.exons) > 1) == (strand, spliced)
            ]
            for pool in (group, [gene for gene in group if gene in coding]):
                models.update({gene: everything[gene] for gene in draw.sample(pool, 45)})
    ends = [
        gene
        for gene, model in everything.items()
        if not UPSTREAM <= model.tss < sizes[model.chrom] - UPSTREAM
    ]
    models.update({gene: everything[gene] for gene in ends[:20]})
    assert len(models) > 330

    sites = {track: binding / "promoter" / f"{stem}.bed.gz" for track, stem in PROMOTER.items()}
    rows = promoter_bins(models, sizes)
    assert assert_equal(features, "promoter", models, sites, tmp_path, rows) > 5000
    sites = {track: binding / "rna" / f"{stem}.bed.gz" for track, stem in RNA.items()}
    for stem, names in MIRNA.items():
        (tmp_path / stem).mkdir()
        sites |= by_name(binding / "mirna" / f"{stem}.bed.gz", names, tmp_path / stem)
    assert assert_equal(features, "rna", models, sites, tmp_path, rna_bins(models)) > 200
