"""Attributions of real genes: against oracles, additivity, invariances, and what tables say."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

import decode_zoo as dz
from decode_zoo.attribution.scores import Attribution, Level, Summary
from decode_zoo.core.arrays import write_arrays
from decode_zoo.core.errors import ArtifactError, InputError, UsageError
from decode_zoo.features.spec import SIDES
from tests.oracle import brute_force, deep_explainer, manifest_background, padded
from tests.test_network import CONFIGS, random_network

ROOT = Path(__file__).resolve().parents[1]

# RNAs shorter and longer than the background's 3,829 nt, and than a kernel; a promoter window that
# the chromosome's end clips (MT-TF); many sites (ENO1) and few (HBB).
GENES = ["TP53", "ALB", "ACTB", "ENO1", "HBB", "MT-TF", "SNORD99"]
MANY = [*GENES, "MYC", "GAPDH", "TTR", "BRCA2", "SPI1", "GATA1", "CD4", "INS", "XIST"]
SOME_OUTPUTS = ["Liver", "Lung", "median_log2_tpm"]
RESOLUTIONS = ["class", "regulator", "track", "position"]
NAMES = {"class": ["class"], "regulator": ["class", "regulator"]}
NAMES |= {by: ["class", "regulator", "track"] for by in ("track", "position")}


@pytest.fixture(scope="module")
def published():
    """A published model with its positions, which only a checkout has."""
    folder = ROOT / "zoo/features/hg38-open-v1"
    if not (folder / "sites.npz").is_file():
        pytest.skip("no positions (sites.npz)")
    features = dz.load_features(folder)
    model = dz.load("gtex-tissue-decode-v1")
    return dz.Model(model.manifest, model.locate, lambda: features)


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["decode"]


@pytest.fixture(scope="module", params=RESOLUTIONS)
def by(request):
    return request.param


@pytest.fixture(scope="module")
def explained(model, by):
    """Some genes, some outputs, at every resolution."""
    return model.explain(MANY, by=by, outputs=SOME_OUTPUTS)


def without_sites(model):
    """Rows to which nothing binds that the model knows."""
    bound = model.bind()
    return np.flatnonzero(
        sum(np.diff(bound.features.sums(side)[0][:, bound.columns[side]].indptr) for side in SIDES)
        == 0
    )


def same(a: Attribution, b: Attribution) -> None:
    """Two attributions are equal to the bit."""
    pd.testing.assert_frame_equal(a.genes, b.genes)
    for name in ("indptr", "feature", "bin", "scores", "prediction", "reference", "sum_of_scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.parents, a.rna_lengths, a.outputs) == (b.parents, b.rna_lengths, b.outputs)


def dense(attribution, like):
    """Scores by position of one gene, each side in an array of the same shape as another."""
    channels = np.argsort(attribution.resolution.of_channel)[attribution.feature]
    first = {"promoter": 0, "rna": like["promoter"].shape[1]}
    found = {}
    for side in SIDES:
        own = (channels >= first["rna"]) == (side == "rna")
        found[side] = np.zeros_like(like[side])
        found[side][attribution.bin[own], channels[own] - first[side]] = attribution.scores[own]
    return found


# -- oracles -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("shap") is None or find_spec("tensorflow") is None, reason="no shap or TensorFlow"
)
def test_published_model_equals_shap(published):
    """On every bin and channel, for all outputs."""
    model, features = published, published.features
    genes = ["TP53", "ENO1", "MT-TF", "SNORD99", features.rows.ids[without_sites(published)[0]]]
    rows = [features.row(gene) for gene in genes]
    lengths = [features.rows.rna_lengths[row] for row in rows]
    assert min(lengths) < 100 < model.manifest.inputs["rna"].background < max(lengths)
    assert features.row("MT-TF") in features.clipped_windows()[:, 0]
    matrices = [model.bind().full(np.array([row])) for row in rows]
    *matrices, reference = padded(*matrices, manifest_background(model.manifest))
    explain = deep_explainer(model.network, reference)
    ours = model.explain(genes, by="position")
    for i, matrix in enumerate(matrices):
        expected = {side: values[0] for side, values in explain(matrix).items()}
        found = dense(ours.slice(i, i + 1), expected)
        for side in SIDES:
            off = (found[side] - expected[side]) / model.network.output_scale
            assert np.abs(off).max() <= 1e-5


@pytest.fixture(
    scope="module",
    params=[
        CONFIGS[0],
        CONFIGS[2],
        replace(CONFIGS[0], conv_relu=True, promoter_layers=2),
        replace(CONFIGS[2], conv_relu=True),
    ],
    ids=["linear", "wide", "conv-relu", "conv-relu-wide"],
)
def made(request, model, tmp_path_factory):
    """A bundle with random weights for the toy feature set."""
    config, folder = request.param, tmp_path_factory.mktemp("made")
    inputs = {
        side: replace(frozen, kernel=config.kernels[side])
        for side, frozen in model.manifest.inputs.items()
    }
    network = random_network(config, [len(inputs[side].scale) for side in SIDES], 3)
    weights = {
        name: values / 3 if name.endswith("kernel") else values
        for name, values in network.weights.items()
    }
    write_arrays(folder / "weights.npz", weights)
    manifest = replace(
        model.manifest,
        network=config,
        inputs=inputs,
        pooling="none" if config.conv_relu else "exact",
        features={"id": "another", "sha256": ""},  # whose known answers are not asked for
    )
    return dz.Model(manifest, lambda name: folder / name, lambda: model.features)


@pytest.mark.parametrize("background", [None, ["ALB", "SNORD99"]])
def test_every_family_equals_brute_force_on_real_genes(made, model, background):
    """At every resolution, averaged over backgrounds, in bins that only those have too."""
    options = {"features": model.features, "background": background}
    bound, scale = made.bind(model.features), made.network.output_scale

    def full(gene):
        return bound.full(np.array([bound.features.row(gene)]))

    ours = {by: made.explain(GENES, by=by, **options) for by in RESOLUTIONS}
    references = [full(gene) for gene in background or []] or [manifest_background(made.manifest)]
    for i, gene in enumerate(GENES):
        matrix, *others = padded(full(gene), *references)
        parts = [brute_force(made.network, matrix, other) for other in others]
        expected = {side: np.mean([part[side] for part in parts], axis=0) for side in SIDES}
        size = max(1, *(np.abs(values / scale).max() for values in expected.values()))
        found = dense(ours["position"].slice(i, i + 1), expected)
        for side in SIDES:
            assert np.abs((found[side] - expected[side]) / scale).max() <= 1e-6 * size
        by_channel = np.concatenate([expected[side].sum(axis=0) for side in SIDES])
        for by in RESOLUTIONS[:3]:
            own = ours[by].slice(i, i + 1)
            whole = np.zeros((len(own.resolution.features), scale.size))
            np.add.at(whole, own.resolution.of_channel, by_channel)
            whole[own.feature] -= own.scores
            assert np.abs(whole / scale).max() <= 1e-6 * size
        for attribution in ours.values():
            assert np.abs(attribution.delta[i] / scale).max() <= 1e-6 * size


# -- additivity ----------------------------------------------------------------------------------


def test_scores_of_published_models_add_up(published):
    """And genes without sites have scores of masks only."""
    rows = np.union1d(np.arange(0, len(published.features), 200), without_sites(published)[:100])
    attribution = published.explainer(by="class").explain(rows)
    assert attribution.largest_delta <= 1e-5
    bare = np.isin(rows, without_sites(published))[attribution.entry_rows()]
    regulators = ~attribution.resolution.is_mask[attribution.feature]
    assert bare.any()
    assert not (regulators & bare).any()


def test_scores_add_up_to_the_models_predictions(model, by):
    attribution = model.explain(by=by)
    totals = attribution.totals()
    genes, sums = model.predict(backend="numpy"), ["prediction", "reference", "sum_of_scores"]
    assert list(totals.columns) == ["gene_id", "output", *sums, "delta"]
    expected = [[gene, output] for gene in genes["gene_id"] for output in model.outputs]
    assert totals[["gene_id", "output"]].to_numpy().tolist() == expected
    np.testing.assert_array_equal(attribution.prediction, genes[model.outputs].to_numpy(float))
    np.testing.assert_array_equal(
        totals["delta"], totals["prediction"] - totals["reference"] - totals["sum_of_scores"]
    )
    assert totals["delta"].abs().max() == attribution.largest_delta <= 1e-5
    of_frame = attribution.to_frame().groupby(["gene_id", "output"], observed=True)["score"].sum()
    keys = pd.MultiIndex.from_frame(totals[["gene_id", "output"]])
    np.testing.assert_allclose(totals["sum_of_scores"], of_frame[keys], rtol=0, atol=1e-4)


def test_what_equals_the_background_scores_zero(model, by):
    attribution = model.explain(["ACTB", "ALB"], by=by, background=["ACTB"])
    assert not attribution.slice(0, 1).feature.size, "what equals the reference has no entry"
    assert (attribution.sum_of_scores[0] == 0).all()
    assert np.abs(attribution.slice(1, 2).scores).max() > 0
    bare = model.explainer(by=by).explain(without_sites(model))
    assert set(bare.to_frame()["class"]) == {"mask"}
    assert bare.top(5).empty


# -- invariances ---------------------------------------------------------------------------------


def test_a_gene_does_not_depend_on_its_neighbours(model, explained, by, monkeypatch):
    """To the bit: order, chunks, genes that are asked for twice, what is worked on at a time."""
    explainer = model.explainer(by=by, outputs=SOME_OUTPUTS)
    rows = model.rows_of(MANY, explainer.bound).rows
    order = np.random.default_rng(0).permutation(rows.size)
    shuffled = explainer.explain(rows[order])
    for i, j in enumerate(np.argsort(order)):
        same(shuffled.slice(j, j + 1), explained.slice(i, i + 1))
    for size in (1, 7):
        for start in range(0, rows.size, size):
            part = explainer.explain(rows[start : start + size])
            same(part, explained.slice(start, min(start + size, rows.size)))
    twice = [*MANY, "TP53", "ENSG00000141510", "ENSG00000141510.12"]
    same(model.explain(twice, by=by, outputs=SOME_OUTPUTS), explained)
    monkeypatch.setattr("decode_zoo.attribution.explainer.BLOCK", 3)
    same(explainer.explain(rows), explained)


def test_genes_of_a_published_model_do_not_depend_on_blocks(published):
    rows = np.random.default_rng(1).choice(len(published.features), 150, replace=False)
    explainer = published.explainer(outputs=["Liver"])
    whole = explainer.explain(rows)
    same(explainer.explain(rows[::-1]).slice(0, 50), explainer.explain(rows[::-1][:50]))
    for i in (0, 63, 64, 149):
        same(explainer.explain(rows[i : i + 1]), whole.slice(i, i + 1))


def test_outputs_do_not_depend_on_each_other(model, by):
    """Each output alone against all together: in float64 to 1e-12 of its scale, and so in float32
    to the last bit but one (matrix products of other widths round otherwise)."""
    whole = model.explain(GENES, by=by)
    for place, output in enumerate(model.manifest.outputs):
        alone = model.explain(GENES, by=by, outputs=[output.name])
        np.testing.assert_array_equal(alone.feature, whole.feature)
        np.testing.assert_array_equal(alone.prediction[:, 0], whole.prediction[:, place])
        off = alone.sum_of_scores[:, 0] - whole.sum_of_scores[:, place]
        assert np.abs(off).max() <= 1e-12 * output.scale
        np.testing.assert_allclose(
            alone.scores[:, 0], whole.scores[:, place], rtol=2e-7, atol=1e-12 * output.scale
        )


def test_threads_change_nothing(published):
    """To the bit, whatever the number of threads of the matrix library."""
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            found.append(published.explainer().explain(np.arange(0, 40000, 300)))
    same(*found)


# -- what an attribution says --------------------------------------------------------------------


def test_long_table(explained, by):
    """By gene as asked for, output as asked for, feature as laid out, bin."""
    frame, names = explained.to_frame(), NAMES[by]
    bins = ["bin"] if by == "position" else []
    assert list(frame.columns) == ["gene_id", "symbol", "output", *names, *bins, "score"]
    assert frame["score"].dtype == np.float32
    features = pd.MultiIndex.from_frame(explained.resolution.features)
    keys = pd.DataFrame(
        {
            "gene": pd.Index(MANY).get_indexer(frame["symbol"]),
            "output": pd.Index(SOME_OUTPUTS).get_indexer(frame["output"]),
            "feature": features.get_indexer(pd.MultiIndex.from_frame(frame[names])),
            "bin": frame["bin"] if bins else 0,
        }
    )
    order = list(keys.itertuples(index=False, name=None))
    assert len(frame) == explained.scores.size == len(set(order))
    assert order == sorted(order)
    liver = frame.loc[frame["output"] == "Liver", "score"]
    np.testing.assert_array_equal(liver, explained.scores[:, 0])


def test_kinds_of_tracks_fall_into_classes_and_sides_are_told_apart(model):
    inputs = model.manifest.inputs
    classes = {
        "tf": "TF",
        "tf_target": "TF",
        "histone": "chromatin",
        "open": "chromatin",
        "sequence": "sequence",
        "rna_modification": "RNA modification",
        "new": "new",
    }
    tracks = [
        replace(track, kind=kind, regulator="X", name=kind)
        for track, kind in zip(inputs["promoter"].tracks, classes, strict=False)
    ]
    promoter = replace(inputs["promoter"], tracks=tuple(tracks))
    rna = replace(inputs["rna"], tracks=(tracks[0],))
    manifest = replace(model.manifest, inputs={"promoter": promoter, "rna": rna})
    found = {by: Level.make(manifest, by) for by in RESOLUTIONS}
    by_class = found["class"].features["class"].to_numpy()[found["class"].of_channel]
    assert by_class.tolist() == ["mask", *classes.values(), "mask", "TF"]
    assert list(found["class"].features["class"].cat.categories) == [
        *("TF", "RBP", "miRNA", "chromatin", "sequence", "RNA modification", "new", "mask")
    ]
    # Sites and targets of a factor are one regulator; what is no TF of that name is another.
    regulators = found["regulator"].of_channel
    assert regulators[1] == regulators[2] == regulators[-1]
    assert len(set(regulators[1:8])) == len(set(classes.values()))
    # A track is one of its side: the other side may have one of the same name.
    for by in ("track", "position"):
        assert len(set(found[by].of_channel)) == 2 + len(tracks) + 1


@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_top_against_sorting(explained, k):
    frame = explained.to_frame()
    keys = {
        "gene": pd.Index(MANY).get_indexer(frame["symbol"]),
        "number": pd.Index(SOME_OUTPUTS).get_indexer(frame["output"]),
        "weakness": -frame["score"].abs(),
    }
    ordered = frame.assign(**keys).sort_values(list(keys), kind="stable")
    ordered = ordered[ordered["class"] != "mask"]
    expected = ordered.groupby(["gene", "number"]).head(k)[frame.columns]
    pd.testing.assert_frame_equal(explained.top(k), expected.reset_index(drop=True))


def test_matrix_is_the_long_table_spread_out(explained, by):
    matrix, names = explained.matrix("Lung"), NAMES[by]
    frame = explained.to_frame().query("output == 'Lung'")
    assert list(matrix.index) == list(explained.genes["gene_id"])
    features = explained.resolution.features.astype(str)
    assert list(matrix.columns.names) == names
    assert [key if len(names) > 1 else (key,) for key in matrix] == [
        *features.itertuples(index=False, name=None)
    ]
    columns = pd.MultiIndex.from_frame(features).get_indexer(
        pd.MultiIndex.from_frame(frame[names].astype(str))
    )
    expected = np.zeros(matrix.shape)
    np.add.at(expected, (matrix.index.get_indexer(frame["gene_id"]), columns), frame["score"])
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-5)


def test_scores_for_shap_add_up_to_the_prediction(explained):
    pytest.importorskip("shap")
    for number, output in enumerate(SOME_OUTPUTS):
        found = explained.to_shap(output)
        assert found.shape == (len(MANY), len(explained.resolution.features))
        np.testing.assert_array_equal(found.base_values, explained.reference[number])
        whole = found.base_values + found.values.sum(axis=1)
        np.testing.assert_allclose(whole, explained.prediction[:, number], rtol=0, atol=1e-5)
        names = [" ".join(row) for row in explained.resolution.features.astype(str).to_numpy()]
        assert (found.feature_names, found.output_names) == (names, output)
    with pytest.raises(UsageError, match="no output 'Kidney'"):
        explained.to_shap("Kidney")


@pytest.mark.parametrize("by", RESOLUTIONS[:3])
def test_summary_against_means_of_dense_tables(model, by):
    """Over all genes, those without an entry included; whole, and added up in parts."""
    attribution = model.explain(MANY, by=by, outputs=SOME_OUTPUTS)
    summary, features = attribution.summary(), attribution.resolution.features
    assert list(summary.columns) == ["output", *features, "mean", "mean_abs", "n_genes"]
    present = np.zeros((len(MANY), len(features)), int)
    present[attribution.entry_rows(), attribution.feature] = 1
    for output, own in summary.groupby("output", sort=False, observed=True):
        scores = attribution.matrix(output).to_numpy(float)
        pd.testing.assert_frame_equal(
            own[[*features]].reset_index(drop=True).astype(str), features.astype(str)
        )
        np.testing.assert_allclose(own["mean"], scores.mean(axis=0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(own["mean_abs"], np.abs(scores).mean(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(own["n_genes"], present.sum(axis=0))
    assert summary["output"].unique().tolist() == SOME_OUTPUTS
    parts = [Summary.of(attribution.slice(i, min(i + 5, len(MANY)))) for i in range(0, 16, 5)]
    table = sum(parts[1:], start=parts[0]).to_frame(attribution.resolution, attribution.outputs)
    pd.testing.assert_frame_equal(table, summary, rtol=1e-12)


def test_usage_is_the_variance_over_transcripts_of_a_gene(model):
    """The toy's genes taken as transcripts: one of a gene, then five, four of each of the next."""
    parents = ["a", *("b", "c") * 5, *("d",) * 5]
    bound = model.bind()
    rows = model.rows_of(MANY, bound).rows
    ids = bound.features.rows.ids
    of_gene = dict(zip(rows, parents, strict=True))
    gene_ids = [of_gene.get(row, gene) for row, gene in enumerate(ids)]
    features = replace(
        bound.features,
        rows=replace(bound.features.rows, gene_ids=gene_ids),
        layout=replace(bound.features.layout, level="transcript"),
        sha256="another",
    )
    asked = [ids[row] for row in rows]
    options = {"features": features, "outputs": SOME_OUTPUTS}
    attribution = model.explain(asked, **options)
    assert list(attribution.genes.columns) == ["transcript_id", "symbol"]
    assert attribution.to_frame().columns[0] == attribution.totals().columns[0] == "transcript_id"
    assert attribution.matrix("Liver").index.name == "transcript_id"
    assert attribution.parents == tuple(parents)
    assert set(model.explain([asked[0], "a"], **options).not_explained) == {"a"}
    usage = [
        np.mean([scores[np.array(parents) == gene].var(axis=0) for gene in "bcd"], axis=0)
        for scores in (attribution.matrix(name).to_numpy(float) for name in SOME_OUTPUTS)
    ]
    summary = attribution.summary()
    assert list(summary.columns)[-1] == "usage"
    np.testing.assert_allclose(summary["usage"], np.concatenate(usage), rtol=1e-9, atol=1e-12)
    # In parts that do not cut a gene.
    parts = [Summary.of(attribution.slice(*part)) for part in ((0, 11), (11, 16))]
    table = (parts[0] + parts[1]).to_frame(attribution.resolution, attribution.outputs)
    np.testing.assert_allclose(table["usage"], summary["usage"], rtol=1e-9, atol=1e-12)


def test_what_cannot_be_explained_is_told_and_tables_without_genes_have_columns(model, by):
    some = model.explain(["TP53", "nope", "ALB", "ENSG99999999999"], by=by, outputs=SOME_OUTPUTS)
    assert some.genes["symbol"].tolist() == ["TP53", "ALB"]
    assert some.not_explained == {"nope": "unknown_gene", "ENSG99999999999": "unknown_gene"}
    none = model.explain([], by=by, outputs=SOME_OUTPUTS)
    assert (len(none), none.largest_delta) == (0, 0)
    for table, like in (
        (none.to_frame(), some.to_frame()),
        (none.top(3), some.top(3)),
        (none.totals(), some.totals()),
    ):
        assert table.empty
        assert list(table.columns) == list(like.columns)
    assert none.matrix("Liver").shape == (0, len(none.resolution.features))
    if by != "position":
        assert (none.summary()["n_genes"] == 0).all()
        assert none.summary()[["mean", "mean_abs"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"by": "gene"}, UsageError, "class, regulator, track, position, not by 'gene'"),
        ({"outputs": ["Livr"]}, UsageError, "no output 'Livr'"),
        ({"outputs": ["Liver", "Liver"]}, UsageError, "twice"),
        ({"outputs": []}, UsageError, "empty"),
        ({"genes": "TP53"}, UsageError, "not a single string"),
        ({"background": "ACTB"}, UsageError, "list of background genes"),
        ({"background": []}, UsageError, "list of genes as background"),
        ({"background": ["ACTB", "nope"]}, InputError, "nope"),
        ({"features": "toy-sites-v9"}, ArtifactError, "toy-sites-v9"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(model, wrong, error, words):
    with pytest.raises(error, match=words):
        model.explain(**{"genes": ["TP53"], **wrong})


def test_what_an_attribution_cannot_give_is_refused(explained, model, by):
    with pytest.raises(UsageError, match="at least 1"):
        explained.top(0)
    with pytest.raises(UsageError, match="no output 'Kidney'"):
        explained.matrix("Kidney")
    if by == "position":
        with pytest.raises(UsageError, match="by position"):
            explained.summary()
    assert len(repr(explained)) + len(repr(model.explainer())) < 500
