"""Trait studies: how traits are taken, what is compared, and what is written."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.pages.folders import check_extras, write_study
from decode_zoo.pages.sections import read_section
from decode_zoo.studies.trait_models import make_design
from decode_zoo.studies.traits import study_traits

for package in ("pylimma", "jinja2", "matplotlib"):
    pytest.importorskip(package)

HOSTILE = "<script>alert(1)</script>"
N_SAMPLES = 14


def design(trait, covariates=(), **columns):
    table = pd.DataFrame(columns)
    table.index = [f"P{i}" for i in range(len(table))]
    return make_design(table, list(table.index), trait, covariates)


# How traits are taken


def test_numbers_are_slopes_and_two_levels_a_contrast_against_the_first():
    columns = {"sex": ["male", "female"] * 4, "age": list("12345678"), "batch": list("bcaabcba")}
    found = design("sex", ["age", "batch"], **columns)
    assert found.names == ("intercept", "age", "batch=b", "batch=c", "sex=male")
    assert found.matrix.T.tolist()[1:] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [1, 0, 0, 0, 1, 0, 1, 0],
        [0, 1, 0, 0, 0, 1, 0, 0],
        [1, 0] * 4,
    ]
    assert found.coding["sex"] == "male (4) against female (4)"
    assert found.coding["age"] == "slope by unit of age"


def test_brackets_are_their_middles():
    found = design("age", age=["20-29", "60-69", "30-39", "41"])
    assert found.matrix[:, -1].tolist() == [24.5, 64.5, 34.5, 41]
    assert "middle of each bracket" in found.coding["age"]


def test_samples_without_a_value_are_left_out_and_told():
    found = design("sex", ["age"], sex=["m", "f", "", "m", "f", "m"], age=[*"123", "NA", *"59"])
    assert found.samples == ("P0", "P1", "P4", "P5")
    assert found.incomplete == ("P2", "P3")
    assert found.values == ("m", "f", "f", "m")


SEX = ["m", "f"] * 4


@pytest.mark.fault
@pytest.mark.parametrize(
    ("trait", "covariates", "message"),
    [
        (["m"] * 8, {}, "'t' has one value only"),
        (["a", "b", "c", "a"] * 2, {}, "'t' has 3 levels"),
        (["", "NA"] * 4, {}, "no sample has values of t"),
        ([*"1234567", "old"], {}, "mixes numbers and words: 'old'"),
        (SEX, {"c": ["x"] * 8}, "'c' has one value only"),
        (SEX, {"c": ["1", "2"] * 4}, "'t=m' is determined by c"),
        (list("mmffmmff"), {"c": list("12345678"), "d": list("23456789")}, "'d' is determined"),
        (SEX, {"c": list("abcdefgh")}, "8 samples are too few"),
        (["m", "f"], {}, "2 samples are too few for 2 coefficients"),
    ],
)
def test_what_cannot_be_studied_is_refused(trait, covariates, message):
    with pytest.raises(InputError, match=re.escape(message)):
        design("t", tuple(covariates), t=trait, **covariates)


def test_columns_that_are_not_there_or_asked_for_twice():
    with pytest.raises(UsageError, match="age"):
        design("age", t=SEX)
    with pytest.raises(UsageError, match="asked for twice"):
        design("t", ["t"], t=SEX)


# The study: tissues of the bundled model stand in for samples


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-v1")


@pytest.fixture(scope="module")
def cohort(model):
    """Expression like predictions, with noise; brain against others, as predictions have it."""
    tissues = [name for name in model.outputs if name != MEDIAN]
    brain = [name for name in tissues if name.startswith("Brain")][: N_SAMPLES // 2]
    others = [name for name in tissues if not name.startswith("Brain")][: N_SAMPLES // 2]
    ids, chroms = np.array(model.features.rows.ids), np.array(model.features.rows.chroms)
    genes = [*ids[chroms == "1"][:400:16], *ids[chroms == "2"][:10]]
    values = model.predict(genes, backend="numpy")[brain + others].to_numpy(np.float64)
    noise = np.random.default_rng(0).normal(size=values.shape)
    matrix = pd.DataFrame(6 + values + 0.5 * noise, index=genes, columns=brain + others)
    ages = [f"{20 + 10 * (i % 5)}-{29 + 10 * (i % 5)}" for i in range(N_SAMPLES)]
    parts = ["brain"] * len(brain) + ["Body"] * len(others)
    return matrix, pd.DataFrame({"part": parts, "age": ages}, index=brain + others)


@pytest.fixture(scope="module")
def relate(model, cohort):
    """Run the study as quickly as can be; returns it."""
    matrix, table = cohort

    def relate(expression=matrix, samples=table, trait="part", model=model, **options):
        options = {"permutations": 1, "resamples": 1, **options}
        return study_traits(model, expression, samples, trait, **options)

    return relate


WHOLE = {"covariates": ["age"], "permutations": 20, "resamples": 100}


@pytest.fixture(scope="module")
def study(relate):
    return relate(**WHOLE)


def test_a_trait_that_predictions_show_is_found(cohort, study, relate):
    summary = study.numbers
    assert (summary["samples"]["n"], summary["samples"]["of_model"]) == (N_SAMPLES, 53)
    assert summary["genes"]["n"] == 25  # those on chromosome 2 the model was not tested on
    found = summary["concordance"]
    assert found["spearman"] > 0.5
    low, high = found["interval_95"]
    assert low < found["spearman"] < high
    assert found["other_samples"]["p"] <= 0.1
    assert found["same_sign"] > 0.8
    # Any contrast of these samples is predicted: they were made so.
    assert found["random_traits"]["mean"] > 0.2 > abs(found["other_samples"]["mean"])
    assert study.expression["name"].tolist() == study.predicted["name"].tolist()
    assert list(study.expression) == ["name", "symbol", "effect", "mean", "t", "p", "q"]
    expected = cohort[0].loc[study.expression["name"]].mean(axis=1)
    np.testing.assert_allclose(study.expression["mean"], expected, rtol=1e-9)
    json.dumps(summary, allow_nan=False)
    assert relate(**WHOLE).numbers["concordance"] == found  # by the same seed


def test_scores_of_regulators_are_signed_means_over_genes(model, cohort, study):
    genes = study.expression["name"].tolist()
    table = model.explain(genes, by="regulator", outputs=list(study.design.samples)).summary()
    table = table[table["class"] != "mask"].astype({"class": str, "regulator": str, "output": str})
    wide = table.pivot(index=["class", "regulator"], columns="output", values="mean")
    keys = list(zip(study.regulators["class"], study.regulators["name"], strict=True))
    expected = wide.loc[keys, list(study.scores.columns)].to_numpy()
    np.testing.assert_allclose(study.scores.to_numpy(), expected, rtol=1e-6, atol=1e-10)
    assert study.regulators["p"].is_monotonic_increasing
    assert study.scores.index.tolist() == study.regulators["name"].tolist()


def test_scores_over_related_genes_only(cohort, relate):
    found = relate(regulator_genes="de")
    related = int((found.expression["q"] <= 0.05).sum())
    assert 0 < related < 25
    assert found.numbers["regulators"]["n_genes"] == related
    random = cohort[0] * 0 + np.random.default_rng(3).normal(5, 1, cohort[0].shape)
    with pytest.raises(UsageError, match="No gene's expression is related"):
        relate(random, regulator_genes="de", fdr=1e-9)


def test_chosen_genes(cohort, relate):
    genes = list(cohort[0].index[20:])
    assert relate(genes=[*genes, "nonsense"]).expression["name"].tolist() == genes


def test_samples_are_matched_by_name(cohort, relate):
    matrix, table = cohort
    table = pd.concat([table, pd.DataFrame({"part": ["brain"], "age": ["30-39"]}, index=["who"])])
    found, whole = relate(matrix[matrix.columns[::-1]], table.iloc[::-1]), relate()
    assert found.numbers["samples"]["n"] == N_SAMPLES
    assert found.numbers["samples"]["of_table"] == N_SAMPLES + 1
    for name in ("expression", "predicted"):
        np.testing.assert_allclose(getattr(found, name)["t"], getattr(whole, name)["t"], rtol=1e-9)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fdr": 0}, UsageError, "FDR"),
        ({"permutations": 0}, UsageError, "one permutation"),
        ({"regulator_genes": "some"}, UsageError, "some"),
        ({"genes": "TP53"}, UsageError, "not a single string"),
        ({"genes": 3}, InputError, "3 genes given"),
        ({"expression": 1000}, InputError, "Are these counts"),
        ({"samples": "others"}, InputError, "no sample of the table is both in the model"),
    ],
)
def test_what_does_not_fit_is_refused(cohort, relate, options, error, message):
    matrix, table = cohort
    if options.get("genes") == 3:
        options = {"genes": list(matrix.index[:3])}
    if "expression" in options:
        options = {"expression": matrix * 1000}
    if "samples" in options:
        options = {"samples": table.set_axis([f"X{i}" for i in range(N_SAMPLES)])}
    with pytest.raises(error, match=message):
        relate(**options)


def test_constant_genes_are_left_out(cohort, relate):
    matrix = cohort[0].copy()
    matrix.iloc[3] = -2.0
    numbers = relate(matrix).numbers["genes"]
    assert (numbers["constant"], numbers["n"]) == (1, 24)


# What is written


def test_the_folder_and_its_page(study, relate, cohort, tmp_path):
    folder = tmp_path / "out"
    write_study(study.result(), folder)
    drawn = ("volcanoes.svg", "concordance.svg", "regulators.svg", "heatmap.svg")
    files = {"expression.tsv", "predicted.tsv", "regulators.tsv", "summary.json", "traits.html"}
    assert {path.name for path in folder.iterdir()} == files.union(drawn)
    table = pd.read_csv(folder / "expression.tsv", sep="\t")
    np.testing.assert_allclose(table["t"], study.expression["t"], rtol=1e-5)
    summary = json.loads((folder / "summary.json").read_text())
    assert study.numbers.items() <= summary.items()
    section, pictures = read_section(folder)
    assert section.study == "traits"
    tables = (study.expression, study.predicted, study.regulators)
    assert [table.n_rows for table in section.tables] == list(map(len, tables))
    assert len(pictures) == 4
    with pytest.raises(UsageError, match="not empty"):
        write_study(study.result(), folder)
    # Names of samples and traits stay texts.
    hostile = cohort[1].rename(columns={"part": f"{HOSTILE} $x^2$"}).replace("brain", "</svg>")
    other = relate(samples=hostile, trait=hostile.columns[0])
    write_study(other.result(), tmp_path / "hostile")
    for made in (folder, tmp_path / "hostile"):
        page = (made / "traits.html").read_text(encoding="utf-8")
        assert page.count('<img class="picture"') == 4
        assert "<script" not in page
        links = re.findall(r'\b(?:src|href|xlink:href)="(.*?)"', page)
        assert all(link.startswith(("#", "data:")) for link in links)
        assert "default-src 'none'" in page


@pytest.fixture
def run(call, tmp_path, cohort, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(words, table=cohort[1]):
        cohort[0].to_csv("x.tsv", sep="\t", index_label="gene_id")
        table.to_csv("p.tsv", sep="\t", index_label="sample")
        command = "study traits --model gtex-tissue-v1 x.tsv --samples p.tsv -o out"
        return call(*f"{command} --permutations 5 {words}".split())

    return run


def test_command(run, tmp_path):
    code, out, err = run("--trait part --covariates age")
    assert (code, out) == (0, "out\n"), err
    for text in ("14 samples", "25 genes tested on by the model", "brain (7) against Body (7)"):
        assert text in err
    provenance = json.loads((tmp_path / "out" / "summary.json").read_text())["provenance"]
    assert provenance["samples"]["file"] == "p.tsv"
    assert provenance["model"]["id"] == "gtex-tissue-v1"
    code, _, err = run("--trait part")
    assert (code, "not empty" in err) == (2, True)


def test_command_with_all_genes(run):
    code, _, err = run("--trait part --all-genes")
    assert (code, "35 genes given" in err) == (0, True), err


@pytest.mark.fault
@pytest.mark.parametrize(
    ("words", "part", "expected", "message"),
    [
        ("--trait height", None, 2, "height"),
        ("--trait part", "brain", 4, "has one value only"),
        ("--trait part --all-genes --genes x.tsv", None, 2, "either a file of genes"),
    ],
)
def test_faults_end_with_a_code_and_leave_nothing(
    run, tmp_path, cohort, words, part, expected, message
):
    code, _, err = run(words, cohort[1].assign(part=part) if part else cohort[1])
    assert (code, message in err) == (expected, True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.tsv", "x.tsv"]


def test_a_missing_package_is_told_before_the_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"decode-zoo\[studies\]"):
        check_extras("tsv", "pylimma")
