"""Wide dense layers, of which most units have the same slope in row after row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Tangent"]

FloatArray = npt.NDArray[np.float64]


class Tangent:
    """Dense layers made linear by some slopes of their units, and what other slopes change.

    What goes through units with the usual slopes alone is the same for all rows, and so computed
    once; for each row there is only what goes through others.

    Parameters
    ----------
    weights : sequence of ndarray of float64
        Of the layers; units with slopes stand between them.
    usual : ndarray of float64, shape (n_units,)
        Slopes of those, through all layers.

    Attributes
    ----------
    whole : ndarray of float64, shape (n_inputs, n_outputs)
        From inputs to outputs, with the usual slopes.
    """

    def __init__(self, weights: Sequence[FloatArray], usual: FloatArray) -> None:
        self._usual = usual
        self._ends = np.cumsum([0, *(matrix.shape[1] for matrix in weights[:-1])])
        by_layer = np.split(usual, self._ends[1:-1])
        # From the inputs, and from each layer's units, to all units behind and to the outputs.
        paths = []
        for number, path in enumerate(weights):
            columns = [path]
            for slope, matrix in zip(by_layer[number:], weights[number + 1 :], strict=True):
                path = (path * slope) @ matrix
                columns.append(path)
            paths.append(np.concatenate(columns, axis=1))
        from_inputs, *others = paths
        self.whole = from_inputs[:, usual.size :]
        # Rows are what is chosen: of another order they would cost a copy of all.
        self._entries = np.ascontiguousarray(from_inputs[:, : usual.size].T)
        self._paths = [np.ascontiguousarray(path) for path in others]

    def changes(self, slopes: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Find what to add to `whole` for each row, as two matrices to be multiplied.

        Parameters
        ----------
        slopes : ndarray of float64, shape (n, n_units)

        Yields
        ------
        tuple of ndarray of float64, of shapes (n_inputs, m) and (m, n_outputs)
            For the m units with another slope than usual.
        """
        n_outputs = self.whole.shape[1]
        for change in slopes - self._usual:
            units = np.flatnonzero(change)
            bounds = np.searchsorted(units, self._ends)
            onward = np.empty((units.size, n_outputs))
            for layer in reversed(range(len(self._paths))):
                own, later = slice(*bounds[layer : layer + 2]), slice(bounds[layer + 1], None)
                paths = self._paths[layer].take(units[own] - self._ends[layer], axis=0)
                between = paths.take(units[later] - self._ends[layer + 1], axis=1)
                straight = paths[:, -n_outputs:]
                onward[own] = change[units[own], None] * (straight + between @ onward[later])
            yield self._entries.take(units, axis=0).T, onward
