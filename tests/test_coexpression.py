"""Co-expression: counts of pairs against brute force, and the study on predictions with noise."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.networks.manifest import MEDIAN, Training
from decode_zoo.studies import correlation as co
from decode_zoo.studies.coexpression import study_coexpression

MODEL = Path(__file__).resolve().parents[1] / "zoo/models/lcl-person-v1"
SHAPES = [True, False]


def data(n=40, m=15, seed=0):
    """Genes that follow two factors of the same samples, and a noisy prediction of them."""
    rng, samples = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(2, m))
    measured = rng.normal(size=(n, 2)) @ samples + 0.3 * rng.normal(size=(n, m))
    return measured, measured + 2 * rng.normal(size=(n, m))


def scores(values, other=None, symmetric=True):
    ranks = co.unit_ranks(values)
    return co.Correlation(ranks, ranks if other is None else co.unit_ranks(other))


def pairs_of(n, symmetric):
    return list(
        itertools.combinations(range(n), 2) if symmetric else itertools.permutations(range(n), 2)
    )


def tally(measured, predicted, symmetric=True, threshold=0.6, resamples=3, seed=0):
    return co.tally_pairs(
        measured,
        {"x": predicted},
        len(measured.left),
        threshold=threshold,
        symmetric=symmetric,
        resamples=resamples,
        seed=seed,
    )["x"]


def two(n, symmetric):
    """Measured and predicted scores of n genes, and both of each pair, one by one."""
    one, other = data(n), data(n, seed=1)
    found = [scores(a, None if symmetric else b) for a, b in zip(one, other, strict=True)]
    i, j = np.array(pairs_of(n, symmetric)).T
    return *found, *(score.at(i, j) for score in found)


def binned(values, n=co.BINS):
    return np.clip(np.floor((values.astype(float) + 1 + 1e-6) * (n / 2)), 0, n - 1)


def area(cases, controls):
    u = stats.mannwhitneyu(cases, controls).statistic
    return u / (len(cases) * len(controls))


# Pairs


def test_products_of_ranks_are_spearmans_rho(monkeypatch):
    values = np.round(data(12)[0], 1)  # with ties
    values[3] = 1.5
    score = scores(values)
    rho = score.block(slice(0, 12), slice(2, 9))
    for i, j in itertools.product(range(12), range(2, 9)):
        expected = 0 if 3 in (i, j) else stats.spearmanr(values[i], values[j]).statistic
        assert rho[i, j - 2] == pytest.approx(expected, abs=1e-6)
    i, j = np.array([0, 5, 11]), np.array([4, 2, 8])
    whole = score.at(i, j)
    np.testing.assert_allclose(whole, rho[i, j - 2], atol=1e-6)
    monkeypatch.setattr(co, "_LOOKED_UP", 20)
    np.testing.assert_array_equal(score.at(i, j), whole)


def test_similarity_is_one_for_equals_and_zero_for_the_ends():
    score = co.Similarity.of([3.0, 7.0, 5.0, 3.0])
    expected = [[1, 0, 0.5, 1], [0, 1, 0.5, 0], [0.5, 0.5, 1, 0.5], [1, 0, 0.5, 1]]
    np.testing.assert_allclose(score.block(slice(0, 4), slice(0, 4)), expected)
    np.testing.assert_allclose(score.at(np.array([0, 1]), np.array([2, 3])), [0.5, 0])
    assert co.Similarity.of([2.0, 2.0]).at(np.array([0]), np.array([1])) == 1


@pytest.mark.parametrize("symmetric", SHAPES)
def test_areas_are_those_of_mann_and_whitney_and_spearman_is_scipys(symmetric):
    measured, predicted, rho, score = two(60, symmetric)
    found = tally(measured, predicted, symmetric)
    assert found.counts.sum() == len(rho) == (1770 if symmetric else 3540)
    kinds = [rho < -0.6, np.abs(rho) <= 0.6, rho > 0.6]
    assert found.counts.sum(axis=1).tolist() == [kind.sum() for kind in kinds]
    strong, positive = ~kinds[1], kinds[2]
    bins, size = binned(score), np.abs(score)
    binned_size = np.maximum(bins, co.BINS - 1 - bins)
    # Exactly, as if all scores of a bin were equal; and nearly, as they are.
    for signed, either, within in ((bins, binned_size, 1e-12), (score, size, 1e-3)):
        expected = area(either[strong], either[~strong]), area(signed[positive], signed[~positive])
        assert found.areas == pytest.approx(expected, abs=within)
    coarse = stats.spearmanr(binned(rho, 400), binned(score, 400)).statistic
    assert found.spearman[1] == pytest.approx(coarse, abs=1e-12)
    assert found.spearman[1] == pytest.approx(stats.spearmanr(rho, score).statistic, abs=1e-3)
    assert found.spearman[0] == pytest.approx(
        stats.spearmanr(np.abs(rho), size).statistic, abs=1e-3
    )
    assert np.isnan(co.pair_spearman(np.diag([5, 0, 0])))


@pytest.mark.parametrize("symmetric", SHAPES)
def test_pairs_of_drawn_genes_count_as_often_as_both(symmetric):
    measured, predicted, rho, score = two(30, symmetric)
    found = tally(measured, predicted, symmetric, resamples=4, seed=5)
    drawn = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), 4)
    i, j = np.array(pairs_of(30, symmetric)).T
    for k, weights in enumerate(drawn):
        often = np.repeat(np.arange(len(i)), weights[i] * weights[j])
        bins, positive = binned(score)[often], rho[often] > 0.6
        assert found.drawn[k].sum() == len(often)
        assert found.drawn_areas[1][k] == pytest.approx(area(bins[positive], bins[~positive]))


def test_groups_of_genes_vary_as_genes_do():
    """240 genes in a hundred groups against drawings of single genes."""
    n = 240
    measured, predicted = (scores(values) for values in data(n, 12, seed=3))
    found = tally(measured, predicted, threshold=0.7, resamples=300)
    i, j = np.array(pairs_of(n, True)).T
    order = np.argsort(predicted.at(i, j))
    i, j = i[order], j[order]
    strong, rng, areas = measured.at(i, j) > 0.7, np.random.default_rng(0), []
    for _ in range(300):
        weights = np.bincount(rng.integers(n, size=n), minlength=n)
        both = weights[i] * weights[j]
        areas.append(co.area_under_curve(both * strong, both * ~strong))
    assert np.std(found.drawn_areas[1]) == pytest.approx(np.std(areas), rel=0.3)


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_order_of_genes_and_samples_does_not_matter(random):
    measured, predicted = data(25, 10)
    genes = random.sample(range(25), 25)
    samples = random.sample(range(10), 10)
    whole = tally(scores(measured), scores(predicted), threshold=0.55)
    found = tally(
        scores(measured[genes][:, samples]), scores(predicted[genes][:, samples]), threshold=0.55
    )
    # Rho may change in its last bit, and with it, at an edge, a bin.
    np.testing.assert_allclose(found.areas, whole.areas, atol=2e-3)
    assert found.counts.sum(axis=1) == pytest.approx(whole.counts.sum(axis=1), abs=1)


@pytest.mark.parametrize("symmetric", SHAPES)
@pytest.mark.parametrize("k", [1, 37, 10_000])
def test_strongest_pairs(symmetric, k):
    score = scores(data(40)[1], None if symmetric else data(40, seed=1)[1])
    i, j = co.strongest_pairs(score, 40, k, symmetric=symmetric)
    every = np.array(pairs_of(40, symmetric)).T
    size = np.abs(score.at(*every))
    order = np.argsort(-size)[:k]
    assert len(i) == min(k, len(size))
    np.testing.assert_allclose(np.abs(score.at(i, j)), size[order], atol=1e-6)
    assert len(set(zip(i.tolist(), j.tolist(), strict=True))) == len(i)
    assert (i < j).all() if symmetric else (i != j).all()


@pytest.mark.parametrize("symmetric", SHAPES)
def test_strong_pairs(symmetric):
    score = scores(data(60)[0], None if symmetric else data(60, seed=1)[0])
    options = {"threshold": 0.6, "symmetric": symmetric, "seed": 0}
    i, j, positive = co.strong_pairs(score, 60, share=1, **options)
    every = np.array(pairs_of(60, symmetric)).T
    rho = score.at(*every)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {
        tuple(pair) for pair in every.T[np.abs(rho) > 0.6].tolist()
    }
    np.testing.assert_array_equal(positive, score.at(i, j) > 0)
    some = co.strong_pairs(score, 60, share=0.25, **options)
    assert set(zip(some[0], some[1], strict=True)) < set(zip(i, j, strict=True))
    assert len(some[0]) == pytest.approx(len(i) / 4, rel=0.3)


@pytest.mark.parametrize("symmetric", SHAPES)
def test_permuted_scores_are_ranked_among_all(symmetric):
    measured, predicted, rho, _ = two(50, symmetric)
    found = tally(measured, predicted, symmetric)
    strong = co.strong_pairs(measured, 50, threshold=0.6, symmetric=symmetric, share=1, seed=0)
    areas = co.permuted_areas(predicted, found, strong, 50, permutations=3, seed=7)
    rng = np.random.default_rng(7)
    i, j = np.array(pairs_of(50, symmetric)).T
    for k in range(3):
        permuted = rng.permutation(50)
        bins = binned(predicted.at(permuted[i], permuted[j]))
        size = np.maximum(bins, co.BINS - 1 - bins)
        is_strong, positive = np.abs(rho) > 0.6, rho > 0.6
        assert areas[k, 0] == pytest.approx(area(size[is_strong], size[~is_strong]), abs=1e-4)
        assert areas[k, 1] == pytest.approx(area(bins[positive], bins[~positive]), abs=1e-4)


# The study


@pytest.fixture(scope="module")
def model():
    return dz.load(MODEL)


@pytest.fixture(scope="module")
def profiles():
    return dz.load("gtex-tissue-v1")


@pytest.fixture(scope="module")
def expression(model):
    """What is predicted of 14 samples, with noise: 30 genes the model was tested on, ten others."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    ids, chroms = (np.array(part) for part in (model.features.rows.ids, model.features.rows.chroms))
    genes = [*ids[chroms == "1"][:900:30], *ids[chroms == "2"][:200:20]]
    samples = [name for name in model.outputs if name != MEDIAN][:14]
    values = model.predict(genes, backend="numpy")[samples].to_numpy(float)
    values /= values.std(axis=1, keepdims=True)
    noise = np.random.default_rng(0).normal(size=values.shape)
    return pd.DataFrame(6 + values + 0.5 * noise, genes, samples)


FEW = {"permutations": 9, "resamples": 20}
PAIRS = [("LAPTM5", "nobody"), ("ALB", "TP53"), ("TP53", "ENSG00000141510.16")]


@pytest.fixture(scope="module")
def found(model, profiles, expression):
    pairs = [*PAIRS, (expression.index[7], expression.index[35])]
    return study_coexpression([model], [expression], profiles, pairs=pairs, **FEW)


def rho_of(frame, a, b):
    return stats.spearmanr(frame.loc[a], frame.loc[b]).statistic


def test_the_study_is_that_of_the_genes_tested_on(model, profiles, expression, found):
    (item,) = found.numbers["comparisons"]
    genes, samples = list(expression.index[:30]), list(expression.columns)
    assert item["genes"]["n"] == item["genes"]["tested_on"] == 30
    assert item["samples"]["n"] == 14
    assert item["samples"]["of_model"] == 69
    # All of it again, gene by gene.
    predicted = model.predict(genes, backend="numpy").set_index("gene_id")[samples]
    tissue = profiles.predict(genes, backend="numpy").set_index("gene_id")
    tissue = tissue[[name for name in profiles.outputs if name != MEDIAN]]
    every = list(itertools.combinations(genes, 2))
    measured, score, rival = (
        stats.spearmanr(frame.loc[genes].to_numpy(float), axis=1).statistic[np.triu_indices(30, 1)]
        for frame in (expression, predicted, tissue)
    )
    strong, positive = np.abs(measured) > 0.7, measured > 0.7
    assert item["pairs"] == {
        "n": len(every),
        "negative": int(strong.sum() - positive.sum()),
        "positive": int(positive.sum()),
    }
    table = found.tables["separation"][1].set_index(["score", "pairs"])
    length = np.log2(model.features.rna_lengths[genes].to_numpy())
    alike = np.array([-abs(a - b) for a, b in itertools.combinations(length, 2)])
    for name, values, size in (
        ("prediction", score, np.abs(score)),
        ("tissue profiles", rival, np.abs(rival)),
        ("RNA length", alike, alike),
    ):
        row = table.loc[(name, "either sign")]
        assert row["auroc"] == pytest.approx(area(size[strong], size[~strong]), abs=1e-3)
        assert row["low"] < row["auroc"] < row["high"]
        row = table.loc[(name, "positive")]
        assert row["auroc"] == pytest.approx(area(values[positive], values[~positive]), abs=1e-3)
        assert 0.3 < row["permuted"] < 0.7
        assert row["p"] * 10 == pytest.approx(round(row["p"] * 10))
    for _, density in found.tables["density"][1].groupby("score"):
        assert density["n_positive"].sum() == item["pairs"]["positive"]
        assert density["other"].sum() * 0.02 == pytest.approx(1)
        np.testing.assert_allclose(density["middle"], np.linspace(-0.99, 0.99, 100))
    # Measured is what was predicted, with noise.
    best = table.loc[("prediction", "positive")]
    assert best["auroc"] > 0.85
    assert best["p"] == pytest.approx(0.1)
    lead = item["lead_over_tissue_profiles"]["positive"]
    assert lead["auroc"] == pytest.approx(
        best["auroc"] - table.loc[("tissue profiles", "positive"), "auroc"]
    )
    assert lead["interval_95"][0] <= lead["auroc"] <= lead["interval_95"][1]
    strongest = found.tables["pairs"][1]
    size = np.sort(np.abs(score))[::-1][:1000]
    np.testing.assert_allclose(strongest["predicted_rho"].abs(), size, atol=1e-6)
    for _, row in strongest[::47].iterrows():
        assert row["gene_a"] < row["gene_b"]
        for column, frame in (("predicted_rho", predicted), ("measured_rho", expression)):
            expected = rho_of(frame, row["gene_a"], row["gene_b"])
            assert row[column] == pytest.approx(expected, abs=1e-6)
    bound = sum((model.features.sums(side)[0] > 0).sum(axis=1) for side in ("promoter", "rna"))
    row = strongest.iloc[0]
    assert row["tracks_a"] == bound[model.features.row(row["gene_a"])]


def test_pairs_that_are_asked_for_keep_their_rows(model, expression, found):
    table = found.tables["asked_pairs"][1]
    assert table["status"].tolist() == ["unknown_gene", "no_expression", "same_gene", "ok"]
    assert table["predicted_rho"].isna().tolist() == [True, True, True, False]
    row = table.iloc[-1]
    a, b = row["gene_a"], row["gene_b"]
    assert row["measured_rho"] == pytest.approx(rho_of(expression, a, b), abs=1e-6)
    values = model.predict([a, b], backend="numpy")[list(expression.columns)].set_axis([a, b])
    assert row["predicted_rho"] == pytest.approx(rho_of(values, a, b), abs=1e-6)


def test_two_tissues_of_the_same_donors(model, profiles, expression):
    """The second tissue has other genes, other samples, and other expression of the same genes."""
    other = expression.iloc[15:, 2:].iloc[::-1]
    other = other + np.random.default_rng(0).normal(size=other.shape)
    found = study_coexpression([model, model], [expression, other], profiles, all_genes=True, **FEW)
    items = {item["comparison"]: item for item in found.numbers["comparisons"]}
    one, two = "lcl-person-v1 (1)", "lcl-person-v1 (2)"
    assert list(items) == [one, two, f"{one} × {two}"]
    between = items[f"{one} × {two}"]
    assert between["donors"] == {"n": 12, "of_first": 14, "of_second": 12}
    assert (between["genes"]["n"], between["genes"]["tested_on"]) == (25, 15)
    assert between["pairs"]["n"] == 25 * 24
    table = found.tables["pairs"][1]
    table = table[table["comparison"] == between["comparison"]]
    values = model.predict(list(other.index), backend="numpy").set_index("gene_id")[other.columns]
    for _, row in table[::97].iterrows():
        a, b = row["gene_a"], row["gene_b"]
        expected = stats.spearmanr(expression.loc[a, other.columns], other.loc[b]).statistic
        assert row["measured_rho"] == pytest.approx(expected, abs=1e-6)
        assert row["predicted_rho"] == pytest.approx(rho_of(values, a, b), abs=1e-6)
    assert any("it was tested on" in note for note in found.notes)


def test_what_little_can_be_said_is_said(model, profiles, expression):
    """Too few common donors, nothing above the threshold, a model that tells of no test genes."""
    silent = dz.Model(
        replace(model.manifest, training=Training()), model.locate, lambda: model.features
    )
    halves, options = (
        [expression.iloc[:, :10], expression.iloc[:, 4:]],
        {"threshold": 0.9999, **FEW},
    )
    with pytest.raises(UsageError, match="does not say which genes it was tested on"):
        study_coexpression([silent, silent], halves, profiles, **options)
    genes = expression.index
    found = study_coexpression([silent, silent], halves, profiles, genes=genes, **options)
    assert len(found.numbers["comparisons"]) == 2
    assert found.numbers["comparisons"][0]["genes"]["tested_on"] is None
    (left_out,) = found.numbers["left_out"]
    assert "6 donors are in both" in left_out
    assert found.tables["separation"][1][["auroc", "low", "permuted"]].isna().all(axis=None)
    assert found.facts["lcl-person-v1 (1)"].endswith("0 strong; no AUROC")
    for text in (left_out, "areas say little", "trained on is not known"):
        assert any(text in note for note in found.notes)


def test_what_cannot_be_compared_is_refused(model, profiles, expression):
    for error, message, matrices, options in (
        (UsageError, "between 0 and 1", [expression], {"threshold": 1}),
        (UsageError, "one permutation", [expression], {"permutations": 0}),
        (UsageError, "one permutation and one resample", [expression], {"resamples": 0}),
        (UsageError, "not a single string", [expression], {"genes": "TP53"}),
        (UsageError, "1 models and 2 expression", [expression] * 2, {}),
        (InputError, "9 of its columns", [expression.iloc[:, :9]], {}),
        (InputError, "0 of its columns", [expression.add_prefix("x")], {}),
        (InputError, "3 genes given", [expression], {"genes": expression.index[:3]}),
        (InputError, "Are these counts", [expression * 100], {}),
    ):
        with pytest.raises(error, match=message):
            study_coexpression([model], matrices, profiles, **options)


# The command


@pytest.fixture
def run(call, expression, tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    expression.to_csv(folder / "expression.tsv.gz", sep="\t", index_label="gene_id")
    lists = {"BAD": "LAPTM5\tCD53\nTP53\n", "EMPTY": "\n", "PAIRS": "LAPTM5\tCD53\nnobody\tCD53\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)

    def run(more):
        text = f"--model {MODEL} --expression {folder} -o {tmp_path / 'out'} --permutations 9"
        words = [tmp_path / word if word in lists else word for word in more.split()]
        return call("study", "coexpression", *text.split(), "--resamples", 20, *words)

    return run


def test_command(run, found, tmp_path):
    code, out, err = run("--pairs PAIRS")
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out")
    assert "lcl-person-v1: 14 samples, 30 genes tested on by the model" in err
    assert "prediction, either sign: AUROC 0." in err
    files = "separation.tsv pairs.tsv asked_pairs.tsv density.tsv separation.svg density.svg"
    files += " summary.json index.html"
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files.split())
    # The same seed gives the same numbers.
    table = pd.read_csv(tmp_path / "out" / "separation.tsv", sep="\t")
    pd.testing.assert_frame_equal(table, found.tables["separation"][1], check_dtype=False)
    table = pd.read_csv(tmp_path / "out" / "asked_pairs.tsv", sep="\t")
    assert table["gene_b"].tolist() == ["ENSG00000143119"] * 2
    assert table["status"].tolist()[1] == "unknown_gene"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["provenance"]["pairs"]["file"] == "PAIRS"
    assert summary["provenance"]["expression"][0]["file"] == "expression.tsv.gz"
    assert summary["provenance"]["model_1"]["model"]["id"] == "lcl-person-v1"
    code, _, err = run("")
    assert code == 2
    assert "not empty" in err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ("--expression nowhere", 2, "1 --model and 2 --expressions"),
        ("--threshold 1", 2, "--threshold"),
        ("--genes BAD --all-genes", 2, "either a file of genes"),
        ("--pairs BAD", 4, "BAD, line 2: does not name two genes"),
        ("--pairs EMPTY", 4, "names no pairs"),
        ("--tissue-model no-such-model", 3, "no-such-model"),
    ],
)
def test_faults_end_with_a_code_and_leave_nothing(run, tmp_path, more, code, message):
    found, _, err = run(more)
    assert found == code, err
    assert message in err
    assert not (tmp_path / "out").exists()
