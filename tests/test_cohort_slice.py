"""Cohorts: a slice of a real one, step by step against what the steps are by definition."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.cohort import Grid, prepare_cohort, read_persons
from decode_zoo.cohort.abundance import abundance_of
from decode_zoo.cohort.normalisation import (
    length_basis,
    quantile_normalised,
    without_covariates,
    without_length,
)
from decode_zoo.cohort.persons import design_of
from decode_zoo.cohort.quality import XIST, measure_quality
from decode_zoo.errors import InputError
from decode_zoo.expression import MEDIAN, make_targets, read_expression

pytest.importorskip("qnorm")
DATA = Path(__file__).parent / "data" / "cohort"
COUNTS, PERSONS = DATA / "counts.tsv.gz", DATA / "persons.tsv"


@pytest.fixture(scope="module")
def features():
    return dz.load_features("hg38-open-v2")


@pytest.fixture(scope="module")
def counts():
    return pd.read_csv(COUNTS, sep="\t", index_col=0)


@pytest.fixture(scope="module")
def cohort(features):
    return prepare_cohort(COUNTS, PERSONS, features, quantity="counts")


def prepare(counts, features, persons=None, **options):
    table = read_persons(PERSONS) if persons is None else persons
    return prepare_cohort(counts, table, features, **{"quantity": "counts", **options})


def tpm_of(counts, features):
    """TPM by their definition, gene by gene."""
    known = [gene for gene in counts.index if gene in features.rna_lengths.index]
    rates = {gene: counts.loc[gene] / features.rna_lengths[gene] for gene in known}
    total = sum(rates.values())
    return pd.DataFrame({gene: 1e6 * rate / total for gene, rate in rates.items()}).T


# -- TPM -----------------------------------------------------------------------------------------


def test_tpm_by_hand(features):
    genes = ["TP53", "ENSG00000141510.17", "GAPDH", "nobody"]  # the second is the first again
    lengths = features.rna_lengths[[features.genes[features.row(g)] for g in ("TP53", "GAPDH")]]
    grid = Grid("here", genes, ["a", "b"], np.array([[3.0, 1], [1, 0], [6, 5], [90, 4]]))
    found = abundance_of(grid, features, "counts")
    assert found.statuses == {"ok": 2, "duplicate": 1, "unknown_gene": 1}
    tp53, gapdh = np.array([4.0, 1]) / lengths.iloc[0], np.array([6.0, 5]) / lengths.iloc[1]
    expected = {features.row("TP53"): tp53, features.row("GAPDH"): gapdh}
    for row, tpm in zip(found.rows, found.tpm, strict=True):
        np.testing.assert_allclose(tpm, 1e6 * expected[row] / (tp53 + gapdh), rtol=1e-12)
    np.testing.assert_array_equal(found.totals, [100, 10])  # library sizes count all


def test_tpm_and_kept_genes_of_a_real_cohort(cohort, counts, features):
    expected = tpm_of(counts, features)
    ids = [features.rows.gene_ids[row] for row in cohort.abundance.rows]
    found = pd.DataFrame(cohort.abundance.tpm, ids, cohort.expression.columns)
    assert set(ids) == set(expected.index)
    pd.testing.assert_frame_equal(
        found, expected.loc[found.index, found.columns], rtol=1e-12, check_names=False
    )
    kept = expected.index[(expected > 1).mean(axis=1) >= 0.5]
    assert set(cohort.expression.index) == set(kept)
    strict = prepare(counts, features, min_tpm=100, min_share=1).expression
    assert set(strict.index) == set(expected.index[(expected > 100).all(axis=1)])


def test_tpm_are_taken_as_given(features):
    # A part of the transcriptome does not add up to a million, and is not made to.
    grid = Grid("here", ["TP53", "GAPDH"], ["a", "b"], np.array([[3.0, 1], [100, 200]]))
    found = abundance_of(grid, features, "tpm")
    np.testing.assert_array_equal(np.sort(found.tpm, axis=0), [[3, 1], [100, 200]])


# -- normalisation -------------------------------------------------------------------------------


@given(st.integers(0, 1000))
def test_quantile_normalisation(seed):
    values = np.random.default_rng(seed).normal(size=(40, 5))
    normalised = quantile_normalised(values)
    np.testing.assert_array_equal(normalised.argsort(axis=0), values.argsort(axis=0))
    mean = np.sort(values, axis=0).mean(axis=1)
    np.testing.assert_allclose(np.sort(normalised, axis=0), np.tile(mean[:, None], 5))


def test_covariates_are_regressed_out_as_one_gene_alone_would_be(counts):
    persons = read_persons(PERSONS)
    values = np.log2(counts.to_numpy()[:50] + 1.0)
    found = without_covariates(values, design_of(persons, ["age", "batch"])[0])
    full = np.column_stack(
        [
            np.ones(len(persons)),
            persons["age"].astype(float),
            persons["batch"] == "b",
            persons["batch"] == "c",
        ]
    ).astype(float)
    for gene, row in zip(values, found, strict=True):
        residual = gene - full @ np.linalg.lstsq(full, gene, rcond=None)[0]
        np.testing.assert_allclose(row, residual + gene.mean(), atol=1e-9)


def test_a_batch_is_gone(counts, features):
    later = read_persons(PERSONS)["batch"].to_numpy() == "c"
    touched = counts.copy()
    touched.loc[np.random.default_rng(1).random(len(counts)) < 0.3, later] *= 4
    apart = []
    for covariates in ((), ("batch",)):
        x = prepare(touched, features, covariates=covariates).expression.to_numpy()
        apart.append(np.abs(x[:, later].mean(axis=1) - x[:, ~later].mean(axis=1)).mean())
    assert apart[1] < 0.15 * apart[0]


def test_length_bias_is_that_of_separate_regressions():
    rng = np.random.default_rng(0)
    lengths, fitted = rng.integers(200, 20_000, 300), rng.random(300) < 0.8
    values = rng.normal(size=(300, 6)) + rng.normal(size=(300, 1)) * 3
    basis = length_basis(lengths, fitted)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    found, bias = without_length(values, basis, fitted)
    np.testing.assert_allclose(found.mean(axis=1), values.mean(axis=1))
    deviations = values - values.mean(axis=1, keepdims=True)
    for person, removed in zip(deviations.T, bias.T, strict=True):
        alone = basis @ np.linalg.lstsq(basis[fitted], person[fitted], rcond=None)[0]
        np.testing.assert_allclose(removed, alone, atol=1e-10)


def test_length_bias_put_in_is_taken_out(counts, features):
    # Every other person has lost short fragments, as with another quality of RNA.
    lengths = features.rna_lengths.reindex(counts.index).fillna(1000).to_numpy()
    biased = counts.astype(float)
    biased.iloc[:, ::2] *= ((lengths / 2000.0) ** 0.3)[:, None]
    left = {}
    for remove in (True, False):
        one = prepare(biased, features, length_bias=remove).expression
        x = np.log2(features.rna_lengths[one.index].to_numpy(float))
        deviations = (one.to_numpy() - one.to_numpy().mean(axis=1, keepdims=True)).T
        left[remove] = np.mean([abs(np.corrcoef(person, x)[0, 1]) for person in deviations])
    # The last quantile normalisation puts some of it back: it stretches each person's values by
    # expression, which goes with length.
    assert left[False] > 0.2
    assert left[True] < 0.5 * left[False]


def test_order_of_persons_is_that_of_their_table(cohort, counts, features):
    table = read_persons(PERSONS)
    order = np.random.default_rng(0).permutation(len(table))
    one = prepare(counts.T, features, table.iloc[order])
    assert one.facts["transposed"]
    pd.testing.assert_frame_equal(one.expression, cohort.expression.iloc[:, order], rtol=1e-9)


# -- quality -------------------------------------------------------------------------------------


def test_sex_of_real_persons(cohort, features):
    found = measure_quality(cohort, features).sex
    assert found.calls == found.given
    assert found.differing == []


@pytest.mark.parametrize("sex", ["female", "male"])
def test_sex_where_all_are_of_one(sex, counts, features):
    # In these short reads those of X genes count as Y genes, in women too.
    table = read_persons(PERSONS)
    some = table[table["sex"] == sex]
    one = prepare(counts[list(some.index)], features, some)
    assert set(measure_quality(one, features).sex.calls) == {sex}


def test_components_are_those_of_a_singular_value_decomposition(cohort, features):
    found = measure_quality(cohort, features).components
    x = cohort.expression.to_numpy()  # fewer genes than would be chosen
    _, s, vt = np.linalg.svd(x - x.mean(axis=1, keepdims=True), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(vt[:4].T * s[:4]), rtol=1e-6)
    np.testing.assert_allclose(found.shares, s[:4] ** 2 / (s**2).sum(), rtol=1e-6)


# -- the command line ----------------------------------------------------------------------------


def test_the_folder_is_what_training_reads(call, tmp_path, cohort):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "cohort"
    code, out, err = call(
        "cohort", "prepare", COUNTS, "--quantity", "counts", "--persons", PERSONS, "-o", folder
    )
    assert (code, out.strip()) == (0, str(folder))
    assert sorted(file.name for file in folder.iterdir()) == [
        "expression.tsv.gz",
        "persons.tsv",
        "quality.html",
        "record.json",
    ]
    assert (folder / "persons.tsv").read_text() == PERSONS.read_text()
    # Ids of persons stay out of what terminals and logs keep.
    assert not any(name in err for name in cohort.persons.index)
    record = json.loads((folder / "record.json").read_text())
    assert record["persons"] == len(cohort.persons)
    assert set(record["provenance"]["inputs"]) == {COUNTS.name, PERSONS.name}
    assert record["genes"]["kept"] == len(cohort.expression)

    targets = make_targets(read_expression(folder / "expression.tsv.gz"), scale="log2")
    assert targets.names == (*cohort.persons.index, MEDIAN)
    median = cohort.expression.median(axis=1)
    np.testing.assert_allclose(targets.values[:, -1], median, atol=1e-4)
    np.testing.assert_allclose(
        targets.values[:, :-1], cohort.expression.sub(median, axis=0), atol=1e-4
    )
    page = (folder / "quality.html").read_text(encoding="utf-8")
    assert page.count('<img class="picture"') == 5
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "<script" not in page


def test_nothing_is_left_of_a_failure(call, tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text(gzip.decompress(COUNTS.read_bytes()).decode().replace("\t41\t", "\t-41\t"))
    options = ["--quantity", "counts", "--persons", PERSONS, "-o", tmp_path / "out"]
    code, _, err = call("cohort", "prepare", bad, *options)
    assert code == 4
    assert "negative" in err
    assert [file.name for file in tmp_path.iterdir()] == ["bad.tsv"]


def test_sex_that_is_not_checked_is_not_called_right(call, tmp_path, counts):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    strange = counts.drop(index=XIST)
    strange.iloc[:, 3] = np.random.default_rng(0).permutation(strange.iloc[:, 3].to_numpy())
    strange.to_csv(tmp_path / "few.tsv", sep="\t")
    options = ["--quantity", "counts", "--persons", PERSONS, "-o", tmp_path / "out"]
    code, _, err = call("cohort", "prepare", tmp_path / "few.tsv", *options)
    assert code == 0
    assert "outlier" in err
    assert "another sex" not in err
    assert "Not checked" in (tmp_path / "out" / "quality.html").read_text(encoding="utf-8")


# -- files and what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "values", "message"),
    [
        ("counts", [[1, -2.0], [3, 4]], "gene 'TP53', person 'b': -2 is negative"),
        ("log2", [[1, 2], [-2.5, 4]], "less than log2"),
        ("log2", [[1, 2], [300, 4]], "no logarithms"),
        ("counts", [[0.5, 999_999], [999_999.5, 1]], "these are TPM"),
    ],
)
def test_values_that_are_not_what_they_are_said_to_be(quantity, values, message, features):
    grid = Grid("here", ["TP53", "GAPDH"], ["a", "b"], np.array(values, float))
    with pytest.raises(InputError, match=message):
        abundance_of(grid, features, quantity)


def test_logarithms_are_not_added(features):
    grid = Grid("here", ["TP53", "ENSG00000141510"], ["a"], np.array([[1.0], [2]]), [2, 3])
    with pytest.raises(InputError, match="line 3: gene 'ENSG00000141510' occurs twice"):
        abundance_of(grid, features, "log2")


@pytest.mark.parametrize("name", [MEDIAN, "gene_id", "a,b"])
def test_names_that_no_output_can_have(name, counts, features):
    new = {counts.columns[0]: name}
    with pytest.raises(InputError, match="Rename the person"):
        prepare(counts.rename(columns=new), features, read_persons(PERSONS).rename(index=new))


def test_names_that_r_has_changed(counts, features):
    table = read_persons(PERSONS).rename(index=lambda name: f"{name}-x")
    with pytest.raises(InputError, match=r"check\.names=FALSE"):
        prepare(counts.rename(columns=lambda name: f"{name}.x"), features, table)
