"""The mathematics of the DEcode network in NumPy: the full graph, and the same graph folded.

Between its inputs and the first ReLU the published network is linear: convolutions, a sum over
positions, a dense layer. A batch normalisation after a ReLU is linear too. So the whole network
folds, exactly, into one matrix a kernel offset and three small dense layers (docs/exactness.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import FloatArray, SingleArray
from decode_zoo.core.errors import UsageError, VerificationError
from decode_zoo.features.spec import Side

__all__ = [
    "BATCH_NORM_EPSILON",
    "DecodeConfig",
    "DecodeNetwork",
    "FoldedNetwork",
    "TrainedNetwork",
    "check_sizes",
    "composite_kernel",
]

T = TypeVar("T", bound="TrainedNetwork")

# The order in which the branches' channels are concatenated.
BRANCHES: tuple[Side, Side] = ("rna", "promoter")

# Keras' default, which the published software used.
BATCH_NORM_EPSILON = 1e-3

# Larger than in any network of these families would be: a slip, or bad faith.
_MOST = {"channels": 10_000, "width": 10_000, "limit": 1000}


def check_sizes(config: object) -> None:
    """Raise UsageError if a hyper-parameter is no size that a network can have."""
    for name, value in vars(config).items():
        most = _MOST.get(name.split("_")[-1], 100)
        if not isinstance(value, bool) and not 1 <= value <= most:
            raise UsageError(
                f"A network's {name} must be at least 1 and at most {most}, not {value}."
            )


@dataclass(frozen=True)
class DecodeConfig:
    """Hyper-parameters; the defaults are those of the published tissue model.

    Source: Tasaki et al. 2020, Methods, 'Deep learning model', and the hyper-parameters that the
    authors released with their tissue model (decode_tissue_gene_params.json).

    Kernels are widths in bins. With `conv_relu` position sums are no longer exact, and the network
    must see full matrices.
    """

    rna_channels: int = 160
    rna_kernel: int = 2
    rna_layers: int = 2
    promoter_channels: int = 120
    promoter_kernel: int = 1
    promoter_layers: int = 5
    conv_relu: bool = False  # ReLU after each convolution (ConvRelu)
    full_relu: bool = True  # ReLU after each fully connected layer (FullRelu)
    dense_layers: int = 2  # before the output layer
    dense_width: int = 160

    def __post_init__(self) -> None:
        """Refuse networks that cannot be built."""
        check_sizes(self)

    @property
    def kernels(self) -> dict[Side, int]:
        """Composite kernel width of each branch in bins."""
        return {
            "promoter": self.promoter_layers * (self.promoter_kernel - 1) + 1,
            "rna": self.rna_layers * (self.rna_kernel - 1) + 1,
        }

    @property
    def pools(self) -> bool:
        """Whether position sums give the same as full matrices."""
        return not self.conv_relu

    @property
    def description(self) -> str:
        """The layers in a line."""
        return (
            f"RNA {self.rna_layers} × Conv1D({self.rna_channels}, {self.rna_kernel}), promoter "
            f"{self.promoter_layers} × Conv1D({self.promoter_channels}, {self.promoter_kernel}), "
            f"sum, {self.dense_layers} × [Dense({self.dense_width}), ReLU, BatchNorm]"
        )


def composite_kernel(kernels: list[FloatArray]) -> FloatArray:
    """Fold a chain of linear convolutions, each (width, channels_in, channels_out), into one."""
    folded = kernels[0].astype(np.float64)
    for kernel in kernels[1:]:
        out = np.zeros((len(folded) + len(kernel) - 1, folded.shape[1], kernel.shape[2]))
        for i, left in enumerate(folded):
            for j, right in enumerate(kernel.astype(np.float64)):
                out[i + j] += left @ right
        folded = out
    return folded


@dataclass(frozen=True)
class FoldedNetwork:
    """The network as a few matrices; takes position sums in bases, gives outputs in their units."""

    # From position sums to the first hidden layer before its ReLU, (kernel, channels, width).
    first: dict[Side, FloatArray]
    bias: FloatArray  # of the first hidden layer
    layers: tuple[tuple[FloatArray, FloatArray], ...]  # weights and biases of those behind it
    relu: bool  # whether a ReLU stands before each of them

    def forward(self, sums: Mapping[Side, npt.NDArray[np.floating]]) -> FloatArray:
        """Predict from position sums of shape (n, kernel, channels), channel 0 the mask."""
        hidden = self.bias
        for side, matrix in self.first.items():
            values = sums[side]
            flat = values.reshape(len(values), -1).astype(np.float64)
            hidden = hidden + flat @ matrix.reshape(-1, matrix.shape[2])
        for weights, bias in self.layers:
            hidden = (np.maximum(hidden, 0) if self.relu else hidden) @ weights + bias
        return hidden


@dataclass(frozen=True)
class TrainedNetwork:
    """The arrays of a trained network, and what surrounds them; families say what they compute."""

    config: Any  # DecodeConfig or PerceptronConfig
    weights: Mapping[str, SingleArray] = field(repr=False)  # by layer/variable
    input_scale: Mapping[Side, FloatArray] = field(repr=False)  # divides inputs in bases
    output_scale: FloatArray = field(repr=False)  # multiplies the last layer's outputs

    def __post_init__(self) -> None:
        """Refuse other arrays than expected, other shapes, and what is not finite or cannot be."""
        shapes = self.expected_shapes()
        found = {name: array.shape for name, array in self.weights.items()}
        wrong = sorted(
            name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)
        )
        if wrong:
            raise VerificationError(
                f"{len(wrong)} arrays do not fit the network's description, e.g. '{wrong[0]}': "
                f"expected shape {shapes.get(wrong[0])}, found {found.get(wrong[0])}."
            )
        for name, array in self.weights.items():
            if array.dtype.kind != "f":
                raise VerificationError(f"The network's '{name}' are no floating-point numbers.")
            if not np.isfinite(array).all():
                raise VerificationError(f"The network's '{name}' are not all finite.")
            if name.endswith("/moving_variance") and (array < 0).any():
                raise VerificationError(f"The network's '{name}' holds negative variances.")

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array by name."""
        raise TypeError(f"{type(self).__name__} is no family of networks")

    def _array(self, name: str) -> FloatArray:
        return self.weights[name].astype(np.float64)

    def select(
        self: T,
        outputs: npt.NDArray[np.integer],
        less: npt.NDArray[np.integer] | None = None,
    ) -> T:
        """Return the network with some of its outputs, by number, `less` others (-1 for none)."""
        last = {
            name: array[..., outputs]
            for name, array in self.weights.items()
            if name.split("/")[-2] == "outputs"
        }
        scale = self.output_scale[outputs]
        if less is not None and (pairs := np.flatnonzero(less >= 0)).size:
            others = less[pairs]
            ratio = self.output_scale[others] / scale[pairs]
            for name, array in last.items():
                array[..., pairs] -= self.weights[name][..., others] * ratio
        return replace(self, weights={**self.weights, **last}, output_scale=scale)


@dataclass(frozen=True)
class DecodeNetwork(TrainedNetwork):
    """A trained DEcode network; its attributes are those of `TrainedNetwork`."""

    config: DecodeConfig

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array by name."""
        config, shapes = self.config, dict[str, tuple[int, ...]]()
        for side in BRANCHES:
            channels = len(self.input_scale[side])
            layers, kernel, width = (
                getattr(config, f"{side}_{name}") for name in ("layers", "kernel", "channels")
            )
            for i in range(layers):
                shapes[f"{side}_conv{i}/kernel"] = (kernel, channels, width)
                channels = width
        width = config.rna_channels + config.promoter_channels
        for i in range(config.dense_layers):
            shapes[f"dense{i}/kernel"] = (width, config.dense_width)
            shapes[f"dense{i}/bias"] = (config.dense_width,)
            width = config.dense_width
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                shapes[f"norm{i}/{name}"] = (width,)
        shapes["outputs/kernel"] = (width, len(self.output_scale))
        shapes["outputs/bias"] = (len(self.output_scale),)
        return shapes

    def _affine(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return batch normalisation i as a factor and a shift."""
        factor = self._array(f"norm{i}/gamma") / np.sqrt(
            self._array(f"norm{i}/moving_variance") + BATCH_NORM_EPSILON
        )
        return factor, self._array(f"norm{i}/beta") - self._array(f"norm{i}/moving_mean") * factor

    def forward(self, inputs: Mapping[Side, npt.NDArray[np.floating]]) -> FloatArray:
        """Run the graph as it is written, layer by layer, in float64.

        Inputs are of shape (n, bins, channels) in bases, channel 0 the mask: either full matrices
        with kernel - 1 empty bins on the right, or position sums; for linear convolutions both give
        the same. Outputs are of shape (n, n_outputs), in their units.
        """
        branches = []
        for side in BRANCHES:
            hidden = inputs[side].astype(np.float64) / self.input_scale[side]
            for kernel in self.kernels(side):
                length = hidden.shape[1] - len(kernel) + 1
                hidden = sum(hidden[:, k : k + length] @ kernel[k] for k in range(len(kernel)))
                if self.config.conv_relu:
                    hidden = np.maximum(hidden, 0)
            branches.append(hidden.sum(axis=1))
        hidden = np.concatenate(branches, axis=1)
        for i in range(self.config.dense_layers):
            hidden = hidden @ self._array(f"dense{i}/kernel") + self._array(f"dense{i}/bias")
            if self.config.full_relu:
                hidden = np.maximum(hidden, 0)
            factor, shift = self._affine(i)
            hidden = hidden * factor + shift
        hidden = hidden @ self._array("outputs/kernel") + self._array("outputs/bias")
        return hidden * self.output_scale

    def kernels(self, side: Side) -> list[FloatArray]:
        """Return the convolutions of a branch, each of shape (width, channels_in, channels_out)."""
        layers = {"rna": self.config.rna_layers, "promoter": self.config.promoter_layers}
        return [self._array(f"{side}_conv{i}/kernel") for i in range(layers[side])]

    def by_branch(self, rows: FloatArray) -> dict[Side, FloatArray]:
        """Split what has a row for each branch channel, as the first dense layer's weights."""
        rna = self.config.rna_channels
        return {"rna": rows[:rna], "promoter": rows[rna:]}

    def dense_layers(self) -> list[tuple[FloatArray, FloatArray]]:
        """Return weights and biases of the dense layers, norms folded into the layers behind them.

        The last layer gives the outputs in their units.
        """
        dense = [
            (self._array(f"dense{i}/kernel"), self._array(f"dense{i}/bias"))
            for i in range(self.config.dense_layers)
        ]
        dense.append((self._array("outputs/kernel"), self._array("outputs/bias")))
        for i in range(self.config.dense_layers):
            factor, shift = self._affine(i)
            weights, bias = dense[i + 1]
            dense[i + 1] = (factor[:, None] * weights, bias + shift @ weights)
        weights, bias = dense[-1]
        dense[-1] = (weights * self.output_scale, bias * self.output_scale)
        return dense

    def fold(self) -> FoldedNetwork:
        """Fold all that is linear; only for networks without ReLU in their convolutions."""
        if self.config.conv_relu:
            raise ValueError("a network with ReLU in its convolutions does not fold")
        (weights, bias), *layers = self.dense_layers()
        first: dict[Side, FloatArray] = {}
        for side, branch in self.by_branch(weights).items():
            kernel = composite_kernel(self.kernels(side))
            first[side] = kernel / self.input_scale[side][None, :, None] @ branch
        return FoldedNetwork(first, bias, tuple(layers), self.config.full_relu)
