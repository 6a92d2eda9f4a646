"""What studies write, and how it gets onto pages."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from matplotlib.figure import Figure

from decode_zoo.core.errors import InputError
from decode_zoo.pages import figures
from decode_zoo.pages.folders import write_study
from decode_zoo.pages.html import number, svg_file
from decode_zoo.pages.sections import read_section
from decode_zoo.studies.result import StudyResult

HOSTILE = "<script>alert(1)</script>"


def picture() -> Figure:
    figure = Figure((1, 1))
    figure.add_axes((0.1, 0.1, 0.8, 0.8)).plot([0, 1])
    return figure


@pytest.fixture
def found(monkeypatch) -> StudyResult:
    table = pd.DataFrame(
        {
            "regulator": [f"R{i}" for i in range(30)],
            "delta": np.linspace(-1, 1, 30),
            "known": [True, False, None] * 10,
        }
    )
    table.loc[2, "delta"] = np.nan
    drawn = {"bars": ("Strongest", picture())}
    monkeypatch.setattr(figures, "pictures_of", lambda result: drawn)
    return StudyResult(
        "knockout",
        f"Title {HOSTILE}",
        {"Genes": "3"},
        ("What was done.",),
        {"deltas": ("Changes", table)},
        {"largest": np.float64(1.5), "provenance": {"created": "2026-01-01", "decode_zoo": "x"}},
    )


@pytest.mark.parametrize("table_format", ["tsv", "parquet"])
def test_a_folder_is_read_as_it_was_written(found, tmp_path, table_format):
    if table_format == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    write_study(found, out, table_format)
    files = {path.name for path in out.iterdir()}
    assert files == {f"deltas.{table_format}", "bars.svg", "summary.json", "index.html"}
    path = out / f"deltas.{table_format}"
    table = pd.read_csv(path, sep="\t") if table_format == "tsv" else pd.read_parquet(path)
    expected = found.tables["deltas"][1]
    np.testing.assert_allclose(table["delta"], expected["delta"], rtol=1e-5)
    assert table["regulator"].tolist() == expected["regulator"].tolist()
    assert json.loads((out / "summary.json").read_text())["largest"] == 1.5
    section, pictures = read_section(out)
    assert section.title == found.title
    (shown,) = section.tables
    assert (shown.n_rows, len(shown.rows)) == (30, 20)
    assert (shown.rows[0], shown.rows[2]) == (("R0", "−1", "yes"), ("R2", "–", "–"))
    assert pictures["bars.svg"].lstrip().startswith(b"<?xml")
    # The page needs nothing beside it.
    html = (out / "index.html").read_text()
    assert "<script" not in html
    assert html.count("<img") == 1
    assert re.findall(r'(?:src|href)="(data:|#)', html)
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("summary.json", None, "no folder of a study"),
        ("summary.json", '{"format_version": 1}', "no section"),
        ("bars.svg", "GIF89a", "no SVG"),
        ("bars.svg", None, r"bars\.svg"),
        # What is changed in the summary:
        ("section", {"pictures": [{"file": "../bars.svg", "caption": ""}]}, "as a picture"),
        ("section", {"pictures": [{"file": "deltas.tsv", "caption": ""}]}, "as a picture"),
        ("section", {"title": 3}, "section.title: expected text"),
        ("section", {"tables": [{"file": "x"}]}, "missing required field `caption`"),
    ],
)
def test_folders_of_others_are_refused(found, tmp_path, file, content, message):
    write_study(found, tmp_path / "out")
    path = tmp_path / "out" / ("summary.json" if file == "section" else file)
    if file == "section":
        summary = json.loads(path.read_text())
        summary["section"].update(content)
        content = json.dumps(summary)
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_section(tmp_path / "out")


@pytest.mark.usefixtures("toy_zoo")
def test_a_study_becomes_a_section_of_a_report(found, tmp_path, call):
    write_study(found, tmp_path / "out")
    (tmp_path / "genes.txt").write_text("ALB\n")
    model = ("report", "--model", "toy-decode-v1", tmp_path / "genes.txt")
    own = ("--outputs", "Liver,Lung", "--study", tmp_path / "out")
    code, _, err = call(*model, *own, "-o", tmp_path / "r.html")
    assert code == 0, err
    html = (tmp_path / "r.html").read_text()
    assert 'id="study-1"' in html
    assert HOSTILE not in html
    assert "data:image/svg+xml;base64," in html
    code, _, err = call(*model, "--study", tmp_path, "-o", tmp_path / "s.html")
    assert code == 4
    assert "no folder of a study" in err
    assert not (tmp_path / "s.html").exists()


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, ".3g", "–"),
        (np.nan, ".2f", "–"),
        (-1.5, ".3g", "−1.5"),
        (-0.001, ".2f", "0.00"),
        (0.0, "+.2f", "0.00"),
        (2e-7, ".0e", "2e−07"),
        (-1234567, ",", "−1,234,567"),
        (0.256, ".0%", "26%"),
    ],
)
def test_numbers_have_minus_signs_and_zero_has_none(value, form, text):
    assert number(value, form) == text


def test_the_same_figure_gives_the_same_bytes():
    assert svg_file(picture()) == svg_file(picture())
    assert b"<dc:date>" not in svg_file(picture())
