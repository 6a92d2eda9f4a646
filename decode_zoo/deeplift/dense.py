"""Slopes of ReLUs, and the dense layers behind the first hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["DenseLayers", "product", "slopes"]

FloatArray = npt.NDArray[np.float64]

# Rows of a matrix product.
_ROWS = 64


def slopes(x: FloatArray, reference: FloatArray) -> FloatArray:
    """Slope of a ReLU between a reference and an input, the gradient where both are the same.

    Parameters
    ----------
    x, reference : ndarray of float64
        Inputs of the ReLU; shapes that broadcast.

    Returns
    -------
    ndarray of float64
        Between 0 and 1.
    """
    low, high = np.minimum(x, reference), np.maximum(x, reference)
    # Where both are on one side the slope is exactly 1 or 0, whatever the difference.
    slope = (low >= 0).astype(np.float64) * (high > 0)
    np.divide(high, high - low, out=slope, where=(low < 0) & (high > 0))
    return slope


def product(rows: FloatArray, weights: FloatArray) -> FloatArray:
    """Multiply rows with a matrix; a row's bits do not depend on its neighbours.

    Matrix libraries choose their kernels by shape. Blocks of one fixed shape, the last filled up
    with empty rows, cost far less than rows one by one.
    """
    blocks = np.zeros((-(-len(rows) // _ROWS), _ROWS, rows.shape[1]))
    blocks.reshape(-1, rows.shape[1])[: len(rows)] = rows
    return (blocks @ weights).reshape(-1, weights.shape[1])[: len(rows)]


class DenseLayers:
    """What follows the first hidden layer: dense layers, each behind a ReLU (or none).

    Parameters
    ----------
    layers : sequence of (weights, bias)
    relu : bool
    """

    def __init__(self, layers: Sequence[tuple[FloatArray, FloatArray]], relu: bool) -> None:
        self.layers = tuple(layers)
        self.relu = relu
        self.n_outputs = self.layers[-1][1].size

    def inputs(self, hidden: FloatArray) -> list[FloatArray]:
        """Return the inputs of every ReLU, and the outputs last; `hidden` has shape (n, width)."""
        values = [hidden]
        for weights, bias in self.layers:
            x = np.maximum(values[-1], 0) if self.relu else values[-1]
            values.append(product(x, weights) + bias)
        return values

    def multipliers(self, hidden: FloatArray, reference: FloatArray) -> FloatArray:
        """From the first hidden layer's difference to the outputs'.

        Parameters
        ----------
        hidden : ndarray of float64, shape (n, width)
            Before its ReLU.
        reference : ndarray of float64, shape (1, width)

        Returns
        -------
        ndarray of float64, shape (n, width, n_outputs)
        """
        product = np.eye(self.layers[-1][1].size)[None]
        steps = zip(self.inputs(hidden), self.inputs(reference), self.layers, strict=False)
        for x, r, (weights, _) in reversed(list(steps)):
            product = weights @ product
            if self.relu:
                product = slopes(x, r)[:, :, None] * product
        return np.broadcast_to(product, (len(hidden), *product.shape[1:]))
