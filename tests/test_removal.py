"""Sites taken away: exact changes, pairs of genes, places; against networks run in full."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import decode_zoo as dz
from decode_zoo.errors import InputError, UsageError
from decode_zoo.genesets import TARGETS
from decode_zoo.layout import SIDES
from decode_zoo.network import DecodeConfig
from decode_zoo.studies.removal.bins import BinSums
from decode_zoo.studies.removal.disruption import disrupt
from decode_zoo.studies.removal.hidden import HiddenNetwork
from decode_zoo.studies.removal.knockout import Effects, Knockout
from decode_zoo.studies.removal.pair import disrupt_pair, knock_out_pair, regress, row_spearman
from tests.test_network import random_network

ROOT = Path(__file__).resolve().parents[1]
GENES = ["ALB", "TP53", "HBB", "MALAT1", "APOA1"]
# In units of an output's scale; changes are stored in single precision.
CLOSE = 1e-6


def opened(model_id: str):
    folder = ROOT / "zoo/models" / model_id
    if not folder.is_dir():
        pytest.skip("needs a checkout's zoo/")
    return dz.load(model_id)


@pytest.fixture(scope="module", params=["gtex-tissue-v1", "gtex-tissue-decode-v1"])
def knockout(request):
    """Both families: perceptron and convolutions with a kernel of three bins."""
    return Knockout.make(opened(request.param))


@pytest.fixture(scope="module")
def persons():
    model = opened("lcl-person-v1")
    folds = [output.name for output in model.manifest.outputs if output.kind == "fold_change"]
    knockout = Knockout.make(model, outputs=folds[:12], precision="single")
    rows = knockout.bound.features.index.resolve(["LAPTM5", "CD53"]).rows
    return knockout, (int(rows[0]), int(rows[1]))


def rows_of(knockout, genes=GENES):
    return knockout.bound.features.index.resolve(list(genes)).rows


def forward(knockout, row, gone):
    """Predict one row in full, without the sums of some channels (numbered through both sides)."""
    sums = {
        side: part.dense().astype(float)
        for side, part in knockout.bound.pooled(np.array([row])).items()
    }
    n = 1 + knockout.bound.n_tracks["promoter"]
    gone = np.asarray(gone, np.int64)
    sums["promoter"][:, :, gone[gone < n]] = 0
    sums["rna"][:, :, gone[gone >= n] - n] = 0
    chosen = [knockout.model.outputs.index(output.name) for output in knockout.outputs]
    return knockout.model.network.forward(sums)[0][chosen]


def channels(knockout, *features):
    return np.flatnonzero(np.isin(knockout.resolution.of_channel, features))


def scale(knockout):
    return np.array([output.scale for output in knockout.outputs])


# -- single knock-outs ---------------------------------------------------------------------------


def test_changes_are_those_of_the_network_in_full(knockout):
    rows = rows_of(knockout)
    for deltas in knockout.run(rows):
        for i, row in enumerate(deltas.rows):
            own = slice(deltas.indptr[i], deltas.indptr[i + 1])
            base = forward(knockout, row, [])
            for feature, values in [*zip(deltas.features[own], deltas.values[own], strict=True)][
                ::25
            ]:
                expected = forward(knockout, row, channels(knockout, feature)) - base
                assert (np.abs(values - expected) / scale(knockout)).max() < CLOSE


def test_each_regulator_with_sites_is_knocked_out_once(knockout):
    (deltas,) = knockout.run(rows_of(knockout))
    cells = knockout.bound.sum_cells(deltas.rows)
    for i in range(deltas.rows.size):
        there = np.unique(knockout.resolution.of_channel[cells.row(i).channels])
        expected = there[~knockout.resolution.is_mask[there]]
        own = deltas.features[deltas.indptr[i] : deltas.indptr[i + 1]]
        np.testing.assert_array_equal(own, expected)


def test_all_sites_in_place_give_the_prediction(knockout):
    rows = rows_of(knockout)
    hidden = knockout.network.hidden(knockout.bound.sum_cells(rows))
    predicted = knockout.model.predict_rows(rows, knockout.bound, knockout.model.backend("numpy"))
    off = (knockout.network.predict(hidden) - predicted) / scale(knockout)
    assert np.abs(off).max() < CLOSE


def test_single_precision_is_close(knockout):
    rows = rows_of(knockout)
    single = Knockout.make(knockout.model, precision="single")
    (one,), (other,) = knockout.run(rows), single.run(rows)
    assert (np.abs(one.values - other.values) / scale(knockout)).max() < 2e-5


def test_a_gene_changes_the_same_whatever_its_neighbours(knockout):
    rows = rows_of(knockout)
    (together,) = knockout.run(rows)
    for i, row in enumerate(rows):
        (alone,) = knockout.run(np.array([row]))
        own = slice(together.indptr[i], together.indptr[i + 1])
        np.testing.assert_array_equal(alone.features, together.features[own])
        np.testing.assert_array_equal(alone.values, together.values[own])


def test_by_class_all_tracks_of_a_class_go():
    knockout = Knockout.make(dz.load("gtex-tissue-v1"), by="class", outputs=["Liver"])
    (deltas,) = knockout.run(rows_of(knockout, ["ALB"]))
    names = knockout.resolution.features["class"].astype(str)[deltas.features].tolist()
    assert names == ["TF", "RBP"]
    for feature, value in zip(deltas.features, deltas.values, strict=True):
        row = deltas.rows[0]
        gone = forward(knockout, row, channels(knockout, feature)) - forward(knockout, row, [])
        np.testing.assert_allclose(value, gone, atol=CLOSE * scale(knockout).max())


def test_only_what_is_asked_for_is_knocked_out(knockout):
    spi1 = knockout.find("SPI1")
    (deltas,) = knockout.run(rows_of(knockout, ["CD53", "ALB"]), [spi1])
    assert set(deltas.features) == {spi1}


def test_sums_of_changes_add_up_over_parts(knockout):
    (deltas,) = knockout.run(rows_of(knockout))
    n = len(knockout.resolution.features)
    whole = Effects.of(deltas, n)
    parts = [Effects.of(next(knockout.run(rows_of(knockout, [gene]))), n) for gene in GENES]
    added = parts[0]
    for part in parts[1:]:
        added = added + part
    np.testing.assert_array_equal(added.present, whole.present)
    np.testing.assert_allclose(added.absolute, whole.absolute, atol=1e-6)
    table = whole.to_frame(knockout.resolution, knockout.outputs)
    assert table["mean_absolute_change"].is_monotonic_decreasing
    row = table[(table["class"] == "TF") & (table["regulator"] == "HNF4A")].iloc[0]
    feature = knockout.find("HNF4A")
    mine = deltas.values[deltas.features == feature]
    folds = [i for i, output in enumerate(knockout.outputs) if output.kind == "fold_change"]
    assert row["genes"] == len(mine)
    assert row["mean_change"] == pytest.approx(mine[:, folds].mean(), abs=1e-6)


def test_a_pair_together_and_its_interaction(knockout):
    one, two = knockout.find("HNF4A"), knockout.find("CEBPA")
    rows = rows_of(knockout)
    table = knockout.run_double(rows, [(one, two)])
    assert len(table) % len(knockout.outputs) == 0
    assert len(table) > 0
    for row, part in table.groupby("row"):
        base = forward(knockout, row, [])
        changes = [
            forward(knockout, row, channels(knockout, *gone)) - base
            for gone in ((one,), (two,), (one, two))
        ]
        for name, expected in zip(("first", "second", "both"), changes, strict=True):
            off = (part[f"change_{name}"].to_numpy() - expected) / scale(knockout)
            assert np.abs(off).max() < CLOSE
        off = part["interaction"].to_numpy() - (changes[2] - changes[0] - changes[1])
        assert np.abs(off / scale(knockout)).max() < 3 * CLOSE


def test_names_that_nobody_has_are_told_with_what_is_near(knockout):
    with pytest.raises(UsageError, match="no regulator 'HNF4B'") as caught:
        knockout.find("HNF4B")
    assert "HNF4A" in str(caught.value.remedy)
    both = knockout.resolution.features
    twice = both["regulator"][both["regulator"].duplicated()].tolist()
    if twice:
        with pytest.raises(UsageError, match="Several classes"):
            knockout.find(twice[0])
        assert knockout.find(f"RBP:{twice[0]}") != knockout.find(f"TF:{twice[0]}")


def test_a_network_that_does_not_pool_is_refused():
    network = random_network(
        DecodeConfig(conv_relu=True, dense_width=4, rna_channels=2, promoter_channels=2), [3, 3], 2
    )
    with pytest.raises(UsageError, match="ReLU in its convolutions"):
        HiddenNetwork.make(network)


# -- places --------------------------------------------------------------------------------------


def full_without(knockout, row, side, places):
    """Predict from full matrices without the sites of some bins; those without places stay."""
    full = {s: m.astype(float) for s, m in knockout.bound.full(np.array([row])).items()}
    tracks = knockout.model.manifest.inputs[side].tracks
    placed = 1 + np.flatnonzero([track.kind != TARGETS for track in tracks])
    for place in places:
        full[side][0, place, placed] = 0
    chosen = [knockout.model.outputs.index(output.name) for output in knockout.outputs]
    return knockout.model.network.forward(full)[0][chosen]


def test_changes_by_place_are_those_of_full_matrices(knockout):
    if not (ROOT / "zoo/features" / knockout.bound.features.name / "sites.npz").is_file():
        pytest.skip("no positions (sites.npz)")
    rows = rows_of(knockout, ["ALB", "HBB"])
    for found in disrupt(knockout, rows):
        base = full_without(knockout, found.row, "promoter", [])
        bins = found.bins
        for i in [0, 1, 2, len(bins) // 2, len(bins) - 1]:
            expected = full_without(knockout, found.row, bins["side"][i], [bins["bin"][i]]) - base
            assert (np.abs(found.changes[i] - expected) / scale(knockout)).max() < CLOSE
        for j, side in enumerate(SIDES):
            places = range(knockout.bound.full(np.array([found.row]))[side].shape[1])
            expected = full_without(knockout, found.row, side, places) - base
            assert (np.abs(found.whole[j] - expected) / scale(knockout)).max() < CLOSE
        promoter = bins[bins["side"] == "promoter"]
        assert (promoter["start"] == promoter["bin"] * 100 - 2000).all()
        assert (bins["end"] > bins["start"]).all()


def test_bins_that_all_stay_give_the_prediction(persons):
    knockout, (row, _) = persons
    bins = BinSums.make(knockout, row)
    kept = np.ones((1, len(bins.labels)), bool)
    off = knockout.network.predict(bins.hidden(knockout.network, kept))[0] - forward(
        knockout, row, []
    )
    assert np.abs(off / scale(knockout)).max() < 2e-5


# -- pairs of genes ------------------------------------------------------------------------------


def test_rho_of_rows_is_scipys():
    random = np.random.default_rng(0)
    a, b = random.random((2, 20, 31)).astype(np.float32)
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(row_spearman(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(row_spearman(a, a), 1, atol=1e-6)
    np.testing.assert_allclose(row_spearman(a, -a), -1, atol=1e-6)


def test_the_regression_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(1)
    removed = random.random((300, 7)) < 0.5
    response = removed @ np.arange(7) / 10 + random.standard_normal(300)
    table, r_squared = regress(removed, response)
    oracle = api.OLS(response, api.add_constant(removed.astype(float))).fit()
    np.testing.assert_allclose(table["estimate"], oracle.params[1:], rtol=1e-9)
    np.testing.assert_allclose(table["std.error"], oracle.bse[1:], rtol=1e-9)
    np.testing.assert_allclose(table["statistic"], oracle.tvalues[1:], rtol=1e-9)
    np.testing.assert_allclose(table["p.value"], oracle.pvalues[1:], rtol=1e-8)
    np.testing.assert_allclose(table["p.bonferroni"], np.minimum(1, 7 * oracle.pvalues[1:]))
    assert r_squared == pytest.approx(oracle.rsquared, abs=1e-12)


def test_too_few_removals_are_refused():
    with pytest.raises(UsageError, match="do not tell 30 terms apart"):
        regress(np.ones((35, 30), bool), np.zeros(35))


def test_a_removal_of_regulators_is_that_of_the_networks_inputs(persons):
    knockout, pair = persons
    study = knock_out_pair(knockout, pair, removals=400, seed=3)
    names = knockout.resolution.features.astype(str)
    cells, feature = knockout.cells(np.array(pair))
    terms = np.unique(feature[feature >= 0])
    removed = np.random.default_rng(3).random((400, terms.size)) < 0.5
    for i in (0, 7, 399):
        gone = channels(knockout, *terms[removed[i]])
        one, two = (forward(knockout, row, gone) for row in pair)
        assert study.rhos[i] == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-6)
    intact = stats.spearmanr(*(forward(knockout, row, []) for row in pair)).statistic
    assert study.intact == pytest.approx(intact, abs=1e-6)
    both = study.regression.set_index(["class", "term"])["sites"]
    owners = {row: set(feature[cells.rows() == row]) for row in (0, 1)}
    for term in terms[::40]:
        expected = {(True, True): "both", (True, False): "first", (False, True): "second"}[
            term in owners[0], term in owners[1]
        ]
        assert both[names["class"][term], names["regulator"][term]] == expected


def test_sites_may_go_from_one_gene_only(persons):
    knockout, pair = persons
    study = knock_out_pair(knockout, pair, removals=400, remove_from="first")
    assert set(study.regression["sites"]) == {"first"}
    turned = knock_out_pair(knockout, pair[::-1], removals=400, remove_from="second")
    np.testing.assert_allclose(turned.rhos, study.rhos, atol=1e-6)


def test_seeds_decide(persons):
    knockout, pair = persons
    one, same, other = (
        knock_out_pair(knockout, pair, removals=400, seed=seed).rhos for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_removal_of_bins_is_that_of_full_matrices(persons):
    knockout, pair = persons
    first, second = disrupt_pair(knockout, pair, removals=200, seed=5)
    for number, study in enumerate((first, second)):
        bins = BinSums.make(knockout, pair[number])
        removed = np.random.default_rng((5, number)).random((200, len(bins.labels))) < 0.5
        full = {
            s: m.astype(float) for s, m in knockout.bound.full(np.array([pair[number]])).items()
        }
        for (side, place), gone in zip(bins.labels, removed[11], strict=True):
            if gone:
                tracks = knockout.model.manifest.inputs[side].tracks
                placed = 1 + np.flatnonzero([track.kind != TARGETS for track in tracks])
                full[side][0, place, placed] = 0
        chosen = [knockout.model.outputs.index(output.name) for output in knockout.outputs]
        mine = knockout.model.network.forward(full)[0][chosen]
        other = forward(knockout, pair[1 - number], [])
        assert study.rhos[11] == pytest.approx(stats.spearmanr(mine, other).statistic, abs=1e-6)
        assert study.regression["gene"].unique().tolist() == [
            knockout.bound.features.rows.ids[pair[number]]
        ]


def test_pairs_need_persons():
    knockout = Knockout.make(dz.load("gtex-tissue-v1"), outputs=["Liver", "median_log2_tpm"])
    with pytest.raises(UsageError, match="persons at least"):
        knock_out_pair(knockout, (0, 1))


# -- the command line ----------------------------------------------------------------------------


def test_knockouts_from_the_command_line(call, tmp_path):
    (tmp_path / "genes.txt").write_text("ALB\nnope\nTP53\n")
    code, out, err = call(
        "study",
        "knockout",
        "--model",
        "gtex-tissue-v1",
        tmp_path / "genes.txt",
        "--outputs",
        "Liver,Lung",
        "--double",
        "HNF4A,CEBPA",
        "-o",
        tmp_path / "out",
    )
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out")
    deltas = pd.read_csv(tmp_path / "out/deltas.tsv", sep="\t")
    assert list(deltas)[:4] == ["gene_id", "symbol", "class", "regulator"]
    assert set(deltas["symbol"]) == {"ALB", "TP53"}
    knockout = Knockout.make(dz.load("gtex-tissue-v1"), outputs=["Liver", "Lung"])
    (found,) = knockout.run(rows_of(knockout, ["ALB", "TP53"]))
    np.testing.assert_allclose(deltas[["Liver", "Lung"]], found.values, rtol=1e-5, atol=1e-7)
    strongest = pd.read_csv(tmp_path / "out/strongest.tsv", sep="\t")
    assert strongest["change"].abs().is_monotonic_decreasing
    assert strongest["change"].abs().iloc[0] == pytest.approx(np.abs(found.values).max(), rel=1e-5)
    double = pd.read_csv(tmp_path / "out/double.tsv", sep="\t")
    off = double["change_both"] - double["change_first"] - double["change_second"]
    np.testing.assert_allclose(off, double["interaction"], atol=2e-6)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["not_knocked_out"] == {"nope": "unknown_gene"}
    assert summary["provenance"]["model"]["id"] == "gtex-tissue-v1"
    assert "1 names without sites or unknown" in err


def test_parquet_holds_the_same(call, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "genes.txt").write_text("ALB\nTP53\n")
    common = (
        "study",
        "knockout",
        "--model",
        "gtex-tissue-v1",
        tmp_path / "genes.txt",
        "--outputs",
        "Liver",
        "--regulators",
        "SPI1,HNF4A,RBP:SND1",
    )
    assert call(*common, "-o", tmp_path / "a")[0] == 0
    assert call(*common, "-o", tmp_path / "b", "--format", "parquet")[0] == 0
    a = pd.read_csv(tmp_path / "a/deltas.tsv", sep="\t")
    b = pd.read_parquet(tmp_path / "b/deltas.parquet")
    assert set(a["regulator"]) <= {"SPI1", "HNF4A", "SND1"}
    np.testing.assert_allclose(a["Liver"], b["Liver"], rtol=1e-5)
    assert a["regulator"].tolist() == b["regulator"].tolist()


def test_places_from_the_command_line(call, tmp_path):
    if not (ROOT / "zoo/features/hg38-open-v2/sites.npz").is_file():
        pytest.skip("no positions (sites.npz)")
    (tmp_path / "genes.txt").write_text("ALB\n")
    code, _, err = call(
        "study",
        "disrupt",
        "--model",
        "gtex-tissue-v1",
        tmp_path / "genes.txt",
        "--outputs",
        "Liver",
        "-o",
        tmp_path / "out",
    )
    assert code == 0, err
    bins = pd.read_csv(tmp_path / "out/bins.tsv", sep="\t")
    assert set(bins["side"]) == {"promoter", "rna"}
    sides = pd.read_csv(tmp_path / "out/sides.tsv", sep="\t")
    assert len(sides) == 2
    assert (tmp_path / "out/bins.svg").read_text().startswith("<?xml")


def test_a_pair_from_the_command_line(call, tmp_path):
    opened("gtex-heart-person-v1")
    code, _, err = call(
        "study",
        "pair",
        "LAPTM5,CD53",
        "--model",
        "lcl-person-v1",
        "--model",
        "gtex-heart-person-v1",
        "--removals",
        1000,
        "-o",
        tmp_path / "out",
    )
    assert code == 0, err
    across = pd.read_csv(tmp_path / "out/across.tsv", sep="\t")
    # A published finding, and no matter of luck: in each model the strongest by far.
    assert across["term"][0] == "SPI1"
    regression = pd.read_csv(tmp_path / "out/regression.tsv", sep="\t")
    assert {"term", "estimate", "std.error", "statistic", "p.value"} <= set(regression)
    assert set(regression["model"]) == {"lcl-person-v1", "gtex-heart-person-v1"}
    assert (tmp_path / "out/intervals.tsv").is_file()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("knockout", "--model", "gtex-tissue-v1", "GENES", "--regulators", "NOPE"), 2, "no regul"),
        (("knockout", "--model", "gtex-tissue-v1", "GENES", "--double", "SPI1"), 2, "no pair"),
        (("knockout", "--model", "gtex-tissue-v1", "GENES", "--double", "SPI1,SPI1"), 2, "twice"),
        (("knockout", "--model", "gtex-tissue-v1"), 2, "Give either"),
        (("knockout", "--model", "gtex-tissue-v1", "EMPTY"), 4, "none of 1 genes"),
        (("disrupt", "--model", "gtex-tissue-v1", "EMPTY"), 4, "none of 1 genes"),
        (("pair", "LAPTM5", "--model", "gtex-tissue-v1"), 2, "no pair of genes"),
        (("pair", "LAPTM5,nope", "--model", "gtex-tissue-v1"), 4, "'nope' is not known"),
        (("pair", "TP53,TP53", "--model", "gtex-tissue-v1"), 2, "one gene"),
        (("pair", "TP53,ALB", "--model", "gtex-tissue-v1", "--removals", "20"), 2, "Draw more"),
    ],
)
def test_faults_are_told_and_nothing_is_left(call, tmp_path, arguments, code, message):
    (tmp_path / "genes.txt").write_text("ALB\n")
    (tmp_path / "empty.txt").write_text("nope\n")
    files = {"GENES": tmp_path / "genes.txt", "EMPTY": tmp_path / "empty.txt"}
    found, _, err = call(
        "study", *(files.get(word, word) for word in arguments), "-o", tmp_path / "out"
    )
    assert found == code, err
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "genes.txt"]


def test_lists_are_no_single_strings(tmp_path):
    from decode_zoo.studies.removal import study_disruption

    with pytest.raises(UsageError, match="not a single string"):
        study_disruption(dz.load("gtex-tissue-v1"), "ALB")
    with pytest.raises(InputError, match="none of"):
        study_disruption(dz.load("gtex-tissue-v1"), ["nope"])
