"""Time the feature builder on a folder of raw data, and bedtools on a few of its tracks.

    python benchmarks/build_features.py DATA

DATA is the folder with annotation/ and binding/. Two measurements in one run:

1. The whole feature set, all genes and tracks: seconds and peak memory, in a process of its own.
2. A few tracks, from compressed file to covered bases of all bins of all genes: this package
   against ``bedtools sort | merge | coverage -sorted``, best of three against one run. Gene models
   and their windows are made once beforehand and counted for neither; nor is writing the bins
   that bedtools reads. Covered bases and filled bins must be equal.
"""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import click
import numpy as np

from decode_zoo.features.annotation import Annotation, override_tss, read_gtf, read_tss_bed
from decode_zoo.features.bins import clip_sites, promoter_regions, rna_regions
from decode_zoo.features.building import build_features
from decode_zoo.features.genome import Genome
from decode_zoo.features.intervals import covered_bases
from decode_zoo.features.sites import SiteFile, find_site_files, read_sites
from decode_zoo.features.spec import Side

UPSTREAM, DOWNSTREAM, BIN = 2000, 1000, 100
BUDGET_SECONDS, BUDGET_RATIO = 90, 20


def gene_models(data: Path, genome: Genome) -> Annotation:
    annotation = read_gtf(data / "annotation/gencode.v25.collapsed.hg38.gtf.gz", genome)
    sites = read_tss_bed(data / "annotation/tss.cage.hg38.bed.gz", genome)
    return override_tss(annotation, sites)[0]


def site_files(data: Path, side: Side) -> list[SiteFile]:
    return find_site_files(data / f"binding/{side}/manifest.tsv.gz", side)


def build_everything(data: Path) -> None:
    """Build the whole set and print what it took; run as a process of its own."""
    genome = Genome.named("hg38")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        features = build_features(
            gene_models(data, genome),
            genome,
            {side: site_files(data, side) for side in ("promoter", "rna")},
            Path(folder) / "set",
        )
        seconds = time.perf_counter() - begin
        size = sum(file.stat().st_size for file in (Path(folder) / "set").iterdir())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    tracks = {side: len(features.tracks(side)) for side in ("promoter", "rna")}
    click.echo(
        f"whole set: {len(features)} genes, {tracks['promoter']} promoter and {tracks['rna']} RNA "
        f"tracks in {seconds:.1f} s (budget {BUDGET_SECONDS} s), peak memory {memory:.2f} GB, "
        f"{size / 1e6:.1f} MB on disk, {os.cpu_count()} cores"
    )


def bin_lines(annotation: Annotation, genome: Genome, side: Side) -> list[str]:
    """Bins of all genes as BED6, cut at exon borders, sorted for bedtools."""
    rows: list[tuple[str, int, int, str]] = []
    for i, code in enumerate(annotation.chroms):
        chrom, size = f"chr{genome.names[code]}", int(genome.lengths[code])
        forward = annotation.strands[i] > 0
        if side == "promoter":
            before, after = (UPSTREAM, DOWNSTREAM) if forward else (DOWNSTREAM - 1, UPSTREAM + 1)
            tss = int(annotation.tss[i])
            pieces = [(tss - before, tss + after)]
        else:
            owned = slice(annotation.exon_indptr[i], annotation.exon_indptr[i + 1])
            starts, ends = annotation.exon_starts[owned], annotation.exon_ends[owned]
            pieces = list(zip(starts.tolist(), ends.tolist(), strict=True))
        strand, done = ("+" if forward else "-"), 0
        for start, end in pieces if forward else reversed(pieces):
            length = end - start
            cuts = [0, *range(BIN - done % BIN, length, BIN), length]
            for left, right in pairwise(cuts):
                low, high = (start + left, start + right) if forward else (end - right, end - left)
                low, high = max(low, 0), min(high, size)
                if low < high:
                    rows.append((chrom, low, high, f"{i}|{(done + left) // BIN}\t0\t{strand}"))
            done += length
    rows.sort()
    return [f"{chrom}\t{start}\t{end}\t{rest}\n" for chrom, start, end, rest in rows]


def ours(
    file: SiteFile, annotation: Annotation, genome: Genome, side: Side
) -> tuple[float, int, int]:
    """Seconds, covered bases and bins that are not empty."""
    stranded = side == "rna"
    regions = (
        rna_regions(annotation, genome, stranded=True)
        if stranded
        else promoter_regions(annotation, genome, UPSTREAM, DOWNSTREAM, stranded=False)
    )
    begin = time.perf_counter()
    pieces = clip_sites(read_sites(file, genome, stranded=stranded), regions, genome, "clip")
    interval, bins, bases = covered_bases(pieces.starts, pieces.ends, BIN)
    seconds = time.perf_counter() - begin
    filled = np.unique(np.stack([pieces.rows[interval], bins]), axis=1).shape[1]
    return seconds, int(bases.sum()), filled


def theirs(file: SiteFile, bins: Path, side: Side) -> tuple[float, int, int]:
    """Seconds, covered bases and bins that are not empty, by bedtools."""
    strand, merged = "", "bedtools merge -i -"
    if side == "rna":
        strand, merged = "-s", "bedtools merge -s -c 4,5,6 -o first,first,distinct -i -"
    command = (
        f"bedtools sort -i '{file.path}' | {merged} | sort -k1,1 -k2,2n | "
        f"bedtools coverage -sorted {strand} -a '{bins}' -b -"
    )
    begin = time.perf_counter()
    text = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    seconds = time.perf_counter() - begin
    counted: dict[str, int] = {}
    for line in text.splitlines():
        cells = line.split("\t")
        if cells[-3] != "0":
            counted[cells[3]] = counted.get(cells[3], 0) + int(cells[-3])
    return seconds, sum(counted.values()), len(counted)


def compare(data: Path, side: Side, n_tracks: int) -> tuple[float, float]:
    """Print a line for each of some tracks; return both sums of seconds."""
    genome = Genome.named("hg38")
    annotation = gene_models(data, genome)
    files = [file for file in site_files(data, side) if not file.by_name]
    if side == "rna":
        files = [file for file in files if "eCLIP" in file.track.source]
    chosen = files[:: max(1, len(files) // n_tracks)][:n_tracks]
    total = {"ours": 0.0, "theirs": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        bins = Path(folder) / "bins.bed"
        bins.write_text("".join(bin_lines(annotation, genome, side)))
        for file in chosen:
            with gzip.open(file.path) as stream:
                n_sites = sum(1 for _ in stream)
            fast, *result = min(ours(file, annotation, genome, side) for _ in range(3))
            slow, *expected = theirs(file, bins, side)
            if result != expected:
                raise SystemExit(f"{file.track.name}: {result} here, {expected} by bedtools")
            click.echo(
                f"{side:8} {file.track.name:20} {n_sites:7} sites {fast * 1e3:7.1f} ms, "
                f"bedtools {slow * 1e3:7.0f} ms, ratio {slow / fast:6.0f}"
            )
            total["ours"] += fast
            total["theirs"] += slow
    return total["ours"], total["theirs"]


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--promoter", default=6, show_default=True, help="Promoter tracks to compare.")
@click.option("--rna", default=4, show_default=True, help="RNA tracks to compare.")
@click.option("--whole-only", is_flag=True, help="Build the whole set and compare nothing.")
def main(data: Path, promoter: int, rna: int, whole_only: bool) -> None:
    """Time the feature builder, and bedtools on a few tracks."""
    if whole_only:
        build_everything(data)
        return
    # Peak memory is that of a process: the comparison must not add to it.
    subprocess.run([sys.executable, __file__, str(data), "--whole-only"], check=True)
    sums = [compare(data, "promoter", promoter), compare(data, "rna", rna)]
    fast, slow = (sum(part) for part in zip(*sums, strict=True))
    click.echo(
        f"{promoter + rna} tracks, equal results: {fast:.2f} s here, {slow:.1f} s with bedtools; "
        f"ratio {slow / fast:.0f} (budget {BUDGET_RATIO})"
    )


if __name__ == "__main__":
    main()
