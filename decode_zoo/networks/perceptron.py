"""A regularised perceptron on position sums: square roots, z-scores, two hidden layers, members.

Binding is counted in bases, and its counts are skewed: the square root of a track's sum, as a
z-score over training genes, is what the first layer sees. Several networks that were trained from
different seeds are the members of one; their mean is the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decode_zoo.core.arrays import FloatArray
from decode_zoo.features.spec import Side
from decode_zoo.networks.decode import BRANCHES, TrainedNetwork, check_sizes

__all__ = ["FoldedPerceptron", "Member", "PerceptronConfig", "PerceptronNetwork", "Standardisation"]


@dataclass(frozen=True)
class PerceptronConfig:
    """Hyper-parameters."""

    encoder_width: int = 128  # linear channels that the tracks of each side are brought down to
    dense_layers: int = 2  # with ReLU, before the output layer
    dense_width: int = 768
    members: int = 1  # networks of which the prediction is the mean
    limit: float = 6.0  # largest z-score; what lies above is cut off

    def __post_init__(self) -> None:
        """Refuse networks that cannot be built."""
        check_sizes(self)

    @property
    def kernels(self) -> dict[Side, int]:
        """Composite kernel width of each side in bins: sums over all positions are all it sees."""
        return {"promoter": 1, "rna": 1}

    @property
    def pools(self) -> bool:
        """Whether position sums give the same as full matrices: always."""
        return True

    @property
    def description(self) -> str:
        """The layers in a line."""
        return (
            f"sums, square roots, z-scores; {self.members} × {{encoders to "
            f"{self.encoder_width} a side, {self.dense_layers} × [Dense({self.dense_width}), "
            "ReLU], outputs}, mean"
        )


@dataclass(frozen=True)
class Standardisation:
    """From position sums in bases to z-scores of their square roots."""

    scale: FloatArray  # (channels,) in bases: the variance of the square roots
    centre: FloatArray  # (channels,) their mean, in standard deviations
    limit: float  # largest z-score

    def __call__(self, sums: npt.NDArray[np.floating]) -> FloatArray:
        """Standardise sums in bases, shape (…, channels); negative ones count as none."""
        roots = np.sqrt(np.maximum(sums.astype(np.float64), 0) / self.scale)
        scores: FloatArray = np.minimum(roots - self.centre, self.limit)
        return scores

    def slopes(self, sums: FloatArray, reference: FloatArray) -> FloatArray:
        """Return slopes between a reference and sums, in z-scores a base (DeepLIFT's rescale rule).

        Zero where both are the same: then no score depends on it, but for sites that move within a
        gene, which a sum does not see. Shapes broadcast to (…, channels).
        """
        change = sums - reference
        moved = self(sums) - self(reference)
        return np.divide(moved, change, out=np.zeros_like(moved), where=change != 0)


@dataclass(frozen=True)
class Member:
    """One of the networks whose mean is the prediction, in float64.

    The first layer sees the encoders' channels in the order of `decode.BRANCHES`, a ReLU stands
    before each of the others, the last gives the outputs in their units.
    """

    encoders: dict[Side, FloatArray]  # (channels, encoder_width)
    layers: tuple[tuple[FloatArray, FloatArray], ...]  # weights and biases

    def forward(self, scores: Mapping[Side, FloatArray]) -> FloatArray:
        """Predict from z-scores of shape (n, channels)."""
        hidden = np.concatenate([scores[side] @ self.encoders[side] for side in BRANCHES], axis=1)
        for number, (weights, bias) in enumerate(self.layers):
            hidden = (np.maximum(hidden, 0) if number else hidden) @ weights + bias
        return hidden


@dataclass(frozen=True)
class FoldedPerceptron:
    """The network in float64, with the outputs' scale in the last layers."""

    inputs: Mapping[Side, Standardisation]
    members: tuple[Member, ...]

    def forward(self, inputs: Mapping[Side, npt.NDArray[np.floating]]) -> FloatArray:
        """Predict from inputs of shape (n, bins, channels) in bases, channel 0 the mask.

        Full matrices and position sums give the same: outputs in their units, (n, n_outputs).
        """
        return np.asarray(np.mean(self.by_member(inputs), axis=0))

    def by_member(self, inputs: Mapping[Side, npt.NDArray[np.floating]]) -> list[FloatArray]:
        """Predict with each member by itself (see `forward`)."""
        scores = {
            side: standardise(inputs[side].sum(axis=1, dtype=np.float64))
            for side, standardise in self.inputs.items()
        }
        return [member.forward(scores) for member in self.members]


@dataclass(frozen=True)
class PerceptronNetwork(TrainedNetwork):
    """A trained perceptron.

    ``weights`` holds ``rna/centre`` and ``promoter/centre``; of each member ``member0/rna``,
    ``member0/promoter`` (encoders), ``member0/dense0/kernel``, …, ``member0/outputs/bias``. Batch
    normalisations of the training are folded into them. Position sums are divided by
    ``input_scale`` before the square root is taken.
    """

    config: PerceptronConfig

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array by name."""
        config, shapes = self.config, dict[str, tuple[int, ...]]()
        for side in BRANCHES:
            shapes[f"{side}/centre"] = (len(self.input_scale[side]),)
        for member in range(config.members):
            for side in BRANCHES:
                rows = len(self.input_scale[side])
                shapes[f"member{member}/{side}"] = (rows, config.encoder_width)
            width = len(BRANCHES) * config.encoder_width
            for name, outputs in self._layers():
                shapes[f"member{member}/{name}/kernel"] = (width, outputs)
                shapes[f"member{member}/{name}/bias"] = (outputs,)
                width = outputs
        return shapes

    def _layers(self) -> list[tuple[str, int]]:
        """Return the dense layers by name, and their widths."""
        dense = [(f"dense{i}", self.config.dense_width) for i in range(self.config.dense_layers)]
        return [*dense, ("outputs", len(self.output_scale))]

    def forward(self, inputs: Mapping[Side, npt.NDArray[np.floating]]) -> FloatArray:
        """Predict (see `FoldedPerceptron.forward`)."""
        return self.fold().forward(inputs)

    def fold(self) -> FoldedPerceptron:
        """Return what the arrays mean, ready to be used again and again."""
        limit = self.config.limit
        standardisation = {
            side: Standardisation(self.input_scale[side], self._array(f"{side}/centre"), limit)
            for side in BRANCHES
        }
        members = tuple(self._member(f"member{i}/") for i in range(self.config.members))
        return FoldedPerceptron(standardisation, members)

    def _member(self, own: str) -> Member:
        *layers, (weights, bias) = [
            (self._array(f"{own}{name}/kernel"), self._array(f"{own}{name}/bias"))
            for name, _ in self._layers()
        ]
        return Member(
            {side: self._array(f"{own}{side}") for side in BRANCHES},
            (*layers, (weights * self.output_scale, bias * self.output_scale)),
        )
