"""Data sets whose genes see the inputs of other genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from decode_zoo.layout import SIDES, Side
from decode_zoo.training.dataset import PARTS, Dataset

__all__ = ["PermutedDataset", "permute"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PermutedDataset(Dataset):
    """A data set whose genes see the inputs of others, on some sides. Made by `permute`.

    `order` is the row of `targets` whose inputs each row sees.
    """

    order: Mapping[Side, IntArray] = field(default_factory=dict)

    def pooled(self, part: IntArray) -> dict[Side, FloatArray]:
        """Position sums that some rows see."""
        bound = self.bound
        return {
            side: bound.features.pooled_rows(
                self.rows[self.order[side][part]], side, bound.kernels[side], columns
            ).dense()
            for side, columns in bound.columns.items()
        }

    def full(self, part: IntArray) -> dict[Side, FloatArray]:
        """Full matrices that some rows see, padded as `BoundFeatures.full` does."""
        bound = self.bound
        return {
            side: bound.features.matrix(
                self.rows[self.order[side][part]],
                side,
                columns=columns,
                pad=bound.kernels[side] - 1,
            )
            for side, columns in bound.columns.items()
        }


def permute(dataset: Dataset, sides: Sequence[Side], seed: int) -> PermutedDataset:
    """Let genes see the inputs of other genes of their part of the split.

    Several sides move together: each gene then sees all inputs of one other gene. Inputs keep their
    distribution; what they tell of the gene is lost. As in any permutation, one gene of a part, on
    average, keeps its own. A seed moves inputs in the same way, whatever the sides.
    """
    shuffled = np.arange(len(dataset.rows))
    rng = np.random.default_rng(seed)
    for part in PARTS:
        rows = getattr(dataset.split, part)
        shuffled[rows] = rng.permutation(rows)
    unchanged = np.arange(len(dataset.rows))
    order = {side: shuffled if side in sides else unchanged for side in SIDES}
    return PermutedDataset(**vars(dataset), order=order)
