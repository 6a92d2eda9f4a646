"""The perceptron: what it computes, how its scores add up, and bundles of it end to end."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import decode_zoo as dz
from decode_zoo.attribution.rules import PerceptronRule
from decode_zoo.core.errors import VerificationError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.backends import OnnxBackend
from decode_zoo.networks.forward import check_agreement
from decode_zoo.networks.inputs import SparseInputs
from decode_zoo.networks.perceptron import PerceptronConfig, PerceptronNetwork, Standardisation
from decode_zoo.training.dataset import make_dataset
from tests.made import SELECTION
from tests.oracle import deep_explainer, padded

CONFIG = PerceptronConfig(encoder_width=3, dense_width=5, members=2)
CHANNELS = {"promoter": 7, "rna": 5}


def random_network(config: PerceptronConfig = CONFIG, seed: int = 0) -> PerceptronNetwork:
    rng = np.random.default_rng(seed)
    scale = {side: rng.uniform(1, 50, n) for side, n in CHANNELS.items()}
    hollow = object.__new__(PerceptronNetwork)
    for name, value in (("config", config), ("input_scale", scale), ("output_scale", np.ones(4))):
        object.__setattr__(hollow, name, value)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in hollow.expected_shapes().items()
    }
    return PerceptronNetwork(config, weights, scale, rng.uniform(0.5, 2, 4))


def random_bins(rng, bins=6, density=0.4):
    return {
        side: np.where(rng.random((1, bins, n)) < density, rng.integers(1, 101, (1, bins, n)), 0)
        for side, n in CHANNELS.items()
    }


def cells_of(matrices) -> SparseInputs:
    parts, first = [], 0
    for side in SIDES:
        row, place, channel = np.nonzero(matrices[side])
        bases = matrices[side][row, place, channel]
        parts.append((row, channel + first, place, bases))
        first += CHANNELS[side]
    return SparseInputs.gather(1, parts)


def plainly(network: PerceptronNetwork, inputs) -> np.ndarray:
    """Predict, written once more from the definition."""
    outputs = []
    for member in range(network.config.members):
        arrays = {
            k.split("/", 1)[1]: v
            for k, v in network.weights.items()
            if k.startswith(f"member{member}/")
        }
        encoded = []
        for side in ("rna", "promoter"):
            roots = np.sqrt(inputs[side].sum(axis=1) / network.input_scale[side])
            z = (roots - network.weights[f"{side}/centre"]).clip(max=6)
            encoded.append(z @ arrays[side])
        x = np.concatenate(encoded, axis=1) @ arrays["dense0/kernel"] + arrays["dense0/bias"]
        x = x.clip(0) @ arrays["dense1/kernel"] + arrays["dense1/bias"]
        outputs.append(x.clip(0) @ arrays["outputs/kernel"] + arrays["outputs/bias"])
    return np.mean(outputs, axis=0) * network.output_scale


def test_a_prediction_is_the_mean_of_its_members_of_bins_and_of_sums():
    network, inputs = random_network(), random_bins(np.random.default_rng(1))
    found = network.forward(inputs)
    np.testing.assert_allclose(found, plainly(network, inputs), rtol=1e-6)
    sums = {side: values.sum(axis=1, keepdims=True) for side, values in inputs.items()}
    np.testing.assert_array_equal(network.forward(sums), found)
    some = network.select(np.array([2, 0]))
    np.testing.assert_allclose(some.forward(inputs), found[:, [2, 0]])


@pytest.mark.fault
def test_a_perceptron_of_other_arrays_than_described_is_refused():
    network = random_network()
    for name, array in (
        ("member0/rna", np.zeros((2, 2), np.float32)),
        ("promoter/centre", np.full(7, np.nan, np.float32)),
    ):
        with pytest.raises(VerificationError, match=name):
            replace(network, weights={**network.weights, name: array})


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 1e4), st.floats(0, 10))
def test_slopes_are_ratios_of_differences(a, b, scale, centre):
    standardise = Standardisation(np.array([scale]), np.array([centre]), 6.0)
    x, r = np.array([a]), np.array([b])
    rise = standardise.slopes(x, r) * (x - r)
    np.testing.assert_allclose(rise, standardise(x) - standardise(r), rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), n_references=st.integers(1, 3), positions=st.booleans())
def test_scores_add_up_whatever_the_background(seed, n_references, positions):
    rng, network = np.random.default_rng(seed), random_network(seed=seed % 7)
    rule, gene = PerceptronRule(network.fold(), positions=positions), random_bins(rng)
    references = [random_bins(rng, density=0.2) for _ in range(n_references)]
    x, backgrounds = cells_of(gene), [cells_of(r) for r in references]
    scores = rule.scores((x, x.channels), [(r, r.channels) for r in backgrounds])
    mean = np.mean([network.forward(r) for r in references], axis=0)
    np.testing.assert_allclose(rule.reference(backgrounds)[None], mean, atol=1e-9)
    difference = network.forward(gene) - mean
    np.testing.assert_allclose(scores.sums(), difference, atol=1e-9)


@pytest.mark.parametrize("positions", [False, True])
def test_scores_do_not_depend_on_neighbours(positions):
    rng, network = np.random.default_rng(5), random_network()
    genes = [cells_of(random_bins(rng)) for _ in range(4)]
    reference = cells_of(random_bins(rng, density=0.1))
    together = SparseInputs(
        np.concatenate([[0], np.cumsum([g.places.size for g in genes])]),
        *(
            np.concatenate([getattr(g, name) for g in genes])
            for name in ("channels", "places", "bases")
        ),
    )
    rule = PerceptronRule(network.fold(), positions=positions)
    every = rule.scores((together, together.channels), [(reference, reference.channels)])
    for i, gene in enumerate(genes):
        alone = rule.scores((gene, gene.channels), [(reference, reference.channels)])
        own = slice(every.indptr[i], every.indptr[i + 1])
        np.testing.assert_array_equal(every.values[own], alone.values)


@pytest.mark.skipif(
    find_spec("shap") is None or find_spec("tensorflow") is None, reason="no shap or TensorFlow"
)
@pytest.mark.parametrize(("members", "dense_layers"), [(1, 1), (3, 2), (2, 3)])
def test_scores_equal_shap(members, dense_layers):
    """The whole ensemble, of genes with more bins and fewer, and tracks that none has sites of."""
    config = replace(CONFIG, members=members, dense_layers=dense_layers)
    rng, network = np.random.default_rng(8), random_network(config, seed=members)
    genes = [random_bins(rng, bins) for bins in (1, 6, 9)]
    references = [random_bins(rng, density=density) for density in (0.1, 0.3)]
    for matrices in (*genes, *references):
        matrices["promoter"][..., 3] = 0
    *genes, first, second = padded(*genes, *references)
    background = {side: np.concatenate([first[side], second[side]]) for side in SIDES}
    explain = deep_explainer(network, background)
    others = [cells_of(first), cells_of(second)]
    longest, channels = background["rna"].shape[1], sum(CHANNELS.values())
    for gene in genes:
        expected, x = explain(gene), cells_of(gene)
        assert all(np.abs(expected[side]).max() > 1e-2 for side in SIDES)
        by_bin = np.concatenate([expected[side][0] for side in SIDES], axis=1)
        for positions in (True, False):
            rule = PerceptronRule(network.fold(), positions=positions)
            labels = [
                cells.channels * longest + cells.places if positions else cells.channels
                for cells in (x, *others)
            ]
            found = rule.scores((x, labels[0]), list(zip(others, labels[1:], strict=True)))
            ours = np.zeros((channels * (longest if positions else 1), 4))
            ours[found.labels] = found.values
            if positions:
                off = ours.reshape(channels, longest, 4).swapaxes(0, 1) - by_bin
            else:
                off = ours - by_bin.sum(axis=0)
            assert np.abs(off).max() <= 1e-9


# --- trained --------------------------------------------------------------------------


@pytest.mark.usefixtures("features")  # to be found by their id
def test_a_trained_perceptron_is_a_bundle_like_any_other(made_model):
    folder, parity = made_model.locate("manifest.json").parent, made_model.manifest.parity
    assert max(parity[k] for k in ("keras_onnx", "keras_numpy", "onnx_numpy")) <= 1e-5
    assert parity["full_pooled_numpy_float64"] <= 1e-10
    assert made_model.manifest.training.mean_of_seeds == (1, 2)
    assert made_model.manifest.spearman("test")[1] > 0.5  # the number of bound factors decides it
    again = dz.load(folder)
    assert again.check_known_answers(again.backend("onnxruntime", "cpu")) <= 1e-5
    assert np.isfinite(again.predict(["APP", "SOD1"]).iloc[:, 3:].to_numpy()).all()
    assert "mean of the seeds 1, 2" in (folder / "CARD.md").read_text()
    for by in ("class", "regulator", "track", "position"):
        for background in (None, ["SOD1", "MALAT1"]):
            found = again.explain(["APP", "PRNP"], by=by, background=background)
            assert np.abs(found.delta).max() <= 1e-5


def test_predicted_changes_are_as_large_as_observed_ones_on_average(made_model, features, targets):
    dataset = make_dataset(features, targets, made_model.manifest.network.kernels, SELECTION)
    part = dataset.split.validation
    genes = [dataset.targets.gene_ids[i] for i in part]
    predicted = made_model.predict(genes, features=features).iloc[:, 3:].to_numpy(float)
    for x, y in zip(predicted.T, dataset.targets.values[part].T, strict=True):
        assert stats.linregress(x, y).slope == pytest.approx(1, abs=0.05)  # weights are rounded


def test_tracks_are_grouped_by_cell_and_targets_by_source(features, targets):
    from decode_zoo.training.members import track_groups

    kernels = PerceptronConfig().kernels
    dataset = make_dataset(features, targets, kernels, replace(SELECTION, min_genes=1))
    known = {track.name: track for track in features.side_tracks["promoter"]}
    mask, *groups = track_groups(dataset, "promoter")
    pairs = {
        (group, known[name].kind, known[name].cell)
        for group, name in zip(groups, dataset.tracks["promoter"], strict=True)
    }
    assert mask not in groups  # it stands alone
    assert len(pairs) == len(set(groups)) == len({pair[1:] for pair in pairs}) > 3


@pytest.mark.fault
@pytest.mark.usefixtures("features")
def test_a_graph_of_another_perceptron_is_refused(made_model):
    network = made_model.network
    turned = {"member0/rna": -network.weights["member0/rna"]}
    mixed = replace(network, weights={**network.weights, **turned})
    graph = OnnxBackend(made_model.locate("model.onnx"), "cpu")
    with pytest.raises(VerificationError, match="different networks"):
        check_agreement(graph, mixed, made_model.manifest)
