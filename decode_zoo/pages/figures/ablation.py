"""Pictures of an ablation: rho of outputs by variant, and the differences between variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from decode_zoo.pages import charts
from decode_zoo.pages.charts import AXIS, BLUE, DOUBLE, GREY, PALE, ROW, SINGLE, TEXT, VERMILION
from decode_zoo.studies.result import StudyResult

if TYPE_CHECKING:
    from decode_zoo.studies.ablation import Ablation

__all__ = ["draw_differences", "draw_outputs", "pictures"]

_KEY = {"fold changes": BLUE, "median": VERMILION}
_NAMES = {
    "intact": "intact",
    "rna_exchanged": "RNA exchanged",
    "promoter_exchanged": "promoter exchanged",
    "both_exchanged": "both exchanged",
}


def pictures(result: StudyResult) -> dict[str, tuple[str, Figure]]:
    """Draw the pictures of an ablation: name → caption, figure."""
    found = result.drawn["study"]
    return {
        "outputs": (
            "Spearman's rho over test genes, a dot an output, lines between the same; "
            "bars are means, diamonds the median expression.",
            draw_outputs(found),
        ),
        "differences": (
            "Differences of rho, first less second, with 95% intervals over genes.",
            draw_differences(found),
        ),
    }


@charts.styled
def draw_outputs(found: Ablation) -> Figure:
    """Draw rho of each output by variant, joined by lines."""
    median = (found.outputs["kind"] == "median").to_numpy()
    rho = found.outputs[list(_NAMES)].to_numpy(np.float64)
    figure = charts.sheet(
        SINGLE,
        2.4 + AXIS,
        title="Spearman's rho by output",
        lines=f"{(~median).sum():,} outputs and the median, {found.genes['test']:,} genes",
        key=_KEY,
    )
    axes = figure.subplots()
    x = np.arange(len(_NAMES))
    axes.plot(x, rho[~median].T, color=PALE, linewidth=0.4, rasterized=True)
    for kind, colour, marker, size in ((~median, BLUE, "o", 5), (median, VERMILION, "D", 12)):
        at = np.tile(x, int(kind.sum()))
        charts.points(axes, at, rho[kind].ravel(), colour, size, marker=marker, zorder=2)
    axes.hlines(rho[~median].mean(axis=0), x - 0.2, x + 0.2, color="black", linewidth=1.2, zorder=3)
    axes.axhline(0, color=GREY, linewidth=0.5)
    charts.y_axis(axes, "rho over genes")
    axes.set_xlim(-0.4, len(x) - 0.6)
    axes.set_xticks(x, [name.replace(" ", "\n") for name in _NAMES.values()], fontsize=TEXT)
    return figure


@charts.styled
def draw_differences(found: Ablation) -> Figure:
    """Draw the difference of each pair of variants, of fold changes and of the median."""
    table = found.comparisons
    names = [
        f"{_NAMES[a]} − {_NAMES[b]}" for a, b in zip(table["first"], table["second"], strict=True)
    ]
    height, lines = 2 * ROW * len(names) + AXIS, "95% intervals over genes"
    figure = charts.sheet(DOUBLE, height, title="Differences of rho", lines=lines, key=_KEY)
    axes = figure.subplots()
    ends: list[float] = []
    rows = ("difference", BLUE, -0.15), ("median_difference", VERMILION, 0.15)
    for name, colour, shift in rows:
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        charts.intervals(axes, np.arange(len(names)) + shift, low, table[name], high, colour)
        ends += [*low, *high]
    charts.label_rows(axes, names)
    charts.value_axis(axes, "difference of rho", np.array(ends))
    return figure
