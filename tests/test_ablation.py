"""Ablation: inputs that move between genes, what is retrained on them, and how it is compared."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.baselines import fit_ridge
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import MEDIAN, Split
from decode_zoo.studies.ablation import VARIANTS, ablate, compare, correlate, permute, summarise
from decode_zoo.training.checkpoints import Checkpoints
from decode_zoo.training.dataset import PARTS, SplitRows, make_dataset
from tests.made import TISSUES, write_matrix

SELECTION = Split(min_genes=5, absent=("8",), validation_fraction=0.2)
KERNELS = {"promoter": 1, "rna": 1}


@pytest.fixture(scope="module")
def dataset(features, targets):
    return make_dataset(features, targets, KERNELS, SELECTION)


# --- inputs that move ---------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [("rna",), ("promoter",), SIDES])
def test_permuted_genes_see_others_of_their_part(dataset, sides):
    permuted = permute(dataset, sides, 0)
    for part in PARTS:
        rows = getattr(dataset.split, part)
        after = permuted.pooled(rows)
        for side, full in permuted.full(rows[:3]).items():
            np.testing.assert_allclose(full.sum(axis=1), after[side][:3, 0], rtol=1e-6)
        for side in SIDES:
            seen = permuted.order[side][rows] if side in sides else rows
            np.testing.assert_array_equal(after[side], dataset.pooled(seen)[side])
            assert ((seen != rows).mean() > 0.8) == (side in sides)
    other = permute(dataset, sides, 1).order[sides[0]]
    assert (other != permuted.order[sides[0]]).mean() > 0.8


@given(
    parts=st.lists(st.sampled_from([*PARTS, "absent"]), min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
)
def test_parts_stay_apart_sides_stay_together_and_seeds_decide(dataset, parts, seed):
    rows = {part: np.flatnonzero(np.array(parts) == part) for part in PARTS}
    small = replace(dataset, rows=dataset.rows[: len(parts)], split=SplitRows(**rows))
    both = permute(small, SIDES, seed).order
    for part in PARTS:
        assert set(both["rna"][rows[part]]) == set(rows[part])
    np.testing.assert_array_equal(both["rna"], both["promoter"])
    for side in SIDES:
        alone = permute(small, (side,), seed).order
        np.testing.assert_array_equal(alone[side], both[side])
        for other in set(SIDES) - {side}:
            np.testing.assert_array_equal(alone[other], np.arange(len(parts)))


# --- comparison ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """Three predictions of seven fold changes and the median, with ties; good, fair and useless."""
    rng = np.random.default_rng(0)
    observed = np.round(rng.normal(size=(150, 8)), 1)
    noise = rng.normal(size=(3, 150, 8))
    useless = noise[2]
    useless[:, 2] = 1.5
    predicted = {"good": observed + noise[0], "fair": observed + 2 * noise[1], "useless": useless}
    return predicted, observed


MEDIANS = np.array([False] * 7 + [True])


def test_rho_against_scipy(made):
    predicted, observed = made
    rho = correlate(predicted, observed, resamples=3, seed=5)
    rng = np.random.default_rng(5)
    drawn = [np.arange(150), *(rng.integers(150, size=150) for _ in range(3))]
    for name, values in predicted.items():
        assert rho[name].shape == (4, 8)
        for row, genes in zip(rho[name], drawn, strict=True):
            for column in range(8):
                if name == "useless" and column == 2:  # constant: it tells nothing
                    assert row[column] == 0
                    continue
                expected = stats.spearmanr(values[genes, column], observed[genes, column])
                assert row[column] == pytest.approx(expected.statistic, abs=1e-12)


def test_differences_and_tests_against_scipy(made):
    from statsmodels.stats.multitest import multipletests

    predicted, observed = made
    rho = correlate(predicted, observed, resamples=50, seed=0)
    table = compare(rho, MEDIANS)
    assert list(zip(table["first"], table["second"], strict=True)) == [
        ("good", "fair"),
        ("good", "useless"),
        ("fair", "useless"),
    ]
    for row in table.to_dict("records"):
        a, b = rho[row["first"]], rho[row["second"]]
        assert row["p"] == stats.wilcoxon(a[0, :7], b[0, :7], alternative="two-sided").pvalue
        means = a[:, :7].mean(axis=1) - b[:, :7].mean(axis=1)
        assert row["difference"] == pytest.approx(means[0])
        assert [row["difference_low"], row["difference_high"]] == pytest.approx(
            np.percentile(means[1:], [2.5, 97.5]).tolist()
        )
        assert row["median_difference"] == pytest.approx(a[0, 7] - b[0, 7])
        assert row["median_difference_high"] == pytest.approx(
            np.percentile(a[1:, 7] - b[1:, 7], 97.5)
        )
        assert row["higher"] == (a[0, :7] > b[0, :7]).sum()
        assert row["difference_low"] > 0
    for column, method in (("p_bonferroni", "bonferroni"), ("q", "fdr_bh")):
        np.testing.assert_allclose(table[column], multipletests(table["p"], method=method)[1])
    means = summarise(rho, MEDIANS).set_index("variant")
    assert means.loc["fair", "rho"] == pytest.approx(rho["fair"][0, :7].mean())
    assert means.loc["fair", "median_rho"] == pytest.approx(rho["fair"][0, 7])
    assert means.loc["fair", "rho_low"] < means.loc["fair", "rho"] < means.loc["fair", "rho_high"]
    (same,) = compare({"a": rho["fair"], "b": rho["fair"]}, MEDIANS).to_dict("records")
    assert [same[f"difference{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert (same["p"], same["higher"]) == (1, 0)


def test_intervals_hold_where_outputs_resemble_one_another_and_wilcoxon_does_not():
    """Two predictions that are equally good: how often is one said to be better?"""
    rng, trials = np.random.default_rng(2), 40
    by_interval = by_wilcoxon = 0
    for trial in range(trials):
        observed = rng.normal(size=(60, 1)) + 0.3 * rng.normal(size=(60, 9))
        predicted = {name: observed + 2 * rng.normal(size=(60, 1)) for name in "ab"}
        rho = correlate(predicted, observed, resamples=80, seed=trial)
        (row,) = compare(rho, np.arange(9) == 8).to_dict("records")
        by_interval += row["difference_low"] > 0 or row["difference_high"] < 0
        by_wilcoxon += row["p"] < 0.05
    assert by_interval <= 7  # P(X > 7) = 0.0006 of Binomial(40, 0.05)
    assert by_wilcoxon > trials / 2


# --- retraining ---------------------------------------------------------------------------------


class Ridge:
    """Ridge regression on roots of position sums, as a network that trains in no time."""

    config = SimpleNamespace(pools=True)

    def __init__(self, variant):
        split, values = variant.split, variant.targets.values
        x = [self.inputs(variant.pooled(part)) for part in (split.training, split.validation)]
        y = [values[part] for part in (split.training, split.validation)]
        self.fit = fit_ridge(x[0], y[0], x[1], y[1], [10.0, 100.0])

    @staticmethod
    def inputs(pooled):
        return np.concatenate([np.sqrt(pooled[side][:, 0]) for side in SIDES], axis=1)

    def fold(self):
        return self

    def forward(self, pooled):
        return self.fit.predict(self.inputs(pooled))


@pytest.fixture(scope="module")
def found(dataset):
    return ablate(dataset, Ridge, seed=3, resamples=100)


def test_expression_that_follows_promoters_needs_them(found, dataset):
    assert found.variants["variant"].tolist() == list(VARIANTS)
    rho = found.variants.set_index("variant")["rho"]
    assert rho["intact"] > 0.4
    assert rho["rna_exchanged"] > 0.4
    assert abs(rho["promoter_exchanged"]) < 0.2
    assert abs(rho["both_exchanged"]) < 0.2
    assert found.stronger() == "promoters"
    assert found.genes == {part: len(getattr(dataset.split, part)) for part in PARTS}
    assert found.outputs["output"].tolist() == [*TISSUES, MEDIAN]
    means = found.outputs[found.outputs["kind"] != "median"][list(VARIANTS)].mean()
    np.testing.assert_allclose(means, rho[list(VARIANTS)])


def test_what_is_done_is_not_trained_again(dataset, found, tmp_path):
    trained = []

    def stopping(variant):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(variant)
        return Ridge(variant)

    places = Checkpoints(tmp_path / "kept", {"data": 1})
    with pytest.raises(KeyboardInterrupt):
        ablate(dataset, stopping, seed=3, resamples=100, checkpoints=places)
    trained.clear()
    resumed = ablate(dataset, stopping, seed=3, resamples=100, checkpoints=places)
    assert [variant is dataset for variant in trained] == [False, False]
    for name in ("variants", "comparisons", "outputs"):  # as of one run with this seed
        pd.testing.assert_frame_equal(getattr(resumed, name), getattr(found, name))
    trained.clear()
    with pytest.raises(KeyboardInterrupt):  # another seed, other predictions
        ablate(dataset, stopping, seed=4, resamples=100, checkpoints=places)
    assert len(trained) == 2


def test_what_cannot_be_ablated_is_refused(dataset):
    few = replace(dataset, split=replace(dataset.split, test=dataset.split.test[:19]))
    with pytest.raises(InputError, match="19 genes are left to test on"):
        ablate(few, lambda variant: pytest.fail("trained"))
    scores = replace(dataset, targets=replace(dataset.targets, unit="logit"))
    with pytest.raises(UsageError, match="no fold changes"):
        ablate(scores, lambda variant: pytest.fail("trained"))
    with pytest.raises(UsageError, match="one resample"):
        ablate(dataset, lambda variant: pytest.fail("trained"), resamples=0)


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.1, 0.3, "promoters"), (-0.3, -0.1, "RNA"), (-0.1, 0.1, "cannot be told")],
)
def test_the_interval_decides_which_side_tells_more(found, low, high, told):
    table = found.comparisons.copy()
    row = (table["first"] == "rna_exchanged") & (table["second"] == "promoter_exchanged")
    table.loc[row, ["difference_low", "difference_high"]] = low, high
    assert replace(found, comparisons=table).stronger() == told


# --- what is written ----------------------------------------------------------------------------


def test_the_folder(found, tmp_path):
    pytest.importorskip("jinja2")
    from decode_zoo.pages.folders import write_study
    from decode_zoo.pages.sections import read_section

    write_study(found.result({"provenance": {"command": ["x"]}}), tmp_path / "out", "tsv")
    for name in ("variants", "comparisons", "outputs"):
        table = pd.read_csv(tmp_path / "out" / f"{name}.tsv", sep="\t")
        pd.testing.assert_frame_equal(table, getattr(found, name), rtol=1e-4, check_dtype=False)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["comparisons"][0]["first"] == "intact"
    assert (summary["seed"], summary["provenance"]["command"]) == (3, ["x"])
    section, pictures = read_section(tmp_path / "out")
    assert section.facts["Which tells more"] == "promoters"
    assert set(pictures) == {"outputs.svg", "differences.svg"}


@pytest.fixture
def matrix(features, targets, tmp_path):
    """The expression that targets are made of, and the folder of features."""
    return write_matrix(targets, tmp_path / "x.tsv"), features.locate("features.json").parent


def test_from_scratch_on_the_command_line(call, matrix, tmp_path, monkeypatch):
    """What is trained is what was asked for; how, tests of training and the next one know."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("jinja2")
    from decode_zoo.training import pipeline

    asked = []

    def fit_network(variant, config, fit):
        asked.append((config, fit))
        return SimpleNamespace(network=Ridge(variant))

    monkeypatch.setattr(pipeline, "fit_network", fit_network)
    expression, folder = matrix
    options = (
        f"--scale log2tpm --features {folder} --absent-chrom 8 --min-genes 5 --repeats 2 --seed 7"
        f" --set epochs=2 --set dense_width=8 -o {tmp_path / 'out'}"
    )
    code, out, err = call("study", "ablation", expression, *options.split())
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out")
    assert "promoter_exchanged: rho" in err
    assert "tells more of fold changes: promoters" in err
    assert not (tmp_path / "out.unfinished").exists()
    config, fit = asked[0]
    assert asked == [(config, fit)] * 4
    assert (config.members, config.dense_width, fit.epochs, fit.seeds) == (2, 8, 2, (1, 2))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    record = summary["provenance"]
    assert record["expression"]["file"] == "x.tsv"
    assert (record["scale"], record["min_tpm"]) == ("log2tpm", 2)
    assert record["selection"]["absent"] == ["8"]
    assert (record["fit"]["epochs"], record["network"]["dense_width"]) == (2, 8)
    assert summary["seed"] == 7
    table = pd.read_csv(tmp_path / "out" / "outputs.tsv", sep="\t")
    assert table["output"].tolist() == [*TISSUES, MEDIAN]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "either a feature set to train on"),
        ("--features x --base y", "either a feature set to train on"),
        ("--base y --kinds tf", "The base decides"),
        ("--base y --family decode", "The base decides"),
        ("--features x", "--scale tpm|log2tpm"),
        ("--features x --scale log2tpm --set depth=3", "has no 'depth'"),
        ("--base y --scale log2tpm --set epochs=3", "fine-tuning"),
    ],
)
def test_what_is_typed_wrong_is_told(call, matrix, tmp_path, typed, words):
    pytest.importorskip("tensorflow")
    code, out, err = call("study", "ablation", matrix[0], *typed.split(), "-o", tmp_path / "out")
    assert (code, out, words in err) == (2, "", True), err
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"]


def test_samples_on_the_command_line(call, made_model, targets, tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "cohort").mkdir()
    write_matrix(targets, tmp_path / "cohort/expression.tsv.gz")
    base = ("--base", made_model.locate("manifest.json").parent, "--set", "max_epochs=1")
    command = ("study", "ablation", tmp_path / "cohort", *base)
    code, _, err = call(*command, "-o", tmp_path / "out")
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["provenance"]["base"]["id"] == made_model.id
    assert summary["provenance"]["selection"]["test"] == ["1"]
    table = pd.read_csv(tmp_path / "out" / "outputs.tsv", sep="\t")
    assert table["output"].tolist() == [*TISSUES, MEDIAN]
    assert table["intact"].mean() > table["both_exchanged"].mean() + 0.1
    code, _, err = call(*command, "--scale", "tpm", "-o", tmp_path / "other")
    assert (code, "nothing left to do" in err) == (2, True), err
    code, _, err = call("study", "ablation", tmp_path, *base, "-o", tmp_path / "other")
    assert (code, "has no expression.tsv.gz" in err) == (4, True), err
