"""Sites from BED3, BED6 and narrowPeak; tracks from folders, manifests and name columns."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.core.errors import InputError
from decode_zoo.core.reader import read_columns
from decode_zoo.features.genome import Genome
from decode_zoo.features.sites import SiteFile, Sites, find_site_files, read_sites
from decode_zoo.features.spec import Track

TOY = Genome("toy", {"1": 1_000, "2": 500})
TRACK = Track("t", "R", "tf", "K562", "here")
Row = tuple[int, int, int, int]

BED3 = "chr1\t10\t20\nchr2\t30\t45\nchr1\t0\t5\n"
BED6 = "chr1\t10\t20\ta\t0\t+\nchr2\t30\t45\tb\t7\t-\nchr1\t0\t5\tc\t1\t+\n"
NARROW = (
    "chr1\t10\t20\ta\t0\t+\t5.1\t3.2\t-1\t5\n"
    "chr2\t30\t45\tb\t7\t-\t4.8\t0.1\t-1\t7\n"
    "chr1\t0\t5\tc\t1\t+\t1\t2\t-1\t-1\n"
)
UNSTRANDED: list[Row] = [(0, 10, 20, 0), (1, 30, 45, 0), (0, 0, 5, 0)]
STRANDED: list[Row] = [(0, 10, 20, 1), (1, 30, 45, -1), (0, 0, 5, 1)]


def read(
    tmp_path: Path, content: str | bytes, *, stranded: bool = False, by_name: bool = False
) -> Sites:
    path = tmp_path / "sites.bed"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sites(SiteFile(path, TRACK, by_name), TOY, stranded=stranded)


def rows(sites: Sites) -> list[Row]:
    arrays = (sites.chroms, sites.starts, sites.ends, sites.strands)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [BED3, BED6, NARROW], ids=["bed3", "bed6", "narrowPeak"])
def test_formats(tmp_path, text):
    sites = read(tmp_path, text)
    assert rows(sites) == UNSTRANDED
    assert sites.codes.tolist() == [0, 0, 0]
    (track,) = sites.tracks
    assert (track.name, track.regulator, track.cell) == ("t", "R", "K562")
    assert track.sha256 == hashlib.sha256(text.encode()).hexdigest()
    if text != BED3:
        assert rows(read(tmp_path, text, stranded=True)) == STRANDED


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(BED6[:20].encode(), mtime=0) + gzip.compress(BED6[20:].encode(), mtime=0),
        ("track x\n#chrom\n" + BED6).replace("\n", "\r"),
        'browser position chr1:1-9\ntrack name="x" type=bed\n#chrom\tstart\n\n' + BED6,
        BED6.replace("\nchr2", "\n# in the middle\n\n#chr1\t1\t2\tx\t0\t+\n   \nchr2"),
        BED6.replace("chr1", "NC_000001.11").replace("chr2", "2"),
        BED6 + "chrUn_gl000220\t5\t9000000\tx\t0\t+\n",
        BED6.replace("\tb\t", '\t"b\t').replace("\tc\t", '\t"c\t'),
    ],
)
def test_dress_does_not_matter(tmp_path, content):
    assert rows(read(tmp_path, content, stranded=True)) == STRANDED


@pytest.mark.parametrize("content", [b"", b"track x\n# no more\n", gzip.compress(b"", mtime=0)])
def test_file_without_lines_is_a_track_without_sites(tmp_path, content, caplog):
    sites = read(tmp_path, content, stranded=True)
    assert caplog.messages[0].startswith(f"{tmp_path / 'sites.bed'}: holds no sites")
    assert rows(sites) == []
    assert [track.name for track in sites.tracks] == ["t"]
    assert read(tmp_path, content, by_name=True).tracks == ()


NUMBERS = ["1e3", "1e1", "True", "false", "+5", " 7", "7 ", "007", "1_0", "1.0", "0x1", "٣", "-0"]
LINE = st.one_of(
    st.builds(
        "{}\t{}\t{}\t{}\t0\t{}".format,
        st.sampled_from(["chr1", "2", "chrUn"]),
        st.integers(-3, 99),
        st.integers(-3, 99),
        st.sampled_from(["a", "NA", "", '"', " "]),
        st.sampled_from(["+", "-", "."]),
    ),
    st.builds("chr1\t{}\t{}".format, st.integers(0, 99), st.integers(0, 99)),
    st.builds("chr1\t{}\t{}\ta\t0\t+".format, st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)),
    st.sampled_from(["#c", "", "chr1\t7\tx\ta\t0\t+", "chr1\t7", "chr1 1 2", "track x"]),
)


@given(
    st.lists(LINE, max_size=6), st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_reading_fast_and_carefully_agree(lines, stranded, comment, newline):
    """A comment in the middle forces the careful reader; nothing else may change."""

    def outcome(text: str) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.bed"
            path.write_bytes(text.encode())
            names: tuple[str, ...] = ("chrom", "start", "end")
            places: tuple[int, ...] = (0, 1, 2)
            if stranded:
                names, places = (*names, "strand"), (*places, 5)
            try:
                table = read_columns(path, names, places, what="BED")
            except InputError as error:
                return error.line, error.message.partition(": ")[2]
            return [tuple(str(cell) for cell in row) for row in table.itertuples()]

    ending = newline + "#" if comment else ""
    first = "chr1\t1\t2\ta\t0\t+" + newline
    plain = outcome(first + newline.join(lines))
    assert plain == outcome(first + newline.join(lines) + ending)


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("chr1\tten\t20\ta\t0\t+", "start is not a whole number: 'ten'"),
        ("chr1\t1_0\t20\ta\t0\t+", "start is not a whole number: '1_0'"),
        (f"chr1\t10\t{10**20}\ta\t0\t+", "end is not a whole number: '1000"),
        ("chr1\t30\t20\ta\t0\t+", "not a 0-based half-open interval"),
        ("chr1\t10\t20\ta\t0\t.", "must be [+] or -"),
        ("chr1\t10\t20\ta\t0", "expected BED6 .stranded. with at least 6 .*, found 5"),
        ("chr1 10 20 a 0 +", "separated by tabs, not spaces"),
        ("chr1\t10\t20\t\0\t0\t+", "holds NUL bytes"),
    ],
)
def test_bad_line_is_named(tmp_path, bad, message):
    with pytest.raises(InputError, match=f"(?s)sites.bed, line 6: .*{message}") as caught:
        read(tmp_path, f"track x\n{BED6}\n{bad}\n{BED6}", stranded=True)
    assert caught.value.line == 6


@pytest.mark.parametrize("value", ["True", "1e0", "1.0"])
def test_no_line_has_a_number(tmp_path, value):
    with pytest.raises(InputError, match=f"line 1: start is not a whole number: '{value}'"):
        read(tmp_path, f"chr1\t{value}\t20\n" * 3)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_count_alike_whatever_ends_them(tmp_path, newline):
    lines = ["track x", "#chrom", "chr1\t1\t2", "", "chr1\t9\t5", ""]
    with pytest.raises(InputError, match=r"line 5: start and end are not"):
        read(tmp_path, newline.join(lines))


# -- tracks --------------------------------------------------------------------------------------


def test_folder_names_tracks_by_stem(tmp_path):
    names = "SPI1@GM12878.bed CTCF.K562.narrowPeak.gz MYC.BED notes.txt H2A.Z@K562:1.bed"
    for name in (*names.split(), "GTF2F1.HepG2.ENCFF002HYO.bed.gz"):
        (tmp_path / name).write_text("")
    files = find_site_files(tmp_path, "promoter")
    assert [(f.track.name, f.track.regulator, f.track.cell) for f in files] == [
        ("CTCF.K562", "CTCF", "K562"),
        ("GTF2F1.HepG2.ENCFF002HYO", "GTF2F1", "HepG2"),
        ("H2A.Z@K562:1", "H2A.Z", "K562"),
        ("MYC", "MYC", ""),
        ("SPI1@GM12878", "SPI1", "GM12878"),
    ]
    assert {f.track.kind for f in files} == {"tf"}
    assert {f.track.kind for f in find_site_files(tmp_path, "rna")} == {"rbp"}


def test_folder_with_a_manifest_that_is_not_used(tmp_path, caplog):
    (tmp_path / "MYC.K562.bed").write_text("")
    (tmp_path / "manifest.tsv.gz").write_text("")
    (file,) = find_site_files(tmp_path, "promoter")
    assert file.track.name == "MYC.K562"
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / 'manifest.tsv.gz'} is not used")


def test_folders_that_name_no_tracks_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no BED files"):
        find_site_files(tmp_path, "promoter")
    with pytest.raises(InputError, match="no such file or folder"):
        find_site_files(tmp_path / "none", "promoter")
    (tmp_path / "MYC.bed").write_text("")
    (tmp_path / "MYC.bed.gz").write_bytes(gzip.compress(b"", mtime=0))
    with pytest.raises(InputError, match="1 track names occur more than once: MYC"):
        find_site_files(tmp_path, "promoter")


def test_single_file(tmp_path):
    (tmp_path / "MYC.bed").write_text(BED3)
    for by_name, name, kind in ((False, "MYC", "rbp"), (True, "", "mirna")):
        (file,) = find_site_files(tmp_path / "MYC.bed", "rna", by_name=by_name)
        assert (file.track.name, file.track.kind, file.by_name) == (name, kind, by_name)


def manifest(tmp_path: Path, text: str, *files: str) -> Path:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    path = tmp_path / "manifest.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_manifest(tmp_path):
    (tmp_path / "rna").mkdir()
    text = (
        "file\tfactor\tcell\tkind\tsource\tpeaks\n"
        "a.bed\tSPI1\tGM12878\ttf\tENCODE\t12\n"
        "\n"
        "deep/b.bed\tH3K4me3\t\thistone\t\t3\n"
        "../beside.bed\tMYC\n"
    )
    names = ("a.bed", "deep/b.bed", "../beside.bed")
    files = find_site_files(manifest(tmp_path / "rna", text, *names), "promoter")
    assert [file.track for file in files] == [
        Track("SPI1@GM12878", "SPI1", "tf", "GM12878", "ENCODE"),
        Track("H3K4me3", "H3K4me3", "histone", "", "b.bed"),
        Track("MYC", "MYC", "tf", "", "beside.bed"),
    ]
    folder = tmp_path / "rna"
    assert [file.path.resolve() for file in files] == [(folder / n).resolve() for n in names]


def test_experiments_of_one_regulator_in_one_cell_are_told_apart(tmp_path):
    names = ("FUS.K562.ENCFF1.bed", "FUS.K562.ENCFF2.bed", "TIA1.K562.X.bed")
    rows = (f"{name}\t{name.partition('.')[0]}\tK562\n" for name in names)
    path = manifest(tmp_path, "file\tregulator\tcell\n" + "".join(rows), *names)
    found = [file.track.name for file in find_site_files(path, "rna")]
    assert found == ["FUS@K562:ENCFF1", "FUS@K562:ENCFF2", "TIA1@K562"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: is neither a BED file .* nor a manifest"),
        ("file\tcell\n", "line 1: is neither a BED file .* nor a manifest"),
        ("file\tregulator\n", "lists no files"),
        ("file\tregulator\na.bed\tA\n\nb.bed\tB\n", "line 4: names a file that does not exist: b"),
        ("file\tregulator\n\tA\n", "line 2: no file is named"),
        ("file\tregulator\na.bed\t\n", "line 2: no regulator is named"),
        (
            "file\tregulator\ttrack\na.bed\tA\tx\na.bed\tB\tx\n",
            "1 track names occur more than once: x\n",
        ),
    ],
)
def test_bad_manifest(tmp_path, text, message):
    with pytest.raises(InputError, match=f"manifest.tsv(: |, ){message}"):
        find_site_files(manifest(tmp_path, text, "a.bed"), "promoter")


@pytest.mark.parametrize("mark", ["*", "name column (miRNA)"])
def test_name_column_tells_the_regulator(tmp_path, mark):
    path = manifest(tmp_path, f"file\tregulator\tcell\tkind\nm.bed\t{mark}\t\tmirna\n", "m.bed")
    lines = ["chr1\t10\t20\tmiR-7\t0\t+", "chr1\t30\t40\tlet-7\t0\t-", "chr2\t1\t9\tmiR-7\t0\t+"]
    (tmp_path / "m.bed").write_text("\n".join(lines))
    (file,) = find_site_files(path, "rna")
    sites = read_sites(file, TOY, stranded=True)
    described = [(t.name, t.regulator, t.kind) for t in sites.tracks]
    assert described == [("let-7", "let-7", "mirna"), ("miR-7", "miR-7", "mirna")]
    assert sites.codes.tolist() == [1, 0, 1]
    # Line order decides neither the tracks nor their order.
    (tmp_path / "m.bed").write_text("\n".join(lines[::-1]))
    assert read_sites(file, TOY, stranded=True).tracks[0].name == "let-7"


def test_name_column_carries_the_cell_and_has_a_name_on_each_line(tmp_path):
    lines = "chr1\t1\t2\tNA\t0\t+\nchr1\t3\t4\tnan\t0\t+\n"
    sites = read(tmp_path, lines, by_name=True)
    assert [track.name for track in sites.tracks] == ["NA@K562", "nan@K562"]
    with pytest.raises(InputError, match="line 2: a site without a name"):
        read(tmp_path, lines.replace("nan", "."), by_name=True)
