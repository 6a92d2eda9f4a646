"""The comparison of predictors (benchmarks/accuracy), on made-up genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

pytest.importorskip("matplotlib")

from benchmarks.accuracy import measures
from benchmarks.accuracy import plan as plans
from benchmarks.accuracy.__main__ import run
from benchmarks.accuracy.controls import (
    fold_cell,
    is_hepg2,
    is_tfea,
    without_tracks,
)
from benchmarks.accuracy.models import (
    Boosting,
    KernelSearch,
    distances,
    laplacian,
    predict_by_kernel_ridge,
    predict_by_ridge,
    predictions_of,
    scores_of,
    solve_kernel,
)
from benchmarks.accuracy.plan import Plan, boosted_outputs, chosen_jobs, gather, jobs_of
from benchmarks.accuracy.predictions import (
    Predictions,
    best_of,
    make_once,
    mean_of,
    path_of,
    read_predictions,
    side_by_side,
)
from benchmarks.accuracy.report import (
    Comparison,
    difference_table,
    fifths,
    pairs_of,
    summary_table,
)
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import MEDIAN, Split
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.members import PerceptronFit
from tests.made import N_GENES


@pytest.fixture
def plan(features, targets):
    return Plan(
        features,
        targets,
        {"features": features.sha256, "expression": "0" * 64},
        Split(("tf", "rbp"), min_genes=5, test=("1",), absent=("8",), validation_fraction=0.2),
        config=PerceptronConfig(encoder_width=8, dense_layers=1, dense_width=8),
        fit=PerceptronFit(epochs=2, seeds=(1, 2)),
        decode=DecodeConfig(rna_channels=4, promoter_channels=4, dense_width=8),
        decode_fit=FitConfig(max_epochs=2, seeds=(1, 2)),
        alphas=(1.0, 100.0),
        kernel=KernelSearch(alphas=(0.1, 1.0), widths=(1.0, 2.0), subset=100),
        boosting=Boosting(rounds=20, patience=5),
        boosted=2,
    )


@pytest.fixture
def dataset(plan):
    return plan.dataset()


# --- measures ---------------------------------------------------------------------------------


def with_ties(rng, n, m):
    """Values of which some are equal."""
    return np.round(rng.normal(size=(n, m)), 1)


def test_bootstrap_is_what_a_plain_loop_finds():
    rng = np.random.default_rng(0)
    observed, noise = with_ties(rng, 90, 3), rng.normal(size=(90, 3))
    models = {"tied": np.round(observed + noise, 0), "not": observed + noise}
    counts = measures.resample_counts(90, 40, seed=7)
    assert (counts[0] == 1).all()  # the first one is the data
    assert (counts.sum(axis=1) == 90).all()
    found = measures.bootstrap(models, observed, counts)
    for name, predicted in models.items():
        loop = np.empty((41, 3))
        for b, row in enumerate(counts.astype(int)):
            genes = np.repeat(np.arange(90), row)
            for m in range(3):
                loop[b, m] = stats.spearmanr(predicted[genes, m], observed[genes, m]).statistic
        np.testing.assert_allclose(found[name], loop, atol=1e-12)
        # and the table's mean and interval are those of the loop
        table = summary_table(
            Comparison("test", ("a", "b", MEDIAN), observed, {name: predicted}, 40, 7)
        )
        mean = loop[:, :2].mean(axis=1)
        np.testing.assert_allclose(
            table.loc[0, ["spearman", "low", "high"]].astype(float),
            [mean[0], *np.quantile(mean[1:], [0.025, 0.975])],
        )
    flat = measures.bootstrap({"flat": np.ones((90, 1))}, observed[:, :1], counts)["flat"][:, 0]
    assert np.isnan(measures.summary(flat)).all()


def test_specificity_against_scipy():
    rng = np.random.default_rng(0)
    a, b = with_ties(rng, 60, 4), with_ties(rng, 60, 4)
    rho = measures.specificity(a, b)
    oracle = [[stats.spearmanr(a[:, i], b[:, j]).statistic for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(rho, oracle)
    assert measures.own_best(measures.specificity(a, a)) == (4, 4)
    assert measures.own_best(np.array([[0.1, 0.3], [0.2, 0.4]])) == (1, 1)
    np.testing.assert_allclose(measures.centred(a).sum(axis=1), 0, atol=1e-12)


def test_slopes_and_bins_against_plain_numpy():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(80, 3)) * [1, 2, 3]
    observed = 2 * predicted + rng.normal(size=(80, 3)) + [1, 50, -50]
    counts = measures.resample_counts(80, 10, 0)
    found = measures.slopes(predicted, observed, counts)
    for b, row in enumerate(counts.astype(int)):
        genes = np.repeat(np.arange(80), row)
        x, y = (measures.within_tissues(values[genes]).ravel() for values in (predicted, observed))
        np.testing.assert_allclose(found[b], np.polyfit(x, y, 1)[0])
    bins = measures.calibration_bins(predicted, observed, 7)
    assert bins["n"].sum() == 240
    assert (np.diff(bins["predicted"]) > 0).all()
    np.testing.assert_allclose((bins["n"] * bins["observed"]).sum() / 240, observed.mean())
    # Means of tissues alone are no calibrated sizes.
    shuffled = rng.permutation(predicted)
    assert abs(measures.slopes(shuffled + np.array([1, 50, -50]), observed, counts)[0]) < 0.7
    pairs = measures.quantile_pairs(predicted, predicted * 3, 5)
    np.testing.assert_allclose(pairs["observed"], 3 * pairs["predicted"])


def test_differences_are_paired_and_on_common_outputs():
    rng = np.random.default_rng(0)
    observed = rng.normal(size=(70, 4))
    a, b = observed + rng.normal(size=(70, 4)), observed + rng.normal(size=(70, 4))
    b[:, 1] = np.nan
    found = Comparison("test", ("x", "y", "z", MEDIAN), observed, {"a": a, "b": b}, 50, 0)
    table = difference_table(found, [("a", "b")]).set_index("output")
    assert list(table.index) == ["mean of fold changes", "x", "z", MEDIAN]
    assert table.loc["mean of fold changes", "n_outputs"] == 2
    samples = (found.samples["a"] - found.samples["b"])[:, [0, 2]].mean(axis=1)
    np.testing.assert_allclose(
        table.loc["mean of fold changes", ["difference", "low", "high"]].astype(float),
        [samples[0], *np.quantile(samples[1:], [0.025, 0.975])],
    )
    same = difference_table(replace(found, predicted={"a": a, "b": a}), [("a", "b")])
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)


def test_fifths_are_of_the_same_size():
    labels = fifths(np.array([0] * 30 + list(range(20))), 0)
    assert sorted(pd.Series(labels).value_counts()) == [10] * 5


# --- controls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "same"),
    [
        ("HepG2 HEPG2 Hep-G2 Hep-G2_RELACS_10000cells Hep-G2_RBM25-KD", True),
        ("K562 SHEP21N liver Hep3B K562_HepG2", False),
    ],
)
def test_spellings_of_hepg2_are_one(cells, same):
    assert [fold_cell(cell) == "hepg2" for cell in cells.split()] == [same] * 5


def test_tracks_are_left_out_and_all_else_stays(dataset, features):
    for dropped, n_promoter, n_rna in ((is_hepg2, 4, 2), (is_tfea, 9, 6)):
        fewer = without_tracks(dataset, dropped)
        assert [len(fewer.tracks[side]) for side in ("promoter", "rna")] == [n_promoter, n_rna]
        for side, names in fewer.tracks.items():
            own = {track.name: track for track in features.side_tracks[side]}
            assert not any(dropped(own[name]) for name in names)
            before, after = (one.pooled(np.arange(9))[side] for one in (dataset, fewer))
            places = [0, *(1 + dataset.tracks[side].index(name) for name in names)]
            np.testing.assert_array_equal(after, before[:, :, places])
            np.testing.assert_array_equal(fewer.scale[side], dataset.scale[side][places])
        assert fewer.split is dataset.split
        assert fewer.targets is dataset.targets


# --- models -----------------------------------------------------------------------------------


def test_scores_are_standardised_on_training_genes(dataset):
    x = scores_of(dataset)
    assert x["training"].shape == (len(dataset.split.training), 1 + 12 + 1 + 8)
    assert x["training"].max() <= 6
    clipped = (x["training"] == 6).any(axis=0)
    np.testing.assert_allclose(x["training"][:, ~clipped].mean(axis=0), 0, atol=1e-4)


def test_distances_and_kernel_against_scipy():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 5)).astype(np.float32) for n in (31, 17))
    found = distances(a, b, block=8)
    np.testing.assert_allclose(found, cdist(a, b), rtol=1e-4)
    np.testing.assert_allclose(laplacian(found, 2.0), np.exp(-cdist(a, b) / 2), rtol=1e-4)
    kernel, y = laplacian(distances(a, a), 2.0), rng.normal(size=(31, 2))
    np.fill_diagonal(kernel, 1)
    oracle = np.linalg.solve(kernel.astype(np.float64) + 0.5 * np.eye(31), y)
    np.testing.assert_allclose(solve_kernel(kernel.copy(), 0.5, y), oracle, rtol=1e-3, atol=1e-4)


def test_kernel_ridge_is_that_of_scikit_learn(dataset):
    kernel_ridge = pytest.importorskip("sklearn.kernel_ridge")
    found = predict_by_kernel_ridge(dataset, KernelSearch((0.3,), (1.5,), 10_000))
    x, split = scores_of(dataset), dataset.split
    scale = np.array([output.scale for output in dataset.outputs])
    y = (dataset.targets.values / scale)[split.training]
    width = found.notes["width"] * found.notes["median_distance"]
    model = kernel_ridge.KernelRidge(alpha=0.3, kernel="precomputed")
    model.fit(np.exp(-cdist(x["training"], x["training"]) / width), y - y.mean(0))
    oracle = model.predict(np.exp(-cdist(x["test"], x["training"]) / width))
    np.testing.assert_allclose(found.values["test"], (oracle + y.mean(0)) * scale, atol=2e-3)


def test_ridge_learns_and_permuted_inputs_do_not(plan, dataset):
    observed, rho = dataset.targets.values[dataset.split.test], {}
    for variant in ("", "rna_permuted", "promoter_permuted"):
        found = predict_by_ridge(plan.dataset(variant), plan.alphas)
        rho[variant] = stats.spearmanr(found.values["test"][:, 0], observed[:, 0]).statistic
    assert min(rho[""], rho["rna_permuted"]) > 0.4
    assert abs(rho["promoter_permuted"]) < 0.3


def test_boosted_outputs_are_spread_evenly():
    chosen = [f"t{i}" for i in (0, 7, 15, 22, 30, 37, 45, 52)]
    assert boosted_outputs((*(f"t{i}" for i in range(53)), MEDIAN), 8) == [*chosen, MEDIAN]
    assert boosted_outputs(("a", "b", MEDIAN), 8) == ["a", "b", MEDIAN]


# --- files ------------------------------------------------------------------------------------


def made_predictions(value, outputs=("a", MEDIAN), **notes):
    genes = {"validation": ("g1",), "test": ("g2", "g3")}
    values = {part: np.full((len(names), len(outputs)), value) for part, names in genes.items()}
    return Predictions(outputs, genes, values, notes)


def test_predictions_are_made_once_and_again_with_other_settings(tmp_path):
    calls = []

    def make(value):
        calls.append(value)
        return made_predictions(value, alpha=value)

    first, second = {"a": 1, "b": [1, 2]}, {"a": 2, "b": [1, 2]}
    assert make_once(tmp_path, "x y/z", first | {"b": (1, 2)}, lambda: make(1.0))
    assert not make_once(tmp_path, "x y/z", first, lambda: make(2.0))
    assert make_once(tmp_path, "x y/z", second, lambda: make(3.0))
    assert calls == [1.0, 3.0]
    assert len(list(tmp_path.iterdir())) == 2
    found = read_predictions(path_of(tmp_path, "x y/z", first), first)
    assert found.values["test"].tolist() == [[1, 1], [1, 1]]
    assert found.genes == made_predictions(0).genes
    assert found.notes == {"alpha": 1.0}
    # Under another name it is refused.
    path_of(tmp_path, "x y/z", first).rename(path_of(tmp_path, "x y/z", {"a": 3}))
    with pytest.raises(InputError, match="other settings"):
        make_once(tmp_path, "x y/z", {"a": 3}, lambda: make(1.0))


def test_pieces_are_put_together():
    first = made_predictions(1.0, validation_loss=2)
    second = made_predictions(3.0, validation_loss=1)
    assert mean_of([first, second]).values["test"][0, 0] == 2
    assert best_of([first, second]) is second
    joined = side_by_side([made_predictions(1.0, ("a",)), made_predictions(2.0, ("b",))])
    assert joined.outputs == ("a", "b")
    assert joined.values["test"][0].tolist() == [1, 2]
    other = replace(first, genes={"validation": ("g9",), "test": ("g2", "g3")})
    with pytest.raises(InputError, match="different genes"):
        mean_of([first, other])


# --- the whole --------------------------------------------------------------------------------


def test_steps_are_chosen_by_model_pattern_or_name(plan):
    jobs = jobs_of(plan)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert {job.name for job in chosen_jobs(jobs, ["ours"])} == {"ours.1", "ours.2"}
    assert [job.name for job in chosen_jobs(jobs, ["lightgbm.Liver"])] == ["lightgbm.Liver"]
    assert len(chosen_jobs(jobs, ["ours*"])) == 12
    with pytest.raises(UsageError, match="no step 'rigde'"):
        chosen_jobs(jobs, ["rigde"])


def test_other_settings_or_data_are_other_files(plan, tmp_path):
    def paths(**changes):
        jobs = jobs_of(replace(plan, **changes))
        return {job.name: path_of(tmp_path, job.name, job.settings) for job in jobs}

    first = paths()
    for changes, changed in (
        ({"data": {**plan.data, "expression": "1" * 64}}, set(first)),
        ({"selection": replace(plan.selection, split_seed=1)}, set(first)),
        ({"alphas": (5.0,)}, {name for name in first if name.startswith("ridge")}),
        ({"fit": replace(plan.fit, seeds=(1, 2, 3))}, set()),
    ):
        other = paths(**changes)
        assert {name for name, path in first.items() if other[name] != path} == changed


@pytest.fixture
def quick(monkeypatch):
    """Networks that need no training: what ours predicts, with noise; a list of seeds asked for."""
    asked = []

    def network(dataset, config, fit, seed):
        asked.append(seed)
        noise = np.random.default_rng(seed).normal(size=dataset.targets.values.shape) * seed
        found = dataset.targets.values + noise
        return predictions_of(
            dataset,
            lambda part: found[getattr(dataset.split, part)],
            {"validation_loss": float(seed)},
        )

    monkeypatch.setattr(plans, "predict_by_network", network)
    return asked


def test_a_killed_run_goes_on_where_it_was(plan, tmp_path, quick):
    def kill(*arguments):
        raise KeyboardInterrupt

    steps = ("ours", "ridge", "kernel_ridge", "decode")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "predict_by_kernel_ridge", kill)
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path, steps)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert [name.split(".")[0] for name in before] == ["ridge"]
    assert run(plan, tmp_path, steps) == ""
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 1 + 1 + 2 + 2
    run(plan, tmp_path, steps)
    assert quick == [1, 2, 1, 2]  # nothing was made again
    models, missing = gather(jobs_of(plan), tmp_path)
    assert set(models) == {"ridge", "kernel_ridge", "ours", "decode", "decode_mean"}
    assert "rna_length" in missing
    assert models["decode"].notes["validation_loss"] == 1
    fewer = replace(plan, targets=plan.targets.take(np.arange(N_GENES - 60)))
    with pytest.raises(InputError, match="other genes"):
        run(fewer, tmp_path, ("report",))


def test_the_report_has_all_its_tables(plan, dataset, tmp_path, quick):
    pytest.importorskip("lightgbm")
    sources = {gene: ("v4", "v6")[i % 2] for i, gene in enumerate(plan.targets.gene_ids)}
    page = run(plan, tmp_path, sources=sources, resamples=100)
    report = tmp_path / "report"
    tables = "summary outputs differences specificity groups calibration quantiles chosen heatmap"
    pictures = ("summary", "outputs", "heatmap", "calibration", "groups")
    assert {path.name for path in report.iterdir()} == {
        *(f"{name}.tsv" for name in (*tables.split(), "heatmap_centred")),
        *(f"{name}.png" for name in pictures),
        "README.md",
    }
    assert page == (report / "README.md").read_text(encoding="utf-8")
    assert "Missing" not in page
    summary, outputs, differences, groups, specificity = (
        pd.read_csv(report / f"{name}.tsv", sep="\t")
        for name in ("summary", "outputs", "differences", "groups", "specificity")
    )
    assert (summary["low"] <= summary["spearman"]).all()
    predicted = gather(jobs_of(plan), tmp_path)[0]["ridge"].values["test"]
    observed = dataset.targets.values[dataset.split.test]
    oracle = [stats.spearmanr(predicted[:, i], observed[:, i]).statistic for i in range(5)]
    chosen = outputs[(outputs["part"] == "test") & (outputs["model"] == "ridge")]
    np.testing.assert_allclose(chosen["spearman"], oracle, atol=1e-4)
    pairs = set(zip(differences["model"], differences["other"], strict=True))
    assert {
        ("ours", "lightgbm"),
        ("ours_without_hepg2", "ours"),
        ("ridge_without_tfea", "ridge"),
    } <= pairs
    assert set(groups["grouping"]) >= {"biotype", "data source"}
    assert (specificity["tissues"] == 4).all()
    assert "lightgbm" not in set(specificity["model"])


def test_controls_of_a_bundle_are_compared_with_networks_trained_alike():
    models = ["ours", "ours_retrained", "ours_without_hepg2", "ridge", "ridge_without_hepg2"]
    assert pairs_of(models, "ours_retrained") == [
        ("ours", "ridge"),
        ("ours_without_hepg2", "ours_retrained"),
        ("ridge_without_hepg2", "ridge"),
    ]


@pytest.mark.slow
def test_networks_are_trained_one_a_seed(plan, tmp_path):
    pytest.importorskip("tensorflow")
    run(plan, tmp_path, ("ours_without_hepg2.1", "decode.1"))
    found = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert found == {"ours_without_hepg2", "decode"}
    assert {job.name for job in jobs_of(plan)} >= {"ours.2", "decode.2"}


@pytest.mark.slow
def test_a_bundle_brings_its_own_tracks_split_and_settings(plan, tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    from decode_zoo.training.pipeline import Description, train_bundle

    data = {"made.tsv": plan.data["expression"]}
    description = Description(
        "made-v1", "Made", "CC0-1.0", "nobody", (), plan.features.name, data, ()
    )
    selection = replace(plan.selection, kinds=("rbp", "tf"), min_genes=7)
    config, fit = replace(plan.config, members=1), replace(plan.fit, seeds=(1,))
    options = {"network": config, "fit": fit, "selection": selection}
    folder = tmp_path / "bundle"
    model = train_bundle(plan.features, plan.targets, folder, description, **options)
    bundled = plans.plan_for_bundle(plan, model, (1,))
    assert (bundled.selection, bundled.fit) == (selection, fit)
    steps = ("ours", "ours_retrained", "ridge", "report")
    run(bundled, tmp_path / "out", steps, resamples=100)
    models, _ = gather(jobs_of(bundled), tmp_path / "out")
    # Trained again with the bundle's settings and seed, its member gives what it gives.
    np.testing.assert_allclose(
        models["ours"].values["test"], models["ours_retrained"].values["test"], atol=2e-5
    )
    table = pd.read_csv(tmp_path / "out/report/differences.tsv", sep="\t")
    assert set(zip(table["model"], table["other"], strict=True)) == {("ours", "ridge")}
    with pytest.raises(UsageError, match="another feature set"):
        plans.plan_for_bundle(replace(plan, data={**plan.data, "expression": "1"}), model, (1,))
