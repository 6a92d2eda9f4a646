"""Sites taken away: exact changes, pairs of genes, places; against networks run in full."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import decode_zoo as dz
from decode_zoo.core.errors import UsageError
from decode_zoo.features.genesets import TARGETS
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.studies.disruption import BinSums, disrupt
from decode_zoo.studies.first_layer import FirstLayer
from decode_zoo.studies.knockouts import Effects, Knockout
from decode_zoo.studies.pairs import disrupt_pair, knock_out_pair, regress, row_spearman
from tests.test_network import random_network

GENES = ["ALB", "TP53", "HBB", "MALAT1", "SNORD99", "APOA1"]
# In units of an output's scale; changes are stored in single precision.
CLOSE = 1e-6


@pytest.fixture(scope="module")
def knockout(toy_model):
    """Both families: perceptron and convolutions with a kernel of several bins."""
    return Knockout.make(toy_model)


@pytest.fixture(scope="module")
def samples():
    model = dz.load("lcl-person-v1")
    folds = [output.name for output in model.manifest.outputs if output.kind == "fold_change"]
    knockout = Knockout.make(model, outputs=folds[:12], precision="single")
    return knockout, tuple(rows_of(knockout, ["LAPTM5", "CD53"]).tolist())


def rows_of(knockout, genes=GENES):
    return knockout.bound.features.index.resolve(list(genes)).rows


def in_full(knockout, row, features=(), bins=()):
    """Predict one row from its matrices without some features, or some (side, bin)s' sites."""
    full = {side: m.astype(float) for side, m in knockout.bound.full(np.array([row])).items()}
    gone = np.isin(knockout.resolution.of_channel, list(features))
    n = 1 + knockout.bound.n_tracks["promoter"]
    for side, channels in zip(SIDES, (gone[:n], gone[n:]), strict=True):
        full[side][:, :, channels] = 0
    for side, place in bins:
        tracks = knockout.model.manifest.inputs[side].tracks
        full[side][0, place, 1 + np.flatnonzero([t.kind != TARGETS for t in tracks])] = 0
    chosen = [knockout.model.outputs.index(name) for name in knockout.output_names]
    return knockout.model.network.forward(full)[0][chosen]


def off(knockout, found, expected):
    """Largest difference in units of each output's scale."""
    scale = np.array([output.scale for output in knockout.outputs])
    return (np.abs(found - expected) / scale).max()


# Single knock-outs


def test_each_regulator_with_sites_changes_what_the_network_says_in_full(knockout):
    (deltas,) = knockout.run(rows_of(knockout))
    cells = knockout.bound.sum_cells(deltas.rows)
    for i, row in enumerate(deltas.rows):
        own = slice(deltas.indptr[i], deltas.indptr[i + 1])
        there = np.unique(knockout.resolution.of_channel[cells.row(i).channels])
        expected = there[~knockout.resolution.is_mask[there]]
        np.testing.assert_array_equal(deltas.features[own], expected)
        base = in_full(knockout, row)
        for feature, found in zip(deltas.features[own], deltas.values[own], strict=True):
            assert off(knockout, found, in_full(knockout, row, [feature]) - base) < CLOSE


def test_all_sites_in_place_give_the_prediction(knockout):
    rows = rows_of(knockout)
    hidden = knockout.network.hidden(knockout.bound.sum_cells(rows))
    predicted = knockout.model.predict_rows(rows, knockout.bound, knockout.model.backend("numpy"))
    assert off(knockout, knockout.network.predict(hidden), predicted) < CLOSE


def test_a_gene_changes_the_same_whatever_its_neighbours(knockout):
    rows = rows_of(knockout)
    (together,) = knockout.run(rows)
    for i, row in enumerate(rows):
        (alone,) = knockout.run(np.array([row]))
        own = slice(together.indptr[i], together.indptr[i + 1])
        np.testing.assert_array_equal(alone.features, together.features[own])
        np.testing.assert_array_equal(alone.values, together.values[own])


@pytest.mark.parametrize("by", ["class", "track"])
def test_all_tracks_of_a_class_go_or_single_ones(toy_model, by):
    knockout = Knockout.make(toy_model, by=by, outputs=["Liver"])
    (deltas,) = knockout.run(rows_of(knockout, ["ALB"]))
    assert deltas.features.size > 1
    for feature, value in zip(deltas.features, deltas.values, strict=True):
        before, after = (in_full(knockout, deltas.rows[0], gone) for gone in ([], [feature]))
        assert off(knockout, value, after - before) < CLOSE


def test_sums_of_changes_add_up_over_parts(knockout):
    (deltas,) = knockout.run(rows_of(knockout))
    whole, added = Effects(knockout), Effects(knockout)
    whole.add(deltas)
    for gene in GENES:
        added.add(next(knockout.run(rows_of(knockout, [gene]))))
    np.testing.assert_array_equal(added.present, whole.present)
    np.testing.assert_allclose(added.absolute, whole.absolute, atol=1e-6)
    table = whole.to_frame()
    assert table["mean_absolute_change"].is_monotonic_decreasing
    row = table[(table["class"] == "TF") & (table["regulator"] == "YY1")].iloc[0]
    mine = deltas.values[deltas.features == knockout.find("YY1")]
    assert row["genes"] == len(mine)
    assert row["mean_change"] == pytest.approx(mine[:, knockout.folds].mean(), abs=1e-6)


def test_a_pair_together_and_its_interaction(knockout):
    pair = knockout.find("YY1"), knockout.find("SPI1")
    every = np.arange(len(knockout.bound.features))
    table = knockout.double(every, [pair])
    assert table["interaction"].abs().is_monotonic_decreasing
    assert len(table) > 0
    for gene, part in table.groupby("gene_id"):
        (row,) = rows_of(knockout, [gene])
        part = part.set_index("output").loc[knockout.output_names]
        base = in_full(knockout, row)
        changes = [in_full(knockout, row, gone) - base for gone in (pair[:1], pair[1:], pair)]
        for name, expected in zip(("first", "second", "both"), changes, strict=True):
            assert off(knockout, part[f"change_{name}"].to_numpy(), expected) < CLOSE
        expected = changes[2] - changes[0] - changes[1]
        assert off(knockout, part["interaction"].to_numpy(), expected) < 3 * CLOSE


def test_names_that_nobody_has_are_told_with_what_is_near(knockout):
    with pytest.raises(UsageError, match="no regulator 'HNF4B'") as caught:
        knockout.find("HNF4B")
    assert "HNF4A" in str(caught.value.remedy)
    with pytest.raises(UsageError, match="decode-zoo info"):
        knockout.find("?")
    names = knockout.resolution.features.astype(str).replace("PUM2", "SPI1")
    twice = replace(knockout, resolution=replace(knockout.resolution, features=names))
    with pytest.raises(UsageError, match="Several classes"):
        twice.find("SPI1")
    assert twice.find("RBP:SPI1") != twice.find("TF:SPI1") == knockout.find("SPI1")


def test_a_network_that_does_not_pool_is_refused():
    network = random_network(
        DecodeConfig(conv_relu=True, dense_width=4, rna_channels=2, promoter_channels=2), [3, 3], 2
    )
    with pytest.raises(UsageError, match="ReLU in its convolutions"):
        FirstLayer.make(network)


# Places


def test_changes_by_place_are_those_of_full_matrices(knockout):
    for found in disrupt(knockout, rows_of(knockout, ["ALB", "HBB"])):
        base, bins = in_full(knockout, found.row), found.bins
        for i in [0, 1, 2, len(bins) // 2, len(bins) - 1]:
            gone = [(bins["side"][i], bins["bin"][i])]
            expected = in_full(knockout, found.row, bins=gone) - base
            assert off(knockout, found.changes[i], expected) < CLOSE
        for side, values in zip(SIDES, found.whole, strict=True):
            n_bins = knockout.bound.full(np.array([found.row]))[side].shape[1]
            gone = [(side, place) for place in range(n_bins)]
            expected = in_full(knockout, found.row, bins=gone) - base
            assert off(knockout, values, expected) < CLOSE
        promoter = bins[bins["side"] == "promoter"]
        assert (promoter["start"] == promoter["bin"] * 100 - 2000).all()
        assert (bins["end"] > bins["start"]).all()


# Pairs of genes


def test_rho_of_rows_is_scipys():
    random = np.random.default_rng(0)
    a, b = random.random((2, 20, 31)).astype(np.float32)
    for other in (b, a, -a):
        expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, other, strict=True)]
        np.testing.assert_allclose(row_spearman(a, other), expected, atol=1e-6)


def test_the_regression_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(1)
    removed = random.random((300, 7)) < 0.5
    response = removed @ np.arange(7) / 10 + random.standard_normal(300)
    table, r_squared = regress(removed, response)
    oracle = api.OLS(response, api.add_constant(removed.astype(float))).fit()
    expected = oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues
    for name, values in zip(
        ["estimate", "std.error", "statistic", "p.value"], expected, strict=True
    ):
        np.testing.assert_allclose(
            table[name], values[1:], rtol=1e-8 if name == "p.value" else 1e-9
        )
    np.testing.assert_allclose(table["p.bonferroni"], np.minimum(1, 7 * oracle.pvalues[1:]))
    assert r_squared == pytest.approx(oracle.rsquared, abs=1e-12)


def test_what_no_regression_can_tell_is_refused(samples):
    with pytest.raises(UsageError, match=r"35 removals do not tell [0-9]+ terms apart"):
        knock_out_pair(*samples, removals=35)
    with pytest.raises(UsageError, match="not 'none'"):
        knock_out_pair(*samples, remove_from="none")


def rho_of(one, two):
    return pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-6)


def test_a_removal_of_regulators_is_that_of_the_networks_inputs(samples):
    knockout, pair = samples
    study = knock_out_pair(knockout, pair, removals=400, seed=3)
    cells, feature = knockout.cells(np.array(pair))
    terms = np.unique(feature[feature >= 0])
    removed = np.random.default_rng(3).random((400, terms.size)) < 0.5
    for i in (0, 7, 399):
        gone = terms[removed[i]]
        assert study.rhos[i] == rho_of(*(in_full(knockout, row, gone) for row in pair))
    assert study.intact == rho_of(*(in_full(knockout, row) for row in pair))
    sites = study.regression.set_index(["class", "term"])["sites"]
    owners = [set(feature[cells.rows() == i]) for i in (0, 1)]
    names = {(True, True): "both", (True, False): "first", (False, True): "second"}
    for term, (_, label) in zip(terms, knockout.labels(terms).iterrows(), strict=True):
        assert sites[tuple(label)] == names[term in owners[0], term in owners[1]]


def test_sites_may_go_from_one_gene_only_and_seeds_decide_which(samples):
    knockout, pair = samples
    first, again, other = (
        knock_out_pair(knockout, pair, removals=400, remove_from="first", seed=seed)
        for seed in (1, 1, 2)
    )
    assert set(first.regression["sites"]) == {"first"}
    np.testing.assert_array_equal(first.rhos, again.rhos)
    assert (first.rhos != other.rhos).any()
    turned = knock_out_pair(knockout, pair[::-1], removals=400, remove_from="second", seed=1)
    np.testing.assert_allclose(turned.rhos, first.rhos, atol=1e-6)


def test_a_removal_of_bins_is_that_of_full_matrices(samples):
    knockout, pair = samples
    for number, study in enumerate(disrupt_pair(knockout, pair, removals=200, seed=5)):
        labels = BinSums.make(knockout, pair[number]).labels
        removed = np.random.default_rng((5, number)).random((200, len(labels))) < 0.5
        gone = [label for label, out in zip(labels, removed[11], strict=True) if out]
        mine = in_full(knockout, pair[number], bins=gone)
        other = in_full(knockout, pair[1 - number])
        assert study.rhos[11] == rho_of(mine, other)
        assert study.intact == rho_of(in_full(knockout, pair[number]), other)
        assert set(study.regression["gene"]) == {knockout.bound.features.rows.ids[pair[number]]}


# The command line


@pytest.fixture
def study(call, tmp_path, toy_zoo):
    """Run a study on a few genes; return its folder and what it printed."""
    lists = {"GENES": "ALB\nnope\nTP53\n", "EMPTY": "nope\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)

    def study(text, expected=0):
        words = [tmp_path / word if word in lists else word for word in text.split()]
        code, out, err = call("study", *words, "-o", tmp_path / "out")
        assert code == expected, err
        assert out.strip() == ("" if code else str(tmp_path / "out"))
        assert (tmp_path / "out").exists() == (code == 0)
        return tmp_path / "out", err

    return study


def test_knockouts_from_the_command_line(study, toy_models):
    folder, err = study(
        "knockout --model toy-decode-v1 GENES --outputs Liver,Lung --double YY1,SPI1"
    )
    deltas, strongest, double = (
        pd.read_csv(folder / f"{name}.tsv", sep="\t") for name in ("deltas", "strongest", "double")
    )
    assert list(deltas)[:4] == ["gene_id", "symbol", "class", "regulator"]
    assert set(deltas["symbol"]) == {"ALB", "TP53"}
    knockout = Knockout.make(toy_models["decode"], outputs=["Liver", "Lung"])
    (found,) = knockout.run(rows_of(knockout, ["ALB", "TP53"]))
    np.testing.assert_allclose(deltas[["Liver", "Lung"]], found.values, rtol=1e-5, atol=1e-7)
    assert strongest["change"].abs().is_monotonic_decreasing
    assert strongest["change"].abs().iloc[0] == pytest.approx(np.abs(found.values).max(), rel=1e-5)
    beyond = double["change_both"] - double["change_first"] - double["change_second"]
    np.testing.assert_allclose(beyond, double["interaction"], atol=2e-6)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["not_knocked_out"] == {"nope": "unknown_gene"}
    assert summary["provenance"]["model"]["id"] == "toy-decode-v1"
    assert "1 names without sites or unknown" in err


def test_only_what_is_named_is_knocked_out_and_parquet_holds_the_same(study, toy_models):
    pytest.importorskip("pyarrow")
    text = "knockout --model toy-decode-v1 GENES --outputs Liver --format parquet"
    found = pd.read_parquet(study(f"{text} --regulators SPI1,YY1,RBP:PUM2")[0] / "deltas.parquet")
    knockout = Knockout.make(toy_models["decode"], outputs=["Liver"])
    wanted = [knockout.find(name) for name in ("SPI1", "YY1", "RBP:PUM2")]
    (every,) = knockout.run(rows_of(knockout, ["ALB", "TP53"]))
    kept = np.isin(every.features, wanted)
    labels = knockout.labels(every.features[kept])["regulator"].astype(str)
    assert found["regulator"].astype(str).tolist() == labels.tolist()
    np.testing.assert_allclose(found["Liver"], every.values[kept, 0], rtol=1e-5)


def test_places_from_the_command_line(study):
    folder, _ = study("disrupt --model toy-decode-v1 GENES --outputs Liver")
    bins = pd.read_csv(folder / "bins.tsv", sep="\t")
    assert set(bins["side"]) == {"promoter", "rna"}
    assert len(pd.read_csv(folder / "sides.tsv", sep="\t")) == 4
    assert (folder / "bins.svg").read_text().startswith("<?xml")


def test_a_pair_from_the_command_line(study, monkeypatch):
    monkeypatch.delenv("DECODE_ZOO_REGISTRY")
    models = ["lcl-person-v1", "gtex-heart-person-v1"]
    folder, _ = study(f"pair LAPTM5,CD53 --model {' --model '.join(models)} --removals 1000")
    # A published finding, and no matter of luck: in each model the strongest by far.
    assert pd.read_csv(folder / "across.tsv", sep="\t")["term"][0] == "SPI1"
    regression = pd.read_csv(folder / "regression.tsv", sep="\t")
    assert {"term", "estimate", "std.error", "statistic", "p.value"} <= set(regression)
    assert set(regression["model"]) == set(models)
    assert (folder / "intervals.tsv").is_file()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("knockout GENES --regulators NOPE", 2, "no regul"),
        ("knockout GENES --double SPI1", 2, "no pair"),
        ("knockout GENES --double SPI1,SPI1", 2, "twice"),
        ("knockout", 2, "Give either"),
        ("disrupt EMPTY", 4, "none of 1 genes"),
        ("pair LAPTM5,nope", 4, "'nope' is not known"),
        ("pair TP53,TP53", 2, "one gene"),
        ("pair TP53,ALB", 2, "samples at least"),
    ],
)
def test_faults_are_told_and_nothing_is_left(study, text, code, message):
    assert message in study(f"{text} --model toy-decode-v1", code)[1]
