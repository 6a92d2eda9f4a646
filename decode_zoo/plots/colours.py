"""Colours of classes and of scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.image import AxesImage

from decode_zoo.attribution import MASK, Attribution
from decode_zoo.plots.page import GREY

__all__ = ["colour_cells", "key_of", "palette_of", "value_cells"]

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {"TF": "#0072B2", "RBP": "#D55E00", "miRNA": "#009E73", "chromatin": "#CC79A7"}
_OTHER_COLOURS = ("#E69F00", "#56B4E9")


def palette_of(attribution: Attribution) -> dict[str, str]:
    """Colour of each class."""
    others = itertools.cycle(_OTHER_COLOURS)
    names = [str(name) for name in attribution.resolution.features["class"].cat.categories]
    return {name: GREY if name == MASK else _COLOURS.get(name) or next(others) for name in names}


def key_of(palette: Mapping[str, str], kinds: Iterable[str]) -> dict[str, str]:
    """Colours of the classes that are drawn."""
    drawn = set(kinds)
    return {name: colour for name, colour in palette.items() if name in drawn}


def colour_cells(axes: Axes, colours: Sequence[Sequence[str]]) -> None:
    """Draw cells of given colours."""
    cells = [[to_rgb(colour) for colour in row] for row in colours]
    axes.imshow(cells, aspect="auto", interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)


def value_cells(
    axes: Axes, values: FloatArray, every: FloatArray, edges: tuple[float, float] | None = None
) -> AxesImage:
    """Draw cells of values, in colours that suit every value."""
    n_rows, n_columns = values.shape
    first, last = edges or (-0.5, n_columns - 0.5)
    sizes = np.abs(every[every != 0])
    limit = float(np.quantile(sizes, 0.95)) if sizes.size else 1.0
    step = 10.0 ** (math.floor(math.log10(limit)) - 1)
    limit = float(f"{math.ceil(limit / step) * step:.2g}")
    return axes.imshow(
        values,
        cmap="RdBu_r",
        norm=Normalize(-limit, limit),
        aspect="auto",
        interpolation="none",
        extent=(first, last, n_rows - 0.5, -0.5),
    )
