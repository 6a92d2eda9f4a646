"""The NumPy network: folding, position sums, checks of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from decode_zoo.core.errors import VerificationError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.decode import DecodeConfig, DecodeNetwork, composite_kernel


def random_network(config: DecodeConfig, channels=(7, 5), n_outputs=4, seed=0) -> DecodeNetwork:
    rng = np.random.default_rng(seed)
    input_scale = {side: rng.uniform(1, 100, n) for side, n in zip(SIDES, channels, strict=True)}
    hollow = object.__new__(DecodeNetwork)
    vars(hollow).update(
        config=config, input_scale=input_scale, output_scale=rng.uniform(1, 3, n_outputs)
    )
    weights = {
        name: (
            rng.uniform(0.5, 2, shape) if name.endswith("variance") else rng.normal(size=shape)
        ).astype(np.float32)
        for name, shape in hollow.expected_shapes().items()
    }
    return DecodeNetwork(config, weights, input_scale, hollow.output_scale)


WIDE = {"rna_kernel": 3, "promoter_kernel": 2, "promoter_layers": 2, "dense_layers": 1}
CONFIGS = [
    DecodeConfig(rna_channels=6, promoter_channels=5, dense_width=8),
    DecodeConfig(rna_channels=6, promoter_channels=5, dense_width=8, full_relu=False),
    DecodeConfig(rna_channels=3, rna_layers=3, promoter_channels=4, dense_width=6, **WIDE),
    DecodeConfig(rna_channels=4, promoter_channels=4, dense_layers=3, dense_width=5),
]


def full_and_pooled(config: DecodeConfig, rna_bins, seed=1):
    """Matrices of one gene, padded as the package does, and their position sums."""
    rng = np.random.default_rng(seed)
    full, pooled = {}, {}
    for side, width, length in zip(SIDES, (7, 5), (30, rna_bins), strict=True):
        kernel = config.kernels[side]
        x = rng.integers(0, 101, (1, length, width)).astype(float)
        full[side] = np.pad(x, ((0, 0), (0, kernel - 1), (0, 0)))
        pooled[side] = np.stack([x[:, k:].sum(axis=1) for k in range(kernel)], axis=1)
    return full, pooled


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rna_bins", [1, 2, 3, 40])
def test_position_sums_and_more_padding_give_the_full_graphs_result(config, rna_bins):
    network = random_network(config)
    full, pooled = full_and_pooled(config, rna_bins)
    more = {side: np.pad(x, ((0, 0), (0, 5), (0, 0))) for side, x in full.items()}
    found = [network.forward(pooled), network.fold().forward(pooled), network.forward(more)]
    expected = np.broadcast_to(network.forward(full), (3, 1, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


def test_relu_in_convolutions_cannot_be_pooled():
    config = DecodeConfig(rna_channels=6, promoter_channels=5, dense_width=8, conv_relu=True)
    network = random_network(config)
    full, pooled = full_and_pooled(config, 20)
    assert np.abs(network.forward(full) - network.forward(pooled)).max() > 0.1
    with pytest.raises(ValueError, match="does not fold"):
        network.fold()


def test_composite_kernel_is_the_chain():
    rng = np.random.default_rng(3)
    kernels = [rng.normal(size=s) for s in ((2, 4, 3), (3, 3, 5), (1, 5, 2))]
    x = rng.normal(size=(20, 4))
    chained = x
    for kernel in kernels:
        n = len(chained) - len(kernel) + 1
        chained = sum(chained[k : k + n] @ kernel[k] for k in range(len(kernel)))
    whole = composite_kernel(kernels)
    assert whole.shape == (4, 4, 2)
    direct = sum(x[k : k + 17] @ whole[k] for k in range(4))
    np.testing.assert_allclose(direct, chained, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs/bias": np.zeros(9, np.float32)}, "outputs/bias"),
        ({"dense0/kernel": None}, "dense0/kernel"),
        ({"outputs/bias": np.full(4, np.nan, np.float32)}, "not all finite"),
        ({"outputs/bias": np.zeros(4, np.int32)}, "no floating-point numbers"),
        ({"norm0/moving_variance": np.full(8, -1, np.float32)}, "negative variances"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words):
    network = random_network(CONFIGS[0])
    weights = {k: v for k, v in {**network.weights, **change}.items() if v is not None}
    with pytest.raises(VerificationError, match=words):
        DecodeNetwork(network.config, weights, network.input_scale, network.output_scale)
