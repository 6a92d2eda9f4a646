"""Cohorts: a slice of a real one, step by step against what the steps are by definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.cohort.expression import make_targets, read_expression
from decode_zoo.cohort.preparation import (
    abundance_of,
    length_basis,
    prepare_cohort,
    without_covariates,
    without_length,
)
from decode_zoo.cohort.quality import XIST, Y_GENES, measure_quality
from decode_zoo.cohort.samples import design_of, read_samples, trait_of
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.reader import NamedMatrix, read_matrix
from decode_zoo.networks.manifest import MEDIAN

qnorm = pytest.importorskip("qnorm")
DATA = Path(__file__).parent / "data" / "cohort"
COUNTS, SAMPLES = DATA / "counts.tsv.gz", DATA / "persons.tsv"


@pytest.fixture(scope="module")
def features():
    return dz.load_features("hg38-open-v2")


@pytest.fixture(scope="module")
def counts():
    return pd.read_csv(COUNTS, sep="\t", index_col=0)


@pytest.fixture(scope="module")
def samples():
    return read_samples(SAMPLES)


@pytest.fixture(scope="module")
def prepare(features):
    return lambda expression, samples=None, quantity="counts", **options: prepare_cohort(
        expression, samples, features, quantity=quantity, **options
    )


@pytest.fixture(scope="module")
def cohort(prepare):
    return prepare(COUNTS, SAMPLES)


@pytest.fixture(scope="module")
def tpm(counts, features):
    """TPM by their definition, gene by gene."""
    known = [gene for gene in counts.index if gene in features.rna_lengths.index]
    rates = {gene: counts.loc[gene] / features.rna_lengths[gene] for gene in known}
    total = sum(rates.values())
    return pd.DataFrame({gene: 1e6 * rate / total for gene, rate in rates.items()}).T


# -- the steps -----------------------------------------------------------------------------------


def test_tpm_by_hand(features):
    genes = ["TP53", "ENSG00000141510.17", "GAPDH", "nobody"]  # the second is the first again
    lengths = features.rna_lengths[[features.genes[features.row(g)] for g in ("TP53", "GAPDH")]]
    grid = NamedMatrix("here", genes, ["a", "b"], np.array([[3.0, 1], [1, 0], [6, 5], [90, 4]]))
    found = abundance_of(grid, features, "counts")
    assert found.statuses == {"ok": 2, "duplicate": 1, "unknown_gene": 1}
    tp53, gapdh = np.array([4.0, 1]) / lengths.iloc[0], np.array([6.0, 5]) / lengths.iloc[1]
    expected = {features.row("TP53"): tp53, features.row("GAPDH"): gapdh}
    for row, tpm in zip(found.rows, found.tpm, strict=True):
        np.testing.assert_allclose(tpm, 1e6 * expected[row] / (tp53 + gapdh), rtol=1e-12)
    np.testing.assert_array_equal(found.totals, [100, 10])  # library sizes count all
    # TPM stay as given: those of a part of the transcriptome do not add up to a million.
    part = abundance_of(
        NamedMatrix("here", ["TP53"], ["a", "b"], np.array([[3.0, 1]])), features, "tpm"
    )
    np.testing.assert_array_equal(part.tpm, [[3, 1]])


def test_the_steps_of_a_real_cohort(cohort, prepare, counts, features, tpm):
    ids = [features.rows.gene_ids[row] for row in cohort.abundance.rows]
    found = pd.DataFrame(cohort.abundance.tpm, ids, cohort.expression.columns)
    assert set(ids) == set(tpm.index)
    pd.testing.assert_frame_equal(found, tpm.loc[ids, found.columns], rtol=1e-12, check_names=False)
    strict = prepare(counts, min_tpm=100, min_share=1).expression
    assert set(strict.index) == set(tpm.index[(tpm > 100).all(axis=1)])
    kept = tpm[(tpm > 1).mean(axis=1) >= 0.5]
    assert set(cohort.expression.index) == set(kept.index)
    values = qnorm.quantile_normalize(np.log2(kept + 0.25).to_numpy())
    expected = pd.DataFrame(qnorm.quantile_normalize(values), kept.index, counts.columns)
    plain = prepare(counts, length_bias=False).expression
    pd.testing.assert_frame_equal(plain, expected.loc[plain.index], check_names=False, rtol=1e-6)
    bias = cohort.facts["length_bias"]
    assert bias["removed"]
    assert bias["fitted_to"] == "genes of other chromosomes than chr1"


def test_covariates_are_regressed_out_as_one_gene_alone_would_be(counts, samples):
    values = np.log2(counts.to_numpy()[:50] + 1.0)
    found = without_covariates(values, design_of(samples, ["age", "batch"])[0])
    batch = samples["batch"]
    columns = [np.ones(len(samples)), samples["age"].astype(float), batch == "b", batch == "c"]
    full = np.column_stack(columns).astype(float)
    for gene, row in zip(values, found, strict=True):
        residual = gene - full @ np.linalg.lstsq(full, gene, rcond=None)[0]
        np.testing.assert_allclose(row, residual + gene.mean(), atol=1e-9)


def test_a_batch_is_gone(prepare, counts, samples):
    later = samples["batch"].to_numpy() == "c"
    touched = counts.copy()
    touched.loc[np.random.default_rng(1).random(len(counts)) < 0.3, later] *= 4
    apart = []
    for covariates in ((), ("batch",)):
        x = prepare(touched, samples, covariates=covariates).expression.to_numpy()
        apart.append(np.abs(x[:, later].mean(axis=1) - x[:, ~later].mean(axis=1)).mean())
    assert apart[1] < 0.15 * apart[0]


def test_length_bias_is_that_of_separate_regressions():
    rng = np.random.default_rng(0)
    lengths, fitted = rng.integers(200, 20_000, 300), rng.random(300) < 0.8
    values = rng.normal(size=(300, 6)) + rng.normal(size=(300, 1)) * 3
    basis = length_basis(lengths, fitted)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    found, bias = without_length(values, basis, fitted)
    np.testing.assert_allclose(found + bias, values)
    np.testing.assert_allclose(found.mean(axis=1), values.mean(axis=1))
    deviations = values - values.mean(axis=1, keepdims=True)
    for sample, removed in zip(deviations.T, bias.T, strict=True):
        alone = basis @ np.linalg.lstsq(basis[fitted], sample[fitted], rcond=None)[0]
        np.testing.assert_allclose(removed, alone, atol=1e-10)


def test_length_bias_put_in_is_taken_out(prepare, counts, features):
    # Every other sample has lost short fragments, as with another quality of RNA.
    lengths = features.rna_lengths.reindex(counts.index).fillna(1000).to_numpy()
    biased = counts.astype(float)
    biased.iloc[:, ::2] *= ((lengths / 2000.0) ** 0.3)[:, None]
    left = {}
    for remove in (True, False):
        one = prepare(biased, length_bias=remove).expression
        x = np.log2(features.rna_lengths[one.index].to_numpy(float))
        deviations = (one.to_numpy() - one.to_numpy().mean(axis=1, keepdims=True)).T
        left[remove] = np.mean([abs(np.corrcoef(sample, x)[0, 1]) for sample in deviations])
    # The last quantile normalisation puts some of it back: it stretches each sample's values by
    # expression, which goes with length.
    assert left[False] > 0.2
    assert left[True] < 0.5 * left[False]


# -- invariances ---------------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_neither_order_nor_depth_nor_orientation_matters(prepare, counts, samples, cohort, seed):
    rng = np.random.default_rng(seed)
    turned = counts.iloc[rng.permutation(len(counts)), rng.permutation(len(samples))]
    turned = (turned * rng.integers(1, 5, len(samples))).T
    order = rng.permutation(len(samples))
    again = prepare(turned, samples.iloc[order])
    assert again.facts["transposed"]
    expected = cohort.expression.iloc[:, order]
    pd.testing.assert_frame_equal(again.expression, expected, rtol=1e-6, atol=1e-8)


def test_symbols_and_versions_are_genes_too(features, prepare, counts, cohort):
    symbol = dict(zip(features.rows.gene_ids, features.rows.symbols, strict=True))
    for names in ([f"{g}.7" for g in counts.index], [symbol.get(g) or g for g in counts.index]):
        found = prepare(counts.set_axis(names)).expression
        known = found.index.intersection(cohort.expression.index)
        assert len(known) > 0.97 * len(cohort.expression)


def test_counts_and_their_tpm_give_the_same(prepare, cohort, tpm):
    for quantity, frame in (("tpm", tpm), ("log2", np.log2(tpm + 0.25))):
        found = prepare(frame, quantity=quantity).expression
        pd.testing.assert_frame_equal(found, cohort.expression, rtol=1e-5, atol=1e-6)


def test_all_formats_are_read_alike(counts, tmp_path):
    pytest.importorskip("pyarrow")
    anndata = pytest.importorskip("anndata")
    counts.to_parquet(tmp_path / "x.parquet")
    anndata.AnnData(
        counts.T.to_numpy(), pd.DataFrame(index=counts.columns), pd.DataFrame(index=counts.index)
    ).write_h5ad(tmp_path / "x.h5ad")
    for grid in (
        read_matrix(COUNTS),
        read_matrix(tmp_path / "x.parquet"),
        read_matrix(tmp_path / "x.h5ad").transposed,
    ):
        assert (grid.rows, grid.columns) == (list(counts.index), list(counts.columns))
        np.testing.assert_array_equal(grid.values, counts.to_numpy())


# -- quality -------------------------------------------------------------------------------------


def test_sex_is_told_by_expression_and_outliers_are_found(prepare, features, counts, samples):
    odd, wrong = counts.copy(), samples.copy()
    odd.iloc[:, 9] = np.random.default_rng(0).permutation(odd.iloc[:, 9])
    kept = [gene for gene in (XIST, *Y_GENES.values()) if gene in counts.index]
    odd.loc[kept] = counts.loc[kept]
    wrong.iloc[4, 0] = "male"
    quality = measure_quality(prepare(odd, wrong), features)
    assert quality.sex.calls == tuple(samples["sex"])
    assert quality.sex.differing == [4]
    assert 9 in quality.outliers
    assert quality.components.by_trait["age"].shape == quality.components.shares.shape
    without = measure_quality(prepare(counts.drop(index=kept), samples), features)
    assert without.sex.calls == ()
    assert measure_quality(prepare(counts), features).sex.differing == []  # no table says a sex
    for sex, some in samples.groupby("sex"):  # all of one: in short reads X counts as Y, too
        one = prepare(counts[list(some.index)], some)
        assert set(measure_quality(one, features).sex.calls) == {sex}


def test_components_are_those_of_a_singular_value_decomposition(cohort, features):
    found = measure_quality(cohort, features).components
    x = cohort.expression.to_numpy()  # fewer genes than would be chosen
    _, s, vt = np.linalg.svd(x - x.mean(axis=1, keepdims=True), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(vt[:4].T * s[:4]), rtol=1e-6)
    np.testing.assert_allclose(found.shares, s[:4] ** 2 / (s**2).sum(), rtol=1e-6)


def test_numbers_of_all_sizes_are_taken(prepare, features, counts, samples):
    """Standardised as scipy does, without an overflow; what nobody measures is no number."""
    from scipy import stats

    pytest.importorskip("matplotlib")
    from decode_zoo.pages.figures import cohort as figures
    from decode_zoo.pages.html import svg_file

    numbers = np.random.default_rng(2).normal(3, 2, len(samples))
    for scale in (1e-300, 1.0, 1e99):
        found = design_of(samples.assign(x=[repr(float(v * scale)) for v in numbers]), ["x"])[0]
        np.testing.assert_allclose(found[:, 0], stats.zscore(numbers), rtol=1e-9)
    huge = samples.assign(x=["1e308", "-1e308"] * 7, same=["1", "1.0"] * 7, small="1e-320")
    huge.iloc[3, -1] = "2e-320"
    quality = measure_quality(prepare(counts, huge), features)
    assert {trait.name for trait in quality.traits} >= {"sex", "age", "x", "small"}
    assert "same" not in quality.components.by_trait
    for shares in quality.components.by_trait.values():
        assert ((shares >= 0) & (shares <= 1 + 1e-9)).all()
    assert svg_file(figures.components(quality))
    cases = ((["1", "1.0"], False), (["1", "2"], True), (["1", "NA"], False), (["NA", "NA"], False))
    for values, varies in (*cases, (["1", "-nan"], True)):  # the last is a word
        assert trait_of(samples.assign(x=values * 7), "x").varies == varies


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def command(call, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    options = ("--quantity", "counts", "--samples", SAMPLES, "-o", tmp_path / "out")
    return lambda path, *more: call("cohort", "prepare", path, *options, *more)


def test_the_folder_is_what_training_reads(command, tmp_path, cohort, counts):
    folder = tmp_path / "out"
    code, out, err = command(COUNTS)
    assert (code, out.strip()) == (0, str(folder))
    files = ["expression.tsv.gz", "quality.html", "record.json", "samples.tsv"]
    assert sorted(file.name for file in folder.iterdir()) == files
    assert (folder / "samples.tsv").read_text() == SAMPLES.read_text()
    assert "had one before" not in err
    # Ids of samples stay out of what terminals and logs keep.
    assert not any(name in err for name in cohort.samples.index)
    record = json.loads((folder / "record.json").read_text())
    assert record["samples"] == len(cohort.samples)
    assert set(record["provenance"]["inputs"]) == {COUNTS.name, SAMPLES.name}
    assert record["genes"]["kept"] == len(cohort.expression)
    assert (folder / "quality.html").read_text().count('<img class="picture"') == 5
    targets = make_targets(read_expression(folder / "expression.tsv.gz"), scale="log2")
    assert targets.names == (*cohort.samples.index, MEDIAN)
    median = cohort.expression.median(axis=1)
    changes = cohort.expression.sub(median, axis=0).assign(median=median)
    np.testing.assert_allclose(targets.values, changes, atol=1e-4)

    # Made anew of data without the gene that tells sex, which is not called right then.
    strange = counts.drop(index=XIST)
    strange.iloc[:, 3] = np.random.default_rng(0).permutation(strange.iloc[:, 3].to_numpy())
    pd.concat([strange, strange.iloc[:3]]).to_csv(tmp_path / "few.tsv", sep="\t")
    assert command(tmp_path / "few.tsv")[0] == 2
    code, _, err = command(tmp_path / "few.tsv", "--force")
    assert (code, "outlier" in err, "another sex" in err) == (0, True, False)
    assert "3 rows of genes that had one before: added to it" in err
    assert "Not checked" in (folder / "quality.html").read_text(encoding="utf-8")


def test_nothing_is_left_of_a_failure(command, tmp_path, counts):
    counts.replace(41, -41).to_csv(tmp_path / "bad.tsv", sep="\t")
    code, _, err = command(tmp_path / "bad.tsv")
    assert (code, "negative" in err) == (4, True), err
    assert [file.name for file in tmp_path.iterdir()] == ["bad.tsv"]


# -- files and what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "quantity", "words"),
    [
        (lambda x: x.iloc[:, :2], "counts", "2 samples"),
        (lambda x: x.set_axis([f"q{i}" for i in range(len(x))]), "counts", "neither rows nor col"),
        (lambda x: x * 1e6, "tpm", "are these counts"),
        (lambda x: np.log2(x + 1), "log2", r"log2\(TPM \+ 1\)"),
        (lambda x: x.iloc[:60], "counts", "it takes 100"),
        (lambda x: x * ([0] + [1] * 13), "counts", "has no counts"),
        (lambda x: x.set_axis([*x.columns[:-1], x.columns[0]], axis=1), "counts", "occurs twice"),
    ],
)
def test_what_is_wrong_is_told(prepare, counts, change, quantity, words):
    with pytest.raises(InputError, match=words):
        prepare(change(counts), quantity=quantity)


@pytest.mark.parametrize(
    ("quantity", "genes", "values", "message"),
    [
        ("counts", "TP53 GAPDH", [[1, -2.0], [3, 4]], "line 2: gene 'TP53', sample 'b': -2 is neg"),
        ("log2", "TP53 GAPDH", [[1, 2], [-2.5, 4]], "less than log2"),
        ("log2", "TP53 GAPDH", [[1, 2], [300, 4]], "no logarithms"),
        ("counts", "TP53 GAPDH", [[0.5, 999_999], [999_999.5, 1]], "these are TPM"),
        ("log2", "TP53 ENSG00000141510", [[1, 2], [2, 3]], "line 3: gene .*141510' occurs twice"),
    ],
)
def test_values_that_are_not_what_they_are_said_to_be(quantity, genes, values, message, features):
    grid = NamedMatrix("here", genes.split(), ["a", "b"], np.array(values, float), [2, 3])
    with pytest.raises(InputError, match=message):
        abundance_of(grid, features, quantity)


@pytest.mark.parametrize(
    ("change", "of_counts", "words"),
    [
        ({"NA18499": "s-3"}, {}, "have no expression: s-3"),
        ({"NA18499": "left out"}, {}, "no line in the sample table: NA18499"),
        ({"NA18499": "gene_id"}, {"NA18499": "gene_id"}, "Rename the sample"),
        ({"NA18499": MEDIAN}, {"NA18499": MEDIAN}, "that of an output which models add"),
        (lambda name: f"{name}-x", lambda name: f"{name}.x", r"check\.names=FALSE"),  # by R
    ],
)
def test_samples_of_two_names_or_of_a_bad_one_are_refused(
    prepare, counts, samples, change, of_counts, words
):
    table = samples.rename(index=change).drop(index="left out", errors="ignore")
    with pytest.raises(InputError, match=words):
        prepare(counts.rename(columns=of_counts), table)


@pytest.mark.parametrize(
    ("covariates", "error", "words"),
    [
        ("weight", UsageError, "no column 'weight'"),
        ("age age", UsageError, "named twice"),
        ("id", InputError, "too many for 14 samples"),
        ("gaps", InputError, "'NA18508' has no value of the covariate 'gaps'"),
        ("huge", InputError, "'NA18508' has -1e308 as the covariate 'huge'"),
        ("same", InputError, "covariate 'same' is the same for all samples"),
    ],
)
def test_covariates_that_are_refused(samples, covariates, error, words):
    table = samples.assign(id=samples.index, gaps=samples["age"], huge="1", same=["1", "1.0"] * 7)
    table.loc["NA18508", ["gaps", "huge"]] = ["NA", "-1e308"]
    with pytest.raises(error, match=words):
        design_of(table, covariates.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample\tsex\na\tmale\na\tfemale\n", "line 3: .*occurs twice, first in line 2"),
        ("\tsex\t\nb\tmale\t3\n", "line 1: column 3 has no name\nName it in the header"),
        ("who\tsex\tsex\nb\tmale\t3\n", "line 1: column 'sex' occurs twice"),
        ("who\nb\tmale\t3\n", "line 2: has 3 cells, but the header has 1"),
    ],
)
def test_sample_tables_that_are_refused(tmp_path, text, words):
    path = tmp_path / "p.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_samples(path)


def test_the_column_of_samples_is_named_as_no_other(tmp_path):
    (tmp_path / "p.csv").write_text(",sample\na,1\nb,2\n")
    found = read_samples(tmp_path / "p.csv")
    assert (found.index.name, list(found.columns)) == ("_sample", ["sample"])


def test_folders_and_options_of_before_are_read(call, tmp_path, prepare):
    """Samples were called persons."""
    from decode_zoo.cli import _renamed
    from decode_zoo.cohort.folder import samples_of
    from decode_zoo.cohort.samples import read_sample_codes

    (tmp_path / "persons.tsv").write_text("person\tsex\na\tf\n")
    assert samples_of(tmp_path).name == "persons.tsv"
    (tmp_path / "samples.tsv").write_text("sample\tsex\na\tf\n")
    assert samples_of(tmp_path).name == "samples.tsv"
    (tmp_path / "codes.tsv").write_text("code\tperson\ns1\ta\n")
    assert read_sample_codes(tmp_path / "codes.tsv") == {"a": "s1"}
    words = ["--persons", "--keep-persons-above=0.1", "--samples", "persons"]
    expected = ["--samples", "--keep-samples-above=0.1", "--samples", "persons"]
    assert [*map(_renamed, words)] == expected
    code, _, err = call(
        "cohort",
        "prepare",
        "nope.tsv",
        "--quantity",
        "tpm",
        "--persons",
        "x.tsv",
        "-o",
        tmp_path / "o",
    )
    assert (code, "No such option" in err) == (4, False)
