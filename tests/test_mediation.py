"""Mediation: residuals against statsmodels, and the study on a slice of a real cohort."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.cohort import prepare_cohort
from decode_zoo.errors import InputError, UsageError
from decode_zoo.studies import mediation
from decode_zoo.studies.mediation import left_by_each, left_by_sets, study_mediation

DATA = Path(__file__).parent / "data" / "cohort"


def data(n=12, m=25, seed=0):
    rng = np.random.default_rng(seed)
    regulators = rng.normal(size=(n, m))
    pair = rng.normal(size=(2, n)) @ regulators + rng.normal(size=(2, m))
    return 5 + 3 * pair, 2 + regulators * rng.uniform(0.1, 9, (n, 1))


def left(pair, regulators):
    """R2 of residuals by statsmodels."""
    sm = pytest.importorskip("statsmodels.api")
    design = sm.add_constant(regulators.T)
    a, b = (sm.OLS(gene, design).fit().resid for gene in pair)
    return stats.pearsonr(a, b).statistic ** 2


# Residuals


@pytest.mark.parametrize("k", [1, 2, 7, 12])
def test_what_sets_leave_is_that_of_least_squares(k):
    pair, regulators = data()
    rng = np.random.default_rng(k)
    sets = np.array([rng.permutation(12)[:k] for _ in range(9)])
    expected = [left(pair, regulators[chosen]) for chosen in sets]
    np.testing.assert_allclose(left_by_sets(pair, regulators, sets), expected, rtol=1e-9)


def test_one_regulator_is_a_partial_correlation():
    pair, regulators = data()
    found = left_by_each(pair, regulators)
    for regulator, value in zip(regulators, found, strict=True):
        ab, ac, bc = (
            stats.pearsonr(x, y).statistic
            for x, y in (pair, (pair[0], regulator), (pair[1], regulator))
        )
        expected = (ab - ac * bc) ** 2 / ((1 - ac**2) * (1 - bc**2))
        assert value == pytest.approx(expected, rel=1e-9)


def test_batches_of_sets_do_not_show(monkeypatch):
    pair, regulators = data()
    sets = np.array(list(itertools.combinations(range(12), 3)))
    whole = left_by_sets(pair, regulators, sets)
    monkeypatch.setattr(mediation, "_HELD", 7 * 3 * 25)
    np.testing.assert_array_equal(left_by_sets(pair, regulators, sets), whole)


def test_nothing_left_has_no_correlation():
    pair, regulators = data()
    pair[1] = regulators[4] - 2 * regulators[5]
    assert left_by_sets(pair, regulators, np.array([[4, 5]])) == 0


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_order_scale_and_persons_do_not_matter(random):
    pair, regulators = data()
    persons, order = random.sample(range(25), 25), random.sample(range(4), 4)
    scale = np.array([random.choice([-1, 1]) * random.uniform(0.1, 10) for _ in range(12)])
    whole = left_by_sets(pair, regulators, np.array([[0, 3, 5, 8]]))
    found = left_by_sets(
        pair[::-1, persons],
        (regulators * scale[:, None] + 7)[:, persons],
        np.array([[0, 3, 5, 8]])[:, order],
    )
    np.testing.assert_allclose(found, whole, rtol=1e-8)


def test_a_thousand_sets_take_seconds():
    pair, regulators = data(300, 755)
    rng = np.random.default_rng(0)
    sets = np.array([rng.permutation(300)[:20] for _ in range(1000)])
    start = time.perf_counter()
    left_by_sets(pair, regulators, sets)
    assert time.perf_counter() - start < 20  # 0.6 s on one core


def test_random_sets():
    sets = mediation._random_sets(30, 4, 500, 3)
    assert sets.shape == (500, 4)
    assert all(len(set(row)) == 4 for row in sets.tolist())
    assert set(sets.ravel().tolist()) == set(range(30))
    np.testing.assert_array_equal(mediation._random_sets(30, 4, 500, 3), sets)
    # Where there are no more sets than are asked for, all of them.
    assert mediation._random_sets(5, 3, 10, 0).tolist() == [
        list(chosen) for chosen in itertools.combinations(range(5), 3)
    ]


# The study


@pytest.fixture(scope="module")
def features():
    return dz.load_features("hg38-open-v2")


@pytest.fixture(scope="module")
def expression(features):
    """14 real cell lines."""
    pytest.importorskip("qnorm")
    return prepare_cohort(
        DATA / "counts.tsv.gz", DATA / "persons.tsv", features, quantity="counts"
    ).expression


@pytest.fixture(scope="module")
def measured(features, expression):
    """Regulators of the feature set that are in the matrix, by a way of their own."""
    kinds = {"tf", "tf_target", "rbp", "rbp_other"}
    names = {
        track.regulator
        for side in ("promoter", "rna")
        for track in features.side_tracks[side]
        if track.kind in kinds
    }
    resolved = features.index.resolve(sorted(names))
    found = {
        gene: symbol
        for gene, symbol in zip(resolved.gene_ids, resolved.symbols, strict=True)
        if gene in expression.index
    }
    assert len(found) > 30
    return found


@pytest.fixture(scope="module")
def extras():
    for package in ("jinja2", "matplotlib"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def genes(expression, measured):
    return [str(gene) for gene in expression.index if gene not in measured][:2]


def test_the_study_is_its_parts(features, expression, measured, genes, extras):
    own = list(measured)[:3]
    asked = [measured[own[0]], own[1], measured[own[2]], "nobody", "ALB", genes[0], own[0]]
    found = study_mediation(expression, genes, asked, features, draws=200)
    numbers = found.numbers
    pair, regulators = expression.loc[genes].to_numpy(), expression.loc[own].to_numpy()
    assert numbers["persons"] == 14
    assert numbers["r"] == pytest.approx(stats.pearsonr(*pair).statistic)
    assert numbers["r2"] == pytest.approx(numbers["r"] ** 2)
    assert numbers["r2_left"] == pytest.approx(left(pair, regulators))
    assert numbers["left_out"] == {
        "nobody": "unknown_gene",
        "ALB": "no_expression",
        genes[0]: "of_the_pair",
        own[0]: f"duplicate_of:{own[0]}",
    }
    random = numbers["random_sets"]
    assert random["n"] == 200
    assert random["all"] is False
    assert random["of_regulators"] == len(measured) - 3
    null = found.tables["random_sets"][1]
    gene_of = {symbol: gene for gene, symbol in measured.items()}
    for _, row in null[::40].iterrows():
        chosen = [gene_of[name] for name in row["regulators"].split(",")]
        assert not {*chosen} & {*own, *genes}
        expected = left(pair, expression.loc[chosen].to_numpy())
        assert row["r2_left"] == pytest.approx(expected, abs=1e-9)
    assert numbers["p"] == (1 + (null["r2_left"] <= numbers["r2_left"]).sum()) / 201
    table = found.tables["regulators"][1].set_index("asked")
    assert table["status"].tolist()[:3] == ["ok"] * 3
    row = table.loc[asked[0]]
    single = left(pair, regulators[:1])
    assert row["r2_left"] == pytest.approx(single)
    assert row["drop"] == pytest.approx(numbers["r2"] - single)
    assert row["r_second"] == pytest.approx(stats.pearsonr(pair[1], regulators[0]).statistic)
    others = [gene for gene in measured if gene not in own]
    alone = [left(pair, expression.loc[[gene]].to_numpy()) for gene in others]
    assert row["p"] == (1 + sum(value <= single for value in alone)) / (1 + len(others))
    assert row["class"] in ("TF", "RBP")
    assert any("nobody (unknown gene)" in note for note in found.notes)


def test_regulators_that_make_two_genes_alike_are_found(features, expression, measured, extras):
    """Two genes are replaced by the sum of two regulators, with noise."""
    first, second, *_ = own = list(measured)[5:7]
    matrix = expression.copy()
    rng = np.random.default_rng(1)
    genes = [gene for gene in matrix.index if gene not in measured][:2]
    signal = sum(stats.zscore(matrix.loc[gene]) for gene in (first, second))
    for gene in genes:
        matrix.loc[gene] = 3 + signal + 0.2 * rng.normal(size=14)
    found = study_mediation(matrix, genes, own, features)
    assert found.numbers["r2"] > 0.9
    assert found.numbers["r2_left"] < 0.3
    assert found.numbers["p"] < 0.01
    # Of all the pairs of regulators there are fewer than a thousand.
    n = len(measured) - 2
    assert found.numbers["random_sets"]["n"] == min(1000, n * (n - 1) // 2)


def test_the_order_of_genes_and_persons_does_not_matter(
    features, expression, measured, genes, extras
):
    own = list(measured)[:2]
    whole = study_mediation(expression, genes, own, features, draws=50)
    other = study_mediation(expression.iloc[::-1, ::-1], genes[::-1], own[::-1], features, draws=50)
    for key in ("r2", "r2_left", "p"):
        assert other.numbers[key] == pytest.approx(whole.numbers[key], rel=1e-6)
    again = study_mediation(expression, genes, own, features, draws=50)
    pd.testing.assert_frame_equal(again.tables["random_sets"][1], whole.tables["random_sets"][1])


def test_constant_genes(features, expression, measured, genes, extras):
    own = list(measured)[:2]
    matrix = expression.copy()
    matrix.loc[own[1]] = 3.0
    found = study_mediation(matrix, genes, own, features, draws=20)
    assert found.numbers["left_out"] == {own[1]: "constant"}
    matrix.loc[genes[1]] = 3.0
    with pytest.raises(InputError, match="does not vary"):
        study_mediation(matrix, genes, own, features)


def test_what_cannot_be_tested_is_refused(features, expression, measured, genes, extras):
    own = list(measured)
    for pair, message in (
        (["TP53"], "two genes"),
        ("LAPTM5,CD53", "two genes"),
        (["nobody", genes[0]], "unknown"),
        ([genes[0], genes[0]], "one gene"),
    ):
        with pytest.raises(UsageError, match=message):
            study_mediation(expression, pair, own[:1], features)
    with pytest.raises(UsageError, match="not a single string"):
        study_mediation(expression, genes, "SPI1", features)
    with pytest.raises(UsageError, match="one random set"):
        study_mediation(expression, genes, own[:1], features, draws=0)
    with pytest.raises(InputError, match="ALB is not in the matrix"):
        study_mediation(expression, ["ALB", genes[0]], own[:1], features)
    with pytest.raises(InputError, match=r"none of the regulators .* nobody \(unknown_gene\)"):
        study_mediation(expression, genes, ["nobody"], features)
    # As many as persons less three.
    with pytest.raises(UsageError, match="11 regulators are too many for 14 persons: at most 10"):
        study_mediation(expression, genes, own[:11], features)
    assert study_mediation(expression, genes, own[:10], features, draws=9).numbers["p"] > 0
    with pytest.raises(InputError, match="9 persons are too few"):
        study_mediation(expression.iloc[:, :9], genes, own[:1], features)
    few = expression.loc[[*genes, *own[:5]]]
    with pytest.raises(InputError, match="holds 2 other regulators"):
        study_mediation(few, genes, own[:3], features)
    with pytest.raises(InputError, match="Are these counts"):
        study_mediation(expression * 100, genes, own[:1], features)
    matrix = expression.copy()
    matrix.loc[own[2]] = matrix.loc[own[0]] - matrix.loc[own[1]]
    with pytest.raises(InputError, match="is determined by that of"):
        study_mediation(matrix, genes, own[:3], features)


# The command


@pytest.fixture
def cohort(expression, tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    expression.to_csv(folder / "expression.tsv.gz", sep="\t", index_label="gene_id")
    return folder


def run(call, cohort, out, pair, regulators, *more):
    return call(
        "study",
        "mediation",
        cohort,
        "--pair",
        ",".join(pair),
        "--regulators",
        regulators,
        "-o",
        out,
        "--draws",
        30,
        *more,
    )


@pytest.mark.usefixtures("extras")
def test_command(call, cohort, tmp_path, genes, measured):
    names = [measured[gene] for gene in list(measured)[:2]]
    code, out, err = run(call, cohort, tmp_path / "out", genes, f"{names[0]}, {names[1]},nobody")
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out")
    assert "left out: nobody (unknown_gene)" in err
    assert "14 persons: R2 0." in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "regulators.tsv",
        "random_sets.tsv",
        "histogram.svg",
        "summary.json",
        "index.html",
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["provenance"]["expression"]["file"] == "expression.tsv.gz"
    assert summary["provenance"]["features"]["id"] == "hg38-open-v2"
    assert len(pd.read_csv(tmp_path / "out" / "random_sets.tsv", sep="\t")) == 30
    # The same regulators from a file.
    (tmp_path / "names.txt").write_text("\n".join([*names, "nobody"]))
    code, _, err = run(
        call, cohort / "expression.tsv.gz", tmp_path / "other", genes, tmp_path / "names.txt"
    )
    assert code == 0, err
    other = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert other["r2_left"] == summary["r2_left"]
    assert other["provenance"]["regulators"]["file"] == "names.txt"


@pytest.mark.usefixtures("extras")
def test_faults_end_with_a_code_and_leave_nothing(call, cohort, tmp_path, genes):
    for pair, regulators, expected, message in (
        (genes[:1], "SPI1", 2, "no pair of genes"),
        (["nobody", genes[0]], "SPI1", 2, "not in hg38-open-v2"),
        (genes, "nobody", 4, "none of the regulators"),
    ):
        code, _, err = run(call, cohort, tmp_path / "out", pair, regulators)
        assert code == expected, err
        assert message in err
    code, _, err = run(call, tmp_path / "nowhere", tmp_path / "out", genes, "SPI1")
    assert code == 4
    assert "nowhere" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
