"""Feature sets: hand-made cases, symmetries, and a slow oracle that counts base by base."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decode_zoo.core.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.features.annotation import Annotation, read_gtf
from decode_zoo.features.building import annotation_of, build_features, merge_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import read_aliases
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import find_site_files
from decode_zoo.features.spec import SIDES, Binning, Side

TOY = Genome("toy", {"1": 400, "2": 130})
# Bins of 10 bases; windows of 4 bins before and 2 bins from the start site on.
SMALL = Binning(bin=10, upstream=40, downstream=20)


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


def transcripts(path: Path, exons: Sequence[tuple[str, str, int, int]]) -> Annotation:
    """Transcripts on chr1 from exons: gene, transcript, first and last base."""
    path.write_text(
        "".join(
            f'chr1\tx\texon\t{start}\t{end}\t.\t+\t.\tgene_id "{gene}"; '
            f'transcript_id "{name}"; gene_name "SYM{gene}";\n'
            for gene, name, start, end in exons
        )
    )
    return read_gtf(path, TOY, level="transcript")


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
    layout: Binning = SMALL,
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


def regions(gene: Gene, side: Side, layout: Binning) -> list[range]:
    """Stretches of chromosome that exist, in the direction of transcription."""
    if side == "rna":
        exons = [range(*exon) for exon in gene.exons]
        return exons if gene.strand > 0 else [exon[::-1] for exon in reversed(exons)]
    if gene.strand > 0:
        return [range(gene.tss - layout.upstream, gene.tss + layout.downstream)]
    return [range(gene.tss + layout.upstream, gene.tss - layout.downstream, -1)]


def count(
    gene: Gene, side: Side, peaks: Sequence[Peak], layout: Binning
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
    Binning,
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


# -- cases by hand -------------------------------------------------------------------------------

# Spliced: 25 + 18 nt = bins of 10, 10, 10, 10, 3. Start sites at 100 and 199.
FORWARD = Gene("F", "1", 1, ((100, 125), (182, 200)))
BACKWARD = Gene("B", "1", -1, ((100, 125), (182, 200)))
SHORT = Gene("S", "2", 1, ((60, 67),))


@pytest.mark.parametrize(
    ("side", "peaks", "forward", "backward"),
    [
        # Backward, bins run down: 199..190, 189..182 and 124..123, 122..113, 112..103, 102..100.
        ("rna", [(105, 112)], [5, 2, 0, 0, 0], [0, 0, 0, 7, 0]),
        ("rna", [(95, 103)], [3, 0, 0, 0, 0], [0, 0, 0, 0, 3]),
        ("rna", [(120, 185)], [0, 0, 8, 0, 0], [0, 5, 3, 0, 0]),
        ("rna", [(125, 182), (200, 300), (110, 110)], [0] * 5, [0] * 5),
        ("rna", [(110, 114), (112, 116), (112, 116)], [0, 6, 0, 0, 0], [0, 0, 3, 3, 0]),
        # Forward, bins start at 60, 70, …, 110; backward they end at 239, 229, …, 189.
        ("promoter", [(76, 83)], [0, 4, 3, 0, 0, 0], [0] * 6),
        ("promoter", [(199, 200), (235, 250)], [0] * 6, [5, 0, 0, 0, 1, 0]),
        ("promoter", [(118, 182)], [0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 2]),
    ],
)
def test_bins_by_hand(tmp_path, side, peaks, forward, backward):
    both = [Peak("1", *peak, strand) for peak in peaks for strand in (1, -1)]
    features = build(tmp_path, [FORWARD, BACKWARD], **{side: {"T": both}})
    assert column(features, "F", side) == forward
    assert column(features, "B", side) == backward
    exists = [10, 10, 10, 10, 3] if side == "rna" else [10] * 6
    assert mask(features, "F", side) == mask(features, "B", side) == exists


# -- files ---------------------------------------------------------------------------------------

TWO = {"A": [Peak("1", 90, 130), Peak("2", 50, 70)], "B": [Peak("1", 180, 195, -1)]}
GENES = [FORWARD, SHORT, BACKWARD]


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


SHIFTED = FORWARD._replace(exons=((100, 125), (183, 201)))  # same start, same length
SPLIT = FORWARD._replace(exons=((100, 120), (150, 155), (182, 200)))


@pytest.mark.parametrize(
    ("genes", "track", "upstream", "message"),
    [
        (GENES, "A", 40, "1 promoter tracks are in both sets: A"),
        (GENES, "Mine", 50, "sets differ in layout"),
        ([FORWARD, BACKWARD], "Mine", 40, "1 of 3 genes are not in the set to add, e.g. S"),
        (
            [FORWARD, SHORT._replace(exons=((61, 68),)), BACKWARD],
            "Mine",
            40,
            "1 genes differ in tss, e.g. S",
        ),
        (
            [FORWARD, SHORT._replace(exons=((60, 68),)), BACKWARD],
            "Mine",
            40,
            "1 genes differ in rna_lengths, e.g. S",
        ),
        ([SHIFTED, SHORT, BACKWARD], "Mine", 40, "1 genes differ in exons, e.g. F"),
        ([SPLIT, SHORT, BACKWARD], "Mine", 40, "1 genes differ in exons, e.g. F"),
    ],
)
def test_merging_refuses_what_does_not_fit(tmp_path, genes, track, upstream, message):
    base = build(tmp_path / "base", GENES, TWO, TWO)
    layout = replace(SMALL, upstream=upstream)
    added = build(tmp_path / "added", genes, {track: [Peak("1", 1, 2)]}, layout=layout)
    with pytest.raises(UsageError, match=message):
        merge_features(base, added, tmp_path / "merged")
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
    kept = content(build(tmp_path, GENES, TWO, TWO))
    files = {"promoter": find_site_files(tmp_path / "promoter", "promoter")}
    again = partial(build_features, models(GENES), TOY, files, tmp_path / "set", layout=SMALL)
    with pytest.raises(UsageError, match="set"):
        again()
    (tmp_path / "promoter" / "A.bed").write_text("chr1\tbad\n")
    with pytest.raises(InputError):
        again(force=True)
    assert content(FeatureSet.load(tmp_path / "set")) == kept
    (tmp_path / "promoter" / "A.bed").write_text("")
    assert again(force=True).tracks("rna") == []


def test_tracks_of_one_name_in_two_sources(tmp_path):
    files = [
        *find_site_files(write_tracks(tmp_path / "one", {"A": []}), "rna"),
        *find_site_files(write_tracks(tmp_path / "two", {"A": []}), "rna"),
    ]
    with pytest.raises(InputError, match="1 track names occur more than once: A"):
        build_features(models(GENES), TOY, {"rna": files}, tmp_path / "set", layout=SMALL)


def test_set_without_tracks_or_sites(tmp_path):
    features = build(tmp_path, GENES, promoter={"A": []})
    assert features.bins("F", "promoter")["A"].sum() == 0
    assert features.bins("F", "rna").shape == (5, 0)
    assert features.pooled(None, "rna", kernel=3).shape == (3, 3, 1)
    assert features.largest_bin(np.arange(3), "promoter").tolist() == [0]


def test_transcript_level(tmp_path):
    exons = (("G", "T1", 101, 125), ("G", "T2", 111, 125), ("G", "T1", 183, 200))
    rows = transcripts(tmp_path / "genes.gtf", exons)
    folder = write_tracks(tmp_path / "rna", {"T": [Peak("1", 112, 190)]})
    files = {"rna": find_site_files(folder, "rna")}
    features = build_features(rows, TOY, files, tmp_path / "set", layout=SMALL)
    assert (features.layout.level, features.genes.name) == ("transcript", "transcript_id")
    assert features.rna_lengths.to_dict() == {"T1": 43, "T2": 15}
    assert column(features, "T1", "rna") == [0, 8, 10, 3, 0]
    assert column(features, "T2", "rna") == [8, 5]
    with pytest.raises(UsageError, match="ambiguous"):
        features.bins("SYMG", "rna")


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
    assert repr(loaded) == "FeatureSet(3 genes of toy, 2 promoter and 3 RNA tracks)"
    assert loaded.genes.tolist() == ["F", "S", "B"]
    assert loaded.rna_lengths.to_dict() == {"F": 43, "S": 7, "B": 43}
    assert loaded.tracks("rna") == ["A", "B", "C"]
    assert loaded.n_bins("promoter").tolist() == [6, 6, 6]
    assert loaded.n_bins("rna").tolist() == [5, 1, 5]
    assert loaded.layout == replace(SMALL, genome="toy", level="gene")
    assert (loaded.rows.chroms, loaded.rows.tss) == (["1", "2", "1"], [100, 60, 199])
    assert [loaded.row(name) for name in ("F", "symbol of S", "old")] == [0, 1, 0]
    bins = loaded.bins("symbol of F", "rna")
    assert (bins.columns.tolist(), bins.index.name) == (["A", "B", "C"], "bin")
    for name in ("sites.npz", "pooled.npz"):
        with np.load(loaded.locate(name), allow_pickle=False) as arrays:
            assert {arrays[key].dtype.kind for key in arrays.files} == {"u"}


def test_matrix_pads_to_the_longest_row_and_more(loaded):
    matrix = loaded.matrix(np.array([1, 0, 1]), "rna", pad=2)
    assert (matrix.shape, matrix.dtype) == ((3, 7, 4), np.float32)
    assert matrix[1, :, 0].tolist() == [10, 10, 10, 10, 3, 0, 0]
    assert np.array_equal(matrix[0], matrix[2])
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
    with pytest.raises(UsageError, match="Give a list of genes"):
        loaded.pooled("F")


def test_small_kernels_need_no_positions(loaded, tmp_path):
    for name in ("features.json", "pooled.npz"):
        (tmp_path / name).write_bytes(loaded.locate(name).read_bytes())
    light = FeatureSet.load(tmp_path)
    assert np.array_equal(light.pooled(None, "rna", kernel=3), loaded.pooled(None, "rna", kernel=3))
    assert np.array_equal(light.pooled(), loaded.pooled())
    with pytest.raises(ArtifactError, match=r"has no sites\.npz"):
        light.bins("F", "rna")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (None, "{", "is not a feature set's description"),
        (None, "{}", "is not a feature set's description"),
        ('"format_version":1', '"format_version":2', "of feature-set format 2"),
        ('"bin":10', '"bin":7', "not a whole number of bins"),
        ('"bin":10', '"bin":0', "must be positive"),
    ],
)
def test_bad_descriptions_are_refused(loaded, tmp_path, old, new, message):
    with pytest.raises(InputError, match="is not a feature set"):
        FeatureSet.load(tmp_path)
    text = loaded.locate("features.json").read_text().replace(old, new) if old else new
    (tmp_path / "features.json").write_text(text)
    with pytest.raises((InputError, UsageError), match=message):
        FeatureSet.load(tmp_path)


def test_damaged_arrays_are_refused_even_if_the_description_vouches_for_them(loaded, tmp_path):
    header = loaded.locate("features.json").read_text()
    good = loaded.locate("pooled.npz").read_bytes()
    without = io.BytesIO()
    np.savez(without, promoter_total_counts=np.zeros(1, np.uint16))
    known = hashlib.sha256(good).hexdigest()
    for damaged, message in (
        (b"PK no zip", "cannot be read as arrays"),
        (good[:-30], "cannot be read as arrays"),
        (good[:60] + bytes(255 - byte for byte in good[60:90]) + good[90:], "cannot be read as"),
        (without.getvalue(), "lacks or adds the arrays"),
    ):
        (tmp_path / "pooled.npz").write_bytes(damaged)
        (tmp_path / "features.json").write_text(header)
        with pytest.raises(VerificationError, match="does not belong to this feature set"):
            FeatureSet.load(tmp_path).pooled()
        vouched = header.replace(known, hashlib.sha256(damaged).hexdigest())
        (tmp_path / "features.json").write_text(vouched)
        with pytest.raises(InputError, match=message):
            FeatureSet.load(tmp_path).pooled()


@pytest.mark.fault
def test_tracks_without_a_site_on_any_gene_are_told_in_one_line(tmp_path, caplog):
    rna = {"hit": [Peak("2", 70, 80)], **{f"far{i}": [Peak("1", 300, 310)] for i in range(9)}}
    build(tmp_path, [Gene("a", "2", 1, ((60, 100),))], {"nochr": [Peak("1", 300, 310)]}, rna)
    assert caplog.messages == [
        "promoter: 1 of 1 tracks without a site on any gene (nochr): are sites and genes of the "
        "same assembly?",
        "rna: 9 of 10 tracks without a site on any gene (far0, far1, far2, far3, far4, …): are "
        "sites and genes of the same assembly?",
    ]
