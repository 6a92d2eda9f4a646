"""Names of chromosomes, their lengths, and the axis through them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.genome import Genome, canonical_name, read_chrom_sizes

HG38 = Genome.named("hg38")
TOY = Genome("toy", {"1": 10_000, "2": 5_000, "X": 5_000, "Y": 5_000, "M": 400})


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("1", "chr1 1 Chr1 NC_000001.11"),
        ("20", "NC_000020.11"),
        ("X", "chrX NC_000023.11"),
        ("M", "chrM chrMT MT NC_012920.1"),
        ("Un_KI270302v1", "chrUn_KI270302v1"),
        ("NT_187361.1", "NT_187361.1"),
        ("NC_000067.7", "NC_000067.7"),
        ("NC_000000.1", "NC_000000.1"),
    ],
)
def test_canonical_names(name, spellings):
    assert {canonical_name(spelling) for spelling in spellings.split()} == {name}


def test_linear_axis_keeps_neighbouring_chromosomes_apart():
    assert TOY.offsets.tolist() == [0, 10_001, 15_002, 20_003, 25_004]
    assert TOY.span == 25_405
    assert TOY.code("chrMT") == 4
    assert TOY.code("chr3") == -1


def test_only_hg38_is_built_in():
    with pytest.raises(UsageError, match="only hg38"):
        Genome.named("hg19")


# -- accessions and builds -----------------------------------------------------------------------


def intervals(*chroms: str) -> pd.DataFrame:
    return pd.DataFrame({"chrom": chroms, "start": 1, "end": 2})


def test_every_chromosome_of_hg38_has_its_accession():
    assert sorted(HG38.spellings.values()) == sorted(HG38.names)
    for accession, name in HG38.spellings.items():
        assert canonical_name(accession) == name
        assert HG38.code(accession) == HG38.code(name) == HG38.code(f"chr{name}")


@pytest.mark.parametrize("name", ["NC_000001.10", "NC_000023.12", "NC_012920.2"])
def test_accessions_of_other_builds_are_not_hg38(name):
    assert HG38.code(name) == -1
    message = (
        f"x.bed: {name} is chromosome . of another genome build: the accession version of hg38 is"
    )
    with pytest.raises(InputError, match=message):
        HG38.place(intervals("chr2", name), "x.bed")


def test_what_is_of_no_chromosome_is_lacking_but_of_no_other_build():
    names = ["NC_000067.7", "NT_187361.1", "NC_060925.1", "chrUn_KI270302v1", "chr1", "MT"]
    assert [HG38.code(name) for name in names] == [-1, -1, -1, -1, 0, 24]
    assert HG38.place(intervals(*names), "x.bed")[0].tolist() == [-1, -1, -1, -1, 0, 24]


def test_without_accessions_any_version_will_do():
    names = ("NC_000001.10", "NC_000001.11", "chr1")
    assert TOY.place(intervals(*names), "x.bed")[0].tolist() == [0, 0, 0]


# -- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chrom", "start", "end", "message"),
    [
        ("chr1", -1, 5, "start and end are not a 0-based half-open interval"),
        ("chr1", 5, 5, "start and end are not a 0-based half-open interval"),
        ("chr3", 9, 5, "start and end are not a 0-based half-open interval"),
        ("chr1", 9_999, 10_001, "ends past its chromosome's last base in toy"),
    ],
)
def test_an_interval_that_cannot_be_is_refused_with_its_line(chrom, start, end, message):
    table = pd.DataFrame(
        {"chrom": ["1", "chr1", chrom], "start": [0, 9_999, start], "end": [1, 10_000, end]},
        index=[2, 3, 7],
    )
    with pytest.raises(InputError, match=f"x.bed, line 7: {message}") as caught:
        TOY.place(table, "x.bed")
    assert caught.value.remedy
    assert TOY.place(table[:2], "x.bed")[1].tolist() == [0, 9_999]
    if start == end:
        assert TOY.place(table, "x.bed", empty=True)[2].tolist() == [1, 10_000, 5]
    with pytest.raises(InputError, match="line 2: start and end are not a 1-based closed interval"):
        TOY.place(table, "x.gtf", one_based=True)


def test_files_without_a_known_sequence_are_refused():
    with pytest.raises(InputError, match=r"x: none of its sequences \(Mito, …\) is in"):
        TOY.place(intervals("Mito"), "x")


# -- sizes files ---------------------------------------------------------------------------------


def sizes(tmp_path: Path, text: str) -> Genome:
    path = tmp_path / "sizes"
    path.write_bytes(text.encode("latin-1"))
    return read_chrom_sizes(path, "mine")


def test_names_are_taken_as_the_sizes_file_gives_them(tmp_path):
    names = ["chr1", "NC_000067.7", "chrUn_1", "Chr2L", "scaffold.3"]
    genome = sizes(tmp_path, "".join(f"{name}\t{100 + i}\n" for i, name in enumerate(names)))
    assert [genome.code(name) for name in names] == [0, 1, 2, 3, 4]
    assert [genome.code(name) for name in genome.names] == [0, 1, 2, 3, 4]
    assert [genome.code(name) for name in ("1", "chr2L", "2L", "NC_000001.9")] == [0, 3, 3, 0]


def test_accessions_in_a_sizes_file_fix_the_version(tmp_path):
    genome = sizes(tmp_path, "NC_000001.10\t100\nNC_000002.11\t90\n")
    assert genome.code("NC_000001.10") == genome.code("chr1") == 0
    assert genome.code("NC_000001.11") == -1
    with pytest.raises(InputError, match=r"the accession version of mine is NC_000001\.10"):
        genome.place(intervals("NC_000001.11"), "x.bed")


def test_two_mitochondria_stay_apart(tmp_path):
    genome = sizes(tmp_path, "# name length\nchr1\t100\n\nchrM 17 x\nchrMT\t16\n")
    assert (genome.build, genome.sizes) == ("mine", {"1": 100, "M": 17, "chrMT": 16})
    assert [genome.code(name) for name in ("chrM", "chrMT", "M")] == [1, 2, 1]
    # As a feature set would restore it: by names and lengths alone.
    assert Genome("mine", genome.sizes).code("chrMT") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t100\nchr2\n", "line 2: expected a chromosome name"),
        ("chr1\t100\nchr2\tten\n", "line 2: expected a chromosome name"),
        ("chr1\t100\nchr2\t0\n", "line 2: expected a chromosome name"),
        ("chr1\t100\nchr1\t100\n", "line 2: chr1 occurs twice"),
        ("chr1\t100\n1\t100\n", "line 2: 1 occurs twice"),
        ("# nothing\n", "holds no chromosome sizes"),
        ("".join(f"s{i}\t4294967295\n" for i in range(257)), "more bases than any genome"),
        ("\xff\t100\n", "is not UTF-8 text"),
    ],
)
def test_bad_sizes_files_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        sizes(tmp_path, text)
