"""Gene lists are read without losing a row, and each query says what became of it."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.genes import GeneIndex, read_gene_list, strip_version

VERSIONED = {
    "ENSG00000141510.17": "ENSG00000141510",
    "ENSG00000182378.13_PAR_Y": "ENSG00000182378_PAR_Y",
    "ENSGR0000182378.8": "ENSGR0000182378",
    "ENSG00000223972.5_2": "ENSG00000223972",
    "ENST00000269305.8": "ENST00000269305",
    "ENSMUSG00000059552.13": "ENSMUSG00000059552",
    "NM_000546.6": "NM_000546",
}
# Clones, and symbols: with other digits behind the dot they are other genes.
WITH_DOTS = "TP53 H2AC1.2 RP11-34P13.7 AC004.1 AC004556.1 CTD-2194D22.4 ENSG.1 Y_RNA . 1.5"


def test_versions_of_accessions_alone_are_stripped():
    for name, stripped in VERSIONED.items():
        assert strip_version(name) == strip_version(stripped) == stripped
    for name in WITH_DOTS.split():
        assert strip_version(name) == name


# --- reading -----------------------------------------------------------------------


def read(data: bytes) -> list[str]:
    return read_gene_list(io.BytesIO(data))


# Other dresses of a table: `tests/test_reader.py`.
LISTS: list[tuple[bytes, list[str]]] = [
    (b"# made by hand, in haste\n#\n\n## again\ngene_id\tlogFC\nTP53\t1\n", ["TP53"]),
    (b"# made by hand\n#gene_id\tlogFC\n# up\nTP53\t1\n", ["TP53"]),
    (b'# made by hand\n"","baseMean"\n"TP53",1\n', ["TP53"]),
    (b"# a, b\nTP53\nBRCA2\n", ["TP53", "BRCA2"]),
    (b"TP53,1.5\nBRCA2,-2\n", ["TP53", "BRCA2"]),
    (b"\n  \t \nGene stable ID version\tName\n TP53 \tp\n'BRCA2'\tb\n", ["TP53", "BRCA2"]),
    (gzip.compress(b"A\n", mtime=0) + gzip.compress(b"\xef\xbb\xbfB\n", mtime=0), ["A", "B"]),
    (b'"gene","x"\n"TP53","1"\n"TP53,MDM2","2"\n', ["TP53", "TP53,MDM2"]),
    (b"gene\tx,y\nTP53\t1,2\nTP53,MDM2\t1\n", ["TP53", "TP53,MDM2"]),
    (b'gene\tx\n"5UTR\tsay "x"\n', ['"5UTR']),
    # After a header all is data, and no row is lost.
    (b"#gene_id\tx\n#gene\tx\ngene\t1\n\t2\n", ["gene", ""]),
    (b"gene\nTP53\ngene\n#x\nTP53\n", ["TP53", "gene", "#x", "TP53"]),
    (b"gene\tx\nTP53\t1\n\t2\n\t\n\nBRCA2\t3\n", ["TP53", "", "BRCA2"]),
]


@pytest.mark.parametrize(("data", "genes"), LISTS)
def test_the_first_column_of_every_row_is_read(data, genes):
    assert read(data) == genes


def test_a_header_is_known_by_its_name_and_a_gene_is_never_taken_for_one():
    for header in ("gene", "GeneID", "ids", "gene symbol", '""', "HGNC symbol", "Unnamed: 0"):
        assert read(f"{header}\tx\nTP53\t1\n".encode()) == ["TP53"]
    for gene in ("TP53", "GENE1", "IDS", "NAMPT", "7157", "---"):
        assert read(f"{gene}\nBRCA2\n".encode()) == [gene, "BRCA2"]


def test_standard_input_and_open_streams(tmp_path, monkeypatch):
    for data in (b"gene\nTP53\n", gzip.compress(b"gene\nTP53\n"), b"gene,x\nTP53,1\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
        assert read_gene_list("-") == ["TP53"]
    path = tmp_path / "g.csv"
    path.write_text("gene,x\nTP53,1\n", encoding="utf-8")
    with open(path, "rb") as binary, open(path, encoding="utf-8") as text:
        assert read_gene_list(binary) == read_gene_list(text) == ["TP53"]
        assert (binary.closed, text.closed) == (False, False)


_NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="\"'#\ufeff"), min_size=1
)


@given(
    genes=st.lists(_NAMES, min_size=1),
    header=st.sampled_from(["#gene_id\tlogFC", "#gene_id", "gene_id\tlogFC", "gene_id"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    other=st.sampled_from(["", "\t1.5", "\t\t'x'"]),
    quote=st.sampled_from(["", '"', "'"]),
    bom=st.booleans(),
    packed=st.booleans(),
    last=st.booleans(),
)
def test_whatever_is_written_is_read(genes, header, end, other, quote, bom, packed, last):
    # A generated name may be a column name; after a header it is a gene all the same.
    lines = [header] + [f"{quote}{gene}{quote}{other}" for gene in genes]
    data = (end.join(lines) + (end if last else "")).encode("utf-8-sig" if bom else "utf-8")
    assert read(gzip.compress(data) if packed else data) == genes


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        ("gene\nTP53\n".encode("utf-16-le"), 1, "NUL"),
        (b"TP53\nBR\0CA2\n", 2, "NUL"),
        (b"TP53\nBRCA2\nMDM\xff2\n", 3, "0xff"),
        (b"TP53\n" + b"A" * 1_000_001, 2, "longer than 1,000,000"),
        (gzip.compress(b"TP53\n" * 1000, mtime=0)[:-9], None, "truncated or corrupt"),
        (b"\x1f\x8bnot gzip at all", None, "truncated or corrupt"),
    ],
)
def test_what_is_no_utf8_text_is_refused(tmp_path, data, line, words):
    path = tmp_path / "genes.tsv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_gene_list(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert caught.value.line == line


def test_undecodable_text_streams_are_refused():
    with pytest.raises(InputError, match="UTF-8"):
        read_gene_list(io.TextIOWrapper(io.BytesIO(b"TP53\n\xff\n"), encoding="utf-8"))
    with pytest.raises(InputError, match="UTF-8"):
        read_gene_list(io.StringIO("TP53\n\udcff\n"))


@pytest.mark.parametrize("data", [b"", b"\n \n\t\n", b"gene_id\tlogFC\n"])
def test_a_list_without_genes_is_refused(data):
    with pytest.raises(InputError, match="no genes"):
        read(data)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "absent.tsv", tmp_path, "a\0b"):
        with pytest.raises(InputError) as caught:
            read_gene_list(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 4


# --- resolving ---------------------------------------------------------------------

GENES = [
    ("ENSG00000141510.17", "TP53", "protein_coding"),
    ("ENSG00000139618.14", "BRCA2", "protein_coding"),
    ("ENSG00000182378.13", "PLCXD1", "protein_coding"),
    ("ENSG00000182378.13_PAR_Y", "PLCXD1", "protein_coding"),
    ("ENSG00000000001", "MATR3", "protein_coding"),
    ("ENSG00000000002", "MATR3", "lincRNA"),
    ("ENSG00000000003", "Y_RNA", "misc_RNA"),
    ("ENSG00000000004", "Y_RNA", "misc_RNA"),
    ("ENSG00000000005", "P2RY8", "protein_coding"),
    ("ENSGR0000000005", "P2RY8", "protein_coding"),
    ("ENSG00000000006", "", ""),
    # A pair of PAR copies and a third gene: the one that codes and is not on Y.
    ("ENSG00000000007", "X", "protein_coding"),
    ("ENSG00000000007_PAR_Y", "X", "protein_coding"),
    ("ENSG00000000008", "X", "lincRNA"),
]
ALIASES = {
    "p53": "ENSG00000141510",
    "7157": "ENSG00000141510.2",
    "NM_000546.6": "ENSG00000141510",
    "BRCA2": "ENSG00000141510",
    "GONE": "ENSG99999999999",
}
IDS, SYMBOLS, BIOTYPES = zip(*GENES, strict=True)
INDEX = GeneIndex(IDS, SYMBOLS, BIOTYPES, ALIASES)


@pytest.mark.parametrize(
    ("queries", "row"),
    [
        (["ENSG00000141510.3", "TP53", " TP53 ", "p53", "7157", "NM_000546.5"], 0),
        (["BRCA2"], 1),  # a symbol wins over an alias
        (["PLCXD1"], 2),  # both copies code: the one that is not on Y
        (["ENSG00000182378.13_PAR_Y"], 3),
        (["MATR3"], 4),  # the one that codes
        (["P2RY8"], 8),
        (["ENSGR0000000005.2"], 9),
        (["X"], 11),
    ],
)
def test_spellings(queries, row):
    found = [INDEX.resolve([query]) for query in queries]
    assert {int(one.rows[0]) for one in found} == {row}
    assert {(*one.gene_ids, *one.symbols, *one.status) for one in found} == {
        (INDEX.ids[row], INDEX.symbols[row], "ok")
    }


def test_unknown_genes_keep_their_text():
    queries = ["tp53", "GONE", "", "TP53.1", "tp53"]
    found = INDEX.resolve(queries)
    assert found.rows.tolist() == [-1] * 5
    assert (found.gene_ids, found.symbols, found.status) == (
        queries,
        [""] * 5,
        ["unknown_gene"] * 5,
    )


def test_ambiguous_symbols_and_duplicates_are_named_in_the_order_of_the_queries():
    found = INDEX.resolve(["TP53", "Y_RNA", "ENSG00000141510.1", "BRCA2", "p53"])
    assert found.rows.tolist() == [0, -1, 0, 1, 0]
    duplicate = "duplicate_of:ENSG00000141510"
    assert found.status == ["ok", "ambiguous_symbol", duplicate, "ok", duplicate]
    assert found.gene_ids[1] == "Y_RNA"


def test_misuse_is_refused_and_nothing_is_no_misuse():
    assert INDEX.resolve([]).rows.shape == (0,)
    assert INDEX.hint(INDEX.resolve([]), []) is None
    with pytest.raises(UsageError, match="one string"):
        INDEX.resolve("TP53")
    with pytest.raises(InputError, match="Gene 2 is nan"):
        INDEX.resolve(["TP53", float("nan")])
    with pytest.raises(InputError, match="ENSG00000000001 occurs twice"):
        GeneIndex(["ENSG00000000001.1", "ENSG00000000001.2"], ["A", "B"], ["", ""])


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (
            ["Tp53", "Brca2", "Zzz", "TP53"],
            "3 of 4 genes are unknown; 2 of them would match in "
            "upper case: are these mouse symbols?",
        ),
        (
            ["ENSMUSG00000059552.3"],
            "1 of 1 gene is unknown; 1 of them look like Ensembl ids of mouse",
        ),
        (["ENSSSCG00000010756"], "another species"),
        (["ENST00000269305.4", "NM_999999.1"], "2 of them look like transcript"),
        (["672", "675"], "Entrez"),
        (["2-Sep", "Mar-01", "2006-09-02 00:00:00"], "3 of them look like dates"),
        (["ENSG00000999999.1"], "another release"),
        (["foo", "bar", "foo"], "3 of 3 genes are unknown, such as 'foo', 'bar'"),
    ],
)
def test_hints(queries, words):
    hint = INDEX.hint(INDEX.resolve(queries), queries)
    assert hint is not None
    assert words in hint
    many = ["TP53"] * 10 * len(queries) + queries
    assert INDEX.hint(INDEX.resolve(many), many) is None  # a few are no pattern


@pytest.mark.fault
def test_a_name_that_falls_into_known_genes_is_told_however_long_the_list():
    index = GeneIndex(["G1", "G2", "G3"], ["A", "B", ""], [""] * 3)
    for name in ("A;B", "G1\tG2", "A|B/G3", "A B;"):
        queries = ["A"] * 99 + [name]
        hint = index.hint(index.resolve(queries), queries)
        assert hint == f"1 line names several genes, such as {name!r}: give one gene a line"
    for name in ("A;X", "A-B", ";", "A;"):
        queries = ["A"] * 99 + [name]
        assert index.hint(index.resolve(queries), queries) is None


@pytest.mark.fault
def test_what_stands_beside_the_first_gene_is_known_unless_a_header_says_what_it_is():
    def beside(text: bytes) -> tuple[str, ...]:
        return read_gene_list(io.BytesIO(text)).beside

    assert beside(b"A,B,C\nD,E,F\n") == ("B", "C")
    assert beside(b'"A"\t"B"\t\xff\n') == ("B", "\ufffd")
    assert beside(b"gene_id\tx\nA\tB\n") == ()
    assert beside(b"#gene_id\tx\nA\tB\n") == ()
    assert beside(b"A\n") == ()
    assert len(beside(b"A" + b"\t1" * 100_000)) == 50


@pytest.mark.fault
def test_control_characters_in_a_list_are_written_out():
    assert read(b'A,1\n"a\tb",2\n\x1b[2J,3\nz\xe2\x80\xaeq,4\n\xc3\xa9,5\n') == [
        "A",
        "a\\tb",
        "\\x1b[2J",
        "z\\u202eq",
        "é",
    ]
