"""Pictures of an ablation: rho of outputs by variant, and the differences between variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.plots.page import (
    AXIS,
    DOUBLE,
    GREY,
    MARGIN,
    ROW,
    SINGLE,
    Page,
    label_rows,
    styled,
)
from decode_zoo.plots.text import SMALL, TEXT, widest

if TYPE_CHECKING:
    from decode_zoo.training.ablation.study import Ablation

__all__ = ["draw_differences", "draw_outputs"]

# Okabe and Ito's blue and vermilion.
_FOLD, _MEDIAN, _LINE = "#0072B2", "#D55E00", "#B8BEC6"
_KEY = {"fold changes": _FOLD, "median": _MEDIAN}
_NAMES = {
    "intact": "intact",
    "rna_exchanged": "RNA exchanged",
    "promoter_exchanged": "promoter exchanged",
    "both_exchanged": "both exchanged",
}
_LEFT, _HEIGHT = 0.45, 2.4  # room of a y axis with its name, and height of axes, in inches


@styled
def draw_outputs(found: Ablation) -> Figure:
    """Draw rho of each output by variant, joined by lines."""
    table = found.outputs
    median = (table["kind"] == "median").to_numpy()
    rho = table[list(_NAMES)].to_numpy(np.float64)
    page = Page.make(
        SINGLE,
        _HEIGHT + AXIS,
        title="Spearman's rho by output",
        lines=[f"{(~median).sum():,} outputs and the median,", f"{found.genes['test']:,} genes"],
        key=_KEY,
    )
    axes = page.axes(MARGIN + _LEFT, page.top, SINGLE - 2 * MARGIN - _LEFT, _HEIGHT)
    places = np.arange(len(_NAMES))
    axes.plot(places, rho[~median].T, color=_LINE, linewidth=0.4, rasterized=True)
    for values, colour, marker, size in (
        (rho[~median], _FOLD, "o", 5),
        (rho[median], _MEDIAN, "D", 12),
    ):
        axes.scatter(
            np.tile(places, len(values)),
            values.ravel(),
            s=size,
            c=colour,
            marker=marker,
            linewidths=0,
            zorder=2,
            rasterized=True,
        )
    means = rho[~median].mean(axis=0)
    axes.hlines(means, places - 0.2, places + 0.2, color="black", linewidth=1.2, zorder=3)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.spines["left"].set_visible(True)
    axes.grid(axis="y")
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylabel("rho over genes", fontsize=TEXT, labelpad=2)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.set_xticks(places, [name.replace(" ", "\n") for name in _NAMES.values()], fontsize=TEXT)
    return page.figure


@styled
def draw_differences(found: Ablation) -> Figure:
    """Draw the difference of each pair of variants, of fold changes and of the median."""
    table = found.comparisons
    names = [
        f"{_NAMES[a]} − {_NAMES[b]}" for a, b in zip(table["first"], table["second"], strict=True)
    ]
    height = 2 * ROW * len(names)
    page = Page.make(
        DOUBLE,
        height + AXIS,
        title="Differences of rho",
        lines=["95% intervals over genes"],
        key=_KEY,
    )
    left = MARGIN + 0.06 + widest(names, TEXT)
    axes = page.axes(left, page.top, DOUBLE - MARGIN - 0.1 - left, height)
    ends = []
    for name, colour, shift in (("difference", _FOLD, -0.15), ("median_difference", _MEDIAN, 0.15)):
        at = np.arange(len(names)) + shift
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        axes.hlines(at, low, high, color=colour, linewidth=1)
        axes.scatter(table[name], at, s=12, c=colour, linewidths=0)
        ends += [low, high]
    label_rows(axes, names, len(names))
    page.values_below(axes, np.array(ends), "difference of rho")
    return page.figure
