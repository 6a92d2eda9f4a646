"""Gene models from GTF in three styles, and start sites from BED."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from decode_zoo.core.errors import InputError
from decode_zoo.features.annotation import Annotation, override_tss, read_gtf, read_tss_bed
from decode_zoo.features.genome import Genome

TOY = Genome("toy", {"1": 10_000, "2": 5_000, "X": 5_000, "Y": 5_000, "M": 400})

GENCODE = """\
##description: evidence-based annotation
chr1\tHAVANA\tgene\t101\t900\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "AAA";
chr1\tHAVANA\ttranscript\t101\t900\t.\t+\t.\tgene_id "ENSG00000000001.5";
chr1\tHAVANA\texon\t101\t200\t.\t+\t.\tgene_id "ENSG00000000001.5"; transcript_id \
"ENST00000000011.2"; gene_type "protein_coding"; gene_name "AAA"; exon_number 1; exon_id \
"ENSE00000000111.1"; level 2;
chr1\tHAVANA\tCDS\t120\t200\t.\t+\t0\tgene_id "ENSG00000000001.5";
chr1\tHAVANA\texon\t801\t900\t.\t+\t.\tgene_id "ENSG00000000001.5"; transcript_id \
"ENST00000000011.2"; gene_type "protein_coding"; gene_name "AAA"; exon_number 2;
chr1\tHAVANA\texon\t151\t250\t.\t+\t.\tgene_id "ENSG00000000001.5"; transcript_id \
"ENST00000000012.1"; gene_type "protein_coding"; gene_name "AAA"; exon_number 1;
chr2\tHAVANA\texon\t301\t400\t.\t-\t.\tgene_id "ENSG00000000002.1"; transcript_id \
"ENST00000000021.1"; gene_type "lncRNA"; gene_name "BBB"; exon_number 2;
chr2\tHAVANA\texon\t501\t600\t.\t-\t.\tgene_id "ENSG00000000002.1"; transcript_id \
"ENST00000000021.1"; gene_type "lncRNA"; gene_name "BBB"; exon_number 1;
"""
# The same two genes as Ensembl and NCBI would write them.
ENSEMBL = """\
#!genome-build toy
1\tensembl\texon\t101\t200\t.\t+\t.\tgene_id "ENSG00000000001"; gene_version "5"; transcript_id \
"ENST00000000011"; transcript_version "2"; exon_number "1"; gene_name "AAA"; gene_biotype \
"protein_coding"; exon_id "ENSE00000000111"; exon_version "1";
1\tensembl\texon\t801\t900\t.\t+\t.\tgene_id "ENSG00000000001"; gene_version "5"; transcript_id \
"ENST00000000011"; exon_number "2"; gene_name "AAA"; gene_biotype "protein_coding";
1\tensembl\texon\t151\t250\t.\t+\t.\tgene_id "ENSG00000000001"; gene_version "5"; transcript_id \
"ENST00000000012"; exon_number "1"; gene_name "AAA"; gene_biotype "protein_coding";
2\tensembl\texon\t501\t600\t.\t-\t.\tgene_id "ENSG00000000002"; gene_version "1"; transcript_id \
"ENST00000000021"; exon_number "1"; gene_name "BBB"; gene_biotype "lncRNA";
2\tensembl\texon\t301\t400\t.\t-\t.\tgene_id "ENSG00000000002"; gene_version "1"; transcript_id \
"ENST00000000021"; exon_number "2"; gene_name "BBB"; gene_biotype "lncRNA";
"""
REFSEQ = """\
#gtf-version 2.2
NC_000001.11\tBestRefSeq\tgene\t101\t900\t.\t+\t.\tgene_id "AAA"; transcript_id ""; gbkey "Gene";
NC_000001.11\tBestRefSeq\texon\t101\t200\t.\t+\t.\tgene_id "AAA"; transcript_id "NM_000011.2"; \
db_xref "GeneID:1"; gbkey "mRNA"; gene "AAA"; product "a; b"; exon_number "1";
NC_000001.11\tBestRefSeq\texon\t801\t900\t.\t+\t.\tgene_id "AAA"; transcript_id "NM_000011.2"; \
db_xref "GeneID:1"; gbkey "mRNA"; gene "AAA"; exon_number "2";
NC_000001.11\tBestRefSeq\texon\t151\t250\t.\t+\t.\tgene_id "AAA"; transcript_id "NM_000012.1"; \
gene "AAA"; exon_number "1";
NC_000002.12\tGnomon\texon\t501\t600\t.\t-\t.\tgene_id "BBB"; transcript_id "XR_000021.1"; \
gene "BBB"; exon_number "1";
NC_000002.12\tGnomon\texon\t301\t400\t.\t-\t.\tgene_id "BBB"; transcript_id "XR_000021.1"; \
gene "BBB"; exon_number "2";
"""


def exon(
    chrom: str, start: int, end: int, strand: str, gene: str, transcript: str = "", more: str = ""
) -> str:
    attributes = f'gene_id "{gene}"; transcript_id "{transcript}"; {more}'
    return f"{chrom}\ttoy\texon\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def read(tmp_path: Path, text: str, level: str = "gene") -> Annotation:
    path = tmp_path / "genes.gtf"
    path.write_text(text, encoding="utf-8")
    return read_gtf(path, TOY, level=level)


def exons(annotation: Annotation) -> dict[str, list[tuple[int, int]]]:
    pairs = list(zip(annotation.exon_starts.tolist(), annotation.exon_ends.tolist(), strict=True))
    edges = annotation.exon_indptr.tolist()
    return {
        str(name): pairs[edges[i] : edges[i + 1]] for i, name in enumerate(annotation.ids.tolist())
    }


# -- styles --------------------------------------------------------------------------------------


ENSEMBL_IDS = (
    ["ENSG00000000001", "ENSG00000000002"],
    ["ENST00000000011", "ENST00000000012", "ENST00000000021"],
)


@pytest.mark.parametrize(
    ("text", "genes", "transcripts", "biotypes"),
    [
        (GENCODE, *ENSEMBL_IDS, ["protein_coding", "lncRNA"]),
        (ENSEMBL, *ENSEMBL_IDS, ["protein_coding", "lncRNA"]),
        (REFSEQ, ["AAA", "BBB"], ["NM_000011", "NM_000012", "XR_000021"], ["", ""]),
    ],
    ids=["gencode", "ensembl", "refseq"],
)
def test_genes_are_unions_of_transcripts_in_every_style(
    tmp_path, text, genes, transcripts, biotypes
):
    rows = read(tmp_path, text)
    assert rows.ids.tolist() == rows.gene_ids.tolist() == genes
    assert rows.symbols.tolist() == ["AAA", "BBB"]
    assert rows.biotypes.tolist() == biotypes
    assert rows.chroms.tolist() == [0, 1]
    assert rows.strands.tolist() == [1, -1]
    assert rows.tss.tolist() == [100, 599]
    assert list(exons(rows).values()) == [[(100, 250), (800, 900)], [(300, 400), (500, 600)]]
    assert rows.rna_lengths.tolist() == [250, 200]
    rows = read(tmp_path, text, "transcript")
    assert rows.ids.tolist() == transcripts
    assert rows.gene_ids.tolist() == [genes[0], *genes]
    single = [[(100, 200), (800, 900)], [(150, 250)], [(300, 400), (500, 600)]]
    assert list(exons(rows).values()) == single
    assert rows.tss.tolist() == [100, 150, 599]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(GENCODE.encode(), mtime=0),
        GENCODE.replace("\n", "\r").encode(),
        "".join(GENCODE.splitlines(keepends=True)[::-1]).encode(),
        b"\xef\xbb\xbf" + GENCODE.encode() + b"1\tx\tnote\tnone\t\t.\t+\t.\tx\n###\n",
    ],
)
def test_compression_line_ends_and_order_and_other_lines_do_not_matter(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    assert exons(read_gtf(tmp_path / "other", TOY)) == exons(read(tmp_path, GENCODE))


def test_exon_numbers_do_not_hide_what_follows_them(tmp_path):
    text = (
        '1\tx\texon\t1\t50\t.\t+\t.\texon_number "1"; exon_id "E1"; gene_id "G1"; '
        'transcript_id "T1"; gene_name "S1"\n'
    )
    genes = read(tmp_path, text + exon("1", 1, 9, "+", "ENSG00000000003.7"))
    assert genes.ids.tolist() == ["G1", "ENSG00000000003"]
    assert genes.symbols.tolist() == ["S1", "ENSG00000000003"]  # one has none but its id


# -- ids at several places -----------------------------------------------------------------------


def test_y_copies_of_par_genes_get_a_suffix(tmp_path):
    text = (
        exon("chrY", 11, 20, "+", "ENSG00000000007.3")
        + exon("chrX", 101, 150, "+", "ENSG00000000007.3")
        + exon("chrY", 31, 40, "+", "ENSG00000000008.2_PAR_Y")
        + exon("chrX", 201, 250, "+", "ENSG00000000008.2")
    )
    genes = read(tmp_path, text)
    assert exons(genes) == {
        "ENSG00000000007_PAR_Y": [(10, 20)],
        "ENSG00000000007": [(100, 150)],
        "ENSG00000000008_PAR_Y": [(30, 40)],
        "ENSG00000000008": [(200, 250)],
    }


def test_a_gene_at_two_places_keeps_the_first(tmp_path, caplog):
    text = (
        exon("chr2", 101, 150, "+", "G1")
        + exon("chr1", 11, 20, "+", "G1")
        + exon("chr2", 301, 350, "-", "G1")
        + exon("chr2", 201, 250, "+", "G1")
        + exon("chr1", 31, 40, "+", "G2")
    )
    genes = read(tmp_path, text)
    assert exons(genes) == {"G1": [(100, 150), (200, 250)], "G2": [(30, 40)]}
    assert genes.chroms.tolist() == [1, 0]
    assert caplog.messages == [
        f"{tmp_path / 'genes.gtf'}: 2 further places of 1 genes left out (a gene has one place, "
        "the first in the file), such as G1 on chromosome 1"
    ]
    caplog.clear()
    read(tmp_path, text, "transcript")
    assert ["5 exons have no transcript_id" in message for message in caplog.messages] == [True]


def test_transcripts_that_share_an_id_are_kept_apart(tmp_path):
    text = (
        exon("1", 101, 150, "+", "G1", "T1", 'refseq_id "NM_000001.4";')
        + exon("1", 301, 350, "+", "G1", "T1", 'refseq_id "NM_000002.1";')
        + exon("1", 201, 250, "+", "G1", "T1", 'refseq_id "NM_000001.4";')
        + exon("2", 11, 50, "-", "G1", "T1", 'refseq_id "NM_000001.4";')
        + exon("1", 11, 50, "+", "G3", "unassigned_transcript")
    )
    rows = read(tmp_path, text, "transcript")
    assert exons(rows) == {
        "T1": [(100, 150), (200, 250)],
        "NM_000002": [(300, 350)],
        "T1_dup1": [(10, 50)],
        "G3": [(10, 50)],
    }
    assert rows.gene_ids.tolist() == ["G1", "G1", "G1", "G3"]


def test_places_of_one_id_on_one_strand_are_told_by_their_distance(tmp_path, caplog):
    genome = Genome("toy", {"1": 10_000_000, "2": 10_000_000})
    path = tmp_path / "genes.gtf"
    # A nested exon last in order must not make the gap behind the long one look wider.
    text = (
        exon("1", 5_000_001, 5_000_100, "-", "G1", "T1")
        + exon("2", 1, 100, "-", "G2", "T2")
        + exon("1", 11, 50, "-", "G1", "T1")
        + exon("1", 1, 2_000_000, "-", "G1", "T1")
        + exon("1", 4_000_001, 4_000_010, "-", "G1", "T1")
        + exon("1", 7_000_102, 7_000_110, "-", "G1", "T1")
        + exon("1", 9_999_991, 10_000_000, "-", "G1", "T1")
    )
    path.write_text(text, encoding="utf-8")
    first = [(0, 2_000_000), (4_000_000, 4_000_010), (5_000_000, 5_000_100)]
    assert exons(read_gtf(path, genome)) == {"G1": first, "G2": [(0, 100)]}
    assert "2 further places of 1 genes left out" in caplog.text
    rows = read_gtf(path, genome, level="transcript")
    assert exons(rows) == {
        "T1": first,
        "T2": [(0, 100)],
        "T1_dup1": [(7_000_101, 7_000_110)],
        "T1_dup2": [(9_999_990, 10_000_000)],
    }
    assert rows.tss.tolist() == [5_000_099, 99, 7_000_109, 9_999_999]
    assert rows.gene_ids.tolist() == ["G1", "G2", "G1", "G1"]


def test_sequences_outside_the_genome_are_left_out(tmp_path, caplog):
    text = exon("chrUn_X", 1, 50, "+", "G0") + exon("chr1", 1, 50, "+", "G1")
    with caplog.at_level(logging.INFO):
        assert read(tmp_path, text).ids.tolist() == ["G1"]
    assert "1 exons on 1 sequences" in caplog.text


# -- faults --------------------------------------------------------------------------------------

GOOD = exon("chr1", 1, 50, "+", "G1")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (exon("chr1", 50, 1, "+", "G2"), "not a 1-based closed interval"),
        (exon("chr1", 1, 9, ".", "G2"), r"strand must be \+ or -"),
        (exon("chr1", 1, 9, "+", ""), "exon without gene_id"),
        ("chr1\ttoy\texon\tone\t9\t.\t+\t.\tx\n", "start is not a whole number: 'one'"),
        ("chr1\ttoy\texon\t1\t9.5\t.\t+\t.\tx\n", "end is not a whole number: '9.5'"),
        ("chr1\ttoy\texon\t1\t9\n", "expected GTF with at least 9 .* columns, found 5"),
    ],
)
def test_bad_line_is_named(tmp_path, bad, message):
    with pytest.raises(InputError, match=f"(?s)genes.gtf, line 5: .*{message}") as caught:
        read(tmp_path, f"#!header\n{GOOD}# a comment\n\n{bad}{GOOD}")
    assert caught.value.line == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no exon lines"),
        ("chr1\ttoy\tgene\t1\t9\t.\t+\t.\tx\n", "has no exon lines"),
        ("#x\nchr1 toy exon 1 9 . + . x\n", r"line 2: (?s:.*)separated by tabs, not spaces"),
    ],
)
def test_file_without_usable_exons(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


# -- start sites ---------------------------------------------------------------------------------


def test_start_sites_move_promoters_and_nothing_else(tmp_path):
    genes = read(tmp_path, GENCODE)
    path = tmp_path / "tss.bed"
    path.write_text(
        "#chrom\n"
        "chr1\t90\t93\tENSG00000000001.9\t0\t+\n"
        "chr2\t640\t643\tENSG00000000002\t0\t-\n"
        "chr9\t640\t643\tENSG00000000003\t0\t-\n"
    )
    sites = read_tss_bed(path, TOY)
    assert sites == {"ENSG00000000001": (0, 90, 1), "ENSG00000000002": (1, 642, -1)}
    moved, count = override_tss(genes, sites)
    assert count == 2
    assert moved.tss.tolist() == [90, 642]
    assert exons(moved) == exons(genes)
    assert np.array_equal(moved.rna_lengths, genes.rna_lengths)
    assert genes.tss.tolist() == [100, 599]


@pytest.mark.parametrize(
    "line", ["chr1\t90\t91\tENSG00000000001\t0\t-\n", "chr2\t90\t91\tENSG00000000001\t0\t+\n"]
)
def test_start_sites_of_other_strands_and_chromosomes_are_ignored(tmp_path, line):
    genes = read(tmp_path, GENCODE)
    (tmp_path / "tss.bed").write_text(line)
    moved, count = override_tss(genes, read_tss_bed(tmp_path / "tss.bed", TOY))
    assert (count, moved.tss.tolist()) == (0, genes.tss.tolist())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("chr1\t90\t91\tG2\t0\t.\n", r"strand must be \+ or -"),
        ("chr1\t91\t91\tG2\t0\t+\n", "not a 0-based half-open interval"),
    ],
)
def test_bad_start_site_is_named(tmp_path, bad, message):
    path = tmp_path / "tss.bed"
    path.write_text(f"chr1\t90\t91\tG1\t0\t+\n{bad}")
    with pytest.raises(InputError, match=f"tss.bed, line 2: .*{message}"):
        read_tss_bed(path, TOY)
    path.write_text("#chrom\n")
    with pytest.raises(InputError, match="holds no start sites"):
        read_tss_bed(path, TOY)
