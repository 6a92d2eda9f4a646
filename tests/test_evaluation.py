"""Evaluation: figures against scipy's, controls that must come to nothing, files and page."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.errors import InputError, UsageError
from decode_zoo.evaluation import compare_donors, evaluate
from decode_zoo.evaluation.agreement import cross_spearman, gene_agreement
from decode_zoo.evaluation.donors import donor_of
from decode_zoo.expression import MEDIAN, Targets
from decode_zoo.metrics import auroc


def frames(n=60, m=7, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    genes = [f"ENSG{i:011d}" for i in range(n)]
    names = [*(f"t{i}" for i in range(m)), MEDIAN]
    truth = rng.normal(size=(n, m + 1))
    predicted = truth + noise * rng.normal(size=truth.shape)
    return (pd.DataFrame(values, genes, names) for values in (predicted, truth))


def compared(predicted, measured, **options):
    rng = np.random.default_rng(9)
    return evaluate(
        predicted,
        measured,
        rna_lengths=rng.integers(200, 9000, len(predicted)),
        bound_tracks=rng.integers(0, 99, len(predicted)),
        **options,
    )


def test_correlations_are_those_of_scipy():
    predicted, measured = frames()
    found = compared(predicted, measured, resamples=20)
    for row in found.outputs.itertuples():
        p, m = predicted[row.output], measured[row.output]
        assert row.spearman == pytest.approx(stats.spearmanr(p, m).statistic)
        assert row.rmse == pytest.approx(float(np.sqrt(((p - m) ** 2).mean())))
    for i, j in ((0, 0), (2, 5), (6, 1)):
        expected = stats.spearmanr(predicted.iloc[:, i], measured.iloc[:, j]).statistic
        assert found.matrix.iloc[i, j] == pytest.approx(expected)
    others = [found.matrix.iloc[0, j] for j in range(1, 7)]
    assert found.outputs["others"][0] == pytest.approx(np.mean(others))
    assert np.isnan(found.outputs.set_index("output").loc[MEDIAN, "others"])
    low, high = found.summary["interval_95"]
    assert low < found.summary["fold_change_spearman"] < high
    assert found.summary["own_measurement_best"] == 7


def test_correlations_over_outputs_are_those_of_scipy():
    predicted, measured = (frame.to_numpy()[:, :-1] for frame in frames(noise=0.5))
    found = gene_agreement(predicted, measured)
    oracle = [stats.pearsonr(a, b) for a, b in zip(predicted, measured, strict=True)]
    np.testing.assert_allclose(found["pearson"], [o.statistic for o in oracle])
    np.testing.assert_allclose(found["p"], [o.pvalue for o in oracle])
    np.testing.assert_allclose(found["q"], stats.false_discovery_control(found["p"]))


def test_other_outputs_and_shuffled_ones_come_to_nothing():
    found = compared(*frames(n=400, m=30, noise=0.7), resamples=5)
    assert found.summary["fold_change_spearman"] > 0.7
    assert abs(found.summary["other_outputs_spearman"]) < 0.02
    assert found.summary["genes_significant"] > 0.9
    assert found.summary["genes_significant_other_outputs"] < 0.01


@given(st.integers(0, 1000))
def test_neither_order_nor_scale_matters(seed):
    predicted, measured = frames(n=20, m=4, seed=seed)
    rng = np.random.default_rng(seed)
    genes, names = rng.permutation(20), [*rng.permutation(4), 4]
    first = compared(predicted, measured, resamples=0)
    assume(len(np.unique(first.matrix.round(9))) == first.matrix.size)  # ties have no best one
    turned = [frame.iloc[genes, names] for frame in (np.exp(predicted), 3 * measured - 1)]
    again = compared(*turned, resamples=0)
    np.testing.assert_allclose(
        again.outputs.set_index("output").loc[predicted.columns, "spearman"],
        first.outputs["spearman"],
    )
    assert again.summary["own_prediction_best"] == first.summary["own_prediction_best"]


def test_what_does_not_vary_has_no_correlation():
    values = np.random.default_rng(0).normal(size=(9, 2))
    values[:, 1] = 3
    found = cross_spearman(values, values)
    assert found[0, 0] == pytest.approx(1)
    assert np.isnan(found[1]).all()


def test_the_same_donors_are_told_from_others():
    rng = np.random.default_rng(0)
    donors = rng.normal(size=(80, 12))
    one, other = (
        pd.DataFrame(
            donors + rng.normal(size=donors.shape),
            [f"g{i}" for i in range(80)],
            [f"GTEX-{k:04d}{sep}{tissue}" for k in range(12)],
        )
        for sep, tissue in (("-", "0726-SM-1"), (".", "0011.SM.2"))
    )
    assert donor_of("GTEX.111YS.0006.SM.5NQBE") == donor_of("GTEX-111YS-0008") == "GTEX-111YS"
    found = compare_donors(one, other.iloc[::-1])
    assert (found.same_pairs, found.other_pairs, found.genes) == (12, 132, 80)
    assert found.same > 0.3 > abs(found.others)
    assert found.area[0] > 0.95
    with pytest.raises(InputError, match="share no donor"):
        compare_donors(one, other, {str(c): f"x{i}" for i, c in enumerate(one.columns)})


def test_the_area_and_its_interval():
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=300), rng.random(300) < 0.3
    scores[positive] += 0.8
    scores = scores.round(1)
    area, low, high = auroc(scores, positive)
    u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert area == pytest.approx(u / (positive.sum() * (~positive).sum()))
    # DeLong's interval is about as wide as a bootstrap's.
    samples = []
    for _ in range(400):
        rows = rng.integers(0, 300, 300)
        samples.append(auroc(scores[rows], positive[rows])[0])
    assert high - low == pytest.approx(
        np.quantile(samples, 0.975) - np.quantile(samples, 0.025), rel=0.2
    )
    assert np.isnan(auroc(scores, np.zeros(300, bool))[0])


@pytest.fixture(scope="module")
def measured():
    """Made-up measurements of forty genes that follow the model, as a matrix."""
    model = dz.load("gtex-tissue-v1")
    genes = [
        gene
        for gene, chrom in zip(
            model.features.rows.gene_ids, model.features.rows.chroms, strict=True
        )
        if chrom == "1"
    ][::60]
    table = model.predict(genes)
    median = table[MEDIAN].to_numpy()[:, None]
    values = table[model.outputs[:4]].to_numpy() + median
    values = np.clip(values + np.random.default_rng(0).normal(size=values.shape), -2, 19)
    return pd.DataFrame(values, pd.Index(genes, name="gene_id"), model.outputs[:4])


def test_a_model_is_evaluated_from_the_command_line(call, measured, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    code, out, err = call(
        "evaluate",
        tmp_path / "x.tsv",
        "--model",
        "gtex-tissue-v1",
        "--scale",
        "log2tpm",
        "-o",
        tmp_path / "found",
    )
    assert code == 0, err
    assert out.strip() == str(tmp_path / "found")
    summary = json.loads((tmp_path / "found/summary.json").read_text())
    assert (summary["genes"], summary["outputs"]) == (len(measured), 4)
    assert f"rho {summary['fold_change_spearman']:.3f}" in err
    assert summary["provenance"]["inputs"]["x.tsv"]
    outputs = pd.read_csv(tmp_path / "found/outputs.tsv", sep="\t")
    assert outputs["output"].tolist() == [*measured.columns, MEDIAN]
    matrix = pd.read_csv(tmp_path / "found/matrix.tsv.gz", sep="\t", index_col=0)
    assert matrix.shape == (4, 4)
    page = (tmp_path / "found/evaluation.html").read_text()
    assert page.count('<img class="picture"') == 4
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    again = ("evaluate", tmp_path / "x.tsv", "--model", "gtex-tissue-v1", "--scale", "log2tpm")
    assert call(*again, "-o", tmp_path / "found")[0] == 2
    assert call(*again, "-o", tmp_path / "found", "--force")[0] == 0
    (tmp_path / "genes.txt").write_text("\n".join(measured.index[:10]) + "\n")
    code, _, err = call(*again, "--genes", tmp_path / "genes.txt", "-o", tmp_path / "few")
    assert "10 genes" in err, err


def test_what_cannot_be_evaluated_is_told(call, measured, tmp_path):
    pytest.importorskip("jinja2")
    model = dz.load("gtex-tissue-v1")
    from decode_zoo.evaluation.comparison import evaluate_model, held_out_genes

    others = Targets(list(measured.index), ("a", "b", MEDIAN), np.zeros((len(measured), 3)))
    with pytest.raises(InputError, match="no column is an output"):
        evaluate_model(model, others, list(measured.index))
    own = Targets(list(measured.index), (*measured.columns, MEDIAN), np.zeros((len(measured), 5)))
    with pytest.raises(InputError, match="0 of 1 genes have features"):
        evaluate_model(model, own, ["ENSG1"])
    chroms = {model.features.rows.chroms[model.features.row(g)] for g in held_out_genes(model)}
    assert chroms == {"1"}
    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    command = ("evaluate", tmp_path / "x.tsv", "--model", "gtex-tissue-v1", "-o", tmp_path / "y")
    code, _, err = call(*command)
    assert (code, "--scale" in err) == (2, True)
    code, _, err = call(*command, "--scale", "log2tpm", "--against", "gtex-tissue-v1")
    assert (code, "go together" in err) == (2, True)
    assert not (tmp_path / "y").exists()


def test_a_model_of_no_test_chromosome_needs_genes(monkeypatch):
    pytest.importorskip("jinja2")
    from decode_zoo.evaluation.comparison import held_out_genes

    model = dz.load("gtex-tissue-v1")
    monkeypatch.setitem(model.manifest.training["selection"], "test", [])
    with pytest.raises(UsageError, match="only you can say"):
        held_out_genes(model)


def test_a_constant_output_is_left_out_of_means():
    """Against scipy, pair by pair; no warning, and no match that is none."""
    predicted, measured = frames(m=5, noise=0.5)
    predicted.iloc[:, 0], measured.iloc[:, 2] = 1.0, 2.0
    found = compared(predicted, measured, resamples=3)
    table = found.outputs.set_index("output")["others"]
    for i in range(1, 5):
        others = [
            stats.spearmanr(predicted.iloc[:, i], measured.iloc[:, j]).statistic
            for j in range(5)
            if j not in (i, 2)
        ]
        assert table.iloc[i] == pytest.approx(np.mean(others))
    assert np.isnan(table.iloc[0])
    assert found.summary["own_measurement_best"] == 3
    assert found.summary["own_prediction_best"] == 3
    pytest.importorskip("matplotlib")
    from decode_zoo.evaluation import figures

    assert figures.matrix(found).axes


def test_only_genes_that_count_are_coloured():
    pytest.importorskip("matplotlib")
    from decode_zoo.evaluation import figures

    predicted, measured = frames(n=40, m=12, noise=0.2)
    predicted.iloc[:15] *= -1  # just as sure, the wrong way round
    found = compared(predicted, measured, resamples=0)
    _, coloured = figures.genes(found).axes[0].containers
    heights = np.array([bar.get_height() for bar in coloured])
    left = np.array([bar.get_x() for bar in coloured])
    assert heights[left < -0.01].sum() == 0
    assert heights.sum() == round(40 * found.summary["genes_significant"]) == 25


def test_the_folder_is_looked_at_before_anything_is_computed(call, measured, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    computed = []
    monkeypatch.setattr("decode_zoo.load", lambda *_: computed.append(1))
    command = ("evaluate", tmp_path / "x.tsv", "--model", "gtex-tissue-v1", "--scale", "log2tpm")
    for folder, words in (("mine", "is not empty"), ("no/where", "there is no folder")):
        code, _, err = call(*command, "-o", tmp_path / folder)
        assert (code, words in err, computed) == (2, True, []), err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "x.tsv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\tD1\n\nb\n", "line 3: names no sample and its donor"),
        ("a\tD1\nb\t \n", "line 2: names no sample and its donor"),
        ("a\tD1\nb\tD2\na\tD3\n", "line 3: sample 'a' occurs twice"),
    ],
)
def test_donors_that_are_refused(call, measured, tmp_path, text, words):
    pytest.importorskip("matplotlib")
    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    (tmp_path / "donors.tsv").write_text(text)
    code, _, err = call(
        "evaluate",
        tmp_path / "x.tsv",
        "--model",
        "gtex-tissue-v1",
        "--scale",
        "log2tpm",
        "--donors",
        tmp_path / "donors.tsv",
        "-o",
        tmp_path / "out",
    )
    assert (code, words in err) == (4, True), err
    assert not (tmp_path / "out").exists()


def test_who_is_in_model_and_matrix_is_told(call, measured, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    measured.assign(somebody=measured.iloc[:, 0]).to_csv(tmp_path / "x.tsv", sep="\t")
    code, _, err = call(
        "evaluate",
        tmp_path / "x.tsv",
        "--model",
        "gtex-tissue-v1",
        "--scale",
        "log2tpm",
        "-o",
        tmp_path / "out",
    )
    assert code == 0, err
    outputs = len(dz.load("gtex-tissue-v1").outputs) - 1
    assert f"gtex-tissue-v1 has {outputs} outputs, the matrix 5; 4 are in both" in err
    page = " ".join((tmp_path / "out/evaluation.html").read_text().split())
    assert "inputs were exchanged between genes have 20%" in page


def test_genes_held_out_one_by_one_are_told_as_such(measured, tmp_path, monkeypatch):
    pytest.importorskip("jinja2")
    from decode_zoo.cli.predict import evaluated

    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    model = dz.load("gtex-tissue-v1")
    monkeypatch.setitem(model.manifest.training["selection"], "test", [])
    monkeypatch.setitem(model.manifest.training, "test_genes", list(measured.index[:9]))
    found, chosen = evaluated(model, tmp_path / "x.tsv", "log2tpm", None, 0, {})
    assert (len(found.genes), chosen) == (9, "held out of training")
