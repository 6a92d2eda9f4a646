"""What perceptrons are trained on, normal scores of expression, and the line back to its units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = ["Calibration", "normal_scores"]

FloatArray = npt.NDArray[np.float64]


def normal_scores(
    values: npt.NDArray[np.floating], training: npt.NDArray[np.floating]
) -> FloatArray:
    """Return where values lie among those of training genes, in standard deviations of a normal.

    Fold changes have heavy tails: with squared errors a few genes of extreme expression would
    decide what a network learns. Ranks are what predictions are judged by. The scores are quantiles
    of the normal distribution at (rank - 1/2) / n_training; equal values share the mean of their
    ranks, and what lies beyond the training genes is at their end.
    """
    count = len(training)
    places = np.empty(values.shape)
    for column, known in enumerate(np.sort(training, axis=0).T):
        left, right = (np.searchsorted(known, values[:, column], s) for s in ("left", "right"))
        places[:, column] = (left + right) / (2 * count)
    scores: FloatArray = special.ndtri(np.clip(places, 0.5 / count, 1 - 0.5 / count))
    return scores


@dataclass(frozen=True)
class Calibration:
    """A line for each output, from what a network predicts to the outputs' units."""

    slope: FloatArray
    intercept: FloatArray

    @classmethod
    def fit(cls, predicted: FloatArray, observed: FloatArray) -> Calibration:
        """Fit by least squares, so that a predicted change is as large as it is on average.

        The genes must not be those that the network was trained on: it knows them too well.
        """
        centre, mean = predicted.mean(axis=0), observed.mean(axis=0)
        x = predicted - centre
        spread = (x * x).sum(axis=0)
        covered = (x * (observed - mean)).sum(axis=0)
        slope = np.divide(covered, spread, out=np.zeros_like(mean), where=spread > 0)
        return cls(slope, mean - slope * centre)
