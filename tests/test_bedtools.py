"""Bins equal what bedtools counts, on real data.

Gene models, windows and bins are derived here a second time, in plain Python and without
decode_zoo; bedtools does the overlaps.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from decode_zoo.features.annotation import override_tss, read_gtf, read_tss_bed
from decode_zoo.features.building import build_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import SiteFile, find_site_files
from decode_zoo.features.spec import Side

DATA = Path(__file__).parent / "data"
ZOO = Path(__file__).parents[1] / "zoo/features/hg38-open-v1"
SIZES = {"chr21": 46_709_983, "chr22": 50_818_468}
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


def promoter_bins(models: Mapping[str, Model]) -> list[str]:
    rows = []
    for gene, model in models.items():
        for i in range((UPSTREAM + DOWNSTREAM) // BIN):
            if model.strand == "+":
                start = model.tss - UPSTREAM + i * BIN
            else:
                start = model.tss + UPSTREAM - (i + 1) * BIN + 1
            end = min(start + BIN, SIZES[model.chrom])
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
    command = ["bedtools", "coverage", *strand, "-a", str(bins), "-b", str(sites)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for row in map(str.split, done.stdout.splitlines()):
        gene, _, position = row[3].rpartition("|")
        counted[gene, int(position)] += int(row[-3])
    return counted


def assert_equal(
    features: FeatureSet,
    side: Side,
    models: Mapping[str, Model],
    sites: Mapping[str, Path],
    folder: Path,
) -> int:
    """Compare every bin of every gene and track; return how many are not empty."""
    bins = folder / f"{side}.bins.bed"
    rows = rna_bins(models) if side == "rna" else promoter_bins(models)
    bins.write_text("".join(row + "\n" for row in rows))
    counts = {track: by_coverage(bins, path, side == "rna") for track, path in sites.items()}
    filled = 0
    for gene, model in models.items():
        length = sum(end - start for start, end in model.exons)
        n_bins = -(-(length if side == "rna" else UPSTREAM + DOWNSTREAM) // BIN)
        ours = features.bins(gene, side)
        for track, theirs in counts.items():
            values = ours[track].tolist()
            assert values == [theirs.get((gene, i), 0) for i in range(n_bins)], (gene, track)
            filled += sum(value > 0 for value in values)
    return filled


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return gene_models(DATA / "genes.gtf.gz", DATA / "tss.bed.gz")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    genome = Genome.named("hg38")
    annotation = read_gtf(DATA / "genes.gtf.gz", genome)
    annotation, moved = override_tss(annotation, read_tss_bed(DATA / "tss.bed.gz", genome))
    assert moved > 100
    promoter, rna = find_site_files(DATA / "promoter", "promoter"), DATA / "rna.tsv"
    files: dict[Side, list[SiteFile]] = {"promoter": promoter, "rna": find_site_files(rna, "rna")}
    return build_features(annotation, genome, files, tmp_path_factory.mktemp("slice") / "set")


@pytest.fixture(params=["built", "published"])
def features(request: pytest.FixtureRequest, models: dict[str, Model]) -> FeatureSet:
    """The set of the slice beside the tests, and the published one, which holds its genes."""
    if request.param == "built":
        found: FeatureSet = request.getfixturevalue("built")
        assert sorted(models) == sorted(found.genes)
        return found
    if not (ZOO / "sites.npz").is_file():
        pytest.skip(f"{ZOO.name} has no sites.npz here")
    return FeatureSet.load(ZOO)


def test_slice_holds_genes_of_every_sort(models):
    sorts = Counter((model.strand, len(model.exons) > 1) for model in models.values())
    assert len(sorts) == 4
    assert min(sorts.values()) >= 60


@pytest.mark.parametrize(("side", "least"), [("promoter", 1000), ("rna", 200)])
def test_bins_are_what_bedtools_counts(features, models, side, least, tmp_path):
    sites, tracks = {}, set(features.tracks(side))
    for path in (DATA / side).iterdir():
        regulator, cell, *_ = path.name.split(".")
        (name,) = {f"{regulator}.{cell}", f"{regulator}@{cell}"} & tracks
        sites[name] = path
    assert assert_equal(features, side, models, sites, tmp_path) > least


def test_bins_of_mirnas_are_what_bedtools_counts(features, models, tmp_path):
    """A file of one track a name is taken apart by its name column."""
    split: dict[str, list[str]] = defaultdict(list)
    for row in lines(DATA / "mirna.bed.gz"):
        split[row[3]].append("\t".join(row[:6]) + "\n")
    names = sorted(split)
    assert set(names) <= {t.name for t in features.side_tracks["rna"] if t.kind == "mirna"}
    sites = {name: tmp_path / f"{name}.bed" for name in names[::12]}
    for name, path in sites.items():
        path.write_text("".join(split[name]))
    assert assert_equal(features, "rna", models, sites, tmp_path) > 20
