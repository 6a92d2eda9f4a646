"""One reader of tables: whatever dress a table wears, its cells are the same."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.cohort.samples import read_samples
from decode_zoo.core.errors import InputError
from decode_zoo.core.reader import Table, number_in, read_matrix
from decode_zoo.features.genes import read_gene_list
from decode_zoo.studies.enrichment import read_listed_above

PLAIN = "gene\ta b\tc\nTP53\t1\t-2.5e0\nALB\t3\t4\n"
DRESS = {
    "plain": PLAIN,
    "commas": PLAIN.replace("\t", ","),
    "semicolons": PLAIN.replace("\t", ";"),
    "gzip": gzip.compress(PLAIN.encode()),
    "byte order mark": "\ufeff" + PLAIN,
    "UTF-16": PLAIN.encode("utf-16"),
    "Windows": PLAIN.replace("\n", "\r\n"),
    "Macintosh": PLAIN.replace("\n", "\r"),
    "quotes": 'gene\t"a b"\t"c"\n"TP53"\t"1"\t-2.5e0\n"ALB"\t3\t4\n',
    "quotes of CSV": '"gene","a b","c"\n"TP53","1","-2.5e0"\n"ALB","3","4"\n',
    "blank lines": "\n" + PLAIN.replace("ALB", "\n \nALB") + "\n\n",
    "empty rows of a spreadsheet": PLAIN.replace("\t", ",") + ",,\n,,\n",
    "comments": "# Program: counter, version 2\n# two\n" + PLAIN,
    "a header that is commented out": "# made by hand\n#" + PLAIN,
    "a header that R wrote": PLAIN.removeprefix("gene\t"),
    "a header that pandas wrote": PLAIN.removeprefix("gene"),
    "blanks": PLAIN.replace("\t", " \t "),
}


@pytest.mark.parametrize("dress", DRESS)
def test_all_readers_take_a_table_in_any_dress(tmp_path, dress):
    path, text = tmp_path / "x.txt", DRESS[dress]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    values = [[1, -2.5], [3, 4]]
    grid = read_matrix(path)
    assert (grid.rows, grid.columns, grid.values.tolist()) == (
        ["TP53", "ALB"],
        ["a b", "c"],
        values,
    )
    frame = dz.read_expression(path)
    assert (list(frame.index), list(frame.columns)) == (grid.rows, grid.columns)
    assert frame.to_numpy().tolist() == values
    assert read_samples(path)["c"].to_dict() == {"TP53": "-2.5e0", "ALB": "4"}
    assert read_listed_above(path, "a b", 2).genes == ("ALB",)
    if dress != "a header that R wrote":  # of a list, 'a b' may be a gene
        assert read_gene_list(path) == ["TP53", "ALB"]


# Signs that mean something to a reader, and letters of one to four bytes.
CELLS = st.text(st.sampled_from("aZ01.,;:'\"\\|/-+=é漢😀"), min_size=1, max_size=6)


@settings(max_examples=200)
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n))))
def test_what_csv_writes_is_read(rows):
    header = ["gene", *(f"c{i}" for i in range(len(rows[0]) - 1 if rows else 1))]
    text = io.StringIO()
    csv.writer(text, delimiter=",", lineterminator="\n").writerows([header, *rows])
    table = Table.read(io.BytesIO(text.getvalue().encode()))
    assert table.header == header
    assert [cells for _, cells in table.cells()] == rows


def test_numbers_are_those_of_python(tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 3)) * 10.0 ** np.arange(-7, 193, 1)[:, None]
    values[0] = [5e-324, 1.7976931348623157e308, 0.1]
    frame = pd.DataFrame(values, [f"g{i}" for i in range(200)], ["a", "b", "c"])
    for name, separator in (("x.tsv", "\t"), ("x.csv", ",")):
        frame.to_csv(tmp_path / name, sep=separator)
        np.testing.assert_array_equal(read_matrix(tmp_path / name).values, values)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g\ta\nTP53\t1\n\nALB\t\n", "line 4: row 'ALB', column 'a': the value is missing"),
        ("g\ta\nTP53\t1\nALB\tmuch\n", "line 3: row 'ALB', column 'a': not a finite .*'much'"),
        ("g\ta\nTP53\t1\nALB\tinf\n", "line 3: .*not a finite number: 'inf'"),
        ("g\ta\nTP53\tTrue\nALB\tFalse\n", "line 2: .*not a finite number: 'True'"),
        ("g\ta\tb\nTP53\t1\t2\nALB\t1\n", "line 3: has 2 cells, but the header has 3"),
        ("gene\ta\nTP53\t1\t2\n", "line 2: has 3 cells, but the header has 2"),
        ("g\ta\n\t1\n", "line 2: row 1 has no name"),
        ("g\ta\t\nTP53\t1\t2\n", "column 2 has no name"),
        ("g\nTP53\n", "line 1: has one column only"),
        ("g\ta\n", "holds no table"),
        ("", "holds no table"),
        ("g\ta\nTP53\t1\n\xff\t1\n", "line 3: byte 0xff is not UTF-8 text"),
        ("g\ta\nTP53\t1\0\n", "line 2: .*NUL bytes"),
    ],
)
def test_matrices_that_are_refused(tmp_path, text, message):
    path = tmp_path / "x.tsv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"x.tsv[:,] {message}"):
        read_matrix(path)


def test_a_quote_without_a_partner_is_a_character():
    table = Table.read(io.BytesIO(b'gene,x\n5",a\n"b,c\n"d,e",f\n'))
    assert [cells for _, cells in table.cells()] == [['5"', "a"], ['"b', "c"], ["d,e", "f"]]


def test_semicolons_of_a_list_without_a_header_are_no_columns():
    assert read_gene_list(io.BytesIO(b"TP53;MDM2\n")) == ["TP53;MDM2"]


def test_numbers_in_cells():
    assert [number_in(cell) for cell in ("1", "-.5e3", " 2 ", "Inf")] == [1, -500, 2, np.inf]
    assert all(np.isnan(number_in(cell)) for cell in ("", "NA", "n/a", "."))
    assert [number_in(cell) for cell in ("1,5", "1_0", "٣", "x", "0x1")] == [None] * 5


def test_a_decimal_comma_is_named():
    table = Table.read(io.BytesIO(b"gene;a\nTP53;0,5\n"))
    with pytest.raises(InputError, match=r"line 2: .*'0,5'[\s\S]*decimal point"):
        table.numbers()
