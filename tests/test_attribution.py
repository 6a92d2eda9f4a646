"""Attributions of real genes: against oracles, additivity, invariances, and what tables say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.annotation import read_gtf
from decode_zoo.arrays import write_arrays
from decode_zoo.attribution import Attribution, Resolution, Summary
from decode_zoo.builder import build_features
from decode_zoo.errors import InputError, UsageError
from decode_zoo.genome import Genome
from decode_zoo.inputs import bind
from decode_zoo.layout import SIDES, Layout
from decode_zoo.manifest import FrozenInputs
from decode_zoo.network import DecodeConfig
from decode_zoo.runtime import NumpyBackend
from decode_zoo.sites import find_site_files
from tests.oracle import brute_force, deep_explainer, manifest_background, padded
from tests.test_network import random_network

ROOT = Path(__file__).resolve().parents[1]

# RNAs shorter and longer than the background's 3,829 nt, and than a kernel; a promoter window that
# the chromosome's end clips (MT-TF); many sites (ENO1) and few (HBB).
GENES = ["TP53", "ALB", "ACTB", "ENO1", "HBB", "MT-TF", "SNORD99"]
MANY = [*GENES, "MYC", "GAPDH", "TTR", "BRCA2", "SPI1", "GATA1", "CD4", "INS", "XIST"]
SOME_OUTPUTS = ["Liver", "Lung", "median_log2_tpm"]
RESOLUTIONS = ["class", "regulator", "track", "position"]
CLASSES = ["TF", "RBP", "miRNA", "chromatin", "sequence", "RNA modification", "mask"]
THREADS = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]


@pytest.fixture(scope="module")
def published():
    """A published model with its positions, which only a checkout has."""
    folder = ROOT / "zoo/features/hg38-open-v1"
    if not (folder / "sites.npz").is_file():
        pytest.skip("no positions (sites.npz)")
    features = dz.load_features(folder)
    return replace(dz.load("gtex-tissue-decode-v1"), open_features=lambda: features)


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["decode"]


def genes_without_sites(model):
    """Genes to which nothing binds that the model knows."""
    bound = model.bind()
    sites = sum(
        np.diff(bound.features.sums(side)[0][:, bound.columns[side]].indptr) for side in SIDES
    )
    return [bound.features.rows.ids[row] for row in np.flatnonzero(sites == 0)]


@pytest.fixture(scope="module")
def without_sites(model):
    return genes_without_sites(model)


@pytest.fixture(scope="module", params=RESOLUTIONS)
def by(request):
    return request.param


@pytest.fixture(scope="module")
def explained(model, by):
    """Some genes, some outputs, at every resolution."""
    return model.explain(MANY, by=by, outputs=SOME_OUTPUTS)


def same(a: Attribution, b: Attribution) -> None:
    """Two attributions are equal to the bit."""
    pd.testing.assert_frame_equal(a.genes, b.genes)
    for name in ("indptr", "feature", "bin", "scores", "prediction", "reference", "sum_of_scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.parents, a.rna_lengths, a.outputs) == (b.parents, b.rna_lengths, b.outputs)


def entries(attribution):
    """Scores by gene, feature and bin."""
    keys = [attribution.entry_rows(), attribution.feature, attribution.bin]
    return pd.DataFrame(attribution.scores, pd.MultiIndex.from_arrays(keys))


def sum_by_place(tables):
    return pd.concat(tables).groupby(level=[0, 1, 2]).sum()


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
    genes = [*GENES, genes_without_sites(published)[0]]
    lengths = [features.rna_lengths[features.rows.ids[features.row(gene)]] for gene in genes]
    background = model.manifest.inputs["rna"].background
    assert min(lengths) < 100 < background < max(lengths)
    assert features.row("MT-TF") in features.clipped_windows()[:, 0]
    bound = model.bind()
    matrices = [bound.full(np.array([features.row(gene)])) for gene in genes]
    *matrices, reference = padded(*matrices, manifest_background(model.manifest))
    explain = deep_explainer(model.network, reference)
    scale = model.network.output_scale
    ours = model.explain(genes, by="position")
    assert len(ours) == len(genes)
    for i, matrix in enumerate(matrices):
        expected = {side: values[0] for side, values in explain(matrix).items()}
        found = dense(ours.slice(i, i + 1), expected)
        for side in SIDES:
            assert np.abs((found[side] - expected[side]) / scale).max() <= 1e-5


FAMILIES = {
    "linear": DecodeConfig(rna_channels=4, promoter_channels=4, dense_width=6),
    "wide": DecodeConfig(
        rna_channels=3,
        rna_kernel=3,
        promoter_channels=3,
        promoter_kernel=2,
        promoter_layers=2,
        dense_layers=1,
        dense_width=5,
    ),
    "no-relu": DecodeConfig(
        rna_channels=4, promoter_channels=4, dense_width=6, full_relu=False, dense_layers=3
    ),
    "conv-relu": DecodeConfig(
        rna_channels=4, promoter_channels=4, dense_width=6, conv_relu=True, promoter_layers=2
    ),
    "conv-relu-wide": DecodeConfig(
        rna_channels=3,
        rna_kernel=3,
        promoter_channels=3,
        promoter_kernel=2,
        promoter_layers=2,
        conv_relu=True,
        dense_layers=1,
        dense_width=5,
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, model, tmp_path_factory):
    """A bundle with random weights on a few real tracks."""
    config, published = FAMILIES[request.param], model.manifest
    folder = tmp_path_factory.mktemp(request.param)
    inputs = {
        side: FrozenInputs(
            frozen.tracks[::2],
            frozen.scale[:1] + frozen.scale[1::2],
            config.kernels[side],
            frozen.background,
        )
        for side, frozen in published.inputs.items()
    }
    network = random_network(config, [len(inputs[side].scale) for side in SIDES], 3)
    weights = {
        name: values / 3 if name.endswith("kernel") else values
        for name, values in network.weights.items()
    }
    write_arrays(folder / "weights.npz", weights)
    manifest = replace(
        published,
        network=config,
        inputs=inputs,
        outputs=published.outputs[:3],
        pooling="none" if config.conv_relu else "exact",
    )
    made = dz.Model(manifest, lambda name: folder / name, model.open_features)
    names = {side: [track.name for track in inputs[side].tracks] for side in SIDES}
    bound = bind(model.features, names, config.kernels, layout=manifest.layout)
    answers = [
        tuple(made.network.forward(bound.full(np.array([bound.features.row(gene)])))[0].tolist())
        for gene in published.known_answers.genes
    ]
    known = replace(
        published.known_answers, values=tuple(answers), outputs=published.known_answers.outputs[:3]
    )
    made = replace(made, manifest=replace(manifest, known_answers=known))
    made._backends["numpy", "auto"] = NumpyBackend(made.network)  # there is no graph to check
    return made


@pytest.mark.parametrize("background", [None, ["ALB", "SNORD99"]])
def test_every_family_equals_brute_force_on_real_genes(made, background):
    bound, scale = made.bind(), made.network.output_scale

    def full(gene):
        if gene is None:
            return manifest_background(made.manifest)
        return bound.full(np.array([bound.features.row(gene)]))

    ours = {by: made.explain(GENES, by=by, background=background) for by in RESOLUTIONS}
    references = [full(gene) for gene in background or [None]]
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


def test_several_backgrounds_are_averaged(model, by):
    background = ["ACTB", "HBB", "ALB"]
    together = model.explain(GENES, by=by, outputs=SOME_OUTPUTS, background=background)
    alone = [
        model.explain(GENES, by=by, outputs=SOME_OUTPUTS, background=[gene]) for gene in background
    ]
    expected = sum_by_place([entries(attribution) for attribution in alone]) / 3
    found = entries(together)
    assert expected.index.equals(found.index)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for name in ("reference", "sum_of_scores"):
        mean = np.mean([getattr(attribution, name) for attribution in alone], axis=0)
        np.testing.assert_allclose(getattr(together, name), mean, rtol=0, atol=1e-12)
    predicted = model.predict(background, outputs=SOME_OUTPUTS, backend="numpy")
    mean = predicted[SOME_OUTPUTS].to_numpy(np.float64).mean(axis=0)
    np.testing.assert_allclose(together.reference, mean, atol=1e-6)


# -- additivity ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_scores_of_all_genes_add_up(published):
    """All genes, all outputs; and what has no sites gets no scores but the masks'."""
    model, without_sites = published, genes_without_sites(published)
    explainer, nothing = model.explainer(by="class"), set(without_sites)
    n_genes = n_without = 0
    for start in range(0, len(model.features), 8192):
        rows = np.arange(start, min(start + 8192, len(model.features)))
        attribution = explainer.explain(rows)
        assert attribution.largest_delta <= 1e-5
        bare = attribution.genes["gene_id"].isin(nothing).to_numpy()
        regulators = ~attribution.resolution.is_mask[attribution.feature]
        assert not (regulators & bare[attribution.entry_rows()]).any()
        n_genes, n_without = n_genes + len(attribution), n_without + bare.sum()
    assert n_genes == 57992
    assert n_without == len(without_sites) > 1000


def test_scores_add_up_at_every_resolution(model, by):
    attribution = model.explainer(by=by).explain(np.arange(len(model.features)))
    assert attribution.largest_delta <= 1e-5


def test_delta_is_a_column(explained):
    totals = explained.totals()
    assert list(totals.columns) == [
        "gene_id",
        "output",
        "prediction",
        "reference",
        "sum_of_scores",
        "delta",
    ]
    assert len(totals) == len(MANY) * len(SOME_OUTPUTS)
    delta = totals["prediction"] - totals["reference"] - totals["sum_of_scores"]
    np.testing.assert_array_equal(totals["delta"], delta)
    assert totals["delta"].abs().max() == explained.largest_delta <= 1e-5
    sums = explained.to_frame().groupby(["gene_id", "output"], observed=True, sort=False)["score"]
    keys = pd.MultiIndex.from_frame(totals[["gene_id", "output"]])
    np.testing.assert_allclose(totals["sum_of_scores"], sums.sum()[keys], rtol=0, atol=1e-4)


def test_totals_are_the_models_predictions(model, explained):
    predicted = model.predict(MANY, outputs=SOME_OUTPUTS, backend="numpy")[SOME_OUTPUTS]
    np.testing.assert_array_equal(explained.prediction, predicted.to_numpy(np.float64))
    pairs = explained.totals()[["gene_id", "output"]].to_numpy().tolist()
    genes = model.predict(MANY)["gene_id"]
    assert pairs == [[gene, output] for gene in genes for output in SOME_OUTPUTS]


def test_bins_that_only_the_background_has_count(model):
    """The published software sums over the gene's own bins: short RNAs lose what the rest adds."""
    gene = "SNORD99"
    attribution = model.explain([gene], by="position")
    (length,) = attribution.rna_lengths
    assert length < model.manifest.inputs["rna"].background
    features = attribution.resolution.features
    on_rna = attribution.resolution.on_rna[attribution.feature]
    behind = on_rna & (attribution.bin >= -(-length // 100))
    kept = attribution.scores[~behind].sum(axis=0, dtype=np.float64)
    lost = (attribution.prediction - attribution.reference)[0] - kept
    assert np.abs(lost).max() > 0.1
    assert attribution.largest_delta <= 1e-5
    # All that is lost is the length of the RNA.
    assert set(features["regulator"][attribution.feature[behind]]) == {"exon"}


def test_genes_without_sites_have_scores_of_masks_only(model, without_sites, by):
    attribution = model.explain(without_sites, by=by, outputs=SOME_OUTPUTS)
    assert len(attribution) == len(without_sites) > 0
    assert set(attribution.to_frame()["class"]) == {"mask"}
    assert attribution.top(5).empty
    summary_by = "regulator" if by == "position" else by
    summary = model.explain(without_sites, by=summary_by).summary()
    assert (summary.loc[summary["class"] != "mask", ["mean", "mean_abs", "n_genes"]] == 0).all(
        axis=None
    )


def test_a_gene_that_is_the_background_scores_zero(model, by):
    attribution = model.explain(["ACTB", "ALB"], by=by, background=["ACTB"])
    assert not attribution.slice(0, 1).feature.size, "what equals the reference has no entry"
    assert (attribution.sum_of_scores[0] == 0).all()
    assert np.abs(attribution.slice(1, 2).scores).max() > 0


def test_the_manifests_background_scores_zero(published):
    """A gene without sites and with an RNA as long as the background's."""
    background = published.manifest.inputs["rna"].background
    off = published.features.rna_lengths[genes_without_sites(published)] - background
    nearest = off.abs().idxmin()
    attribution = published.explain([nearest])
    assert np.abs(attribution.scores).max() <= 0.01 * max(1, abs(off[nearest]))
    assert "promoter" not in set(attribution.to_frame()["regulator"])


# -- invariances ---------------------------------------------------------------------------------


def test_a_gene_does_not_depend_on_the_batch(model, explained, by):
    """To the bit."""
    for i in (0, 5, len(MANY) - 1):
        same(model.explain([MANY[i]], by=by, outputs=SOME_OUTPUTS), explained.slice(i, i + 1))


def test_order_changes_nothing_but_the_order(model, explained, by):
    """To the bit."""
    order = np.random.default_rng(0).permutation(len(MANY))
    shuffled = model.explain([MANY[i] for i in order], by=by, outputs=SOME_OUTPUTS)
    for i, j in enumerate(np.argsort(order)):
        same(shuffled.slice(j, j + 1), explained.slice(i, i + 1))


def test_chunks_give_the_whole(model, explained, by, monkeypatch):
    """To the bit: whatever is asked for at a time, whatever is worked on at a time."""
    explainer = model.explainer(by=by, outputs=SOME_OUTPUTS)
    rows = model.rows_of(MANY, explainer.bound).rows
    for size in (1, 7, len(MANY)):
        for start in range(0, rows.size, size):
            part = explainer.explain(rows[start : start + size])
            same(part, explained.slice(start, min(start + size, rows.size)))
    monkeypatch.setattr("decode_zoo.explainer.BLOCK", 3)
    same(explainer.explain(rows), explained)


def test_many_genes_in_blocks(published):
    """To the bit, across the blocks that are worked on at a time."""
    rows = np.random.default_rng(1).choice(len(published.features), 150, replace=False)
    explainer = published.explainer(outputs=["Liver"])
    whole = explainer.explain(rows)
    same(explainer.explain(rows[::-1]).slice(0, 50), explainer.explain(rows[::-1][:50]))
    for i in (0, 63, 64, 149):
        same(explainer.explain(rows[i : i + 1]), whole.slice(i, i + 1))


def test_a_gene_asked_for_twice_is_explained_once(model, explained, by):
    twice = model.explain(
        [*MANY, "TP53", "ENSG00000141510", "ENSG00000141510.12"], by=by, outputs=SOME_OUTPUTS
    )
    same(twice, explained)


def test_outputs_do_not_depend_on_each_other(model, by):
    """Each output alone against all together: in float64 to 1e-12 of its scale, and so in float32
    to the last bit but one (matrix products of other widths round otherwise)."""
    whole = model.explain(GENES, by=by)
    for place in range(3):
        name = model.outputs[place]
        alone = model.explain(GENES, by=by, outputs=[name])
        np.testing.assert_array_equal(alone.feature, whole.feature)
        np.testing.assert_array_equal(alone.prediction[:, 0], whole.prediction[:, place])
        scale = model.manifest.outputs[place].scale
        off = alone.sum_of_scores[:, 0] - whole.sum_of_scores[:, place]
        assert np.abs(off).max() <= 1e-12 * scale
        np.testing.assert_allclose(
            alone.scores[:, 0], whole.scores[:, place], rtol=2e-7, atol=1e-12 * scale
        )
    backwards = model.explain(GENES, by=by, outputs=model.outputs[::-1])
    np.testing.assert_allclose(backwards.scores[:, ::-1], whole.scores, rtol=2e-7, atol=1e-12)


def test_threads_change_nothing():
    """To the bit, whatever the number of threads of the matrix library."""
    code = (
        "import hashlib, decode_zoo as dz; m = dz.load('gtex-tissue-decode-v1'); "
        "a = m.explainer().explain(m.rows_of(None, m.bind()).rows[:40000:300]); "
        "print(hashlib.sha256(a.scores.tobytes() + a.sum_of_scores.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **dict.fromkeys(THREADS, str(n))},
        ).stdout
        for n in (1, 2)
    }
    assert len(digests) == 1


def test_resolutions_add_up_to_each_other(model):
    found = {by: model.explain(MANY, by=by, outputs=SOME_OUTPUTS) for by in RESOLUTIONS}
    for coarse, fine in pairwise(RESOLUTIONS):
        scores, to = entries(found[fine]), found[coarse].resolution.features
        names = list(to.columns)
        of_feature = (
            found[fine]
            .resolution.features[names]
            .merge(to.reset_index(), on=names, how="left")["index"]
        )
        rows, features, _ = (scores.index.get_level_values(level) for level in range(3))
        summed = scores.groupby([rows, of_feature.to_numpy()[features]]).sum()
        expected = entries(found[coarse]).droplevel(2)
        assert summed.index.equals(expected.index)
        np.testing.assert_allclose(summed, expected, rtol=0, atol=1e-5)


# -- what an attribution says --------------------------------------------------------------------


def test_long_table(model, explained, by):
    frame = explained.to_frame()
    names = {"class": ["class"], "regulator": ["class", "regulator"]}
    names |= {"track": [*names["regulator"], "track"]}
    names |= {"position": [*names["track"], "bin"]}
    assert list(frame.columns) == ["gene_id", "symbol", "output", *names[by], "score"]
    assert frame["score"].dtype == np.float32
    assert len(frame) == explained.scores.size
    # By gene as asked for, output as asked for, feature as laid out, bin.
    places = {name: i for i, name in enumerate(MANY)}
    features = explained.resolution.features.astype(str)
    rank = {tuple(values): i for i, values in enumerate(features.to_numpy())}
    order = [
        (places[symbol], SOME_OUTPUTS.index(output), rank[tuple(map(str, key))], place)
        for symbol, output, *key, place in zip(
            *(frame[name] for name in ("symbol", "output", *features.columns)),
            frame["bin"] if by == "position" else np.zeros(len(frame), int),
            strict=True,
        )
    ]
    assert order == sorted(order)
    assert len(set(order)) == len(order)
    np.testing.assert_array_equal(
        frame.loc[frame["output"] == "Liver", "score"], explained.scores[:, 0]
    )


def test_classes_and_names_of_features(published):
    features = published.explain(["TP53"], by="track").resolution.features
    assert list(features["class"].cat.categories) == CLASSES
    assert features["class"].is_monotonic_increasing
    tracks = [track for side in SIDES for track in published.manifest.inputs[side].tracks]
    kinds = {
        "TF": {"tf"},
        "RBP": {"rbp", "rbp_other"},
        "miRNA": {"mirna"},
        "chromatin": {"histone", "open"},
    }
    found = set(features.itertuples(index=False, name=None))
    classes = {kind: name for name, own in kinds.items() for kind in own}
    expected = {(classes[track.kind], track.regulator, track.name) for track in tracks}
    # A factor that binds DNA and RNA is there as both.
    assert len(expected) == len(tracks) > len({track.name for track in tracks})
    assert found == expected | {("mask", "exon", "exon"), ("mask", "promoter", "promoter")}


def test_tracks_of_one_name_are_told_apart_by_side(model):
    inputs = model.manifest.inputs
    twin = inputs["promoter"].tracks[0]
    tracks = (twin, *inputs["rna"].tracks[1:])
    manifest = replace(
        model.manifest, inputs={**inputs, "rna": replace(inputs["rna"], tracks=tracks)}
    )
    for by, n in (("track", 2), ("position", 2), ("regulator", 1), ("class", 1)):
        resolution = Resolution.make(manifest, by)
        assert len(set(resolution.of_channel[[1, len(inputs["promoter"].tracks) + 2]])) == n


def test_kinds_of_tracks_fall_into_classes(model):
    inputs, n = model.manifest.inputs, len(model.manifest.inputs["promoter"].tracks)
    kinds = {
        "tf": "TF",
        "tf_target": "TF",
        "histone": "chromatin",
        "open": "chromatin",
        "sequence": "sequence",
        "rna_modification": "RNA modification",
        "new": "new",
    }
    tracks = tuple(
        replace(track, kind=kind, regulator="X", name=kind)
        for track, kind in zip(inputs["promoter"].tracks, kinds, strict=False)
    )
    promoter = replace(inputs["promoter"], tracks=tracks + inputs["promoter"].tracks[len(tracks) :])
    manifest = replace(model.manifest, inputs={**inputs, "promoter": promoter})
    by_class = Resolution.make(manifest, "class")
    found = by_class.features["class"].to_numpy()[by_class.of_channel[1 : 1 + len(tracks)]]
    assert dict(zip(kinds, found, strict=True)) == kinds
    # Sites and targets of a factor are one regulator; what is no TF of that name is another.
    regulators = Resolution.make(manifest, "regulator").of_channel[1 : 1 + n][: len(tracks)]
    assert len({*regulators[:2]}) == len({*regulators[2:4]}) == 1
    assert len({*regulators}) == len({*kinds.values()})


@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_top_against_sorting(explained, k):
    frame = explained.to_frame()
    keys = {
        "gene": frame["symbol"].map({name: i for i, name in enumerate(MANY)}).astype(int),
        "number": frame["output"].map({name: i for i, name in enumerate(SOME_OUTPUTS)}).astype(int),
        "weakness": -frame["score"].abs(),
    }
    ordered = frame.assign(**keys).sort_values(list(keys), kind="stable")
    ordered = ordered[ordered["class"] != "mask"]
    expected = ordered.groupby(["gene", "number"]).head(k)[frame.columns]
    pd.testing.assert_frame_equal(explained.top(k), expected.reset_index(drop=True))


def test_matrix(explained, by):
    matrix = explained.matrix("Lung")
    features = explained.resolution.features
    assert matrix.shape == (len(MANY), len(features))
    assert list(matrix.index) == list(explained.genes["gene_id"])
    assert list(matrix.columns.names) == list(features.columns)
    frame = explained.to_frame().query("output == 'Lung'")
    names = list(features.columns)
    summed = frame.groupby(["gene_id", *names], observed=True)["score"].sum()
    stacked = matrix.stack(list(range(matrix.columns.nlevels)), future_stack=True)
    stacked.index = pd.MultiIndex.from_tuples(stacked.index)
    summed.index = pd.MultiIndex.from_tuples([tuple(map(str, key)) for key in summed.index])
    np.testing.assert_allclose(stacked[summed.index], summed, rtol=0, atol=1e-5)
    assert (stacked.drop(summed.index) == 0).all()


def brute_force_summary(attribution):
    """Means over all genes, those without an entry included, from dense tables."""
    rows = []
    present = np.zeros((len(attribution), len(attribution.resolution.features)), bool)
    present[attribution.entry_rows(), attribution.feature] = True
    for output in [item.name for item in attribution.outputs]:
        scores = attribution.matrix(output).to_numpy(np.float64)
        rows.append(
            attribution.resolution.features.assign(
                mean=scores.mean(axis=0),
                mean_abs=np.abs(scores).mean(axis=0),
                n_genes=present.sum(axis=0),
                output=output,
            )
        )
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("by", RESOLUTIONS[:3])
def test_summary_against_means_of_dense_tables(model, by):
    attribution = model.explain(MANY, by=by, outputs=SOME_OUTPUTS)
    summary = attribution.summary()
    features = list(attribution.resolution.features.columns)
    assert list(summary.columns) == ["output", *features, "mean", "mean_abs", "n_genes"]
    expected = brute_force_summary(attribution)
    for name in ["output", *features]:
        assert summary[name].astype(str).tolist() == expected[name].astype(str).tolist()
    for name in ("mean", "mean_abs"):
        np.testing.assert_allclose(summary[name], expected[name], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(summary["n_genes"], expected["n_genes"])
    # In parts, as all genes are summarised.
    parts = [Summary.of(attribution.slice(i, i + 5)) for i in range(0, len(MANY) - 5, 5)]
    parts.append(Summary.of(attribution.slice(15, len(MANY))))
    table = sum(parts[1:], start=parts[0]).to_frame(attribution.resolution, attribution.outputs)
    pd.testing.assert_frame_equal(table, summary, rtol=1e-12)


def variance_over_transcripts(attribution):
    """Mean over genes with several transcripts of np.var over those, by output and feature."""
    counts = Counter(attribution.parents)
    several = [gene for gene, n in counts.items() if n > 1]
    parents = np.array(attribution.parents)
    found = []
    for output in attribution.outputs:
        scores = attribution.matrix(output.name).to_numpy(np.float64)
        found.append(np.mean([scores[parents == gene].var(axis=0) for gene in several], axis=0))
    return np.concatenate(found)


def test_usage_is_the_variance_over_transcripts(model):
    """Genes taken as transcripts of four genes, of which one has a single one."""
    attribution = model.explain(MANY, by="regulator", outputs=SOME_OUTPUTS)
    groups = ("a", *("b", "c") * 5, *("d",) * 5)
    assert "usage" not in attribution.summary().columns
    grouped = replace(attribution, parents=groups)
    summary = grouped.summary()
    assert list(summary.columns)[-1] == "usage"
    np.testing.assert_allclose(
        summary["usage"], variance_over_transcripts(grouped), rtol=1e-9, atol=1e-12
    )
    # In parts that do not cut a gene.
    apart = []
    for names in ("ab", "cd"):
        chosen = [i for i in range(len(MANY)) if groups[i] in names]
        part = model.explain([MANY[i] for i in chosen], by="regulator", outputs=SOME_OUTPUTS)
        apart.append(Summary.of(replace(part, parents=tuple(groups[i] for i in chosen))))
    whole = apart[0] + apart[1]
    table = whole.to_frame(grouped.resolution, grouped.outputs)
    np.testing.assert_allclose(table["usage"], summary["usage"], rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory):
    """Two genes with two and three transcripts and one with a single one, with sites of CTCF."""
    folder = tmp_path_factory.mktemp("transcripts")
    lines = [
        f'chr21\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}"; '
        f'transcript_id "{name}"; gene_name "S{gene}";\n'
        for gene, name, strand, start, end in (
            ("G1", "T1", "+", 10_000_000, 10_000_700),
            ("G1", "T1", "+", 10_001_000, 10_001_250),
            ("G1", "T2", "+", 10_000_900, 10_001_250),
            ("G2", "T3", "-", 10_100_000, 10_100_500),
            ("G2", "T4", "-", 10_100_000, 10_107_000),
            ("G2", "T5", "-", 10_104_000, 10_104_100),
            ("G3", "T6", "+", 10_200_000, 10_200_900),
        )
    ]
    (folder / "x.gtf").write_text("".join(lines))
    (folder / "promoter").mkdir()
    (folder / "promoter/CTCF@HepG2.bed").write_text(
        "chr21\t9999500\t9999900\nchr21\t10000850\t10001000\nchr21\t10104500\t10105100\n"
    )
    files = {"promoter": find_site_files(folder / "promoter", "promoter")}
    genome = Genome.named("hg38")
    rows = read_gtf(folder / "x.gtf", genome, level="transcript")
    return build_features(rows, genome, files, folder / "set", layout=Layout())


def test_transcripts(model, transcripts):
    options = {"features": transcripts, "fill_missing": True, "outputs": SOME_OUTPUTS}
    attribution = model.explain(by="track", **options)
    assert list(attribution.genes.columns) == ["transcript_id", "symbol"]
    names = list(attribution.genes["transcript_id"])
    assert sorted(names) == ["T1", "T2", "T3", "T4", "T5", "T6"]
    assert Counter(attribution.parents) == {"G1": 2, "G2": 3, "G3": 1}
    assert attribution.to_frame().columns[0] == attribution.totals().columns[0] == "transcript_id"
    assert attribution.matrix("Liver").index.name == "transcript_id"
    assert attribution.largest_delta <= 1e-5
    summary = attribution.summary()
    expected = variance_over_transcripts(attribution)
    np.testing.assert_allclose(summary["usage"], expected, rtol=1e-9, atol=1e-12)
    strong = summary[summary["usage"] > 1e-9]
    assert set(strong["track"]) == {"CTCF@HepG2", "exon"}
    lost = model.explain(["T1", "G1", "TP53"], **options).not_explained
    assert set(lost) == {"G1", "TP53"}


def test_what_cannot_be_explained_is_said(model):
    attribution = model.explain(["TP53", "nope", "ALB", "ENSG99999999999"])
    assert attribution.genes["symbol"].tolist() == ["TP53", "ALB"]
    assert attribution.not_explained == {"nope": "unknown_gene", "ENSG99999999999": "unknown_gene"}


def test_zero_genes(model, by):
    for genes in ([], ["nope"]):
        none = model.explain(genes, by=by, outputs=SOME_OUTPUTS)
        assert len(none) == 0
        whole = model.explain(["TP53"], by=by, outputs=SOME_OUTPUTS)
        for table, like in (
            (none.to_frame(), whole.to_frame()),
            (none.top(3), whole.top(3)),
            (none.totals(), whole.totals()),
        ):
            assert table.empty
            assert list(table.columns) == list(like.columns)
        assert none.matrix("Liver").shape == (0, len(none.resolution.features))
        assert none.largest_delta == 0
        if by != "position":
            assert (none.summary()["n_genes"] == 0).all()
            assert none.summary()[["mean", "mean_abs"]].isna().all(axis=None)


def test_wrong_calls(model):
    for wrong, message in (
        ({"by": "gene"}, "class, regulator, track, position, not by 'gene'"),
        ({"outputs": ["Livr"]}, "no output 'Livr'"),
        ({"outputs": ["Liver", "Liver"]}, "twice"),
        ({"outputs": []}, "empty"),
        ({"outputs": "Liver"}, "not a single string"),
        ({"background": "ACTB"}, "list of genes as background"),
        ({"background": []}, "list of genes as background"),
        ({"features": "hg38-open-v1"}, "load_features"),
    ):
        with pytest.raises(UsageError, match=message):
            model.explain(["TP53"], **wrong)
    with pytest.raises(InputError, match="nope"):
        model.explain(["TP53"], background=["ACTB", "nope"])
    with pytest.raises(UsageError, match="not a single string"):
        model.explain("TP53")
    attribution = model.explain(["TP53"], outputs=["Liver"])
    with pytest.raises(UsageError, match="at least 1"):
        attribution.top(0)
    with pytest.raises(UsageError, match="no output 'Kidney'"):
        attribution.matrix("Kidney")
    with pytest.raises(UsageError, match="by position"):
        model.explain(["TP53"], by="position", outputs=["Liver"]).summary()
    assert len(repr(attribution)) + len(repr(model.explainer())) < 500
