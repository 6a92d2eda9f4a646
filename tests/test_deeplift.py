"""The rescale rule: ReLU slopes, random networks of every kind, shap and brute force."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decode_zoo.deeplift import ConvolutionRule, DenseLayers, FoldedRule, Tangent, product, slopes
from decode_zoo.inputs import Cells, first_channels
from decode_zoo.layout import SIDES
from decode_zoo.network import DecodeConfig
from tests.oracle import brute_force, deep_explainer, padded
from tests.test_network import CONFIGS, random_network

needs_shap = pytest.mark.skipif(
    find_spec("shap") is None or find_spec("tensorflow") is None, reason="no shap or TensorFlow"
)

CHANNELS = (7, 5)
# Every kind of network: kernels of one bin and more, linear convolutions and not, no ReLU at all.
FAMILIES = {
    "published": CONFIGS[0],
    "no ReLU": CONFIGS[1],
    "wide kernels, one dense layer": CONFIGS[2],
    "three dense layers": CONFIGS[3],
    "ReLU in convolutions": replace(CONFIGS[0], conv_relu=True),
    "ReLU in wide convolutions": replace(CONFIGS[2], conv_relu=True),
    "ReLU in convolutions only": replace(
        CONFIGS[3], conv_relu=True, full_relu=False, promoter_layers=2
    ),
}
families = pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
linear_families = pytest.mark.parametrize(
    "config", [c for c in FAMILIES.values() if not c.conv_relu]
)


def tame_network(config, n_outputs=2, seed=0):
    """A random network whose outputs are not far from the size of their scale."""
    network = random_network(config, CHANNELS, n_outputs, seed)
    weights = {
        name: (values / np.prod(values.shape[:-1]) ** 0.5).astype(np.float32)
        if name.endswith("kernel")
        else values
        for name, values in network.weights.items()
    }
    return replace(network, weights=weights)


def made_genes(config, rna_bins, n=1, density=0.3, seed=0, promoter_bins=6):
    """Matrices as a feature set gives them: masks filled, sites here and there, padding."""
    rng = np.random.default_rng(seed)
    genes = {}
    for side, width, bins in zip(SIDES, CHANNELS, (promoter_bins, rna_bins), strict=True):
        shape = (n, bins, width)
        sites = rng.integers(1, 101, shape) * (rng.random(shape) < density)
        sites[:, :, 0] = 100
        genes[side] = np.pad(sites, ((0, 0), (0, config.kernels[side] - 1), (0, 0)))
    return genes


def cells_of(genes, kernels=None):
    """What is not zero in matrices, or in their position sums for kernels of some width."""
    parts = []
    tracks = {side: genes[side].shape[2] - 1 for side in SIDES}
    for side, first in first_channels(tracks).items():
        x = genes[side]
        if kernels is not None:
            x = np.stack([x[:, k:].sum(axis=1) for k in range(kernels[side])], axis=1)
        row, place, channel = np.nonzero(x)
        parts.append((row, first + channel, place, x[row, place, channel]))
    return Cells.gather(len(x), parts)


def rule_of(network):
    if network.config.conv_relu:
        return ConvolutionRule(network)
    return FoldedRule(network.fold(), positions=True)


def scored(network, genes, references):
    """Scores of every bin and channel, shape (n, bins, channels, n_outputs) each side."""
    inputs, others = cells_of(genes), cells_of(references)
    longest = 1 + max(inputs.places.max(), others.places.max())
    several = [others.row(i) for i in range(len(others))]
    labelled = [(cells, cells.channels * longest + cells.places) for cells in (inputs, *several)]
    found = rule_of(network).scores(labelled[0], labelled[1:])
    row = np.repeat(np.arange(len(inputs)), np.diff(found.indptr))
    channel, place = np.divmod(found.labels, longest)
    dense = np.zeros((len(inputs), longest, sum(CHANNELS), len(network.output_scale)))
    dense[row, place, channel] = found.values
    promoter, rna = genes["promoter"].shape[1], genes["rna"].shape[1]
    dense = np.pad(dense, ((0, 0), (0, promoter + rna), (0, 0), (0, 0)))
    return {
        "promoter": dense[:, :promoter, : CHANNELS[0]],
        "rna": dense[:, :rna, CHANNELS[0] :],
    }


def only(genes, i):
    return {side: x[i : i + 1] for side, x in genes.items()}


def mean_brute_force(network, genes, references, i):
    """Brute-force scores of the i-th gene, mean over references."""
    found = [
        brute_force(network, only(genes, i), only(references, j))
        for j in range(len(references["rna"]))
    ]
    return {side: np.mean([scores[side] for scores in found], axis=0) for side in SIDES}


# -- slopes --------------------------------------------------------------------------------------

numbers = st.floats(-1e100, 1e100) | st.sampled_from([0.0, 1e-300, -1e-300, 5e-324, -5e-324])
pairs = st.integers(1, 8).flatmap(
    lambda n: st.tuples(*(arrays(np.float64, n, elements=numbers) for _ in range(2)))
)


@given(pairs)
def test_slopes_are_between_0_and_1(pair):
    found = slopes(*pair)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, slopes(*pair[::-1]))


@given(pairs)
def test_slopes_rescale_differences(pair):
    x, r = pair
    rise = np.maximum(x, 0) - np.maximum(r, 0)
    np.testing.assert_allclose(slopes(x, r) * (x - r), rise, rtol=1e-14, atol=1e-220)


@given(pairs)
def test_slopes_of_equal_inputs_are_the_gradient(pair):
    x, _ = pair
    np.testing.assert_array_equal(slopes(x, x), x > 0)


def test_slopes_broadcast():
    x, r = np.array([[-1.0, 3.0], [2.0, -4.0]]), np.array([[1.0, -1.0]])
    np.testing.assert_array_equal(slopes(x, r), [[0.5, 0.75], [1.0, 0.0]])


# -- dense layers --------------------------------------------------------------------------------


def test_a_product_does_not_depend_on_neighbours():
    """To the bit, wherever a row stands."""
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(150, 70)), rng.normal(size=(70, 33))
    whole, order = product(rows, weights), rng.permutation(150)
    np.testing.assert_allclose(whole, rows @ weights, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(product(rows[order], weights), whole[order])
    for i in (0, 63, 64, 149):
        np.testing.assert_array_equal(product(rows[i : i + 1], weights)[0], whole[i])
    assert product(rows[:0], weights).shape == (0, 33)


@pytest.mark.parametrize("widths", [(4, 5, 3), (4, 6, 5, 3), (4, 5, 7, 6, 2)])
def test_tangents_and_changes_give_multipliers(widths):
    """Whatever slopes are the usual ones, also where a row has no others."""
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=shape), rng.normal(size=shape[1])) for shape in pairwise(widths)]
    (first, bias), *rest = layers
    dense = DenseLayers(rest, relu=True)
    hidden, reference = (rng.normal(size=(n, 4)) @ first + bias for n in (5, 1))
    seen, base = (np.concatenate(dense.inputs(x)[:-1], axis=1) for x in (hidden, reference))
    expected = first @ dense.multipliers(hidden, reference)
    for usual in (slopes(base, base)[0], slopes(seen, base)[2], rng.random(base.size)):
        tangent = Tangent([weights for weights, _ in layers], usual)
        found = [tangent.whole + a @ b for a, b in tangent.changes(slopes(seen, base))]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


# -- whole networks ------------------------------------------------------------------------------


@families
@needs_shap
def test_every_family_equals_shap(config):
    """Genes shorter than the references, shorter than the kernel, and longer."""
    network = tame_network(config)
    genes = [made_genes(config, bins, seed=bins) for bins in (1, 9, 25)]
    *genes, references = padded(*genes, made_genes(config, 12, n=2, seed=99))
    explain = deep_explainer(network, references)
    for gene in genes:
        expected, ours = explain(gene), scored(network, gene, references)
        assert all(np.abs(expected[side]).max() > 1e-5 for side in SIDES)
        for side in SIDES:
            off = (ours[side] - expected[side]) / network.output_scale
            assert np.abs(off).max() <= 1e-9


configs = st.builds(
    DecodeConfig,
    rna_channels=st.integers(1, 4),
    rna_kernel=st.integers(1, 3),
    rna_layers=st.integers(1, 3),
    promoter_channels=st.integers(1, 4),
    promoter_kernel=st.integers(1, 3),
    promoter_layers=st.integers(1, 3),
    conv_relu=st.booleans(),
    full_relu=st.booleans(),
    dense_layers=st.integers(1, 3),
    dense_width=st.integers(1, 5),
)


@settings(max_examples=60)
@given(configs, st.integers(1, 8), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_random_networks_equal_brute_force_and_add_up(config, bins, others, density, seed):
    network = tame_network(config, seed=seed)
    genes, references = padded(
        made_genes(config, bins, n=2, density=density, seed=seed),
        made_genes(config, others, n=2, density=density / 2, seed=seed + 1),
    )
    ours = scored(network, genes, references)
    sums = sum(ours[side].sum(axis=(1, 2)) for side in SIDES)
    reference = network.forward(references).mean(axis=0)
    scale = network.output_scale
    size = 1 + np.abs(network.forward(genes) / scale).max()
    assert np.abs((sums - (network.forward(genes) - reference)) / scale).max() <= 1e-11 * size
    several = cells_of(references)
    rows = [several.row(i) for i in range(2)]
    assert np.abs((rule_of(network).reference(rows) - reference) / scale).max() <= 1e-11 * size
    for i in range(2):
        expected = mean_brute_force(network, genes, references, i)
        for side in SIDES:
            assert np.abs((ours[side][i] - expected[side]) / scale).max() <= 1e-11 * size


@linear_families
def test_position_sums_give_the_scores_of_bins_added_up(config):
    network = tame_network(config)
    genes, references = padded(made_genes(config, 9, n=3), made_genes(config, 20, n=2, seed=5))
    by_bin = scored(network, genes, references)
    inputs, others = (cells_of(x, config.kernels) for x in (genes, references))
    several = [others.row(i) for i in range(2)]
    found = FoldedRule(network.fold(), positions=False).scores(
        (inputs, inputs.channels), [(cells, cells.channels) for cells in several]
    )
    for i in range(3):
        own = slice(*found.indptr[i : i + 2])
        dense = np.zeros((sum(CHANNELS), 2))
        dense[found.labels[own]] = found.values[own]
        expected = np.concatenate([by_bin[side][i].sum(axis=0) for side in SIDES])
        np.testing.assert_allclose(dense, expected, rtol=0, atol=1e-12)


@families
def test_a_row_does_not_depend_on_its_neighbours(config):
    """To the bit."""
    network = tame_network(config)
    genes, references = made_genes(config, 9, n=5), cells_of(made_genes(config, 4))
    inputs, rule = cells_of(genes), rule_of(network)

    def scores(cells):
        return rule.scores((cells, cells.channels), [(references, references.channels)])

    whole, order = scores(inputs), np.array([3, 0, 4])
    chosen = scores(cells_of({side: x[order] for side, x in genes.items()}))
    for place, i in enumerate(order):
        alone, own = scores(inputs.row(i)), slice(*whole.indptr[i : i + 2])
        again = slice(*chosen.indptr[place : place + 2])
        np.testing.assert_array_equal(alone.labels, whole.labels[own])
        np.testing.assert_array_equal(alone.values, whole.values[own])
        np.testing.assert_array_equal(chosen.values[again], whole.values[own])
        np.testing.assert_array_equal(alone.sums()[0], whole.sums()[i])


@families
def test_a_row_that_is_the_reference_scores_zero(config):
    network = tame_network(config)
    genes = made_genes(config, 9)
    found = scored(network, genes, genes)
    assert all((found[side] == 0).all() for side in SIDES)


@families
def test_empty_rows_and_no_rows(config):
    network = tame_network(config)
    empty = {side: 0 * x for side, x in made_genes(config, 3).items()}
    cells, reference = cells_of(empty), cells_of(made_genes(config, 4))
    found = rule_of(network).scores((cells, cells.channels), [(reference, reference.channels)])
    expected = (network.forward(empty) - network.forward(made_genes(config, 4)))[0]
    np.testing.assert_allclose(found.sums()[0], expected, rtol=0, atol=1e-12)
    none = Cells(np.zeros(1, np.int64), *np.zeros((2, 0), np.int64), np.zeros(0))
    found = rule_of(network).scores((none, none.channels), [(reference, reference.channels)])
    assert found.sums().shape == (0, 2)


@families
def test_entries_of_one_place_add_up(config):
    """Two sites of a track in a bin count as one with the bases of both."""
    network = tame_network(config)
    whole, reference = cells_of(made_genes(config, 9)), cells_of(made_genes(config, 4))
    n = whole.bases.size
    order = np.tile(np.arange(n), 2)
    split = Cells(
        2 * whole.indptr,
        whole.channels[order],
        whole.places[order],
        np.concatenate([0.25 * whole.bases, 0.75 * whole.bases]),
    )
    a, b = (
        rule_of(network).scores((cells, cells.channels), [(reference, reference.channels)])
        for cells in (whole, split)
    )
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-12)
