"""Cohorts: from counts to targets by hand, invariances, what is wrong with tables, the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.cohort import prepare_cohort, read_grid, read_persons
from decode_zoo.cohort.normalisation import length_basis, without_length
from decode_zoo.cohort.persons import design_of, trait_of
from decode_zoo.cohort.quality import XIST, Y_GENES, measure_quality
from decode_zoo.errors import InputError, UsageError

pytest.importorskip("qnorm")

PERSONS = 14


@pytest.fixture(scope="module")
def features():
    return dz.load_features("hg38-open-v2")


@pytest.fixture(scope="module")
def counts(features):
    """Counts of 900 genes and of those that tell sex; half of the persons are men."""
    rng = np.random.default_rng(0)
    genes = [*features.rows.gene_ids[100:16000:18], XIST, *Y_GENES.values()]
    place = np.array([features.row(gene) for gene in genes])
    rate = rng.lognormal(2, 1.5, (len(genes), 1)) * rng.lognormal(0, 0.3, (len(genes), PERSONS))
    rate[-6, ::2], rate[-5:, 1::2] = 0.01, 0.01
    lengths = np.array(features.rows.rna_lengths)[place][:, None]
    values = rng.poisson(rate * lengths / 1000 * rng.uniform(0.5, 2, PERSONS))
    return pd.DataFrame(
        values.astype(float), pd.Index(genes, name="gene_id"), [f"s{i}" for i in range(PERSONS)]
    )


@pytest.fixture(scope="module")
def persons(counts):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "sex": ["male", "female"] * (PERSONS // 2),
            "age": rng.integers(20, 80, PERSONS).astype(str),
            "batch": ["a", "a", "b", "c"] * 3 + ["b", "c"],
        },
        index=pd.Index(counts.columns, name="person"),
    )


def written(frame, path):
    frame.to_csv(path, sep="," if path.name.endswith(".csv") else "\t")
    return path


def test_the_steps_by_hand(features, counts):
    import qnorm

    found = prepare_cohort(counts, None, features, quantity="counts", length_bias=False)
    place = np.array([features.row(gene) for gene in counts.index])
    rate = counts.to_numpy() / np.array(features.rows.rna_lengths)[place][:, None]
    tpm = 1e6 * rate / rate.sum(axis=0)
    kept = (tpm > 1).mean(axis=1) >= 0.5
    once = qnorm.quantile_normalize(np.log2(tpm[kept] + 0.25))
    expected = pd.DataFrame(qnorm.quantile_normalize(once), counts.index[kept], counts.columns)
    pd.testing.assert_frame_equal(
        found.expression.sort_index(), expected.sort_index(), check_names=False, rtol=1e-6
    )
    # But for values that are equal in one person, which share a mean there.
    ordered = np.sort(found.expression.to_numpy(), axis=0)[-400:]
    np.testing.assert_allclose(ordered, np.tile(ordered[:, :1], PERSONS), atol=0.05)
    targets = dz.make_targets(found.expression, scale="log2")
    assert np.abs(np.median(targets.values[:, :-1], axis=1)).max() < 1e-9


def test_length_bias_is_taken_out_and_nothing_is_fitted_to_chr1(features, counts):
    rng = np.random.default_rng(0)
    lengths = rng.integers(300, 20000, 800)
    fitted = np.arange(800) % 5 > 0
    bias = np.log2(lengths)[:, None] * np.linspace(-0.3, 0.3, 9) + rng.normal(size=(800, 1))
    values, removed = without_length(bias, length_basis(lengths, fitted), fitted)
    spread = values - values.mean(axis=1, keepdims=True)
    assert spread.var() < 0.001 * (bias - bias.mean(axis=1, keepdims=True)).var()
    np.testing.assert_allclose(values + removed, bias)
    moved = bias.copy()
    moved[~fitted] += rng.normal(size=moved[~fitted].shape)
    again = without_length(moved, length_basis(lengths, fitted), fitted)[1]
    np.testing.assert_allclose(again, removed)
    prepared = prepare_cohort(counts, None, features, quantity="counts")
    assert prepared.facts["length_bias"]["fitted_to"] == "genes of other chromosomes than chr1"
    assert prepared.facts["length_bias"]["removed"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_neither_order_nor_depth_nor_orientation_matters(features, counts, seed):
    rng = np.random.default_rng(seed)
    first = prepare_cohort(counts, None, features, quantity="counts")
    turned = counts.iloc[rng.permutation(len(counts)), rng.permutation(PERSONS)]
    turned = (turned * rng.integers(1, 5, PERSONS)).T
    again = prepare_cohort(turned, None, features, quantity="counts")
    assert again.facts["transposed"]
    pd.testing.assert_frame_equal(
        again.expression[first.expression.columns], first.expression, rtol=1e-6, atol=1e-8
    )


def test_symbols_and_versions_are_genes_too(features, counts):
    symbol = dict(zip(features.rows.gene_ids, features.rows.symbols, strict=True))
    expected = prepare_cohort(counts, None, features, quantity="counts").expression
    for names in ([f"{g}.7" for g in counts.index], [symbol[g] or g for g in counts.index]):
        found = prepare_cohort(counts.set_axis(names), None, features, quantity="counts")
        assert len(found.expression.index.intersection(expected.index)) > 0.97 * len(expected)


def test_counts_and_their_tpm_give_the_same(features, counts, tmp_path):
    place = np.array([features.row(gene) for gene in counts.index])
    rate = counts.div(np.array(features.rows.rna_lengths)[place], axis=0)
    tpm = 1e6 * rate / rate.sum()
    expected = prepare_cohort(counts, None, features, quantity="counts").expression
    for quantity, frame in (("tpm", tpm), ("log2", np.log2(tpm + 0.25))):
        found = prepare_cohort(frame, None, features, quantity=quantity).expression
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-6)


def test_all_formats_are_read_alike(counts, tmp_path):
    pytest.importorskip("pyarrow")
    anndata = pytest.importorskip("anndata")
    counts.to_parquet(tmp_path / "x.parquet")
    anndata.AnnData(
        counts.T.to_numpy(), pd.DataFrame(index=counts.columns), pd.DataFrame(index=counts.index)
    ).write_h5ad(tmp_path / "x.h5ad")
    for file in (written(counts, tmp_path / "x.tsv"), tmp_path / "x.parquet"):
        grid = read_grid(file)
        assert grid.rows == list(counts.index), file
        np.testing.assert_array_equal(grid.values, counts.to_numpy())
    turned = read_grid(tmp_path / "x.h5ad")
    assert turned.columns == list(counts.index)


@pytest.mark.parametrize(
    ("change", "quantity", "words"),
    [
        (lambda x: x.iloc[:, :2], "counts", "2 persons"),
        (lambda x: x.set_axis([f"q{i}" for i in range(len(x))]), "counts", "neither rows nor col"),
        (lambda x: x * 1e6, "tpm", "are these counts"),
        (lambda x: np.log2(x + 1), "log2", r"log2\(TPM \+ 1\)"),
        (lambda x: x.iloc[:60], "counts", "it takes 100"),
        (lambda x: x * ([0] + [1] * (PERSONS - 1)), "counts", "has no counts"),
        (lambda x: x.set_axis([*x.columns[:-1], x.columns[0]], axis=1), "counts", "occurs twice"),
    ],
)
def test_what_is_wrong_is_told(features, counts, change, quantity, words):
    with pytest.raises(InputError, match=words):
        prepare_cohort(change(counts), None, features, quantity=quantity)


def test_persons_of_one_table_only_are_told(features, counts, persons, tmp_path):
    for table, words in (
        (persons.iloc[1:], "no line in the person table: s0"),
        (persons.rename(index={"s3": "s-3"}), "s-3"),
    ):
        with pytest.raises(InputError, match=words):
            prepare_cohort(counts, table, features, quantity="counts")
    with pytest.raises(UsageError, match="no column 'weight'"):
        prepare_cohort(counts, persons, features, quantity="counts", covariates=["weight"])
    with pytest.raises(UsageError, match="named twice"):
        design_of(persons, ["age", "age"])
    with pytest.raises(InputError, match="too many for 14 persons"):
        design_of(persons.assign(id=persons.index), ["id"])
    with pytest.raises(InputError, match="has no value of the covariate 'age'"):
        design_of(persons.replace({"age": {persons["age"].iloc[0]: "NA"}}), ["age"])
    (tmp_path / "p.csv").write_text("person,sex\na,male\na,female\n")
    with pytest.raises(InputError, match="occurs twice, first in line 2"):
        read_persons(tmp_path / "p.csv")


def test_sex_is_told_by_expression_and_outliers_are_found(features, counts, persons):
    wrong = persons.copy()
    wrong.loc["s4", "sex"] = "female"
    odd = counts.copy()
    odd["s9"] = np.random.default_rng(0).permutation(odd["s9"].to_numpy())
    odd.loc[[XIST, *Y_GENES.values()], "s9"] = counts.loc[[XIST, *Y_GENES.values()], "s9"]
    quality = measure_quality(prepare_cohort(odd, wrong, features, quantity="counts"), features)
    assert quality.sex.calls == ("male", "female") * (PERSONS // 2)
    assert quality.sex.differing == [4]
    assert quality.outliers == [9]
    assert quality.components.by_trait["age"].shape == quality.components.shares.shape
    assert trait_of(persons, "age").numbers is not None
    only = prepare_cohort(counts.iloc[:-6], persons, features, quantity="counts")
    assert measure_quality(only, features).sex.calls == ()


def test_numbers_of_all_sizes_are_taken(features, counts, persons):
    """Standardised as scipy does, without an overflow; what nobody measures is no number."""
    from scipy import stats

    numbers = np.random.default_rng(2).normal(3, 2, PERSONS)
    expected = stats.zscore(numbers)
    for scale in (1e-300, 1e-9, 1.0, 1e99):
        table = persons.assign(x=[repr(float(v * scale)) for v in numbers])
        np.testing.assert_allclose(design_of(table, ["x"])[0][:, 0], expected, rtol=1e-9)
    huge = persons.assign(x=["1e308", "-1e308"] * (PERSONS // 2), y=persons["age"], small="1e-320")
    huge.loc["s3", "y"] = "-1e308"
    huge.loc["s3", "small"] = "2e-320"
    cohort = prepare_cohort(counts, huge, features, quantity="counts")
    quality = measure_quality(cohort, features)
    assert {trait.name for trait in quality.traits} >= {"sex", "age", "x", "small"}
    for shares in quality.components.by_trait.values():
        assert ((shares >= 0) & (shares <= 1 + 1e-9)).all()
    pytest.importorskip("matplotlib")
    from decode_zoo.cohort import figures
    from decode_zoo.html import svg_file

    assert svg_file(figures.components(quality))
    for name, person, value in (("x", "s0", "1e308"), ("y", "s3", "-1e308")):
        with pytest.raises(InputError, match=f"'{person}' has {value} as the covariate '{name}'"):
            design_of(huge, [name])


def test_a_number_is_the_same_however_it_is_written(features, counts, persons):
    table = persons.assign(x=["1", "1.0"] * (PERSONS // 2))
    assert not trait_of(table, "x").varies
    with pytest.raises(InputError, match="covariate 'x' is the same for all persons"):
        prepare_cohort(counts, table, features, quantity="counts", covariates=["x"])
    cohort = prepare_cohort(counts, table, features, quantity="counts")
    assert "x" not in measure_quality(cohort, features).components.by_trait
    assert trait_of(table.assign(x=["1", "2"] * (PERSONS // 2)), "x").varies
    assert not trait_of(table.assign(x=["1", "NA"] * (PERSONS // 2)), "x").varies
    assert not trait_of(table.assign(x="NA"), "x").varies


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
@pytest.mark.parametrize("form", ["pandas", "r", "named"])
def test_person_tables_that_programs_write(persons, tmp_path, suffix, form):
    path, separator = tmp_path / f"p.{suffix}", "," if suffix == "csv" else "\t"
    persons.rename_axis(None if form != "named" else "who").to_csv(path, sep=separator)
    if form == "r":  # write.table has no cell for names; it quotes, too
        path.write_text(path.read_text().removeprefix(separator).replace("sex", '"sex"'))
    found = read_persons(path)
    pd.testing.assert_frame_equal(found, persons, check_names=False)
    assert found.index.name == ("who" if form == "named" else "person")
    assert list(found.reset_index().columns)[1:] == list(persons.columns)


def test_the_column_of_persons_is_named_as_no_other(tmp_path):
    (tmp_path / "p.tsv").write_text("\tperson\na\t1\nb\t2\n")
    found = read_persons(tmp_path / "p.tsv")
    assert (found.index.name, list(found.columns)) == ("_person", ["person"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\tsex\t\nb\tmale\t3\n", "line 1: column 3 has no name\nName it in the header"),
        ("who\tsex\tsex\nb\tmale\t3\n", "line 1: column 'sex' occurs twice"),
        ("sex\tage\nb\tmale\t3\nc\tmale\n", "line 3: has 2 cells, but the header has 3"),
        ("who\tsex\nb\tmale\t\nc\tmale\t\n", "line 2: has 3 cells, but the header has 2"),
        ("who\nb\tmale\t3\n", "line 2: has 3 cells, but the header has 1"),
    ],
)
def test_headers_that_are_refused(tmp_path, text, words):
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_persons(tmp_path / "p.tsv")


def test_rows_that_are_added_are_counted(call, counts, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    path = tmp_path / "x.tsv"
    command = ("cohort", "prepare", path, "--quantity", "counts", "-o")
    written(counts, path)
    assert "had one before" not in call(*command, tmp_path / "one")[2]
    assert call(*command, tmp_path / "one")[0] == 2
    assert call(*command, tmp_path / "one", "--force")[0] == 0
    written(pd.concat([counts, counts.iloc[:3]]), path)
    code, _, err = call(*command, tmp_path / "two")
    assert (code, "3 rows of genes that had one before: added to it" in err) == (0, True), err


def test_the_help_tells_how_brackets_are_taken(call):
    _, out, _ = call("cohort", "prepare", "--help")
    assert "brackets such as 50-59" in " ".join(out.split())
