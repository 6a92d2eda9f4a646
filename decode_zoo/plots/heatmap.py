"""Heat maps: mean scores over genes, outputs × regulators, clustered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from decode_zoo.attribution import Attribution
from decode_zoo.plots.colours import colour_cells, key_of, palette_of, value_cells
from decode_zoo.plots.labels import classes_of, names_of, spaced, title_of, unit_of
from decode_zoo.plots.page import DOUBLE, GREY, MARGIN, SINGLE, Page, say, styled
from decode_zoo.plots.scores import add_up, choose_rows, comparable_outputs, strongest
from decode_zoo.plots.text import SMALL, elided, widest

__all__ = ["Tree", "heatmap"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_OUTPUT = 2.2  # widest name of an output, in inches
_ORDERED = 500  # leaves whose optimal order takes no longer than a second; it grows with the cube


@styled
def heatmap(attribution: Attribution, *, k: int = 40) -> Figure:
    """Draw mean scores over genes, outputs × regulators, both clustered.

    Outputs are compared in one unit: the median is left out where there are fold changes.
    Clusters are Ward's, of Euclidean distances, with leaves in optimal order (up to 500 of them);
    forks are as high as the square roots of the distances. Colours end at the 95th percentile of
    the absolute values; an end of the colour bar is pointed if values lie beyond. Two columns
    wide, wider with more than about 45 regulators, and as high as the outputs need.

    Parameters
    ----------
    attribution : Attribution
        By position, bins are added up.
    k : int
        How many regulators: those of highest absolute mean score, averaged over outputs.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If nothing was explained, or k is below 1.
    """
    rows = choose_rows(attribution, None)
    chosen = comparable_outputs(attribution)
    n_features = len(attribution.resolution.features)
    mean = add_up(attribution.feature, n_features, attribution.scores[:, chosen]) / rows.size
    present = np.bincount(attribution.feature, minlength=n_features) > 0
    there = np.flatnonzero(present & ~attribution.resolution.is_mask)
    best = strongest(there, np.abs(mean).mean(axis=1), k)
    regulators, outputs = Tree.of(mean[best]), Tree.of(mean[best].T)
    best, chosen = best[regulators.leaves], chosen[outputs.leaves]
    values = mean[best].T[outputs.leaves]

    names, kinds = names_of(attribution, best, SMALL), classes_of(attribution, best)
    palette = palette_of(attribution)
    labels = [elided(spaced(attribution.outputs[i].name), SMALL, _OUTPUT) for i in chosen]
    tree, strip, gap = 0.35, 0.07, 0.03
    left, above = MARGIN + tree + gap, tree + strip + 2 * gap
    beside = 0.05 + widest(labels, SMALL) + MARGIN
    cell = min(max((DOUBLE - left - beside) / max(best.size, 1), 0.1), 0.2)
    width, height = cell * max(best.size, 5), 0.105 * max(chosen.size, 3)
    page = Page.make(
        max(left + width + beside, SINGLE),
        above + height + 0.05 + widest(names, SMALL) + MARGIN,
        title=title_of(attribution, rows),
        lines=[f"{best.size} of {there.size} regulators"],
        key=key_of(palette, kinds),
        with_colour_bar=True,
    )
    axes = page.axes(left, page.top + above, width, height)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GREY)
    if not best.size:
        axes.set(xticks=[], yticks=[])
        say(axes, "no regulators")
        return page.figure
    image = value_cells(axes, values, values)
    axes.yaxis.tick_right()
    axes.set_yticks(range(len(labels)), labels, fontsize=SMALL)
    axes.set_xticks(range(len(names)), names, fontsize=SMALL, rotation=90)
    axes.tick_params(length=0, pad=2)
    regulators.draw(page.axes(left, page.top, width, tree), upright=True)
    outputs.draw(page.axes(MARGIN, page.top + above, tree, height), upright=False)
    cells = page.axes(left, page.top + tree + gap, width, strip)
    colour_cells(cells, [[palette[kind] for kind in kinds]])
    what = "score" if rows.size == 1 else "mean score"
    page.colour_bar(image, values, f"{what} ({unit_of(attribution, int(chosen[0]))})")
    return page.figure


@dataclass(frozen=True)
class Tree:
    """A clustering.

    Attributes
    ----------
    leaves : ndarray of int64, shape (n,)
        Order in which to draw what was clustered.
    forks : ndarray of float64, shape (n - 1, 4, 2)
        Position and height of the corners of each fork.
    """

    leaves: IntArray
    forks: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Tree:
        """Cluster rows; fewer than two, or without columns, stay as they are."""
        n = len(vectors)
        if n < 2 or not vectors.size:
            return cls(np.arange(n), np.zeros((0, 4, 2)))
        from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

        merges = linkage(vectors, "ward")
        if n <= _ORDERED:
            merges = optimal_leaf_ordering(merges, vectors)
        leaves = leaves_list(merges).astype(np.int64)
        at = np.zeros((2 * n - 1, 2))
        at[leaves, 0] = np.arange(n)
        forks = np.zeros((n - 1, 4, 2))
        for i, (a, b, height, _) in enumerate(merges):
            low, high = at[int(a)], at[int(b)]
            height = math.sqrt(height)  # or the lower forks could not be told apart
            forks[i] = low, (low[0], height), (high[0], height), high
            at[n + i] = (low[0] + high[0]) / 2, height
        return cls(leaves, forks)

    def draw(self, axes: Axes, *, upright: bool) -> None:
        """Draw it with its root on top, or on the left."""
        across = -0.5, self.leaves.size - 0.5
        highest = 1.02 * float(self.forks[:, :, 1].max(initial=0)) or 1.0
        forks = self.forks if upright else self.forks[:, :, ::-1]
        axes.add_collection(LineCollection(list(forks), colors=GREY, linewidths=0.5))
        if upright:
            axes.set(xlim=across, ylim=(0, highest))
        else:
            axes.set(xlim=(highest, 0), ylim=across[::-1])
        axes.set_axis_off()
