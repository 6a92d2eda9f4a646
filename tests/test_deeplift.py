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

from decode_zoo.attribution.rules import (
    ConvolutionRule,
    DenseLayers,
    FoldedRule,
    Tangent,
    product,
    slopes,
)
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.inputs import SparseInputs, first_channels
from tests.oracle import brute_force, deep_explainer, padded
from tests.test_network import CONFIGS, random_network

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


def made_genes(config, rna_bins, n=1, density=0.3, seed=0):
    """Matrices as a feature set gives them: masks filled, sites here and there, padding."""
    rng = np.random.default_rng(seed)
    genes = {}
    for side, width, bins in zip(SIDES, CHANNELS, (6, rna_bins), strict=True):
        shape = (n, bins, width)
        sites = rng.integers(1, 101, shape) * (rng.random(shape) < density)
        sites[:, :, 0] = 100
        genes[side] = np.pad(sites, ((0, 0), (0, config.kernels[side] - 1), (0, 0)))
    return genes


def cells_of(genes):
    """What is not zero in matrices."""
    parts = []
    tracks = {side: genes[side].shape[2] - 1 for side in SIDES}
    for side, first in first_channels(tracks).items():
        x = genes[side]
        row, place, channel = np.nonzero(x)
        parts.append((row, first + channel, place, x[row, place, channel]))
    return SparseInputs.gather(len(x), parts)


def rule_of(network):
    if network.config.conv_relu:
        return ConvolutionRule(network)
    return FoldedRule(network.fold(), positions=True)


def by_channel(rule, inputs, references):
    """Scores of channels against each row of the references."""
    others = [references.row(i) for i in range(len(references))]
    return rule.scores((inputs, inputs.channels), [(cells, cells.channels) for cells in others])


def scored(network, genes, references):
    """Scores of every bin and channel, shape (n, bins, channels, n_outputs) each side."""
    inputs, others = cells_of(genes), cells_of(references)
    longest = max(x.shape[1] for part in (genes, references) for x in part.values())
    several = [others.row(i) for i in range(len(others))]
    labelled = [(cells, cells.channels * longest + cells.places) for cells in (inputs, *several)]
    found = rule_of(network).scores(labelled[0], labelled[1:])
    row = np.repeat(np.arange(len(inputs)), np.diff(found.indptr))
    channel, place = np.divmod(found.labels, longest)
    dense = np.zeros((len(inputs), longest, sum(CHANNELS), len(network.output_scale)))
    dense[row, place, channel] = found.values
    first = {"promoter": 0, "rna": CHANNELS[0]}
    return {
        side: dense[:, : genes[side].shape[1], first[side] : first[side] + width]
        for side, width in zip(SIDES, CHANNELS, strict=True)
    }


# -- slopes --------------------------------------------------------------------------------------

numbers = st.floats(-1e100, 1e100) | st.sampled_from([0.0, 1e-300, -1e-300, 5e-324, -5e-324])
pairs = st.integers(1, 8).flatmap(
    lambda n: st.tuples(*(arrays(np.float64, n, elements=numbers) for _ in range(2)))
)


@given(pairs)
def test_slopes_rescale_differences_and_are_the_gradient_of_equal_inputs(pair):
    x, r = pair
    found = slopes(x, r)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, slopes(r, x))
    np.testing.assert_array_equal(slopes(x, x), x > 0)
    rise = np.maximum(x, 0) - np.maximum(r, 0)
    np.testing.assert_allclose(found * (x - r), rise, rtol=1e-14, atol=1e-220)
    np.testing.assert_array_equal(slopes(np.tile(x, (2, 1)), r), [found, found])


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
@pytest.mark.skipif(
    find_spec("shap") is None or find_spec("tensorflow") is None, reason="no shap or TensorFlow"
)
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
        gene = {side: x[[i]] for side, x in genes.items()}
        parts = [
            brute_force(network, gene, {side: x[[j]] for side, x in references.items()})
            for j in range(2)
        ]
        for side in SIDES:
            expected = np.mean([part[side] for part in parts], axis=0)
            assert np.abs((ours[side][i] - expected) / scale).max() <= 1e-11 * size


@families
def test_a_row_does_not_depend_on_its_neighbours(config):
    """To the bit."""
    network = tame_network(config)
    genes, references = made_genes(config, 9, n=5), cells_of(made_genes(config, 4))
    inputs, rule = cells_of(genes), rule_of(network)
    whole, order = by_channel(rule, inputs, references), np.array([3, 0, 4])
    shuffled = cells_of({side: x[order] for side, x in genes.items()})
    chosen = by_channel(rule, shuffled, references)
    for place, i in enumerate(order):
        alone, own = by_channel(rule, inputs.row(i), references), slice(*whole.indptr[i : i + 2])
        again = slice(*chosen.indptr[place : place + 2])
        np.testing.assert_array_equal(alone.labels, whole.labels[own])
        np.testing.assert_array_equal(alone.values, whole.values[own])
        np.testing.assert_array_equal(chosen.values[again], whole.values[own])
        np.testing.assert_array_equal(alone.sums()[0], whole.sums()[i])


@families
def test_special_rows(config):
    """The reference itself, empty rows, no rows, and entries of one place, which add up."""
    network = tame_network(config)
    rule, genes, other = rule_of(network), made_genes(config, 9), made_genes(config, 4)
    assert all((scores == 0).all() for scores in scored(network, genes, genes).values())
    empty, reference = {side: 0 * x for side, x in made_genes(config, 3).items()}, cells_of(other)
    found = by_channel(rule, cells_of(empty), reference).sums()[0]
    expected = (network.forward(empty) - network.forward(other))[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    none = SparseInputs(np.zeros(1, np.int64), *np.zeros((2, 0), np.int64), np.zeros(0))
    assert by_channel(rule, none, reference).sums().shape == (0, 2)
    whole = cells_of(genes)
    split = SparseInputs(
        2 * whole.indptr,
        np.tile(whole.channels, 2),
        np.tile(whole.places, 2),
        np.concatenate([0.25 * whole.bases, 0.75 * whole.bases]),
    )
    a, b = (by_channel(rule, cells, reference) for cells in (whole, split))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-12)
