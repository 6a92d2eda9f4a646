"""Feature sets: hand-made cases, symmetries, and a slow oracle that counts base by base."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decode_zoo.annotation import Annotation, read_gtf
from decode_zoo.builder import annotation_of, build_features, merge_features, read_aliases
from decode_zoo.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.features import FeatureSet
from decode_zoo.genome import Genome
from decode_zoo.layout import SIDES, Layout, Side
from decode_zoo.sites import find_site_files

TOY = Genome("toy", {"1": 400, "2": 130})
# Bins of 10 bases; windows of 4 bins before and 2 bins from the start site on.
SMALL = Layout(bin=10, upstream=40, downstream=20)


class Gene(NamedTuple):
    name: str
    chrom: str
    strand: int
    exons: tuple[tuple[int, int], ...]

    @property
    def tss(self) -> int:
        return self.exons[0][0] if self.strand > 0 else self.exons[-1][1] - 1


class Peak(NamedTuple):
    chrom: str
    start: int
    end: int
    strand: int = 1

    def line(self) -> str:
        return f"chr{self.chrom}\t{self.start}\t{self.end}\tx\t0\t{'+' if self.strand > 0 else '-'}"


Peaks = Mapping[str, Sequence[Peak]]


def models(genes: Sequence[Gene], genome: Genome = TOY) -> Annotation:
    ids = np.array([gene.name for gene in genes])
    exons = np.array([exon for gene in genes for exon in gene.exons], np.int64).reshape(-1, 2)
    return Annotation(
        level="gene",
        ids=ids,
        gene_ids=ids,
        symbols=np.array([f"symbol of {gene.name}" for gene in genes]),
        biotypes=np.array(["protein_coding"] * len(genes)),
        chroms=np.array([genome.code(gene.chrom) for gene in genes], np.int64),
        strands=np.array([gene.strand for gene in genes], np.int8),
        tss=np.array([gene.tss for gene in genes], np.int64),
        exon_indptr=np.cumsum([0] + [len(gene.exons) for gene in genes]),
        exon_starts=exons[:, 0],
        exon_ends=exons[:, 1],
    )


def write_tracks(folder: Path, tracks: Peaks) -> Path:
    folder.mkdir(parents=True)
    for name, peaks in tracks.items():
        (folder / f"{name}.bed").write_text("".join(peak.line() + "\n" for peak in peaks))
    return folder


def build(
    folder: Path,
    genes: Sequence[Gene],
    promoter: Peaks | None = None,
    rna: Peaks | None = None,
    layout: Layout = SMALL,
    **options: Any,
) -> FeatureSet:
    sides: tuple[tuple[Side, Peaks | None], ...] = (("promoter", promoter), ("rna", rna))
    files = {
        side: find_site_files(write_tracks(folder / side, tracks), side)
        for side, tracks in sides
        if tracks
    }
    return build_features(models(genes), TOY, files, folder / "set", layout=layout, **options)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder of its own to each example of a property test."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def column(features: FeatureSet, gene: str, side: Side, track: str = "T") -> list[int]:
    values = features.bins(gene, side)[track].tolist()
    return [int(value) for value in values]


def mask(features: FeatureSet, gene: str, side: Side) -> list[int]:
    row = np.array([features.row(gene)])
    return [int(value) for value in features.matrix(row, side)[0, :, 0]]


# -- the oracle ----------------------------------------------------------------------------------


def regions(gene: Gene, side: Side, layout: Layout) -> list[range]:
    """Stretches of chromosome that exist, in the direction of transcription."""
    if side == "rna":
        exons = [range(*exon) for exon in gene.exons]
        return exons if gene.strand > 0 else [exon[::-1] for exon in reversed(exons)]
    if gene.strand > 0:
        return [range(gene.tss - layout.upstream, gene.tss + layout.downstream)]
    return [range(gene.tss + layout.upstream, gene.tss - layout.downstream, -1)]


def count(
    gene: Gene, side: Side, peaks: Sequence[Peak], layout: Layout
) -> tuple[list[int], list[int]]:
    """Covered and existing bases of each bin, counted one by one."""
    stranded = layout.rna_stranded if side == "rna" else layout.promoter_stranded
    size = TOY.sizes[gene.chrom]
    exists: list[bool] = []
    covered: list[bool] = []
    for region in regions(gene, side, layout):
        inside = {position for position in region if 0 <= position < size}
        hit: set[int] = set()
        for peak in peaks:
            bases = set(range(peak.start, peak.end))
            same = peak.chrom == gene.chrom and (not stranded or peak.strand == gene.strand)
            if same and (layout.boundary == "clip" or bases <= inside):
                hit |= bases
        exists += [position in inside for position in region]
        covered += [position in inside and position in hit for position in region]
    cuts = range(0, len(exists), layout.bin)
    return (
        [sum(covered[cut : cut + layout.bin]) for cut in cuts],
        [sum(exists[cut : cut + layout.bin]) for cut in cuts],
    )


@st.composite
def genes_of(draw: st.DrawFn) -> list[Gene]:
    genes = []
    for i in range(draw(st.integers(1, 4))):
        chrom = draw(st.sampled_from(sorted(TOY.sizes)))
        n_edges = 2 * draw(st.integers(1, 3))
        edges = sorted(
            draw(st.sets(st.integers(0, TOY.sizes[chrom]), min_size=n_edges, max_size=n_edges))
        )
        exons = tuple(zip(edges[::2], edges[1::2], strict=True))
        genes.append(Gene(f"G{i}", chrom, draw(st.sampled_from([1, -1])), exons))
    return genes


@st.composite
def peak_of(draw: st.DrawFn) -> Peak:
    chrom = draw(st.sampled_from(sorted(TOY.sizes)))
    start = draw(st.integers(0, TOY.sizes[chrom]))
    end = draw(st.integers(start, min(start + 90, TOY.sizes[chrom])))
    return Peak(chrom, start, end, draw(st.sampled_from([1, -1])))


PEAKS = st.lists(peak_of(), max_size=12)
TRACKS = st.fixed_dictionaries({"A": PEAKS, "B": PEAKS})
LAYOUT = st.builds(
    Layout,
    bin=st.sampled_from([1, 10, 20]),
    upstream=st.sampled_from([0, 40]),
    downstream=st.sampled_from([20, 60]),
    boundary=st.sampled_from(["clip", "within"]),
    promoter_stranded=st.booleans(),
    rna_stranded=st.booleans(),
)


@settings(max_examples=60)
@given(genes_of(), TRACKS, TRACKS, LAYOUT)
def test_bins_are_what_counting_base_by_base_gives_and_position_sums_are_sums_of_bins(
    genes, promoter, rna, layout
):
    with scratch() as folder:
        features = build(folder, genes, promoter, rna, layout)
        rows = np.arange(len(genes))
        for side, tracks in (("promoter", promoter), ("rna", rna)):
            for gene in genes:
                for name, peaks in tracks.items():
                    covered, exists = count(gene, side, peaks, layout)
                    assert column(features, gene.name, side, name) == covered
                    assert mask(features, gene.name, side) == exists
            full = features.matrix(rows, side, pad=5)
            for kernel in (1, 2, 3, 5):
                expected = np.stack([full[:, k:].sum(axis=1) for k in range(kernel)], axis=1)
                pooled = features.pooled(None, side, kernel=kernel)
                assert pooled.dtype == np.float32
                assert np.array_equal(pooled, expected)
                assert all(part.data.all() for part in features.sums(side, kernel))
            largest = full[:, :, 1:].max(axis=(0, 1))
            assert features.largest_bin(rows, side).tolist() == largest.tolist()


# -- what changes nothing ------------------------------------------------------------------------


def content(features: FeatureSet) -> tuple[bytes, bytes]:
    return (
        features.locate("sites.npz").read_bytes(),
        features.locate("pooled.npz").read_bytes(),
    )


@settings(max_examples=40)
@given(genes_of(), TRACKS, TRACKS, st.randoms(use_true_random=False))
def test_peaks_in_two_halves_in_any_order_and_twice_change_nothing(genes, promoter, rna, random):
    def changed(tracks: Peaks) -> Peaks:
        halves: dict[str, list[Peak]] = {}
        for name, peaks in tracks.items():
            halves[name] = []
            for peak in peaks:
                cut = random.randint(peak.start, peak.end)
                halves[name] += 2 * [peak._replace(end=cut), peak._replace(start=cut)]
            random.shuffle(halves[name])
        return halves

    with scratch() as folder:
        whole = build(folder / "a", genes, promoter, rna)
        other = build(folder / "b", genes, changed(promoter), changed(rna))
        assert content(whole) == content(other)


def test_a_gene_does_not_depend_on_the_others(tmp_path):
    other = Gene("O", "1", -1, ((150, 260),))
    tracks = {"T": [Peak("1", 120, 180), Peak("1", 230, 300, -1)]}
    alone = build(tmp_path / "a", [FORWARD], tracks, tracks)
    together = build(tmp_path / "b", [other, FORWARD, BACKWARD], tracks, tracks)
    for side in SIDES:
        pd.testing.assert_frame_equal(alone.bins("F", side), together.bins("F", side))


# -- cases by hand -------------------------------------------------------------------------------

# Spliced: 25 + 18 nt = bins of 10, 10, 10, 10, 3. Start sites at 100 and 199.
FORWARD = Gene("F", "1", 1, ((100, 125), (182, 200)))
BACKWARD = Gene("B", "1", -1, ((100, 125), (182, 200)))
SHORT = Gene("S", "2", 1, ((60, 67),))


@pytest.mark.parametrize(
    ("peaks", "forward", "backward"),
    [
        # Backward, bins run down: 199..190, 189..182 and 124..123, 122..113, 112..103, 102..100.
        ([Peak("1", 110, 120)], [0, 10, 0, 0, 0], [0, 0, 7, 3, 0]),
        ([Peak("1", 105, 112)], [5, 2, 0, 0, 0], [0, 0, 0, 7, 0]),
        ([Peak("1", 95, 103)], [3, 0, 0, 0, 0], [0, 0, 0, 0, 3]),
        ([Peak("1", 120, 185)], [0, 0, 8, 0, 0], [0, 5, 3, 0, 0]),
        ([Peak("1", 125, 182)], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([Peak("1", 124, 125), Peak("1", 182, 183)], [0, 0, 2, 0, 0], [0, 2, 0, 0, 0]),
        ([Peak("1", 195, 300)], [0, 0, 0, 2, 3], [5, 0, 0, 0, 0]),
        ([Peak("1", 200, 300)], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([Peak("1", 0, 400)], [10, 10, 10, 10, 3], [10, 10, 10, 10, 3]),
        ([Peak("1", 110, 120)] * 3, [0, 10, 0, 0, 0], [0, 0, 7, 3, 0]),
        ([Peak("1", 110, 114), Peak("1", 112, 116)], [0, 6, 0, 0, 0], [0, 0, 3, 3, 0]),
        ([Peak("2", 110, 120)], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([Peak("1", 110, 110)], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
    ids=[
        "one-bin",
        "bin-border",
        "before-the-gene",
        "exon-border",
        "intron",
        "across-splice",
        "past-the-end",
        "behind-the-gene",
        "whole-chromosome",
        "duplicates",
        "overlapping",
        "other-chromosome",
        "empty",
    ],
)
def test_rna_by_hand(tmp_path, peaks, forward, backward):
    both = [peak._replace(strand=strand) for peak in peaks for strand in (1, -1)]
    features = build(tmp_path, [FORWARD, BACKWARD], rna={"T": both})
    assert column(features, "F", "rna") == forward
    assert column(features, "B", "rna") == backward
    assert mask(features, "F", "rna") == mask(features, "B", "rna") == [10, 10, 10, 10, 3]


@pytest.mark.parametrize(
    ("peaks", "forward", "backward"),
    [
        # Forward, bins start at 60, 70, …, 110; backward they end at 239, 229, …, 189.
        ([Peak("1", 70, 80)], [0, 10, 0, 0, 0, 0], [0] * 6),
        ([Peak("1", 76, 83)], [0, 4, 3, 0, 0, 0], [0] * 6),
        ([Peak("1", 40, 63)], [3, 0, 0, 0, 0, 0], [0] * 6),
        ([Peak("1", 118, 150)], [0, 0, 0, 0, 0, 2], [0] * 6),
        ([Peak("1", 100, 101)], [0, 0, 0, 0, 1, 0], [0] * 6),
        ([Peak("1", 199, 200)], [0] * 6, [0, 0, 0, 0, 1, 0]),
        ([Peak("1", 235, 250)], [0] * 6, [5, 0, 0, 0, 0, 0]),
        ([Peak("1", 170, 182)], [0] * 6, [0, 0, 0, 0, 0, 2]),
        ([Peak("1", 0, 400)], [10] * 6, [10] * 6),
    ],
)
def test_promoter_by_hand(tmp_path, peaks, forward, backward):
    features = build(tmp_path, [FORWARD, BACKWARD], promoter={"T": peaks})
    assert column(features, "F", "promoter") == forward
    assert column(features, "B", "promoter") == backward
    assert mask(features, "F", "promoter") == mask(features, "B", "promoter") == [10] * 6


def test_gene_shorter_than_a_bin(tmp_path):
    features = build(tmp_path, [SHORT], rna={"T": [Peak("2", 64, 90)]})
    assert column(features, "S", "rna") == [3]
    assert mask(features, "S", "rna") == [7]
    assert features.pooled(["S"], "rna", kernel=3).tolist() == [[[7, 3], [0, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("gene", "exists"),
    [
        (Gene("G", "2", 1, ((13, 60),)), [0, 0, 3, 10, 10, 10]),
        (Gene("G", "2", 1, ((0, 60),)), [0, 0, 0, 0, 10, 10]),
        (Gene("G", "2", -1, ((1, 5),)), [10, 10, 10, 10, 5, 0]),
        (Gene("G", "2", 1, ((117, 130),)), [10, 10, 10, 10, 10, 3]),
        (Gene("G", "2", -1, ((90, 117),)), [0, 0, 3, 10, 10, 10]),
        (Gene("G", "2", -1, ((90, 130),)), [0, 0, 0, 0, 10, 10]),
    ],
    ids=["left+", "left-edge+", "left-", "right+", "right-", "right-edge-"],
)
def test_windows_are_clipped_at_chromosome_ends(tmp_path, gene, exists):
    # The neighbour's sites must not be seen through the end of the chromosome.
    tracks = {"T": [Peak("2", 0, 130), Peak("1", 0, 400)], "U": [Peak("1", 0, 400)]}
    features = build(tmp_path, [gene], promoter=tracks)
    assert mask(features, "G", "promoter") == exists
    assert column(features, "G", "promoter") == exists
    assert sum(column(features, "G", "promoter", "U")) == 0
    assert features.pooled(None, "promoter", kernel=6)[0, :, 0].tolist() == [
        sum(exists[k:]) for k in range(6)
    ]


def test_within_drops_what_clip_cuts(tmp_path):
    rna = {"T": [Peak("1", 90, 105), Peak("1", 110, 125), Peak("1", 120, 190), Peak("1", 182, 184)]}
    promoter = {"T": [Peak("1", 55, 65), Peak("1", 60, 62), Peak("1", 110, 121)]}
    clip = build(tmp_path / "clip", [FORWARD], promoter, rna)
    within = build(tmp_path / "in", [FORWARD], promoter, rna, replace(SMALL, boundary="within"))
    assert column(clip, "F", "rna") == [5, 10, 10, 3, 0]
    assert column(within, "F", "rna") == [0, 10, 7, 0, 0]
    assert column(clip, "F", "promoter") == [5, 0, 0, 0, 0, 10]
    assert column(within, "F", "promoter") == [2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("stranded", [False, True])
def test_strand_counts_where_it_is_asked_for(tmp_path, stranded):
    layout = replace(SMALL, promoter_stranded=stranded, rna_stranded=stranded)
    tracks = {"T": [Peak("1", 100, 110, 1), Peak("1", 105, 115, -1)]}
    genes = [Gene("F", "1", 1, ((100, 130),)), Gene("B", "1", -1, ((100, 130),))]
    features = build(tmp_path, genes, tracks, tracks, layout)
    assert column(features, "F", "rna") == ([10, 0, 0] if stranded else [10, 5, 0])
    assert column(features, "B", "rna") == ([0, 5, 5] if stranded else [0, 5, 10])
    assert column(features, "F", "promoter")[4:] == ([10, 0] if stranded else [10, 5])
    assert column(features, "B", "promoter")[4:] == [0, 5]


def test_overlapping_genes_each_get_the_site(tmp_path):
    genes = [Gene(f"G{i}", "1", 1, ((100, 100 + 20 * i),)) for i in range(1, 5)]
    features = build(tmp_path, genes, rna={"T": [Peak("1", 112, 114)]})
    assert [column(features, gene.name, "rna")[1] for gene in genes] == [2, 2, 2, 2]


# -- files ---------------------------------------------------------------------------------------

TWO = {"A": [Peak("1", 90, 130), Peak("2", 50, 70)], "B": [Peak("1", 180, 195, -1)]}
GENES = [FORWARD, SHORT, BACKWARD]


def test_rebuilding_gives_the_same_bytes(tmp_path):
    one = build(tmp_path / "a", GENES, TWO, TWO)
    other = build(tmp_path / "b", GENES, TWO, TWO)
    assert content(one) == content(other)
    assert one.locate("features.json").read_bytes() == other.locate("features.json").read_bytes()
    assert one.sha256 == other.sha256


@settings(max_examples=15)
@given(genes_of(), TRACKS, TRACKS, PEAKS, PEAKS)
def test_merging_is_building_in_one_go(genes, promoter, rna, more_promoter, more_rna):
    # Mine sorts behind A and B, as merged tracks do.
    mine, mine_rna = {"Mine": more_promoter}, {"Mine": more_rna}
    with scratch() as folder:
        base = build(folder / "base", genes, promoter, rna)
        added = build(folder / "added", genes[::-1], mine, mine_rna)
        merged = merge_features(base, added, folder / "merged")
        whole = build(folder / "whole", genes, {**promoter, **mine}, {**rna, **mine_rna})
        assert content(merged) == content(whole)
        assert merged.locate("features.json").read_bytes() == (
            whole.locate("features.json").read_bytes()
        )


def test_merging_refuses_what_does_not_fit(tmp_path):
    base = build(tmp_path / "base", GENES, TWO, TWO)
    mine = {"Mine": [Peak("1", 1, 2)]}

    def merge(name: str, genes: Sequence[Gene], tracks: Peaks, layout: Layout = SMALL) -> None:
        added = build(tmp_path / name, genes, tracks, layout=layout)
        merge_features(base, added, tmp_path / "merged")

    with pytest.raises(UsageError, match="1 promoter tracks are in both sets: A"):
        merge("same", GENES, {"A": []})
    with pytest.raises(UsageError, match="sets differ in layout"):
        merge("layout", GENES, mine, replace(SMALL, upstream=50))
    with pytest.raises(UsageError, match=r"1 of 3 genes are not in the set to add, e\.g\. S"):
        merge("genes", [FORWARD, BACKWARD], mine)
    with pytest.raises(UsageError, match=r"1 genes differ in tss, e\.g\. S"):
        merge("tss", [FORWARD, SHORT._replace(exons=((61, 68),)), BACKWARD], mine)
    with pytest.raises(UsageError, match=r"1 genes differ in rna_lengths, e\.g\. S"):
        merge("lengths", [FORWARD, SHORT._replace(exons=((60, 68),)), BACKWARD], mine)
    shifted = FORWARD._replace(exons=((100, 125), (183, 201)))  # same start, same length
    with pytest.raises(UsageError, match=r"1 genes differ in exons, e\.g\. F"):
        merge("exons", [shifted, SHORT, BACKWARD], mine)
    split = FORWARD._replace(exons=((100, 120), (150, 155), (182, 200)))
    with pytest.raises(UsageError, match=r"1 genes differ in exons, e\.g\. F"):
        merge("parts", [split, SHORT, BACKWARD], mine)
    assert not (tmp_path / "merged").exists()


def test_a_set_like_another_is_built_from_the_set_itself(tmp_path):
    base = build(tmp_path / "base", GENES, TWO, TWO)
    files = {side: find_site_files(tmp_path / "base" / side, side) for side in SIDES}
    again = build_features(annotation_of(base, TOY), TOY, files, tmp_path / "x", layout=SMALL)
    assert content(again) == content(base)


def test_a_bad_file_leaves_nothing_behind(tmp_path):
    write_tracks(tmp_path / "tracks", {f"T{i}": [Peak("1", 1, 9)] for i in range(6)})
    (tmp_path / "tracks" / "T3.bed").write_text("chr1\t1\t9\nchr1\t1\n")
    files = {"promoter": find_site_files(tmp_path / "tracks", "promoter")}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"T3\.bed, line 2: expected BED"):
        build_features(models(GENES), TOY, files, tmp_path / "set", layout=SMALL)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_existing_set_is_kept_unless_forced(tmp_path):
    first = build(tmp_path, GENES, TWO, TWO)
    kept = content(first)
    files = {"promoter": find_site_files(tmp_path / "promoter", "promoter")}

    def again(*, force: bool) -> FeatureSet:
        return build_features(
            models(GENES), TOY, files, tmp_path / "set", layout=SMALL, force=force
        )

    with pytest.raises(UsageError, match="set"):
        again(force=False)
    assert content(first) == kept
    (tmp_path / "promoter" / "A.bed").write_text("chr1\tbad\n")
    with pytest.raises(InputError):
        again(force=True)
    assert content(first) == kept
    (tmp_path / "promoter" / "A.bed").write_text("")
    assert again(force=True).tracks("rna") == []


def test_tracks_of_one_name_in_two_sources(tmp_path):
    one = find_site_files(write_tracks(tmp_path / "one", {"A": []}), "rna")
    two = find_site_files(write_tracks(tmp_path / "two", {"A": []}), "rna")
    with pytest.raises(InputError, match="1 track names occur in more than one source: A"):
        build_features(models(GENES), TOY, {"rna": [*one, *two]}, tmp_path / "set", layout=SMALL)


def test_progress_counts_files(tmp_path):
    steps: list[int] = []
    build(tmp_path, GENES, TWO, TWO, progress=steps.append)
    assert steps == [1, 1, 1, 1]


def test_set_without_tracks_or_sites(tmp_path):
    features = build(tmp_path, GENES, promoter={"A": []})
    assert features.bins("F", "promoter")["A"].sum() == 0
    assert features.bins("F", "rna").shape == (5, 0)
    assert features.pooled(None, "rna", kernel=3).shape == (3, 3, 1)
    assert features.largest_bin(np.arange(3), "promoter").tolist() == [0]


def test_transcript_level(tmp_path):
    gtf = "".join(
        f'chr1\tx\texon\t{start}\t{end}\t.\t+\t.\tgene_id "G"; transcript_id "{name}"; '
        f'gene_name "SYM";\n'
        for name, start, end in (("T1", 101, 125), ("T2", 111, 125), ("T1", 183, 200))
    )
    (tmp_path / "genes.gtf").write_text(gtf)
    rows = read_gtf(tmp_path / "genes.gtf", TOY, level="transcript")
    files = {
        "rna": find_site_files(write_tracks(tmp_path / "t", {"T": [Peak("1", 112, 190)]}), "rna")
    }
    features = build_features(rows, TOY, files, tmp_path / "set", layout=SMALL)
    assert features.layout.level == "transcript"
    assert features.genes.name == "transcript_id"
    assert features.rna_lengths.to_dict() == {"T1": 43, "T2": 15}
    assert features.rows.gene_ids == ["G", "G"]
    assert column(features, "T1", "rna") == [0, 8, 10, 3, 0]
    assert column(features, "T2", "rna") == [8, 5]
    with pytest.raises(UsageError, match="ambiguous"):
        features.bins("SYM", "rna")


def test_aliases_file(tmp_path):
    path = tmp_path / "aliases.tsv"
    path.write_text("\ufeffalias\tgene_id\nold\tF\n", encoding="utf-8")
    assert read_aliases(path) == {"old": "F"}
    for text, message in (
        (b"a\tb\n", "line 1: its header must be"),
        (b"alias\tgene_id\nold\n", "line 2: expected an alias and a gene id"),
        (b"alias\tgene_id\n\xe9\tF\n", "is not UTF-8 text"),
    ):
        path.write_bytes(text)
        with pytest.raises(InputError, match=message):
            read_aliases(path)


# -- reading a set -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("loaded")
    build(folder, GENES, TWO, {"C": TWO["A"], **TWO}, aliases={"old": "F"})
    return FeatureSet.load(folder / "set")


def test_what_is_in_a_set(loaded):
    assert len(loaded) == 3
    assert loaded.genes.tolist() == ["F", "S", "B"]
    assert loaded.genes.name == "gene_id"
    assert loaded.rna_lengths.to_dict() == {"F": 43, "S": 7, "B": 43}
    assert loaded.tracks("promoter") == ["A", "B"]
    assert loaded.tracks("rna") == ["A", "B", "C"]
    assert loaded.n_bins("promoter").tolist() == [6, 6, 6]
    assert loaded.n_bins("rna").tolist() == [5, 1, 5]
    assert loaded.layout == replace(SMALL, genome="toy", level="gene")
    assert loaded.rows.chroms == ["1", "2", "1"]
    assert loaded.rows.tss == [100, 60, 199]
    assert [loaded.row(name) for name in ("F", "symbol of S", "old")] == [0, 1, 0]


def test_bins_are_labelled(loaded):
    bins = loaded.bins("symbol of F", "rna")
    assert bins.columns.tolist() == ["A", "B", "C"]
    assert bins.index.name == "bin"
    assert (bins.to_numpy().dtype, bins["A"].tolist()) == (np.int64, [10, 10, 5, 0, 0])


def test_matrix_pads_to_the_longest_row_and_more(loaded):
    rows = np.array([1, 0, 1])
    matrix = loaded.matrix(rows, "rna", pad=2)
    assert matrix.shape == (3, 7, 4)
    assert matrix.dtype == np.float32
    assert matrix[1, :, 0].tolist() == [10, 10, 10, 10, 3, 0, 0]
    assert np.array_equal(matrix[0], matrix[2])
    assert matrix[0, :, 1].tolist() == [7, 0, 0, 0, 0, 0, 0]
    assert loaded.matrix(np.array([1]), "rna").shape == (1, 1, 4)
    assert loaded.matrix(np.zeros(0, np.int64), "rna").shape == (0, 0, 4)


def test_pooled_picks_genes_and_tracks_by_name(loaded):
    everything = loaded.pooled(None, "rna", kernel=2)
    some = loaded.pooled(["symbol of B", "old", "B"], "rna", kernel=2, tracks=["C", "A"])
    assert np.array_equal(some, everything[[2, 0, 2]][:, :, [0, 3, 1]])
    assert loaded.pooled([], "rna").shape == (0, 1, 4)
    assert loaded.pooled(["F"], "rna", tracks=[]).tolist() == [[[43]]]
    assert loaded.pooled(["F"], "rna", tracks=pd.Index(["A"])).shape == (1, 1, 2)


def test_unknown_names_are_told(loaded):
    with pytest.raises(UsageError, match="Gene 'nope' is not in this feature set"):
        loaded.bins("nope", "rna")
    with pytest.raises(UsageError, match="1 of 2 rna tracks are not in the feature set: nope"):
        loaded.pooled(["F"], "rna", tracks=["A", "nope"])
    with pytest.raises(UsageError, match="A side is 'promoter' or 'rna', not 'dna'"):
        loaded.tracks("dna")


def test_small_kernels_need_no_positions(loaded, tmp_path):
    for name in ("features.json", "pooled.npz"):
        (tmp_path / name).write_bytes(loaded.locate(name).read_bytes())
    light = FeatureSet.load(tmp_path)
    assert np.array_equal(light.pooled(None, "rna", kernel=3), loaded.pooled(None, "rna", kernel=3))
    assert np.array_equal(light.pooled(), loaded.pooled())
    with pytest.raises(ArtifactError, match=r"has no sites\.npz"):
        light.bins("F", "rna")


def test_arrays_are_plain_integers(loaded):
    for name in ("sites.npz", "pooled.npz"):
        with np.load(loaded.locate(name), allow_pickle=False) as arrays:
            assert {arrays[key].dtype.kind for key in arrays.files} == {"u"}


def test_what_is_no_feature_set(loaded, tmp_path):
    with pytest.raises(InputError, match="is not a feature set"):
        FeatureSet.load(tmp_path)
    header = loaded.locate("features.json").read_text()
    for text, message in (
        ("{", "is not a feature set's description"),
        ("{}", "is not a feature set's description"),
        (header.replace('"format_version":1', '"format_version":2'), "of feature-set format 2"),
        (header.replace('"bin":10', '"bin":7'), "not a whole number of bins"),
    ):
        (tmp_path / "features.json").write_text(text)
        with pytest.raises((InputError, UsageError), match=message):
            FeatureSet.load(tmp_path)
    (tmp_path / "features.json").write_text(header)
    good = loaded.locate("pooled.npz").read_bytes()
    flipped = good[:60] + bytes(255 - byte for byte in good[60:90]) + good[90:]
    without = tmp_path / "without.npz"
    np.savez(without, promoter_total_counts=np.zeros(1, np.uint16))
    known = hashlib.sha256(good).hexdigest()
    assert known in header
    for damaged, message in (
        (b"", "cannot be read as arrays"),
        (b"PK no zip", "cannot be read as arrays"),
        (good[:-30], "cannot be read as arrays"),
        (flipped, "cannot be read as arrays"),
        (without.read_bytes(), "lacks or adds the arrays"),
    ):
        (tmp_path / "pooled.npz").write_bytes(damaged)
        (tmp_path / "features.json").write_text(header)
        with pytest.raises(VerificationError, match="does not belong to this feature set"):
            FeatureSet.load(tmp_path).pooled()
        # Even if the description vouches for it.
        vouched = header.replace(known, hashlib.sha256(damaged).hexdigest())
        (tmp_path / "features.json").write_text(vouched)
        with pytest.raises(InputError, match=message):
            FeatureSet.load(tmp_path).pooled()


def test_layouts_that_make_no_bins_are_refused():
    for wrong in ({"bin": 0}, {"upstream": -100}, {"upstream": 0, "downstream": 0}, {"bin": 7}):
        with pytest.raises(UsageError):
            Layout(**wrong)


@pytest.mark.fault
def test_tracks_without_a_site_on_any_gene_are_told_in_one_line(tmp_path, caplog):
    genes = [Gene("a", "2", 1, ((60, 100),))]
    rna = {"hit": [Peak("2", 70, 80)], **{f"far{i}": [Peak("1", 300, 310)] for i in range(9)}}
    build(tmp_path / "one", genes, {"nochr": [Peak("1", 300, 310)]}, rna)
    assert caplog.messages == [
        "promoter: 1 of 1 tracks without a site on any gene (nochr): are sites and genes of the "
        "same assembly?",
        "rna: 9 of 10 tracks without a site on any gene (far0, far1, far2, far3, far4, …): are "
        "sites and genes of the same assembly?",
    ]
    caplog.clear()
    build(tmp_path / "two", genes, None, {"hit": [Peak("2", 70, 80)]})
    assert caplog.messages == []
