"""Evaluation: figures against scipy's, controls that must come to nothing, files and page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from decode_zoo.cohort.expression import Targets
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.networks.manifest import MEDIAN, Split
from decode_zoo.networks.metrics import auroc
from decode_zoo.studies.evaluation import (
    compare_donors,
    donor_of,
    evaluate,
    evaluate_model,
    gene_agreement,
    held_out_genes,
)

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from decode_zoo.pages.figures import evaluation as figures

OUTPUTS = ["Liver", "Lung"]


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
def measured(toy_models):
    """Made-up measurements of the test genes that follow the model, as a matrix."""
    model = toy_models["decode"]
    ids, chroms = model.features.rows.gene_ids, model.features.rows.chroms
    genes = [gene for gene, chrom in zip(ids, chroms, strict=True) if chrom == "1"]
    table = model.predict(genes)
    values = table[OUTPUTS].to_numpy() + table[MEDIAN].to_numpy()[:, None]
    values = np.clip(values + np.random.default_rng(0).normal(size=values.shape), -2, 19)
    return pd.DataFrame(values, pd.Index(genes, name="gene_id"), OUTPUTS)


@pytest.fixture
def run(call, measured, tmp_path, toy_zoo, monkeypatch):
    """Evaluate the toy model in a folder with measurements and whatever else is given."""
    monkeypatch.chdir(tmp_path)
    measured.assign(somebody=1.0).to_csv("x.tsv", sep="\t")

    def run(words, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.tsv").write_text(text)
        return call("evaluate", "x.tsv", "--model", "toy-decode-v1", *words.split())

    return run


def test_a_model_is_evaluated_from_the_command_line(run, measured, tmp_path):
    code, out, err = run("--scale log2tpm -o found")
    assert (code, out) == (0, "found\n"), err
    assert "toy-decode-v1 has 2 outputs, the matrix 3; 2 are in both" in err
    summary = json.loads((tmp_path / "found/summary.json").read_text())
    assert (summary["genes"], summary["outputs"]) == (len(measured), 2)
    assert f"rho {summary['fold_change_spearman']:.3f}" in err
    assert summary["provenance"]["inputs"]["x.tsv"]
    outputs = pd.read_csv(tmp_path / "found/outputs.tsv", sep="\t")
    assert outputs["output"].tolist() == [*OUTPUTS, MEDIAN]
    matrix = pd.read_csv(tmp_path / "found/matrix.tsv.gz", sep="\t", index_col=0)
    assert matrix.shape == (2, 2)
    page = (tmp_path / "found/evaluation.html").read_text()
    assert page.count('<img class="picture"') == 4
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert run("--scale log2tpm -o found")[0] == 2
    assert run("--scale log2tpm -o found --force")[0] == 0
    genes = "\n".join(measured.index[:10])
    code, _, err = run("--scale log2tpm --genes genes.tsv -o few", genes=genes)
    assert "10 genes" in err, err


@pytest.mark.fault
@pytest.mark.parametrize(
    ("words", "donors", "code", "message"),
    [
        ("", "", 2, "--scale"),
        ("--scale log2tpm --against toy-decode-v1", "", 2, "go together"),
        ("--donors donors.tsv", "a\tD1\n\nb\n", 4, "line 3: names no sample and its donor"),
        ("--donors donors.tsv", "a\tD1\nb\t \n", 4, "line 2: names no sample and its donor"),
        ("--donors donors.tsv", "a\tD1\nb\tD2\na\tD3\n", 4, "line 3: sample 'a' occurs twice"),
    ],
)
def test_bad_calls_say_why_and_write_nothing(run, tmp_path, words, donors, code, message):
    found, _, err = run(f"{words} -o out", donors=donors)
    assert (found, message in err) == (code, True), err
    assert not (tmp_path / "out").exists()


def test_models_that_do_not_fit_are_refused(toy_models, measured, monkeypatch):
    model, genes, n = toy_models["decode"], list(measured.index), len(measured)
    others = Targets(genes, ("a", "b", MEDIAN), np.zeros((n, 3)))
    with pytest.raises(InputError, match="no column is an output"):
        evaluate_model(model, others, genes)
    own = Targets(genes, (*OUTPUTS, MEDIAN), np.zeros((n, 3)))
    with pytest.raises(InputError, match="0 of 1 genes have features"):
        evaluate_model(model, own, ["ENSG1"])
    assert held_out_genes(model) == genes
    training = replace(model.manifest.training, selection=None)
    monkeypatch.setattr(model, "manifest", replace(model.manifest, training=training))
    with pytest.raises(UsageError, match="only you can say"):
        held_out_genes(model)


def test_a_constant_output_is_left_out_of_means():
    """Against scipy, pair by pair; no warning, and no match that is none."""
    predicted, measured = frames(m=5, noise=0.5)
    predicted.iloc[:, 0], measured.iloc[:, 2] = 1.0, 2.0
    found = compared(predicted, measured, resamples=3)
    assert np.isnan(found.matrix.iloc[0]).all()
    table = found.outputs.set_index("output")["others"]
    for i in range(1, 5):
        others = [
            stats.spearmanr(predicted.iloc[:, i], measured.iloc[:, j]).statistic
            for j in {0, 1, 3, 4} - {i}
        ]
        assert table.iloc[i] == pytest.approx(np.mean(others))
    assert np.isnan(table.iloc[0])
    assert found.summary["own_measurement_best"] == 3
    assert found.summary["own_prediction_best"] == 3
    assert figures.matrix(found).axes


def test_only_genes_that_count_are_coloured():
    predicted, measured = frames(n=40, m=12, noise=0.2)
    predicted.iloc[:15] *= -1  # just as sure, the wrong way round
    found = compared(predicted, measured, resamples=0)
    _, coloured = figures.genes(found).axes[0].containers
    heights = np.array([bar.get_height() for bar in coloured])
    left = np.array([bar.get_x() for bar in coloured])
    assert heights[left < -0.01].sum() == 0
    assert heights.sum() == round(40 * found.summary["genes_significant"]) == 25


def test_the_folder_is_looked_at_before_anything_is_computed(run, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    monkeypatch.setattr("decode_zoo.load", lambda *_: pytest.fail("a model was loaded"))
    for folder, words in (("mine", "is not empty"), ("no/where", "there is no folder")):
        code, _, err = run(f"--scale log2tpm -o {folder}")
        assert (code, words in err) == (2, True), err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "x.tsv"]


def test_genes_held_out_one_by_one_are_told_as_such(toy_models, measured, tmp_path, monkeypatch):
    from decode_zoo.cli.predict import evaluated

    measured.to_csv(tmp_path / "x.tsv", sep="\t")
    model = toy_models["decode"]
    training = replace(
        model.manifest.training, selection=Split(test=()), test_genes=tuple(measured.index[:9])
    )
    monkeypatch.setattr(model, "manifest", replace(model.manifest, training=training))
    found, chosen = evaluated(model, tmp_path / "x.tsv", "log2tpm", None, 0, {})
    assert (len(found.genes), chosen) == (9, "held out of training")
