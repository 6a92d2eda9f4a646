"""Mediation: residuals against statsmodels, and the study on the toy regulators."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.studies import mediation
from decode_zoo.studies.mediation import left_by_sets, study_mediation


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


def test_batches_of_sets_do_not_show_and_nothing_left_is_zero(monkeypatch):
    pair, regulators = data()
    sets = np.array(list(itertools.combinations(range(12), 3)))
    whole = left_by_sets(pair, regulators, sets)
    monkeypatch.setattr(mediation, "_HELD", 7 * 3 * 25)
    np.testing.assert_array_equal(left_by_sets(pair, regulators, sets), whole)
    # Nothing is left of the second gene.
    pair[1] = regulators[4] - 2 * regulators[5]
    assert left_by_sets(pair, regulators, np.array([[4, 5]])) == 0


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_order_scale_and_samples_do_not_matter(random):
    pair, regulators = data()
    samples, order = random.sample(range(25), 25), random.sample(range(4), 4)
    scale = np.array([random.choice([-1, 1]) * random.uniform(0.1, 10) for _ in range(12)])
    whole = left_by_sets(pair, regulators, np.array([[0, 3, 5, 8]]))
    found = left_by_sets(
        pair[::-1, samples],
        (regulators * scale[:, None] + 7)[:, samples],
        np.array([[0, 3, 5, 8]])[:, order],
    )
    np.testing.assert_allclose(found, whole, rtol=1e-8)


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


PAIR = ["GAPDH", "ACTB"]
REGULATORS = ["SPI1", "GATA1", "YY1", "CTCF", "MYC", "HNF4A", "ELAVL1", "PUM2", "SRSF1"]
OTHERS = ["ENO1", "TTR", "INS", "CD4", "HBB", "TP53", "BRCA2", "APOA1", "SOD1", "JUN"]


@pytest.fixture(scope="module")
def features(toy):
    return dz.load_features(toy / "features/toy-sites-v1")


@pytest.fixture(scope="module")
def measured(features):
    """Regulators of the feature set that are genes: symbols by id."""
    return dict(zip(features.index.resolve(REGULATORS).gene_ids, REGULATORS, strict=True))


@pytest.fixture(scope="module")
def genes(features):
    return list(features.index.resolve(PAIR).gene_ids)


@pytest.fixture(scope="module")
def others(features):
    """Genes that are neither regulators nor of the pair."""
    return list(features.index.resolve(OTHERS).gene_ids)


@pytest.fixture(scope="module")
def expression(measured, genes, others):
    """14 samples; the pair follows two regulators a little."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    ids = [*genes, *measured, *others]
    values = 5 + np.random.default_rng(2).normal(size=(len(ids), 14))
    values[:2] += 0.7 * (values[2] + values[4])
    return pd.DataFrame(values, ids, [f"P{i}" for i in range(14)])


@pytest.fixture
def study(features, expression, genes):
    def study(regulators, matrix=expression, pair=genes, **options):
        return study_mediation(matrix, pair, regulators, features, **options)

    return study


def test_the_study_is_its_parts(study, expression, measured, genes):
    own = list(measured)[:3]
    asked = [measured[own[0]], own[1], measured[own[2]], "nobody", "ALB", genes[0], own[0]]
    found = study(asked, draws=15)
    numbers = found.numbers
    pair, regulators = expression.loc[genes].to_numpy(), expression.loc[own].to_numpy()
    assert numbers["samples"] == 14
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
    assert random["n"] == 15
    assert random["all"] is False
    assert random["of_regulators"] == len(measured) - 3
    null = found.tables["random_sets"][1]
    gene_of = {symbol: gene for gene, symbol in measured.items()}
    for _, row in null.iterrows():
        chosen = [gene_of[name] for name in row["regulators"].split(",")]
        assert not {*chosen} & {*own, *genes}
        expected = left(pair, expression.loc[chosen].to_numpy())
        assert row["r2_left"] == pytest.approx(expected, abs=1e-9)
    assert numbers["p"] == (1 + (null["r2_left"] <= numbers["r2_left"]).sum()) / 16
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


def test_regulators_that_make_two_genes_alike_are_found(study, expression, measured, genes):
    """Two genes are replaced by the sum of two regulators, with noise."""
    own = list(measured)[5:7]
    matrix, rng = expression.copy(), np.random.default_rng(1)
    signal = sum(stats.zscore(matrix.loc[gene]) for gene in own)
    for gene in genes:
        matrix.loc[gene] = 3 + signal + 0.2 * rng.normal(size=14)
    numbers = study(own, matrix).numbers
    assert numbers["r2"] > 0.9
    assert numbers["r2_left"] < 0.3
    # No other of all the pairs leaves as little.
    assert numbers["random_sets"]["n"] == 7 * 6 // 2
    assert numbers["p"] == 1 / 22


def test_the_order_of_genes_and_samples_does_not_matter(study, expression, measured, genes):
    own = list(measured)[:2]
    whole, again = study(own, draws=15), study(own, draws=15)
    other = study(own[::-1], expression.iloc[::-1, ::-1], genes[::-1], draws=15)
    for key in ("r2", "r2_left", "p"):
        assert other.numbers[key] == pytest.approx(whole.numbers[key], rel=1e-6)
    pd.testing.assert_frame_equal(again.tables["random_sets"][1], whole.tables["random_sets"][1])


def test_what_cannot_be_tested_is_refused(study, expression, measured, genes, others):
    own, (gene, _) = list(measured), genes
    dependent = expression.copy()
    dependent.loc[own[2]] = dependent.loc[own[0]] - dependent.loc[own[1]]
    constant = expression.copy()
    constant.loc[[own[1], genes[1]]] = 3.0
    few = expression.loc[[*genes, *own[:5]]]
    thirteen = {"matrix": expression.iloc[:, :13]}
    for error, message, regulators, options in (
        (UsageError, "two genes", own[:1], {"pair": ["TP53"]}),
        (UsageError, "two genes", own[:1], {"pair": "LAPTM5,CD53"}),
        (UsageError, "unknown", own[:1], {"pair": ["nobody", gene]}),
        (UsageError, "one gene", own[:1], {"pair": [gene, gene]}),
        (UsageError, "not a single string", "SPI1", {}),
        (UsageError, "one random set", own[:1], {"draws": 0}),
        (InputError, "ALB is not in the matrix", own[:1], {"pair": ["ALB", gene]}),
        (InputError, r"none of the regulators .* nobody \(unknown_gene\)", ["nobody"], {}),
        # As many as samples less three.
        (UsageError, "10 regulators are too many for 13 samples: at most 9", others, thirteen),
        (InputError, "9 samples are too few", own[:1], {"matrix": expression.iloc[:, :9]}),
        (InputError, "holds 2 other regulators", own[:3], {"matrix": few}),
        (InputError, "Are these counts", own[:1], {"matrix": expression * 100}),
        (InputError, "is determined by that of", own[:3], {"matrix": dependent}),
        (InputError, "does not vary", own[:1], {"matrix": constant}),
        (InputError, r"\(constant\)", [own[1]], {"matrix": constant, "pair": [gene, others[0]]}),
    ):
        with pytest.raises(error, match=message):
            study(regulators, **options)
    assert study(others[:9], draws=9, **thirteen).numbers["p"] > 0


# The command


@pytest.fixture
def run(call, expression, toy_zoo, tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    expression.to_csv(folder / "expression.tsv.gz", sep="\t", index_label="gene_id")

    def run(pair, regulators, matrix="cohort", out="out"):
        text = f"--features toy-sites-v1 --draws 15 --pair {','.join(pair)} -o {tmp_path / out}"
        words = text.split()
        return call("study", "mediation", tmp_path / matrix, *words, "--regulators", regulators)

    return run


def test_command(run, tmp_path, genes):
    names = [*REGULATORS[:2], "nobody"]
    code, out, err = run(genes, ", ".join(names))
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out")
    assert "left out: nobody (unknown_gene)" in err
    assert "14 samples: R2 0." in err
    files = "regulators.tsv random_sets.tsv histogram.svg summary.json index.html"
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files.split())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["provenance"]["expression"]["file"] == "expression.tsv.gz"
    assert summary["provenance"]["features"]["id"] == "toy-sites-v1"
    assert len(pd.read_csv(tmp_path / "out" / "random_sets.tsv", sep="\t")) == 15
    # The same regulators from a file, the same matrix by its name.
    (tmp_path / "names.txt").write_text("\n".join(names))
    code, _, err = run(genes, tmp_path / "names.txt", "cohort/expression.tsv.gz", "other")
    assert code == 0, err
    other = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert other["r2_left"] == summary["r2_left"]
    assert other["provenance"]["regulators"]["file"] == "names.txt"


@pytest.mark.parametrize(
    ("pair", "regulators", "matrix", "expected", "message"),
    [
        (["GAPDH"], "SPI1", "cohort", 2, "no pair of genes"),
        (["nobody", "GAPDH"], "SPI1", "cohort", 2, "not known to toy-sites-v1"),
        (PAIR, "nobody", "cohort", 4, "none of the regulators"),
        (PAIR, "SPI1", "nowhere", 4, "nowhere"),
    ],
)
def test_faults_end_with_a_code_and_leave_nothing(
    run, tmp_path, pair, regulators, matrix, expected, message
):
    code, _, err = run(pair, regulators, matrix)
    assert code == expected, err
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
